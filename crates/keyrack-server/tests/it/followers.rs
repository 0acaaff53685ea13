//! Services that verify in their own process: `keyrack::remote` against the real server.

mod balancer;
#[path = "../../../keyrack/examples/embedded.rs"]
#[expect(dead_code, reason = "a program of its own, whose `main` is not called here")]
mod example;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use keyrack::remote::{Follower, Remote, RemoteError};
use keyrack::{ApiKey, Ask, AskedRequest, KeyId, VerifyError, system_clock};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::app::TestApp;
use crate::cluster::proxy::Proxy;
use crate::database::new_schema;
use crate::server::{KEYRACK, Reply, Server, free_port, plenty_of_calls};

const KEYS: &str = "/api/client/keys";
const FOLLOWER_KEYS: &str = "/api/operator/follower-keys";
/// So many followers with one key are told everything at a time.
const SNAPSHOTS_AT_A_TIME: usize = 16;

/// A server at an address of its own, so that it can come back there.
struct Installation {
    dir: tempfile::TempDir,
    listen: String,
    database: Option<String>,
    stale_limit: &'static str,
    server: Option<Server>,
    admin: String,
    operator: String,
}

fn free_address() -> String {
    format!("127.0.0.1:{}", free_port())
}

impl Installation {
    fn new(database: Option<String>, root_key: Option<&Path>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        if let Some(root_key) = root_key {
            std::fs::copy(root_key.join("root.key"), dir.path().join("root.key")).unwrap();
        }
        let (admin, operator) = (String::new(), String::new());
        let mut new = Self { dir, listen: free_address(), database, stale_limit: "5m", server: None, admin, operator };
        new.start();
        let greeting = new.server.as_ref().unwrap().greeting.clone();
        let key = |prefix| greeting.split_whitespace().find(|word: &&str| word.starts_with(prefix)).unwrap_or_default();
        (new.admin, new.operator) = (key("sk_").to_owned(), key("op_").to_owned());
        new
    }

    fn start(&mut self) {
        let mut command = Command::new(KEYRACK);
        command.env_clear().envs(plenty_of_calls()).arg("serve").arg("--data-dir").arg(self.dir.path());
        command.args(["--listen", &self.listen, "--verify-listen", "127.0.0.1:0", "--stale-limit", self.stale_limit]);
        command.args(self.database.iter().flat_map(|url| ["--database-url", url])).stderr(Stdio::null());
        self.server = Some(Server::try_start(&mut command).expect("the server did not start"));
    }

    fn call(&self, method: &str, path: &str, key: &str, body: Option<&Value>) -> Reply {
        self.server.as_ref().unwrap().send(method, path, key, body, &[("Prefer", "wait=2")]).unwrap()
    }

    fn create(&self, body: &Value) -> (i64, String) {
        let made = self.call("POST", KEYS, &self.admin, Some(body)).json();
        (made["id"].as_i64().unwrap(), made["value"].as_str().unwrap().to_owned())
    }

    fn follower_key(&self) -> (i64, String) {
        let made = self.call("POST", FOLLOWER_KEYS, &self.operator, Some(&json!({"name": "service"}))).json();
        (made["id"].as_i64().unwrap(), made["value"].as_str().unwrap().to_owned())
    }

    fn follow(&self, key: &str) -> Remote {
        Remote::new(&format!("http://{}", self.listen), ApiKey::parse(key.as_bytes()).unwrap())
    }

    fn followers(&self) -> Vec<Value> {
        let listed = self.call("GET", "/api/operator/nodes", &self.operator, None).json();
        let nodes = listed["results"].as_array().unwrap().iter();
        nodes.filter(|node| node["id"].as_str().unwrap().starts_with("follower_")).cloned().collect()
    }
}

/// What a follower says of a key: whether it passes, `None` if it cannot tell.
fn passes(follower: &Follower, key: &str, min_seq: i64) -> Option<bool> {
    asked(follower, key, min_seq, b"GET", b"/things")
}

fn asked(follower: &Follower, key: &str, min_seq: i64, method: &[u8], target: &[u8]) -> Option<bool> {
    let request = Some(AskedRequest { method, target, policy: None });
    let ask =
        Ask { key: key.as_bytes(), request, project: None, organization: None, permission: None, cost: 1, min_seq };
    match follower.verifier().check(&ask, system_clock()).outcome {
        Ok(_) => Some(true),
        Err(VerifyError::Denied { .. }) => Some(false),
        Err(VerifyError::Unavailable(_)) => None,
    }
}

/// Waits until something holds; says whether it came to that.
fn soon(mut holds: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(10) {
        if holds() {
            return true;
        }
        thread::sleep(Duration::from_millis(10));
    }
    false
}

fn everything_reaches_a_follower_of(server: &Installation, writer: &Installation) {
    let (_, early) = writer.create(
        &json!({"name": "early", "permissions": ["a:b"], "limits": [{"name": "few", "limit": 1, "period": "day"}]}),
    );
    let (_, follower_key) = writer.follower_key();
    assert!(soon(|| server.follow(&follower_key).start().is_ok()), "the server has heard of the key");
    let follower = server.follow(&follower_key).start().unwrap();
    assert_eq!(follower.trouble(), None);
    assert_eq!(passes(&follower, &early, 0), Some(true));
    assert_eq!(passes(&follower, &early, 0), Some(false), "its quota is used up, here");
    assert_eq!(passes(&follower, &writer.operator, 0), Some(false));

    for round in 0..20 {
        let made = writer.call("POST", KEYS, &writer.admin, Some(&json!({"name": "key"})));
        let seq = made.headers["x-keyrack-seq"].to_str().unwrap().parse().unwrap();
        let (id, value) = (made.json()["id"].as_i64().unwrap(), made.json()["value"].as_str().unwrap().to_owned());
        assert!(soon(|| passes(&follower, &value, seq) == Some(true)), "{round}");
        let revoked = writer.call("DELETE", &format!("{KEYS}/{id}"), &writer.admin, None).json();
        assert_eq!(revoked["effective"], "all", "{revoked}");
        assert_eq!(passes(&follower, &value, 0), Some(false), "{round}: dead when that was said");
    }

    let (_, publishable) = writer.create(&json!({"name": "web", "scope": "public"}));
    let rule = json!({"methods": ["POST"], "path": "/events", "role": "support", "public": true});
    let policy = json!({"policies": [{"name": "default", "read": "support", "write": "editor", "rules": [rule]}]});
    assert_eq!(writer.call("PUT", "/api/operator/policy", &writer.operator, Some(&policy)).json()["effective"], "all");
    let (_, later) = writer.create(&json!({"name": "web", "scope": "public"}));
    assert!(soon(|| asked(&follower, &later, 0, b"POST", b"/events") == Some(true)));
    assert_eq!(asked(&follower, &publishable, 0, b"POST", b"/events"), Some(false), "its reach is frozen");

    let suspended = writer.call("POST", "/api/operator/organizations/1/suspend", &writer.operator, Some(&json!({})));
    assert_eq!(suspended.json()["effective"], "all", "{}", suspended.text);
    assert_eq!(asked(&follower, &later, 0, b"POST", b"/events"), Some(false));
    let latecomer = server.follow(&follower_key).start().unwrap();
    assert_eq!(asked(&latecomer, &later, 0, b"POST", b"/events"), Some(false), "also for one that comes now");
    writer.call("POST", "/api/operator/organizations/1/resume", &writer.operator, Some(&json!({})));
    assert!(soon(|| asked(&follower, &later, 0, b"POST", b"/events") == Some(true)));
    assert!(soon(|| asked(&latecomer, &later, 0, b"POST", b"/events") == Some(true)));

    assert!(soon(|| writer.followers().len() == 2), "{:?}", writer.followers());
    assert!(writer.followers().iter().all(|node| node["lease"] == "fresh"), "{:?}", writer.followers());
    let verifier = follower.verifier();
    drop((follower, latecomer));
    assert!(verifier.index().is_fit(system_clock()).is_err(), "nobody follows for it any more");
    assert_eq!(writer.followers(), [] as [Value; 0]);
}

#[test]
fn a_follower_of_one_server_knows_what_that_knows() {
    let server = Installation::new(None, None);
    everything_reaches_a_follower_of(&server, &server);
}

#[test]
fn a_follower_of_one_node_knows_what_another_does() {
    let schema = tokio::runtime::Runtime::new().unwrap().block_on(new_schema());
    let writer = Installation::new(Some(schema.clone()), None);
    let server = Installation::new(Some(schema), Some(writer.dir.path()));
    everything_reaches_a_follower_of(&server, &writer);
}

#[test]
fn a_follower_that_says_nothing_is_named_until_its_lease_is_over() {
    let mut server = Installation::new(None, None);
    server.stale_limit = "4s";
    server.server = None;
    server.start();
    let (_, follower_key) = server.follower_key();
    let (id, _) = server.create(&json!({"name": "key"}));
    let first = server.call("GET", "/api/follower/snapshot", &follower_key, None).text;
    let begin: Value = serde_json::from_str(first.lines().next().unwrap()).unwrap();
    let asked = std::cell::Cell::new(0);
    let ask = |follower: &str, cursor: &Value| {
        asked.set(asked.get() + 1);
        let ask =
            json!({"follower": follower, "asked": asked.get(), "cursor": cursor, "stale_ms": 600_000, "version": "0"});
        server.call("POST", "/api/follower/news", &follower_key, Some(&ask))
    };
    assert_eq!(ask("abcdefgh", &begin["cursor"]).json()["lease"], Value::Null, "the first lists it");
    let told = ask("abcdefgh", &begin["cursor"]).json();
    assert!(told["lease"]["trusted"].as_u64().unwrap() <= 4_000, "no longer than the server allows: {told}");
    asked.set(asked.get() - 1);
    assert_eq!(ask("abcdefgh", &begin["cursor"]).json()["lease"], Value::Null, "an old question is no sign of life");
    let began = Instant::now();
    let revoked = server.call("DELETE", &format!("{KEYS}/{id}"), &server.admin, None).json();
    assert_eq!(revoked["effective"], "partial", "{revoked}");
    let named = revoked["pending"][0]["node"].as_str().unwrap();
    assert!(named.starts_with("follower_") && named.ends_with("_abcdefgh"), "{revoked}");
    assert!(soon(|| server.followers().is_empty()), "it is struck off");
    assert!(began.elapsed() > Duration::from_millis(4_000 - 300), "not while it may answer: {:?}", began.elapsed());

    // Names that could be another's, and what is no cursor.
    for name in ["", "ABCDEFGH", "abcdefgh2", "node_abc", "../../.."] {
        assert_eq!(ask(name, &begin["cursor"]).status, 400, "{name}");
    }
    for cursor in ["", "x", "node_x.1.2.3", "node_x.1.2", "....", "node_x.1.2.-3"] {
        assert_eq!(ask("abcdefgh", &json!(cursor)).json()["cursor"], Value::Null, "{cursor}");
    }
    assert_eq!(server.followers(), [] as [Value; 0], "who cannot be told anything is not listed");
}

#[test]
fn a_follower_outlives_its_server_for_as_long_as_it_may_and_finds_it_again() {
    let mut server = Installation::new(None, None);
    let (_, follower_key) = server.follower_key();
    let (_, value) = server.create(&json!({"name": "key"}));
    let (doomed_id, doomed) = server.create(&json!({"name": "dies before the follower is back"}));
    let follower = Arc::new(server.follow(&follower_key).stale_limit(Duration::from_secs(60)).start().unwrap());
    let brief = server.follow(&follower_key).stale_limit(Duration::from_secs(2)).start().unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let watching = thread::spawn({
        let (follower, value, is_over) = (Arc::clone(&follower), value.clone(), Arc::clone(&is_over));
        move || {
            while !is_over.load(Ordering::Relaxed) {
                assert_eq!(passes(&follower, &value, 0), Some(true));
                thread::sleep(Duration::from_millis(1));
            }
        }
    });
    server.server = None;
    assert!(soon(|| follower.trouble().is_some()));
    assert!(soon(|| passes(&brief, &value, 0).is_none()), "its lease is over");
    // What the server does without it reaches it when it is back.
    server.start();
    assert_eq!(server.call("DELETE", &format!("{KEYS}/{doomed_id}"), &server.admin, None).status, 200);
    assert!(soon(|| passes(&follower, &doomed, 0) == Some(false)), "what is not there any more is dead");
    let (id, another) = server.create(&json!({"name": "key"}));
    assert!(soon(|| passes(&follower, &another, 0) == Some(true) && follower.trouble().is_none()));
    assert!(soon(|| passes(&brief, &value, 0) == Some(true)));
    let revoked = server.call("DELETE", &format!("{KEYS}/{id}"), &server.admin, None).json();
    assert_eq!((&revoked["effective"], passes(&follower, &another, 0)), (&json!("all"), Some(false)));
    is_over.store(true, Ordering::Relaxed);
    watching.join().unwrap();
}

#[test]
fn a_server_that_was_put_back_is_followed_as_it_is_now() {
    let mut server = Installation::new(None, None);
    let (_, follower_key) = server.follower_key();
    let (_, kept) = server.create(&json!({"name": "kept"}));
    server.server = None;
    let backup = tempfile::tempdir().unwrap();
    let files = ["keyrack.db", "keyrack.db-wal", "keyrack.db-shm"];
    let copy = |from: &Path, to: &Path| {
        for file in files {
            std::fs::remove_file(to.join(file)).ok();
            std::fs::copy(from.join(file), to.join(file)).ok();
        }
    };
    copy(server.dir.path(), backup.path());
    server.start();
    let follower = server.follow(&follower_key).start().unwrap();
    let lost: Vec<_> = (0..3).map(|_| server.create(&json!({"name": "lost"})).1).collect();
    assert!(soon(|| passes(&follower, &lost[2], 0) == Some(true)));
    server.server = None;
    copy(backup.path(), server.dir.path());
    server.start();
    let is_as_it_is = || passes(&follower, &lost[2], 0) == Some(false) && follower.trouble().is_none();
    assert!(soon(is_as_it_is), "{:?}", follower.trouble());
    assert_eq!(passes(&follower, &kept, 0), Some(true));
}

#[test]
fn a_follower_key_does_that_and_nothing_else() {
    let server = Installation::new(None, None);
    let (id, follower_key) = server.follower_key();
    for path in [KEYS, "/api/operator/nodes", "/api/admin/organizations/me"] {
        assert_eq!(server.call("GET", path, &follower_key, None).status, 401, "{path}");
    }
    for key in [&server.admin, &server.operator] {
        assert_eq!(server.call("GET", "/api/follower/snapshot", key, None).status, 401);
    }
    let snapshot = server.call("GET", "/api/follower/snapshot", &follower_key, None).text;
    assert!(!snapshot.contains("First admin key") && !snapshot.contains(&server.admin), "nothing but what decides");
    let listed = server.call("GET", FOLLOWER_KEYS, &server.operator, None).json();
    assert_eq!(listed["results"][0]["id"], id);
    assert!(listed["results"][0]["value"].as_str().unwrap().starts_with("fk_****"), "{listed}");
    let operators = server.call("GET", "/api/operator/operator-keys", &server.operator, None).json();
    assert_eq!(operators["results"].as_array().unwrap().len(), 1, "{operators}");

    let refused = server.follow(&server.operator).start();
    assert!(matches!(refused, Err(RemoteError::OtherKind("op_"))), "{refused:?}");
    let follower = server.follow(&follower_key).stale_limit(Duration::from_secs(2)).start().unwrap();
    let own = server.call("DELETE", &format!("/api/operator/operator-keys/{id}"), &server.operator, None);
    assert_eq!(own.status, 404, "it is no operator key");
    assert_eq!(server.call("DELETE", &format!("{FOLLOWER_KEYS}/{id}"), &server.operator, None).status, 200);
    assert!(soon(|| follower.trouble().is_some_and(|why| why.contains("does not accept"))), "{:?}", follower.trouble());
    assert!(soon(|| passes(&follower, &server.admin, 0).is_none()), "its lease is over");
    assert!(matches!(server.follow(&follower_key).start(), Err(RemoteError::NotAccepted { .. })));
}

#[test]
fn a_follower_can_be_dropped_while_its_server_hangs() {
    let server = Installation::new(None, None);
    let (_, follower_key) = server.follower_key();
    let follower = server.follow(&follower_key).start().unwrap();
    let verifier = follower.verifier();
    let pid = Pid::from_child(&server.server.as_ref().unwrap().child);
    kill_process(pid, Signal::STOP).unwrap();
    // In the middle of a question by now.
    thread::sleep(Duration::from_millis(500));
    let began = Instant::now();
    drop(follower);
    let took = began.elapsed();
    let is_fit = verifier.index().is_fit(system_clock()).is_ok();
    kill_process(pid, Signal::CONT).unwrap();
    assert!(!is_fit, "it answers nothing any more");
    assert!(took < Duration::from_secs(4), "{took:?}");
    assert!(soon(|| server.followers().is_empty()), "and says so as soon as it can");
    assert!(verifier.index().is_fit(system_clock()).is_err());
}

#[test]
fn the_example_lets_a_key_in_until_it_is_revoked() {
    let server = Installation::new(None, None);
    let (_, follower_key) = server.follower_key();
    let (id, value) = server.create(&json!({"name": "key"}));
    let (_follower, api) = example::open(&format!("http://{}", server.listen), &follower_key).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let ask = || {
        let request = Request::builder().uri("/events").header("Authorization", format!("Bearer {value}"));
        runtime.block_on(async {
            let reply = api.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
            (reply.status(), reply.into_body().collect().await.unwrap().to_bytes())
        })
    };
    assert_eq!(ask(), (StatusCode::OK, format!("seen by key {id}\n").into()));
    let revoked = server.call("DELETE", &format!("{KEYS}/{id}"), &server.admin, None).json();
    assert_eq!(revoked["effective"], "all");
    assert_eq!(ask().0, StatusCode::UNAUTHORIZED);
}

/// Whoever holds a follower key cannot make everybody wait for a list without end.
#[test]
fn a_key_that_as_many_follow_with_as_there_is_room_for_lets_no_other_follow() {
    let server = Installation::new(Some(tokio::runtime::Runtime::new().unwrap().block_on(new_schema())), None);
    let ((crowded, crowded_key), (_, other_key)) = (server.follower_key(), server.follower_key());
    let rows = format!(
        "INSERT INTO nodes (id, seq, beats, stale_ms, version) \
         SELECT 'follower_{crowded}_' || lpad(CAST(n AS TEXT), 8, 'a'), 0, 1, 60000, '0.1.0' FROM generate_series(1, 5000) AS n"
    );
    let url = server.database.clone().unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute(&rows).await.unwrap();
    });
    assert!(soon(|| server.followers().len() == 5_000), "the server has seen the list");
    let refused = server.follow(&crowded_key).start().err().unwrap().to_string();
    assert!(refused.contains("status 429. Too many processes follow with this key."), "{refused}");
    assert!(server.follow(&other_key).start().is_ok(), "there is room for those of another key");
}

/// Many services may start at once, and the server may be busy: they ask again, and need not be started again.
#[test]
fn a_follower_that_starts_while_its_server_cannot_answer_waits() {
    let direct = tokio::runtime::Runtime::new().unwrap().block_on(new_schema());
    let (before, rest) = direct.split_once('@').unwrap();
    let (address, path) = rest.split_once('/').unwrap();
    let proxy = Proxy::to(address.parse().unwrap());
    let server = Installation::new(Some(format!("{before}@{}/{path}", proxy.address)), None);
    let (_, key) = server.follower_key();
    drop(server.follow(&key).start().unwrap());
    proxy.cut();
    assert!(soon(|| server.call("POST", KEYS, &server.admin, Some(&json!({"name": "new"}))).status == 503));
    let follower = thread::scope(|scope| {
        let starting = scope.spawn(|| server.follow(&key).start());
        // Longer than it waits for a lease from a server that answers.
        thread::sleep(Duration::from_secs(12));
        assert!(!starting.is_finished(), "it has given up");
        proxy.mend();
        starting.join().unwrap()
    });
    assert_eq!(passes(&follower.unwrap(), &server.admin, 0), Some(true));
}

/// Who goes away, or takes nothing, gives the room back that everybody else waits for.
#[tokio::test]
async fn a_snapshot_that_nobody_reads_ends() {
    let app = TestApp::new().await;
    app.mint(4_000).await;
    let made = app.as_operator(("POST", FOLLOWER_KEYS), Some(json!({"name": "service"}))).await.json();
    let key = made["value"].as_str().unwrap();
    let (turns, id) = (&app.app.snapshot_turns, KeyId(made["id"].as_i64().unwrap()));
    let begin = async || {
        let request = Request::get(keyrack::feed::SNAPSHOT).header("Authorization", format!("Bearer {key}"));
        let response = app.respond(request.body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), StatusCode::OK);
        response
    };
    let mut others = Vec::new();
    for _ in 1..SNAPSHOTS_AT_A_TIME {
        others.push(turns.wait(id).await.unwrap());
    }
    let gone = begin().await;
    assert!(turns.wait(id).await.is_none(), "it has the last one");
    drop(gone);
    drop(turns.wait(id).await.expect("nobody is there any more"));

    let _stalled = begin().await;
    // It has made as much of it as fits between the two.
    thread::sleep(Duration::from_millis(500));
    tokio::time::pause();
    let mut waited = Duration::ZERO;
    let turn = async {
        loop {
            if let Some(turn) = turns.wait(id).await {
                return turn;
            }
        }
    };
    let time_passes = async {
        while waited < Duration::from_secs(300) {
            waited += Duration::from_secs(1);
            tokio::time::advance(Duration::from_secs(1)).await;
            thread::sleep(Duration::from_millis(5));
        }
    };
    tokio::select! {
        biased;
        _turn = turn => {}
        () = time_passes => panic!("it waits for ever"),
    }
    assert!(waited > Duration::from_secs(20), "it had half a minute");
}

/// Each takes a thread for as long as its follower takes to read it.
#[tokio::test]
async fn who_finds_no_room_among_those_who_load_everything_is_told_to_come_again() {
    let app = TestApp::new().await;
    let made = app.as_operator(("POST", FOLLOWER_KEYS), Some(json!({"name": "service"}))).await.json();
    let key = made["value"].as_str().unwrap();
    let (turns, id) = (&app.app.snapshot_turns, KeyId(made["id"].as_i64().unwrap()));
    let mut others = Vec::new();
    for _ in 0..SNAPSHOTS_AT_A_TIME {
        others.push(turns.wait(id).await.unwrap());
    }
    let refused = app.call_with(key, ("GET", keyrack::feed::SNAPSHOT), None, &[]).await;
    assert_eq!((refused.status, refused.headers["retry-after"].to_str().unwrap()), (503, "5"), "{}", refused.text);
    others.pop();
    for _ in 0..3 {
        assert_eq!(app.call_with(key, ("GET", keyrack::feed::SNAPSHOT), None, &[]).await.status, 200);
    }
}
