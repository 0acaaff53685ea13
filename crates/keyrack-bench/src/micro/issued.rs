//! Keys that were issued, and the index that knows them.

use keyrack::{
    ApiKey, Holder, Index, KeyChange, KeyDigest, KeyId, KeyKind, KeyRecord, OrganizationId, ProjectId, ProjectRole,
    Scope, Verifier,
};
use rustix::process::getpid;

use crate::Outcome;
use crate::random::Random;
use crate::system::resident_bytes;

/// A key as a caller presents it.
pub(super) type Value = [u8; ApiKey::BYTES];

/// A full index, and what can be asked of it.
pub(super) struct Issued {
    verifier: Verifier,
    values: Vec<Value>,
    digests: Vec<[u8; KeyDigest::BYTES]>,
    bytes_per_key: f64,
}

impl Issued {
    /// Issues so many keys.
    pub(super) fn new(keys: usize) -> Outcome<Self> {
        let before = resident_bytes(getpid())?;
        let index = Index::with_capacity(keys);
        let mut random = Random::seeded(5);
        for id in (1..).take(keys) {
            index.apply(&KeyDigest::of(&key(&mut random)), &put(id, 1))?;
        }
        index.mark_loaded();
        let bytes = resident_bytes(getpid())?.saturating_sub(before);

        let mut random = Random::seeded(5);
        let (mut values, mut digests) = (Vec::with_capacity(keys), Vec::with_capacity(keys));
        for _ in 0..keys {
            let key = key(&mut random);
            values.push(presented(&key));
            digests.push(*KeyDigest::of(&key).as_bytes());
        }
        Ok(Self { verifier: Verifier::new(index), values, digests, bytes_per_key: bytes as f64 / keys as f64 })
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

/// A change to a key's record.
pub(super) const fn put(id: i64, version: u32) -> KeyChange {
    let holder = Holder::Project {
        project: ProjectId(1),
        organization: OrganizationId(1),
        kind: KeyKind::Secret,
        scope: Scope::Secret,
        role: ProjectRole::Editor,
    };
    KeyChange::Put(KeyRecord { id: KeyId(id), version, holder })
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
    use crate::micro::{NEEDS, find, verify};

    #[test]
    fn issued_keys_pass_and_broken_ones_and_strangers_do_not() {
        let issued = Issued::new(100).unwrap();
        for (position, (value, digest)) in issued.values().iter().zip(issued.digests()).enumerate() {
            assert_eq!((verify(&issued, value), find(&issued, digest)), (position as u64 + 1, position as u64 + 1));
        }
        assert!(issued.values_with_a_broken_checksum().iter().all(|value| ApiKey::parse(value).is_err()));
        for stranger in Issued::strangers(100) {
            assert!(ApiKey::parse(&stranger).is_ok());
            assert!(issued.verifier().verify(&stranger, NEEDS).is_err());
        }
    }
}
