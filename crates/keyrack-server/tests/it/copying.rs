//! Moving a store from SQLite to PostgreSQL and back.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::cli_client::terminal::AtTerminal;
use crate::database::{Place, new_schema};
use crate::server::{KEYRACK, Server, keyrack};
use crate::standby::Postgres;

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

    // More keys than are copied or read at a time, one that is revoked, one with everything, and a kept reply.
    let server = Server::start(first);
    let admin = server.greeting.split_whitespace().find(|word| word.starts_with("sk_")).unwrap().to_owned();
    let once = [("Idempotency-Key", "kept")];
    let create =
        |body: Value, headers: &[(&str, &str)]| server.send("POST", KEYS, &admin, Some(&body), headers).unwrap();
    let kept = create(json!({"name": "kept", "description": "caf\u{e9} 'quoted'"}), &once);
    let limits = json!([{"name": "r", "limit": 5, "period": "1m"}]);
    create(json!({"name": "rich", "role": "editor", "permissions": ["a:b"], "limits": limits, "scope": "secret"}), &[]);
    for number in 0..600 {
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
    assert!(is_done && said.contains("audit entries and 606 keys, and all of them agree"), "{said}");
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

/// What makes a table of a new store lose its rows, or change them.
fn spoiled(table: &str, how: &str) -> [String; 4] {
    let each = format!(
        "CREATE OR REPLACE TRIGGER spoil BEFORE INSERT ON %s FOR EACH ROW EXECUTE FUNCTION public.spoil_{table}()"
    );
    [
        format!("CREATE FUNCTION public.spoil_{table}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {how} END $$"),
        format!(
            "CREATE FUNCTION public.begin_{table}() RETURNS event_trigger LANGUAGE plpgsql AS $$ DECLARE made record; BEGIN \
             FOR made IN SELECT * FROM pg_event_trigger_ddl_commands() WHERE object_identity = 's_{table}.{table}' LOOP \
             EXECUTE format('{each}', made.object_identity); END LOOP; END $$"
        ),
        format!(
            "CREATE EVENT TRIGGER begin_{table} ON ddl_command_end WHEN TAG IN ('CREATE TABLE') \
             EXECUTE FUNCTION public.begin_{table}()"
        ),
        format!("CREATE SCHEMA s_{table}"),
    ]
}

#[test]
fn a_copy_that_is_not_like_the_original_is_said_not_to_be_of_use() {
    let (dir, postgres) = (tempfile::tempdir().unwrap(), Postgres::start());
    let server = Server::start(dir.path());
    let admin = server.greeting.split_whitespace().find(|word| word.starts_with("sk_")).unwrap().to_owned();
    let body = json!({"name": "used", "limits": [{"name": "few", "limit": 5, "period": "day"}]});
    let made = server.send("POST", KEYS, &admin, Some(&body), &[("Idempotency-Key", "kept")]).unwrap().json();
    let door = server.greeting.lines().find_map(|line| line.strip_prefix("Verifying at ")).unwrap().to_owned();
    let used = ureq::post(format!("{door}/v1/verify")).send(json!({"key": made["value"]}).to_string()).unwrap();
    assert_eq!(used.status(), 200);
    assert!(server.stop().success());
    let from = dir.path().to_str().unwrap();
    let changed = "NEW.name := 'x'; RETURN NEW;";
    for (table, how) in [
        ("api_keys", changed),
        ("replies", "RETURN NULL;"),
        ("key_usage", "RETURN NULL;"),
        ("key_last_use", "RETURN NULL;"),
        ("key_quotas", "NEW.counted := NEW.counted + 1; RETURN NEW;"),
    ] {
        let statements = spoiled(table, how);
        postgres.sql(&statements.each_ref().map(String::as_str));
        let to = format!("{}?options=-csearch_path%3Ds_{table}", postgres.url);
        let (is_done, why) = copy(from, &to, &dir.path().join("root.key"));
        assert!(!is_done && why.contains("the copy is not to be used"), "{table}: {why}");
    }
}

#[test]
fn a_copy_at_a_terminal_shows_how_far_it_is() {
    let (dir, postgres) = (tempfile::tempdir().unwrap(), Postgres::start());
    let server = Server::start(dir.path());
    let admin = server.greeting.split_whitespace().find(|word| word.starts_with("sk_")).unwrap().to_owned();
    for number in 0..600 {
        let made = server.send("POST", KEYS, &admin, Some(&json!({"name": format!("key {number}")})), &[]);
        assert_eq!(made.unwrap().status, 200);
    }
    assert!(server.stop().success());
    // Each of them takes a while.
    postgres.sql(&spoiled("api_keys", "PERFORM pg_sleep(0.005); RETURN NEW;").each_ref().map(String::as_str));
    let to = format!("{}?options=-csearch_path%3Ds_api_keys", postgres.url);
    let mut command = Command::new(KEYRACK);
    command.env_clear().arg("copy").arg("--from").arg(dir.path()).args(["--to", &to, "--root-key-file"]);
    let (code, shown) = AtTerminal::start(command.arg(dir.path().join("root.key"))).end();
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("Copying [") && shown.contains("all of them agree"), "{shown}");
    let counts = shown.split("] ").filter_map(|rest| rest.split_whitespace().next()?.split_once('/'));
    let mut counts = counts.filter_map(|(done, all)| Some((done.parse::<u32>().ok()?, all.parse::<u32>().ok()?)));
    assert!(counts.any(|(done, all)| 0 < done && done < all), "{shown}");
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
async fn every_table_is_copied() {
    let app = crate::app::TestApp::shared().await;
    let mut beside = app.beside().await;
    let tables = beside.number("SELECT COUNT(*) FROM pg_tables WHERE schemaname = current_schema()").await;
    // But the list of migrations.
    assert_eq!(tables, 15 + 1);
}
