//! Every command once against the real server, from the first login to the last archive.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::Person;
use crate::cli::{Host, create, words};
use crate::server::{KEYRACK, Server};

/// Somebody who logged in with every key of a new installation.
fn everybody() -> (Host, Server, Person) {
    let host = Host::new();
    let server = Server::start(&host.data());
    let person = Person::new();
    for name in ["project_key", "organization_key", "operator_key"] {
        let said = person.hears(&["login", "--url", &server.url], &words(&host.keys, name));
        assert_eq!((said.code, said.out.as_str()), (0, ""), "{name}: {said:?}");
    }
    (host, server, person)
}

/// What a command prints for programs.
fn does(person: &Person, command: &str) -> Value {
    let said = person.says(&format!("{command} --json").split(' ').collect::<Vec<_>>());
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{command}: {said:?}");
    said.json()
}

/// One field of every row of a list.
fn names(list: &Value, field: &str) -> Vec<String> {
    list["results"].as_array().unwrap().iter().map(|row| words(row, field)).collect()
}

#[test]
fn whoever_logged_in_is_known() {
    let (host, server, person) = everybody();
    let known = does(&person, "whoami");
    let shown: Vec<_> =
        known["keys"].as_array().unwrap().iter().map(|key| [&key["kind"], &key["state"], &key["role"]]).collect();
    let expected = [
        [json!("secret"), json!("accepted"), json!("admin")],
        [json!("organization"), json!("accepted"), json!("owner")],
        [json!("operator"), json!("accepted"), json!(null)],
    ];
    assert_eq!(json!(shown), json!(expected));
    assert!(words(&known["keys"][0], "of").starts_with("project 1 ("), "{known}");

    // A key of the lowest role may ask who it is; one that is dead may not.
    let low = person.says(&["keys", "create", "--name", "low"]).out;
    let other = Person::new();
    assert_eq!(other.hears(&["login", "--url", &server.url], &low).code, 0);
    assert_eq!(
        person
            .says(&[
                "keys",
                "revoke",
                "--yes",
                &does(&person, "keys list --search low")["results"][0]["id"].to_string()
            ])
            .code,
        0
    );
    assert_eq!(other.says(&["whoami"]).code, 3);
    assert_eq!(other.hears(&["login"], &low).code, 3);
    drop(host);
}

#[test]
fn an_organization_is_kept_from_the_command_line() {
    let (_host, server, person) = everybody();
    assert_eq!(does(&person, "org")["role"], "owner");
    let project =
        does(&person, "projects create --name Shop --locale en-GB --timezone Europe/London --link-wrap-email true");
    assert_eq!([&project["name"], &project["link_wrap_email"]], [&json!("Shop"), &json!(true)]);
    let id = project["id"].to_string();
    let project = does(&person, &format!("projects update {id} --description Sells --unset link_wrap_email"));
    assert_eq!([&project["description"], &project["link_wrap_email"]], [&json!("Sells"), &json!(null)]);
    assert_eq!(does(&person, &format!("projects get {id}")), project);
    assert_eq!(names(&does(&person, "projects list --search shop"), "name"), ["Shop"]);

    let made = person.says(&["keys", "create", "--project", &id, "--name", "admin", "--role", "admin"]);
    let admin = made.out.trim_end();
    assert_eq!(create(&server, admin), 200);
    assert_eq!(
        names(&does(&person, &format!("keys list --project {id} --sort name --direction asc")), "name"),
        ["admin", "made"]
    );

    let member = does(&person, "org-keys create --name helper --role member");
    let key = member["id"].to_string();
    assert_eq!(does(&person, &format!("org-keys update {key} --description Helps"))["description"], "Helps");
    assert_eq!(does(&person, &format!("org-keys get {key}"))["name"], "helper");
    assert_eq!(does(&person, &format!("projects members set {id} {key} --role editor"))["role"], "editor");
    let table = person.says(&["projects", "members", "list", &id]).out;
    assert!(table.lines().nth(1).unwrap().contains("helper") && table.lines().count() == 2, "{table}");
    assert_eq!(does(&person, &format!("projects members remove {id} {key}"))["effective"], "all");
    assert_eq!(does(&person, &format!("org-keys revoke {key} --yes"))["effective"], "all");
    assert_eq!(does(&person, "org-keys list")["results"].as_array().unwrap().len(), 1);

    assert_eq!(person.says(&["projects", "archive", &id]).code, 2);
    assert_eq!(create(&server, admin), 200);
    assert_eq!(does(&person, &format!("projects archive {id} --yes"))["revoked_keys"], 3);
    assert_eq!(create(&server, admin), 401);
    assert_eq!(person.says(&["projects", "get", &id]).code, 5);
    assert_eq!(person.says(&["projects", "create", "--name", "a", "--locale", "?", "--timezone", "Mars"]).code, 7);
}

#[test]
fn an_installation_is_kept_from_the_command_line() {
    let (_host, server, person) = everybody();
    let made = person.says(&["operator", "organizations", "create", "--username", "acme", "--domain", "acme.example"]);
    let owner = Person::new();
    assert_eq!(owner.hears(&["login", "--url", &server.url], &made.out).code, 0, "{made:?}");
    let id = does(&owner, "org")["organization"]["id"].to_string();
    assert!(made.err.contains("organization.username"), "{made:?}");
    assert_eq!(person.says(&["operator", "organizations", "create", "--username", "acme"]).code, 6);
    assert_eq!(names(&does(&person, "operator organizations list --search acme"), "username"), ["acme"]);

    assert_eq!(does(&person, &format!("operator organizations suspend {id} --yes"))["state"], "suspended");
    assert_eq!(owner.says(&["org"]).code, 3);
    assert_eq!(does(&person, &format!("operator organizations resume {id}"))["state"], "active");
    assert_eq!(owner.says(&["org"]).code, 0);
    assert_eq!(does(&person, &format!("operator organizations get {id}"))["live_keys"], 1);
    assert_eq!(does(&person, &format!("operator organizations archive {id} --yes"))["revoked_keys"], 1);
    assert_eq!(owner.says(&["org"]).code, 3);

    let first = does(&person, "operator system-keys create --project 1 --name engine --role admin");
    let rotated =
        person.says(&["operator", "system-keys", "rotate", &first["id"].to_string(), "--project", "1", "--yes"]);
    assert_eq!(
        (create(&server, &words(&first, "value")), create(&server, rotated.out.trim_end())),
        (401, 200),
        "{rotated:?}"
    );
    let listed = does(&person, "operator system-keys list --project 1");
    assert_eq!(names(&listed, "name"), ["engine"]);
    let id = listed["results"][0]["id"].to_string();
    assert_eq!(does(&person, &format!("operator system-keys revoke {id} --project 1 --yes"))["effective"], "all");

    let second = does(&person, "operator keys create --name second");
    assert_eq!(does(&person, "operator keys list")["results"].as_array().unwrap().len(), 2);
    let id = second["id"].to_string();
    assert_eq!(does(&person, &format!("operator keys revoke {id} --yes"))["effective"], "all");
    let last = does(&person, "operator keys list")["results"][0]["id"].to_string();
    assert_eq!(person.says(&["operator", "keys", "revoke", &last, "--yes"]).code, 6);
}

#[test]
fn the_audit_log_is_read_from_the_command_line() {
    let (_host, _server, person) = everybody();
    assert_eq!(person.says(&["keys", "create", "--name", "ci"]).code, 0);
    let newest = does(&person, "audit list --action key.create --actor secret_key --limit 1");
    assert_eq!(newest["results"][0]["after"]["name"], "ci");
    let target = format!("key:{}", newest["results"][0]["target"]["id"]);
    for surface in ["project", "organization", "operator"] {
        let found = does(&person, &format!("audit list --as {surface} --target {target} --since 2020-01-01T00:00:00Z"));
        assert_eq!(found["results"].as_array().unwrap().len(), 1, "{surface} {found}");
    }
    let none = does(&person, "audit list --until 2020-01-01T00:00:00Z --all");
    assert_eq!(none, json!({"results": [], "nextCursor": null}));
    let table = person.says(&["audit", "list", "--target", &target]).out;
    assert!(table.contains("secret_key:3  key.create  ") && table.contains("req_"), "{table}");
}

/// The script stands on its own: what a person would type, in one go.
#[test]
#[expect(clippy::disallowed_methods, reason = "not a setting of the service: where bash finds its commands")]
fn the_whole_journey_is_a_script() {
    let host = Host::new();
    let server = Server::start(&host.data());
    let person = Person::new();
    let path = format!("{}:{}", Path::new(KEYRACK).parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut bash = Command::new("bash");
    bash.args(["-c", include_str!("journey.sh")]).env_clear().env("PATH", path);
    bash.env("XDG_CONFIG_HOME", person.home.path()).env("URL", &server.url).env("DATA_DIR", host.data());
    let mut bash = bash.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    writeln!(bash.stdin.take().unwrap(), "{}", words(&host.keys, "operator_key")).unwrap();
    let said = bash.wait_with_output().unwrap();
    let [out, err] = [said.stdout, said.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(said.status.success(), "{out}\n{err}");
    let events = [
        "organization.create",
        "key.create",
        "project.create",
        "key.create",
        "key.create",
        "key.create",
        "key.update",
        "key.revoke",
    ];
    let log = out.split("-- what happened").nth(1).unwrap();
    let shown = log.lines().filter_map(|line| events.iter().find(|event| line.contains(**event)));
    assert_eq!(shown.copied().collect::<Vec<_>>(), [events.as_slice(), &["key.revoke"]].concat(), "{out}");
    let keys = out.split("-- three keys").nth(1).unwrap();
    let rows: Vec<_> = keys.lines().skip(2).take(3).map(|line| line.split_whitespace().nth(1).unwrap()).collect();
    assert_eq!(rows, ["web", "mobile", "ci"]);
    assert!(out.contains("The audit log is whole: 13 entries, 7 keys agree with it.\n13\n"), "{out}");
    assert!(err.contains("permission_denied") && err.contains("request req_"), "{err}");
    let secrets = out.split_whitespace().chain(err.split_whitespace());
    assert_eq!(secrets.filter(|word| keyrack::ApiKey::parse(word.as_bytes()).is_ok()).count(), 0, "{out}\n{err}");
}
