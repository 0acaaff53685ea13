//! The same as `tampering.rs` for organizations, projects and members: while the server runs, and before it starts again.

mod members;

use std::fs;
use std::process::Stdio;

use expect_test::{Expect, expect};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::server::{Server, init, keyrack};
use crate::tampering::sql;

/// A stopped installation of three organizations: the first one, a suspended one (2) and an active one (3).
struct Victim {
    data: TempDir,
    operator: String,
    owners: [String; 3],
    /// An admin key of a project of each: 1, 2 and 3.
    admins: [String; 3],
    /// The key of project 4, of the first organization, which was archived.
    archived: String,
    /// Keys of the first organization: a `member` from whom project 1 was taken, one that was narrowed there from `admin`
    /// to `support`, and one that was never given it.
    members: [(i64, String); 3],
}

/// What the keys of a victim are good for.
const UNHARMED: &str =
    "owners 200 401 200, admins 200 401 200, archived 401 404, members 404 403 404, lists [] [support] []";

impl Victim {
    /// Keeps every row as it was before its last change, as a copy of the database would.
    fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        let first = init(data.path());
        let first = |name: &str| first[name].as_str().unwrap().to_owned();
        let (operator, owner) = (first("operator_key"), first("organization_key"));
        let server = Server::start(data.path());
        let ask = |method: &str, path: &str, key: &str, body: Value| {
            let reply = server.send(method, path, key, (!body.is_null()).then_some(&body), &[]).unwrap();
            assert_eq!(reply.status, 200, "{method} {path}: {}", reply.text);
            reply.json()
        };
        let make = |username: &str| {
            let made = ask("POST", "/api/operator/organizations", &operator, json!({"username": username}));
            value(&made["owner_key"])
        };
        let project = |owner: &str, id: i64| {
            if id != 1 {
                let made =
                    ask("POST", "/api/admin/projects", owner, json!({"name": "x", "locale": "en", "timezone": "UTC"}));
                assert_eq!(made["id"], id);
            }
            let keys = format!("/api/admin/projects/{id}/keys");
            value(&ask("POST", &keys, owner, json!({"name": "x", "role": "admin"})))
        };
        let owners = [owner.clone(), make("late-payer"), make("other")];
        let admins = [project(&owners[0], 1), project(&owners[1], 2), project(&owners[2], 3)];
        let archived = project(&owner, 4);
        let member = |name: &str| {
            let body = json!({"name": name, "role": "member"});
            let made = ask("POST", "/api/admin/organizations/api-keys", &owner, body);
            (made["id"].as_i64().unwrap(), value(&made))
        };
        let members = [member("taken"), member("narrowed"), member("never")];
        let place = |of: usize| format!("/api/admin/projects/1/members/{}", members[of].0);
        ask("PUT", &place(0), &owner, json!({"role": "admin"}));
        ask("PUT", &place(1), &owner, json!({"role": "admin"}));
        let keep = |table: &str| format!("CREATE TABLE kept_{table} AS SELECT * FROM {table};");
        let tables = ["organizations", "projects", "members", "api_keys", "audit_head"];
        sql(data.path(), &tables.map(keep).concat());
        ask("POST", "/api/operator/organizations/2/suspend", &operator, Value::Null);
        ask("DELETE", "/api/admin/projects/4?confirm=true", &owner, Value::Null);
        ask("DELETE", &place(0), &owner, Value::Null);
        ask("PUT", &place(1), &owner, json!({"role": "support"}));
        assert!(server.stop().success());
        Self { data, operator, owners, admins, archived, members }
    }

    fn copy(&self) -> TempDir {
        let copy = tempfile::tempdir().unwrap();
        for name in ["keyrack.db", "root.key"] {
            fs::copy(self.data.path().join(name), copy.path().join(name)).unwrap();
        }
        copy
    }

    fn standing(&self, server: &Server) -> String {
        let status = |path: &str, key: &str| server.send("GET", path, key, None, &[]).unwrap().status.to_string();
        let all = |path: &str, keys: &[String]| keys.iter().map(|key| status(path, key)).collect::<Vec<_>>().join(" ");
        let values = self.members.clone().map(|(_, value)| value);
        let lists = values.clone().map(|key| {
            let reply = server.send("GET", "/api/admin/projects", &key, None, &[]).unwrap().json();
            let roles = reply["results"].as_array().unwrap().iter().map(|project| project["role"].as_str().unwrap());
            format!("[{}]", roles.collect::<Vec<_>>().join(" "))
        });
        format!(
            "owners {}, admins {}, archived {} {}, members {}, lists {}",
            all("/api/admin/organizations/me", &self.owners),
            all("/api/client/keys", &self.admins),
            status("/api/client/keys", &self.archived),
            status("/api/admin/projects/4", &self.owners[0]),
            all("/api/admin/projects/1/keys", &values),
            lists.join(" "),
        )
    }

    /// Tampers with a copy while a server runs on it, and compares what keys are good for then, what `audit verify` says,
    /// and what keys are good for after the next start.
    fn tampered(&self, statements: &str, expected: &Expect) {
        let copy = self.copy();
        let server = Server::start(copy.path());
        assert_eq!(self.standing(&server), UNHARMED);
        sql(copy.path(), &format!("PRAGMA foreign_keys = OFF; {statements}"));
        let running = self.standing(&server);
        drop(server);
        let verified = keyrack(copy.path()).args(["audit", "verify"]).output().unwrap();
        let said = String::from_utf8([verified.stdout, verified.stderr].concat()).unwrap();
        assert_eq!(verified.status.code(), Some(1), "{said}");
        let server = Server::try_start(keyrack(copy.path()).arg("serve").stderr(Stdio::null()));
        let restarted = server.map_or_else(|| "not started".to_owned(), |server| self.standing(&server));
        let shown = |standing: String| if standing == UNHARMED { "unharmed".to_owned() } else { standing };
        expected.assert_eq(&format!("{said}running: {}\nrestarted: {}\n", shown(running), shown(restarted)));
    }
}

fn value(key: &Value) -> String {
    key["value"].as_str().unwrap().to_owned()
}

fn put_back(table: &str, id: i64) -> String {
    format!("DELETE FROM {table} WHERE id = {id}; INSERT INTO {table} SELECT * FROM kept_{table} WHERE id = {id};")
}

#[test]
fn a_suspension_cannot_be_undone_in_the_database() {
    let victim = Victim::new();
    victim.tampered(
        "UPDATE organizations SET standing = 0 WHERE id = 2",
        &expect![[r#"
        the store is damaged: organization 2 does not authenticate. Restore it from a backup
        keyrack: the audit log and the store do not agree: 1 fault(s), listed above
        running: unharmed
        restarted: unharmed
    "#]],
    );
    victim.tampered(
        &put_back("organizations", 2),
        &expect![[r#"
        organization 2 is kept at version 1, the log ends with 2: an old row was put back
        keyrack: the audit log and the store do not agree: 1 fault(s), listed above
        running: unharmed
        restarted: unharmed
    "#]],
    );
    victim.tampered(
        "DELETE FROM organizations WHERE id = 2",
        &expect![[r#"
        organization 2 is in the log, but its row is gone
        the live rows do not add up to the sum that was authenticated
        keyrack: the audit log and the store do not agree: 2 fault(s), listed above
        running: unharmed
        restarted: unharmed
    "#]],
    );
    victim.tampered(
        "UPDATE organizations SET mac = x'' WHERE id = 2",
        &expect![[r#"
        the store is damaged: organization 2 does not authenticate. Restore it from a backup
        keyrack: the audit log and the store do not agree: 1 fault(s), listed above
        running: unharmed
        restarted: unharmed
    "#]],
    );
    // With the version that it should have, and with the row of another.
    victim.tampered(
        &format!("{} UPDATE organizations SET version = 2 WHERE id = 2", put_back("organizations", 2)),
        &expect![[r#"
            the store is damaged: organization 2 does not authenticate. Restore it from a backup
            keyrack: the audit log and the store do not agree: 1 fault(s), listed above
            running: unharmed
            restarted: unharmed
        "#]],
    );
    victim.tampered(
        "CREATE TABLE other AS SELECT * FROM organizations WHERE id = 3; DELETE FROM organizations WHERE id = 2; \
         UPDATE other SET id = 2, username = 'late-payer'; INSERT INTO organizations SELECT * FROM other",
        &expect![[r#"
            the store is damaged: organization 2 does not authenticate. Restore it from a backup
            keyrack: the audit log and the store do not agree: 1 fault(s), listed above
            running: unharmed
            restarted: unharmed
        "#]],
    );
}

#[test]
fn the_keys_of_an_organization_without_a_good_row_do_not_pass() {
    let victim = Victim::new();
    victim.tampered(
        "UPDATE organizations SET mac = x'' WHERE id = 3",
        &expect![[r#"
        the store is damaged: organization 3 does not authenticate. Restore it from a backup
        keyrack: the audit log and the store do not agree: 1 fault(s), listed above
        running: owners 200 401 500, admins 200 401 200, archived 401 404, members 404 403 404, lists [] [support] []
        restarted: owners 200 401 401, admins 200 401 401, archived 401 404, members 404 403 404, lists [] [support] []
    "#]],
    );
    victim.tampered(
        "UPDATE organizations SET domain = 'example.org' WHERE id = 3",
        &expect![[r#"
        the store is damaged: organization 3 does not authenticate. Restore it from a backup
        keyrack: the audit log and the store do not agree: 1 fault(s), listed above
        running: owners 200 401 500, admins 200 401 200, archived 401 404, members 404 403 404, lists [] [support] []
        restarted: owners 200 401 401, admins 200 401 401, archived 401 404, members 404 403 404, lists [] [support] []
    "#]],
    );
    victim.tampered(
        "UPDATE organizations SET standing = 7 WHERE id = 3",
        &expect![[r#"
        the store is damaged: organization 3 cannot be read. Restore it from a backup
        keyrack: the audit log and the store do not agree: 1 fault(s), listed above
        running: owners 200 401 500, admins 200 401 200, archived 401 404, members 404 403 404, lists [] [support] []
        restarted: owners 200 401 401, admins 200 401 401, archived 401 404, members 404 403 404, lists [] [support] []
    "#]],
    );
    victim.tampered(
        "DELETE FROM organizations WHERE id = 3",
        &expect![[r#"
        organization 3 is in the log, but its row is gone
        the live rows do not add up to the sum that was authenticated
        keyrack: the audit log and the store do not agree: 2 fault(s), listed above
        running: owners 200 401 404, admins 200 401 200, archived 401 404, members 404 403 404, lists [] [support] []
        restarted: owners 200 401 401, admins 200 401 401, archived 401 404, members 404 403 404, lists [] [support] []
    "#]],
    );
    victim.tampered(
        "UPDATE organizations SET archived_at = 1 WHERE id = 3",
        &expect![[r#"
        the store is damaged: organization 3 does not authenticate. Restore it from a backup
        keyrack: the audit log and the store do not agree: 1 fault(s), listed above
        running: owners 200 401 404, admins 200 401 200, archived 401 404, members 404 403 404, lists [] [support] []
        restarted: owners 200 401 401, admins 200 401 401, archived 401 404, members 404 403 404, lists [] [support] []
    "#]],
    );
    // Its keys are moved to where one can be found.
    victim.tampered(
        "UPDATE api_keys SET organization_id = 3 WHERE organization_id = 2; DELETE FROM organizations WHERE id = 2",
        &expect![[r#"
            the store is damaged: key 4 does not authenticate. Restore it from a backup
            the store is damaged: key 7 does not authenticate. Restore it from a backup
            keyrack: the audit log and the store do not agree: 2 fault(s), listed above
            running: unharmed
            restarted: unharmed
        "#]],
    );
}

#[test]
fn a_project_neither_comes_back_nor_changes_hands() {
    let victim = Victim::new();
    victim.tampered(
        "UPDATE projects SET archived_at = NULL WHERE id = 4",
        &expect![[r#"
        the store is damaged: project 4 does not authenticate. Restore it from a backup
        keyrack: the audit log and the store do not agree: 1 fault(s), listed above
        running: owners 200 401 200, admins 200 401 200, archived 401 500, members 404 403 404, lists [] [support] []
        restarted: owners 200 401 200, admins 200 401 200, archived 401 500, members 404 403 404, lists [] [support] []
    "#]],
    );
    victim.tampered(
        &put_back("projects", 4),
        &expect![[r#"
        project 4 is kept at version 1, the log ends with 2: an old row was put back
        keyrack: the audit log and the store do not agree: 1 fault(s), listed above
        running: unharmed
        restarted: unharmed
    "#]],
    );
    // With the key that died with it.
    let with_key = format!(
        "{} INSERT OR REPLACE INTO api_keys SELECT * FROM kept_api_keys WHERE project_id = 4",
        put_back("projects", 4)
    );
    victim.tampered(
        &with_key,
        &expect![[r#"
        project 4 is kept at version 1, the log ends with 2: an old row was put back
        key 9 is kept at version 1, the log ends with 2: an old row was put back
        keyrack: the audit log and the store do not agree: 2 fault(s), listed above
        running: unharmed
        restarted: unharmed
    "#]],
    );
    victim.tampered(
        "UPDATE projects SET organization_id = 1 WHERE id = 3",
        &expect![[r#"
            the store is damaged: project 3 does not authenticate. Restore it from a backup
            keyrack: the audit log and the store do not agree: 1 fault(s), listed above
            running: unharmed
            restarted: owners 200 401 200, admins 200 401 401, archived 401 404, members 404 403 404, lists [] [support] []
        "#]],
    );
    victim.tampered(
        "UPDATE projects SET organization_id = 1 WHERE id = 3; UPDATE api_keys SET organization_id = 1 WHERE project_id = 3",
        &expect![[r#"
            the store is damaged: project 3 does not authenticate. Restore it from a backup
            the store is damaged: key 8 does not authenticate. Restore it from a backup
            keyrack: the audit log and the store do not agree: 2 fault(s), listed above
            running: unharmed
            restarted: owners 200 401 200, admins 200 401 401, archived 401 404, members 404 403 404, lists [] [support] []
        "#]],
    );
    victim.tampered(
        "DELETE FROM projects WHERE id = 1",
        &expect![[r#"
            project 1 is in the log, but its row is gone
            the live rows do not add up to the sum that was authenticated
            keyrack: the audit log and the store do not agree: 2 fault(s), listed above
            running: owners 200 401 200, admins 200 401 200, archived 401 404, members 404 404 404, lists [] [] []
            restarted: owners 200 401 200, admins 401 401 200, archived 401 404, members 404 404 404, lists [] [] []
        "#]],
    );
}

/// Whoever can damage a row must not be able to keep its keys alive with it.
#[test]
fn an_organization_whose_row_cannot_be_used_can_be_suspended() {
    let victim = Victim::new();
    for statements in
        ["UPDATE organizations SET mac = x'' WHERE id = 3", "UPDATE organizations SET version = 2 WHERE id = 3"]
    {
        for (method, path) in [
            ("POST", "/api/operator/organizations/3/suspend"),
            ("DELETE", "/api/operator/organizations/3?confirm=true"),
        ] {
            let copy = victim.copy();
            let server = Server::start(copy.path());
            sql(copy.path(), statements);
            let reply = server.send(method, path, &victim.operator, None, &[]).unwrap();
            assert_eq!(reply.status, 500, "{}", reply.text);
            let dead = UNHARMED.replace("200 401 200", "200 401 401");
            assert_eq!(victim.standing(&server), dead, "{method} {path} after {statements}");
            drop(server);
            assert_eq!(victim.standing(&Server::start(copy.path())), dead, "{method} {path} after {statements}");
        }
    }
}

/// A key hides from the end of its project or organization behind a damaged row, which is then made good again.
#[test]
fn what_ends_takes_keys_with_it_whose_rows_were_damaged_meanwhile() {
    let victim = Victim::new();
    for (method, path, key) in [
        ("DELETE", "/api/operator/organizations/3?confirm=true", &victim.operator),
        ("DELETE", "/api/admin/projects/3?confirm=true", &victim.owners[2]),
    ] {
        let copy = victim.copy();
        let server = Server::start(copy.path());
        sql(copy.path(), "UPDATE api_keys SET version = version + 10 WHERE project_id = 3");
        let reply = server.send(method, path, key, None, &[]).unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text);
        let admin =
            |server: &Server| server.send("GET", "/api/client/keys", &victim.admins[2], None, &[]).unwrap().status;
        assert_eq!(admin(&server), 401, "{path}");
        sql(copy.path(), "UPDATE api_keys SET version = version - 10 WHERE project_id = 3");
        assert!(server.stop().success());
        let server = Server::start(copy.path());
        assert_eq!(admin(&server), 401, "{path}, after the next start");
        let first = server.send("GET", "/api/client/keys", &victim.admins[0], None, &[]).unwrap();
        assert_eq!(first.status, 200, "others are not hurt");
    }
}

/// What is in force is not what the operator would resume.
#[test]
fn an_organization_put_back_is_not_resumed() {
    let victim = Victim::new();
    let copy = victim.copy();
    let server = Server::start(copy.path());
    sql(copy.path(), &format!("PRAGMA foreign_keys = OFF; {}", put_back("organizations", 2)));
    let read = server.send("GET", "/api/operator/organizations/2", &victim.operator, None, &[]).unwrap();
    assert_eq!(read.status, 500, "{}", read.text);
    for what in ["resume", "suspend", "resume"] {
        let path = format!("/api/operator/organizations/2/{what}");
        let reply = server.send("POST", &path, &victim.operator, None, &[]).unwrap();
        assert_eq!(reply.status, 500, "{what}: {}", reply.text);
        assert_eq!(victim.standing(&server), UNHARMED);
    }
}

/// The rows of a copy of the installation that went its own way fit this one's root key. They are not explained by the
/// damage of other rows.
#[test]
fn rows_that_the_log_does_not_know_are_not_trusted_because_others_are_damaged() {
    let victim = Victim::new();
    let twin = victim.copy();
    let server = Server::start(twin.path());
    let body = json!({"name": "of the twin", "role": "admin"});
    let made = server.send("POST", "/api/client/keys", &victim.admins[0], Some(&body), &[]).unwrap().json();
    assert!(server.stop().success());

    let copy = victim.copy();
    let attach = format!("ATTACH '{}' AS twin; ", twin.path().join("keyrack.db").display());
    let insert = format!("INSERT INTO api_keys SELECT * FROM twin.api_keys WHERE id = {}; ", made["id"]);
    sql(copy.path(), &format!("{attach}{insert} UPDATE api_keys SET mac = x'' WHERE project_id = 3"));
    let server = Server::try_start(keyrack(copy.path()).arg("serve").stderr(Stdio::null()));
    let passes = server.map(|server| server.send("GET", "/api/client/keys", &value(&made), None, &[]).unwrap().status);
    assert_eq!(passes, None, "the server started with a key that nobody made here");
}
