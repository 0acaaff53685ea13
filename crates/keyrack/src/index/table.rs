//! The packed table and the records behind it.
#![expect(clippy::indexing_slicing, reason = "positions are masked to the table, numbers come from its own entries")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::{ApplyError, KeyChange, Lookup};
use crate::{Holder, KeyId, KeyKind, KeyRecord, OrganizationId, OrganizationRole, ProjectId, ProjectRole, Scope};

/// Records are allocated this many at a time: 1 MiB.
const CHUNK_RECORDS: usize = 1 << 14;
const SMALLEST_TABLE: usize = 64;

/// Entries and records as readers see them. Cloning shares both; growing shares the records and lays out new entries.
#[derive(Clone, Debug)]
pub(super) struct Table {
    /// A power of two of them. 0 is empty; otherwise the upper half is the tag, the lower half the record's number + 1.
    entries: Arc<[AtomicU64]>,
    /// Records in order of their numbers, [`CHUNK_RECORDS`] to a chunk.
    chunks: Vec<Arc<[Record]>>,
    used: Arc<AtomicU32>,
    /// Suspended organizations, sorted. Few, so that a search in them costs less than a mark on each of their keys.
    suspended: Arc<[OrganizationId]>,
}

impl Table {
    pub(super) fn with_capacity(keys: usize) -> Self {
        let entries = keys.saturating_mul(4).div_ceil(3).next_power_of_two().max(SMALLEST_TABLE);
        let chunks = (0..keys.div_ceil(CHUNK_RECORDS)).map(|_| chunk()).collect();
        Self { entries: zeroed(entries), chunks, used: Arc::default(), suspended: Arc::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.used.load(Ordering::Relaxed) as usize
    }

    /// What is known of a digest.
    pub(super) fn find(&self, words: [u64; 2]) -> Lookup {
        match self.record_of(words).map(Record::read) {
            None => Lookup::Absent,
            Some(Lookup::Live(record)) if self.is_suspended(record.holder) => Lookup::Suspended(record),
            Some(known) => known,
        }
    }

    pub(super) fn record_of(&self, words: [u64; 2]) -> Option<&Record> {
        let tag = words[0] >> 32;
        for position in self.probe(words[0]) {
            // Pairs with the store in `insert`: who sees the entry sees the record it points at.
            let entry = self.entries[position].load(Ordering::Acquire);
            if entry == 0 {
                return None;
            }
            if entry >> 32 == tag {
                let record = self.record(entry);
                if record.is_of(words) {
                    return Some(record);
                }
            }
        }
        None
    }

    /// Adds a key that [`Table::find`] does not find. False if there is no room left; nothing is changed then.
    ///
    /// Only one thread at a time may insert.
    pub(super) fn insert(&self, words: [u64; 2], change: &KeyChange) -> Result<bool, ApplyError> {
        let number = self.len();
        let room_in_entries = (number + 1) * 4 <= self.entries.len() * 3;
        if !room_in_entries || number >= self.chunks.len() * CHUNK_RECORDS {
            return Ok(false);
        }
        let next = u32::try_from(number + 1).map_err(|_beyond_32_bits| ApplyError::Full)?;
        self.chunks[number / CHUNK_RECORDS][number % CHUNK_RECORDS].fill(words, change);
        self.publish(words[0], u64::from(next));
        self.used.store(next, Ordering::Relaxed);
        Ok(true)
    }

    /// Marks every live key that `is_it` picks dead. Only one thread at a time may call it.
    pub(super) fn revoke_where(&self, is_it: impl Fn(&KeyRecord) -> bool) -> usize {
        let used = self.chunks.iter().flat_map(|chunk| chunk.iter()).take(self.len());
        let picked = used.filter(|record| matches!(record.read(), Lookup::Live(live) if is_it(&live)));
        picked.map(|record| record.facts.store(DEAD, Ordering::Release)).count()
    }

    /// The same keys, with one more organization suspended.
    pub(super) fn with_suspended(&self, organization: OrganizationId) -> Self {
        let mut suspended: Vec<_> = self.without_suspended(organization).suspended.to_vec();
        suspended.push(organization);
        suspended.sort_unstable();
        Self { suspended: suspended.into(), ..self.clone() }
    }

    /// The same keys, with that organization not suspended.
    pub(super) fn without_suspended(&self, organization: OrganizationId) -> Self {
        let others = self.suspended.iter().copied().filter(|known| *known != organization);
        Self { suspended: others.collect(), ..self.clone() }
    }

    fn is_suspended(&self, holder: Holder) -> bool {
        match holder {
            Holder::Project { organization, .. } | Holder::Organization { organization, .. } => {
                self.suspended.binary_search(&organization).is_ok()
            }
            Holder::Operator => false,
        }
    }

    /// The same keys with more room. Readers of the old table go on undisturbed: the records are shared.
    pub(super) fn grown(&self) -> Self {
        let mut grown = self.clone();
        if grown.len() >= grown.chunks.len() * CHUNK_RECORDS {
            grown.chunks.push(chunk());
        }
        if (grown.len() + 1) * 4 > grown.entries.len() * 3 {
            grown.entries = zeroed(self.entries.len() * 2);
            for number in 1..=u64::from(self.used.load(Ordering::Relaxed)) {
                grown.publish(self.record(number).digest[0].load(Ordering::Relaxed), number);
            }
        }
        grown
    }

    fn publish(&self, first_word: u64, number_plus_one: u64) {
        let entry = first_word >> 32 << 32 | number_plus_one;
        let free = self.probe(first_word).find(|position| self.entries[*position].load(Ordering::Relaxed) == 0);
        self.entries[free.expect("a quarter of the entries is kept free")].store(entry, Ordering::Release);
    }

    /// Every position, beginning where the digest says. Digests are SHA-256, so their low bits need no further mixing.
    fn probe(&self, first_word: u64) -> impl Iterator<Item = usize> + use<> {
        let mask = self.entries.len() - 1;
        // The upper half is the tag's.
        let start = lower(first_word) as usize;
        (0..=mask).map(move |step| start.wrapping_add(step) & mask)
    }

    fn record(&self, entry: u64) -> &Record {
        let number = lower(entry) as usize - 1;
        &self.chunks[number / CHUNK_RECORDS][number % CHUNK_RECORDS]
    }
}

fn zeroed(entries: usize) -> Arc<[AtomicU64]> {
    (0..entries).map(|_| AtomicU64::new(0)).collect()
}

fn chunk() -> Arc<[Record]> {
    (0..CHUNK_RECORDS).map(|_| Record::default()).collect()
}

/// One key, in one cache line. Nothing in it is variable in length.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct Record {
    /// The first 16 bytes of the digest. Written once, before the record can be found.
    digest: [AtomicU64; 2],
    /// The key's number. Written once.
    id: AtomicU64,
    /// Project in the upper half, organization in the lower. Written once.
    owner: AtomicU64,
    /// All that decides and may change, see [`facts_of`].
    facts: AtomicU64,
    /// Room for expiry, limit cell and use counter.
    _room: [AtomicU64; 3],
}

/// `facts`: version in the upper half; below it kind, scope and role, a byte each; the lowest byte says live or dead.
const LIVE: u64 = 1;
const DEAD: u64 = 2;

impl Record {
    fn is_of(&self, words: [u64; 2]) -> bool {
        // Both words at once: where two digests differ is nothing a caller can use, and nothing that is shown.
        let differing =
            (self.digest[0].load(Ordering::Relaxed) ^ words[0]) | (self.digest[1].load(Ordering::Relaxed) ^ words[1]);
        differing == 0
    }

    fn fill(&self, words: [u64; 2], change: &KeyChange) {
        self.digest[0].store(words[0], Ordering::Relaxed);
        self.digest[1].store(words[1], Ordering::Relaxed);
        let (id, owner, facts) = match change {
            KeyChange::Put(record) => (record.id, owner_of(record.holder), facts_of(record)),
            KeyChange::Revoke { id } => (*id, 0, DEAD),
        };
        self.id.store(id.0.cast_unsigned(), Ordering::Relaxed);
        self.owner.store(owner, Ordering::Relaxed);
        self.facts.store(facts, Ordering::Release);
    }

    /// Applies a change to the key the record already stands for. Only one thread at a time may call it.
    pub(super) fn change(&self, change: &KeyChange) -> Result<(), ApplyError> {
        let facts = self.facts.load(Ordering::Relaxed);
        match change {
            KeyChange::Revoke { .. } => self.facts.store(DEAD, Ordering::Release),
            KeyChange::Put(_) if facts == DEAD => {}
            KeyChange::Put(record) => {
                let known = KeyId(self.id.load(Ordering::Relaxed).cast_signed());
                let next = facts_of(record);
                let same_owner = self.owner.load(Ordering::Relaxed) == owner_of(record.holder);
                if known != record.id || !same_owner || kind_byte(facts) != kind_byte(next) {
                    return Err(ApplyError::IdentityChanged { known, claimed: record.id });
                }
                if next >> 32 > facts >> 32 {
                    self.facts.store(next, Ordering::Release);
                }
            }
        }
        Ok(())
    }

    /// Live or dead; of its organization it knows nothing.
    fn read(&self) -> Lookup {
        let facts = self.facts.load(Ordering::Acquire);
        let owner = self.owner.load(Ordering::Relaxed);
        let id = KeyId(self.id.load(Ordering::Relaxed).cast_signed());
        // `facts` is only ever written by `facts_of`; should it not decode all the same, the key is not let through.
        match (facts & 0xff == LIVE).then(|| holder_of(facts, owner)).flatten() {
            Some(holder) => Lookup::Live(KeyRecord { id, version: upper(facts), holder }),
            None => Lookup::Dead(id),
        }
    }
}

const fn upper(word: u64) -> u32 {
    (word >> 32) as u32
}

#[expect(clippy::cast_possible_truncation, reason = "the other half is what `upper` gives")]
const fn lower(word: u64) -> u32 {
    word as u32
}

const fn kind_byte(facts: u64) -> u8 {
    let [_, _, _, kind, ..] = facts.to_le_bytes();
    kind
}

fn facts_of(record: &KeyRecord) -> u64 {
    let (kind, scope, role) = match record.holder {
        Holder::Project { kind, scope, role, .. } => (kind, scope.position(), role.position()),
        Holder::Organization { role, .. } => (KeyKind::Organization, 0, role.position()),
        Holder::Operator => (KeyKind::Operator, 0, 0),
    };
    u64::from(record.version) << 32 | (kind as u64) << 24 | u64::from(scope) << 16 | u64::from(role) << 8 | LIVE
}

fn owner_of(holder: Holder) -> u64 {
    match holder {
        Holder::Project { project, organization, .. } => u64::from(project.0) << 32 | u64::from(organization.0),
        Holder::Organization { organization, .. } => u64::from(organization.0),
        Holder::Operator => 0,
    }
}

fn holder_of(facts: u64, owner: u64) -> Option<Holder> {
    let kind = KeyKind::ALL.into_iter().find(|kind| *kind as u64 == u64::from(kind_byte(facts)))?;
    let [_, role, scope, ..] = facts.to_le_bytes();
    let organization = OrganizationId(lower(owner));
    Some(match kind {
        KeyKind::Secret | KeyKind::Publishable => Holder::Project {
            project: ProjectId(upper(owner)),
            organization,
            kind,
            scope: Scope::from_position(scope)?,
            role: ProjectRole::from_position(role)?,
        },
        KeyKind::Organization => Holder::Organization { organization, role: OrganizationRole::from_position(role)? },
        KeyKind::Operator => Holder::Operator,
    })
}
