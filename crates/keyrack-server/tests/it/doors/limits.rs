//! What callers are told of their limits.

use keyrack_server::config::LimitHeaders;
use serde_json::json;

use super::Opened;

#[tokio::test(flavor = "multi_thread")]
async fn the_fields_of_the_contract() {
    let doors = Opened::new().await;
    let (_, key) = doors.key(json!({"name": "x", "limits": [{"name": "r", "limit": 2, "period": "31d"}]})).await;
    let left = |answer: &super::Answer| {
        ["x-ratelimit-limit", "x-ratelimit-remaining"].map(|name| answer.field(name).unwrap().to_owned())
    };
    assert_eq!(left(&doors.nginx(&key, "GET", "/x")), ["2", "1"]);
    assert_eq!(left(&doors.nginx(&key, "GET", "/x")), ["2", "0"]);
    let refused = doors.nginx(&key, "GET", "/x");
    assert_eq!((refused.status, left(&refused)), (403, ["2".to_owned(), "0".to_owned()]));
    assert!(refused.field("retry-after").unwrap().parse::<u64>().unwrap() > 1_000_000);
    let question = doors.verify(&json!({"key": key}));
    assert_eq!((question.status, question.json()["code"].as_str()), (429, Some("RATE_LIMITED")));
    assert_eq!(question.json()["ratelimit"]["remaining"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fields_of_the_draft() {
    let doors = Opened::with("127.0.0.1", LimitHeaders::Draft).await;
    let limits = json!([{"name": "calls", "limit": 60, "period": "1h", "burst": 5}, {"name": "total", "limit": 100, "period": "day"}]);
    let (_, key) = doors.key(json!({"name": "x", "limits": limits})).await;
    let answer = doors.nginx(&key, "GET", "/x");
    assert_eq!(answer.field("ratelimit-policy"), Some("\"calls\";q=60;w=3600"));
    assert_eq!(answer.field("ratelimit"), Some("\"calls\";r=4;t=60"));
    assert_eq!(answer.field("x-ratelimit-limit"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_takes_nothing_and_a_cost_takes_more() {
    let doors = Opened::new().await;
    let (_, key) = doors.key(json!({"name": "x", "limits": [{"name": "q", "limit": 10, "period": "month"}]})).await;
    let remaining = |answer: super::Answer| answer.json()["ratelimit"]["remaining"].as_u64();
    assert_eq!(remaining(doors.verify(&json!({"key": key, "cost": 4}))), Some(6));
    assert_eq!(remaining(doors.verify(&json!({"key": key, "method": "POST", "path": "/x"}))), None);
    assert_eq!(remaining(doors.verify(&json!({"key": key, "cost": 0}))), Some(6));
    let refused = doors.verify(&json!({"key": key, "cost": 7})).json();
    assert_eq!(
        (refused["code"].as_str(), refused["ratelimit"]["remaining"].as_u64()),
        (Some("USAGE_EXCEEDED"), Some(6))
    );
    assert_eq!(remaining(doors.verify(&json!({"key": key, "cost": 6}))), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_costs_more_than_there_can_be_is_not_to_be_tried_again() {
    let doors = Opened::new().await;
    for (limit, code) in [
        (json!({"name": "q", "limit": 10, "period": "month"}), "USAGE_EXCEEDED"),
        (json!({"name": "r", "limit": 100, "period": "1h", "burst": 10}), "RATE_LIMITED"),
    ] {
        let (_, key) = doors.key(json!({"name": "x", "limits": [limit]})).await;
        assert_eq!(doors.verify(&json!({"key": key, "cost": 1})).status, 200);
        let told = |cost: u32| {
            let answer = doors.verify(&json!({"key": key, "cost": cost}));
            assert_eq!((answer.status, answer.json()["code"].as_str()), (429, Some(code)));
            (answer.field("retry-after").is_some(), answer.field("x-keyrack-detail").map(str::to_owned))
        };
        assert_eq!(told(11), (false, Some("cost".to_owned())));
        let detail = if code == "RATE_LIMITED" { "rate" } else { "quota" };
        assert_eq!(told(10), (true, Some(detail.to_owned())));
    }
}
