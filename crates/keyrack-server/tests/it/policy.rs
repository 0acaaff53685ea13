//! The policy: applied as a whole, in force at once and after a restart, in the log, and never quietly another one.

use axum::body::Body;
use axum::http::Request;
use keyrack::{Ask, AskedRequest, Now};
use serde_json::{Value, json};

use super::app::{Reply, TestApp};

const ROUTE: &str = "/api/operator/policy";

/// A policy that opens one path to publishable keys.
fn open(paths: &[&str]) -> Value {
    let rule = |path: &&str| json!({"methods": ["GET"], "path": path, "role": "support", "public": true});
    let rules: Vec<_> = paths.iter().map(rule).collect();
    json!({"policies": [{"name": "default", "read": "support", "write": "editor", "rules": rules}]})
}

async fn apply(app: &TestApp, query: &str, document: Value) -> Reply {
    app.as_operator(("PUT", &format!("{ROUTE}{query}")), Some(document)).await
}

/// The code that a key gets for a path.
fn verdict(app: &TestApp, key: &str, path: &str) -> &'static str {
    let request = AskedRequest { method: b"GET", target: path.as_bytes(), policy: None };
    let ask = Ask { key: key.as_bytes(), request: Some(request), ..Ask::default() };
    app.app.verifier.check(&ask, Now::default()).code().as_str()
}

#[tokio::test]
async fn it_is_applied_shown_and_logged_and_once_is_enough() {
    let app = TestApp::new().await;
    let builtin = app.as_operator(("GET", ROUTE), None).await.json();
    assert_eq!((&builtin["version"], &builtin["applied_at"]), (&json!(0), &Value::Null));
    assert_eq!(builtin["policies"][0]["name"], "default");

    let (_, key) = app.create(json!({"name": "x", "scope": "public"})).await;
    assert_eq!(verdict(&app, &key, "/one"), "FORBIDDEN");
    let applied = apply(&app, "", open(&["/one"])).await;
    assert_eq!(applied.status, 200, "{}", applied.text);
    let reply = applied.json();
    assert_eq!(
        (&reply["version"], &reply["previous_version"], &reply["changed"]),
        (&json!(1), &json!(0), &json!(true))
    );
    assert_eq!(reply["publishable_keys"][0]["would_gain"], json!(["default: GET /one"]));
    assert_eq!(verdict(&app, &key, "/one"), "FORBIDDEN", "it was issued before");
    let (_, later) = app.create(json!({"name": "y", "scope": "public"})).await;
    assert_eq!(verdict(&app, &later, "/one"), "VALID");

    let shown = app.as_operator(("GET", ROUTE), None).await.json();
    assert_eq!((&shown["version"], &shown["policies"]), (&json!(1), &open(&["/one"])["policies"]));
    let again = apply(&app, "", open(&["/one"])).await.json();
    assert_eq!((&again["version"], &again["changed"]), (&json!(1), &json!(false)));
    let shown = async |query: &str| app.as_operator(("GET", &format!("{ROUTE}{query}")), None).await;
    assert_eq!(shown("?version=0").await.json()["policies"], builtin["policies"]);
    assert_eq!(shown("?version=1").await.json()["version"], 1);
    assert_eq!(shown("?version=2").await.status, 404);
    for odd in ["?version=x", "?version=-1", "?version=1&version=0"] {
        assert_eq!(shown(odd).await.status, 400, "{odd}");
    }

    let events = app.as_operator(("GET", "/api/operator/audit-events?action=policy.apply"), None).await.json();
    let events = events["results"].as_array().unwrap();
    assert_eq!(events.len(), 1, "what changes nothing leaves no trace");
    assert_eq!((&events[0]["target"]["kind"], &events[0]["after"]["version"]), (&json!("policy"), &json!(1)));
    assert_eq!(app.app.store.verify_audit().await.unwrap().faults, Vec::<String>::new());
}

#[tokio::test]
async fn a_rehearsal_and_a_version_that_is_not_expected_change_nothing() {
    let app = TestApp::new().await;
    let rehearsed = apply(&app, "?dry_run=true", open(&["/one"])).await.json();
    assert_eq!((&rehearsed["version"], &rehearsed["changed"]), (&json!(0), &json!(true)));
    let refused = apply(&app, "?expected_version=3", open(&["/one"])).await;
    assert_eq!((refused.status, &refused.json()["code"]), (409, &json!("state_conflict")));
    assert_eq!(app.as_operator(("GET", ROUTE), None).await.json()["version"], 0);
    assert_eq!(apply(&app, "?expected_version=0", open(&["/one"])).await.json()["version"], 1);
    for query in ["?dry_run=yes", "?expected_version=x", "?else=1"] {
        assert_eq!(apply(&app, query, open(&[])).await.status, 400, "{query}");
    }
}

#[tokio::test]
async fn every_fault_is_named_at_once() {
    let app = TestApp::new().await;
    let document = json!({"policies": [
        {"name": "Default", "read": "nobody", "write": "editor", "more": 1, "rules": [
            {"methods": [], "path": "events", "role": "support"},
            {"methods": ["GET"], "path": "/a//b", "role": "king", "permission": "x"},
        ]},
    ]});
    let refused = apply(&app, "", document).await;
    assert_eq!(refused.status, 422);
    let params: Vec<_> = refused.json()["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|fault| fault["param"].as_str().unwrap().to_owned())
        .collect();
    for expected in [
        "policies.0.name",
        "policies.0.read",
        "policies.0.rules.0.methods",
        "policies.0.rules.0.path",
        "policies.0.rules.1.role",
        "policies.0.rules.1.path",
        "policies.0.rules.1.permission",
    ] {
        assert!(params.iter().any(|param| param == expected), "{expected} of {params:?}");
    }
    assert_eq!(app.as_operator(("GET", ROUTE), None).await.json()["version"], 0);

    let rule = r#"{"methods": ["GET"], "path": "/a", "role": "support", "public": false, "public": true}"#;
    let twice =
        format!(r#"{{"policies": [{{"name": "default", "read": "none", "write": "none", "rules": [{rule}]}}]}}"#);
    let bearer = format!("Bearer {}", app.first_keys.operator.expose());
    let request = Request::put(ROUTE).header("Authorization", bearer).header("Content-Type", "application/json");
    assert_eq!(app.send(request.body(Body::from(twice)).unwrap()).await.status, 400, "a field that is there twice");
}

#[tokio::test]
async fn it_is_in_force_after_a_restart_and_so_is_what_keys_are_frozen_at() {
    let app = TestApp::new().await;
    apply(&app, "", open(&["/one"])).await;
    let (_, early) = app.create(json!({"name": "early", "scope": "public"})).await;
    apply(&app, "", open(&["/one", "/two"])).await;
    let (_, late) = app.create(json!({"name": "late", "scope": "public"})).await;
    let app = app.restarted().await;
    let verdicts = |key: &str| ["/one", "/two"].map(|path| verdict(&app, key, path));
    assert_eq!(verdicts(&early), ["VALID", "FORBIDDEN"]);
    assert_eq!(verdicts(&late), ["VALID", "VALID"]);
    assert_eq!(app.as_operator(("GET", ROUTE), None).await.json()["version"], 2);
}

/// Changes the rows of policies behind the server's back.
async fn tamper(app: &TestApp, statement: &str) {
    app.beside().await.run(statement).await;
}

#[tokio::test]
async fn a_policy_that_was_tampered_with_is_no_reason_to_let_anybody_pass() {
    for statement in [
        "UPDATE policies SET document = replace(document, 'editor', 'support') WHERE id = 2",
        "DELETE FROM policies WHERE id = 2",
    ] {
        let app = TestApp::new().await;
        apply(&app, "", open(&["/one"])).await;
        apply(&app, "", open(&["/two"])).await;
        let (_, secret) = app.create(json!({"name": "secret"})).await;
        assert_eq!(verdict(&app, &secret, "/x"), "VALID");
        tamper(&app, statement).await;
        let app = app.restarted().await;
        assert_eq!(verdict(&app, &secret, "/x"), "UNAVAILABLE", "{statement}");
        assert!(!app.app.store.verify_audit().await.unwrap().faults.is_empty(), "{statement}");
        assert_eq!(apply(&app, "", open(&["/three"])).await.json()["version"], 3, "{statement}");
        assert_eq!(verdict(&app, &secret, "/x"), "VALID", "{statement}");
    }
}

/// How many keys the numbers are listed of.
const MOST_IDS: usize = 100;

#[tokio::test]
async fn of_many_keys_that_would_gain_something_the_first_are_listed_and_all_are_counted() {
    let app = TestApp::new().await;
    let mut ids = Vec::new();
    for nth in 0..=MOST_IDS {
        ids.push(app.create(json!({"name": nth.to_string(), "scope": "public"})).await.0);
    }
    app.create(json!({"name": "secret"})).await;
    let gains = async |query: &str, paths: &[&str]| {
        let reply = apply(&app, query, open(paths)).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply.json()["publishable_keys"].clone()
    };
    let gain = |version: u32, keys: usize, ids: &[i64], routes: &[&str]| {
        let routes: Vec<_> = routes.iter().map(|path| format!("default: GET {path}")).collect();
        json!({"policy_version": version, "keys": keys, "ids": ids, "would_gain": routes})
    };
    let cut = gain(0, MOST_IDS + 1, &ids[..MOST_IDS], &["/one"]);
    assert_eq!(gains("?dry_run=true", &["/one"]).await, json!([cut]));
    assert_eq!(gains("", &["/one"]).await, json!([cut]));

    // Of each version so many, and those of one do not count among those of another.
    let (later, _) = app.create(json!({"name": "later", "scope": "public"})).await;
    let both = [gain(0, MOST_IDS + 1, &ids[..MOST_IDS], &["/one", "/two"]), gain(1, 1, &[later], &["/two"])];
    assert_eq!(gains("?dry_run=true", &["/one", "/two"]).await, json!(both));

    let first = ids.remove(0);
    assert_eq!(app.call(("DELETE", &format!("/api/client/keys/{first}")), None).await.status, 200);
    let whole = [gain(0, MOST_IDS, &ids, &["/one", "/two"]), gain(1, 1, &[later], &["/two"])];
    assert_eq!(gains("?dry_run=true", &["/one", "/two"]).await, json!(whole), "so many are listed whole");
}
