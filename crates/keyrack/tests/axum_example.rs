//! The example for axum does what it shows.

use axum::body::{Body, to_bytes};
use axum::http::Request;
use tower::ServiceExt as _;

#[path = "../examples/axum.rs"]
#[expect(dead_code, reason = "a program of its own, whose `main` is not called here")]
mod example;

#[tokio::test]
async fn each_key_gets_where_the_example_says() {
    let example::Opened { api, publishable, secret } = example::open().unwrap();
    for (key, method, path, status, text) in [
        (&publishable, "POST", "/events", 200, "taken\n"),
        (&publishable, "GET", "/users/7", 403, ""),
        (&secret, "POST", "/events", 200, "taken\n"),
        (&secret, "GET", "/users/7", 200, "seen by key 2\n"),
    ] {
        let request = Request::builder().method(method).uri(path);
        let request = request.header("Authorization", format!("Bearer {}", key.expose()));
        let response = api.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, 10_000).await.unwrap();
        assert_eq!(parts.status, status, "{method} {path}");
        assert!(status != 200 || body == text, "{method} {path}: {body:?}");
    }
}
