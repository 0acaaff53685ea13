//! Settings that reach the doors, in the real binary.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::json;

use super::dialects::verdict;
use super::{Running, head, send};
use crate::cli::{Host, words};

/// A request that every gateway's door lets pass, if it believes the peer.
const FORWARDED: [(&str, &str); 6] = [
    ("X-Original-Method", "GET"),
    ("X-Original-URI", "/x"),
    ("X-Forwarded-Method", "GET"),
    ("X-Forwarded-Uri", "/x"),
    ("X-Forwarded-Host", "api.example.com"),
    ("X-Forwarded-For", "203.0.113.9"),
];

#[test]
fn a_peer_that_is_not_trusted_gets_nothing_at_a_gateways_door() {
    let host = Host::new();
    let bearer = format!("Bearer {}", words(&host.keys, "project_key"));
    let fields = [&[("Authorization", bearer.as_str())], FORWARDED.as_slice()].concat();
    for (settings, expected) in [
        (["--trusted-proxies", "10.0.0.0/8 fd00::/8"].as_slice(), "403 FORBIDDEN | 403 | peer_untrusted | - | -"),
        (&["--trusted-proxies", ""], "403 FORBIDDEN | 403 | peer_untrusted | - | -"),
        (&["--trusted-proxies", "10.0.0.0/8 127.0.0.1"], "200 - | - | - | - | -"),
        (&[], "200 - | - | - | - | -"),
    ] {
        let running = Running::with(&host.data(), settings);
        for door in ["nginx", "forward", "haproxy", "envoy/-/x"] {
            let answer = send(running.address, &head("GET", &format!("/v1/auth/{door}"), &fields), "");
            assert_eq!(verdict(&answer), expected, "{settings:?}: {door}");
            assert_eq!(answer.field("x-keyrack-key-id").is_some(), answer.status == 200, "{settings:?}: {door}");
        }
        let asked = running.verify(&json!({"key": words(&host.keys, "project_key")}));
        assert_eq!(asked.status, 200, "{settings:?}: whoever sends the key itself passes nothing on");
    }
}

#[test]
fn the_headers_of_limits_are_those_that_were_asked_for_and_no_others() {
    let host = Host::new();
    let limits = json!([{"name": "calls", "limit": 2, "period": "31d"}]);
    let admin = words(&host.keys, "project_key");
    let told = |settings: &[&str], names: &[&str]| {
        let running = Running::with(&host.data(), settings);
        let (_, key) = running.key(&admin, &json!({"name": "x", "limits": limits}));
        [(); 3].map(|()| {
            let answer = running.nginx(&key);
            let is_of_limits = |name: &&str| name.contains("ratelimit");
            let mut sent: Vec<_> = answer.fields.iter().map(|(name, _)| name.as_str()).filter(is_of_limits).collect();
            sent.sort_unstable();
            assert_eq!(sent, names, "{settings:?}");
            (answer.status, answer.field(names[0]).unwrap().to_owned(), answer.field(names[1]).unwrap().to_owned())
        })
    };
    let x = ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"];
    for settings in [&[], ["--limit-headers", "x"].as_slice()] {
        let expected = [(200, "1"), (200, "0"), (403, "0")].map(|(status, left)| (status, "2".into(), left.into()));
        assert_eq!(told(settings, &x), expected, "{settings:?}");
    }
    // How long it takes until all is there again depends on how long the test has taken.
    let draft = told(&["--limit-headers", "draft"], &["ratelimit", "ratelimit-policy"]);
    for ((status, state, policy), (expected, left)) in draft.into_iter().zip([(200, 1), (200, 0), (403, 0)]) {
        assert_eq!((status, policy.as_str()), (expected, "\"calls\";q=2;w=2678400"));
        let reset = state.strip_prefix(&format!("\"calls\";r={left};t=")).unwrap_or_else(|| panic!("{state}"));
        assert!((1..=2_678_400).contains(&reset.parse::<u64>().unwrap()), "{state}");
    }
}

/// The threads of the doors, and how often each of them has waited for something.
fn threads(process: u32) -> Vec<(String, u64)> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap().map(|task| task.unwrap().path());
    let mut threads: Vec<_> = tasks
        .filter_map(|task| {
            let name = fs::read_to_string(task.join("comm")).unwrap().trim().to_owned();
            let status = fs::read_to_string(task.join("status")).unwrap();
            let waited = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
            let is_of_http1 = name.strip_prefix("wire-").is_some_and(|number| number.parse::<u32>().is_ok());
            is_of_http1.then(|| (name, waited.trim().parse().unwrap()))
        })
        .collect();
    threads.sort();
    threads
}

/// How many sockets of this machine listen at an address of IPv4's loopback.
fn listening(address: SocketAddr) -> usize {
    let (local, listens) = (format!("0100007F:{:04X}", address.port()), "0A");
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let rows = table.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row.get(1).copied() == Some(local.as_str()) && row.get(3).copied() == Some(listens)).count()
}

/// Longer than anything here takes: whoever waits this long waits for ever.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until something is so.
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn each_of_the_threads_that_were_asked_for_listens_and_lets_clients_in() {
    let host = Host::new();
    for number in [1, 3, 5] {
        let running = Running::with(&host.data(), &["--verify-threads", &number.to_string()]);
        let process = running.server.child.id();
        // It says that it listens when it has its sockets; the threads come then.
        wait_until("the threads do not come", || threads(process).len() >= number);
        let names: Vec<_> = threads(process).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, (0..number).map(|nth| format!("wire-{nth}")).collect::<Vec<_>>());
        assert_eq!(listening(running.address), number);

        // The system gives each client to one of the sockets. One that nobody looks after would not answer its own.
        let clients: Vec<_> = (0..256).map(|_| TcpStream::connect(running.address).unwrap()).collect();
        let ask_all = || {
            for mut client in &clients {
                client.set_read_timeout(Some(PATIENCE)).unwrap();
                client.write_all(format!("{}\r\n", head("GET", "/v1/auth/nginx", &[])).as_bytes()).unwrap();
                assert_eq!(first_line(client), "HTTP/1.1 403 Forbidden");
            }
        };
        ask_all();
        let before = threads(process);
        ask_all();
        let all_waited = || before.iter().zip(threads(process)).all(|((_, before), (_, after))| after > *before);
        wait_until("one of the threads has no clients", all_waited);
    }
}

/// Reads a reply to its end; gives its first line.
fn first_line(mut client: &TcpStream) -> String {
    let mut read = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let count = client.read(&mut buffer).unwrap();
        assert!(count > 0, "closed");
        read.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8(read.clone()).unwrap();
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && let Some(length) = head.lines().find_map(|line| line.strip_prefix("content-length: "))
            && body.len() == length.parse::<usize>().unwrap()
        {
            return head.lines().next().unwrap().to_owned();
        }
    }
}
