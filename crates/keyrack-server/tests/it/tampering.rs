//! What somebody with write access to the database, but without the root key, can achieve: nothing that goes unseen.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use expect_test::{Expect, expect};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};
use tempfile::TempDir;

use crate::server::{Server, init, keyrack};

const KEYS: &str = "/api/client/keys";

/// Writes to the database of an installation behind its back.
pub(crate) fn sql(data_dir: &Path, statements: &str) {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(data_dir.join("keyrack.db"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connection = options.connect().await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    });
}

/// A stopped installation with a history: a key as it was made, one that was narrowed, and one that was revoked.
struct Victim {
    data: TempDir,
    admin: String,
    /// Role `support`; key 4.
    plain: String,
    /// Was `admin`, is `support`; key 5.
    narrowed: String,
    /// Key 6.
    revoked: String,
}

impl Victim {
    /// Keeps each key's row as it was before its last change, as a copy of the database would.
    fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        let admin = init(data.path())["project_key"].as_str().unwrap().to_owned();
        let server = Server::start(data.path());
        let create = |name: &str, role: &str| {
            let body = json!({"name": name, "role": role});
            value(&server.send("POST", KEYS, &admin, Some(&body), &[]).unwrap().json())
        };
        let (plain, narrowed) = (create("plain", "support"), create("narrowed", "admin"));
        let revoked = create("revoked", "admin");
        sql(
            data.path(),
            "CREATE TABLE kept AS SELECT * FROM api_keys; CREATE TABLE kept_head AS SELECT * FROM audit_head",
        );
        let body = json!({"role": "support"});
        assert_eq!(server.send("PATCH", &format!("{KEYS}/5"), &admin, Some(&body), &[]).unwrap().status, 200);
        assert_eq!(server.send("DELETE", &format!("{KEYS}/6"), &admin, None, &[]).unwrap().status, 200);
        assert!(server.stop().success());
        Self { data, admin, plain, narrowed, revoked }
    }

    fn copy(&self) -> TempDir {
        let copy = tempfile::tempdir().unwrap();
        for name in ["keyrack.db", "root.key"] {
            fs::copy(self.data.path().join(name), copy.path().join(name)).unwrap();
        }
        copy
    }

    /// Tampers with a copy, compares what `audit verify` says of it, and gives what the keys are still good for.
    fn found(&self, statements: &str, expected: &Expect) -> Standing {
        let copy = self.copy();
        sql(copy.path(), statements);
        let verified = keyrack(copy.path()).args(["audit", "verify"]).output().unwrap();
        let said = String::from_utf8([verified.stdout, verified.stderr].concat()).unwrap();
        assert_eq!(verified.status.code(), Some(1), "{said}");
        expected.assert_eq(&said);
        let Some(server) = Server::try_start(keyrack(copy.path()).arg("serve").stderr(Stdio::null())) else {
            return NOT_STARTED;
        };
        let standing = |key: &str| server.send("GET", KEYS, key, None, &[]).unwrap().status;
        Standing {
            admin: standing(&self.admin),
            plain: standing(&self.plain),
            narrowed: standing(&self.narrowed),
            revoked: standing(&self.revoked),
        }
    }
}

fn value(key: &Value) -> String {
    key["value"].as_str().unwrap().to_owned()
}

/// What each key is good for: 200 admin, 403 less, 401 nothing.
#[derive(Debug, PartialEq)]
struct Standing {
    admin: u16,
    plain: u16,
    narrowed: u16,
    revoked: u16,
}

/// The server refused to start, because it could not be told which keys are to be trusted.
const NOT_STARTED: Standing = Standing { admin: 0, plain: 0, narrowed: 0, revoked: 0 };
/// As they were left.
const UNHARMED: Standing = Standing { admin: 200, plain: 403, narrowed: 403, revoked: 401 };

#[test]
fn what_was_not_tampered_with_is_whole() {
    let victim = Victim::new();
    let verified = keyrack(victim.data.path()).args(["audit", "verify"]).output().unwrap();
    assert!(verified.status.success());
    expect![[r#"
        The audit log is whole: 10 entries, 6 keys agree with it.
    "#]]
    .assert_eq(&String::from_utf8(verified.stdout).unwrap());
}

#[test]
fn a_tampered_audit_log_is_found_and_the_first_bad_entry_named() {
    let victim = Victim::new();
    let found = |statements: &str, expected: &Expect| assert_eq!(victim.found(statements, expected), UNHARMED);
    found(
        "UPDATE audit_events SET actor_id = 4 WHERE seq = 7",
        &expect![[r#"
        entry 7 was changed, or the one before it
        keyrack: the audit log and the store do not agree: 1 fault(s), listed above
    "#]],
    );
    found(
        "UPDATE audit_events SET after_json = NULL WHERE seq = 2",
        &expect![[r#"
        entry 2 was changed, or the one before it
        keyrack: the audit log and the store do not agree: 1 fault(s), listed above
    "#]],
    );
    found(
        "DELETE FROM audit_events WHERE seq = 7",
        &expect![[r#"
        entry 7 is missing or out of place (found 8)
        keyrack: the audit log and the store do not agree: 1 fault(s), listed above
    "#]],
    );
    found(
        "DELETE FROM audit_events WHERE seq = 1",
        &expect![[r#"
        entry 1 is missing or out of place (found 2)
        key 1 is kept, but the log has no entry that made it
        keyrack: the audit log and the store do not agree: 2 fault(s), listed above
    "#]],
    );
    found(
        "DELETE FROM audit_events WHERE seq = 10",
        &expect![[r#"
            the log ends with entry 9, but 10 entries were written
            key 6 is kept at version 2, the log ends with 1: entries of the log are gone
            keyrack: the audit log and the store do not agree: 2 fault(s), listed above
        "#]],
    );
    found(
        "UPDATE audit_events SET seq = 99 WHERE seq = 6; UPDATE audit_events SET seq = 6 WHERE seq = 7; \
         UPDATE audit_events SET seq = 7 WHERE seq = 99",
        &expect![[r#"
            entry 6 was changed, or the one before it
            entry 7 was changed, or the one before it
            entry 8 was changed, or the one before it
            keyrack: the audit log and the store do not agree: 3 fault(s), listed above
        "#]],
    );
    // The end is cut off, and the newest hash is made to fit, or an old one with its own MAC is put back: nobody can tell
    // what else was changed.
    let not_started = |statements: &str, expected: &Expect| assert_eq!(victim.found(statements, expected), NOT_STARTED);
    not_started(
        "DELETE FROM audit_events WHERE seq > 8; DELETE FROM audit_head; INSERT INTO audit_head SELECT * FROM kept_head",
        &expect![[r#"
            key 5 is kept at version 2, the log ends with 1: entries of the log are gone
            key 6 is kept at version 2, the log ends with 1: entries of the log are gone
            keyrack: the audit log and the store do not agree: 2 fault(s), listed above
        "#]],
    );
    let made_to_fit = "DELETE FROM audit_events WHERE seq = 10; \
        UPDATE audit_head SET seq = 9, hash = (SELECT hash FROM audit_events WHERE seq = 9)";
    not_started(
        made_to_fit,
        &expect![[r#"
        the newest hash does not authenticate under the root key
        key 6 is kept at version 2, the log ends with 1: entries of the log are gone
        keyrack: the audit log and the store do not agree: 2 fault(s), listed above
    "#]],
    );
}

#[test]
fn a_tampered_key_is_found_and_does_not_pass() {
    let victim = Victim::new();
    let dead = |standing: Standing| standing == Standing { plain: 401, ..UNHARMED };
    assert!(dead(victim.found(
        "UPDATE api_keys SET role = 4 WHERE id = 4",
        &expect![[r#"
            the store is damaged: key 4 does not authenticate. Restore it from a backup
            keyrack: the audit log and the store do not agree: 1 fault(s), listed above
        "#]]
    )));
    assert!(dead(victim.found(
        "UPDATE api_keys SET role = 'admin' WHERE id = 4",
        &expect![[r#"
            the store is damaged: key 4 cannot be read. Restore it from a backup
            keyrack: the audit log and the store do not agree: 1 fault(s), listed above
        "#]]
    )));
    assert!(dead(victim.found(
        "UPDATE api_keys SET project_id = NULL WHERE id = 4",
        &expect![[r#"
            the store is damaged: key 4 cannot be read. Restore it from a backup
            keyrack: the audit log and the store do not agree: 1 fault(s), listed above
        "#]]
    )));
    assert!(dead(victim.found(
        "UPDATE api_keys SET version = 2 WHERE id = 4",
        &expect![[r#"
            the store is damaged: key 4 does not authenticate. Restore it from a backup
            keyrack: the audit log and the store do not agree: 1 fault(s), listed above
        "#]]
    )));
    assert!(dead(victim.found(
        "UPDATE api_keys SET mac = x'' WHERE id = 4",
        &expect![[r#"
            the store is damaged: key 4 does not authenticate. Restore it from a backup
            keyrack: the audit log and the store do not agree: 1 fault(s), listed above
        "#]]
    )));
    assert!(dead(victim.found(
        "DELETE FROM api_keys WHERE id = 4",
        &expect![[r#"
            key 4 is in the log, but its row is gone
            the live rows do not add up to the sum that was authenticated
            keyrack: the audit log and the store do not agree: 2 fault(s), listed above
        "#]]
    )));
}

/// Also what reads the same once it is made into the kind that belongs there.
#[test]
fn a_value_of_another_kind_does_not_pass_in_whichever_column_it_is() {
    const NUMBERS: [&str; 11] = [
        "kind",
        "organization_id",
        "project_id",
        "role",
        "scope",
        "reach",
        "is_system",
        "created_at",
        "created_by_id",
        "updated_at",
        "version",
    ];
    const WORDS: [&str; 7] =
        ["permissions", "limits", "name", "description", "mask", "created_by_kind", "changed_by_kind"];
    let numbers = NUMBERS.iter().flat_map(|column| {
        ["CAST(<> AS BLOB)", "<> + 0.5", "'number ' || <>"].map(|value| (*column, value.replace("<>", column)))
    });
    let words = WORDS.iter().flat_map(|column| {
        ["CAST(<> AS BLOB)", "CAST(CAST(<> AS BLOB) || x'ff' AS TEXT)", "<> || char(0)"]
            .map(|value| (*column, value.replace("<>", column)))
    });
    let others = [("digest", "17"), ("digest", "substr(digest, 1, 31)"), ("mac", "17"), ("mac", "1.5")];
    let others = others.map(|(column, value)| (column, value.to_owned()));
    let wrong: Vec<_> = numbers.chain(words).chain(others).collect();

    let data = tempfile::tempdir().unwrap();
    let admin = init(data.path())["project_key"].as_str().unwrap().to_owned();
    let server = Server::start(data.path());
    let make = |what: &(&str, String)| {
        let body = json!({"name": what.0, "role": "support", "description": what.1});
        let made = server.send("POST", KEYS, &admin, Some(&body), &[]).unwrap().json();
        (made["id"].as_i64().unwrap(), value(&made))
    };
    let keys: Vec<_> = wrong.iter().map(make).collect();
    assert!(server.stop().success());
    for ((id, _), (column, value)) in keys.iter().zip(&wrong) {
        // Neither does somebody who writes there care for what a row refers to.
        let update = format!("PRAGMA foreign_keys = OFF; UPDATE api_keys SET {column} = {value} WHERE id = {id}");
        sql(data.path(), &update);
    }
    let server = Server::start(data.path());
    // Not the list: it cannot be sorted by what is no time.
    let standing = |key: &str| server.send("GET", &format!("{KEYS}/3"), key, None, &[]).unwrap().status;
    assert_eq!(standing(&admin), 200);
    for ((_, key), what) in keys.iter().zip(&wrong) {
        assert_eq!(standing(key), 401, "{what:?}");
    }
}

#[test]
fn a_key_made_of_parts_of_others_is_found_and_does_not_pass() {
    let victim = Victim::new();
    // A stolen digest under the numbers of an admin key, and the MAC of another row.
    let standing = victim.found(
        "UPDATE api_keys SET digest = zeroblob(32) WHERE id = 3; \
         UPDATE api_keys SET digest = (SELECT digest FROM kept WHERE id = 3) WHERE id = 4; \
         UPDATE api_keys SET digest = (SELECT digest FROM kept WHERE id = 4) WHERE id = 3",
        &expect![[r#"
            the store is damaged: key 3 does not authenticate. Restore it from a backup
            the store is damaged: key 4 does not authenticate. Restore it from a backup
            keyrack: the audit log and the store do not agree: 2 fault(s), listed above
        "#]],
    );
    assert_eq!(standing, Standing { admin: 401, plain: 401, ..UNHARMED });
    let standing = victim.found(
        "UPDATE api_keys SET role = 4, mac = (SELECT mac FROM kept WHERE id = 3) WHERE id = 4",
        &expect![[r#"
            the store is damaged: key 4 does not authenticate. Restore it from a backup
            keyrack: the audit log and the store do not agree: 1 fault(s), listed above
        "#]],
    );
    assert_eq!(standing, Standing { plain: 401, ..UNHARMED });
    // A key that nobody issued.
    let standing = victim.found(
        "CREATE TABLE forged AS SELECT * FROM api_keys WHERE id = 3; \
         UPDATE forged SET id = 7, digest = zeroblob(32); INSERT INTO api_keys SELECT * FROM forged",
        &expect![[r#"
            the store is damaged: key 7 does not authenticate. Restore it from a backup
            keyrack: the audit log and the store do not agree: 1 fault(s), listed above
        "#]],
    );
    assert_eq!(standing, UNHARMED);
}

#[test]
fn a_key_brought_back_from_the_dead_is_found() {
    let victim = Victim::new();
    let dead = victim.found(
        "UPDATE api_keys SET revoked_at = NULL WHERE id = 6",
        &expect![[r#"
            the store is damaged: key 6 does not authenticate. Restore it from a backup
            keyrack: the audit log and the store do not agree: 1 fault(s), listed above
        "#]],
    );
    assert_eq!(dead, UNHARMED);
    let dead = victim.found(
        "UPDATE api_keys SET revoked_at = NULL, version = 1 WHERE id = 6",
        &expect![[r#"
            the store is damaged: key 6 does not authenticate. Restore it from a backup
            keyrack: the audit log and the store do not agree: 1 fault(s), listed above
        "#]],
    );
    assert_eq!(dead, UNHARMED);

    // Rows as they once were authenticate; the log tells.
    let put_back = |id: u8| {
        format!("DELETE FROM api_keys WHERE id = {id}; INSERT INTO api_keys SELECT * FROM kept WHERE id = {id}")
    };
    let narrowed = victim.found(
        &put_back(5),
        &expect![[r#"
            key 5 is kept at version 1, the log ends with 2: an old row was put back
            keyrack: the audit log and the store do not agree: 1 fault(s), listed above
        "#]],
    );
    assert_eq!(narrowed, Standing { narrowed: 401, ..UNHARMED });
    let dead = victim.found(
        &put_back(6),
        &expect![[r#"
            key 6 is kept at version 1, the log ends with 2: an old row was put back
            keyrack: the audit log and the store do not agree: 1 fault(s), listed above
        "#]],
    );
    assert_eq!(dead, UNHARMED);
}

#[test]
fn a_change_that_cannot_be_written_to_the_audit_log_does_not_happen() {
    let victim = Victim::new();
    let data = victim.data.path();
    sql(data, "CREATE TRIGGER no_history BEFORE INSERT ON audit_events BEGIN SELECT RAISE(ABORT, 'no history'); END");
    let server = Server::start(data);
    let listed = |server: &Server| server.send("GET", KEYS, &victim.admin, None, &[]).unwrap().json();
    let before = listed(&server);
    let asked = [
        ("POST", KEYS, Some(json!({"name": "unseen"})), &[][..]),
        ("POST", KEYS, Some(json!({"name": "unseen"})), &[("Idempotency-Key", "once")]),
        ("PATCH", "/api/client/keys/4", Some(json!({"role": "admin"})), &[]),
        ("DELETE", "/api/client/keys/4", None, &[]),
    ];
    for (method, path, body, headers) in &asked {
        let reply = server.send(method, path, &victim.admin, body.as_ref(), headers).unwrap();
        assert!(reply.status >= 500, "{method} {}", reply.text);
        assert_eq!(listed(&server), before);
        assert_eq!(server.send("GET", KEYS, &victim.plain, None, &[]).unwrap().status, 403);
    }
    assert!(server.stop().success());
    let recover = |command: &mut Command| command.args(["recover", "--operator"]).output().unwrap();
    let recovered = recover(&mut keyrack(data));
    assert!(!recovered.status.success() && recovered.stdout.is_empty());

    sql(data, "DROP TRIGGER no_history");
    assert!(keyrack(data).args(["audit", "verify"]).status().unwrap().success());
    let server = Server::start(data);
    assert_eq!(listed(&server), before);
    for (method, path, body, headers) in &asked {
        assert_eq!(server.send(method, path, &victim.admin, body.as_ref(), headers).unwrap().status, 200);
    }
}
