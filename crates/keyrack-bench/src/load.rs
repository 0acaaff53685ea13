//! A lean load generator: many keep-alive connections, one request in flight on each, one thread.
//!
//! What it asks is prepared as bytes, what comes back is read no further than its status and its length. It takes two
//! system calls for a request, as the servers do, and less time between them: the server is what is measured.

mod connection;
mod histogram;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};

use self::connection::{Connection, Progress};
use self::histogram::Histogram;
use crate::Outcome;
use crate::random::Random;

/// Where a server listens.
#[derive(Clone, Debug)]
pub(crate) enum Address {
    /// A port of this host.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

/// Whole requests, end to end in one allocation, so that picking one at random costs one cache miss.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Requests {
    /// Adds a request: head and body as they go over the wire.
    pub(crate) fn push(&mut self, request: &[u8]) {
        self.bytes.extend_from_slice(request);
        self.ends.push(self.bytes.len());
    }

    /// The request at a position; empty if there is none.
    pub(crate) fn at(&self, position: usize) -> &[u8] {
        let start = position.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        let end = self.ends.get(position).copied().unwrap_or(start);
        self.bytes.get(start..end).unwrap_or_default()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }
}

impl<T: AsRef<[u8]>> FromIterator<T> for Requests {
    fn from_iter<I: IntoIterator<Item = T>>(requests: I) -> Self {
        let mut all = Self::default();
        for request in requests {
            all.push(request.as_ref());
        }
        all
    }
}

/// What one run saw.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    /// How long it really took, in seconds.
    pub(crate) seconds: f64,
    /// Replies by status.
    pub(crate) statuses: BTreeMap<u16, u64>,
    /// How often the server closed a connection and a new one was made.
    pub(crate) reconnects: u64,
    latencies: Histogram,
}

impl Measured {
    /// Replies in all.
    pub(crate) fn replies(&self) -> u64 {
        self.statuses.values().sum()
    }

    /// The latency in microseconds that `share` (0 to 1) of the replies did not exceed.
    pub(crate) fn percentile(&self, share: f64) -> f64 {
        self.latencies.percentile(share)
    }
}

/// Connections to one server.
#[derive(Debug)]
pub(crate) struct Load {
    poll: Poll,
    connections: Vec<Connection>,
    random: Random,
    running: bool,
}

impl Load {
    /// Opens so many connections; nothing is sent yet.
    ///
    /// # Errors
    /// If the server does not take them.
    pub(crate) fn connect(address: &Address, connections: usize) -> Outcome<Self> {
        let poll = Poll::new()?;
        let connections = (0..connections)
            .map(|place| Connection::open(address.clone(), Token(place), poll.registry()))
            .collect::<Outcome<Vec<_>>>()?;
        Ok(Self { poll, connections, random: Random::seeded(1), running: false })
    }

    /// Asks the requests in random order for so long. Requests that are in flight at the end are answered in the next
    /// run, where they count as replies but not as latencies.
    ///
    /// # Errors
    /// If the server breaks off in the middle of a reply, or sends what is not one, or nothing for ten seconds.
    pub(crate) fn run(&mut self, requests: &Requests, length: Duration) -> Outcome<Measured> {
        const PATIENCE: Duration = Duration::from_secs(10);
        let Self { poll, connections, random, running } = self;
        let mut measured =
            Measured { seconds: 0.0, statuses: BTreeMap::new(), reconnects: 0, latencies: Histogram::new() };
        let mut statuses = [0_u64; 600];
        let mut next = || requests.at(random.below(requests.len()));
        let mut events = Events::with_capacity(connections.len());
        let started = Instant::now();
        if !*running {
            *running = true;
            for connection in connections.iter_mut() {
                connection.send(next(), started, poll.registry())?;
            }
        }
        let mut heard = started;
        while heard.duration_since(started) < length {
            poll.poll(&mut events, Some(PATIENCE))?;
            if events.is_empty() {
                return Err("the server said nothing for ten seconds".into());
            }
            for event in &events {
                let Some(connection) = connections.get_mut(event.token().0) else { continue };
                match connection.read()? {
                    Progress::Waiting => {}
                    Progress::Closed => {
                        measured.reconnects += 1;
                        connection.reopen(poll.registry())?;
                        connection.send(next(), Instant::now(), poll.registry())?;
                    }
                    Progress::Reply { status } => {
                        heard = Instant::now();
                        if connection.sent_at() >= started {
                            measured.latencies.record(heard.duration_since(connection.sent_at()));
                        }
                        match statuses.get_mut(usize::from(status)) {
                            Some(count) => *count += 1,
                            None => return Err(format!("a reply of status {status}").into()),
                        }
                        connection.send(next(), heard, poll.registry())?;
                    }
                }
            }
        }
        measured.seconds = heard.duration_since(started).as_secs_f64();
        let counted = (0_u16..).zip(statuses).filter(|(_, count)| *count > 0);
        measured.statuses = counted.collect();
        Ok(measured)
    }
}

#[cfg(test)]
mod tests;
