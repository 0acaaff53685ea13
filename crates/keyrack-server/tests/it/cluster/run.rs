//! Clients that change keys on all nodes at once, and what they saw.

use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::history::{Asked, Event, Outcome};
use super::nodes::{Cluster, Made};

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

    pub(crate) fn note(&self, (asked, key, node): (Asked, usize, usize), start: Instant, outcome: Outcome) -> Outcome {
        self.events.lock().unwrap().push(Event { asked, key, node, start, end: Instant::now(), outcome });
        outcome
    }

    pub(crate) fn verify_everywhere(&self, key: usize, made: &Made) {
        for (at, node) in self.cluster.nodes.iter().enumerate() {
            let start = Instant::now();
            self.note((Asked::Verify, key, at), start, node.verify(&made.value, made.seq));
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
