//! Introspection as RFC 7662 describes it.

use keyrack_server::config::LimitHeaders;
use serde_json::json;

use super::{Opened, head};

fn introspect(doors: &Opened, body: &str) -> super::Answer {
    doors.send(&head("POST", "/v1/introspect", &[("Content-Type", "application/x-www-form-urlencoded")]), body)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_key_is_active_and_nothing_is_told_of_others() {
    let doors = Opened::new().await;
    let (id, key) = doors.key(json!({"name": "x", "permissions": ["a:b", "c:d"]})).await;
    let active = introspect(&doors, &format!("token={key}&token_type_hint=access_token"));
    let expected = json!({
        "active": true, "token_type": "Bearer", "sub": id.to_string(), "client_id": "1", "scope": "a:b c:d", "key_id": id,
        "project_id": 1, "organization_id": 1, "key_scope": "secret", "role": "support",
    });
    assert_eq!((active.status, active.json()), (200, expected));
    assert_eq!(active.field("cache-control"), Some("no-store"));
    for other in ["nonsense", doors.app.first_keys.operator.expose()] {
        let answer = introspect(&doors, &format!("token={other}"));
        assert_eq!((answer.status, answer.json()), (200, json!({"active": false})));
    }
    doors.app.call(("DELETE", &format!("/api/client/keys/{id}")), None).await;
    assert_eq!(introspect(&doors, &format!("token={key}")).json(), json!({"active": false}));
}

#[tokio::test(flavor = "multi_thread")]
async fn not_everybody_may_ask_and_one_token_is_asked_about() {
    let doors = Opened::with("10.0.0.1", LimitHeaders::X).await;
    assert_eq!(introspect(&doors, "token=x").status, 403);
    let doors = Opened::new().await;
    for wrong in ["", "token_type_hint=x", "token=a&token=b"] {
        assert_eq!(introspect(&doors, wrong).status, 400, "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_sent_as_a_form_is_not_looked_at() {
    let doors = Opened::new().await;
    let (_, key) = doors.key(json!({"name": "x"})).await;
    let ask = |fields: &[(&str, &str)]| doors.send(&head("POST", "/v1/introspect", fields), &format!("token={key}"));
    for odd in ["application/json", "application/x-www-form-urlencodedx", "", "text/plain"] {
        let answer = ask(&[("Content-Type", odd)]);
        assert_eq!((answer.status, answer.json()["code"].as_str()), (415, Some("media_type_unsupported")), "{odd}");
    }
    assert_eq!(ask(&[]).status, 415);
    let good = ask(&[("Content-Type", "Application/X-WWW-Form-Urlencoded ; charset=utf-8")]);
    assert_eq!((good.status, &good.json()["active"]), (200, &json!(true)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_beyond_its_limits_is_not_said_to_be_bad() {
    let doors = Opened::new().await;
    let (_, key) = doors.key(json!({"name": "x", "limits": [{"name": "r", "limit": 1, "period": "31d"}]})).await;
    assert_eq!(introspect(&doors, &format!("token={key}")).json()["active"], true);
    let answer = introspect(&doors, &format!("token={key}"));
    assert_eq!((answer.status, answer.field("x-keyrack-reason")), (429, Some("RATE_LIMITED")));
}
