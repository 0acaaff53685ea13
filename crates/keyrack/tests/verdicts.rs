//! What a verdict depends on, and what it does not.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that goes wrong says where")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use keyrack::policy::{Document, Policies, Rule};
use keyrack::{
    ApiKey, Ask, AskedRequest, Code, Holder, Index, KeyChange, KeyDigest, KeyId, KeyKind, KeyRecord, Limit, LimitPlan,
    Now, OrganizationId, Period, PolicyVersion, ProjectId, ProjectRole, Scope, Verdict, Verifier, Window,
};
use proptest::prelude::*;

const NOW: Now = Now { boot: Duration::from_secs(1_000), unix_seconds: 1_777_368_600 };

/// Two live keys, a publishable one, a dead one, one of a suspended organization, a stranger, and none.
const KEYS: usize = 7;
const TARGETS: [&str; 6] = ["/events", "/Events", "/users/7", "/a//b", "/admin", "/"];

fn value(key: usize) -> String {
    let kind = if key == 2 { KeyKind::Publishable } else { KeyKind::Secret };
    let random = [u8::try_from(key).unwrap(); ApiKey::RANDOM_BYTES];
    if key + 1 == KEYS { "sk_none".to_owned() } else { ApiKey::generate(kind, &random).expose().to_owned() }
}

fn put(verifier: &Verifier, key: usize, limits: LimitPlan) {
    let value = ApiKey::parse(value(key).as_bytes()).unwrap();
    let kind = value.kind();
    let (scope, role) = match (key, kind) {
        (_, KeyKind::Publishable) => (Scope::Public, ProjectRole::Support),
        (0, _) => (Scope::Secret, ProjectRole::Admin),
        _ => (Scope::Secret, ProjectRole::Editor),
    };
    let organization = OrganizationId(u32::try_from(key).unwrap() + 1);
    let holder = Holder::Project { project: ProjectId(1), organization, kind, scope, role };
    let id = KeyId(i64::try_from(key).unwrap() + 1);
    let record = KeyRecord { reach: PolicyVersion(1), limits, ..KeyRecord::new(id, 1, holder) };
    verifier.index().apply(&KeyDigest::of(&value), &KeyChange::Put(record)).unwrap();
}

fn verifier(limits: &LimitPlan) -> Verifier {
    let verifier = Verifier::new(Index::with_capacity(KEYS));
    let rule = |path: &str, role, public| Rule {
        methods: vec!["POST".to_owned(), "GET".to_owned()],
        path: path.to_owned(),
        role,
        public,
        permission: None,
    };
    let mut document = Document::builtin();
    document.policies[0].rules =
        vec![rule("/events", ProjectRole::Support, true), rule("/admin", ProjectRole::Admin, false)];
    let policies = Policies::compile(&document).unwrap();
    verifier.set_policies(verifier.policies().followed_by(PolicyVersion(1), policies));
    for key in 0..5 {
        put(&verifier, key, limits.clone());
    }
    verifier
        .index()
        .apply(&KeyDigest::of(&ApiKey::parse(value(3).as_bytes()).unwrap()), &KeyChange::Revoke { id: KeyId(4) })
        .unwrap();
    verifier.index().suspend(OrganizationId(5));
    verifier.index().mark_loaded();
    verifier
}

/// What is asked: which key, which method, which target.
type Asked = (usize, bool, usize);

fn with_ask<T>((key, is_post, target): Asked, ask: impl FnOnce(&Ask<'_>) -> T) -> T {
    let (value, method) = (value(key), if is_post { "POST" } else { "GET" });
    let request = Some(AskedRequest { method: method.as_bytes(), target: TARGETS[target].as_bytes(), policy: None });
    ask(&Ask { key: value.as_bytes(), request, cost: 1, ..Ask::default() })
}

/// All of a verdict but where the key stands with its limits, which is what changes.
fn told(verdict: &Verdict) -> String {
    format!("{:?} {:?}", verdict.outcome, verdict.about)
}

fn any_questions() -> impl Strategy<Value = Vec<Asked>> {
    proptest::collection::vec((0..KEYS, any::<bool>(), 0..TARGETS.len()), 1..60)
}

proptest! {
    /// Each is asked of a verifier that was never asked anything, and then all of one verifier, in whatever order and however often.
    #[test]
    fn order_and_repetition_change_no_verdict(questions in any_questions()) {
        let rate = Limit::new("rate", 1_000_000, Period::Seconds(1), None).unwrap();
        let limits = LimitPlan::new([rate, Limit::new("day", 1_000_000, Period::Calendar(Window::Day), None).unwrap()]);
        let asked_before = verifier(&limits);
        for asked in questions {
            let fresh = with_ask(asked, |ask| told(&verifier(&limits).check(ask, NOW)));
            prop_assert_eq!(with_ask(asked, |ask| told(&asked_before.check(ask, NOW))), fresh);
        }
    }

    #[test]
    fn a_batch_says_what_its_questions_say_one_by_one(questions in any_questions()) {
        // Few uses, so that the limits are reached on the way.
        let limits = LimitPlan::new([Limit::new("rate", 3, Period::Seconds(60), None).unwrap()]);
        let (one_by_one, at_once) = (verifier(&limits), verifier(&limits));
        let values: Vec<_> = questions.iter().map(|(key, ..)| value(*key)).collect();
        let asks: Vec<_> = questions.iter().zip(&values).map(|((_, is_post, target), value)| {
            let method: &[u8] = if *is_post { b"POST" } else { b"GET" };
            let request = Some(AskedRequest { method, target: TARGETS[*target].as_bytes(), policy: None });
            Ask { key: value.as_bytes(), request, cost: 1, ..Ask::default() }
        }).collect();
        let expected: Vec<_> = asks.iter().map(|ask| format!("{:?}", one_by_one.check(ask, NOW))).collect();
        let mut seen = Vec::new();
        at_once.check_batch(&asks, NOW, |verdict, _details| seen.push(format!("{verdict:?}")));
        prop_assert_eq!(seen, expected);
    }
}

#[test]
fn limits_are_exact_under_64_threads_and_taken_all_or_none() {
    const THREADS: u64 = 64;
    let rate = Limit::new("a-rate", 100, Period::Seconds(1), Some(100)).unwrap();
    let quota = Limit::new("b-quota", 500, Period::Calendar(Window::Month), None).unwrap();
    let wide = Limit::new("c-wide", 1_000_000, Period::Calendar(Window::Day), None).unwrap();
    let verifier = verifier(&LimitPlan::new([rate, quota, wide]));
    let passed = AtomicU64::new(0);
    // Ten seconds, one after the other: the rate gives 100 in each, until the quota of 500 is used up.
    for (second, expected) in (0..10).zip([100, 200, 300, 400, 500, 500, 500, 500, 500, 500]) {
        let now = Now { boot: NOW.boot + Duration::from_secs(second), unix_seconds: NOW.unix_seconds };
        std::thread::scope(|threads| {
            for _ in 0..THREADS {
                threads.spawn(|| {
                    for _ in 0..20 {
                        with_ask((1, false, 2), |ask| {
                            let code = verifier.check(ask, now).code();
                            passed.fetch_add(u64::from(code == Code::Valid), Ordering::Relaxed);
                        });
                    }
                });
            }
        });
        assert_eq!(passed.load(Ordering::Relaxed), expected, "after second {second}");
    }
    let mut counted = Vec::new();
    verifier.index().collect_uses(|uses| counted.push(uses));
    let [uses] = counted.as_slice() else { panic!("one key was used: {counted:?}") };
    assert_eq!(u64::from(uses.passed), 500);
    assert_eq!(u64::from(uses.passed + uses.limited + uses.exceeded), THREADS * 20 * 10);
    let wide = uses.quotas.iter().find(|quota| quota.name == "c-wide").unwrap();
    assert_eq!(wide.counted & ((1 << 48) - 1), 500, "what was refused for another limit took nothing from this one");
    let mut again = 0;
    verifier.index().collect_uses(|_uses| again += 1);
    assert_eq!(again, 0, "nothing is handed over twice");
}
