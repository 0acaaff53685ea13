//! Kept replies.

use super::{Connection, DatabaseError, Statement};
use crate::clock::Timestamp;
use crate::replies::KeptReply;

/// The reply kept under a request's name, if it is not too old.
pub(in crate::store) async fn reply(
    on: &mut Connection,
    lookup: &[u8],
    now: Timestamp,
) -> Result<Option<KeptReply>, DatabaseError> {
    let row = Statement::new(
        "SELECT fingerprint, salt, sealed, expires_at FROM replies WHERE lookup = $1 AND expires_at > $2",
    );
    let Some(row) = row.bind(lookup).bind(now.0).fetch_optional(on).await? else { return Ok(None) };
    Ok(Some(KeptReply {
        fingerprint: row.try_get("fingerprint")?,
        salt: row.try_get("salt")?,
        sealed: row.try_get("sealed")?,
        expires_at: Timestamp(row.try_get("expires_at")?),
    }))
}

pub(in crate::store) async fn insert_reply(
    on: &mut Connection,
    lookup: &[u8],
    reply: &KeptReply,
) -> Result<(), DatabaseError> {
    Statement::new("INSERT INTO replies (lookup, fingerprint, salt, sealed, expires_at) VALUES ($1, $2, $3, $4, $5)")
        .bind(lookup)
        .bind(&reply.fingerprint)
        .bind(&reply.salt)
        .bind(&reply.sealed)
        .bind(reply.expires_at.0)
        .execute(on)
        .await?;
    Ok(())
}

pub(in crate::store) async fn delete_expired_replies(
    on: &mut Connection,
    now: Timestamp,
) -> Result<u64, DatabaseError> {
    let done = Statement::new("DELETE FROM replies WHERE expires_at <= $1").bind(now.0).execute(on).await?;
    Ok(done)
}
