//! The verification doors, through their real sockets.

mod agreement;
mod dialects;
mod installation_limits;
mod introspection;
mod limits;
mod meanwhile;
mod questions;
mod repeated;
mod seq;
mod settings;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use keyrack::policy::{Document, Policies};
use keyrack::{Lease, PolicySet, PolicyVersion, Verifier};
use keyrack_server::clock::{Clock as _, SystemClock};
use keyrack_server::config::LimitHeaders;
use keyrack_server::doors::{Doors, RequestIds};
use keyrack_server::proxies::TrustedProxies;
use keyrack_server::wire::{Limits, Wire, WireSettings, bind, start};
use serde_json::{Value, json};

use super::app::TestApp;
use super::server::{Server, keyrack};

/// An installation with its doors open.
pub(super) struct Opened {
    pub(super) app: TestApp,
    /// What the doors ask.
    pub(super) verifier: Arc<Verifier>,
    pub(super) address: SocketAddr,
    pub(super) socket: PathBuf,
    _wire: Wire,
}

/// What a door answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Names in lower case.
    pub(super) fields: Vec<(String, String)>,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let mut found = self.fields.iter().filter(|(known, _)| known == name);
        let first = found.next().map(|(_, value)| value.as_str());
        assert_eq!(found.next(), None, "{name} is there twice");
        first
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

impl Opened {
    pub(super) async fn new() -> Self {
        Self::with("127.0.0.0/8 ::1", LimitHeaders::X).await
    }

    pub(super) async fn with(proxies: &str, headers: LimitHeaders) -> Self {
        let app = TestApp::new().await;
        let verifier = Arc::clone(&app.app.verifier);
        Self::over(app, verifier, proxies, headers)
    }

    /// Doors that ask another verifier than the installation's.
    pub(super) fn over(app: TestApp, verifier: Arc<Verifier>, proxies: &str, headers: LimitHeaders) -> Self {
        let index = verifier.index();
        if index.is_leased() {
            // The doors go by the machine's clocks.
            let for_ever = SystemClock.moment().boot + Duration::from_secs(1_000_000);
            index.renew(Lease { heard: for_ever, fresh_until: for_ever, trusted_until: for_ever });
        }
        let socket = app.data_dir().join("verify.sock");
        let ids = RequestIds::new();
        let settings = WireSettings {
            tcp: Some("127.0.0.1:0".parse().unwrap()),
            unix: Some(socket.clone()),
            threads: 2,
            limits: Limits::default(),
            problem_types: "/docs/errors".to_owned(),
            request_id: Arc::new(move || ids.text()),
        };
        let proxies = TrustedProxies::parse(proxies).unwrap();
        let doors = Doors::new(Arc::clone(&verifier), proxies, headers, "/docs/errors".to_owned());
        let wire = start(bind(&settings).unwrap(), settings, Arc::new(doors)).unwrap();
        Self { address: wire.local_addr().unwrap(), app, verifier, socket, _wire: wire }
    }

    /// Puts policies in force.
    pub(super) fn apply(&self, version: u32, document: Value) {
        let document: Document = serde_json::from_value(document).unwrap();
        let policies = Policies::compile(&document).unwrap();
        let set: PolicySet = self.app.app.verifier.policies().followed_by(PolicyVersion(version), policies);
        self.app.app.verifier.set_policies(set);
    }

    /// Sends a request over TCP.
    pub(super) fn send(&self, head: &str, body: &str) -> Answer {
        send(self.address, head, body)
    }

    /// Sends a request over the Unix socket.
    pub(super) fn send_locally(&self, head: &str, body: &str) -> Answer {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        exchange(stream, head, body)
    }

    /// Sends bytes and no more; gives the answer if one must come, and otherwise looks whether one comes all the same.
    pub(super) fn answer_to(&self, bytes: &str, must_come: bool) -> Option<Answer> {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let patience = if must_come { Duration::from_secs(30) } else { Duration::from_millis(100) };
        stream.set_read_timeout(Some(patience)).unwrap();
        stream.write_all(bytes.as_bytes()).unwrap();
        let mut raw = Vec::new();
        let ended = stream.read_to_end(&mut raw);
        assert_eq!(ended.is_ok(), must_come, "{ended:?}");
        must_come.then(|| parsed(raw))
    }

    pub(super) fn get(&self, target: &str, fields: &[(&str, &str)]) -> Answer {
        self.send(&head("GET", target, fields), "")
    }

    pub(super) fn post(&self, target: &str, body: &Value) -> Answer {
        self.send(&head("POST", target, &[("Content-Type", "application/json")]), &body.to_string())
    }

    pub(super) fn verify(&self, question: &Value) -> Answer {
        self.post("/v1/verify", question)
    }

    /// Asks at nginx's door.
    pub(super) fn nginx(&self, key: &str, method: &str, uri: &str) -> Answer {
        self.send(&nginx(key, method, uri), "")
    }

    /// A key of the first project.
    pub(super) async fn key(&self, body: Value) -> (i64, String) {
        self.app.create(body).await
    }
}

/// The real binary with its doors open.
pub(super) struct Running {
    pub(super) server: Server,
    pub(super) address: SocketAddr,
}

impl Running {
    /// Serves the installation of a directory, with these settings.
    pub(super) fn with(data: &Path, settings: &[&str]) -> Self {
        let mut command = keyrack(data);
        let server = Server::try_start(command.arg("serve").args(settings).stderr(Stdio::null()));
        let server = server.expect("the server did not start");
        let doors = server.greeting.lines().find_map(|line| line.strip_prefix("Verifying at http://"));
        Self { address: doors.unwrap().parse().unwrap(), server }
    }

    /// A key of the first project, whose admin asks for it.
    pub(super) fn key(&self, admin: &str, body: &Value) -> (i64, String) {
        let made = self.server.send("POST", "/api/client/keys", admin, Some(body), &[]).unwrap();
        assert_eq!(made.status, 200, "{}", made.text);
        let made = made.json();
        (made["id"].as_i64().unwrap(), made["value"].as_str().unwrap().to_owned())
    }

    pub(super) fn verify(&self, question: &Value) -> Answer {
        send(self.address, &head("POST", "/v1/verify", &[]), &question.to_string())
    }

    /// Asks at nginx's door.
    pub(super) fn nginx(&self, key: &str) -> Answer {
        send(self.address, &nginx(key, "GET", "/x"), "")
    }
}

fn nginx(key: &str, method: &str, uri: &str) -> String {
    let bearer = format!("Bearer {key}");
    let fields = [("Authorization", bearer.as_str()), ("X-Original-Method", method), ("X-Original-URI", uri)];
    head("GET", "/v1/auth/nginx", &fields)
}

pub(super) fn head(method: &str, target: &str, fields: &[(&str, &str)]) -> String {
    let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("{method} {target} HTTP/1.1\r\nHost: keyrack.test\r\n{fields}")
}

/// Sends a request over TCP.
fn send(address: SocketAddr, head: &str, body: &str) -> Answer {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    exchange(stream, head, body)
}

fn exchange(mut stream: impl Read + Write, head: &str, body: &str) -> Answer {
    write!(stream, "{head}Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len()).unwrap();
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw).unwrap();
    parsed(raw)
}

fn parsed(raw: Vec<u8>) -> Answer {
    let text = String::from_utf8(raw).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no whole reply: {text:?}"));
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let field = |line: &str| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_ascii_lowercase(), value.to_owned())
    };
    Answer { status, fields: lines.map(field).collect(), body: body.to_owned() }
}

/// A policy that opens one route to publishable keys and closes others.
pub(super) fn policy() -> Value {
    json!({"policies": [
        {"name": "default", "read": "support", "write": "editor", "rules": [
            {"methods": ["POST"], "path": "/events", "role": "support", "public": true},
            {"methods": ["*"], "path": "/admin/**", "role": "admin"},
            {"methods": ["POST"], "path": "/exports/*", "role": "support", "permission": "exports:create"},
        ]},
        {"name": "strict", "read": "none", "write": "none"},
    ]})
}
