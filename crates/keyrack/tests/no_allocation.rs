//! A verdict takes no memory: counted by an allocator that counts, in a program of its own.
#![expect(clippy::unwrap_used, reason = "a test that goes wrong says where")]

use std::sync::Arc;
use std::time::Duration;

use keyrack::policy::{Document, Least, NamedPolicy, Policies, Rule};
use keyrack::{
    ApiKey, Ask, AskedRequest, Code, Holder, Index, KeyChange, KeyDigest, KeyId, KeyKind, KeyRecord, Limit, LimitPlan,
    Now, OrganizationId, Period, Permissions, PolicyVersion, ProjectId, ProjectRole, Scope, Verifier, Window,
};

const NOW: Now = Now { boot: Duration::from_secs(1_000), unix_seconds: 1_777_368_600 };

fn key(id: u8, kind: KeyKind) -> ApiKey {
    ApiKey::generate(kind, &[id; ApiKey::RANDOM_BYTES])
}

fn issue(verifier: &Verifier, id: u8, kind: KeyKind, reach: u32, limits: LimitPlan) -> ApiKey {
    let key = key(id, kind);
    let (scope, role) = match kind {
        KeyKind::Publishable => (Scope::Public, ProjectRole::Support),
        KeyKind::Secret | KeyKind::Organization | KeyKind::Operator | KeyKind::Follower => {
            (Scope::Secret, ProjectRole::Editor)
        }
    };
    let organization = OrganizationId(u32::from(id));
    let holder = Holder::Project { project: ProjectId(1), organization, kind, scope, role };
    let permissions = Permissions::new(["exports:create", "exports:read"]);
    let record =
        KeyRecord { reach: PolicyVersion(reach), permissions, limits, ..KeyRecord::new(KeyId(id.into()), 1, holder) };
    verifier.index().apply(&KeyDigest::of(&key), &KeyChange::Put(record)).unwrap();
    key
}

fn policies(public: bool) -> Arc<Policies> {
    let rule = |path: &str, permission: Option<&str>| Rule {
        methods: vec!["POST".to_owned()],
        path: path.to_owned(),
        role: ProjectRole::Support,
        public,
        permission: permission.map(str::to_owned),
    };
    let rules = vec![rule("/events", None), rule("/exports/*", Some("exports:create")), rule("/Files/**", None)];
    let (read, write) = (Least::Role(ProjectRole::Support), Least::Role(ProjectRole::Admin));
    let default = NamedPolicy { name: "default".to_owned(), read, write, rules };
    Arc::new(Policies::compile(&Document { policies: vec![default] }).unwrap())
}

#[test]
fn no_verdict_takes_memory() {
    let verifier = Verifier::new(Index::with_capacity(16));
    verifier.index().mark_loaded();
    verifier.set_policies(verifier.policies().followed_by(PolicyVersion(1), policies(true)));
    verifier.set_policies(verifier.policies().followed_by(PolicyVersion(2), policies(false)));
    verifier.set_policies(verifier.policies().followed_by(PolicyVersion(3), policies(true)));
    let limit = |name, limit, period| Limit::new(name, limit, period, None).unwrap();
    let three = || {
        let rate = limit("rate", 100_000, Period::Seconds(60));
        LimitPlan::new([rate, limit("day", 100_000, Period::Calendar(Window::Day)), limit("x", 1, Period::Seconds(1))])
    };
    let roomy = LimitPlan::new([
        limit("rate", 100_000, Period::Seconds(60)),
        limit("day", 100_000, Period::Calendar(Window::Day)),
        limit("month", 100_000, Period::Calendar(Window::Month)),
    ]);
    let valid = issue(&verifier, 1, KeyKind::Secret, 3, roomy.clone());
    let limited = issue(&verifier, 2, KeyKind::Secret, 3, three());
    let frozen = issue(&verifier, 3, KeyKind::Publishable, 1, roomy.clone());
    let closed = issue(&verifier, 4, KeyKind::Publishable, 2, roomy.clone());
    let dead = issue(&verifier, 5, KeyKind::Secret, 3, roomy.clone());
    verifier.index().apply(&KeyDigest::of(&dead), &KeyChange::Revoke { id: KeyId(5) }).unwrap();
    let suspended = issue(&verifier, 6, KeyKind::Secret, 3, roomy);
    verifier.index().suspend(OrganizationId(6));
    let spent = LimitPlan::new([limit("day", 1, Period::Calendar(Window::Day))]);
    let exceeded = issue(&verifier, 7, KeyKind::Secret, 3, spent);
    let stranger = key(99, KeyKind::Secret);

    let ask = |key: &ApiKey, method: &'static [u8], target: &'static [u8]| (key.expose().to_owned(), method, target);
    let cases = [
        (ask(&valid, b"POST", b"/events"), Code::Valid),
        (ask(&valid, b"POST", b"/exports/7?x=1"), Code::Valid),
        (ask(&valid, b"GET", b"/anything/at/all"), Code::Valid),
        (ask(&valid, b"PUT", b"/events"), Code::Forbidden),
        (ask(&valid, b"POST", b"/EVENTS"), Code::Forbidden),
        (ask(&valid, b"POST", b"/files/%41"), Code::Forbidden),
        (ask(&valid, b"POST", b"/a//b"), Code::Forbidden),
        (ask(&valid, b"post", b"/events"), Code::Forbidden),
        (ask(&frozen, b"POST", b"/events"), Code::Valid),
        (ask(&closed, b"POST", b"/events"), Code::Forbidden),
        (ask(&limited, b"POST", b"/events"), Code::RateLimited),
        (ask(&exceeded, b"POST", b"/events"), Code::UsageExceeded),
        (ask(&dead, b"POST", b"/events"), Code::NotFound),
        (ask(&suspended, b"POST", b"/events"), Code::Disabled),
        (ask(&stranger, b"POST", b"/events"), Code::NotFound),
        (("sk_nothing".to_owned(), b"POST", b"/events"), Code::NotFound),
    ];
    let asks: Vec<Ask<'_>> = cases
        .iter()
        .map(|((key, method, target), _)| {
            let request = Some(AskedRequest { method, target, policy: None });
            Ask { key: key.as_bytes(), request, cost: 1, ..Ask::default() }
        })
        .collect();
    // The first time uses up what has to be used up, and gives this thread what it keeps.
    for ask in &asks {
        verifier.check(ask, NOW);
    }
    for (ask, (case, code)) in asks.iter().zip(&cases) {
        let mut seen = None;
        let taken = allocation_counter::measure(|| seen = Some(verifier.check(ask, NOW).code()));
        assert_eq!((seen, taken.count_total), (Some(*code), 0), "{case:?}");
    }
    let mut seen = [Code::Valid; 16];
    let taken = allocation_counter::measure(|| {
        let mut at = seen.iter_mut();
        verifier.check_batch(&asks, NOW, |verdict, _details| *at.next().unwrap() = verdict.code());
    });
    assert_eq!(taken.count_total, 0, "a batch");
    assert_eq!(seen.to_vec(), cases.iter().map(|(_, code)| *code).collect::<Vec<_>>());

    let counted = allocation_counter::measure(|| drop(verifier.policies().version().to_string()));
    assert!(counted.count_total > 0, "it counts");
}
