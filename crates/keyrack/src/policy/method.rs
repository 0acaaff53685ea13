//! The method of a request: an exact upper-case token.

use std::str;

/// The longest method that is understood, in bytes.
pub const MOST_METHOD_BYTES: usize = 20;

/// Stands for every method in a rule. No method has this code.
pub(super) const ANY: u128 = 0;

/// What was given as a method is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a method: 1 to 20 of A-Z and '-'")]
pub struct BadMethod;

impl BadMethod {
    /// The word for a header.
    pub const fn reason(self) -> &'static str {
        "method_malformed"
    }
}

/// A method: 1 to [`MOST_METHOD_BYTES`] of `A-Z` and `-`. `get` is not `GET`, and `HEAD` is not `GET` either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Method<'a> {
    token: &'a [u8],
    /// The token with 5 bits to a letter, so that two methods are compared at once. Never [`ANY`].
    code: u128,
}

impl<'a> Method<'a> {
    /// Takes the bytes as they were received: nothing is trimmed, no letter changes its case.
    ///
    /// # Errors
    /// [`BadMethod`] if they are not a method.
    pub fn scan(token: &'a [u8]) -> Result<Self, BadMethod> {
        if token.is_empty() || token.len() > MOST_METHOD_BYTES {
            return Err(BadMethod);
        }
        let mut code = 0;
        for byte in token {
            let letter = match byte {
                b'A'..=b'Z' => byte - b'A' + 1,
                b'-' => 27,
                _ => return Err(BadMethod),
            };
            code = code << 5 | u128::from(letter);
        }
        Ok(Self { token, code })
    }

    /// The method as it was written.
    pub fn as_str(&self) -> &'a str {
        // Always text: `scan` lets nothing else in.
        str::from_utf8(self.token).unwrap_or_default()
    }

    /// Whether requests of this method only read: `GET`, `HEAD` and `OPTIONS`.
    pub const fn is_read(&self) -> bool {
        matches!(self.token, b"GET" | b"HEAD" | b"OPTIONS")
    }

    pub(super) const fn code(self) -> u128 {
        self.code
    }
}

/// The code of what stands in a rule: a method or `*`.
pub(super) fn code_in_rule(word: &str) -> Result<u128, BadMethod> {
    if word == "*" { Ok(ANY) } else { Method::scan(word.as_bytes()).map(Method::code) }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn only_exact_upper_case_tokens_are_methods() {
        for good in ["GET", "M-SEARCH", "X", "-", "ABCDEFGHIJKLMNOPQRST"] {
            assert_eq!(Method::scan(good.as_bytes()).map(|method| method.as_str()), Ok(good));
        }
        for bad in ["", "get", "GET ", " GET", "GET\0", "G3T", "G*T", "*", "GÉT", "ABCDEFGHIJKLMNOPQRSTU"] {
            assert_eq!(Method::scan(bad.as_bytes()), Err(BadMethod), "{bad:?}");
        }
        assert_eq!(BadMethod.reason(), "method_malformed");
    }

    #[test]
    fn no_two_methods_share_a_code_and_none_has_that_of_any() {
        let words =
            ["A", "AA", "-", "-A", "A-", "GET", "GEU", "TEG", "ZZZZZZZZZZZZZZZZZZZZ", "--------------------", "*"];
        let codes: HashSet<_> = words.into_iter().map(|word| code_in_rule(word).unwrap()).collect();
        assert_eq!(codes.len(), words.len());
        assert_eq!(code_in_rule("*"), Ok(ANY));
    }

    #[test]
    fn three_methods_read() {
        let reads = |word: &str| Method::scan(word.as_bytes()).unwrap().is_read();
        assert!(["GET", "HEAD", "OPTIONS"].into_iter().all(reads));
        assert!(!["POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "QUERY", "GETS"].into_iter().any(reads));
    }
}
