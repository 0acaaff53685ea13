//! What only a real socket shows: deadlines, a graceful stop, and bytes that no HTTP client would send.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::ops::Range;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::server::{Server, init};

/// Longer than any deadline of the server: whoever waits this long waits for ever.
const PATIENCE: Duration = Duration::from_secs(45);

fn admin_of(data: &Path) -> String {
    init(data)["project_key"].as_str().unwrap().to_owned()
}

fn connect(url: &str) -> TcpStream {
    let stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Everything that comes back until the server closes; panics if it does not.
fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut reply = Vec::new();
    match stream.read_to_end(&mut reply) {
        Ok(_) => {}
        // The server closed with something of ours unread.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("the connection stayed open: {error}, after {:?}", String::from_utf8_lossy(&reply)),
    }
    reply
}

/// The status of a reply; `None` if the connection was closed without one.
fn status(reply: &[u8]) -> Option<u16> {
    let line = reply.strip_prefix(b"HTTP/1.")?.get(2..5)?;
    std::str::from_utf8(line).ok()?.parse().ok()
}

/// Sends bytes over a connection of their own and takes what comes back. To a server that waits for more, it says that
/// there is no more.
fn exchange(url: &str, request: &[u8]) -> Vec<u8> {
    let mut stream = connect(url);
    // The server may have heard enough before everything is sent.
    stream.write_all(request).ok();
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut reply = Vec::new();
    if stream.read_to_end(&mut reply).is_err_and(|error| error.kind() == ErrorKind::WouldBlock) {
        stream.shutdown(Shutdown::Write).ok();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        reply.extend(read_to_end(&mut stream));
    }
    reply
}

/// Sends a part, then a byte a second, and says what came back and after how many seconds the connection was closed.
fn drip(url: &str, first: &[u8], drops: &[u8]) -> (Vec<u8>, u64) {
    let started = Instant::now();
    let mut stream = connect(url);
    stream.write_all(first).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let drops = drops.to_vec();
    let dripping = thread::spawn(move || {
        for drop in drops {
            thread::sleep(Duration::from_secs(1));
            if writer.write_all(&[drop]).is_err() {
                return;
            }
        }
    });
    let reply = read_to_end(&mut stream);
    let seconds = started.elapsed().as_secs();
    dripping.join().unwrap();
    (reply, seconds)
}

#[test]
fn no_connection_waits_for_ever() {
    let data = tempfile::tempdir().unwrap();
    let admin = admin_of(data.path());
    let server = Server::start(data.path());
    let url = server.url.as_str();
    let body = format!(
        "POST /api/client/keys HTTP/1.1\r\nHost: keyrack\r\nAuthorization: Bearer {admin}\r\n\
         Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{\"name\":"
    );
    let half_head = b"GET /livez HTTP/1.1\r\nHost: key";
    let served = b"GET /livez HTTP/1.1\r\nHost: keyrack\r\n\r\n";
    let letters = [b'a'; 30];
    thread::scope(|scope| {
        let closes = |first: &'static [u8], drops: &'static [u8], after: Range<u64>, replied: Option<u16>| {
            scope.spawn(move || {
                let (reply, seconds) = drip(url, first, drops);
                assert_eq!(status(&reply), replied, "{:?}", String::from_utf8_lossy(first));
                assert!(after.contains(&seconds), "{seconds} s: {:?}", String::from_utf8_lossy(first));
            });
        };
        closes(b"", b"", 9..13, None);
        closes(half_head, b"", 9..13, None);
        closes(half_head, b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 9..13, None);
        closes(served, b"", 29..33, Some(200));
        for drops in [&b""[..], &letters] {
            let started = Instant::now();
            let (body, drops) = (body.as_bytes(), drops);
            scope.spawn(move || {
                let (reply, _) = drip(url, body, drops);
                let text = String::from_utf8(reply).unwrap();
                assert_eq!(status(text.as_bytes()), Some(408), "{text}");
                assert!(text.contains("application/problem+json") && text.contains("\"request_timeout\""), "{text}");
                assert!((9..15).contains(&started.elapsed().as_secs()));
            });
        }
    });
    assert_eq!(status(&exchange(url, served)), Some(200));
}

#[test]
fn a_stop_finishes_what_is_under_way_and_nothing_else() {
    let data = tempfile::tempdir().unwrap();
    let admin = admin_of(data.path());
    let mut server = Server::start(data.path());
    let mut idle = connect(&server.url);
    idle.write_all(b"GET /livez HTTP/1.1\r\nHost: keyrack\r\n\r\n").unwrap();
    assert_ne!(idle.read(&mut [0; 1024]).unwrap(), 0);

    let mut under_way = connect(&server.url);
    let head = format!(
        "POST /api/client/keys HTTP/1.1\r\nHost: keyrack\r\nAuthorization: Bearer {admin}\r\n\
         Content-Type: application/json\r\nContent-Length: 15\r\n\r\n{{\"name\":"
    );
    under_way.write_all(head.as_bytes()).unwrap();
    // Long enough for the request to be read so far; a connection without one may be closed.
    thread::sleep(Duration::from_millis(300));
    let stopping = Instant::now();
    rustix::process::kill_process(rustix::process::Pid::from_child(&server.child), rustix::process::Signal::TERM)
        .unwrap();
    let address = server.url.strip_prefix("http://").unwrap();
    while TcpStream::connect(address).is_ok() {
        assert!(stopping.elapsed() < Duration::from_secs(3), "new connections are still accepted");
        thread::sleep(Duration::from_millis(20));
    }
    assert!(read_to_end(&mut idle).is_empty());
    assert!(server.child.try_wait().unwrap().is_none(), "it did not wait for the request");

    under_way.write_all(b"\"late\"}").unwrap();
    let reply = String::from_utf8(read_to_end(&mut under_way)).unwrap();
    assert_eq!(status(reply.as_bytes()), Some(200), "{reply}");
    assert!(server.child.wait().unwrap().success());
    assert!(stopping.elapsed() < Duration::from_secs(5));
    let log = std::fs::metadata(data.path().join("keyrack.db-wal"));
    assert_eq!(log.map_or(0, |log| log.len()), 0, "a clean stop leaves nothing in the log");

    let server = Server::start(data.path());
    let listed = server.send("GET", "/api/client/keys?q=late", &admin, None, &[]).unwrap();
    assert_eq!(listed.json()["results"].as_array().unwrap().len(), 1);
}

#[test]
fn odd_credentials_are_401_and_never_5xx() {
    let data = tempfile::tempdir().unwrap();
    let key = admin_of(data.path());
    let server = Server::start(data.path());
    let ask = |headers: &[u8]| {
        let request = [b"GET /api/client/keys HTTP/1.1\r\nHost: k\r\nConnection: close\r\n", headers, b"\r\n"].concat();
        let mut stream = connect(&server.url);
        stream.write_all(&request).unwrap();
        let reply = read_to_end(&mut stream);
        status(&reply).unwrap_or_else(|| panic!("no reply to {:?}", String::from_utf8_lossy(headers)))
    };
    let authorization = |value: &str| format!("Authorization: {value}\r\n").into_bytes();
    let bearer = authorization(&format!("Bearer {key}"));

    for good in ["Bearer", "bearer", "BEARER", "bEaReR"] {
        assert_eq!(ask(&authorization(&format!("{good} {key}"))), 200);
    }
    let (head, tail) = key.split_at(20);
    for bad in [
        String::new(),
        key.clone(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        format!("Bearer  {key}"),
        format!("Bearer\t{key}"),
        format!("Bearer\u{a0}{key}"),
        format!("Bearer{key}"),
        format!("Bearer \"{key}\""),
        format!("Bearer {key},"),
        format!("Bearer {key}, Bearer {key}"),
        format!("Bearer {key},{key}"),
        format!("Bearer {key} {key}"),
        format!("Bearer {head}\t{tail}"),
        format!("Bearer {head} {tail}"),
        format!("Bearer {}", key.to_lowercase()),
        format!("Bearer {}", "A".repeat(100_000)),
        format!("Bearer {}", key.repeat(3_000)),
        format!("Basic {key}"),
        format!("Token {key}"),
    ] {
        assert_eq!(ask(&authorization(&bad)), 401, "{:.80}", bad);
    }
    assert_eq!(ask(&[bearer.as_slice(), &bearer].concat()), 401, "two headers");
    assert_eq!(ask(&[bearer.as_slice(), b"authorization: \r\n"].concat()), 401, "two headers, one empty");
    assert_eq!(ask(&format!("Cookie: key={key}\r\nX-Api-Key: {key}\r\n").into_bytes()), 401, "elsewhere");
    for byte in 0..=u8::MAX {
        let place = bearer.len() - 10;
        let mut odd = bearer.clone();
        odd[place] = byte;
        let expected = match byte {
            // Not allowed in a header at all; a line feed ends it.
            0..=8 | 11..=31 | 127 => 400..=400,
            b'\n' => 400..=401,
            _ if byte == bearer[place] => 200..=200,
            _ => 401..=401,
        };
        let status = ask(&odd);
        assert!(expected.contains(&status), "{status} to the byte {byte:#x}");
    }
}

#[test]
fn bytes_that_are_not_http_get_no_5xx_and_no_endless_wait() {
    let data = tempfile::tempdir().unwrap();
    let key = admin_of(data.path());
    let server = Server::start(data.path());
    let post = |headers: &str, body: &str| {
        format!(
            "POST /api/client/keys HTTP/1.1\r\nHost: k\r\nConnection: close\r\n\
             Authorization: Bearer {key}\r\n{headers}\r\n{body}"
        )
    };
    let json = "Content-Type: application/json\r\n";
    let whole = "{\"name\": \"x\"}";
    let requests = [
        String::new(),
        "\r\n\r\n\r\n".to_owned(),
        "GET\r\n\r\n".to_owned(),
        "GET /livez\r\n\r\n".to_owned(),
        "GET /livez HTTP/9.9\r\n\r\n".to_owned(),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}ü".to_owned(),
        "OPTIONS * HTTP/1.1\r\nHost: k\r\n\r\n".to_owned(),
        "CONNECT k:1 HTTP/1.1\r\nHost: k\r\n\r\n".to_owned(),
        "GET http://[::1/ HTTP/1.1\r\nHost: k\r\n\r\n".to_owned(),
        "GET /api/client/keys/%00%ff%zz HTTP/1.1\r\nHost: k\r\n\r\n".to_owned(),
        format!("GET /{} HTTP/1.1\r\nHost: k\r\n\r\n", "a".repeat(100_000)),
        format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(5_000)),
        "GET / HTTP/1.1\r\nHost : k\r\n: nothing\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: k\r\n folded: line\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\nHost: k\n\n".to_owned(),
        post(&format!("{json}Content-Length: -1\r\n"), whole),
        post(&format!("{json}Content-Length: 99999999999999999999\r\n"), whole),
        post(&format!("{json}Content-Length: 5\r\nContent-Length: 13\r\n"), whole),
        post(&format!("{json}Content-Length: 13\r\nTransfer-Encoding: chunked\r\n"), "0\r\n\r\n"),
        post(&format!("{json}Transfer-Encoding: chunked\r\n"), "zz\r\n{}\r\n"),
        post(&format!("{json}Transfer-Encoding: chunked\r\n"), "ffffffffffffffffff\r\n{}"),
        post(&format!("{json}Transfer-Encoding: gzip\r\n"), whole),
        post(&format!("{json}Content-Length: 13\r\nExpect: something\r\n"), whole),
        post(&format!("{json}Content-Length: 100\r\n"), whole),
        post(json, whole),
        post(&format!("{json}Content-Length: 13\r\n"), "{\"nome\": \"x\"}"),
    ];
    let mutated = (0..400).map(|seed| mutate(&post(&format!("{json}Content-Length: 13\r\n"), whole), seed));
    let requests: Vec<_> = requests.into_iter().map(String::into_bytes).chain(mutated).collect();
    let statuses: Vec<_> = thread::scope(|scope| {
        let ask = |request: &Vec<u8>| {
            let status = status(&exchange(&server.url, request));
            assert!(status.is_none_or(|status| status < 500), "{:.200}", String::from_utf8_lossy(request));
            status
        };
        let share = |requests| scope.spawn(move || Vec::from_iter(<[Vec<u8>]>::iter(requests).map(ask)));
        let shares: Vec<_> = requests.chunks(requests.len() / 16).map(share).collect();
        shares.into_iter().flat_map(|share| share.join().unwrap()).collect()
    });
    // Some got so far as to make a key, some were refused as HTTP, by route, by credential and by body.
    for status in [200, 400, 401, 404, 405, 415, 422] {
        assert!(statuses.contains(&Some(status)), "nothing got {status}");
    }
    assert_eq!(server.send("GET", "/api/client/keys", &key, None, &[]).unwrap().status, 200);
}

/// Changes, removes or doubles a few bytes, the same ones for the same seed.
fn mutate(request: &str, seed: u64) -> Vec<u8> {
    let mut bytes = request.as_bytes().to_vec();
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = |below: usize| {
        // Xorshift; any spread will do.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap() % below
    };
    for _ in 0..=next(3) {
        let at = next(bytes.len());
        match next(3) {
            0 => bytes[at] = u8::try_from(next(256)).unwrap(),
            1 => drop(bytes.remove(at)),
            _ => bytes.insert(at, bytes[at]),
        }
    }
    bytes
}

/// Asks and asks, and reads nothing of what comes back.
#[test]
fn a_client_that_reads_nothing_is_cut_off() {
    let data = tempfile::tempdir().unwrap();
    init(data.path());
    let server = Server::start(data.path());
    let mut client = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    client.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let started = Instant::now();
    loop {
        match client.write(b"GET /api/openapi.json HTTP/1.1\r\nHost: keyrack\r\n\r\n") {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_cut_off) => break,
        }
        assert!(started.elapsed() < Duration::from_secs(120), "still connected");
    }
}
