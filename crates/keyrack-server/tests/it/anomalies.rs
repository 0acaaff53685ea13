//! When one statement of a change fails, nothing of the change is there, and nothing else is hurt.

use keyrack::ProjectId;
use keyrack_server::actor::Actor;
use keyrack_server::kept::{Kind, Reference};
use keyrack_server::keys;
use keyrack_server::place::Place;
use keyrack_server::store::{By, Need};
use serde_json::json;

use crate::app::{Reply, TestApp};

const KEYS: &str = "/api/client/keys";

async fn attempts(app: &TestApp, target: &str) -> Vec<Reply> {
    let once = [("Idempotency-Key", "anomaly")];
    vec![
        app.call_with(app.admin(), ("POST", KEYS), Some(json!({"name": "half"})), &once).await,
        app.call(("PATCH", target), Some(json!({"name": "half"}))).await,
        app.call(("DELETE", target), None).await,
    ]
}

/// Every statement of every kind of change, made to fail by a trigger on its table.
#[tokio::test]
async fn a_change_whose_nth_statement_fails_did_not_happen() {
    let app = TestApp::new().await;
    let (id, value) = app.create(json!({"name": "whole", "role": "admin"})).await;
    let target = format!("{KEYS}/{id}");
    let before = app.call(("GET", "/api/client/keys?limit=-1"), None).await.text;
    let report = app.app.store.verify_audit().await.unwrap();
    let mut database = app.beside().await;

    // Which of create with an Idempotency-Key, patch and delete each failing statement belongs to.
    let statements = [
        ("INSERT", "api_keys", [true, false, false]),
        ("UPDATE", "api_keys", [false, true, true]),
        ("UPDATE", "counters", [true, false, false]),
        ("UPDATE", "audit_head", [true, true, true]),
        ("INSERT", "audit_events", [true, true, true]),
        ("INSERT", "replies", [true, false, false]),
    ];
    for (verb, table, hurts) in statements {
        for (at, hurt) in hurts.into_iter().enumerate().filter(|(_, hurt)| *hurt) {
            database.break_it(verb, table, "").await;
            let reply = match at {
                0 => {
                    app.call_with(
                        app.admin(),
                        ("POST", KEYS),
                        Some(json!({"name": "half"})),
                        &[("Idempotency-Key", "x")],
                    )
                    .await
                }
                1 => app.call(("PATCH", &target), Some(json!({"name": "half"}))).await,
                _ => app.call(("DELETE", &target), None).await,
            };
            assert!(hurt && reply.status == 503, "{verb} {table}: {}", reply.text);
            assert!(reply.headers.contains_key("retry-after"));
            database.mend(verb, table).await;
            assert_eq!(app.call(("GET", "/api/client/keys?limit=-1"), None).await.text, before, "{verb} {table}");
            assert_eq!(app.call_with(&value, ("GET", KEYS), None, &[]).await.status, 200, "the key still passes");
            assert_eq!(app.app.store.verify_audit().await.unwrap(), report, "{verb} {table}");
        }
    }
    let healed: Vec<_> = attempts(&app, &target).await.iter().map(|reply| reply.status).collect();
    assert_eq!(healed, [200, 200, 200], "the service recovers by itself");
}

/// A change waits for its turn; the one before it revokes the key that asks.
#[tokio::test]
async fn a_key_makes_nothing_after_its_death() {
    let app = std::sync::Arc::new(TestApp::asked_once().await);
    let place = Place::Project(ProjectId(1));
    let by = By { actor: Actor::HOST, request_id: "test".to_owned() };
    for headers in [&[][..], &[("Idempotency-Key", "waiting")]] {
        let (id, leaked) = app.create(json!({"name": "leaked", "role": "admin"})).await;
        let mut revoking = app.app.store.begin(Need::Revocation).await.unwrap();
        let waiting = tokio::spawn({
            let (app, body) = (app.clone(), json!({"name": "x", "role": "admin"}));
            async move { app.call_with(&leaked, ("POST", KEYS), Some(body), headers).await }
        });
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        keys::revoke(&mut revoking, place, id, &by).await.unwrap();
        revoking.commit().await.unwrap();
        let reply = waiting.await.unwrap();
        assert_eq!(reply.status, 401);
        assert!(!reply.headers.contains_key("x-ratelimit-limit"), "a 401 like any other");
    }
}

/// A leaked key that asks for more changes than there is time for does not keep its own revocation waiting.
#[tokio::test]
async fn a_revocation_goes_ahead_of_other_changes() {
    let app = std::sync::Arc::new(TestApp::asked_once().await);
    let (id, leaked) = app.create(json!({"name": "leaked", "role": "admin"})).await;
    let held = app.app.store.begin(Need::Ordinary).await.unwrap();
    let flood: Vec<_> = (0..500)
        .map(|_| {
            let (app, leaked) = (app.clone(), leaked.clone());
            tokio::spawn(async move { app.call_with(&leaked, ("POST", KEYS), Some(json!({"name": "x"})), &[]).await })
        })
        .collect();
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    let revoking = tokio::spawn({
        let app = app.clone();
        async move { app.call(("DELETE", &format!("{KEYS}/{id}")), None).await }
    });
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    held.abandon().await.unwrap();
    assert_eq!(revoking.await.unwrap().status, 200);
    let mut made = 0;
    for attempt in flood {
        made += usize::from(attempt.await.unwrap().status == 200);
    }
    assert!(made <= 1, "{made} of the flood came before the revocation");
}

/// A row that does not authenticate hides no other, is not shown, and can be killed.
#[tokio::test]
async fn a_damaged_row_hurts_nobody_else_and_can_be_killed() {
    let app = TestApp::new().await;
    app.create(json!({"name": "older"})).await;
    let (id, value) = app.create(json!({"name": "damaged", "role": "admin"})).await;
    let mut database = app.beside().await;
    database.run(format!("UPDATE api_keys SET mac = x'00' WHERE id = {id}")).await;

    let first = app.call(("GET", "/api/client/keys?limit=1"), None).await.json();
    assert_eq!(first["results"], json!([]));
    let next = format!("/api/client/keys?limit=1&cursor={}", first["nextCursor"].as_str().unwrap());
    assert_eq!(app.call(("GET", &next), None).await.json()["results"][0]["name"], "older");

    let target = format!("{KEYS}/{id}");
    assert_eq!(app.call(("PATCH", &target), Some(json!({"role": "support"}))).await.status, 500);
    assert_eq!(app.call_with(&value, ("GET", KEYS), None, &[]).await.status, 200);
    assert_eq!(app.call(("DELETE", &target), None).await.status, 500);
    assert_eq!(app.call_with(&value, ("GET", KEYS), None, &[]).await.status, 401);
}

/// Somebody who can write the database puts the row of a dead key back while the server runs, and has it changed.
#[tokio::test]
async fn a_row_put_back_while_the_server_runs_is_not_authenticated_anew() {
    let app = TestApp::new().await;
    let (id, value) = app.create(json!({"name": "leaked", "role": "admin"})).await;
    let target = format!("{KEYS}/{id}");
    let mut database = app.beside().await;
    database.run("CREATE TABLE kept AS SELECT * FROM api_keys".to_owned()).await;
    assert_eq!(app.call(("DELETE", &target), None).await.status, 200);
    database.run(format!("DELETE FROM api_keys WHERE id = {id}")).await;
    database.run(format!("INSERT INTO api_keys SELECT * FROM kept WHERE id = {id}")).await;

    assert_eq!(app.call(("PATCH", &target), Some(json!({"name": "back"}))).await.status, 500);
    assert_eq!(app.call(("DELETE", &target), None).await.status, 500);
    assert_eq!(app.call_with(&value, ("GET", KEYS), None, &[]).await.status, 401);
    let report = app.app.store.verify_audit().await.unwrap();
    let put_back = Reference { kind: Kind::Key, id };
    assert_eq!(report.put_back, [put_back]);
}

/// With the store closed every read of it fails, and every caller is judged all the same.
#[tokio::test]
async fn a_caller_is_verified_without_the_store() {
    let app = TestApp::new().await;
    let (_, low) = app.create(json!({"name": "low"})).await;
    app.app.store.close().await;
    let status = async |key: &str| app.call_with(key, ("GET", KEYS), None, &[]).await.status;
    assert_eq!(status("sk_unknown").await, 401);
    assert_eq!(status(&low).await, 403);
    // This one passes, and only then is the store asked.
    assert_eq!(status(app.admin()).await, 503);
    let ready = app.call(("GET", "/readyz"), None).await;
    assert_eq!((ready.status, &ready.json()["store"]), (200, &json!("unavailable")), "it judges whoever comes");
    assert_eq!(app.call(("GET", "/livez"), None).await.status, 200);
}

#[tokio::test]
async fn a_request_that_nobody_waits_for_is_finished_all_the_same() {
    let app = std::sync::Arc::new(TestApp::asked_once().await);
    let (id, value) = app.create(json!({"name": "leaked", "role": "admin"})).await;
    let held = app.app.store.begin(Need::Ordinary).await.unwrap();
    let request = tokio::spawn({
        let app = app.clone();
        async move { app.call(("DELETE", &format!("{KEYS}/{id}")), None).await }
    });
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    request.abort();
    assert!(request.await.unwrap_err().is_cancelled());
    held.abandon().await.unwrap();
    // The turn comes after the abandoned request's, so it is over when this one gets it.
    app.app.store.begin(Need::Ordinary).await.unwrap().abandon().await.unwrap();
    assert_eq!(app.call_with(&value, ("GET", KEYS), None, &[]).await.status, 401);
}
