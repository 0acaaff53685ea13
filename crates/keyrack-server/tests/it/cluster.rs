//! Several real servers on one PostgreSQL, while they are killed, stopped and cut off.

mod demonstration;
pub(crate) mod history;
mod leases;
pub(crate) mod nodes;
mod outages;
pub(crate) mod proxy;
pub(crate) mod run;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use self::history::{Asked, Outcome, check};
use self::nodes::{Clock, Cluster, KEYS};
use self::proxy::Proxy;
use self::run::Run;
use crate::database;
use crate::server::{Reply, keyrack};

/// Nodes of one store, and for each the way to it, which can be cut.
fn behind_proxies(nodes: usize, stale_limit: &'static str) -> (Cluster, Vec<Proxy>) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    behind_proxies_to(&runtime.block_on(database::new_schema()), nodes, stale_limit)
}

/// The same in a schema that is known.
fn behind_proxies_to(schema: &str, nodes: usize, stale_limit: &'static str) -> (Cluster, Vec<Proxy>) {
    let (server, rest) = database::parts(schema);
    let proxies: Vec<_> = (0..nodes).map(|_| Proxy::to(server)).collect();
    let urls = proxies.iter().map(|proxy| format!("postgres://keyrack@{}{rest}", proxy.address));
    (Cluster::start(urls, stale_limit, Clock::Own), proxies)
}

#[test]
fn a_commit_whose_answer_is_lost_is_done_once() {
    let (cluster, proxies) = behind_proxies(2, "--stale-limit=5m");
    let named = |name: &str| {
        let path = format!("{KEYS}?q={name}");
        let count = || {
            let found = cluster.nodes[1].ask("GET", &path, &cluster.admin, None, &[]).unwrap().json();
            found["results"].as_array().unwrap().len()
        };
        // The other node hears of it in its own time.
        let deadline = Instant::now() + Duration::from_secs(2);
        while count() == 0 && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
        }
        count()
    };
    for round in 0..5 {
        let name = format!("lost-{round}");
        proxies[0].cut_at_next_commit();
        let body = json!({"name": name});
        let headers = [("Idempotency-Key", name.as_str())];
        let reply = cluster.nodes[0].ask("POST", KEYS, &cluster.admin, Some(&body), &headers).unwrap();
        assert_eq!(reply.status, 503, "{}", reply.text);
        assert!(reply.text.contains("may or may not"), "{}", reply.text);
        assert_eq!(named(&name), 1, "the database has it");
        let deadline = Instant::now() + Duration::from_secs(20);
        let made = loop {
            // On whichever node it is asked for again.
            match cluster.create(round % 2, &name) {
                Some(made) => break made,
                None => assert!(Instant::now() < deadline, "the node does not find its way back"),
            }
            thread::sleep(Duration::from_millis(100));
        };
        assert_eq!(named(&name), 1, "it is the same key");
        assert_eq!(cluster.nodes[0].verify(&made.value, made.seq), Outcome::Accepted);
    }
}

#[test]
fn changes_reach_the_others_within_the_polling_interval_when_no_notification_does() {
    let (cluster, proxies) = behind_proxies(2, "--stale-limit=5m");
    proxies.iter().for_each(Proxy::lose_notifications);
    let deadline = Instant::now() + Duration::from_secs(20);
    while cluster.create(0, "first").is_none() {
        assert!(Instant::now() < deadline, "the node does not find its way back");
        thread::sleep(Duration::from_millis(100));
    }
    let mut slowest = Duration::ZERO;
    for round in 0..12 {
        let made = cluster.create(0, &format!("key {round}")).unwrap();
        let began = Instant::now();
        while cluster.nodes[1].verify(&made.value, 0) != Outcome::Accepted {
            assert!(began.elapsed() < Duration::from_secs(1), "round {round}: it is not known to the other");
            thread::sleep(Duration::from_millis(2));
        }
        slowest = slowest.max(began.elapsed());
        let revoked = cluster.revoke(0, made.id, "wait=4").unwrap().json();
        assert_eq!(revoked["effective"], "all", "round {round}");
        assert_eq!(cluster.nodes[1].verify(&made.value, 0), Outcome::Denied, "round {round}");
    }
    assert!(slowest > Duration::from_millis(60), "it heard of every change at once: {slowest:?}");
}

// ---- everything at once --------------------------------------------------------------------------------------------

const NODES: usize = 4;
const WORKERS: usize = 3;

impl Run {
    /// One key after the other, from its making to its death.
    fn work(&self, worker: usize) {
        let mut turn = worker;
        while !self.is_over.load(Ordering::SeqCst) {
            turn += 1;
            let key = self.keys.fetch_add(1, Ordering::SeqCst);
            let (start, node) = (Instant::now(), turn % NODES);
            // Asked for again with the same Idempotency-Key, wherever.
            let made = (0..5)
                .map(|again| (node + again) % NODES)
                .find_map(|node| Some((node, self.cluster.create(node, &format!("key-{key}-"))?)));
            let Some((made_at, made)) = made else {
                self.note((Asked::Create, key, node), None, start, Outcome::Unknown);
                continue;
            };
            let made = Arc::new(made);
            self.note((Asked::Create, key, made_at), Some(made.seq), start, Outcome::Made);
            self.made.lock().unwrap().push((key, Arc::clone(&made)));
            self.verify_everywhere(key, &made, made.seq);
            // Every third lives on.
            if key.is_multiple_of(3) {
                continue;
            }
            let start = Instant::now();
            let reply = self.cluster.revoke(node, made.id, "wait=4");
            let outcome = match &reply {
                Some(reply) if reply.status == 200 && reply.json()["effective"] == "all" => Outcome::MadeEverywhere,
                // 202: kept by this node, which alone knows of it until the database is back.
                Some(reply) if matches!(reply.status, 200 | 202) => Outcome::Made,
                Some(_) | None => Outcome::Unknown,
            };
            self.note((Asked::Revoke, key, node), reply.as_ref().and_then(Reply::position), start, outcome);
            self.verify_after(key, &made, reply.as_ref());
        }
    }

    fn break_something(&self, proxies: &[Proxy], round: usize) {
        let (node, proxy) = (&self.cluster.nodes[round % NODES], &proxies[round % NODES]);
        let pause = Duration::from_millis(1_000 + 700 * (round as u64 % 4));
        match round % 6 {
            0 => {
                node.signal(Signal::STOP);
                thread::sleep(pause);
                node.signal(Signal::CONT);
            }
            1 => {
                node.kill();
                thread::sleep(pause / 4);
                node.start();
            }
            2 => {
                proxy.cut();
                thread::sleep(pause);
                proxy.mend();
            }
            3 => {
                proxy.fall_silent();
                thread::sleep(pause);
                proxy.mend();
            }
            4 => {
                // One between a commit and its answer, another in the middle of whatever is just being said.
                proxy.cut_at_next_commit();
                let other = &proxies[(round + 1) % NODES];
                for bytes in [1, 90, 1_500, 4_200] {
                    other.cut_after(bytes);
                    thread::sleep(pause / 3);
                    other.mend();
                    thread::sleep(pause / 6);
                }
            }
            _ => {
                // It stays so: the others have another time from here on.
                node.set_clock(if round % 12 == 5 { "-1d" } else { "+400d" });
                thread::sleep(pause);
            }
        }
    }
}

#[test]
fn nobody_is_let_in_wrongly_while_nodes_are_killed_stopped_cut_off_and_lose_the_time() {
    let rounds = crate::torture::number("CLUSTER_ROUNDS").map_or(12, |rounds| rounds as usize);
    break_one_thing_after_the_other(rounds, "--strict");
}

/// So short that some faults last longer than it, and others do not.
#[test]
fn nobody_is_let_in_wrongly_where_nodes_may_answer_for_a_while_without_the_database() {
    break_one_thing_after_the_other(6, "--stale-limit=3s");
}

fn break_one_thing_after_the_other(rounds: usize, stale_limit: &'static str) {
    let (cluster, proxies) = behind_proxies(NODES, stale_limit);
    let run = Arc::new(Run::of(cluster));
    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| {
            let run = Arc::clone(&run);
            thread::spawn(move || run.work(worker))
        })
        .collect();
    for round in 0..rounds {
        run.break_something(&proxies, round);
        thread::sleep(Duration::from_millis(500));
    }
    run.is_over.store(true, Ordering::SeqCst);
    workers.into_iter().for_each(|worker| worker.join().unwrap());

    // Everything is repaired: in the end every node answers, and they agree.
    run.await_fresh(0, Duration::from_secs(60)).unwrap();
    thread::sleep(Duration::from_secs(2));
    let last = Instant::now();
    let all = std::mem::take(&mut *run.made.lock().unwrap());
    all.iter().for_each(|(key, made)| run.verify_everywhere(*key, made, made.seq));
    let list = run.cluster.nodes[0].ask("GET", &format!("{KEYS}?limit=-1"), &run.cluster.admin, None, &[]);
    let list = list.unwrap().json();
    let mut made: HashMap<usize, usize> = (0..run.keys.load(Ordering::SeqCst)).map(|key| (key, 0)).collect();
    for key in list["results"].as_array().unwrap() {
        if let Some(key) = key["name"].as_str().unwrap().strip_prefix("key-") {
            *made.entry(key.trim_end_matches('-').parse().unwrap()).or_default() += 1;
        }
    }

    let events = run.events.lock().unwrap();
    let wrong = check(&events, &made, last);
    let count = |asked, outcome| events.iter().filter(|event| (event.asked, event.outcome) == (asked, outcome)).count();
    println!(
        "cluster: {} created, {} revoked everywhere, {} revoked and not proven, {} accepted, {} denied, {} could not be told",
        count(Asked::Create, Outcome::Made),
        count(Asked::Revoke, Outcome::MadeEverywhere),
        count(Asked::Revoke, Outcome::Made),
        count(Asked::Verify, Outcome::Accepted),
        count(Asked::Verify, Outcome::Denied),
        count(Asked::Verify, Outcome::CannotTell),
    );
    assert_eq!(wrong, [], "of {} events", events.len());
    assert!(proxies.iter().any(Proxy::was_cut_at_a_commit), "no answer to a commit was lost");
    assert!(count(Asked::Revoke, Outcome::MadeEverywhere) > 10, "too little was proven to show anything");
}

#[test]
fn a_node_that_hangs_in_the_middle_of_a_commit_holds_nobody_up_for_long() {
    let (cluster, proxies) = behind_proxies(2, "--stale-limit=5m");
    let made = cluster.create(1, "key").unwrap();
    proxies[0].fall_silent_at_next_commit();
    thread::scope(|scope| {
        scope.spawn(|| cluster.create(0, "hangs"));
        thread::sleep(Duration::from_millis(300));
        let start = Instant::now();
        let revoked = cluster.revoke(1, made.id, "wait=0").unwrap();
        assert_eq!(revoked.status, 200, "{}", revoked.text);
        assert!(start.elapsed() < Duration::from_secs(6), "it took {:?}", start.elapsed());
        proxies[0].mend();
    });
}

#[test]
fn a_host_that_takes_a_connection_and_answers_nothing_is_passed_over() {
    // The system takes the connection; nobody ever reads from it.
    let hung = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let schema = tokio::runtime::Runtime::new().unwrap().block_on(database::new_schema());
    let (server, rest) = database::parts(&schema);
    let dir = tempfile::tempdir().unwrap();
    let url = format!("postgres://keyrack@{},{server}{rest}", hung.local_addr().unwrap());
    let init = keyrack(dir.path()).args(["--database-url", &url, "init", "--json"]).output().unwrap();
    assert!(init.status.success(), "{}", String::from_utf8_lossy(&init.stderr));
}

// ---- TLS -----------------------------------------------------------------------------------------------------------

#[test]
fn a_connection_over_tls_needs_a_certificate_for_the_name_by_an_authority_that_is_trusted() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let place = dir.path().join("postgres");
    std::fs::create_dir(&place).unwrap();
    let run = |program: &str, args: &[&str]| {
        let output = std::process::Command::new(program).args(args).current_dir(&place).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let authority = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=authority"];
    run("openssl", &[&authority[..], &["-keyout", "ca.key", "-out", "ca.crt"]].concat());
    run("openssl", &[&authority[..], &["-keyout", "other.key", "-out", "other.crt"]].concat());
    let request = ["req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-keyout", "server.key"];
    run("openssl", &[&request[..], &["-out", "server.csr"]].concat());
    std::fs::write(place.join("names"), "subjectAltName=DNS:localhost").unwrap();
    let sign =
        ["x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2"];
    run("openssl", &[&sign[..], &["-extfile", "names", "-out", "server.crt"]].concat());

    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../nodes/postgres");
    let url = run(script, &["start", place.to_str().unwrap()]);
    let port = url.rsplit_once(':').unwrap().1.split('/').next().unwrap().to_owned();
    let outcome = |host: &str, authority: &str| {
        let data = tempfile::tempdir().unwrap();
        let file = place.join(authority);
        let url = format!("postgres://keyrack@{host}:{port}/postgres?sslmode=require&sslrootcert={}", file.display());
        let init = keyrack(data.path()).args(["--database-url", &url, "init", "--json"]).output().unwrap();
        (init.status.success(), String::from_utf8_lossy(&init.stderr).into_owned())
    };
    let (refused, why) = outcome("localhost", "other.crt");
    assert!(!refused && why.contains("certificate"), "{why}");
    let (refused, why) = outcome("127.0.0.1", "ca.crt");
    assert!(!refused && why.contains("certificate"), "the certificate is not for this name: {why}");
    let (is_set_up, why) = outcome("localhost", "ca.crt");
    assert!(is_set_up, "{why}");
    run(script, &["stop", place.to_str().unwrap()]);
}

#[test]
fn a_node_that_was_killed_is_not_waited_for_once_it_is_back() {
    let (cluster, _proxies) = behind_proxies(2, "--stale-limit=5m");
    let revoked = |name: &str| {
        let made = cluster.create(0, name).unwrap();
        cluster.revoke(0, made.id, "wait=1").unwrap().json()["effective"].as_str().unwrap().to_owned()
    };
    assert_eq!(revoked("one"), "all");
    cluster.nodes[1].kill();
    assert_eq!(revoked("two"), "partial");
    cluster.nodes[1].start();
    assert_eq!(revoked("three"), "all");
    let nodes = cluster.list(0).unwrap().json();
    assert_eq!(nodes["results"].as_array().unwrap().len(), 2, "{nodes}");
}
