//! Arbitrary bytes as a presented key: nothing panics, and exactly one byte string is the key.
#![no_main]

use keyrack::{ApiKey, KeyKind, MaskedKey};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    accepts_only_what_it_shows_again(data);
    one_changed_byte_is_no_key(data);
});

fn accepts_only_what_it_shows_again(presented: &[u8]) {
    let Ok(key) = ApiKey::parse(presented) else { return };
    assert_eq!(key.expose().as_bytes(), presented, "two byte strings are one key");
    assert!(presented.starts_with(key.kind().prefix().as_bytes()));
    assert_eq!(MaskedKey::parse(key.mask().as_str()), Ok(key.mask()));
    assert!(ApiKey::parse(key.mask().as_str().as_bytes()).is_err(), "a mask is no key");
}

/// Arbitrary bytes hardly ever are a key, so one is made from them and damaged: kind, position, what to put there, and
/// the random part.
fn one_changed_byte_is_no_key(data: &[u8]) {
    let Some(([kind, position, change], rest)) = data.split_first_chunk() else { return };
    let Some(random) = rest.first_chunk() else { return };
    let kind = KeyKind::ALL[usize::from(*kind) % KeyKind::ALL.len()];
    let key = ApiKey::generate(kind, random);
    accepts_only_what_it_shows_again(key.expose().as_bytes());
    assert!(ApiKey::parse(key.expose().as_bytes()).is_ok(), "a key that was made is one");

    let mut damaged = key.expose().as_bytes().to_vec();
    damaged[usize::from(*position) % ApiKey::BYTES] ^= (*change).max(1);
    assert!(ApiKey::parse(&damaged).is_err(), "a damaged key is another key");
}
