//! What a careless reader makes of a path: letter case, a last slash and needless encoding count for nothing.
//!
//! Nothing is matched by its folded form alone. It is only asked whether it leads to the same rule.

use super::path::encoded_byte;

/// Whether a character may be written both as it is and encoded, and both are accepted: `@` and `%40`.
///
/// Letters, digits and `- . _ ~` are not among them: encoded, they are refused. Programs encode these, though, so that
/// `/users/me%40example.com` must pass.
pub(super) const fn is_plain_twin(byte: u8) -> bool {
    matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@')
}

/// A segment in small letters, with nothing encoded that need not be.
pub(super) fn folded(segment: &[u8]) -> impl Iterator<Item = u8> {
    let mut rest = segment;
    std::iter::from_fn(move || {
        let (first, length) = match encoded_byte(rest) {
            Some(byte) if is_plain_twin(byte) => (byte, 3),
            Some(_) | None => (*rest.first()?, 1),
        };
        rest = rest.get(length..).unwrap_or_default();
        Some(first.to_ascii_lowercase())
    })
}

/// The folded segment, laid out in a buffer; nothing if it does not fit.
pub(super) fn fold_into<'b>(segment: &[u8], buffer: &'b mut [u8]) -> Option<&'b [u8]> {
    let mut length = 0;
    for byte in folded(segment) {
        *buffer.get_mut(length)? = byte;
        length += 1;
    }
    buffer.get(..length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fold(segment: &str) -> String {
        String::from_utf8(folded(segment.as_bytes()).collect()).unwrap()
    }

    #[test]
    fn case_and_needless_encoding_are_dropped() {
        assert_eq!(fold("Users"), "users");
        assert_eq!(fold("a%40B%3AC%3ad"), "a@b:c:d");
        assert_eq!(fold("%C3%A9"), fold("%c3%a9"));
        assert_eq!(fold("%20%3C"), "%20%3c");
        assert_eq!(fold(""), "");
        // Decoded once: what comes out is not looked at again.
        assert_eq!(fold("%2540"), "%2540");
    }

    #[test]
    fn a_segment_longer_than_the_buffer_has_no_folded_form() {
        let mut buffer = [0; 3];
        assert_eq!(fold_into(b"A%40b", &mut buffer), Some(b"a@b".as_slice()));
        assert_eq!(fold_into(b"A%40bc", &mut buffer), None);
    }
}
