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
use crate::kept::{Kept, Kind, Reference, Tenant};

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

    /// What it says, in the words of the log.
    pub fn words(&self) -> Words<'_> {
        Words {
            actor: (self.actor.kind.as_str(), self.actor.id),
            action: &self.action,
            target: (self.target.kind.as_str(), self.target.id),
            target_version: self.target_version,
            tenant: self.tenant,
            change: (self.before.as_deref(), self.after.as_deref()),
            request_id: &self.request_id,
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

/// What an entry says, in the words of the log: a newer program may have words there that this one does not know.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a> {
    /// What kind of credential did it, and the number of the key if it is one.
    pub actor: (&'a str, Option<i64>),
    /// What was done.
    pub action: &'a str,
    /// To what kind of thing, and its number.
    pub target: (&'a str, i64),
    /// The version that gave it.
    pub target_version: i64,
    /// The tenant it belongs to.
    pub tenant: Tenant,
    /// The target before and after.
    pub change: (Option<&'a str>, Option<&'a str>),
    /// The request that asked for it.
    pub request_id: &'a str,
}

/// An entry as far as the log is followed by it.
#[derive(Clone, Debug)]
pub struct Link {
    /// Its place.
    pub seq: i64,
    /// What was changed, if it is of a kind that this program knows.
    pub target: Option<Reference>,
    /// Its hash.
    pub hash: Vec<u8>,
    covered: Canonical,
}

impl Link {
    /// An entry by what it says.
    pub fn of(seq: i64, at: Timestamp, words: &Words<'_>, hash: Vec<u8>) -> Self {
        let (kind, id) = words.target;
        let target = Kind::of_word(kind).map(|kind| Reference { kind, id });
        Self { seq, target, hash, covered: covered(seq, at, words) }
    }

    /// Whether it is as it was written, behind the entry that had the hash `previous`.
    pub fn is_chained_to(&self, previous: &[u8]) -> bool {
        hash_behind(previous, &self.covered) == self.hash
    }
}

/// All that the hash of an entry is over, but the one before.
fn covered(seq: i64, at: Timestamp, words: &Words<'_>) -> Canonical {
    let Words { actor, action, target, target_version, tenant, change: (before, after), request_id } = *words;
    Canonical::default()
        .int(seq)
        .int(at.0)
        .text(actor.0)
        .maybe_int(actor.1)
        .text(action)
        .text(target.0)
        .int(target.1)
        .int(target_version)
        .maybe_int(tenant.organization)
        .maybe_int(tenant.project)
        .maybe_text(before)
        .maybe_text(after)
        .text(request_id)
}

fn hash_behind(previous: &[u8], covered: &Canonical) -> Vec<u8> {
    let begin = Canonical::new("audit entry").bytes(previous);
    Sha256::new().chain_update(begin.as_bytes()).chain_update(covered.as_bytes()).finalize().to_vec()
}

fn hash_of(seq: i64, at: Timestamp, event: &Event, previous: &[u8]) -> Vec<u8> {
    hash_behind(previous, &covered(seq, at, &event.words()))
}
