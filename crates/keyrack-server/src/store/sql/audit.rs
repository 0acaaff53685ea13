//! The audit log, which is also the log of changes: a change is what has an entry.

use super::{Connection, DatabaseError, Row, Snapshot, Statement};
use crate::actor::{Actor, ActorKind};
use crate::audit::{Entry, Event, Link, Words};
use crate::clock::Timestamp;
use crate::kept::{Kind, Reference, Tenant};
use crate::store::StoreError;

/// The columns of an entry, as [`entry_of`] reads them.
macro_rules! entry_columns {
    () => {
        "seq, at, actor_kind, actor_id, action, target_kind, target_id, target_version, organization_id, project_id, \
         before_json, after_json, request_id, hash"
    };
}
pub(super) use entry_columns;

/// Entries are written so many at a time: far below the most values that a statement may have.
const ENTRIES_TO_A_STATEMENT: usize = 100;

/// Number and hash of the newest entry, the masked sum over all live rows, and the MAC over the three.
pub(in crate::store) struct Head {
    pub(in crate::store) seq: i64,
    pub(in crate::store) hash: Vec<u8>,
    pub(in crate::store) live_sum: Vec<u8>,
    pub(in crate::store) mac: Vec<u8>,
}

const SELECT_HEAD: &str = "SELECT seq, hash, live_sum, mac FROM audit_head WHERE id = 1";

fn head_of(row: &Row) -> Result<Head, DatabaseError> {
    Ok(Head {
        seq: row.try_get("seq")?,
        hash: row.try_get("hash")?,
        live_sum: row.try_get("live_sum")?,
        mac: row.try_get("mac")?,
    })
}

/// The head; `None` before the installation is set up.
pub(in crate::store) async fn audit_head(on: &mut Connection) -> Result<Option<Head>, DatabaseError> {
    Statement::new(SELECT_HEAD).fetch_optional(on).await?.as_ref().map(head_of).transpose()
}

/// The head as it was then; `None` before the installation was set up.
pub(in crate::store) async fn head_of_snapshot(of: &mut Snapshot) -> Result<Option<Head>, DatabaseError> {
    of.first(Statement::new(SELECT_HEAD)).await?.as_ref().map(head_of).transpose()
}

/// Takes the next numbers; gives the head as it was before.
pub(in crate::store) async fn take_seqs(on: &mut Connection, many: i64) -> Result<Head, DatabaseError> {
    let row = Statement::new("UPDATE audit_head SET seq = seq + $1 WHERE id = 1 RETURNING seq, hash, live_sum, mac");
    let taken = head_of(&row.bind(many).fetch_one(on).await?)?;
    Ok(Head { seq: taken.seq - many, ..taken })
}

pub(in crate::store) async fn insert_audit_head(on: &mut Connection, head: &Head) -> Result<(), DatabaseError> {
    Statement::new("INSERT INTO audit_head (id, seq, hash, live_sum, mac) VALUES (1, $1, $2, $3, $4)")
        .bind(head.seq)
        .bind(&head.hash)
        .bind(&head.live_sum)
        .bind(&head.mac)
        .execute(on)
        .await?;
    Ok(())
}

pub(in crate::store) async fn set_audit_head(on: &mut Connection, head: &Head) -> Result<(), DatabaseError> {
    Statement::new("UPDATE audit_head SET hash = $1, live_sum = $2, mac = $3 WHERE id = 1")
        .bind(&head.hash)
        .bind(&head.live_sum)
        .bind(&head.mac)
        .execute(on)
        .await?;
    Ok(())
}

/// Writes entries, all of them or none.
pub(in crate::store) async fn insert_audit_entries(
    on: &mut Connection,
    entries: &[Entry],
) -> Result<(), DatabaseError> {
    for entries in entries.chunks(ENTRIES_TO_A_STATEMENT) {
        let mut statement = Statement::new(concat!("INSERT INTO audit_events (", entry_columns!(), ") "));
        statement.push_values(entries, |Entry { seq, at, event, hash }| {
            let Event { actor, action, target, target_version, tenant, before, after, request_id } = event;
            [
                (*seq).into(),
                at.0.into(),
                actor.kind.as_str().into(),
                actor.id.into(),
                action.into(),
                target.kind.as_str().into(),
                target.id.into(),
                (*target_version).into(),
                tenant.organization.into(),
                tenant.project.into(),
                before.into(),
                after.into(),
                request_id.into(),
                hash.into(),
            ]
        });
        statement.execute(&mut *on).await?;
    }
    Ok(())
}

/// Every audit entry, oldest first.
pub(in crate::store) async fn for_each_audit_entry(
    of: &mut Snapshot,
    mut each: impl FnMut(Entry) + Send,
) -> Result<(), StoreError> {
    let entries = Statement::new(concat!("SELECT ", entry_columns!(), " FROM audit_events ORDER BY seq"));
    let mut last = 0;
    of.for_each(entries, |row| {
        let damaged = || StoreError::Damaged { what: format!("the audit entry after {last} cannot be read") };
        let entry = entry_of(&row).ok_or_else(damaged)?;
        last = entry.seq;
        each(entry);
        Ok(())
    })
    .await
}

/// So many entries behind one at most, in order, as far as the log is followed by them.
pub(in crate::store) async fn links_behind(
    on: &mut Connection,
    after: i64,
    most: i64,
) -> Result<Vec<Link>, StoreError> {
    let entries =
        Statement::new(concat!("SELECT ", entry_columns!(), " FROM audit_events WHERE seq > $1 ORDER BY seq LIMIT $2"));
    let damaged = || StoreError::Damaged { what: format!("an audit entry after {after} cannot be read") };
    let rows = entries.bind(after).bind(most).fetch_all(on).await?;
    rows.iter().map(|row| link_of(row).map_err(|_other| damaged())).collect()
}

fn link_of(row: &Row) -> Result<Link, DatabaseError> {
    let words = Words {
        actor: (row.try_get("actor_kind")?, row.try_get("actor_id")?),
        action: row.try_get("action")?,
        target: (row.try_get("target_kind")?, row.try_get("target_id")?),
        target_version: row.try_get("target_version")?,
        tenant: Tenant { organization: row.try_get("organization_id")?, project: row.try_get("project_id")? },
        change: (row.try_get("before_json")?, row.try_get("after_json")?),
        request_id: row.try_get("request_id")?,
    };
    Ok(Link::of(row.try_get("seq")?, Timestamp(row.try_get("at")?), &words, row.try_get("hash")?))
}

/// Reads an entry.
pub(in crate::store) fn entry_of(row: &Row) -> Option<Entry> {
    let event = Event {
        actor: Actor { kind: ActorKind::of_word(row.try_get("actor_kind").ok()?)?, id: row.try_get("actor_id").ok()? },
        action: row.try_get("action").ok()?,
        target: Reference {
            kind: Kind::of_word(row.try_get("target_kind").ok()?)?,
            id: row.try_get("target_id").ok()?,
        },
        target_version: row.try_get("target_version").ok()?,
        tenant: Tenant { organization: row.try_get("organization_id").ok()?, project: row.try_get("project_id").ok()? },
        before: row.try_get("before_json").ok()?,
        after: row.try_get("after_json").ok()?,
        request_id: row.try_get("request_id").ok()?,
    };
    let at = Timestamp(row.try_get("at").ok()?);
    Some(Entry { seq: row.try_get("seq").ok()?, at, event, hash: row.try_get("hash").ok()? })
}

/// What was changed after one change, up to another, in order; of kinds that this program knows, for it goes by no others.
pub(in crate::store) async fn targets_between(
    on: &mut Connection,
    after: i64,
    last: i64,
) -> Result<Vec<Reference>, StoreError> {
    let targets = Statement::new("SELECT target_kind, target_id FROM audit_events WHERE seq > $1 AND seq <= $2");
    let rows = targets.bind(after).bind(last).fetch_all(on).await?;
    let mut known = Vec::with_capacity(rows.len());
    for row in &rows {
        let (kind, id) = (row.try_get("target_kind")?, row.try_get("target_id")?);
        known.extend(Kind::of_word(kind).map(|kind| Reference { kind, id }));
    }
    Ok(known)
}
