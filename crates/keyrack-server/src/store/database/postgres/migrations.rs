//! The schema of a PostgreSQL store.

use sqlx::migrate::Migrator;

use super::super::{Connection, DatabaseError, Others, Statement};
use crate::crash::crash_point;
use crate::store::StoreError;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

/// Held while the schema is looked at and brought up to date: a number that means this and nothing else.
const LOCK: &str = "SELECT pg_advisory_xact_lock(7308604)";

/// Brings the schema up to date, in one transaction: who is killed in the middle leaves nothing behind, and of two that start
/// at once the second waits, and finds it done. It takes as long as it does: an index over many rows is not made in seconds.
pub(in crate::store) async fn migrate(on: &mut Connection) -> Result<(), StoreError> {
    on.be_patient();
    // One that stands still in the middle is not waited for.
    on.run("BEGIN; SET LOCAL idle_in_transaction_session_timeout = '5s'").await?;
    let migrated = migrate_within(on).await;
    match &migrated {
        Ok(()) => on.commit(Others::NeedNotKnow).await?,
        Err(_) => on.roll_back().await?,
    }
    if let Connection::Postgres(session) = on {
        session.be_impatient();
    }
    migrated
}

async fn migrate_within(on: &mut Connection) -> Result<(), StoreError> {
    on.run(LOCK).await?;
    if !has_table(on, "keyrack_migrations").await? {
        on.run("CREATE TABLE keyrack_migrations (version BIGINT PRIMARY KEY, name TEXT NOT NULL, at TIMESTAMPTZ NOT NULL DEFAULT now())")
            .await?;
    }
    let found = known_schema_of(on).await?;
    for migration in MIGRATIONS.iter().filter(|migration| migration.version > found) {
        if let Connection::Postgres(session) = on {
            session.run(migration.sql.as_str()).await?;
        }
        crash_point("in-migration");
        let noted = Statement::new("INSERT INTO keyrack_migrations (version, name) VALUES ($1, $2)");
        noted.bind(migration.version).bind(&*migration.description).execute(on).await?;
        tracing::info!(version = migration.version, name = %migration.description, "the schema was brought up to date");
    }
    Ok(())
}

/// Whether anything was ever set up there; an error if a newer program did.
pub(in crate::store) async fn has_usable_schema(on: &mut Connection) -> Result<bool, StoreError> {
    if !has_table(on, "keyrack_migrations").await? {
        return Ok(false);
    }
    Ok(known_schema_of(on).await? > 0)
}

/// The newest migration that was made; an error if this program does not know it.
async fn known_schema_of(on: &mut Connection) -> Result<i64, StoreError> {
    let (found, known) = (schema_of(on).await?, newest());
    if found > known { Err(StoreError::NewerSchema { found, known }) } else { Ok(found) }
}

async fn has_table(on: &mut Connection, name: &str) -> Result<bool, DatabaseError> {
    let found =
        Statement::new("SELECT 1 FROM pg_catalog.pg_tables WHERE schemaname = current_schema() AND tablename = $1");
    Ok(found.bind(name).fetch_optional(on).await?.is_some())
}

/// The newest migration that was made.
pub(in crate::store) async fn schema_of(on: &mut Connection) -> Result<i64, DatabaseError> {
    let newest = Statement::new("SELECT COALESCE(MAX(version), 0) AS version FROM keyrack_migrations");
    newest.fetch_one(on).await?.try_get("version")
}

fn newest() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_engines_have_the_same_migrations() {
        let of = |migrator: &Migrator| -> Vec<(i64, String)> {
            migrator.iter().map(|migration| (migration.version, migration.description.to_string())).collect()
        };
        assert_eq!(of(&MIGRATIONS), of(&sqlx::migrate!("migrations/sqlite")));
    }
}
