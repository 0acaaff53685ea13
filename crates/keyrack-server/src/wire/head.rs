//! The one shape that the head of a request may have. Everything unusual is refused, because two parsers that disagree
//! about a request are how one is smuggled past a proxy.

use std::mem::MaybeUninit;

use super::fields::{Field, Fields};
use super::refused::Refused;

/// Most bytes of a head, from the method to the empty line.
pub const MOST_HEAD_BYTES: usize = 16 * 1024;
/// Most header fields.
pub const MOST_FIELDS: usize = 64;
/// Most bytes of a target.
pub const MOST_TARGET_BYTES: usize = 8 * 1024;
/// Most bytes of a body.
pub const MOST_BODY_BYTES: usize = 1024 * 1024;

/// Room for the fields of a head while it is looked at.
pub type Room<'b> = [MaybeUninit<Field<'b>>; MOST_FIELDS];

/// Room with nothing in it.
#[must_use]
pub const fn room<'b>() -> Room<'b> {
    [const { MaybeUninit::uninit() }; MOST_FIELDS]
}

/// The head of a request.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// The method, as sent.
    pub method: &'a [u8],
    /// The target, as sent.
    pub target: &'a [u8],
    /// Every header field.
    pub fields: Fields<'a>,
    /// How many bytes the head has.
    pub length: usize,
    /// How many bytes of body follow.
    pub body: usize,
    /// What becomes of the connection after the reply.
    pub after: After,
}

/// What becomes of a connection after a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// It stays open, as HTTP/1.1 has it when nothing is said.
    Stays,
    /// It stays open, and the client, which speaks HTTP/1.0, must be told.
    StaysByRequest,
    /// It is closed.
    Closes,
}

/// Reads the head at the start of `bytes`; `None` if it has not come to its end yet.
///
/// A head that comes in pieces is read from its start each time. That is bounded by its size: 16 KiB take a few
/// microseconds, less than the system takes to receive the piece.
///
/// # Errors
/// It is not, or will not be, of the one shape.
pub fn parse<'h, 'b: 'h>(bytes: &'b [u8], room: &'h mut Room<'b>) -> Result<Option<Head<'h>>, Refused> {
    // The parser below would skip empty lines.
    if bytes.first().is_some_and(|byte| !byte.is_ascii_graphic()) {
        return Err(Refused::Malformed);
    }
    let mut parsed = httparse::Request::new(&mut []);
    let length = match parsed.parse_with_uninit_headers(bytes, room) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return unfinished(bytes),
        Err(httparse::Error::TooManyHeaders) => return Err(Refused::HeadTooLarge),
        Err(httparse::Error::Version) if names_a_version(bytes) => return Err(Refused::Version),
        Err(
            httparse::Error::HeaderName
            | httparse::Error::HeaderValue
            | httparse::Error::NewLine
            | httparse::Error::Status
            | httparse::Error::Token
            | httparse::Error::Version,
        ) => return Err(Refused::Malformed),
    };
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(Refused::Malformed);
    };
    if target.len() > MOST_TARGET_BYTES {
        return Err(Refused::TargetTooLong);
    }
    if length > MOST_HEAD_BYTES {
        return Err(Refused::HeadTooLarge);
    }
    let fields: &'h [Field<'b>] = parsed.headers;
    if !lies_end_to_end(bytes, length, method.len() + target.len(), fields) {
        return Err(Refused::Malformed);
    }
    if !is_path(target.as_bytes()) || method == "CONNECT" {
        return Err(Refused::Target);
    }
    let (body, after) = read_framing(fields, minor)?;
    let (method, target) = (method.as_bytes(), target.as_bytes());
    Ok(Some(Head { method, target, fields: Fields::new(fields), length, body, after }))
}

/// What there is of a head that has not ended must not be too much already.
fn unfinished<'h>(bytes: &[u8]) -> Result<Option<Head<'h>>, Refused> {
    if bytes.len() < MOST_HEAD_BYTES {
        Ok(None)
    } else if bytes.iter().take(MOST_TARGET_BYTES).any(|byte| *byte == b'\n') {
        Err(Refused::HeadTooLarge)
    } else {
        Err(Refused::TargetTooLong)
    }
}

/// Whether the request line ends in some version of HTTP, and is not merely something else than a request line.
fn names_a_version(bytes: &[u8]) -> bool {
    let line = bytes.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ');
    let version = words.by_ref().nth(2).and_then(|word| word.strip_prefix(b"HTTP/"));
    let is_version = matches!(version, Some([major, b'.', minor]) if major.is_ascii_digit() && minor.is_ascii_digit());
    is_version && words.next().is_none()
}

/// Whether a head is its parts and what must stand between them, and nothing else: one space, one colon, CR LF. The
/// parser is more lenient, and does not say where it was.
fn lies_end_to_end(bytes: &[u8], length: usize, method_and_target: usize, fields: &[Field<'_>]) -> bool {
    const VERSION: usize = "HTTP/1.1".len();
    let ends_line = |at: usize| bytes.get(at..at + 2) == Some(b"\r\n");
    let skip_blanks = |mut at: usize| {
        while matches!(bytes.get(at), Some(b' ' | b'\t')) {
            at += 1;
        }
        at
    };
    let mut at = method_and_target + 2 + VERSION;
    for field in fields {
        if !ends_line(at) {
            return false;
        }
        at += 2 + field.name.len();
        if bytes.get(at) != Some(&b':') {
            return false;
        }
        at = skip_blanks(skip_blanks(at + 1) + field.value.len());
    }
    ends_line(at) && ends_line(at + 2) && at + 4 == length
}

/// Whether a target is a path in plain characters, with nothing that stays at the client.
fn is_path(target: &[u8]) -> bool {
    target.first() == Some(&b'/') && target.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#')
}

/// How long the body is, and what becomes of the connection.
fn read_framing(fields: &[Field<'_>], minor: u8) -> Result<(usize, After), Refused> {
    let (mut host, mut length, mut transfer_coding) = (None, None, false);
    let (mut close, mut keep_alive) = (false, false);
    for field in fields {
        let is = |name| field.name.eq_ignore_ascii_case(name);
        // The length is compared first, because it tells nearly all of them apart.
        match field.name.len() {
            4 if is("host") && (host.replace(field.value).is_some() || !is_host(field.value)) => {
                return Err(Refused::Host);
            }
            6 if is("expect") => return Err(Refused::Expectation),
            10 if is("connection") => {
                for option in field.value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                    close |= option.eq_ignore_ascii_case(b"close");
                    keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            14 if is("content-length") && length.replace(field.value).is_some() => return Err(Refused::Length),
            16 if is("content-encoding") && !field.value.eq_ignore_ascii_case(b"identity") => {
                return Err(Refused::Coded);
            }
            17 if is("transfer-encoding") => transfer_coding = true,
            _ => {}
        }
    }
    if transfer_coding {
        return Err(if length.is_some() { Refused::TwoLengths } else { Refused::Chunked });
    }
    let after = match (minor, close, keep_alive) {
        (0, false, true) => After::StaysByRequest,
        (0, _, _) | (_, true, _) => After::Closes,
        (_, false, _) => After::Stays,
    };
    if minor != 0 && host.is_none() {
        return Err(Refused::Host);
    }
    Ok((length.map_or(Ok(0), read_length)?, after))
}

/// Whether a value could be a host and a port. It is not looked at any further here.
fn is_host(value: &[u8]) -> bool {
    value.iter().all(|byte| byte.is_ascii_graphic() && !b",/?#@\\\"<>^`{|}".contains(byte))
}

/// A length in digits and nothing else.
fn read_length(value: &[u8]) -> Result<usize, Refused> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(Refused::Length);
    }
    // A number that has no room is certainly too large.
    let length = std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok()).unwrap_or(usize::MAX);
    if length > MOST_BODY_BYTES { Err(Refused::BodyTooLarge) } else { Ok(length) }
}

/// The target of a head that was not understood, or as much of it as came, if its first line is that of a request.
pub(super) fn target_of(bytes: &[u8]) -> Option<&[u8]> {
    let is_over = bytes.contains(&b'\r');
    let line = bytes.split(|byte| *byte == b'\r').next()?;
    let mut words = line.splitn(3, |byte| *byte == b' ');
    let target = words.nth(1)?;
    words.next().map_or(!is_over, |version| version.starts_with(b"HTTP/")).then_some(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framing(lines: &str) -> Result<(usize, After), Refused> {
        let text = format!("POST /a HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        let mut room = room();
        let head = parse(text.as_bytes(), &mut room)?.unwrap();
        assert_eq!(head.length, text.len());
        Ok((head.body, head.after))
    }

    #[test]
    fn a_head_is_taken_apart_as_it_was_sent() {
        let bytes = b"GET /a?b=c%20d HTTP/1.1\r\nHost: a:1\r\nX-Two: \t2 3\t \r\nx-none:\r\n\r\nrest";
        let mut room = room();
        let head = parse(bytes, &mut room).unwrap().unwrap();
        assert_eq!((head.method, head.target), (b"GET".as_slice(), b"/a?b=c%20d".as_slice()));
        assert_eq!(head.length, bytes.len() - "rest".len());
        let fields: Vec<_> = head.fields.iter().collect();
        let expected: [(&[u8], &[u8]); 3] = [(b"Host", b"a:1"), (b"X-Two", b"2 3"), (b"x-none", b"")];
        assert_eq!(fields, expected);
    }

    #[test]
    fn the_front_of_a_head_is_waited_for() {
        let bytes = b"GET /a HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n";
        for end in 0..bytes.len() {
            let mut room = room();
            assert!(parse(&bytes[..end], &mut room).unwrap().is_none(), "{end}");
        }
    }

    #[test]
    fn the_length_is_one_plain_number() {
        assert_eq!(framing("Content-Length: 0\r\n"), Ok((0, After::Stays)));
        assert_eq!(framing("content-length: 007\r\n"), Ok((7, After::Stays)));
        assert_eq!(framing("Content-Length: 1048576\r\n"), Ok((1_048_576, After::Stays)));
        assert_eq!(framing("Content-Length: 1048577\r\n"), Err(Refused::BodyTooLarge));
        assert_eq!(framing("Content-Length: 99999999999999999999999\r\n"), Err(Refused::BodyTooLarge));
        assert_eq!(framing("Content-Length: 1,1\r\n"), Err(Refused::Length));
        assert_eq!(framing("Content-Length: 1\r\nContent-Length: 1\r\n"), Err(Refused::Length));
        assert_eq!(framing("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"), Err(Refused::TwoLengths));
        assert_eq!(framing("Transfer-Encoding: chunked\r\n"), Err(Refused::Chunked));
    }

    #[test]
    fn what_only_looks_like_a_rule_is_none() {
        assert_eq!(framing("Content-Lengths: a\r\nX-Transfer-Encoding: chunked\r\n"), Ok((0, After::Stays)));
        assert_eq!(framing("Connection: closed, not-close\r\n"), Ok((0, After::Stays)));
        assert_eq!(framing("Connection: a ,\tClose\r\n"), Ok((0, After::Closes)));
    }
}
