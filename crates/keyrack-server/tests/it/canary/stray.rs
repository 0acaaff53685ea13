//! Every place where somebody might put a key by mistake.

use data_encoding::{BASE64, HEXUPPER};
use serde_json::json;

use super::journey::KEYS;
use super::wire::Ask;

/// Requests with a key in a wrong place, none of which makes a key.
pub(super) fn everywhere(key: &str, admin: &str) -> Vec<Ask> {
    [
        as_credential(key, admin),
        in_the_target(key, admin),
        in_headers(key, admin),
        in_bodies(key, admin),
        off_the_rails(key),
    ]
    .concat()
}

/// Almost the credential: near misses must be as secret as the key itself.
fn as_credential(key: &str, admin: &str) -> Vec<Ask> {
    let (all_but_last, _) = key.split_at(key.len() - 1);
    let list = || Ask::new(format!("GET {KEYS}"));
    let wrong = [
        format!("Bearer {}", key.to_lowercase()),
        format!("Bearer {all_but_last}"),
        format!("Bearer {all_but_last}!"),
        format!("Bearer  {key}"),
        format!("Bearer {key} {key}"),
        format!("Bearer {key},{key}"),
        format!("Bearer \"{key}\""),
        format!("Basic {}", BASE64.encode(format!("{key}:").as_bytes())),
        format!("Token {key}"),
        key.to_owned(),
        key.repeat(1_000),
    ];
    let twice = [list().bearer(key).bearer(admin), list().bearer(admin).bearer(key)];
    wrong.map(|value| list().header(format!("Authorization: {value}"))).into_iter().chain(twice).collect()
}

fn in_the_target(key: &str, admin: &str) -> Vec<Ask> {
    let encoded: String = key.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let queries = ["key", "cursor", "q", "sort", "direction", "limit", "page", "access_token"];
    let mut targets: Vec<_> = queries.iter().map(|name| format!("{KEYS}?{name}={key}")).collect();
    targets.extend([
        format!("{KEYS}?{key}=1"),
        format!("{KEYS}?{key}"),
        format!("{KEYS}?q={encoded}"),
        format!("{KEYS}?cursor={}", BASE64.encode(key.as_bytes())),
        format!("{KEYS}?q=x&cursor={}", HEXUPPER.encode(key.as_bytes())),
        format!("{KEYS}/{key}"),
        format!("{KEYS}/{encoded}"),
        format!("{KEYS}/1/{key}"),
        format!("/{key}"),
        format!("/api/client/{key}/keys"),
        format!("http://{key}/{key}"),
    ]);
    let mut asks = Vec::new();
    for target in targets {
        asks.push(Ask::new(format!("GET {target}")));
        asks.push(Ask::new(format!("GET {target}")).bearer(admin));
        asks.push(Ask::new(format!("PATCH {target}")).bearer(admin).json(&json!({"name": "x"})));
        asks.push(Ask::new(format!("DELETE {target}")).bearer(admin));
    }
    asks
}

fn in_headers(key: &str, admin: &str) -> Vec<Ask> {
    let headers = [
        format!("X-Api-Key: {key}"),
        format!("X-Request-Id: {key}"),
        format!("X-{key}: 1"),
        format!("{key}: 1"),
        format!("Proxy-Authorization: Bearer {key}"),
        format!("Cookie: key={key}"),
        format!("Spotzee-Version: {key}"),
        format!("Accept: {key}"),
        format!("User-Agent: {key}"),
        format!("Referer: https://example.com/?key={key}"),
        format!("Host: {key}"),
        format!("Expect: {key}"),
        format!("Traceparent: {key}"),
    ];
    let asks = headers.map(|header| Ask::new(format!("GET {KEYS}?limit=1")).bearer(admin).header(header));
    // Of a request that changes something these are read too, and refused.
    let refused = [
        format!("Idempotency-Key: {}", key.repeat(8)),
        format!("Idempotency-Key: one\r\nIdempotency-Key: {key}"),
        format!("Content-Type: {key}"),
        format!("Content-Type: application/json; charset={key}\r\nContent-Encoding: {key}"),
        format!("Spotzee-Version: {key}"),
        format!("Content-Length: {key}"),
        format!("Transfer-Encoding: {key}"),
    ];
    let post = Ask::new(format!("POST {KEYS}")).bearer(admin).json(&json!({"name": "never made"}));
    asks.into_iter().chain(refused.map(|header| post.clone().header(header))).collect()
}

/// Bodies that are refused; one that puts a key into a name or a description would be kept, as it says.
fn in_bodies(key: &str, admin: &str) -> Vec<Ask> {
    let bodies = [
        json!({"name": "x", key: 1}).to_string(),
        json!({"name": "x", (&key[..20]): 1}).to_string(),
        json!({"name": "x", "key": key}).to_string(),
        json!({"name": "x", "value": key}).to_string(),
        json!({"name": "x", "role": key}).to_string(),
        json!({"name": "x", "scope": key}).to_string(),
        json!({"name": "x", "description": {"key": key}}).to_string(),
        json!({"name": [key]}).to_string(),
        json!({"name": key.repeat(10)}).to_string(),
        json!({"name": format!("{key}\u{7}")}).to_string(),
        json!({"name": "x", "description": key.repeat(80)}).to_string(),
        json!([key]).to_string(),
        json!(key).to_string(),
        key.to_owned(),
        format!("{{\"name\": \"{key}"),
        format!("{{\"name\": \"x\", \"role\": {key}}}"),
        format!("{{\"name\": \"x\", \"{key}\": 1, \"{key}\": 2}}"),
        format!("{{\"name\": \"\\ud800{key}\"}}"),
        format!("{{\"name\": \"x\"}} {key}"),
        format!("name=x&key={key}"),
    ];
    let mut asks = Vec::new();
    for (nth, body) in bodies.into_iter().enumerate() {
        let post = Ask::new(format!("POST {KEYS}")).bearer(admin).body(body.clone());
        // A refusal is kept too.
        asks.push(post.clone().header(format!("Idempotency-Key: refused {nth} {}", &key[..10])));
        asks.push(post);
        asks.push(Ask::new(format!("PATCH {KEYS}/1")).bearer(admin).body(body));
    }
    let not_utf_8 = [b"{\"name\": \"\xff", key.as_bytes(), b"\"}"].concat();
    asks.push(Ask::new(format!("POST {KEYS}")).bearer(admin).body(not_utf_8));
    asks
}

/// Not even a request that a route or a layer of ours gets to see, or hardly.
fn off_the_rails(key: &str) -> Vec<Ask> {
    let lines = [
        format!("{key} {KEYS}"),
        format!("{key} /"),
        key.to_owned(),
        format!("GET {key}"),
        format!("CONNECT {key}:443"),
        format!("GET / HTTP/{key}"),
        format!("GET /{key}\u{7f}"),
    ];
    lines.map(Ask::new).into()
}
