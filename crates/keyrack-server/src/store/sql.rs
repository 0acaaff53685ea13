//! Every SQL statement, each written once in the words that SQLite and PostgreSQL share.

use futures_util::TryStreamExt as _;
use keyrack::{KeyDigest, KeyId, MaskedKey, ProjectId};
use sqlx::{AssertSqlSafe, Row as _, SqliteConnection as Connection};

use super::StoreError;
use crate::audit::{Actor, Entry, Event, Target};
use crate::clock::Timestamp;
use crate::listing::{Anchor, Listing, Sort, SortValue, fold};
use crate::replies::KeptReply;
use crate::stored_key::{HolderColumns, StoredKey};

pub(super) type Row = sqlx::sqlite::SqliteRow;

macro_rules! key_columns {
    () => {
        "id, kind, organization_id, project_id, role, scope, is_system, name, description, mask, digest, created_at, \
         updated_at, revoked_at, version, mac"
    };
}

// ---- keys ----------------------------------------------------------------------------------------------------------

/// Reads a key's row; the MAC comes back unchecked.
pub(super) fn decode_key(row: &Row) -> Result<(StoredKey, Vec<u8>), StoreError> {
    let id: i64 = row.try_get("id")?;
    key_of(row, id).ok_or_else(|| StoreError::Damaged { what: format!("key {id} cannot be read") })
}

fn key_of(row: &Row, id: i64) -> Option<(StoredKey, Vec<u8>)> {
    let columns = HolderColumns {
        kind: row.try_get("kind").ok()?,
        organization: row.try_get("organization_id").ok()?,
        project: row.try_get("project_id").ok()?,
        role: row.try_get("role").ok()?,
        scope: row.try_get("scope").ok()?,
    };
    let key = StoredKey {
        id: KeyId(id),
        version: u32::try_from(row.try_get::<i64, _>("version").ok()?).ok()?,
        holder: columns.holder()?,
        is_system: row.try_get::<i64, _>("is_system").ok()? == 1,
        name: row.try_get("name").ok()?,
        description: row.try_get("description").ok()?,
        mask: MaskedKey::parse(row.try_get("mask").ok()?).ok()?,
        digest: KeyDigest::from_bytes(row.try_get::<&[u8], _>("digest").ok()?.try_into().ok()?),
        created_at: Timestamp(row.try_get("created_at").ok()?),
        updated_at: Timestamp(row.try_get("updated_at").ok()?),
        revoked_at: row.try_get::<Option<i64>, _>("revoked_at").ok()?.map(Timestamp),
    };
    Some((key, row.try_get("mac").ok()?))
}

pub(super) async fn insert_key(on: &mut Connection, key: &StoredKey, mac: &[u8]) -> Result<(), sqlx::Error> {
    let columns = HolderColumns::of(key.holder);
    sqlx::query(concat!(
        "INSERT INTO api_keys (",
        key_columns!(),
        ", name_folded, description_folded) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)"
    ))
    .bind(key.id.0)
    .bind(columns.kind)
    .bind(columns.organization)
    .bind(columns.project)
    .bind(columns.role)
    .bind(columns.scope)
    .bind(i64::from(key.is_system))
    .bind(&key.name)
    .bind(&key.description)
    .bind(key.mask.as_str())
    .bind(key.digest.as_bytes().as_slice())
    .bind(key.created_at.0)
    .bind(key.updated_at.0)
    .bind(key.revoked_at.map(|at| at.0))
    .bind(i64::from(key.version))
    .bind(mac)
    .bind(fold(&key.name))
    .bind(key.description.as_deref().map(fold))
    .execute(on)
    .await?;
    Ok(())
}

/// Writes what may change of a key. False if the row is no longer at the version before.
pub(super) async fn update_key(on: &mut Connection, key: &StoredKey, mac: &[u8]) -> Result<bool, sqlx::Error> {
    let columns = HolderColumns::of(key.holder);
    let done = sqlx::query(
        "UPDATE api_keys SET role = $1, scope = $2, name = $3, name_folded = $4, description = $5, \
         description_folded = $6, updated_at = $7, revoked_at = $8, version = $9, mac = $10 \
         WHERE id = $11 AND version = $12 AND revoked_at IS NULL",
    )
    .bind(columns.role)
    .bind(columns.scope)
    .bind(&key.name)
    .bind(fold(&key.name))
    .bind(&key.description)
    .bind(key.description.as_deref().map(fold))
    .bind(key.updated_at.0)
    .bind(key.revoked_at.map(|at| at.0))
    .bind(i64::from(key.version))
    .bind(mac)
    .bind(key.id.0)
    .bind(i64::from(key.version) - 1)
    .execute(on)
    .await?;
    Ok(done.rows_affected() == 1)
}

pub(super) async fn project_key(on: &mut Connection, project: ProjectId, id: i64) -> Result<Option<Row>, sqlx::Error> {
    sqlx::query(concat!(
        "SELECT ",
        key_columns!(),
        " FROM api_keys WHERE id = $1 AND project_id = $2 AND revoked_at IS NULL"
    ))
    .bind(id)
    .bind(i64::from(project.0))
    .fetch_optional(on)
    .await
}

/// The rows of a listing and one more, nearest to the anchor first: in the listing's own order when paging forward,
/// reversed when paging back.
pub(super) async fn project_keys(
    on: &mut Connection,
    project: ProjectId,
    listing: &Listing,
) -> Result<Vec<Row>, sqlx::Error> {
    let column = match listing.sort {
        Sort::CreatedAt => "created_at",
        Sort::UpdatedAt => "updated_at",
        Sort::Name => "name_folded",
        Sort::Role => "role",
        Sort::Id => "id",
    };
    let (direction, beyond) = if listing.is_ascending_from_anchor() { ("ASC", ">") } else { ("DESC", "<") };
    let after = if listing.anchor.is_some() { format!("AND ({column}, id) {beyond} ($4, $5) ") } else { String::new() };
    let statement = format!(
        "SELECT {}, {column} AS sorted_by FROM api_keys WHERE project_id = $1 AND revoked_at IS NULL \
         AND (name_folded LIKE $2 ESCAPE '\\' OR description_folded LIKE $2 ESCAPE '\\') \
         {after}ORDER BY {column} {direction}, id {direction} LIMIT $3",
        key_columns!()
    );
    let mut query = sqlx::query(AssertSqlSafe(statement));
    query = query.bind(i64::from(project.0)).bind(pattern(listing)).bind(listing.rows_to_show as i64 + 1);
    if let Some(anchor) = &listing.anchor {
        query = match &anchor.value {
            SortValue::Number(value) => query.bind(*value),
            SortValue::Text(value) => query.bind(value.as_str()),
        };
        query = query.bind(anchor.id);
    }
    query.fetch_all(on).await
}

/// Every key of every kind, dead ones included.
pub(super) async fn for_each_key(on: &mut Connection, mut each: impl FnMut(&Row) + Send) -> Result<(), StoreError> {
    let mut rows = sqlx::query(concat!("SELECT ", key_columns!(), " FROM api_keys ORDER BY id")).fetch(on);
    while let Some(row) = rows.try_next().await? {
        each(&row);
    }
    Ok(())
}

/// Every live key.
pub(super) async fn for_each_live_key(
    on: &mut Connection,
    mut each: impl FnMut(&Row) -> Result<(), StoreError> + Send,
) -> Result<(), StoreError> {
    let mut rows = sqlx::query(concat!("SELECT ", key_columns!(), " FROM api_keys WHERE revoked_at IS NULL")).fetch(on);
    while let Some(row) = rows.try_next().await? {
        each(&row)?;
    }
    Ok(())
}

/// The keys that changed after a change, as they are now, in the order of their changes.
pub(super) async fn changed_keys(on: &mut Connection, after: i64) -> Result<Vec<Row>, sqlx::Error> {
    sqlx::query(concat!(
        "SELECT changes.seq, ",
        key_columns!(),
        " FROM changes JOIN api_keys ON api_keys.id = changes.key_id WHERE changes.seq > $1 ORDER BY changes.seq"
    ))
    .bind(after)
    .fetch_all(on)
    .await
}

/// The place of a row of [`project_keys`] in its list.
pub(super) fn anchor_of(row: &Row, listing: &Listing) -> Result<Anchor, sqlx::Error> {
    let value = match listing.sort {
        Sort::Name => SortValue::Text(row.try_get("sorted_by")?),
        Sort::CreatedAt | Sort::UpdatedAt | Sort::Role | Sort::Id => SortValue::Number(row.try_get("sorted_by")?),
    };
    Ok(Anchor { value, id: row.try_get("id")? })
}

// ---- audit and change log ------------------------------------------------------------------------------------------

/// Number and hash of the newest entry, the sum of all live keys, and the MAC over the three.
pub(super) struct Head {
    pub(super) seq: i64,
    pub(super) hash: Vec<u8>,
    pub(super) live_sum: Vec<u8>,
    pub(super) mac: Vec<u8>,
}

fn head_of(row: &Row) -> Result<Head, sqlx::Error> {
    Ok(Head {
        seq: row.try_get("seq")?,
        hash: row.try_get("hash")?,
        live_sum: row.try_get("live_sum")?,
        mac: row.try_get("mac")?,
    })
}

/// The head; `None` before the installation is set up.
pub(super) async fn audit_head(on: &mut Connection) -> Result<Option<Head>, sqlx::Error> {
    let row = sqlx::query("SELECT seq, hash, live_sum, mac FROM audit_head WHERE id = 1").fetch_optional(on).await?;
    row.as_ref().map(head_of).transpose()
}

/// Takes the next number; gives the head as it was before.
pub(super) async fn take_seq(on: &mut Connection) -> Result<Head, sqlx::Error> {
    let row = sqlx::query("UPDATE audit_head SET seq = seq + 1 WHERE id = 1 RETURNING seq, hash, live_sum, mac");
    let taken = head_of(&row.fetch_one(on).await?)?;
    Ok(Head { seq: taken.seq - 1, ..taken })
}

pub(super) async fn insert_audit_head(on: &mut Connection, head: &Head) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO audit_head (id, seq, hash, live_sum, mac) VALUES (1, $1, $2, $3, $4)")
        .bind(head.seq)
        .bind(&head.hash)
        .bind(&head.live_sum)
        .bind(&head.mac)
        .execute(on)
        .await?;
    Ok(())
}

pub(super) async fn set_audit_head(on: &mut Connection, head: &Head) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE audit_head SET hash = $1, live_sum = $2, mac = $3 WHERE id = 1")
        .bind(&head.hash)
        .bind(&head.live_sum)
        .bind(&head.mac)
        .execute(on)
        .await?;
    Ok(())
}

pub(super) async fn insert_audit_entry(on: &mut Connection, entry: &Entry) -> Result<(), sqlx::Error> {
    let event = &entry.event;
    sqlx::query(
        "INSERT INTO audit_events (seq, at, actor_kind, actor_id, action, target_kind, target_id, target_version, \
         organization_id, project_id, before_json, after_json, request_id, hash) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
    )
    .bind(entry.seq)
    .bind(entry.at.0)
    .bind(&event.actor.kind)
    .bind(event.actor.id)
    .bind(&event.action)
    .bind(&event.target.kind)
    .bind(event.target.id)
    .bind(event.target.version)
    .bind(event.organization)
    .bind(event.project)
    .bind(&event.before)
    .bind(&event.after)
    .bind(&event.request_id)
    .bind(&entry.hash)
    .execute(on)
    .await?;
    Ok(())
}

/// Every audit entry, oldest first.
pub(super) async fn for_each_audit_entry(
    on: &mut Connection,
    mut each: impl FnMut(Entry) + Send,
) -> Result<(), StoreError> {
    let mut rows = sqlx::query(
        "SELECT seq, at, actor_kind, actor_id, action, target_kind, target_id, target_version, organization_id, \
         project_id, before_json, after_json, request_id, hash FROM audit_events ORDER BY seq",
    )
    .fetch(on);
    let mut last = 0;
    while let Some(row) = rows.try_next().await? {
        let entry = entry_of(&row).map_err(|_of_another_type| StoreError::Damaged {
            what: format!("the audit entry after {last} cannot be read"),
        })?;
        last = entry.seq;
        each(entry);
    }
    Ok(())
}

fn entry_of(row: &Row) -> Result<Entry, sqlx::Error> {
    let event = Event {
        actor: Actor { kind: row.try_get("actor_kind")?, id: row.try_get("actor_id")? },
        action: row.try_get("action")?,
        target: Target {
            kind: row.try_get("target_kind")?,
            id: row.try_get("target_id")?,
            version: row.try_get("target_version")?,
        },
        organization: row.try_get("organization_id")?,
        project: row.try_get("project_id")?,
        before: row.try_get("before_json")?,
        after: row.try_get("after_json")?,
        request_id: row.try_get("request_id")?,
    };
    let at = Timestamp(row.try_get("at")?);
    Ok(Entry { seq: row.try_get("seq")?, at, event, hash: row.try_get("hash")? })
}

pub(super) async fn insert_change(on: &mut Connection, seq: i64, key: KeyId) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO changes (seq, key_id) VALUES ($1, $2)").bind(seq).bind(key.0).execute(on).await?;
    Ok(())
}

// ---- replies -------------------------------------------------------------------------------------------------------

/// The reply kept under a request's name, if it is not too old.
pub(super) async fn reply(
    on: &mut Connection,
    lookup: &[u8],
    now: Timestamp,
) -> Result<Option<KeptReply>, sqlx::Error> {
    let row =
        sqlx::query("SELECT fingerprint, salt, sealed, expires_at FROM replies WHERE lookup = $1 AND expires_at > $2");
    let Some(row) = row.bind(lookup).bind(now.0).fetch_optional(on).await? else { return Ok(None) };
    Ok(Some(KeptReply {
        fingerprint: row.try_get("fingerprint")?,
        salt: row.try_get("salt")?,
        sealed: row.try_get("sealed")?,
        expires_at: Timestamp(row.try_get("expires_at")?),
    }))
}

pub(super) async fn insert_reply(on: &mut Connection, lookup: &[u8], reply: &KeptReply) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO replies (lookup, fingerprint, salt, sealed, expires_at) VALUES ($1, $2, $3, $4, $5)")
        .bind(lookup)
        .bind(&reply.fingerprint)
        .bind(&reply.salt)
        .bind(&reply.sealed)
        .bind(reply.expires_at.0)
        .execute(on)
        .await?;
    Ok(())
}

pub(super) async fn delete_expired_replies(on: &mut Connection, now: Timestamp) -> Result<u64, sqlx::Error> {
    let done = sqlx::query("DELETE FROM replies WHERE expires_at <= $1").bind(now.0).execute(on).await?;
    Ok(done.rows_affected())
}

// ---- installation --------------------------------------------------------------------------------------------------

pub(super) async fn root_key_check(on: &mut Connection) -> Result<Option<Vec<u8>>, sqlx::Error> {
    let row = sqlx::query("SELECT root_key_check FROM installation WHERE id = 1").fetch_optional(on).await?;
    row.map(|row| row.try_get("root_key_check")).transpose()
}

pub(super) async fn insert_installation(on: &mut Connection, at: Timestamp, check: &[u8]) -> Result<(), sqlx::Error> {
    let insert = sqlx::query("INSERT INTO installation (id, created_at, root_key_check) VALUES (1, $1, $2)");
    insert.bind(at.0).bind(check).execute(on).await?;
    Ok(())
}

/// Takes the next number of a kind of thing, from 1.
pub(super) async fn next_id(on: &mut Connection, of: &str) -> Result<i64, sqlx::Error> {
    let row = sqlx::query(
        "INSERT INTO counters (name, value) VALUES ($1, 1) \
         ON CONFLICT (name) DO UPDATE SET value = counters.value + 1 RETURNING value",
    );
    row.bind(of).fetch_one(on).await?.try_get("value")
}

pub(super) async fn insert_organization(
    on: &mut Connection,
    id: i64,
    username: &str,
    at: Timestamp,
) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO organizations (id, username, created_at, updated_at) VALUES ($1, $2, $3, $3)")
        .bind(id)
        .bind(username)
        .bind(at.0)
        .execute(on)
        .await?;
    Ok(())
}

pub(super) async fn insert_project(
    on: &mut Connection,
    id: i64,
    organization: i64,
    name: &str,
    at: Timestamp,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO projects (id, organization_id, name, locale, timezone, created_at, updated_at) \
         VALUES ($1, $2, $3, 'en', 'UTC', $4, $4)",
    )
    .bind(id)
    .bind(organization)
    .bind(name)
    .bind(at.0)
    .execute(on)
    .await?;
    Ok(())
}

/// The organization that a project belongs to.
pub(super) async fn organization_of(on: &mut Connection, project: i64) -> Result<Option<i64>, sqlx::Error> {
    let row =
        sqlx::query("SELECT organization_id FROM projects WHERE id = $1").bind(project).fetch_optional(on).await?;
    row.map(|row| row.try_get("organization_id")).transpose()
}

pub(super) async fn organization_exists(on: &mut Connection, id: i64) -> Result<bool, sqlx::Error> {
    Ok(sqlx::query("SELECT id FROM organizations WHERE id = $1").bind(id).fetch_optional(on).await?.is_some())
}

// ---- text ----------------------------------------------------------------------------------------------------------

fn pattern(listing: &Listing) -> String {
    let escaped = fold(&listing.q).replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    format!("%{escaped}%")
}
