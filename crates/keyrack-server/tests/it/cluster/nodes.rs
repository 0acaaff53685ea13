//! Nodes of one store, each a process of the real binary.

use std::fs::File;
use std::path::PathBuf;
use std::sync::RwLock;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::history::Outcome;
use crate::server::{self, Reply, Server, keyrack};

pub(crate) const KEYS: &str = "/api/client/keys";

/// Nodes of one store, and the keys that its first start printed.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    pub(crate) admin: String,
    pub(crate) owner: String,
    pub(crate) operator: String,
}

pub(crate) struct Node {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) url: String,
    stale_limit: &'static str,
    clock: Clock,
    server: RwLock<Option<Server>>,
    agent: ureq::Agent,
}

/// Which clock a node shows the time by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clock {
    /// The machine's.
    Machine,
    /// One of its own, that can be set while the node runs. What durations are measured by cannot.
    Own,
}

pub(crate) struct Made {
    pub(crate) id: i64,
    pub(crate) value: String,
    pub(crate) seq: i64,
}

impl Cluster {
    /// Starts a node for each URL; all of them lead to the same store.
    pub(crate) fn start(urls: impl Iterator<Item = String>, stale_limit: &'static str, clock: Clock) -> Self {
        let mut all: Vec<Node> = Vec::new();
        let mut keys = None;
        for url in urls {
            let dir = tempfile::tempdir().unwrap();
            if let Some(first) = all.first() {
                std::fs::copy(first.dir.path().join("root.key"), dir.path().join("root.key")).unwrap();
            }
            let config = ureq::Agent::config_builder().http_status_as_error(false);
            let agent = config.timeout_global(Some(Duration::from_secs(8))).build().into();
            let node = Node { dir, url, stale_limit, clock, server: RwLock::default(), agent };
            node.set_clock("+0");
            node.start();
            keys.get_or_insert_with(|| node.server.read().unwrap().as_ref().unwrap().greeting.clone());
            all.push(node);
        }
        let greeting = keys.unwrap();
        let key = |prefix: &str| greeting.split_whitespace().find(|word| word.starts_with(prefix)).unwrap().to_owned();
        Self { nodes: all, admin: key("sk_"), owner: key("ok_"), operator: key("op_") }
    }

    pub(crate) fn revoke(&self, node: usize, id: i64, patience: &str) -> Option<Reply> {
        self.nodes[node].ask("DELETE", &format!("{KEYS}/{id}"), &self.admin, None, &[("Prefer", patience)])
    }

    /// Creates a key on a node; `None` if it is not known whether there is one.
    pub(crate) fn create(&self, node: usize, name: &str) -> Option<Made> {
        let headers = [("Idempotency-Key", name)];
        let reply = self.nodes[node].ask("POST", KEYS, &self.admin, Some(&json!({"name": name})), &headers)?;
        (reply.status == 200).then(|| Made::of(&reply))
    }

    /// What a node says of all of them; `None` if it does not say.
    pub(crate) fn list(&self, node: usize) -> Option<Reply> {
        self.nodes[node].ask("GET", "/api/operator/nodes", &self.operator, None, &[])
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if thread::panicking() {
            self.dir.disable_cleanup(true);
            println!("the log of a node is {}", self.dir.path().join("log").display());
        }
    }
}

impl Made {
    /// What the reply to a create says.
    pub(crate) fn of(reply: &Reply) -> Self {
        let seq = reply.position().unwrap();
        let json = reply.json();
        Self { id: json["id"].as_i64().unwrap(), value: json["value"].as_str().unwrap().to_owned(), seq }
    }
}

impl Node {
    pub(crate) fn start(&self) {
        let mut command = keyrack(self.dir.path());
        command.args(["--database-url", &self.url, self.stale_limit, "--metrics-listen", "127.0.0.1:0"]);
        if self.clock == Clock::Own {
            command.env("LD_PRELOAD", fake_time()).env("FAKETIME_TIMESTAMP_FILE", self.dir.path().join("clock"));
            command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        let log = File::options().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        let server = Server::try_start(command.arg("serve").stderr(log)).expect("a node did not start");
        *self.server.write().unwrap() = Some(server);
    }

    /// Sets the clock of a node that has its own, so much before or after the machine's, such as `+1d`.
    pub(crate) fn set_clock(&self, offset: &str) {
        std::fs::write(self.dir.path().join("clock"), offset).unwrap();
    }

    pub(crate) fn kill(&self) {
        // Dropped: killed without a chance to say so.
        drop(self.server.write().unwrap().take());
    }

    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(server) = self.server.read().unwrap().as_ref() {
            kill_process(Pid::from_child(&server.child), signal).unwrap();
        }
    }

    /// The number of its process.
    pub(crate) fn process(&self) -> u32 {
        self.server.read().unwrap().as_ref().unwrap().child.id()
    }

    pub(crate) fn url(&self, is_door: bool) -> Option<String> {
        let server = self.server.read().unwrap();
        let server = server.as_ref()?;
        if !is_door {
            return Some(server.url.clone());
        }
        let line = server.greeting.lines().find_map(|line| line.strip_prefix("Verifying at "));
        Some(line.unwrap().trim().to_owned())
    }

    /// What an operator sees of it.
    pub(crate) fn metrics(&self) -> String {
        let greeting = self.server.read().unwrap().as_ref().unwrap().greeting.clone();
        let url = greeting.lines().find_map(|line| line.strip_prefix("Metrics at ")).unwrap();
        self.agent.get(url).call().unwrap().into_body().read_to_string().unwrap()
    }

    pub(crate) fn send(&self, request: ureq::http::Request<String>) -> Option<Reply> {
        server::reply_of(self.agent.run(request)).ok()
    }

    /// Asks the management API; `None` if no whole reply came back.
    pub(crate) fn ask(
        &self,
        method: &str,
        path: &str,
        key: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Option<Reply> {
        let url = format!("{}{path}", self.url(false)?);
        server::send(&self.agent, (method, &url), key, body, headers).ok()
    }

    /// Verifies a key; it must have been known at `seq`.
    pub(crate) fn verify(&self, key: &str, seq: i64) -> Outcome {
        let Some(url) = self.url(true) else { return Outcome::CannotTell };
        let body = json!({"key": key, "min_seq": seq}).to_string();
        let request = ureq::http::Request::builder().method("POST").uri(format!("{url}/v1/verify")).body(body);
        let Some(reply) = self.send(request.unwrap()) else { return Outcome::CannotTell };
        match reply.status {
            200 => Outcome::Accepted,
            401 => Outcome::Denied,
            503 => Outcome::CannotTell,
            other => panic!("a verification was answered with {other}: {}", reply.text),
        }
    }
}

/// The library of Debian's package `libfaketime`.
fn fake_time() -> PathBuf {
    let machines = std::fs::read_dir("/usr/lib").unwrap().flatten().map(|machine| machine.path());
    let libraries = machines.map(|machine| machine.join("faketime/libfaketimeMT.so.1"));
    libraries.into_iter().find(|library| library.exists()).expect("install libfaketime")
}
