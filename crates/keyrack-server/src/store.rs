//! What is kept, and the one way to change it.
//!
//! Reads come from a small pool. Every change goes through [`Writing`]: one transaction that holds the row, its audit
//! entry and its change-log entry, and that brings the index up to date before anybody hears of it.

mod ballast;
mod sql;
mod sqlite;
mod writing;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use keyrack::{ApplyError, Index, KeyChange, KeyDigest, ProjectId, Verifier};
use sqlx::SqlitePool;
use tokio::sync::Mutex;

pub use self::ballast::BALLAST_BYTES;
use self::ballast::Ballast;
use self::writing::WriterState;
pub use self::writing::{By, Need, Writing};
use crate::audit::{self, Entry};
use crate::clock::{Clock, Timestamp};
use crate::listing::Listing;
use crate::random::{OsRandom, Random};
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
    #[error("the store is not available")]
    Unavailable(#[source] sqlx::Error),
    /// The database holds something that Keyrack did not write.
    #[error("the store is damaged: {what}")]
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

/// The store of one installation.
pub struct Store {
    file: PathBuf,
    readers: SqlitePool,
    writer: Arc<Mutex<WriterState>>,
    verifier: Arc<Verifier>,
    row_key: MacKey,
    head_key: MacKey,
    root_check_key: MacKey,
    ballast: Ballast,
    clock: Arc<dyn Clock>,
}

impl Store {
    /// Opens the store in a data directory, making and migrating it as needed. The index is not loaded yet.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be opened, or has a newer schema.
    pub async fn open(
        data_dir: PathBuf,
        root_key: &RootKey,
        verifier: Arc<Verifier>,
        clock: Arc<dyn Clock>,
        random: &dyn Random,
    ) -> Result<Arc<Self>, StoreError> {
        let file = data_dir.join(DATABASE_FILE);
        let mut connection = sqlite::open_for_writing(&file).await?;
        sqlite::migrate(&mut connection).await?;
        let writer = WriterState::new(Some(connection));
        Ok(Self::of(&data_dir, writer, root_key, verifier, clock, random))
    }

    /// Opens a store only to look at it: nothing is made or migrated, and a server may be using it.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be opened, or has another schema than this program.
    pub async fn inspect(
        data_dir: PathBuf,
        root_key: &RootKey,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, StoreError> {
        let verifier = Arc::new(Verifier::new(Index::with_capacity(0)));
        let store = Self::of(&data_dir, WriterState::new(None), root_key, verifier, clock, &OsRandom);
        let mut reader = store.readers.acquire().await?;
        sqlite::check_schema(&mut reader).await?;
        Ok(store)
    }

    fn of(
        data_dir: &Path,
        writer: WriterState,
        root_key: &RootKey,
        verifier: Arc<Verifier>,
        clock: Arc<dyn Clock>,
        random: &dyn Random,
    ) -> Arc<Self> {
        let file = data_dir.join(DATABASE_FILE);
        Arc::new(Self {
            writer: Arc::new(Mutex::new(writer)),
            readers: sqlite::open_for_reading(&file),
            file,
            verifier,
            row_key: root_key.derive("keyrack api key row v1"),
            head_key: root_key.derive("keyrack audit head v1"),
            root_check_key: root_key.derive("keyrack root key check v1"),
            ballast: Ballast::new(data_dir, random),
            clock,
        })
    }

    /// Fills the index with every live key. A row that does not authenticate is refused and reported.
    ///
    /// # Errors
    /// [`StoreError`] if the keys cannot be read; the index is then not marked as loaded.
    pub async fn load(&self) -> Result<Loaded, StoreError> {
        let mut writer = self.writer.lock().await;
        let mut loaded = Loaded { keys: 0, refused: 0 };
        let mut reader = self.readers.acquire().await?;
        let applied = sql::for_each_live_key(&mut reader, |row| match self.authentic(row) {
            Ok(key) => {
                loaded.keys += 1;
                Ok(self.verifier.index().apply(&key.digest, &KeyChange::Put(key.record()))?)
            }
            Err(error) => {
                loaded.refused += 1;
                tracing::error!(%error, "refused a damaged key; it does not pass until the row is restored");
                Ok(())
            }
        })
        .await?;
        writer.applied = applied;
        self.verifier.index().mark_loaded();
        Ok(loaded)
    }

    /// Whether the installation was set up, and if so, whether the root key is the one it was set up with.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    pub async fn root_key_fits(&self) -> Result<Option<bool>, StoreError> {
        let mut reader = self.readers.acquire().await?;
        let check = sql::root_key_check(&mut reader).await?;
        Ok(check.map(|check| check == self.root_key_check()))
    }

    /// Answers if the database does.
    ///
    /// # Errors
    /// [`StoreError`] if it does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let mut reader = self.readers.acquire().await?;
        Ok(sql::ping(&mut reader).await?)
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

    /// The live keys of a project that a listing asks for, nearest to its anchor first, and whether there are more
    /// behind them. Damaged ones are left out.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub async fn project_keys(
        &self,
        project: ProjectId,
        listing: &Listing,
    ) -> Result<(Vec<StoredKey>, bool), StoreError> {
        let mut reader = self.readers.acquire().await?;
        let rows = sql::project_keys(&mut reader, project, listing).await?;
        let shown = listing.rows_to_show;
        let authentic = |row| {
            self.authentic(row).inspect_err(|error| tracing::error!(%error, "left a damaged key out of a list")).ok()
        };
        Ok((rows.iter().take(shown).filter_map(authentic).collect(), rows.len() > shown))
    }

    /// Checks the whole audit chain and every key against it; the list of what is wrong is empty if all is well.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    pub async fn verify_audit(&self) -> Result<audit::Report, StoreError> {
        let mut reader = self.readers.acquire().await?;
        let mut check = audit::Check::default();
        sql::for_each_audit_entry(&mut reader, |entry| check.entry(&entry)).await?;
        let head = sql::audit_head(&mut reader).await?;
        let head_fits = self.head_key.fits(&audit::head(head.seq, &head.hash), &head.mac);
        check.head(head.seq, &head.hash, head_fits);
        sql::for_each_key(&mut reader, |row| match self.authentic(row) {
            Ok(key) => check.key(&key),
            Err(error) => check.damaged(&error),
        })
        .await?;
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

    fn authentic(&self, row: &sql::Row) -> Result<StoredKey, StoreError> {
        let (key, mac) = sql::decode_key(row)?;
        let fits = mac
            .split_first()
            .is_some_and(|(version, tag)| *version == ROOT_KEY_VERSION && self.row_key.fits(&key.canonical(), tag));
        if fits { Ok(key) } else { Err(StoreError::Damaged { what: format!("key {} does not authenticate", key.id) }) }
    }

    fn row_mac(&self, key: &StoredKey) -> Vec<u8> {
        [&[ROOT_KEY_VERSION], self.row_key.tag(&key.canonical()).as_slice()].concat()
    }

    fn root_key_check(&self) -> Vec<u8> {
        let tag = self.root_check_key.tag(&crate::canonical::Canonical::new("root key check"));
        [&[ROOT_KEY_VERSION], tag.as_slice()].concat()
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn apply(&self, digest: &KeyDigest, change: &KeyChange) -> Result<(), StoreError> {
        Ok(self.verifier.index().apply(digest, change)?)
    }
}
