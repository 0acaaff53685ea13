//! Who may read usage, how it is asked for, and how long it is kept.

use expect_test::expect;
use keyrack::{KeyId, ProjectId};
use keyrack_server::store::Need;
use keyrack_server::usage::{Batch, Counts, KeyUses, hour_of};
use serde_json::json;

use super::{KEYS, READ, WRITE, counts, used};
use crate::app::TestApp;

#[tokio::test]
async fn a_whole_reply() {
    let app = TestApp::new().await;
    let (id, value) = app.create(json!({"name": "CI bot"})).await;
    app.check(&value, READ);
    app.check(&value, WRITE);
    app.flush().await;
    let path = format!("{KEYS}/{id}/usage?from=2026-04-28T08:59:59%2B00:00&to=2026-04-28T10:00:00Z");
    let reply = app.call(("GET", &path), None).await;
    expect![[r#"
        200
        content-type: application/json
        x-request-id: req_3BDRZ5JWFMN55Z9B4AWDNB6F4R
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        x-ratelimit-limit: 500000
        x-ratelimit-remaining: 499999
        x-ratelimit-reset: 1777368611
        x-ratelimit-tier: starter
        content-length: 450

        {
          "key_id": 4,
          "project_id": 1,
          "from": "2026-04-28T08:00:00.000Z",
          "to": "2026-04-28T10:00:00.000Z",
          "step": "hour",
          "results": [
            {
              "at": "2026-04-28T08:00:00.000Z",
              "valid": 0,
              "forbidden": 0,
              "rate_limited": 0,
              "usage_exceeded": 0,
              "not_found": 0,
              "total": 0
            },
            {
              "at": "2026-04-28T09:00:00.000Z",
              "valid": 1,
              "forbidden": 1,
              "rate_limited": 0,
              "usage_exceeded": 0,
              "not_found": 0,
              "total": 2
            }
          ],
          "totals": {
            "valid": 1,
            "forbidden": 1,
            "rate_limited": 0,
            "usage_exceeded": 0,
            "not_found": 0,
            "total": 2
          }
        }
    "#]]
    .assert_eq(&reply.snapshot());
    let project = app.got("/api/client/usage?step=month").await;
    assert_eq!((project.get("key_id"), counts(&project["totals"])), (None, [1, 1, 0, 0, 0]));
}

#[tokio::test]
async fn every_step_of_the_time_is_there_and_the_last_day_is_what_is_meant() {
    let app = TestApp::new().await;
    let steps = async |query: &str| {
        let usage = app.got(&format!("/api/client/usage{query}")).await;
        let [from, to, step] = ["from", "to", "step"].map(|name| usage[name].as_str().unwrap().to_owned());
        (from, to, step, usage["results"].as_array().unwrap().len())
    };
    let range = |from: &str, to: &str, step: &str, many| {
        (format!("{from}:00:00.000Z"), format!("{to}:00:00.000Z"), step.to_owned(), many)
    };
    assert_eq!(steps("").await, range("2026-04-27T09", "2026-04-28T10", "hour", 25));
    assert_eq!(steps("?step=day").await, range("2026-04-27T00", "2026-04-29T00", "day", 2));
    assert_eq!(steps("?to=2026-01-01T00:00:00Z").await, range("2025-12-31T00", "2026-01-01T00", "hour", 24));
    let longest = "?from=2025-03-24T09:30:00.123456Z";
    assert_eq!(steps(longest).await, range("2025-03-24T09", "2026-04-28T10", "hour", 9_601));
    assert_eq!(steps(&format!("{longest}&step=month")).await, range("2025-03-01T00", "2026-05-01T00", "month", 14));
}

#[tokio::test]
async fn a_time_that_cannot_be_asked_for_is_refused_by_name() {
    let app = TestApp::new().await;
    let (id, _) = app.create(json!({"name": "CI bot"})).await;
    for path in ["/api/client/usage".to_owned(), format!("{KEYS}/{id}/usage")] {
        for (query, param, says) in [
            ("from=yesterday", "from", "Send a time such as"),
            ("to=2026-04-28", "to", "Send a time such as"),
            ("from=2026-04-28T09:30:00.123456Z", "from", "before `to`"),
            ("from=2025-03-24T09:30:00Z", "from", "at most 400 days"),
            ("from=1969-12-31T23:59:59Z&to=1970-01-01T00:00:01Z", "from", "1970"),
            ("from=9998-01-01T00:00:00Z&to=9998-01-01T00:00:01Z", "from", "9997"),
            ("step=week", "step", "hour, day, month"),
            ("step=hour&step=hour", "step", "once"),
            ("limit=1", "query", "from, to, step"),
        ] {
            let reply = app.call(("GET", &format!("{path}?{query}")), None).await;
            assert_eq!(reply.status, 400, "{query}: {}", reply.text);
            let problem = reply.json();
            assert_eq!(problem["param"], param, "{query}");
            assert!(problem["message"].as_str().unwrap().contains(says), "{query}: {problem}");
        }
    }
}

#[tokio::test]
async fn a_key_is_read_by_its_own_project_alone_also_when_it_is_dead() {
    let app = TestApp::new().await;
    let (id, value) = app.create(json!({"name": "own"})).await;
    let (_, owner) = app.organization("acme").await;
    let other = app.project(&owner, "Shop").await;
    let (foreign, theirs) =
        app.made(&owner, &format!("/api/admin/projects/{other}/keys"), json!({"name": "theirs"})).await;
    let (organization_key, _) = app.organization_key("admin").await;
    for _ in 0..3 {
        app.check(&value, READ);
        app.check(&theirs, READ);
    }
    app.flush().await;

    let of_project = |project: i64, key: i64| format!("/api/admin/projects/{project}/keys/{key}/usage");
    let status = async |key: &str, path: &str| app.ask(key, ("GET", path), None).await.status;
    for is_dead in [false, true] {
        if is_dead {
            app.does(app.admin(), ("DELETE", &format!("{KEYS}/{id}")), None).await;
            let path = format!("/api/admin/projects/{other}/keys/{foreign}");
            app.does(&owner, ("DELETE", &path), None).await;
        }
        assert_eq!(app.totals(id).await, [3, 0, 0, 0, 0]);
        for (key, path) in [(app.owner(), of_project(1, id)), (&owner, of_project(other, foreign))] {
            let usage = app.does(key, ("GET", &path), None).await;
            assert_eq!(counts(&usage["totals"]), [3, 0, 0, 0, 0]);
        }
        let never = app.call(("GET", &format!("{KEYS}/4000000/usage")), None).await;
        for foreign in [foreign, organization_key, 1, 0] {
            let reply = app.call(("GET", &format!("{KEYS}/{foreign}/usage")), None).await;
            assert_eq!((reply.status, &reply.json()["message"]), (404, &never.json()["message"]), "{foreign}");
        }
        for path in [of_project(1, foreign), of_project(other, id), of_project(other, foreign)] {
            assert_eq!(status(app.owner(), &path).await, 404, "{path}");
        }
        for path in [of_project(other, id), of_project(1, foreign), of_project(1, id)] {
            assert_eq!(status(&owner, &path).await, 404, "{path}");
        }
    }
    // A project has what its own keys had, the dead ones included.
    for (key, path) in [
        (app.admin(), "/api/client/usage".to_owned()),
        (app.owner(), "/api/admin/projects/1/usage".to_owned()),
        (&owner, format!("/api/admin/projects/{other}/usage")),
    ] {
        assert_eq!(counts(&app.does(key, ("GET", &path), None).await["totals"]), [3, 0, 0, 0, 0], "{path}");
    }
    assert_eq!(status(app.owner(), &format!("/api/admin/projects/{other}/usage")).await, 404);
    assert_eq!(status(&owner, "/api/admin/projects/1/usage").await, 404);
}

/// Writes what keys were used for in some hour.
async fn write(app: &TestApp, number: i64, keys: std::ops::Range<i64>, hour: i64) {
    let hours = vec![(hour, Counts { valid: 1, ..Counts::default() })];
    let uses =
        |key| KeyUses { key: KeyId(key), project: ProjectId(1), hours: hours.clone(), last: None, quotas: vec![] };
    let mut writing = app.app.store.begin(Need::Ordinary).await.unwrap();
    assert!(writing.write_usage(&Batch { writer: 7, number, keys: keys.map(uses).collect() }).await.unwrap());
    writing.commit().await.unwrap();
}

#[tokio::test]
async fn what_is_older_than_can_be_asked_for_is_forgotten() {
    let app = TestApp::new().await;
    let oldest = hour_of(app.app.clock.now()) - 400 * 24;
    // More than one transaction takes.
    write(&app, 1, 1..4_502, oldest - 1).await;
    write(&app, 2, 1..3, oldest).await;
    write(&app, 3, 1..3, oldest + 9_600).await;
    assert_eq!(app.app.usage.forget_old().await.unwrap(), 4_501);
    assert_eq!(app.app.usage.forget_old().await.unwrap(), 0);
    let usage = app.got("/api/client/usage?from=2025-03-24T09:30:00.123456Z").await;
    let kept = [("2025-03-24T09:00:00.000Z".to_owned(), 2), ("2026-04-28T09:00:00.000Z".to_owned(), 2)];
    assert_eq!(used(&usage), kept);
}
