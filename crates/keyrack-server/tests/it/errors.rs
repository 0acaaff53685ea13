//! Every wrong input gets its code; whole replies where they are worth reading.

use axum::body::Body;
use axum::http::Request;
use expect_test::expect;
use serde_json::{Value, json};

use tower::ServiceExt as _;

use crate::app::{Reply, TestApp};

const KEYS: &str = "/api/client/keys";
const KEY: &str = "/api/client/keys/4";

/// A request as the admin, with everything about its body open.
async fn raw(app: &TestApp, headers: &[(&str, &str)], body: impl Into<Body>) -> Reply {
    let mut request = Request::post(KEYS).header("Authorization", format!("Bearer {}", app.admin()));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    app.send(request.body(body.into()).unwrap()).await
}

fn code(reply: &Reply) -> (u16, String) {
    let json = reply.json();
    assert_eq!(reply.headers["content-type"], "application/problem+json");
    assert_eq!(json["status"], "error");
    assert_eq!(json["message"], json["error"]);
    assert_eq!(json["request_id"], reply.headers["x-request-id"].to_str().unwrap());
    (reply.status, json["code"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn all_faults_of_a_body_come_at_once() {
    let app = TestApp::new().await;
    let body = json!({"name": " ", "role": "boss", "scope": 7, "description": ["x"], "value": "sk_x", "id": 1});
    let reply = app.call(("POST", KEYS), Some(body)).await;
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
        content-length: 845

        {
          "status": "error",
          "code": "validation_failed",
          "title": "The body is not valid",
          "message": "The body has 6 faults; `errors` lists them.",
          "error": "The body has 6 faults; `errors` lists them.",
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
              "param": "scope",
              "code": "parameter_invalid_format",
              "message": "must be one of: public, secret"
            },
            {
              "param": "role",
              "code": "parameter_invalid_format",
              "message": "must be one of: support, smtpproxy, editor, publisher, admin"
            },
            {
              "param": "id",
              "code": "parameter_unknown",
              "message": "is not a field of this call"
            },
            {
              "param": "value",
              "code": "parameter_unknown",
              "message": "is not a field of this call"
            }
          ]
        }
    "#]]
    .assert_eq(&reply.snapshot());
}

#[tokio::test]
async fn no_key_and_a_bad_key_get_the_same_body_and_their_challenge() {
    let app = TestApp::new().await;
    let nobody = app.send(Request::get(KEYS).body(Body::empty()).unwrap()).await;
    expect![[r#"
        401
        content-type: application/problem+json
        www-authenticate: Bearer realm="keyrack"
        x-request-id: req_05GD3T67GRZPCPXQ3RJTMW5VDT
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        content-length: 338

        {
          "status": "error",
          "code": "authentication_required",
          "title": "Authentication is required",
          "message": "Send a valid key for this surface as `Authorization: Bearer <key>`.",
          "error": "Send a valid key for this surface as `Authorization: Bearer <key>`.",
          "type": "/docs/errors#authentication_required",
          "request_id": "req_05GD3T67GRZPCPXQ3RJTMW5VDT"
        }
    "#]]
    .assert_eq(&nobody.snapshot());
    let stranger = app.call_with("sk_unknown", ("GET", KEYS), None, &[]).await;
    expect![[r#"
        401
        content-type: application/problem+json
        www-authenticate: Bearer realm="keyrack", error="invalid_token"
        x-request-id: req_XEDPFRGTS0YH9EDF5GQD24HQ7G
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        content-length: 338

        {
          "status": "error",
          "code": "authentication_required",
          "title": "Authentication is required",
          "message": "Send a valid key for this surface as `Authorization: Bearer <key>`.",
          "error": "Send a valid key for this surface as `Authorization: Bearer <key>`.",
          "type": "/docs/errors#authentication_required",
          "request_id": "req_XEDPFRGTS0YH9EDF5GQD24HQ7G"
        }
    "#]]
    .assert_eq(&stranger.snapshot());
}

#[tokio::test]
async fn too_low_a_role_is_told_which_it_takes() {
    let app = TestApp::new().await;
    let (_, value) = app.create(json!({"name": "reader", "role": "publisher"})).await;
    let reply = app.call_with(&value, ("GET", KEYS), None, &[]).await;
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
          "message": "This takes a key of role `admin`.",
          "error": "This takes a key of role `admin`.",
          "type": "/docs/errors#permission_denied",
          "request_id": "req_MCQWVEPS67B0MCRK91APVGRKV9"
        }
    "#]]
    .assert_eq(&reply.snapshot());
}

#[tokio::test]
async fn what_is_not_there_or_not_allowed_there() {
    let app = TestApp::new().await;
    let nowhere = app.call(("GET", "/api/client/nothing"), None).await;
    expect![[r#"
        404
        content-type: application/problem+json
        x-request-id: req_05GD3T67GRZPCPXQ3RJTMW5VDT
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
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
    .assert_eq(&nowhere.snapshot());
    let wrong_method = app.call(("PUT", KEYS), None).await;
    expect![[r#"
        405
        content-type: application/problem+json
        x-request-id: req_XEDPFRGTS0YH9EDF5GQD24HQ7G
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        allow: POST,GET,HEAD
        content-length: 298

        {
          "status": "error",
          "code": "method_not_allowed",
          "title": "The method is not allowed here",
          "message": "This path knows other methods; `Allow` lists them.",
          "error": "This path knows other methods; `Allow` lists them.",
          "type": "/docs/errors#method_not_allowed",
          "request_id": "req_XEDPFRGTS0YH9EDF5GQD24HQ7G"
        }
    "#]]
    .assert_eq(&wrong_method.snapshot());
}

#[tokio::test]
async fn a_publishable_key_stays_public() {
    let app = TestApp::new().await;
    app.create(json!({"name": "widget", "scope": "public"})).await;
    let refused = app.call(("PATCH", KEY), Some(json!({"scope": "secret"}))).await;
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
        content-length: 429

        {
          "status": "error",
          "code": "state_conflict",
          "title": "The state of the resource does not allow this",
          "message": "A publishable key cannot become secret: its value has been public. Create a new key with scope `secret` instead.",
          "error": "A publishable key cannot become secret: its value has been public. Create a new key with scope `secret` instead.",
          "type": "/docs/errors#state_conflict",
          "request_id": "req_MCQWVEPS67B0MCRK91APVGRKV9"
        }
    "#]].assert_eq(&refused.snapshot());
    assert_eq!(app.call(("PATCH", KEY), Some(json!({"scope": "public"}))).await.status, 200);
}

#[tokio::test]
async fn each_wrong_body_has_its_code() {
    let app = TestApp::new().await;
    app.create(json!({"name": "bot"})).await;
    let long = |characters: usize| "\u{e4}".repeat(characters);
    let cases: Vec<(Value, &str, &str)> = vec![
        (json!({}), "name", "parameter_missing"),
        (json!({"name": null}), "name", "parameter_invalid_format"),
        (json!({"name": ""}), "name", "parameter_invalid_empty"),
        (json!({"name": "\t \n"}), "name", "parameter_invalid_empty"),
        (json!({"name": "a\u{7}b"}), "name", "parameter_invalid_format"),
        (json!({"name": long(256)}), "name", "parameter_invalid_format"),
        (json!({"name": ["a"]}), "name", "parameter_invalid_format"),
        (json!({"name": "a", "scope": "SECRET"}), "scope", "parameter_invalid_format"),
        (json!({"name": "a", "scope": null}), "scope", "parameter_invalid_format"),
        (json!({"name": "a", "role": "owner"}), "role", "parameter_invalid_format"),
        (json!({"name": "a", "description": long(2_049)}), "description", "parameter_invalid_format"),
        (json!({"name": "a", "description": "a\u{0}b"}), "description", "parameter_invalid_format"),
        (json!({"name": "a", "description": 3}), "description", "parameter_invalid_format"),
        (json!({"name": format!("my {}", app.admin())}), "name", "parameter_invalid_format"),
        (json!({"name": "a", "description": format!("({})", app.admin())}), "description", "parameter_invalid_format"),
        (json!({"name": "a", "is_system_key": true}), "is_system_key", "parameter_unknown"),
        (json!({"name": "a", "Name": "b"}), "Name", "parameter_unknown"),
        (json!([]), "body", "parameter_invalid_format"),
        (json!("name"), "body", "parameter_invalid_format"),
    ];
    for (body, param, inner) in cases {
        let reply = app.call(("POST", KEYS), Some(body.clone())).await;
        assert_eq!(code(&reply), (422, "validation_failed".to_owned()), "{body}");
        let errors = reply.json()["errors"].clone();
        assert_eq!(errors.as_array().unwrap().len(), 1, "{errors}");
        assert_eq!((&errors[0]["param"], &errors[0]["code"]), (&json!(param), &json!(inner)), "{body}");
    }
    for fine in [json!({"name": long(255)}), json!({"name": "a", "description": long(2_048)})] {
        assert_eq!(app.call(("POST", KEYS), Some(fine)).await.status, 200);
    }
    let twice = raw(&app, &[("content-type", "application/json")], r#"{"name": "a", "name": "b"}"#).await;
    assert_eq!(code(&twice), (422, "validation_failed".to_owned()));
    let patch = app.call(("PATCH", KEY), Some(json!({"name": null}))).await;
    assert_eq!(code(&patch), (422, "validation_failed".to_owned()));
}

#[tokio::test]
async fn each_wrong_envelope_has_its_code() {
    let app = TestApp::new().await;
    let json = ("content-type", "application/json");
    let named = r#"{"name": "a"}"#;
    type Headers = Vec<(&'static str, &'static str)>;
    let cases: Vec<(Headers, Body, (u16, &str))> = vec![
        (vec![json], "".into(), (400, "parameter_invalid_format")),
        (vec![json], "{".into(), (400, "parameter_invalid_format")),
        (vec![json], "{} {}".into(), (400, "parameter_invalid_format")),
        (vec![json], b"{\"name\": \"\xff\"}".to_vec().into(), (400, "parameter_invalid_format")),
        (vec![json], "[".repeat(10_000).into(), (422, "validation_failed")),
        (vec![json], format!("{{\"a\": {}", "[".repeat(10_000)).into(), (400, "parameter_invalid_format")),
        (vec![json], vec![b' '; (64 << 10) + 1].into(), (413, "body_too_large")),
        (vec![], named.into(), (415, "media_type_unsupported")),
        (vec![("content-type", "text/plain")], named.into(), (415, "media_type_unsupported")),
        (vec![json, json], named.into(), (415, "media_type_unsupported")),
        (vec![json, ("content-encoding", "gzip")], named.into(), (415, "media_type_unsupported")),
        (vec![json, ("idempotency-key", "")], named.into(), (400, "idempotency_key_invalid")),
        (
            vec![json, ("idempotency-key", "a"), ("idempotency-key", "a")],
            named.into(),
            (400, "idempotency_key_invalid"),
        ),
        (vec![json, ("spotzee-version", "yesterday")], named.into(), (400, "parameter_invalid_format")),
        (vec![json, ("spotzee-version", "2026-13-01")], named.into(), (400, "parameter_invalid_format")),
        (vec![json, ("spotzee-version", "2025-01-01")], named.into(), (400, "version_unsupported")),
    ];
    for (headers, body, (status, expected)) in cases {
        let shown = format!("{headers:?}");
        assert_eq!(code(&raw(&app, &headers, body).await), (status, expected.to_owned()), "{shown}");
    }
    let long = "k".repeat(256);
    let too_long = raw(&app, &[json, ("idempotency-key", &long)], named).await;
    assert_eq!(code(&too_long), (400, "idempotency_key_invalid".to_owned()));
    let charset =
        raw(&app, &[("content-type", "Application/JSON; charset=utf-8"), ("spotzee-version", "2026-04-28")], named);
    assert_eq!(charset.await.status, 200);
}

#[tokio::test]
async fn each_wrong_query_has_its_code_and_names_the_value() {
    let app = TestApp::new().await;
    for (query, param) in [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=-2", "limit"),
        ("limit=", "limit"),
        ("limit=1e1", "limit"),
        ("limit=+5", "limit"),
        ("limit=007", "limit"),
        ("limit=99999999999999999999", "limit"),
        ("limit=1&limit=1", "limit"),
        ("sort=value", "sort"),
        ("sort=", "sort"),
        ("direction=up", "direction"),
        ("page=first", "page"),
        ("cursor=nonsense", "cursor"),
        ("cursor=", "cursor"),
        ("q=%00", "q"),
    ] {
        let reply = app.call(("GET", &format!("{KEYS}?{query}")), None).await;
        assert_eq!(code(&reply), (400, "parameter_invalid_format".to_owned()), "{query}");
        assert_eq!(reply.json()["param"], param, "{query}");
    }
    let unknown = app.call(("GET", "/api/client/keys?limt=5"), None).await;
    assert_eq!(code(&unknown), (400, "parameter_unknown".to_owned()));
    let no_cursor = app.call(("GET", "/api/client/keys?page=prev"), None).await;
    assert_eq!(code(&no_cursor), (400, "parameter_missing".to_owned()));
}

#[tokio::test]
async fn a_panic_and_a_time_out_are_problems_too() {
    let app = TestApp::new().await;
    let routes = axum::Router::new()
        .route("/panic", axum::routing::get(async || -> &'static str { panic!("on purpose") }))
        .route("/never", axum::routing::get(std::future::pending::<&'static str>));
    let router = keyrack_server::http::around(app.app.clone(), routes);
    let send = async |path: &str| {
        let request = Request::get(path).body(Body::empty()).unwrap();
        crate::app::reply_of(router.clone().oneshot(request).await.unwrap()).await
    };
    let panicked = send("/panic").await;
    assert_eq!(code(&panicked), (500, "internal_error".to_owned()));
    assert!(!panicked.text.contains("on purpose"));
    // The clock runs ahead as soon as everybody waits.
    tokio::time::pause();
    let late = send("/never").await;
    assert_eq!(code(&late), (503, "service_unavailable".to_owned()));
    assert!(late.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_a_problem_too() {
    let app = TestApp::new().await;
    tokio::time::pause();
    let never = Body::from_stream(futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>());
    let reply = raw(&app, &[("content-type", "application/json")], never).await;
    assert_eq!(code(&reply), (408, "request_timeout".to_owned()));
}

#[tokio::test]
async fn more_faults_than_are_worth_listing_are_counted() {
    let app = TestApp::new().await;
    let body: serde_json::Map<_, _> = (0..300).map(|number| (format!("field_{number}"), json!(1))).collect();
    let reply = app.call(("POST", KEYS), Some(body.into())).await.json();
    assert_eq!(reply["message"], "The body has 301 faults; `errors` lists the first 100.");
    assert_eq!(reply["errors"].as_array().unwrap().len(), 100);
}

#[tokio::test]
async fn two_lengths_for_one_body_are_refused() {
    let app = TestApp::new().await;
    let both = [("content-type", "application/json"), ("content-length", "13"), ("transfer-encoding", "chunked")];
    let reply = raw(&app, &both, r#"{"name": "a"}"#).await;
    assert_eq!(code(&reply), (400, "parameter_invalid_format".to_owned()));
}

#[tokio::test]
async fn a_secret_in_the_wrong_place_is_not_repeated() {
    let app = TestApp::new().await;
    let admin = app.admin().to_owned();
    let field = app.call(("POST", KEYS), Some(json!({"name": "a", admin.as_str(): 1}))).await;
    let query = app.call(("GET", &format!("{KEYS}?{admin}={admin}")), None).await;
    let path = app.call(("GET", &format!("{KEYS}/{admin}")), None).await;
    let word = app.call(("POST", KEYS), Some(json!({"name": "a", "role": admin.as_str()}))).await;
    for (reply, status) in [(field, 422), (query, 400), (path, 404), (word, 422)] {
        assert_eq!(reply.status, status);
        assert!(!reply.text.contains(&admin[..16]), "{}", reply.text);
    }
}

#[tokio::test]
async fn every_code_is_explained_in_the_documentation_and_nothing_else_is() {
    use keyrack_server::http::problem::Code;
    let page = include_str!("../../../../docs/errors.md");
    let explained: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let known: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(explained, known);
}
