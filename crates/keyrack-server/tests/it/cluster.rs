//! Several real servers on one PostgreSQL, while they are killed, stopped and cut off.

mod history;
mod proxy;

use std::collections::HashMap;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use self::history::{Asked, Event, Outcome, check};
use self::proxy::Proxy;
use crate::database;
use crate::server::{self, KEYRACK, Reply, Server, keyrack};

const KEYS: &str = "/api/client/keys";

/// Nodes of one store, each behind a way to the database that can be cut.
struct Cluster {
    nodes: Vec<Node>,
    admin: String,
    operator: String,
}

struct Node {
    dir: tempfile::TempDir,
    url: String,
    stale_limit: &'static str,
    proxy: Proxy,
    server: RwLock<Option<Server>>,
    agent: ureq::Agent,
}

impl Cluster {
    fn new(nodes: usize, stale_limit: &'static str) -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let schema = runtime.block_on(database::new_schema());
        let (server, rest) = database::parts(&schema);
        let mut all: Vec<Node> = Vec::new();
        let mut keys = None;
        for _ in 0..nodes {
            let proxy = Proxy::to(server);
            let url = format!("postgres://keyrack@{}{rest}", proxy.address);
            let dir = tempfile::tempdir().unwrap();
            if let Some(first) = all.first() {
                std::fs::copy(first.dir.path().join("root.key"), dir.path().join("root.key")).unwrap();
            }
            let config = ureq::Agent::config_builder().http_status_as_error(false);
            let agent = config.timeout_global(Some(Duration::from_secs(8))).build().into();
            let node = Node { dir, url, stale_limit, proxy, server: RwLock::default(), agent };
            node.start();
            keys.get_or_insert_with(|| node.server.read().unwrap().as_ref().unwrap().greeting.clone());
            all.push(node);
        }
        let greeting = keys.unwrap();
        let key = |prefix: &str| greeting.split_whitespace().find(|word| word.starts_with(prefix)).unwrap().to_owned();
        Self { nodes: all, admin: key("sk_"), operator: key("op_") }
    }

    fn revoke(&self, node: usize, id: i64, patience: &str) -> Option<Reply> {
        self.nodes[node].ask("DELETE", &format!("{KEYS}/{id}"), &self.admin, None, &[("Prefer", patience)])
    }

    /// Creates a key on a node; `None` if it is not known whether there is one.
    fn create(&self, node: usize, name: &str) -> Option<Made> {
        let headers = [("Idempotency-Key", name)];
        let reply = self.nodes[node].ask("POST", KEYS, &self.admin, Some(&json!({"name": name})), &headers)?;
        if reply.status != 200 {
            return None;
        }
        let seq = reply.headers["x-keyrack-seq"].to_str().unwrap().parse().unwrap();
        let json = reply.json();
        Some(Made { id: json["id"].as_i64().unwrap(), value: json["value"].as_str().unwrap().to_owned(), seq })
    }
}

struct Made {
    id: i64,
    value: String,
    seq: i64,
}

impl Node {
    fn start(&self) {
        let mut command = keyrack(self.dir.path());
        command.args(["--database-url", &self.url, self.stale_limit]);
        let server = Server::try_start(command.arg("serve").stderr(Stdio::null())).expect("a node did not start");
        *self.server.write().unwrap() = Some(server);
    }

    fn kill(&self) {
        // Dropped: killed without a chance to say so.
        drop(self.server.write().unwrap().take());
    }

    fn signal(&self, signal: Signal) {
        if let Some(server) = self.server.read().unwrap().as_ref() {
            kill_process(Pid::from_child(&server.child), signal).unwrap();
        }
    }

    fn url(&self, is_door: bool) -> Option<String> {
        let server = self.server.read().unwrap();
        let server = server.as_ref()?;
        if !is_door {
            return Some(server.url.clone());
        }
        let line = server.greeting.lines().find_map(|line| line.strip_prefix("Verifying at "));
        Some(line.unwrap().trim().to_owned())
    }

    fn send(&self, request: ureq::http::Request<String>) -> Option<Reply> {
        server::reply_of(self.agent.run(request)).ok()
    }

    /// Asks the management API; `None` if no whole reply came back.
    fn ask(
        &self,
        method: &str,
        path: &str,
        key: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Option<Reply> {
        let url = format!("{}{path}", self.url(false)?);
        server::send(&self.agent, (method, &url), key, body, headers).ok()
    }

    /// Verifies a key; it must have been known at `seq`.
    fn verify(&self, key: &str, seq: i64) -> Outcome {
        let Some(url) = self.url(true) else { return Outcome::CannotTell };
        let body = json!({"key": key, "min_seq": seq}).to_string();
        let request = ureq::http::Request::builder().method("POST").uri(format!("{url}/v1/verify")).body(body);
        let Some(reply) = self.send(request.unwrap()) else { return Outcome::CannotTell };
        match reply.status {
            200 => Outcome::Accepted,
            401 => Outcome::Denied,
            503 => Outcome::CannotTell,
            other => panic!("a verification was answered with {other}: {}", reply.text),
        }
    }
}

#[test]
fn a_commit_whose_answer_is_lost_is_done_once() {
    let cluster = Cluster::new(2, "--stale-limit=5m");
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
        cluster.nodes[0].proxy.cut_at_next_commit();
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
fn without_the_database_keys_pass_until_the_stale_limit_and_then_nothing_does() {
    let cluster = Cluster::new(1, "--stale-limit=4s");
    let node = &cluster.nodes[0];
    let made = cluster.create(0, "key").unwrap();
    node.proxy.cut();
    let cut = Instant::now();
    let mut was_stale = false;
    let door = node.url(true).unwrap();
    loop {
        let request = ureq::http::Request::builder().method("GET").uri(format!("{door}/v1/auth/nginx"));
        let request = request.header("Authorization", format!("Bearer {}", made.value));
        let request = request.header("X-Original-Method", "GET").header("X-Original-URI", "/x").body(String::new());
        let asked = Instant::now();
        let reply = node.send(request.unwrap()).unwrap();
        let took = cut.elapsed();
        match reply.status {
            200 => {
                assert!(asked.duration_since(cut) < Duration::from_millis(4_100), "answered after {took:?}");
                was_stale |= reply.headers.contains_key("x-keyrack-stale");
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
    let refused = node.ask("POST", KEYS, &cluster.admin, Some(&json!({"name": "x"})), &[]).unwrap();
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert!(refused.headers.contains_key("retry-after"));
    node.proxy.mend();
    let deadline = Instant::now() + Duration::from_secs(20);
    while node.verify(&made.value, made.seq) != Outcome::Accepted {
        assert!(Instant::now() < deadline, "it does not find its way back");
        thread::sleep(Duration::from_millis(50));
    }
}

// ---- everything at once --------------------------------------------------------------------------------------------

const NODES: usize = 4;
const WORKERS: usize = 3;
/// Shorter than the faults, so that leases end and nodes come back.
const STALE_LIMIT: &str = "--strict";

struct Run {
    cluster: Cluster,
    events: Mutex<Vec<Event>>,
    made: Mutex<Vec<(usize, Arc<Made>)>>,
    keys: AtomicUsize,
    is_over: AtomicBool,
}

impl Run {
    fn note(&self, (asked, key, node): (Asked, usize, usize), start: Instant, outcome: Outcome) -> Outcome {
        self.events.lock().unwrap().push(Event { asked, key, node, start, end: Instant::now(), outcome });
        outcome
    }

    fn verify_everywhere(&self, key: usize, made: &Made) {
        for (at, node) in self.cluster.nodes.iter().enumerate() {
            let start = Instant::now();
            self.note((Asked::Verify, key, at), start, node.verify(&made.value, made.seq));
        }
    }

    /// One key after the other, from its making to its death.
    fn work(&self, worker: usize) {
        let mut turn = worker;
        while !self.is_over.load(Ordering::SeqCst) {
            turn += 1;
            let key = self.keys.fetch_add(1, Ordering::SeqCst);
            let (start, node) = (Instant::now(), turn % NODES);
            // Asked for again with the same Idempotency-Key, wherever.
            let made = (0..5).find_map(|again| self.cluster.create((node + again) % NODES, &format!("key-{key}-")));
            let outcome = if made.is_some() { Outcome::Made } else { Outcome::Unknown };
            self.note((Asked::Create, key, node), start, outcome);
            let Some(made) = made.map(Arc::new) else { continue };
            self.made.lock().unwrap().push((key, Arc::clone(&made)));
            self.verify_everywhere(key, &made);
            // Every third lives on.
            if key.is_multiple_of(3) {
                continue;
            }
            let start = Instant::now();
            let reply = self.cluster.revoke(node, made.id, "wait=4");
            let outcome = match reply {
                Some(reply) if reply.status == 200 && reply.json()["effective"] == "all" => Outcome::MadeEverywhere,
                Some(reply) if reply.status == 200 => Outcome::Made,
                Some(_) | None => Outcome::Unknown,
            };
            self.note((Asked::Revoke, key, node), start, outcome);
            self.verify_everywhere(key, &made);
        }
    }

    fn break_something(&self, round: usize) {
        let node = &self.cluster.nodes[round % NODES];
        let pause = Duration::from_millis(1_000 + 700 * (round as u64 % 4));
        match round % 3 {
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
            _ => {
                node.proxy.cut();
                thread::sleep(pause);
                node.proxy.mend();
            }
        }
    }
}

#[test]
fn nobody_is_let_in_wrongly_while_nodes_are_killed_stopped_and_cut_off() {
    let rounds = crate::torture::number("CLUSTER_ROUNDS").map_or(9, |rounds| rounds as usize);
    let run = Arc::new(Run {
        cluster: Cluster::new(NODES, STALE_LIMIT),
        events: Mutex::default(),
        made: Mutex::default(),
        keys: AtomicUsize::new(0),
        is_over: AtomicBool::new(false),
    });
    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| {
            let run = Arc::clone(&run);
            thread::spawn(move || run.work(worker))
        })
        .collect();
    for round in 0..rounds {
        run.break_something(round);
        thread::sleep(Duration::from_millis(500));
    }
    run.is_over.store(true, Ordering::SeqCst);
    workers.into_iter().for_each(|worker| worker.join().unwrap());

    // Everything is repaired: in the end every node answers, and they agree.
    let operator = run.cluster.operator.as_str();
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let nodes = run.cluster.nodes[0].ask("GET", "/api/operator/nodes", operator, None, &[]).map(|reply| reply.text);
        if nodes.as_ref().is_some_and(|nodes| nodes.matches(r#""lease":"fresh""#).count() == NODES) {
            break;
        }
        assert!(Instant::now() < deadline, "the nodes do not find their way back: {nodes:?}");
        thread::sleep(Duration::from_millis(100));
    }
    thread::sleep(Duration::from_secs(2));
    let last = Instant::now();
    let all = std::mem::take(&mut *run.made.lock().unwrap());
    all.iter().for_each(|(key, made)| run.verify_everywhere(*key, made));
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
    assert!(count(Asked::Revoke, Outcome::MadeEverywhere) > 20, "too little was proven to show anything");
}

// ---- without the database ------------------------------------------------------------------------------------------

#[test]
fn a_revocation_without_the_database_is_kept_and_committed_when_it_is_back() {
    let cluster = Cluster::new(2, "--stale-limit=5m");
    let (cut, other) = (&cluster.nodes[0], &cluster.nodes[1]);
    let made: Vec<_> = (0..3).map(|number| cluster.create(0, &format!("key-{number}")).unwrap()).collect();
    cut.proxy.cut();
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

    // Killed before it could tell anybody.
    cut.kill();
    cut.proxy.mend();
    cut.start();
    assert_eq!(cut.verify(&made[0].value, made[0].seq), Outcome::Denied, "it is still dead when the node is back");
    let deadline = Instant::now() + Duration::from_secs(10);
    while other.verify(&made[0].value, made[0].seq) != Outcome::Denied {
        assert!(Instant::now() < deadline, "it does not become known to the others");
        thread::sleep(Duration::from_millis(20));
    }
    let events =
        other.ask("GET", "/api/client/audit-events?action=key.revoke", &cluster.admin, None, &[]).unwrap().json();
    assert_eq!(events["results"][0]["target"]["id"], made[0].id);
    assert_eq!(events["results"][0]["actor"]["kind"], "secret_key", "by who asked for it");
}

#[test]
fn a_revocation_that_only_one_node_can_know_of_is_never_said_to_be_everywhere() {
    let cluster = Cluster::new(1, "--stale-limit=5m");
    let made = cluster.create(0, "key").unwrap();
    cluster.nodes[0].proxy.cut();
    let revoked = cluster.revoke(0, made.id, "wait=1").unwrap();
    assert_eq!((revoked.status, &revoked.json()["effective"]), (202, &json!("partial")), "{}", revoked.text);
}

#[test]
fn the_demonstration_shows_a_death_everywhere_and_life_without_the_database() {
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../../nodes/demo");
    let port = 30_000 + std::process::id() % 2_000 * 8;
    let shown =
        std::process::Command::new(demo).args([KEYRACK, "--once"]).env("PORT", port.to_string()).output().unwrap();
    let (text, errors) = (String::from_utf8_lossy(&shown.stdout), String::from_utf8_lossy(&shown.stderr));
    assert!(shown.status.success(), "{text}{errors}");
    let said = |word: &str| text.matches(word).count();
    assert_eq!((said("\"VALID\""), said("\"NOT_FOUND\""), said("\"effective\":\"all\"")), (6, 3, 1), "{text}");
    assert!(text.contains("x-keyrack-stale: "), "{text}");
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
    let cluster = Cluster::new(2, "--stale-limit=5m");
    let revoked = |name: &str| {
        let made = cluster.create(0, name).unwrap();
        cluster.revoke(0, made.id, "wait=1").unwrap().json()["effective"].as_str().unwrap().to_owned()
    };
    assert_eq!(revoked("one"), "all");
    cluster.nodes[1].kill();
    assert_eq!(revoked("two"), "partial");
    cluster.nodes[1].start();
    assert_eq!(revoked("three"), "all");
    let nodes = cluster.nodes[0].ask("GET", "/api/operator/nodes", &cluster.operator, None, &[]).unwrap().json();
    assert_eq!(nodes["results"].as_array().unwrap().len(), 2, "{nodes}");
}
