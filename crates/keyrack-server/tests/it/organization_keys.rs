//! The five calls of `/api/admin/organizations/api-keys`, and `/api/admin/organizations/me`.

mod refused;

use expect_test::expect;
use serde_json::json;

use crate::app::TestApp;
use crate::surfaces::{Fate, ids};

const KEYS: &str = "/api/admin/organizations/api-keys";
const KEY: &str = "/api/admin/organizations/api-keys/4";
const ME: &str = "/api/admin/organizations/me";

#[tokio::test]
async fn create_gives_the_value_once_and_fills_in_the_defaults() {
    let app = TestApp::new().await;
    let created = app.as_owner(("POST", KEYS), Some(json!({"name": " Provisioning "}))).await;
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
        content-length: 311

        {
          "id": 4,
          "organization_id": 1,
          "name": "Provisioning",
          "role": "admin",
          "value": "ok_XEDPFRGTS0YH9EDF5GQD24HQ7GXTAQ0P",
          "created_at": "2026-04-28T09:30:00.123Z",
          "updated_at": "2026-04-28T09:30:00.123Z",
          "description": null,
          "created_by": {
            "kind": "organization_key",
            "id": 2
          },
          "last_changed_by": {
            "kind": "organization_key",
            "id": 2
          }
        }
    "#]]
    .assert_eq(&created.snapshot());
}

#[tokio::test]
async fn list_shows_keys_masked_newest_first() {
    let app = TestApp::new().await;
    let (_, value) = app.organization_key("member").await;
    let listed = app.as_owner(("GET", KEYS), None).await;
    expect![[r#"
        200
        content-type: application/json
        x-request-id: req_MCQWVEPS67B0MCRK91APVGRKV9
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        x-ratelimit-limit: 500000
        x-ratelimit-remaining: 499999
        x-ratelimit-reset: 1777368611
        x-ratelimit-tier: starter
        content-length: 616

        {
          "results": [
            {
              "id": 4,
              "organization_id": 1,
              "name": "member",
              "role": "member",
              "value": "ok_****AQ0P",
              "created_at": "2026-04-28T09:30:00.123Z",
              "updated_at": "2026-04-28T09:30:00.123Z",
              "description": null,
              "created_by": {
                "kind": "organization_key",
                "id": 2
              },
              "last_changed_by": {
                "kind": "organization_key",
                "id": 2
              }
            },
            {
              "id": 2,
              "organization_id": 1,
              "name": "First owner key",
              "role": "owner",
              "value": "ok_****NVN9",
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
    assert!(!listed.text.contains(&value));
}

#[tokio::test]
async fn read_shows_the_mask_only() {
    let app = TestApp::new().await;
    let (_, value) = app.organization_key("member").await;
    let read = app.as_owner(("GET", KEY), None).await;
    expect![[r#"
        200
        content-type: application/json
        x-request-id: req_MCQWVEPS67B0MCRK91APVGRKV9
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        x-ratelimit-limit: 500000
        x-ratelimit-remaining: 499999
        x-ratelimit-reset: 1777368611
        x-ratelimit-tier: starter
        content-length: 282

        {
          "id": 4,
          "organization_id": 1,
          "name": "member",
          "role": "member",
          "value": "ok_****AQ0P",
          "created_at": "2026-04-28T09:30:00.123Z",
          "updated_at": "2026-04-28T09:30:00.123Z",
          "description": null,
          "created_by": {
            "kind": "organization_key",
            "id": 2
          },
          "last_changed_by": {
            "kind": "organization_key",
            "id": 2
          }
        }
    "#]]
    .assert_eq(&read.snapshot());
    assert!(!read.text.contains(&value));
    assert_eq!(app.does(app.owner(), ("GET", KEYS), None).await["results"][0], read.json());
}

#[tokio::test]
async fn patch_changes_what_it_names_and_nothing_else() {
    let app = TestApp::new().await;
    let body = json!({"name": "Desk", "role": "owner", "description": "third floor"});
    let (_, value) = app.made(app.owner(), KEYS, body).await;
    app.advance_seconds(60);
    let patched = app.as_owner(("PATCH", KEY), Some(json!({"role": "member", "description": null}))).await;
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
        content-length: 298

        {
          "id": 4,
          "organization_id": 1,
          "name": "Desk",
          "role": "member",
          "value": "ok_****AQ0P",
          "created_at": "2026-04-28T09:30:00.123Z",
          "updated_at": "2026-04-28T09:31:00.123Z",
          "description": null,
          "created_by": {
            "kind": "organization_key",
            "id": 2
          },
          "last_changed_by": {
            "kind": "organization_key",
            "id": 2
          },
          "effective": "all"
        }
    "#]]
    .assert_eq(&patched.snapshot());
    assert_eq!(app.does(app.owner(), ("GET", KEY), None).await, patched.without_reach());
    // The new role is in force at once, on the value that was given out.
    assert_eq!(app.does(&value, ("GET", ME), None).await["role"], "member");
    assert_eq!(app.ask(&value, ("GET", KEYS), None).await.status, 403);

    let renamed = app.does(app.owner(), ("PATCH", KEY), Some(json!({"name": "Office"}))).await;
    assert_eq!((&renamed["name"], &renamed["role"]), (&json!("Office"), &json!("member")));
}

#[tokio::test]
async fn a_patch_that_changes_nothing_leaves_no_trace() {
    let app = TestApp::new().await;
    app.organization_key("admin").await;
    let (before, entries) = (app.does(app.owner(), ("GET", KEY), None).await, app.entries().await);
    app.advance_seconds(60);
    for patch in [json!({}), json!({"name": "admin", "role": "admin", "description": null})] {
        assert_eq!(app.does(app.owner(), ("PATCH", KEY), Some(patch)).await, before);
    }
    assert_eq!(app.entries().await, entries);
}

#[tokio::test]
async fn delete_kills_at_once_and_for_ever() {
    let app = TestApp::new().await;
    let (_, value) = app.organization_key("admin").await;
    assert_eq!(app.fate(&value).await, Fate::Alive);
    app.advance_seconds(60);
    let revoked = app.as_owner(("DELETE", KEY), None).await;
    expect![[r#"
        200
        content-type: application/json
        x-keyrack-seq: 7
        x-request-id: req_3BDRZ5JWFMN55Z9B4AWDNB6F4R
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        x-ratelimit-limit: 500000
        x-ratelimit-remaining: 499999
        x-ratelimit-reset: 1777368671
        x-ratelimit-tier: starter
        content-length: 298

        {
          "id": 4,
          "organization_id": 1,
          "name": "admin",
          "role": "admin",
          "value": "ok_****AQ0P",
          "created_at": "2026-04-28T09:30:00.123Z",
          "updated_at": "2026-04-28T09:31:00.123Z",
          "description": null,
          "created_by": {
            "kind": "organization_key",
            "id": 2
          },
          "last_changed_by": {
            "kind": "organization_key",
            "id": 2
          },
          "effective": "all"
        }
    "#]]
    .assert_eq(&revoked.snapshot());
    assert_eq!(app.fate(&value).await, Fate::Dead);
    for (method, body) in [("GET", None), ("DELETE", None), ("PATCH", Some(json!({})))] {
        assert_eq!(app.code(app.owner(), (method, KEY), body).await, (404, "resource_missing".to_owned()), "{method}");
    }
    assert_eq!(ids(&app.does(app.owner(), ("GET", KEYS), None).await), [2]);
}

#[tokio::test]
async fn an_owner_may_revoke_itself_even_if_it_is_the_last() {
    let app = TestApp::new().await;
    let owner = app.owner().to_owned();
    assert_eq!(ids(&app.does(&owner, ("GET", KEYS), None).await), [2]);
    app.does(&owner, ("DELETE", &format!("{KEYS}/2")), None).await;
    assert_eq!(app.fate(&owner).await, Fate::Dead);
}

#[tokio::test]
async fn a_list_is_sorted_searched_and_paged() {
    let app = TestApp::new().await;
    for (name, role, description) in
        [("beta", "owner", json!(null)), ("Alpha", "member", json!("for Beta")), ("gamma", "admin", json!(null))]
    {
        app.advance_seconds(1);
        let body = json!({"name": name, "role": role, "description": description});
        app.made(app.owner(), KEYS, body).await;
    }
    for (query, expected) in [
        ("", vec![6, 5, 4, 2]),
        ("sort=name&direction=asc", vec![5, 4, 2, 6]),
        ("sort=role&direction=asc", vec![5, 6, 2, 4]),
        ("sort=id&direction=asc&limit=-1", vec![2, 4, 5, 6]),
        ("q=BETA", vec![5, 4]),
        ("q=nothing", vec![]),
    ] {
        let listed = app.does(app.owner(), ("GET", &format!("{KEYS}?{query}")), None).await;
        assert_eq!(ids(&listed), expected, "{query}");
    }
    let first = app.does(app.owner(), ("GET", &format!("{KEYS}?limit=3")), None).await;
    let cursor = first["nextCursor"].as_str().unwrap();
    let second = app.does(app.owner(), ("GET", &format!("{KEYS}?limit=3&cursor={cursor}")), None).await;
    assert_eq!((ids(&first), ids(&second)), (vec![6, 5, 4], vec![2]));
    let cursor = second["prevCursor"].as_str().unwrap();
    let back = app.does(app.owner(), ("GET", &format!("{KEYS}?limit=3&page=prev&cursor={cursor}")), None).await;
    assert_eq!(ids(&back), ids(&first));
    // A cursor is good for its own list: not for another's, and not for another kind of thing.
    let (_, stranger) = app.organization("other").await;
    for (key, path) in [(&*stranger, KEYS), (app.owner(), "/api/admin/projects")] {
        let reply = app.ask(key, ("GET", &format!("{path}?limit=3&page=prev&cursor={cursor}")), None).await;
        assert_eq!((reply.status, &reply.json()["param"]), (400, &json!("cursor")), "{path}");
    }
}

#[tokio::test]
async fn a_key_of_any_role_learns_whose_it_is() {
    let app = TestApp::new().await;
    let body = json!({"username": "acme", "domain": "acme.example"});
    let made = app.does(app.operator(), ("POST", "/api/operator/organizations"), Some(body)).await;
    let owner = made["owner_key"]["value"].as_str().unwrap();
    let me = app.ask(owner, ("GET", ME), None).await;
    expect![[r#"
        200
        content-type: application/json
        x-request-id: req_MCQWVEPS67B0MCRK91APVGRKV9
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        x-ratelimit-limit: 500000
        x-ratelimit-remaining: 499999
        x-ratelimit-reset: 1777368611
        x-ratelimit-tier: starter
        content-length: 162

        {
          "organization": {
            "id": 2,
            "username": "acme",
            "created_at": "2026-04-28T09:30:00.123Z",
            "updated_at": "2026-04-28T09:30:00.123Z",
            "domain": "acme.example"
          },
          "role": "owner"
        }
    "#]]
    .assert_eq(&me.snapshot());
    for role in ["member", "admin", "owner"] {
        let (_, key) = app.made(owner, KEYS, json!({"name": role, "role": role})).await;
        let me = app.does(&key, ("GET", ME), None).await;
        assert_eq!((&me["role"], &me["organization"]["id"]), (&json!(role), &json!(2)));
    }
}
