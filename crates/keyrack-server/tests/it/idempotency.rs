//! `Idempotency-Key`: done once, answered again, and only to the caller it was answered to.

use serde_json::{Value, json};

use crate::app::{Reply, TestApp};

const KEYS: &str = "/api/client/keys";

async fn post(app: &TestApp, key: &str, once: &str, body: Value) -> Reply {
    app.call_with(key, ("POST", KEYS), Some(body), &[("Idempotency-Key", once)]).await
}

fn code(reply: &Reply) -> (u16, Value) {
    (reply.status, reply.json()["code"].clone())
}

async fn count(app: &TestApp) -> usize {
    app.call(("GET", "/api/client/keys?limit=-1"), None).await.json()["results"].as_array().unwrap().len()
}

#[tokio::test]
async fn the_same_request_gets_the_same_reply_value_included() {
    let app = TestApp::new().await;
    let first = post(&app, app.admin(), "once", json!({"name": "bot"})).await;
    assert!(!first.headers.contains_key("idempotent-replayed"));
    app.advance_seconds(60 * 60 * 24 - 1);
    let again = post(&app, app.admin(), "once", json!({"name": "bot"})).await;
    assert_eq!((again.status, &again.text), (200, &first.text));
    assert_eq!(again.headers["idempotent-replayed"], "true");
    assert_ne!(again.headers["x-request-id"], first.headers["x-request-id"]);
    assert_eq!(count(&app).await, 2);

    app.end_the_day(1).await;
    let new = post(&app, app.admin(), "once", json!({"name": "bot"})).await;
    assert_ne!(new.text, first.text);
    assert_eq!(count(&app).await, 3);
}

#[tokio::test]
async fn after_a_day_a_refusal_can_be_kept_where_a_success_was() {
    let app = TestApp::new().await;
    post(&app, app.admin(), "once", json!({"name": "bot"})).await;
    app.end_the_day(60 * 60 * 24).await;
    assert_eq!(post(&app, app.admin(), "once", json!({})).await.status, 422);
    assert_eq!(post(&app, app.admin(), "once", json!({})).await.headers["idempotent-replayed"], "true");
}

#[tokio::test]
async fn another_body_method_or_path_is_a_mismatch() {
    let app = TestApp::new().await;
    post(&app, app.admin(), "once", json!({"name": "bot"})).await;
    let mismatch = (409, json!("idempotency_key_mismatch"));
    assert_eq!(code(&post(&app, app.admin(), "once", json!({"name": "other"})).await), mismatch);
    assert_eq!(code(&post(&app, app.admin(), "once", json!({})).await), mismatch);
    let header = [("Idempotency-Key", "once")];
    let patch = app.call_with(app.admin(), ("PATCH", "/api/client/keys/4"), Some(json!({"name": "bot"})), &header);
    assert_eq!(code(&patch.await), mismatch);
    assert_eq!(count(&app).await, 2);
}

#[tokio::test]
async fn a_refusal_is_kept_like_a_success() {
    let app = TestApp::new().await;
    let first = post(&app, app.admin(), "once", json!({"nme": "bot"})).await;
    let again = post(&app, app.admin(), "once", json!({"nme": "bot"})).await;
    assert_eq!((first.status, again.status), (422, 422));
    assert_eq!(first.text, again.text);
    assert_eq!(again.headers["idempotent-replayed"], "true");
    assert_eq!(again.headers["content-type"], "application/problem+json");
    // What was refused stays refused under that key, also once it is corrected.
    let corrected = post(&app, app.admin(), "once", json!({"name": "bot"})).await;
    assert_eq!(code(&corrected), (409, json!("idempotency_key_mismatch")));

    let header = [("Idempotency-Key", "gone")];
    for replayed in [false, true] {
        let missing = app.call_with(app.admin(), ("PATCH", "/api/client/keys/99"), Some(json!({})), &header).await;
        assert_eq!(missing.status, 404);
        assert_eq!(missing.headers.contains_key("idempotent-replayed"), replayed);
    }
}

#[tokio::test]
async fn a_patch_is_done_once() {
    let app = TestApp::new().await;
    app.create(json!({"name": "bot"})).await;
    let header = [("Idempotency-Key", "patch")];
    let patch = async || {
        app.call_with(app.admin(), ("PATCH", "/api/client/keys/4"), Some(json!({"name": "robot"})), &header).await
    };
    let first = patch().await;
    app.advance_seconds(5);
    app.call(("PATCH", "/api/client/keys/4"), Some(json!({"name": "changed since"}))).await;
    assert_eq!(patch().await.text, first.text);
    assert_eq!(app.call(("GET", "/api/client/keys/4"), None).await.json()["name"], "changed since");
}

#[tokio::test]
async fn another_caller_with_the_same_idempotency_key_is_another_request() {
    let app = TestApp::new().await;
    let (_, second) = app.create(json!({"name": "second admin", "role": "admin"})).await;
    let first_reply = post(&app, app.admin(), "1", json!({"name": "bot"})).await;
    let second_reply = post(&app, &second, "1", json!({"name": "bot"})).await;
    assert_eq!((first_reply.status, second_reply.status), (200, 200));
    assert_ne!(first_reply.json()["value"], second_reply.json()["value"]);
}

#[tokio::test]
async fn the_same_request_many_times_at_once_makes_one_key() {
    let app = std::sync::Arc::new(TestApp::new().await);
    let tasks: Vec<_> = (0..64)
        .map(|_| {
            let app = app.clone();
            tokio::spawn(async move { post(&app, app.admin(), "storm", json!({"name": "bot"})).await })
        })
        .collect();
    let mut bodies = std::collections::BTreeSet::new();
    for task in tasks {
        let reply = task.await.unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text);
        bodies.insert(reply.text);
    }
    assert_eq!(bodies.len(), 1);
    assert_eq!(count(&app).await, 2);
}

#[tokio::test]
async fn while_the_first_is_under_way_the_second_is_told_to_come_back() {
    let app = TestApp::new().await;
    let held = app.app.store.begin(keyrack_server::store::Need::Ordinary).await.unwrap();
    let app = std::sync::Arc::new(app);
    let first = tokio::spawn({
        let app = app.clone();
        async move { post(&app, app.admin(), "slow", json!({"name": "bot"})).await }
    });
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    let second = post(&app, app.admin(), "slow", json!({"name": "bot"})).await;
    assert_eq!(code(&second), (409, json!("idempotency_in_progress")));
    assert_eq!(second.headers["retry-after"], "1");
    held.abandon().await.unwrap();
    assert_eq!(first.await.unwrap().status, 200);
}
