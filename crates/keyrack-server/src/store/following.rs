//! Following the log of changes: what this process did not do itself comes into force from there.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::database::Connection;
use super::{Effect, Store, StoreError, sql};
use crate::audit::{Link, NO_HASH};
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
    /// [`StoreError`] if it cannot be read; [`StoreError::Astray`] if the log does not go on from where it was.
    pub(super) async fn catch_up(&self, on: &mut Connection) -> Result<i64, StoreError> {
        let mut followed = self.followed.lock().await;
        // Asked for while nothing else comes into force here, so that it is not older than what is.
        match sql::audit_head(on).await? {
            Some(head) => self.follow_to(on, &mut followed, &head).await,
            None if followed.seq == 0 => Ok(0),
            None => Err(self.not_going_on(followed.seq)),
        }
    }

    /// The same up to a head that is known, for a transaction that has moved it already.
    pub(super) async fn catch_up_to(&self, on: &mut Connection, head: &sql::Head) -> Result<i64, StoreError> {
        let mut followed = self.followed.lock().await;
        self.follow_to(on, &mut followed, head).await
    }

    /// What is in force is not read again: whether the log is still the same is told by its head, and by the hashes of what follows.
    async fn follow_to(
        &self,
        on: &mut Connection,
        followed: &mut Followed,
        head: &sql::Head,
    ) -> Result<i64, StoreError> {
        if followed.seq > head.seq || followed.seq == head.seq && followed.hash != head.hash {
            return Err(self.not_going_on(followed.seq));
        }
        while followed.seq < head.seq {
            let links = sql::links_behind(on, followed.seq, ENTRIES_AT_A_TIME).await?;
            check_chain(followed, &links).map_err(|seq| self.not_going_on(seq))?;
            let newest = links.last().ok_or_else(|| self.not_going_on(followed.seq))?;
            let newest = Followed { seq: newest.seq, hash: newest.hash.clone() };
            self.apply_targets(on, &links).await?;
            self.verifier.index().set_position(newest.seq);
            *followed = newest;
        }
        Ok(followed.seq)
    }

    /// Where others write to the store, the next heartbeat finds out what holds.
    fn not_going_on(&self, seq: i64) -> StoreError {
        if self.is_shared() {
            StoreError::Astray { seq }
        } else {
            StoreError::Damaged { what: format!("the log of changes does not go on from change {seq}") }
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

    /// Brings into force what the targets of entries are now, each where its last entry stands: that may be newer than the entries, never
    /// older. What only a newer program knows has no effect here.
    async fn apply_targets(&self, on: &mut Connection, links: &[Link]) -> Result<(), StoreError> {
        let (mut targets, mut ids) = (Vec::new(), BTreeMap::<Kind, BTreeSet<i64>>::new());
        for link in links.iter().rev() {
            match link.target {
                Some(target @ Reference { kind, id }) if ids.entry(kind).or_default().insert(id) => {
                    targets.push(target);
                }
                Some(_known) => {}
                None => tracing::warn!(seq = link.seq, "a newer program changed something that this one does not know"),
            }
        }
        let mut rows = HashMap::new();
        for (kind, ids) in ids {
            let ids: Vec<_> = ids.into_iter().collect();
            match kind {
                Kind::Key => self.read_targets::<StoredKey>(on, &ids, &mut rows).await?,
                Kind::Organization => self.read_targets::<Organization>(on, &ids, &mut rows).await?,
                Kind::Project => self.read_targets::<Project>(on, &ids, &mut rows).await?,
                Kind::Member => self.read_targets::<Member>(on, &ids, &mut rows).await?,
                Kind::Policy => self.read_targets::<AppliedPolicy>(on, &ids, &mut rows).await?,
            }
        }
        targets.into_iter().rev().try_for_each(|target| self.apply_target(target, rows.remove(&target)))
    }

    /// What rows mean for the state in force, if they can be used.
    async fn read_targets<K: sql::Table>(
        &self,
        on: &mut Connection,
        ids: &[i64],
        rows: &mut HashMap<Reference, Result<Effect, StoreError>>,
    ) -> Result<(), StoreError> {
        sql::for_each_of::<K>(on, ids, |row| {
            let effect = self.row_keys.authentic::<K>(row).map(|found| found.effect());
            // A row without a number is not found, and so refused.
            rows.extend(sql::reference::<K>(row).map(|reference| (reference, effect)));
            Ok(())
        })
        .await
    }

    /// What cannot be used is refused as it would be at a start; the others must not wait for it.
    fn apply_target(&self, target: Reference, row: Option<Result<Effect, StoreError>>) -> Result<(), StoreError> {
        let applied = row.map(|effect| {
            if let Some((digest, key)) = self.in_force.follow(&effect?)? {
                tracing::error!(%key, "the database has lost a revocation; it is made again");
                self.remember_deaths(&[(*digest, key)]);
            }
            Ok(())
        });
        match applied {
            Some(Ok(())) => return Ok(()),
            Some(Err(error @ StoreError::Damaged { .. })) => tracing::error!(%error, "refused a damaged row"),
            Some(Err(error)) => return Err(error),
            None => {
                let (kind, id) = (target.kind.as_str(), target.id);
                tracing::error!(kind, id, "what the log speaks of has no row; it is refused");
            }
        }
        self.in_force.refuse(target);
        Ok(())
    }
}

/// Every entry has the number after the one before, and its hash. If not, gives the last that does.
fn check_chain(followed: &Followed, links: &[Link]) -> Result<(), i64> {
    let (mut seq, mut hash) = (followed.seq, followed.hash.as_slice());
    for link in links {
        if link.seq != seq + 1 || !link.is_chained_to(hash) {
            return Err(seq);
        }
        (seq, hash) = (link.seq, &link.hash);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actor::Actor;
    use crate::audit::{Entry, Event};
    use crate::clock::Timestamp;
    use crate::kept::Tenant;

    fn chain(length: i64) -> Vec<Link> {
        let (mut links, mut hash) = (Vec::new(), NO_HASH.to_vec());
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
            links.push(Link::of(seq, entry.at, &entry.event.words(), entry.hash));
        }
        links
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
        let mut forged = rewritten[3].hash.clone();
        forged[0] ^= 1;
        rewritten[3].hash = forged;
        assert!(check_chain(&start, &rewritten).is_err());
        let elsewhere = Followed { seq: 2, hash: whole[2].hash.clone() };
        assert!(check_chain(&elsewhere, &whole[2..]).is_err(), "the hash is not that of change 2");
        assert!(check_chain(&Followed { seq: 2, hash: whole[1].hash.clone() }, &whole[2..]).is_ok());
    }
}
