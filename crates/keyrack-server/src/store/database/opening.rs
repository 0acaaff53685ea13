//! What differs between the engines: opening, and bringing the schema up to date.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::pool::SessionPool;
use super::postgres::{self, Server};
use super::{Connection, DatabaseError, Pool, sqlite};
use crate::store::{DATABASE_FILE, StoreError};

/// Where a store is kept.
#[derive(Clone)]
pub enum Database {
    /// In a file of SQLite.
    File {
        /// The file.
        file: PathBuf,
        /// For how long a process that follows the one that has it answers without hearing from that.
        stale_limit: Duration,
    },
    /// At a PostgreSQL server, where other nodes use it too.
    Server {
        /// The server.
        server: Arc<Server>,
        /// For how long a node answers without hearing from it.
        stale_limit: Duration,
    },
}

impl Database {
    /// In a file of SQLite in a data directory.
    pub fn in_directory(data_dir: &Path, stale_limit: Duration) -> Self {
        Self::File { file: data_dir.join(DATABASE_FILE), stale_limit }
    }

    /// Whether something is kept there that was set up, or at least begun. Nothing is made.
    ///
    /// # Errors
    /// [`StoreError`] if a server cannot be asked, or has a schema that this program cannot use.
    pub async fn is_there(&self) -> Result<bool, StoreError> {
        match self {
            // If it cannot be seen, opening it says why.
            Self::File { file, .. } => Ok(file.try_exists().unwrap_or(true)),
            Self::Server { server, .. } => Connection::Postgres(server.connect().await?).has_schema().await,
        }
    }

    /// Which schema it has. Nothing is made.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read, or a newer program made it.
    pub async fn schema(&self) -> Result<Schema, StoreError> {
        let none = Schema { found: None, known: newest() };
        let mut connection = match self {
            Self::File { .. } if !self.is_there().await? => return Ok(none),
            Self::File { file, .. } => Connection::Sqlite(sqlite::open_to_look(file).await?),
            Self::Server { .. } => self.open_for_writing().await?,
        };
        if !connection.has_schema().await? {
            return Ok(none);
        }
        Ok(Schema { found: Some(connection.schema().await?), ..none })
    }

    /// Brings the schema up to date.
    ///
    /// # Errors
    /// [`StoreError`]; it is then as it was.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        let mut connection = self.open_for_writing().await?;
        connection.has_schema().await?;
        connection.migrate().await?;
        Ok(connection.close().await?)
    }

    /// Opens a connection that writes; makes the file if there is none.
    pub(in crate::store) async fn open_for_writing(&self) -> Result<Connection, DatabaseError> {
        match self {
            Self::File { file, .. } => Ok(Connection::Sqlite(sqlite::open_for_writing(file).await?)),
            Self::Server { server, .. } => Ok(Connection::Postgres(server.connect().await?)),
        }
    }

    /// So many connections that read, at most. None is opened yet.
    pub(in crate::store) fn pool(&self, most: u32) -> Pool {
        match self {
            Self::File { file, .. } => Pool::Sqlite(sqlite::open_for_reading(file, most)),
            Self::Server { server, .. } => Pool::Postgres(SessionPool::new(Arc::clone(server), most as usize)),
        }
    }

    /// Whether other processes write to it too.
    pub(in crate::store) const fn is_shared(&self) -> bool {
        match self {
            Self::File { .. } => false,
            Self::Server { .. } => true,
        }
    }

    /// For how long it is answered without hearing from it.
    pub(in crate::store) const fn stale_limit(&self) -> Duration {
        match self {
            Self::File { stale_limit, .. } | Self::Server { stale_limit, .. } => *stale_limit,
        }
    }

    /// Waits until somebody committed a change, or for so long.
    pub(in crate::store) async fn hint(&self, longest: Duration) {
        let hint = async {
            match self {
                Self::File { .. } => std::future::pending().await,
                Self::Server { server, .. } => server.hint().await,
            }
        };
        // Whichever it was: it is only a hint.
        let _is_late = tokio::time::timeout(longest, hint).await.is_err();
    }
}

/// Which schema a store has, and the newest that this program knows. Both engines count theirs alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schema {
    /// None if nothing was set up.
    pub found: Option<i64>,
    /// The newest one.
    pub known: i64,
}

fn newest() -> i64 {
    sqlite::newest()
}

/// The directory of the file, or the hosts and the name of the database.
impl fmt::Display for Database {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, .. } => write!(out, "{}", file.parent().unwrap_or(file).display()),
            Self::Server { server, .. } => out.write_str(&server.shown()),
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{self}")
    }
}

impl Connection {
    /// Hears of changes from here on.
    pub(in crate::store) async fn listen(&mut self) -> Result<(), DatabaseError> {
        match self {
            Self::Sqlite(_) | Self::PooledSqlite(_) => Ok(()),
            Self::Postgres(session) => session.run(postgres::LISTEN).await,
        }
    }

    /// Whether anything was ever set up there. A schema that this program cannot use is refused.
    pub(in crate::store) async fn has_schema(&mut self) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(connection) => sqlite::has_usable_schema(connection).await,
            Self::PooledSqlite(connection) => sqlite::has_usable_schema(connection).await,
            Self::Postgres(_) => postgres::has_usable_schema(self).await,
        }
    }

    /// Refuses a schema that has to be migrated first.
    pub(in crate::store) async fn check_is_newest(&mut self) -> Result<(), StoreError> {
        let (found, known) = (self.schema().await?, newest());
        if found < known { Err(StoreError::OlderSchema { found, known }) } else { Ok(()) }
    }

    async fn schema(&mut self) -> Result<i64, StoreError> {
        match self {
            Self::Sqlite(connection) => sqlite::schema_of(connection).await,
            Self::PooledSqlite(connection) => sqlite::schema_of(connection).await,
            Self::Postgres(_) => Ok(postgres::schema_of(self).await?),
        }
    }

    /// Brings the schema up to date, and refuses what can only be read.
    pub(in crate::store) async fn migrate(&mut self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(connection) => sqlite::migrate(connection).await?,
            Self::PooledSqlite(connection) => sqlite::migrate(connection).await?,
            Self::Postgres(_) => postgres::migrate(self).await?,
        }
        // SQLite opens a file that it may only read without a word.
        self.begin_write().await?;
        Ok(self.roll_back().await?)
    }
}
