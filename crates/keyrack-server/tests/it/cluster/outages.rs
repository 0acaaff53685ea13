//! Nodes whose way to the database is cut: what they answer from memory, and what becomes of revocations meanwhile.

use std::thread;
use std::time::{Duration, Instant};

use keyrack::{ApiKey, KeyKind};
use serde_json::{Value, json};

use super::history::Outcome;
use super::nodes::{KEYS, Made, Node};
use super::{behind_proxies, behind_proxies_to};
use crate::database::{Place, new_schema};
use crate::strace::Tracer;

impl Node {
    /// What a program hears that asks whether it is ready.
    fn readiness(&self) -> (u16, Value) {
        let asked = Instant::now();
        let reply = self.ask("GET", "/readyz", "", None, &[]).unwrap();
        assert!(asked.elapsed() < Duration::from_secs(1), "whoever asks is impatient: {:?}", asked.elapsed());
        (reply.status, reply.json())
    }
}

fn becomes_known_to(node: &Node, key: &Made) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while node.verify(&key.value, key.seq) != Outcome::Denied {
        assert!(Instant::now() < deadline, "it does not become known to the others");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_tenant_cannot_revoke_a_system_key_while_the_database_is_away() {
    let (cluster, proxies) = behind_proxies(1, "--stale-limit=5m");
    let node = &cluster.nodes[0];
    let path = "/api/operator/projects/1/system-keys";
    let made = node.ask("POST", path, &cluster.operator, Some(&json!({"name": "relay"})), &[]).unwrap().json();
    let (id, value) = (made["id"].as_i64().unwrap(), made["value"].as_str().unwrap());
    proxies[0].cut();
    for (path, key) in
        [(format!("{KEYS}/{id}"), &cluster.admin), (format!("/api/admin/projects/1/keys/{id}"), &cluster.owner)]
    {
        let refused = node.ask("DELETE", &path, key, None, &[]).unwrap();
        assert_eq!(
            (refused.status, refused.json()["code"].as_str()),
            (409, Some("state_conflict")),
            "{}",
            refused.text
        );
        assert_eq!(node.verify(value, 0), Outcome::Accepted, "{path}");
    }
}

#[test]
fn a_death_that_cannot_be_delivered_holds_up_no_other() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let schema = runtime.block_on(new_schema());
    let (cluster, proxies) = behind_proxies_to(&schema, 2, "--stale-limit=5m");
    let other = &cluster.nodes[1];
    let made: Vec<_> = (0..2).map(|number| cluster.create(0, &format!("key-{number}")).unwrap()).collect();
    proxies[0].cut();
    for key in &made {
        assert_eq!(cluster.revoke(0, key.id, "wait=0").unwrap().status, 202);
    }
    runtime.block_on(async {
        let mut beside = Place::Schema(schema).beside().await;
        beside.run(format!("UPDATE api_keys SET name = 'damaged' WHERE id = {}", made[0].id)).await;
    });
    proxies[0].mend();
    becomes_known_to(other, &made[1]);
}

#[test]
fn without_the_database_keys_pass_until_the_stale_limit_and_then_nothing_does() {
    let (cluster, proxies) = behind_proxies(1, "--stale-limit=4s");
    let node = &cluster.nodes[0];
    let made = cluster.create(0, "key").unwrap();
    proxies[0].cut();
    let cut = Instant::now();
    let mut was_stale = false;
    let door = node.url(true).unwrap();
    assert_eq!(node.readiness().1["store"], "unavailable");
    let stranger = ApiKey::generate(KeyKind::Secret, &[7; ApiKey::RANDOM_BYTES]);
    loop {
        let (is_ready, asked_at) = (node.readiness().0, cut.elapsed());
        if asked_at < Duration::from_millis(3_000) {
            assert_eq!(is_ready, 200, "it answers, so nobody should take it out: {asked_at:?}");
        }
        let request = ureq::http::Request::builder().method("GET").uri(format!("{door}/v1/auth/nginx"));
        let request = request.header("Authorization", format!("Bearer {}", made.value));
        let request = request.header("X-Original-Method", "GET").header("X-Original-URI", "/x").body(String::new());
        let asked = Instant::now();
        let reply = node.send(request.unwrap()).unwrap();
        let took = cut.elapsed();
        match reply.status {
            200 => {
                assert!(asked.duration_since(cut) < Duration::from_millis(4_100), "answered after {took:?}");
                let is_stale = reply.headers.contains_key("x-keyrack-stale");
                if is_stale && !was_stale {
                    assert!(node.metrics().contains("\nkeyrack_lease{state=\"stale\"} 1\n"), "{}", node.metrics());
                }
                if is_stale && !was_stale {
                    // It may have been made since. What cannot be one is told from it.
                    assert_eq!(node.verify(stranger.expose(), 0), Outcome::CannotTell);
                    let asked = node.ask("GET", KEYS, stranger.expose(), None, &[]).unwrap();
                    assert_eq!(asked.status, 503, "{}", asked.text);
                    assert_eq!(node.verify("sk_nonsense", 0), Outcome::Denied);
                    let list = cluster.list(0).unwrap();
                    assert_eq!(
                        (list.status, &list.json()["results"][0]["lease"]),
                        (200, &json!("stale")),
                        "{}",
                        list.text
                    );
                }
                was_stale |= is_stale;
                assert!(took < Duration::from_millis(2_500) || was_stale, "it does not say that it is stale");
            }
            _ => {
                assert_eq!(reply.headers["x-keyrack-reason"], "UNAVAILABLE", "never as a bad key");
                assert!(took > Duration::from_millis(3_700), "given up after {took:?}");
                break;
            }
        }
        thread::sleep(Duration::from_millis(20));
    }
    assert!(was_stale);
    assert_eq!(node.readiness().0, 503, "it answers nothing any more");
    assert!(node.metrics().contains("\nkeyrack_lease{state=\"expired\"} 1\n"), "{}", node.metrics());
    let refused = node.ask("POST", KEYS, &cluster.admin, Some(&json!({"name": "x"})), &[]).unwrap();
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert!(refused.headers.contains_key("retry-after"));
    proxies[0].mend();
    let deadline = Instant::now() + Duration::from_secs(20);
    while node.verify(&made.value, made.seq) != Outcome::Accepted {
        assert!(Instant::now() < deadline, "it does not find its way back");
        thread::sleep(Duration::from_millis(50));
    }
    let ready = node.readiness();
    assert_eq!((ready.0, &ready.1["store"]), (200, &json!("ok")));
}

#[test]
fn a_revocation_without_the_database_is_kept_and_committed_when_it_is_back() {
    let (cluster, proxies) = behind_proxies(2, "--stale-limit=5m");
    let (cut, other) = (&cluster.nodes[0], &cluster.nodes[1]);
    let made: Vec<_> = (0..3).map(|number| cluster.create(0, &format!("key-{number}")).unwrap()).collect();
    proxies[0].cut();
    let revoked = cluster.revoke(0, made[0].id, "wait=1").unwrap();
    assert_eq!(revoked.status, 202, "{}", revoked.text);
    let revoked = revoked.json();
    assert_eq!((&revoked["id"], &revoked["durable"]), (&json!(made[0].id), &json!(false)));
    assert_eq!((&revoked["effective"], revoked["pending"].as_array().unwrap().len()), (&json!("partial"), 1));
    assert!(revoked["pending"][0].get("until").is_none(), "the other goes on as long as it does not know: {revoked}");
    assert_eq!(cut.verify(&made[0].value, made[0].seq), Outcome::Denied, "it is dead here at once");
    assert_eq!(cut.verify(&made[1].value, made[1].seq), Outcome::Accepted, "the others live");
    assert_eq!(cluster.revoke(0, made[0].id, "wait=1").unwrap().status, 202, "whoever asks again is told the same");
    let unknown = cluster.revoke(0, 999, "wait=1").unwrap();
    assert_eq!(unknown.status, 503, "the database may know it: {}", unknown.text);
    let refused = cut.ask("POST", KEYS, &cluster.admin, Some(&json!({"name": "x"})), &[]).unwrap();
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert!([unknown, refused].iter().all(|refused| refused.headers.contains_key("retry-after")));
    assert!(cut.metrics().contains("\nkeyrack_journal_revocations 1\n"), "{}", cut.metrics());

    // Killed before it could tell anybody.
    cut.kill();
    proxies[0].mend();
    cut.start();
    assert_eq!(cut.verify(&made[0].value, made[0].seq), Outcome::Denied, "it is still dead when the node is back");
    becomes_known_to(other, &made[0]);
    let events =
        other.ask("GET", "/api/client/audit-events?action=key.revoke", &cluster.admin, None, &[]).unwrap().json();
    assert_eq!(events["results"][0]["target"]["id"], made[0].id);
    assert_eq!(events["results"][0]["actor"]["kind"], "secret_key", "by who asked for it");
}

#[test]
fn a_revocation_that_only_one_node_can_know_of_is_never_said_to_be_everywhere() {
    let (cluster, proxies) = behind_proxies(1, "--stale-limit=5m");
    let made = cluster.create(0, "key").unwrap();
    proxies[0].cut();
    let revoked = cluster.revoke(0, made.id, "wait=1").unwrap();
    assert_eq!((revoked.status, &revoked.json()["effective"]), (202, &json!("partial")), "{}", revoked.text);
}

/// However much is asked of a node whose database is away, it does not ask that more often.
#[test]
fn nobody_reconnects_in_a_storm() {
    let (cluster, proxies) = behind_proxies(1, "--stale-limit=5m");
    let made = cluster.create(0, "key").unwrap();
    proxies[0].cut();
    let (before, began) = (proxies[0].attempts(), Instant::now());
    thread::scope(|scope| {
        for client in 0..8 {
            let cluster = &cluster;
            scope.spawn(move || {
                while began.elapsed() < Duration::from_secs(5) {
                    assert!(cluster.create(0, &format!("key-{client}")).is_none());
                    thread::sleep(Duration::from_millis(2));
                }
            });
        }
    });
    // Those of the first second, and then one each half second at the most.
    let attempts = proxies[0].attempts() - before;
    assert!((4..=20).contains(&attempts), "{attempts} in 5 s");
    proxies[0].mend();
    let deadline = Instant::now() + Duration::from_secs(10);
    while cluster.create(0, "back").is_none() {
        assert!(Instant::now() < deadline, "it does not find its way back");
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(cluster.nodes[0].verify(&made.value, made.seq), Outcome::Accepted);
}

/// What is acknowledged is on the disk: after a power cut the key would live again.
#[test]
fn a_revocation_without_the_database_is_synced_before_it_is_answered() {
    let (cluster, proxies) = behind_proxies(1, "--stale-limit=5m");
    let made = cluster.create(0, "key").unwrap();
    proxies[0].cut();
    let calls = tempfile::NamedTempFile::new().unwrap();
    let trace = ["-y", "-e", "trace=fsync,fdatasync,write,writev,sendto"];
    let mut strace = std::process::Command::new("strace");
    strace.env("LC_ALL", "C");
    let tracer = Tracer::attach(strace, cluster.nodes[0].process(), calls.path().to_str().unwrap(), &trace);
    assert_eq!(cluster.revoke(0, made.id, "wait=0").unwrap().status, 202);
    drop(tracer);
    let calls = std::fs::read_to_string(calls.path()).unwrap();
    let at = |what: &str, place: &str| calls.lines().position(|line| line.contains(what) && line.contains(place));
    let dir = format!("{}>", cluster.nodes[0].dir.path().canonicalize().unwrap().display());
    let order =
        [at("write(", "/revocations>"), at("sync(", "/revocations>"), at("sync(", &dir), at("", "HTTP/1.1 202")];
    assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{order:?} in {calls}");
}
