//! What happens when the process may open no more files.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{Client, PATIENCE, get, started};

const FILES: u64 = 64;

#[test]
fn it_goes_on_without_file_descriptors_and_recovers_alone() {
    // The limit holds for a whole process, so the server has one of its own.
    let mut server = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "wire::descriptors::server_with_few_files", "--ignored", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let address = lines.find_map(|line| Some(line.unwrap().split_once("listening on ")?.1.to_owned()));
    let address: SocketAddr = address.unwrap().parse().unwrap();
    let connect = || {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client::over(stream)
    };

    let mut early = connect();
    assert_eq!(early.ask(get("/")).status, 200);
    let mut crowd: Vec<_> = (0..FILES * 3).map(|_| connect()).collect();
    for client in crowd.iter_mut().take(8) {
        assert_eq!(client.ask(get("/")).status, 200);
    }
    assert_eq!(early.ask(get("/")).status, 200);
    // Half of the crowd leaves: the others are let in without anybody's help.
    crowd.drain(..crowd.len() / 2 + 32);
    for client in &mut crowd {
        client.send(get("/"));
    }
    let mut last = crowd.split_off(crowd.len() - 1);
    drop(crowd);
    assert_eq!(last[0].answer().status, 200);
    assert_eq!(connect().ask(get("/")).status, 200);

    drop(server.stdin.take());
    assert!(server.wait().unwrap().success());
}

/// Serves until its input ends.
#[test]
#[ignore = "the server of the test above, in a process of its own"]
fn server_with_few_files() {
    let wire = started();
    let limit = Rlimit { current: Some(FILES), ..getrlimit(Resource::Nofile) };
    setrlimit(Resource::Nofile, limit).unwrap();
    println!("listening on {}", wire.local_addr().unwrap());
    std::io::stdout().flush().unwrap();
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    wire.stop();
}
