//! The five calls of `/api/admin/projects/{projectId}/keys`.

use expect_test::expect;
use serde_json::json;

use crate::app::TestApp;
use crate::surfaces::{Fate, faults, ids};

const KEYS: &str = "/api/admin/projects/1/keys";
const KEY: &str = "/api/admin/projects/1/keys/4";

#[tokio::test]
async fn create_gives_the_value_once_and_fills_in_the_defaults() {
    let app = TestApp::new().await;
    let created = app.as_owner(("POST", KEYS), Some(json!({"name": "CI bot"}))).await;
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
        content-length: 432

        {
          "id": 4,
          "project_id": 1,
          "name": "CI bot",
          "scope": "secret",
          "role": "support",
          "value": "sk_XEDPFRGTS0YH9EDF5GQD24HQ7GJ7QNMB",
          "created_at": "2026-04-28T09:30:00.123Z",
          "updated_at": "2026-04-28T09:30:00.123Z",
          "description": null,
          "is_system_key": false,
          "permissions": [],
          "limits": [],
          "policy_version": 0,
          "last_used_at": null,
          "last_used_route": null,
          "created_by": {
            "kind": "organization_key",
            "id": 2
          },
          "last_changed_by": {
            "kind": "organization_key",
            "id": 2
          }
        }
    "#]]
    .assert_eq(&created.snapshot());
    let value = created.json()["value"].as_str().unwrap().to_owned();
    assert_eq!(app.fate(&value).await, Fate::Alive);
}

#[tokio::test]
async fn list_shows_masks_only() {
    let app = TestApp::new().await;
    let (_, value) = app.made(app.owner(), KEYS, json!({"name": "CI bot"})).await;
    let listed = app.as_owner(("GET", &format!("{KEYS}?limit=1&sort=id")), None).await;
    expect![[r#"
        200
        content-type: application/json
        x-request-id: req_MCQWVEPS67B0MCRK91APVGRKV9
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        x-ratelimit-limit: 500000
        x-ratelimit-remaining: 499999
        x-ratelimit-reset: 1777368611
        x-ratelimit-tier: starter
        content-length: 512

        {
          "results": [
            {
              "id": 4,
              "project_id": 1,
              "name": "CI bot",
              "scope": "secret",
              "role": "support",
              "value": "sk_****QNMB",
              "created_at": "2026-04-28T09:30:00.123Z",
              "updated_at": "2026-04-28T09:30:00.123Z",
              "description": null,
              "is_system_key": false,
              "permissions": [],
              "limits": [],
              "policy_version": 0,
              "last_used_at": null,
              "last_used_route": null,
              "created_by": {
                "kind": "organization_key",
                "id": 2
              },
              "last_changed_by": {
                "kind": "organization_key",
                "id": 2
              }
            }
          ],
          "nextCursor": "r11CuzKQdoFWn3wmIoHXP3sidmFsdWUiOjQsImlkIjo0fQ",
          "prevCursor": null,
          "limit": 1
        }
    "#]]
    .assert_eq(&listed.snapshot());
    assert!(!listed.text.contains(&value));
}

#[tokio::test]
async fn read_shows_the_mask_only() {
    let app = TestApp::new().await;
    let (_, value) = app.made(app.owner(), KEYS, json!({"name": "CI bot"})).await;
    let read = app.as_owner(("GET", KEY), None).await;
    expect![[r#"
        200
        content-type: application/json
        x-request-id: req_MCQWVEPS67B0MCRK91APVGRKV9
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        x-ratelimit-limit: 500000
        x-ratelimit-remaining: 499999
        x-ratelimit-reset: 1777368611
        x-ratelimit-tier: starter
        content-length: 408

        {
          "id": 4,
          "project_id": 1,
          "name": "CI bot",
          "scope": "secret",
          "role": "support",
          "value": "sk_****QNMB",
          "created_at": "2026-04-28T09:30:00.123Z",
          "updated_at": "2026-04-28T09:30:00.123Z",
          "description": null,
          "is_system_key": false,
          "permissions": [],
          "limits": [],
          "policy_version": 0,
          "last_used_at": null,
          "last_used_route": null,
          "created_by": {
            "kind": "organization_key",
            "id": 2
          },
          "last_changed_by": {
            "kind": "organization_key",
            "id": 2
          }
        }
    "#]]
    .assert_eq(&read.snapshot());
    assert!(!read.text.contains(&value));
}

#[tokio::test]
async fn both_doors_lead_to_the_same_keys() {
    let app = TestApp::new().await;
    app.made(app.owner(), KEYS, json!({"name": "by the owner", "scope": "public"})).await;
    app.create(json!({"name": "by the project"})).await;
    let (_, member) = app.member_as("admin").await;
    let own = app.does(app.admin(), ("GET", "/api/client/keys"), None).await;
    for key in [app.owner(), &member] {
        assert_eq!(app.does(key, ("GET", KEYS), None).await["results"], own["results"]);
        let read = app.does(key, ("GET", KEY), None).await;
        assert_eq!(app.does(app.admin(), ("GET", "/api/client/keys/4"), None).await, read);
    }
}

#[tokio::test]
async fn patch_changes_what_it_names_and_nothing_else() {
    let app = TestApp::new().await;
    let (_, value) = app.made(app.owner(), KEYS, json!({"name": "bot", "role": "admin"})).await;
    app.advance_seconds(60);
    let patched = app.as_owner(("PATCH", KEY), Some(json!({"role": "editor", "description": "for CI"}))).await;
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
        content-length: 426

        {
          "id": 4,
          "project_id": 1,
          "name": "bot",
          "scope": "secret",
          "role": "editor",
          "value": "sk_****QNMB",
          "created_at": "2026-04-28T09:30:00.123Z",
          "updated_at": "2026-04-28T09:31:00.123Z",
          "description": "for CI",
          "is_system_key": false,
          "permissions": [],
          "limits": [],
          "policy_version": 0,
          "last_used_at": null,
          "last_used_route": null,
          "created_by": {
            "kind": "organization_key",
            "id": 2
          },
          "last_changed_by": {
            "kind": "organization_key",
            "id": 2
          },
          "effective": "all"
        }
    "#]]
    .assert_eq(&patched.snapshot());
    assert_eq!(app.does(&value, ("GET", "/api/client/me"), None).await["role"], "editor");
}

#[tokio::test]
async fn delete_kills_at_once_and_for_ever() {
    let app = TestApp::new().await;
    let (_, value) = app.made(app.owner(), KEYS, json!({"name": "leaked"})).await;
    app.advance_seconds(60);
    let revoked = app.as_owner(("DELETE", KEY), None).await;
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
        content-length: 426

        {
          "id": 4,
          "project_id": 1,
          "name": "leaked",
          "scope": "secret",
          "role": "support",
          "value": "sk_****QNMB",
          "created_at": "2026-04-28T09:30:00.123Z",
          "updated_at": "2026-04-28T09:31:00.123Z",
          "description": null,
          "is_system_key": false,
          "permissions": [],
          "limits": [],
          "policy_version": 0,
          "last_used_at": null,
          "last_used_route": null,
          "created_by": {
            "kind": "organization_key",
            "id": 2
          },
          "last_changed_by": {
            "kind": "organization_key",
            "id": 2
          },
          "effective": "all"
        }
    "#]]
    .assert_eq(&revoked.snapshot());
    assert_eq!(app.fate(&value).await, Fate::Dead);
    for (method, body) in [("GET", None), ("DELETE", None), ("PATCH", Some(json!({})))] {
        assert_eq!(app.ask(app.owner(), (method, KEY), body).await.status, 404, "{method}");
    }
    assert_eq!(ids(&app.does(app.owner(), ("GET", KEYS), None).await), [3]);
}

#[tokio::test]
async fn a_key_of_another_project_is_missing_by_whatever_path() {
    let app = TestApp::new().await;
    let second = app.project(app.owner(), "Shop").await;
    let (_, value) = app.made(app.owner(), &format!("/api/admin/projects/{second}/keys"), json!({"name": "bot"})).await;
    let (_, stranger) = app.organization("other").await;
    for (key, path) in [
        // The project is the caller's and the key is not of it: key 4 is of the second project, key 2 of none.
        (app.owner(), KEY.to_owned()),
        (app.owner(), format!("{KEYS}/2")),
        (app.owner(), format!("/api/admin/projects/{second}/keys/3")),
        // Both are there, for others.
        (&stranger, format!("/api/admin/projects/{second}/keys/4")),
        (&stranger, format!("{KEYS}/3")),
    ] {
        for (method, body) in [("GET", None), ("PATCH", Some(json!({"name": "mine"}))), ("DELETE", None)] {
            let code = app.code(key, (method, &path), body).await;
            assert_eq!(code, (404, "resource_missing".to_owned()), "{method} {path}");
        }
    }
    assert_eq!((app.fate(&value).await, app.fate(app.admin()).await), (Fate::Alive, Fate::Alive));
}

#[tokio::test]
async fn a_member_takes_the_role_admin_in_the_project() {
    let app = TestApp::new().await;
    let (_, member) = app.member_as("publisher").await;
    let refused = app.ask(&member, ("GET", KEYS), None).await;
    expect![[r#"
        403
        content-type: application/problem+json
        x-request-id: req_3BDRZ5JWFMN55Z9B4AWDNB6F4R
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        x-ratelimit-limit: 500000
        x-ratelimit-remaining: 499999
        x-ratelimit-reset: 1777368611
        x-ratelimit-tier: starter
        content-length: 279

        {
          "status": "error",
          "code": "permission_denied",
          "title": "Permission denied",
          "message": "This takes a key of role `admin` in the project.",
          "error": "This takes a key of role `admin` in the project.",
          "type": "/docs/errors#permission_denied",
          "request_id": "req_3BDRZ5JWFMN55Z9B4AWDNB6F4R"
        }
    "#]]
    .assert_eq(&refused.snapshot());
    let (_, admin) = app.member_as("admin").await;
    let (_, outsider) = app.organization_key("member").await;
    for (key, status) in [(&member, 403), (&admin, 200), (&outsider, 404)] {
        for (method, path, body) in [
            ("GET", "/api/admin/projects/1/keys/3", None),
            ("POST", KEYS, Some(json!({"name": "bot", "role": "admin"}))),
            ("PATCH", "/api/admin/projects/1/keys/3", Some(json!({}))),
        ] {
            assert_eq!(app.ask(key, (method, path), body).await.status, status, "{method} {path}");
        }
    }
    assert_eq!(app.ask(&member, ("DELETE", "/api/admin/projects/1/keys/3"), None).await.status, 403);
    assert_eq!(app.ask(&outsider, ("DELETE", "/api/admin/projects/1/keys/3"), None).await.status, 404);
    assert_eq!(app.fate(app.admin()).await, Fate::Alive);
    assert_eq!(app.ask(&admin, ("DELETE", "/api/admin/projects/1/keys/3"), None).await.status, 200);
    assert_eq!(app.fate(app.admin()).await, Fate::Dead);
}

#[tokio::test]
async fn bodies_are_held_to_the_same_rules_as_at_the_other_door() {
    let app = TestApp::new().await;
    let refused = app.as_owner(("POST", KEYS), Some(json!({"role": "owner", "scope": 1, "is_system_key": true}))).await;
    let expected = [
        ("name", "parameter_missing"),
        ("scope", "parameter_invalid_format"),
        ("role", "parameter_invalid_format"),
        ("is_system_key", "parameter_unknown"),
    ];
    let expected = expected.map(|(param, code)| (param.to_owned(), code.to_owned()));
    assert_eq!((refused.status, faults(&refused)), (422, expected.to_vec()));

    let (_, value) = app.made(app.owner(), KEYS, json!({"name": "widget", "scope": "public"})).await;
    assert!(value.starts_with("pk_"));
    let widened = app.code(app.owner(), ("PATCH", KEY), Some(json!({"scope": "secret"}))).await;
    assert_eq!(widened, (409, "state_conflict".to_owned()));
}
