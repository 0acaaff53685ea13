//! From nothing to keys that live and die, all of it over HTTP.

use expect_test::expect;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::surfaces::{Fate, ids};

/// One line for each event: who did what to what, and by which request.
fn told(page: &Value) -> String {
    let mut lines = Vec::new();
    for event in page["results"].as_array().unwrap() {
        let reference = |of: &Value| format!("{} {}", of["kind"].as_str().unwrap(), of["id"]);
        let (actor, target) = (reference(&event["actor"]), reference(&event["target"]));
        lines.push(format!("{}: {actor}, {}, {target}", event["id"], event["action"].as_str().unwrap()));
    }
    lines.join("\n")
}

#[tokio::test]
async fn an_operator_makes_a_tenant_and_the_tenant_makes_keys() {
    let app = TestApp::new().await;
    let body = json!({"username": "acme", "domain": "acme.example"});
    let made = app.does(app.operator(), ("POST", "/api/operator/organizations"), Some(body)).await;
    let owner = made["owner_key"]["value"].as_str().unwrap();
    let project = app.project(owner, "Shop").await;
    let keys = format!("/api/admin/projects/{project}/keys");

    let mut values = Vec::new();
    for (name, role, scope) in
        [("Checkout", "editor", "secret"), ("Widget", "support", "public"), ("Lead", "admin", "secret")]
    {
        let body = json!({"name": name, "role": role, "scope": scope});
        values.push(app.made(owner, &keys, body).await);
    }
    let [(checkout, checkout_value), (widget, widget_value), (lead, lead_value)] = &values[..] else { unreachable!() };
    let listed = app.does(owner, ("GET", &keys), None).await;
    assert_eq!(ids(&listed), [*lead, *widget, *checkout]);
    for (_, value) in &values {
        assert_eq!(app.fate(value).await, Fate::Alive);
        assert!(!listed.to_string().contains(value));
    }
    let path = format!("{keys}/{checkout}");
    let patched = app.does(owner, ("PATCH", &path), Some(json!({"role": "support"}))).await;
    assert_eq!(patched["role"], "support");
    app.does(lead_value, ("DELETE", &format!("/api/client/keys/{widget}")), None).await;
    let fates = [app.fate(checkout_value).await, app.fate(widget_value).await, app.fate(lead_value).await];
    assert_eq!(fates, [Fate::Alive, Fate::Dead, Fate::Alive]);
    assert_eq!(ids(&app.does(owner, ("GET", &keys), None).await), [*lead, *checkout]);

    let order = "direction=asc&limit=-1";
    let log = async |key: &str, path: &str| told(&app.does(key, ("GET", &format!("{path}?{order}")), None).await);
    let all = log(app.operator(), "/api/operator/audit-events").await;
    expect![[r#"
        1: host null, key.create, key 1
        2: host null, organization.create, organization 1
        3: host null, key.create, key 2
        4: host null, project.create, project 1
        5: host null, key.create, key 3
        6: operator_key 1, organization.create, organization 2
        7: operator_key 1, key.create, key 4
        8: organization_key 4, project.create, project 2
        9: organization_key 4, key.create, key 5
        10: organization_key 4, key.create, key 6
        11: organization_key 4, key.create, key 7
        12: organization_key 4, key.update, key 5
        13: secret_key 7, key.revoke, key 6"#]]
    .assert_eq(&all);
    let organization = log(owner, "/api/admin/audit-events").await;
    expect![[r#"
        6: operator_key 1, organization.create, organization 2
        7: operator_key 1, key.create, key 4
        8: organization_key 4, project.create, project 2
        9: organization_key 4, key.create, key 5
        10: organization_key 4, key.create, key 6
        11: organization_key 4, key.create, key 7
        12: organization_key 4, key.update, key 5
        13: secret_key 7, key.revoke, key 6"#]]
    .assert_eq(&organization);
    let own = log(lead_value, "/api/client/audit-events").await;
    expect![[r#"
        8: organization_key 4, project.create, project 2
        9: organization_key 4, key.create, key 5
        10: organization_key 4, key.create, key 6
        11: organization_key 4, key.create, key 7
        12: organization_key 4, key.update, key 5
        13: secret_key 7, key.revoke, key 6"#]]
    .assert_eq(&own);

    let report = app.app.store.verify_audit().await.unwrap();
    assert_eq!((report.entries, report.faults), (13, vec![]));
    // Nobody else's log has any of it.
    let others = log(app.owner(), "/api/admin/audit-events").await;
    assert!(others.lines().all(|line| line.contains("host")), "{others}");
}
