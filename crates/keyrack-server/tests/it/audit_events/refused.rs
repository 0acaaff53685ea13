//! What is refused of audit logs.

use expect_test::expect;
use serde_json::json;

use super::{ADMIN, OPERATOR, OWN, eventful, page};
use crate::surfaces::ids;

#[tokio::test]
async fn a_cursor_is_good_for_its_own_log_and_filters() {
    let (app, owner) = eventful().await;
    let first = page(&app, ADMIN, "limit=2&target=key").await;
    let cursor = first["nextCursor"].as_str().unwrap();
    assert_eq!(ids(&page(&app, ADMIN, &format!("limit=2&target=key&cursor={cursor}")).await), [5, 3]);
    for (key, path, filter) in [
        (app.owner(), ADMIN, ""),
        (app.owner(), ADMIN, "target=key:5"),
        (app.owner(), ADMIN, "target=key&actor=host"),
        (app.owner(), ADMIN, "target=key&action=key.create"),
        (app.owner(), ADMIN, "target=key&since=2026-04-28T09:30:00Z"),
        (app.owner(), ADMIN, "target=key&until=2027-04-28T09:30:00Z"),
        (app.owner(), ADMIN, "target=key&direction=asc"),
        (app.owner(), ADMIN, "target=key&sort=id"),
        (&owner, ADMIN, "target=key"),
        (app.admin(), OWN, "target=key"),
        (app.operator(), OPERATOR, "target=key"),
    ] {
        let reply = app.ask(key, ("GET", &format!("{path}?limit=2&{filter}&cursor={cursor}")), None).await;
        assert_eq!((reply.status, &reply.json()["param"]), (400, &json!("cursor")), "{path}?{filter}");
    }
}

#[tokio::test]
async fn each_wrong_filter_is_named() {
    let (app, _) = eventful().await;
    let refused = app.as_owner(("GET", &format!("{ADMIN}?actor=somebody")), None).await;
    expect![[r#"
        400
        content-type: application/problem+json
        x-request-id: req_SEGVVKFH6BD64F9C6JN2QNWT42
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        x-ratelimit-limit: 500000
        x-ratelimit-remaining: 499999
        x-ratelimit-reset: 1777368618
        x-ratelimit-tier: starter
        content-length: 458

        {
          "status": "error",
          "code": "parameter_invalid_format",
          "title": "A value has the wrong form",
          "message": "Send one of: host, secret_key, organization_key, operator_key, follower_key; behind it, if you like, `:` and a number.",
          "error": "Send one of: host, secret_key, organization_key, operator_key, follower_key; behind it, if you like, `:` and a number.",
          "type": "/docs/errors#parameter_invalid_format",
          "request_id": "req_SEGVVKFH6BD64F9C6JN2QNWT42",
          "param": "actor"
        }
    "#]].assert_eq(&refused.snapshot());
    for (param, value) in [
        ("actor", ""),
        ("actor", "host:"),
        ("actor", "secret_key:0"),
        ("actor", "secret_key:03"),
        ("actor", "secret_key:3:3"),
        ("actor", "Host"),
        ("target", "secret_key"),
        ("target", "key:-1"),
        ("target", "key:x"),
        ("action", ""),
        ("action", "Key.create"),
        ("action", "key%20create"),
        ("since", ""),
        ("since", "yesterday"),
        ("since", "2026-04-28"),
        ("since", "2026-04-28T09:30:00"),
        ("until", "1777368600"),
        ("until", "2026-13-28T09:30:00Z"),
        ("sort", "name"),
        ("sort", "updated_at"),
        ("direction", "down"),
        ("limit", "0"),
        ("page", "last"),
        ("cursor", "x"),
    ] {
        for (key, path) in [(app.admin(), OWN), (app.owner(), ADMIN), (app.operator(), OPERATOR)] {
            let reply = app.ask(key, ("GET", &format!("{path}?{param}={value}")), None).await;
            let found = (reply.status, reply.json()["code"].clone(), reply.json()["param"].clone());
            assert_eq!(found, (400, json!("parameter_invalid_format"), json!(param)), "{path}?{param}={value}");
        }
    }
    let twice = app.as_owner(("GET", &format!("{ADMIN}?action=key.create&action=key.revoke")), None).await;
    assert_eq!((twice.status, &twice.json()["param"]), (400, &json!("action")));
    for unknown in ["q=bot", "tenant=2", "organization_id=2"] {
        let code = app.code(app.owner(), ("GET", &format!("{ADMIN}?{unknown}")), None).await;
        assert_eq!(code, (400, "parameter_unknown".to_owned()), "{unknown}");
    }
    let no_cursor = app.code(app.owner(), ("GET", &format!("{ADMIN}?page=prev")), None).await;
    assert_eq!(no_cursor, (400, "parameter_missing".to_owned()));
}
