//! What each command asks of a server, and what it makes of its answers.

use keyrack::KeyKind;
use serde_json::{Value, json};

use super::stub::{Answer, Seen, Stub};
use super::terminal::AtTerminal;
use super::{Person, key_of};

fn person(stub: &Stub) -> Person {
    let [secret, organization, operator] = keys();
    Person::with(&stub.url, &[&secret, &organization, &operator])
}

fn keys() -> [String; 3] {
    [KeyKind::Secret, KeyKind::Organization, KeyKind::Operator].map(|kind| key_of(kind, 5))
}

/// Answers everything with one object that has all that any command looks for.
fn agreeable() -> Stub {
    let value = key_of(KeyKind::Secret, 9);
    let object =
        json!({"id": 1, "name": "n", "value": value, "owner_key": {"value": value}, "results": [], "nextCursor": null});
    Stub::start(move |_, _| Answer::ok(&object))
}

/// A request in one line: whose key, method, path, body.
fn line(seen: &Seen) -> String {
    let [secret, organization, operator] = keys();
    let whose = match seen.header("authorization").unwrap().strip_prefix("Bearer ").unwrap() {
        key if key == secret => "sk",
        key if key == organization => "ok",
        key if key == operator => "op",
        _ => "?",
    };
    format!("{whose} {} {} {}", seen.method, seen.path, seen.body).trim_end().to_owned()
}

/// Runs a command and compares what it asked for.
fn asks(command: &str, expected: &[&str]) {
    let stub = agreeable();
    let arguments: Vec<_> = command.split(' ').collect();
    let said = person(&stub).says(&arguments);
    assert_eq!(said.code, 0, "{command}: {said:?}");
    let seen = stub.seen();
    assert_eq!(seen.iter().map(line).collect::<Vec<_>>(), expected, "{command}");
    for request in seen {
        let repeats = matches!(&*request.method, "POST" | "PATCH");
        let key = request.header("idempotency-key");
        assert_eq!(key.is_some_and(|key| key.len() == 32), repeats, "{command}");
        assert_eq!(
            request.header("content-type"),
            (!request.body.is_empty()).then_some("application/json"),
            "{command}"
        );
    }
}

#[test]
fn commands_of_a_project_ask_for_what_they_say() {
    asks("keys list --limit 5 --search x", &["sk GET /api/client/keys?q=x&limit=5"]);
    asks("keys list --project 7", &["ok GET /api/admin/projects/7/keys"]);
    asks("keys --project 7 create --name a", &["ok POST /api/admin/projects/7/keys {\"name\":\"a\"}"]);
    asks("keys get 3 --project 7", &["ok GET /api/admin/projects/7/keys/3"]);
    asks("keys update 3 --scope public --project 7", &["ok PATCH /api/admin/projects/7/keys/3 {\"scope\":\"public\"}"]);
    asks("keys update 3 --no-description", &["sk PATCH /api/client/keys/3 {\"description\":null}"]);
    asks("keys revoke 3 --project 7 -y", &["ok DELETE /api/admin/projects/7/keys/3"]);
}

#[test]
fn commands_of_an_organization_ask_for_what_they_say() {
    asks("org", &["ok GET /api/admin/organizations/me"]);
    asks(
        "org-keys list --sort role --direction asc",
        &["ok GET /api/admin/organizations/api-keys?sort=role&direction=asc"],
    );
    asks(
        "org-keys create --name a --role owner",
        &[r#"ok POST /api/admin/organizations/api-keys {"name":"a","role":"owner"}"#],
    );
    asks("org-keys get 2", &["ok GET /api/admin/organizations/api-keys/2"]);
    asks("org-keys update 2 --name b", &[r#"ok PATCH /api/admin/organizations/api-keys/2 {"name":"b"}"#]);
    asks("org-keys revoke 2 --yes", &["ok DELETE /api/admin/organizations/api-keys/2"]);
    asks("projects list", &["ok GET /api/admin/projects"]);
    asks(
        "projects create --name a --locale en --timezone UTC --link-wrap-email false --website-url https://a",
        &[
            r#"ok POST /api/admin/projects {"link_wrap_email":false,"locale":"en","name":"a","timezone":"UTC","website_url":"https://a"}"#,
        ],
    );
    asks("projects get 4", &["ok GET /api/admin/projects/4"]);
    asks(
        "projects update 4 --name b --unset website_url --unset track_opens_email",
        &[r#"ok PATCH /api/admin/projects/4 {"name":"b","track_opens_email":null,"website_url":null}"#],
    );
    asks("projects archive 4 --yes", &["ok DELETE /api/admin/projects/4?confirm=true"]);
    asks("projects members list 4", &["ok GET /api/admin/projects/4/members"]);
    asks("projects members set 4 9 --role editor", &[r#"ok PUT /api/admin/projects/4/members/9 {"role":"editor"}"#]);
    asks("projects members remove 4 9", &["ok DELETE /api/admin/projects/4/members/9"]);
}

#[test]
fn commands_of_an_operator_ask_for_what_they_say() {
    asks("operator organizations list", &["op GET /api/operator/organizations"]);
    asks(
        "operator organizations create --username a-b --domain a.example",
        &[r#"op POST /api/operator/organizations {"domain":"a.example","username":"a-b"}"#],
    );
    asks("operator organizations get 2", &["op GET /api/operator/organizations/2"]);
    asks("operator organizations suspend 2 --yes", &["op POST /api/operator/organizations/2/suspend"]);
    asks("operator organizations resume 2", &["op POST /api/operator/organizations/2/resume"]);
    asks("operator organizations archive 2 --yes", &["op DELETE /api/operator/organizations/2?confirm=true"]);
    asks("operator system-keys list --project 3", &["op GET /api/operator/projects/3/system-keys"]);
    asks(
        "operator system-keys create --name a --project 3",
        &[r#"op POST /api/operator/projects/3/system-keys {"name":"a"}"#],
    );
    asks("operator system-keys rotate 8 --project 3 --yes", &["op POST /api/operator/projects/3/system-keys/8/rotate"]);
    asks("operator system-keys revoke 8 --project 3 --yes", &["op DELETE /api/operator/projects/3/system-keys/8"]);
    asks("operator keys list --all", &["op GET /api/operator/operator-keys?limit=100"]);
    asks("operator keys create --name a", &[r#"op POST /api/operator/operator-keys {"name":"a"}"#]);
    asks("operator keys revoke 5 --yes", &["op DELETE /api/operator/operator-keys/5"]);
}

#[test]
fn the_audit_list_asks_as_whom_it_is_told_to() {
    asks("audit list", &["sk GET /api/client/audit-events"]);
    asks(
        "audit list --as organization --actor secret_key:3 --action key.create --limit 2",
        &["ok GET /api/admin/audit-events?actor=secret_key%3A3&action=key.create&limit=2"],
    );
    asks(
        "audit list --as operator --target key:7 --since 2026-04-28T00:00:00Z --until 2026-04-29 --all",
        &["op GET /api/operator/audit-events?target=key%3A7&since=2026-04-28T00%3A00%3A00Z&until=2026-04-29&limit=100"],
    );
    let stub = agreeable();
    let only_operator = Person::with(&stub.url, &[&keys()[2]]);
    assert_eq!(only_operator.says(&["audit", "list"]).code, 0);
    assert_eq!(stub.seen().iter().map(line).collect::<Vec<_>>(), ["op GET /api/operator/audit-events"]);
}

#[test]
fn the_owner_key_of_a_new_organization_is_printed_alone() {
    let value = key_of(KeyKind::Organization, 9);
    let made =
        json!({"organization": {"id": 2, "username": "acme"}, "owner_key": {"id": 5, "name": "Owner", "value": value}});
    let stub = Stub::start(move |_, _| Answer::ok(&made));
    let said = person(&stub).says(&["operator", "organizations", "create", "--username", "acme"]);
    assert_eq!((said.code, said.out.as_str()), (0, &*format!("{}\n", key_of(KeyKind::Organization, 9))));
    assert!(said.err.contains("organization.username  acme") && !said.err.contains(said.out.trim()), "{said:?}");
}

#[test]
fn nothing_that_kills_keys_is_done_without_a_yes() {
    let stub = agreeable();
    for command in [
        "keys revoke 1",
        "org-keys revoke 1",
        "projects archive 1",
        "operator organizations suspend 1",
        "operator organizations archive 1",
        "operator system-keys rotate 1 --project 1",
        "operator system-keys revoke 1 --project 1",
        "operator keys revoke 1",
    ] {
        let said = person(&stub).says(&command.split(' ').collect::<Vec<_>>());
        assert!(said.code == 2 && said.err.contains("--yes") && said.out.is_empty(), "{command}: {said:?}");
    }
    assert!(stub.seen().is_empty());
}

#[test]
fn an_archive_shows_what_would_die_and_asks() {
    let stub = Stub::start(|_, seen| {
        if seen.path.ends_with("?confirm=true") {
            Answer::ok(&json!({"id": 1, "revoked_keys": 12, "effective": "all"}))
        } else {
            Answer::problem(409, "state_conflict")
        }
    });
    let person = person(&stub);
    for (typed, code, calls) in [("n\n", 10, 1), ("\n", 10, 1), ("yes\n", 0, 2)] {
        let mut terminal = AtTerminal::start(&mut person.command(&["projects", "archive", "1"]));
        terminal.answer("cannot be undone. [y/N] ", typed);
        let (ended, shown) = terminal.end();
        assert!(shown.contains("The server says state_conflict."), "{shown}");
        assert_eq!((ended, stub.seen().len()), (code, calls), "{shown}");
    }
    let other = Stub::start(|_, _| Answer::problem(404, "resource_missing"));
    let person = self::person(&other);
    assert_eq!(AtTerminal::start(&mut person.command(&["projects", "archive", "1"])).end().0, 5);
}

#[test]
fn every_class_of_failure_has_its_code() {
    for (status, code) in
        [(400, 7), (401, 3), (403, 4), (404, 5), (409, 6), (413, 7), (415, 7), (422, 7), (429, 8), (500, 9), (503, 9)]
    {
        let stub = Stub::start(move |_, _| Answer::problem(status, "some_code").with("Retry-After", "60"));
        let said = person(&stub).says(&["keys", "create", "--name", "a"]);
        assert_eq!((said.code, said.out.as_str(), stub.seen().len()), (code, "", 1), "{status}");
        assert!(said.err.contains("The server says some_code.") && said.err.contains("request req_STUB"), "{said:?}");
    }
}

#[test]
fn what_is_safe_to_repeat_is_repeated_with_one_idempotency_key() {
    let unsure: [fn() -> Answer; 4] = [
        || Answer::CutOff,
        || Answer::problem(503, "service_unavailable"),
        || Answer::problem(429, "rate_limited").with("Retry-After", "1"),
        || Answer::problem(409, "idempotency_in_progress").with("Retry-After", "1"),
    ];
    for answer in unsure {
        let made = json!({"id": 1, "value": "v"});
        let stub = Stub::start(move |number, _| if number < 2 { answer() } else { Answer::ok(&made) });
        let said = person(&stub).says(&["keys", "create", "--name", "a"]);
        assert_eq!((said.code, said.out.as_str()), (0, "v\n"), "{said:?}");
        let keys: Vec<_> = stub.seen().iter().map(|seen| seen.header("idempotency-key").unwrap().to_owned()).collect();
        assert!(keys.len() == 3 && keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    }
    let stub = Stub::start(|_, _| Answer::CutOff);
    let said = person(&stub).says(&["keys", "create", "--name", "a"]);
    assert!(said.code == 9 && said.err.contains("not known whether it was done"), "{said:?}");
    assert_eq!(stub.seen().len(), 4);
    // A second delete would say that there is nothing to delete.
    for answer in [|| Answer::CutOff, || Answer::problem(503, "service_unavailable")] {
        let stub = Stub::start(move |_, _| answer());
        let said = person(&stub).says(&["keys", "revoke", "1", "--yes"]);
        assert!(said.code == 9 && said.err.contains("not known whether it was done"), "{said:?}");
        assert_eq!(stub.seen().len(), 1);
    }
}

#[test]
fn a_key_is_not_carried_to_where_a_server_points() {
    let elsewhere = agreeable();
    let to = format!("{}/api/client/keys", elsewhere.url);
    let stub = Stub::start(move |_, _| Answer::Reply(307, vec![("Location", to.clone())], String::new()));
    for arguments in [&["keys", "list"][..], &["keys", "create", "--name", "a"], &["keys", "revoke", "1", "--yes"]] {
        let said = person(&stub).says(arguments);
        assert!(said.code == 9 && said.err.contains("redirects"), "{said:?}");
    }
    assert!(elsewhere.seen().is_empty());
}

#[test]
fn a_server_that_is_not_keyrack_is_recognized() {
    for (status, body) in [(200, "<html>"), (502, "<html>\u{1b}[2J"), (200, "[]")] {
        let stub = Stub::start(move |_, _| Answer::Reply(status, Vec::new(), body.to_owned()));
        let said = person(&stub).says(&["keys", "get", "1"]);
        assert!(said.code == 9 && said.err.contains("is the URL right?") && !said.err.contains("<html>"), "{said:?}");
    }
    let endless = Stub::start(|_, _| Answer::ok(&json!({"results": [{"id": 1}], "nextCursor": "same"})));
    assert_eq!(person(&endless).says(&["keys", "list", "--all"]).code, 9);
    let huge = Stub::start(|_, _| Answer::ok(&json!({"id": 1, "name": "x".repeat(17 << 20)})));
    assert_eq!(person(&huge).says(&["keys", "get", "1"]).code, 9);
}

#[test]
fn who_and_what_are_shown_in_one_word() {
    let event = |id: u32, actor: Value| json!({"id": id, "actor": actor, "action": "key.create", "target": {"kind": "key", "id": 7}});
    let page = json!({
        "results": [event(2, json!({"kind": "secret_key", "id": 3})), event(1, json!({"kind": "host", "id": null}))],
        "nextCursor": null,
    });
    let stub = Stub::start(move |_, _| Answer::ok(&page));
    let said = person(&stub).says(&["audit", "list"]);
    let lines: Vec<_> = said.out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        lines,
        ["ID AT ACTOR ACTION TARGET REQUEST", "2 - secret_key:3 key.create key:7 -", "1 - host key.create key:7 -"]
    );
}

#[test]
fn a_slow_answer_is_bridged_at_a_terminal() {
    let slow = Stub::start(|_, _| {
        std::thread::sleep(std::time::Duration::from_millis(1500));
        Answer::ok(&json!({"id": 1}))
    });
    let person = person(&slow);
    let (code, shown) = AtTerminal::start(&mut person.command(&["keys", "get", "1"])).end();
    assert!(code == 0 && shown.contains("Waiting for the server"), "{shown:?}");
    assert_eq!(person.says(&["keys", "get", "1"]).err, "");
}
