//! What an operator watches.

use std::process::Stdio;

use serde_json::json;

use crate::server::{Reply, Server, keyrack, reply_of};

fn value(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("there is no {name} in {text}")).parse().unwrap()
}

fn get(url: &str) -> Reply {
    let config = ureq::Agent::config_builder().http_status_as_error(false).build();
    reply_of(ureq::Agent::from(config).get(url).call()).unwrap()
}

#[test]
fn metrics_are_read_on_a_listener_of_their_own() {
    let data = tempfile::tempdir().unwrap();
    let mut command = keyrack(data.path());
    command.args(["--metrics-listen", "127.0.0.1:0", "serve"]).stderr(Stdio::null());
    let server = Server::try_start(&mut command).unwrap();
    let url = server.greeting.lines().find_map(|line| line.strip_prefix("Metrics at ")).unwrap().to_owned();
    let before = get(&url);
    assert_eq!(
        (before.status, before.headers["content-type"].to_str().unwrap()),
        (200, "text/plain; version=0.0.4; charset=utf-8")
    );
    assert_eq!(value(&before.text, "keyrack_lease{state=\"fresh\"}"), 1.0);
    assert_eq!(value(&before.text, "keyrack_loaded"), 1.0);

    let admin = server.greeting.split_whitespace().find(|word| word.starts_with("sk_")).unwrap();
    let made = server.send("POST", "/api/client/keys", admin, Some(&json!({"name": "one more"})), &[]).unwrap();
    assert_eq!(made.status, 200, "{}", made.text);
    let after = get(&url).text;
    for counted in ["keyrack_keys", "keyrack_log_position"] {
        assert_eq!(value(&after, counted), value(&before.text, counted) + 1.0, "{counted}");
    }
    assert!(!after.contains("sk_"));
    assert_eq!(get(&url.replace("/metrics", "/api/openapi.json")).status, 404);
    let elsewhere = server.send("GET", "/metrics", admin, None, &[]).unwrap();
    assert_eq!(elsewhere.status, 404, "the management API does not show them");
}
