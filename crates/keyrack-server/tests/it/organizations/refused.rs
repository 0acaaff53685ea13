//! What is refused of organizations.

use expect_test::expect;
use serde_json::json;

use super::{ORGANIZATION, ORGANIZATIONS};
use crate::app::TestApp;
use crate::surfaces::{Fate, faults, ids};

#[tokio::test]
async fn a_username_is_taken_once() {
    let app = TestApp::new().await;
    app.organization("acme").await;
    let taken = app.as_operator(("POST", ORGANIZATIONS), Some(json!({"username": "acme"}))).await;
    expect![[r#"
        409
        content-type: application/problem+json
        x-request-id: req_MCQWVEPS67B0MCRK91APVGRKV9
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        x-ratelimit-limit: 500000
        x-ratelimit-remaining: 499998
        x-ratelimit-reset: 1777368611
        x-ratelimit-tier: starter
        content-length: 338

        {
          "status": "error",
          "code": "resource_already_exists",
          "title": "The resource already exists",
          "message": "An organization has or had this username. Choose another.",
          "error": "An organization has or had this username. Choose another.",
          "type": "/docs/errors#resource_already_exists",
          "request_id": "req_MCQWVEPS67B0MCRK91APVGRKV9",
          "param": "username"
        }
    "#]]
    .assert_eq(&taken.snapshot());
    let first = app.as_operator(("POST", ORGANIZATIONS), Some(json!({"username": " default "}))).await;
    assert_eq!((first.status, &first.json()["code"]), (409, &json!("resource_already_exists")));
    assert_eq!(ids(&app.does(app.operator(), ("GET", ORGANIZATIONS), None).await), [2, 1]);
}

#[tokio::test]
async fn all_faults_of_a_body_come_at_once() {
    let app = TestApp::new().await;
    let body = json!({"username": "Acme Ltd", "domain": "https://acme.example", "state": "suspended"});
    let refused = app.as_operator(("POST", ORGANIZATIONS), Some(body)).await;
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
        content-length: 589

        {
          "status": "error",
          "code": "validation_failed",
          "title": "The body is not valid",
          "message": "The body has 3 faults; `errors` lists them.",
          "error": "The body has 3 faults; `errors` lists them.",
          "type": "/docs/errors#validation_failed",
          "request_id": "req_05GD3T67GRZPCPXQ3RJTMW5VDT",
          "errors": [
            {
              "param": "username",
              "code": "parameter_invalid_format",
              "message": "must have only a-z, 0-9 and -"
            },
            {
              "param": "domain",
              "code": "parameter_invalid_format",
              "message": "must be a domain name in lower case, such as acme.example"
            },
            {
              "param": "state",
              "code": "parameter_unknown",
              "message": "is not a field of this call"
            }
          ]
        }
    "#]]
    .assert_eq(&refused.snapshot());
}

#[tokio::test]
async fn usernames_and_domains_have_a_form() {
    let app = TestApp::new().await;
    for (field, value, code) in [
        ("username", json!(""), "parameter_invalid_empty"),
        ("username", json!("x".repeat(65)), "parameter_invalid_format"),
        ("username", json!("Acme"), "parameter_invalid_format"),
        ("username", json!("a_b"), "parameter_invalid_format"),
        ("username", json!("caf\u{e9}"), "parameter_invalid_format"),
        ("username", json!(null), "parameter_invalid_format"),
        ("username", json!(7), "parameter_invalid_format"),
        ("domain", json!(""), "parameter_invalid_empty"),
        ("domain", json!("Acme.example"), "parameter_invalid_format"),
        ("domain", json!("acme..example"), "parameter_invalid_format"),
        ("domain", json!("-acme.example"), "parameter_invalid_format"),
        ("domain", json!(format!("{}.example", "x".repeat(64))), "parameter_invalid_format"),
        ("domain", json!(["acme.example"]), "parameter_invalid_format"),
    ] {
        let mut body = json!({"username": "acme"});
        body[field] = value;
        let refused = app.as_operator(("POST", ORGANIZATIONS), Some(body.clone())).await;
        assert_eq!((refused.status, faults(&refused)), (422, vec![(field.to_owned(), code.to_owned())]), "{body}");
    }
    let nothing = app.as_operator(("POST", ORGANIZATIONS), Some(json!({}))).await;
    assert_eq!(faults(&nothing), [("username".to_owned(), "parameter_missing".to_owned())]);
    for fine in [
        json!({"username": "x".repeat(64)}),
        json!({"username": "0-9", "domain": null}),
        json!({"username": "dotted", "domain": "a.b-c.example"}),
    ] {
        app.does(app.operator(), ("POST", ORGANIZATIONS), Some(fine)).await;
    }
}

#[tokio::test]
async fn archive_wants_to_be_confirmed_and_counts_what_would_die() {
    let app = TestApp::new().await;
    let (_, owner) = app.organization("acme").await;
    let one = app.as_operator(("DELETE", ORGANIZATION), None).await;
    expect![[r#"
        409
        content-type: application/problem+json
        x-request-id: req_MCQWVEPS67B0MCRK91APVGRKV9
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        x-ratelimit-limit: 500000
        x-ratelimit-remaining: 499998
        x-ratelimit-reset: 1777368611
        x-ratelimit-tier: starter
        content-length: 383

        {
          "status": "error",
          "code": "state_conflict",
          "title": "The state of the resource does not allow this",
          "message": "This would revoke 1 live key, for ever. Nothing was done. To do it, send `?confirm=true`.",
          "error": "This would revoke 1 live key, for ever. Nothing was done. To do it, send `?confirm=true`.",
          "type": "/docs/errors#state_conflict",
          "request_id": "req_MCQWVEPS67B0MCRK91APVGRKV9"
        }
    "#]]
    .assert_eq(&one.snapshot());

    app.project(&owner, "Shop").await;
    let keys = "/api/admin/projects/2/keys";
    for name in ["one", "two"] {
        app.made(&owner, keys, json!({"name": name})).await;
    }
    app.made(app.operator(), "/api/operator/projects/2/system-keys", json!({"name": "relay"})).await;
    app.does(&owner, ("DELETE", &format!("{keys}/5")), None).await;
    let (before, entries) = (app.does(app.operator(), ("GET", ORGANIZATION), None).await, app.entries().await);
    let (status, code, message) = app.refusal(app.operator(), ("DELETE", ORGANIZATION), None).await;
    assert_eq!((status, code.as_str()), (409, "state_conflict"));
    assert_eq!(message, "This would revoke 3 live keys, for ever. Nothing was done. To do it, send `?confirm=true`.");
    for query in ["confirm=false", "confirm=TRUE", "confirm=1", "confirm=", "confirm=true&confirm=true"] {
        let reply = app.as_operator(("DELETE", &format!("{ORGANIZATION}?{query}")), None).await;
        assert_eq!((reply.status, &reply.json()["param"]), (400, &json!("confirm")), "{query}");
    }
    let unknown = app.code(app.operator(), ("DELETE", &format!("{ORGANIZATION}?confirmed=true")), None).await;
    assert_eq!(unknown, (400, "parameter_unknown".to_owned()));
    assert_eq!(app.does(app.operator(), ("GET", ORGANIZATION), None).await, before);
    assert_eq!((app.entries().await, app.fate(&owner).await), (entries, Fate::Alive));
}

#[tokio::test]
async fn what_is_not_there_is_missing() {
    let app = TestApp::new().await;
    let missing = app.as_operator(("GET", ORGANIZATION), None).await;
    expect![[r#"
        404
        content-type: application/problem+json
        x-request-id: req_05GD3T67GRZPCPXQ3RJTMW5VDT
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
          "request_id": "req_05GD3T67GRZPCPXQ3RJTMW5VDT"
        }
    "#]]
    .assert_eq(&missing.snapshot());
    let entries = app.entries().await;
    for id in ["2", "0", "-1", "01", "4294967297", "default"] {
        let path = format!("{ORGANIZATIONS}/{id}");
        for (method, path) in [
            ("GET", path.clone()),
            ("DELETE", path.clone()),
            ("DELETE", format!("{path}?confirm=true")),
            ("POST", format!("{path}/suspend")),
            ("POST", format!("{path}/resume")),
        ] {
            let code = app.code(app.operator(), (method, &path), None).await;
            assert_eq!(code, (404, "resource_missing".to_owned()), "{method} {path}");
        }
    }
    assert_eq!(app.entries().await, entries);
}

#[tokio::test]
async fn a_bare_call_takes_no_fields() {
    let app = TestApp::new().await;
    let (_, owner) = app.organization("acme").await;
    let path = format!("{ORGANIZATION}/suspend");
    let refused = app.as_operator(("POST", &path), Some(json!({"reason": "late"}))).await;
    expect![[r#"
        422
        content-type: application/problem+json
        x-request-id: req_MCQWVEPS67B0MCRK91APVGRKV9
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        x-ratelimit-limit: 500000
        x-ratelimit-remaining: 499998
        x-ratelimit-reset: 1777368611
        x-ratelimit-tier: starter
        content-length: 358

        {
          "status": "error",
          "code": "validation_failed",
          "title": "The body is not valid",
          "message": "`reason`: is not a field of this call",
          "error": "`reason`: is not a field of this call",
          "type": "/docs/errors#validation_failed",
          "request_id": "req_MCQWVEPS67B0MCRK91APVGRKV9",
          "errors": [
            {
              "param": "reason",
              "code": "parameter_unknown",
              "message": "is not a field of this call"
            }
          ]
        }
    "#]]
    .assert_eq(&refused.snapshot());
    assert_eq!(app.as_operator(("POST", &path), Some(json!([]))).await.status, 422);
    assert_eq!(app.fate(&owner).await, Fate::Alive);
}
