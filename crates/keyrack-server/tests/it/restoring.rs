//! A database that is put back from an older copy while everything is stopped: what a host has seen die stays dead there.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::cluster::history::Outcome;
use crate::cluster::nodes::{Clock, Cluster, KEYS, Made};
use crate::database::{self, Place};
use crate::server::{KEYRACK, Server, keyrack};

/// What is kept of one death, in bytes.
const RECORD: u64 = 32;

fn soon(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn deaths_in(dir: &Path) -> u64 {
    std::fs::metadata(dir.join("deaths")).map_or(0, |file| file.len() / RECORD)
}

/// Puts the files of a database into a directory, instead of those that are there.
fn put(from: &Path, into: &Path) {
    for file in ["keyrack.db", "keyrack.db-wal", "keyrack.db-shm"] {
        std::fs::remove_file(into.join(file)).ok();
    }
    std::fs::copy(from.join("keyrack.db"), into.join("keyrack.db")).unwrap();
}

fn passes(server: &Server, key: &str) -> bool {
    let door = server.greeting.lines().find_map(|line| line.strip_prefix("Verifying at ")).unwrap();
    let mut asked = ureq::post(format!("{door}/v1/verify")).config().http_status_as_error(false).build();
    asked = asked.header("Content-Type", "application/json");
    match asked.send(json!({"key": key}).to_string()).unwrap().status().as_u16() {
        200 => true,
        401 => false,
        other => panic!("{other}"),
    }
}

#[test]
fn a_key_that_died_on_this_host_does_not_come_back_with_an_older_database() {
    let (data, backup) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (data, backup) = (data.path(), backup.path());
    let server = Server::start(data);
    let admin = server.greeting.split_whitespace().find(|word| word.starts_with("sk_")).unwrap().to_owned();
    let create = |name: &str| {
        Made::of(&server.send("POST", KEYS, &admin, Some(&json!({"name": name, "role": "admin"})), &[]).unwrap())
    };
    let (lives, dies) = (create("lives"), create("dies"));
    let path = format!("{KEYS}/{}", dies.id);
    assert!(server.stop().success());
    std::fs::copy(data.join("keyrack.db"), backup.join("keyrack.db")).unwrap();
    let server = Server::start(data);
    assert_eq!(server.send("DELETE", &path, &admin, None, &[]).unwrap().status, 200);
    soon("it is kept that it died", || deaths_in(data) == 1);
    // Killed, and not stopped.
    drop(server);

    put(backup, data);
    let server = Server::start(data);
    assert!(!passes(&server, &dies.value), "from the first answer on");
    assert!(passes(&server, &lives.value));
    assert_eq!(server.send("GET", &path, &admin, None, &[]).unwrap().status, 404);
    let log = "/api/client/audit-events?action=key.revoke";
    let told = || server.send("GET", log, &admin, None, &[]).unwrap().json()["results"][0]["target"]["id"] == dies.id;
    soon("the database is told", told);
    assert!(server.stop().success());
    let verified = keyrack(data).args(["audit", "verify"]).output().unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));

    // Whoever wants the older database to hold says so.
    put(backup, data);
    std::fs::remove_file(data.join("deaths")).unwrap();
    assert!(passes(&Server::start(data), &dies.value));

    put(backup, data);
    std::fs::create_dir(data.join("deaths")).unwrap();
    let mut command = Command::new(KEYRACK);
    let refused = command.env_clear().arg("serve").arg("--data-dir").arg(data).output().unwrap();
    let why = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && why.contains("deaths"), "nobody can tell what died: {why}");
}

#[test]
fn a_key_that_a_node_has_heard_die_does_not_come_back_with_an_older_database() {
    const TABLES: [&str; 4] = ["api_keys", "audit_events", "audit_head", "counters"];
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let schema = runtime.block_on(database::new_schema());
    let cluster = Cluster::start([schema.clone(), schema.clone()].into_iter(), "--stale-limit=5m", Clock::Machine);
    let [first, second] = cluster.nodes.as_slice() else { unreachable!("there are two") };
    let (lives, dies) = (cluster.create(0, "lives").unwrap(), cluster.create(0, "dies").unwrap());
    let mut beside = runtime.block_on(Place::Schema(schema).beside());
    for table in TABLES {
        runtime.block_on(beside.run(format!("CREATE TABLE kept_{table} AS SELECT * FROM {table}")));
    }
    assert_eq!(cluster.revoke(0, dies.id, "wait=5").unwrap().json()["effective"], "all");
    soon("it is kept that it died", || deaths_in(second.dir.path()) == 1);
    first.kill();
    second.kill();
    for table in TABLES {
        runtime.block_on(beside.run(format!("DELETE FROM {table}; INSERT INTO {table} SELECT * FROM kept_{table}")));
    }
    second.start();
    assert_eq!(second.verify(&dies.value, 0), Outcome::Denied, "it only heard of that from the other");
    assert_eq!(second.verify(&lives.value, 0), Outcome::Accepted);
    let is_alive = format!("SELECT COUNT(*) FROM api_keys WHERE id = {} AND revoked_at IS NULL", dies.id);
    soon("the database is told", || runtime.block_on(beside.number(is_alive.clone())) == 0);
}
