//! What is refused of projects.

use expect_test::expect;
use serde_json::{Value, json};

use super::PROJECTS;
use crate::app::TestApp;
use crate::surfaces::{Fate, faults, ids};

fn all_wrong() -> Value {
    json!({
        "name": "x".repeat(101), "locale": "english!", "timezone": "Mars/Base", "website_url": "shop.example",
        "deeplink_mirror_url": "http://links.example", "link_wrap_email": "yes", "link_wrap_push": 1,
        "has_provider": true,
    })
}

#[tokio::test]
async fn all_faults_of_a_body_come_at_once() {
    let app = TestApp::new().await;
    let refused = app.as_owner(("POST", PROJECTS), Some(all_wrong())).await;
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
        content-length: 1168

        {
          "status": "error",
          "code": "validation_failed",
          "title": "The body is not valid",
          "message": "The body has 8 faults; `errors` lists them.",
          "error": "The body has 8 faults; `errors` lists them.",
          "type": "/docs/errors#validation_failed",
          "request_id": "req_05GD3T67GRZPCPXQ3RJTMW5VDT",
          "errors": [
            {
              "param": "name",
              "code": "parameter_invalid_format",
              "message": "must have at most 100 characters"
            },
            {
              "param": "locale",
              "code": "parameter_invalid_format",
              "message": "must be a BCP 47 language tag, such as en or de-AT"
            },
            {
              "param": "timezone",
              "code": "parameter_invalid_format",
              "message": "must be the name of an IANA time zone, such as Europe/Berlin"
            },
            {
              "param": "website_url",
              "code": "parameter_invalid_format",
              "message": "must be an address that begins with http:// or https://"
            },
            {
              "param": "link_wrap_email",
              "code": "parameter_invalid_format",
              "message": "must be true, false or null"
            },
            {
              "param": "link_wrap_push",
              "code": "parameter_invalid_format",
              "message": "must be true, false or null"
            },
            {
              "param": "deeplink_mirror_url",
              "code": "parameter_invalid_format",
              "message": "must be an address that begins with https://"
            },
            {
              "param": "has_provider",
              "code": "parameter_unknown",
              "message": "is not a field of this call"
            }
          ]
        }
    "#]]
    .assert_eq(&refused.snapshot());
}

#[tokio::test]
async fn what_is_required_is_required() {
    let app = TestApp::new().await;
    let nothing = app.as_owner(("POST", PROJECTS), Some(json!({}))).await;
    let missing = ["name", "locale", "timezone"].map(|param| (param.to_owned(), "parameter_missing".to_owned()));
    assert_eq!((nothing.status, faults(&nothing)), (422, missing.to_vec()));
    for field in ["name", "locale", "timezone"] {
        for (value, code) in [(json!(""), "parameter_invalid_empty"), (json!(null), "parameter_invalid_format")] {
            let refused = app.as_owner(("PATCH", &format!("{PROJECTS}/1")), Some(json!({field: value}))).await;
            assert_eq!((refused.status, faults(&refused)), (422, vec![(field.to_owned(), code.to_owned())]), "{field}");
        }
    }
}

#[tokio::test]
async fn each_field_has_its_form() {
    let app = TestApp::new().await;
    let path = format!("{PROJECTS}/1");
    let url = |characters: usize| format!("https://a.example/{}", "x".repeat(characters - 18));
    for (field, value) in [
        ("name", json!("a\u{7}b")),
        ("locale", json!("en_US")),
        ("timezone", json!("utc")),
        ("timezone", json!("+02:00")),
        ("website_url", json!("ftp://shop.example")),
        ("website_url", json!("https://me:secret@shop.example")),
        ("website_url", json!(url(256))),
        ("deeplink_mirror_url", json!("links.example")),
        ("text_opt_out_message", json!("x".repeat(2_049))),
        ("text_help_message", json!("a\u{0}b")),
        ("description", json!(app.operator())),
        ("track_opens_email", json!("true")),
        ("text_help_message", json!(5)),
    ] {
        let refused = app.as_owner(("PATCH", &path), Some(json!({field: value}))).await;
        let expected = vec![(field.to_owned(), "parameter_invalid_format".to_owned())];
        assert_eq!((refused.status, faults(&refused)), (422, expected), "{field}: {value}");
    }
    for (field, value) in [
        ("name", json!("\u{e4}".repeat(100))),
        ("locale", json!("zh-Hant-TW")),
        ("timezone", json!("America/Argentina/Ushuaia")),
        ("website_url", json!(url(255))),
        ("text_help_message", json!("x".repeat(2_048))),
        ("link_wrap_push", json!(false)),
    ] {
        let patched = app.does(app.owner(), ("PATCH", &path), Some(json!({field: value}))).await;
        assert_eq!(patched[field], value, "{field}");
    }
}

#[tokio::test]
async fn a_project_of_another_organization_is_missing() {
    let app = TestApp::new().await;
    let (_, stranger) = app.organization("other").await;
    let theirs = app.project(&stranger, "Theirs").await;
    let path = format!("{PROJECTS}/{theirs}");
    let missing = app.as_owner(("GET", &path), None).await;
    expect![[r#"
        404
        content-type: application/problem+json
        x-request-id: req_3BDRZ5JWFMN55Z9B4AWDNB6F4R
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
          "request_id": "req_3BDRZ5JWFMN55Z9B4AWDNB6F4R"
        }
    "#]]
    .assert_eq(&missing.snapshot());
    let entries = app.entries().await;
    for id in [&*theirs.to_string(), "99", "0", "01", "4294967297", "one"] {
        let path = format!("{PROJECTS}/{id}");
        for (method, path, body) in [
            ("GET", path.clone(), None),
            ("PATCH", path.clone(), Some(json!({"name": "Mine"}))),
            ("DELETE", path.clone(), None),
            ("DELETE", format!("{path}?confirm=true"), None),
            ("GET", format!("{path}/keys"), None),
            ("POST", format!("{path}/keys"), Some(json!({"name": "mine"}))),
            ("GET", format!("{path}/members"), None),
        ] {
            assert_eq!(app.ask(app.owner(), (method, &path), body).await.status, 404, "{method} {path}");
        }
    }
    assert_eq!(app.entries().await, entries);
    assert_eq!(ids(&app.does(app.owner(), ("GET", PROJECTS), None).await), [1]);
    assert_eq!(app.does(&stranger, ("GET", &path), None).await["name"], "Theirs");
}

#[tokio::test]
async fn the_role_it_takes_is_named() {
    let app = TestApp::new().await;
    let (_, member) = app.member_as("admin").await;
    let refused = app.ask(&member, ("PATCH", &format!("{PROJECTS}/1")), Some(json!({}))).await;
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
        content-length: 249

        {
          "status": "error",
          "code": "permission_denied",
          "title": "Permission denied",
          "message": "This takes a key of role `admin`.",
          "error": "This takes a key of role `admin`.",
          "type": "/docs/errors#permission_denied",
          "request_id": "req_3BDRZ5JWFMN55Z9B4AWDNB6F4R"
        }
    "#]]
    .assert_eq(&refused.snapshot());
    let (_, admin) = app.organization_key("admin").await;
    let (status, _, message) = app.refusal(&admin, ("DELETE", &format!("{PROJECTS}/1?confirm=true")), None).await;
    assert_eq!((status, message.as_str()), (403, "This takes a key of role `owner`."));
    assert_eq!(app.fate(app.admin()).await, Fate::Alive);
    let body = json!({"name": "More", "locale": "en", "timezone": "UTC"});
    assert_eq!(app.ask(&admin, ("POST", PROJECTS), Some(body.clone())).await.status, 200);
    assert_eq!(app.ask(&member, ("POST", PROJECTS), Some(body)).await.status, 403);
}

#[tokio::test]
async fn a_key_that_was_narrowed_learns_nothing() {
    let app = TestApp::new().await;
    let (id, key) = app.create(json!({"name": "narrowed", "role": "admin"})).await;
    app.does(app.admin(), ("PATCH", &format!("/api/client/keys/{id}")), Some(json!({"scope": "public"}))).await;
    let refused = app.ask(&key, ("GET", "/api/client/me"), None).await;
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
        content-length: 293

        {
          "status": "error",
          "code": "permission_denied",
          "title": "Permission denied",
          "message": "This takes a key of scope `secret`; this key is public.",
          "error": "This takes a key of scope `secret`; this key is public.",
          "type": "/docs/errors#permission_denied",
          "request_id": "req_3BDRZ5JWFMN55Z9B4AWDNB6F4R"
        }
    "#]]
    .assert_eq(&refused.snapshot());
}
