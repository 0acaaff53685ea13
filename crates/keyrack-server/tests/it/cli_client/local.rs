//! The commands that need no server.

use std::fs;

use keyrack::KeyKind;
use serde_json::json;

use super::{Person, key_of};

#[test]
fn a_key_is_inspected_and_never_shown() {
    let person = Person::new();
    for (kind, word) in [
        (KeyKind::Secret, "secret"),
        (KeyKind::Publishable, "publishable"),
        (KeyKind::Organization, "organization"),
        (KeyKind::Operator, "operator"),
    ] {
        let key = key_of(kind, 7);
        let mask = format!("{}****{}", kind.prefix(), &key[31..]);
        let said = person.hears(&["key", "inspect"], &format!("{key}\n"));
        let expected = format!("kind      {word}\nshape     right\nchecksum  right\nmask      {mask}\n");
        assert_eq!((said.code, said.out, said.err), (0, expected, String::new()));
        let said = person.hears(&["key", "inspect", "--json"], &format!("{key}\r\n"));
        assert_eq!(said.json(), json!({"kind": word, "shape": true, "checksum": true, "mask": mask}));
    }
}

#[test]
fn what_is_not_a_key_is_told_apart_and_ends_with_one() {
    let person = Person::new();
    let key = key_of(KeyKind::Secret, 7);
    let mistyped = format!("{}A", &key[..34]);
    for (text, kind, shape) in [
        (mistyped, json!("secret"), true),
        (key[..34].to_owned(), json!("secret"), false),
        (format!("{key} "), json!("secret"), false),
        (key.replacen('7', "u", 1), json!("secret"), false),
        ("hunter2".to_owned(), json!(null), false),
        (String::new(), json!(null), false),
    ] {
        let said = person.hears(&["key", "inspect", "--json"], &text);
        assert_eq!(said.json(), json!({"kind": kind, "shape": shape, "checksum": false, "mask": null}), "{text}");
        assert_eq!(said.code, 1);
        assert!(text.is_empty() || !(said.out + &said.err).contains(&text));
    }
}

#[test]
fn completions_know_every_command_in_three_shells() {
    let person = Person::new();
    for shell in ["bash", "zsh", "fish"] {
        let said = person.says(&["completions", shell]);
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{shell}");
        for word in ["org-keys", "system-keys", "rotate", "--timezone", "--profile"] {
            // fish writes a long flag without its dashes.
            assert!(said.out.contains(word.trim_start_matches("--")), "{shell} {word}");
        }
    }
    let script = person.home.path().join("keyrack.bash");
    fs::write(&script, person.says(&["completions", "bash"]).out).unwrap();
    assert!(std::process::Command::new("bash").arg("-n").arg(&script).status().unwrap().success());
    assert_eq!(person.says(&["completions", "tcsh"]).code, 2);
}

#[test]
fn man_writes_a_page_for_each_command() {
    let person = Person::new();
    let said = person.says(&["man", "share/man1"]);
    assert_eq!((said.code, said.out.as_str()), (0, ""), "{said:?}");
    let page = |name: &str| fs::read_to_string(person.home.path().join("share/man1").join(name)).unwrap();
    assert!(page("keyrack.1").contains("the question was answered with no"));
    assert!(page("keyrack-keys-create.1").contains("How much it may do"));
    assert!(page("keyrack-operator-system-keys-rotate.1").contains("dead at once"));
    assert!(page("keyrack-serve.1").contains("data\\-dir"));
    fs::write(person.home.path().join("file"), "").unwrap();
    assert_eq!(person.says(&["man", "file/man1"]).code, 1);
}
