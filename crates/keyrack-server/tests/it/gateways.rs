//! The shipped configuration of a gateway, in the real gateway.

use std::net::TcpListener;
use std::process::Command;

use super::server::KEYRACK;

/// A port that nobody listens on.
fn free_port() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string()
}

#[test]
fn nginx_lets_through_what_the_policy_opens_and_nothing_else() {
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../../gateways/demo");
    let mut command = Command::new(demo);
    for port in ["API", "DOORS", "APPLICATION", "GATEWAY"] {
        command.env(port, free_port());
    }
    let output = command.args(["nginx", KEYRACK, "--once"]).output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{shown}{}", String::from_utf8_lossy(&output.stderr));
    let verdicts: Vec<_> = shown.lines().skip(1).map(|line| (&line[..33], &line[line.len() - 5..])).collect();
    let expected = [
        ("publishable key POST /events     ", "[200]"),
        ("publishable key GET  /users/7    ", "[403]"),
        ("secret key      POST /events     ", "[200]"),
        ("secret key      GET  /users/7    ", "[200]"),
        ("no key of ours  GET  /users/7    ", "[401]"),
    ];
    assert_eq!(verdicts, expected, "{shown}");
    assert!(shown.contains("to key 5 of role editor"), "{shown}");
}
