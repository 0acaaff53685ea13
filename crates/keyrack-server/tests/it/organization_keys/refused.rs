//! What is refused of an organization's keys.

use expect_test::expect;
use serde_json::{Value, json};

use super::{KEY, KEYS};
use crate::app::TestApp;
use crate::surfaces::{Fate, faults, ids};

#[tokio::test]
async fn the_role_it_takes_is_named() {
    let app = TestApp::new().await;
    let (_, admin) = app.organization_key("admin").await;
    let refused = app.ask(&admin, ("POST", KEYS), Some(json!({"name": "more"}))).await;
    expect![[r#"
        403
        content-type: application/problem+json
        x-request-id: req_MCQWVEPS67B0MCRK91APVGRKV9
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        x-ratelimit-limit: 500000
        x-ratelimit-remaining: 499999
        x-ratelimit-reset: 1777368611
        x-ratelimit-tier: starter
        content-length: 249

        {
          "status": "error",
          "code": "permission_denied",
          "title": "Permission denied",
          "message": "This takes a key of role `owner`.",
          "error": "This takes a key of role `owner`.",
          "type": "/docs/errors#permission_denied",
          "request_id": "req_MCQWVEPS67B0MCRK91APVGRKV9"
        }
    "#]]
    .assert_eq(&refused.snapshot());
    let (_, member) = app.organization_key("member").await;
    for (key, path, role) in [
        (&admin, KEY, "owner"),
        (&member, KEYS, "owner"),
        (&member, "/api/admin/audit-events", "admin"),
        (&member, "/api/admin/projects/1/members", "admin"),
    ] {
        let (status, code, message) = app.refusal(key, ("GET", path), None).await;
        assert_eq!((status, code.as_str()), (403, "permission_denied"), "{path}");
        assert_eq!(message, format!("This takes a key of role `{role}`."), "{path}");
    }
}

#[tokio::test]
async fn keys_of_other_kinds_and_of_others_are_missing() {
    let app = TestApp::new().await;
    let (id, stranger) = app.organization("other").await;
    assert_eq!(id, 2);
    let missing = app.as_owner(("GET", &format!("{KEYS}/4")), None).await;
    expect![[r#"
        404
        content-type: application/problem+json
        x-request-id: req_MCQWVEPS67B0MCRK91APVGRKV9
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        x-ratelimit-limit: 500000
        x-ratelimit-remaining: 499999
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
          "request_id": "req_MCQWVEPS67B0MCRK91APVGRKV9"
        }
    "#]]
    .assert_eq(&missing.snapshot());
    let entries = app.entries().await;
    let mut bodies = std::collections::BTreeSet::new();
    // The other's owner key, the operator's, a project's, ones that never were, and what is no number.
    for id in ["4", "1", "3", "99", "0", "-2", "02", "2.0", "9223372036854775808", "two", "%F0"] {
        for (method, body) in [("GET", None), ("PATCH", Some(json!({"name": "mine"}))), ("DELETE", None)] {
            let reply = app.as_owner((method, &format!("{KEYS}/{id}")), body).await;
            assert_eq!(reply.status, 404, "{method} {id}");
            let mut body = reply.json();
            body["request_id"] = Value::Null;
            bodies.insert(body.to_string());
        }
    }
    assert_eq!(bodies.len(), 1, "nothing tells them apart");
    assert_eq!(app.entries().await, entries);
    assert_eq!(app.fate(&stranger).await, Fate::Alive);
    assert_eq!(ids(&app.does(&stranger, ("GET", KEYS), None).await), [4]);
}

#[tokio::test]
async fn all_faults_of_a_body_come_at_once() {
    let app = TestApp::new().await;
    let body = json!({"name": "", "role": "support", "description": 7, "scope": "secret", "id": 9});
    let refused = app.as_owner(("POST", KEYS), Some(body)).await;
    expect![[r#"
        422
        content-type: application/problem+json
        x-request-id: req_05GD3T67GRZPCPXQ3RJTMW5VDT
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        x-ratelimit-limit: 500000
        x-ratelimit-remaining: 499999
        x-ratelimit-reset: 1777368611
        x-ratelimit-tier: starter
        content-length: 726

        {
          "status": "error",
          "code": "validation_failed",
          "title": "The body is not valid",
          "message": "The body has 5 faults; `errors` lists them.",
          "error": "The body has 5 faults; `errors` lists them.",
          "type": "/docs/errors#validation_failed",
          "request_id": "req_05GD3T67GRZPCPXQ3RJTMW5VDT",
          "errors": [
            {
              "param": "name",
              "code": "parameter_invalid_empty",
              "message": "must not be empty"
            },
            {
              "param": "description",
              "code": "parameter_invalid_format",
              "message": "must be a string or null"
            },
            {
              "param": "role",
              "code": "parameter_invalid_format",
              "message": "must be one of: member, admin, owner"
            },
            {
              "param": "id",
              "code": "parameter_unknown",
              "message": "is not a field of this call"
            },
            {
              "param": "scope",
              "code": "parameter_unknown",
              "message": "is not a field of this call"
            }
          ]
        }
    "#]]
    .assert_eq(&refused.snapshot());

    app.organization_key("admin").await;
    let invalid = |param: &str| vec![(param.to_owned(), "parameter_invalid_format".to_owned())];
    for (body, param) in [
        (json!({"name": null}), "name"),
        (json!({"name": "\u{e4}".repeat(256)}), "name"),
        (json!({"name": format!("like {}", app.owner())}), "name"),
        (json!({"role": "publisher"}), "role"),
        (json!({"role": null}), "role"),
        (json!({"description": "\u{e4}".repeat(2_049)}), "description"),
    ] {
        let reply = app.as_owner(("PATCH", KEY), Some(body.clone())).await;
        assert_eq!((reply.status, faults(&reply)), (422, invalid(param)), "{body}");
    }
    let none = app.as_owner(("POST", KEYS), Some(json!({}))).await;
    assert_eq!(faults(&none), [("name".to_owned(), "parameter_missing".to_owned())]);
}
