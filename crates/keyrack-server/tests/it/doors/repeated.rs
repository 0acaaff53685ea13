//! Of two fields of one name two programs may each believe another, so what a door reads may be there once (reliability rule 4.6).

use http_body_util::Full;
use hyper::Request;
use serde_json::json;
use tokio::net::TcpStream;

use crate::wire::http2::speak;

use super::dialects::verdict;
use super::{Opened, head};

/// Each gateway's door, and the fields that it reads beside `Authorization`.
const DOORS: [(&str, &[(&str, &str)]); 4] = [
    ("nginx", &[("X-Original-Method", "GET"), ("X-Original-URI", "/x"), ("X-Forwarded-For", "203.0.113.9")]),
    ("forward", &FORWARDED),
    ("haproxy", &FORWARDED),
    ("envoy/-/x", &[("X-Forwarded-For", "203.0.113.9")]),
];
const FORWARDED: [(&str, &str); 4] = [
    ("X-Forwarded-Method", "GET"),
    ("X-Forwarded-Uri", "/x"),
    ("X-Forwarded-Host", "api.example.com"),
    ("X-Forwarded-For", "203.0.113.9"),
];

/// What a second field may say: as the first one, something else that would pass alone, nothing.
fn again(name: &str, value: &str) -> Vec<(String, String)> {
    let other = match name {
        "X-Original-Method" | "X-Forwarded-Method" => "HEAD",
        "X-Original-URI" | "X-Forwarded-Uri" => "/y",
        "X-Forwarded-Host" => "other.example.com",
        "X-Forwarded-For" => "198.51.100.7",
        _ => "Bearer sk_other",
    };
    let spelt = [name.to_owned(), name.to_ascii_lowercase(), name.to_ascii_uppercase()];
    let with = |value: &str| spelt.clone().map(|name| (name, value.to_owned()));
    [value, other, ""].into_iter().flat_map(with).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_door_reads_may_be_there_once() {
    let doors = Opened::new().await;
    let (_, key) = doors.key(json!({"name": "x"})).await;
    let bearer = format!("Bearer {key}");
    for (door, fields) in DOORS {
        let good: Vec<_> = [("Authorization", bearer.as_str())].into_iter().chain(fields.iter().copied()).collect();
        let ask = |fields: &[(&str, &str)]| {
            let head = head("GET", &format!("/v1/auth/{door}"), fields);
            let (answer, local) = (doors.send(&head, ""), doors.send_locally(&head, ""));
            assert_eq!(verdict(&answer), verdict(&local), "{door}: over the Unix socket");
            answer
        };
        assert_eq!(ask(&good).status, 200, "{door}");
        for (name, value) in &good {
            let denied = match *name {
                "Authorization" => {
                    "401 NOT_FOUND | 401 | credential_repeated | - | Bearer realm=\"keyrack\", error=\"invalid_token\""
                }
                _ => "403 FORBIDDEN | 403 | header_repeated | - | -",
            };
            for (again, second) in again(name, value) {
                // Whichever of the two comes first.
                for at in [0, good.len()] {
                    let mut twice = good.clone();
                    twice.insert(at, (&again, &second));
                    assert_eq!(verdict(&ask(&twice)), denied, "{door}: {name}, and {again} at {at}");
                }
            }
        }
        let mut others: Vec<_> = DOORS.iter().flat_map(|(_, fields)| fields.iter()).copied().collect();
        others.retain(|(name, _)| !fields.iter().any(|(known, _)| known == name));
        let unread = [good.as_slice(), &others, &others, &[("X-Other", "1"), ("X-Other", "2")]].concat();
        assert_eq!(ask(&unread).status, 200, "{door}: what it does not read is not looked at");
    }
}

/// A list in one field is what HTTP takes two of them for.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_there_twice_is_no_request() {
    let doors = Opened::new().await;
    let (_, key) = doors.key(json!({"name": "x"})).await;
    let bearer = format!("Bearer {key}");
    for second in ["keyrack.test", "other.test", ""] {
        let fields = [("Authorization", bearer.as_str()), ("Host", second)];
        let answer = doors.get("/v1/auth/envoy/-/x", &fields);
        let shown = (answer.status, answer.field("x-keyrack-reason"), answer.field("x-keyrack-detail"));
        assert_eq!(shown, (403, Some("FORBIDDEN"), Some("request_malformed")), "{second}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http2_it_may_be_there_once_too() {
    let doors = Opened::new().await;
    let (_, key) = doors.key(json!({"name": "x"})).await;
    let bearer = format!("Bearer {key}");
    let mut sender = speak(TcpStream::connect(doors.address).await.unwrap()).await;
    for (door, fields) in DOORS.into_iter().filter(|(door, _)| !door.starts_with("envoy")) {
        let good: Vec<_> = [("Authorization", bearer.as_str())].into_iter().chain(fields.iter().copied()).collect();
        for repeated in [None].into_iter().chain(good.iter().copied().map(Some)) {
            let request = Request::get(format!("http://keyrack.test/v1/auth/{door}"));
            let fields = good.iter().copied().chain(repeated);
            let request = fields.fold(request, |request, (name, value)| request.header(name, value));
            let answer = sender.send_request(request.body(Full::default()).unwrap()).await.unwrap();
            let detail = answer.headers().get("x-keyrack-detail").map(|detail| detail.to_str().unwrap());
            let expected = match repeated {
                None => (200, None),
                Some(("Authorization", _)) => (401, Some("credential_repeated")),
                Some(_) => (403, Some("header_repeated")),
            };
            assert_eq!((answer.status().as_u16(), detail), expected, "{door}: {:?}", repeated.map(|(name, _)| name));
        }
    }
}
