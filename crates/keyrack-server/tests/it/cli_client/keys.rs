//! `keyrack keys` against the real server.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use keyrack::KeyKind;
use serde_json::json;

use super::{Person, key_of};
use crate::cli::{Host, create, words};
use crate::server::{Server, keyrack};

/// A server, and somebody with its admin key.
fn admin() -> (Host, Server, Person) {
    let host = Host::new();
    let server = Server::start(&host.data());
    let person = Person::with(&server.url, &[&words(&host.keys, "project_key")]);
    (host, server, person)
}

/// Whether a field and its value stand in a line of their own.
fn shows(details: &str, expected: &str) -> bool {
    details.lines().any(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") == expected)
}

#[test]
fn create_prints_the_value_alone_and_says_the_rest_beside_it() {
    let (_host, server, person) = admin();
    let made = person.says(&["keys", "create", "--name", "ci", "--role", "admin", "--description", "Builds"]);
    assert_eq!(made.code, 0, "{made:?}");
    let value = made.out.strip_suffix('\n').unwrap();
    assert_eq!(create(&server, value), 200);
    assert!(!made.err.contains(value), "{}", made.err);
    assert!(shows(&made.err, "name ci") && shows(&made.err, "description Builds"), "{}", made.err);

    let made = person.says(&["keys", "create", "--name", "ci", "--scope", "public", "--json"]);
    let object = made.json();
    assert_eq!((made.code, made.err.as_str()), (0, ""));
    assert_eq!((&object["scope"], &object["role"]), (&json!("public"), &json!("support")));
    assert!(words(&object, "value").starts_with("pk_"));
    assert!(made.out.starts_with("{\"id\":"), "not as the server wrote it: {}", made.out);
}

/// From a gateway's question over the socket to what the owner of the key is shown.
#[test]
fn what_a_key_was_used_for_is_shown() {
    let (host, dir) = (Host::new(), tempfile::tempdir().unwrap());
    let socket = dir.path().join("verify.sock");
    let mut command = keyrack(&host.data());
    command.args(["serve", "--verify-socket", socket.to_str().unwrap()]).stderr(Stdio::null());
    let server = Server::try_start(&mut command).expect("the server did not start");
    let person = Person::with(&server.url, &[&words(&host.keys, "project_key")]);
    let key = person.says(&["keys", "create", "--name", "ci", "--json"]).json();
    let (id, value) = (key["id"].to_string(), words(&key, "value"));
    let ask = |method: &str| {
        let mut stream = UnixStream::connect(&socket).unwrap();
        let fields = format!("X-Original-Method: {method}\r\nX-Original-URI: /x\r\nAuthorization: Bearer {value}\r\n");
        write!(stream, "GET /v1/auth/nginx HTTP/1.1\r\nHost: a\r\n{fields}Connection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer[9..12].to_owned()
    };
    assert_eq!([ask("GET"), ask("GET"), ask("DELETE")], ["200", "200", "403"]);

    // It is written every two seconds.
    let since = Instant::now();
    let shown = loop {
        let usage = person.says(&["keys", "usage", &id, "--json"]).json();
        if usage["totals"]["total"] == 3 || since.elapsed() > Duration::from_secs(30) {
            break usage;
        }
        sleep(Duration::from_millis(100));
    };
    assert_eq!([&shown["totals"]["valid"], &shown["totals"]["forbidden"]], [2, 1], "{shown}");
    let table = person.says(&["keys", "usage", &id]);
    assert!(table.code == 0 && table.out.lines().any(|line| line.ends_with(" 3")), "{table:?}");
}

#[test]
fn a_value_that_cannot_be_printed_is_not_passed_over() {
    let (_host, _server, person) = admin();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = person.command(&["keys", "create", "--name", "lost"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("is lost: revoke it, and make another"), "{said}");
}

#[test]
fn list_is_a_table_for_people_and_json_for_programs() {
    let (host, server, person) = admin();
    for name in ["b", "a", "other"] {
        assert_eq!(person.says(&["keys", "create", "--name", name, "--description", "Same"]).code, 0);
    }
    let list = person.says(&["keys", "list", "--sort", "name", "--direction", "asc", "--search", "sAm"]);
    let lines: Vec<_> = list.out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
    assert_eq!(lines[0], ["ID", "NAME", "SCOPE", "ROLE", "VALUE", "CREATED", "LAST", "USED", "DESCRIPTION"]);
    assert_eq!(lines.iter().map(|line| line[1]).collect::<Vec<_>>(), ["NAME", "a", "b", "other"]);
    assert_eq!((list.code, list.err.as_str()), (0, ""));
    assert!(!list.out.contains('\u{1b}'), "colour without a terminal: {:?}", list.out);
    let starts: Vec<_> = list.out.lines().map(|line| line.find("S").unwrap()).collect();
    assert_eq!(starts[0], list.out.lines().nth(1).unwrap().find("secret").unwrap(), "not aligned: {}", list.out);

    let page = person.says(&["keys", "list", "--limit", "1", "--json"]).json();
    assert_eq!((page["results"].as_array().unwrap().len(), &page["results"][0]["name"]), (1, &json!("other")));
    let next = person.says(&["keys", "list", "--limit", "1", "--json", "--cursor", &words(&page, "nextCursor")]).json();
    assert_eq!(next["results"][0]["name"], "a");
    assert!(person.says(&["keys", "list", "--limit", "1"]).err.contains("--all"));

    let admin = &words(&host.keys, "project_key");
    for _ in 0..110 {
        assert_eq!(create(&server, admin), 200);
    }
    let all = person.says(&["keys", "list", "--all", "--json"]).json();
    assert_eq!((all["results"].as_array().unwrap().len(), &all["nextCursor"]), (114, &json!(null)));
    assert_eq!(person.says(&["keys", "list", "--all"]).out.lines().count(), 115);
    assert_eq!(person.says(&["keys", "list", "--search", "nobody"]).out, "");
}

#[test]
fn get_and_update_show_the_key_and_change_what_is_named() {
    let (_host, _server, person) = admin();
    let made = person.says(&["keys", "create", "--name", "ci", "--description", "Builds", "--json"]).json();
    let id = made["id"].to_string();
    let updated = person.says(&["keys", "update", &id, "--role", "editor", "--name", "cd", "--json"]).json();
    assert_eq!([&updated["role"], &updated["name"], &updated["description"]], ["editor", "cd", "Builds"]);
    assert_eq!(person.says(&["keys", "update", &id, "--no-description"]).code, 0);
    let shown = person.says(&["keys", "get", &id]);
    assert!(shows(&shown.out, "name cd") && shows(&shown.out, "description -"), "{}", shown.out);
    let nothing = person.says(&["keys", "update", &id]);
    assert!(nothing.code == 2 && nothing.err.contains("nothing to change"), "{nothing:?}");
}

#[test]
fn revoke_without_a_terminal_needs_yes() {
    let (_host, server, person) = admin();
    let made = person.says(&["keys", "create", "--name", "ci", "--role", "admin", "--json"]).json();
    let (id, value) = (made["id"].to_string(), words(&made, "value"));
    let refused = person.says(&["keys", "revoke", &id]);
    assert_eq!((refused.code, refused.out.as_str()), (2, ""));
    assert!(refused.err.contains("--yes"), "{}", refused.err);
    assert_eq!(create(&server, &value), 200);
    let revoked = person.says(&["keys", "revoke", &id, "--yes"]);
    assert!(revoked.code == 0 && shows(&revoked.out, "effective all"), "{revoked:?}");
    assert_eq!(create(&server, &value), 401);
}

#[test]
fn an_error_shows_what_the_server_says_and_ends_with_its_code() {
    let (_host, server, person) = admin();
    let refused = person.says(&["keys", "create", "--name", "", "--description", &"x".repeat(3000)]);
    assert_eq!((refused.code, refused.out.as_str()), (7, ""));
    let lines: Vec<_> = refused.err.lines().collect();
    assert!(lines[1].starts_with("  name: ") && lines[2].starts_with("  description: "), "{}", refused.err);
    assert!(lines[3].starts_with("  code validation_failed, request req_"), "{}", refused.err);
    assert_eq!(person.says(&["keys", "list", "--cursor", "made-up"]).code, 7);
    assert_eq!(person.says(&["keys", "get", "999"]).code, 5);
    assert_eq!(person.says(&["keys", "get", "one"]).code, 2);

    let support = person.says(&["keys", "create", "--name", "low"]).out;
    let low = Person::with(&server.url, &[support.trim_end()]).says(&["keys", "list"]);
    assert!(low.code == 4 && low.err.contains("admin") && low.err.contains("permission_denied"), "{low:?}");
    let stranger = Person::with(&server.url, &[&key_of(KeyKind::Secret, 1)]).says(&["keys", "list"]);
    assert_eq!((stranger.code, stranger.out.as_str()), (3, ""));
    let nobody = Person::new().says(&["keys", "list"]);
    assert!(nobody.code == 3 && nobody.err.contains("keyrack login"), "{nobody:?}");
    let of_organization = person.says(&["keys", "list", "--project", "1"]);
    assert!(of_organization.code == 3 && of_organization.err.contains("ok_"), "{of_organization:?}");

    let url = server.url.clone();
    assert!(server.stop().success());
    let gone = person.says(&["keys", "list"]);
    assert_eq!((gone.code, gone.out.as_str()), (9, ""));
    assert!(
        gone.err.contains(&format!("not reachable at {url}")) && gone.err.contains("keyrack serve"),
        "{}",
        gone.err
    );
}

#[test]
fn what_a_server_tells_cannot_steer_the_terminal() {
    let (host, server, person) = admin();
    let hostile = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m\u{202e}";
    let body = json!({"name": "ci", "description": hostile});
    let admin = words(&host.keys, "project_key");
    let made = server.send("POST", "/api/client/keys", &admin, Some(&body), &[]).unwrap().json();
    let id = made["id"].to_string();
    for arguments in
        [&["keys", "list"][..], &["keys", "list", "--json"], &["keys", "get", &id], &["keys", "get", &id, "--json"]]
    {
        let said = person.says(arguments);
        assert!(said.out.contains("owned"), "{said:?}");
        let steers = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!said.out.contains(steers), "{arguments:?} {said:?}");
    }
    assert_eq!(person.says(&["keys", "get", &id, "--json"]).json()["description"], hostile);
}

#[test]
fn settings_of_the_host_mean_nothing_here_and_work_in_front_of_its_commands() {
    let (host, _server, person) = admin();
    let refused = person.says(&["--data-dir", "x", "keys", "list"]);
    assert!(refused.code == 2 && refused.err.contains("--data-dir"), "{refused:?}");
    assert_eq!(person.says(&["keys", "list", "--data-dir", "x"]).code, 2);
    let help = person.says(&["keys", "list", "--help"]).out;
    assert!(!help.contains("data-dir") && help.contains("--profile"), "{help}");
    let data = host.data();
    let data = data.to_str().unwrap();
    for arguments in [["--data-dir", data, "audit", "verify"], ["audit", "verify", "--data-dir", data]] {
        assert!(person.says(&arguments).out.starts_with("The audit log is whole: "));
    }
    let misspelt = person.command(&["keys", "list"]).env("KEYRACK_PROFLE", "work").output().unwrap();
    assert_eq!(misspelt.status.code(), Some(1));
    assert_eq!(
        person.command(&["keys", "list"]).env("KEYRACK_PROFILE", "work").output().unwrap().status.code(),
        Some(3)
    );
}
