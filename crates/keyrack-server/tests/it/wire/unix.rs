//! The Unix socket, its file, and what is said when an address cannot be had.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;

use keyrack_server::wire::{Wire, bind, start};

use super::{Client, Echo, PATIENCE, connect, get, settings, start_with, started};

fn dial(path: &Path) -> Client<UnixStream> {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    Client::over(stream)
}

fn start_at(path: &Path) -> std::io::Result<Wire> {
    let mut settings = settings();
    settings.unix = Some(path.to_owned());
    settings.threads = 2;
    start(bind(&settings)?, settings, Arc::new(Echo))
}

#[test]
fn requests_are_answered_over_a_unix_socket() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("verify.sock");
    let wire = start_at(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    let mut clients: Vec<_> = (0..20).map(|_| dial(&path)).collect();
    for client in &mut clients {
        let answer = client.ask(get("/one"));
        assert_eq!((answer.text(), answer.field("X-Peer")), ("GET /one ", Some("unix")));
        client.send(get("/large").repeat(10));
        for _ in 0..10 {
            assert_eq!(client.answer().status, 200);
        }
    }
    assert_eq!(connect(&wire).ask(get("/")).field("X-Peer"), Some("address"));
    wire.stop();
    assert!(!path.exists());
}

#[test]
fn a_file_that_nobody_listens_on_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("verify.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(fs::symlink_metadata(&path).unwrap().file_type().is_socket());
    let _wire = start_at(&path).unwrap();
    assert_eq!(dial(&path).ask(get("/")).status, 200);
}

#[test]
fn a_file_that_is_in_use_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("verify.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let error = start_at(&path).unwrap_err().to_string();
    assert!(error.contains("verify.sock") && error.contains("another process listens there"), "{error}");
    drop(listener);
    fs::remove_file(&path).unwrap();

    fs::write(&path, "mine").unwrap();
    let error = start_at(&path).unwrap_err().to_string();
    assert!(error.contains("not a socket"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");

    let missing = dir.path().join("missing/verify.sock");
    assert!(start_at(&missing).unwrap_err().to_string().contains("missing/verify.sock"));
}

#[test]
fn a_file_that_took_its_place_is_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("verify.sock");
    let wire = start_at(&path).unwrap();
    fs::rename(&path, dir.path().join("moved.sock")).unwrap();
    fs::write(&path, "mine").unwrap();
    wire.stop();
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
}

#[test]
fn two_servers_do_not_share_an_address_unseen() {
    let wire = started();
    let mut settings = settings();
    settings.tcp = wire.local_addr();
    let error = bind(&settings).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    assert!(error.to_string().contains(&wire.local_addr().unwrap().to_string()), "{error}");
}

#[test]
fn an_address_of_the_other_family_shows_its_peers_plainly() {
    let wire = start_with(|settings| settings.tcp = Some("[::]:0".parse().unwrap()));
    let port = wire.local_addr().unwrap().port();
    let mut client = Client::over(std::net::TcpStream::connect(("127.0.0.1", port)).unwrap());
    assert_eq!(client.ask(get("/ip")).field("X-Ip"), Some("127.0.0.1"));
}
