//! How far a change is said to have reached: never farther than can be known.

use std::time::{Duration, Instant};

use keyrack::{Ask, AskedRequest};
use keyrack_server::clock::Clock as _;
use serde_json::{Value, json};

use crate::app::{Node, Reply, TestApp};
use crate::nodes::follow;

const KEYS: &str = "/api/client/keys";

async fn revoke(app: &TestApp, id: i64, patience: &str) -> Reply {
    app.call_with(app.admin(), ("DELETE", &format!("{KEYS}/{id}")), None, &[("Prefer", patience)]).await
}

/// As with a database that was cut off from its standby: it still answers reads, and who came since then is on another one's list.
#[tokio::test]
async fn a_list_that_no_commit_has_proven_says_nothing() {
    let app = TestApp::shared().await;
    let (id, _) = app.create(json!({"name": "key"})).await;
    let (other, _) = app.create(json!({"name": "other"})).await;
    let mut beside = app.beside().await;
    beside.break_it("UPDATE", "nodes", "").await;
    let revoked = revoke(&app, id, "wait=1").await;
    assert_eq!((revoked.status, &revoked.json()["effective"]), (200, &json!("partial")), "{}", revoked.text);
    let pending = revoked.json()["pending"].clone();
    assert!(pending.as_array().unwrap().iter().all(|node| node.get("until").is_none()), "{pending}");
    beside.mend("UPDATE", "nodes").await;
    assert_eq!(revoke(&app, other, "wait=5").await.json()["effective"], "all");
}

/// A node that was silent for long may have a heartbeat under way that began before the change.
#[tokio::test]
async fn until_counts_from_the_change() {
    let app = TestApp::shared().await;
    let _silent = app.another_node().await;
    let (id, _) = app.create(json!({"name": "key"})).await;
    let (next, _) = app.create(json!({"name": "next"})).await;
    let until =
        |reply: &Reply| reply.json()["pending"][0]["until"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let first = until(&revoke(&app, id, "wait=0").await);
    app.advance_seconds(3_600);
    // This one has a heartbeat.
    assert_eq!(app.as_operator(("GET", "/api/operator/nodes"), None).await.status, 200);
    let second = until(&revoke(&app, next, "wait=0").await);
    assert_eq!(second.duration_since(first).as_secs(), 3_600);
}

#[tokio::test]
async fn nobody_waits_longer_than_he_wants_to() {
    let app = TestApp::shared().await;
    let (id, _) = app.create(json!({"name": "key"})).await;
    let mut beside = app.beside().await;
    beside.run("BEGIN; LOCK TABLE nodes IN ACCESS EXCLUSIVE MODE").await;
    let began = Instant::now();
    let revoked = revoke(&app, id, "wait=1").await;
    assert_eq!((revoked.status, &revoked.json()["effective"]), (200, &json!("partial")), "{}", revoked.text);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    beside.run("COMMIT").await;
}

// ---- every way to take something away ------------------------------------------------------------------------------

/// A call that takes something away from a key; `{key}` and `{member}` are numbers.
struct Narrowing {
    who: &'static str,
    call: (&'static str, &'static str),
    body: Option<Value>,
}

const KEY: &str = "/api/client/keys/{key}";

fn narrowings() -> Vec<Narrowing> {
    let narrowing = |who, method, path, body| Narrowing { who, call: (method, path), body };
    let strict = json!({"policies": [{"name": "default", "read": "admin", "write": "admin", "rules": []}]});
    vec![
        narrowing("admin", "PATCH", KEY, Some(json!({"role": "support"}))),
        narrowing("admin", "PATCH", KEY, Some(json!({"scope": "public"}))),
        narrowing("admin", "PATCH", KEY, Some(json!({"permissions": []}))),
        narrowing("admin", "PATCH", KEY, Some(json!({"limits": [{"name": "few", "limit": 1, "period": "day"}]}))),
        narrowing("admin", "DELETE", KEY, None),
        narrowing("operator", "POST", "/api/operator/organizations/1/suspend", None),
        narrowing("owner", "DELETE", "/api/admin/projects/1?confirm=true", None),
        narrowing("operator", "DELETE", "/api/operator/organizations/1?confirm=true", None),
        narrowing("operator", "PUT", "/api/operator/policy", Some(strict)),
        narrowing("owner", "DELETE", "/api/admin/projects/1/members/{member}", None),
        narrowing("owner", "DELETE", "/api/admin/organizations/api-keys/{member}", None),
    ]
}

/// A store of two nodes, with what may be taken away.
struct Two {
    app: TestApp,
    other: Node,
    key: (i64, String),
    member: (i64, String),
}

impl Two {
    async fn new() -> Self {
        let app = TestApp::shared().await;
        let limits = json!([{"name": "few", "limit": 1_000_000, "period": "day"}]);
        let key = json!({"name": "key", "role": "editor", "permissions": ["a:b"], "limits": limits});
        let key = app.create(key).await;
        let member = app.organization_key("member").await;
        let path = format!("/api/admin/projects/1/members/{}", member.0);
        assert_eq!(app.as_owner(("PUT", &path), Some(json!({"role": "admin"}))).await.status, 200);
        let other = app.another_node().await;
        Self { app, other, key, member }
    }

    async fn takes_away(&self, narrowing: &Narrowing, patience: &str) -> Value {
        let (Narrowing { who, call: (method, path), body }, keys) = (narrowing, &self.app.first_keys);
        let path = path.replace("{key}", &self.key.0.to_string()).replace("{member}", &self.member.0.to_string());
        let caller = match *who {
            "operator" => keys.operator.expose(),
            "owner" => keys.organization.expose(),
            _ => keys.project.expose(),
        };
        let done = self.app.call_with(caller, (method, &path), body.clone(), &[("Prefer", patience)]).await;
        assert_eq!(done.status, 200, "{method} {path}: {}", done.text);
        done.json()
    }

    /// Whether all of it is let pass by the other node.
    async fn all_passes_there(&self) -> bool {
        let request = AskedRequest { method: b"POST", target: b"/things", policy: None };
        let (key, request) = (self.key.1.as_bytes(), Some(request));
        let ask = Ask { key, request, permission: Some("a:b"), cost: 2, ..Ask::default() };
        let verdict = self.other.app.verifier.check(&ask, self.app.clock.moment());
        let member = self.other.call(&self.member.1, ("GET", "/api/admin/projects/1"), None).await;
        verdict.outcome.is_ok() && member.status == 200
    }
}

#[tokio::test]
async fn whatever_is_taken_away_is_so_everywhere_when_that_is_said_and_not_before() {
    for narrowing in narrowings() {
        let two = Two::new().await;
        assert!(two.all_passes_there().await);
        let said = two.takes_away(&narrowing, "wait=0").await;
        let pending = said["pending"].as_array().map_or(0, Vec::len);
        assert_eq!(
            (&said["effective"], pending),
            (&json!("partial"), 1),
            "{:?}: the other has not heard of it",
            narrowing.call
        );

        let two = Two::new().await;
        let _following = follow(&two.other.app);
        let said = two.takes_away(&narrowing, "wait=20").await;
        assert_eq!(said["effective"], "all", "{:?}", narrowing.call);
        assert!(!two.all_passes_there().await, "{:?}", narrowing.call);
    }
}

/// What is narrower for other keys than those that the user's API is called with.
#[tokio::test]
async fn what_is_taken_away_from_keys_of_other_kinds_waits_too() {
    let app = TestApp::shared().await;
    let (member, _) = app.organization_key("member").await;
    let (manager, _) = app.organization_key("admin").await;
    let of_member = format!("/api/admin/projects/1/members/{member}");
    assert_eq!(app.as_owner(("PUT", &of_member), Some(json!({"role": "admin"}))).await.status, 200);
    let make = async |path: &str| {
        let made = app.as_operator(("POST", path), Some(json!({"name": "made"}))).await;
        format!("{path}/{}", made.json()["id"])
    };
    let operator_key = make("/api/operator/operator-keys").await;
    let follower_key = make("/api/operator/follower-keys").await;
    let system_key = make("/api/operator/projects/1/system-keys").await;
    let (key, _) = app.create(json!({"name": "key"})).await;
    let _silent = app.another_node().await;
    let (owner, operator) = (app.first_keys.organization.expose(), app.first_keys.operator.expose());
    for (caller, call, body) in [
        (owner, ("PUT", of_member.clone()), Some(json!({"role": "support"}))),
        (owner, ("PATCH", format!("/api/admin/organizations/api-keys/{manager}")), Some(json!({"role": "member"}))),
        (owner, ("DELETE", format!("/api/admin/projects/1/keys/{key}")), None),
        (operator, ("DELETE", operator_key), None),
        (operator, ("DELETE", follower_key), None),
        (operator, ("DELETE", system_key), None),
    ] {
        let done = app.call_with(caller, (call.0, &call.1), body, &[("Prefer", "wait=0")]).await;
        let pending = done.json()["pending"].as_array().map_or(0, Vec::len);
        assert_eq!((done.status, pending), (200, 1), "{call:?}: {}", done.text);
    }
}
