//! Who answers from one store, and until when: the rules of leases, and of the barrier that a revocation waits at.
//!
//! A node renews its lease by a *committed write*: its heartbeat reads what was changed, says how far it has come, and commits. A read
//! proves nothing, for a database that was cut off from its standby still answers reads. Whoever waits for a change to be everywhere
//! therefore waits until each node on the list has come that far, or has been silent for longer than its lease can last; and the list is
//! one that was read after the change, in a heartbeat that was committed.
//!
//! Nothing here waits or asks what time it is, so all of it is simulated below, with clocks that go wrong and answers that get lost.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex as Lock, PoisonError};
use std::time::Duration;

use keyrack::feed::Lease as Granted;
use tokio::sync::Mutex;

use super::database::Connection;
use super::heard::Heard;
use crate::clock::{Timestamp, Uptime};
use crate::random::{Random, bytes};

/// How long a lease is fresh.
pub const LEASE: Duration = Duration::from_secs(2);
/// How often it is renewed.
pub const HEARTBEAT: Duration = Duration::from_millis(250);

/// So many followers of one key are listed, with those that were killed and are waited for until their leases are over: whoever holds a key
/// must not make everybody wait for a list without end.
const MOST_FOLLOWERS_OF_A_KEY: usize = 5_000;

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    /// Which one; another after every start.
    pub id: String,
    /// How far in the log of changes it has come.
    pub seq: i64,
    /// Which of its heartbeats this is. No later one has a lower number, also if it was off the list meanwhile.
    pub beats: i64,
    /// For how many milliseconds after a heartbeat it answers without another.
    pub stale_ms: i64,
    /// The version of its program.
    pub version: String,
}

/// Whether a node may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// It has heard from the database just now.
    Fresh,
    /// It has not, but not for longer than its operator allows: it answers, and says so.
    Stale,
    /// It answers nothing.
    Expired,
}

/// A node as another sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What it says of itself.
    pub beat: Beat,
    /// How long ago it was last heard of, as far as this process knows.
    pub silent: Duration,
    /// Whether it is this one.
    pub is_own: bool,
}

impl Node {
    /// Whether it may answer.
    pub fn lease(&self) -> Lease {
        if self.silent <= LEASE {
            Lease::Fresh
        } else if self.silent <= stale_limit(&self.beat) {
            Lease::Stale
        } else {
            Lease::Expired
        }
    }
}

/// How far a change has reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effective {
    /// Every node has it, or answers nothing any more.
    All,
    /// These do not have it yet, for all that is known.
    Partial(Vec<Pending>),
}

/// A node that may not have a change yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Which one.
    pub node: String,
    /// When it answers nothing any more unless it has the change; `None` if that is not known.
    pub until: Option<Timestamp>,
}

/// This process among the others. Nothing of it is used where a store is one process's alone.
pub(super) struct Membership {
    pub(super) id: String,
    pub(super) data_dir: PathBuf,
    pub(super) stale_limit: Duration,
    /// How many heartbeats were begun.
    begun: AtomicI64,
    pub(super) heart: Mutex<Heart>,
    pub(super) heard: Heard,
    seen: Lock<Seen>,
    /// Nodes of a list that the database has lost. They may still answer, and are not on the new one before they have found that out.
    lost: Lock<Seen>,
}

/// What the heartbeats of this process leave behind.
#[derive(Default)]
pub(super) struct Heart {
    pub(super) connection: Option<Connection>,
    /// The log did not go on from where it was followed: no heartbeat before everything is loaded anew.
    pub(super) is_astray: bool,
    /// This process answers nothing any more.
    pub(super) has_left: bool,
    /// The newest list, and when whoever read it began: so that many who wait ask once.
    pub(super) list: (Uptime, Vec<Beat>),
}

/// Each node's newest heartbeat and when it was first seen here.
type Seen = HashMap<String, (Beat, Uptime)>;

impl Membership {
    pub(super) fn new(stale_limit: Duration, data_dir: &Path, random: &dyn Random) -> Self {
        let drawn: [u8; 5] = bytes(random);
        let id = format!("node_{}", data_encoding::BASE32_NOPAD.encode(&drawn).to_lowercase());
        Self {
            id,
            data_dir: data_dir.to_owned(),
            stale_limit,
            begun: AtomicI64::new(0),
            heart: Mutex::default(),
            heard: Heard::default(),
            seen: Lock::default(),
            lost: Lock::default(),
        }
    }

    /// Counts a heartbeat that begins.
    pub(super) fn begin_beat(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lost(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The database has lost what it had, and so perhaps nodes from the list: those that were on it are waited for all the same.
    pub(super) fn lose_the_list(&self) {
        let others = std::mem::take(&mut *self.seen()).into_iter().filter(|(id, _)| *id != self.id);
        // How far they had come says nothing of the log that there is now.
        let others = others.map(|(id, (beat, since))| (id, (Beat { seq: 0, ..beat }, since)));
        self.lost().extend(others);
    }

    /// What this node says of itself in the heartbeat that it has begun.
    pub(super) fn own_beat(&self, seq: i64) -> Beat {
        let stale_ms = i64::try_from(self.stale_limit.as_millis()).unwrap_or(i64::MAX);
        Beat {
            id: self.id.clone(),
            seq,
            beats: self.begun.load(Ordering::Relaxed),
            stale_ms,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// The nodes of a list, each with how long it has been silent. An older list that comes late does not put a newer one back.
    pub(super) fn judge(&self, list: Vec<Beat>, now: Uptime) -> Vec<Node> {
        let mut seen = self.seen();
        let listed: HashSet<String> = list.iter().map(|beat| beat.id.clone()).collect();
        seen.retain(|id, _| listed.contains(id));
        let mut node = |beat: Beat| {
            let known = seen.entry(beat.id.clone()).or_insert_with(|| (beat.clone(), now));
            if known.0.beats < beat.beats {
                *known = (beat.clone(), now);
            }
            self.node(beat, known.1, now)
        };
        let mut nodes: Vec<_> = list.into_iter().map(&mut node).collect();
        let mut lost = self.lost();
        lost.retain(|id, (beat, since)| {
            !listed.contains(id) && self.node(beat.clone(), *since, now).lease() != Lease::Expired
        });
        nodes.extend(lost.values().map(|(beat, since)| self.node(beat.clone(), *since, now)));
        nodes
    }

    /// Whether a follower was on the newest list, or others of its key left room for it there.
    pub(super) fn has_room_for(&self, follower: &str) -> bool {
        let seen = self.seen();
        let is_of_its_key = |id: &&String| key_part(id) == key_part(follower);
        seen.contains_key(follower) || seen.keys().filter(is_of_its_key).count() < MOST_FOLLOWERS_OF_A_KEY
    }

    /// The nodes that were on the newest list, for when there is none.
    pub(super) fn known(&self, now: Uptime) -> Vec<Node> {
        let node = |(beat, since): &(Beat, Uptime)| self.node(beat.clone(), *since, now);
        let mut known: Vec<_> = self.seen().values().map(node).collect();
        known.extend(self.lost().values().map(node));
        known
    }

    fn node(&self, beat: Beat, since: Uptime, now: Uptime) -> Node {
        Node { silent: Duration::from_micros(now.microseconds_since(since)), is_own: beat.id == self.id, beat }
    }
}

/// What of a follower's name says which key it follows with: all but the part that it draws itself.
fn key_part(follower: &str) -> Option<&str> {
    follower.rsplit_once('_').map(|(key, _drawn)| key)
}

/// After how much silence a node cannot be answering any more: a little more than it allows itself, as no two clocks go alike.
pub(super) fn stale_limit(beat: &Beat) -> Duration {
    Duration::from_millis(beat.stale_ms.unsigned_abs()).mul_f64(1.05)
}

/// The lease that a committed heartbeat is, if it is one: who asked for the list before a node was on it did not wait for that node, so
/// its first heartbeat lists it, and only those after that are a lease. It counts from when the heartbeat began.
pub(super) fn lease_of(began: Uptime, was_listed: bool, stale_limit: Duration) -> Option<keyrack::Lease> {
    let heard = Duration::from_micros(began.0);
    let (fresh_until, trusted_until) = (heard + LEASE.min(stale_limit), heard + stale_limit);
    was_listed.then_some(keyrack::Lease { heard, fresh_until, trusted_until })
}

/// A follower's lease: no longer than what is left of that of the process it follows, which has none if it cannot be old. The follower's
/// own limit counts from when that process last heard of everything, not from when it says so: for so long is waited for the follower.
pub(super) fn lease_of_follower(own: Option<keyrack::Lease>, now: Uptime, stale_limit: Duration) -> Option<Granted> {
    let now = Duration::from_micros(now.0);
    let own = own.unwrap_or(keyrack::Lease { heard: now, fresh_until: now + LEASE, trusted_until: now + stale_limit });
    let trusted_until = own.trusted_until.min(own.heard + stale_limit);
    let milliseconds = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let left = |until: Duration| milliseconds(until.min(trusted_until).saturating_sub(now));
    // Rounded against the follower.
    let age = milliseconds(now.saturating_sub(own.heard)) + 1;
    (trusted_until > now).then(|| Granted { age, fresh: left(own.fresh_until), trusted: left(trusted_until) })
}

/// The nodes that may be struck off. Only that shows for certain that they answer nothing: they cannot renew a lease any more without
/// being listed anew. One that is just doing so holds its row, and is not struck off.
pub(super) fn silent_for_too_long(nodes: Vec<Node>) -> impl Iterator<Item = Beat> {
    let others = nodes.into_iter().filter(|node| !node.is_own && node.lease() == Lease::Expired);
    others.map(|node| node.beat)
}

impl Node {
    /// Whether it cannot answer any more as if a change had not been made, `waited` after that was committed: it has the change, or
    /// every lease is over that it may have begun before.
    pub(super) fn is_done_with(&self, seq: i64, waited: Duration) -> bool {
        self.is_own || self.beat.seq >= seq || waited > stale_limit(&self.beat)
    }
}

#[cfg(test)]
mod simulation;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::OsRandom;

    #[test]
    fn the_processes_of_one_key_leave_room_for_those_of_others() {
        let members = Membership::new(Duration::from_secs(60), Path::new("."), &OsRandom);
        let follower = |key, number| Beat { id: format!("follower_{key}_{number}"), ..members.own_beat(1) };
        let mut list: Vec<_> = (1..MOST_FOLLOWERS_OF_A_KEY).map(|number| follower(7, number)).collect();
        members.judge(list.clone(), Uptime(0));
        assert!(members.has_room_for("follower_7_new"));
        list.push(follower(7, 0));
        members.judge(list, Uptime(0));
        assert!(!members.has_room_for("follower_7_new"));
        assert!(members.has_room_for("follower_7_0"), "it is listed");
        assert!(members.has_room_for("follower_77_new") && members.has_room_for("follower_8_new"));
    }

    #[test]
    fn a_node_of_a_list_that_is_lost_is_waited_for_until_it_cannot_answer_any_more() {
        let members = Membership::new(Duration::from_secs(60), Path::new("."), &OsRandom);
        let other = Beat { id: "node_other".to_owned(), seq: 100, ..members.own_beat(7) };
        let second = |seconds: u64| Uptime(seconds * 1_000_000);
        assert!(members.judge(vec![other.clone()], second(0))[0].is_done_with(90, Duration::ZERO));
        members.lose_the_list();
        for judged in [members.judge(Vec::new(), second(62)), members.known(second(62))] {
            let [lost] = judged.as_slice() else { panic!("{judged:?}") };
            let is_done = lost.is_done_with(90, Duration::ZERO);
            assert_eq!((&lost.beat.id, is_done), (&other.id, false), "what it had come to was in another log");
        }
        assert_eq!(members.judge(Vec::new(), second(64)), [], "its lease is over");
        members.judge(vec![other.clone()], second(65));
        members.lose_the_list();
        let listed = members.judge(vec![Beat { beats: 9, ..other }], second(66));
        assert!(listed.len() == 1 && listed[0].is_done_with(90, Duration::ZERO), "it is on the new one");
    }
}
