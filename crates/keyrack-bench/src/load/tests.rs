//! The load against a small server of the test's own.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;

use super::*;

/// Answers `/good` with 204 and everything else with 401 in two pieces; closes each connection after `closes_after`.
fn serve(listener: &TcpListener, closes_after: usize) {
    for stream in listener.incoming() {
        let stream = stream.unwrap();
        thread::spawn(move || {
            // The load goes away in the middle of things; that is not what is tested.
            drop(answer(stream, closes_after));
        });
    }
}

fn answer(mut stream: TcpStream, closes_after: usize) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    for _ in 0..closes_after {
        let (mut first, mut line) = (String::new(), String::new());
        reader.read_line(&mut first)?;
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
        }
        if first.starts_with("GET /good ") {
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?;
        } else {
            stream.write_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Le")?;
            stream.write_all(b"ngth: 2\r\n\r\nno")?;
        }
    }
    Ok(())
}

fn load_of(closes_after: usize, paths: &[&str]) -> (Measured, u64) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::Tcp(listener.local_addr().unwrap());
    thread::spawn(move || serve(&listener, closes_after));
    let requests: Requests = paths.iter().map(|path| format!("GET {path} HTTP/1.1\r\n\r\n")).collect();
    let mut load = Load::connect(&address, 4).unwrap();
    let (mut replies, mut last) = (0, None);
    // Until there is something to look at, however slow the machine is.
    while replies < 100 {
        let measured = load.run(&requests, Duration::from_millis(20)).unwrap();
        replies += measured.replies();
        last = Some(measured);
    }
    (last.unwrap(), replies)
}

#[test]
fn replies_are_counted_by_status() {
    let (measured, _) = load_of(usize::MAX, &["/good"]);
    assert_eq!(measured.statuses.keys().copied().collect::<Vec<_>>(), [204]);
    assert_eq!(measured.reconnects, 0);
    assert!(measured.percentile(0.99) >= measured.percentile(0.5));
    let (measured, _) = load_of(usize::MAX, &["/bad"]);
    assert_eq!(measured.statuses.keys().copied().collect::<Vec<_>>(), [401]);
}

#[test]
fn a_server_that_closes_connections_is_asked_on_new_ones() {
    let (_, replies) = load_of(1, &["/good", "/bad"]);
    assert!(replies >= 100);
}

#[test]
fn requests_lie_end_to_end() {
    let requests: Requests = ["one", "", "three"].into_iter().collect();
    assert_eq!([0, 1, 2, 3].map(|position| requests.at(position)), [b"one".as_slice(), b"", b"three", b""]);
    assert_eq!(requests.len(), 3);
}
