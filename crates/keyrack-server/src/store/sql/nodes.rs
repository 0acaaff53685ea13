//! The processes that answer from a shared store.

use super::{Connection, DatabaseError, Statement};
use crate::store::Beat;

/// Says that a node is alive and how far it has come; false if it is not listed, or has said something later already.
pub(in crate::store) async fn beat(on: &mut Connection, node: &Beat) -> Result<bool, DatabaseError> {
    let beat = Statement::new("UPDATE nodes SET seq = $1, beats = $2 WHERE id = $3 AND beats < $2");
    Ok(beat.bind(node.seq).bind(node.beats).bind(&node.id).execute(on).await? == 1)
}

/// Lists a node, unless it is.
pub(in crate::store) async fn enlist(on: &mut Connection, node: &Beat) -> Result<(), DatabaseError> {
    let enlist = Statement::new(
        "INSERT INTO nodes (id, seq, beats, stale_ms, version) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
    );
    let enlist = enlist.bind(&node.id).bind(node.seq).bind(node.beats).bind(node.stale_ms).bind(&node.version);
    enlist.execute(on).await.map(|_| ())
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
