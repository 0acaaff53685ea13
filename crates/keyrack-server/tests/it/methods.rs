//! Methods that a path does not know, on every path there is.

use std::collections::{BTreeMap, BTreeSet};

use axum::body::Body;
use axum::http::Request;
use expect_test::expect;
use keyrack_server::http;

use crate::app::{Reply, TestApp};

/// Every path of the management surfaces with a number in each place, and the methods that its description has.
fn paths() -> BTreeMap<String, BTreeSet<String>> {
    let document = serde_json::to_value(http::openapi()).unwrap();
    let mut paths = BTreeMap::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        let methods = operations.as_object().unwrap().keys().map(|method| method.to_uppercase()).collect();
        let path = path.replace("{projectId}", "1").replace("{organizationId}", "1").replace("{keyId}", "3");
        paths.insert(path, methods);
    }
    paths.retain(|path, _| path.starts_with("/api/client/") || path.contains("/admin/") || path.contains("/operator/"));
    assert!(paths.len() > 20);
    paths
}

async fn send(app: &TestApp, method: &str, path: &str, key: Option<&str>) -> Reply {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(key) = key {
        request = request.header("Authorization", format!("Bearer {key}"));
    }
    app.send(request.body(Body::empty()).unwrap()).await
}

fn key_for<'a>(app: &'a TestApp, path: &str) -> &'a str {
    match path {
        path if path.starts_with("/api/client/") => app.admin(),
        path if path.starts_with("/api/admin/") => app.owner(),
        _ => app.operator(),
    }
}

#[tokio::test]
async fn a_method_that_a_path_does_not_know_is_refused_with_those_it_knows() {
    let app = TestApp::new().await;
    let entries = app.entries().await;
    for (path, methods) in paths() {
        let mut known = methods.clone();
        if methods.contains("GET") {
            known.insert("HEAD".to_owned());
        }
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PURGE", "get"] {
            if known.contains(method) {
                continue;
            }
            // Whoever asks: what a path knows is in the documentation.
            for key in [None, Some(key_for(&app, &path))] {
                let reply = send(&app, method, &path, key).await;
                assert_eq!(reply.status, 405, "{method} {path}: {}", reply.text);
                let allowed = reply.headers["allow"].to_str().unwrap().split(',').map(str::to_owned).collect();
                assert_eq!(known, allowed, "{method} {path}");
                assert_eq!(reply.headers["content-type"], "application/problem+json");
                assert_eq!(reply.headers["spotzee-version"], "2026-04-28");
                assert_eq!(reply.headers["cache-control"], "no-store");
                if method != "HEAD" {
                    let json = reply.json();
                    assert_eq!(json["code"], "method_not_allowed", "{method} {path}");
                    assert_eq!(json["request_id"], reply.headers["x-request-id"].to_str().unwrap());
                }
            }
        }
    }
    assert_eq!(app.entries().await, entries);
}

#[tokio::test]
async fn the_refusal_is_a_whole_problem() {
    let app = TestApp::new().await;
    let route = ("GET", "/api/operator/organizations/1/suspend");
    let reply = app.as_operator(route, None).await;
    expect![[r#"
        405
        content-type: application/problem+json
        x-request-id: req_05GD3T67GRZPCPXQ3RJTMW5VDT
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        allow: POST
        content-length: 298

        {
          "status": "error",
          "code": "method_not_allowed",
          "title": "The method is not allowed here",
          "message": "This path knows other methods; `Allow` lists them.",
          "error": "This path knows other methods; `Allow` lists them.",
          "type": "/docs/errors#method_not_allowed",
          "request_id": "req_05GD3T67GRZPCPXQ3RJTMW5VDT"
        }
    "#]]
    .assert_eq(&reply.snapshot());
    let options = app.as_owner(("OPTIONS", "/api/admin/projects/1"), None).await;
    expect![[r#"
        405
        content-type: application/problem+json
        x-request-id: req_XEDPFRGTS0YH9EDF5GQD24HQ7G
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        allow: GET,HEAD,PATCH,DELETE
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
    .assert_eq(&options.snapshot());
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let app = TestApp::new().await;
    let (member, _) = app.organization_key("member").await;
    for (path, _) in paths().into_iter().filter(|(_, methods)| methods.contains("GET")) {
        let path = if path.contains("api-keys/") { path.replace("/3", &format!("/{member}")) } else { path };
        let key = key_for(&app, &path);
        let (get, head) = (send(&app, "GET", &path, Some(key)).await, send(&app, "HEAD", &path, Some(key)).await);
        assert_eq!((get.status, head.status, head.text.as_str()), (200, 200, ""), "{path}: {}", get.text);
        for header in ["content-type", "content-length", "cache-control", "spotzee-version"] {
            assert_eq!(get.headers[header], head.headers[header], "{path}: {header}");
        }
        // And it takes the same key.
        let stranger = send(&app, "HEAD", &path, None).await;
        assert_eq!((stranger.status, stranger.text.as_str()), (401, ""), "{path}");
        assert!(stranger.headers.contains_key("www-authenticate"), "{path}");
    }
}

#[tokio::test]
async fn a_path_has_one_spelling() {
    let app = TestApp::new().await;
    for path in [
        "/api/admin/projects/",
        "/api/admin//projects",
        "/api/Admin/projects",
        "/api/admin/projects/1/",
        "/api/admin/projects/1/keys/",
        "/api/operator/organizations/1/Suspend",
        "/api/operator/organizations/1/archive",
        "/api/admin/organizations",
        "/api/admin",
        "/api/operator",
    ] {
        let reply = send(&app, "GET", path, Some(key_for(&app, path))).await;
        assert_eq!((reply.status, reply.json()["code"].as_str()), (404, Some("resource_missing")), "{path}");
    }
}
