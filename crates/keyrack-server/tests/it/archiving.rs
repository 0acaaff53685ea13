//! Archiving a project or an organization: everything beneath it is dead for ever, and it is gone.

use serde_json::json;

use crate::app::TestApp;
use crate::surfaces::{Fate, ids};

const ORGANIZATION: &str = "/api/operator/organizations/2";

/// An organization with two projects and live keys of every kind.
struct Tenant {
    owner: String,
    /// A member that has the first project, and its number.
    member: (i64, String),
    /// Keys of the first project: secret, publishable, system, narrowed.
    first: Vec<String>,
    /// A key of the second.
    second: String,
}

const FIRST: &str = "/api/admin/projects/2";
const SECOND: &str = "/api/admin/projects/3";

async fn tenant(app: &TestApp) -> Tenant {
    let (_, owner) = app.organization("acme").await;
    assert_eq!((app.project(&owner, "First").await, app.project(&owner, "Second").await), (2, 3));
    let keys = format!("{FIRST}/keys");
    let mut first = Vec::new();
    for body in [json!({"name": "secret", "role": "admin"}), json!({"name": "publishable", "scope": "public"})] {
        first.push(app.made(&owner, &keys, body).await.1);
    }
    let system_keys = "/api/operator/projects/2/system-keys";
    first.push(app.made(app.operator(), system_keys, json!({"name": "relay"})).await.1);
    let (narrowed, value) = app.made(&owner, &keys, json!({"name": "narrowed"})).await;
    first.push(value);
    // Dead before, so not counted: it is not killed again.
    let (dead, _) = app.made(&owner, &keys, json!({"name": "dead"})).await;
    app.does(&owner, ("DELETE", &format!("{keys}/{dead}")), None).await;
    let (_, second) = app.made(&owner, &format!("{SECOND}/keys"), json!({"name": "second"})).await;
    let body = json!({"name": "member", "role": "member"});
    let member = app.made(&owner, "/api/admin/organizations/api-keys", body).await;
    app.does(&owner, ("PUT", &format!("{FIRST}/members/{}", member.0)), Some(json!({"role": "admin"}))).await;
    app.does(&owner, ("PATCH", &format!("{keys}/{narrowed}")), Some(json!({"role": "smtpproxy"}))).await;
    Tenant { owner, member, first, second }
}

async fn assert_all(app: &TestApp, values: &[String], fate: Fate) {
    for value in values {
        assert_eq!(app.fate(value).await, fate, "{}", &value[..3]);
    }
}

#[tokio::test]
async fn without_confirmation_nothing_is_done_and_the_keys_are_counted() {
    let app = TestApp::new().await;
    let tenant = tenant(&app).await;
    let entries = app.entries().await;
    for (key, path, keys) in [(&*tenant.owner, FIRST, 4), (&tenant.owner, SECOND, 1), (app.operator(), ORGANIZATION, 7)]
    {
        let (status, code, message) = app.refusal(key, ("DELETE", path), None).await;
        assert_eq!((status, code.as_str()), (409, "state_conflict"), "{path}");
        let expected = if keys == 1 { "1 live key,".to_owned() } else { format!("{keys} live keys,") };
        assert!(message.contains(&expected), "{path}: {message}");
        let not_true = app.code(key, ("DELETE", &format!("{path}?confirm=yes")), None).await;
        assert_eq!(not_true, (400, "parameter_invalid_format".to_owned()));
    }
    assert_eq!(app.entries().await, entries);
    assert_all(&app, &tenant.first, Fate::Alive).await;
    assert_eq!(app.does(&tenant.owner, ("GET", FIRST), None).await["name"], "First");
}

#[tokio::test]
async fn a_project_takes_its_keys_with_it_and_no_others() {
    let app = TestApp::new().await;
    let tenant = tenant(&app).await;
    let before = app.does(app.operator(), ("GET", ORGANIZATION), None).await;
    assert_eq!((&before["projects"], &before["live_keys"]), (&json!(2), &json!(7)));
    let entries = app.entries().await;
    app.advance_seconds(60);
    let archived = app.does(&tenant.owner, ("DELETE", &format!("{FIRST}?confirm=true")), None).await;
    assert_eq!((&archived["revoked_keys"], &archived["effective"]), (&json!(4), &json!("all")));
    assert_eq!((&archived["id"], &archived["name"], &archived["role"]), (&json!(2), &json!("First"), &json!("admin")));
    assert_eq!(archived["updated_at"], "2026-04-28T09:31:00.123Z");
    // One entry for each key and one for the project.
    assert_eq!(app.entries().await, entries + 5);

    assert_all(&app, &tenant.first, Fate::Dead).await;
    let others = [&tenant.second, &tenant.owner, &tenant.member.1, app.admin(), app.owner()];
    for value in others {
        assert_eq!(app.fate(value).await, Fate::Alive);
    }
    let after = app.does(app.operator(), ("GET", ORGANIZATION), None).await;
    assert_eq!((&after["projects"], &after["live_keys"]), (&json!(1), &json!(3)));
}

#[tokio::test]
async fn an_archived_project_is_missing_everywhere() {
    let app = TestApp::new().await;
    let tenant = tenant(&app).await;
    app.does(&tenant.owner, ("DELETE", &format!("{FIRST}?confirm=true")), None).await;
    let named = Some(json!({"name": "x"}));
    let member = tenant.member.0;
    let entries = app.entries().await;
    for (method, path, body) in [
        ("GET", FIRST.to_owned(), None),
        ("PATCH", FIRST.to_owned(), named.clone()),
        ("DELETE", FIRST.to_owned(), None),
        ("DELETE", format!("{FIRST}?confirm=true"), None),
        ("GET", format!("{FIRST}/keys"), None),
        ("POST", format!("{FIRST}/keys"), named.clone()),
        ("GET", format!("{FIRST}/keys/5"), None),
        ("PATCH", format!("{FIRST}/keys/5"), named.clone()),
        ("DELETE", format!("{FIRST}/keys/5"), None),
        ("GET", format!("{FIRST}/members"), None),
        ("PUT", format!("{FIRST}/members/{member}"), Some(json!({"role": "support"}))),
        ("DELETE", format!("{FIRST}/members/{member}"), None),
    ] {
        let code = app.code(&tenant.owner, (method, &path), body).await;
        assert_eq!(code, (404, "resource_missing".to_owned()), "{method} {path}");
    }
    assert_eq!(app.ask(&tenant.member.1, ("GET", FIRST), None).await.status, 404);
    let system = "/api/operator/projects/2/system-keys";
    for (method, path, body) in [
        ("GET", system.to_owned(), None),
        ("POST", system.to_owned(), named),
        ("DELETE", format!("{system}/7"), None),
        ("POST", format!("{system}/7/rotate"), None),
    ] {
        assert_eq!(app.ask(app.operator(), (method, &path), body).await.status, 404, "{method} {path}");
    }
    assert_eq!(ids(&app.does(&tenant.owner, ("GET", "/api/admin/projects"), None).await), [3]);
    let given = app.does(&tenant.member.1, ("GET", "/api/admin/projects"), None).await;
    assert_eq!(ids(&given), Vec::<i64>::new());
    assert_eq!(app.entries().await, entries);
}

#[tokio::test]
async fn an_organization_takes_everything_with_it_and_nobody_else() {
    let app = TestApp::new().await;
    let tenant = tenant(&app).await;
    let (_, beside) = app.organization("beside").await;
    let entries = app.entries().await;
    let archived = app.does(app.operator(), ("DELETE", &format!("{ORGANIZATION}?confirm=true")), None).await;
    assert_eq!((&archived["revoked_keys"], &archived["effective"]), (&json!(7), &json!("all")));
    assert_eq!((&archived["projects"], &archived["live_keys"]), (&json!(0), &json!(0)));
    // Seven keys, two projects, and itself.
    assert_eq!(app.entries().await, entries + 10);

    assert_all(&app, &tenant.first, Fate::Dead).await;
    assert_all(&app, &[tenant.second, tenant.owner, tenant.member.1], Fate::Dead).await;
    for value in [app.admin(), app.owner(), app.operator(), &beside] {
        assert_eq!(app.fate(value).await, Fate::Alive);
    }
}

#[tokio::test]
async fn an_archived_organization_is_missing_and_its_username_stays_taken() {
    let app = TestApp::new().await;
    let tenant = tenant(&app).await;
    app.does(app.operator(), ("DELETE", &format!("{ORGANIZATION}?confirm=true")), None).await;
    let app = app.restarted().await;
    let entries = app.entries().await;
    for (method, path, body) in [
        ("GET", ORGANIZATION.to_owned(), None),
        ("DELETE", ORGANIZATION.to_owned(), None),
        ("DELETE", format!("{ORGANIZATION}?confirm=true"), None),
        ("POST", format!("{ORGANIZATION}/suspend"), None),
        ("POST", format!("{ORGANIZATION}/resume"), None),
        ("GET", "/api/operator/projects/2/system-keys".to_owned(), None),
        ("POST", "/api/operator/projects/3/system-keys".to_owned(), Some(json!({"name": "x"}))),
    ] {
        let code = app.code(app.operator(), (method, &path), body).await;
        assert_eq!(code, (404, "resource_missing".to_owned()), "{method} {path}");
    }
    assert_eq!(ids(&app.does(app.operator(), ("GET", "/api/operator/organizations"), None).await), [1]);
    let again = Some(json!({"username": "acme"}));
    let taken = app.code(app.operator(), ("POST", "/api/operator/organizations"), again).await;
    assert_eq!(taken, (409, "resource_already_exists".to_owned()));
    assert_eq!(app.entries().await, entries);
    // Nothing of it has come back to life, nor has its number.
    assert_all(&app, &tenant.first, Fate::Dead).await;
    assert_all(&app, &[tenant.second, tenant.owner, tenant.member.1], Fate::Dead).await;
    assert_eq!(app.organization("acme-2").await.0, 3);
}

#[tokio::test]
async fn a_project_stays_archived_after_a_restart() {
    let app = TestApp::new().await;
    let tenant = tenant(&app).await;
    app.does(&tenant.owner, ("DELETE", &format!("{FIRST}?confirm=true")), None).await;
    let app = app.restarted().await;
    assert_all(&app, &tenant.first, Fate::Dead).await;
    assert_all(&app, &[tenant.second, tenant.member.1], Fate::Alive).await;
    assert_eq!(app.ask(&tenant.owner, ("GET", FIRST), None).await.status, 404);
    assert_eq!(app.project(&tenant.owner, "Third").await, 4);
    app.entries().await;
}

#[tokio::test]
async fn a_suspended_organization_can_be_archived_and_stays_dead() {
    let app = TestApp::new().await;
    let tenant = tenant(&app).await;
    app.does(app.operator(), ("POST", &format!("{ORGANIZATION}/suspend")), None).await;
    let archived = app.does(app.operator(), ("DELETE", &format!("{ORGANIZATION}?confirm=true")), None).await;
    assert_eq!(archived["revoked_keys"], 7);
    assert_all(&app, &tenant.first, Fate::Dead).await;
    assert_eq!(app.ask(app.operator(), ("POST", &format!("{ORGANIZATION}/resume")), None).await.status, 404);
    let app = app.restarted().await;
    assert_all(&app, &tenant.first, Fate::Dead).await;
    assert_eq!(app.fate(&tenant.owner).await, Fate::Dead);
}

#[tokio::test]
async fn the_log_of_what_was_archived_is_still_there() {
    let app = TestApp::new().await;
    let tenant = tenant(&app).await;
    app.does(&tenant.owner, ("DELETE", &format!("{FIRST}?confirm=true")), None).await;
    let log = app.does(&tenant.owner, ("GET", "/api/admin/audit-events?target=project:2"), None).await;
    let actions: Vec<_> = log["results"].as_array().unwrap().iter().map(|event| &event["action"]).collect();
    assert_eq!(actions, ["project.archive", "project.create"]);
    assert!(log["results"][0]["after"]["archived_at"].is_string());
    let revoked = app.does(&tenant.owner, ("GET", "/api/admin/audit-events?action=key.revoke"), None).await;
    assert_eq!(ids(&revoked).len(), 5);
    app.does(app.operator(), ("DELETE", &format!("{ORGANIZATION}?confirm=true")), None).await;
    let log = app.does(app.operator(), ("GET", "/api/operator/audit-events?target=organization:2&limit=1"), None).await;
    assert_eq!(log["results"][0]["action"], "organization.archive");
}
