//! One connection of the load: a request out, its reply in.

use std::io::{self, ErrorKind, Read, Write};
use std::time::Instant;

use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};

use super::Address;
use crate::Outcome;

/// Room for a reply at first; it grows where replies are longer.
const BUFFER_BYTES: usize = 16 * 1024;
/// More headers than any of the servers sends.
const MOST_HEADERS: usize = 64;

/// What a look at a connection showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// The reply is not whole yet.
    Waiting,
    /// The reply is whole, and the connection is ready for the next request.
    Reply {
        /// Its status.
        status: u16,
    },
    /// The server closed the connection before it began to reply.
    Closed,
}

/// A connection that is kept open.
#[derive(Debug)]
pub(super) struct Connection {
    address: Address,
    token: Token,
    stream: Stream,
    buffer: Vec<u8>,
    filled: usize,
    sent_at: Instant,
    /// The server said that it closes after the last reply.
    closing: bool,
}

impl Connection {
    /// Connects, and has readiness reported under a token.
    pub(super) fn open(address: Address, token: Token, registry: &Registry) -> Outcome<Self> {
        let mut stream = Stream::connect(&address)?;
        registry.register(stream.source(), token, Interest::READABLE)?;
        let buffer = vec![0; BUFFER_BYTES];
        Ok(Self { address, token, stream, buffer, filled: 0, sent_at: Instant::now(), closing: false })
    }

    /// Connects anew.
    pub(super) fn reopen(&mut self, registry: &Registry) -> Outcome<()> {
        self.stream = Stream::connect(&self.address)?;
        registry.register(self.stream.source(), self.token, Interest::READABLE)?;
        self.closing = false;
        Ok(())
    }

    /// Sends a request. It always fits what the system buffers, for the one before has been answered.
    pub(super) fn send(&mut self, request: &[u8], now: Instant, registry: &Registry) -> Outcome<()> {
        if self.closing {
            self.reopen(registry)?;
        }
        self.filled = 0;
        self.sent_at = now;
        let sent = match self.stream.write(request) {
            // It went away between two requests; the next look at it says so.
            Err(error) if is_gone(&error) => return Ok(()),
            sent => sent?,
        };
        if sent == request.len() { Ok(()) } else { Err("a request did not fit into the socket's buffer".into()) }
    }

    /// When the last request was sent.
    pub(super) const fn sent_at(&self) -> Instant {
        self.sent_at
    }

    /// Reads what is there.
    pub(super) fn read(&mut self) -> Outcome<Progress> {
        loop {
            if self.filled == self.buffer.len() {
                self.buffer.resize(2 * self.filled, 0);
            }
            let room = self.buffer.get_mut(self.filled..).unwrap_or_default();
            let (asked, read) = (room.len(), self.stream.read(room));
            let read = match read {
                Ok(0) => return self.closed(),
                Ok(read) => read,
                Err(error) if is_gone(&error) => return self.closed(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Progress::Waiting),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            self.filled += read;
            let received = self.buffer.get(..self.filled).unwrap_or_default();
            if let Some(reply) = Reply::parse(received)? {
                self.closing = reply.closes;
                return Ok(Progress::Reply { status: reply.status });
            }
            // A read that leaves room has emptied the socket, and more of the reply will be reported.
            if read < asked {
                return Ok(Progress::Waiting);
            }
        }
    }

    fn closed(&self) -> Outcome<Progress> {
        if self.filled == 0 {
            Ok(Progress::Closed)
        } else {
            Err("the server broke off in the middle of a reply".into())
        }
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}

/// What is read of a reply that is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reply {
    status: u16,
    closes: bool,
}

impl Reply {
    /// Nothing while it is not whole.
    fn parse(received: &[u8]) -> Outcome<Option<Self>> {
        let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
        let mut head = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(head_bytes) = head.parse(received)? else { return Ok(None) };
        let status = head.code.unwrap_or_default();
        let (mut body_bytes, mut closes) = (None, false);
        for header in head.headers.iter() {
            if header.name.eq_ignore_ascii_case("content-length") {
                body_bytes = Some(std::str::from_utf8(header.value)?.trim().parse::<usize>()?);
            } else if header.name.eq_ignore_ascii_case("connection") {
                closes = header.value.eq_ignore_ascii_case(b"close");
            }
        }
        let body_bytes = match status {
            204 | 304 => 0,
            _ => body_bytes.ok_or("a reply that does not say how long it is")?,
        };
        match received.len().checked_sub(head_bytes + body_bytes) {
            None => Ok(None),
            Some(0) => Ok(Some(Self { status, closes })),
            Some(_) => Err("more came than one reply to one request".into()),
        }
    }
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Waits until the connection stands, so that opening one needs no state of its own.
    fn connect(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp(address) => {
                let stream = std::net::TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
                Ok(Self::Tcp(TcpStream::from_std(stream)))
            }
            Address::Unix(path) => {
                let stream = std::os::unix::net::UnixStream::connect(path)?;
                stream.set_nonblocking(true)?;
                Ok(Self::Unix(UnixStream::from_std(stream)))
            }
        }
    }

    fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Tcp(stream) => stream,
            Self::Unix(stream) => stream,
        }
    }

    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(room),
            Self::Unix(stream) => stream.read(room),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_read_when_it_is_whole_and_not_before() {
        let whole = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno!";
        for cut in 0..whole.len() {
            assert_eq!(Reply::parse(&whole[..cut]).unwrap(), None, "{cut} bytes");
        }
        assert_eq!(Reply::parse(whole).unwrap(), Some(Reply { status: 401, closes: true }));
        assert!(Reply::parse(&[whole.as_slice(), b"H"].concat()).is_err());
    }

    #[test]
    fn no_content_has_no_body_and_anything_else_says_its_length() {
        let empty = Reply::parse(b"HTTP/1.1 204 No Content\r\nServer: x\r\n\r\n").unwrap();
        assert_eq!(empty, Some(Reply { status: 204, closes: false }));
        assert!(Reply::parse(b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\n").is_err());
        assert!(Reply::parse(b"not HTTP at all\r\n\r\n").is_err());
    }
}
