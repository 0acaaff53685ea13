//! Calls that say all in their path: without a body, however it is left out.

use axum::body::{Body, Bytes};
use axum::http::Request;
use futures_util::stream;

use crate::app::{Reply, TestApp};

const SUSPEND: &str = "/api/operator/organizations/1/suspend";

async fn suspend(app: &TestApp, media_type: Option<&str>, body: Body) -> Reply {
    let operator = app.first_keys.operator.expose();
    let mut request = Request::post(SUSPEND).header("Authorization", format!("Bearer {operator}"));
    if let Some(media_type) = media_type {
        request = request.header("Content-Type", media_type);
    }
    app.send(request.body(body).unwrap()).await
}

/// A body of which nobody knows beforehand how long it is.
fn in_chunks(chunks: &[&'static str]) -> Body {
    let chunks: Vec<_> = chunks.iter().map(|chunk| Ok::<_, std::io::Error>(Bytes::from(*chunk))).collect();
    Body::from_stream(stream::iter(chunks))
}

#[tokio::test]
async fn a_body_that_is_left_out_may_be_empty_in_any_way() {
    let app = TestApp::new().await;
    for media_type in [None, Some("application/json"), Some("application/x-www-form-urlencoded")] {
        for body in [Body::empty(), in_chunks(&[]), in_chunks(&[""])] {
            let reply = suspend(&app, media_type, body).await;
            assert_eq!(reply.status, 200, "{media_type:?}: {}", reply.text);
        }
    }
    let reply = suspend(&app, Some("application/json"), in_chunks(&["{", "}"])).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
}

#[tokio::test]
async fn a_body_that_is_there_is_read() {
    let app = TestApp::new().await;
    for (media_type, body, status) in [
        (None, "{}", 415),
        (Some("text/plain"), "{}", 415),
        (Some("application/json"), "{", 400),
        (Some("application/json"), " ", 400),
        (Some("application/json"), "[]", 422),
        (Some("application/json"), "{\"state\": \"active\"}", 422),
    ] {
        for body in [Body::from(body), in_chunks(&[body])] {
            let reply = suspend(&app, media_type, body).await;
            assert_eq!(reply.status, status, "{media_type:?}: {}", reply.text);
        }
    }
    let large = "x".repeat(70_000);
    assert_eq!(suspend(&app, Some("application/json"), Body::from(large)).await.status, 413);
}
