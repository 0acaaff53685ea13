//! Keyrack itself, at its doors.

use std::fs;
use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use serde_json::{Value, json};

use super::{Place, Server, free_port, request, words};
use crate::arguments::Arguments;
use crate::child::{RunAs, Running};
use crate::goals::Goal;
use crate::load::{Address, Requests};
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
    /// Keys in a batch.
    pub(crate) const BATCH_KEYS: usize = 100;
    /// Different batches: enough to ask every key of a hundred thousand.
    const BATCHES: usize = 1_000;

    /// Starts it if the arguments name it.
    ///
    /// # Errors
    /// If it does not start, or does not let the first key through.
    pub(crate) fn start(arguments: &Arguments, place: &Place) -> Outcome<Option<Self>> {
        let (Some(command), Some(keys)) = (&arguments.product, &arguments.keys) else { return Ok(None) };
        let tcp = free_port()?;
        let socket = place.path().join("verify.sock");
        let (requests, batches) = requests(keys)?;

        let command: Vec<String> = command
            .iter()
            .map(|word| word.replace("{tcp}", &tcp.to_string()).replace("{socket}", &socket.to_string_lossy()))
            .collect();
        let log = Place::log("keyrack")?;
        let started = Instant::now();
        let process = Running::start(&words(command.iter().map(String::as_str)), RunAs::Ourselves, &log)?;
        let nginx = Server::ready(Self::NGINX, Address::Tcp(tcp), Rc::new(requests), 200, vec![process])?;
        let seconds = started.elapsed().as_secs_f64();
        let resident = nginx.ids().first().map_or(Ok(0), |id| resident_bytes(*id))?;

        let door = |name, address, requests: &Rc<Requests>| Server {
            name,
            address,
            requests: Rc::clone(requests),
            status: 200,
            processes: Rc::clone(&nginx.processes),
        };
        let socket = door(Self::SOCKET, Address::Unix(socket), &nginx.requests);
        let batch = door(Self::BATCH, Address::Tcp(tcp), &Rc::new(batches));
        for server in [&socket, &batch] {
            server.expect(server.requests.at(0), 200)?;
        }
        Ok(Some(Self { nginx, socket, batch, start: Start { seconds, resident } }))
    }
}

/// What the doors are asked: a request for each line of the file, and batches of lines that follow each other.
fn requests(keys: &Path) -> Outcome<(Requests, Requests)> {
    let text = fs::read_to_string(keys)?;
    let lines = text
        .lines()
        .map(|line| match line.split_whitespace().collect::<Vec<_>>().as_slice() {
            [key, method, uri] => Ok((*key, *method, *uri)),
            _ => Err("a line of the file of keys is not 'KEY METHOD URI'"),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let single = lines.iter().map(|(key, method, uri)| request(PATH, key, method, uri)).collect();
    let batches = lines.chunks_exact(Product::BATCH_KEYS).take(Product::BATCHES).map(batch).collect();
    Ok((single, batches))
}

fn batch(lines: &[(&str, &str, &str)]) -> String {
    let requests: Vec<Value> = lines
        .iter()
        .map(|(key, method, uri)| {
            // Where a path is asked for there is no query.
            let path = uri.split('?').next().unwrap_or(uri);
            json!({ "key": key, "method": method, "path": path })
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
        let text = batch(&[("k1", "GET", "/events?x=1"), ("k2", "POST", "/events")]);
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("Content-Length: {}", body.len())));
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["requests"][0], json!({ "key": "k1", "method": "GET", "path": "/events" }));
        assert_eq!(body["requests"].as_array().unwrap().len(), 2);
    }
}
