//! `audit-events` on all three surfaces.

mod refused;

use expect_test::expect;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::surfaces::ids;

const OWN: &str = "/api/client/audit-events";
const ADMIN: &str = "/api/admin/audit-events";
const OPERATOR: &str = "/api/operator/audit-events";

/// Entries 1 to 5 are of the first start; then, a second apart: 6 and 7 an organization and its owner key, 8 its project,
/// 9 a key of it, 10 its change, 11 its revocation, 12 a key of the first project, 13 a key of the first organization,
/// 14 a project that it is given.
async fn eventful() -> (TestApp, String) {
    let app = TestApp::new().await;
    app.advance_seconds(1);
    let (_, owner) = app.organization("acme").await;
    app.advance_seconds(1);
    let project = app.project(&owner, "Shop").await;
    let keys = format!("/api/admin/projects/{project}/keys");
    app.advance_seconds(1);
    let (key, _) = app.made(&owner, &keys, json!({"name": "bot"})).await;
    let key = format!("{keys}/{key}");
    app.advance_seconds(1);
    app.does(&owner, ("PATCH", &key), Some(json!({"role": "editor"}))).await;
    app.advance_seconds(1);
    app.does(&owner, ("DELETE", &key), None).await;
    app.advance_seconds(1);
    app.create(json!({"name": "ours"})).await;
    app.advance_seconds(1);
    app.member_as("editor").await;
    assert_eq!(app.entries().await, 14);
    (app, owner)
}

async fn page(app: &TestApp, path: &str, query: &str) -> Value {
    let key = match path {
        OWN => app.admin(),
        ADMIN => app.owner(),
        _ => app.operator(),
    };
    app.does(key, ("GET", &format!("{path}?{query}")), None).await
}

#[tokio::test]
async fn a_project_sees_its_own_events() {
    let (app, _) = eventful().await;
    let listed = app.call(("GET", &format!("{OWN}?limit=2")), None).await;
    expect![[r#"
        200
        content-type: application/json
        x-request-id: req_SEGVVKFH6BD64F9C6JN2QNWT42
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        x-ratelimit-limit: 500000
        x-ratelimit-remaining: 499999
        x-ratelimit-reset: 1777368618
        x-ratelimit-tier: starter
        content-length: 841

        {
          "results": [
            {
              "id": 14,
              "at": "2026-04-28T09:30:07.123Z",
              "actor": {
                "kind": "organization_key",
                "id": 2
              },
              "action": "member.create",
              "target": {
                "kind": "member",
                "id": 1
              },
              "before": null,
              "after": {
                "key_id": 7,
                "project_id": 1,
                "role": "editor"
              },
              "request_id": "req_6CQ1A1P6T690Y5QN448WXMEHCV",
              "hash": "492ed8ef7346f6f575ada883b070d02a132ac57c73540f09e9572599eedc7f09"
            },
            {
              "id": 12,
              "at": "2026-04-28T09:30:06.123Z",
              "actor": {
                "kind": "secret_key",
                "id": 3
              },
              "action": "key.create",
              "target": {
                "kind": "key",
                "id": 6
              },
              "before": null,
              "after": {
                "name": "ours",
                "scope": "secret",
                "role": "support",
                "value": "sk_****D08X",
                "description": null,
                "policy_version": 0,
                "is_system_key": false
              },
              "request_id": "req_BG0QTKGHCK6FBVB8FTGQ6MEF2Q",
              "hash": "bd4d9f9edb4954788c12ccb24346ff3010646c61d1c294dd2a39f36e761e190b"
            }
          ],
          "nextCursor": "mkn8_HREhyNVkn4CkvXbgnsidmFsdWUiOjEyLCJpZCI6MTJ9",
          "prevCursor": null,
          "limit": 2
        }
    "#]]
    .assert_eq(&listed.snapshot());
    assert_eq!(ids(&page(&app, OWN, "").await), [14, 12, 5, 4]);
}

#[tokio::test]
async fn an_organization_sees_its_own_events_and_those_of_its_projects() {
    let (app, owner) = eventful().await;
    let listed = app.ask(&owner, ("GET", &format!("{ADMIN}?limit=1")), None).await;
    expect![[r#"
        200
        content-type: application/json
        x-request-id: req_SEGVVKFH6BD64F9C6JN2QNWT42
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        x-ratelimit-limit: 500000
        x-ratelimit-remaining: 499999
        x-ratelimit-reset: 1777368618
        x-ratelimit-tier: starter
        content-length: 680

        {
          "results": [
            {
              "id": 11,
              "at": "2026-04-28T09:30:05.123Z",
              "actor": {
                "kind": "organization_key",
                "id": 4
              },
              "action": "key.revoke",
              "target": {
                "kind": "key",
                "id": 5
              },
              "before": {
                "name": "bot",
                "scope": "secret",
                "role": "editor",
                "value": "sk_****H2YC",
                "description": null,
                "policy_version": 0,
                "is_system_key": false
              },
              "after": {
                "name": "bot",
                "scope": "secret",
                "role": "editor",
                "value": "sk_****H2YC",
                "description": null,
                "policy_version": 0,
                "is_system_key": false,
                "revoked_at": "2026-04-28T09:30:05.123Z"
              },
              "request_id": "req_D5R6J02AM1V6Y2ETV84KC38DAE",
              "hash": "82dcb807f334e24a9d18449ed7f7b92c7b96cca2aca9c14417e7185ede3f7413"
            }
          ],
          "nextCursor": "QQPibXRQhHJ9_Qy7sFbHeXsidmFsdWUiOjExLCJpZCI6MTF9",
          "prevCursor": null,
          "limit": 1
        }
    "#]]
    .assert_eq(&listed.snapshot());
    assert_eq!(ids(&app.does(&owner, ("GET", ADMIN), None).await), [11, 10, 9, 8, 7, 6]);
    assert_eq!(ids(&page(&app, ADMIN, "").await), [14, 13, 12, 5, 4, 3, 2]);
}

#[tokio::test]
async fn the_operator_sees_all_and_how_much_was_refused() {
    let (app, owner) = eventful().await;
    for (method, path, body) in [
        ("POST", "/api/admin/projects", Some(json!({}))),
        ("DELETE", "/api/admin/projects/1?confirm=true", None),
        ("DELETE", "/api/admin/projects/2", None),
    ] {
        assert!(app.ask(&owner, (method, path), body).await.status >= 400);
    }
    let listed = app.as_operator(("GET", &format!("{OPERATOR}?limit=1&sort=id&direction=asc")), None).await;
    expect![[r#"
        200
        content-type: application/json
        x-request-id: req_VD1338SEBTVZH2V4NVR346EMNQ
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        x-ratelimit-limit: 500000
        x-ratelimit-remaining: 499999
        x-ratelimit-reset: 1777368618
        x-ratelimit-tier: starter
        content-length: 465

        {
          "results": [
            {
              "id": 1,
              "at": "2026-04-28T09:30:00.123Z",
              "actor": {
                "kind": "host",
                "id": null
              },
              "action": "key.create",
              "target": {
                "kind": "key",
                "id": 1
              },
              "before": null,
              "after": {
                "name": "First operator key",
                "value": "op_****5KY1",
                "description": null,
                "is_system_key": false
              },
              "request_id": "host:init",
              "hash": "4d620a4b8711a1127578302ec1d90609b86000792766ad2c8980826729c08c5a"
            }
          ],
          "nextCursor": "rScnd3pYqz6O1Z3A43-RZnsidmFsdWUiOjEsImlkIjoxfQ",
          "prevCursor": null,
          "limit": 1,
          "refused_changes": 3
        }
    "#]]
    .assert_eq(&listed.snapshot());
    assert_eq!(ids(&page(&app, OPERATOR, "").await), (1..=14).rev().collect::<Vec<_>>());
}

#[tokio::test]
async fn no_event_holds_a_key() {
    let (app, owner) = eventful().await;
    app.made(app.operator(), "/api/operator/projects/1/system-keys", json!({"name": "relay"})).await;
    for (key, path) in [(app.admin(), OWN), (&*owner, ADMIN), (app.owner(), ADMIN), (app.operator(), OPERATOR)] {
        let text = app.ask(key, ("GET", &format!("{path}?limit=-1")), None).await.text;
        // Whatever looks like a value is a mask: a prefix is followed by stars.
        for (_, value) in text.match_indices("\"value\":\"").map(|(at, found)| text.split_at(at + found.len())) {
            assert_eq!(value.split_once('_').unwrap().1.get(..4), Some("****"), "{path}");
        }
        for value in [app.admin(), app.owner(), app.operator(), &owner] {
            assert!(!text.contains(&value[..16]), "{path}");
        }
    }
}

#[tokio::test]
async fn filters_narrow_and_never_widen() {
    let (app, owner) = eventful().await;
    for (path, query, expected) in [
        (OPERATOR, "actor=host", vec![5, 4, 3, 2, 1]),
        (OPERATOR, "actor=operator_key", vec![7, 6]),
        (OPERATOR, "actor=operator_key:1", vec![7, 6]),
        (OPERATOR, "actor=operator_key:2", vec![]),
        (OPERATOR, "actor=organization_key", vec![14, 13, 11, 10, 9, 8]),
        (OPERATOR, "actor=organization_key:2", vec![14, 13]),
        (OPERATOR, "actor=secret_key:3", vec![12]),
        (OPERATOR, "action=key.revoke", vec![11]),
        (OPERATOR, "action=key.creat", vec![]),
        (OPERATOR, "action=member.create", vec![14]),
        (OPERATOR, "target=organization", vec![6, 2]),
        (OPERATOR, "target=project:2", vec![8]),
        (OPERATOR, "target=member", vec![14]),
        (OPERATOR, "target=key:5", vec![11, 10, 9]),
        (OPERATOR, "target=key&action=key.create&actor=host", vec![5, 3, 1]),
        (OPERATOR, "since=2026-04-28T09:30:05.123456Z", vec![14, 13, 12, 11]),
        (OPERATOR, "since=2026-04-28T09:30:05.123457Z", vec![14, 13, 12]),
        (OPERATOR, "until=2026-04-28T09:30:01.123456Z", vec![5, 4, 3, 2, 1]),
        (OPERATOR, "until=2026-04-28T11:30:01.123457%2B02:00", vec![7, 6, 5, 4, 3, 2, 1]),
        (OPERATOR, "since=2026-04-28T09:30:03Z&until=2026-04-28T09:30:05Z", vec![10, 9]),
        (OPERATOR, "since=2026-04-28T09:30:05Z&until=2026-04-28T09:30:03Z", vec![]),
        (OPERATOR, "sort=id&direction=asc&target=key:5", vec![9, 10, 11]),
        // What is of others stays theirs, whatever is asked for.
        (ADMIN, "target=key:5", vec![]),
        (ADMIN, "target=organization:2", vec![]),
        (ADMIN, "actor=operator_key:1", vec![]),
        (ADMIN, "target=key", vec![13, 12, 5, 3]),
        (OWN, "target=key", vec![12, 5]),
        (OWN, "target=organization", vec![]),
        (OWN, "target=key:2", vec![]),
    ] {
        assert_eq!(ids(&page(&app, path, query).await), expected, "{path}?{query}");
    }
    let theirs = app.does(&owner, ("GET", &format!("{ADMIN}?target=key:5&limit=1")), None).await;
    assert_eq!((ids(&theirs), &theirs["results"][0]["action"]), (vec![11], &json!("key.revoke")));
}

#[tokio::test]
async fn pages_lead_forward_and_back_over_the_same_events() {
    let (app, _) = eventful().await;
    for order in ["", "sort=created_at", "sort=id&direction=asc", "direction=asc", "target=key", "actor=host"] {
        let all = ids(&page(&app, OPERATOR, &format!("{order}&limit=-1")).await);
        let mut pages = vec![page(&app, OPERATOR, &format!("{order}&limit=2")).await];
        while let Some(cursor) = pages.last().unwrap()["nextCursor"].as_str() {
            let next = page(&app, OPERATOR, &format!("{order}&limit=2&cursor={cursor}")).await;
            pages.push(next);
        }
        assert_eq!(pages.iter().flat_map(ids).collect::<Vec<_>>(), all, "{order}");
        assert_eq!((pages.len(), &pages[0]["prevCursor"]), (all.len().div_ceil(2), &Value::Null), "{order}");
        for at in (1..pages.len()).rev() {
            let cursor = pages[at]["prevCursor"].as_str().unwrap();
            let back = page(&app, OPERATOR, &format!("{order}&limit=2&page=prev&cursor={cursor}")).await;
            assert_eq!(ids(&back), ids(&pages[at - 1]), "{order}");
        }
    }
}

#[tokio::test]
async fn a_page_holds_while_events_arrive() {
    let (app, _) = eventful().await;
    let first = page(&app, OPERATOR, "limit=5").await;
    app.create(json!({"name": "meanwhile"})).await;
    let cursor = first["nextCursor"].as_str().unwrap();
    assert_eq!(ids(&page(&app, OPERATOR, &format!("limit=5&cursor={cursor}")).await), [9, 8, 7, 6, 5]);
    // Back from the first page: there is something now.
    let second = page(&app, OPERATOR, &format!("limit=5&cursor={cursor}")).await;
    let cursor = second["prevCursor"].as_str().unwrap();
    let back = page(&app, OPERATOR, &format!("limit=5&page=prev&cursor={cursor}")).await;
    assert_eq!((ids(&back), back["prevCursor"].is_string()), (ids(&first), true));
}
