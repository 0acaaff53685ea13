//! A server that answers as a test wants, and remembers what it was asked.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

/// A request as it came.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Seen {
    /// A header, by its name in lower case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }
}

/// What comes back.
pub(super) enum Answer {
    /// A status, headers, a body.
    Reply(u16, Vec<(&'static str, String)>, String),
    /// Nothing: the connection ends.
    CutOff,
}

impl Answer {
    /// Success.
    pub(super) fn ok(body: &Value) -> Self {
        Self::Reply(200, Vec::new(), body.to_string())
    }

    /// A problem document.
    pub(super) fn problem(status: u16, code: &str) -> Self {
        let body = json!({
            "status": "error", "code": code, "message": format!("The server says {code}."), "request_id": "req_STUB",
        });
        Self::Reply(status, Vec::new(), body.to_string())
    }

    /// With one more header.
    pub(super) fn with(self, name: &'static str, value: &str) -> Self {
        match self {
            Self::Reply(status, mut headers, body) => {
                headers.push((name, value.to_owned()));
                Self::Reply(status, headers, body)
            }
            Self::CutOff => Self::CutOff,
        }
    }
}

/// A running stub; ends with the process.
pub(super) struct Stub {
    /// `http://127.0.0.1:PORT`
    pub(super) url: String,
    pub(super) port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Stub {
    /// Starts a stub that answers as `answer` says; the number counts the requests from 0.
    pub(super) fn start(answer: impl Fn(usize, &Seen) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let stub = Self { url: format!("http://127.0.0.1:{port}"), port, seen: Arc::clone(&seen) };
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                let request = read(&stream);
                let number = seen.lock().unwrap().len();
                let answer = answer(number, &request);
                seen.lock().unwrap().push(request);
                reply(stream, answer);
            }
        });
        stub
    }

    /// Everything it was asked since it was last asked this.
    pub(super) fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

fn read(stream: &TcpStream) -> Seen {
    let mut reader = BufReader::new(stream);
    let mut next = || {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    };
    let line = next();
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let mut headers = Vec::new();
    loop {
        let line = next();
        let Some((name, value)) = line.split_once(": ") else { break };
        headers.push((name.to_lowercase(), value.to_owned()));
    }
    let mut seen = Seen { method, path, headers, body: String::new() };
    let length = seen.header("content-length").map_or(0, |length| length.parse().unwrap());
    reader.take(length).read_to_string(&mut seen.body).unwrap();
    seen
}

fn reply(mut stream: TcpStream, answer: Answer) {
    let Answer::Reply(status, headers, body) = answer else { return };
    let mut text = format!("HTTP/1.1 {status} Stub\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{text}\r\n{body}").as_bytes()).unwrap();
}
