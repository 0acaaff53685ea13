//! Whatever a tenant asks, with whatever it may have learned of another, it gets nothing of the other, changes nothing of
//! it, and cannot tell what the other has from what nobody has.

mod tenant;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use serde_json::{Value, json};

use self::tenant::{Caller, Reach, World};
use crate::app::Reply;

/// Numbers that nothing has, for a project and for a key.
const NOBODY: [i64; 2] = [4_000_000, 8_000_000_000];

/// Every route of a tenant, and some of the operator's. `{p}` is a project, `{k}` a key, `{o}` an organization.
const ROUTES: [(&str, &str); 40] = [
    ("GET", "/api/client/keys"),
    ("POST", "/api/client/keys"),
    ("GET", "/api/client/keys/{k}"),
    ("PATCH", "/api/client/keys/{k}"),
    ("DELETE", "/api/client/keys/{k}"),
    ("GET", "/api/client/keys/{k}/usage"),
    ("GET", "/api/client/usage"),
    ("GET", "/api/client/me"),
    ("GET", "/api/client/audit-events"),
    ("GET", "/api/admin/organizations/me"),
    ("GET", "/api/admin/organizations/api-keys"),
    ("POST", "/api/admin/organizations/api-keys"),
    ("GET", "/api/admin/organizations/api-keys/{k}"),
    ("PATCH", "/api/admin/organizations/api-keys/{k}"),
    ("DELETE", "/api/admin/organizations/api-keys/{k}"),
    ("GET", "/api/admin/projects"),
    ("POST", "/api/admin/projects"),
    ("GET", "/api/admin/projects/{p}"),
    ("PATCH", "/api/admin/projects/{p}"),
    ("DELETE", "/api/admin/projects/{p}"),
    ("DELETE", "/api/admin/projects/{p}?confirm=true"),
    ("GET", "/api/admin/projects/{p}/keys"),
    ("POST", "/api/admin/projects/{p}/keys"),
    ("GET", "/api/admin/projects/{p}/keys/{k}"),
    ("PATCH", "/api/admin/projects/{p}/keys/{k}"),
    ("DELETE", "/api/admin/projects/{p}/keys/{k}"),
    ("GET", "/api/admin/projects/{p}/keys/{k}/usage"),
    ("GET", "/api/admin/projects/{p}/usage"),
    ("GET", "/api/admin/projects/{p}/members"),
    ("PUT", "/api/admin/projects/{p}/members/{k}"),
    ("DELETE", "/api/admin/projects/{p}/members/{k}"),
    ("GET", "/api/admin/audit-events"),
    ("GET", "/api/operator/organizations"),
    ("POST", "/api/operator/organizations/{o}/suspend"),
    ("DELETE", "/api/operator/organizations/{o}?confirm=true"),
    ("GET", "/api/operator/projects/{p}/system-keys"),
    ("POST", "/api/operator/projects/{p}/system-keys/{k}/rotate"),
    ("DELETE", "/api/operator/operator-keys/{k}"),
    ("DELETE", "/api/operator/follower-keys/{k}"),
    ("GET", "/api/operator/audit-events"),
];

/// One thing to ask, as it is drawn.
#[derive(Clone, Debug)]
struct Drawn {
    caller: Index,
    route: Index,
    /// Whether the project, and the key, are the caller's own where that does no harm.
    is_own: [bool; 2],
    ids: [Index; 3],
    query: Vec<(usize, Index)>,
    cursor: Option<Index>,
    once: Option<Index>,
    patch: Index,
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let ids = any::<[Index; 3]>();
    let query = proptest::collection::vec((0..10_usize, any::<Index>()), 0..4);
    let cursor = proptest::option::weighted(0.4, any::<Index>());
    let once = proptest::option::weighted(0.3, any::<Index>());
    (any::<Index>(), any::<Index>(), any::<[bool; 2]>(), ids, query, cursor, once, any::<Index>()).prop_map(
        |(caller, route, is_own, ids, query, cursor, once, patch)| Drawn {
            caller,
            route,
            is_own,
            ids,
            query,
            cursor,
            once,
            patch,
        },
    )
}

/// What is asked: the same question with what is foreign replaced by what nobody has is its twin.
struct Question {
    method: &'static str,
    path: String,
    twin: Option<String>,
    body: Option<Value>,
    once: Option<String>,
}

impl Drawn {
    fn question(&self, world: &World, caller: &Caller) -> Question {
        // Mostly its own surface: on the others it is a stranger like any other.
        let own = ROUTES.iter().filter(|(_, path)| path.starts_with(caller.surface()));
        let routes: Vec<_> = own.cycle().take(4 * ROUTES.len()).chain(&ROUTES).collect();
        let (method, template) = **self.route.get(&routes);
        let foreign = caller.foreign(world);
        // What would hurt the caller's own things is only asked of others.
        let is_harmless = method == "GET" || (method == "POST" && template.ends_with("/keys"));
        let (own_project, own_key) = (self.is_own[0], self.is_own[1] && is_harmless);
        let own_project = own_project && (is_harmless || template.contains("{k}") && !own_key);
        let project =
            if own_project { *self.ids[0].get(&caller.own.projects) } else { *self.ids[0].get(&foreign.projects) };
        let key = if own_key { *self.ids[1].get(&caller.own.keys) } else { *self.ids[1].get(&foreign.keys) };
        let organization = *self.ids[2].get(&[world.other.organization, 77]);
        let fill = |project: i64, key: i64| {
            template
                .replace("{p}", &project.to_string())
                .replace("{k}", &key.to_string())
                .replace("{o}", &organization.to_string())
        };
        let [nobodys_project, nobodys_key] = NOBODY;
        let twin = fill(if own_project { project } else { nobodys_project }, if own_key { key } else { nobodys_key });
        let path = fill(project, key);
        let is_list = method == "GET" && !template.contains('}')
            || template.ends_with("/keys")
            || template.ends_with("/members")
            || template.ends_with("system-keys");
        let query = if method == "GET" && is_list { self.query(world, foreign, template) } else { String::new() };
        Question {
            method,
            twin: (twin != path).then(|| format!("{twin}{query}")),
            path: format!("{path}{query}"),
            body: self.body(method, template),
            once: self.once.filter(|_| method != "GET").map(|at| at.get(&world.other.once).clone()),
        }
    }

    fn query(&self, world: &World, foreign: &Reach, template: &str) -> String {
        let is_audit = template.ends_with("audit-events");
        let mut parts: Vec<(&str, String)> = Vec::new();
        for (which, at) in &self.query {
            let key = *at.get(&foreign.keys);
            let part = match (which, is_audit) {
                (0, _) => ("limit", at.get(&["1", "2", "3", "100", "-1"]).to_string()),
                (1, false) => ("sort", at.get(&["created_at", "updated_at", "name", "role", "id"]).to_string()),
                (1, true) => ("sort", at.get(&["created_at", "id"]).to_string()),
                (2, _) => ("direction", at.get(&["asc", "desc"]).to_string()),
                (3, _) => ("page", at.get(&["next", "prev"]).to_string()),
                (4..=6, false) => ("q", at.get(&["", "a", "%", "_", "\\", world.other.mark, "key"]).to_string()),
                (4, true) => ("actor", format!("{}:{key}", at.get(&["secret_key", "organization_key"]))),
                (5, true) => {
                    ("target", at.get(&[format!("key:{key}"), format!("project:{}", foreign.projects[0])]).clone())
                }
                (6, true) => ("action", at.get(&["key.create", "project.create", "member.create"]).to_string()),
                (7, true) => ("since", "2026-01-01T00:00:00Z".to_owned()),
                _ => continue,
            };
            if !parts.iter().any(|(name, _)| *name == part.0) {
                parts.push(part);
            }
        }
        if let Some(at) = self.cursor {
            parts.push(("cursor", at.get(&world.cursors).clone()));
        }
        let encoded: String = form_urlencoded::Serializer::new(String::new()).extend_pairs(parts).finish();
        if encoded.is_empty() { encoded } else { format!("?{encoded}") }
    }

    fn body(&self, method: &str, template: &str) -> Option<Value> {
        let patches = [json!({"name": "mine"}), json!({"description": null}), json!({"description": "mine"})];
        match (method, template) {
            ("PUT", _) => Some(json!({"role": self.patch.get(&["support", "admin"])})),
            ("PATCH", _) => Some(self.patch.get(&patches).clone()),
            ("POST", path) if path.ends_with("suspend") || path.ends_with("rotate") => None,
            ("POST", path) if path.ends_with("/projects") => {
                Some(json!({"name": "mine", "locale": "en", "timezone": "UTC"}))
            }
            // The very body that the other tenant sent under some of its idempotency keys.
            ("POST", _) => Some(json!({"name": "plain"})),
            _ => None,
        }
    }
}

/// What is wrong with a reply, if anything is.
fn fault(world: &World, caller: &Caller, question: &Question, reply: &Reply) -> Option<String> {
    let headers: String = reply.headers.iter().map(|(name, value)| format!("{name}: {value:?}\n")).collect();
    let seen = format!("{headers}{}", reply.text).to_lowercase();
    let secrets = caller.unseen(world);
    let leak = secrets.iter().find(|secret| seen.contains(secret.as_str()));
    let unexpected = leak.map(|leak| format!("{leak:?} was seen"));
    let is_known = reply.headers.contains_key("idempotent-replayed") || reply.text.contains("idempotency_key_mismatch");
    let is_anothers = is_known && !caller.has_asked(question.once.as_deref());
    let unexpected = unexpected.or_else(|| is_anothers.then(|| "another's idempotency key was known".to_owned()));
    unexpected.or_else(|| (reply.status >= 500).then(|| "it failed".to_owned()))
}

/// A body without what is drawn anew for every reply.
fn without_request_id(reply: &Reply) -> (u16, String) {
    let mut text = reply.text.clone();
    if let Some(at) = text.find("\"req_") {
        text.replace_range(at..at + 32, "");
    }
    (reply.status, text)
}

async fn ask(world: &World, caller: &Caller, drawn: &Drawn) -> Result<(u16, bool), String> {
    let question = drawn.question(world, caller);
    let reply = world.send(caller, question.method, &question.path, &question).await;
    let told = |what: String| {
        let (method, path) = (question.method, &question.path);
        format!("{} asked {method} {path} {:?}: {what}: {}", caller.who, question.body, reply.text)
    };
    if let Some(fault) = fault(world, caller, &question, &reply) {
        return Err(told(fault));
    }
    world.note(caller, question.once.as_deref());
    let Some(twin) = &question.twin else { return Ok((reply.status, false)) };
    // Under the same idempotency key the twin would be another request.
    let without = Question { once: None, twin: None, path: twin.clone(), body: question.body.clone(), ..question };
    let first = world.send(caller, without.method, &question.path, &without).await;
    let of_nobody = world.send(caller, without.method, twin, &without).await;
    if without_request_id(&first) != without_request_id(&of_nobody) {
        return Err(format!("{}\nbut {twin} is answered {}", told("it can be told".to_owned()), of_nobody.text));
    }
    Ok((reply.status, first.status == 404))
}

#[test]
fn a_tenant_gets_and_changes_nothing_of_another() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let world = runtime.block_on(World::new());
    let (other, sibling) = runtime.block_on(world.snapshots());
    assert!(other.to_lowercase().matches(world.other.mark).count() > 100, "the other has much that could be seen");

    let config = Config { cases: 8_000, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let tally = std::cell::RefCell::new(std::collections::BTreeMap::<String, usize>::new());
    let outcome = runner.run(&drawn(), |drawn| {
        let caller = drawn.caller.get(&world.callers);
        let (status, is_hidden) = runtime.block_on(ask(&world, caller, &drawn)).map_err(TestCaseError::fail)?;
        let mut tally = tally.borrow_mut();
        *tally.entry(status.to_string()).or_default() += 1;
        *tally.entry("hidden".to_owned()).or_default() += usize::from(is_hidden);
        Ok(())
    });
    let tally = tally.into_inner();
    println!("isolation: {tally:?}");
    outcome.unwrap_or_else(|error| panic!("{error}"));
    for (what, least) in [("200", 1_000), ("400", 200), ("404", 1_000), ("hidden", 1_000)] {
        assert!(tally.get(what) >= Some(&least), "too few of {what} to show anything: {tally:?}");
    }
    let after = runtime.block_on(world.snapshots());
    assert_eq!(after.0, other, "something of the other tenant was changed");
    assert_eq!(after.1, sibling, "something of the sibling project was changed");
    assert_eq!(runtime.block_on(world.app.app.store.verify_audit()).unwrap().faults, Vec::<String>::new());
}
