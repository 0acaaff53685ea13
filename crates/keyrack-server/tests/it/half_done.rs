//! Nothing is half done: whichever statement of a change fails, and wherever the process dies in the middle of one.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::app::TestApp;
use crate::database::Beside;
use crate::server::{Server, init, keyrack};

// ---- statements that fail ------------------------------------------------------------------------------------------

/// What can happen to rows of which table.
const STATEMENTS: [(&str, &str); 14] = [
    ("INSERT", "organizations"),
    ("UPDATE", "organizations"),
    ("INSERT", "projects"),
    ("UPDATE", "projects"),
    ("INSERT", "members"),
    ("UPDATE", "members"),
    ("INSERT", "api_keys"),
    ("UPDATE", "api_keys"),
    ("INSERT", "counters"),
    ("UPDATE", "counters"),
    ("INSERT", "audit_events"),
    ("UPDATE", "audit_head"),
    ("INSERT", "replies"),
    ("INSERT", "policies"),
];
/// What every change does.
const ALWAYS: [(&str, &str); 2] = [("INSERT", "audit_events"), ("UPDATE", "audit_head")];
const NEW: [(&str, &str); 2] = [("INSERT", "counters"), ("UPDATE", "counters")];
const KEPT: (&str, &str) = ("INSERT", "replies");

/// A change, and what it does beside that; `{member}`, `{never}` and `{system}` are keys.
struct Change {
    who: &'static str,
    method: &'static str,
    path: &'static str,
    body: Option<Value>,
    does: Vec<(&'static str, &'static str)>,
}

fn changes() -> Vec<Change> {
    let change = |who, method, path, body, does: &[&[(&'static str, &'static str)]]| {
        let does = [&ALWAYS, does.concat().as_slice()].concat();
        Change { who, method, path, body, does }
    };
    let project = json!({"name": "half", "locale": "en", "timezone": "UTC"});
    let name = json!({"name": "half"});
    let role = json!({"role": "admin"});
    let (new_key, key) = ([("INSERT", "api_keys")], [("UPDATE", "api_keys")]);
    let (organization, of_project) = ([("UPDATE", "organizations")], [("UPDATE", "projects")]);
    let member = [("UPDATE", "members")];
    vec![
        change(
            "operator",
            "POST",
            "/api/operator/organizations",
            Some(json!({"username": "half"})),
            &[&NEW, &[("INSERT", "organizations"), KEPT], &new_key],
        ),
        change("operator", "POST", "/api/operator/organizations/1/suspend", None, &[&organization, &[KEPT]]),
        change("operator", "POST", "/api/operator/organizations/2/resume", None, &[&organization, &[KEPT]]),
        change(
            "operator",
            "DELETE",
            "/api/operator/organizations/1?confirm=true",
            None,
            &[&organization, &of_project, &key],
        ),
        change("owner", "POST", "/api/admin/projects", Some(project.clone()), &[&NEW, &[("INSERT", "projects"), KEPT]]),
        change("owner", "PATCH", "/api/admin/projects/1", Some(project), &[&of_project, &[KEPT]]),
        change("owner", "DELETE", "/api/admin/projects/1?confirm=true", None, &[&of_project, &key]),
        change(
            "owner",
            "PUT",
            "/api/admin/projects/1/members/{never}",
            Some(role.clone()),
            &[&NEW, &[("INSERT", "members")]],
        ),
        change("owner", "PUT", "/api/admin/projects/1/members/{member}", Some(role), &[&member]),
        change("owner", "DELETE", "/api/admin/projects/1/members/{member}", None, &[&member]),
        change("owner", "POST", "/api/admin/organizations/api-keys", Some(name.clone()), &[&NEW, &new_key, &[KEPT]]),
        change("operator", "POST", "/api/operator/operator-keys", Some(name.clone()), &[&NEW, &new_key, &[KEPT]]),
        change("operator", "POST", "/api/operator/projects/1/system-keys", Some(name), &[&NEW, &new_key, &[KEPT]]),
        change(
            "operator",
            "POST",
            "/api/operator/projects/1/system-keys/{system}/rotate",
            None,
            &[&NEW, &new_key, &key, &[KEPT]],
        ),
        change("operator", "DELETE", "/api/operator/projects/1/system-keys/{system}", None, &[&key]),
        change("operator", "PUT", POLICY, Some(policy()), &[&[("INSERT", "counters"), ("INSERT", "policies")]]),
    ]
}

const POLICY: &str = "/api/operator/policy";

/// One that opens a route.
fn policy() -> Value {
    let rule = json!({"methods": ["POST"], "path": "/half", "role": "support", "public": true});
    json!({"policies": [{"name": "default", "read": "support", "write": "editor", "rules": [rule]}]})
}

/// An installation with a member, a system key, another organization that is suspended, and every key there is.
struct Ground {
    app: TestApp,
    database: Beside,
    never: i64,
    member: i64,
    system: i64,
    values: Vec<String>,
}

impl Ground {
    async fn new() -> Self {
        let app = TestApp::new().await;
        let database = app.beside().await;
        let others = app.install_others().await;
        let owner = ("POST", "/api/operator/organizations/2/suspend");
        assert_eq!(app.as_operator(owner, None).await.status, 200);
        let (never, first) = app.organization_key("member").await;
        let (member, second) = app.organization_key("member").await;
        let path = format!("/api/admin/projects/1/members/{member}");
        assert_eq!(app.as_owner(("PUT", &path), Some(json!({"role": "support"}))).await.status, 200);
        let (system, third) = app.system_key(json!({"name": "relay"})).await;
        let (_, fourth) = app.create(json!({"name": "plain"})).await;
        let first_keys = [&app.first_keys.project, &app.first_keys.organization, &app.first_keys.operator];
        let mut values = first_keys.map(|key| key.expose().to_owned()).to_vec();
        values.extend([first, second, third, fourth, others.owner, others.suspended]);
        Self { app, database, never, member, system, values }
    }

    /// All that can be seen.
    async fn seen(&self) -> String {
        let mut seen = Vec::new();
        for path in [
            "/api/operator/organizations",
            "/api/operator/operator-keys",
            "/api/operator/projects/1/system-keys",
            POLICY,
        ] {
            seen.push(self.app.as_operator(("GET", &format!("{path}?limit=-1")), None).await.text);
        }
        for path in ["/organizations/api-keys", "/projects", "/projects/1/keys", "/projects/1/members"] {
            seen.push(self.app.as_owner(("GET", &format!("/api/admin{path}?limit=-1")), None).await.text);
        }
        for value in &self.values {
            for path in ["/api/client/keys", "/api/admin/projects/1/keys", "/api/operator/organizations"] {
                seen.push(self.app.call_with(value, ("GET", path), None, &[]).await.status.to_string());
            }
        }
        let report = self.app.app.store.verify_audit().await.unwrap();
        seen.push(format!("{report:?}"));
        seen.join("\n")
    }

    async fn ask(&self, change: &Change, once: &str) -> u16 {
        let path =
            change.path.replace("{never}", &self.never.to_string()).replace("{member}", &self.member.to_string());
        let path = path.replace("{system}", &self.system.to_string());
        let keys = &self.app.first_keys;
        let caller = if change.who == "operator" { keys.operator.expose() } else { keys.organization.expose() };
        let headers = [("Idempotency-Key", once)];
        let headers = if change.does.contains(&KEPT) { &headers[..] } else { &[] };
        let reply = self.app.call_with(caller, (change.method, &path), change.body.clone(), headers).await;
        assert_eq!(reply.headers.contains_key("retry-after"), reply.status == 503, "{path}: {}", reply.text);
        reply.status
    }

    async fn break_it(&mut self, (verb, table): (&str, &str), when: &str) {
        self.database.break_it(verb, table, when).await;
    }

    async fn mend(&mut self, (verb, table): (&str, &str)) {
        self.database.mend(verb, table).await;
    }
}

#[tokio::test]
async fn a_change_is_done_whole_or_not_at_all() {
    for change in changes() {
        let mut ground = Ground::new().await;
        let before = ground.seen().await;
        let told = format!("{} {}", change.method, change.path);
        for statement in &change.does {
            // Of several rows any one may be the one that fails.
            let many = if statement == &("UPDATE", "api_keys") { 20 } else { 0 };
            for when in (0..=many).map(|id| if id == 0 { String::new() } else { format!("NEW.id = {id}") }) {
                ground.break_it(*statement, &when).await;
                let is_touched = when.is_empty() || ground.touches(&change, &when).await;
                if is_touched {
                    assert_eq!(ground.ask(&change, "half").await, 503, "{told} without {statement:?} {when}");
                }
                ground.mend(*statement).await;
                assert_eq!(ground.seen().await, before, "{told} without {statement:?} {when}");
            }
        }
        // With everything else broken it succeeds: nothing it does was left out above.
        let others: Vec<_> = STATEMENTS.iter().filter(|statement| !change.does.contains(statement)).collect();
        for statement in &others {
            ground.break_it(**statement, "").await;
        }
        assert_eq!(ground.ask(&change, "half").await, 200, "{told}");
        for statement in &others {
            ground.mend(**statement).await;
        }
        assert_ne!(ground.seen().await, before, "{told}");
        assert_eq!(ground.app.app.store.verify_audit().await.unwrap().faults, Vec::<String>::new(), "{told}");
    }
}

impl Ground {
    /// Whether a change that is about many keys is about this one: those of the first organization or project, or the one
    /// system key.
    async fn touches(&mut self, change: &Change, when: &str) -> bool {
        let beneath = match change.path {
            path if path.contains("{system}") => format!("id = {}", self.system),
            path if path.contains("organizations") => "organization_id = 1".to_owned(),
            _ => "project_id = 1".to_owned(),
        };
        let id = when.rsplit(' ').next().unwrap();
        let statement = format!("SELECT COUNT(*) FROM api_keys WHERE {beneath} AND revoked_at IS NULL AND id = {id}");
        self.database.number(statement).await == 1
    }
}

// ---- places where the process dies ---------------------------------------------------------------------------------

const KEYS: usize = 50;

/// A stopped installation whose second project has many keys.
struct Original {
    dir: TempDir,
    operator: String,
    owner: String,
    keys: Vec<String>,
}

impl Original {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let first = init(dir.path());
        let first = |name: &str| first[name].as_str().unwrap().to_owned();
        let (operator, owner) = (first("operator_key"), first("organization_key"));
        let server = Server::start(dir.path());
        let post = |path: &str, body: Value| {
            let reply = server.send("POST", path, &owner, Some(&body), &[]).unwrap();
            assert_eq!(reply.status, 200, "{}", reply.text);
            reply.json()
        };
        post("/api/admin/projects", json!({"name": "x", "locale": "en", "timezone": "UTC"}));
        let key = |_| post("/api/admin/projects/2/keys", json!({"name": "x", "role": "admin"}));
        let keys = (0..KEYS).map(key).map(|key| key["value"].as_str().unwrap().to_owned()).collect();
        assert!(server.stop().success());
        Self { dir, operator, owner, keys }
    }
}

/// Starts a server that dies in the middle of an archive, and sees that all of the keys live afterwards or none.
fn die_in_the_middle(
    Original { dir: original, operator, owner, keys }: &Original,
    route: &str,
    crash_at: Option<&str>,
    delay: Duration,
    is_done: Option<bool>,
) -> bool {
    let dir = tempfile::tempdir().unwrap();
    for name in ["keyrack.db", "root.key"] {
        fs::copy(original.path().join(name), dir.path().join(name)).unwrap();
    }
    let mut command = keyrack(dir.path());
    command.arg("serve").stderr(Stdio::null());
    if let Some(place) = crash_at {
        command.env("CRASH_AT", place);
    }
    let server = Server::try_start(&mut command).unwrap();
    // One small change, so that what the server does by itself when it starts is over.
    let patch = server.send("PATCH", "/api/admin/projects/1", owner, Some(&json!({"name": "first"})), &[]).unwrap();
    assert_eq!(patch.status, 200, "{}", patch.text);
    let caller = if route.contains("operator") { operator } else { owner };
    let pid = rustix::process::Pid::from_child(&server.child);
    let outcome = std::thread::scope(|scope| {
        let asked = scope.spawn(|| server.send("DELETE", route, caller, None, &[]));
        if crash_at.is_none() {
            std::thread::sleep(delay);
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
        }
        asked.join().unwrap()
    });
    assert!(crash_at.is_none() || outcome.is_err(), "{crash_at:?} was not passed: {outcome:?}");
    drop(server);

    let told = format!("{route} {crash_at:?} {delay:?}");
    let server = Server::start(dir.path());
    let live =
        keys.iter().filter(|key| server.send("GET", "/api/client/keys?limit=1", key, None, &[]).unwrap().status == 200);
    let live = live.count();
    assert!(live == 0 || live == KEYS, "{told}: {live} of {KEYS} keys are alive");
    let is_archived = live == 0;
    let project = server.send("GET", "/api/operator/projects/2/system-keys", operator, None, &[]).unwrap().status;
    assert_eq!(project, if is_archived { 404 } else { 200 }, "{told}");
    assert!(outcome.is_err() || is_archived, "{told} was acknowledged");
    assert!(is_done.is_none_or(|done| done == is_archived), "{told}: {live} of {KEYS} keys are alive");
    let verified = keyrack(dir.path()).args(["audit", "verify"]).output().unwrap();
    assert!(verified.status.success(), "{told}: {}", String::from_utf8_lossy(&verified.stdout));
    is_archived
}

const ARCHIVES: [&str; 2] = ["/api/admin/projects/2?confirm=true", "/api/operator/organizations/1?confirm=true"];

#[test]
fn an_archive_that_dies_at_a_named_place_has_taken_all_keys_or_none() {
    let original = Original::new();
    // The keys of the project, those of the organization and the first project's, two projects and the organization.
    let rows = [KEYS + 1, KEYS + 2 + 2 + 1];
    for (route, rows) in ARCHIVES.into_iter().zip(rows) {
        for row in [1, 2, KEYS / 2, rows - 1, rows] {
            die_in_the_middle(&original, route, Some(&format!("after-row:{}", 1 + row)), Duration::ZERO, Some(false));
        }
        // The change before has passed each of these.
        for (place, is_done) in [
            ("after-audit-entry:2", false),
            ("before-commit:2", false),
            ("after-commit:2", true),
            ("before-reply:2", true),
        ] {
            die_in_the_middle(&original, route, Some(place), Duration::ZERO, Some(is_done));
        }
    }
}

#[test]
fn an_archive_that_is_killed_at_any_time_has_taken_all_keys_or_none() {
    let original = Original::new();
    for route in ARCHIVES {
        let done =
            (0..12).filter(|step| die_in_the_middle(&original, route, None, Duration::from_micros(2_500 * step), None));
        println!("{route}: done in {} of 12", done.count());
    }
}

#[test]
fn a_policy_that_dies_at_a_named_place_is_in_force_whole_or_not_at_all() {
    let original = tempfile::tempdir().unwrap();
    let first = init(original.path());
    let operator = first["operator_key"].as_str().unwrap();
    // The change before has passed each of these.
    for (place, is_done) in [
        ("after-row:2", false),
        ("after-audit-entry:2", false),
        ("before-commit:2", false),
        ("after-commit:2", true),
        ("before-reply:2", true),
    ] {
        let dir = tempfile::tempdir().unwrap();
        for name in ["keyrack.db", "root.key"] {
            fs::copy(original.path().join(name), dir.path().join(name)).unwrap();
        }
        let mut command = keyrack(dir.path());
        let server = Server::try_start(command.arg("serve").stderr(Stdio::null()).env("CRASH_AT", place)).unwrap();
        let owner = first["organization_key"].as_str().unwrap();
        let patch = server.send("PATCH", "/api/admin/projects/1", owner, Some(&json!({"name": "first"})), &[]).unwrap();
        assert_eq!(patch.status, 200, "{}", patch.text);
        let outcome = server.send("PUT", POLICY, operator, Some(&policy()), &[]);
        assert!(outcome.is_err(), "{place} was not passed: {outcome:?}");
        drop(server);

        let server = Server::start(dir.path());
        let shown = server.send("GET", POLICY, operator, None, &[]).unwrap().json();
        let opened = shown["policies"] == policy()["policies"];
        assert_eq!((shown["version"] == 1, opened), (is_done, is_done), "{place}: {shown}");
        let again = server.send("PUT", POLICY, operator, Some(&policy()), &[]).unwrap().json();
        assert_eq!((&again["version"], &again["changed"]), (&json!(1), &json!(!is_done)), "{place}: {again}");
        drop(server);
        let verified = keyrack(dir.path()).args(["audit", "verify"]).output().unwrap();
        assert!(verified.status.success(), "{place}: {}", String::from_utf8_lossy(&verified.stdout));
    }
}
