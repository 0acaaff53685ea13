//! The calls of `/api/operator/organizations`.

mod refused;

use expect_test::expect;
use serde_json::json;

use crate::app::TestApp;
use crate::surfaces::{Fate, ids};

const ORGANIZATIONS: &str = "/api/operator/organizations";
const ORGANIZATION: &str = "/api/operator/organizations/2";

#[tokio::test]
async fn create_gives_the_organization_and_its_owner_key_once() {
    let app = TestApp::new().await;
    let body = json!({"username": "acme", "domain": "acme.example"});
    let created = app.as_operator(("POST", ORGANIZATIONS), Some(body)).await;
    expect![[r#"
        200
        content-type: application/json
        x-keyrack-seq: 7
        x-request-id: req_05GD3T67GRZPCPXQ3RJTMW5VDT
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        x-ratelimit-limit: 500000
        x-ratelimit-remaining: 499999
        x-ratelimit-reset: 1777368611
        x-ratelimit-tier: starter
        content-length: 603

        {
          "organization": {
            "id": 2,
            "username": "acme",
            "domain": "acme.example",
            "state": "active",
            "projects": 0,
            "live_keys": 1,
            "created_at": "2026-04-28T09:30:00.123Z",
            "updated_at": "2026-04-28T09:30:00.123Z",
            "created_by": {
              "kind": "operator_key",
              "id": 1
            },
            "last_changed_by": {
              "kind": "operator_key",
              "id": 1
            }
          },
          "owner_key": {
            "id": 4,
            "organization_id": 2,
            "name": "First owner key",
            "role": "owner",
            "value": "ok_XEDPFRGTS0YH9EDF5GQD24HQ7GXTAQ0P",
            "created_at": "2026-04-28T09:30:00.123Z",
            "updated_at": "2026-04-28T09:30:00.123Z",
            "description": null,
            "created_by": {
              "kind": "operator_key",
              "id": 1
            },
            "last_changed_by": {
              "kind": "operator_key",
              "id": 1
            }
          }
        }
    "#]]
    .assert_eq(&created.snapshot());
    let owner = created.json()["owner_key"]["value"].as_str().unwrap().to_owned();
    assert_eq!(app.does(&owner, ("GET", "/api/admin/organizations/me"), None).await["role"], "owner");
    assert_eq!(app.does(&owner, ("GET", "/api/admin/projects"), None).await["results"], json!([]));
}

#[tokio::test]
async fn read_counts_what_is_beneath() {
    let app = TestApp::new().await;
    let (_, owner) = app.organization("acme").await;
    for name in ["Shop", "Blog"] {
        let project = app.project(&owner, name).await;
        app.made(&owner, &format!("/api/admin/projects/{project}/keys"), json!({"name": "bot"})).await;
    }
    app.made(app.operator(), "/api/operator/projects/2/system-keys", json!({"name": "relay"})).await;
    let read = app.as_operator(("GET", ORGANIZATION), None).await;
    expect![[r#"
        200
        content-type: application/json
        x-request-id: req_PHZTCHJQR4YHA0RHB3J54Q1ABK
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        x-ratelimit-limit: 500000
        x-ratelimit-remaining: 499999
        x-ratelimit-reset: 1777368611
        x-ratelimit-tier: starter
        content-length: 257

        {
          "id": 2,
          "username": "acme",
          "domain": null,
          "state": "active",
          "projects": 2,
          "live_keys": 4,
          "created_at": "2026-04-28T09:30:00.123Z",
          "updated_at": "2026-04-28T09:30:00.123Z",
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
    .assert_eq(&read.snapshot());

    // Its owner, a key in each project, a system key; what dies is counted no longer.
    app.does(&owner, ("DELETE", "/api/admin/projects/2/keys/5"), None).await;
    assert_eq!(app.does(app.operator(), ("GET", ORGANIZATION), None).await["live_keys"], 3);
    app.does(&owner, ("DELETE", "/api/admin/projects/2?confirm=true"), None).await;
    let after = app.does(app.operator(), ("GET", ORGANIZATION), None).await;
    assert_eq!((&after["projects"], &after["live_keys"]), (&json!(1), &json!(2)));
}

#[tokio::test]
async fn list_shows_all_with_their_counts() {
    let app = TestApp::new().await;
    app.advance_seconds(1);
    app.organization("acme").await;
    let listed = app.as_operator(("GET", ORGANIZATIONS), None).await;
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
        content-length: 569

        {
          "results": [
            {
              "id": 2,
              "username": "acme",
              "domain": null,
              "state": "active",
              "projects": 0,
              "live_keys": 1,
              "created_at": "2026-04-28T09:30:01.123Z",
              "updated_at": "2026-04-28T09:30:01.123Z",
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
              "username": "default",
              "domain": null,
              "state": "active",
              "projects": 1,
              "live_keys": 2,
              "created_at": "2026-04-28T09:30:00.123Z",
              "updated_at": "2026-04-28T09:30:00.123Z",
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
    for organization in listed.json()["results"].as_array().unwrap() {
        let path = format!("{ORGANIZATIONS}/{}", organization["id"]);
        assert_eq!(app.does(app.operator(), ("GET", &path), None).await, *organization);
    }
}

#[tokio::test]
async fn a_list_is_sorted_searched_and_paged() {
    let app = TestApp::new().await;
    for (username, domain) in [("beta", json!(null)), ("acme", json!("beta.example")), ("gamma", json!(null))] {
        app.advance_seconds(1);
        let body = json!({"username": username, "domain": domain});
        app.does(app.operator(), ("POST", ORGANIZATIONS), Some(body)).await;
    }
    app.advance_seconds(1);
    app.does(app.operator(), ("POST", &format!("{ORGANIZATION}/suspend")), None).await;
    for (query, expected) in [
        ("", vec![4, 3, 2, 1]),
        ("sort=name&direction=asc", vec![3, 2, 1, 4]),
        ("sort=updated_at", vec![2, 4, 3, 1]),
        ("sort=role&direction=asc", vec![1, 2, 3, 4]),
        ("q=BETA", vec![3, 2]),
    ] {
        let listed = app.does(app.operator(), ("GET", &format!("{ORGANIZATIONS}?{query}")), None).await;
        assert_eq!(ids(&listed), expected, "{query}");
    }
    let first = app.does(app.operator(), ("GET", &format!("{ORGANIZATIONS}?sort=name&limit=3")), None).await;
    let cursor = first["nextCursor"].as_str().unwrap();
    let path = format!("{ORGANIZATIONS}?sort=name&limit=3&cursor={cursor}");
    assert_eq!(ids(&app.does(app.operator(), ("GET", &path), None).await), [3]);
}

#[tokio::test]
async fn suspend_shows_the_organization_as_it_is_then() {
    let app = TestApp::new().await;
    let (_, owner) = app.organization("acme").await;
    app.advance_seconds(60);
    let suspended = app.as_operator(("POST", &format!("{ORGANIZATION}/suspend")), None).await;
    expect![[r#"
        200
        content-type: application/json
        x-keyrack-seq: 8
        x-request-id: req_MCQWVEPS67B0MCRK91APVGRKV9
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        x-ratelimit-limit: 500000
        x-ratelimit-remaining: 499999
        x-ratelimit-reset: 1777368671
        x-ratelimit-tier: starter
        content-length: 278

        {
          "id": 2,
          "username": "acme",
          "domain": null,
          "state": "suspended",
          "projects": 0,
          "live_keys": 1,
          "created_at": "2026-04-28T09:30:00.123Z",
          "updated_at": "2026-04-28T09:31:00.123Z",
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
    .assert_eq(&suspended.snapshot());
    assert_eq!(app.fate(&owner).await, Fate::Suspended);
    assert_eq!(app.does(app.operator(), ("GET", ORGANIZATION), None).await, suspended.without_reach());
}

#[tokio::test]
async fn resume_shows_the_organization_as_it_is_then() {
    let app = TestApp::new().await;
    let (_, owner) = app.organization("acme").await;
    app.as_operator(("POST", &format!("{ORGANIZATION}/suspend")), None).await;
    app.advance_seconds(60);
    let resumed = app.as_operator(("POST", &format!("{ORGANIZATION}/resume")), Some(json!({}))).await;
    expect![[r#"
        200
        content-type: application/json
        x-keyrack-seq: 9
        x-request-id: req_3BDRZ5JWFMN55Z9B4AWDNB6F4R
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        x-ratelimit-limit: 500000
        x-ratelimit-remaining: 499999
        x-ratelimit-reset: 1777368671
        x-ratelimit-tier: starter
        content-length: 257

        {
          "id": 2,
          "username": "acme",
          "domain": null,
          "state": "active",
          "projects": 0,
          "live_keys": 1,
          "created_at": "2026-04-28T09:30:00.123Z",
          "updated_at": "2026-04-28T09:31:00.123Z",
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
    .assert_eq(&resumed.snapshot());
    assert_eq!(app.fate(&owner).await, Fate::Alive);
}

#[tokio::test]
async fn doing_it_twice_leaves_no_trace() {
    let app = TestApp::new().await;
    app.organization("acme").await;
    for (what, added) in [("resume", 0), ("suspend", 1), ("suspend", 0), ("resume", 1), ("resume", 0)] {
        let entries = app.entries().await;
        app.advance_seconds(1);
        app.does(app.operator(), ("POST", &format!("{ORGANIZATION}/{what}")), None).await;
        assert_eq!(app.entries().await - entries, added, "{what}");
    }
}

#[tokio::test]
async fn archive_ends_all_of_it() {
    let app = TestApp::new().await;
    let (_, owner) = app.organization("acme").await;
    app.project(&owner, "Shop").await;
    let keys = "/api/admin/projects/2/keys";
    let (_, bot) = app.made(&owner, keys, json!({"name": "bot"})).await;
    app.advance_seconds(60);
    let archived = app.as_operator(("DELETE", &format!("{ORGANIZATION}?confirm=true")), None).await;
    expect![[r#"
        200
        content-type: application/json
        x-keyrack-seq: 13
        x-request-id: req_S4HNP5SMNCA46GGAAXAFZD5E8J
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        x-ratelimit-limit: 500000
        x-ratelimit-remaining: 499999
        x-ratelimit-reset: 1777368671
        x-ratelimit-tier: starter
        content-length: 294

        {
          "id": 2,
          "username": "acme",
          "domain": null,
          "state": "archived",
          "projects": 0,
          "live_keys": 0,
          "created_at": "2026-04-28T09:30:00.123Z",
          "updated_at": "2026-04-28T09:31:00.123Z",
          "created_by": {
            "kind": "operator_key",
            "id": 1
          },
          "last_changed_by": {
            "kind": "operator_key",
            "id": 1
          },
          "revoked_keys": 2,
          "effective": "all"
        }
    "#]]
    .assert_eq(&archived.snapshot());
    assert_eq!((app.fate(&owner).await, app.fate(&bot).await), (Fate::Dead, Fate::Dead));
}
