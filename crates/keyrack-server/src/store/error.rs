//! Why the store did not do what it was asked.

use keyrack::ApplyError;

use super::sqlite;

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
