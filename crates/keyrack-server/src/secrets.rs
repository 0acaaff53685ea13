//! Keys that stand where none belongs.

use keyrack::{ApiKey, KeyKind};

/// What is said of a text that holds a key.
pub const NO_KEY: &str = "must not contain a key: it would be kept and shown. Revoke that key if others have seen it";

/// Whether a whole key stands anywhere in a text.
pub fn holds_a_key(text: &str) -> bool {
    text.as_bytes().windows(ApiKey::BYTES).any(|part| ApiKey::parse(part).is_ok())
}

/// Whether a whole key stands anywhere in a word that has no capitals, as all of it has but its prefix.
pub fn holds_a_key_in_lower_case(word: &str) -> bool {
    word.as_bytes().windows(ApiKey::BYTES).any(|part| {
        let (prefix, rest) = part.split_at(KeyKind::Secret.prefix().len());
        ApiKey::parse(&[prefix, &rest.to_ascii_uppercase()].concat()).is_ok()
    })
}
