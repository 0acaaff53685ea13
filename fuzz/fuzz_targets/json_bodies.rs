//! Arbitrary bytes as the body of a create or a patch: nothing panics, and what is accepted keeps to the contract.
#![no_main]

use keyrack_server::http::body;
use keyrack_server::http::keys::{parse_new, parse_patch};
use keyrack_server::keys::{MOST_DESCRIPTION_CHARACTERS, MOST_NAME_CHARACTERS};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|data: &[u8]| {
    check(data);
    // Arbitrary bytes seldom are JSON, so they are also tried as what is in it.
    if let Some((times, text)) = data.split_first() {
        let text = String::from_utf8_lossy(text).repeat(usize::from(*times));
        let (name, description) = text.split_once('|').unwrap_or((&text, &text));
        check(json!({"name": name, "description": description}).to_string().as_bytes());
    }
});

fn check(body: &[u8]) {
    if let Ok(new) = body::parse(body).and_then(parse_new) {
        check_name(&new.labels.name);
        check_description(new.labels.description.as_deref());
    }
    if let Ok(patch) = body::parse(body).and_then(parse_patch) {
        if let Some(name) = &patch.labels.name {
            check_name(name);
        }
        check_description(patch.labels.description.flatten().as_deref());
    }
}

fn check_name(name: &str) {
    assert_eq!(name, name.trim(), "a name is trimmed");
    assert!(!name.is_empty(), "a name is not empty");
    assert!(name.chars().count() <= MOST_NAME_CHARACTERS, "a name is not too long");
    assert!(!name.chars().any(char::is_control), "a name is one line");
}

fn check_description(description: Option<&str>) {
    let Some(text) = description else { return };
    assert!(text.chars().count() <= MOST_DESCRIPTION_CHARACTERS, "a description is not too long");
}
