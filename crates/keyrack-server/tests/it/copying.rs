//! Moving a store from SQLite to PostgreSQL and back.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::database::{Place, new_schema};
use crate::server::{KEYRACK, Server, keyrack};

const KEYS: &str = "/api/client/keys";

fn copy(from: &str, to: &str, root_key: &Path) -> (bool, String) {
    let mut command = Command::new(KEYRACK);
    command.env_clear().env("OLD_STORE", from).args(["copy", "--from", "env:OLD_STORE", "--to", to, "--root-key-file"]);
    if !from.starts_with("postgres") {
        command = Command::new(KEYRACK);
        command.env_clear().args(["copy", "--from", from, "--to", to, "--root-key-file"]);
    }
    let output = command.arg(root_key).output().unwrap();
    (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

fn list(server: &Server, key: &str) -> Value {
    server.send("GET", &format!("{KEYS}?limit=-1&sort=id"), key, None, &[]).unwrap().json()["results"].clone()
}

#[test]
fn a_store_moves_to_postgresql_and_back_and_everything_is_there() {
    let schema = tokio::runtime::Runtime::new().unwrap().block_on(new_schema());
    let (first, second, third) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let [first, second, third] = [first.path(), second.path(), third.path()];
    let root_key = first.join("root.key");

    // More keys than are copied at a time, one that is revoked, one with everything, and a kept reply.
    let server = Server::start(first);
    let admin = server.greeting.split_whitespace().find(|word| word.starts_with("sk_")).unwrap().to_owned();
    let once = [("Idempotency-Key", "kept")];
    let create =
        |body: Value, headers: &[(&str, &str)]| server.send("POST", KEYS, &admin, Some(&body), headers).unwrap();
    let kept = create(json!({"name": "kept", "description": "caf\u{e9} 'quoted'"}), &once);
    let limits = json!([{"name": "r", "limit": 5, "period": "1m"}]);
    create(json!({"name": "rich", "role": "editor", "permissions": ["a:b"], "limits": limits, "scope": "secret"}), &[]);
    for number in 0..300 {
        create(json!({"name": format!("key {number}")}), &[]);
    }
    let revoked = create(json!({"name": "revoked"}), &[]).json();
    let path = format!("{KEYS}/{}", revoked["id"]);
    assert_eq!(server.send("DELETE", &path, &admin, None, &[]).unwrap().status, 200);
    let before = list(&server, &admin);
    let from = first.to_str().unwrap();
    let (is_done, why) = copy(from, &schema, &root_key);
    assert!(!is_done && why.contains("in use by another keyrack"), "{why}");
    assert!(server.stop().success());

    let (is_done, said) = copy(from, &schema, &root_key);
    assert!(is_done && said.contains("audit entries and 306 keys, and all of them agree"), "{said}");
    let (is_done, why) = copy(from, &schema, &root_key);
    assert!(!is_done && why.contains("there is a store in postgres at 127.0.0.1 already"), "{why}");

    std::fs::copy(&root_key, second.join("root.key")).unwrap();
    let mut command = keyrack(second);
    let server = Server::try_start(command.args(["--database-url", &schema, "serve"]).stderr(Stdio::null())).unwrap();
    assert_eq!(list(&server, &admin), before);
    let body = json!({"name": "kept", "description": "caf\u{e9} 'quoted'"});
    let replayed = server.send("POST", KEYS, &admin, Some(&body), &once).unwrap();
    assert_eq!(replayed.text, kept.text, "the reply is kept there too");
    let (is_done, why) = copy(&schema, third.to_str().unwrap(), &root_key);
    assert!(!is_done && why.contains("nodes are running on postgres at 127.0.0.1"), "{why}");
    let made = server.send("POST", KEYS, &admin, Some(&json!({"name": "made there"})), &[]).unwrap();
    assert_eq!(made.status, 200, "numbers go on where they were");
    assert!(server.stop().success());

    let (is_done, said) = copy(&schema, third.to_str().unwrap(), &root_key);
    assert!(is_done, "{said}");
    std::fs::copy(&root_key, third.join("root.key")).unwrap();
    let server = Server::start(third);
    assert_eq!(list(&server, &admin).as_array().unwrap().len(), before.as_array().unwrap().len() + 1);
    let value = revoked["value"].as_str().unwrap();
    assert_eq!(server.send("GET", KEYS, value, None, &[]).unwrap().status, 401, "dead here as there");
}

#[test]
fn what_cannot_be_copied_is_refused_and_nothing_is_made() {
    let (there, empty) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    crate::server::init(there.path());
    let (from, to) = (there.path().to_str().unwrap(), empty.path().to_str().unwrap());
    let root_key = there.path().join("root.key");
    for (from, to, expected) in [
        (to, from, "there is no store in"),
        (from, from, "in use by another keyrack"),
        (from, "postgres://u:hunter2@", "the URL of the database cannot be used"),
        (from, "env:NOWHERE", "there is no variable NOWHERE"),
    ] {
        let (is_done, why) = copy(from, to, &root_key);
        assert!(!is_done && why.contains(expected) && !why.contains("hunter2"), "{why}");
    }
    assert!(!empty.path().join("keyrack.db").exists());
    let other = tempfile::tempdir().unwrap();
    crate::server::init(other.path());
    let (is_done, why) = copy(from, to, &other.path().join("root.key"));
    assert!(!is_done && why.contains("root key"), "{why}");
    assert!(!empty.path().join("keyrack.db").exists());
}

#[test]
fn a_copy_waits_for_what_takes_longer_than_other_answers_may() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (schema, dir) = (runtime.block_on(new_schema()), tempfile::tempdir().unwrap());
    let mut command = keyrack(dir.path());
    assert!(command.args(["--database-url", &schema, "init"]).stdout(Stdio::null()).status().unwrap().success());
    let mut beside = runtime.block_on(Place::Schema(schema.clone()).beside());
    runtime.block_on(beside.run("BEGIN; LOCK TABLE replies IN ACCESS EXCLUSIVE MODE"));
    let to = tempfile::tempdir().unwrap();
    let copying = std::thread::spawn({
        let (to, root_key) = (to.path().to_str().unwrap().to_owned(), dir.path().join("root.key"));
        move || copy(&schema, &to, &root_key)
    });
    std::thread::sleep(std::time::Duration::from_millis(7_500));
    runtime.block_on(beside.run("COMMIT"));
    let (is_done, why) = copying.join().unwrap();
    assert!(is_done, "{why}");
}

/// A table that is added and forgotten here would be left behind.
#[tokio::test]
async fn every_table_but_those_about_processes_is_copied() {
    let app = crate::app::TestApp::shared().await;
    let mut beside = app.beside().await;
    let tables = beside.number("SELECT COUNT(*) FROM pg_tables WHERE schemaname = current_schema()").await;
    // The nodes, and the list of migrations.
    assert_eq!(tables, 14 + 2);
}
