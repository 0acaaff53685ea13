//! Replies to requests with an `Idempotency-Key`, kept for 24 hours (contract section 6).
//!
//! A reply to a create holds the secret, so it is sealed under a key derived from the caller's own bearer value, which
//! is not kept: the database with all server secrets does not open it, and once the caller's key is dead nobody does.

use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use keyrack::{ApiKey, KeyId};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::canonical::Canonical;
use crate::clock::Timestamp;
use crate::random::{self, Random};
use crate::root_key::{MacKey, ROOT_KEY_VERSION, RootKey};

/// How long a reply is kept.
pub const KEPT_SECONDS: i64 = 24 * 60 * 60;

/// A reply as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptReply {
    /// Which request it answered.
    pub fingerprint: Vec<u8>,
    /// Random, so that no two replies share a sealing key.
    pub salt: Vec<u8>,
    /// Version byte and ciphertext.
    pub sealed: Vec<u8>,
    /// When it is forgotten.
    pub expires_at: Timestamp,
}

/// The part of a reply that is kept: status and exact body.
#[derive(Clone, PartialEq, Eq)]
pub struct ReplyBody {
    /// HTTP status.
    pub status: u16,
    /// Exact bytes of the body.
    pub body: Vec<u8>,
}

/// A request that may be repeated: what it is found by, and what its reply is sealed with.
pub struct Repeatable {
    lookup: [u8; 32],
    fingerprint: [u8; 32],
    sealing: Zeroizing<[u8; 32]>,
}

/// The secrets that replies are found and sealed with.
pub struct Replies {
    lookup: MacKey,
    fingerprint: MacKey,
    pepper: MacKey,
}

impl Replies {
    /// Derives them from the root key.
    pub fn new(root_key: &RootKey) -> Self {
        Self {
            lookup: root_key.derive("keyrack reply lookup v1"),
            fingerprint: root_key.derive("keyrack reply fingerprint v1"),
            pepper: root_key.derive("keyrack reply pepper v1"),
        }
    }

    /// What a request with an `Idempotency-Key` is found by: the calling key and the header, across all paths. Its
    /// fingerprint is method, path and exact body.
    pub fn repeatable(&self, caller: KeyId, presented: &ApiKey, header: &[u8], request: [&[u8]; 3]) -> Repeatable {
        let [method, path, body] = request;
        let lookup = self.lookup.tag(&Canonical::new("lookup").int(caller.0).bytes(header));
        let fingerprint = Canonical::new("fingerprint").bytes(method).bytes(path).bytes(body);
        // The buffer is wiped when it is freed, see the allocator in main.rs.
        let bearer = Canonical::new("bearer").text(presented.expose());
        Repeatable {
            lookup,
            fingerprint: self.fingerprint.tag(&fingerprint),
            sealing: Zeroizing::new(self.pepper.tag(&bearer)),
        }
    }
}

impl Repeatable {
    /// What the reply is found by.
    pub const fn lookup(&self) -> &[u8; 32] {
        &self.lookup
    }

    /// Whether a kept reply answered this very request.
    pub fn is_answered_by(&self, kept: &KeptReply) -> bool {
        kept.fingerprint == self.fingerprint
    }

    /// Seals a reply to keep it.
    pub fn seal(&self, reply: &ReplyBody, now: Timestamp, random: &dyn Random) -> KeptReply {
        let salt: [u8; 32] = random::bytes(random);
        let expires_at = now.plus_seconds(KEPT_SECONDS);
        let plain = Zeroizing::new([reply.status.to_be_bytes().as_slice(), &reply.body].concat());
        let about = self.about(expires_at);
        let (cipher, nonce) = self.cipher(&salt);
        let sealed = cipher
            .encrypt(&nonce, Payload { msg: &plain, aad: about.as_bytes() })
            .expect("a reply is far below the cipher's limit of 256 GiB");
        KeptReply {
            fingerprint: self.fingerprint.to_vec(),
            salt: salt.to_vec(),
            sealed: [&[ROOT_KEY_VERSION], sealed.as_slice()].concat(),
            expires_at,
        }
    }

    /// Opens a kept reply; `None` if it was damaged, or sealed for another caller.
    pub fn open(&self, kept: &KeptReply) -> Option<ReplyBody> {
        let sealed = kept.sealed.strip_prefix(&[ROOT_KEY_VERSION])?;
        let (cipher, nonce) = self.cipher(&kept.salt);
        let about = self.about(kept.expires_at);
        let mut plain = cipher.decrypt(&nonce, Payload { msg: sealed, aad: about.as_bytes() }).ok()?;
        let status = u16::from_be_bytes(*plain.first_chunk()?);
        plain.drain(..2);
        Some(ReplyBody { status, body: plain })
    }

    /// The salt is random and used once, so key and nonce may both come from it.
    fn cipher(&self, salt: &[u8]) -> (XChaCha20Poly1305, XNonce) {
        let derived = Hkdf::<Sha256>::new(Some(salt), self.sealing.as_slice());
        let info = Canonical::new("replay v1").bytes(&self.lookup).bytes(&self.fingerprint);
        let mut out = Zeroizing::new([0; 56]);
        derived.expand(info.as_bytes(), out.as_mut_slice()).expect("56 bytes are a length that HKDF gives");
        let (key, nonce) = out.split_at(32);
        (XChaCha20Poly1305::new(key.into()), *XNonce::from_slice(nonce))
    }

    fn about(&self, expires_at: Timestamp) -> Canonical {
        Canonical::new("reply").bytes(&self.lookup).int(expires_at.0)
    }
}

#[cfg(test)]
mod tests {
    use keyrack::KeyKind;

    use super::*;
    use crate::random::OsRandom;

    #[test]
    fn only_the_callers_own_key_opens_a_reply() {
        let dir = tempfile::tempdir().unwrap();
        let replies = Replies::new(&RootKey::create(&dir.path().join("root.key"), &OsRandom).unwrap());
        let caller = ApiKey::generate(KeyKind::Secret, &[1; ApiKey::RANDOM_BYTES]);
        let other = ApiKey::generate(KeyKind::Secret, &[2; ApiKey::RANDOM_BYTES]);
        let request: [&[u8]; 3] = [b"POST", b"/api/client/keys", b"{}"];
        let reply = ReplyBody { status: 200, body: b"the secret".to_vec() };

        let own = replies.repeatable(KeyId(1), &caller, b"once", request);
        let kept = own.seal(&reply, Timestamp(0), &OsRandom);
        assert!(own.is_answered_by(&kept));
        assert!(own.open(&kept) == Some(reply));
        assert!(!kept.sealed.windows(6).any(|part| part == b"secret"));

        // The same root key, the same caller id, the same header: only the bearer value differs.
        let stolen = replies.repeatable(KeyId(1), &other, b"once", request);
        assert_eq!(stolen.lookup(), own.lookup());
        assert!(stolen.open(&kept).is_none());
        for damaged in [
            KeptReply { expires_at: Timestamp(i64::MAX), ..kept.clone() },
            KeptReply { salt: vec![0; 32], ..kept.clone() },
            KeptReply { sealed: vec![], ..kept },
        ] {
            assert!(own.open(&damaged).is_none());
        }
    }

    #[test]
    fn any_difference_makes_another_request() {
        let dir = tempfile::tempdir().unwrap();
        let replies = Replies::new(&RootKey::create(&dir.path().join("root.key"), &OsRandom).unwrap());
        let key = ApiKey::generate(KeyKind::Secret, &[1; ApiKey::RANDOM_BYTES]);
        let first = replies.repeatable(KeyId(1), &key, b"once", [b"POST", b"/keys", b"{}"]);
        let kept = first.seal(&ReplyBody { status: 200, body: vec![] }, Timestamp(0), &OsRandom);
        for request in [[&b"PATCH"[..], b"/keys", b"{}"], [b"POST", b"/key", b"s{}"], [b"POST", b"/keys", b"{ }"]] {
            assert!(!replies.repeatable(KeyId(1), &key, b"once", request).is_answered_by(&kept));
        }
        for (caller, header) in [(KeyId(2), b"once"), (KeyId(1), b"ONCE")] {
            assert_ne!(replies.repeatable(caller, &key, header, [b"", b"", b""]).lookup(), first.lookup());
        }
    }
}
