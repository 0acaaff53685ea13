//! The processes that answer from a shared store.

use super::{Connection, DatabaseError, Statement};
use crate::store::Beat;

/// Says that a node is alive and how far it has come, and lists it if it is not listed. False if it may not answer by that: whoever looked
/// before did not wait for it, or not for as long as it may answer from now on; or it has said something later already.
pub(in crate::store) async fn beat(on: &mut Connection, node: &Beat) -> Result<bool, DatabaseError> {
    let beat = Statement::new("UPDATE nodes SET seq = $1, beats = $2 WHERE id = $3 AND beats < $2 AND stale_ms >= $4");
    let beat = beat.bind(node.seq).bind(node.beats).bind(&node.id).bind(node.stale_ms);
    if beat.execute(on).await? == 1 {
        return Ok(true);
    }
    let enlist = Statement::new(
        "INSERT INTO nodes (id, seq, beats, stale_ms, version) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (id) DO UPDATE \
         SET seq = excluded.seq, beats = excluded.beats, stale_ms = excluded.stale_ms \
         WHERE nodes.beats < excluded.beats AND nodes.stale_ms < excluded.stale_ms",
    );
    let enlist = enlist.bind(&node.id).bind(node.seq).bind(node.beats).bind(node.stale_ms).bind(&node.version);
    enlist.execute(on).await?;
    Ok(false)
}

/// Takes a node off the list that has not been heard of since; false if it was.
pub(in crate::store) async fn strike_off(on: &mut Connection, id: &str, beats: i64) -> Result<bool, DatabaseError> {
    let strike = Statement::new("DELETE FROM nodes WHERE id = $1 AND beats = $2");
    Ok(strike.bind(id).bind(beats).execute(on).await? == 1)
}

/// Takes a node off the list that answers nothing any more.
pub(in crate::store) async fn leave(on: &mut Connection, id: &str) -> Result<(), DatabaseError> {
    Statement::new("DELETE FROM nodes WHERE id = $1").bind(id).execute(on).await.map(|_| ())
}

/// Every node that is listed.
pub(in crate::store) async fn nodes(on: &mut Connection) -> Result<Vec<Beat>, DatabaseError> {
    let rows = Statement::new("SELECT id, seq, beats, stale_ms, version FROM nodes ORDER BY id").fetch_all(on).await?;
    rows.iter()
        .map(|row| {
            Ok(Beat {
                id: row.try_get("id")?,
                seq: row.try_get("seq")?,
                beats: row.try_get("beats")?,
                stale_ms: row.try_get("stale_ms")?,
                version: row.try_get("version")?,
            })
        })
        .collect()
}
