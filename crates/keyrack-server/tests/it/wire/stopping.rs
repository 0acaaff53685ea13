//! A stop finishes what is under way, and nothing else.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::Duration;

use super::{connect, get, start_with, started};

#[test]
fn what_is_under_way_is_finished_and_the_idle_are_closed() {
    let wire = started();
    let address = wire.local_addr().unwrap();
    let mut idle = connect(&wire);
    assert_eq!(idle.ask(get("/")).status, 200);
    let mut halfway = connect(&wire);
    halfway.send("POST /late HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nha");
    // It is in once its neighbour, who came later, is answered.
    assert_eq!(connect(&wire).ask(get("/")).status, 200);

    let stopping = std::thread::spawn(move || wire.stop());
    assert_eq!(idle.rest(), b"");
    halfway.send("lf");
    let answer = halfway.answer();
    assert_eq!((answer.text(), answer.field("connection")), ("POST /late half", Some("close")));
    assert_eq!(halfway.rest(), b"");
    drop(halfway);
    stopping.join().unwrap();
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn a_request_that_was_sent_before_the_stop_is_answered() {
    let wire = started();
    let mut clients: Vec<_> = (0..50).map(|_| connect(&wire)).collect();
    for client in &mut clients {
        client.send(get("/"));
    }
    let stopping = std::thread::spawn(move || wire.stop());
    for client in &mut clients {
        assert_eq!(client.answer().status, 200);
    }
    drop(clients);
    stopping.join().unwrap();
}

#[test]
fn who_never_finishes_is_not_waited_for() {
    let wire = start_with(|settings| {
        settings.limits.head = Duration::from_secs(3600);
        settings.limits.stop = Duration::from_millis(50);
    });
    let mut halfway = connect(&wire);
    halfway.send("GET / HT");
    assert_eq!(connect(&wire).ask(get("/")).status, 200);
    wire.stop();
    assert_eq!(halfway.rest(), b"");
}

#[test]
fn a_wire_that_is_dropped_stops() {
    let wire = started();
    let address = wire.local_addr().unwrap();
    drop(wire);
    assert!(TcpStream::connect(address).is_err());
}
