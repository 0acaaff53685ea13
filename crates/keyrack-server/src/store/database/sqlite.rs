//! Opening and migrating an SQLite store; the only place that knows the engine.

use std::path::Path;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Row as _, SqliteConnection, SqlitePool};

use super::DatabaseError;
use super::error::Meaning;
use crate::store::StoreError;

/// How a transaction that writes begins: with the write lock, so that it never fails half-way for want of it.
pub(super) const BEGIN_WRITE: &str = "BEGIN IMMEDIATE";

// Primary result codes of SQLite that mean something to us.
const IO_ERROR: u32 = 10;
const CORRUPT: u32 = 11;
const FULL: u32 = 13;
const NOT_A_DATABASE: u32 = 26;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Rows that a connection may be ahead of who reads them: with few, the two wake each other up for every row.
const ROWS_AHEAD: usize = 1_024;

/// The primary result code (the low byte of the extended one), if the database itself gave the error.
fn primary_code(error: &sqlx::Error) -> Option<u32> {
    let code = error.as_database_error()?.code()?;
    code.parse::<u32>().ok().map(|extended| extended & 0xff)
}

/// What an error of this primary code means.
pub(super) const fn meaning_of(code: Option<u32>) -> Meaning {
    match code {
        Some(FULL) => Meaning::Full,
        Some(CORRUPT | NOT_A_DATABASE) => Meaning::Damaged,
        Some(_) | None => Meaning::Unavailable,
    }
}

/// Whether room on the disk may be what was wanting: a full disk has more than one code, a quota another.
pub(super) fn may_be_for_want_of_room(error: &sqlx::Error) -> bool {
    matches!(primary_code(error), Some(FULL | IO_ERROR))
}

/// What an error means.
pub(super) fn meaning(error: &sqlx::Error) -> Meaning {
    meaning_of(primary_code(error))
}

/// Opens the one connection that writes; makes the file if it is not there.
pub(super) async fn open_for_writing(file: &Path) -> Result<SqliteConnection, sqlx::Error> {
    options(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("secure_delete", "ON")
        // Folded back early, so that the log stays far smaller than the ballast that makes room for it.
        .pragma("wal_autocheckpoint", "200")
        .connect()
        .await
}

/// Opens a file only to look at it.
pub(super) async fn open_to_look(file: &Path) -> Result<SqliteConnection, sqlx::Error> {
    options(file).pragma("query_only", "ON").connect().await
}

/// A pool of connections that only read. None is opened yet.
pub(super) fn open_for_reading(file: &Path, connections: u32) -> SqlitePool {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(BUSY_TIMEOUT)
        .connect_lazy_with(options(file).pragma("query_only", "ON"))
}

fn options(file: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(file)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .row_buffer_size(ROWS_AHEAD)
        .pragma("trusted_schema", "OFF")
        .disable_statement_logging()
}

/// Brings the schema up to date.
pub(super) async fn migrate(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    MIGRATIONS.run(connection).await.map_err(migration_error)
}

/// Checks that every table and index is as the migrations made it. Damage to their text would change what a statement
/// means, and the library gives up its thread over it. What others added is left alone.
async fn check_tables(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let found = schema_of(connection).await?;
    if found > newest() {
        return Err(StoreError::NewerSchema { found, known: newest() });
    }
    let mut model = SqliteConnectOptions::new().in_memory(true).disable_statement_logging().connect().await?;
    MIGRATIONS.run_to(found, &mut model).await.map_err(migration_error)?;
    let (made, kept) = (tables(&mut model).await?, tables(connection).await?);
    match made.iter().find(|table| !kept.contains(table)) {
        None => Ok(()),
        Some((name, _)) => Err(StoreError::Damaged { what: format!("`{name}` is not as it was made") }),
    }
}

/// Name and text of every table and index. As blobs: they may be damaged.
async fn tables(connection: &mut SqliteConnection) -> Result<Vec<(String, Vec<u8>)>, sqlx::Error> {
    let all =
        sqlx::query("SELECT name || '' AS name, CAST(sql AS BLOB) AS text FROM sqlite_master WHERE sql IS NOT NULL");
    let read = |row: SqliteRow| Ok((row.try_get("name")?, row.try_get("text")?));
    all.fetch_all(connection).await?.into_iter().map(read).collect()
}

/// Whether anything was ever set up in the file; an error if it is not as the migrations made it.
pub(super) async fn has_usable_schema(connection: &mut SqliteConnection) -> Result<bool, StoreError> {
    let is_there = has_schema(connection).await?;
    if is_there {
        check_tables(connection).await?;
    }
    Ok(is_there)
}

async fn has_schema(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    let found = sqlx::query("SELECT name FROM sqlite_master WHERE name = 'installation'");
    Ok(found.fetch_optional(connection).await?.is_some())
}

/// The newest migration that was made.
pub(super) async fn schema_of(connection: &mut SqliteConnection) -> Result<i64, StoreError> {
    let newest = sqlx::query("SELECT COALESCE(MAX(version), 0) FROM _sqlx_migrations");
    Ok(newest.fetch_one(connection).await?.try_get(0)?)
}

/// The newest migration that there is.
pub(super) fn newest() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the library may add causes; all but two mean the same to us")]
fn migration_error(error: sqlx::migrate::MigrateError) -> StoreError {
    match error {
        sqlx::migrate::MigrateError::Execute(error) | sqlx::migrate::MigrateError::ExecuteMigration(error, _) => {
            DatabaseError::from(error).into()
        }
        other => StoreError::Damaged { what: other.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_kinds_of_connection_are_set_as_the_store_relies_on() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("store.db");
        let mut writer = open_for_writing(&file).await.unwrap();
        migrate(&mut writer).await.unwrap();
        let mut reader = open_for_reading(&file, 1).acquire().await.unwrap();
        let ask = async |connection: &mut SqliteConnection, pragma: &'static str| -> String {
            let row = sqlx::query(pragma).fetch_one(connection).await.unwrap();
            row.try_get::<String, _>(0).unwrap_or_else(|_| row.get::<i64, _>(0).to_string())
        };
        for (pragma, written, read) in [
            ("PRAGMA journal_mode", "wal", "wal"),
            ("PRAGMA synchronous", "2", "2"),
            ("PRAGMA secure_delete", "1", "0"),
            ("PRAGMA foreign_keys", "1", "1"),
            ("PRAGMA trusted_schema", "0", "0"),
            ("PRAGMA query_only", "0", "1"),
            ("PRAGMA wal_autocheckpoint", "200", "1000"),
            ("PRAGMA busy_timeout", "5000", "5000"),
        ] {
            assert_eq!(ask(&mut writer, pragma).await, written, "{pragma}");
            assert_eq!(ask(&mut reader, pragma).await, read, "{pragma}");
        }
    }
}
