//! What is kept, and the one way to change it.
//!
//! Reads come from a small pool. Every change goes through [`Writing`]: one transaction that holds the row, its audit
//! entry and its change-log entry, and that brings the index up to date before anybody hears of it.

mod ballast;
mod copying;
mod database;
mod deaths;
mod error;
mod feed;
mod followers;
mod following;
mod former;
mod group;
mod heard;
mod in_force;
mod integrity;
mod journal;
mod live_sum;
mod looking;
mod membership;
mod nodes;
mod reading;
mod relied_on;
mod row_keys;
mod sql;
mod standing;
mod transaction;
mod usage;
mod writing;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use keyrack::{Index, Limit, Verifier};
use tokio::sync::Mutex;

pub use self::ballast::BALLAST_BYTES;
use self::ballast::Ballast;
pub use self::copying::{Contents, contents, copy, rows_to_copy};
use self::database::{Connection, Pool};
pub use self::database::{Database, DatabaseError, Schema, Server, ServerUrlError};
use self::deaths::Deaths;
pub use self::error::StoreError;
use self::following::Followed;
pub use self::in_force::Effect;
use self::in_force::InForce;
pub use self::integrity::Loaded;
use self::journal::Journal;
use self::membership::Membership;
pub use self::membership::{Beat, Effective, HEARTBEAT, LEASE, Lease, Node, Pending};
pub use self::nodes::is_in_use;
pub use self::reading::{Beneath, Find, PublicKeys, Rows};
use self::row_keys::RowKeys;
pub use self::sql::{Row, Table};
pub use self::standing::Standing;
use self::transaction::WriterState;
pub use self::transaction::{Need, Writing};
pub use self::writing::By;
use crate::clock::Clock;
use crate::kept::Kept;
use crate::random::OsRandom;
use crate::root_key::{MacKey, RootKey};

/// Name of the database in the data directory.
pub const DATABASE_FILE: &str = "keyrack.db";

/// Connections for lists.
const READERS: u32 = 4;
/// Connections for what is quickly found, so that lists do not hold it up.
const FINDERS: u32 = 2;
/// How long a process that stops waits for what is to be kept.
const CLOSING: Duration = Duration::from_secs(2);

/// The store of one installation.
pub struct Store {
    database: Database,
    was_set_up: bool,
    readers: Pool,
    finders: Pool,
    writer: Arc<Mutex<WriterState>>,
    /// Taken by changes that do not revoke, one at a time, before they wait for the writer: so a revocation waits for
    /// one of them at most, however many there are.
    ordinary_turn: Arc<Mutex<()>>,
    /// Whether an unknown outcome is being settled.
    is_settling: AtomicBool,
    /// How far the log of changes is in force here.
    followed: Mutex<Followed>,
    /// This process among the others.
    membership: Membership,
    /// For readiness alone, so that lists cannot take it away.
    pinger: Pool,
    verifier: Arc<Verifier>,
    in_force: InForce,
    row_keys: Arc<RowKeys>,
    head_key: MacKey,
    root_check_key: MacKey,
    ballast: Arc<Ballast>,
    journal: Journal,
    deaths: Arc<Mutex<Deaths>>,
    /// How often everything was loaded anew.
    reloads: AtomicU64,
    clock: Arc<dyn Clock>,
}

impl Store {
    /// Opens the store in a database, making and migrating it as needed. The index is not loaded yet. Every project key has the limits
    /// of `tier` beside its own. What belongs to this process alone is in `data_dir`.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be opened, has a newer schema, or was set up with another root key.
    pub async fn open(
        database: Database,
        data_dir: &Path,
        root_key: &RootKey,
        verifier: Arc<Verifier>,
        tier: Vec<Limit>,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, StoreError> {
        let mut store = Self::of(database, data_dir, root_key, verifier, tier, clock);
        store.journal.read()?;
        let mut connection = match store.database.open_for_writing().await {
            Ok(connection) => connection,
            Err(error) if error.may_be_for_want_of_room() => {
                store.ballast.give_up();
                store.database.open_for_writing().await?
            }
            Err(error) => return Err(error.into()),
        };
        // Before the first byte is written: is it the store that this root key was made for?
        store.was_set_up = store.check_root_key(&mut connection).await?;
        connection.migrate().await?;
        store.writer.lock().await.put(connection);
        Ok(Arc::new(store))
    }

    /// Opens a store only to look at it: nothing is made or migrated, and a server may be using it.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be opened, has another schema than this program, or was set up with another root key.
    pub async fn inspect(
        database: Database,
        data_dir: &Path,
        root_key: &RootKey,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, StoreError> {
        let mut store =
            Self::of(database, data_dir, root_key, Arc::new(Verifier::new(Index::with_capacity(0))), Vec::new(), clock);
        let mut reader = store.readers.acquire().await?;
        store.was_set_up = store.check_root_key(&mut reader).await?;
        if store.was_set_up {
            reader.check_is_newest().await?;
        }
        Ok(Arc::new(store))
    }

    fn of(
        database: Database,
        data_dir: &Path,
        root_key: &RootKey,
        verifier: Arc<Verifier>,
        tier: Vec<Limit>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        if database.is_shared() {
            // Until there is a lease.
            verifier.index().distrust();
        }
        Self {
            was_set_up: false,
            writer: Arc::default(),
            followed: Mutex::default(),
            membership: Membership::new(database.stale_limit(), data_dir, &OsRandom),
            ordinary_turn: Arc::default(),
            is_settling: AtomicBool::new(false),
            readers: database.pool(READERS),
            finders: database.pool(FINDERS),
            pinger: database.pool(1),
            database,
            in_force: InForce::new(Arc::clone(&verifier), tier),
            verifier,
            row_keys: Arc::new(RowKeys::of(root_key)),
            head_key: root_key.derive("keyrack audit head v1"),
            root_check_key: root_key.derive("keyrack root key check v1"),
            ballast: Arc::new(Ballast::new(data_dir)),
            journal: Journal::of(data_dir, root_key.derive("keyrack journal v1")),
            deaths: Arc::new(Mutex::new(Deaths::of(data_dir, root_key.derive("keyrack deaths v1")))),
            reloads: AtomicU64::new(0),
            clock,
        }
    }

    /// Whether the installation was set up; an error if it was, with another root key.
    async fn check_root_key(&self, on: &mut Connection) -> Result<bool, StoreError> {
        if !on.has_schema().await? {
            return Ok(false);
        }
        match sql::root_key_check(on).await? {
            None => Ok(false),
            Some(check) if check == self.root_key_check() => Ok(true),
            Some(_) => Err(StoreError::ForeignRootKey),
        }
    }

    /// Whether the installation had been set up when the store was opened.
    pub const fn was_set_up(&self) -> bool {
        self.was_set_up
    }

    /// Answers if the database does.
    ///
    /// # Errors
    /// [`StoreError`] if it does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let mut reader = self.pinger.acquire().await?;
        sql::audit_head(&mut reader).await?.map(|_| ()).ok_or_else(no_head)
    }

    /// Closes the database, so that nothing is left in the write-ahead log.
    pub async fn close(&self) {
        self.readers.close().await;
        self.finders.close().await;
        self.pinger.close().await;
        self.writer.lock().await.close().await;
        // Whatever the last change was; a disk that hangs holds nobody up.
        tokio::time::timeout(CLOSING, self.keep_deaths()).await.ok();
    }
}

fn no_head() -> StoreError {
    StoreError::Damaged { what: "the newest audit hash is gone".to_owned() }
}

fn not_in_force(row: &impl Kept) -> StoreError {
    StoreError::Damaged { what: format!("the row of {} is not the one that is in force", row.reference()) }
}
