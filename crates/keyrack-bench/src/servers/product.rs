//! Keyrack itself, at its doors.

use std::rc::Rc;
use std::time::Instant;

use keyrack::{ApiKey, KeyKind};
use serde_json::{Value, json};

use super::{Place, Server, free_port, request, words};
use crate::child::{RunAs, Running};
use crate::goals::Goal;
use crate::load::{Address, Requests};
use crate::million::{self, Asked};
use crate::random::Random;
use crate::system::resident_bytes;
use crate::{Outcome, PATH};

/// The product's doors: one process.
#[derive(Debug)]
pub(crate) struct Product {
    /// The door for nginx, over TCP.
    pub(crate) nginx: Server,
    /// The same over the Unix socket.
    pub(crate) socket: Server,
    /// The batch door, over TCP.
    pub(crate) batch: Server,
    /// The door for nginx, over TCP, asked about keys that nobody issued.
    pub(crate) strangers: Server,
    /// What its start took.
    pub(crate) start: Start,
}

/// What a start with all keys took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    /// Seconds from the start of the process to the first key let through.
    seconds: f64,
    /// Resident memory then, in bytes.
    resident: u64,
}

impl Start {
    /// For the file of results.
    pub(crate) fn to_json(self) -> Value {
        json!({ "seconds_to_first_verified_key": self.seconds, "resident_bytes": self.resident })
    }

    /// The promise about it.
    pub(crate) fn goals(self) -> [Goal; 1] {
        [Goal::at_most("start to the first verified key, s", 1.0, Some(self.seconds))]
    }
}

impl Product {
    /// The names of its lines.
    pub(crate) const NGINX: &str = "Keyrack, nginx door, TCP";
    /// As [`Product::NGINX`].
    pub(crate) const SOCKET: &str = "Keyrack, nginx door, Unix socket";
    /// As [`Product::NGINX`].
    pub(crate) const BATCH: &str = "Keyrack, batches of 100, TCP";
    /// As [`Product::NGINX`].
    pub(crate) const STRANGERS: &str = "Keyrack, nginx door, unknown keys";
    /// Keys in a batch.
    pub(crate) const BATCH_KEYS: usize = 100;
    /// Different batches: enough to ask every key of a hundred thousand.
    const BATCHES: usize = 1_000;

    /// Starts the server that is built, with a store of a million keys.
    ///
    /// # Errors
    /// If it does not start, or does not let the first key through.
    pub(crate) fn start(place: &Place) -> Outcome<Self> {
        let directory = million::directory()?;
        let tcp = free_port()?;
        let socket = place.path().join("verify.sock");
        let (requests, batches) = requests();

        let (directory, at, socket_at) = (directory.to_string_lossy(), tcp.to_string(), socket.to_string_lossy());
        let command = words([
            million::PROGRAM,
            "serve",
            "--data-dir",
            &directory,
            "--listen",
            "127.0.0.1:0",
            "--verify-listen",
            &at,
            "--verify-socket",
            &socket_at,
            "--verify-threads",
            "1",
            "--key-limits",
            million::KEY_LIMITS,
        ]);
        let log = Place::log("keyrack")?;
        // The start has the whole machine, as it has anywhere. What is measured afterwards has one core.
        let seconds = {
            let started = Instant::now();
            let process = Running::start_unpinned(&command, RunAs::Ourselves, &log)?;
            let requests = Rc::new(std::iter::once(requests.at(0)).collect::<Requests>());
            Server::ready(Self::NGINX, Address::Tcp(tcp), requests, 200, vec![process])?;
            started.elapsed().as_secs_f64()
        };
        let process = Running::start(&command, RunAs::Ourselves, &log)?;
        let nginx = Server::ready(Self::NGINX, Address::Tcp(tcp), Rc::new(requests), 200, vec![process])?;
        let resident = nginx.ids().first().map_or(Ok(0), |id| resident_bytes(*id))?;

        let door = |name, address, requests: &Rc<Requests>| Server {
            name,
            address,
            requests: Rc::clone(requests),
            status: 200,
            processes: Rc::clone(&nginx.processes),
        };
        let socket = door(Self::SOCKET, Address::Unix(socket.clone()), &nginx.requests);
        let batch = door(Self::BATCH, Address::Tcp(tcp), &Rc::new(batches));
        let strangers = Server { status: 401, ..door(Self::STRANGERS, Address::Tcp(tcp), &Rc::new(unknown())) };
        strangers.expect(strangers.requests.at(0), 401)?;
        for server in [&socket, &batch] {
            server.expect(server.requests.at(0), 200)?;
        }
        Ok(Self { nginx, socket, batch, strangers, start: Start { seconds, resident } })
    }
}

/// What the doors are asked: a request for each key, and batches of keys that follow each other.
fn requests() -> (Requests, Requests) {
    let mut single = Requests::default();
    let (mut batches, mut next) = (Requests::default(), Vec::new());
    for asked in million::requests() {
        single.push(request(PATH, asked.key.expose(), asked.method, &asked.target).as_bytes());
        if batches.len() < Product::BATCHES {
            next.push(asked);
        }
        if next.len() == Product::BATCH_KEYS {
            batches.push(batch(&std::mem::take(&mut next)).as_bytes());
        }
    }
    (single, batches)
}

/// Requests with keys of the right shape that nobody issued.
fn unknown() -> Requests {
    let mut random = Random::seeded(3);
    let requests = (0..100_000).map(|_| {
        let key = ApiKey::generate(KeyKind::Secret, &random.bytes());
        request(PATH, key.expose(), "GET", "/v1/resource-0/1?expand=all")
    });
    requests.collect()
}

fn batch(asked: &[Asked]) -> String {
    let requests: Vec<Value> = asked
        .iter()
        .map(|asked| {
            // Where a path is asked for there is no query.
            let path = asked.target.split('?').next().unwrap_or_default();
            json!({ "key": asked.key.expose(), "method": asked.method, "path": path })
        })
        .collect();
    let body = json!({ "requests": requests }).to_string();
    format!(
        "POST /v1/verify/batch HTTP/1.1\r\nHost: auth\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_says_how_long_its_body_is() {
        let asked: Vec<_> = million::requests().take(2).collect();
        let text = batch(&asked);
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("Content-Length: {}", body.len())));
        let body: Value = serde_json::from_str(body).unwrap();
        let requests = body["requests"].as_array().unwrap();
        assert_eq!(requests.len(), 2);
        assert!(asked[0].target.starts_with(requests[0]["path"].as_str().unwrap()));
        assert!(!requests[0]["path"].as_str().unwrap().contains('?'));
    }
}
