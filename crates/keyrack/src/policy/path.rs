//! The path of a request, scanned and never changed: nothing is decoded, nothing is tidied up.
//!
//! A back end may read a path in its own way: decode `%2e`, merge `//`, cut at `;`. A path that could be read in more
//! than one way is refused here, so that no back end sees a route that was not judged.

use std::str;

use super::fold::is_plain_twin;

/// The longest path, in bytes, query excluded.
pub const MOST_PATH_BYTES: usize = 8_192;
/// The most segments of a path.
pub const MOST_PATH_SEGMENTS: u8 = 128;
/// The most segments of a rule's path. No rule looks at a later segment.
pub const MOST_RULE_SEGMENTS: usize = 32;

/// Why a path cannot be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    /// Not a path at all.
    #[error("not the path of a request")]
    Malformed,
    /// A path that two programs could read differently.
    #[error("a path that can be read in more than one way")]
    Ambiguous,
}

impl BadPath {
    /// The word for a header.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Malformed => "path_malformed",
            Self::Ambiguous => "path_ambiguous",
        }
    }
}

/// A path that can be read in one way only, apart from letter case, a last `/` and `%40` for `@`, which
/// [`super::Policies::route`] looks after.
#[derive(Clone, Copy, Debug)]
pub struct Path<'a> {
    bytes: &'a [u8],
    /// Where the first segments end; as many of them hold as there are segments.
    ends: [u16; MOST_RULE_SEGMENTS],
    segments: u8,
    has_upper_case: bool,
    has_plain_twin: bool,
}

/// What a byte means in a path.
#[derive(Clone, Copy)]
enum Class {
    /// Stands for itself.
    Plain,
    /// As plain, but another letter case of it exists.
    Upper,
    /// Between segments.
    Slash,
    /// The beginning of an encoded byte.
    Percent,
    /// The beginning of the query.
    Question,
    /// Allowed, and read differently by different programs.
    Ambiguous,
    /// Not allowed.
    Foreign,
}

static CLASSES: [Class; 256] = {
    let mut classes = [Class::Foreign; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        #[expect(clippy::indexing_slicing, reason = "below 128 of 256; `get_mut` is not for constants")]
        let class = &mut classes[byte as usize];
        *class = match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' | b'@' => Class::Plain,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' => Class::Plain,
            b'A'..=b'Z' => Class::Upper,
            b'/' => Class::Slash,
            b'%' => Class::Percent,
            b'?' => Class::Question,
            b';' => Class::Ambiguous,
            _ => Class::Foreign,
        };
        byte += 1;
    }
    classes
};

impl Class {
    fn of(byte: u8) -> Self {
        CLASSES.get(usize::from(byte)).copied().unwrap_or(Self::Foreign)
    }
}

impl<'a> Path<'a> {
    /// Scans what a request asks for: its path, perhaps followed by `?` and a query, which is left out unread.
    ///
    /// A last `/` is allowed: the path then ends in an empty segment.
    ///
    /// # Errors
    /// [`BadPath::Malformed`] if it does not begin with `/`, has more than [`MOST_PATH_BYTES`] bytes or
    /// [`MOST_PATH_SEGMENTS`] segments, or holds anything but the path characters of RFC 3986; [`BadPath::Ambiguous`] if
    /// it has an empty segment before the last, a segment that ends in `.` or an encoded space, a `;`, or an encoded byte that need
    /// not or must not be encoded.
    pub fn scan(target: &'a [u8]) -> Result<Self, BadPath> {
        let Some((b'/', _)) = target.split_first() else { return Err(BadPath::Malformed) };
        let mut path = Self {
            bytes: target,
            ends: [0; MOST_RULE_SEGMENTS],
            segments: 0,
            has_upper_case: false,
            has_plain_twin: false,
        };
        let mut ambiguous = false;
        let (mut start, mut at) = (1, 1);
        // One more than there may be, so that too many are seen.
        let bounded = target.get(..=MOST_PATH_BYTES).unwrap_or(target);
        loop {
            let rest = bounded.get(at..).unwrap_or_default();
            // Most of a path, and so in a loop of its own.
            at += rest.iter().take_while(|byte| matches!(Class::of(**byte), Class::Plain)).count();
            let Some(byte) = bounded.get(at) else { break };
            match Class::of(*byte) {
                Class::Plain => {}
                Class::Upper => path.has_upper_case = true,
                Class::Slash => {
                    ambiguous |= at == start || ends_oddly(target, at);
                    path.end_segment(at)?;
                    start = at + 1;
                }
                Class::Percent => {
                    let rest = target.get(at..).unwrap_or_default();
                    let (meaning, length) = encoded_character(rest)?;
                    path.has_upper_case |= rest.iter().take(length).any(u8::is_ascii_uppercase);
                    path.has_plain_twin |= matches!(meaning, Encoded::PlainTwin);
                    ambiguous |= matches!(meaning, Encoded::Ambiguous);
                    at += length - 1;
                }
                Class::Question => break,
                Class::Ambiguous => ambiguous = true,
                Class::Foreign => return Err(BadPath::Malformed),
            }
            at += 1;
        }
        ambiguous |= ends_oddly(target, at);
        path.end_segment(at)?;
        path.bytes = target.get(..at).unwrap_or_default();
        if at > MOST_PATH_BYTES {
            Err(BadPath::Malformed)
        } else if ambiguous {
            Err(BadPath::Ambiguous)
        } else {
            Ok(path)
        }
    }

    /// The path as it was received, without the query.
    pub fn as_str(&self) -> &'a str {
        // Always text: `scan` lets nothing but ASCII in.
        str::from_utf8(self.bytes).unwrap_or_default()
    }

    /// How many segments there are. The last may be empty.
    pub(super) const fn segments(&self) -> usize {
        self.segments as usize
    }

    /// One of the first [`MOST_RULE_SEGMENTS`] segments.
    pub(super) fn segment(&self, number: usize) -> Option<&'a [u8]> {
        let before = number.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied())?;
        let end = self.ends.get(number).copied()?;
        self.bytes.get(usize::from(before) + 1..usize::from(end))
    }

    /// Whether an empty segment ends it: `/a/`, but not `/`.
    pub(super) fn ends_in_slash(&self) -> bool {
        self.segments > 1 && self.bytes.last() == Some(&b'/')
    }

    /// Whether it holds a character that is encoded and need not be, such as `%40` for `@`.
    pub(super) const fn has_plain_twin(&self) -> bool {
        self.has_plain_twin
    }

    /// Whether a careless reader takes other spellings for the same path.
    pub(super) fn is_odd(&self) -> bool {
        self.has_upper_case || self.has_plain_twin || self.ends_in_slash()
    }

    fn end_segment(&mut self, at: usize) -> Result<(), BadPath> {
        if self.segments == MOST_PATH_SEGMENTS {
            return Err(BadPath::Malformed);
        }
        if let Some(end) = self.ends.get_mut(usize::from(self.segments)) {
            // Never cut: `scan` stops a little behind 8,192.
            *end = u16::try_from(at).unwrap_or(u16::MAX);
        }
        self.segments += 1;
        Ok(())
    }
}

/// Whether what comes before a place ends as some file systems and frameworks overlook it.
fn ends_oddly(target: &[u8], at: usize) -> bool {
    target.get(..at).is_some_and(|before| before.ends_with(b".") || before.ends_with(b"%20"))
}

/// What an encoded character means.
#[derive(Clone, Copy)]
enum Encoded {
    /// It cannot be written in another way.
    Only,
    /// It could also stand there as it is.
    PlainTwin,
    /// Some programs decode it and then read another path.
    Ambiguous,
}

/// The encoded character that `rest` begins with: what it means, and how many bytes it takes, at least 1.
fn encoded_character(rest: &[u8]) -> Result<(Encoded, usize), BadPath> {
    let first = encoded_byte(rest).ok_or(BadPath::Malformed)?;
    let bytes = match first {
        b'/' | b'\\' | b'.' | b'%' | b';' | b'?' | b'#' | 0..=0x1f | 0x7f => return Ok((Encoded::Ambiguous, 3)),
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => return Ok((Encoded::Ambiguous, 3)),
        _ if is_plain_twin(first) => return Ok((Encoded::PlainTwin, 3)),
        0..0x7f => return Ok((Encoded::Only, 3)),
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        0x80.. => return Ok((Encoded::Ambiguous, 3)),
    };
    let mut character = [first, 0, 0, 0];
    for (position, byte) in character.iter_mut().enumerate().take(bytes).skip(1) {
        let Some(next) = rest.get(position * 3..).and_then(encoded_byte) else { return Ok((Encoded::Ambiguous, 3)) };
        *byte = next;
    }
    match character.get(..bytes).map(str::from_utf8) {
        Some(Ok(_)) => Ok((Encoded::Only, bytes * 3)),
        Some(Err(_)) | None => Ok((Encoded::Ambiguous, 3)),
    }
}

/// The byte that `%` and two digits at the start of `text` stand for, if they do.
pub(super) fn encoded_byte(text: &[u8]) -> Option<u8> {
    let [b'%', high, low] = text.first_chunk()? else { return None };
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(target: &str) -> Vec<&str> {
        let path = Path::scan(target.as_bytes()).unwrap();
        (0..path.segments()).map(|number| str::from_utf8(path.segment(number).unwrap()).unwrap()).collect()
    }

    #[track_caller]
    fn refused(reason: BadPath, targets: &[&str]) {
        for target in targets {
            assert_eq!(Path::scan(target.as_bytes()).err(), Some(reason), "{target:?}");
        }
    }

    #[test]
    fn a_path_is_cut_into_segments() {
        assert_eq!(segments("/"), [""]);
        assert_eq!(segments("/a"), ["a"]);
        assert_eq!(segments("/a/"), ["a", ""]);
        assert_eq!(segments("/v1/users/7"), ["v1", "users", "7"]);
        assert_eq!(segments("/a.b/.well-known/~me/-!$&'()*+,=:@_"), ["a.b", ".well-known", "~me", "-!$&'()*+,=:@_"]);
        assert_eq!(segments("/a%20b/%C3%A9/%e2%82%ac%F0%9F%98%80"), ["a%20b", "%C3%A9", "%e2%82%ac%F0%9F%98%80"]);
    }

    #[test]
    fn the_query_is_cut_off_at_the_first_question_mark_and_never_read() {
        assert_eq!(segments("/a?b"), ["a"]);
        assert_eq!(segments("/?/../;#?\u{0}é"), [""]);
        assert_eq!(Path::scan(b"/a/b?c=/d").unwrap().as_str(), "/a/b");
        let long = format!("/a?{}", "x".repeat(MOST_PATH_BYTES * 2));
        assert_eq!(Path::scan(long.as_bytes()).unwrap().as_str(), "/a");
        refused(BadPath::Malformed, &["?/a", "?"]);
    }

    #[test]
    fn what_is_no_path_is_malformed() {
        refused(BadPath::Malformed, &["", "a", "*", "http://a/b", "a/b", " /a", "/a b", "/a\tb", "/a\0", "/a#b", "/é"]);
        refused(
            BadPath::Malformed,
            &["/%", "/%4", "/%4g", "/%g4", "/a%", "/%%41", "/%+1", "/%C3%", "/%C3%zz", "/%?41"],
        );
        refused(
            BadPath::Malformed,
            &["/a\\b", "/a\"", "/<", "/>", "/[", "/]", "/^", "/`", "/{", "/|", "/}", "/\u{7f}"],
        );
        // Malformed weighs more, wherever it stands.
        refused(BadPath::Malformed, &["/../%", "//\0", "/;a b"]);
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_ambiguous() {
        refused(BadPath::Ambiguous, &["//", "//a", "/a//b", "/a//", "/.", "/./a", "/a/.", "/a/./", "/..", "/a/../b"]);
        refused(BadPath::Ambiguous, &["/api..", "/api../b", "/a./b", "/a.", "/a...", "/a.?b", "/a/..?b"]);
        refused(BadPath::Ambiguous, &["/;", "/a;x=1", "/a/..;/b", "/;/a", "/a;"]);
        refused(BadPath::Ambiguous, &["/%61", "/%41", "/%7e", "/%2d", "/%5F", "/%30", "/%2e", "/%2E%2e/a"]);
        refused(BadPath::Ambiguous, &["/%2f", "/%2F", "/%5c", "/%25", "/%252f", "/%3b", "/%3f", "/%23", "/a%3B"]);
        refused(BadPath::Ambiguous, &["/%00", "/%0a", "/%0D", "/%1f", "/%7f"]);
        refused(BadPath::Ambiguous, &["/%20", "/a%20", "/a%20/b", "/a%20%20", "/a%20?b"]);
    }

    #[test]
    fn encoded_bytes_have_to_be_text_within_their_segment() {
        // Overlong, surrogate, beyond Unicode, alone, cut off, cut by a slash or by a plain letter.
        refused(
            BadPath::Ambiguous,
            &["/%c0%af", "/%c1%81", "/%e0%80%af", "/%f0%80%80%af", "/%ed%a0%80", "/%f4%90%80%80"],
        );
        refused(BadPath::Ambiguous, &["/%f5%80%80%80", "/%ff", "/%80", "/%a9", "/%c3", "/%c3/%a9", "/%c3a", "/%e2%82"]);
        refused(BadPath::Ambiguous, &["/%c3%a9%a9", "/%c3%c3%a9", "/%e2%82/%ac", "/%c3?%a9"]);
    }

    #[test]
    fn length_and_segments_are_bounded() {
        let long = |bytes: usize| format!("/{}", "a".repeat(bytes - 1));
        assert_eq!(Path::scan(long(MOST_PATH_BYTES).as_bytes()).unwrap().as_str().len(), MOST_PATH_BYTES);
        refused(BadPath::Malformed, &[&long(MOST_PATH_BYTES + 1), &long(100_000)]);
        let escape_over_the_edge = format!("{}%20", long(MOST_PATH_BYTES - 1));
        refused(BadPath::Malformed, &[&escape_over_the_edge]);

        let deep = |segments: u8| "/a".repeat(usize::from(segments));
        assert_eq!(Path::scan(deep(MOST_PATH_SEGMENTS).as_bytes()).unwrap().segments(), 128);
        refused(BadPath::Malformed, &[&deep(MOST_PATH_SEGMENTS + 1), &format!("{}/", deep(MOST_PATH_SEGMENTS))]);
        // Rules look no further.
        let path = deep(33);
        let path = Path::scan(path.as_bytes()).unwrap();
        assert_eq!((path.segment(31), path.segment(32)), (Some(b"a".as_slice()), None));
    }

    #[test]
    fn odd_paths_are_known() {
        for odd in ["/A", "/a/", "/%C3%A9", "/a%40b", "/a%3a", "/%2A"] {
            assert!(Path::scan(odd.as_bytes()).unwrap().is_odd(), "{odd}");
        }
        for even in ["/", "/a", "/a@b:c", "/%c3%a9", "/a%20b", "/%20b", "/*"] {
            assert!(!Path::scan(even.as_bytes()).unwrap().is_odd(), "{even}");
        }
    }

    #[test]
    fn reasons_are_words_for_a_header() {
        assert_eq!(BadPath::Malformed.reason(), "path_malformed");
        assert_eq!(BadPath::Ambiguous.reason(), "path_ambiguous");
    }
}
