//! Requests as bytes, so that they can be as wrong as they like, and replies as bytes, so that nothing is missed.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// A request, right or wrong.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    /// Method and target.
    pub(super) line: String,
    pub(super) headers: Vec<String>,
    body: Vec<u8>,
}

impl Ask {
    pub(super) fn new(line: impl Into<String>) -> Self {
        Self { line: line.into(), headers: Vec::new(), body: Vec::new() }
    }

    pub(super) fn header(mut self, header: impl Into<String>) -> Self {
        self.headers.push(header.into());
        self
    }

    pub(super) fn bearer(self, key: &str) -> Self {
        self.header(format!("Authorization: Bearer {key}"))
    }

    pub(super) fn json(self, body: &Value) -> Self {
        self.body(body.to_string())
    }

    pub(super) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut head = format!("{} HTTP/1.1\r\nHost: keyrack\r\nConnection: close\r\n", self.line);
        let has = |name| self.headers.iter().any(|header| header.starts_with(name));
        if !self.body.is_empty() && !has("Content-Type") {
            head += "Content-Type: application/json\r\n";
        }
        if !self.body.is_empty() && !has("Content-Length") {
            head += &format!("Content-Length: {}\r\n", self.body.len());
        }
        for header in &self.headers {
            head += header;
            head += "\r\n";
        }
        [head.as_bytes(), b"\r\n", &self.body].concat()
    }
}

/// Sends a request on a connection of its own, and reads until the server closes it.
pub(super) fn exchange(url: &str, ask: &Ask) -> Vec<u8> {
    let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(&ask.bytes()).unwrap();
    let mut reply = Vec::new();
    // A server that refuses a request half-way may close with what it has not read still in the pipe.
    if let Err(error) = stream.read_to_end(&mut reply) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{ask:?}");
    }
    reply
}
