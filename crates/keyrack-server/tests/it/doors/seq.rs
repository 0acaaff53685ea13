//! What is said of the log with a verdict.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use keyrack::{
    ApiKey, Holder, Index, KeyChange, KeyDigest, KeyId, KeyKind, KeyRecord, OrganizationId, ProjectId, ProjectRole,
    Scope, Verifier,
};
use keyrack_server::clock::{Clock as _, SystemClock};
use keyrack_server::config::LimitHeaders;
use keyrack_server::doors::Doors;
use keyrack_server::proxies::TrustedProxies;
use keyrack_server::wire::{Field, Fields, Peer, Reply, Request, Service as _};

const KEYS: usize = 3_000;

/// A key that died with change N never passes at N or later: who waits for N relies on it.
#[test]
fn the_seq_of_an_allow_is_never_newer_than_its_verdict() {
    let verifier = Arc::new(Verifier::new(Index::with_capacity(KEYS)));
    verifier.index().mark_loaded();
    let keys: Vec<_> = (1..=KEYS).map(|nth| issue(&verifier, nth)).collect();
    let trusted = TrustedProxies::parse("127.0.0.0/8").unwrap();
    let doors = Doors::new(Arc::clone(&verifier), trusted, LimitHeaders::X, String::new());
    let is_over = AtomicBool::new(false);
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let next = usize::try_from(verifier.index().position()).unwrap();
                    let Some(key) = keys.get(next) else { break };
                    // The key that is about to die.
                    if let Some(seq) = seq_of_allow(&doors, key) {
                        assert!(seq <= next, "it passed at {seq}, and died with change {}", next + 1);
                    }
                }
            });
        }
        for (dead, key) in (1_i64..).zip(&keys) {
            // Long enough for a question or two, and each time another while, so that the death falls into every part of one.
            let pause = Instant::now() + Duration::from_micros(20 + dead.unsigned_abs() * 7 % 100);
            while Instant::now() < pause {
                std::hint::spin_loop();
            }
            verifier.index().apply(&KeyDigest::of(key), &KeyChange::Revoke { id: KeyId(dead) }).unwrap();
            verifier.index().set_position(dead);
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

fn issue(verifier: &Verifier, nth: usize) -> ApiKey {
    // Of each byte five bits go into the key.
    let random = std::array::from_fn(|at| u8::try_from(nth >> (5 * at.min(6)) & 31).unwrap());
    let key = ApiKey::generate(KeyKind::Secret, &random);
    let (kind, scope, role) = (KeyKind::Secret, Scope::Secret, ProjectRole::Support);
    let holder = Holder::Project { project: ProjectId(1), organization: OrganizationId(1), kind, scope, role };
    let put = KeyChange::Put(KeyRecord::new(KeyId(nth.try_into().unwrap()), 1, holder));
    verifier.index().apply(&KeyDigest::of(&key), &put).unwrap();
    key
}

fn seq_of_allow(doors: &Doors, key: &ApiKey) -> Option<usize> {
    let bearer = format!("Bearer {}", key.expose());
    let field = |name, value| Field { name, value };
    let fields =
        [field("authorization", bearer.as_bytes()), field("x-original-method", b"GET"), field("x-original-uri", b"/x")];
    let request = Request {
        method: b"GET",
        target: b"/v1/auth/nginx",
        target_is_whole: true,
        fields: Fields::new(&fields),
        body: b"",
        peer: Peer::Address(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        now: SystemClock.moment(),
    };
    let mut reply = Reply::default();
    doors.answer(&request, &mut reply);
    let seq = reply.fields().find(|(name, _)| *name == "x-keyrack-seq")?.1;
    std::str::from_utf8(seq).unwrap().parse().ok()
}
