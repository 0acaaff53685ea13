//! What is counted, in which hour, and what is known of the last use.

use keyrack::policy::{Document, Policies};
use keyrack::{Ask, Code, KeyId, PolicySet, PolicyVersion, ProjectId, QuotaCount};
use keyrack_server::store::Need;
use keyrack_server::usage::{Batch, KeyUses};
use serde_json::{Value, json};

use super::{KEYS, READ, WRITE, quota, used};
use crate::app::TestApp;

#[tokio::test]
async fn every_verdict_is_counted_by_itself() {
    let app = TestApp::new().await;
    let (plain, value) = app.create(json!({"name": "plain"})).await;
    let (limited, slow) = app.create(json!({"name": "slow", "limits": quota(1, "1h")})).await;
    let (exceeded, spent) = app.create(json!({"name": "spent", "limits": quota(2, "month")})).await;
    let says = |value: &str, route, codes: &[Code]| {
        let said: Vec<_> = codes.iter().map(|_| app.check(value, route)).collect();
        assert_eq!(said, codes);
    };
    says(&value, READ, &[Code::Valid; 3]);
    says(&value, WRITE, &[Code::Forbidden; 2]);
    says(&slow, READ, &[Code::Valid, Code::RateLimited, Code::RateLimited, Code::RateLimited]);
    says(&spent, READ, &[Code::Valid, Code::Valid, Code::UsageExceeded]);
    assert_eq!(app.totals(plain).await, [0; 5], "nothing is written by a verification");
    app.flush().await;
    assert_eq!(app.totals(plain).await, [3, 2, 0, 0, 0]);
    assert_eq!(app.totals(limited).await, [1, 0, 3, 0, 0]);
    assert_eq!(app.totals(exceeded).await, [2, 0, 0, 1, 0]);

    assert_eq!(app.call(("DELETE", &format!("{KEYS}/{plain}")), None).await.status, 200);
    says(&value, READ, &[Code::NotFound; 4]);
    app.flush().await;
    assert_eq!(app.totals(plain).await, [3, 2, 0, 0, 4]);
    app.flush().await;
    assert_eq!(app.totals(plain).await, [3, 2, 0, 0, 4], "nothing is collected twice");
}

/// From 2026-04-28T09:30:00 to one second before the end of April.
const TO_THE_END_OF_APRIL: u32 = 2 * 86_400 + 14 * 3_600 + 29 * 60 + 59;

#[tokio::test]
async fn hours_and_months_end_when_they_end() {
    let app = TestApp::new().await;
    let (id, value) = app.create(json!({"name": "CI bot"})).await;
    app.check(&value, READ);
    app.flush().await;
    app.advance_seconds(TO_THE_END_OF_APRIL - 1);
    app.flush().await;
    app.advance_seconds(1);
    assert_eq!([(); 5].map(|()| app.check(&value, READ)), [Code::Valid; 5]);
    // The collection that stands at the end of every hour comes when the next one has just begun.
    app.advance_seconds(1);
    app.flush().await;
    assert_eq!([(); 7].map(|()| app.check(&value, READ)), [Code::Valid; 7]);
    app.flush().await;

    let path = format!("{KEYS}/{id}/usage?from=2026-04-28T00:00:00Z&to=2026-05-02T00:00:00Z&step");
    let steps = async |step: &str| used(&app.got(&format!("{path}={step}")).await);
    let at = |at: &str, valid: u64| (at.to_owned(), valid);
    let by_hour =
        [at("2026-04-28T09:00:00.000Z", 1), at("2026-04-30T23:00:00.000Z", 5), at("2026-05-01T00:00:00.000Z", 7)];
    assert_eq!(steps("hour").await, by_hour);
    let by_day =
        [at("2026-04-28T00:00:00.000Z", 1), at("2026-04-30T00:00:00.000Z", 5), at("2026-05-01T00:00:00.000Z", 7)];
    assert_eq!(steps("day").await, by_day);
    assert_eq!(steps("month").await, [at("2026-04-01T00:00:00.000Z", 6), at("2026-05-01T00:00:00.000Z", 7)]);
}

/// The two fields of a key that say when it was last used.
fn last(key: &Value) -> (Option<&str>, Option<&str>) {
    (key["last_used_at"].as_str(), key["last_used_route"].as_str())
}

#[tokio::test]
async fn a_key_says_when_it_was_last_used_and_by_which_rule() {
    let app = TestApp::new().await;
    let made = app.call(("POST", KEYS), Some(json!({"name": "CI bot"}))).await.json();
    assert_eq!(last(&made), (None, None));
    assert!(made["last_used_at"].is_null() && made["last_used_route"].is_null(), "they are there from the beginning");
    let (id, value) = (made["id"].as_i64().unwrap(), made["value"].as_str().unwrap());
    let path = format!("{KEYS}/{id}");

    app.check(value, READ);
    app.advance_seconds(90);
    app.check(value, WRITE);
    app.flush().await;
    let expected = (Some("2026-04-28T09:30:00.000Z"), Some("other reads"));
    assert_eq!(last(&app.got(&path).await), expected, "what is refused is no use");
    let listed = app.got(KEYS).await;
    let listed: Vec<_> = listed["results"].as_array().unwrap().iter().map(last).collect();
    assert_eq!(listed, [expected, (None, None)]);
    let changed = app.call(("PATCH", &path), Some(json!({"role": "editor"}))).await.json();
    assert_eq!(last(&changed), expected);

    app.check(value, WRITE);
    app.flush().await;
    let expected = (Some("2026-04-28T09:31:30.000Z"), Some("other writes"));
    let app = app.restarted().await;
    assert_eq!(last(&app.got(&path).await), expected);
    let revoked = app.call(("DELETE", &path), None).await.json();
    assert_eq!(last(&revoked), expected);
}

#[tokio::test]
async fn the_operator_sees_when_a_system_key_was_last_used() {
    let app = TestApp::new().await;
    let (id, value) = app.system_key(json!({"name": "relay"})).await;
    app.check(&value, READ);
    app.flush().await;
    let path = "/api/operator/projects/1/system-keys";
    let at = json!("2026-04-28T09:30:00.000Z");
    assert_eq!(app.as_operator(("GET", path), None).await.json()["results"][0]["last_used_at"], at);
    let revoked = app.as_operator(("DELETE", &format!("{path}/{id}")), None).await.json();
    assert_eq!(revoked["last_used_at"], at);
}

/// A number of a rule means another one under another policy.
#[tokio::test]
async fn no_use_is_given_the_name_of_a_rule_of_another_policy() {
    let app = TestApp::new().await;
    let (id, value) = app.create(json!({"name": "CI bot"})).await;
    let route = async || app.got(&format!("{KEYS}/{id}")).await["last_used_route"].clone();
    app.check(&value, READ);
    app.flush().await;
    assert_eq!(route().await, "other reads");

    app.check(&value, READ);
    let policies = Policies::compile(&Document::builtin()).unwrap();
    let next = PolicySet::builtin().followed_by(PolicyVersion(1), policies);
    app.app.verifier.set_policies(next);
    app.advance_seconds(2);
    app.flush().await;
    assert_eq!(route().await, Value::Null, "counted under the policy before");
    for _ in 0..2 {
        app.advance_seconds(2);
        app.check(&value, READ);
        app.flush().await;
    }
    assert_eq!(route().await, "other reads", "in force all along");
}

/// Nodes count for themselves, and write where they stand.
#[tokio::test]
async fn of_what_nodes_count_of_a_quota_the_greater_holds() {
    let mut app = TestApp::new().await;
    let (id, value) = app.create(json!({"name": "monthly", "limits": quota(5, "month")})).await;
    assert_eq!([0; 3].map(|_| app.check(&value, READ)), [Code::Valid; 3]);
    app.flush().await;
    // April 2026 is month 675 since 1970; above it stands that it is one.
    let month = |number: u64, count: u64| (0b10 << 14 | number) << 48 | count;
    let mut number = 0;
    let mut others = async |app: &TestApp, counted: u64| {
        number += 1;
        let quotas = vec![QuotaCount { name: "calls".to_owned(), counted }];
        let uses = KeyUses { key: KeyId(id), project: ProjectId(1), hours: vec![], last: None, quotas };
        let mut writing = app.app.store.begin(Need::Ordinary).await.unwrap();
        assert!(writing.write_usage(&Batch { writer: 7, number, keys: vec![uses] }).await.unwrap());
        writing.commit().await.unwrap();
    };
    let left = |app: &TestApp| {
        let ask = Ask { key: value.as_bytes(), cost: 0, ..Ask::default() };
        app.app.verifier.check(&ask, app.app.clock.moment()).limit.unwrap().remaining
    };
    for (counted, expected, why) in [
        (month(675, 1), 2, "another node saw less of it"),
        (month(675, 4), 1, "another node saw more of it"),
        (month(674, 5), 1, "another node has not seen it since last month"),
        (month(735, 5), 1, "the clock of another node is years ahead"),
        (0, 1, "another node has not seen it at all"),
        ((0b01 << 14 | 1) << 48 | 5, 1, "another node knows it as a quota by day"),
    ] {
        others(&app, counted).await;
        app = app.restarted().await;
        assert_eq!(left(&app), expected, "{why}");
    }
}

#[tokio::test]
async fn quotas_count_on_after_a_restart() {
    let app = TestApp::new().await;
    let (_, monthly) = app.create(json!({"name": "monthly", "limits": quota(3, "month")})).await;
    let (_, daily) = app.create(json!({"name": "daily", "limits": quota(2, "day")})).await;
    for value in [&monthly, &daily] {
        assert_eq!([app.check(value, READ), app.check(value, READ)], [Code::Valid; 2]);
    }
    app.flush().await;
    let app = app.restarted().await;
    assert_eq!([app.check(&monthly, READ), app.check(&monthly, READ)], [Code::Valid, Code::UsageExceeded]);
    assert_eq!(app.check(&daily, READ), Code::UsageExceeded);
    app.flush().await;
    app.advance_seconds(86_400);
    let app = app.restarted().await;
    assert_eq!(app.check(&daily, READ), Code::Valid, "another day");
    assert_eq!(app.check(&monthly, READ), Code::UsageExceeded, "the same month");
}
