//! A process of the simulation: a server or a follower, with the parts of the real one that decide.

use std::path::Path;
use std::time::Duration;

use keyrack::{Holder, Index, KeyChange, KeyDigest, KeyId, KeyRecord, Lookup, Now};

use super::super::{Beat, Membership};
use crate::clock::Uptime;
use crate::random::Random;

/// How many keys there are, all of them alive at first.
pub(super) const KEYS: usize = 120;

/// The digest of a key.
fn digest(key: usize) -> KeyDigest {
    let number = (key as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut bytes = [0; KeyDigest::BYTES];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes[8..16].copy_from_slice(&number.rotate_left(32).to_le_bytes());
    KeyDigest::from_bytes(bytes)
}

fn id_of(key: usize) -> KeyId {
    KeyId(i64::try_from(key).unwrap() + 1)
}

/// Names that tell who it is.
struct Numbered(u64);

impl Random for Numbered {
    fn fill(&self, buffer: &mut [u8]) {
        buffer.iter_mut().zip(self.0.to_le_bytes()).for_each(|(to, from)| *to = from);
    }
}

pub(super) struct Process {
    number: u64,
    /// Which life of it this is: what was meant for an earlier one is lost.
    pub(super) life: u64,
    /// The server that it follows, if it is a follower.
    pub(super) follows: Option<usize>,
    pub(super) is_up: bool,
    pub(super) paused_until: u64,
    pub(super) cut_until: u64,
    /// Which heartbeat or question it waits for the answer of.
    pub(super) turn: u64,
    pub(super) members: Membership,
    pub(super) index: Index,
    /// How far in the log it has come.
    pub(super) seq: usize,
    pub(super) stale_limit: Duration,
    /// By how many millionths its clock goes faster or slower.
    drift: i64,
}

impl Process {
    pub(super) fn new(number: u64, follows: Option<usize>, stale_limit: Duration, drift: i64) -> Self {
        let mut new = Self {
            number,
            life: 0,
            follows,
            is_up: true,
            paused_until: 0,
            cut_until: 0,
            turn: 0,
            members: Membership::new(stale_limit, Path::new(""), &Numbered(0)),
            index: Index::with_capacity(0),
            seq: 0,
            stale_limit,
            drift,
        };
        new.begin(&[]);
        new
    }

    /// Begins a life: everything is loaded, and nothing may be answered yet.
    pub(super) fn begin(&mut self, log: &[usize]) {
        self.life += 1;
        self.is_up = true;
        self.members = Membership::new(self.stale_limit, Path::new(""), &Numbered(self.number << 20 | self.life));
        self.index = Index::with_capacity(0);
        self.index.distrust();
        for key in 0..KEYS {
            let record = KeyRecord::new(id_of(key), 1, Holder::Operator);
            self.index.apply(&digest(key), &KeyChange::Put(record)).unwrap();
        }
        self.seq = 0;
        self.apply(log);
        self.index.mark_loaded();
    }

    /// Takes in the log as it was at some time.
    pub(super) fn apply(&mut self, log: &[usize]) {
        for key in log.iter().skip(self.seq) {
            self.index.apply(&digest(*key), &KeyChange::Revoke { id: id_of(*key) }).unwrap();
        }
        self.seq = self.seq.max(log.len());
    }

    /// Its own clock, at a moment of the world.
    pub(super) fn uptime(&self, now: u64) -> Uptime {
        let gone = i64::try_from(now).unwrap();
        let gone = u64::try_from(gone + gone * self.drift / 1_000_000).unwrap();
        Uptime(self.number * 7_000_000 + gone)
    }

    fn moment(&self, now: u64) -> Now {
        Now { boot: Duration::from_micros(self.uptime(now).0), unix_seconds: 0 }
    }

    /// Whether it would let a key pass, were it asked at a moment.
    pub(super) fn lets_pass(&self, key: usize, now: u64) -> bool {
        self.is_up && self.may_answer(now) && matches!(self.index.find(&digest(key)), Ok(Lookup::Live(_)))
    }

    fn may_answer(&self, now: u64) -> bool {
        self.index.is_fit(self.moment(now)).is_ok()
    }

    pub(super) fn is_fresh(&self, now: u64) -> bool {
        self.may_answer(now) && self.index.staleness(self.moment(now)).is_none()
    }

    pub(super) fn beat(&self) -> Beat {
        self.members.own_beat(self.seq.try_into().unwrap())
    }
}
