//! Everything unusual is refused: it is said why, and nothing behind it is answered.

use super::{connect, get, started};

/// Sends a request, and one behind it that must not be answered. Gives the status and the message.
fn refused(request: &[u8]) -> (u16, String) {
    let wire = started();
    let mut client = connect(&wire);
    client.send(request);
    client.send(get("/smuggled"));
    let shown = String::from_utf8_lossy(&request[..request.len().min(120)]).into_owned();
    let answer = client.answer();
    assert_eq!(answer.field("connection"), Some("close"), "{shown:?}");
    assert_eq!(answer.field("Content-Type"), Some("application/problem+json"), "{shown:?}: {answer:?}");
    assert_eq!(answer.field("X-Request-Id"), Some("req_TEST"));
    assert_eq!(client.rest(), b"", "{shown:?}");
    let document: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(document["status"], "error");
    assert_eq!(document["request_id"], "req_TEST");
    assert_eq!(document["message"], document["error"]);
    let code = document["code"].as_str().unwrap();
    assert_eq!(document["type"], format!("https://keyrack.test/errors#{code}"));
    (answer.status, document["message"].as_str().unwrap().to_owned())
}

fn assert_refused(status: u16, requests: &[&str]) {
    for request in requests {
        assert_eq!(refused(request.as_bytes()).0, status, "{request:?}");
    }
}

/// A request for `/` with these lines behind its `Host`.
fn with(lines: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n")
}

#[test]
fn two_ways_to_tell_the_length_are_refused() {
    for (status, lines) in [
        (400, "Content-Length: 3\r\nTransfer-Encoding: chunked"),
        (400, "Transfer-Encoding: chunked\r\nContent-Length: 3"),
        (400, "content-length: 3\r\ntransfer-encoding: identity"),
        (411, "Transfer-Encoding: chunked"),
        (411, "transfer-encoding: Chunked"),
        (411, "Transfer-Encoding: xchunked"),
        (411, "Transfer-Encoding: chunked, identity"),
        (411, "Transfer-Encoding: gzip, chunked"),
        (411, "Transfer-Encoding:\tchunked"),
        (411, "Transfer-Encoding:"),
        (411, "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked"),
        (400, "Transfer-Encoding : chunked"),
        (400, "Transfer-Encoding\t: chunked"),
        (400, " Transfer-Encoding: chunked"),
        (400, "X: y\nTransfer-Encoding: chunked"),
        (400, "X: y\rTransfer-Encoding: chunked"),
        (400, "X: y\r\n Transfer-Encoding: chunked"),
        (400, "Content-Length: 3\r\nContent-Length: 3"),
        (400, "Content-Length: 3\r\nContent-Length: 4"),
        (400, "Content-Length: 3, 3"),
        (400, "Content-Length: +3"),
        (400, "Content-Length: -3"),
        (400, "Content-Length: 0x3"),
        (400, "Content-Length: 3 3"),
        (400, "Content-Length: 3.0"),
        (400, "Content-Length: 3;"),
        (400, "Content-Length:"),
        (400, "Content-Length: a"),
        (400, "Content-Length : 3"),
        (400, "Content-Length\0: 3"),
    ] {
        assert_eq!(refused(with(lines).as_bytes()).0, status, "{lines:?}");
    }
}

#[test]
fn what_is_not_exactly_a_request_is_refused() {
    assert_refused(
        400,
        &[
            "GET / HTTP/1.1\nHost: a\n\n",
            "GET / HTTP/1.1\r\nHost: a\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\n",
            "GET / HTTP/1.1\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n\tb\r\n\r\n",
            "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\x7fb\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX : a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX(: a\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /  HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / http/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1.1\r\nHost: a\r\n\r\n",
            "GET /\r\n\r\n",
            "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
            "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /a\0 HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /\u{e4} HTTP/1.1\r\nHost: a\r\n\r\n",
            "G(T / HTTP/1.1\r\nHost: a\r\n\r\n",
            " GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "\0GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03",
        ],
    );
}

#[test]
fn a_target_is_a_path() {
    assert_refused(
        400,
        &[
            "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET a HTTP/1.1\r\nHost: a\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
            "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n",
            "CONNECT /a HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
        ],
    );
}

#[test]
fn there_is_one_host() {
    assert_refused(
        400,
        &[
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nX-Host: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n",
            "GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: user@a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
        ],
    );
}

#[test]
fn other_versions_are_refused() {
    assert_refused(400, &["GET / HTTP/2.0\r\nHost: a\r\n\r\n", "GET / HTTP/1.2\r\nHost: a\r\n\r\n"]);
}

#[test]
fn what_would_need_an_answer_of_its_own_is_refused() {
    assert_eq!(refused(with("Expect: 100-continue\r\nContent-Length: 3").as_bytes()).0, 417);
    assert_eq!(refused(with("Content-Encoding: gzip\r\nContent-Length: 3").as_bytes()).0, 415);
    assert_eq!(refused(with("Content-Encoding: identity\r\nContent-Encoding: br").as_bytes()).0, 415);
    let wire = started();
    assert_eq!(connect(&wire).ask(with("Content-Encoding: Identity")).status, 200);
}

#[test]
fn sizes_have_limits() {
    let path = |length: usize| format!("/{}", "a".repeat(length - 1));
    let fields = |count: usize| (0..count).map(|number| format!("X-{number}: 1\r\n")).collect::<String>();
    let head = |length: usize| {
        let around = "GET / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n".len();
        format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(length - around))
    };
    let wire = started();
    let mut client = connect(&wire);
    for fits in [get(&path(8 * 1024)), format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", fields(63)), head(16 * 1024)] {
        assert_eq!(client.ask(&fits).status, 200);
    }
    for (status, too_large) in [
        (414, get(&path(8 * 1024 + 1))),
        (414, get(&path(100 * 1024))),
        (431, format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", fields(64))),
        (431, head(16 * 1024 + 1)),
        (431, format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "a".repeat(20 * 1024))),
    ] {
        assert_eq!(refused(too_large.as_bytes()).0, status, "{} bytes", too_large.len());
    }
    // Its end is not waited for.
    for (status, front) in [(414, "GET /"), (431, "GET / HTTP/1.1\r\nX: ")] {
        let mut client = connect(&wire);
        assert_eq!(client.ask(format!("{front}{}", "a".repeat(16 * 1024))).status, status, "{front}");
    }
}

#[test]
fn a_body_that_is_too_large_is_refused_before_it_comes() {
    for length in ["1048577", "99999999999", "99999999999999999999999999"] {
        let wire = started();
        let mut client = connect(&wire);
        let answer = client.ask(with(&format!("Content-Length: {length}")));
        assert_eq!((answer.status, answer.field("connection")), (413, Some("close")), "{length}");
        assert_eq!(client.rest(), b"");
    }
}

#[test]
fn a_refusal_arrives_even_if_the_client_goes_on_sending() {
    let (status, message) = refused(&[with("Content-Length: 2000000").as_bytes(), &[b'x'; 2_000_000]].concat());
    assert_eq!((status, message.contains("larger than is read here")), (413, true));
}
