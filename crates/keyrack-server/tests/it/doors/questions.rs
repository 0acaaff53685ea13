//! Questions as JSON: their whole shape, their answers, and everything that is wrong with them.

use expect_test::expect;
use serde_json::{Value, json};

use super::{Opened, head, policy};

/// An answer without what differs each time.
fn shown(answer: &super::Answer) -> String {
    let mut body = answer.json();
    for field in ["request_id", "key_id", "seq"] {
        if body.get(field).is_some() {
            body[field] = "…".into();
        }
    }
    format!("{} {body}\n", answer.status)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_tells_the_facts_of_a_key_that_was_whole() {
    let doors = Opened::new().await;
    doors.apply(1, policy());
    let (_, key) = doors.key(json!({"name": "x", "permissions": ["exports:create", "a:b"]})).await;
    let mut table = String::new();
    for question in [
        json!({"key": key}),
        json!({"key": key, "method": "POST", "path": "/things"}),
        json!({"key": key, "permission": "a:b", "client_address": "203.0.113.9", "origin": "https://app.example.com"}),
        json!({"key": key, "permission": "x:y"}),
        json!({"key": key, "project_id": 2}),
        json!({"key": key, "organization_id": 1}),
        json!({"key": key, "min_seq": 1_000_000}),
        json!({"key": "sk_wrong"}),
    ] {
        table += &shown(&doors.verify(&question));
    }
    expect![[r#"
        200 {"age_ms":0,"code":"VALID","key_id":"…","organization_id":1,"permissions":["a:b","exports:create"],"project_id":1,"request_id":"…","role":"support","scope":"secret","seq":"…","valid":true}
        403 {"age_ms":0,"code":"FORBIDDEN","key_id":"…","organization_id":1,"permissions":["a:b","exports:create"],"project_id":1,"request_id":"…","role":"support","scope":"secret","seq":"…","valid":false}
        200 {"age_ms":0,"code":"VALID","key_id":"…","organization_id":1,"permissions":["a:b","exports:create"],"project_id":1,"request_id":"…","role":"support","scope":"secret","seq":"…","valid":true}
        403 {"age_ms":0,"code":"FORBIDDEN","key_id":"…","organization_id":1,"permissions":["a:b","exports:create"],"project_id":1,"request_id":"…","role":"support","scope":"secret","seq":"…","valid":false}
        401 {"age_ms":0,"code":"NOT_FOUND","request_id":"…","seq":"…","valid":false}
        200 {"age_ms":0,"code":"VALID","key_id":"…","organization_id":1,"permissions":["a:b","exports:create"],"project_id":1,"request_id":"…","role":"support","scope":"secret","seq":"…","valid":true}
        503 {"age_ms":0,"code":"UNAVAILABLE","request_id":"…","seq":"…","valid":false}
        401 {"age_ms":0,"code":"NOT_FOUND","request_id":"…","seq":"…","valid":false}
    "#]].assert_eq(&table);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_organization_disables_its_keys() {
    let doors = Opened::new().await;
    let (_, key) = doors.key(json!({"name": "x"})).await;
    doors.app.as_operator(("POST", "/api/operator/organizations/1/suspend"), None).await;
    let answer = doors.verify(&json!({"key": key}));
    assert_eq!((answer.status, answer.json()["code"].as_str()), (401, Some("DISABLED")));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_a_question_is_named() {
    let doors = Opened::new().await;
    let mut table = String::new();
    for question in [
        json!({}),
        json!({"key": 7, "method": "GET", "cost": -1, "project_id": "1", "client_address": "x", "origin": "x", "more": 1}),
        json!({"key": "k", "path": "/x"}),
        json!({"key": "k", "policy": "strict"}),
        json!({"key": "k", "cost": 1_000_001, "min_seq": 1.5}),
        json!([]),
    ] {
        table += &faults(&doors.verify(&question));
    }
    table +=
        &faults(&doors.post("/v1/verify/batch", &json!({"requests": [{"key": "k"}, {}, 7, {"key": "k", "x": 1}]})));
    table += &faults(&doors.post("/v1/verify/batch", &json!({"requests": {}})));
    table += &faults(&doors.post("/v1/verify/batch", &json!({})));
    table += &faults(&doors.post("/v1/verify/batch", &json!({"requests": vec![json!({"key": "k"}); 1_001]})));
    table += &faults(&doors.send(&head("POST", "/v1/verify", &[]), "{\"key\": \"a\", \"key\": \"b\"}"));
    table += &faults(&doors.send(&head("POST", "/v1/verify", &[]), "{"));
    table += &faults(&doors.get("/v1/verify", &[]));
    table += &faults(&doors.get("/v1/else", &[]));
    expect![[r#"
        422 validation_failed key: is required
        422 validation_failed key: must be a string; project_id: must be a whole number; client_address: must be an IP address; origin: must be an origin, such as https://app.example.com; cost: must be a whole number from 0 to 1000000; path: is required where a request is asked about: send method and path; more: is not a field of this call
        422 validation_failed method: is required where a request is asked about: send method and path
        422 validation_failed method: is required where a request is asked about: send method and path
        422 validation_failed cost: must be a whole number from 0 to 1000000; min_seq: must be a whole number
        422 validation_failed body: must be one JSON object
        422 validation_failed requests.1.key: is required; requests.2: must be an object; requests.3.x: is not a field of this call
        422 validation_failed requests: must be a list
        422 validation_failed requests: is required
        422 validation_failed requests: must have at most 1000 entries
        422 validation_failed key: is there more than once
        400 parameter_invalid_format 
        405 method_not_allowed 
        404 resource_missing 
    "#]].assert_eq(&table);
}

/// A list of a question's values in their order says the same to a lenient reader.
#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_an_object_with_no_field_twice() {
    let doors = Opened::new().await;
    let (_, key) = doors.key(json!({"name": "x"})).await;
    let mut table = String::new();
    for (door, body) in [
        ("/v1/verify", format!(r#"["{key}"]"#)),
        ("/v1/verify", format!(r#"["{key}", "GET", "/x", null, 1]"#)),
        ("/v1/verify", format!(r#"{{"key": "{key}", "cost": 1, "cost": 0}}"#)),
        ("/v1/verify/batch", format!(r#"[[{{"key": "{key}"}}]]"#)),
        ("/v1/verify/batch", format!(r#"{{"requests": [["{key}"]]}}"#)),
        ("/v1/verify/batch", format!(r#"{{"requests": [{{"key": "{key}"}}, ["{key}", "GET", "/x"]]}}"#)),
        ("/v1/verify/batch", format!(r#"{{"requests": [{{"key": "{key}", "cost": 1, "cost": 0}}]}}"#)),
        ("/v1/verify/batch", r#"{"requests": [], "requests": []}"#.to_owned()),
    ] {
        table += &faults(&doors.send(&head("POST", door, &[]), &body));
    }
    expect![[r#"
        422 validation_failed body: must be one JSON object
        422 validation_failed body: must be one JSON object
        422 validation_failed cost: is there more than once
        422 validation_failed body: must be one JSON object
        422 validation_failed requests.0: must be an object
        422 validation_failed requests.1: must be an object
        400 parameter_invalid_format 
        422 validation_failed requests: is there more than once
    "#]]
    .assert_eq(&table);
}

fn faults(answer: &super::Answer) -> String {
    let body = answer.json();
    let fault = |fault: &Value| format!("{}: {}", fault["param"].as_str().unwrap(), fault["message"].as_str().unwrap());
    let all: Vec<_> = body["errors"].as_array().into_iter().flatten().map(fault).collect();
    format!("{} {} {}\n", answer.status, body["code"].as_str().unwrap(), all.join("; "))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_answers_in_order() {
    let doors = Opened::new().await;
    let mut keys = Vec::new();
    for nth in 0..40 {
        keys.push(doors.key(json!({"name": format!("key {nth}")})).await);
    }
    let mut requests: Vec<_> = keys.iter().map(|(_, key)| json!({"key": key})).collect();
    requests.insert(17, json!({"key": "nonsense"}));
    let answer = doors.post("/v1/verify/batch", &json!({"requests": requests}));
    let results = answer.json()["results"].as_array().unwrap().clone();
    let ids: Vec<_> = results.iter().map(|result| result["key_id"].as_i64()).collect();
    let mut expected: Vec<_> = keys.iter().map(|(id, _)| Some(*id)).collect();
    expected.insert(17, None);
    assert_eq!((answer.status, ids), (200, expected));
}
