//! Arbitrary bytes as the head of a request: nothing panics, and a second parser, written to be obvious, agrees about
//! whatever is accepted: where it ends, what it asks, and how long its body is.
#![no_main]

use keyrack_server::wire::head::{self, MOST_BODY_BYTES, MOST_FIELDS, MOST_HEAD_BYTES, MOST_TARGET_BYTES};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    check(data);
    // Arbitrary bytes seldom begin or end like a head, so they are also tried as what is in one.
    check(&[b"GET / HTTP/1.1\r\nHost: a\r\n", data, b"\r\n\r\n"].concat());
    check(&[b"GET /", data, b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat());
    check(&[b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:", data, b"\r\n\r\n"].concat());
});

fn check(bytes: &[u8]) {
    let mut room = head::room();
    let Ok(Some(head)) = head::parse(bytes, &mut room) else { return };
    let obvious = parse_obviously(bytes);
    assert_eq!((head.method, head.target), (obvious.method, obvious.target));
    assert_eq!(head.fields.iter().collect::<Vec<_>>(), obvious.fields);
    assert_eq!((head.length, head.body), (obvious.length, obvious.body));

    assert!(head.length <= MOST_HEAD_BYTES && head.body <= MOST_BODY_BYTES);
    assert!(head.target.len() <= MOST_TARGET_BYTES && obvious.fields.len() <= MOST_FIELDS);
    assert!(!bytes[..head.length].contains(&0));

    // What is accepted does not depend on what comes behind it.
    let mut room = head::room();
    let alone = head::parse(&bytes[..head.length], &mut room);
    assert_eq!(alone.map(|head| head.map(|head| (head.length, head.body))), Ok(Some((obvious.length, obvious.body))));
}

struct Obvious<'a> {
    method: &'a [u8],
    target: &'a [u8],
    fields: Vec<(&'a [u8], &'a [u8])>,
    length: usize,
    body: usize,
}

/// Reads a head that was accepted: lines that end in CR LF, up to the first empty one. Panics if it is not so.
fn parse_obviously(bytes: &[u8]) -> Obvious<'_> {
    let length = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a head ends in an empty line") + 4;
    let mut lines = Vec::new();
    let mut rest = &bytes[..length - 4];
    while let Some(end) = rest.windows(2).position(|window| window == b"\r\n") {
        lines.push(&rest[..end]);
        rest = &rest[end + 2..];
    }
    lines.push(rest);
    assert!(lines.iter().all(|line| !line.contains(&b'\r') && !line.contains(&b'\n')), "a line ends in CR LF only");

    let words: Vec<_> = lines[0].split(|byte| *byte == b' ').collect();
    let [method, target, version] = words[..] else { panic!("a request line is three words") };
    assert!(!method.is_empty() && target[0] == b'/' && [b"HTTP/1.0", b"HTTP/1.1"].iter().any(|known| version == *known));

    let fields: Vec<_> = lines[1..].iter().map(|line| parse_field(line)).collect();
    let all = |wanted: &str| -> Vec<&[u8]> {
        let has_name = |(name, _): &&(&[u8], &[u8])| name.eq_ignore_ascii_case(wanted.as_bytes());
        fields.iter().filter(has_name).map(|(_, value)| *value).collect()
    };
    assert!(all("transfer-encoding").is_empty() && all("expect").is_empty());
    assert!(all("host").len() == 1 || (version == b"HTTP/1.0" && all("host").is_empty()));
    let body = match all("content-length")[..] {
        [] => 0,
        [value] => {
            assert!(value.iter().all(u8::is_ascii_digit), "a length is digits");
            std::str::from_utf8(value).unwrap_or_default().parse().expect("a length is a number")
        }
        _ => panic!("two lengths"),
    };
    Obvious { method, target, fields, length, body }
}

fn parse_field(line: &[u8]) -> (&[u8], &[u8]) {
    let colon = line.iter().position(|byte| *byte == b':').expect("a field has a colon");
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    assert!(!name.is_empty() && name.iter().all(|byte| byte.is_ascii_graphic()), "a name is a token");
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !is_blank(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !is_blank(byte)).map_or(start, |last| last + 1);
    (name, &value[start..end])
}
