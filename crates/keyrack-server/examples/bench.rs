//! What the management calls cost, measured against the real release binary over loopback, one connection.
//!
//! `./dev bench writes [CALLS]`. The durable figures stand beside what the disk itself takes to append and sync as many bytes,
//! taken in the same rounds, because machines differ and share: read the ratio.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a measurement that goes wrong has no result")]
#![expect(clippy::print_stdout, reason = "the result is what it prints")]

use std::fs::{self, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 5;
/// Bytes that one create adds to the write-ahead log of the store, about.
const APPENDED_BYTES: usize = 40_000;
/// The calls are to be measured, not refused.
const RATES: &str = "starter=1000000/1000000/10 professional=1/1/1 enterprise=1/1/1";

fn main() {
    let calls: usize = std::env::args().nth(1).map_or(1_000, |calls| calls.parse().unwrap());
    let binary = "target/release/keyrack";
    let data = tempfile::tempdir_in("target").unwrap();
    let dir = data.path().join("keyrack-data");
    let init = Command::new(binary).args(["init", "--json", "--data-dir"]).arg(&dir).output().unwrap();
    let keys: serde_json::Value = serde_json::from_slice(&init.stdout).unwrap();
    let admin = keys["project_key"].as_str().unwrap().to_owned();

    let (server, mut client, start) = Server::start(binary, &dir, &admin);
    println!("binary                              {:>10.1} MB", fs::metadata(binary).unwrap().len() as f64 / 1e6);
    println!("start to listening                  {:>10.1} ms", start.as_secs_f64() * 1e3);
    println!("memory at rest                      {:>10.1} MB", server.resident_megabytes());

    let (mut disk, mut create, mut read, mut ratios) = (vec![], vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        let appended = repeat(calls / ROUNDS, append_and_sync(data.path()));
        let created = repeat(calls / ROUNDS, || client.call("POST", "/api/client/keys", r#"{"name":"CI bot"}"#));
        read.extend(repeat(calls / ROUNDS, || client.call("GET", "/api/client/keys/4", "")));
        ratios.push(median(&created).as_secs_f64() / median(&appended).as_secs_f64());
        disk.extend(appended);
        create.extend(created);
    }
    show("disk: append and fdatasync", &disk);
    show("POST /api/client/keys, durable", &create);
    show("GET /api/client/keys/{id}", &read);
    ratios.sort_by(f64::total_cmp);
    println!("create / disk, median of {ROUNDS} rounds    {:>10.2}", ratios[ROUNDS / 2]);
    println!(
        "creates per second, 1 connection    {:>10.0}",
        create.len() as f64 / create.iter().sum::<Duration>().as_secs_f64()
    );
    let per_second = parallel(&server.address, &admin, calls);
    println!("creates per second, 16 connections  {per_second:>10.0}");
    drop(client);
    drop(server);

    let (server, _client, start) = Server::start(binary, &dir, &admin);
    println!("start with {:>6} keys              {:>10.1} ms", 3 + 2 * calls, start.as_secs_f64() * 1e3);
    println!("memory with them                    {:>10.1} MB", server.resident_megabytes());

    let mut operator = Client::connect(&server.address, keys["operator_key"].as_str().unwrap());
    let mut owner = Client::connect(&server.address, keys["organization_key"].as_str().unwrap());
    let suspended = repeat(1, || operator.call("POST", "/api/operator/organizations/1/suspend", ""));
    operator.call("POST", "/api/operator/organizations/1/resume", "");
    show("suspend all of them", &suspended);
    let archived = repeat(1, || owner.call("DELETE", "/api/admin/projects/1?confirm=true", ""));
    show("archive all of them", &archived);
    println!("memory at the most                  {:>10.1} MB", server.most_resident_megabytes());
}

fn parallel(address: &str, admin: &str, calls: usize) -> f64 {
    const CONNECTIONS: usize = 16;
    let started = Instant::now();
    std::thread::scope(|threads| {
        for _ in 0..CONNECTIONS {
            threads.spawn(|| {
                let mut client = Client::connect(address, admin);
                repeat(calls / CONNECTIONS, || client.call("POST", "/api/client/keys", r#"{"name":"CI bot"}"#));
            });
        }
    });
    (calls / CONNECTIONS * CONNECTIONS) as f64 / started.elapsed().as_secs_f64()
}

fn append_and_sync(dir: &Path) -> impl FnMut() {
    let mut file = OpenOptions::new().create(true).append(true).open(dir.join("append")).unwrap();
    let bytes = vec![7; APPENDED_BYTES];
    move || {
        file.write_all(&bytes).unwrap();
        file.sync_data().unwrap();
    }
}

fn repeat(times: usize, mut work: impl FnMut()) -> Vec<Duration> {
    let mut took = Vec::with_capacity(times);
    for _ in 0..times {
        let started = Instant::now();
        work();
        took.push(started.elapsed());
    }
    took
}

fn percentile(took: &[Duration], percent: usize) -> Duration {
    let mut sorted = took.to_vec();
    sorted.sort();
    sorted[(sorted.len() - 1) * percent / 100]
}

fn median(took: &[Duration]) -> Duration {
    percentile(took, 50)
}

fn show(what: &str, took: &[Duration]) {
    let [p50, p99] = [50, 99].map(|percent| percentile(took, percent).as_secs_f64() * 1e3);
    println!("{what:<32} p50 {p50:>8.3} ms   p99 {p99:>8.3} ms   ({} calls)", took.len());
}

struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(binary: &str, dir: &Path, admin: &str) -> (Self, Client, Duration) {
        let started = Instant::now();
        let mut command = Command::new(binary);
        command
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--verify-listen",
                "127.0.0.1:0",
                "--log-level",
                "warn",
                "--rate-limits",
                RATES,
                "--data-dir",
            ])
            .arg(dir);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
        let line = lines.map(Result::unwrap).find(|line| line.starts_with("Listening on ")).unwrap();
        let took = started.elapsed();
        let address = line.split("http://").nth(1).unwrap().split(',').next().unwrap().to_owned();
        let client = Client::connect(&address, admin);
        (Self { child, address }, client, took)
    }

    fn resident_megabytes(&self) -> f64 {
        self.megabytes("VmRSS")
    }

    fn most_resident_megabytes(&self) -> f64 {
        self.megabytes("VmHWM")
    }

    fn megabytes(&self, field: &str) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1e3
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// One connection that is kept open; leaner than a client library, so that it is the server that is measured.
struct Client {
    stream: BufReader<TcpStream>,
    address: String,
    admin: String,
}

impl Client {
    fn connect(address: &str, admin: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream), address: address.to_owned(), admin: admin.to_owned() }
    }

    fn call(&mut self, method: &str, path: &str, body: &str) {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.address,
            self.admin,
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes()).unwrap();
        let (mut line, mut length, mut status) = (String::new(), 0, String::new());
        while line != "\r\n" {
            line.clear();
            self.stream.read_line(&mut line).unwrap();
            if status.is_empty() {
                status.clone_from(&line);
            }
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).unwrap();
        assert!(status.starts_with("HTTP/1.1 200"), "{status}{}", String::from_utf8_lossy(&body));
    }
}
