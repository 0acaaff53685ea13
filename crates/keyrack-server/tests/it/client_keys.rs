//! The five calls of `/api/client/keys`, whole replies.

use expect_test::expect;
use serde_json::json;

use crate::app::TestApp;

const KEYS: &str = "/api/client/keys";

#[tokio::test]
async fn create_gives_the_value_once_and_fills_in_the_defaults() {
    let app = TestApp::new().await;
    let created = app.call(("POST", KEYS), Some(json!({"name": "  CI bot "}))).await;
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
        content-length: 420

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
            "kind": "secret_key",
            "id": 3
          },
          "last_changed_by": {
            "kind": "secret_key",
            "id": 3
          }
        }
    "#]]
    .assert_eq(&created.snapshot());
}

#[tokio::test]
async fn read_shows_the_mask_only() {
    let app = TestApp::new().await;
    let (_, value) = app.create(json!({"name": "CI bot"})).await;
    let read = app.call(("GET", "/api/client/keys/4"), None).await;
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
        content-length: 396

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
            "kind": "secret_key",
            "id": 3
          },
          "last_changed_by": {
            "kind": "secret_key",
            "id": 3
          }
        }
    "#]]
    .assert_eq(&read.snapshot());
    let listed = app.call(("GET", KEYS), None).await;
    assert!(!read.text.contains(&value) && !listed.text.contains(&value));
}

#[tokio::test]
async fn create_takes_every_field_and_a_public_scope_makes_a_publishable_key() {
    let app = TestApp::new().await;
    let body = json!({"name": "Wid\u{fc}get \u{1f511}", "scope": "public", "role": "publisher", "description": "for\nthe shop"});
    let created = app.call(("POST", KEYS), Some(body)).await;
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
        content-length: 440

        {
          "id": 4,
          "project_id": 1,
          "name": "Widüget 🔑",
          "scope": "public",
          "role": "publisher",
          "value": "pk_XEDPFRGTS0YH9EDF5GQD24HQ7G6KKK2G",
          "created_at": "2026-04-28T09:30:00.123Z",
          "updated_at": "2026-04-28T09:30:00.123Z",
          "description": "for\nthe shop",
          "is_system_key": false,
          "permissions": [],
          "limits": [],
          "policy_version": 0,
          "last_used_at": null,
          "last_used_route": null,
          "created_by": {
            "kind": "secret_key",
            "id": 3
          },
          "last_changed_by": {
            "kind": "secret_key",
            "id": 3
          }
        }
    "#]]
    .assert_eq(&created.snapshot());
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "two keys, shown whole")]
async fn list_shows_keys_masked_newest_first() {
    let app = TestApp::new().await;
    app.create(json!({"name": "first"})).await;
    app.advance_seconds(1);
    app.create(json!({"name": "second", "scope": "public"})).await;
    let listed = app.call(("GET", "/api/client/keys?limit=2"), None).await;
    expect![[r#"
        200
        content-type: application/json
        x-request-id: req_CE7RJN79AY5VGXV1424W2MDF6T
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        x-ratelimit-limit: 500000
        x-ratelimit-remaining: 499999
        x-ratelimit-reset: 1777368612
        x-ratelimit-tier: starter
        content-length: 916

        {
          "results": [
            {
              "id": 5,
              "project_id": 1,
              "name": "second",
              "scope": "public",
              "role": "support",
              "value": "pk_****8T3Y",
              "created_at": "2026-04-28T09:30:01.123Z",
              "updated_at": "2026-04-28T09:30:01.123Z",
              "description": null,
              "is_system_key": false,
              "permissions": [],
              "limits": [],
              "policy_version": 0,
              "last_used_at": null,
              "last_used_route": null,
              "created_by": {
                "kind": "secret_key",
                "id": 3
              },
              "last_changed_by": {
                "kind": "secret_key",
                "id": 3
              }
            },
            {
              "id": 4,
              "project_id": 1,
              "name": "first",
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
                "kind": "secret_key",
                "id": 3
              },
              "last_changed_by": {
                "kind": "secret_key",
                "id": 3
              }
            }
          ],
          "nextCursor": "ZqV_PxPvZQYFQ2b-YwBkM3sidmFsdWUiOjE3NzczNjg2MDAxMjM0NTYsImlkIjo0fQ",
          "prevCursor": null,
          "limit": 2
        }
    "#]]
    .assert_eq(&listed.snapshot());
}

#[tokio::test]
async fn patch_changes_what_it_names_and_nothing_else() {
    let app = TestApp::new().await;
    app.create(json!({"name": "bot", "description": "old"})).await;
    app.advance_seconds(60);
    let patch = json!({"name": "robot", "role": "editor", "scope": "public", "description": null});
    let patched = app.call(("PATCH", "/api/client/keys/4"), Some(patch)).await;
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
        content-length: 412

        {
          "id": 4,
          "project_id": 1,
          "name": "robot",
          "scope": "public",
          "role": "editor",
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
            "kind": "secret_key",
            "id": 3
          },
          "last_changed_by": {
            "kind": "secret_key",
            "id": 3
          },
          "effective": "all"
        }
    "#]]
    .assert_eq(&patched.snapshot());

    app.advance_seconds(60);
    let back = app.call(("PATCH", "/api/client/keys/4"), Some(json!({"scope": "secret"}))).await.json();
    assert_eq!((&back["scope"], &back["role"]), (&json!("secret"), &json!("editor")));
}

#[tokio::test]
async fn an_empty_patch_and_one_that_changes_nothing_succeed_and_leave_no_trace() {
    let app = TestApp::new().await;
    app.create(json!({"name": "bot"})).await;
    let before = app.call(("GET", "/api/client/keys/4"), None).await.json();
    let entries = app.app.store.verify_audit().await.unwrap().entries;
    app.advance_seconds(60);
    for patch in [json!({}), json!({"name": "bot", "role": "support", "description": null})] {
        let patched = app.call(("PATCH", "/api/client/keys/4"), Some(patch)).await;
        assert_eq!((patched.status, patched.json()), (200, before.clone()));
    }
    assert_eq!(app.app.store.verify_audit().await.unwrap().entries, entries);
}

#[tokio::test]
async fn a_narrowed_key_works_no_longer_and_a_widened_one_at_once() {
    let app = TestApp::new().await;
    let (id, value) = app.create(json!({"name": "second admin", "role": "admin"})).await;
    let path = format!("{KEYS}/{id}");
    let status = async |key: &str| app.call_with(key, ("GET", KEYS), None, &[]).await.status;
    assert_eq!(status(&value).await, 200);
    for (patch, expected) in [
        (json!({"role": "publisher"}), 403),
        (json!({"role": "admin"}), 200),
        (json!({"scope": "public"}), 403),
        (json!({"scope": "secret"}), 200),
    ] {
        assert_eq!(app.call(("PATCH", &path), Some(patch.clone())).await.status, 200);
        assert_eq!(status(&value).await, expected, "after {patch}");
    }
}

#[tokio::test]
async fn delete_kills_at_once_and_for_ever() {
    let app = TestApp::new().await;
    let (id, value) = app.create(json!({"name": "leaked", "role": "admin"})).await;
    let path = format!("{KEYS}/{id}");
    app.advance_seconds(60);
    let revoked = app.call(("DELETE", &path), None).await;
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
        content-length: 412

        {
          "id": 4,
          "project_id": 1,
          "name": "leaked",
          "scope": "secret",
          "role": "admin",
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
            "kind": "secret_key",
            "id": 3
          },
          "last_changed_by": {
            "kind": "secret_key",
            "id": 3
          },
          "effective": "all"
        }
    "#]]
    .assert_eq(&revoked.snapshot());
    assert_eq!(app.call_with(&value, ("GET", KEYS), None, &[]).await.status, 401);
    for again in [("DELETE", path.as_str()), ("GET", &path)] {
        assert_eq!(app.call(again, None).await.status, 404);
    }
    assert_eq!(app.call(("PATCH", &path), Some(json!({"name": "back"}))).await.status, 404);
    assert!(!app.call(("GET", KEYS), None).await.text.contains("leaked"));
}

#[tokio::test]
async fn a_key_may_revoke_itself_even_the_last_admin() {
    let app = TestApp::new().await;
    let own = app.call(("GET", "/api/client/keys/3"), None).await.json();
    assert_eq!(own["role"], "admin");
    assert_eq!(app.call(("DELETE", "/api/client/keys/3"), None).await.status, 200);
    assert_eq!(app.call(("GET", KEYS), None).await.status, 401);
}

#[tokio::test]
async fn a_system_key_is_listed_and_cannot_be_touched() {
    let app = TestApp::new().await;
    app.create(json!({"name": "bot"})).await;
    let operator = app.first_keys.operator.expose();
    let route = ("POST", "/api/operator/projects/1/system-keys");
    assert_eq!(app.call_with(operator, route, Some(json!({"name": "Mail relay"})), &[]).await.status, 200);

    let listed = app.call(("GET", KEYS), None).await.json();
    assert_eq!((&listed["results"][0]["id"], &listed["results"][0]["is_system_key"]), (&json!(5), &json!(true)));
    for (method, body) in [("PATCH", Some(json!({}))), ("DELETE", None)] {
        let refused = app.call((method, "/api/client/keys/5"), body).await;
        assert_eq!((refused.status, &refused.json()["code"]), (409, &json!("state_conflict")));
    }
    assert_eq!(app.call(("GET", "/api/client/keys/5"), None).await.status, 200);
}

#[tokio::test]
async fn every_change_is_in_the_audit_log() {
    let app = TestApp::new().await;
    app.create(json!({"name": "bot"})).await;
    app.call(("PATCH", "/api/client/keys/4"), Some(json!({"role": "editor"}))).await;
    app.call(("DELETE", "/api/client/keys/4"), None).await;
    let mut lines = Vec::new();
    app.app.store.for_each_audit_entry(|entry| lines.push(entry.to_json())).await.unwrap();
    expect![[r#"
        {"id":1,"at":"2026-04-28T09:30:00.123Z","actor":{"kind":"host","id":null},"action":"key.create","target":{"kind":"key","id":1},"before":null,"after":{"name":"First operator key","value":"op_****5KY1","description":null,"is_system_key":false},"request_id":"host:init","hash":"4d620a4b8711a1127578302ec1d90609b86000792766ad2c8980826729c08c5a"}
        {"id":2,"at":"2026-04-28T09:30:00.123Z","actor":{"kind":"host","id":null},"action":"organization.create","target":{"kind":"organization","id":1},"before":null,"after":{"domain":null,"state":"active","username":"default"},"request_id":"host:init","hash":"3738bfbfbf8c56b4a6790b2224ee222d58b27bf4116a82eb216dcfa06fd9f086"}
        {"id":3,"at":"2026-04-28T09:30:00.123Z","actor":{"kind":"host","id":null},"action":"key.create","target":{"kind":"key","id":2},"before":null,"after":{"name":"First owner key","role":"owner","value":"ok_****NVN9","description":null,"is_system_key":false},"request_id":"host:init","hash":"bd54277842f213087805b750eb041c46a8adfeb977662ec44a31c32bc1c505f2"}
        {"id":4,"at":"2026-04-28T09:30:00.123Z","actor":{"kind":"host","id":null},"action":"project.create","target":{"kind":"project","id":1},"before":null,"after":{"name":"Default","locale":"en","timezone":"UTC","description":null,"website_url":null,"text_opt_out_message":null,"text_help_message":null,"link_wrap_email":null,"link_wrap_push":null,"track_opens_email":null,"deeplink_mirror_url":null},"request_id":"host:init","hash":"392eb99eb0f8ea903e400f2343d579ccfb7014020cf2eb0b328107bda47147c3"}
        {"id":5,"at":"2026-04-28T09:30:00.123Z","actor":{"kind":"host","id":null},"action":"key.create","target":{"kind":"key","id":3},"before":null,"after":{"name":"First admin key","scope":"secret","role":"admin","value":"sk_****VEYF","description":null,"policy_version":0,"is_system_key":false},"request_id":"host:init","hash":"5cf3fcfc0e56d5e1e9e9263e0c69170c4a9482336d60052892703f75920333a7"}
        {"id":6,"at":"2026-04-28T09:30:00.123Z","actor":{"kind":"secret_key","id":3},"action":"key.create","target":{"kind":"key","id":4},"before":null,"after":{"name":"bot","scope":"secret","role":"support","value":"sk_****QNMB","description":null,"policy_version":0,"is_system_key":false},"request_id":"req_05GD3T67GRZPCPXQ3RJTMW5VDT","hash":"9236c220bdb1fe8dae7e7efbd50b018bdab21ae0f3b0a404b547ffcc37503fa4"}
        {"id":7,"at":"2026-04-28T09:30:00.123Z","actor":{"kind":"secret_key","id":3},"action":"key.update","target":{"kind":"key","id":4},"before":{"name":"bot","scope":"secret","role":"support","value":"sk_****QNMB","description":null,"policy_version":0,"is_system_key":false},"after":{"name":"bot","scope":"secret","role":"editor","value":"sk_****QNMB","description":null,"policy_version":0,"is_system_key":false},"request_id":"req_MCQWVEPS67B0MCRK91APVGRKV9","hash":"92d814010a40233d6a781bd544774020ecea186fd5e9aac24772a770dba9fce6"}
        {"id":8,"at":"2026-04-28T09:30:00.123Z","actor":{"kind":"secret_key","id":3},"action":"key.revoke","target":{"kind":"key","id":4},"before":{"name":"bot","scope":"secret","role":"editor","value":"sk_****QNMB","description":null,"policy_version":0,"is_system_key":false},"after":{"name":"bot","scope":"secret","role":"editor","value":"sk_****QNMB","description":null,"policy_version":0,"is_system_key":false,"revoked_at":"2026-04-28T09:30:00.123Z"},"request_id":"req_3BDRZ5JWFMN55Z9B4AWDNB6F4R","hash":"e168e24b357516cf3224c47c307d4e6d4127ba43aa7c7849266da09c7eea345c"}"#]].assert_eq(&lines.join("\n"));
    let report = app.app.store.verify_audit().await.unwrap();
    assert_eq!((report.entries, report.keys, report.faults), (8, 4, vec![]));
}
