//! Nobody gives away more than it has, and nobody raises itself: every caller, every role, every call that grants one.

use std::collections::BTreeMap;

use expect_test::expect;
use keyrack::{ApiKey, Holder, KeyDigest, Lookup, OrganizationId, OrganizationRole, ProjectId, ProjectRole, Scope};
use keyrack_server::actor::Actor;
use keyrack_server::keys::{self, KeyPatch, Labels, LabelsPatch, NewKey, Powers};
use keyrack_server::place::{OrganizationCaller, ProjectCaller};
use keyrack_server::projects;
use keyrack_server::refusal::Refusal;
use keyrack_server::store::{By, Need};
use serde_json::{Value, json};

use crate::app::TestApp;

const PROJECT_ROLES: [&str; 5] = ["support", "smtpproxy", "editor", "publisher", "admin"];
const ORGANIZATION_ROLES: [&str; 3] = ["member", "admin", "owner"];
const ORGANIZATION_KEYS: &str = "/api/admin/organizations/api-keys";

// ---- the rules, whoever asks ---------------------------------------------------------------------------------------

/// What a caller of each role may grant, low to high, for one operation.
fn granted<R: Copy>(roles: &[R], word: fn(R) -> &'static str, outcomes: &[Vec<Result<(), Refusal>>]) -> String {
    let mut lines = String::new();
    for (caller, outcomes) in roles.iter().zip(outcomes) {
        let of = |(role, outcome): (&R, &Result<(), Refusal>)| match outcome {
            Ok(()) => Some(word(*role)),
            Err(Refusal::RoleAboveCaller { asked }) if *asked == word(*role) => None,
            Err(other) => panic!("{} asked for {}: {other}", word(*caller), word(*role)),
        };
        let granted: Vec<_> = roles.iter().zip(outcomes).filter_map(of).collect();
        lines += &format!("{}: {}\n", word(*caller), granted.join(" "));
    }
    lines
}

/// The doors let only the highest roles in; should one of them open wider one day, this still holds.
#[tokio::test]
async fn no_operation_on_a_project_grants_more_than_its_caller_has() {
    let app = TestApp::asked_once().await;
    let (target, _) = app.create(json!({"name": "target"})).await;
    let (member, _) = app.organization_key("member").await;
    let by = By { actor: Actor::HOST, request_id: "test".to_owned() };
    let random = app.app.random.as_ref();
    for operation in ["issue", "issue a system key", "change", "give"] {
        let mut outcomes = Vec::new();
        for own in ProjectRole::ALL {
            let caller = ProjectCaller { project: ProjectId(1), organization: OrganizationId(1), role: *own };
            let mut row = Vec::new();
            for role in ProjectRole::ALL.iter().copied() {
                let mut writing = app.app.store.begin(Need::Ordinary).await.unwrap();
                let new = NewKey { labels: Labels::named("x"), scope: Scope::Secret, role, powers: Powers::default() };
                let patch = KeyPatch { role: Some(role), ..KeyPatch::default() };
                row.push(match operation {
                    "issue" => keys::issue(&mut writing, caller, new, &by, random).await.map(drop),
                    "issue a system key" => {
                        keys::issue_system_key(&mut writing, caller, new, &by, random).await.map(drop)
                    }
                    "change" => keys::change(&mut writing, caller, target, patch, &by).await.map(drop),
                    _ => projects::give(&mut writing, caller, member, role, &by).await.map(drop),
                });
                writing.abandon().await.unwrap();
            }
            outcomes.push(row);
        }
        expect![[r#"
            support: support
            smtpproxy: support smtpproxy
            editor: support smtpproxy editor
            publisher: support smtpproxy editor publisher
            admin: support smtpproxy editor publisher admin
        "#]]
        .assert_eq(&granted(ProjectRole::ALL, ProjectRole::as_str, &outcomes));
    }
}

#[tokio::test]
async fn no_operation_on_an_organization_grants_more_than_its_caller_has() {
    let app = TestApp::asked_once().await;
    let (target, _) = app.organization_key("member").await;
    let by = By { actor: Actor::HOST, request_id: "test".to_owned() };
    let random = app.app.random.as_ref();
    for operation in ["issue", "change"] {
        let mut outcomes = Vec::new();
        for own in OrganizationRole::ALL {
            let caller = OrganizationCaller { organization: OrganizationId(1), role: *own };
            let mut row = Vec::new();
            for role in OrganizationRole::ALL.iter().copied() {
                let mut writing = app.app.store.begin(Need::Ordinary).await.unwrap();
                let new = (Labels::named("x"), role);
                let patch = (LabelsPatch::default(), Some(role));
                row.push(match operation {
                    "issue" => keys::issue_organization_key(&mut writing, caller, new, &by, random).await.map(drop),
                    _ => keys::change_organization_key(&mut writing, caller, target, patch, &by).await.map(drop),
                });
                writing.abandon().await.unwrap();
            }
            outcomes.push(row);
        }
        expect![[r#"
            member: member
            admin: member admin
            owner: member admin owner
        "#]]
        .assert_eq(&granted(OrganizationRole::ALL, OrganizationRole::as_str, &outcomes));
    }
}

// ---- the doors -----------------------------------------------------------------------------------------------------

/// Somebody with a key.
struct Caller {
    id: i64,
    value: String,
}

const CALLERS: [&str; 17] = [
    "sk support",
    "sk smtpproxy",
    "sk editor",
    "sk publisher",
    "sk admin",
    "pk admin",
    "narrowed sk admin",
    "ok member",
    "ok admin",
    "ok owner",
    "member as support",
    "member as smtpproxy",
    "member as editor",
    "member as publisher",
    "member as admin",
    "owner elsewhere",
    "operator",
];

/// Makes a caller.
async fn caller(app: &TestApp, who: &str) -> Caller {
    let (kind, role) = who.rsplit_once(' ').unwrap_or((who, ""));
    let (id, value) = match kind {
        "sk" => app.create(json!({"name": who, "role": role})).await,
        "pk" => app.create(json!({"name": who, "role": role, "scope": "public"})).await,
        "narrowed sk" => {
            let (id, value) = app.create(json!({"name": who, "role": role})).await;
            let path = format!("/api/client/keys/{id}");
            assert_eq!(app.call(("PATCH", &path), Some(json!({"scope": "public"}))).await.status, 200);
            (id, value)
        }
        "ok" => app.organization_key(role).await,
        "member as" => {
            let (id, value) = app.organization_key("member").await;
            let path = format!("/api/admin/projects/1/members/{id}");
            assert_eq!(app.as_owner(("PUT", &path), Some(json!({"role": role}))).await.status, 200);
            (id, value)
        }
        "owner" => {
            let bytes: [u8; 8] = keyrack_server::random::bytes(app.app.random.as_ref());
            let body = json!({"username": data_encoding::HEXLOWER.encode(&bytes)});
            let made = app.as_operator(("POST", "/api/operator/organizations"), Some(body)).await.json();
            id_and_value(&made["owner_key"])
        }
        _ => {
            let made =
                app.as_operator(("POST", "/api/operator/operator-keys"), Some(json!({"name": who}))).await.json();
            id_and_value(&made)
        }
    };
    Caller { id, value }
}

fn id_and_value(key: &Value) -> (i64, String) {
    (key["id"].as_i64().unwrap(), key["value"].as_str().unwrap().to_owned())
}

/// What a key may do, as its verification sees it.
fn roles_of(app: &TestApp, value: &str) -> (Option<ProjectRole>, Option<OrganizationRole>, Option<Scope>) {
    let digest = KeyDigest::of(&ApiKey::parse(value.as_bytes()).unwrap());
    let Ok(Lookup::Live(record)) = app.app.verifier.index().find(&digest) else { panic!("{value} is not live") };
    match record.holder {
        Holder::Project { role, scope, .. } => (Some(role), None, Some(scope)),
        Holder::Organization { role, .. } => (None, Some(role), None),
        Holder::Operator | Holder::Follower => (None, None, None),
    }
}

/// The number of the newest entry of the audit log.
async fn newest_entry(app: &TestApp) -> Value {
    app.as_operator(("GET", "/api/operator/audit-events?limit=1"), None).await.json()["results"][0]["id"].clone()
}

/// Every call that grants a role; `{self}` is the caller's own key.
const CALLS: [(&str, &str, &[&str]); 11] = [
    ("POST", "/api/client/keys", &PROJECT_ROLES),
    ("PATCH", "/api/client/keys/{key}", &PROJECT_ROLES),
    ("PATCH", "/api/client/keys/{self}", &PROJECT_ROLES),
    ("POST", "/api/admin/projects/1/keys", &PROJECT_ROLES),
    ("PATCH", "/api/admin/projects/1/keys/{key}", &PROJECT_ROLES),
    ("POST", ORGANIZATION_KEYS, &ORGANIZATION_ROLES),
    ("PATCH", "/api/admin/organizations/api-keys/{member}", &ORGANIZATION_ROLES),
    ("PATCH", "/api/admin/organizations/api-keys/{self}", &ORGANIZATION_ROLES),
    ("PUT", "/api/admin/projects/1/members/{member}", &PROJECT_ROLES),
    ("PUT", "/api/admin/projects/1/members/{self}", &PROJECT_ROLES),
    ("POST", "/api/operator/projects/1/system-keys", &PROJECT_ROLES),
];

/// What one caller is answered, for each role.
async fn answers(app: &TestApp, who: &str, (method, path, roles): (&str, &str, &[&str])) -> String {
    let (key, _) = app.create(json!({"name": "target"})).await;
    let (member, _) = app.organization_key("member").await;
    let mut answers = Vec::new();
    for role in roles {
        let caller = caller(app, who).await;
        let path = path.replace("{key}", &key.to_string()).replace("{member}", &member.to_string());
        let path = path.replace("{self}", &caller.id.to_string());
        let body = if method == "POST" { json!({"name": "x", "role": role}) } else { json!({"role": role}) };
        let before = roles_of(app, &caller.value);
        let entries = newest_entry(app).await;
        let reply = app.call_with(&caller.value, (method, &path), Some(body), &[]).await;
        let after = roles_of(app, &caller.value);
        assert!(after.0 <= before.0 && after.1 <= before.1 && after.2 == before.2, "{who} raised itself by {path}");
        if reply.status != 200 {
            let now = newest_entry(app).await;
            assert_eq!(now, entries, "{who} was refused {method} {path} {role}, and changed something");
        }
        answers.push(reply.status.to_string());
    }
    answers.dedup();
    answers.join(" ")
}

#[tokio::test]
async fn who_may_grant_what() {
    let app = TestApp::new().await;
    let mut table = String::new();
    for call in CALLS {
        table += &format!("{} {}\n", call.0, call.1);
        let mut by_answer: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for who in CALLERS {
            by_answer.entry(answers(&app, who, call).await).or_default().push(who);
        }
        for (answer, callers) in by_answer {
            table += &format!("    {answer}: {}\n", callers.join(", "));
        }
    }
    expect![[r#"
        POST /api/client/keys
            200: sk admin
            401: pk admin, ok member, ok admin, ok owner, member as support, member as smtpproxy, member as editor, member as publisher, member as admin, owner elsewhere, operator
            403: sk support, sk smtpproxy, sk editor, sk publisher, narrowed sk admin
        PATCH /api/client/keys/{key}
            200: sk admin
            401: pk admin, ok member, ok admin, ok owner, member as support, member as smtpproxy, member as editor, member as publisher, member as admin, owner elsewhere, operator
            403: sk support, sk smtpproxy, sk editor, sk publisher, narrowed sk admin
        PATCH /api/client/keys/{self}
            200: sk admin
            401: pk admin, ok member, ok admin, ok owner, member as support, member as smtpproxy, member as editor, member as publisher, member as admin, owner elsewhere, operator
            403: sk support, sk smtpproxy, sk editor, sk publisher, narrowed sk admin
        POST /api/admin/projects/1/keys
            200: ok admin, ok owner, member as admin
            401: sk support, sk smtpproxy, sk editor, sk publisher, sk admin, pk admin, narrowed sk admin, operator
            403: member as support, member as smtpproxy, member as editor, member as publisher
            404: ok member, owner elsewhere
        PATCH /api/admin/projects/1/keys/{key}
            200: ok admin, ok owner, member as admin
            401: sk support, sk smtpproxy, sk editor, sk publisher, sk admin, pk admin, narrowed sk admin, operator
            403: member as support, member as smtpproxy, member as editor, member as publisher
            404: ok member, owner elsewhere
        POST /api/admin/organizations/api-keys
            200: ok owner, owner elsewhere
            401: sk support, sk smtpproxy, sk editor, sk publisher, sk admin, pk admin, narrowed sk admin, operator
            403: ok member, ok admin, member as support, member as smtpproxy, member as editor, member as publisher, member as admin
        PATCH /api/admin/organizations/api-keys/{member}
            200: ok owner
            401: sk support, sk smtpproxy, sk editor, sk publisher, sk admin, pk admin, narrowed sk admin, operator
            403: ok member, ok admin, member as support, member as smtpproxy, member as editor, member as publisher, member as admin
            404: owner elsewhere
        PATCH /api/admin/organizations/api-keys/{self}
            200: ok owner, owner elsewhere
            401: sk support, sk smtpproxy, sk editor, sk publisher, sk admin, pk admin, narrowed sk admin, operator
            403: ok member, ok admin, member as support, member as smtpproxy, member as editor, member as publisher, member as admin
        PUT /api/admin/projects/1/members/{member}
            200: ok admin, ok owner
            401: sk support, sk smtpproxy, sk editor, sk publisher, sk admin, pk admin, narrowed sk admin, operator
            403: ok member, member as support, member as smtpproxy, member as editor, member as publisher, member as admin
            404: owner elsewhere
        PUT /api/admin/projects/1/members/{self}
            401: sk support, sk smtpproxy, sk editor, sk publisher, sk admin, pk admin, narrowed sk admin, operator
            403: ok member, member as support, member as smtpproxy, member as editor, member as publisher, member as admin
            404: owner elsewhere
            409: ok admin, ok owner
        POST /api/operator/projects/1/system-keys
            200: operator
            401: sk support, sk smtpproxy, sk editor, sk publisher, sk admin, pk admin, narrowed sk admin, ok member, ok admin, ok owner, member as support, member as smtpproxy, member as editor, member as publisher, member as admin, owner elsewhere
    "#]].assert_eq(&table);
}

// ---- what nobody may say -------------------------------------------------------------------------------------------

/// Names that stand in replies, in rows or in other calls, and decide something there.
const NOT_YOURS: [&str; 30] = [
    "id",
    "project_id",
    "organization_id",
    "key_id",
    "user_id",
    "userId",
    "value",
    "is_system_key",
    "is_system",
    "kind",
    "scope",
    "role",
    "Role",
    "standing",
    "state",
    "created_at",
    "updated_at",
    "created_by",
    "last_changed_by",
    "revoked_at",
    "archived_at",
    "version",
    "mask",
    "digest",
    "mac",
    "permissions",
    "projects",
    "live_keys",
    "effective",
    "internal",
];

#[tokio::test]
async fn what_decides_something_is_no_field_of_any_body() {
    let app = TestApp::new().await;
    let (key, _) = app.create(json!({"name": "target"})).await;
    let (member, _) = app.organization_key("member").await;
    let (system, _) = app.system_key(json!({"name": "relay"})).await;
    let project = json!({"name": "x", "locale": "en", "timezone": "UTC"});
    let (owner, operator) = (app.first_keys.organization.expose(), app.first_keys.operator.expose());
    let name = json!({"name": "x"});
    let key_fields: &[&str] = &["scope", "role", "permissions"];
    let calls: [(&str, &str, String, Value, &[&str]); 15] = [
        (app.admin(), "POST", "/api/client/keys".to_owned(), name.clone(), key_fields),
        (app.admin(), "PATCH", format!("/api/client/keys/{key}"), name.clone(), key_fields),
        (owner, "POST", "/api/admin/projects/1/keys".to_owned(), name.clone(), key_fields),
        (owner, "PATCH", format!("/api/admin/projects/1/keys/{key}"), name.clone(), key_fields),
        (owner, "POST", ORGANIZATION_KEYS.to_owned(), name.clone(), &["role"]),
        (owner, "PATCH", format!("{ORGANIZATION_KEYS}/{member}"), name.clone(), &["role"]),
        (owner, "POST", "/api/admin/projects".to_owned(), project.clone(), &[]),
        (owner, "PATCH", "/api/admin/projects/1".to_owned(), project, &[]),
        (owner, "PUT", format!("/api/admin/projects/1/members/{member}"), json!({"role": "support"}), &["role"]),
        (operator, "POST", "/api/operator/organizations".to_owned(), json!({"username": "x"}), &[]),
        (operator, "POST", "/api/operator/organizations/1/suspend".to_owned(), json!({}), &[]),
        (operator, "POST", "/api/operator/organizations/1/resume".to_owned(), json!({}), &[]),
        (operator, "POST", "/api/operator/projects/1/system-keys".to_owned(), name.clone(), key_fields),
        (operator, "POST", format!("/api/operator/projects/1/system-keys/{system}/rotate"), json!({}), &[]),
        (operator, "POST", "/api/operator/operator-keys".to_owned(), name, &[]),
    ];
    let entries = app.app.store.verify_audit().await.unwrap().entries;
    for (caller, method, path, good, known) in &calls {
        for field in NOT_YOURS.iter().filter(|field| !known.contains(field)) {
            for value in [json!(1), json!("admin"), json!(true), json!(null)] {
                let mut body = good.clone();
                body[*field] = value;
                let reply = app.call_with(caller, (method, path), Some(body.clone()), &[]).await;
                assert_eq!(reply.status, 422, "{method} {path} {body}: {}", reply.text);
                let faults = reply.json()["errors"].clone();
                let unknown = json!({"param": field, "code": "parameter_unknown", "message": faults[0]["message"]});
                assert_eq!(faults, json!([unknown]), "{method} {path} {body}");
            }
        }
    }
    assert_eq!(app.app.store.verify_audit().await.unwrap().entries, entries, "something was changed");
    // Each of these bodies does without the field, so that nothing else was what was refused.
    for (caller, method, path, good, _) in calls.iter().filter(|(_, _, path, ..)| !path.ends_with("suspend")) {
        let reply = app.call_with(caller, (method, path), Some(good.clone()), &[]).await;
        assert_eq!(reply.status, 200, "{method} {path}: {}", reply.text);
    }
}
