//! Who did what: entries, the chain that holds them together, and the check of both.
//!
//! Each entry carries SHA-256 over itself and the hash before it, so that an entry that was changed, removed or moved
//! shows. The newest hash is authenticated under the root key, so that the chain cannot be written anew either.

use std::collections::{BTreeMap, BTreeSet};

use keyrack::{Holder, KeyId, OrganizationId, ProjectId};
use serde::Serialize;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use crate::canonical::Canonical;
use crate::clock::Timestamp;
use crate::store::StoreError;
use crate::stored_key::StoredKey;

/// The hash before the first entry.
pub const NO_HASH: [u8; 32] = [0; 32];

/// Who made a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// `secret_key` for a caller, `host` for a command on the machine itself.
    pub kind: String,
    /// The number of the caller's key.
    pub id: Option<i64>,
}

impl Actor {
    /// A command on the machine itself.
    pub fn host() -> Self {
        Self { kind: "host".to_owned(), id: None }
    }

    /// A caller with a project's secret key.
    pub fn secret_key(id: KeyId) -> Self {
        Self { kind: "secret_key".to_owned(), id: Some(id.0) }
    }
}

/// What was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `key`, `project`, `organization`.
    pub kind: String,
    /// Its number.
    pub id: i64,
    /// The version the change gave it.
    pub version: i64,
}

/// One change, before it has a place in the chain. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Who.
    pub actor: Actor,
    /// What was done, such as `key.create`.
    pub action: String,
    /// To what.
    pub target: Target,
    /// The tenant it belongs to.
    pub organization: Option<i64>,
    /// The project it belongs to.
    pub project: Option<i64>,
    /// JSON of the target before, with the value masked.
    pub before: Option<String>,
    /// JSON of the target after, with the value masked.
    pub after: Option<String>,
    /// The request that asked for it.
    pub request_id: String,
}

/// One entry of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place, from 1; the number of the change.
    pub seq: i64,
    /// When.
    pub at: Timestamp,
    /// What.
    pub event: Event,
    /// SHA-256 over all of it and the hash before.
    pub hash: Vec<u8>,
}

impl Entry {
    /// Puts an event in its place behind `previous`.
    pub fn chained(seq: i64, at: Timestamp, event: Event, previous: &[u8]) -> Self {
        let hash = hash_of(seq, at, &event, previous);
        Self { seq, at, event, hash }
    }

    /// The entry as one line of JSON, in the shape of the contract (section 3).
    pub fn to_json(&self) -> String {
        let raw = |json: &Option<String>| json.clone().and_then(|json| RawValue::from_string(json).ok());
        let line = EntryLine {
            id: self.seq,
            at: self.at.to_string(),
            actor: NumberedLine { kind: &self.event.actor.kind, id: self.event.actor.id },
            action: &self.event.action,
            target: NumberedLine { kind: &self.event.target.kind, id: Some(self.event.target.id) },
            before: raw(&self.event.before),
            after: raw(&self.event.after),
            request_id: &self.event.request_id,
            hash: data_encoding::HEXLOWER.encode(&self.hash),
        };
        serde_json::to_string(&line).expect("an entry is plain data")
    }
}

#[derive(Serialize)]
struct EntryLine<'a> {
    id: i64,
    at: String,
    actor: NumberedLine<'a>,
    action: &'a str,
    target: NumberedLine<'a>,
    before: Option<Box<RawValue>>,
    after: Option<Box<RawValue>>,
    request_id: &'a str,
    hash: String,
}

#[derive(Serialize)]
struct NumberedLine<'a> {
    kind: &'a str,
    id: Option<i64>,
}

/// The tenant a holder's keys belong to.
pub fn tenant_of(holder: Holder) -> (Option<OrganizationId>, Option<ProjectId>) {
    match holder {
        Holder::Project { project, organization, .. } => (Some(organization), Some(project)),
        Holder::Organization { organization, .. } => (Some(organization), None),
        Holder::Operator => (None, None),
    }
}

/// What an entry says of a key: all but digest, value and the times it shares with its entries.
pub fn describe(key: &StoredKey) -> String {
    let (scope, role) = match key.holder {
        Holder::Project { scope, role, .. } => (Some(scope.as_str()), Some(role.as_str())),
        Holder::Organization { role, .. } => (None, Some(role.as_str())),
        Holder::Operator => (None, None),
    };
    let described = Described {
        name: &key.name,
        scope,
        role,
        value: key.mask.as_str(),
        description: key.description.as_deref(),
        is_system_key: key.is_system,
        revoked_at: key.revoked_at.map(|at| at.to_string()),
    };
    serde_json::to_string(&described).expect("a key is plain data")
}

#[derive(Serialize)]
struct Described<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    value: &'a str,
    description: Option<&'a str>,
    is_system_key: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_at: Option<String>,
}

fn hash_of(seq: i64, at: Timestamp, event: &Event, previous: &[u8]) -> Vec<u8> {
    let entry = Canonical::new("audit entry")
        .bytes(previous)
        .int(seq)
        .int(at.0)
        .text(&event.actor.kind)
        .maybe_int(event.actor.id)
        .text(&event.action)
        .text(&event.target.kind)
        .int(event.target.id)
        .int(event.target.version)
        .maybe_int(event.organization)
        .maybe_int(event.project)
        .maybe_text(event.before.as_deref())
        .maybe_text(event.after.as_deref())
        .text(&event.request_id);
    Sha256::digest(entry.as_bytes()).to_vec()
}

/// What a check of the audit log found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// How many entries were read.
    pub entries: i64,
    /// How many keys were compared with them.
    pub keys: i64,
    /// What is wrong, first things first; empty if nothing is.
    pub faults: Vec<String>,
    /// Whether every entry is there and as it was written.
    pub is_whole: bool,
    /// Keys whose rows are older than the log says.
    pub put_back: Vec<KeyId>,
    /// Keys that are in the log and have no row that can be used.
    pub gone: Vec<KeyId>,
}

/// Reads the chain entry by entry, then every key, and notes what does not fit.
#[derive(Debug)]
pub struct Check {
    seq: i64,
    hash: Vec<u8>,
    keys: i64,
    faults: Vec<String>,
    put_back: Vec<KeyId>,
    is_whole: bool,
    /// Newest version of each key that an entry speaks of; taken out as the rows come.
    newest: BTreeMap<i64, i64>,
    /// Version of each key that is kept.
    kept: BTreeMap<i64, u32>,
    /// Keys that are live.
    live: BTreeSet<i64>,
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
        if entry.event.target.kind == "key" {
            let Target { id, version, .. } = entry.event.target;
            let before = self.newest.insert(id, version);
            if before.unwrap_or(0) >= version {
                self.faults.push(format!("entry {} gives key {id} version {version}, which it had already", entry.seq));
            }
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

    /// Whether the keys add up to the sum that is kept apart from them; asked last.
    pub fn sum(&mut self, adds_up: bool) {
        if !adds_up && self.faults.is_empty() {
            self.faults.push("the live keys do not add up to the sum that was authenticated".to_owned());
        }
    }

    /// A live key, as the start reads it.
    pub fn live(&mut self, key: &StoredKey) {
        let id = key.id.0;
        let is_known = self.kept.get(&id) == Some(&key.version);
        if !is_known || !self.live.insert(id) {
            self.put_back.push(key.id);
            self.faults.push(format!("key {id} has a live row that does not belong there"));
        }
    }

    /// A key, as it is kept.
    pub fn key(&mut self, key: &StoredKey) {
        self.keys += 1;
        let is_first = self.kept.insert(key.id.0, key.version).is_none();
        match self.newest.remove(&key.id.0) {
            None if !is_first => self.faults.push(format!("key {} has more than one row", key.id)),
            Some(version) if version == i64::from(key.version) => {}
            Some(version) => {
                let is_old = i64::from(key.version) < version;
                let what = if is_old { "an old row was put back" } else { "entries of the log are gone" };
                let (id, kept) = (key.id, key.version);
                self.put_back.extend(is_old.then_some(id));
                self.faults.push(format!("key {id} is kept at version {kept}, the log ends with {version}: {what}"));
            }
            None => self.faults.push(format!("key {} is kept, but the log has no entry that made it", key.id)),
        }
    }

    /// A key that does not authenticate.
    pub fn damaged(&mut self, error: &StoreError) {
        self.keys += 1;
        self.faults.push(error.to_string());
    }

    /// What was found.
    pub fn report(mut self) -> Report {
        let gone: Vec<_> = self.newest.keys().map(|id| KeyId(*id)).collect();
        // Damaged rows were not compared, so a key that is left over is only a fault of its own if no row is damaged.
        if self.faults.is_empty() {
            self.faults.extend(gone.iter().map(|id| format!("key {id} is in the log, but its row is gone")));
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
    use keyrack::{ApiKey, KeyDigest, KeyKind};

    use super::*;

    fn key(version: u32, revoked: bool) -> StoredKey {
        let value = ApiKey::generate(KeyKind::Operator, &[1; ApiKey::RANDOM_BYTES]);
        StoredKey {
            id: KeyId(6),
            version,
            holder: Holder::Operator,
            is_system: false,
            name: "key".to_owned(),
            description: None,
            mask: value.mask(),
            digest: KeyDigest::of(&value),
            created_at: Timestamp(0),
            updated_at: Timestamp(0),
            revoked_at: revoked.then_some(Timestamp(1)),
        }
    }

    /// A log of one key that reached these versions, one entry each.
    fn log(versions: &[i64]) -> Check {
        let mut check = Check::default();
        for (seq, version) in (1..).zip(versions) {
            let event = Event {
                actor: Actor::host(),
                action: "key.update".to_owned(),
                target: Target { kind: "key".to_owned(), id: 6, version: *version },
                organization: None,
                project: None,
                before: None,
                after: None,
                request_id: "test".to_owned(),
            };
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
        check.key(&key(2, true));
        check.live(&key(1, false));
        check.sum(false);
        let report = check.report();
        assert_eq!(report.put_back, [KeyId(6)]);
        assert_eq!(report.faults, ["key 6 has a live row that does not belong there"]);
    }

    #[test]
    fn one_live_row_twice_is_found() {
        let mut check = log(&[1]);
        check.key(&key(1, false));
        check.live(&key(1, false));
        check.live(&key(1, false));
        assert_eq!(check.report().put_back, [KeyId(6)]);
    }

    #[test]
    fn a_version_that_a_key_had_already_makes_the_log_no_evidence() {
        assert!(log(&[1, 2]).report().is_whole);
        assert!(!log(&[1, 2, 2]).report().is_whole);
        assert!(!log(&[1, 2, 1]).report().is_whole);
    }
}
