//! What a server hears from the processes that follow it, in process: each of their questions is a heartbeat.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use keyrack_server::store::Need;
use serde_json::{Value, json};

use crate::app::{Reply, TestApp};
use crate::nodes::follow;

const KEYS: &str = "/api/client/keys";

/// A process that follows, as a server hears it.
struct Follower {
    app: Arc<TestApp>,
    key: String,
    asked: i64,
}

impl Follower {
    async fn of(app: &Arc<TestApp>) -> Self {
        let made = app.as_operator(("POST", "/api/operator/follower-keys"), Some(json!({"name": "service"}))).await;
        Self { app: Arc::clone(app), key: made.json()["value"].as_str().unwrap().to_owned(), asked: 0 }
    }

    /// From where on to ask for news.
    async fn cursor(&self) -> String {
        let snapshot = self.app.call_with(&self.key, ("GET", "/api/follower/snapshot"), None, &[]).await;
        let begin: Value = serde_json::from_str(snapshot.text.lines().next().unwrap()).unwrap();
        begin["cursor"].as_str().unwrap().to_owned()
    }

    async fn says(&mut self, what: &str, cursor: &str, stale_ms: i64) -> Reply {
        self.asked += 1;
        let ask = json!({"follower": "abcdefgh", "asked": self.asked, "cursor": cursor, "stale_ms": stale_ms, "version": "0"});
        self.app.call_with(&self.key, ("POST", &format!("/api/follower/{what}")), Some(ask), &[]).await
    }

    /// Asks for news.
    async fn asks(&mut self, cursor: &str, stale_ms: i64) -> Value {
        self.says("news", cursor, stale_ms).await.json()
    }

    /// Asks until it is listed, and knows everything.
    async fn listed(&mut self) -> String {
        let mut cursor = self.cursor().await;
        for _ in 0..2 {
            cursor = self.asks(&cursor, 60_000).await["cursor"].as_str().unwrap().to_owned();
        }
        cursor
    }
}

/// A client that goes away after so many polls, and takes its request with it.
struct GoesAway<F> {
    request: Pin<Box<F>>,
    polls: u32,
}

impl<F: Future> Future for GoesAway<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.request.as_mut().poll(context) {
            Poll::Ready(reply) => Poll::Ready(Some(reply)),
            Poll::Pending if self.polls == 0 => Poll::Ready(None),
            Poll::Pending => {
                self.polls -= 1;
                Poll::Pending
            }
        }
    }
}

/// The request of a follower is the first of a transaction that it shares with others, and so the one that commits for all. Wherever it
/// goes away, what the others asked for is done once, and they are told so.
async fn one_goes_away(app: Arc<TestApp>) {
    let mut follower = Follower::of(&app).await;
    for polls in 0..200 {
        let name = format!("key-{polls}-");
        let held = app.app.store.begin(Need::Revocation).await.unwrap();
        let leaves = tokio::spawn(async move {
            let reply = GoesAway { request: Box::pin(follower.says("leave", "", 0)), polls }.await;
            (reply.is_some(), follower)
        });
        tokio::time::sleep(Duration::from_millis(5)).await;
        let made = tokio::spawn({
            let (app, body) = (Arc::clone(&app), json!({"name": name}));
            async move { app.call(("POST", KEYS), Some(body)).await }
        });
        tokio::time::sleep(Duration::from_millis(5)).await;
        held.abandon().await.unwrap();
        let (made, (is_answered, back)) = (made.await.unwrap(), leaves.await.unwrap());
        follower = back;
        assert_eq!(made.status, 200, "after {polls}: {}", made.text);
        let listed = app.call(("GET", &format!("{KEYS}?q={name}")), None).await.json();
        assert_eq!(listed["results"].as_array().unwrap().len(), 1, "after {polls}: one request makes one key");
        if is_answered {
            assert!(polls > 1, "it was on its way");
            return;
        }
    }
    panic!("it was never answered");
}

#[tokio::test]
async fn a_follower_that_goes_away_costs_the_others_nothing() {
    one_goes_away(Arc::new(TestApp::asked_once().await)).await;
}

#[tokio::test]
async fn a_follower_that_goes_away_costs_the_others_nothing_on_a_server() {
    one_goes_away(Arc::new(TestApp::shared().await)).await;
}

/// While somebody writes for long, those who follow go on.
async fn one_is_heard_while_others_write(app: Arc<TestApp>) {
    let mut follower = Follower::of(&app).await;
    let cursor = follower.listed().await;
    let held = app.app.store.begin(Need::Ordinary).await.unwrap();
    let began = Instant::now();
    let told = follower.asks(&cursor, 60_000).await;
    assert!(told["lease"].is_object() && began.elapsed() < Duration::from_secs(2), "{told} {:?}", began.elapsed());
    held.abandon().await.unwrap();
}

#[tokio::test]
async fn a_follower_is_heard_while_others_write() {
    one_is_heard_while_others_write(Arc::new(TestApp::asked_once().await)).await;
}

#[tokio::test]
async fn a_follower_is_heard_while_others_write_to_a_server() {
    one_is_heard_while_others_write(Arc::new(TestApp::shared().await)).await;
}

/// A file that takes nothing any more, as on a full disk, takes the keys of no service that follows out of force.
#[tokio::test]
async fn a_follower_that_is_listed_needs_no_room_and_is_waited_for_after_a_restart() {
    let app = Arc::new(TestApp::asked_once().await);
    let mut follower = Follower::of(&app).await;
    let cursor = follower.listed().await;
    let mut beside = app.beside().await;
    for verb in ["INSERT", "UPDATE", "DELETE"] {
        beside.break_it(verb, "nodes", "").await;
    }
    let told = follower.asks(&cursor, 60_000).await;
    assert!(told["lease"].is_object(), "{told}");
    for verb in ["INSERT", "UPDATE", "DELETE"] {
        beside.mend(verb, "nodes").await;
    }
    drop(beside);
    let (id, _) = app.create(json!({"name": "key"})).await;
    follower.asks(told["cursor"].as_str().unwrap(), 60_000).await;

    drop(follower);
    let app = Arc::into_inner(app).unwrap().restarted().await;
    let path = format!("{KEYS}/{id}");
    let revoked = app.call_with(app.admin(), ("DELETE", &path), None, &[("Prefer", "wait=0")]).await.json();
    let pending = revoked["pending"][0]["node"].as_str().unwrap_or_default();
    assert!(pending.ends_with("_abcdefgh"), "it may still answer: {revoked}");
}

/// The second server that it asks may allow it more than the first one did.
#[tokio::test]
async fn a_follower_is_waited_for_as_long_as_it_may_answer_at_the_most() {
    for app in [TestApp::asked_once().await, TestApp::shared().await] {
        let app = Arc::new(app);
        let mut beside = app.beside().await;
        let mut follower = Follower::of(&app).await;
        let cursor = follower.cursor().await;
        let mut leases = Vec::new();
        let mut limits = Vec::new();
        for stale_ms in [4_000, 4_000, 60_000, 60_000, 4_000] {
            leases.push(follower.asks(&cursor, stale_ms).await["lease"]["trusted"].as_u64());
            limits.push(beside.number("SELECT stale_ms FROM nodes WHERE id LIKE 'follower%'").await);
        }
        assert_eq!(limits, [4_000, 4_000, 60_000, 60_000, 60_000]);
        let given: Vec<_> = leases.iter().map(Option::is_some).collect();
        // Who waited for it before it may answer longer must not be overtaken, so that is no lease yet.
        assert_eq!(given, [false, true, false, true, true], "{leases:?}");
        assert!(leases[1].unwrap() <= 4_000 && leases[3].unwrap() > 4_000 && leases[4].unwrap() <= 4_000, "{leases:?}");
    }
}

/// Whoever has loaded nothing anew since the log lost changes does not know those that now have their numbers.
#[tokio::test]
async fn a_follower_of_a_log_that_is_gone_is_not_taken_for_one_of_the_new_log() {
    const TABLES: [&str; 6] = ["api_keys", "organizations", "audit_events", "audit_head", "counters", "nodes"];
    let app = Arc::new(TestApp::shared().await);
    let mut follower = Follower::of(&app).await;
    let (id, _) = app.create(json!({"name": "key"})).await;
    let mut cursor = follower.listed().await;
    let mut beside = app.beside().await;
    for table in TABLES {
        beside.run(format!("CREATE TABLE kept_{table} AS SELECT * FROM {table}")).await;
    }
    for _ in 0..4 {
        app.create(json!({"name": "lost"})).await;
    }
    let (_, lost) = app.create(json!({"name": "lost", "role": "admin"})).await;
    cursor = follower.asks(&cursor, 60_000).await["cursor"].as_str().unwrap().to_owned();
    cursor = follower.asks(&cursor, 60_000).await["cursor"].as_str().unwrap().to_owned();
    let put_back = TABLES.map(|table| format!("DELETE FROM {table}; INSERT INTO {table} SELECT * FROM kept_{table}; "));
    beside.run(put_back.concat()).await;
    let _following = follow(&app.app);
    let mut waited = 0;
    let status = async |key: &str| app.call_with(key, ("GET", KEYS), None, &[]).await.status;
    while (status(&lost).await, status(app.admin()).await) != (401, 200) {
        assert!(waited < 500, "it is not loaded anew");
        waited += 1;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    let told = follower.asks(&cursor, 60_000).await;
    assert_eq!((&told["cursor"], &told["lease"]), (&Value::Null, &Value::Null), "it must load everything anew");
    let path = format!("{KEYS}/{id}");
    let revoked = app.call_with(app.admin(), ("DELETE", &path), None, &[("Prefer", "wait=0")]).await.json();
    let pending = revoked["pending"][0]["node"].as_str().unwrap_or_default();
    assert!(pending.ends_with("_abcdefgh"), "it has not heard of this: {revoked}");
    let own = app.app.store.audit_entries().await.unwrap().cast_signed();
    assert!(beside.number("SELECT seq FROM nodes WHERE id LIKE 'follower%'").await < own);
}
