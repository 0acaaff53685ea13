//! Who made a thing and who changed it last, for every kind of credential.

use serde_json::{Value, json};

use crate::app::TestApp;

fn authors(thing: &Value) -> (Value, Value) {
    (thing["created_by"].clone(), thing["last_changed_by"].clone())
}

fn by(kind: &str, id: i64) -> Value {
    json!({"kind": kind, "id": id})
}

#[tokio::test]
async fn of_a_key_that_the_host_made() {
    let app = TestApp::new().await;
    let host = json!({"kind": "host", "id": null});
    for (key, path) in [
        (app.admin(), "/api/client/keys/3"),
        (app.owner(), "/api/admin/projects/1/keys/3"),
        (app.owner(), "/api/admin/organizations/api-keys/2"),
        (app.owner(), "/api/admin/projects/1"),
        (app.operator(), "/api/operator/organizations/1"),
        (app.admin(), "/api/client/me"),
    ] {
        assert_eq!(authors(&app.does(key, ("GET", path), None).await), (host.clone(), host.clone()), "{path}");
    }
    let operators = app.does(app.operator(), ("GET", "/api/operator/operator-keys"), None).await;
    assert_eq!(authors(&operators["results"][0]), (host.clone(), host.clone()));

    // Who changes it is another matter; where it came from stays.
    let patch = Some(json!({"description": "changed"}));
    let patched = app.does(app.owner(), ("PATCH", "/api/admin/projects/1/keys/3"), patch.clone()).await;
    assert_eq!(authors(&patched), (host.clone(), by("organization_key", 2)));
    let patched = app.does(app.owner(), ("PATCH", "/api/admin/projects/1"), patch).await;
    assert_eq!(authors(&patched), (host, by("organization_key", 2)));
}

#[tokio::test]
async fn of_a_key_that_a_secret_key_made() {
    let app = TestApp::new().await;
    let (id, second) = app.create(json!({"name": "second", "role": "admin"})).await;
    let (own, at_owner) = (format!("/api/client/keys/{id}"), format!("/api/admin/projects/1/keys/{id}"));
    let read = app.does(app.admin(), ("GET", &own), None).await;
    assert_eq!(authors(&read), (by("secret_key", 3), by("secret_key", 3)));
    // By itself, by an owner, and by the end of it.
    let patched = app.does(&second, ("PATCH", &own), Some(json!({"name": "renamed"}))).await;
    assert_eq!(authors(&patched), (by("secret_key", 3), by("secret_key", id)));
    let patched = app.does(app.owner(), ("PATCH", &at_owner), Some(json!({"name": "again"}))).await;
    assert_eq!(authors(&patched), (by("secret_key", 3), by("organization_key", 2)));
    // What changes nothing has no author.
    let same = app.does(app.admin(), ("PATCH", &own), Some(json!({"name": "again"}))).await;
    assert_eq!(authors(&same), (by("secret_key", 3), by("organization_key", 2)));
    let revoked = app.does(app.admin(), ("DELETE", &own), None).await;
    assert_eq!(authors(&revoked), (by("secret_key", 3), by("secret_key", 3)));
}

#[tokio::test]
async fn of_what_an_organization_key_made() {
    let app = TestApp::new().await;
    let (admin_id, admin) = app.organization_key("admin").await;
    let (member_id, member) = app.member_as("admin").await;
    let by_admin = by("organization_key", admin_id);
    let project = app.project(&admin, "Shop").await;
    let path = format!("/api/admin/projects/{project}");
    let read = app.does(app.owner(), ("GET", &path), None).await;
    assert_eq!(authors(&read), (by_admin.clone(), by_admin.clone()));
    let patched = app.does(app.owner(), ("PATCH", &path), Some(json!({"name": "Store"}))).await;
    assert_eq!(authors(&patched), (by_admin.clone(), by("organization_key", 2)));

    let keys = format!("{path}/keys");
    let (key, value) = app.made(&admin, &keys, json!({"name": "bot", "role": "admin"})).await;
    let listed = app.does(app.owner(), ("GET", &keys), None).await;
    assert_eq!(authors(&listed["results"][0]), (by_admin.clone(), by_admin.clone()));
    let patched = app.does(&value, ("PATCH", &format!("/api/client/keys/{key}")), Some(json!({"name": "b"}))).await;
    assert_eq!(authors(&patched), (by_admin, by("secret_key", key)));

    let made = app.does(&member, ("POST", "/api/admin/projects/1/keys"), Some(json!({"name": "bot"}))).await;
    assert_eq!(authors(&made), (by("organization_key", member_id), by("organization_key", member_id)));
    let own = "/api/admin/organizations/api-keys/4";
    let patched = app.does(app.owner(), ("PATCH", own), Some(json!({"name": "desk"}))).await;
    assert_eq!(authors(&patched), (by("organization_key", 2), by("organization_key", 2)));
}

#[tokio::test]
async fn of_what_an_operator_key_made() {
    let app = TestApp::new().await;
    let path = "/api/operator/operator-keys";
    let (second_id, second) = app.made(app.operator(), path, json!({"name": "second"})).await;
    let (first, second_by) = (by("operator_key", 1), by("operator_key", second_id));

    let body = Some(json!({"username": "acme"}));
    let made = app.does(app.operator(), ("POST", "/api/operator/organizations"), body).await;
    assert_eq!(authors(&made["organization"]), (first.clone(), first.clone()));
    assert_eq!(authors(&made["owner_key"]), (first.clone(), first.clone()));
    let suspended = app.does(&second, ("POST", "/api/operator/organizations/2/suspend"), None).await;
    assert_eq!(authors(&suspended), (first.clone(), second_by.clone()));
    let archived = app.does(app.operator(), ("DELETE", "/api/operator/organizations/2?confirm=true"), None).await;
    assert_eq!(authors(&archived), (first.clone(), first.clone()));

    let (id, _) = app.system_key(json!({"name": "relay"})).await;
    let seen = app.does(app.admin(), ("GET", &format!("/api/client/keys/{id}")), None).await;
    assert_eq!(authors(&seen), (first.clone(), first));
    let rotate = format!("/api/operator/projects/1/system-keys/{id}/rotate");
    let rotated = app.does(&second, ("POST", &rotate), None).await;
    assert_eq!(authors(&rotated), (second_by.clone(), second_by));
}

#[tokio::test]
async fn they_survive_a_restart() {
    let app = TestApp::new().await;
    let (id, _) = app.create(json!({"name": "bot"})).await;
    let path = format!("/api/admin/projects/1/keys/{id}");
    let before = app.does(app.owner(), ("PATCH", &path), Some(json!({"name": "robot"}))).await;
    let app = app.restarted().await;
    let after = app.does(app.owner(), ("GET", &path), None).await;
    assert_eq!(after, before);
    assert_eq!(authors(&after), (by("secret_key", 3), by("organization_key", 2)));
}
