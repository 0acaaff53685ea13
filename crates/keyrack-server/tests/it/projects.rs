//! The five calls of `/api/admin/projects`, and `/api/client/me`.

mod refused;

use expect_test::expect;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::surfaces::ids;

const PROJECTS: &str = "/api/admin/projects";
const PROJECT: &str = "/api/admin/projects/2";

/// Every field, none of them as it is by default.
fn shop() -> Value {
    json!({
        "name": " Shop \u{1f511} ",
        "locale": "de-AT",
        "timezone": "Europe/Vienna",
        "description": "Everything\nwe sell",
        "website_url": "http://shop.example/start?x=1",
        "text_opt_out_message": "You will hear no more of us.",
        "text_help_message": "Write to us.",
        "link_wrap_email": true,
        "link_wrap_push": false,
        "track_opens_email": true,
        "deeplink_mirror_url": "https://links.example",
    })
}

#[tokio::test]
async fn create_takes_every_field() {
    let app = TestApp::new().await;
    let created = app.as_owner(("POST", PROJECTS), Some(shop())).await;
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
        content-length: 596

        {
          "id": 2,
          "organization_id": 1,
          "name": "Shop 🔑",
          "locale": "de-AT",
          "timezone": "Europe/Vienna",
          "created_at": "2026-04-28T09:30:00.123Z",
          "updated_at": "2026-04-28T09:30:00.123Z",
          "description": "Everything\nwe sell",
          "website_url": "http://shop.example/start?x=1",
          "text_opt_out_message": "You will hear no more of us.",
          "text_help_message": "Write to us.",
          "link_wrap_email": true,
          "link_wrap_push": false,
          "track_opens_email": true,
          "deeplink_mirror_url": "https://links.example",
          "role": "admin",
          "has_provider": false,
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
async fn read_shows_the_project() {
    let app = TestApp::new().await;
    app.advance_seconds(1);
    let body = json!({"name": "Shop", "locale": "en", "timezone": "UTC"});
    let created = app.does(app.owner(), ("POST", PROJECTS), Some(body)).await;
    let read = app.as_owner(("GET", PROJECT), None).await;
    expect![[r#"
        200
        content-type: application/json
        x-request-id: req_XEDPFRGTS0YH9EDF5GQD24HQ7G
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        x-ratelimit-limit: 500000
        x-ratelimit-remaining: 499999
        x-ratelimit-reset: 1777368612
        x-ratelimit-tier: starter
        content-length: 478

        {
          "id": 2,
          "organization_id": 1,
          "name": "Shop",
          "locale": "en",
          "timezone": "UTC",
          "created_at": "2026-04-28T09:30:01.123Z",
          "updated_at": "2026-04-28T09:30:01.123Z",
          "description": null,
          "website_url": null,
          "text_opt_out_message": null,
          "text_help_message": null,
          "link_wrap_email": null,
          "link_wrap_push": null,
          "track_opens_email": null,
          "deeplink_mirror_url": null,
          "role": "admin",
          "has_provider": false,
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
    assert_eq!(read.json(), created);
}

#[tokio::test]
async fn list_shows_projects_newest_first() {
    let app = TestApp::new().await;
    app.advance_seconds(1);
    app.project(app.owner(), "Shop").await;
    let listed = app.as_owner(("GET", &format!("{PROJECTS}?limit=1")), None).await;
    expect![[r#"
        200
        content-type: application/json
        x-request-id: req_XEDPFRGTS0YH9EDF5GQD24HQ7G
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        x-ratelimit-limit: 500000
        x-ratelimit-remaining: 499999
        x-ratelimit-reset: 1777368612
        x-ratelimit-tier: starter
        content-length: 602

        {
          "results": [
            {
              "id": 2,
              "organization_id": 1,
              "name": "Shop",
              "locale": "en",
              "timezone": "UTC",
              "created_at": "2026-04-28T09:30:01.123Z",
              "updated_at": "2026-04-28T09:30:01.123Z",
              "description": null,
              "website_url": null,
              "text_opt_out_message": null,
              "text_help_message": null,
              "link_wrap_email": null,
              "link_wrap_push": null,
              "track_opens_email": null,
              "deeplink_mirror_url": null,
              "role": "admin",
              "has_provider": false,
              "created_by": {
                "kind": "organization_key",
                "id": 2
              },
              "last_changed_by": {
                "kind": "organization_key",
                "id": 2
              }
            }
          ],
          "nextCursor": "WYCMPLUl6FNrKNap1j6efXsidmFsdWUiOjE3NzczNjg2MDExMjM0NTYsImlkIjoyfQ",
          "prevCursor": null,
          "limit": 1
        }
    "#]]
    .assert_eq(&listed.snapshot());
}

#[tokio::test]
async fn a_member_sees_what_it_was_given_as_what_it_was_given() {
    let app = TestApp::new().await;
    app.project(app.owner(), "Shop").await;
    let (_, member) = app.member_as("editor").await;
    let listed = app.does(&member, ("GET", PROJECTS), None).await;
    assert_eq!((ids(&listed), &listed["results"][0]["role"]), (vec![1], &json!("editor")));
    let read = app.does(&member, ("GET", &format!("{PROJECTS}/1")), None).await;
    assert_eq!(read, listed["results"][0]);
    assert_eq!(app.ask(&member, ("GET", PROJECT), None).await.status, 404);
    let (_, outsider) = app.organization_key("member").await;
    assert_eq!(ids(&app.does(&outsider, ("GET", PROJECTS), None).await), Vec::<i64>::new());
}

#[tokio::test]
async fn patch_changes_what_it_names_and_nothing_else() {
    let app = TestApp::new().await;
    let before = app.does(app.owner(), ("POST", PROJECTS), Some(shop())).await;
    app.advance_seconds(60);
    let patched = app.as_owner(("PATCH", PROJECT), Some(json!({"name": "Store", "link_wrap_email": null}))).await;
    expect![[r#"
        200
        content-type: application/json
        x-keyrack-seq: 7
        x-request-id: req_XEDPFRGTS0YH9EDF5GQD24HQ7G
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        x-ratelimit-limit: 500000
        x-ratelimit-remaining: 499999
        x-ratelimit-reset: 1777368671
        x-ratelimit-tier: starter
        content-length: 592

        {
          "id": 2,
          "organization_id": 1,
          "name": "Store",
          "locale": "de-AT",
          "timezone": "Europe/Vienna",
          "created_at": "2026-04-28T09:30:00.123Z",
          "updated_at": "2026-04-28T09:31:00.123Z",
          "description": "Everything\nwe sell",
          "website_url": "http://shop.example/start?x=1",
          "text_opt_out_message": "You will hear no more of us.",
          "text_help_message": "Write to us.",
          "link_wrap_email": null,
          "link_wrap_push": false,
          "track_opens_email": true,
          "deeplink_mirror_url": "https://links.example",
          "role": "admin",
          "has_provider": false,
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
    .assert_eq(&patched.snapshot());
    for (field, after) in patched.json().as_object().unwrap() {
        let is_changed = ["name", "link_wrap_email", "updated_at"].contains(&field.as_str());
        assert_eq!(after != &before[field], is_changed, "{field}");
    }
    assert_eq!(app.does(app.owner(), ("GET", PROJECT), None).await, patched.json());
}

#[tokio::test]
async fn every_optional_field_takes_null() {
    let app = TestApp::new().await;
    let before = app.does(app.owner(), ("POST", PROJECTS), Some(shop())).await;
    let mut nulls = shop();
    for required in ["name", "locale", "timezone"] {
        nulls.as_object_mut().unwrap().remove(required);
    }
    for (_, value) in nulls.as_object_mut().unwrap() {
        *value = Value::Null;
    }
    let emptied = app.does(app.owner(), ("PATCH", PROJECT), Some(nulls.clone())).await;
    for field in nulls.as_object().unwrap().keys() {
        assert_eq!(emptied[field], Value::Null, "{field}");
    }
    assert_eq!(app.does(app.owner(), ("PATCH", PROJECT), Some(shop())).await, before);
}

#[tokio::test]
async fn a_patch_that_changes_nothing_leaves_no_trace() {
    let app = TestApp::new().await;
    app.does(app.owner(), ("POST", PROJECTS), Some(shop())).await;
    let (before, entries) = (app.does(app.owner(), ("GET", PROJECT), None).await, app.entries().await);
    app.advance_seconds(60);
    for patch in [json!({}), shop()] {
        assert_eq!(app.does(app.owner(), ("PATCH", PROJECT), Some(patch)).await, before);
    }
    assert_eq!(app.entries().await, entries);
}

#[tokio::test]
async fn a_list_is_sorted_searched_and_paged() {
    let app = TestApp::new().await;
    for name in ["beta", "Alpha", "gamma"] {
        app.advance_seconds(1);
        app.project(app.owner(), name).await;
    }
    app.advance_seconds(1);
    app.does(app.owner(), ("PATCH", PROJECT), Some(json!({"description": "was Alpha"}))).await;
    for (query, expected) in [
        ("", vec![4, 3, 2, 1]),
        ("sort=name&direction=asc", vec![3, 2, 1, 4]),
        ("sort=updated_at", vec![2, 4, 3, 1]),
        ("sort=role", vec![4, 3, 2, 1]),
        ("q=ALPHA", vec![3, 2]),
    ] {
        let listed = app.does(app.owner(), ("GET", &format!("{PROJECTS}?{query}")), None).await;
        assert_eq!(ids(&listed), expected, "{query}");
    }
    let first = app.does(app.owner(), ("GET", &format!("{PROJECTS}?sort=name&limit=3")), None).await;
    let cursor = first["nextCursor"].as_str().unwrap();
    let rest = app.does(app.owner(), ("GET", &format!("{PROJECTS}?sort=name&limit=3&cursor={cursor}")), None).await;
    assert_eq!((ids(&first), ids(&rest)), (vec![4, 1, 2], vec![3]));
}

#[tokio::test]
async fn a_secret_key_of_any_role_learns_which_project_it_is_of() {
    let app = TestApp::new().await;
    let me = app.call(("GET", "/api/client/me"), None).await;
    expect![[r#"
        200
        content-type: application/json
        x-request-id: req_05GD3T67GRZPCPXQ3RJTMW5VDT
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        x-ratelimit-limit: 500000
        x-ratelimit-remaining: 499999
        x-ratelimit-reset: 1777368611
        x-ratelimit-tier: starter
        content-length: 463

        {
          "id": 1,
          "organization_id": 1,
          "name": "Default",
          "locale": "en",
          "timezone": "UTC",
          "created_at": "2026-04-28T09:30:00.123Z",
          "updated_at": "2026-04-28T09:30:00.123Z",
          "description": null,
          "website_url": null,
          "text_opt_out_message": null,
          "text_help_message": null,
          "link_wrap_email": null,
          "link_wrap_push": null,
          "track_opens_email": null,
          "deeplink_mirror_url": null,
          "role": "admin",
          "has_provider": false,
          "created_by": {
            "kind": "host",
            "id": null
          },
          "last_changed_by": {
            "kind": "host",
            "id": null
          }
        }
    "#]]
    .assert_eq(&me.snapshot());
    for role in ["support", "smtpproxy", "editor", "publisher"] {
        let (_, key) = app.create(json!({"name": role, "role": role})).await;
        let me = app.does(&key, ("GET", "/api/client/me"), None).await;
        assert_eq!((&me["role"], &me["id"]), (&json!(role), &json!(1)));
    }
    app.project(app.owner(), "Shop").await;
    let (_, key) = app.made(app.owner(), &format!("{PROJECT}/keys"), json!({"name": "bot"})).await;
    let me = app.does(&key, ("GET", "/api/client/me"), None).await;
    assert_eq!((&me["id"], &me["name"]), (&json!(2), &json!("Shop")));
}
