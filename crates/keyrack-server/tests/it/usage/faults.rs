//! Writes that fail, that nobody heard of, and that are many.

use std::future::Future as _;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use keyrack::{
    ApiKey, Ask, Code, Holder, KeyChange, KeyDigest, KeyId, KeyKind, KeyRecord, OrganizationId, ProjectId, ProjectRole,
    Scope,
};

use keyrack_server::store::Need;
use keyrack_server::usage::{Batch, Counts, KeyUses};
use serde_json::json;

use super::{KEYS, READ};
use crate::app::TestApp;

#[tokio::test]
async fn a_batch_that_is_there_is_not_added_again() {
    let app = TestApp::new().await;
    let (id, _) = app.create(json!({"name": "CI bot"})).await;
    let hours = vec![(app.app.clock.now().0 / 3_600_000_000, Counts { valid: 5, ..Counts::default() })];
    let uses = KeyUses { key: KeyId(id), project: ProjectId(1), hours, last: None, quotas: vec![] };
    for (writer, number, is_new) in [(7, 1, true), (7, 1, false), (7, 2, true), (7, 1, false), (8, 1, true)] {
        let batch = Batch { writer, number, keys: vec![uses.clone()] };
        let mut writing = app.app.store.begin(Need::Ordinary).await.unwrap();
        assert_eq!(writing.write_usage(&batch).await.unwrap(), is_new, "{writer} {number}");
        writing.commit().await.unwrap();
    }
    assert_eq!(app.totals(id).await[0], 15);
}

/// A write is left alone at every place where it waits: before, while and after the database commits it.
#[tokio::test]
async fn a_write_that_nobody_heard_of_is_counted_once() {
    let app = TestApp::new().await;
    let (id, value) = app.create(json!({"name": "CI bot"})).await;
    let mut database = app.beside().await;
    let (mut sent, mut was_made, mut was_not) = (0, 0, 0);
    for attempt in 0..5_000_u32 {
        app.check(&value, READ);
        sent += 1;
        app.app.usage.collect().await;
        {
            let mut writing = pin!(app.app.usage.write_batch());
            let mut left = attempt % 40;
            while left > 0 && writing.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
                left -= 1;
                tokio::task::yield_now().await;
                std::thread::sleep(Duration::from_micros(50));
            }
            if left > 0 {
                continue;
            }
        }
        // What was begun is either there or not; whichever, the next write finds out.
        app.app.store.begin(Need::Ordinary).await.unwrap().abandon().await.unwrap();
        match database.number("SELECT COALESCE(SUM(valid), 0) FROM key_usage").await {
            written if written == sent => was_made += 1,
            written => {
                assert!(written < sent, "{written} of {sent}");
                was_not += 1;
            }
        }
        app.flush().await;
        let written = database.number("SELECT SUM(valid) FROM key_usage").await;
        assert_eq!(written, sent, "left alone after {} steps", attempt % 40);
        if was_made > 2 && was_not > 2 {
            break;
        }
    }
    assert!(was_made > 0 && was_not > 0, "never at the place that matters: {was_made} made, {was_not} not");
    app.flush().await;
    assert_eq!(app.totals(id).await[0], sent.unsigned_abs());
}

#[tokio::test]
async fn while_nothing_can_be_written_keys_pass_and_nothing_is_lost() {
    let app = TestApp::new().await;
    let (id, value) = app.create(json!({"name": "CI bot", "limits": super::quota(1_000_000, "month")})).await;
    let mut database = app.beside().await;
    let (mut sent, mut failed) = (0, 0);
    for table in ["key_usage", "key_last_use", "key_quotas", "usage_writers"] {
        database.break_it("INSERT", table, "").await;
        for _ in 0..3 {
            assert_eq!(app.check(&value, READ), Code::Valid);
            sent += 1;
            failed += 1;
            assert!(app.app.usage.flush().await.is_err(), "{table}");
            assert!(app.app.usage.pending_keys().await <= 2, "what is kept is bounded by the keys in use");
        }
        assert_eq!(app.app.usage.failed_writes(), failed);
        database.mend("INSERT", table).await;
        app.flush().await;
        assert_eq!(app.totals(id).await[0], sent, "{table}");
        assert_eq!(app.app.usage.pending_keys().await, 0);
    }
}

const MANY: i64 = 50_000;

/// Keys that only the index knows: it is the uses that are many here.
fn use_many(app: &TestApp) {
    let (index, now) = (app.app.verifier.index(), app.app.clock.moment());
    for number in 0..MANY {
        // Five bits of each byte make a letter of the value.
        let random: [u8; ApiKey::RANDOM_BYTES] = std::array::from_fn(|at| (number >> (5 * at).min(63)) as u8 & 31);
        let key = ApiKey::generate(KeyKind::Secret, &random);
        let (project, organization) = (ProjectId(1), OrganizationId(1));
        let (scope, role) = (Scope::Secret, ProjectRole::Support);
        let holder = Holder::Project { project, organization, kind: KeyKind::Secret, scope, role };
        let record = KeyRecord::new(KeyId(1_000_000 + number), 1, holder);
        index.apply(&KeyDigest::of(&key), &KeyChange::Put(record)).unwrap();
        let ask = Ask { key: key.expose().as_bytes(), cost: 1, ..Ask::default() };
        assert_eq!(app.app.verifier.check(&ask, now).code(), Code::Valid);
    }
}

#[tokio::test]
async fn a_flood_of_uses_holds_a_revocation_up_for_one_batch() {
    let app = Arc::new(TestApp::new().await);
    let (id, value) = app.create(json!({"name": "leaked"})).await;
    let mut database = app.beside().await;
    use_many(&app);
    app.app.usage.collect().await;
    assert_eq!(app.app.usage.pending_keys().await, MANY as usize);
    let writing = tokio::spawn({
        let usage = Arc::clone(&app.app.usage);
        async move { while usage.write_batch().await.unwrap() {} }
    });
    let newest = "SELECT COALESCE(MAX(batch), 0) FROM usage_writers";
    while database.number(newest).await < 3 {}
    let before = database.number(newest).await;
    assert_eq!(app.call(("DELETE", &format!("{KEYS}/{id}")), None).await.status, 200);
    let after = database.number(newest).await;
    assert_eq!(app.check(&value, READ), Code::NotFound);
    // One was under way; another may have been committed before the request came to its turn, and one behind it.
    assert!(after - before <= 3, "{} batches went ahead", after - before);
    assert!(after < MANY / 1_000, "all was written before the revocation came: nothing is shown");
    writing.await.unwrap();
    assert_eq!(database.number("SELECT SUM(valid) FROM key_usage").await, MANY);
    assert_eq!(database.number(newest).await, MANY / 1_000);
}

#[tokio::test]
async fn the_task_itself_writes_and_leaves_the_store_to_others() {
    let app = Arc::new(TestApp::new().await);
    use_many(&app);
    let usage = Arc::clone(&app.app.usage);
    let running = tokio::spawn(async move { usage.run().await });
    let mut database = app.beside().await;
    let mut made = 0;
    while database.number("SELECT COALESCE(SUM(valid), 0) FROM key_usage").await < MANY {
        app.create(json!({"name": "meanwhile"})).await;
        made += 1;
    }
    assert!(made > 0);
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    assert_eq!(app.app.usage.failed_writes(), 0);
}
