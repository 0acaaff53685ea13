//! What a key is to be given beside its role: permissions and limits that are not written as they must be.

use axum::body::Body;
use axum::http::Request;
use expect_test::expect;
use keyrack_server::key_limits::LimitBody;
use serde_json::{Value, json};

use super::app::{Reply, TestApp};

const KEYS: &str = "/api/client/keys";
const PERMISSION: &str = "must be resource:action, each 1 to 64 characters of a-z, 0-9, `_`, `.` and `-`";

/// One that is good, for what stands beside it.
fn limit() -> Value {
    json!({"name": "r", "limit": 5, "period": "1m"})
}

/// The same with another field, or without it.
fn with(field: &str, value: impl Into<Value>) -> Value {
    let mut limit = limit();
    limit[field] = value.into();
    json!([limit])
}

fn without(field: &str) -> Value {
    let mut limit = limit();
    limit.as_object_mut().unwrap().remove(field);
    json!([limit])
}

/// Refuses a body with such a field, where keys are made and where they are changed, in the same words, and nothing is made of it.
async fn refused(app: &TestApp, id: i64, field: &str, value: &Value) -> String {
    let path = format!("{KEYS}/{id}");
    let before = app.call(("GET", KEYS), None).await.json();
    let made = app.call(("POST", KEYS), Some(json!({"name": "x", field: value}))).await;
    let changed = app.call(("PATCH", &path), Some(json!({field: value}))).await;
    let said = faults(&made);
    assert_eq!(said, faults(&changed), "{field}: {value}");
    assert_eq!(app.call(("GET", KEYS), None).await.json(), before, "{field}: {value}");
    said
}

/// Status and faults, of which the longest are put in a word.
fn faults(reply: &Reply) -> String {
    let body = reply.json();
    let fault = |fault: &Value| {
        let word = |name: &str| fault[name].as_str().unwrap().to_owned();
        assert_eq!(word("code"), "parameter_invalid_format", "{body}");
        let message = word("message").replace(LimitBody::SHAPE, "SHAPE").replace(PERMISSION, "PERMISSION");
        format!("{}: {message}", word("param"))
    };
    let all: Vec<_> = match body["errors"].as_array() {
        Some(faults) => faults.iter().map(fault).collect(),
        None => vec![fault(&body)],
    };
    format!("{} {}", reply.status, all.join("; "))
}

/// An installation, and a key with grants that no refused change may touch.
async fn app() -> (TestApp, i64) {
    let app = TestApp::new().await;
    let (id, _) = app.create(json!({"name": "kept", "permissions": ["a:b"], "limits": [limit()]})).await;
    (app, id)
}

#[tokio::test]
async fn permissions_that_are_none_are_refused_each_by_its_place() {
    let (app, id) = app().await;
    let many: Vec<_> = (0..101).map(|nth| format!("r{nth}:read")).collect();
    let (long, key) = ("x".repeat(65), app.admin().to_ascii_lowercase());
    let mut table = String::new();
    for (what, value) in [
        ("null", Value::Null),
        ("a word", json!("a:b")),
        ("an object", json!({"a": "b"})),
        ("101", json!(many)),
        ("of another type", json!([7, null, ["a:b"], {"a": "b"}, true])),
        ("without a part", json!(["", "a", ":", "a:", ":b", "a:b:c"])),
        ("of other letters", json!(["A:b", "a:B", "a b:c", "a:*", " a:b", "ä:b", "a:b\n"])),
        ("too long", json!([format!("{long}:b"), format!("a:{long}")])),
        ("one among others", json!(["a:b", "no", "c:d"])),
        ("a key", json!([format!("a:{key}")])),
    ] {
        table += &format!("{what:<16} {}\n", refused(&app, id, "permissions", &value).await);
    }
    expect![[r#"
        null             422 permissions: must be a list
        a word           422 permissions: must be a list
        an object        422 permissions: must be a list
        101              422 permissions: must have at most 100 entries
        of another type  422 permissions.0: PERMISSION; permissions.1: PERMISSION; permissions.2: PERMISSION; permissions.3: PERMISSION; permissions.4: PERMISSION
        without a part   422 permissions.0: PERMISSION; permissions.1: PERMISSION; permissions.2: PERMISSION; permissions.3: PERMISSION; permissions.4: PERMISSION; permissions.5: PERMISSION
        of other letters 422 permissions.0: PERMISSION; permissions.1: PERMISSION; permissions.2: PERMISSION; permissions.3: PERMISSION; permissions.4: PERMISSION; permissions.5: PERMISSION; permissions.6: PERMISSION
        too long         422 permissions.0: PERMISSION; permissions.1: PERMISSION
        one among others 422 permissions.1: PERMISSION
        a key            422 permissions: must not contain a key: it would be kept and shown. Revoke that key if others have seen it
    "#]]
    .assert_eq(&table);
    for good in [json!([]), json!(many[1..]), json!([format!("{}:b", &long[1..])]), json!(["a_b.c-1:d", "a_b.c-1:d"])] {
        let made = app.call(("POST", KEYS), Some(json!({"name": "x", "permissions": good}))).await;
        assert_eq!(made.status, 200, "{}", made.text);
    }
}

#[tokio::test]
async fn what_is_no_list_of_limits_is_refused_as_such() {
    let (app, id) = app().await;
    let nine: Vec<_> = (0..9).map(|nth| json!({"name": nth.to_string(), "limit": 1, "period": "1d"})).collect();
    let mut table = String::new();
    for (what, value) in [
        ("null", Value::Null),
        ("a word", json!("r=5/1m")),
        ("an object", limit()),
        ("nine", json!(nine)),
        ("of another type", json!([7, null, "r=5/1m", ["r", 5, "1m"]])),
        ("no name", without("name")),
        ("no limit", without("limit")),
        ("no period", without("period")),
        ("a field more", with("window", 1)),
        ("one name twice", json!([limit(), {"name": "r", "limit": 6, "period": "day"}])),
    ] {
        table += &format!("{what:<20} {}\n", refused(&app, id, "limits", &value).await);
    }
    expect![[r#"
        null                 422 limits: must be a list
        a word               422 limits: must be a list
        an object            422 limits: must be a list
        nine                 422 limits: must have at most 8 entries
        of another type      422 limits.0: SHAPE; limits.1: SHAPE; limits.2: SHAPE; limits.3: SHAPE
        no name              422 limits.0: SHAPE
        no limit             422 limits.0: SHAPE
        no period            422 limits.0: SHAPE
        a field more         422 limits.0: SHAPE
        one name twice       422 limits.1.name: is the name of another limit
    "#]]
    .assert_eq(&table);
    let most = json!({"name": "x".repeat(64), "limit": 1_000_000_000_000_u64, "period": "31d"});
    for good in
        [json!([]), json!(nine[1..]), json!([most]), json!([limit(), {"name": "s", "limit": 5, "period": "1m"}])]
    {
        let made = app.call(("POST", KEYS), Some(json!({"name": "x", "limits": good}))).await;
        assert_eq!(made.status, 200, "{}", made.text);
    }
}

#[tokio::test]
async fn a_limit_that_cannot_be_kept_is_refused_by_its_field() {
    let (app, id) = app().await;
    let mut table = String::new();
    for (what, value) in [
        ("name of nothing", with("name", "")),
        ("name in capitals", with("name", "R")),
        ("name too long", with("name", "x".repeat(65))),
        ("name of a number", with("name", 7)),
        ("limit of 0", with("limit", 0)),
        ("limit below 0", with("limit", -1)),
        ("limit too large", with("limit", 1_000_000_000_001_u64)),
        ("limit beyond all", json!([{"name": "r", "limit": 1e30, "period": "1m"}])),
        ("half a limit", with("limit", 1.5)),
        ("limit as a word", with("limit", "5")),
        ("limit of null", with("limit", Value::Null)),
        ("period of a word", with("period", "week")),
        ("period of nothing", with("period", "")),
        ("period of 0", with("period", "0s")),
        ("period too long", with("period", "32d")),
        ("period without unit", with("period", "60")),
        ("period in capitals", with("period", "1M")),
        ("period below 0", with("period", "-1m")),
        ("period as a number", with("period", 60)),
        ("burst of 0", with("burst", 0)),
        ("burst below 0", with("burst", -1)),
        ("burst too large", with("burst", u64::MAX)),
        ("burst of a quota", json!([{"name": "r", "limit": 5, "period": "day", "burst": 5}])),
        (
            "all at once",
            json!([{"name": "R", "limit": 0, "period": "x"}, {"name": "s", "limit": 0, "period": "1m"}, 7]),
        ),
    ] {
        table += &format!("{what:<20} {}\n", refused(&app, id, "limits", &value).await);
    }
    expect![[r#"
        name of nothing      422 limits.0.name: must be 1 to 64 characters of a-z, 0-9, - and _
        name in capitals     422 limits.0.name: must be 1 to 64 characters of a-z, 0-9, - and _
        name too long        422 limits.0.name: must be 1 to 64 characters of a-z, 0-9, - and _
        name of a number     422 limits.0: SHAPE
        limit of 0           422 limits.0.limit: must be from 1 to 1000000000000
        limit below 0        422 limits.0: SHAPE
        limit too large      422 limits.0.limit: must be from 1 to 1000000000000
        limit beyond all     422 limits.0: SHAPE
        half a limit         422 limits.0: SHAPE
        limit as a word      422 limits.0: SHAPE
        limit of null        422 limits.0: SHAPE
        period of a word     422 limits.0.period: must be 1s to 31d in whole seconds (s), minutes (m), hours (h) or days (d), or day or month
        period of nothing    422 limits.0.period: must be 1s to 31d in whole seconds (s), minutes (m), hours (h) or days (d), or day or month
        period of 0          422 limits.0.period: must be 1s to 31d in whole seconds (s), minutes (m), hours (h) or days (d), or day or month
        period too long      422 limits.0.period: must be 1s to 31d in whole seconds (s), minutes (m), hours (h) or days (d), or day or month
        period without unit  422 limits.0.period: must be 1s to 31d in whole seconds (s), minutes (m), hours (h) or days (d), or day or month
        period in capitals   422 limits.0.period: must be 1s to 31d in whole seconds (s), minutes (m), hours (h) or days (d), or day or month
        period below 0       422 limits.0.period: must be 1s to 31d in whole seconds (s), minutes (m), hours (h) or days (d), or day or month
        period as a number   422 limits.0: SHAPE
        burst of 0           422 limits.0.burst: must be from 1, and be won back within 10 years
        burst below 0        422 limits.0: SHAPE
        burst too large      422 limits.0.burst: must be from 1, and be won back within 10 years
        burst of a quota     422 limits.0.burst: must be left out with a period of day or month: all of a quota may be used at once
        all at once          422 limits.0.period: must be 1s to 31d in whole seconds (s), minutes (m), hours (h) or days (d), or day or month; limits.1.limit: must be from 1 to 1000000000000; limits.2: SHAPE
    "#]]
    .assert_eq(&table);
}

/// One reader of JSON takes the first of two fields of one name and another the last, so this one takes neither, at any depth.
#[tokio::test]
async fn a_grant_that_is_there_twice_is_none() {
    let (app, id) = app().await;
    let mut table = String::new();
    for grants in [
        r#""permissions": ["a:b"], "permissions": ["c:d"]"#,
        r#""limits": [], "limits": [{"name": "r", "limit": 1, "period": "1m"}]"#,
        r#""limits": [{"name": "r", "limit": 1, "limit": 1000, "period": "1m"}]"#,
        r#""limits": [{"name": "r", "limit": 1, "period": "1m", "period": "1m"}]"#,
    ] {
        for (method, path) in [("POST", KEYS.to_owned()), ("PATCH", format!("{KEYS}/{id}"))] {
            let bearer = format!("Bearer {}", app.admin());
            let request = Request::builder().method(method).uri(path).header("Authorization", bearer);
            let request = request.header("Content-Type", "application/json");
            let body = format!(r#"{{"name": "x", {grants}}}"#);
            let reply = app.send(request.body(Body::from(body)).unwrap()).await;
            table += &format!("{method:<5} {}\n", faults(&reply));
        }
    }
    expect![[r#"
        POST  422 permissions: is there more than once
        PATCH 422 permissions: is there more than once
        POST  422 limits: is there more than once
        PATCH 422 limits: is there more than once
        POST  400 body: A field is there more than once.
        PATCH 400 body: A field is there more than once.
        POST  400 body: A field is there more than once.
        PATCH 400 body: A field is there more than once.
    "#]]
    .assert_eq(&table);
}
