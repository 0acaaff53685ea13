//! The one straight line that every verification takes, whichever door it came through.

use std::sync::Arc;

use crate::decision::{Reach, decide_use};
use crate::in_force::InForce;
use crate::index::{Depth, Live, Outcome, Seen};
use crate::policies::{NoPass, Routed};
use crate::policy::RouteNumber;
use crate::{
    ApiKey, Code, Denial, Holder, Index, KeyDigest, KeyId, Limit, LimitState, Lookup, NotAKey, Now, OrganizationId,
    Permissions, PolicySet, ProjectId, Requirement, VerifiedKey, decide,
};

/// The index cannot be trusted now, so nothing can be said about any key. Never a verdict on the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// The index has not been filled yet.
    #[error("the keys are still being loaded")]
    NotLoaded,
    /// It has not heard from its store for too long.
    #[error("what is known of the keys is too old")]
    TooOld,
    /// It has not come as far as the caller asked for.
    #[error("the change that was asked for has not arrived yet")]
    Behind,
    /// What the policy in force says cannot be told.
    #[error("the policy in force cannot be used")]
    PolicyUnknown,
}

/// Why there is no [`VerifiedKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The key may not pass.
    #[error("{denial}")]
    Denied {
        /// Why.
        denial: Denial,
        /// Which key it was, if it is or was one: for the log, never for the caller.
        key: Option<KeyId>,
    },
    /// Whether it may cannot be told.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// What is asked of a key: may it do that in the user's own API?
#[derive(Clone, Copy, Debug, Default)]
pub struct Ask<'a> {
    /// What the caller presented as its key.
    pub key: &'a [u8],
    /// The request it wants to make; without one, only the key itself is judged.
    pub request: Option<AskedRequest<'a>>,
    /// The project it must be of.
    pub project: Option<ProjectId>,
    /// The organization it must be of.
    pub organization: Option<OrganizationId>,
    /// A permission it must hold, besides what the policy asks for.
    pub permission: Option<&'a str>,
    /// How much of its limits the request takes.
    pub cost: u32,
    /// How far in the log of changes the index must have come.
    pub min_seq: i64,
}

/// A request to the user's own API, as it came in.
#[derive(Clone, Copy, Debug)]
pub struct AskedRequest<'a> {
    /// Its method.
    pub method: &'a [u8],
    /// Its target: path, and query if there is one.
    pub target: &'a [u8],
    /// The name of the policy; without one, `default`.
    pub policy: Option<&'a [u8]>,
}

/// What a verification says.
#[derive(Clone, Copy, Debug)]
pub struct Verdict {
    /// Whether the key may pass.
    pub outcome: Result<VerifiedKey, VerifyError>,
    /// Which key it is, where that may be told: if the whole value was right, also of one that may not pass.
    pub about: Option<About>,
    /// Where the key stands with the limit that refused, or is nearest to its end.
    pub limit: Option<LimitState>,
}

/// What may be told of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    /// Its number.
    pub id: KeyId,
    /// Whom it speaks for.
    pub holder: Holder,
}

/// What may be told of a key and is of any length: lent while the verdict is given, so that nothing is copied for it, and looked at
/// only if somebody asks. It is as new as the verdict, or newer; empty if the key was revoked meanwhile.
#[derive(Clone, Copy)]
pub struct Details<'v>(&'v Live<'v>);

impl<'v> Details<'v> {
    /// What it holds besides its role.
    pub fn permissions(&self) -> impl Iterator<Item = &'v str> {
        self.0.permissions().into_iter().flat_map(Permissions::iter)
    }

    /// Its limits, those of its installation included, in the order that [`LimitState::at`] counts in.
    pub fn limits(&self) -> &'v [Limit] {
        self.0.limits()
    }
}

impl Verdict {
    /// The code on the wire (contract section 7).
    pub const fn code(&self) -> Code {
        match self.outcome {
            Ok(_) => Code::Valid,
            Err(VerifyError::Denied { denial, .. }) => denial.code(),
            Err(VerifyError::Unavailable(_)) => Code::Unavailable,
        }
    }

    /// The finer reason as a word for a header; nothing where it is not to be told.
    pub const fn detail(&self) -> Option<&'static str> {
        match (self.outcome, self.limit) {
            (Ok(_) | Err(VerifyError::Unavailable(_)), _) => None,
            // It would be refused at any time.
            (
                Err(VerifyError::Denied { denial: Denial::RateLimited | Denial::UsageExceeded, .. }),
                Some(LimitState { retry_after: None, .. }),
            ) => Some("cost"),
            (Err(VerifyError::Denied { denial, .. }), _) => denial.detail(),
        }
    }

    /// Seconds after which it is worth asking again, where that is known.
    pub fn retry_after(&self) -> Option<u64> {
        match self.code() {
            Code::RateLimited | Code::UsageExceeded => self.limit?.retry_after.map(|seconds| seconds.max(1)),
            Code::Unavailable => Some(1),
            Code::Valid | Code::NotFound | Code::Disabled | Code::Forbidden => None,
        }
    }

    const fn without_key(error: VerifyError) -> Self {
        Self { outcome: Err(error), about: None, limit: None }
    }

    const fn denied(denial: Denial, key: Option<KeyId>) -> Self {
        Self::without_key(VerifyError::Denied { denial, key })
    }
}

/// A key that may pass: by which rule, if a request was asked about, and where it stands with its limits.
type Passed = (VerifiedKey, Option<RouteNumber>, Option<LimitState>);

/// How many keys of a batch are looked up at once.
const AT_ONCE: usize = 16;

/// Verifies presented keys against an [`Index`] and the policies. Never waits, writes or reads a store, and takes no lock.
#[derive(Debug)]
pub struct Verifier {
    index: Index,
    policies: InForce,
}

impl Verifier {
    /// A verifier over an index, which may still be filling, with the built-in policy.
    pub fn new(index: Index) -> Self {
        Self { index, policies: InForce::new(PolicySet::builtin()) }
    }

    /// The index, to apply changes to.
    pub const fn index(&self) -> &Index {
        &self.index
    }

    /// The policies in force.
    pub fn policies(&self) -> Arc<PolicySet> {
        self.policies.get()
    }

    /// Puts policies in force: when this returns, every later verification goes by them.
    pub fn set_policies(&self, policies: PolicySet) {
        self.policies.set(policies);
    }

    /// May a key do what is asked? Counts the use, and takes its cost from the key's limits if it may.
    pub fn check(&self, ask: &Ask<'_>, now: Now) -> Verdict {
        self.check_with(ask, now, |verdict, _details| *verdict)
    }

    /// [`Verifier::check`], and a look at what is told of the key with the verdict.
    pub fn check_with<T>(&self, ask: &Ask<'_>, now: Now, see: impl FnOnce(&Verdict, Option<Details<'_>>) -> T) -> T {
        match ApiKey::digest_of(ask.key) {
            Ok(digest) => {
                // While the processor waits for the key, it finds out what the policies say.
                std::hint::black_box(self.index.fetch_entry(&digest));
                self.policies.with(|policies| self.check_digest(&digest, ask, policies, now, see))
            }
            Err(NotAKey) => see(&Verdict::denied(Denial::Malformed, None), None),
        }
    }

    /// [`Verifier::check_with`] for many: faster than one by one, because the waits for memory overlap. Verdicts come in order.
    pub fn check_batch(&self, asks: &[Ask<'_>], now: Now, mut see: impl FnMut(&Verdict, Option<Details<'_>>)) {
        for asks in asks.chunks(AT_ONCE) {
            let digests: [Option<KeyDigest>; AT_ONCE] =
                std::array::from_fn(|at| ApiKey::digest_of(asks.get(at)?.key).ok());
            std::hint::black_box(self.index.fetch(&digests));
            self.policies.with(|policies| {
                for (digest, ask) in digests.iter().zip(asks) {
                    match digest {
                        Some(digest) => self.check_digest(digest, ask, policies, now, &mut see),
                        None => see(&Verdict::denied(Denial::Malformed, None), None),
                    }
                }
            });
        }
    }

    fn check_digest<T>(
        &self,
        digest: &KeyDigest,
        ask: &Ask<'_>,
        policies: &PolicySet,
        now: Now,
        see: impl FnOnce(&Verdict, Option<Details<'_>>) -> T,
    ) -> T {
        if let Err(cause) = self.is_fit(ask, now) {
            return see(&Verdict::without_key(cause.into()), None);
        }
        let routed = ask.request.map(|request| policies.route(request));
        let asks_for_permission =
            ask.permission.is_some() || matches!(&routed, Some(Ok(routed)) if routed.asks_for_permission());
        let depth = if asks_for_permission { Depth::Whole } else { Depth::Summary };
        let routed = routed.as_ref();
        match self.index.see(digest, depth) {
            Seen::Live(live) => {
                let verdict = self.check_live(&live, ask, routed, now);
                see(&verdict, verdict.about.map(|_told| Details(&live)))
            }
            Seen::Dead(record, id) => {
                self.index.count_dead(record);
                see(&Verdict::denied(Denial::Revoked, Some(id)), None)
            }
            // It may have been made since anything was heard: an outage never looks like a bad key.
            Seen::Absent if self.index.staleness(now).is_some() => {
                see(&Verdict::without_key(Unavailable::TooOld.into()), None)
            }
            Seen::Absent => see(&Verdict::denied(Denial::Unknown, None), None),
        }
    }

    fn is_fit(&self, ask: &Ask<'_>, now: Now) -> Result<(), Unavailable> {
        self.index.is_fit(now)?;
        if ask.min_seq > self.index.position() { Err(Unavailable::Behind) } else { Ok(()) }
    }

    #[inline]
    fn check_live(
        &self,
        live: &Live<'_>,
        ask: &Ask<'_>,
        routed: Option<&Result<Routed<'_>, NoPass>>,
        now: Now,
    ) -> Verdict {
        let id = live.id();
        let holder = live.holder();
        let (outcome, use_of_it, limit) = match self.decide_and_charge(live, holder, (ask, routed), now) {
            Ok((verified, route, limit)) => (Ok(verified), Outcome::Passed(route), limit),
            Err((NoPass::Unavailable(cause), _)) => return Verdict::without_key(cause.into()),
            Err((NoPass::Denied(denial), limit)) => {
                let use_of_it = match denial.code() {
                    Code::RateLimited => Outcome::Limited,
                    Code::UsageExceeded => Outcome::Exceeded,
                    Code::Valid | Code::NotFound | Code::Disabled | Code::Forbidden | Code::Unavailable => {
                        Outcome::Forbidden
                    }
                };
                (Err(VerifyError::Denied { denial, key: Some(id) }), use_of_it, limit)
            }
        };
        self.index.count(live, use_of_it, now);
        let is_told = !matches!(outcome, Err(VerifyError::Denied { denial, .. }) if denial.code() == Code::NotFound);
        Verdict { outcome, about: is_told.then_some(About { id, holder }), limit }
    }

    /// The limits come last, so that what is refused for another reason takes nothing from them.
    #[inline]
    fn decide_and_charge(
        &self,
        live: &Live<'_>,
        holder: Holder,
        (ask, routed): (&Ask<'_>, Option<&Result<Routed<'_>, NoPass>>),
        now: Now,
    ) -> Result<Passed, (NoPass, Option<LimitState>)> {
        let denied = |denial: Denial| (NoPass::Denied(denial), None);
        let reach = Reach { project: ask.project, organization: ask.organization, permission: ask.permission };
        let (verified, scope, role) =
            decide_use(live.id(), holder, reach, |needed| live.holds(needed)).map_err(denied)?;
        if live.is_suspended {
            return Err(denied(Denial::Suspended));
        }
        let route = match routed {
            Some(Ok(routed)) => Some(routed.judge(live, (scope, role)).map_err(|no_pass| (no_pass, None))?),
            Some(Err(no_pass)) => return Err((*no_pass, None)),
            None => None,
        };
        match self.index.charge(live, ask.cost, now) {
            Ok(limit) => Ok((verified, route, limit)),
            Err(refused) if refused.is_quota => Err((Denial::UsageExceeded.into(), Some(refused))),
            Err(refused) => Err((Denial::RateLimited.into(), Some(refused))),
        }
    }

    /// Verifies the bytes a caller presented as its key to one of Keyrack's own surfaces.
    ///
    /// # Errors
    /// [`VerifyError::Denied`] if the key may not pass, [`VerifyError::Unavailable`] if that cannot be told.
    pub fn verify(&self, presented: &[u8], requirement: Requirement) -> Result<VerifiedKey, VerifyError> {
        match ApiKey::parse(presented) {
            Ok(key) => self.verify_key(&key, requirement),
            Err(NotAKey) => Err(VerifyError::Denied { denial: Denial::Malformed, key: None }),
        }
    }

    /// Verifies a presented value that has been parsed already.
    ///
    /// # Errors
    /// As for [`Verifier::verify`].
    pub fn verify_key(&self, key: &ApiKey, requirement: Requirement) -> Result<VerifiedKey, VerifyError> {
        let denied = |denial, key| Err(VerifyError::Denied { denial, key });
        match self.index.find(&KeyDigest::of(key))? {
            Lookup::Live(record) => {
                decide(record.id, record.holder, requirement).or_else(|denial| denied(denial, Some(record.id)))
            }
            Lookup::Suspended(record) => denied(Denial::Suspended, Some(record.id)),
            Lookup::Dead(id) => denied(Denial::Revoked, Some(id)),
            Lookup::Absent => denied(Denial::Unknown, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        Holder, KeyChange, KeyKind, KeyRecord, OrganizationId, OrganizationRole, ProjectId, ProjectRole, Scope,
    };

    fn denied(denial: Denial, key: Option<i64>) -> VerifyError {
        VerifyError::Denied { denial, key: key.map(KeyId) }
    }

    fn operator_key(seed: u8) -> (ApiKey, KeyDigest, KeyChange) {
        let key = ApiKey::generate(KeyKind::Operator, &[seed; ApiKey::RANDOM_BYTES]);
        let digest = KeyDigest::of(&key);
        let record = KeyRecord::new(KeyId(i64::from(seed)), 1, Holder::Operator);
        (key, digest, KeyChange::Put(record))
    }

    #[test]
    fn an_index_that_is_not_loaded_says_nothing_about_a_key() {
        let (key, digest, put) = operator_key(1);
        let index = Index::with_capacity(1);
        index.apply(&digest, &put).unwrap();
        let verifier = Verifier::new(index);
        let verdict = verifier.verify(key.expose().as_bytes(), Requirement::Operator);
        assert_eq!(verdict, Err(VerifyError::Unavailable(Unavailable::NotLoaded)));
    }

    proptest! {
        #[test]
        fn revoked_never_passes(
            steps in proptest::collection::vec((any::<bool>(), 1..9_u32, 0..5_u8), 0..40), death in 0..40_usize
        ) {
            let key = ApiKey::generate(KeyKind::Secret, &[5; ApiKey::RANDOM_BYTES]);
            let digest = KeyDigest::of(&key);
            let verifier = Verifier::new(Index::with_capacity(1));
            verifier.index().mark_loaded();
            let mut dead = false;
            for (at, (revoke, version, role)) in steps.into_iter().enumerate() {
                let holder = Holder::Project {
                    project: ProjectId(1),
                    organization: OrganizationId(1),
                    kind: KeyKind::Secret,
                    scope: Scope::Secret,
                    role: ProjectRole::from_position(role).unwrap(),
                };
                dead |= revoke && at >= death;
                let change = if dead && revoke {
                    KeyChange::Revoke { id: KeyId(1) }
                } else {
                    KeyChange::Put(KeyRecord::new(KeyId(1), version, holder))
                };
                verifier.index().apply(&digest, &change).unwrap();
                for least in ProjectRole::ALL {
                    let verdict = verifier.verify(key.expose().as_bytes(), Requirement::Project { least: *least });
                    prop_assert!(!dead || verdict == Err(denied(Denial::Revoked, Some(1))));
                }
            }
        }
    }

    #[test]
    fn a_key_of_a_suspended_organization_is_denied() {
        let key = ApiKey::generate(KeyKind::Organization, &[1; ApiKey::RANDOM_BYTES]);
        let holder = Holder::Organization { organization: OrganizationId(3), role: OrganizationRole::Owner };
        let record = KeyRecord::new(KeyId(1), 1, holder);
        let verifier = Verifier::new(Index::with_capacity(1));
        verifier.index().mark_loaded();
        verifier.index().apply(&KeyDigest::of(&key), &KeyChange::Put(record)).unwrap();
        let needs = Requirement::Organization { least: OrganizationRole::Member };
        assert!(verifier.verify_key(&key, needs).is_ok());
        verifier.index().suspend(OrganizationId(3));
        assert_eq!(verifier.verify_key(&key, needs), Err(denied(Denial::Suspended, Some(1))));
    }

    #[test]
    fn without_a_policy_that_can_be_used_no_request_is_judged() {
        let key = ApiKey::generate(KeyKind::Secret, &[1; ApiKey::RANDOM_BYTES]);
        let (kind, scope, role) = (KeyKind::Secret, Scope::Secret, ProjectRole::Admin);
        let holder = Holder::Project { project: ProjectId(1), organization: OrganizationId(1), kind, scope, role };
        let verifier = Verifier::new(Index::with_capacity(1));
        verifier.index().mark_loaded();
        let put = KeyChange::Put(KeyRecord::new(KeyId(1), 1, holder));
        verifier.index().apply(&KeyDigest::of(&key), &put).unwrap();
        let request = AskedRequest { method: b"GET", target: b"/", policy: None };
        let check = |request| {
            let ask = Ask { key: key.expose().as_bytes(), request, cost: 1, ..Ask::default() };
            verifier.check(&ask, Now { boot: std::time::Duration::from_secs(1), unix_seconds: 1 })
        };
        assert_eq!(check(Some(request)).code(), Code::Valid);
        verifier.set_policies(verifier.policies().unknown(crate::PolicyVersion(1)));
        let verdict = check(Some(request));
        assert_eq!(verdict.outcome, Err(VerifyError::Unavailable(Unavailable::PolicyUnknown)));
        assert_eq!((verdict.code(), verdict.about), (Code::Unavailable, None));
        assert_eq!(check(None).code(), Code::Valid, "the key itself can be told");
    }

    #[test]
    fn live_revoked_unknown_and_malformed_are_told_apart_inside() {
        let (key, digest, put) = operator_key(1);
        let (stranger, ..) = operator_key(2);
        let verifier = Verifier::new(Index::with_capacity(1));
        verifier.index().mark_loaded();
        verifier.index().apply(&digest, &put).unwrap();
        let judge = |value: &str| verifier.verify(value.as_bytes(), Requirement::Operator);
        assert_eq!(judge(key.expose()).unwrap().id(), KeyId(1));
        assert_eq!(judge(stranger.expose()), Err(denied(Denial::Unknown, None)));
        assert_eq!(judge("op_"), Err(denied(Denial::Malformed, None)));
        verifier.index().apply(&digest, &KeyChange::Revoke { id: KeyId(1) }).unwrap();
        assert_eq!(judge(key.expose()), Err(denied(Denial::Revoked, Some(1))));
    }
}
