//! Keys that were issued, and the verifier that knows them.

use std::sync::Arc;
use std::time::Duration;

use keyrack::policy::Policies;
use keyrack::{
    ApiKey, Ask, AskedRequest, Holder, Index, KeyChange, KeyDigest, KeyId, KeyKind, KeyRecord, Limit, LimitPlan, Now,
    OrganizationId, Period, PolicyVersion, ProjectId, ProjectRole, Scope, Verdict, Verifier,
};
use rustix::process::getpid;

use crate::Outcome;
use crate::million::policy;
use crate::random::Random;
use crate::system::resident_bytes;

/// A key as a caller presents it.
pub(super) type Value = [u8; ApiKey::BYTES];

/// When all of it happens. A clock that is read once for many requests, as the doors do it.
pub(super) const NOW: Now = Now { boot: Duration::from_secs(1_000), unix_seconds: 1_777_368_600 };

/// Different requests that are asked about.
const TARGETS: usize = 64;

/// A verifier that knows keys and a policy, and what can be asked of it.
pub(super) struct Issued {
    verifier: Verifier,
    values: Vec<Value>,
    digests: Vec<[u8; KeyDigest::BYTES]>,
    targets: Vec<(&'static [u8], String)>,
    bytes_per_key: f64,
}

impl Issued {
    /// Issues so many keys, and puts a policy of so many rules in force.
    pub(super) fn new(keys: usize, rules: usize) -> Outcome<Self> {
        let before = resident_bytes(getpid())?;
        let index = Index::with_capacity(keys);
        let limits = limits()?;
        let mut random = Random::seeded(5);
        for id in (1..).take(keys) {
            index.apply(&KeyDigest::of(&key(&mut random)), &put(id, 1, &limits))?;
        }
        index.mark_loaded();
        let bytes = resident_bytes(getpid())?.saturating_sub(before);

        let verifier = Verifier::new(index);
        let compiled = Policies::compile(&policy(rules)).map_err(|faults| format!("{faults:?}"))?;
        verifier.set_policies(verifier.policies().followed_by(PolicyVersion(1), Arc::new(compiled)));
        let mut random = Random::seeded(5);
        let (mut values, mut digests) = (Vec::with_capacity(keys), Vec::with_capacity(keys));
        for _ in 0..keys {
            let key = key(&mut random);
            values.push(presented(&key));
            digests.push(*KeyDigest::of(&key).as_bytes());
        }
        let mut target = || {
            let rule = random.below(rules);
            let method: &[u8] = if rule.is_multiple_of(2) { b"GET" } else { b"POST" };
            (method, format!("/v1/resource-{rule}/{}?expand=all", random.below(10_000)))
        };
        let targets = (0..TARGETS).map(|_| target()).collect();
        Ok(Self { verifier, values, digests, targets, bytes_per_key: bytes as f64 / keys as f64 })
    }

    /// Well-formed keys that no index here knows.
    pub(super) fn strangers(keys: usize) -> Vec<Value> {
        let mut random = Random::seeded(6);
        (0..keys).map(|_| presented(&key(&mut random))).collect()
    }

    /// Its keys, but for one character in the middle of each.
    pub(super) fn values_with_a_broken_checksum(&self) -> Vec<Value> {
        let mut broken = self.values.clone();
        for character in broken.iter_mut().filter_map(|value| value.get_mut(10)) {
            *character = if *character == b'0' { b'1' } else { b'0' };
        }
        broken
    }

    /// The question about one of its requests, which of them depends on the value.
    pub(super) fn ask<'a>(&'a self, value: &'a Value) -> Ask<'a> {
        let which = value.get(12).map_or(0, |byte| usize::from(*byte) % TARGETS);
        let request = self.targets.get(which).map(|(method, target)| AskedRequest {
            method,
            target: target.as_bytes(),
            policy: None,
        });
        Ask { key: value, request, cost: 1, ..Ask::default() }
    }

    /// What decides.
    pub(super) const fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// Every key.
    pub(super) fn values(&self) -> &[Value] {
        &self.values
    }

    /// Every key's digest; the key at position `p` has the number `p + 1`.
    pub(super) fn digests(&self) -> &[[u8; KeyDigest::BYTES]] {
        &self.digests
    }

    /// Resident bytes that the index took, by key. Only true of the first index in a process.
    pub(super) const fn bytes_per_key(&self) -> f64 {
        self.bytes_per_key
    }
}

/// The number of the key that was let through, or 0.
pub(super) fn number(verdict: &Verdict) -> u64 {
    verdict.outcome.map_or(0, |verified| verified.id().0.unsigned_abs())
}

/// What every key may do so often that no measurement reaches it.
pub(super) fn limits() -> Outcome<LimitPlan> {
    Ok(LimitPlan::new([Limit::new("requests", 1_000_000, Period::Seconds(60), Some(1_000_000))?]))
}

/// A change to a key's record.
pub(super) fn put(id: i64, version: u32, limits: &LimitPlan) -> KeyChange {
    let holder = Holder::Project {
        project: ProjectId(1),
        organization: OrganizationId(1),
        kind: KeyKind::Secret,
        scope: Scope::Secret,
        role: ProjectRole::Editor,
    };
    KeyChange::Put(KeyRecord { limits: limits.clone(), ..KeyRecord::new(KeyId(id), version, holder) })
}

fn key(random: &mut Random) -> ApiKey {
    ApiKey::generate(KeyKind::Secret, &random.bytes())
}

fn presented(key: &ApiKey) -> Value {
    let mut value = [0; ApiKey::BYTES];
    value.copy_from_slice(key.expose().as_bytes());
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issued_keys_pass_and_broken_ones_and_strangers_do_not() {
        let issued = Issued::new(100, 10).unwrap();
        let check = |value: &Value| number(&issued.verifier().check(&issued.ask(value), NOW));
        for (position, value) in issued.values().iter().enumerate() {
            assert_eq!(check(value), position as u64 + 1);
        }
        assert!(issued.values_with_a_broken_checksum().iter().all(|value| ApiKey::parse(value).is_err()));
        for stranger in Issued::strangers(100) {
            assert!(ApiKey::parse(&stranger).is_ok());
            assert_eq!(check(&stranger), 0);
        }
    }
}
