//! The doors take no memory for a verdict, an allow or a denial: counted by an allocator that counts, in a program of its own.
#![expect(clippy::unwrap_used, reason = "a test that goes wrong says where")]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use keyrack::{
    ApiKey, Holder, Index, KeyChange, KeyDigest, KeyId, KeyKind, KeyRecord, Limit, LimitPlan, Now, OrganizationId,
    OrganizationRole, Period, ProjectId, ProjectRole, Scope, Verifier, Window,
};
use keyrack_server::config::LimitHeaders;
use keyrack_server::doors::Doors;
use keyrack_server::proxies::TrustedProxies;
use keyrack_server::wire::{Field, Fields, Peer, Reply, Request, Service as _};

/// Keys that nobody knows. A leak of one byte for each would show.
const STRANGERS: u64 = 5_000;

fn key(nth: u64) -> ApiKey {
    // Of each byte five bits go into the key.
    let random = std::array::from_fn(|at| u8::try_from(nth >> (5 * at.min(6)) & 31).unwrap());
    ApiKey::generate(KeyKind::Secret, &random)
}

/// Doors for a key that has plenty left, one that may be used once a day, and one of an organization, which no gateway is asked with.
fn doors_for(known: &ApiKey, limited: &ApiKey, foreign: &ApiKey) -> (Doors, Arc<Verifier>) {
    let verifier = Arc::new(Verifier::new(Index::with_capacity(16)));
    verifier.index().mark_loaded();
    let (kind, scope, role) = (KeyKind::Secret, Scope::Secret, ProjectRole::Support);
    let holder = Holder::Project { project: ProjectId(1), organization: OrganizationId(1), kind, scope, role };
    let limit = |name, period| Limit::new(name, 1_000_000, period, None).unwrap();
    let limits = LimitPlan::new([limit("rate", Period::Seconds(60)), limit("day", Period::Calendar(Window::Day))]);
    let put = KeyChange::Put(KeyRecord { limits, ..KeyRecord::new(KeyId(1), 1, holder) });
    verifier.index().apply(&KeyDigest::of(known), &put).unwrap();
    let limits = LimitPlan::new([Limit::new("once", 1, Period::Calendar(Window::Day), None).unwrap()]);
    let put = KeyChange::Put(KeyRecord { limits, ..KeyRecord::new(KeyId(2), 1, holder) });
    verifier.index().apply(&KeyDigest::of(limited), &put).unwrap();
    let holder = Holder::Organization { organization: OrganizationId(1), role: OrganizationRole::Owner };
    let put = KeyChange::Put(KeyRecord::new(KeyId(3), 1, holder));
    verifier.index().apply(&KeyDigest::of(foreign), &put).unwrap();
    let proxies = TrustedProxies::parse("127.0.0.0/8").unwrap();
    let types = "https://keyrack.test/docs/errors".to_owned();
    (Doors::new(Arc::clone(&verifier), proxies, LimitHeaders::X, types), verifier)
}

/// What nginx is answered that asks with a key; how often memory was taken for it is the second thing that comes back.
fn asked(doors: &Doors, bearer: &str, method: &str, reply: &mut Reply) -> (u16, u64) {
    let field = |name, value| Field { name, value };
    let fields = [
        field("Host", b"keyrack".as_slice()),
        field("Authorization", bearer.as_bytes()),
        field("X-Original-Method", method.as_bytes()),
        field("X-Original-URI", b"/things?x=1"),
        field("X-Forwarded-For", b"203.0.113.9"),
    ];
    let request = Request {
        method: b"GET",
        target: b"/v1/auth/nginx",
        target_is_whole: true,
        fields: Fields::new(&fields),
        body: b"",
        peer: Peer::Address(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        now: Now { boot: Duration::from_secs(1_000), unix_seconds: 1_777_368_600 },
    };
    let taken = allocation_counter::measure(|| {
        reply.clear();
        doors.answer(&request, reply);
    });
    assert!(reply.is_sound());
    (reply.status(), taken.count_total)
}

#[test]
fn no_answer_to_a_gateway_takes_memory() {
    let (known, limited, stranger) = (key(0), key(STRANGERS + 1), key(1));
    let foreign = ApiKey::generate(KeyKind::Organization, &[7; ApiKey::RANDOM_BYTES]);
    let (doors, verifier) = doors_for(&known, &limited, &foreign);
    let bearer = |key: &ApiKey| format!("Bearer {}", key.expose());
    let cases = [
        (bearer(&known), "GET", 200),
        (bearer(&known), "DELETE", 403),
        (bearer(&limited), "GET", 403),
        (bearer(&foreign), "GET", 401),
        (bearer(&stranger), "GET", 401),
        ("Bearer sk_nothing".to_owned(), "GET", 401),
        ("Basic eDp5".to_owned(), "GET", 401),
    ];
    let mut reply = Reply::default();
    // The first time uses up what has to be used up, and a reply takes the room that it keeps for the next.
    assert!(asked(&doors, &cases[0].0, "GET", &mut reply).1 > 0, "it counts");
    for (bearer, method, _) in &cases {
        asked(&doors, bearer, method, &mut reply);
    }
    for (at, (bearer, method, status)) in cases.iter().enumerate() {
        assert_eq!(asked(&doors, bearer, method, &mut reply), (*status, 0), "case {at}");
    }
    for nth in 1..=STRANGERS {
        assert_eq!(asked(&doors, &bearer(&key(nth)), "GET", &mut reply), (401, 0));
    }
    verifier.index().distrust();
    asked(&doors, &cases[0].0, "GET", &mut reply);
    for (at, (bearer, method, _)) in cases.iter().enumerate() {
        let (status, taken) = asked(&doors, bearer, method, &mut reply);
        assert!(matches!(status, 401 | 403), "nginx knows no other denial: {status}");
        assert_eq!(taken, 0, "case {at} when nothing can be told");
    }
}
