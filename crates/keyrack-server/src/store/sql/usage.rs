//! What keys were used for.

use keyrack::{KeyDigest, KeyId, ProjectId, QuotaCount};

use super::{Connection, DatabaseError, Row, Snapshot, Statement, Value};
use crate::clock::Timestamp;
use crate::usage::{Batch, Counts, KeyUses, LastUse};

/// Rows in one statement.
const ROWS: usize = 250;

/// Notes the number of a batch; false if it is there already.
pub(in crate::store) async fn note_batch(
    on: &mut Connection,
    batch: &Batch,
    at: Timestamp,
) -> Result<bool, DatabaseError> {
    let noted = Statement::new(
        "INSERT INTO usage_writers (writer, batch, at) VALUES ($1, $2, $3) \
         ON CONFLICT (writer) DO UPDATE SET batch = excluded.batch, at = excluded.at \
         WHERE usage_writers.batch < excluded.batch",
    );
    let noted = noted.bind(batch.writer).bind(batch.number).bind(at.0).execute(on).await?;
    Ok(noted == 1)
}

/// Adds counts to those that are there.
pub(in crate::store) async fn add_counts(on: &mut Connection, keys: &[KeyUses]) -> Result<(), DatabaseError> {
    let rows: Vec<_> =
        keys.iter().flat_map(|uses| uses.hours.iter().map(move |(hour, counts)| (uses, *hour, *counts))).collect();
    for rows in rows.chunks(ROWS) {
        let mut query = Statement::new(
            "INSERT INTO key_usage \
             (key_id, project_id, hour, valid, forbidden, rate_limited, usage_exceeded, not_found) ",
        );
        query.push_values(rows, |(uses, hour, counts)| {
            let Counts { valid, forbidden, rate_limited, usage_exceeded, not_found } = *counts;
            let counts = [valid, forbidden, rate_limited, usage_exceeded, not_found].map(u64::cast_signed);
            let [valid, forbidden, rate_limited, usage_exceeded, not_found] = counts.map(Value::from);
            let (key, project) = (uses.key.0.into(), uses.project.0.into());
            [key, project, (*hour).into(), valid, forbidden, rate_limited, usage_exceeded, not_found]
        });
        query.push(
            " ON CONFLICT (key_id, hour) DO UPDATE SET valid = key_usage.valid + excluded.valid, \
             forbidden = key_usage.forbidden + excluded.forbidden, \
             rate_limited = key_usage.rate_limited + excluded.rate_limited, \
             usage_exceeded = key_usage.usage_exceeded + excluded.usage_exceeded, \
             not_found = key_usage.not_found + excluded.not_found",
        );
        query.execute(&mut *on).await?;
    }
    Ok(())
}

/// Notes when keys were last used. An older time does not replace a newer one.
pub(in crate::store) async fn note_last_uses(on: &mut Connection, keys: &[KeyUses]) -> Result<(), DatabaseError> {
    let rows: Vec<_> = keys.iter().filter_map(|uses| Some((uses.key, uses.last.as_ref()?))).collect();
    for rows in rows.chunks(ROWS) {
        let mut query = Statement::new("INSERT INTO key_last_use (key_id, at, route) ");
        query.push_values(rows, |(key, last)| {
            [key.0.into(), last.at.0.into(), last.route.as_deref().map(str::to_owned).into()]
        });
        query.push(
            " ON CONFLICT (key_id) DO UPDATE SET at = excluded.at, route = excluded.route \
             WHERE excluded.at >= key_last_use.at",
        );
        query.execute(&mut *on).await?;
    }
    Ok(())
}

/// Notes where keys stand with their quotas, as far as that counts now. Of two nodes' counts in one window the greater is kept; a
/// window that lies further ahead than the next was written by a clock that was wrong, and is replaced.
pub(in crate::store) async fn note_quotas(
    on: &mut Connection,
    keys: &[KeyUses],
    now: Timestamp,
) -> Result<(), DatabaseError> {
    let now = now.0.div_euclid(1_000_000);
    let rows = keys.iter().flat_map(|uses| uses.quotas.iter().map(move |quota| (uses.key, quota)));
    let rows: Vec<_> = rows.filter(|(_, quota)| quota.counts_at(now)).collect();
    for rows in rows.chunks(ROWS) {
        let mut query = Statement::new("INSERT INTO key_quotas (key_id, name, counted) ");
        query.push_values(rows, |(key, quota)| {
            [key.0.into(), quota.name.clone().into(), quota.counted.cast_signed().into()]
        });
        // The upper 16 bits are the kind of window and its number.
        query.push(
            " ON CONFLICT (key_id, name) DO UPDATE SET counted = excluded.counted \
             WHERE key_quotas.counted < excluded.counted \
             OR (key_quotas.counted >> 48) - (excluded.counted >> 48) NOT IN (0, 1)",
        );
        query.execute(&mut *on).await?;
    }
    Ok(())
}

/// Where the live keys stand with their quotas.
pub(in crate::store) async fn quotas(of: &mut Snapshot) -> Result<Vec<(KeyDigest, QuotaCount)>, DatabaseError> {
    let rows = Statement::new(
        "SELECT api_keys.digest, key_quotas.name, key_quotas.counted FROM key_quotas \
         JOIN api_keys ON api_keys.id = key_quotas.key_id WHERE api_keys.revoked_at IS NULL",
    );
    let read = |row: &Row| {
        let digest = KeyDigest::from_bytes(row.try_get::<&[u8]>("digest").ok()?.try_into().ok()?);
        let counted: i64 = row.try_get("counted").ok()?;
        Some((digest, QuotaCount { name: row.try_get("name").ok()?, counted: counted.cast_unsigned() }))
    };
    // A row that is no quota restores nothing.
    Ok(of.all(rows).await?.iter().filter_map(read).collect())
}

/// The columns of [`last_use_of`].
macro_rules! last_use_columns {
    () => {
        "key_last_use.at AS last_used_at, key_last_use.route AS last_used_route"
    };
}
pub(super) use last_use_columns;

/// When the key of a row was last used.
pub(in crate::store) fn last_use_of(row: &Row) -> Result<Option<LastUse>, DatabaseError> {
    let Some(at) = row.try_get::<Option<i64>>("last_used_at")? else { return Ok(None) };
    let route: Option<String> = row.try_get("last_used_route")?;
    Ok(Some(LastUse { at: Timestamp(at), route: route.map(Into::into) }))
}

/// When a key was last used.
pub(in crate::store) async fn last_use(on: &mut Connection, key: KeyId) -> Result<Option<LastUse>, DatabaseError> {
    let found = Statement::new(concat!("SELECT ", last_use_columns!(), " FROM key_last_use WHERE key_id = $1"));
    found.bind(key.0).fetch_optional(on).await?.as_ref().map_or(Ok(None), last_use_of)
}

/// How often a project's keys were used, or one of them, hour by hour. Hours in which none was used are left out.
pub(in crate::store) async fn hours(
    on: &mut Connection,
    project: ProjectId,
    key: Option<KeyId>,
    (from, to): (i64, i64),
) -> Result<Vec<(i64, Counts)>, DatabaseError> {
    macro_rules! sums {
        ($condition:literal) => {
            concat!(
                "SELECT hour, CAST(SUM(valid) AS BIGINT) AS valid, CAST(SUM(forbidden) AS BIGINT) AS forbidden, \
                 CAST(SUM(rate_limited) AS BIGINT) AS rate_limited, \
                 CAST(SUM(usage_exceeded) AS BIGINT) AS usage_exceeded, \
                 CAST(SUM(not_found) AS BIGINT) AS not_found \
                 FROM key_usage WHERE ",
                $condition,
                " AND hour >= $2 AND hour < $3 GROUP BY hour ORDER BY hour"
            )
        };
    }
    let query = match key {
        // The sum keeps the database from going through all keys of the project for one.
        Some(key) => {
            Statement::new(sums!("project_id + 0 = $1 AND key_id = $4")).bind(project.0).bind(from).bind(to).bind(key.0)
        }
        None => Statement::new(sums!("project_id = $1")).bind(project.0).bind(from).bind(to),
    };
    query.fetch_all(on).await?.iter().map(counts_of).collect()
}

fn counts_of(row: &Row) -> Result<(i64, Counts), DatabaseError> {
    let count = |column| row.try_get::<i64>(column).map(i64::unsigned_abs);
    let counts = Counts {
        valid: count("valid")?,
        forbidden: count("forbidden")?,
        rate_limited: count("rate_limited")?,
        usage_exceeded: count("usage_exceeded")?,
        not_found: count("not_found")?,
    };
    Ok((row.try_get("hour")?, counts))
}

/// Whether there is anything of hours before one.
pub(in crate::store) async fn has_hours_before(on: &mut Connection, hour: i64) -> Result<bool, DatabaseError> {
    let found =
        Statement::new("SELECT hour FROM key_usage WHERE hour < $1 LIMIT 1").bind(hour).fetch_optional(on).await?;
    Ok(found.is_some())
}

/// Deletes so many rows at most of hours before one; says how many there were.
pub(in crate::store) async fn delete_hours(on: &mut Connection, before: i64, most: i64) -> Result<u64, DatabaseError> {
    let deleted = Statement::new(
        "DELETE FROM key_usage WHERE (key_id, hour) IN (SELECT key_id, hour FROM key_usage WHERE hour < $1 LIMIT $2)",
    );
    deleted.bind(before).bind(most).execute(on).await
}

/// Deletes what is known of other processes that have not written since.
pub(in crate::store) async fn delete_writers(
    on: &mut Connection,
    before: Timestamp,
    but: Option<i64>,
) -> Result<(), DatabaseError> {
    let deleted = Statement::new("DELETE FROM usage_writers WHERE at < $1 AND ($2 IS NULL OR writer <> $2)");
    deleted.bind(before.0).bind(but).execute(on).await?;
    Ok(())
}
