//! `keyrack login`, `logout` and `whoami`, and the file of profiles.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use keyrack::KeyKind;
use serde_json::json;

use super::stub::{Answer, Stub};
use super::terminal::AtTerminal;
use super::{Person, key_of};

/// Knows every key but those it is told not to, as the real one does.
fn server() -> Stub {
    Stub::start(|_, seen| {
        let stranger = key_of(KeyKind::Secret, 31);
        if seen.header("authorization").unwrap().contains(&stranger) {
            return Answer::problem(401, "authentication_required");
        }
        match &*seen.path {
            "/api/client/me" => Answer::ok(&json!({"id": 1, "name": "Main", "role": "admin"})),
            "/api/admin/organizations/me" => Answer::problem(403, "permission_denied"),
            "/api/operator/organizations?limit=1" => Answer::ok(&json!({"results": [], "nextCursor": null})),
            _ => Answer::problem(404, "resource_missing"),
        }
    })
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[test]
fn login_asks_the_server_and_keeps_a_key_of_each_kind_for_nobody_else() {
    let (server, person) = (server(), Person::new());
    for kind in [KeyKind::Secret, KeyKind::Organization, KeyKind::Operator] {
        let key = key_of(kind, 1);
        let said = person.hears(&["login", "--url", &server.url], &format!("{key}\n"));
        assert_eq!((said.code, said.out.as_str()), (0, ""), "{said:?}");
        assert!(!said.err.contains(&key) && said.err.contains(&format!("{}****", kind.prefix())), "{}", said.err);
        let seen = server.seen();
        assert_eq!((seen.len(), seen[0].header("authorization")), (1, Some(&*format!("Bearer {key}"))));
    }
    assert_eq!((mode(&person.file()), mode(person.file().parent().unwrap())), (0o600, 0o700));
    assert_eq!(fs::read_dir(person.file().parent().unwrap()).unwrap().count(), 1);
    let written = fs::read_to_string(person.file()).unwrap();
    assert_eq!(written.matches("_key = ").count(), 3);

    // The next key takes the place of one of its kind, and no URL means the one that is known.
    assert_eq!(person.hears(&["login"], &key_of(KeyKind::Secret, 2)).code, 0);
    let written = fs::read_to_string(person.file()).unwrap();
    assert!(written.contains(&key_of(KeyKind::Secret, 2)) && !written.contains(&key_of(KeyKind::Secret, 1)));
    assert_eq!(written.matches("_key = ").count(), 3);

    let other = self::server();
    let said = person.hears(&["login", "--url", &other.url], &key_of(KeyKind::Secret, 3));
    assert!(said.code == 0 && said.err.contains(&server.url), "{said:?}");
    let written = fs::read_to_string(person.file()).unwrap();
    assert!(written.matches("_key = ").count() == 1 && written.contains(&other.url), "{}", written.len());
}

#[test]
fn a_key_that_the_server_does_not_accept_is_not_kept() {
    let (server, person) = (server(), Person::new());
    let stranger = key_of(KeyKind::Secret, 31);
    let said = person.hears(&["login", "--url", &server.url], &stranger);
    assert!(said.code == 3 && said.err.contains("does not accept sk_****"), "{said:?}");
    server.seen();
    for (input, code) in [(key_of(KeyKind::Publishable, 1), 1), ("hunter2".into(), 1), (String::new(), 1)] {
        let said = person.hears(&["login", "--url", &server.url], &input);
        assert_eq!(said.code, code);
        assert!(input.is_empty() || !said.err.contains(&input), "{said:?}");
    }
    assert!(server.seen().is_empty());
    let nowhere = person.hears(&["login", "--url", "http://127.0.0.1:1"], &key_of(KeyKind::Secret, 1));
    assert_eq!(nowhere.code, 9);
    assert!(!person.file().exists());
}

#[test]
fn a_key_on_the_command_line_is_refused_and_not_repeated() {
    let (server, person) = (server(), Person::new());
    let key = key_of(KeyKind::Secret, 1);
    for arguments in [
        &["login", &key][..],
        &["login", &format!("--key={key}")],
        &["login", "--url", &format!("{}/{key}", server.url)],
        &["keys", "create", "--name", &key],
    ] {
        let said = person.says(arguments);
        assert_eq!((said.code, said.out.as_str()), (2, ""));
        assert!(said.err.contains("revoke it") && !said.err.contains(&key), "{}", said.err);
    }
    assert!(server.seen().is_empty() && !person.file().exists());
}

#[test]
fn a_file_that_others_can_read_is_not_used() {
    let server = server();
    let key = key_of(KeyKind::Secret, 1);
    let person = Person::with(&server.url, &[&key]);
    for bits in [0o644, 0o640, 0o604, 0o620] {
        fs::set_permissions(person.file(), fs::Permissions::from_mode(bits)).unwrap();
        for command in ["whoami", "login", "logout"] {
            let said = person.hears(&[command], &key);
            let advice = format!("chmod 600 {}", person.file().display());
            assert!(said.code == 1 && said.err.contains(&advice), "{bits:o} {said:?}");
        }
    }
    fs::set_permissions(person.file(), fs::Permissions::from_mode(0o600)).unwrap();
    let dir = person.file().parent().unwrap().to_owned();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o770)).unwrap();
    assert!(person.says(&["whoami"]).err.contains("chmod 700"));
    assert!(server.seen().is_empty());
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(person.says(&["whoami"]).code, 0);
}

#[test]
fn profiles_are_apart_and_logout_forgets_one() {
    let (server, person) = (server(), Person::new());
    assert_eq!(person.hears(&["login", "--url", &server.url], &key_of(KeyKind::Secret, 1)).code, 0);
    assert_eq!(
        person.hears(&["login", "--profile", "work", "--url", &server.url], &key_of(KeyKind::Operator, 2)).code,
        0
    );
    let said = person.says(&["whoami", "--json"]).json();
    let key =
        json!({"kind": "secret", "key": "sk_****9JSA", "state": "accepted", "of": "project 1 (Main)", "role": "admin"});
    let mut expected = json!({"profile": "default", "url": server.url, "keys": [key]});
    expected["keys"][0]["key"] = said["keys"][0]["key"].clone();
    assert_eq!(said, expected);
    let output = person.command(&["whoami"]).env("KEYRACK_PROFILE", "work").output().unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("operator") && !table.contains("secret"), "{table}");

    assert_eq!(person.says(&["logout", "--profile", "work"]).code, 0);
    assert_eq!(person.says(&["whoami", "--profile", "work"]).code, 3);
    assert_eq!(person.says(&["whoami"]).code, 0);
    assert_eq!(person.says(&["logout"]).code, 0);
    assert!(!person.file().exists());
    assert_eq!(person.says(&["logout"]).code, 3);
}

#[test]
fn whoami_says_which_key_is_dead() {
    let server = server();
    let person = Person::with(&server.url, &[&key_of(KeyKind::Secret, 31), &key_of(KeyKind::Organization, 1)]);
    let said = person.says(&["whoami"]);
    assert_eq!(said.code, 3);
    assert!(said.out.lines().any(|line| line.starts_with("secret") && line.contains("refused")), "{said:?}");
    assert!(said.out.lines().any(|line| line.starts_with("organization") && line.contains("accepted")), "{said:?}");
}

#[test]
fn a_login_over_an_open_network_is_warned_of() {
    let (server, person) = (server(), Person::new());
    let open = format!("http://0.0.0.0:{}", server.port);
    let said = person.hears(&["login", "--url", &open], &key_of(KeyKind::Secret, 1));
    assert!(said.code == 0 && said.err.contains("is not encrypted"), "{said:?}");
    let said = person.hears(&["login", "--url", &server.url], &key_of(KeyKind::Secret, 1));
    assert!(said.code == 0 && !said.err.contains("is not encrypted"), "{said:?}");
    let said = person.hears(&["login", "--url", "http://me:hunter2@127.0.0.1"], &key_of(KeyKind::Secret, 1));
    assert!(said.code == 2 && !said.err.contains("hunter2"), "{said:?}");
}

#[test]
fn at_a_terminal_the_url_is_asked_for_and_the_key_is_not_shown() {
    let (server, person) = (server(), Person::new());
    let key = key_of(KeyKind::Secret, 1);
    let mut terminal = AtTerminal::start(&mut person.command(&["login"]));
    terminal.answer("Server [http://127.0.0.1:8080]: ", &format!("{}\n", server.url));
    terminal.answer("Key (not shown): ", &format!("{key}X\u{7f}\r"));
    let (code, shown) = terminal.end();
    assert_eq!(code, 0, "{shown}");
    assert!(!shown.contains(&key[3..30]), "{shown}");
    assert!(fs::read_to_string(person.file()).unwrap().contains(&key));

    let mut terminal = AtTerminal::start(&mut person.command(&["login"]));
    terminal.answer(&format!("Server [{}]: ", server.url), "\n");
    terminal.answer("Key (not shown): ", "\u{3}");
    let (code, shown) = terminal.end();
    assert!(code == 1 && shown.contains("interrupted"), "{shown}");
}
