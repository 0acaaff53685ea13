//! A follower whose questions are answered by another node each time, as a load balancer has it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use keyrack::remote::Remote;
use keyrack::{ApiKey, KeyKind};

use super::soon;

/// Tells of no key at all, and knows where a follower was, or not.
#[derive(Default)]
struct Nodes {
    knows_nobody: AtomicBool,
    snapshots: AtomicUsize,
}

impl Nodes {
    fn listen(self: &Arc<Self>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let nodes = Arc::clone(self);
        thread::spawn(move || listener.incoming().flatten().for_each(|stream| nodes.answer(&stream)));
        address
    }

    /// One question to a connection.
    fn answer(&self, mut stream: &TcpStream) {
        let mut reader = BufReader::new(stream);
        let (mut head, mut length) = (String::new(), 0);
        while let Ok(2..) = reader.read_line(&mut head)
            && !head.ends_with("\r\n\r\n")
        {
            let line = head.lines().last().unwrap_or_default().to_ascii_lowercase();
            length = line.strip_prefix("content-length:").map_or(length, |count| count.trim().parse().unwrap());
        }
        reader.read_exact(&mut vec![0; length]).unwrap();
        let body = if head.contains("/snapshot ") {
            self.snapshots.fetch_add(1, Ordering::SeqCst);
            "{\"cursor\":\"c\",\"seq\":0,\"keys\":0}\n{\"lines\":0}\n"
        } else if self.knows_nobody.load(Ordering::SeqCst) {
            r#"{"cursor":null,"seq":0,"news":[],"lease":null}"#
        } else {
            thread::sleep(Duration::from_millis(20));
            r#"{"cursor":"c","seq":0,"news":[],"lease":{"age":0,"fresh":2000,"trusted":60000}}"#
        };
        let length = body.len();
        write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}").ok();
    }
}

#[test]
fn a_follower_that_nobody_knows_does_not_load_everything_again_and_again() {
    let nodes = Arc::new(Nodes::default());
    let url = format!("http://{}", nodes.listen());
    let key = ApiKey::generate(KeyKind::Follower, &[1; ApiKey::RANDOM_BYTES]);
    let follower = Remote::new(&url, key).start().unwrap();
    assert_eq!((follower.trouble(), nodes.snapshots.load(Ordering::SeqCst)), (None, 1));
    nodes.knows_nobody.store(true, Ordering::SeqCst);
    thread::sleep(Duration::from_secs(3));
    let snapshots = nodes.snapshots.load(Ordering::SeqCst);
    assert!((2..=8).contains(&snapshots), "{snapshots} snapshots in three seconds");
    let trouble = follower.trouble().unwrap();
    assert!(trouble.contains("load balancer"), "{trouble}");
    nodes.knows_nobody.store(false, Ordering::SeqCst);
    assert!(soon(|| follower.trouble().is_none()), "{:?}", follower.trouble());
}
