//! The real binary as a child process, and a client for it.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::app::{PLENTY, PLENTY_OF_STRANGERS};

/// The binary under test.
pub(crate) const KEYRACK: &str = env!("CARGO_BIN_EXE_keyrack");

/// A command of the binary with nothing inherited that could set it up, and limits that no test meets by chance.
pub(crate) fn keyrack(data_dir: &Path) -> Command {
    let mut command = Command::new(KEYRACK);
    command.env_clear().envs(plenty_of_calls()).arg("--data-dir").arg(data_dir).args([
        "--listen",
        "127.0.0.1:0",
        "--verify-listen",
        "127.0.0.1:0",
    ]);
    command
}

/// Variables that set limits which no test meets by chance.
pub(crate) fn plenty_of_calls() -> [(&'static str, String); 2] {
    [("KEYRACK_RATE_LIMITS", PLENTY.to_owned()), ("KEYRACK_RATE_LIMIT_ADDRESSES", PLENTY_OF_STRANGERS.to_string())]
}

/// The keys of a new installation, as `keyrack init --json` prints them.
pub(crate) fn init(data_dir: &Path) -> Value {
    let output = keyrack(data_dir).args(["init", "--json"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A running server; killed when dropped.
pub(crate) struct Server {
    pub(crate) child: Child,
    /// `http://127.0.0.1:PORT`
    pub(crate) url: String,
    /// Everything it printed before it listened.
    pub(crate) greeting: String,
    agent: ureq::Agent,
}

/// A reply, whatever its status.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: ureq::http::HeaderMap,
    pub(crate) text: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// Where a change stands in the log.
    pub(crate) fn position(&self) -> Option<i64> {
        Some(self.headers.get("x-keyrack-seq")?.to_str().unwrap().parse().unwrap())
    }
}

/// A port for a program that has to be told one, and some after it. Below those that the system gives to whoever asks for any, and not
/// those of another process of tests: nobody takes it before the program does.
pub(crate) fn free_port() -> u16 {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let first = 10_000 + u16::try_from(std::process::id() % 300).unwrap() * 32;
    loop {
        let taken = TAKEN.fetch_add(1, Ordering::Relaxed);
        assert!(taken < 32, "no port is free");
        if TcpListener::bind(("127.0.0.1", first + taken)).is_ok() {
            return first + taken;
        }
    }
}

/// Sends a request with a key, and a JSON body if there is one; an error if no whole reply came back.
pub(crate) fn send(
    agent: &ureq::Agent,
    (method, url): (&str, &str),
    key: &str,
    body: Option<&Value>,
    headers: &[(&str, &str)],
) -> Result<Reply, ureq::Error> {
    let request = ureq::http::Request::builder().method(method).uri(url);
    let request = request.header("Authorization", format!("Bearer {key}"));
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    reply_of(match body {
        Some(body) => agent.run(request.header("Content-Type", "application/json").body(body.to_string()).unwrap()),
        None => agent.run(request.body(()).unwrap()),
    })
}

/// Reads a response to its end.
pub(crate) fn reply_of(response: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Reply, ureq::Error> {
    let mut response = response?;
    let text = response.body_mut().read_to_string()?;
    Ok(Reply { status: response.status().as_u16(), headers: response.headers().clone(), text })
}

impl Server {
    /// Starts `keyrack serve` and waits until it listens.
    pub(crate) fn start(data_dir: &Path) -> Self {
        Self::try_start(keyrack(data_dir).arg("serve").stderr(Stdio::null())).expect("the server did not start")
    }

    #[expect(clippy::zombie_processes, reason = "`Drop` waits for the child, or this does if it ended")]
    /// Starts a command that serves; `None` if it ended before it listened.
    pub(crate) fn try_start(command: &mut Command) -> Option<Self> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut greeting = String::new();
        loop {
            let mut line = String::new();
            if output.read_line(&mut line).unwrap() == 0 {
                child.wait().unwrap();
                return None;
            }
            greeting += &line;
            if let Some(rest) = line.strip_prefix("Listening on ") {
                let url = rest.split(',').next().unwrap().trim().to_owned();
                let config = ureq::Agent::config_builder()
                    .http_status_as_error(false)
                    .timeout_global(Some(Duration::from_secs(60)))
                    .build();
                return Some(Self { child, url, greeting, agent: config.into() });
            }
        }
    }

    /// Sends a request; an error if no whole reply came back.
    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        key: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Result<Reply, ureq::Error> {
        send(&self.agent, (method, &format!("{}{path}", self.url)), key, body, headers)
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) fn stop(mut self) -> std::process::ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
