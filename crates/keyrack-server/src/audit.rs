//! Who did what: entries, and the chain that holds them together. [`Check`] reads both.
//!
//! Each entry carries SHA-256 over itself and the hash before it, so that an entry that was changed, removed or moved
//! shows. The newest hash is authenticated under the root key, so that the chain cannot be written anew either.

mod check;

use serde::Serialize;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

pub use self::check::{Check, Report};
use crate::actor::{Actor, ActorBody};
use crate::canonical::Canonical;
use crate::clock::Timestamp;
use crate::kept::{Kept, Reference, Tenant};

/// The hash before the first entry.
pub const NO_HASH: [u8; 32] = [0; 32];

/// One change, before it has a place in the chain. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Who.
    pub actor: Actor,
    /// What was done, such as `key.create`.
    pub action: String,
    /// To what.
    pub target: Reference,
    /// The version that gave it.
    pub target_version: i64,
    /// The tenant it belongs to.
    pub tenant: Tenant,
    /// JSON of the target before, with values masked.
    pub before: Option<String>,
    /// JSON of the target after, with values masked.
    pub after: Option<String>,
    /// The request that asked for it.
    pub request_id: String,
}

impl Event {
    /// What becomes of a thing; `before` is empty if it is new.
    pub fn of<K: Kept>(before: Option<&K>, after: &K, action: &str, actor: Actor, request_id: &str) -> Self {
        Self {
            actor,
            action: action.to_owned(),
            target: after.reference(),
            target_version: after.version().into(),
            tenant: after.tenant(),
            before: before.map(Kept::describe),
            after: Some(after.describe()),
            request_id: request_id.to_owned(),
        }
    }
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

    /// Whether it is as it was written, behind the entry that had the hash `previous`.
    pub fn is_chained_to(&self, previous: &[u8]) -> bool {
        hash_of(self.seq, self.at, &self.event, previous) == self.hash
    }

    /// Whether it is the one of that number and hash.
    pub fn is_at(&self, seq: i64, hash: &[u8]) -> bool {
        self.seq == seq && self.hash == hash
    }

    /// The entry in the shape of the contract (section 3).
    pub fn body(&self) -> EntryBody<'_> {
        let raw = |json: &Option<String>| json.clone().and_then(|json| RawValue::from_string(json).ok());
        EntryBody {
            id: self.seq,
            at: self.at.to_string(),
            actor: self.event.actor.body(),
            action: &self.event.action,
            target: TargetBody { kind: self.event.target.kind.as_str(), id: self.event.target.id },
            before: raw(&self.event.before),
            after: raw(&self.event.after),
            request_id: &self.event.request_id,
            hash: data_encoding::HEXLOWER.encode(&self.hash),
        }
    }

    /// The entry as one line of JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(&self.body()).expect("an entry is plain data")
    }
}

/// An entry on the wire.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditEvent)]
pub struct EntryBody<'a> {
    /// Its place in the log of the whole installation, from 1.
    #[schema(example = 6)]
    id: i64,
    /// When.
    #[schema(example = "2026-04-28T09:30:00.000Z", format = DateTime)]
    at: String,
    /// Who.
    actor: ActorBody,
    /// What was done.
    #[schema(example = "key.create")]
    action: &'a str,
    /// To what.
    target: TargetBody,
    /// The target before, with values masked; null if it is new.
    #[schema(value_type = Option<Object>)]
    before: Option<Box<RawValue>>,
    /// The target after, with values masked.
    #[schema(value_type = Option<Object>)]
    after: Option<Box<RawValue>>,
    /// The request that asked for it.
    #[schema(example = "req_05GD3T67GRZPCPXQ3RJTMW5VDT")]
    request_id: &'a str,
    /// SHA-256 over the entry and the hash of the one before, of whatever tenant.
    hash: String,
}

/// What was changed, on the wire.
#[derive(Serialize, ToSchema)]
#[schema(as = Target)]
pub struct TargetBody {
    /// `key`, `project`, `organization`, `member` or `policy`.
    #[schema(example = "key")]
    kind: &'static str,
    /// Its number.
    #[schema(example = 4)]
    id: i64,
}

fn hash_of(seq: i64, at: Timestamp, event: &Event, previous: &[u8]) -> Vec<u8> {
    let entry = Canonical::new("audit entry")
        .bytes(previous)
        .int(seq)
        .int(at.0)
        .text(event.actor.kind.as_str())
        .maybe_int(event.actor.id)
        .text(&event.action)
        .text(event.target.kind.as_str())
        .int(event.target.id)
        .int(event.target_version)
        .maybe_int(event.tenant.organization)
        .maybe_int(event.tenant.project)
        .maybe_text(event.before.as_deref())
        .maybe_text(event.after.as_deref())
        .text(&event.request_id);
    Sha256::digest(entry.as_bytes()).to_vec()
}
