//! The state that is in force: the index for keys and suspensions, the policies, and the version of everything else. What was put back
//! into the database while the process runs is not it, and is neither used nor authenticated anew.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use keyrack::feed::News;
use keyrack::policy::{Document, Policies};
use keyrack::{
    Holder, KeyChange, KeyDigest, KeyId, KeyRecord, Limit, LimitPlan, Living, Lookup, OrganizationId, PolicySet,
    PolicyVersion, Verifier,
};

use super::StoreError;
use super::feed::Feed;
use crate::kept::{Kind, Reference};

/// What a row means for the state in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A key is live, or dead for ever.
    Key(KeyDigest, KeyChange),
    /// A policy was applied; it takes the place of those before it.
    Policy(PolicyVersion, Arc<Document>),
    /// Something else is at this version; of organizations, whether they are suspended.
    Other {
        /// What.
        reference: Reference,
        /// Its version.
        version: u32,
        /// Whether it is in use; once it is not, that is final.
        is_live: bool,
        /// Whether the keys beneath it do not pass.
        is_suspended: bool,
    },
}

impl Effect {
    fn is_on_the_same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Key(digest, _), Self::Key(other, _)) => digest == other,
            (Self::Policy(version, _), Self::Policy(other, _)) => version == other,
            (Self::Other { reference, .. }, Self::Other { reference: other, .. }) => reference == other,
            (
                Self::Key(..) | Self::Policy(..) | Self::Other { .. },
                Self::Key(..) | Self::Policy(..) | Self::Other { .. },
            ) => false,
        }
    }
}

/// How a row stands to what is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Age {
    /// It is in force, or newer and about to be.
    Current,
    /// Something newer is: it was read before that was committed, or it was put back.
    Superseded,
    /// Nothing of it is: it was refused, it is over, or it is not acknowledged yet.
    NotInForce,
}

type Versions = HashMap<Reference, u32>;

/// The state in force.
pub(super) struct InForce {
    verifier: Arc<Verifier>,
    /// Held until what a version means is in force: two may bring the same thing into force at once, the writer and who follows the log.
    versions: Mutex<Versions>,
    /// The documents that were applied, compiled. Many versions may have one.
    compiled: Mutex<Vec<(Arc<Document>, Arc<Policies>)>>,
    /// Of every project key, beside those of its own.
    tier: LimitPlan,
    /// What each policy says, if that can be told.
    documents: Mutex<BTreeMap<u32, Option<Arc<Document>>>>,
    /// Keys that died, and are not in the file of those yet.
    died: Mutex<Vec<KeyDigest>>,
    pub(super) feed: Feed,
}

impl InForce {
    pub(super) fn new(verifier: Arc<Verifier>, tier: Vec<Limit>) -> Self {
        Self {
            verifier,
            versions: Mutex::default(),
            compiled: Mutex::default(),
            tier: LimitPlan::new(tier),
            documents: Mutex::default(),
            died: Mutex::default(),
            feed: Feed::default(),
        }
    }

    /// A key with the limits that it has from the installation. Of two with one name that is the one that holds.
    fn with_tier(&self, record: &KeyRecord) -> KeyRecord {
        let mut record = record.clone();
        if matches!(record.holder, Holder::Project { .. }) {
            let (tier, own) = (self.tier.limits(), record.limits.limits());
            record.limits = match own {
                // As most are: then all share one plan.
                [] => self.tier.clone(),
                own => LimitPlan::new(tier.iter().chain(own).cloned()),
            };
        }
        record
    }

    /// Forgets the versions of everything but keys, and the policies: [`InForce::reset`] says all of it again.
    pub(super) fn forget(&self) {
        let mut versions = self.versions();
        versions.clear();
        self.verifier.set_policies(PolicySet::builtin());
        self.documents().clear();
        self.feed.begin_anew();
    }

    fn versions(&self) -> std::sync::MutexGuard<'_, Versions> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn documents(&self) -> std::sync::MutexGuard<'_, BTreeMap<u32, Option<Arc<Document>>>> {
        self.documents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unkept(&self) -> std::sync::MutexGuard<'_, Vec<KeyDigest>> {
        self.died.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keys that died since the last that were forgotten, oldest first.
    pub(super) fn died(&self) -> Vec<KeyDigest> {
        self.unkept().clone()
    }

    /// Forgets so many of the oldest of them, which are kept elsewhere now.
    pub(super) fn forget_died(&self, many: usize) {
        let mut died = self.unkept();
        let many = many.min(died.len());
        died.drain(..many);
    }

    /// What each policy says, lowest version first.
    pub(super) fn policy_news(&self) -> Vec<News> {
        self.documents().iter().map(|(version, document)| policy_news(*version, document.as_deref())).collect()
    }

    /// Brings a row into force, even if a newer one was. A key that has died stays dead, and is given back: its row does not know it.
    pub(super) fn reset<'e>(&self, effect: &'e Effect) -> Result<Option<(&'e KeyDigest, KeyId)>, StoreError> {
        let Effect::Key(digest, KeyChange::Put(record)) = effect else { return self.apply(effect).map(|()| None) };
        self.verifier.index().reset(digest, &self.with_tier(record))?;
        Ok(self.verifier.index().id_of_live(digest).is_none().then_some((digest, record.id)))
    }

    /// Brings a row into force that others wrote. A key that has died stays dead, and is given back: its row does not know it.
    pub(super) fn follow<'e>(&self, effect: &'e Effect) -> Result<Option<(&'e KeyDigest, KeyId)>, StoreError> {
        self.apply(effect)?;
        let Effect::Key(digest, KeyChange::Put(record)) = effect else { return Ok(None) };
        let index = self.verifier.index();
        let has_died = index.id_of_live(digest).is_none() && !index.is_withdrawn(digest);
        Ok(has_died.then_some((digest, record.id)))
    }

    /// Brings a row into force.
    pub(super) fn apply(&self, effect: &Effect) -> Result<(), StoreError> {
        let index = self.verifier.index();
        match effect {
            Effect::Key(digest, KeyChange::Put(record)) => {
                let put = KeyChange::Put(self.with_tier(record));
                index.apply(digest, &put)?;
                // Whoever follows does not know that it is dead here.
                if let (KeyChange::Put(record), Some(_)) = (&put, index.id_of_live(digest)) {
                    self.feed.add(|| News::of_key(digest, record));
                }
            }
            Effect::Key(digest, revoked @ KeyChange::Revoke { id }) => {
                index.apply(digest, revoked)?;
                self.feed.add(|| News::death(digest, *id));
                self.unkept().push(*digest);
            }
            Effect::Policy(version, document) => self.apply_policy(*version, document),
            Effect::Other { reference, version, is_live, is_suspended } => {
                let mut versions = self.versions();
                if !keep_version(&mut versions, *reference, is_live.then_some(*version)) {
                    return Ok(());
                }
                match organization(reference) {
                    Some(id) => self.set_suspended(id, *is_suspended),
                    // Its keys were revoked one by one; one whose row was hidden meanwhile dies here.
                    None if reference.kind == Kind::Project && !is_live => {
                        self.kill(|key| is_of_project(key.holder, reference.id));
                    }
                    None => {}
                }
            }
        }
        Ok(())
    }

    fn set_suspended(&self, id: OrganizationId, is_suspended: bool) {
        let index = self.verifier.index();
        if is_suspended {
            index.suspend(id);
        } else {
            index.resume(id);
        }
        self.feed.add(|| News::Organization { id: id.0, is_suspended });
    }

    /// One that cannot be used is as good as damaged.
    fn apply_policy(&self, version: PolicyVersion, document: &Arc<Document>) {
        let reference = policy(version);
        let policies = match self.compiled(document) {
            Ok(policies) => policies,
            Err(faults) => {
                tracing::error!(?faults, "{reference} is not one that this program can use");
                return self.refuse(reference);
            }
        };
        let mut versions = self.versions();
        if keep_version(&mut versions, reference, Some(POLICY_ROW_VERSION)) {
            self.verifier.set_policies(self.verifier.policies().followed_by(version, policies));
            self.documents().insert(version.0, Some(Arc::clone(document)));
            self.feed.add(|| policy_news(version.0, Some(document)));
        }
    }

    /// The same document is compiled once.
    fn compiled(&self, document: &Arc<Document>) -> Result<Arc<Policies>, Vec<keyrack::policy::Fault>> {
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, policies)) = compiled.iter().find(|(known, _)| known == document) {
            return Ok(Arc::clone(policies));
        }
        let policies = Arc::new(Policies::compile(document)?);
        compiled.push((Arc::clone(document), Arc::clone(&policies)));
        Ok(policies)
    }

    /// Whether a row is in force, or will be once `pending` are.
    pub(super) fn holds(&self, row: &Effect, pending: &[Effect]) -> bool {
        if let Some(newest) = pending.iter().rev().find(|effect| effect.is_on_the_same_as(row)) {
            return newest == row;
        }
        match row {
            Effect::Key(digest, KeyChange::Put(record)) => {
                let record = self.with_tier(record);
                let found = self.verifier.index().find(digest);
                matches!(found, Ok(Lookup::Live(known) | Lookup::Suspended(known)) if known == record)
            }
            Effect::Key(_, KeyChange::Revoke { .. }) => false,
            Effect::Policy(version, _) => self.version_of(policy(*version)) == Some(POLICY_ROW_VERSION),
            Effect::Other { reference, version, .. } => self.version_of(*reference) == Some(*version),
        }
    }

    /// How a row that was read outside of a change stands to what is in force.
    pub(super) fn age_of(&self, row: &Effect) -> Age {
        let (known, read) = match row {
            Effect::Key(digest, KeyChange::Put(record)) => match self.verifier.index().find(digest) {
                Ok(Lookup::Live(known) | Lookup::Suspended(known)) => (Some(known.version), record.version),
                Ok(Lookup::Dead(_) | Lookup::Absent) | Err(_) => return Age::NotInForce,
            },
            Effect::Key(_, KeyChange::Revoke { .. }) => return Age::NotInForce,
            Effect::Policy(version, _) => (self.version_of(policy(*version)), POLICY_ROW_VERSION),
            Effect::Other { reference, version, .. } => (self.version_of(*reference), *version),
        };
        match known {
            None => Age::NotInForce,
            Some(known) if known <= read => Age::Current,
            Some(_) => Age::Superseded,
        }
    }

    /// Whether the index holds a live key.
    pub(super) fn lets_pass(&self, digest: &KeyDigest) -> bool {
        matches!(self.verifier.index().find(digest), Ok(Lookup::Live(_) | Lookup::Suspended(_)))
    }

    /// Whether a thing other than a key is in force at all.
    pub(super) fn knows(&self, reference: Reference) -> bool {
        self.version_of(reference).is_some()
    }

    fn version_of(&self, reference: Reference) -> Option<u32> {
        self.versions().get(&reference).copied()
    }

    /// Takes what has no row that can be used out of force: a key is dead, and so are the keys of a project; the keys of an
    /// organization do not pass, a membership is refused; of a policy nobody can tell what it says.
    pub(super) fn refuse(&self, reference: Reference) {
        let mut versions = self.versions();
        versions.remove(&reference);
        match reference.kind {
            Kind::Organization => {
                if let Some(id) = organization(&reference) {
                    self.set_suspended(id, true);
                }
            }
            Kind::Project => self.withdraw(|key| is_of_project(key.holder, reference.id)),
            Kind::Key => self.withdraw(|key| key.id.0 == reference.id),
            Kind::Member => {}
            Kind::Policy => {
                if let Ok(version) = u32::try_from(reference.id).map(PolicyVersion) {
                    tracing::error!(%version, "a policy cannot be used; if it is the newest, no request passes");
                    self.verifier.set_policies(self.verifier.policies().unknown(version));
                    self.documents().insert(version.0, None);
                    self.feed.add(|| policy_news(version.0, None));
                }
            }
        }
    }

    /// The live key that `is_it` picks, with a digest of which only what the index looks at is right.
    pub(super) fn find_live(&self, is_it: impl Fn(&KeyRecord) -> bool) -> Option<(KeyDigest, KeyRecord)> {
        let mut found = None;
        self.verifier.index().for_each_live(|digest, record| {
            if is_it(&record) {
                found = Some((digest, record));
            }
            found.is_none()
        });
        found
    }

    /// Takes every key out of force that is not among those of a whole load.
    pub(super) fn keep_only(&self, living: &Living) {
        self.tell_of_withdrawn(self.verifier.index().keep_only(living), "the store does not have any more");
    }

    /// Takes keys out of force that can only be found by what the index knows of them, because their rows, or those above them, cannot be
    /// used.
    fn withdraw(&self, is_it: impl Fn(&KeyRecord) -> bool) {
        self.tell_of_withdrawn(self.verifier.index().withdraw_where(is_it), "have no row that can be used");
    }

    fn tell_of_withdrawn(&self, keys: usize, why: &'static str) {
        if keys > 0 {
            self.feed.begin_anew();
            tracing::error!(keys, "keys were taken out of force that {why}");
        }
    }

    /// Makes keys dead for ever that are to be revoked and whose rows cannot be changed; says how many.
    pub(super) fn kill(&self, is_it: impl Fn(&KeyRecord) -> bool) -> usize {
        let killed = self.verifier.index().revoke_where(is_it);
        for (digest, id) in &killed {
            self.feed.add(|| News::death(digest, *id));
            self.unkept().push(*digest);
        }
        killed.len()
    }
}

/// Keeps the version of something, or that it is over. False if a newer one is in force.
fn keep_version(versions: &mut Versions, reference: Reference, version: Option<u32>) -> bool {
    let is_newer = version.is_none() || versions.get(&reference).copied() <= version;
    match version {
        Some(version) if is_newer => drop(versions.insert(reference, version)),
        Some(_) => {}
        None => drop(versions.remove(&reference)),
    }
    is_newer
}

/// Rows of policies never change.
const POLICY_ROW_VERSION: u32 = 1;

fn policy_news(version: u32, document: Option<&Document>) -> News {
    News::Policy { version, document: document.cloned() }
}

fn policy(version: PolicyVersion) -> Reference {
    Reference { kind: Kind::Policy, id: version.0.into() }
}

fn organization(reference: &Reference) -> Option<OrganizationId> {
    let is_organization = reference.kind == Kind::Organization;
    is_organization.then(|| u32::try_from(reference.id).ok()).flatten().map(OrganizationId)
}

fn is_of_project(holder: Holder, id: i64) -> bool {
    matches!(holder, Holder::Project { project, .. } if i64::from(project.0) == id)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use keyrack::Index;

    use super::*;

    fn in_force() -> InForce {
        let in_force = InForce::new(Arc::new(Verifier::new(Index::with_capacity(0))), Vec::new());
        in_force.feed.begin_anew();
        in_force
    }

    /// Two who bring changes into force at once, as the writer and who follows the log; after which round it was not as it should be.
    fn at_once(
        rounds: u32,
        one: impl Fn(u32) + Send + Sync,
        two: impl Fn(u32),
        is_right: impl Fn(u32) -> bool,
    ) -> Option<u32> {
        let (begun, done) = (AtomicU32::new(0), AtomicU32::new(0));
        let wait = |what: &AtomicU32, many| {
            while what.load(Ordering::SeqCst) < many {
                std::thread::yield_now();
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 1..=rounds {
                    wait(&begun, round);
                    one(round);
                    done.store(round, Ordering::SeqCst);
                }
            });
            let wrong = (1..=rounds).find(|round| {
                begun.store(*round, Ordering::SeqCst);
                two(*round);
                wait(&done, *round);
                !is_right(*round)
            });
            // So that the other comes to its end too.
            begun.store(rounds, Ordering::SeqCst);
            wrong
        })
    }

    #[test]
    fn the_newest_is_in_force_whoever_brought_it_there() {
        const VERSIONS: u32 = 100;
        let (in_force, next) = (in_force(), AtomicU32::new(1));
        let reference = Reference { kind: Kind::Organization, id: 1 };
        // Whoever comes first takes the next version; by the last one of a round it is suspended.
        let apply = |round| {
            let take = |version| (version <= round * VERSIONS).then_some(version + 1);
            while let Ok(version) = next.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take) {
                let is_suspended = version % 2 == 0;
                in_force.apply(&Effect::Other { reference, version, is_live: true, is_suspended }).unwrap();
            }
        };
        let is_suspended = |_round| in_force.verifier.index().suspended() == [OrganizationId(1)];
        assert_eq!(at_once(3_000, apply, apply, is_suspended), None);
    }

    #[test]
    fn no_policy_is_lost_to_another_that_comes_at_once() {
        let in_force = in_force();
        let document = Arc::new(Document::builtin());
        let apply = |version| in_force.apply(&Effect::Policy(PolicyVersion(version), Arc::clone(&document))).unwrap();
        let is_known = |version| in_force.verifier.policies().of_version(PolicyVersion(version)).is_some();
        apply(1);
        let are_known = |round| is_known(2 * round) && is_known(2 * round + 1);
        assert_eq!(at_once(1_000, |round| apply(2 * round), |round| apply(2 * round + 1), are_known), None);
    }
}
