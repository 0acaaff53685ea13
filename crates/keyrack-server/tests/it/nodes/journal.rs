//! Revocations that were made without the database, on their way to it.

use std::time::Duration;

use serde_json::json;

use super::{KEYS, follow, revoke_without_database};
use crate::app::TestApp;

/// More than are committed at once.
const MANY: usize = 70;

#[tokio::test]
async fn one_that_cannot_be_committed_holds_up_no_other() {
    let app = TestApp::shared().await;
    let (mut ids, mut values) = (Vec::new(), Vec::new());
    for number in 0..MANY {
        let (id, value) = app.create(json!({"name": format!("key {number}")})).await;
        ids.push(id);
        values.push(value);
    }
    ids.iter().for_each(|id| revoke_without_database(&app.app.store, *id));
    let damaged = ids[MANY / 3];
    let mut beside = app.beside().await;
    beside.run(format!("UPDATE api_keys SET name = 'not what was written' WHERE id = {damaged}")).await;
    let entries = app.app.store.audit_entries().await.unwrap();

    let _delivering = follow(&app.app);
    let live = format!("SELECT COUNT(*) FROM api_keys WHERE id >= {} AND revoked_at IS NULL", ids[0]);
    let mut waited = 0;
    while beside.number(&live).await > 1 {
        assert!(waited < 1_000, "{} of them still live", beside.number(&live).await);
        waited += 1;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(
        beside.number(format!("SELECT COUNT(*) FROM api_keys WHERE id = {damaged} AND revoked_at IS NULL")).await,
        1
    );
    assert_eq!(app.app.store.audit_entries().await.unwrap() - entries, MANY as u64 - 1, "none of them twice");
    let refused = app.call_with(&values[MANY / 3], ("GET", KEYS), None, &[]).await;
    assert_eq!(refused.status, 401, "here that one is dead too: {}", refused.text);
}
