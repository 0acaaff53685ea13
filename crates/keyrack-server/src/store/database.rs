//! What the store asks of a database, in the words that SQLite and PostgreSQL share. Opening, migrating and how a write begins are
//! each engine's own.

mod error;
mod opening;
mod pool;
mod postgres;
mod snapshot;
mod sqlite;
mod statement;

use sqlx::pool::PoolConnection;
use sqlx::{Column as _, Connection as _, Row as _, Sqlite, SqliteConnection, TypeInfo as _};

pub use self::error::DatabaseError;
pub(super) use self::error::Meaning;
pub use self::opening::{Database, Schema};
pub(super) use self::pool::Pool;
pub use self::postgres::{Server, ServerUrlError};
use self::snapshot::{BatchedRow, FromStored};
pub(super) use self::snapshot::{Batches, Snapshot};
pub(super) use self::statement::{Statement, Value};
use crate::clock::Timestamp;

/// Whether other processes are told of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Others {
    /// It holds a change, which they want to know.
    AreTold,
    /// It holds nothing for them.
    NeedNotKnow,
}

/// A connection to the one or the other.
pub enum Connection {
    /// To a file.
    Sqlite(SqliteConnection),
    /// To a file, out of the library's own pool.
    PooledSqlite(PoolConnection<Sqlite>),
    /// To a server.
    Postgres(postgres::Session),
}

impl Connection {
    /// Runs words that have no values, of which none came from outside.
    pub(super) async fn run(&mut self, words: &'static str) -> Result<(), DatabaseError> {
        match self {
            Self::Sqlite(connection) => Ok(sqlx::query(words).execute(connection).await.map(|_| ())?),
            Self::PooledSqlite(connection) => Ok(sqlx::query(words).execute(&mut **connection).await.map(|_| ())?),
            Self::Postgres(session) => session.run(words).await,
        }
    }

    /// From here on it may take as long as it does: for what writes whole tables.
    pub(super) const fn be_patient(&mut self) {
        match self {
            Self::Sqlite(_) | Self::PooledSqlite(_) => {}
            Self::Postgres(session) => session.be_patient(),
        }
    }

    /// The time that everybody goes by who writes there: the server's, or that of the one process which has the file.
    pub(super) async fn time(&mut self, own: Timestamp) -> Result<Timestamp, DatabaseError> {
        match self {
            Self::Sqlite(_) | Self::PooledSqlite(_) => Ok(own),
            Self::Postgres(_) => Ok(Timestamp(Statement::new(postgres::TIME).fetch_one(self).await?.try_get("time")?)),
        }
    }

    /// From here on heartbeats go over it.
    pub(super) const fn carry_heartbeats(&mut self) {
        match self {
            Self::Sqlite(_) | Self::PooledSqlite(_) => {}
            Self::Postgres(session) => session.carry_heartbeats(),
        }
    }

    /// Whether the other side is known to be gone.
    pub(super) fn is_broken(&self) -> bool {
        match self {
            Self::Sqlite(_) | Self::PooledSqlite(_) => false,
            Self::Postgres(session) => session.is_broken(),
        }
    }

    /// Begins a transaction that writes.
    pub(super) async fn begin_write(&mut self) -> Result<(), DatabaseError> {
        self.run(match self {
            Self::Sqlite(_) | Self::PooledSqlite(_) => sqlite::BEGIN_WRITE,
            Self::Postgres(_) => postgres::BEGIN_WRITE,
        })
        .await
    }

    /// Begins a part of a transaction that can be taken back by itself.
    pub(super) async fn begin_part(&mut self) -> Result<(), DatabaseError> {
        self.run("SAVEPOINT part").await
    }

    /// Takes back what was done since the last part began.
    pub(super) async fn roll_back_part(&mut self) -> Result<(), DatabaseError> {
        self.run("ROLLBACK TO SAVEPOINT part").await
    }

    /// Commits. What comes back as `Ok` is as durable as the database can make it.
    pub(super) async fn commit(&mut self, others: Others) -> Result<(), DatabaseError> {
        match self {
            Self::Sqlite(_) | Self::PooledSqlite(_) => self.run("COMMIT").await,
            Self::Postgres(session) => session.commit(others).await,
        }
    }

    pub(super) async fn roll_back(&mut self) -> Result<(), DatabaseError> {
        self.run("ROLLBACK").await
    }

    pub(super) async fn close(self) -> Result<(), DatabaseError> {
        match self {
            Self::Sqlite(connection) => Ok(connection.close().await?),
            Self::PooledSqlite(connection) => Ok(connection.close().await?),
            Self::Postgres(_) => Ok(()),
        }
    }
}

/// A row as the database gave it.
pub enum Row {
    /// Of SQLite.
    Sqlite(sqlx::sqlite::SqliteRow),
    /// Of SQLite, where many are read.
    Batched(BatchedRow),
    /// Of PostgreSQL.
    Postgres(tokio_postgres::Row),
}

/// What may stand in a column: numbers of 64 bits, text and bytes, or nothing.
pub trait Readable<'r>:
    sqlx::Decode<'r, Sqlite> + sqlx::Type<Sqlite> + FromStored<'r> + tokio_postgres::types::FromSql<'r>
{
}

impl<'r, T> Readable<'r> for T where
    T: sqlx::Decode<'r, Sqlite> + sqlx::Type<Sqlite> + FromStored<'r> + tokio_postgres::types::FromSql<'r>
{
}

impl Row {
    /// The names of its columns.
    pub(super) fn columns(&self) -> Vec<&str> {
        match self {
            Self::Sqlite(row) => row.columns().iter().map(sqlx::Column::name).collect(),
            Self::Batched(row) => row.columns().collect(),
            Self::Postgres(row) => row.columns().iter().map(tokio_postgres::Column::name).collect(),
        }
    }

    /// What stands in a column, to be written elsewhere. Also where there is nothing it is known of what kind that is.
    pub(super) fn value(&self, column: &str) -> Result<Value<'_>, DatabaseError> {
        let kind = match self {
            Self::Sqlite(row) => row.try_column(column)?.type_info().name().to_owned(),
            Self::Batched(row) => row.declared(column).unwrap_or_default().to_owned(),
            Self::Postgres(row) => {
                let found = row.columns().iter().find(|known| known.name() == column);
                found.map_or_else(String::new, |column| column.type_().name().to_owned())
            }
        };
        match kind.as_str() {
            "TEXT" | "text" => Ok(Value::Text(self.try_get::<Option<&str>>(column)?.map(Into::into))),
            "BLOB" | "bytea" => Ok(Value::Bytes(self.try_get(column)?)),
            _ => Ok(Value::Int(self.try_get(column)?)),
        }
    }

    /// Reads a column.
    ///
    /// # Errors
    /// [`DatabaseError`] if there is no such column, or something else stands in it.
    pub fn try_get<'r, T: Readable<'r>>(&'r self, column: &str) -> Result<T, DatabaseError> {
        match self {
            Self::Sqlite(row) => Ok(row.try_get(column)?),
            Self::Batched(row) => row.named(column),
            Self::Postgres(row) => Ok(row.try_get(column)?),
        }
    }

    /// Its columns, from the first one on.
    pub(super) const fn cells(&self) -> Cells<'_> {
        Cells { row: self, next: 0 }
    }
}

/// The columns of a row, one after the other: for rows that are read by the million, as most libraries look for a name by comparing it
/// with every other one.
pub struct Cells<'r> {
    row: &'r Row,
    next: usize,
}

impl<'r> Cells<'r> {
    /// Reads the next one; nothing if there is none, or something else stands in it.
    pub(super) fn next<T: Readable<'r>>(&mut self) -> Option<T> {
        let place = self.next;
        self.next += 1;
        match self.row {
            Row::Sqlite(row) => row.try_get(place).ok(),
            Row::Batched(row) => row.at(place).ok(),
            Row::Postgres(row) => row.try_get(place).ok(),
        }
    }
}

impl std::fmt::Debug for Row {
    /// Names of columns, and nothing of what stands in them.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_list().entries(self.columns()).finish()
    }
}
