//! Transactions that PostgreSQL takes back at the very end, when they are committed, although nobody else changed the same.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::app::{Reply, TestApp};
use crate::database::Beside;

const KEYS: &str = "/api/client/keys";

/// One transaction in three fails at its commit that touches one of these. A sequence counts them, which nothing takes back.
const INJECTED: &str = "CREATE SEQUENCE failures; \
     CREATE FUNCTION fails_late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         IF pg_current_xact_id()::text::bigint % 3 = 0 THEN \
             PERFORM nextval('failures'); RAISE EXCEPTION 'injected' USING ERRCODE = '40001'; \
         END IF; RETURN NULL; END $$;";

async fn failing_at_commit(table: &str, when: &str) -> (Arc<TestApp>, Beside) {
    let app = TestApp::shared().await;
    let mut beside = app.beside().await;
    beside
        .run(format!(
            "{INJECTED} CREATE CONSTRAINT TRIGGER fails_late AFTER INSERT OR UPDATE ON {table} \
             DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION fails_late()"
        ))
        .await;
    (Arc::new(app), beside)
}

async fn has_failed_often(beside: &mut Beside) {
    let failures = beside.number("SELECT last_value FROM failures").await;
    assert!(failures >= 3, "{failures} commits failed: too few to show anything");
}

async fn once(app: &TestApp, name: &str, body: Value) -> Reply {
    app.call_with(app.admin(), ("POST", KEYS), Some(body), &[("Idempotency-Key", name)]).await
}

/// Several at once, so that they share transactions.
async fn many(app: &Arc<TestApp>) -> BTreeSet<i64> {
    let tasks: Vec<_> = (0..24)
        .map(|number| {
            let app = Arc::clone(app);
            tokio::spawn(async move { once(&app, &format!("once {number}"), json!({"name": "key"})).await })
        })
        .collect();
    let mut ids = BTreeSet::new();
    for task in tasks {
        let reply = task.await.unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text);
        ids.insert(reply.json()["id"].as_i64().unwrap());
    }
    ids
}

async fn is_whole(app: &TestApp, keys: usize) {
    let list = app.call(("GET", &format!("{KEYS}?limit=-1")), None).await.json();
    assert_eq!(list["results"].as_array().unwrap().len(), keys);
    assert_eq!(app.app.store.verify_audit().await.unwrap().faults, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_that_are_taken_back_at_their_commit_are_made_once() {
    let (app, mut beside) = failing_at_commit("audit_head", "true").await;
    let ids = many(&app).await;
    assert_eq!(ids.len(), 24);
    assert_eq!(many(&app).await, ids, "kept replies");
    // And some that share their transaction with nobody.
    for number in 0..15 {
        let made = once(&app, &format!("alone {number}"), json!({"name": "key"})).await;
        assert_eq!(made.status, 200, "{}", made.text);
    }
    is_whole(&app, 40).await;
    let suspend = ("POST", "/api/operator/organizations/1/suspend");
    assert_eq!(app.as_operator(suspend, None).await.status, 200);
    assert_eq!(app.call(("GET", KEYS), None).await.status, 401);
    assert_eq!(app.as_operator(("POST", "/api/operator/organizations/1/resume"), None).await.status, 200);
    is_whole(&app, 40).await;
    has_failed_often(&mut beside).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kept_replies_that_are_taken_back_at_their_commit_are_kept_once() {
    let (app, mut beside) = failing_at_commit("replies", "true").await;
    let ids = many(&app).await;
    assert_eq!(many(&app).await, ids);
    // Of what is refused only the reply is written.
    for number in 0..12 {
        let name = format!("refused {number}");
        assert_eq!(once(&app, &name, json!({"name": ""})).await.status, 422);
        let again = once(&app, &name, json!({"name": ""})).await;
        assert_eq!((again.status, again.headers.contains_key("idempotent-replayed")), (422, true));
    }
    is_whole(&app, 25).await;
    has_failed_often(&mut beside).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revocations_that_are_taken_back_at_their_commit_are_made_and_final() {
    let (app, mut beside) = failing_at_commit("api_keys", "NEW.revoked_at IS NOT NULL").await;
    let ids = many(&app).await;
    // One after the other, so that they share no transaction.
    for id in ids {
        let revoked = app.call(("DELETE", &format!("{KEYS}/{id}")), None).await;
        assert_eq!((revoked.status, &revoked.json()["effective"]), (200, &json!("all")), "{}", revoked.text);
    }
    is_whole(&app, 1).await;
    has_failed_often(&mut beside).await;
    let (_, value) = app.create(json!({"name": "last", "role": "admin"})).await;
    let archive = "/api/admin/projects/1?confirm=true";
    assert_eq!(app.as_owner(("DELETE", archive), None).await.status, 200);
    assert_eq!(app.call_with(&value, ("GET", KEYS), None, &[]).await.status, 401);
    assert_eq!(app.app.store.verify_audit().await.unwrap().faults, Vec::<String>::new());
}
