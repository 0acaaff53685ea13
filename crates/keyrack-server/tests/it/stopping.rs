//! What must stop, stops: also if the row that says so is damaged or hidden while the server runs.

use serde_json::{Value, json};

use crate::app::TestApp;

const KEYS: &str = "/api/client/keys";

async fn tamper(app: &TestApp, statement: &str) {
    app.beside().await.run(statement).await;
}

async fn status(app: &TestApp, key: &str) -> u16 {
    app.call_with(key, ("GET", KEYS), None, &[]).await.status
}

#[tokio::test]
async fn a_key_whose_row_is_hidden_dies_when_it_is_revoked() {
    for hide in ["UPDATE api_keys SET revoked_at = 1 WHERE id = 4", "DELETE FROM api_keys WHERE id = 4"] {
        let app = TestApp::new().await;
        let (id, leaked) = app.create(json!({"name": "leaked", "role": "admin"})).await;
        tamper(&app, hide).await;
        assert_eq!((id, status(&app, &leaked).await), (4, 200));
        assert_eq!(app.call(("DELETE", "/api/client/keys/4"), None).await.status, 500, "{hide}");
        assert_eq!(status(&app, &leaked).await, 401, "{hide}");
        assert_eq!(app.call(("DELETE", "/api/client/keys/4"), None).await.status, 404, "{hide}");
        assert_eq!(status(&app, app.admin()).await, 200, "the others live");
    }
}

#[tokio::test]
async fn nobody_stops_the_hidden_key_of_another_tenant() {
    let app = TestApp::new().await;
    let (_, owner) = app.organization("other").await;
    let (_, hidden) = app.create(json!({"name": "hidden", "role": "admin"})).await;
    tamper(&app, "UPDATE api_keys SET revoked_at = 1 WHERE id = 5").await;
    let fields = json!({"name": "Own", "locale": "en", "timezone": "UTC"});
    assert_eq!(app.call_with(&owner, ("POST", "/api/admin/projects"), Some(fields), &[]).await.status, 200);
    for path in ["/api/admin/projects/2/keys/5", "/api/admin/projects/1/keys/5", "/api/admin/organizations/api-keys/5"]
    {
        assert_eq!(app.call_with(&owner, ("DELETE", path), None, &[]).await.status, 404, "{path}");
    }
    assert_eq!(status(&app, &hidden).await, 200);
}

#[tokio::test]
async fn a_project_that_is_archived_takes_a_hidden_key_with_it() {
    let app = TestApp::new().await;
    let (_, hidden) = app.create(json!({"name": "hidden", "role": "admin"})).await;
    tamper(&app, "DELETE FROM api_keys WHERE id = 4").await;
    assert_eq!(app.as_owner(("DELETE", "/api/admin/projects/1?confirm=true"), None).await.status, 200);
    assert_eq!(status(&app, &hidden).await, 401);
}

#[tokio::test]
async fn a_damaged_project_row_keeps_no_key_alive() {
    let app = TestApp::new().await;
    let (_, leaked) = app.create(json!({"name": "leaked", "role": "admin"})).await;
    let (_, other) = app.organization("other").await;
    tamper(&app, "UPDATE projects SET name = 'x' WHERE id = 1").await;
    assert_eq!(app.call_with(&other, ("DELETE", "/api/admin/projects/1/keys/4"), None, &[]).await.status, 404);
    assert_eq!(app.call_with(&other, ("DELETE", "/api/admin/projects/1?confirm=true"), None, &[]).await.status, 404);
    assert_eq!(status(&app, &leaked).await, 200);

    assert_eq!(app.as_owner(("DELETE", "/api/admin/projects/1/keys/4"), None).await.status, 500);
    assert_eq!((status(&app, &leaked).await, status(&app, app.admin()).await), (401, 200));
    assert_eq!(app.as_owner(("DELETE", "/api/admin/projects/1?confirm=true"), None).await.status, 500);
    assert_eq!(status(&app, app.admin()).await, 401);
}

#[tokio::test]
async fn a_damaged_project_row_keeps_no_system_key_alive() {
    let app = TestApp::new().await;
    let (id, leaked) = app.system_key(json!({"name": "leaked", "role": "admin"})).await;
    tamper(&app, "UPDATE projects SET name = 'x' WHERE id = 1").await;
    let route = format!("/api/operator/projects/1/system-keys/{id}");
    assert_eq!(status(&app, &leaked).await, 200);
    assert_eq!(app.as_operator(("DELETE", &route), None).await.status, 500);
    assert_eq!((status(&app, &leaked).await, status(&app, app.admin()).await), (401, 200));
}

#[tokio::test]
async fn a_damaged_organization_row_keeps_no_key_alive() {
    for route in
        [("POST", "/api/operator/organizations/1/suspend"), ("DELETE", "/api/operator/organizations/1?confirm=true")]
    {
        let app = TestApp::new().await;
        tamper(&app, "UPDATE organizations SET domain = 'x' WHERE id = 1").await;
        assert_eq!(status(&app, app.admin()).await, 200);
        assert_eq!(app.as_operator(route, None).await.status, 500, "{route:?}");
        assert_eq!(status(&app, app.admin()).await, 401, "{route:?}");
        assert_eq!(app.as_owner(("GET", "/api/admin/organizations/me"), None).await.status, 401);
        assert_eq!(app.as_operator(("POST", "/api/operator/organizations/1/resume"), None).await.status, 500);
        assert_eq!(status(&app, app.admin()).await, 401, "a row that cannot be trusted resumes nothing");
    }
}

/// Who is not let into a project is answered anew each time, and leaves nothing behind.
#[tokio::test]
async fn a_reply_is_kept_only_for_whom_the_project_lets_in() {
    let app = TestApp::new().await;
    let (id, member) = app.organization_key("member").await;
    let (place, once) = (format!("/api/admin/projects/1/members/{id}"), [("Idempotency-Key", "once")]);
    let create = async || {
        let body = Some(json!({"name": "ci"}));
        app.call_with(&member, ("POST", "/api/admin/projects/1/keys"), body, &once).await
    };
    let give = async |role: &str| app.as_owner(("PUT", &place), Some(json!({"role": role}))).await.status;
    let kept = async || app.beside().await.number("SELECT COUNT(*) FROM replies").await;
    assert_eq!(create().await.status, 404);
    assert_eq!((give("support").await, create().await.status, kept().await), (200, 403, 0));
    assert_eq!(give("admin").await, 200);
    let made = create().await;
    assert_eq!((made.status, kept().await), (200, 1));
    assert_eq!(create().await.text, made.text);
    assert_eq!(app.as_owner(("DELETE", &place), None).await.status, 200);
    assert_eq!(create().await.status, 404, "the value is no longer theirs to see");
}

#[tokio::test]
async fn a_list_that_is_too_large_for_one_reply_is_paged_through() {
    let app = TestApp::new().await;
    // One character becomes six in JSON, and an entry of the log holds it twice.
    let large = |nth: usize| Value::from(format!("{nth:04}{}", "\u{1}".repeat(2_044)));
    app.create(json!({"name": "large", "description": large(0)})).await;
    for nth in 1..400 {
        let reply = app.call(("PATCH", "/api/client/keys/4"), Some(json!({"description": large(nth)}))).await;
        assert_eq!(reply.status, 200);
    }
    let all = app.call(("GET", "/api/client/audit-events?limit=-1"), None).await;
    assert_eq!((all.status, &all.json()["param"]), (400, &json!("limit")), "{}", &all.text[..200]);
    let page = app.call(("GET", "/api/client/audit-events?limit=100"), None).await.json();
    assert_eq!(page["results"].as_array().unwrap().len(), 100);
    assert_eq!(app.call(("GET", "/api/client/audit-events?limit=-1&action=key.create"), None).await.status, 200);
}
