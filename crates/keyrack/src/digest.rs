//! The only form of a key that storage and the index ever see.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::ApiKey;

/// SHA-256 of the whole key value.
///
/// A value carries 130 random bits, so a slow or keyed hash would protect nothing and cost every verification.
/// Comparison takes the same time wherever the digests differ.
#[derive(Clone, Copy)]
pub struct KeyDigest([u8; Self::BYTES]);

impl KeyDigest {
    /// Length in bytes.
    pub const BYTES: usize = 32;

    /// The digest of a key.
    pub fn of(key: &ApiKey) -> Self {
        Self::of_value(key.bytes())
    }

    /// The digest of the bytes of a key.
    #[inline]
    pub(crate) fn of_value(value: &[u8; ApiKey::BYTES]) -> Self {
        Self(Sha256::digest(value).into())
    }

    /// A digest read back from storage.
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// The bytes, for storage.
    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// A digest of which only its words are known, which is all that an index looks at.
    pub(crate) fn of_words(words: [u64; 2]) -> Self {
        let mut bytes = [0; Self::BYTES];
        for (half, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *half = word.to_le_bytes();
        }
        Self(bytes)
    }

    /// The first 16 bytes as two words: what the index finds a key by. 128 bits of SHA-256 do not collide by chance.
    pub(crate) fn words(&self) -> [u64; 2] {
        let [first, second, ..] = self.0.as_chunks::<8>().0 else { unreachable!("32 bytes are four words") };
        [u64::from_le_bytes(*first), u64::from_le_bytes(*second)]
    }
}

impl PartialEq for KeyDigest {
    fn eq(&self, other: &Self) -> bool {
        constant_time_eq::constant_time_eq_32(&self.0, &other.0)
    }
}

impl Eq for KeyDigest {}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("KeyDigest(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KeyKind;

    #[test]
    fn a_digest_is_sha_256_of_the_whole_value_and_is_not_printed() {
        let key = ApiKey::generate(KeyKind::Operator, &[3; ApiKey::RANDOM_BYTES]);
        let digest = KeyDigest::of(&key);
        assert_eq!(digest.as_bytes().as_slice(), Sha256::digest(key.expose().as_bytes()).as_slice());
        assert_eq!(digest, KeyDigest::from_bytes(*digest.as_bytes()));
        assert_ne!(digest, KeyDigest::from_bytes([0; 32]));
        assert_eq!(format!("{digest:?}"), "KeyDigest(…)");
    }
}
