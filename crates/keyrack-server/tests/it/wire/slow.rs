//! Clients that take their time, or take more than their share.

use std::net::TcpStream;
use std::time::Duration;

use keyrack_server::wire::{Limits, Wire};

use super::{Client, connect, get, start_with};

/// Short enough to wait for.
const SOON: Duration = Duration::from_millis(100);
/// Longer than a test waits for anything.
const NEVER: Duration = Duration::from_secs(3600);

/// A wire on which one thing has a short deadline, and everything else none.
fn with_limits(change: impl FnOnce(&mut Limits)) -> Wire {
    start_with(|settings| {
        settings.limits.head = NEVER;
        settings.limits.body = NEVER;
        settings.limits.idle = NEVER;
        settings.limits.unread = NEVER;
        change(&mut settings.limits);
    })
}

/// Sends a byte at a time for as long as the server listens. Gives what came back.
fn drip(client: &mut Client<TcpStream>, bytes: &[u8]) -> Vec<u8> {
    let mut sender = client.stream.try_clone().unwrap();
    let bytes = bytes.to_vec();
    let dripping = std::thread::spawn(move || {
        for byte in bytes.iter().cycle() {
            if std::io::Write::write_all(&mut sender, &[*byte]).is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let reply = client.rest();
    dripping.join().unwrap();
    reply
}

#[test]
fn a_head_has_its_time_however_busy_the_client_looks() {
    let wire = with_limits(|limits| limits.head = SOON);
    let mut client = connect(&wire);
    assert_eq!(client.ask(get("/")).status, 200);
    client.send("GET / HTTP/1.1\r\nX: ");
    let reply = drip(&mut client, b"a");
    assert!(reply.starts_with(b"HTTP/1.1 408 "), "{:?}", String::from_utf8_lossy(&reply));
    assert!(String::from_utf8(reply).unwrap().contains("request_timeout"));
}

#[test]
fn a_body_has_its_time() {
    let wire = with_limits(|limits| limits.body = SOON);
    let mut client = connect(&wire);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
    let reply = drip(&mut client, b"a");
    assert!(reply.starts_with(b"HTTP/1.1 408 "), "{:?}", String::from_utf8_lossy(&reply));
}

#[test]
fn who_asks_nothing_is_disconnected_without_a_word() {
    let wire = with_limits(|limits| limits.idle = SOON);
    assert_eq!(connect(&wire).rest(), b"");
    let mut client = connect(&wire);
    assert_eq!(client.ask(get("/")).status, 200);
    assert_eq!(client.rest(), b"");
}

#[test]
fn each_wait_has_a_deadline_of_its_own() {
    // Only what is waited for counts: here that is never the request line, a body or a reader.
    let wire = with_limits(|limits| limits.idle = SOON);
    let mut client = connect(&wire);
    client.send("GET / HT");
    let mut sentinel = connect(&wire);
    assert_eq!(sentinel.rest(), b"", "the sweep has been by");
    client.send("TP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nh");
    let mut sentinel = connect(&wire);
    assert_eq!(sentinel.rest(), b"", "the sweep has been by");
    client.send("i");
    assert_eq!(client.answer().text(), "GET / hi");
}

#[test]
fn who_does_not_read_is_disconnected_and_heard_no_further() {
    let wire = with_limits(|limits| limits.unread = SOON);
    let mut client = connect(&wire);
    // Each of these asks for half a megabyte: the system takes a few, and then the server has to wait.
    let mut sender = client.stream.try_clone().unwrap();
    let request = get("/large");
    let mut sent = 0_u32;
    while std::io::Write::write_all(&mut sender, request.as_bytes()).is_ok() {
        sent += 1;
        assert!(sent < 10_000_000, "the server reads on and on");
    }
    let read = client.rest().len();
    assert!(read < 100 * 1024 * 1024, "{read}");
}

#[test]
fn a_slow_reader_gets_everything_in_the_end() {
    let wire = with_limits(|limits| limits.unsent_bytes = 1);
    let mut client = connect(&wire);
    client.send(get("/large").repeat(200));
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    for number in 0..200 {
        assert!(client.answer().body.ends_with(b"xxGET /large "), "{number}");
    }
    assert_eq!(client.rest(), b"");
}

#[test]
fn good_traffic_goes_on_beside_slow_clients() {
    let wire = with_limits(|_| {});
    let slow: Vec<_> = (0..200)
        .map(|number| {
            let mut client = connect(&wire);
            client.send(&b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n12"[..number % 40]);
            client
        })
        .collect();
    let mut good = connect(&wire);
    for _ in 0..100 {
        assert_eq!(good.ask(get("/")).status, 200);
    }
    drop(slow);
}

#[test]
fn more_connections_than_the_limit_are_turned_away_until_one_goes() {
    let wire = with_limits(|limits| limits.connections = 2);
    let mut first = connect(&wire);
    assert_eq!(first.ask(get("/")).status, 200);
    let mut second = connect(&wire);
    assert_eq!(second.ask(get("/")).status, 200);
    assert_eq!(connect(&wire).rest(), b"");
    assert_eq!(first.ask(get("/")).status, 200);
    drop(second);
    // The server sees it go before it sees the next come, or at the next attempt.
    loop {
        let mut third = connect(&wire);
        third.send(get("/"));
        if !third.first_bytes().is_empty() {
            break;
        }
    }
}
