//! Clients that change keys on all nodes at once, and what they saw.

use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::history::{Asked, Event, Outcome};
use super::nodes::{Cluster, Made};
use crate::server::Reply;

pub(crate) struct Run {
    pub(crate) cluster: Cluster,
    pub(crate) events: Mutex<Vec<Event>>,
    pub(crate) made: Mutex<Vec<(usize, Arc<Made>)>>,
    pub(crate) keys: AtomicUsize,
    pub(crate) is_over: AtomicBool,
}

impl Run {
    pub(crate) fn of(cluster: Cluster) -> Self {
        let (events, made) = (Mutex::default(), Mutex::default());
        Self { cluster, events, made, keys: AtomicUsize::new(0), is_over: AtomicBool::new(false) }
    }

    /// Keeps what was asked of which node, with its position, and what came of it.
    pub(crate) fn note(
        &self,
        (asked, key, node): (Asked, usize, usize),
        position: Option<i64>,
        start: Instant,
        outcome: Outcome,
    ) {
        self.events.lock().unwrap().push(Event { asked, key, node, position, start, end: Instant::now(), outcome });
    }

    pub(crate) fn verify(&self, node: usize, key: usize, made: &Made, position: i64) {
        let start = Instant::now();
        let outcome = self.cluster.nodes[node].verify(&made.value, position);
        self.note((Asked::Verify, key, node), Some(position), start, outcome);
    }

    /// On nodes that know the change at a position.
    pub(crate) fn verify_everywhere(&self, key: usize, made: &Made, position: i64) {
        (0..self.cluster.nodes.len()).for_each(|node| self.verify(node, key, made, position));
    }

    /// After a change: everywhere, whatever a node knows of it, and then only where it is known.
    pub(crate) fn verify_after(&self, key: usize, made: &Made, reply: Option<&Reply>) {
        self.verify_everywhere(key, made, made.seq);
        if let Some(position) = reply.and_then(Reply::position) {
            self.verify_everywhere(key, made, position);
        }
    }

    /// Waits until all nodes follow the store, as a node sees it.
    pub(crate) fn await_fresh(&self, node: usize, patience: Duration) -> Result<(), String> {
        let deadline = Instant::now() + patience;
        loop {
            let list = self.cluster.list(node).map(|reply| reply.text);
            let fresh = |list: &String| list.matches(r#""lease":"fresh""#).count() == self.cluster.nodes.len();
            if list.as_ref().is_some_and(fresh) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("the nodes do not find their way back: {list:?}"));
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}
