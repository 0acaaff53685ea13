//! The three calls of `/api/operator/operator-keys`.

use expect_test::expect;
use serde_json::json;

use crate::app::TestApp;
use crate::surfaces::{Fate, faults, ids};

const KEYS: &str = "/api/operator/operator-keys";

#[tokio::test]
async fn create_gives_the_value_once() {
    let app = TestApp::new().await;
    let body = json!({"name": " On call ", "description": "rota"});
    let created = app.as_operator(("POST", KEYS), Some(body)).await;
    expect![[r#"
        200
        content-type: application/json
        x-keyrack-seq: 6
        x-request-id: req_05GD3T67GRZPCPXQ3RJTMW5VDT
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        x-ratelimit-limit: 500000
        x-ratelimit-remaining: 499999
        x-ratelimit-reset: 1777368611
        x-ratelimit-tier: starter
        content-length: 265

        {
          "id": 4,
          "name": "On call",
          "value": "op_XEDPFRGTS0YH9EDF5GQD24HQ7GZAXMWH",
          "created_at": "2026-04-28T09:30:00.123Z",
          "updated_at": "2026-04-28T09:30:00.123Z",
          "description": "rota",
          "created_by": {
            "kind": "operator_key",
            "id": 1
          },
          "last_changed_by": {
            "kind": "operator_key",
            "id": 1
          }
        }
    "#]]
    .assert_eq(&created.snapshot());
    let value = created.json()["value"].as_str().unwrap().to_owned();
    assert_eq!(app.fate(&value).await, Fate::Alive);
    // It is worth as much as the one that made it.
    assert_eq!(app.ask(&value, ("POST", KEYS), Some(json!({"name": "third"}))).await.status, 200);
}

#[tokio::test]
async fn list_shows_masks_only() {
    let app = TestApp::new().await;
    app.advance_seconds(1);
    let (_, value) = app.made(app.operator(), KEYS, json!({"name": "On call"})).await;
    let listed = app.as_operator(("GET", KEYS), None).await;
    expect![[r#"
        200
        content-type: application/json
        x-request-id: req_MCQWVEPS67B0MCRK91APVGRKV9
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        x-ratelimit-limit: 500000
        x-ratelimit-remaining: 499999
        x-ratelimit-reset: 1777368612
        x-ratelimit-tier: starter
        content-length: 541

        {
          "results": [
            {
              "id": 4,
              "name": "On call",
              "value": "op_****XMWH",
              "created_at": "2026-04-28T09:30:01.123Z",
              "updated_at": "2026-04-28T09:30:01.123Z",
              "description": null,
              "created_by": {
                "kind": "operator_key",
                "id": 1
              },
              "last_changed_by": {
                "kind": "operator_key",
                "id": 1
              }
            },
            {
              "id": 1,
              "name": "First operator key",
              "value": "op_****5KY1",
              "created_at": "2026-04-28T09:30:00.123Z",
              "updated_at": "2026-04-28T09:30:00.123Z",
              "description": null,
              "created_by": {
                "kind": "host",
                "id": null
              },
              "last_changed_by": {
                "kind": "host",
                "id": null
              }
            }
          ],
          "nextCursor": null,
          "prevCursor": null,
          "limit": 25
        }
    "#]]
    .assert_eq(&listed.snapshot());
    assert!(!listed.text.contains(&value) && !listed.text.contains(app.operator()));
    let found = app.does(app.operator(), ("GET", &format!("{KEYS}?q=FIRST")), None).await;
    assert_eq!(ids(&found), [1]);
}

#[tokio::test]
async fn delete_kills_at_once_and_for_ever() {
    let app = TestApp::new().await;
    let (_, value) = app.made(app.operator(), KEYS, json!({"name": "left"})).await;
    app.advance_seconds(60);
    let path = format!("{KEYS}/4");
    let revoked = app.as_operator(("DELETE", &path), None).await;
    expect![[r#"
        200
        content-type: application/json
        x-keyrack-seq: 7
        x-request-id: req_MCQWVEPS67B0MCRK91APVGRKV9
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        x-ratelimit-limit: 500000
        x-ratelimit-remaining: 499999
        x-ratelimit-reset: 1777368671
        x-ratelimit-tier: starter
        content-length: 254

        {
          "id": 4,
          "name": "left",
          "value": "op_****XMWH",
          "created_at": "2026-04-28T09:30:00.123Z",
          "updated_at": "2026-04-28T09:31:00.123Z",
          "description": null,
          "created_by": {
            "kind": "operator_key",
            "id": 1
          },
          "last_changed_by": {
            "kind": "operator_key",
            "id": 1
          },
          "effective": "all"
        }
    "#]]
    .assert_eq(&revoked.snapshot());
    assert_eq!(app.fate(&value).await, Fate::Dead);
    assert_eq!(app.code(app.operator(), ("DELETE", &path), None).await, (404, "resource_missing".to_owned()));
    let app = app.restarted().await;
    assert_eq!((app.fate(&value).await, app.fate(app.operator()).await), (Fate::Dead, Fate::Alive));
}

#[tokio::test]
async fn the_last_one_stays() {
    let app = TestApp::new().await;
    let last = app.as_operator(("DELETE", &format!("{KEYS}/1")), None).await;
    expect![[r#"
        409
        content-type: application/problem+json
        x-request-id: req_05GD3T67GRZPCPXQ3RJTMW5VDT
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        x-ratelimit-limit: 500000
        x-ratelimit-remaining: 499999
        x-ratelimit-reset: 1777368611
        x-ratelimit-tier: starter
        content-length: 475

        {
          "status": "error",
          "code": "state_conflict",
          "title": "The state of the resource does not allow this",
          "message": "This is the last operator key. Create another first; if it has leaked, run `keyrack recover --operator` on the host and revoke it then.",
          "error": "This is the last operator key. Create another first; if it has leaked, run `keyrack recover --operator` on the host and revoke it then.",
          "type": "/docs/errors#state_conflict",
          "request_id": "req_05GD3T67GRZPCPXQ3RJTMW5VDT"
        }
    "#]].assert_eq(&last.snapshot());
    assert_eq!(app.fate(app.operator()).await, Fate::Alive);

    // With another it goes, even by its own hand; then the other is the last.
    let (second, value) = app.made(app.operator(), KEYS, json!({"name": "second"})).await;
    app.does(app.operator(), ("DELETE", &format!("{KEYS}/1")), None).await;
    assert_eq!(app.fate(app.operator()).await, Fate::Dead);
    let code = app.code(&value, ("DELETE", &format!("{KEYS}/{second}")), None).await;
    assert_eq!(code, (409, "state_conflict".to_owned()));
    assert_eq!(app.fate(&value).await, Fate::Alive);
}

#[tokio::test]
async fn two_operators_cannot_revoke_each_other_at_once() {
    let app = std::sync::Arc::new(TestApp::new().await);
    let (second, value) = app.made(app.operator(), KEYS, json!({"name": "second"})).await;
    let first = app.operator().to_owned();
    let tasks = [(first.clone(), second), (value.clone(), 1)].map(|(key, target)| {
        let app = app.clone();
        tokio::spawn(async move { app.ask(&key, ("DELETE", &format!("{KEYS}/{target}")), None).await.status })
    });
    let mut statuses = Vec::new();
    for task in tasks {
        statuses.push(task.await.unwrap());
    }
    statuses.sort_unstable();
    // The one that comes second is dead by then.
    assert_eq!(statuses, [200, 401]);
    let fates = [app.fate(&first).await, app.fate(&value).await];
    assert!(fates.contains(&Fate::Alive) && fates.contains(&Fate::Dead), "{fates:?}");
}

#[tokio::test]
async fn keys_of_other_kinds_are_missing() {
    let app = TestApp::new().await;
    app.made(app.operator(), KEYS, json!({"name": "second"})).await;
    let missing = app.as_operator(("DELETE", &format!("{KEYS}/2")), None).await;
    expect![[r#"
        404
        content-type: application/problem+json
        x-request-id: req_MCQWVEPS67B0MCRK91APVGRKV9
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        x-ratelimit-limit: 500000
        x-ratelimit-remaining: 499998
        x-ratelimit-reset: 1777368611
        x-ratelimit-tier: starter
        content-length: 277

        {
          "status": "error",
          "code": "resource_missing",
          "title": "There is no such resource",
          "message": "Nothing is there. Check the path and the id.",
          "error": "Nothing is there. Check the path and the id.",
          "type": "/docs/errors#resource_missing",
          "request_id": "req_MCQWVEPS67B0MCRK91APVGRKV9"
        }
    "#]]
    .assert_eq(&missing.snapshot());
    for id in ["3", "99", "0", "x"] {
        assert_eq!(app.as_operator(("DELETE", &format!("{KEYS}/{id}")), None).await.status, 404, "{id}");
    }
    assert_eq!((app.fate(app.owner()).await, app.fate(app.admin()).await), (Fate::Alive, Fate::Alive));
}

#[tokio::test]
async fn an_operator_key_has_no_role_to_ask_for() {
    let app = TestApp::new().await;
    let body = json!({"name": "\u{7}", "role": "owner", "description": 1});
    let refused = app.as_operator(("POST", KEYS), Some(body)).await;
    expect![[r#"
        422
        content-type: application/problem+json
        x-request-id: req_05GD3T67GRZPCPXQ3RJTMW5VDT
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        x-ratelimit-limit: 500000
        x-ratelimit-remaining: 499999
        x-ratelimit-reset: 1777368611
        x-ratelimit-tier: starter
        content-length: 562

        {
          "status": "error",
          "code": "validation_failed",
          "title": "The body is not valid",
          "message": "The body has 3 faults; `errors` lists them.",
          "error": "The body has 3 faults; `errors` lists them.",
          "type": "/docs/errors#validation_failed",
          "request_id": "req_05GD3T67GRZPCPXQ3RJTMW5VDT",
          "errors": [
            {
              "param": "name",
              "code": "parameter_invalid_format",
              "message": "must not contain control characters"
            },
            {
              "param": "description",
              "code": "parameter_invalid_format",
              "message": "must be a string or null"
            },
            {
              "param": "role",
              "code": "parameter_unknown",
              "message": "is not a field of this call"
            }
          ]
        }
    "#]]
    .assert_eq(&refused.snapshot());
    let nothing = app.as_operator(("POST", KEYS), Some(json!({}))).await;
    assert_eq!((nothing.status, faults(&nothing)), (422, vec![("name".to_owned(), "parameter_missing".to_owned())]));
}
