//! Suspending an organization: every key beneath it stops at once, nobody else's does, and resuming gives them back.

use serde_json::{Value, json};

use crate::app::TestApp;
use crate::surfaces::Fate;

const SUSPEND: &str = "/api/operator/organizations/2/suspend";
const RESUME: &str = "/api/operator/organizations/2/resume";

/// An organization with keys of every kind, beside the first one.
struct Tenant {
    owner: String,
    /// Of every kind, that owner key among them.
    values: Vec<String>,
    /// Numbers and values of keys of its project, one to revoke and one that was.
    doomed: (i64, String),
    revoked: String,
}

async fn tenant(app: &TestApp) -> Tenant {
    let (_, owner) = app.organization("acme").await;
    let project = app.project(&owner, "Shop").await;
    let keys = format!("/api/admin/projects/{project}/keys");
    let (_, secret) = app.made(&owner, &keys, json!({"name": "secret", "role": "admin"})).await;
    let (_, publishable) = app.made(&owner, &keys, json!({"name": "publishable", "scope": "public"})).await;
    let own = "/api/admin/organizations/api-keys";
    let (_, member) = app.made(&owner, own, json!({"name": "member", "role": "member"})).await;
    let system_keys = format!("/api/operator/projects/{project}/system-keys");
    let (_, system) = app.made(app.operator(), &system_keys, json!({"name": "relay"})).await;
    let doomed = app.made(&owner, &keys, json!({"name": "doomed"})).await;
    let (id, revoked) = app.made(&owner, &keys, json!({"name": "revoked"})).await;
    app.does(&owner, ("DELETE", &format!("{keys}/{id}")), None).await;
    Tenant { values: vec![owner.clone(), secret, publishable, member, system], owner, doomed, revoked }
}

impl Tenant {
    async fn assert_all(&self, app: &TestApp, fate: Fate) {
        for value in &self.values {
            assert_eq!(app.fate(value).await, fate, "{}", &value[..3]);
        }
        assert_eq!(app.fate(&self.revoked).await, Fate::Dead);
    }
}

#[tokio::test]
async fn every_key_stops_at_once_and_nobody_elses_does() {
    let app = TestApp::new().await;
    let tenant = tenant(&app).await;
    let (_, beside) = app.organization("beside").await;
    tenant.assert_all(&app, Fate::Alive).await;
    app.does(app.operator(), ("POST", SUSPEND), None).await;
    tenant.assert_all(&app, Fate::Suspended).await;
    for value in [app.admin(), app.owner(), app.operator(), &beside] {
        assert_eq!(app.fate(value).await, Fate::Alive);
    }
    app.does(app.operator(), ("POST", RESUME), None).await;
    tenant.assert_all(&app, Fate::Alive).await;
    assert_eq!(app.fate(&tenant.doomed.1).await, Fate::Alive);
}

#[tokio::test]
async fn a_suspended_key_is_told_what_an_unknown_one_is_told() {
    let app = TestApp::new().await;
    let tenant = tenant(&app).await;
    app.does(app.operator(), ("POST", SUSPEND), None).await;
    let told = async |value: &str, path: &str| {
        let reply = app.ask(value, ("GET", path), None).await;
        let challenge = reply.headers["www-authenticate"].to_str().unwrap().to_owned();
        let mut body = reply.json();
        body["request_id"] = Value::Null;
        (reply.status, challenge, body)
    };
    let unknown = told("sk_unknown", "/api/client/me").await;
    for path in ["/api/client/me", "/api/client/keys", "/api/admin/projects/2/keys", "/api/operator/operator-keys"] {
        for value in tenant.values.iter().chain([&tenant.revoked]) {
            assert_eq!(told(value, path).await, unknown, "{path}");
        }
    }
}

#[tokio::test]
async fn a_suspended_organization_changes_nothing() {
    let app = TestApp::new().await;
    let tenant = tenant(&app).await;
    app.does(app.operator(), ("POST", SUSPEND), None).await;
    let entries = app.entries().await;
    for (value, method, path, body) in [
        (&tenant.values[1], "POST", "/api/client/keys", Some(json!({"name": "x"}))),
        (&tenant.owner, "POST", "/api/admin/projects/2/keys", Some(json!({"name": "x"}))),
        (&tenant.owner, "PATCH", "/api/admin/projects/2", Some(json!({"name": "x"}))),
        (&tenant.owner, "DELETE", "/api/admin/projects/2?confirm=true", None),
        (&tenant.owner, "POST", RESUME, None),
    ] {
        assert_eq!(app.ask(value, (method, path), body).await.status, 401, "{method} {path}");
    }
    assert_eq!(app.entries().await, entries);
}

#[tokio::test]
async fn what_is_revoked_meanwhile_stays_dead() {
    let app = TestApp::new().await;
    let tenant = tenant(&app).await;
    let (system, relay) =
        app.made(app.operator(), "/api/operator/projects/2/system-keys", json!({"name": "second relay"})).await;
    app.does(app.operator(), ("POST", SUSPEND), None).await;
    // Of this organization only the operator can still revoke anything: its system keys.
    let path = format!("/api/operator/projects/2/system-keys/{system}");
    app.does(app.operator(), ("DELETE", &path), None).await;
    assert_eq!(app.fate(&relay).await, Fate::Dead);
    app.does(app.operator(), ("POST", RESUME), None).await;
    assert_eq!(app.fate(&relay).await, Fate::Dead);
    tenant.assert_all(&app, Fate::Alive).await;

    // And a revocation between two suspensions holds through both.
    let path = format!("/api/admin/projects/2/keys/{}", tenant.doomed.0);
    app.does(&tenant.owner, ("DELETE", &path), None).await;
    for (route, fate) in [(SUSPEND, Fate::Suspended), (RESUME, Fate::Alive)] {
        app.does(app.operator(), ("POST", route), None).await;
        tenant.assert_all(&app, fate).await;
        assert_eq!(app.fate(&tenant.doomed.1).await, Fate::Dead);
    }
}

#[tokio::test]
async fn what_is_made_meanwhile_waits_for_the_end_of_it() {
    let app = TestApp::new().await;
    let tenant = tenant(&app).await;
    app.does(app.operator(), ("POST", SUSPEND), None).await;
    let path = "/api/operator/projects/2/system-keys";
    let (id, made) = app.made(app.operator(), path, json!({"name": "made meanwhile"})).await;
    assert_eq!(app.fate(&made).await, Fate::Suspended);
    let rotated = app.does(app.operator(), ("POST", &format!("{path}/{id}/rotate")), None).await;
    let rotated = rotated["value"].as_str().unwrap();
    assert_eq!((app.fate(&made).await, app.fate(rotated).await), (Fate::Dead, Fate::Suspended));
    app.does(app.operator(), ("POST", RESUME), None).await;
    assert_eq!((app.fate(&made).await, app.fate(rotated).await), (Fate::Dead, Fate::Alive));
    tenant.assert_all(&app, Fate::Alive).await;
}

#[tokio::test]
async fn it_survives_a_restart_and_so_does_its_end() {
    let app = TestApp::new().await;
    let tenant = tenant(&app).await;
    app.does(app.operator(), ("POST", SUSPEND), None).await;
    let app = app.restarted().await;
    tenant.assert_all(&app, Fate::Suspended).await;
    assert_eq!(app.fate(app.owner()).await, Fate::Alive);
    let read = app.does(app.operator(), ("GET", "/api/operator/organizations/2"), None).await;
    assert_eq!((&read["state"], &read["live_keys"]), (&json!("suspended"), &json!(6)));

    app.does(app.operator(), ("POST", RESUME), None).await;
    tenant.assert_all(&app, Fate::Alive).await;
    let app = app.restarted().await;
    tenant.assert_all(&app, Fate::Alive).await;
    app.entries().await;
}

#[tokio::test]
async fn it_shows_in_its_own_log_when_it_is_over() {
    let app = TestApp::new().await;
    let tenant = tenant(&app).await;
    app.does(app.operator(), ("POST", SUSPEND), None).await;
    app.does(app.operator(), ("POST", RESUME), None).await;
    let log = app.does(&tenant.owner, ("GET", "/api/admin/audit-events?target=organization&limit=2"), None).await;
    let actions: Vec<_> = log["results"].as_array().unwrap().iter().map(|event| &event["action"]).collect();
    assert_eq!(actions, ["organization.resume", "organization.suspend"]);
    let states = |event: &Value| (event["before"]["state"].clone(), event["after"]["state"].clone());
    assert_eq!(states(&log["results"][1]), (json!("active"), json!("suspended")));
}
