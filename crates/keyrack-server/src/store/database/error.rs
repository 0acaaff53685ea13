//! Why a database did not do what it was asked.

use std::time::Duration;

use super::{postgres, snapshot, sqlite};

/// Why a database did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// SQLite refused, or could not.
    #[error(transparent)]
    Sqlite(#[from] sqlx::Error),
    /// SQLite refused, or could not, where much was read of it.
    #[error(transparent)]
    Snapshot(#[from] rusqlite::Error),
    /// A thread that read much, or looked at what was read, ended in the middle.
    #[error("a thread of this process that was reading is gone")]
    ThreadLost,
    /// PostgreSQL refused, or could not.
    #[error(transparent)]
    Postgres(#[from] tokio_postgres::Error),
    /// There was no answer.
    #[error("no answer from the database within {} s", .0.as_secs())]
    Late(Duration),
    /// The last attempts failed, and the next one is not due yet.
    #[error("the database could not be reached; the next attempt is in {} ms", .0.as_millis())]
    NotDue(Duration),
    /// The commit came with a warning, so it may not be where it should be.
    #[error("the database committed with a warning: {0}")]
    Warned(String),
    /// The connection is gone.
    #[error("the connection to the database is closed")]
    Closed,
}

/// What an error of a database means for who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Meaning {
    /// There is no room on the disk.
    Full,
    /// What is there cannot be read.
    Damaged,
    /// Somebody else changed the same: nothing was written, and it is worth another try.
    Conflict,
    /// Somebody else holds what is needed.
    Busy,
    /// Anything else.
    Unavailable,
}

impl DatabaseError {
    pub(in crate::store) fn meaning(&self) -> Meaning {
        match self {
            Self::Sqlite(error) => sqlite::meaning(error),
            Self::Snapshot(error) => snapshot::meaning(error),
            Self::Postgres(error) => postgres::meaning(error),
            Self::ThreadLost | Self::Late(_) | Self::NotDue(_) | Self::Warned(_) | Self::Closed => Meaning::Unavailable,
        }
    }

    /// Whether the database is away, or on its way up or down; not that it understood and refused.
    pub(in crate::store) fn is_outage(&self) -> bool {
        match self {
            Self::Sqlite(_) | Self::Snapshot(_) | Self::ThreadLost => false,
            Self::Postgres(error) => postgres::is_outage(error),
            Self::Late(_) | Self::NotDue(_) | Self::Warned(_) | Self::Closed => true,
        }
    }

    /// Whether the same may succeed once there is more room on the disk of this machine.
    pub(in crate::store) fn may_be_for_want_of_room(&self) -> bool {
        matches!(self, Self::Sqlite(error) if sqlite::may_be_for_want_of_room(error))
    }
}
