//! Ids of requests, made without asking the system each time.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

/// Length of an id: `req_` and 26 characters.
const BYTES: usize = 30;

/// The id of a request, as text.
pub(super) type RequestId = [u8; BYTES];
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// A keyed hash of a number that is never used twice: unique, and of no use to guess the next one.
pub struct RequestIds {
    keys: [RandomState; 2],
    next: AtomicU64,
}

impl RequestIds {
    /// Ids of their own kind, for this process.
    #[expect(clippy::new_without_default, reason = "two of them are never the same")]
    pub fn new() -> Self {
        Self { keys: [RandomState::new(), RandomState::new()], next: AtomicU64::new(0) }
    }

    /// The next id, as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.next()).into_owned()
    }

    /// The next id (contract section 6).
    pub(super) fn next(&self) -> RequestId {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let [high, low] = self.keys.each_ref().map(|key| u128::from(key.hash_one(number)));
        let mut bits = high << 64 | low;
        let mut id = *b"req_00000000000000000000000000";
        for character in id.iter_mut().skip(4) {
            *character = ALPHABET.get((bits & 31) as usize).copied().unwrap_or(b'0');
            bits >>= 5;
        }
        id
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_have_the_shape_of_the_contract_and_differ() {
        let ids = RequestIds::new();
        let made: HashSet<_> = (0..10_000).map(|_| ids.next()).collect();
        assert_eq!(made.len(), 10_000);
        for id in made {
            assert!(id.starts_with(b"req_") && id[4..].iter().all(|byte| ALPHABET.contains(byte)));
        }
    }
}
