//! How a store stands, for those who watch: from memory, whatever the database does.

use std::sync::atomic::Ordering;
use std::time::Duration;

use keyrack::Now;

use super::Store;
use super::membership::Lease;

/// How this process stands to what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether it may answer, and whether it is as young as it should be.
    pub lease: Lease,
    /// For how long it has not heard of the store; nothing if the store is its own.
    pub age: Duration,
    /// Keys in memory, those that were revoked since the start included.
    pub keys: usize,
    /// How far the log of changes is in force.
    pub seq: i64,
    /// How often everything was loaded anew.
    pub reloads: u64,
    /// Revocations that the store does not have yet.
    pub waiting: usize,
    /// Whether every key has been loaded.
    pub is_loaded: bool,
}

impl Store {
    /// How this process stands now.
    pub fn standing(&self, now: Now) -> Standing {
        let index = self.verifier.index();
        let lease = match (index.is_fit(now), index.staleness(now)) {
            (Err(_), _) => Lease::Expired,
            (Ok(()), Some(_)) => Lease::Stale,
            (Ok(()), None) => Lease::Fresh,
        };
        Standing {
            lease,
            age: index.age(now),
            keys: index.len(),
            seq: index.position(),
            reloads: self.reloads.load(Ordering::Relaxed),
            waiting: self.journal.open().len(),
            is_loaded: index.is_loaded(),
        }
    }
}
