//! Clients that make, rename and revoke keys, and verify all of them all the time, whatever becomes of the database.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{NODES, PATIENCE};
use crate::cluster::history::{Asked, Outcome};
use crate::cluster::nodes::{Cluster, KEYS, Made};
use crate::cluster::run::Run;
use crate::server::Reply;

/// So many keys live before the oldest is revoked.
const LIVING: usize = 20;

/// A change that is done once or not at all: whoever got no answer asks for it again.
struct Change<'c> {
    method: &'static str,
    path: &'c str,
    body: Option<Value>,
    /// Its `Idempotency-Key`, or for how long it waits.
    header: (&'static str, &'c str),
}

/// What a change was answered with, and by whom.
struct Answer {
    reply: Reply,
    node: usize,
    /// Whether an attempt before was not answered, and may have made the change.
    is_of_repeat: bool,
}

/// What is known of a key.
pub(super) struct Known {
    pub(super) id: i64,
    pub(super) is_renamed: bool,
    pub(super) is_revoked: bool,
}

pub(super) struct Clients {
    pub(super) run: Run,
    /// What was acknowledged, by the number of the key.
    pub(super) known: Mutex<BTreeMap<usize, Known>>,
    living: Mutex<VecDeque<(usize, Arc<Made>)>>,
    /// When each change that the database has was asked for for the first time, and when it was acknowledged.
    acknowledged: Mutex<Vec<(Instant, Instant)>>,
    /// How often nobody could say whether a change was made.
    pub(super) unknown: AtomicUsize,
    /// Revocations that were acknowledged while the database was away.
    pub(super) without_database: AtomicUsize,
    /// Verifications that were not answered with what was in memory.
    pub(super) unanswered: AtomicUsize,
    /// Answers that cannot be if nothing was lost.
    pub(super) strange: Mutex<Vec<String>>,
}

impl Clients {
    pub(super) fn of(cluster: Cluster) -> Self {
        Self {
            run: Run::of(cluster),
            known: Mutex::default(),
            living: Mutex::default(),
            acknowledged: Mutex::default(),
            unknown: AtomicUsize::new(0),
            without_database: AtomicUsize::new(0),
            unanswered: AtomicUsize::new(0),
            strange: Mutex::default(),
        }
    }

    fn is_over(&self) -> bool {
        self.run.is_over.load(Ordering::SeqCst)
    }

    /// One key after the other: made, renamed, and some revoked.
    pub(super) fn write(&self, writer: usize) {
        let mut turn = writer;
        while !self.is_over() {
            turn += 1;
            let nodes: Vec<_> = (turn..turn + NODES).map(|node| node % NODES).collect();
            let Some((key, made)) = self.create(&nodes, turn % 8 != 7) else { continue };
            self.run.verify_everywhere(key, &made, made.seq);
            if turn.is_multiple_of(2) {
                self.rename(&nodes, key, &made);
            }
            match turn % 3 {
                0 => self.revoke(&nodes, key, &made),
                _ => self.living.lock().unwrap().push_back((key, made)),
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Revokes old keys, also while nothing can be made.
    pub(super) fn revoke_old(&self) {
        let mut turn = 0;
        while !self.is_over() {
            turn += 1;
            let oldest = {
                let mut living = self.living.lock().unwrap();
                if living.len() > LIVING { living.pop_front() } else { None }
            };
            if let Some((key, made)) = oldest {
                self.revoke(&[turn % NODES], key, &made);
            }
            thread::sleep(Duration::from_millis(150));
        }
    }

    /// Verifies on a node, all the time: a key that lives for ever, and some of those that were made.
    pub(super) fn verify(&self, node: usize) {
        let mut turn = 0;
        while !self.is_over() {
            turn += 1;
            if self.run.cluster.nodes[node].verify(&self.run.cluster.admin, 0) != Outcome::Accepted {
                self.unanswered.fetch_add(1, Ordering::SeqCst);
            }
            let chosen = {
                let made = self.run.made.lock().unwrap();
                made.iter().rev().nth(turn * 7 % 100).cloned()
            };
            if let Some((key, made)) = chosen {
                self.run.verify(node, key, &made, made.seq);
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Makes a key; `None` if it is not known whether there is one, and whoever asked `insists` not.
    pub(super) fn create(&self, nodes: &[usize], insists: bool) -> Option<(usize, Arc<Made>)> {
        let key = self.run.keys.fetch_add(1, Ordering::SeqCst);
        let (start, name) = (Instant::now(), format!("key-{key}-"));
        let header = ("Idempotency-Key", name.as_str());
        let change = Change { method: "POST", path: KEYS, body: Some(json!({"name": name})), header };
        let answer = if insists {
            Some(self.insist(nodes, &change))
        } else {
            self.ask(nodes[0], &change).map(|reply| Answer { reply, node: nodes[0], is_of_repeat: false })
        };
        let Some(Answer { reply, node, .. }) = answer else {
            self.run.note((Asked::Create, key, nodes[0]), None, start, Outcome::Unknown);
            return None;
        };
        if reply.status != 200 {
            return self.is_strange(key, "its making", &reply);
        }
        let made = Arc::new(Made::of(&reply));
        self.acknowledge(start);
        self.run.note((Asked::Create, key, node), Some(made.seq), start, Outcome::Made);
        self.run.made.lock().unwrap().push((key, Arc::clone(&made)));
        let known = Known { id: made.id, is_renamed: false, is_revoked: false };
        assert!(self.known.lock().unwrap().insert(key, known).is_none());
        Some((key, made))
    }

    fn rename(&self, nodes: &[usize], key: usize, made: &Made) {
        let (start, path) = (Instant::now(), format!("{KEYS}/{}", made.id));
        let name = format!("key-{key}-renamed");
        let header = ("Idempotency-Key", name.as_str());
        let change = Change { method: "PATCH", path: &path, body: Some(json!({"name": name})), header };
        let Answer { reply, .. } = self.insist(nodes, &change);
        if reply.status != 200 {
            return self.is_strange(key, "its new name", &reply).unwrap_or_default();
        }
        self.acknowledge(start);
        self.known.lock().unwrap().get_mut(&key).unwrap().is_renamed = true;
    }

    fn revoke(&self, nodes: &[usize], key: usize, made: &Made) {
        let (start, path) = (Instant::now(), format!("{KEYS}/{}", made.id));
        let change = Change { method: "DELETE", path: &path, body: None, header: ("Prefer", "wait=2") };
        let Answer { reply, node, is_of_repeat } = self.insist(nodes, &change);
        let outcome = match reply.status {
            200 if reply.json()["effective"] == "all" => Outcome::MadeEverywhere,
            200 => Outcome::Made,
            202 => {
                self.without_database.fetch_add(1, Ordering::SeqCst);
                Outcome::Made
            }
            // The attempt that was not answered did it.
            404 if is_of_repeat => Outcome::Made,
            _ => return self.is_strange(key, "its end", &reply).unwrap_or_default(),
        };
        if reply.status == 200 {
            self.acknowledge(start);
        }
        self.run.note((Asked::Revoke, key, node), reply.position(), start, outcome);
        self.known.lock().unwrap().get_mut(&key).unwrap().is_revoked = true;
        self.run.verify_after(key, made, Some(&reply));
    }

    fn is_strange<T>(&self, key: usize, what: &str, reply: &Reply) -> Option<T> {
        let text = format!("{what}, of key {key}, was answered with {}: {}", reply.status, reply.text);
        self.strange.lock().unwrap().push(text);
        None
    }

    /// Asks for a change until it is answered, on one node after the other.
    fn insist(&self, nodes: &[usize], change: &Change<'_>) -> Answer {
        let start = Instant::now();
        for (attempt, &node) in nodes.iter().cycle().enumerate() {
            if let Some(reply) = self.ask(node, change) {
                return Answer { reply, node, is_of_repeat: attempt > 0 };
            }
            assert!(start.elapsed() < PATIENCE, "no node does {} {}", change.method, change.path);
            thread::sleep(Duration::from_millis(50));
        }
        unreachable!("there are nodes")
    }

    /// Asks for a change; `None` if it was not made, or nobody knows.
    fn ask(&self, node: usize, change: &Change<'_>) -> Option<Reply> {
        let Change { method, path, body, header } = change;
        let cluster = &self.run.cluster;
        let Some(reply) = cluster.nodes[node].ask(method, path, &cluster.admin, body.as_ref(), &[*header]) else {
            self.unknown.fetch_add(1, Ordering::SeqCst);
            return None;
        };
        if reply.status == 503 && reply.text.contains("may or may not") {
            self.unknown.fetch_add(1, Ordering::SeqCst);
        }
        let is_under_way = reply.status == 409 && reply.text.contains("idempotency_in_progress");
        (reply.status != 503 && !is_under_way).then_some(reply)
    }

    fn acknowledge(&self, start: Instant) {
        self.acknowledged.lock().unwrap().push((start, Instant::now()));
    }

    pub(super) fn acknowledged(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    /// How long after a moment the first change was made that was asked for later, and the longest time since then without any.
    pub(super) fn pause_after(&self, moment: Instant) -> (Duration, Duration) {
        let acknowledged = self.acknowledged.lock().unwrap();
        let first = acknowledged.iter().filter(|(start, _)| *start > moment).map(|(_, end)| *end).min().unwrap();
        let mut ends: Vec<_> = acknowledged.iter().map(|(_, end)| *end).collect();
        ends.sort_unstable();
        let gap = ends.windows(2).filter(|pair| pair[1] > moment).map(|pair| pair[1] - pair[0]).max();
        (first - moment, gap.unwrap_or_default())
    }
}
