//! `Idempotency-Key` on the calls of organizations and operators: done once, answered again, and only to the caller it was
//! answered to.

use serde_json::{Value, json};

use crate::app::{Reply, TestApp};
use crate::surfaces::{Fate, Route, ids};

const ORGANIZATIONS: &str = "/api/operator/organizations";

async fn once(app: &TestApp, key: &str, once: &str, route: Route<'_>, body: Option<Value>) -> Reply {
    app.call_with(key, route, body, &[("Idempotency-Key", once)]).await
}

fn is_replayed(reply: &Reply) -> bool {
    reply.headers.get("idempotent-replayed").is_some_and(|value| value == "true")
}

fn code(reply: &Reply) -> (u16, Value) {
    (reply.status, reply.json()["code"].clone())
}

/// Something beneath each path: a system key 4, an organization key 5, a project key 6, an organization 2.
async fn furnished() -> TestApp {
    let app = TestApp::new().await;
    app.system_key(json!({"name": "relay"})).await;
    app.organization_key("member").await;
    app.create(json!({"name": "bot"})).await;
    app.organization("acme").await;
    app
}

/// Every POST and PATCH of these surfaces, a body for it, and another that is as good; bare calls have no other.
fn calls() -> Vec<(Route<'static>, Option<Value>, Option<Value>)> {
    let named = |name: &str| Some(json!({"name": name}));
    let project = |name: &str| Some(json!({"name": name, "locale": "en", "timezone": "UTC"}));
    vec![
        (("POST", "/api/admin/organizations/api-keys"), named("a"), named("b")),
        (("PATCH", "/api/admin/organizations/api-keys/5"), named("a"), named("b")),
        (("POST", "/api/admin/projects"), project("a"), project("b")),
        (("PATCH", "/api/admin/projects/1"), named("a"), named("b")),
        (("POST", "/api/admin/projects/1/keys"), named("a"), named("b")),
        (("PATCH", "/api/admin/projects/1/keys/6"), named("a"), named("b")),
        (("POST", ORGANIZATIONS), Some(json!({"username": "a"})), Some(json!({"username": "b"}))),
        (("POST", "/api/operator/organizations/2/suspend"), None, Some(json!({}))),
        (("POST", "/api/operator/organizations/2/resume"), Some(json!({})), None),
        (("POST", "/api/operator/projects/1/system-keys"), named("a"), named("b")),
        (("POST", "/api/operator/projects/1/system-keys/4/rotate"), None, Some(json!({}))),
        (("POST", "/api/operator/operator-keys"), named("a"), named("b")),
        (("POST", "/api/operator/follower-keys"), named("a"), named("b")),
    ]
}

fn caller<'a>(app: &'a TestApp, (_, path): Route<'_>) -> &'a str {
    if path.starts_with("/api/admin/") { app.owner() } else { app.operator() }
}

#[test]
fn no_call_that_takes_the_header_is_left_out() {
    let document = serde_json::to_value(keyrack_server::http::openapi()).unwrap();
    let mut routes = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        let is_of_others = path.starts_with("/api/admin/") || path.starts_with("/api/operator/");
        for (method, operation) in operations.as_object().unwrap().iter().filter(|_| is_of_others) {
            let text = operation["parameters"].to_string();
            let takes_it = method == "post" || method == "patch";
            assert_eq!(text.contains("Idempotency-Key"), takes_it, "{method} {path}");
            routes += usize::from(takes_it);
        }
    }
    assert_eq!(routes, calls().len());
}

#[tokio::test]
async fn the_same_request_gets_the_same_reply_and_is_done_once() {
    for (route, body, _) in calls() {
        let app = furnished().await;
        let key = caller(&app, route);
        let first = once(&app, key, "once", route, body.clone()).await;
        assert_eq!((first.status, is_replayed(&first)), (200, false), "{route:?}: {}", first.text);
        let entries = app.entries().await;
        app.advance_seconds(60 * 60 * 24 - 1);
        let again = once(&app, key, "once", route, body).await;
        assert_eq!((again.status, is_replayed(&again)), (200, true), "{route:?}: {}", again.text);
        assert_eq!(again.text, first.text, "{route:?}");
        assert_eq!(again.headers["content-type"], "application/json");
        assert_ne!(again.headers["x-request-id"], first.headers["x-request-id"]);
        assert_eq!(app.entries().await, entries, "{route:?}");
    }
}

#[tokio::test]
async fn another_body_method_or_path_is_a_mismatch() {
    let mismatch = (409, json!("idempotency_key_mismatch"));
    for (route, body, other) in calls() {
        let app = furnished().await;
        let key = caller(&app, route);
        assert_eq!(once(&app, key, "once", route, body.clone()).await.status, 200, "{route:?}");
        let entries = app.entries().await;
        assert_eq!(code(&once(&app, key, "once", route, other).await), mismatch, "{route:?}");
        for (another, body, _) in calls() {
            if another != route && caller(&app, another) == key {
                assert_eq!(code(&once(&app, key, "once", another, body).await), mismatch, "{route:?}, {another:?}");
            }
        }
        assert_eq!(app.entries().await, entries, "{route:?}");
    }
}

#[tokio::test]
async fn a_suspension_is_replayed_as_it_was_and_not_done_again() {
    let app = furnished().await;
    let (suspend, resume) = ("/api/operator/organizations/2/suspend", "/api/operator/organizations/2/resume");
    let first = once(&app, app.operator(), "late", ("POST", suspend), None).await;
    app.does(app.operator(), ("POST", resume), None).await;
    let again = once(&app, app.operator(), "late", ("POST", suspend), None).await;
    assert_eq!((is_replayed(&again), &again.text), (true, &first.text));
    assert_eq!(again.json()["state"], "suspended");
    let now = app.does(app.operator(), ("GET", "/api/operator/organizations/2"), None).await;
    assert_eq!(now["state"], "active");
}

#[tokio::test]
async fn a_rotation_is_done_once_and_its_value_comes_again() {
    let app = furnished().await;
    let route = ("POST", "/api/operator/projects/1/system-keys/4/rotate");
    let first = once(&app, app.operator(), "rotate", route, None).await.json();
    let value = first["value"].as_str().unwrap();
    let again = once(&app, app.operator(), "rotate", route, None).await;
    assert_eq!(again.json()["value"], value);
    assert_eq!(app.fate(value).await, Fate::Alive);
    // Without the header it is asked for anew, of a key that is dead.
    assert_eq!(app.ask(app.operator(), route, None).await.status, 404);
    let listed = app.does(app.operator(), ("GET", "/api/operator/projects/1/system-keys"), None).await;
    assert_eq!(ids(&listed), [first["id"].as_i64().unwrap()]);
}

#[tokio::test]
async fn a_refusal_is_kept_like_a_success() {
    let app = furnished().await;
    let taken = Some(json!({"username": "acme"}));
    let refusals = [
        (app.operator(), ("POST", ORGANIZATIONS), taken, 409),
        (app.operator(), ("POST", ORGANIZATIONS), Some(json!({"username": "A"})), 422),
        (app.operator(), ("POST", "/api/operator/organizations/99/suspend"), None, 404),
        (app.operator(), ("POST", "/api/operator/organizations/2/resume"), Some(json!({"a": 1})), 422),
        (app.operator(), ("POST", "/api/operator/projects/1/system-keys/6/rotate"), None, 404),
        (app.owner(), ("POST", "/api/admin/projects"), Some(json!({"name": "a"})), 422),
        (app.owner(), ("PATCH", "/api/admin/projects/99"), Some(json!({"name": "a"})), 404),
        (app.owner(), ("PATCH", "/api/admin/projects/1/keys/4"), Some(json!({"name": "a"})), 409),
    ];
    for (at, (key, route, body, status)) in refusals.into_iter().enumerate() {
        let name = format!("refusal {at}");
        let first = once(&app, key, &name, route, body.clone()).await;
        let again = once(&app, key, &name, route, body).await;
        assert_eq!((first.status, is_replayed(&first)), (status, false), "{route:?}: {}", first.text);
        assert_eq!((&again.text, is_replayed(&again)), (&first.text, true), "{route:?}");
        assert_eq!(again.headers["content-type"], "application/problem+json");
    }
    // 403 for too low a role is decided anew: it is about the caller, not the request.
    let (id, admin) = app.organization_key("admin").await;
    let route = ("POST", "/api/admin/organizations/api-keys");
    let body = Some(json!({"name": "a"}));
    assert_eq!(once(&app, &admin, "role", route, body.clone()).await.status, 403);
    let path = format!("/api/admin/organizations/api-keys/{id}");
    app.does(app.owner(), ("PATCH", &path), Some(json!({"role": "owner"}))).await;
    let let_in = once(&app, &admin, "role", route, body).await;
    assert_eq!((let_in.status, is_replayed(&let_in)), (200, false));
}

#[tokio::test]
async fn a_value_comes_again_for_its_own_caller_only() {
    let app = TestApp::new().await;
    let path = "/api/operator/operator-keys";
    let (_, second) = app.made(app.operator(), path, json!({"name": "second"})).await;
    let route = ("POST", ORGANIZATIONS);
    let body = Some(json!({"username": "acme"}));
    let first = once(&app, app.operator(), "1", route, body.clone()).await;
    let owner = first.json()["owner_key"]["value"].as_str().unwrap().to_owned();
    // The same request by another operator is another request: the username is taken, and no value is in the answer.
    let other = once(&app, &second, "1", route, body.clone()).await;
    assert_eq!((code(&other), is_replayed(&other)), ((409, json!("resource_already_exists")), false));
    assert!(!other.text.contains(&owner));
    assert_eq!(once(&app, app.operator(), "1", route, body.clone()).await.text, first.text);
    // A dead caller gets nothing again.
    app.does(&second, ("DELETE", &format!("{path}/1")), None).await;
    assert_eq!(once(&app, app.operator(), "1", route, body).await.status, 401);
}

#[tokio::test]
async fn a_kept_value_is_nowhere_on_disk() {
    let app = TestApp::new().await;
    let mut values = vec![app.operator().to_owned(), app.owner().to_owned()];
    for (name, (key, path), body) in [
        ("1", (app.operator(), ORGANIZATIONS), json!({"username": "acme"})),
        ("2", (app.operator(), "/api/operator/operator-keys"), json!({"name": "second"})),
        ("3", (app.operator(), "/api/operator/projects/1/system-keys"), json!({"name": "relay"})),
        ("4", (app.owner(), "/api/admin/organizations/api-keys"), json!({"name": "desk"})),
        ("5", (app.owner(), "/api/admin/projects/1/keys"), json!({"name": "bot"})),
    ] {
        let made = once(&app, key, name, ("POST", path), Some(body)).await.json();
        let value = made["value"].as_str().or(made["owner_key"]["value"].as_str()).unwrap();
        values.push(value.to_owned());
    }
    app.app.store.close().await;
    for entry in std::fs::read_dir(app.data_dir()).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        for value in &values {
            // Not even a good part of it, but for the four characters of the mask.
            let part = &value.as_bytes()[3..19];
            assert!(!bytes.windows(part.len()).any(|window| window == part), "{}", path.display());
        }
    }
}

#[tokio::test]
async fn a_reply_is_kept_over_a_restart() {
    let app = TestApp::new().await;
    let body = Some(json!({"username": "acme"}));
    let first = once(&app, app.operator(), "1", ("POST", ORGANIZATIONS), body.clone()).await;
    let app = app.restarted().await;
    let again = once(&app, app.operator(), "1", ("POST", ORGANIZATIONS), body).await;
    assert_eq!((is_replayed(&again), &again.text), (true, &first.text));
}

#[tokio::test]
async fn a_suspended_caller_gets_no_kept_reply_until_it_is_resumed() {
    let app = TestApp::new().await;
    let (_, owner) = app.organization("acme").await;
    let route = ("POST", "/api/admin/organizations/api-keys");
    let body = Some(json!({"name": "desk"}));
    let first = once(&app, &owner, "1", route, body.clone()).await;
    app.does(app.operator(), ("POST", "/api/operator/organizations/2/suspend"), None).await;
    assert_eq!(once(&app, &owner, "1", route, body.clone()).await.status, 401);
    app.does(app.operator(), ("POST", "/api/operator/organizations/2/resume"), None).await;
    let again = once(&app, &owner, "1", route, body).await;
    assert_eq!((is_replayed(&again), &again.text), (true, &first.text));
}
