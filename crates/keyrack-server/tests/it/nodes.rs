//! Several nodes on one store: what one changes, the others know, and who must wait for whom.

mod journal;
mod log;

use std::sync::Arc;
use std::time::Duration;

use keyrack::KeyId;
use keyrack::feed::{Line, Told};
use keyrack_server::actor::Actor;
use keyrack_server::app::App;
use keyrack_server::store::{By, Store};
use serde_json::{Value, json};

use crate::app::{Node, Reply, TestApp};
use crate::database::FOR_EVER;

const KEYS: &str = "/api/client/keys";
const NODES: &str = "/api/operator/nodes";

impl Node {
    /// Whether a key passes here; `None` if that cannot be told.
    async fn lets_pass(&self, key: &str) -> Option<bool> {
        match self.call(key, ("GET", KEYS), None).await.status {
            200 | 403 => Some(true),
            401 => Some(false),
            503 => None,
            other => panic!("{other}"),
        }
    }

    /// Where a follower is that has just been told everything.
    fn cursor(&self) -> String {
        cursor_of(&self.app.store)
    }

    /// Follows the store until the test ends.
    fn follows(&self) -> tokio::task::JoinHandle<()> {
        follow(&self.app)
    }
}

fn cursor_of(store: &Store) -> String {
    let mut cursor = String::new();
    store.tell_everything(true, |line| {
        if let Line::Begin { cursor: begin, .. } = line {
            cursor.clone_from(begin);
        }
        true
    });
    cursor
}

/// What a follower is told for the first time since a cursor.
async fn news_since(store: &Arc<Store>, cursor: &str) -> Told {
    let asked = (1, "0".to_owned());
    store.tell_news("follower_1_aaaaaaaa".to_owned(), cursor, Duration::from_secs(60), asked).await.unwrap()
}

/// What a server does beside answering.
pub(crate) fn follow(app: &App) -> tokio::task::JoinHandle<()> {
    let store = Arc::clone(&app.store);
    tokio::spawn(async move {
        tokio::join!(store.follow(), store.deliver());
    })
}

impl TestApp {
    fn follows(&self) -> tokio::task::JoinHandle<()> {
        follow(&self.app)
    }
}

async fn revoke(app: &TestApp, id: i64, patience: &str) -> Reply {
    app.call_with(app.admin(), ("DELETE", &format!("{KEYS}/{id}")), None, &[("Prefer", patience)]).await
}

#[tokio::test]
async fn what_one_node_changes_is_in_force_on_the_others_when_it_says_so() {
    let app = TestApp::shared().await;
    let other = app.another_node().await;
    let _following = other.follows();
    for round in 0..20 {
        let (id, value) = app.create(json!({"name": format!("key {round}"), "role": "admin"})).await;
        let mut waited = 0;
        while other.lets_pass(&value).await != Some(true) {
            assert!(waited < 500, "a new key is known soon");
            waited += 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let revoked = revoke(&app, id, "wait=20").await;
        assert_eq!((revoked.status, &revoked.json()["effective"]), (200, &json!("all")));
        assert_eq!(other.lets_pass(&value).await, Some(false), "round {round}");
    }
    assert_eq!(app.app.store.verify_audit().await.unwrap().faults, Vec::<String>::new());
}

#[tokio::test]
async fn a_node_that_does_not_follow_is_named_until_its_lease_is_over() {
    let app = TestApp::shared().await;
    // It has joined, and follows nothing.
    let silent = app.another_node().await;
    let (id, value) = app.create(json!({"name": "leaked", "role": "admin"})).await;
    let revoked = revoke(&app, id, "wait=0").await.json();
    let nodes = app.as_operator(("GET", NODES), None).await.json();
    let other = nodes["results"].as_array().unwrap().iter().find(|node| node["is_self"] == false).unwrap();
    assert_eq!((&revoked["effective"], &revoked["pending"][0]["node"]), (&json!("partial"), &other["id"]));
    assert_eq!(revoked["pending"].as_array().unwrap().len(), 1, "it is the only one");
    // The lease of that one may have begun with the change, and no two clocks go alike.
    let longest = FOR_EVER.mul_f64(1.05).as_secs().cast_signed();
    assert_eq!(revoked["pending"][0]["until"], app.app.clock.now().plus_seconds(longest).to_string());
    // It was created after the silent node's last heartbeat, so that one knows nothing of it; the caller's own key passes there.
    assert_eq!(silent.lets_pass(&value).await, Some(false));
    assert_eq!(silent.lets_pass(app.admin()).await, Some(true));
    let _following = silent.follows();
    let again = app.create(json!({"name": "another"})).await;
    let revoked = revoke(&app, again.0, "wait=20").await.json();
    assert_eq!(revoked["effective"], "all", "it follows now");
}

/// What a revocation does while the database is away.
fn revoke_without_database(store: &Store, id: i64) {
    let by = By { actor: Actor::HOST, request_id: "req_1".to_owned() };
    let (digest, key) = store.live_key(|key| key.id == KeyId(id)).unwrap();
    store.revoke_without_database(&digest, key.id, &by).unwrap();
}

#[tokio::test]
async fn a_key_that_died_without_the_database_is_over_also_before_that_hears_of_it() {
    let app = TestApp::shared().await;
    let (id, value) = app.create(json!({"name": "key"})).await;
    // The database is back as soon as this was done, and nothing is delivered to it here.
    revoke_without_database(&app.app.store, id);
    assert_eq!(app.call(("GET", &format!("{KEYS}/{id}")), None).await.status, 404);
    let renamed = app.call(("PATCH", &format!("{KEYS}/{id}")), Some(json!({"name": "other"}))).await;
    assert_eq!(renamed.status, 404, "{}", renamed.text);
    let revoked = revoke(&app, id, "wait=0").await;
    assert_eq!(revoked.status, 200, "whoever asks again has it made: {}", revoked.text);
    assert_eq!(revoke(&app, id, "wait=0").await.status, 404, "and it was made");
    assert_eq!(app.another_node().await.lets_pass(&value).await, Some(false));
    assert_eq!(app.app.store.verify_audit().await.unwrap().faults, Vec::<String>::new());
}

/// Whoever got no answer from one node, or not the one it hoped for, asks another: "not found" must be true there too.
#[tokio::test]
async fn a_node_that_says_to_a_change_that_there_is_no_such_key_does_not_let_it_pass() {
    let app = TestApp::shared().await;
    let mut made = Vec::new();
    for number in 0..2 {
        made.push(app.create(json!({"name": format!("key {number}"), "role": "admin"})).await);
    }
    let other = app.another_node().await;
    for (number, (id, value)) in made.iter().enumerate() {
        assert_eq!(revoke(&app, *id, "wait=0").await.status, 200);
        assert_eq!(other.lets_pass(value).await, Some(true), "it follows nothing, so it has not heard of that");
        let target = format!("{KEYS}/{id}");
        let gone = match number {
            0 => other.call(app.admin(), ("DELETE", &target), None).await,
            _ => other.call(app.admin(), ("PATCH", &target), Some(json!({"name": "new"}))).await,
        };
        let passes = other.lets_pass(value).await;
        assert_eq!((gone.status, passes), (404, Some(false)), "change {number}: {}", gone.text);
    }
}

/// Somebody else's long change holds the place in the log: whoever wants a key dead waits for it, and is not sent away.
#[tokio::test]
async fn a_revocation_outlasts_the_long_change_of_another_node() {
    let app = TestApp::shared().await;
    let (id, value) = app.create(json!({"name": "leaked", "role": "admin"})).await;
    let mut beside = app.beside().await;
    beside.run("BEGIN; SELECT seq FROM audit_head FOR UPDATE").await;
    // Longer than any statement waits for a lock.
    let change = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(6)).await;
        beside.run("COMMIT").await;
    });
    let revoked = revoke(&app, id, "wait=0").await;
    assert_eq!(revoked.status, 200, "{}", revoked.text);
    assert!(change.is_finished(), "nobody was in its way");
    change.await.unwrap();
    assert_eq!(app.call_with(&value, ("GET", KEYS), None, &[]).await.status, 401);
}

/// What is left of a server's own lease is all that it can give.
#[tokio::test]
async fn a_follower_is_given_no_more_than_what_is_left_of_the_lease_of_its_server() {
    let app = TestApp::shared().await;
    let server = app.another_node_that_is_stale_for(Duration::from_secs(10)).await;
    let store = &server.app.store;
    let mut cursor = server.cursor();
    let mut leases = Vec::new();
    // The first lists it; the server hears of nothing by itself, and time passes.
    for (asked, passes) in [(1, 0), (2, 0), (3, 7), (4, 2), (5, 2)] {
        app.advance_seconds(passes);
        let told = store
            .tell_news("follower_1_aaaaaaaa".to_owned(), &cursor, Duration::from_secs(60), (asked, "0".to_owned()))
            .await
            .unwrap();
        cursor = told.cursor.unwrap();
        leases.push(told.lease.map(|lease| (lease.fresh, lease.trusted)));
    }
    let expected = [None, Some((2_000, 10_000)), Some((0, 3_000)), Some((0, 1_000)), None];
    assert_eq!(leases, expected);
}

#[tokio::test]
async fn nodes_are_listed_and_gone_when_they_leave() {
    let app = TestApp::shared().await;
    let other = app.another_node().await;
    let list = async || app.as_operator(("GET", NODES), None).await.json()["results"].clone();
    let nodes = list().await;
    let all: Vec<&Value> = nodes.as_array().unwrap().iter().collect();
    assert_eq!(all.len(), 2);
    for node in &all {
        assert!(node["id"].as_str().unwrap().starts_with("node_"), "{node}");
        assert_eq!((&node["lease"], &node["lag_ms"]), (&json!("fresh"), &json!(0)));
        assert_eq!(node["version"], env!("CARGO_PKG_VERSION"));
    }
    other.app.store.leave().await.unwrap();
    assert_eq!(list().await.as_array().unwrap().len(), 1);
    assert_eq!(other.lets_pass(app.admin()).await, None, "who has left answers nothing");
}

#[tokio::test]
async fn a_node_that_is_not_heard_of_is_listed_with_how_long_and_what_it_may_still_do() {
    let app = TestApp::shared().await;
    let silent = app.another_node_that_is_stale_for(Duration::from_secs(60)).await;
    let heard = app.app.store.audit_entries().await.unwrap();
    app.create(json!({"name": "made since"})).await;
    let list = async || app.as_operator(("GET", NODES), None).await.json()["results"].clone();
    let mut passed = 0;
    // It counts as one that answers for a little longer than it may.
    for (second, lag, lease, passes) in
        [(0, 0, "fresh", true), (2, 2_000, "fresh", true), (3, 3_000, "stale", true), (63, 63_000, "stale", false)]
    {
        app.advance_seconds(second - passed);
        passed = second;
        let nodes = list().await;
        let (own, other) = if nodes[0]["is_self"] == true { (&nodes[0], &nodes[1]) } else { (&nodes[1], &nodes[0]) };
        assert_eq!((&own["seq"], &own["lag_ms"], &own["lease"]), (&json!(heard + 1), &json!(0), &json!("fresh")));
        assert_eq!((&other["seq"], &other["lag_ms"], &other["lease"]), (&json!(heard), &json!(lag), &json!(lease)));
        assert_eq!(silent.lets_pass(app.admin()).await.is_some(), passes, "after {second} s");
    }
    app.advance_seconds(1);
    assert_eq!(list().await.as_array().unwrap().iter().filter(|node| node["lease"] == "expired").count(), 1);
    assert_eq!(list().await.as_array().unwrap().len(), 1, "it is off the list");
}

#[tokio::test]
async fn a_change_on_one_node_goes_by_what_another_has_just_changed() {
    let app = TestApp::shared().await;
    let other = app.another_node().await;
    // The other follows nothing: all it knows of later changes it finds out when it writes.
    let (id, value) = app.create(json!({"name": "key", "role": "admin"})).await;
    let target = format!("{KEYS}/{id}");
    let renamed = other.call(app.admin(), ("PATCH", &target), Some(json!({"name": "there"}))).await;
    assert_eq!((renamed.status, renamed.json()["name"].as_str()), (200, Some("there")));
    let renamed = app.call(("PATCH", &target), Some(json!({"description": "here"}))).await.json();
    assert_eq!((renamed["name"].as_str(), renamed["description"].as_str()), (Some("there"), Some("here")));
    assert_eq!(revoke(&app, id, "wait=0").await.status, 200);
    // It still believes in the key, and finds out before it makes another for it.
    let refused = other.call(&value, ("POST", KEYS), Some(json!({"name": "child"}))).await;
    assert_eq!(refused.status, 401, "{}", refused.text);
    assert_eq!(app.app.store.verify_audit().await.unwrap().faults, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_nodes_that_write_at_once_lose_nothing_and_do_nothing_twice() {
    let app = Arc::new(TestApp::shared().await);
    let other = Arc::new(app.another_node().await);
    let before = app.app.store.audit_entries().await.unwrap();
    let mut tasks = Vec::new();
    for number in 0..40 {
        let (app, other) = (app.clone(), other.clone());
        tasks.push(tokio::spawn(async move {
            let body = json!({"name": format!("key {number}")});
            match number % 2 {
                0 => app.call(("POST", KEYS), Some(body)).await,
                _ => other.call(app.admin(), ("POST", KEYS), Some(body)).await,
            }
        }));
    }
    let mut ids = std::collections::BTreeSet::new();
    for task in tasks {
        let reply = task.await.unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text);
        ids.insert(reply.json()["id"].as_i64().unwrap());
    }
    assert_eq!(ids.len(), 40, "no number was given out twice");
    assert_eq!(app.app.store.audit_entries().await.unwrap(), before + 40);
    let report = other.app.store.verify_audit().await.unwrap();
    assert_eq!(report.faults, Vec::<String>::new());
}

/// The same, one after the other, with the second in the middle of the first.
#[tokio::test]
async fn a_change_that_went_by_what_another_has_changed_is_not_made() {
    use keyrack_server::actor::Actor;
    use keyrack_server::place::Place;
    use keyrack_server::store::{By, Find as _, Need, StoreError};
    let app = TestApp::shared().await;
    let other = app.another_node().await;
    let by = By { actor: Actor::HOST, request_id: "test".to_owned() };
    let made = app.as_operator(("POST", "/api/operator/operator-keys"), Some(json!({"name": "second"}))).await.json();
    let second = made["id"].as_i64().unwrap();

    let mut first = other.app.store.begin(Need::Revocation).await.unwrap();
    keyrack_server::keys::revoke(&mut first, Place::Installation, 1, &by).await.unwrap();
    let theirs = format!("/api/operator/operator-keys/{second}");
    let operator = app.first_keys.operator.expose().to_owned();
    assert_eq!(app.call_with(&operator, ("DELETE", &theirs), None, &[("Prefer", "wait=0")]).await.status, 200);
    let outcome = first.commit().await;
    assert!(matches!(outcome, Err(StoreError::Conflict)), "it counted a key that is gone: {outcome:?}");
    assert_eq!(app.as_operator(("GET", NODES), None).await.status, 200, "the last key lives");

    // What was looked up elsewhere counts too, such as the key that asks.
    let (id, _) = app.create(json!({"name": "asks"})).await;
    let mut change = other.app.store.begin(Need::Ordinary).await.unwrap();
    change.rely_on(keyrack_server::kept::Reference { kind: keyrack_server::kept::Kind::Key, id });
    let (untouched, _) = app.create(json!({"name": "no matter"})).await;
    assert!(change.find::<keyrack_server::stored_key::StoredKey>((Place::Installation, 1)).await.unwrap().is_some());
    assert_eq!(revoke(&app, id, "wait=0").await.status, 200);
    let place = Place::Project(keyrack::ProjectId(1));
    let found = keyrack_server::keys::revoke(&mut change, place, untouched, &by).await;
    // Begun before that key was made, so this node has not heard of it.
    assert!(matches!(found, Err(keyrack_server::refusal::Refusal::Store(StoreError::Conflict))), "{found:?}");
    change.abandon().await.unwrap();
}

/// It counts what is beneath, so that whatever anybody commits meanwhile is in its way.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_organization_is_suspended_however_much_others_change() {
    let app = Arc::new(TestApp::shared().await);
    let other = app.another_node().await;
    let (organization, _) = app.organization("busy").await;
    // As long as it takes with very many keys beneath: somebody is always faster.
    let slowly = "CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS \
                  $$ BEGIN PERFORM pg_sleep(0.1); RETURN NEW; END $$; \
                  CREATE TRIGGER slowly BEFORE UPDATE ON organizations FOR EACH ROW EXECUTE FUNCTION slowly()";
    app.beside().await.run(slowly).await;
    let is_over = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let busy: Vec<_> = (0..4)
        .map(|task| {
            let (app, is_over) = (app.clone(), is_over.clone());
            tokio::spawn(async move {
                while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    app.create(json!({"name": format!("by {task}")})).await;
                }
            })
        })
        .collect();
    let operator = app.first_keys.operator.expose();
    for what in ["suspend", "resume"] {
        let path = format!("/api/operator/organizations/{organization}/{what}");
        let headers = [("Prefer", "wait=0")];
        let done = other.call_with(operator, ("POST", &path), Some(json!({})), &headers).await;
        assert_eq!(done.status, 200, "{what}: {}", done.text);
    }
    is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    for task in busy {
        task.await.unwrap();
    }
}

/// A row that cannot be used is left out, and is no change of somebody else.
#[tokio::test]
async fn an_organization_ends_although_the_row_of_a_project_is_damaged() {
    let app = TestApp::shared().await;
    let (organization, owner) = app.organization("ending").await;
    let project = json!({"name": "of it", "locale": "en", "timezone": "UTC"});
    let made = app.call_with(&owner, ("POST", "/api/admin/projects"), Some(project), &[]).await.json();
    app.beside().await.run(format!("UPDATE projects SET name = 'forged' WHERE id = {}", made["id"])).await;
    let path = format!("/api/operator/organizations/{organization}?confirm=true");
    let operator = app.first_keys.operator.expose();
    let archived = app.call_with(operator, ("DELETE", &path), None, &[("Prefer", "wait=0")]).await;
    assert_eq!(archived.status, 200, "{}", archived.text);
    assert_eq!(app.call_with(&owner, ("GET", "/api/admin/projects"), None, &[]).await.status, 401);
}

/// Both ask whether there is another operator key, and each takes the one that the other saw.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_nodes_do_not_revoke_the_last_two_operator_keys() {
    let app = Arc::new(TestApp::shared().await);
    let other = Arc::new(app.another_node().await);
    let operator = app.first_keys.operator.expose().to_owned();
    for _ in 0..10 {
        let made = app.as_operator(("POST", "/api/operator/operator-keys"), Some(json!({"name": "second"}))).await;
        let (second, second_key) =
            (made.json()["id"].as_i64().unwrap(), made.json()["value"].as_str().unwrap().to_owned());
        let mine = format!("/api/operator/operator-keys/{second}");
        let theirs = "/api/operator/operator-keys/1".to_owned();
        let one = tokio::spawn({
            let (app, key) = (app.clone(), operator.clone());
            async move { app.call_with(&key, ("DELETE", &mine), None, &[("Prefer", "wait=0")]).await.status }
        });
        let two = tokio::spawn({
            let other = other.clone();
            async move { other.call(&second_key, ("DELETE", &theirs), None).await.status }
        });
        let (one, two) = (one.await.unwrap(), two.await.unwrap());
        assert!(matches!((one, two), (200, 401 | 409) | (401 | 409, 200)), "{one} {two}");
        if two == 200 {
            // The first key is gone: nothing is left to try with.
            return;
        }
    }
}

/// The trap of numbers that are taken early: a slow transaction with a low number that commits late.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_change_that_commits_late_is_never_missed() {
    use keyrack::ProjectId;
    use keyrack_server::actor::Actor;
    use keyrack_server::place::Place;
    use keyrack_server::store::{By, Need};
    let app = TestApp::shared().await;
    let (one, two) = (app.another_node().await, app.another_node().await);
    let _following = two.follows();
    for round in 0..5 {
        let (slow_id, slow_key) = app.create(json!({"name": format!("slow {round}"), "role": "admin"})).await;
        let by = By { actor: Actor::HOST, request_id: "test".to_owned() };
        let mut slow = one.app.store.begin(Need::Revocation).await.unwrap();
        keyrack_server::keys::revoke(&mut slow, Place::Project(ProjectId(1)), slow_id, &by).await.unwrap();
        // Begun before, and committed after this one, which the others have long followed.
        let (_, fast_key) = app.create(json!({"name": format!("fast {round}"), "role": "admin"})).await;
        while two.lets_pass(&fast_key).await != Some(true) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let seq = slow.commit().await.unwrap();
        let mut waited = 0;
        while two.lets_pass(&slow_key).await != Some(false) {
            assert!(waited < 400, "the revocation at {seq} was missed");
            waited += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn a_kept_reply_is_never_said_to_be_older_than_its_change() {
    use keyrack_server::actor::Actor;
    use keyrack_server::clock::Timestamp;
    use keyrack_server::place::Place;
    use keyrack_server::replies::KeptReply;
    use keyrack_server::store::{By, Need};
    let app = TestApp::shared().await;
    let other = app.another_node().await;
    let (id, _) = app.create(json!({"name": "key"})).await;
    let by = By { actor: Actor::HOST, request_id: "test".to_owned() };
    // The other node's transaction has begun when the change is committed, and finds its reply all the same.
    let mut repeat = other.app.store.begin(Need::Ordinary).await.unwrap();
    let mut first = app.app.store.begin(Need::Revocation).await.unwrap();
    keyrack_server::keys::revoke(&mut first, Place::Project(keyrack::ProjectId(1)), id, &by).await.unwrap();
    let forever = Timestamp(i64::MAX);
    let kept = KeptReply { fingerprint: vec![1; 32], salt: vec![2; 16], sealed: vec![3; 16], expires_at: forever };
    first.keep_reply(&[7; 32], &kept).await.unwrap();
    let seq = first.commit().await.unwrap();
    assert_eq!(repeat.reply(&[7; 32]).await.unwrap(), Some(kept));
    assert_eq!(repeat.position(), seq, "whoever asks for that position must see the change");
    repeat.abandon().await.unwrap();
}

#[tokio::test]
async fn a_database_that_is_only_busy_is_not_taken_for_one_that_is_away() {
    let app = TestApp::shared().await;
    let (id, value) = app.create(json!({"name": "key", "role": "admin"})).await;
    let mut beside = app.beside().await;
    beside.run("BEGIN; LOCK TABLE audit_head IN ACCESS EXCLUSIVE MODE").await;
    let refused = revoke(&app, id, "wait=0").await;
    beside.run("ROLLBACK").await;
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert_eq!(app.call_with(&value, ("GET", KEYS), None, &[]).await.status, 200, "nothing has happened to it");
}

#[tokio::test]
async fn a_node_whose_clock_is_wrong_forgets_no_reply_and_makes_nothing_twice() {
    let once = [("Idempotency-Key", "once")];
    for hours in [25, -25] {
        let app = TestApp::shared().await;
        let wrong = app.another_node_ahead(hours).await;
        let body = Some(json!({"name": "bot"}));
        let first = app.call_with(app.admin(), ("POST", KEYS), body.clone(), &once).await;
        let theirs = wrong.call_with(app.admin(), ("POST", KEYS), body.clone(), &[("Idempotency-Key", "theirs")]).await;
        assert_eq!((first.status, theirs.status), (200, 200), "{}", theirs.text);
        for store in [&wrong.app.store, &app.app.store] {
            let mut housekeeping = store.begin(keyrack_server::store::Need::Ordinary).await.unwrap();
            assert_eq!(housekeeping.forget_old_replies().await.unwrap(), 0, "{hours} hours ahead");
            housekeeping.commit().await.unwrap();
        }
        for (key, made) in [("once", &first), ("theirs", &theirs)] {
            let header = [("Idempotency-Key", key)];
            let here = app.call_with(app.admin(), ("POST", KEYS), body.clone(), &header).await;
            let there = wrong.call_with(app.admin(), ("POST", KEYS), body.clone(), &header).await;
            assert_eq!((&here.text, &there.text), (&made.text, &made.text), "{key}, {hours} hours ahead");
        }
    }
}
