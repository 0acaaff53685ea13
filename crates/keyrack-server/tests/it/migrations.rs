//! The schema: what the commands say of it, and nodes that start at once, are killed meanwhile, or find a newer one.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::database::{Place, new_schema};
use crate::server::{Server, init, keyrack};

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
