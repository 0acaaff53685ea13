//! What is kept, and the one way to change it.
//!
//! Reads come from a small pool. Every change goes through [`Writing`]: one transaction that holds the row, its audit
//! entry and its change-log entry, and that brings the index up to date before anybody hears of it.

mod ballast;
mod live_sum;
mod sql;
mod sqlite;
mod writing;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use keyrack::{ApplyError, Index, KeyChange, KeyDigest, KeyId, ProjectId, Verifier};
use sqlx::{Connection as _, SqliteConnection, SqlitePool};
use tokio::sync::Mutex;

pub use self::ballast::BALLAST_BYTES;
use self::ballast::Ballast;
use self::live_sum::LiveSum;
use self::writing::WriterState;
pub use self::writing::{By, Need, Writing};
use crate::audit::{self, Entry};
use crate::canonical::Canonical;
use crate::clock::Clock;
use crate::listing::{Anchor, Listing};
use crate::root_key::{MacKey, ROOT_KEY_VERSION, RootKey};
use crate::stored_key::StoredKey;

/// Name of the database in the data directory.
pub const DATABASE_FILE: &str = "keyrack.db";

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No room on the disk.
    #[error("the disk is full")]
    Full,
    /// Another change takes too long.
    #[error("another change did not finish in time")]
    Busy,
    /// Whether a change was made is not known.
    #[error("the change may or may not have been made")]
    OutcomeUnknown(#[source] sqlx::Error),
    /// The database cannot be reached or refuses.
    #[error("the store is not available; check that its directory and files can be read and written")]
    Unavailable(#[source] sqlx::Error),
    /// The database holds something that Keyrack did not write.
    #[error("the store is damaged: {what}. Restore it from a backup")]
    Damaged {
        /// What was found.
        what: String,
    },
    /// The schema was made by a newer Keyrack.
    #[error(
        "the store has schema {found}, newer than this program, which knows {known}. Run the newer keyrack, or restore \
         the backup made before the upgrade"
    )]
    NewerSchema {
        /// Version in the database.
        found: i64,
        /// Newest version this program knows.
        known: i64,
    },
    /// The store was set up with another root key.
    #[error("the root key does not belong to this store. Put back the one that was made with it")]
    ForeignRootKey,
    /// The schema was made by an older Keyrack.
    #[error(
        "the store has schema {found}, older than this program's {known}. Start `keyrack serve` once to migrate it"
    )]
    OlderSchema {
        /// Version in the database.
        found: i64,
        /// The version this program knows.
        known: i64,
    },
}

impl StoreError {
    /// Whether the same may succeed once there is more room on the disk.
    pub fn may_be_for_want_of_room(&self) -> bool {
        match self {
            Self::Full => true,
            Self::Unavailable(error) => sqlite::may_be_for_want_of_room(error),
            Self::Busy
            | Self::OutcomeUnknown(_)
            | Self::Damaged { .. }
            | Self::ForeignRootKey
            | Self::NewerSchema { .. }
            | Self::OlderSchema { .. } => false,
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match sqlite::primary_code(&error) {
            Some(sqlite::FULL) => Self::Full,
            Some(sqlite::CORRUPT | sqlite::NOT_A_DATABASE) => Self::Damaged { what: error.to_string() },
            Some(_) | None => Self::Unavailable(error),
        }
    }
}

impl From<ApplyError> for StoreError {
    fn from(error: ApplyError) -> Self {
        Self::Damaged { what: error.to_string() }
    }
}

/// How many keys entered the index, and how many were refused because they are not as Keyrack wrote them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Live keys.
    pub keys: u64,
    /// Rows that were refused and reported.
    pub refused: u64,
}

/// Part of a list, nearest to the listing's anchor first.
#[derive(Debug)]
pub struct Rows {
    /// The keys.
    pub keys: Vec<StoredKey>,
    /// The place of the first row that was read, damaged or not.
    pub nearest: Option<Anchor>,
    /// The place of the last one.
    pub farthest: Option<Anchor>,
    /// Whether there are rows behind that.
    pub more: bool,
}

/// The store of one installation.
pub struct Store {
    file: PathBuf,
    readers: SqlitePool,
    writer: Arc<Mutex<WriterState>>,
    /// Taken by changes that do not revoke, one at a time, before they wait for the writer: so a revocation waits for
    /// one of them at most, however many there are.
    ordinary_turn: Arc<Mutex<()>>,
    verifier: Arc<Verifier>,
    row_key: MacKey,
    head_key: MacKey,
    root_check_key: MacKey,
    ballast: Arc<Ballast>,
    clock: Arc<dyn Clock>,
}

impl Store {
    /// Opens the store in a data directory, making and migrating it as needed. The index is not loaded yet.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be opened, has a newer schema, or was set up with another root key.
    pub async fn open(
        data_dir: &Path,
        root_key: &RootKey,
        verifier: Arc<Verifier>,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, StoreError> {
        let store = Self::of(data_dir, root_key, verifier, clock);
        let mut connection = match sqlite::open_for_writing(&store.file).await {
            Ok(connection) => connection,
            Err(error) if sqlite::may_be_for_want_of_room(&error) => {
                store.ballast.give_up();
                sqlite::open_for_writing(&store.file).await?
            }
            Err(error) => return Err(error.into()),
        };
        // Before the first byte is written: is it the store that this root key was made for?
        store.check_root_key(&mut connection).await?;
        sqlite::migrate(&mut connection).await?;
        store.writer.lock().await.put(connection);
        Ok(store)
    }

    /// Opens a store only to look at it: nothing is made or migrated, and a server may be using it.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be opened, has another schema than this program, or was set up with another root key.
    pub async fn inspect(data_dir: &Path, root_key: &RootKey, clock: Arc<dyn Clock>) -> Result<Arc<Self>, StoreError> {
        let store = Self::of(data_dir, root_key, Arc::new(Verifier::new(Index::with_capacity(0))), clock);
        let mut reader = store.readers.acquire().await?;
        if store.check_root_key(&mut reader).await? {
            sqlite::check_schema(&mut reader).await?;
        }
        Ok(store)
    }

    fn of(data_dir: &Path, root_key: &RootKey, verifier: Arc<Verifier>, clock: Arc<dyn Clock>) -> Arc<Self> {
        let file = data_dir.join(DATABASE_FILE);
        Arc::new(Self {
            writer: Arc::default(),
            ordinary_turn: Arc::default(),
            readers: sqlite::open_for_reading(&file),
            file,
            verifier,
            row_key: root_key.derive("keyrack api key row v1"),
            head_key: root_key.derive("keyrack audit head v1"),
            root_check_key: root_key.derive("keyrack root key check v1"),
            ballast: Arc::new(Ballast::new(data_dir)),
            clock,
        })
    }

    /// Whether the installation was set up; an error if it was, with another root key.
    async fn check_root_key(&self, on: &mut SqliteConnection) -> Result<bool, StoreError> {
        if !sqlite::has_schema(on).await? {
            return Ok(false);
        }
        match sql::root_key_check(on).await? {
            None => Ok(false),
            Some(check) if check == self.root_key_check() => Ok(true),
            Some(_) => Err(StoreError::ForeignRootKey),
        }
    }

    /// Whether the installation was set up.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    pub async fn is_set_up(&self) -> Result<bool, StoreError> {
        let mut reader = self.readers.acquire().await?;
        self.check_root_key(&mut reader).await
    }

    /// Fills the index with every live key. A row that does not authenticate, or that is older than the audit log says,
    /// is refused and reported.
    ///
    /// # Errors
    /// [`StoreError`] if the keys cannot be read, or if it cannot be told which of them were tampered with; the index is
    /// then not marked as loaded.
    pub async fn load(&self) -> Result<Loaded, StoreError> {
        let mut writer = self.writer.lock().await;
        let mut reader = self.readers.acquire().await?;
        let mut snapshot = reader.begin().await?;
        let head = sql::audit_head(&mut snapshot).await?.ok_or_else(no_head)?;
        let (mut loaded, mut sum) = (Loaded { keys: 0, refused: 0 }, LiveSum::default());
        sql::for_each_live_key(&mut snapshot, |row| match self.authentic_with_tag(row) {
            Ok((key, tag)) => {
                (loaded.keys, sum) = (loaded.keys + 1, sum.with(&tag));
                self.apply(&key.digest, &KeyChange::Put(key.record()))
            }
            Err(error) => {
                loaded.refused += 1;
                tracing::error!(%error, "refused a damaged key; it does not pass until the row is restored");
                Ok(())
            }
        })
        .await?;
        if !self.is_authentic(&head) || LiveSum::from_bytes(&head.live_sum) != Some(sum) {
            loaded.refused += self.refuse_rows_put_back(&mut snapshot).await?;
        }
        writer.applied = head.seq;
        self.verifier.index().mark_loaded();
        Ok(loaded)
    }

    /// The live keys do not add up: the audit log tells which of them are older than they should be.
    async fn refuse_rows_put_back(&self, on: &mut SqliteConnection) -> Result<u64, StoreError> {
        let report = self.compare_with_audit(on).await?;
        for fault in &report.faults {
            tracing::error!(fault, "the keys do not agree with the audit log");
        }
        if !report.is_whole {
            let what = "keys and audit log were both changed, so no key can be trusted; `keyrack audit verify` says \
                        what";
            return Err(StoreError::Damaged { what: what.to_owned() });
        }
        report.put_back.iter().for_each(|id| {
            self.verifier.index().revoke_by_id(*id);
        });
        Ok(report.put_back.len() as u64)
    }

    /// Answers if the database does.
    ///
    /// # Errors
    /// [`StoreError`] if it does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let mut reader = self.readers.acquire().await?;
        sql::audit_head(&mut reader).await?.map(|_| ()).ok_or_else(no_head)
    }

    /// A live key of a project.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read or is damaged.
    pub async fn project_key(&self, project: ProjectId, id: i64) -> Result<Option<StoredKey>, StoreError> {
        let mut reader = self.readers.acquire().await?;
        let row = sql::project_key(&mut reader, project, id).await?;
        row.map(|row| self.authentic(&row)).transpose()
    }

    /// The live keys of a project that a listing asks for, nearest to its anchor first. Damaged ones are left out.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub async fn project_keys(&self, project: ProjectId, listing: &Listing) -> Result<Rows, StoreError> {
        let mut reader = self.readers.acquire().await?;
        let read = sql::project_keys(&mut reader, project, listing).await?;
        let shown = read.get(..listing.rows_to_show).unwrap_or(&read);
        let authentic = |row| {
            self.authentic(row).inspect_err(|error| tracing::error!(%error, "left a damaged key out of a list")).ok()
        };
        let anchor = |row: Option<&sql::Row>| row.map(|row| sql::anchor_of(row, listing)).transpose();
        Ok(Rows {
            keys: shown.iter().filter_map(authentic).collect(),
            nearest: anchor(shown.first())?,
            farthest: anchor(shown.last())?,
            more: read.len() > shown.len(),
        })
    }

    /// Checks the whole audit chain and every key against it; the list of what is wrong is empty if all is well.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    pub async fn verify_audit(&self) -> Result<audit::Report, StoreError> {
        let mut reader = self.readers.acquire().await?;
        let mut snapshot = reader.begin().await?;
        self.compare_with_audit(&mut snapshot).await
    }

    async fn compare_with_audit(&self, on: &mut SqliteConnection) -> Result<audit::Report, StoreError> {
        let (mut check, mut sum) = (audit::Check::default(), LiveSum::default());
        sql::for_each_audit_entry(on, |entry| check.entry(&entry)).await?;
        let head = sql::audit_head(on).await?.ok_or_else(no_head)?;
        check.head(head.seq, &head.hash, self.is_authentic(&head));
        sql::for_each_key(on, |row| match self.authentic_with_tag(row) {
            Ok((key, tag)) => {
                check.key(&key);
                sum = if key.revoked_at.is_none() { sum.with(&tag) } else { sum };
            }
            Err(error) => check.damaged(&error),
        })
        .await?;
        check.sum(LiveSum::from_bytes(&head.live_sum) == Some(sum));
        Ok(check.report())
    }

    /// Hands every audit entry to `each`, oldest first.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub async fn for_each_audit_entry(&self, each: impl FnMut(Entry) + Send) -> Result<(), StoreError> {
        let mut reader = self.readers.acquire().await?;
        sql::for_each_audit_entry(&mut reader, each).await
    }

    /// Closes the database, so that nothing is left in the write-ahead log.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.lock().await.close().await;
    }

    /// Makes a key dead in the index that can be found there by its number only, because its row is damaged.
    pub fn kill_in_memory(&self, id: KeyId) {
        let found = self.verifier.index().revoke_by_id(id);
        tracing::error!(key = id.0, found, "a key with a damaged row was revoked in memory");
    }

    fn authentic(&self, row: &sql::Row) -> Result<StoredKey, StoreError> {
        self.authentic_with_tag(row).map(|(key, _)| key)
    }

    fn authentic_with_tag(&self, row: &sql::Row) -> Result<(StoredKey, [u8; 32]), StoreError> {
        let (key, mac) = sql::decode_key(row)?;
        let tag: Option<[u8; 32]> = match mac.split_first() {
            Some((&ROOT_KEY_VERSION, tag)) if self.row_key.fits(&key.canonical(), tag) => tag.try_into().ok(),
            Some(_) | None => None,
        };
        let damaged = StoreError::Damaged { what: format!("key {} does not authenticate", key.id) };
        tag.map(|tag| (key, tag)).ok_or(damaged)
    }

    fn row_tag(&self, key: &StoredKey) -> [u8; 32] {
        self.row_key.tag(&key.canonical())
    }

    fn head_mac(&self, seq: i64, hash: &[u8], live_sum: &[u8]) -> Vec<u8> {
        with_version(self.head_key.tag(&head(seq, hash, live_sum)))
    }

    fn is_authentic(&self, known: &sql::Head) -> bool {
        let over = head(known.seq, &known.hash, &known.live_sum);
        matches!(known.mac.split_first(), Some((&ROOT_KEY_VERSION, tag)) if self.head_key.fits(&over, tag))
    }

    fn root_key_check(&self) -> Vec<u8> {
        with_version(self.root_check_key.tag(&Canonical::new("root key check")))
    }

    fn apply(&self, digest: &KeyDigest, change: &KeyChange) -> Result<(), StoreError> {
        Ok(self.verifier.index().apply(digest, change)?)
    }
}

fn head(seq: i64, hash: &[u8], live_sum: &[u8]) -> Canonical {
    Canonical::new("audit head").int(seq).bytes(hash).bytes(live_sum)
}

/// A MAC as it is stored: the version of the root key, and the tag.
fn with_version(tag: [u8; 32]) -> Vec<u8> {
    [&[ROOT_KEY_VERSION], tag.as_slice()].concat()
}

fn no_head() -> StoreError {
    StoreError::Damaged { what: "the newest audit hash is gone".to_owned() }
}
