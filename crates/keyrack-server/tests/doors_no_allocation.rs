//! The doors take no memory for a verdict, an allow or a denial: counted by an allocator that counts, in a program of its own.
#![expect(clippy::unwrap_used, reason = "a test that goes wrong says where")]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use keyrack::{
    ApiKey, Holder, Index, KeyChange, KeyDigest, KeyId, KeyKind, KeyRecord, Limit, LimitPlan, Now, OrganizationId,
    Period, ProjectId, ProjectRole, Scope, Verifier, Window,
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

fn doors_for(known: &ApiKey) -> Doors {
    let verifier = Arc::new(Verifier::new(Index::with_capacity(16)));
    verifier.index().mark_loaded();
    let (kind, scope, role) = (KeyKind::Secret, Scope::Secret, ProjectRole::Support);
    let holder = Holder::Project { project: ProjectId(1), organization: OrganizationId(1), kind, scope, role };
    let limit = |name, period| Limit::new(name, 1_000_000, period, None).unwrap();
    let limits = LimitPlan::new([limit("rate", Period::Seconds(60)), limit("day", Period::Calendar(Window::Day))]);
    let put = KeyChange::Put(KeyRecord { limits, ..KeyRecord::new(KeyId(1), 1, holder) });
    verifier.index().apply(&KeyDigest::of(known), &put).unwrap();
    let proxies = TrustedProxies::parse("127.0.0.0/8").unwrap();
    Doors::new(verifier, proxies, LimitHeaders::X, "https://keyrack.test/docs/errors".to_owned())
}

/// What nginx is answered that asks about a GET with a key; how often memory was taken for it is the second thing that comes back.
fn asked(doors: &Doors, bearer: &str, reply: &mut Reply) -> (u16, u64) {
    let field = |name, value| Field { name, value };
    let fields = [
        field("Host", b"keyrack".as_slice()),
        field("Authorization", bearer.as_bytes()),
        field("X-Original-Method", b"GET"),
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
    let known = key(0);
    let doors = doors_for(&known);
    let known = format!("Bearer {}", known.expose());
    let strangers: Vec<_> = (1..=STRANGERS).map(|nth| format!("Bearer {}", key(nth).expose())).collect();
    let mut reply = Reply::default();
    // The first time a reply takes the room that it keeps for the next.
    assert!(asked(&doors, &known, &mut reply).1 > 0, "it counts");
    let odd = ["Bearer sk_nothing", "Basic eDp5"];
    for bearer in [strangers[0].as_str()].iter().chain(&odd) {
        asked(&doors, bearer, &mut reply);
    }
    assert_eq!(asked(&doors, &known, &mut reply), (200, 0));
    for bearer in &strangers {
        assert_eq!(asked(&doors, bearer, &mut reply), (401, 0));
    }
    for bearer in odd {
        assert_eq!(asked(&doors, bearer, &mut reply), (401, 0));
    }
}
