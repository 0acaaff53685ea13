//! The wire of the verification listener, over real sockets, with a service that says back what it was asked.

mod answers;
mod clock;
mod descriptors;
pub(crate) mod http2;
mod refused;
mod slow;
mod stopping;
mod unix;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use keyrack_server::wire::{Limits, Peer, Reply, Request, Service, Wire, WireSettings, bind, start};

/// Longer than anything here takes: whoever waits this long waits for ever.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Says back what it was asked.
struct Echo;

impl Service for Echo {
    fn answer(&self, request: &Request<'_>, reply: &mut Reply) {
        if request.target == b"/blank" {
            return;
        }
        reply.set_status(200);
        match request.target {
            b"/empty" => return reply.set_status(204),
            b"/panic" => panic!("asked to"),
            b"/unfit" => return reply.field("X-Split", b"a\r\nX-Other: b"),
            b"/large" => reply.body().resize(LARGE, b'x'),
            _ => {}
        }
        reply.field("X-Fields", request.fields.iter().count().to_string().as_bytes());
        match request.peer {
            Peer::Unix => reply.field("X-Peer", b"unix"),
            Peer::Address(address) => {
                reply.field("X-Peer", b"address");
                reply.field("X-Ip", address.to_string().as_bytes());
            }
        }
        let body = reply.body();
        body.extend_from_slice(request.method);
        body.push(b' ');
        body.extend_from_slice(request.target);
        body.push(b' ');
        body.extend_from_slice(request.body);
    }
}

/// How long the reply to `/large` is, at least.
pub(super) const LARGE: usize = 512 * 1024;

/// Settings with a free port and one thread.
pub(super) fn settings() -> WireSettings {
    WireSettings {
        tcp: Some("127.0.0.1:0".parse().unwrap()),
        unix: None,
        threads: 1,
        limits: Limits::default(),
        problem_types: "https://keyrack.test/errors".to_owned(),
        request_id: Arc::new(|| "req_TEST".to_owned()),
    }
}

pub(super) fn start_with(change: impl FnOnce(&mut WireSettings)) -> Wire {
    let mut settings = settings();
    change(&mut settings);
    start(bind(&settings).unwrap(), settings, Arc::new(Echo)).unwrap()
}

pub(super) fn started() -> Wire {
    start_with(|_| {})
}

/// One client, and what it has read beyond the last reply.
pub(super) struct Client<S> {
    pub(super) stream: S,
    read: Vec<u8>,
}

/// A reply, whatever its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields.into_iter().find_map(|(known, value)| known.eq_ignore_ascii_case(name).then_some(value))
    }

    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The same without its date, which may differ from one to the next.
    pub(super) fn undated(mut self) -> Self {
        self.head = self.head.lines().filter(|line| !line.starts_with("date: ")).collect::<Vec<_>>().join("\n");
        self
    }
}

pub(super) fn connect(wire: &Wire) -> Client<TcpStream> {
    let stream = TcpStream::connect(wire.local_addr().unwrap()).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    Client::over(stream)
}

impl<S: Read + Write> Client<S> {
    pub(super) fn over(stream: S) -> Self {
        Self { stream, read: Vec::new() }
    }

    /// Sends bytes; the server may have heard enough before everything is sent.
    pub(super) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).ok();
    }

    /// The next reply, with the body that its length tells of.
    pub(super) fn answer(&mut self) -> Answer {
        self.answer_of(true)
    }

    pub(super) fn answer_of(&mut self, has_body: bool) -> Answer {
        let end = loop {
            if let Some(at) = self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                break at;
            }
            assert!(self.read_more(), "closed in the head: {:?}", String::from_utf8_lossy(&self.read));
        };
        let head = String::from_utf8(self.read[..end].to_vec()).unwrap();
        self.read.drain(..end + 4);
        let status = head["HTTP/1.1 ".len()..][..3].parse().unwrap();
        let mut answer = Answer { status, head, body: Vec::new() };
        if has_body {
            let length = answer.field("content-length").map_or(0, |length| length.parse().unwrap());
            while self.read.len() < length {
                assert!(self.read_more(), "closed in the body");
            }
            answer.body = self.read.drain(..length).collect();
        }
        answer
    }

    /// Asks and takes the answer.
    pub(super) fn ask(&mut self, bytes: impl AsRef<[u8]>) -> Answer {
        self.send(bytes);
        self.answer()
    }

    /// Everything that still comes until the server closes; panics if it does not.
    pub(super) fn rest(&mut self) -> Vec<u8> {
        while self.read_more() {}
        std::mem::take(&mut self.read)
    }

    /// The first bytes that come; none if the server closes instead.
    pub(super) fn first_bytes(&mut self) -> Vec<u8> {
        self.read_more();
        std::mem::take(&mut self.read)
    }

    fn read_more(&mut self) -> bool {
        let mut buffer = [0; 64 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(count) => {
                self.read.extend_from_slice(&buffer[..count]);
                count > 0
            }
            // The server closed with something of ours unread.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("the connection stays open: {error}"),
        }
    }
}

/// A request without a body.
pub(super) fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")
}
