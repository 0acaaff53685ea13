//! The calls of `/api/operator/projects/{projectId}/system-keys`, and what a tenant can do about such a key.

use expect_test::expect;
use serde_json::json;

use crate::app::TestApp;
use crate::surfaces::{Fate, faults, ids};

const KEYS: &str = "/api/operator/projects/1/system-keys";
const KEY: &str = "/api/operator/projects/1/system-keys/4";
const ROTATE: &str = "/api/operator/projects/1/system-keys/4/rotate";

#[tokio::test]
async fn create_gives_the_value_once() {
    let app = TestApp::new().await;
    let created = app.as_operator(("POST", KEYS), Some(json!({"name": "Mail relay", "role": "smtpproxy"}))).await;
    expect![[r#"
        200
        content-type: application/json
        x-keyrack-seq: 6
        x-request-id: req_05GD3T67GRZPCPXQ3RJTMW5VDT
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        x-ratelimit-limit: 500000
        x-ratelimit-remaining: 499999
        x-ratelimit-reset: 1777368611
        x-ratelimit-tier: starter
        content-length: 429

        {
          "id": 4,
          "project_id": 1,
          "name": "Mail relay",
          "scope": "secret",
          "role": "smtpproxy",
          "value": "sk_XEDPFRGTS0YH9EDF5GQD24HQ7GJ7QNMB",
          "created_at": "2026-04-28T09:30:00.123Z",
          "updated_at": "2026-04-28T09:30:00.123Z",
          "description": null,
          "is_system_key": true,
          "permissions": [],
          "limits": [],
          "policy_version": 0,
          "last_used_at": null,
          "last_used_route": null,
          "created_by": {
            "kind": "operator_key",
            "id": 1
          },
          "last_changed_by": {
            "kind": "operator_key",
            "id": 1
          }
        }
    "#]]
    .assert_eq(&created.snapshot());
    let value = created.json()["value"].as_str().unwrap().to_owned();
    assert_eq!(app.does(&value, ("GET", "/api/client/me"), None).await["role"], "smtpproxy");
}

#[tokio::test]
async fn list_shows_system_keys_only_and_masked() {
    let app = TestApp::new().await;
    app.create(json!({"name": "a tenant's"})).await;
    let (_, value) = app.system_key(json!({"name": "Mail relay"})).await;
    let listed = app.as_operator(("GET", KEYS), None).await;
    expect![[r#"
        200
        content-type: application/json
        x-request-id: req_CE7RJN79AY5VGXV1424W2MDF6T
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        x-ratelimit-limit: 500000
        x-ratelimit-remaining: 499999
        x-ratelimit-reset: 1777368611
        x-ratelimit-tier: starter
        content-length: 464

        {
          "results": [
            {
              "id": 5,
              "project_id": 1,
              "name": "Mail relay",
              "scope": "secret",
              "role": "support",
              "value": "sk_****CWN5",
              "created_at": "2026-04-28T09:30:00.123Z",
              "updated_at": "2026-04-28T09:30:00.123Z",
              "description": null,
              "is_system_key": true,
              "permissions": [],
              "limits": [],
              "policy_version": 0,
              "last_used_at": null,
              "last_used_route": null,
              "created_by": {
                "kind": "operator_key",
                "id": 1
              },
              "last_changed_by": {
                "kind": "operator_key",
                "id": 1
              }
            }
          ],
          "nextCursor": null,
          "prevCursor": null,
          "limit": 25
        }
    "#]]
    .assert_eq(&listed.snapshot());
    assert!(!listed.text.contains(&value));
}

#[tokio::test]
async fn rotate_kills_the_old_value_and_gives_a_new_one() {
    let app = TestApp::new().await;
    let body = json!({"name": "Mail relay", "role": "smtpproxy", "description": "port 587"});
    let (_, old) = app.system_key(body).await;
    app.advance_seconds(60);
    let rotated = app.as_operator(("POST", ROTATE), None).await;
    expect![[r#"
        200
        content-type: application/json
        x-keyrack-seq: 8
        x-request-id: req_MCQWVEPS67B0MCRK91APVGRKV9
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        x-ratelimit-limit: 500000
        x-ratelimit-remaining: 499999
        x-ratelimit-reset: 1777368671
        x-ratelimit-tier: starter
        content-length: 466

        {
          "id": 5,
          "project_id": 1,
          "name": "Mail relay",
          "scope": "secret",
          "role": "smtpproxy",
          "value": "sk_3BDRZ5JWFMN55Z9B4AWDNB6F4RCXCWN5",
          "created_at": "2026-04-28T09:31:00.123Z",
          "updated_at": "2026-04-28T09:31:00.123Z",
          "description": "port 587",
          "is_system_key": true,
          "permissions": [],
          "limits": [],
          "policy_version": 0,
          "last_used_at": null,
          "last_used_route": null,
          "created_by": {
            "kind": "operator_key",
            "id": 1
          },
          "last_changed_by": {
            "kind": "operator_key",
            "id": 1
          },
          "replaces": 4,
          "effective": "all"
        }
    "#]]
    .assert_eq(&rotated.snapshot());
    let new = rotated.json()["value"].as_str().unwrap().to_owned();
    assert_eq!((app.fate(&old).await, app.fate(&new).await), (Fate::Dead, Fate::Alive));
    assert_eq!(ids(&app.does(app.operator(), ("GET", KEYS), None).await), [5]);
    assert_eq!(app.code(app.operator(), ("POST", ROTATE), None).await, (404, "resource_missing".to_owned()));
    // The tenant cannot touch the new one any more than the old.
    assert_eq!(app.ask(app.admin(), ("DELETE", "/api/client/keys/5"), None).await.status, 409);
    let app = app.restarted().await;
    assert_eq!((app.fate(&old).await, app.fate(&new).await), (Fate::Dead, Fate::Alive));
}

#[tokio::test]
async fn rotate_keeps_the_kind_of_a_publishable_key() {
    let app = TestApp::new().await;
    let (_, old) = app.system_key(json!({"name": "widget", "scope": "public", "role": "editor"})).await;
    let new = app.does(app.operator(), ("POST", ROTATE), Some(json!({}))).await;
    assert_eq!((&new["scope"], &new["role"], &new["replaces"]), (&json!("public"), &json!("editor"), &json!(4)));
    let new = new["value"].as_str().unwrap();
    assert!(old.starts_with("pk_") && new.starts_with("pk_"));
    assert_eq!((app.fate(&old).await, app.fate(new).await), (Fate::Dead, Fate::Alive));
}

#[tokio::test]
async fn delete_kills_at_once_and_for_ever() {
    let app = TestApp::new().await;
    let (_, value) = app.system_key(json!({"name": "Mail relay"})).await;
    app.advance_seconds(60);
    let revoked = app.as_operator(("DELETE", KEY), None).await;
    expect![[r#"
        200
        content-type: application/json
        x-keyrack-seq: 7
        x-request-id: req_MCQWVEPS67B0MCRK91APVGRKV9
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        x-ratelimit-limit: 500000
        x-ratelimit-remaining: 499999
        x-ratelimit-reset: 1777368671
        x-ratelimit-tier: starter
        content-length: 421

        {
          "id": 4,
          "project_id": 1,
          "name": "Mail relay",
          "scope": "secret",
          "role": "support",
          "value": "sk_****QNMB",
          "created_at": "2026-04-28T09:30:00.123Z",
          "updated_at": "2026-04-28T09:31:00.123Z",
          "description": null,
          "is_system_key": true,
          "permissions": [],
          "limits": [],
          "policy_version": 0,
          "last_used_at": null,
          "last_used_route": null,
          "created_by": {
            "kind": "operator_key",
            "id": 1
          },
          "last_changed_by": {
            "kind": "operator_key",
            "id": 1
          },
          "effective": "all"
        }
    "#]]
    .assert_eq(&revoked.snapshot());
    assert_eq!(app.fate(&value).await, Fate::Dead);
    assert_eq!(app.code(app.operator(), ("DELETE", KEY), None).await, (404, "resource_missing".to_owned()));
    assert_eq!(ids(&app.does(app.operator(), ("GET", KEYS), None).await), Vec::<i64>::new());
}

#[tokio::test]
async fn its_tenant_sees_it_at_both_doors_and_cannot_touch_it() {
    let app = TestApp::new().await;
    let (_, value) = app.system_key(json!({"name": "Mail relay", "role": "admin"})).await;
    let (_, member) = app.member_as("admin").await;
    let before = app.does(app.admin(), ("GET", "/api/client/keys/4"), None).await;
    assert_eq!(before["is_system_key"], true);
    let refused = app.as_owner(("DELETE", "/api/admin/projects/1/keys/4"), None).await;
    expect![[r#"
        409
        content-type: application/problem+json
        x-request-id: req_D5R6J02AM1V6Y2ETV84KC38DAE
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        x-ratelimit-limit: 500000
        x-ratelimit-remaining: 499997
        x-ratelimit-reset: 1777368611
        x-ratelimit-tier: starter
        content-length: 391

        {
          "status": "error",
          "code": "state_conflict",
          "title": "The state of the resource does not allow this",
          "message": "This is a system key: the service made it and needs it. It cannot be changed or revoked here.",
          "error": "This is a system key: the service made it and needs it. It cannot be changed or revoked here.",
          "type": "/docs/errors#state_conflict",
          "request_id": "req_D5R6J02AM1V6Y2ETV84KC38DAE"
        }
    "#]]
    .assert_eq(&refused.snapshot());
    let entries = app.entries().await;
    for (key, keys) in [
        (app.admin(), "/api/client/keys"),
        (app.owner(), "/api/admin/projects/1/keys"),
        (&member, "/api/admin/projects/1/keys"),
        // Not even with itself.
        (&value, "/api/client/keys"),
    ] {
        let path = format!("{keys}/4");
        assert_eq!(app.does(key, ("GET", &path), None).await, before, "{path}");
        assert_eq!(ids(&app.does(key, ("GET", keys), None).await), [4, 3], "{keys}");
        let patches = [json!({}), json!({"name": "mine"}), json!({"role": "support"}), json!({"scope": "public"})];
        let patches = patches.map(|patch| ("PATCH", Some(patch)));
        for (method, body) in patches.into_iter().chain([("DELETE", None)]) {
            let code = app.code(key, (method, &path), body.clone()).await;
            assert_eq!(code, (409, "state_conflict".to_owned()), "{method} {path} {body:?}");
        }
    }
    assert_eq!(app.does(app.admin(), ("GET", "/api/client/keys/4"), None).await, before);
    assert_eq!((app.entries().await, app.fate(&value).await), (entries, Fate::Alive));
}

#[tokio::test]
async fn what_is_no_system_key_of_the_project_is_missing() {
    let app = TestApp::new().await;
    let second = app.project(app.owner(), "Shop").await;
    let keys = format!("/api/operator/projects/{second}/system-keys");
    let (id, value) = app.made(app.operator(), &keys, json!({"name": "theirs"})).await;
    assert_eq!(id, 4);
    let missing = app.as_operator(("POST", ROTATE), None).await;
    expect![[r#"
        404
        content-type: application/problem+json
        x-request-id: req_3BDRZ5JWFMN55Z9B4AWDNB6F4R
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        x-ratelimit-limit: 500000
        x-ratelimit-remaining: 499998
        x-ratelimit-reset: 1777368611
        x-ratelimit-tier: starter
        content-length: 277

        {
          "status": "error",
          "code": "resource_missing",
          "title": "There is no such resource",
          "message": "Nothing is there. Check the path and the id.",
          "error": "Nothing is there. Check the path and the id.",
          "type": "/docs/errors#resource_missing",
          "request_id": "req_3BDRZ5JWFMN55Z9B4AWDNB6F4R"
        }
    "#]]
    .assert_eq(&missing.snapshot());
    let entries = app.entries().await;
    for path in [KEY.to_owned(), format!("{KEYS}/3"), format!("{KEYS}/1"), format!("{keys}/3"), format!("{KEYS}/x")] {
        for (method, path) in [("DELETE", path.clone()), ("POST", format!("{path}/rotate"))] {
            let code = app.code(app.operator(), (method, &path), None).await;
            assert_eq!(code, (404, "resource_missing".to_owned()), "{method} {path}");
        }
    }
    for project in ["99", "0", "shop"] {
        let path = format!("/api/operator/projects/{project}/system-keys");
        for (method, body) in [("GET", None), ("POST", Some(json!({"name": "x"})))] {
            assert_eq!(app.ask(app.operator(), (method, &path), body).await.status, 404, "{method} {path}");
        }
    }
    assert_eq!(app.entries().await, entries);
    assert_eq!((app.fate(&value).await, app.fate(app.admin()).await), (Fate::Alive, Fate::Alive));
}

#[tokio::test]
async fn bodies_are_held_to_the_rules_of_keys_and_bare_calls_to_none() {
    let app = TestApp::new().await;
    let body = json!({"role": "owner", "is_system_key": true});
    let refused = app.as_operator(("POST", KEYS), Some(body)).await;
    let expected =
        [("name", "parameter_missing"), ("role", "parameter_invalid_format"), ("is_system_key", "parameter_unknown")];
    let expected = expected.map(|(param, code)| (param.to_owned(), code.to_owned()));
    assert_eq!((refused.status, faults(&refused)), (422, expected.to_vec()));

    let (_, value) = app.system_key(json!({"name": "Mail relay"})).await;
    let refused = app.as_operator(("POST", ROTATE), Some(json!({"role": "admin"}))).await;
    expect![[r#"
        422
        content-type: application/problem+json
        x-request-id: req_3BDRZ5JWFMN55Z9B4AWDNB6F4R
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        x-ratelimit-limit: 500000
        x-ratelimit-remaining: 499997
        x-ratelimit-reset: 1777368611
        x-ratelimit-tier: starter
        content-length: 352

        {
          "status": "error",
          "code": "validation_failed",
          "title": "The body is not valid",
          "message": "`role`: is not a field of this call",
          "error": "`role`: is not a field of this call",
          "type": "/docs/errors#validation_failed",
          "request_id": "req_3BDRZ5JWFMN55Z9B4AWDNB6F4R",
          "errors": [
            {
              "param": "role",
              "code": "parameter_unknown",
              "message": "is not a field of this call"
            }
          ]
        }
    "#]]
    .assert_eq(&refused.snapshot());
    assert_eq!(app.fate(&value).await, Fate::Alive);
}

/// The row of a key that cannot be used is no reason to let a tenant at it: it is killed in memory only for who may revoke it.
#[tokio::test]
async fn a_tenant_cannot_kill_a_system_key_whose_row_is_damaged() {
    let app = TestApp::new().await;
    let (id, value) = app.system_key(json!({"name": "relay", "role": "admin"})).await;
    app.beside().await.run(format!("UPDATE api_keys SET name = 'damaged' WHERE id = {id}")).await;
    let lives = async || app.call_with(&value, ("GET", "/api/client/me"), None, &[]).await.status;
    assert_eq!(app.call(("DELETE", &format!("/api/client/keys/{id}")), None).await.status, 500);
    assert_eq!(app.as_owner(("DELETE", &format!("/api/admin/projects/1/keys/{id}")), None).await.status, 500);
    assert_eq!(lives().await, 200);
    app.beside().await.run("UPDATE projects SET name = 'damaged' WHERE id = 1").await;
    assert_eq!(app.as_owner(("DELETE", &format!("/api/admin/projects/1/keys/{id}")), None).await.status, 500);
    // Which needs the row of the project too.
    assert_eq!(app.call_with(&value, ("GET", "/api/client/keys"), None, &[]).await.status, 200);
    assert_eq!(app.as_operator(("DELETE", &format!("{KEYS}/{id}")), None).await.status, 500);
    assert_eq!(app.call_with(&value, ("GET", "/api/client/keys"), None, &[]).await.status, 401);
}
