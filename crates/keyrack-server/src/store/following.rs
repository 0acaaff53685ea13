//! Following the log of changes: what this process did not do itself comes into force from there.

use std::collections::BTreeMap;

use super::database::Connection;
use super::{Store, StoreError, sql};
use crate::audit::{Entry, NO_HASH};
use crate::kept::{Kind, Reference};
use crate::policies::AppliedPolicy;
use crate::stored_key::StoredKey;
use crate::tenancy::{Member, Organization, Project};

/// How many entries are read at a time.
const ENTRIES_AT_A_TIME: i64 = 1_000;

/// How far the log is in force here: the number of its newest entry, and the hash that the next one is chained to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Followed {
    pub(super) seq: i64,
    pub(super) hash: Vec<u8>,
}

impl Default for Followed {
    fn default() -> Self {
        Self { seq: 0, hash: NO_HASH.to_vec() }
    }
}

impl Store {
    /// Brings everything into force that was committed since the last time; says how far the log is in force then.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read; [`StoreError::Damaged`] if the log does not go on from where it was.
    pub(super) async fn catch_up(&self, on: &mut Connection) -> Result<i64, StoreError> {
        let mut followed = self.followed.lock().await;
        loop {
            let mut entries = sql::audit_entries_from(on, followed.seq, ENTRIES_AT_A_TIME).await?;
            // The newest that is in force is read once more: a database that was put back has none, or another.
            if followed.seq > 0 && !entries.first().is_some_and(|entry| entry.is_at(followed.seq, &followed.hash)) {
                return Err(not_going_on(followed.seq));
            }
            entries.retain(|entry| entry.seq > followed.seq);
            let Some(newest) = entries.last() else { return Ok(followed.seq) };
            check_chain(&followed, &entries)?;
            let newest = Followed { seq: newest.seq, hash: newest.hash.clone() };
            self.apply_targets(on, &entries).await?;
            self.verifier.index().set_position(newest.seq);
            *followed = newest;
        }
    }

    /// What this process committed itself is in force already.
    pub(super) async fn follow_own(&self, newest: Followed) {
        let mut followed = self.followed.lock().await;
        if followed.seq < newest.seq {
            self.verifier.index().set_position(newest.seq);
            *followed = newest;
        }
    }

    /// Brings into force what the targets of entries are now: that may be newer than the entries, never older.
    async fn apply_targets(&self, on: &mut Connection, entries: &[Entry]) -> Result<(), StoreError> {
        let mut targets: BTreeMap<Kind, Vec<i64>> = BTreeMap::new();
        for Reference { kind, id } in entries.iter().map(|entry| entry.event.target) {
            targets.entry(kind).or_default().push(id);
        }
        for (kind, mut ids) in targets {
            ids.sort_unstable();
            ids.dedup();
            match kind {
                Kind::Key => self.apply_a::<StoredKey>(on, &ids).await?,
                Kind::Organization => self.apply_a::<Organization>(on, &ids).await?,
                Kind::Project => self.apply_a::<Project>(on, &ids).await?,
                Kind::Member => self.apply_a::<Member>(on, &ids).await?,
                Kind::Policy => self.apply_a::<AppliedPolicy>(on, &ids).await?,
            }
        }
        Ok(())
    }

    async fn apply_a<K: sql::Table>(&self, on: &mut Connection, ids: &[i64]) -> Result<(), StoreError> {
        let mut missing: Vec<i64> = ids.to_vec();
        sql::for_each_of::<K>(on, ids, |row| {
            let reference = sql::reference::<K>(row);
            missing.retain(|id| Some(*id) != reference.map(|reference| reference.id));
            let applied = self.authentic::<K>(row).and_then(|found| self.in_force.apply(&found.effect()));
            match (applied, reference) {
                // Refused as it would be at a start; the others must not wait for it.
                (Err(error @ StoreError::Damaged { .. }), Some(reference)) => {
                    tracing::error!(%error, "refused a damaged row");
                    self.in_force.refuse(reference);
                    Ok(())
                }
                (applied, _) => applied,
            }
        })
        .await?;
        for id in missing {
            tracing::error!(kind = K::KIND.as_str(), id, "what the log speaks of has no row; it is refused");
            self.in_force.refuse(Reference { kind: K::KIND, id });
        }
        Ok(())
    }
}

fn not_going_on(seq: i64) -> StoreError {
    StoreError::Damaged { what: format!("the log of changes does not go on from change {seq}") }
}

/// Every entry has the number after the one before, and its hash.
fn check_chain(followed: &Followed, entries: &[Entry]) -> Result<(), StoreError> {
    let (mut seq, mut hash) = (followed.seq, followed.hash.as_slice());
    for entry in entries {
        if entry.seq != seq + 1 || !entry.is_chained_to(hash) {
            return Err(not_going_on(seq));
        }
        (seq, hash) = (entry.seq, &entry.hash);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actor::Actor;
    use crate::audit::Event;
    use crate::clock::Timestamp;
    use crate::kept::Tenant;

    fn chain(length: i64) -> Vec<Entry> {
        let (mut entries, mut hash) = (Vec::new(), NO_HASH.to_vec());
        for seq in 1..=length {
            let event = Event {
                actor: Actor::HOST,
                action: "key.create".to_owned(),
                target: Reference { kind: Kind::Key, id: seq },
                target_version: 1,
                tenant: Tenant { organization: None, project: None },
                before: None,
                after: None,
                request_id: "req".to_owned(),
            };
            let entry = Entry::chained(seq, Timestamp(seq), event, &hash);
            hash.clone_from(&entry.hash);
            entries.push(entry);
        }
        entries
    }

    #[test]
    fn a_hole_a_wrong_hash_and_a_wrong_beginning_are_seen() {
        let start = Followed::default();
        let whole = chain(5);
        assert!(check_chain(&start, &whole).is_ok());
        let mut with_hole = whole.clone();
        with_hole.remove(2);
        assert!(check_chain(&start, &with_hole).is_err());
        let mut rewritten = whole.clone();
        rewritten[3].event.action = "key.revoke".to_owned();
        assert!(check_chain(&start, &rewritten).is_err());
        let elsewhere = Followed { seq: 2, hash: whole[2].hash.clone() };
        assert!(check_chain(&elsewhere, &whole[2..]).is_err(), "the hash is not that of change 2");
        assert!(check_chain(&Followed { seq: 2, hash: whole[1].hash.clone() }, &whole[2..]).is_ok());
    }
}
