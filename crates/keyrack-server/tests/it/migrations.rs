//! The schema: what the commands say of it, and nodes that start at once, are killed meanwhile, or find a newer one.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::database::{Place, new_schema};
use crate::server::{KEYRACK, Server, init, keyrack};

fn said(command: &mut Command) -> (bool, String) {
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap().trim().to_owned())
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Runtime::new().unwrap()
}

fn on(data: &Path, url: &str) -> Command {
    let mut command = keyrack(data);
    command.args(["--database-url", url]);
    command
}

fn says_of_every_step(data: &Path, url: Option<&str>, shown: &str) {
    let ask = |arguments: &[&str]| {
        let mut command = url.map_or_else(|| keyrack(data), |url| on(data, url));
        said(command.args(arguments))
    };
    let none = format!("There is no store in {shown} yet. The first start makes it with schema 1.");
    assert_eq!(ask(&["migrate", "status"]), (true, none));
    assert!(!data.join("keyrack.db").exists(), "nothing was made");
    let (is_done, why) = ask(&["migrate", "up"]);
    assert!(!is_done && why.contains("there is no store"), "{why}");
    assert!(ask(&["init", "--json"]).0);
    let newest = format!("The store in {shown} has schema 1, the newest that this program knows.");
    assert_eq!(ask(&["migrate", "status"]), (true, newest));
    assert_eq!(ask(&["migrate", "up"]), (true, format!("The store in {shown} had schema 1 already.")));
}

#[test]
fn the_commands_say_which_schema_there_is() {
    let dir = tempfile::tempdir().unwrap();
    says_of_every_step(dir.path(), None, &dir.path().display().to_string());
    let dir = tempfile::tempdir().unwrap();
    let url = runtime().block_on(new_schema());
    says_of_every_step(dir.path(), Some(&url), "postgres at 127.0.0.1");
}

#[test]
fn nodes_that_start_at_once_make_one_installation() {
    let url = runtime().block_on(new_schema());
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    // The root key is there first, on all of them.
    let other = tempfile::tempdir().unwrap();
    init(other.path());
    for dir in &dirs {
        std::fs::copy(other.path().join("root.key"), dir.path().join("root.key")).unwrap();
    }
    let starts: Vec<_> = dirs
        .iter()
        .map(|dir| {
            let mut command = on(dir.path(), &url);
            std::thread::spawn(move || Server::try_start(command.arg("serve").stderr(Stdio::null())).unwrap())
        })
        .collect();
    let servers: Vec<_> = starts.into_iter().map(|start| start.join().unwrap()).collect();
    let keys = servers.iter().filter(|server| server.greeting.contains("operator key")).count();
    assert_eq!(keys, 1, "one of them set it up, and showed the keys");
}

#[test]
fn a_node_that_is_killed_while_it_migrates_leaves_nothing_behind() {
    let url = runtime().block_on(new_schema());
    let dir = tempfile::tempdir().unwrap();
    let runtime = runtime();
    let mut beside = runtime.block_on(Place::Schema(url.clone()).beside());
    // What a migration waits for: so it is under way when it is killed.
    runtime.block_on(beside.run("BEGIN; SELECT pg_advisory_xact_lock(7308604)"));
    let mut node = on(dir.path(), &url).arg("serve").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    node.kill().unwrap();
    node.wait().unwrap();
    runtime.block_on(beside.run("COMMIT"));
    let server = Server::try_start(on(dir.path(), &url).arg("serve").stderr(Stdio::null())).unwrap();
    assert!(server.greeting.contains("operator key"), "it is set up anew");
}

#[test]
fn a_start_waits_for_as_long_as_a_migration_takes() {
    let url = runtime().block_on(new_schema());
    let dir = tempfile::tempdir().unwrap();
    let runtime = runtime();
    let mut beside = runtime.block_on(Place::Schema(url.clone()).beside());
    runtime.block_on(beside.run("BEGIN; SELECT pg_advisory_xact_lock(7308604)"));
    let start = std::thread::spawn({
        let mut command = on(dir.path(), &url);
        move || Server::try_start(command.arg("serve").stderr(Stdio::null()))
    });
    // Longer than any other answer may take.
    std::thread::sleep(Duration::from_millis(6_500));
    runtime.block_on(beside.run("COMMIT"));
    assert!(start.join().unwrap().is_some(), "it gave up");
}

#[test]
fn a_migration_that_dies_between_its_statements_is_made_by_the_next_start() {
    let url = runtime().block_on(new_schema());
    let dir = tempfile::tempdir().unwrap();
    let died = said(on(dir.path(), &url).arg("serve").env("CRASH_AT", "in-migration:1"));
    assert!(!died.0, "{}", died.1);
    let none = "There is no store in postgres at 127.0.0.1 yet. The first start makes it with schema 1.";
    assert_eq!(said(on(dir.path(), &url).args(["migrate", "status"])), (true, none.to_owned()));
    let server = Server::try_start(on(dir.path(), &url).arg("serve").stderr(Stdio::null())).unwrap();
    assert!(server.greeting.contains("operator key"), "it is set up anew");
}

/// The same on SQLite, at writes to the disk that are ever further apart, until there is none left.
#[test]
fn a_first_start_that_dies_at_any_write_is_followed_by_one_that_works() {
    let (mut deaths, mut write) = (0, 0);
    loop {
        write += 1 + write / 4;
        let dir = tempfile::tempdir().unwrap();
        let inject = format!("inject=pwrite64:signal=SIGKILL:when={write}");
        let mut strace = Command::new("strace");
        strace.args(["-f", "-o", "/dev/null", "-e", "trace=pwrite64", "-e", &inject, KEYRACK]);
        strace.env_clear().arg("--data-dir").arg(dir.path()).args(["init", "--json"]);
        if said(&mut strace).0 {
            break;
        }
        deaths += 1;
        let server = Server::start(dir.path());
        // Killed after it was set up and before it could show the keys.
        let is_new = server.greeting.contains("operator key");
        drop(server);
        let (is_whole, why) = said(keyrack(dir.path()).args(["audit", "verify"]));
        assert!(is_whole, "write {write}, {is_new}: {why}");
    }
    assert!(deaths > 5, "it died {deaths} times only");
}

#[test]
fn a_newer_schema_is_refused_at_the_start_and_does_not_disturb_who_runs() {
    let url = runtime().block_on(new_schema());
    let dir = tempfile::tempdir().unwrap();
    let server = Server::try_start(on(dir.path(), &url).arg("serve").stderr(Stdio::null())).unwrap();
    let admin = server.greeting.split_whitespace().find(|word| word.starts_with("sk_")).unwrap();
    let runtime = runtime();
    let mut beside = runtime.block_on(Place::Schema(url.clone()).beside());
    runtime.block_on(beside.run("INSERT INTO keyrack_migrations (version, name) VALUES (9000, 'from the future')"));
    let create = |server: &Server| {
        let body = serde_json::json!({"name": "x"});
        server.send("POST", "/api/client/keys", admin, Some(&body), &[]).unwrap().status
    };
    assert_eq!(create(&server), 200, "the version before works beside the next");
    let other = tempfile::tempdir().unwrap();
    std::fs::copy(dir.path().join("root.key"), other.path().join("root.key")).unwrap();
    for command in [&["serve"][..], &["migrate", "status"], &["migrate", "up"], &["audit", "verify"]] {
        let (is_done, why) = said(on(other.path(), &url).args(command));
        assert!(!is_done && why.contains("schema 9000, newer than this program, which knows 1"), "{command:?}: {why}");
    }
    assert_eq!(create(&server), 200);
}
