//! The one way a key is presented over HTTP: `Authorization: Bearer <key>` (contract section 4, RFC 6750).

/// A longer one is no key of ours.
const MOST_CREDENTIAL_BYTES: usize = 512;

/// Why the value of an `Authorization` field holds no key that could be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoBearer {
    /// Another scheme, or nothing that could be a key.
    #[error("not `Bearer <key>`")]
    Malformed,
    /// More than one key.
    #[error("more than one key")]
    Repeated,
}

impl NoBearer {
    /// The word that says so in `X-Keyrack-Detail`.
    pub const fn detail(self) -> &'static str {
        match self {
            Self::Malformed => "credential_malformed",
            Self::Repeated => "credential_repeated",
        }
    }
}

/// What is presented as a key in the value of the only `Authorization` field of a request: the bytes behind `Bearer `, to be asked
/// about as [`Ask::key`](crate::Ask::key).
///
/// # Errors
/// [`NoBearer`] if it is of another scheme, or holds more than one.
pub fn bearer(value: &[u8]) -> Result<&[u8], NoBearer> {
    let (scheme, key) = value.split_at_checked(b"Bearer ".len()).ok_or(NoBearer::Malformed)?;
    if key.contains(&b',') {
        return Err(NoBearer::Repeated);
    }
    let is_plain = (1..=MOST_CREDENTIAL_BYTES).contains(&key.len()) && key.iter().all(u8::is_ascii_graphic);
    if scheme.eq_ignore_ascii_case(b"Bearer ") && is_plain { Ok(key) } else { Err(NoBearer::Malformed) }
}

/// Fields by which frameworks let a client ask for another method than the one it used, in lower case.
const METHOD_OVERRIDES: [&str; 3] = ["x-http-method-override", "x-http-method", "x-method-override"];

/// Whether a field is one by which frameworks let a client ask for another method than the one it used. What they would make of it
/// nobody here can know, and some cannot tell `_` from `-`.
pub fn is_method_override(field: &[u8]) -> bool {
    let same = |one: u8, other: u8| one == other.to_ascii_lowercase() || one == b'-' && other == b'_';
    METHOD_OVERRIDES
        .iter()
        .any(|name| name.len() == field.len() && name.bytes().zip(field).all(|(known, found)| same(known, *found)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_override_is_known_in_every_spelling() {
        for name in ["X-HTTP-Method-Override", "x_http_method_override", "X-Http_Method", "X-METHOD_override"] {
            assert!(is_method_override(name.as_bytes()), "{name}");
        }
        for name in ["X-HTTP-Methods", "XHTTPMethod", "Method-Override", "X-HTTP-Method-Overrid3", ""] {
            assert!(!is_method_override(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn one_scheme_and_one_key() {
        assert_eq!(bearer(b"Bearer sk_1"), Ok(b"sk_1".as_slice()));
        assert_eq!(bearer(b"bearer sk_1"), Ok(b"sk_1".as_slice()));
        assert_eq!(bearer(b"Bearer sk_1,Bearer sk_2"), Err(NoBearer::Repeated));
        let long = [b"Bearer ".as_slice(), &[b'a'; 513]].concat();
        for odd in [b"".as_slice(), b"Bearer", b"Bearer ", b"Bearer  sk_1", b"Basic sk_1x", b"Bearer sk_1 ", &long] {
            assert_eq!(bearer(odd), Err(NoBearer::Malformed), "{odd:?}");
        }
    }
}
