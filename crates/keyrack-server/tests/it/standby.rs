//! A PostgreSQL whose synchronous standby is away: reads work, and no commit ends.

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::server::{Server, keyrack};

/// A PostgreSQL of its own, for what would disturb others.
pub(crate) struct Postgres {
    dir: tempfile::TempDir,
    pub(crate) url: String,
}

impl Postgres {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let url = Self::run("start", &dir);
        Self { dir, url }
    }

    fn run(what: &str, dir: &tempfile::TempDir) -> String {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../nodes/postgres");
        let output = Command::new(script).arg(what).arg(dir.path().join("it")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    pub(crate) fn sql(&self, statements: &[&str]) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&self.url, tokio_postgres::NoTls).await.unwrap();
            tokio::spawn(connection);
            for statement in statements {
                client.batch_execute(statement).await.unwrap();
            }
        });
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        Self::run("stop", &self.dir);
    }
}

/// A node on it, and its admin key.
fn serve(data: &Path, postgres: &Postgres, args: &[&str]) -> (Server, String) {
    let mut command = keyrack(data);
    command.args(["--database-url", &postgres.url]).args(args).arg("serve");
    let server = Server::try_start(command.stderr(Stdio::null())).unwrap();
    let admin = server.greeting.split_whitespace().find(|word| word.starts_with("sk_")).unwrap().to_owned();
    (server, admin)
}

const AWAY: [&str; 2] = ["ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()"];
const BACK: [&str; 2] = ["ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()"];
/// Somebody who will not wait any longer ends the wait of every session.
const GIVE_UP: &str = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";

#[test]
fn a_commit_that_the_standby_does_not_have_is_neither_a_success_nor_a_lease() {
    let postgres = Postgres::start();
    let data = tempfile::tempdir().unwrap();
    let (server, admin) = serve(data.path(), &postgres, &["--strict"]);
    let door = server.greeting.lines().find_map(|line| line.strip_prefix("Verifying at ")).unwrap().to_owned();
    let verify = || {
        let body = json!({"key": admin}).to_string();
        let config = ureq::Agent::config_builder().http_status_as_error(false).build();
        ureq::Agent::from(config).post(format!("{door}/v1/verify")).send(body).unwrap().status().as_u16()
    };
    let create = |name: &str| {
        let headers = [("Idempotency-Key", name)];
        server.send("POST", "/api/client/keys", &admin, Some(&json!({"name": name})), &headers).unwrap()
    };
    assert_eq!((verify(), create("before").status), (200, 200));

    postgres.sql(&AWAY);
    thread::sleep(Duration::from_millis(2_500));
    // It can read, and still says that it is no standby; what it cannot do is commit.
    let seen = Instant::now();
    while seen.elapsed() < Duration::from_secs(7) {
        assert_eq!(verify(), 503, "a lease that no commit has renewed is over");
        thread::sleep(Duration::from_millis(50));
    }

    postgres.sql(&BACK);
    let deadline = Instant::now() + Duration::from_secs(20);
    while verify() != 200 {
        assert!(Instant::now() < deadline, "it does not find its way back");
        thread::sleep(Duration::from_millis(50));
    }
    postgres.sql(&AWAY);
    // Committed here, and not there: the database calls that a success with a warning.
    let warned = thread::scope(|scope| {
        let asked = scope.spawn(|| create("warned"));
        for turn in 0..80 {
            thread::sleep(Duration::from_millis(50));
            postgres.sql(&[GIVE_UP]);
            // Heartbeats are warned of too, all the time.
            assert!(turn < 60 || verify() == 503, "a heartbeat that was committed with a warning is no lease");
        }
        asked.join().unwrap()
    });
    assert_eq!(warned.status, 503, "{}", warned.text);
    assert!(warned.text.contains("may or may not have been made"), "{}", warned.text);

    postgres.sql(&BACK);
    let deadline = Instant::now() + Duration::from_secs(20);
    let made = loop {
        let made = create("warned");
        if made.status == 200 {
            break made;
        }
        assert!(Instant::now() < deadline, "{}", made.text);
        thread::sleep(Duration::from_millis(100));
    };
    assert_eq!(made.headers["idempotent-replayed"], "true", "it was made then, and not again now");
}

/// The first commit that waits for the standby holds what every other needs.
#[test]
fn keys_are_revoked_one_after_the_other_while_no_commit_ends() {
    let postgres = Postgres::start();
    let data = tempfile::tempdir().unwrap();
    let (server, admin) = serve(data.path(), &postgres, &[]);
    let made: Vec<_> = (0..3)
        .map(|number| {
            let body = json!({"name": format!("key {number}"), "role": "admin"});
            server.send("POST", "/api/client/keys", &admin, Some(&body), &[]).unwrap().json()
        })
        .collect();
    postgres.sql(&AWAY);
    for key in &made {
        let path = format!("/api/client/keys/{}", key["id"]);
        let revoked = server.send("DELETE", &path, &admin, None, &[("Prefer", "wait=0")]).unwrap();
        assert_eq!(revoked.status, 202, "{}", revoked.text);
        let value = key["value"].as_str().unwrap();
        assert_eq!(server.send("GET", "/api/client/keys", value, None, &[]).unwrap().status, 401);
    }
    postgres.sql(&BACK);
    let deadline = Instant::now() + Duration::from_secs(30);
    let is_empty = || std::fs::metadata(data.path().join("revocations")).is_ok_and(|file| file.len() == 0);
    while !is_empty() {
        assert!(Instant::now() < deadline, "they are not committed when the standby is back");
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_session_that_may_only_read_is_not_used_again() {
    let postgres = Postgres::start();
    let data = tempfile::tempdir().unwrap();
    let (server, admin) = serve(data.path(), &postgres, &[]);
    let create = || server.send("POST", "/api/client/keys", &admin, Some(&json!({"name": "key"})), &[]).unwrap();
    assert_eq!(create().status, 200);
    // From here on the sessions that there are may only read, and new ones may write.
    postgres.sql(&[
        "ALTER ROLE keyrack SET default_transaction_read_only = off",
        "ALTER SYSTEM SET default_transaction_read_only = on",
        "SELECT pg_reload_conf()",
    ]);
    thread::sleep(Duration::from_millis(500));
    let refused = create();
    assert_eq!(refused.status, 503, "the session that there was is used: {}", refused.text);
    let deadline = Instant::now() + Duration::from_secs(10);
    while create().status != 200 {
        assert!(Instant::now() < deadline, "it writes on a session that may only read");
        thread::sleep(Duration::from_millis(100));
    }
}
