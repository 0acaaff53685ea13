//! A log that does not go on from where it was followed, is damaged, or was written by a newer program.

use std::time::Duration;

use serde_json::json;

use super::{KEYS, cursor_of, news_since, revoke, revoke_without_database};
use crate::app::TestApp;

/// What a failover to a standby that was behind does to a store: the newest changes are gone.
#[tokio::test]
async fn a_database_that_lost_changes_is_loaded_anew_and_no_key_comes_back() {
    const TABLES: [&str; 5] = ["api_keys", "organizations", "audit_events", "audit_head", "counters"];
    let app = TestApp::shared().await;
    let node = app.another_node().await;
    let (revoked, revoked_key) = app.create(json!({"name": "revoked", "role": "admin"})).await;
    let (narrowed, narrowed_key) = app.create(json!({"name": "narrowed", "role": "admin"})).await;
    let mut beside = app.beside().await;
    for table in TABLES {
        beside.run(format!("CREATE TABLE kept_{table} AS SELECT * FROM {table}")).await;
    }
    // One that is acknowledged and lost, and one that this node has seen die.
    let following = node.follows();
    let (lost, lost_key) = app.create(json!({"name": "lost", "role": "admin"})).await;
    let (dead, dead_key) = app.create(json!({"name": "lost, and dead", "role": "admin"})).await;
    let other = (app.organization("other").await.0, "/api/operator/organizations/1/suspend");
    assert_eq!(revoke(&app, revoked, "wait=0").await.status, 200);
    let patch = Some(json!({"role": "support"}));
    assert_eq!(app.call(("PATCH", &format!("{KEYS}/{narrowed}")), patch.clone()).await.status, 200);
    assert_eq!(app.as_operator(("POST", other.1), None).await.status, 200);
    while node.lets_pass(&revoked_key).await != Some(false) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    following.abort();
    following.await.unwrap_err();
    revoke_without_database(&node.app.store, dead);
    for table in TABLES {
        beside.run(format!("DELETE FROM {table}; INSERT INTO {table} SELECT * FROM kept_{table}")).await;
    }
    // The numbers of those that were lost are given out again before this node hears of anything.
    let admin = app.admin().to_owned();
    let third = app.another_node().await;
    let made_since = [lost, dead].map(|number| (number, json!({"name": "made since", "role": "admin"})));
    let mut values = Vec::new();
    for (number, body) in made_since {
        let made = third.call(&admin, ("POST", KEYS), Some(body)).await.json();
        assert_eq!(made["id"], number);
        values.push(made["value"].as_str().unwrap().to_owned());
    }

    let _following = (node.follows(), app.follows(), third.follows());
    let mut waited = 0;
    // The organization is not suspended any more: that says that all of it was loaded anew.
    while node.lets_pass(&admin).await != Some(true) {
        assert!(waited < 500, "it is not loaded anew");
        waited += 1;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(node.lets_pass(&revoked_key).await, Some(false), "revoked is final");
    assert_eq!(node.lets_pass(&lost_key).await, Some(false), "of this one nobody knows any more");
    assert_eq!(node.lets_pass(&narrowed_key).await, Some(true));
    while beside.number(format!("SELECT COUNT(*) FROM api_keys WHERE id = {revoked} AND revoked_at IS NULL")).await != 0
    {
        assert!(waited < 1_000, "the database is told of the death again");
        waited += 1;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    while node.app.store.standing(node.app.clock.moment()).waiting > 0 {
        assert!(waited < 2_000, "the other death is not delivered");
        waited += 1;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Whoever has its number now has not died.
    assert_eq!(node.lets_pass(&dead_key).await, Some(false));
    for node in [&node, &third] {
        assert_eq!(node.lets_pass(&values[0]).await, Some(true));
        assert_eq!(node.lets_pass(&values[1]).await, Some(true));
    }
    // What was put back can be changed again: its older version is the one that is in force.
    let again = node.call(&admin, ("PATCH", &format!("{KEYS}/{narrowed}")), patch).await;
    assert_eq!((again.status, again.json()["role"].as_str()), (200, Some("support")), "{}", again.text);
    assert_eq!(node.app.store.verify_audit().await.unwrap().faults, Vec::<String>::new());
}

/// The wrong backup, and then the right one.
#[tokio::test]
async fn a_key_that_was_only_missing_for_a_while_is_in_force_again() {
    const TABLES: [&str; 4] = ["api_keys", "audit_events", "audit_head", "counters"];
    let app = TestApp::shared().await;
    let node = app.another_node().await;
    let _following = node.follows();
    let mut beside = app.beside().await;
    let passes = async |key: &str, expected: bool| {
        let mut waited = 0;
        while node.lets_pass(key).await != Some(expected) {
            assert!(waited < 500, "it does not become {expected}");
            waited += 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let (damaged_id, damaged) = app.create(json!({"name": "damaged", "role": "admin"})).await;
    passes(&damaged, true).await;
    for table in TABLES {
        beside.run(format!("CREATE TABLE older_{table} AS SELECT * FROM {table}")).await;
    }
    let (_, made_since) = app.create(json!({"name": "made since", "role": "admin"})).await;
    let (dead_id, dead) = app.create(json!({"name": "dead", "role": "admin"})).await;
    for table in TABLES {
        beside.run(format!("CREATE TABLE newer_{table} AS SELECT * FROM {table}")).await;
    }
    passes(&made_since, true).await;
    passes(&dead, true).await;
    assert_eq!(revoke(&app, dead_id, "wait=0").await.status, 200);
    passes(&dead, false).await;

    beside.run(format!("UPDATE older_api_keys SET name = 'x' WHERE id = {damaged_id}")).await;
    for (from, is_there) in [("older", false), ("newer", true)] {
        beside.run("BEGIN").await;
        for table in TABLES {
            beside.run(format!("DELETE FROM {table}; INSERT INTO {table} SELECT * FROM {from}_{table}")).await;
        }
        beside.run("COMMIT").await;
        passes(&made_since, is_there).await;
        passes(&dead, false).await;
        if !is_there {
            passes(&damaged, false).await;
        }
    }
    // What it has seen die is revoked there again, and nothing else is.
    let live = |id| format!("SELECT COUNT(*) FROM api_keys WHERE id = {id} AND revoked_at IS NULL");
    let mut waited = 0;
    while beside.number(live(dead_id)).await != 0 {
        assert!(waited < 500, "the database is told of the death again");
        waited += 1;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(beside.number(live(damaged_id)).await, 1, "a node that starts lets it pass again");
    assert_eq!(node.lets_pass(&made_since).await, Some(true));
}

/// What was widened after something else was narrowed does not come first.
#[tokio::test]
async fn what_a_node_was_behind_comes_into_force_in_the_order_of_the_log() {
    let app = TestApp::shared().await;
    let node = app.another_node().await;
    let store = &node.app.store;
    let cursor = node.cursor();
    let (first, _) = app.create(json!({"name": "first"})).await;
    let operator = app.first_keys.operator.expose();
    let change = async |method, path, body| {
        let changed = app.call_with(operator, (method, path), body, &[("Prefer", "wait=0")]).await;
        assert_eq!(changed.status, 200, "{}", changed.text);
    };
    let policy = json!({"policies": [{"name": "default", "read": "none", "write": "none", "rules": []}]});
    change("PUT", "/api/operator/policy", Some(policy)).await;
    assert_eq!(app.call(("PATCH", &format!("{KEYS}/{first}")), Some(json!({"role": "admin"}))).await.status, 200);
    let (second, _) = app.create(json!({"name": "second"})).await;
    change("POST", "/api/operator/organizations/1/suspend", None).await;
    change("POST", "/api/operator/organizations/1/resume", None).await;
    let (third, _) = app.create(json!({"name": "third"})).await;

    store.hear_of_everything().await.unwrap();
    let told = news_since(store, &cursor).await;
    let order: Vec<_> = told.news.iter().map(|news| serde_json::to_value(news).unwrap()).collect();
    let order: Vec<_> = order.iter().map(|news| (news["what"].as_str().unwrap(), news["id"].as_i64())).collect();
    let expected = [
        ("policy", None),
        ("key", Some(first)),
        ("key", Some(second)),
        ("organization", Some(1)),
        ("key", Some(third)),
    ];
    assert_eq!(order, expected);
}

/// Otherwise every service that follows would load everything anew.
#[tokio::test]
async fn an_organization_that_ends_is_told_as_news_whether_it_ended_here_or_on_another_node() {
    let app = TestApp::shared().await;
    let node = app.another_node().await;
    let (organization, owner) = app.organization("ending").await;
    let call = async |method, path: &str, body| {
        let done = app.call_with(&owner, (method, path), Some(body), &[("Prefer", "wait=0")]).await;
        assert_eq!(done.status, 200, "{}", done.text);
        done.json()
    };
    let project = call("POST", "/api/admin/projects", json!({"name": "of it", "locale": "en", "timezone": "UTC"}))
        .await["id"]
        .clone();
    let made = call("POST", &format!("/api/admin/projects/{project}/keys"), json!({"name": "beneath"})).await;
    node.app.store.hear_of_everything().await.unwrap();
    let cursors = [node.cursor(), cursor_of(&app.app.store)];
    let path = format!("/api/operator/organizations/{organization}?confirm=true");
    let operator = app.first_keys.operator.expose();
    let archived = app.call_with(operator, ("DELETE", &path), None, &[("Prefer", "wait=0")]).await;
    assert_eq!(archived.status, 200, "{}", archived.text);
    node.app.store.hear_of_everything().await.unwrap();
    for (store, cursor) in [&node.app.store, &app.app.store].into_iter().zip(cursors) {
        let told = news_since(store, &cursor).await;
        assert!(told.cursor.is_some(), "it cannot be told what is new");
        let news: Vec<_> = told.news.iter().map(|news| serde_json::to_value(news).unwrap()).collect();
        let is_death = |news: &serde_json::Value| news["what"] == "death" && news["id"] == made["id"];
        assert!(news.iter().any(is_death), "{news:?}");
    }
}

#[tokio::test]
async fn a_key_that_can_only_be_killed_in_memory_is_told_as_news_too() {
    let app = TestApp::shared().await;
    let (id, _) = app.create(json!({"name": "damaged"})).await;
    let store = &app.app.store;
    let cursor = cursor_of(store);
    app.beside().await.run(format!("UPDATE api_keys SET name = 'forged' WHERE id = {id}")).await;
    assert_eq!(revoke(&app, id, "wait=0").await.status, 500);
    let told = news_since(store, &cursor).await;
    let news = serde_json::to_value(&told.news).unwrap();
    assert_eq!((told.cursor.is_some(), &news[0]["what"], &news[0]["id"]), (true, &json!("death"), &json!(id)));
}

#[tokio::test]
async fn a_hole_in_the_log_is_seen() {
    let app = TestApp::shared().await;
    let node = app.another_node().await;
    let (_, first) = app.create(json!({"name": "first"})).await;
    let (_, second) = app.create(json!({"name": "second"})).await;
    let newest = app.app.store.audit_entries().await.unwrap();
    app.beside().await.run(format!("DELETE FROM audit_events WHERE seq = {}", newest - 1)).await;
    let reloads = || node.app.store.standing(node.app.clock.moment()).reloads;
    assert_eq!(reloads(), 0);
    let _following = node.follows();
    let mut waited = 0;
    while node.lets_pass(&second).await != Some(true) {
        assert!(waited < 500);
        waited += 1;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(
        node.lets_pass(&first).await,
        Some(true),
        "what the lost entry spoke of was loaded with everything else"
    );
    assert_eq!(reloads(), 1, "whoever watches the metrics sees that");
}

/// Its newest entry alone is damaged: everything that is in force is as the authenticated head says.
#[tokio::test]
async fn a_damaged_entry_of_what_is_long_known_stops_nobody() {
    for damage in ["DELETE FROM audit_events", "UPDATE audit_events SET hash = x'00'", "UPDATE audit_events SET at = 7"]
    {
        let app = TestApp::shared().await;
        let node = app.another_node().await;
        let _following = node.follows();
        let newest = app.app.store.audit_entries().await.unwrap();
        app.beside().await.run(format!("{damage} WHERE seq = {newest}")).await;
        for _ in 0..60 {
            assert_eq!(node.lets_pass(app.admin()).await, Some(true), "{damage}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let (_, value) = app.create(json!({"name": "later"})).await;
        let mut waited = 0;
        while node.lets_pass(&value).await != Some(true) {
            assert!(waited < 200, "{damage}: it does not follow any more");
            waited += 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
async fn a_store_that_nobody_can_trust_is_not_loaded_without_pause() {
    let app = TestApp::shared().await;
    let node = app.another_node().await;
    let _following = node.follows();
    let mut beside = app.beside().await;
    let newest = app.app.store.audit_entries().await.unwrap();
    beside.run(format!("UPDATE audit_head SET seq = seq + 5; DELETE FROM audit_events WHERE seq = {newest}")).await;
    let mut waited = 0;
    while node.lets_pass(app.admin()).await.is_some() {
        assert!(waited < 500, "it does not see that");
        waited += 1;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Nothing but a load reads these.
    let loads = "SELECT seq_scan + idx_scan FROM pg_stat_user_tables \
                 WHERE relname = 'policies' AND schemaname = current_schema()";
    let before = beside.number(loads).await;
    for _ in 0..40 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        app.advance_microseconds(100_000);
        assert_eq!(node.lets_pass(app.admin()).await, None);
    }
    let many = beside.number(loads).await - before;
    assert!((1..=20).contains(&many), "{many}");
    beside.run("UPDATE audit_head SET seq = seq - 5").await;
    let mut waited = 0;
    while node.lets_pass(app.admin()).await != Some(true) {
        assert!(waited < 1_500, "it does not find its way back");
        waited += 1;
        tokio::time::sleep(Duration::from_millis(10)).await;
        app.advance_microseconds(10_000);
    }
}

/// What a newer program writes into the log: kinds of callers and of things that this one has no word for.
#[tokio::test]
async fn an_entry_of_a_newer_program_stops_nobody() {
    for (actor, target) in [("robot", "key"), ("secret_key", "gadget"), ("robot", "gadget")] {
        let app = TestApp::shared().await;
        let node = app.another_node().await;
        let (id, value) = app.create(json!({"name": "key", "role": "admin"})).await;
        let before = app.app.store.audit_entries().await.unwrap().cast_signed();
        let renamed = app.call(("PATCH", &format!("{KEYS}/{id}")), Some(json!({"name": "renamed"}))).await;
        assert_eq!(renamed.status, 200);
        let mut hash = Vec::new();
        let keep = |entry: keyrack_server::audit::Entry| {
            if entry.seq == before {
                hash = entry.hash;
            }
        };
        app.app.store.for_each_audit_entry(keep).await.unwrap();
        put_alien(&app, (&hash, before + 1), (actor, target, id)).await;

        let _following = node.follows();
        let mut waited = 0;
        while node.lets_pass(&value).await != Some(true) {
            assert!(waited < 200, "{actor} {target}: it does not follow");
            waited += 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for _ in 0..30 {
            assert_eq!(node.lets_pass(app.admin()).await, Some(true), "{actor} {target}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let made = node.call(app.admin(), ("POST", KEYS), Some(json!({"name": "later"}))).await;
        assert_eq!(made.status, 200, "{actor} {target}: {}", made.text);
    }
}

/// Writes the newest entry as a newer program would have, with its place in the chain.
async fn put_alien(app: &TestApp, (previous, seq): (&[u8], i64), (actor, target, id): (&str, &str, i64)) {
    use keyrack_server::canonical::Canonical;
    use sha2::{Digest as _, Sha256};
    let entry = Canonical::new("audit entry").bytes(previous).int(seq).int(7).text(actor).maybe_int(None);
    let entry = entry.text("gadget.turn").text(target).int(id).int(2).maybe_int(None).maybe_int(None);
    let hash = Sha256::digest(entry.maybe_text(None).maybe_text(None).text("req").as_bytes()).to_vec();
    let crate::database::Beside::Postgres(client) = app.beside().await else { unreachable!("it is shared") };
    let sum: Vec<u8> = client.query_one("SELECT live_sum FROM audit_head", &[]).await.unwrap().get(0);
    let root_key = keyrack_server::root_key::RootKey::load(&app.data_dir().join("root.key")).unwrap();
    let head = Canonical::new("audit head").int(seq).bytes(&hash).bytes(&sum);
    let mac = [&[1], root_key.derive("keyrack audit head v1").tag(&head).as_slice()].concat();
    client.execute("UPDATE audit_head SET hash = $1, mac = $2", &[&hash, &mac]).await.unwrap();
    let alien = "UPDATE audit_events SET at = 7, actor_kind = $1, actor_id = NULL, action = 'gadget.turn', \
                 target_kind = $2, target_id = $3, target_version = 2, organization_id = NULL, project_id = NULL, \
                 before_json = NULL, after_json = NULL, request_id = 'req', hash = $4 WHERE seq = $5";
    assert_eq!(client.execute(alien, &[&actor, &target, &id, &hash, &seq]).await.unwrap(), 1);
}
