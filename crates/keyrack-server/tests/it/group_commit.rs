//! Changes that wait in line share a transaction: each is made as if it were alone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use keyrack::ProjectId;
use keyrack_server::actor::Actor;
use keyrack_server::keys::revoke;
use keyrack_server::place::Place;
use keyrack_server::store::{By, Need, Writing};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::app::{Reply, TestApp};

const KEYS: &str = "/api/client/keys";

/// Asks while somebody else has the turn, so that all of it waits in the order in which it came.
struct Line {
    app: Arc<TestApp>,
    held: Option<Writing>,
    waiting: Vec<JoinHandle<Reply>>,
}

impl Line {
    async fn behind(app: &Arc<TestApp>) -> Self {
        // As a revocation, so that the first of the others waits at the same place as revocations do.
        let held = Some(app.app.store.begin(Need::Revocation).await.unwrap());
        Self { app: Arc::clone(app), held, waiting: Vec::new() }
    }

    async fn ask(&mut self, key: &str, call: (&'static str, String), body: Option<Value>) {
        let (app, key, (method, path)) = (Arc::clone(&self.app), key.to_owned(), call);
        self.waiting.push(tokio::spawn(async move { app.call_with(&key, (method, &path), body, &[]).await }));
        tokio::time::sleep(Duration::from_millis(30)).await;
    }

    async fn answers(mut self) -> Vec<Reply> {
        self.held.take().unwrap().abandon().await.unwrap();
        let mut answers = Vec::new();
        for waiting in self.waiting {
            answers.push(waiting.await.unwrap());
        }
        assert_eq!(self.app.app.store.verify_audit().await.unwrap().faults, Vec::<String>::new());
        answers
    }
}

fn statuses(answers: &[Reply]) -> Vec<u16> {
    answers.iter().map(|reply| reply.status).collect()
}

fn seqs(answers: &[Reply]) -> BTreeSet<&str> {
    answers.iter().map(|reply| reply.headers["x-keyrack-seq"].to_str().unwrap()).collect()
}

async fn app() -> Arc<TestApp> {
    Arc::new(TestApp::asked_once().await)
}

#[tokio::test]
async fn what_waits_in_line_is_committed_at_once() {
    let app = app().await;
    let before = app.app.store.audit_entries().await.unwrap();
    let mut line = Line::behind(&app).await;
    for number in 0..6 {
        line.ask(app.admin(), ("POST", KEYS.to_owned()), Some(json!({"name": number.to_string()}))).await;
    }
    let answers = line.answers().await;
    assert_eq!(statuses(&answers), [200; 6]);
    assert_eq!(seqs(&answers).len(), 1, "one commit for all of them");
    assert_eq!(app.app.store.audit_entries().await.unwrap(), before + 6);
    for answer in answers {
        let key = answer.json()["value"].as_str().unwrap().to_owned();
        assert_eq!(app.call_with(&key, ("GET", KEYS), None, &[]).await.status, 403, "it is known, and may not list");
    }
}

#[tokio::test]
async fn one_that_is_refused_leaves_those_beside_it_alone() {
    let app = app().await;
    let (id, _) = app.create(json!({"name": "key"})).await;
    let target = format!("{KEYS}/{id}");
    let mut line = Line::behind(&app).await;
    line.ask(app.admin(), ("POST", KEYS.to_owned()), Some(json!({"name": "first"}))).await;
    line.ask(app.admin(), ("PATCH", target.clone()), Some(json!({"name": "renamed"}))).await;
    line.ask(app.admin(), ("PATCH", format!("{KEYS}/999")), Some(json!({"name": "nobody"}))).await;
    line.ask(app.admin(), ("POST", KEYS.to_owned()), Some(json!({"name": "last"}))).await;
    assert_eq!(statuses(&line.answers().await), [200, 200, 404, 200]);
    let listed = app.call(("GET", KEYS), None).await.json();
    let names: Vec<_> = listed["results"].as_array().unwrap().iter().map(|key| key["name"].as_str().unwrap()).collect();
    assert_eq!(names[..3], ["last", "first", "renamed"]);
}

#[tokio::test]
async fn changes_to_the_same_thing_come_one_after_the_other() {
    let app = app().await;
    let (id, _) = app.create(json!({"name": "key"})).await;
    let target = format!("{KEYS}/{id}");
    let mut line = Line::behind(&app).await;
    for (field, value) in [("name", "renamed"), ("description", "described"), ("role", "editor")] {
        line.ask(app.admin(), ("PATCH", target.clone()), Some(json!({ field: value }))).await;
    }
    line.ask(app.admin(), ("DELETE", target.clone()), None).await;
    line.ask(app.admin(), ("PATCH", target.clone()), Some(json!({"name": "too late"}))).await;
    line.ask(app.admin(), ("DELETE", target), None).await;
    let answers = line.answers().await;
    // Revocations go ahead of those that only wait, and only one of the two finds what to revoke.
    let done = statuses(&answers);
    assert_eq!((done[0], done[3].min(done[5]), done[3].max(done[5])), (200, 200, 404), "{done:?}");
    assert!([done[1], done[2], done[4]].iter().all(|status| [200, 404].contains(status)), "{done:?}");
}

#[tokio::test]
async fn a_key_that_dies_in_a_transaction_makes_nothing_in_it() {
    let app = app().await;
    let (id, leaked) = app.create(json!({"name": "leaked", "role": "admin"})).await;
    let mut line = Line::behind(&app).await;
    line.ask(app.admin(), ("DELETE", format!("{KEYS}/{id}")), None).await;
    line.ask(&leaked, ("POST", KEYS.to_owned()), Some(json!({"name": "child"}))).await;
    line.ask(app.admin(), ("POST", KEYS.to_owned()), Some(json!({"name": "other"}))).await;
    assert_eq!(statuses(&line.answers().await), [200, 401, 200]);
    let listed = app.call(("GET", KEYS), None).await.json();
    assert_eq!(listed["results"].as_array().unwrap().iter().filter(|key| key["name"] == "child").count(), 0);
}

/// Beside others it revokes a key, and then takes that back, or stops in the middle.
async fn one_between_others(takes_back: bool) {
    let app = app().await;
    let (id, value) = app.create(json!({"name": "spared"})).await;
    let mut line = Line::behind(&app).await;
    line.ask(app.admin(), ("POST", KEYS.to_owned()), Some(json!({"name": "first"}))).await;
    let store = Arc::clone(&app.app.store);
    let between = tokio::spawn(async move {
        let mut writing = store.begin_beside(Need::Revocation).await.unwrap();
        let by = By { actor: Actor::HOST, request_id: "test".to_owned() };
        revoke(&mut writing, Place::Project(ProjectId(1)), id, &by).await.unwrap();
        if takes_back {
            writing.abandon().await.unwrap();
        }
    });
    line.ask(app.admin(), ("POST", KEYS.to_owned()), Some(json!({"name": "last"}))).await;
    assert_eq!(statuses(&line.answers().await), [200, 200]);
    between.await.unwrap();
    assert_eq!(app.call_with(&value, ("GET", KEYS), None, &[]).await.status, 403, "it lives, and may not list");
    let listed = app.call(("GET", KEYS), None).await.json();
    for name in ["first", "last", "spared"] {
        let many = listed["results"].as_array().unwrap().iter().filter(|key| key["name"] == name).count();
        assert_eq!(many, 1, "{name}: {listed}");
    }
}

#[tokio::test]
async fn one_that_is_taken_back_leaves_those_beside_it() {
    one_between_others(true).await;
}

#[tokio::test]
async fn one_that_stops_in_the_middle_costs_the_others_nothing() {
    one_between_others(false).await;
}
