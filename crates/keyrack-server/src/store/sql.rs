//! Every SQL statement, each written once in the words that SQLite and PostgreSQL share.

mod audit;
mod keys;
mod nodes;
mod pages;
mod policies;
mod replies;
mod tenancy;
mod usage;

use std::future::Future;

pub(super) use self::audit::{
    Head, audit_head, entry_of, for_each_audit_entry, head_of_snapshot, insert_audit_entries, insert_audit_head,
    links_behind, set_audit_head, take_seqs, targets_between,
};
pub(super) use self::keys::{count_live_keys, key_ever, live_keys};
pub(super) use self::nodes::{beat, leave, nodes, strike_off};
pub(super) use self::pages::{anchor_of, key_of_member, page};
pub(super) use self::policies::public_keys;
pub(super) use self::replies::{delete_expired_replies, insert_reply, reply};
pub(super) use self::tenancy::{beneath, counts_beneath, live_projects, members_of, username_is_taken};
pub(super) use self::usage::{
    add_counts, delete_hours, delete_writers, has_hours_before, hours, last_use, last_use_of, note_batch,
    note_last_uses, note_quotas, quotas,
};
pub use super::database::Row;
use super::database::{Batches, Cells, Connection, DatabaseError, Snapshot, Statement, Value};
use super::{Effect, StoreError};
use crate::actor::{Actor, ActorKind};
use crate::clock::Timestamp;
use crate::kept::{History, Kept, Reference};

/// Rows are asked for so many at a time: far below the most values that a statement may have.
const IDS_TO_A_STATEMENT: usize = 500;

/// A kept thing and its MAC, which is unchecked.
pub(super) type Decoded<'r, K> = (K, &'r [u8]);

/// Where a kept thing stands in the database.
pub trait Table: Kept + Sized + Send + Sync + 'static {
    /// What it is looked up by.
    type Place: Copy + Send;

    /// The table.
    const NAME: &'static str;
    /// Its columns in the order that [`Table::decode`] reads them. They come first in every statement; the number is the first.
    const COLUMNS: &'static str;
    /// Which rows are live.
    const LIVE: &'static str;

    /// Reads a row.
    fn decode(cells: Cells<'_>) -> Option<Decoded<'_, Self>>;

    /// What it means for the state in force.
    fn effect(&self) -> Effect {
        let (reference, version, is_live) = (self.reference(), self.version(), self.is_live());
        Effect::Other { reference, version, is_live, is_suspended: false }
    }

    /// Whether a change takes something away, so that it must be everywhere before it is said to be.
    fn narrows(before: Option<&Self>, after: &Self) -> bool {
        before.is_some() && !after.is_live()
    }

    /// Finds a row by its place, only if the thing is in use there.
    fn find(on: &mut Connection, place: Self::Place)
    -> impl Future<Output = Result<Option<Row>, DatabaseError>> + Send;

    /// Writes a new row.
    fn insert(&self, on: &mut Connection, mac: &[u8]) -> impl Future<Output = Result<(), DatabaseError>> + Send;

    /// Writes what may change. False if the row is no longer live at the version before.
    fn update(&self, on: &mut Connection, mac: &[u8]) -> impl Future<Output = Result<bool, DatabaseError>> + Send;
}

/// Reads a row; the MAC comes back unchecked.
pub(super) fn decode<K: Table>(row: &Row) -> Result<Decoded<'_, K>, StoreError> {
    if let Some(decoded) = K::decode(row.cells()) {
        return Ok(decoded);
    }
    let id: i64 = row.try_get("id")?;
    Err(StoreError::Damaged { what: format!("{} {id} cannot be read", K::KIND.as_str()) })
}

/// What a row is of, if that much can be read.
pub(super) fn reference<K: Table>(row: &Row) -> Option<Reference> {
    Some(Reference { kind: K::KIND, id: row.try_get("id").ok()? })
}

/// A row by its number, live or not.
pub(super) async fn by_id<K: Table>(on: &mut Connection, id: i64) -> Result<Option<Row>, DatabaseError> {
    let statement = format!("SELECT {} FROM {} WHERE id = $1", K::COLUMNS, K::NAME);
    Statement::new(statement).bind(id).fetch_optional(on).await
}

/// Rows by their numbers, live or not.
pub(super) async fn for_each_of<K: Table>(
    on: &mut Connection,
    ids: &[i64],
    mut each: impl FnMut(&Row) -> Result<(), StoreError> + Send,
) -> Result<(), StoreError> {
    for ids in ids.chunks(IDS_TO_A_STATEMENT) {
        let mut rows = Statement::new(format!("SELECT {} FROM {} WHERE id IN ", K::COLUMNS, K::NAME));
        rows.push_list(ids.iter().copied());
        rows.for_each(on, |row| each(&row).map(|()| true)).await?;
    }
    Ok(())
}

/// Every row, the dead ones included.
pub(super) async fn all<K: Table>(of: &mut Snapshot) -> Result<Batches<'_>, DatabaseError> {
    of.read(Statement::new(format!("SELECT {} FROM {} ORDER BY id", K::COLUMNS, K::NAME))).await
}

/// Every live row, in whatever order.
pub(super) async fn live<K: Table>(of: &mut Snapshot) -> Result<Batches<'_>, DatabaseError> {
    let text = live_text::<K>(of);
    of.read(Statement::new(text)).await
}

/// For SQLite in words for which no index is made: by the shortest one the way would lead to and fro through the whole table. PostgreSQL
/// chooses by what is in the table.
fn live_text<K: Table>(of: &Snapshot) -> String {
    let is_live = match of {
        Snapshot::File(_) => format!("({}) IS TRUE", K::LIVE),
        Snapshot::Server(_) => K::LIVE.to_owned(),
    };
    format!("SELECT {} FROM {} WHERE {is_live}", K::COLUMNS, K::NAME)
}

/// The columns of a [`History`], in every table that has one.
macro_rules! history_columns {
    () => {
        "created_at, created_by_kind, created_by_id, updated_at, changed_by_kind, changed_by_id"
    };
}
use history_columns;

fn history_of(cells: &mut Cells<'_>) -> Option<History> {
    let when_and_who = |cells: &mut Cells<'_>| {
        let at = Timestamp(cells.next()?);
        Some((at, Actor { kind: ActorKind::of_word(cells.next()?)?, id: cells.next()? }))
    };
    let (created_at, created_by) = when_and_who(cells)?;
    let (updated_at, changed_by) = when_and_who(cells)?;
    Some(History { created_at, created_by, updated_at, changed_by })
}

fn number_of(cells: &mut Cells<'_>) -> Option<u32> {
    u32::try_from(cells.next::<i64>()?).ok()
}

fn time_of(cells: &mut Cells<'_>) -> Option<Option<Timestamp>> {
    Some(cells.next::<Option<i64>>()?.map(Timestamp))
}

/// A flag, or none: nothing else.
fn flag_of(cells: &mut Cells<'_>) -> Option<Option<bool>> {
    match cells.next::<Option<i64>>()? {
        None => Some(None),
        Some(flag @ (0 | 1)) => Some(Some(flag == 1)),
        Some(_) => None,
    }
}

/// Binds the columns of a new [`History`].
fn bind_begun<'q>(statement: Statement<'q>, history: &History) -> Statement<'q> {
    let statement = statement.bind(history.created_at.0);
    let statement = statement.bind(history.created_by.kind.as_str()).bind(history.created_by.id);
    bind_changed(statement, history)
}

/// Binds what changes of a [`History`].
fn bind_changed<'q>(statement: Statement<'q>, history: &History) -> Statement<'q> {
    let statement = statement.bind(history.updated_at.0);
    statement.bind(history.changed_by.kind.as_str()).bind(history.changed_by.id)
}

pub(super) async fn root_key_check(on: &mut Connection) -> Result<Option<Vec<u8>>, DatabaseError> {
    let row = Statement::new("SELECT root_key_check FROM installation WHERE id = 1").fetch_optional(on).await?;
    row.map(|row| row.try_get("root_key_check")).transpose()
}

pub(super) async fn insert_installation(on: &mut Connection, at: Timestamp, check: &[u8]) -> Result<(), DatabaseError> {
    let insert = Statement::new("INSERT INTO installation (id, created_at, root_key_check) VALUES (1, $1, $2)");
    insert.bind(at.0).bind(check).execute(on).await?;
    Ok(())
}

/// Takes the next number of a kind of thing, from 1.
pub(super) async fn next_id(on: &mut Connection, of: &str) -> Result<i64, DatabaseError> {
    let row = Statement::new(
        "INSERT INTO counters (name, value) VALUES ($1, 1) \
         ON CONFLICT (name) DO UPDATE SET value = counters.value + 1 RETURNING value",
    );
    row.bind(of).fetch_one(on).await?.try_get("value")
}

/// The newest number of a kind of thing that was given out.
pub(super) async fn newest_id(on: &mut Connection, of: &str) -> Result<i64, DatabaseError> {
    let row = Statement::new("SELECT value FROM counters WHERE name = $1").bind(of).fetch_optional(on).await?;
    row.map_or(Ok(0), |row| row.try_get("value"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::LEASE;
    use crate::store::database::Database;
    use crate::stored_key::StoredKey;
    use crate::tenancy::{Member, Organization, Project};

    #[tokio::test]
    async fn live_rows_are_read_from_front_to_back() {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::in_directory(dir.path(), LEASE);
        database.migrate().await.unwrap();
        let mut snapshot = database.pool(1).snapshot().await.unwrap();
        for (table, live) in [
            (Organization::NAME, live_text::<Organization>(&snapshot)),
            (Project::NAME, live_text::<Project>(&snapshot)),
            (Member::NAME, live_text::<Member>(&snapshot)),
            (StoredKey::NAME, live_text::<StoredKey>(&snapshot)),
        ] {
            let plan = snapshot.one(Statement::new(format!("EXPLAIN QUERY PLAN {live}"))).await.unwrap();
            assert_eq!(plan.try_get::<&str>("detail").unwrap(), format!("SCAN {table}"));
        }
    }
}
