//! Why the store did not do what it was asked.

use std::path::PathBuf;

use keyrack::ApplyError;

use super::database::{DatabaseError, Meaning};

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No room on the disk.
    #[error("the disk is full")]
    Full,
    /// No room in memory for a key that is in the database. It is not known to be dead.
    #[error("there is no room in memory for all keys and their limits")]
    IndexFull,
    /// Another process changed the same: nothing was written, and it is worth another try.
    #[error("somebody else changed the same")]
    Conflict,
    /// Another change takes too long.
    #[error("another change did not finish in time")]
    Busy,
    /// Whether a change was made is not known.
    #[error("the change may or may not have been made")]
    OutcomeUnknown(#[source] DatabaseError),
    /// The database cannot be reached or refuses.
    #[error(
        "the store is not available; check that its directory and files can be read and written, or that its server can be reached"
    )]
    Unavailable(#[source] DatabaseError),
    /// The database holds something that Keyrack did not write.
    #[error("the store is damaged: {what}. Restore it from a backup")]
    Damaged {
        /// What was found.
        what: String,
    },
    /// The log of changes does not go on from where this process followed it: a database that has lost changes, or one that was replaced.
    /// What holds is found out by the next heartbeat.
    #[error("the log of changes does not go on from change {seq}")]
    Astray {
        /// How far it was followed.
        seq: i64,
    },
    /// The journal of this node cannot be read.
    #[error(
        "{} cannot be read; it holds revocations that the database may not have, and without it their keys would live again",
        file.display()
    )]
    Journal {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
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
    /// Whether the database is away, as far as can be told.
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Unavailable(error) => error.is_outage(),
            Self::OutcomeUnknown(_) => true,
            // Somebody holds what is needed: the database is there, and knows what this process may not.
            Self::Busy
            | Self::Full
            | Self::IndexFull
            | Self::Conflict
            | Self::Damaged { .. }
            | Self::Astray { .. }
            | Self::Journal { .. }
            | Self::ForeignRootKey
            | Self::NewerSchema { .. }
            | Self::OlderSchema { .. } => false,
        }
    }

    /// Whether the same may succeed once there is more room on the disk.
    pub fn may_be_for_want_of_room(&self) -> bool {
        match self {
            Self::Full => true,
            Self::Unavailable(error) => error.may_be_for_want_of_room(),
            Self::IndexFull
            | Self::Conflict
            | Self::Busy
            | Self::OutcomeUnknown(_)
            | Self::Damaged { .. }
            | Self::Astray { .. }
            | Self::Journal { .. }
            | Self::ForeignRootKey
            | Self::NewerSchema { .. }
            | Self::OlderSchema { .. } => false,
        }
    }
}

impl From<DatabaseError> for StoreError {
    fn from(error: DatabaseError) -> Self {
        match error.meaning() {
            Meaning::Full => Self::Full,
            Meaning::Damaged => Self::Damaged { what: error.to_string() },
            Meaning::Conflict => Self::Conflict,
            Meaning::Busy => Self::Busy,
            Meaning::Unavailable => Self::Unavailable(error),
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        DatabaseError::from(error).into()
    }
}

impl From<ApplyError> for StoreError {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::IdentityChanged { .. } => Self::Damaged { what: error.to_string() },
            ApplyError::Full => Self::IndexFull,
        }
    }
}
