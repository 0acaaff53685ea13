//! The three calls of `/api/admin/projects/{projectId}/members`.

use expect_test::expect;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::surfaces::faults;

const MEMBERS: &str = "/api/admin/projects/1/members";
const MEMBER: &str = "/api/admin/projects/1/members/4";
const PROJECTS: &str = "/api/admin/projects";

fn role(role: &str) -> Option<Value> {
    Some(json!({"role": role}))
}

fn key_ids(page: &Value) -> Vec<i64> {
    page["results"].as_array().unwrap().iter().map(|member| member["key_id"].as_i64().unwrap()).collect()
}

#[tokio::test]
async fn give_lets_a_member_in_at_once() {
    let app = TestApp::new().await;
    let (_, member) = app.organization_key("member").await;
    assert_eq!(app.ask(&member, ("GET", "/api/admin/projects/1"), None).await.status, 404);
    app.advance_seconds(60);
    let given = app.as_owner(("PUT", MEMBER), role("editor")).await;
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
        content-length: 262

        {
          "project_id": 1,
          "key_id": 4,
          "name": "member",
          "value": "ok_****AQ0P",
          "role": "editor",
          "created_at": "2026-04-28T09:31:00.123Z",
          "updated_at": "2026-04-28T09:31:00.123Z",
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
    .assert_eq(&given.snapshot());
    assert_eq!(app.does(&member, ("GET", "/api/admin/projects/1"), None).await["role"], "editor");
}

#[tokio::test]
async fn list_shows_who_was_given_the_project() {
    let app = TestApp::new().await;
    app.organization_key("admin").await;
    app.member_as("publisher").await;
    let listed = app.as_owner(("GET", MEMBERS), None).await;
    expect![[r#"
        200
        content-type: application/json
        x-request-id: req_S4HNP5SMNCA46GGAAXAFZD5E8J
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        x-ratelimit-limit: 500000
        x-ratelimit-remaining: 499999
        x-ratelimit-reset: 1777368611
        x-ratelimit-tier: starter
        content-length: 326

        {
          "results": [
            {
              "project_id": 1,
              "key_id": 5,
              "name": "member",
              "value": "ok_****HY1R",
              "role": "publisher",
              "created_at": "2026-04-28T09:30:00.123Z",
              "updated_at": "2026-04-28T09:30:00.123Z",
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
          "nextCursor": null,
          "prevCursor": null,
          "limit": 25
        }
    "#]]
    .assert_eq(&listed.snapshot());
}

#[tokio::test]
async fn take_shuts_a_member_out_at_once() {
    let app = TestApp::new().await;
    let (_, member) = app.member_as("admin").await;
    app.advance_seconds(60);
    let taken = app.as_owner(("DELETE", MEMBER), None).await;
    expect![[r#"
        200
        content-type: application/json
        x-keyrack-seq: 8
        x-request-id: req_3BDRZ5JWFMN55Z9B4AWDNB6F4R
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        x-ratelimit-limit: 500000
        x-ratelimit-remaining: 499999
        x-ratelimit-reset: 1777368671
        x-ratelimit-tier: starter
        content-length: 279

        {
          "project_id": 1,
          "key_id": 4,
          "name": "member",
          "value": "ok_****AQ0P",
          "role": "admin",
          "created_at": "2026-04-28T09:30:00.123Z",
          "updated_at": "2026-04-28T09:30:00.123Z",
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
    .assert_eq(&taken.snapshot());
    for path in ["/api/admin/projects/1", "/api/admin/projects/1/keys"] {
        assert_eq!(app.ask(&member, ("GET", path), None).await.status, 404, "{path}");
    }
    assert_eq!(key_ids(&app.does(app.owner(), ("GET", MEMBERS), None).await), Vec::<i64>::new());
    // The key itself lives on, without the project; taking it again finds nothing.
    assert_eq!(app.does(&member, ("GET", PROJECTS), None).await["results"], json!([]));
    assert_eq!(app.code(app.owner(), ("DELETE", MEMBER), None).await, (404, "resource_missing".to_owned()));
}

#[tokio::test]
async fn giving_again_changes_the_role_and_the_same_role_changes_nothing() {
    let app = TestApp::new().await;
    let (_, member) = app.member_as("editor").await;
    let before = app.does(app.owner(), ("PUT", MEMBER), role("editor")).await;
    let entries = app.entries().await;
    app.advance_seconds(60);
    assert_eq!(app.does(app.owner(), ("PUT", MEMBER), role("editor")).await, before);
    assert_eq!(app.entries().await, entries);

    let (_, admin) = app.organization_key("admin").await;
    let after = app.does(&admin, ("PUT", MEMBER), role("admin")).await;
    assert_eq!((&after["role"], &after["created_at"]), (&json!("admin"), &before["created_at"]));
    assert_eq!(after["updated_at"], "2026-04-28T09:31:00.123Z");
    assert_eq!(after["created_by"], json!({"kind": "organization_key", "id": 2}));
    assert_eq!(after["last_changed_by"], json!({"kind": "organization_key", "id": 5}));
    assert_eq!(app.ask(&member, ("GET", "/api/admin/projects/1/keys"), None).await.status, 200);

    // One that was taken away and is given again begins anew.
    app.does(app.owner(), ("DELETE", MEMBER), None).await;
    app.advance_seconds(60);
    let anew = app.does(&admin, ("PUT", MEMBER), role("support")).await;
    assert_eq!((&anew["created_at"], &anew["role"]), (&json!("2026-04-28T09:32:00.123Z"), &json!("support")));
    assert_eq!(anew["created_by"], json!({"kind": "organization_key", "id": 5}));
    assert_eq!(app.ask(&member, ("GET", "/api/admin/projects/1/keys"), None).await.status, 403);
}

#[tokio::test]
async fn only_member_keys_are_given_projects() {
    let app = TestApp::new().await;
    app.organization_key("admin").await;
    let refused = app.as_owner(("PUT", MEMBER), role("support")).await;
    expect![[r#"
        409
        content-type: application/problem+json
        x-request-id: req_MCQWVEPS67B0MCRK91APVGRKV9
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        x-ratelimit-limit: 500000
        x-ratelimit-remaining: 499998
        x-ratelimit-reset: 1777368611
        x-ratelimit-tier: starter
        content-length: 391

        {
          "status": "error",
          "code": "state_conflict",
          "title": "The state of the resource does not allow this",
          "message": "Only keys of role `member` are given projects: an `admin` or `owner` key reaches all of them.",
          "error": "Only keys of role `member` are given projects: an `admin` or `owner` key reaches all of them.",
          "type": "/docs/errors#state_conflict",
          "request_id": "req_MCQWVEPS67B0MCRK91APVGRKV9"
        }
    "#]]
    .assert_eq(&refused.snapshot());
    // The caller itself is an owner.
    let own = app.code(app.owner(), ("PUT", &format!("{MEMBERS}/2")), role("support")).await;
    assert_eq!(own, (409, "state_conflict".to_owned()));
    assert_eq!(key_ids(&app.does(app.owner(), ("GET", MEMBERS), None).await), Vec::<i64>::new());
}

#[tokio::test]
async fn what_is_not_the_organizations_is_missing() {
    let app = TestApp::new().await;
    let (own, _) = app.organization_key("member").await;
    let (_, stranger) = app.organization("other").await;
    let body = json!({"name": "desk", "role": "member"});
    let (theirs, _) = app.made(&stranger, "/api/admin/organizations/api-keys", body).await;
    let their_project = app.project(&stranger, "Theirs").await;
    let missing = app.as_owner(("PUT", &format!("{MEMBERS}/{theirs}")), role("admin")).await;
    expect![[r#"
        404
        content-type: application/problem+json
        x-request-id: req_BG0QTKGHCK6FBVB8FTGQ6MEF2Q
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
          "request_id": "req_BG0QTKGHCK6FBVB8FTGQ6MEF2Q"
        }
    "#]]
    .assert_eq(&missing.snapshot());
    for path in [
        format!("{MEMBERS}/1"),
        format!("{MEMBERS}/3"),
        format!("{MEMBERS}/99"),
        format!("{MEMBERS}/desk"),
        format!("{PROJECTS}/{their_project}/members/{own}"),
        format!("{PROJECTS}/{their_project}/members/{theirs}"),
        format!("{PROJECTS}/99/members/{own}"),
    ] {
        for (method, body) in [("PUT", role("admin")), ("DELETE", None)] {
            let code = app.code(app.owner(), (method, &path), body).await;
            assert_eq!(code, (404, "resource_missing".to_owned()), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn a_body_has_a_role_and_nothing_else() {
    let app = TestApp::new().await;
    app.organization_key("member").await;
    let refused = app.as_owner(("PUT", MEMBER), Some(json!({"role": "owner", "name": "desk"}))).await;
    expect![[r#"
        422
        content-type: application/problem+json
        x-request-id: req_MCQWVEPS67B0MCRK91APVGRKV9
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        x-ratelimit-limit: 500000
        x-ratelimit-remaining: 499998
        x-ratelimit-reset: 1777368611
        x-ratelimit-tier: starter
        content-length: 492

        {
          "status": "error",
          "code": "validation_failed",
          "title": "The body is not valid",
          "message": "The body has 2 faults; `errors` lists them.",
          "error": "The body has 2 faults; `errors` lists them.",
          "type": "/docs/errors#validation_failed",
          "request_id": "req_MCQWVEPS67B0MCRK91APVGRKV9",
          "errors": [
            {
              "param": "role",
              "code": "parameter_invalid_format",
              "message": "must be one of: support, smtpproxy, editor, publisher, admin"
            },
            {
              "param": "name",
              "code": "parameter_unknown",
              "message": "is not a field of this call"
            }
          ]
        }
    "#]]
    .assert_eq(&refused.snapshot());
    for (body, code) in [(json!({}), "parameter_missing"), (json!({"role": null}), "parameter_invalid_format")] {
        let refused = app.as_owner(("PUT", MEMBER), Some(body.clone())).await;
        assert_eq!((refused.status, faults(&refused)), (422, vec![("role".to_owned(), code.to_owned())]), "{body}");
    }
    assert_eq!(app.as_owner(("PUT", MEMBER), None).await.status, 415);
}

#[tokio::test]
async fn a_member_cannot_give_what_it_has() {
    let app = TestApp::new().await;
    let (_, member) = app.member_as("admin").await;
    let (other, _) = app.organization_key("member").await;
    let refused = app.ask(&member, ("PUT", &format!("{MEMBERS}/{other}")), role("support")).await;
    expect![[r#"
        403
        content-type: application/problem+json
        x-request-id: req_S4HNP5SMNCA46GGAAXAFZD5E8J
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        x-ratelimit-limit: 500000
        x-ratelimit-remaining: 499999
        x-ratelimit-reset: 1777368611
        x-ratelimit-tier: starter
        content-length: 249

        {
          "status": "error",
          "code": "permission_denied",
          "title": "Permission denied",
          "message": "This takes a key of role `admin`.",
          "error": "This takes a key of role `admin`.",
          "type": "/docs/errors#permission_denied",
          "request_id": "req_S4HNP5SMNCA46GGAAXAFZD5E8J"
        }
    "#]]
    .assert_eq(&refused.snapshot());
    assert_eq!(app.ask(&member, ("DELETE", MEMBER), None).await.status, 403);
}

#[tokio::test]
async fn a_key_that_rises_or_dies_is_no_member_any_more() {
    let app = TestApp::new().await;
    let (_, risen) = app.member_as("support").await;
    let (dead, _) = app.member_as("support").await;
    app.does(app.owner(), ("PATCH", "/api/admin/organizations/api-keys/4"), role("admin")).await;
    assert_eq!(app.does(&risen, ("GET", "/api/admin/projects/1"), None).await["role"], "admin");
    app.does(app.owner(), ("DELETE", &format!("/api/admin/organizations/api-keys/{dead}")), None).await;
    let listed = app.does(app.owner(), ("GET", MEMBERS), None).await;
    assert!(!key_ids(&listed).contains(&dead), "{listed}");
    let gone = app.code(app.owner(), ("PUT", &format!("{MEMBERS}/{dead}")), role("editor")).await;
    assert_eq!(gone, (404, "resource_missing".to_owned()));
}

#[tokio::test]
async fn a_list_is_sorted_searched_and_paged() {
    let app = TestApp::new().await;
    for (name, given) in [("beta", "editor"), ("Alpha", "admin"), ("gamma", "support")] {
        app.advance_seconds(1);
        let body = json!({"name": name, "role": "member"});
        let (id, _) = app.made(app.owner(), "/api/admin/organizations/api-keys", body).await;
        app.does(app.owner(), ("PUT", &format!("{MEMBERS}/{id}")), role(given)).await;
    }
    for (query, expected) in [
        ("", vec![6, 5, 4]),
        ("sort=name&direction=asc", vec![5, 4, 6]),
        ("sort=role", vec![5, 4, 6]),
        ("sort=id&direction=asc", vec![4, 5, 6]),
        ("q=ALPH", vec![5]),
    ] {
        let listed = app.does(app.owner(), ("GET", &format!("{MEMBERS}?{query}")), None).await;
        assert_eq!(key_ids(&listed), expected, "{query}");
    }
    let mut seen = Vec::new();
    let mut path = format!("{MEMBERS}?sort=role&limit=1");
    loop {
        let page = app.does(app.owner(), ("GET", &path), None).await;
        seen.extend(key_ids(&page));
        let Some(cursor) = page["nextCursor"].as_str() else { break };
        path = format!("{MEMBERS}?sort=role&limit=1&cursor={cursor}");
    }
    assert_eq!(seen, [5, 4, 6]);
}
