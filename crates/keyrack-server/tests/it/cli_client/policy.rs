//! `keyrack policy`, and what it means for keys, through the real binary against the real server.

use std::fs;

use serde_json::json;

use super::Person;
use crate::cli::{Host, words};
use crate::server::Server;

const POLICY: &str = r#"
[[policies]]
name = "default"
read = "support"
write = "editor"

[[policies.rules]]
methods = ["POST"]
path = "/events"
role = "support"
"#;

/// A server, and somebody with an operator's and an admin key, whose files are in the directory they are in.
fn operator() -> (Host, Server, Person) {
    let host = Host::new();
    let server = Server::start(&host.data());
    let person = Person::with(&server.url, &[&words(&host.keys, "operator_key"), &words(&host.keys, "project_key")]);
    write(&person, "policy.toml", POLICY);
    (host, server, person)
}

fn write(person: &Person, name: &str, text: &str) {
    fs::write(person.home.path().join(name), text).unwrap();
}

fn opened() -> String {
    format!("{POLICY}public = true\n\n[[policies.rules]]\nmethods = [\"*\"]\npath = \"/admin/**\"\nrole = \"admin\"\n")
}

#[test]
fn every_fault_of_a_file_is_named_with_its_line() {
    let (_host, _server, person) = operator();
    let odd = POLICY.replace("\"/events\"", "\"events\"").replace("role = \"support\"", "role = \"boss\"\nwhat = 1");
    write(&person, "odd.toml", &odd);
    let said = person.says(&["policy", "check", "odd.toml"]);
    assert_eq!((said.code, said.out.as_str()), (1, ""));
    for line in ["odd.toml: 3 fault(s)", "line 9: policies[0].rules[0].path: ", "line 10: policies[0].rules[0].role: "]
    {
        assert!(said.err.contains(line), "{line}: {}", said.err);
    }
    assert!(said.err.contains("line 11: policies[0].rules[0].what: "), "{}", said.err);
    assert_eq!(person.says(&["policy", "check", "policy.toml"]).out, "The file is good: 1 policies, 1 rules.\n");
    write(&person, "broken.toml", "[[policies]]\nname = \n");
    let broken = person.says(&["policy", "check", "broken.toml"]);
    assert!(broken.code == 1 && broken.err.contains("line 2, column"), "{}", broken.err);
}

#[test]
fn a_file_is_compared_applied_and_comes_back_as_it_was() {
    let (_host, _server, person) = operator();
    let apply = |arguments: &[&str]| person.says(&[&["policy", "apply"], arguments].concat());
    let rehearsed = apply(&["policy.toml", "--dry-run"]);
    assert_eq!(rehearsed.out, "It would follow version 0. Nothing was applied.\n");
    assert_eq!(apply(&["policy.toml"]).out, "Version 1 is in force, after 0.\n");
    assert_eq!(apply(&["policy.toml"]).out, "Nothing changes: version 1 is in force and says the same.\n");
    let same = person.says(&["policy", "diff", "policy.toml"]);
    assert_eq!((same.code, same.out.as_str()), (0, "The file says the same as the policy in force.\n"));

    write(&person, "opened.toml", &opened());
    let differs = person.says(&["policy", "diff", "opened.toml"]);
    let lines: Vec<_> = differs.out.lines().collect();
    let expected = [
        "~ default: POST /events: support -> support, publishable keys too",
        "+ default: * /admin/**: admin",
        "! opened to publishable keys issued from then on: default: POST /events",
    ];
    assert_eq!((differs.code, lines.as_slice()), (1, expected.as_slice()), "{differs:?}");

    let refused = apply(&["opened.toml", "--expected-version", "7"]);
    assert!(refused.code == 6 && refused.out.is_empty(), "{refused:?}");
    assert_eq!(apply(&["opened.toml", "--expected-version", "1"]).out, "Version 2 is in force, after 1.\n");

    let again = apply(&["opened.toml", "--expected-version", "1"]);
    assert_eq!((again.code, again.out.as_str()), (0, "Version 2 is in force and says this already.\n"));

    let shown = person.says(&["policy", "show", "--toml"]);
    write(&person, "shown.toml", &shown.out);
    assert_eq!(person.says(&["policy", "diff", "shown.toml"]).code, 0, "{}", shown.out);
    let object = person.says(&["policy", "show", "--json"]).json();
    assert_eq!((&object["version"], &object["policies"][0]["rules"][0]["public"]), (&json!(2), &json!(true)));
}

#[test]
fn a_table_of_expectations_passes_or_names_the_case_that_does_not() {
    let (_host, _server, person) = operator();
    write(&person, "opened.toml", &opened());
    let cases = r#"
        [[cases]]
        method = "POST"
        path = "/events?x=1"
        scope = "public"
        expect = "allow"
        rule = "POST /events"

        [[cases]]
        method = "GET"
        path = "/admin/users"
        role = "editor"
        expect = "deny"

        [[cases]]
        method = "GET"
        path = "/admin//users"
        role = "admin"
        expect = "deny"
    "#;
    write(&person, "cases.toml", cases);
    let good = person.says(&["policy", "test", "cases.toml", "--file", "opened.toml"]);
    assert_eq!(good.code, 0, "{good:?}");
    assert!(good.out.ends_with("All 3 cases came out as expected.\n"), "{}", good.out);

    // The policy in force is the built-in one: nothing is open to publishable keys, and editors may read.
    let bad = person.says(&["policy", "test", "cases.toml"]);
    assert_eq!(bad.code, 1);
    assert_eq!(bad.out.lines().filter(|line| line.starts_with("FAILED")).count(), 2, "{}", bad.out);
    assert!(bad.err.contains("2 of 3 cases failed"), "{}", bad.err);

    write(&person, "cases.toml", "[[cases]]\nmethod = \"GET\"\npath = \"/\"\nrole = \"boss\"\nexpect = \"allow\"\n");
    let odd = person.says(&["policy", "test", "cases.toml"]);
    assert!(odd.code == 1 && odd.err.contains("cases[0]: role must be one of: support"), "{}", odd.err);
    write(&person, "cases.toml", "[[cases]]\nmethod = \"GET\"\npath = \"/\"\nexpects = \"allow\"\n");
    let odd = person.says(&["policy", "test", "cases.toml"]);
    assert!(odd.code == 1 && odd.err.contains("unknown field `expects`"), "{}", odd.err);
}

#[test]
fn a_request_is_explained_rule_by_rule() {
    let (_host, _server, person) = operator();
    write(&person, "opened.toml", &opened());
    let explain = |file: &[&str]| {
        let asked = ["policy", "explain", "--method", "POST", "--path", "/events", "--scope", "public"];
        person.says(&[&asked, file].concat())
    };
    let offline = explain(&["--file", "opened.toml"]);
    assert!(offline.out.ends_with("ALLOWED by POST /events: allowed\n"), "{offline:?}");
    assert!(offline.out.lines().any(|line| line.starts_with("* /admin/**") && line.ends_with("path")), "{offline:?}");
    let online = explain(&[]);
    assert_eq!(online.out, "DENIED by other writes: not open to publishable keys\n");
}

/// What `explain` ends with, for a request and a key.
fn explained(person: &Person, request: &str, key: &[&str]) -> String {
    let (method, path) = request.split_once(' ').unwrap();
    let said = person.says(&[&["policy", "explain", "--method", method, "--path", path], key].concat());
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{request} {key:?}: {said:?}");
    said.out.lines().last().unwrap().to_owned()
}

#[test]
fn an_explanation_is_of_the_role_that_was_named() {
    let (_host, _server, person) = operator();
    write(&person, "opened.toml", &opened());
    let of = |role: &str| explained(&person, "GET /admin/users", &["--file", "opened.toml", "--role", role]);
    assert_eq!(of("admin"), "ALLOWED by * /admin/**: allowed");
    assert_eq!(of("publisher"), "DENIED by * /admin/**: role is below admin");
    let odd = person.says(&["policy", "explain", "--method", "GET", "--path", "/x", "--role", "boss"]);
    assert_eq!(odd.code, 2, "{odd:?}");
}

#[test]
fn what_no_door_would_judge_is_denied_and_not_a_fault_of_the_question() {
    let (_host, _server, person) = operator();
    write(&person, "opened.toml", &opened());
    for (request, why) in [
        ("GET /admin/../x", "path"),
        ("GET //x", "path"),
        ("GET x", "path"),
        ("get /x", "method"),
        ("GET /Admin/x", "path"),
    ] {
        let said = explained(&person, request, &["--file", "opened.toml", "--role", "admin"]);
        assert!(said.starts_with("DENIED by no rule: ") && said.contains(why), "{request}: {said}");
        let (method, path) = request.split_once(' ').unwrap();
        let asked = ["policy", "explain", "--file", "opened.toml", "--method", method, "--path", path, "--json"];
        assert_eq!(person.says(&asked).json()["allowed"], false, "{request}");
    }
}

#[test]
fn an_explanation_knows_the_reach_of_a_key_that_was_issued_before() {
    let (_host, _server, person) = operator();
    write(&person, "opened.toml", &opened());
    for file in ["policy.toml", "opened.toml"] {
        assert_eq!(person.says(&["policy", "apply", file]).code, 0);
    }
    let of = |key: &[&str]| explained(&person, "POST /events", key);
    assert_eq!(of(&["--scope", "public"]), "ALLOWED by POST /events: allowed");
    assert_eq!(of(&["--scope", "public", "--policy-version", "2"]), "ALLOWED by POST /events: allowed");
    for version in ["0", "1"] {
        let said = of(&["--scope", "public", "--policy-version", version]);
        assert_eq!(said, "DENIED by POST /events: was not open to publishable keys when this one was issued");
        // A secret key is not bound to what was in force then.
        assert_eq!(of(&["--policy-version", version]), "ALLOWED by POST /events: allowed");
    }
    let ahead = ["policy", "explain", "--method", "GET", "--path", "/x", "--policy-version", "3"];
    assert_eq!(person.says(&ahead).code, 5, "there is no such version");
}

#[test]
fn what_a_key_may_do_is_said_when_it_is_made_and_can_be_changed_and_widened() {
    let (_host, _server, person) = operator();
    let made = person.says(&[
        "keys",
        "create",
        "--name",
        "ci",
        "--scope",
        "public",
        "--permission",
        "a:read",
        "--permission",
        "b:write",
        "--limit",
        "requests=100/1m:20",
        "--limit",
        "monthly=50000/month",
        "--json",
    ]);
    let key = made.json();
    let id = key["id"].to_string();
    assert_eq!(key["permissions"], json!(["a:read", "b:write"]));
    assert_eq!(key["limits"][1], json!({"name": "requests", "limit": 100, "period": "1m", "burst": 20}));
    assert_eq!(key["policy_version"], 0);

    write(&person, "opened.toml", &opened());
    let applied = person.says(&["policy", "apply", "opened.toml"]);
    let gains = format!("1 publishable key(s) issued under version 0 would gain default: POST /events: {id}");
    assert!(applied.out.contains(&gains) && applied.out.contains("keyrack keys widen ID --to 1"), "{}", applied.out);
    assert_eq!(person.says(&["keys", "widen", &id, "--to", "1"]).code, 0);
    let changed = person.says(&["keys", "update", &id, "--permission", "c:read", "--limit", "requests=5/1s", "--json"]);
    let key = changed.json();
    assert_eq!((&key["policy_version"], &key["permissions"]), (&json!(1), &json!(["c:read"])));
    let shown = person.says(&["keys", "get", &id]).out;
    for expected in ["c:read", "requests=5/1s"] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    let odd = person.says(&["keys", "create", "--name", "x", "--limit", "requests=many"]);
    assert!(odd.code == 2 && odd.err.contains("requests=many"), "{odd:?}");
}
