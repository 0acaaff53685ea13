//! A real server that dies: what was not written is lost, and nothing is counted twice.

use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use keyrack_server::usage::INTERVAL;
use serde_json::{Value, json};

use crate::server::{Server, init, keyrack};

const KEYS: &str = "/api/client/keys";

/// A server whose verification doors are asked about one key.
struct Asked {
    server: Server,
    doors: String,
}

impl Asked {
    /// Starts a server, if it comes to listen; `crash_at` is the place where it ends itself.
    fn start(data: &Path, crash_at: Option<&str>) -> Option<Self> {
        let mut command = keyrack(data);
        command.arg("serve").stderr(Stdio::null());
        if let Some(place) = crash_at {
            command.env("CRASH_AT", place);
        }
        let server = Server::try_start(&mut command)?;
        let doors = server.greeting.lines().find_map(|line| line.strip_prefix("Verifying at ")).unwrap().to_owned();
        Some(Self { server, doors })
    }

    /// Asks the doors so many times; says how often they let the key pass.
    fn ask(&self, value: &str, times: u64) -> u64 {
        let agent = ureq::Agent::new_with_defaults();
        let body = json!({"key": value}).to_string();
        let asks = (0..times).map(|_| {
            let request = agent.post(format!("{}/v1/verify", self.doors)).header("Content-Type", "application/json");
            request.send(&body)
        });
        asks.take_while(Result::is_ok).count() as u64
    }

    /// How many uses of a key are written; nothing if the server is dead.
    fn written(&self, admin: &str, id: i64) -> Option<u64> {
        let reply = self.server.send("GET", &format!("{KEYS}/{id}/usage?step=month"), admin, None, &[]).ok()?;
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply.json()["totals"]["valid"].as_u64()
    }

    /// Waits until so many are written, or the server is dead. That takes one interval, and here many times as long for ever.
    fn wait_for(&self, admin: &str, id: i64, uses: u64) {
        let begun = Instant::now();
        while let Some(written) = self.written(admin, id).filter(|written| *written < uses) {
            assert!(begun.elapsed() < 30 * INTERVAL, "{written} of {uses} are written");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// An installation with a key to ask about: the admin's value, and number and value of that key.
fn installed(data: &Path) -> (String, i64, String) {
    let admin = init(data)["project_key"].as_str().unwrap().to_owned();
    let server = Server::start(data);
    let made: Value = server.send("POST", KEYS, &admin, Some(&json!({"name": "asked"})), &[]).unwrap().json();
    assert!(server.stop().success());
    (admin, made["id"].as_i64().unwrap(), made["value"].as_str().unwrap().to_owned())
}

#[test]
fn kill_9_loses_what_was_not_written_and_counts_nothing_twice() {
    let data = tempfile::tempdir().unwrap();
    let (admin, id, value) = installed(data.path());
    let mut written = 0;
    for round in 0..4 {
        let mut asked = Asked::start(data.path(), None).unwrap();
        assert_eq!(asked.written(&admin, id), Some(written), "round {round}: a start changes nothing");
        assert_eq!(asked.ask(&value, 20), 20);
        asked.wait_for(&admin, id, written + 20);
        assert_eq!(asked.written(&admin, id), Some(written + 20), "round {round}");
        assert_eq!(asked.ask(&value, 10 + round), 10 + round);
        asked.server.child.kill().unwrap();
        drop(asked);
        let found = Asked::start(data.path(), None).unwrap().written(&admin, id).unwrap();
        assert!((written + 20..=written + 30 + round).contains(&found), "round {round}: {found} after {written}");
        written = found;
    }
}

/// What is written does not wait for a moment in which nothing is counted.
#[test]
fn uses_that_never_pause_are_written_and_lost_by_kill_9_only_since_then() {
    let data = tempfile::tempdir().unwrap();
    let (admin, id, value) = installed(data.path());
    let mut asked = Asked::start(data.path(), None).unwrap();
    let passed = AtomicU64::new(0);
    let seen = std::thread::scope(|threads| {
        let watching = threads.spawn(|| {
            // Three times whatever was let pass until then, while more and more come.
            for _ in 0..3 {
                asked.wait_for(&admin, id, passed.load(Ordering::Relaxed) + 1);
            }
            asked.written(&admin, id).unwrap()
        });
        while !watching.is_finished() {
            assert_eq!(asked.ask(&value, 1), 1);
            passed.fetch_add(1, Ordering::Relaxed);
        }
        watching.join().unwrap()
    });
    asked.server.child.kill().unwrap();
    drop(asked);
    let found = Asked::start(data.path(), None).unwrap().written(&admin, id).unwrap();
    let most = passed.load(Ordering::Relaxed);
    assert!((seen..=most).contains(&found), "{found} of {most}, {seen} of which were written");
}

#[test]
fn a_server_that_is_told_to_stop_loses_nothing() {
    let data = tempfile::tempdir().unwrap();
    let (admin, id, value) = installed(data.path());
    for round in 1..=3 {
        let asked = Asked::start(data.path(), None).unwrap();
        assert_eq!(asked.ask(&value, 25), 25);
        assert!(asked.server.stop().success());
        let found = Asked::start(data.path(), None).unwrap().written(&admin, id);
        assert_eq!(found, Some(25 * round));
    }
}

/// At each place around a commit. The first commits of a process are of other things.
#[test]
fn a_batch_that_dies_around_its_commit_is_there_once_or_not_at_all() {
    let data = tempfile::tempdir().unwrap();
    let (admin, id, value) = installed(data.path());
    let mut written = 0;
    for place in ["before-commit-unlogged", "after-commit-unlogged"] {
        for time in 2..=3 {
            // One of them may already die of keeping house.
            let Some(asked) = Asked::start(data.path(), Some(&format!("{place}:{time}"))) else { continue };
            let first = asked.ask(&value, 20);
            asked.wait_for(&admin, id, written + first);
            let second = asked.ask(&value, 20);
            asked.wait_for(&admin, id, written + first + second);
            drop(asked);
            let alive = Asked::start(data.path(), None).unwrap();
            let found = alive.written(&admin, id).unwrap();
            let most = written + first + second;
            assert!((written..=most).contains(&found), "{place}:{time}: {found} of {most} after {written}");
            written = found;
        }
    }
    assert!(written > 0);
}
