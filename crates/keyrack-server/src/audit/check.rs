//! The check of the audit log: is the chain whole, and does what is kept agree with it?

use std::collections::{BTreeMap, BTreeSet};

use super::{Entry, NO_HASH, hash_of};
use crate::kept::{Kept, Kind, Reference};
use crate::store::StoreError;

/// What a check of the audit log found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// How many entries were read.
    pub entries: i64,
    /// How many keys were compared with them.
    pub keys: i64,
    /// What is wrong, first things first; empty if nothing is.
    pub faults: Vec<String>,
    /// Whether every entry is there and as it was written, and there are no rows that others must have made.
    pub is_whole: bool,
    /// What has a row that is older than the log says.
    pub put_back: Vec<Reference>,
    /// What is in the log and has no row that can be used.
    pub gone: Vec<Reference>,
}

/// Reads the chain entry by entry, then every row, and notes what does not fit.
#[derive(Debug)]
pub struct Check {
    seq: i64,
    hash: Vec<u8>,
    keys: i64,
    faults: Vec<String>,
    put_back: Vec<Reference>,
    is_whole: bool,
    /// Newest version of each thing that an entry speaks of; taken out as the rows come.
    newest: BTreeMap<Reference, i64>,
    /// Version of each thing that is kept.
    kept: BTreeMap<Reference, u32>,
    /// What is live.
    live: BTreeSet<Reference>,
    adds_up: bool,
}

impl Default for Check {
    fn default() -> Self {
        Self {
            seq: 0,
            hash: NO_HASH.to_vec(),
            keys: 0,
            faults: Vec::new(),
            put_back: Vec::new(),
            is_whole: true,
            newest: BTreeMap::new(),
            kept: BTreeMap::new(),
            live: BTreeSet::new(),
            adds_up: true,
        }
    }
}

impl Check {
    /// The next entry.
    pub fn entry(&mut self, entry: &Entry) {
        if entry.seq != self.seq + 1 {
            self.faults.push(format!("entry {} is missing or out of place (found {})", self.seq + 1, entry.seq));
        } else if entry.hash != hash_of(entry.seq, entry.at, &entry.event, &self.hash) {
            self.faults.push(format!("entry {} was changed, or the one before it", entry.seq));
        }
        self.seq = entry.seq;
        self.hash.clone_from(&entry.hash);
        let (target, version) = (entry.event.target, entry.event.target_version);
        let before = self.newest.insert(target, version);
        if before.unwrap_or(0) >= version {
            self.faults.push(format!("entry {} gives {target} version {version}, which it had already", entry.seq));
        }
    }

    /// The newest hash as it is kept apart from the entries.
    pub fn head(&mut self, seq: i64, hash: &[u8], authentic: bool) {
        if seq != self.seq || hash != self.hash {
            self.faults.push(format!("the log ends with entry {}, but {seq} entries were written", self.seq));
        }
        if !authentic {
            self.faults.push("the newest hash does not authenticate under the root key".to_owned());
        }
        self.is_whole = self.faults.is_empty();
    }

    /// Whether the live rows add up to the sum that is kept apart from them.
    pub const fn sum(&mut self, adds_up: bool) {
        self.adds_up = adds_up;
    }

    /// A live row, as the start reads it.
    pub fn live<K: Kept>(&mut self, row: &K) {
        let reference = row.reference();
        let is_known = self.kept.get(&reference) == Some(&row.version());
        if !is_known || !self.live.insert(reference) {
            self.put_back.push(reference);
            self.faults.push(format!("{reference} has a live row that does not belong there"));
        }
    }

    /// A row, live or not.
    pub fn row<K: Kept>(&mut self, row: &K) {
        self.keys += i64::from(K::KIND == Kind::Key);
        let (reference, kept) = (row.reference(), row.version());
        let is_first = self.kept.insert(reference, kept).is_none();
        match self.newest.remove(&reference) {
            None if !is_first => self.faults.push(format!("{reference} has more than one row")),
            Some(version) if version == i64::from(kept) => {}
            Some(version) => {
                let is_old = i64::from(kept) < version;
                let what = if is_old { "an old row was put back" } else { "entries of the log are gone" };
                self.put_back.extend(is_old.then_some(reference));
                self.is_whole &= is_old;
                self.faults.push(format!("{reference} is kept at version {kept}, the log ends with {version}: {what}"));
            }
            None => {
                self.is_whole = false;
                self.faults.push(format!("{reference} is kept, but the log has no entry that made it"));
            }
        }
    }

    /// A row that does not authenticate.
    pub fn damaged(&mut self, kind: Kind, error: &StoreError) {
        self.keys += i64::from(kind == Kind::Key);
        self.faults.push(error.to_string());
    }

    /// What was found.
    pub fn report(mut self) -> Report {
        let gone: Vec<_> = self.newest.keys().copied().collect();
        // Damaged rows were not compared and not added, so what is left over, or does not add up, is only a fault of its
        // own if no row is damaged.
        if self.faults.is_empty() {
            self.faults.extend(gone.iter().map(|gone| format!("{gone} is in the log, but its row is gone")));
            let sum = "the live rows do not add up to the sum that was authenticated";
            self.faults.extend((!self.adds_up).then(|| sum.to_owned()));
        }
        Report {
            entries: self.seq,
            keys: self.keys,
            faults: self.faults,
            is_whole: self.is_whole,
            put_back: self.put_back,
            gone,
        }
    }
}

#[cfg(test)]
mod tests {
    use keyrack::{ApiKey, Holder, KeyDigest, KeyId, KeyKind, Permissions, PolicyVersion};

    use super::*;
    use crate::actor::Actor;
    use crate::audit::Event;
    use crate::clock::Timestamp;
    use crate::kept::History;
    use crate::stored_key::StoredKey;

    const KEY: Reference = Reference { kind: Kind::Key, id: 6 };

    fn key(version: u32, revoked: bool) -> StoredKey {
        let value = ApiKey::generate(KeyKind::Operator, &[1; ApiKey::RANDOM_BYTES]);
        StoredKey {
            id: KeyId(6),
            version,
            holder: Holder::Operator,
            permissions: Permissions::default(),
            limits: Vec::new(),
            reach: PolicyVersion(0),
            is_system: false,
            name: "key".to_owned(),
            description: None,
            mask: value.mask(),
            digest: KeyDigest::of(&value),
            history: History::begun(Actor::HOST, Timestamp(0)),
            revoked_at: revoked.then_some(Timestamp(1)),
        }
    }

    /// A log of one key that reached these versions, one entry each.
    fn log(versions: &[u32]) -> Check {
        let mut check = Check::default();
        for (seq, version) in (1..).zip(versions) {
            let event = Event::of(None, &key(*version, false), "key.update", Actor::HOST, "test");
            let entry = Entry::chained(seq, Timestamp(0), event, &check.hash);
            check.entry(&entry);
        }
        let (seq, hash) = (check.seq, check.hash.clone());
        check.head(seq, &hash, true);
        check
    }

    #[test]
    fn a_row_that_only_the_start_would_see_is_found() {
        let mut check = log(&[1, 2]);
        check.row(&key(2, true));
        check.live(&key(1, false));
        check.sum(false);
        let report = check.report();
        assert_eq!(report.put_back, [KEY]);
        assert_eq!(report.faults, ["key 6 has a live row that does not belong there"]);
    }

    #[test]
    fn one_live_row_twice_is_found() {
        let mut check = log(&[1]);
        check.row(&key(1, false));
        check.live(&key(1, false));
        check.live(&key(1, false));
        assert_eq!(check.report().put_back, [KEY]);
    }

    #[test]
    fn a_version_that_a_key_had_already_makes_the_log_no_evidence() {
        assert!(log(&[1, 2]).report().is_whole);
        assert!(!log(&[1, 2, 2]).report().is_whole);
        assert!(!log(&[1, 2, 1]).report().is_whole);
    }
}
