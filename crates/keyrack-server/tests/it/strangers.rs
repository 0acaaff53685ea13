//! Every route times every kind of stranger. A route without a row fails.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::Request;
use keyrack::{ApiKey, KeyKind};
use keyrack_server::audit::Actor;
use keyrack_server::http;
use keyrack_server::installation::{self, Recover};
use keyrack_server::store::{By, Need};
use serde_json::json;

use crate::app::TestApp;

/// What a stranger may see of a route.
#[derive(Clone, Copy, PartialEq)]
enum Access {
    /// Nothing without a project's secret key of role `admin`.
    ProjectAdmin,
    /// Everything: it holds no secret.
    Anyone,
}
use Access::{Anyone, ProjectAdmin};

const ROUTES: [(&str, &str, Access); 12] = [
    ("get", "/api/client/keys", ProjectAdmin),
    ("post", "/api/client/keys", ProjectAdmin),
    ("get", "/api/client/keys/{keyId}", ProjectAdmin),
    ("patch", "/api/client/keys/{keyId}", ProjectAdmin),
    ("delete", "/api/client/keys/{keyId}", ProjectAdmin),
    ("get", "/api/openapi.json", Anyone),
    ("get", "/docs", Anyone),
    ("get", "/docs.md", Anyone),
    ("get", "/docs/{page}", Anyone),
    ("get", "/livez", Anyone),
    ("get", "/llms.txt", Anyone),
    ("get", "/readyz", Anyone),
];

#[test]
fn every_route_has_a_row() {
    let document = serde_json::to_value(http::openapi()).unwrap();
    let mut routes = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        routes.extend(operations.as_object().unwrap().keys().map(|method| (method.clone(), path.clone())));
    }
    let rows: BTreeSet<_> = ROUTES.iter().map(|(method, path, _)| ((*method).to_owned(), (*path).to_owned())).collect();
    assert_eq!(routes, rows);
}

/// Every stranger: who it is, the headers it sends, the status it gets where an admin is needed.
async fn strangers(app: &TestApp) -> Vec<(String, Vec<String>, u16)> {
    let mut strangers = vec![("no key".to_owned(), vec![], 401)];
    let mut stranger = |who: &str, header: String, status| strangers.push((who.to_owned(), vec![header], status));
    let bearer = |key: &str| format!("Bearer {key}");
    let admin = app.admin().to_owned();

    stranger("garbage", bearer("garbage"), 401);
    stranger("empty", "Bearer ".to_owned(), 401);
    stranger("no scheme", admin.clone(), 401);
    stranger("basic", format!("Basic {admin}"), 401);
    stranger("two spaces", format!("Bearer  {admin}"), 401);
    stranger("a space behind", format!("Bearer {admin} x"), 401);
    stranger("two values", format!("Bearer {admin}, Bearer {admin}"), 401);
    stranger("folded", bearer(&admin.to_lowercase()), 401);
    stranger("a mask", bearer(app.first_keys.project.mask().as_str()), 401);
    stranger("100 kB", bearer(&"A".repeat(100_000)), 401);
    stranger("never issued", bearer(ApiKey::generate(KeyKind::Secret, &[9; 26]).expose()), 401);
    stranger("an organization's owner", bearer(app.first_keys.organization.expose()), 401);
    stranger("an operator", bearer(app.first_keys.operator.expose()), 401);

    let (id, revoked) = app.create(json!({"name": "revoked", "role": "admin"})).await;
    assert_eq!(app.call(("DELETE", &format!("/api/client/keys/{id}")), None).await.status, 200);
    stranger("revoked", bearer(&revoked), 401);
    let (_, publishable) = app.create(json!({"name": "pk", "role": "admin", "scope": "public"})).await;
    stranger("publishable", bearer(&publishable), 401);
    for role in ["support", "smtpproxy", "editor", "publisher"] {
        let (_, low) = app.create(json!({"name": role, "role": role})).await;
        stranger(role, bearer(&low), 403);
    }
    let (id, narrowed) = app.create(json!({"name": "narrowed", "role": "admin"})).await;
    let narrow = app.call(("PATCH", &format!("/api/client/keys/{id}")), Some(json!({"scope": "public"}))).await;
    assert_eq!(narrow.status, 200);
    stranger("narrowed to public", bearer(&narrowed), 403);
    strangers.push(("two headers".to_owned(), vec![bearer(&admin), bearer(&admin)], 401));
    strangers
}

#[tokio::test]
async fn every_route_times_every_stranger() {
    let app = TestApp::new().await;
    let (id, _) = app.create(json!({"name": "the target"})).await;
    let strangers = strangers(&app).await;
    let before = app.call(("GET", "/api/client/keys?limit=-1"), None).await.text;
    let entries = app.app.store.verify_audit().await.unwrap().entries;

    let mut bodies = BTreeSet::new();
    for (method, path, access) in ROUTES {
        let path = path.replace("{keyId}", &id.to_string()).replace("{page}", "errors.md");
        for (who, headers, status) in &strangers {
            let mut request = Request::builder().method(method.to_uppercase().as_str()).uri(&path);
            for header in headers {
                request = request.header("Authorization", header);
            }
            // The body would do, so that only the caller can be what is refused.
            let request = request.header("Content-Type", "application/json").body(Body::from(r#"{"name": "x"}"#));
            let reply = app.send(request.unwrap()).await;
            let expected = if access == Anyone { 200 } else { *status };
            assert_eq!(reply.status, expected, "{who} on {method} {path}: {}", reply.text);
            if reply.status == 401 {
                let challenge = reply.headers["www-authenticate"].to_str().unwrap();
                assert_eq!(challenge.contains("invalid_token"), !headers.is_empty(), "{who}");
                let mut body = reply.json();
                body["request_id"] = "".into();
                bodies.insert(body.to_string());
            }
        }
    }
    assert_eq!(bodies.len(), 1, "every 401 has the same body");
    assert_eq!(app.call(("GET", "/api/client/keys?limit=-1"), None).await.text, before, "no stranger changed a thing");
    assert_eq!(app.app.store.verify_audit().await.unwrap().entries, entries);
}

#[tokio::test]
async fn identity_in_the_wrong_place_opens_nothing() {
    let app = TestApp::new().await;
    let admin = app.admin();
    for (name, value) in [
        ("x-api-key", admin),
        ("cookie", admin),
        ("x-project-id", "1"),
        ("x-forwarded-user", "admin"),
        ("authorization_", admin),
    ] {
        let request = Request::get(format!("/api/client/keys?key={admin}&userId=1")).header(name, value);
        assert_eq!(app.send(request.body(Body::empty()).unwrap()).await.status, 401, "{name}");
    }
}

#[tokio::test]
async fn the_keys_of_another_project_are_missing_like_ones_that_never_were() {
    let app = TestApp::new().await;
    let (own, _) = app.create(json!({"name": "MARKER of the first project"})).await;
    let store = &app.app.store;
    let by = By { actor: Actor::host(), request_id: "test".to_owned() };
    let mut writing = store.begin(Need::Ordinary).await.unwrap();
    let other = writing.insert_project(1, "Other", &by).await.unwrap();
    writing.commit().await.unwrap();
    let key = installation::recover(store, Recover::Project(other), app.app.random.as_ref()).await.unwrap();

    let listed = app.call_with(key.expose(), ("GET", "/api/client/keys?limit=-1&q=marker"), None, &[]).await;
    assert_eq!(listed.json()["results"], json!([]));
    for id in [own.to_string(), "999".into(), "0".into(), "-1".into(), "x".into(), format!("0{own}"), format!("+{own}")]
    {
        let path = format!("/api/client/keys/{id}");
        for (method, body) in [("GET", None), ("PATCH", Some(json!({"name": "mine now"}))), ("DELETE", None)] {
            let reply = app.call_with(key.expose(), (method, &path), body, &[]).await;
            let mut body = reply.json();
            body["request_id"] = "".into();
            assert_eq!((reply.status, &body["code"]), (404, &json!("resource_missing")), "{method} {id}");
        }
    }
    let cursor = app.call(("GET", "/api/client/keys?limit=1"), None).await.json()["nextCursor"].clone();
    let path = format!("/api/client/keys?cursor={}", cursor.as_str().unwrap());
    assert_eq!(app.call_with(key.expose(), ("GET", &path), None, &[]).await.status, 400);
    assert_eq!(
        app.call(("GET", &format!("/api/client/keys/{own}")), None).await.json()["name"],
        "MARKER of the first project"
    );
}
