//! One key in one cache line, and how it is read while it is being changed.

use super::grants::{Grant, Standing};
use super::sync::{AtomicU64, Ordering, fence};
use crate::{Holder, KeyId, KeyRecord, OrganizationId, ProjectId};

/// One key: eight words of a cache line, nothing in them variable in length.
///
/// The upper half of the digest's first word is not in it: the entry that leads here has that.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'t>(&'t [AtomicU64; WORDS]);

/// Words of a record.
pub(super) const WORDS: usize = 8;

/// The low half of the digest's first word, written once; above it when the key last passed, in seconds since 1970 (their low 16
/// bits), and by which rule (above them).
const DIGEST_LOW_AND_LAST_USE: usize = 0;
/// The digest's second word. Written once.
const DIGEST_REST: usize = 1;
/// The key's number, and above it the number of its first line of cells, if it has one. Written once each.
const ID_AND_LINE: usize = 2;
/// Project in the upper half, organization in the lower. Written once.
const OWNER: usize = 3;
/// All that decides and may change: version in the upper half, below it the slot of its grant, and in the lowest two bits whether
/// it is live. One word, so that a reader sees a key either before a change or after it.
const FACTS: usize = 4;
/// Of its first limit; further ones are in its line.
const CELL: usize = 5;
/// Uses since they were last collected: those that passed, and above them those that were forbidden.
const PASSED_AND_FORBIDDEN: usize = 6;
/// Those beyond a rate, and above them those beyond a quota.
const LIMITED_AND_EXCEEDED: usize = 7;

/// A record names 2⁴⁰ keys, and 2²⁴ lines of cells.
const ID_BITS: u32 = 40;
const MOST_ID: u64 = (1 << ID_BITS) - 1;

const LIVE: u64 = 1;
const DEAD: u64 = 2;
const SLOT_BITS: u32 = 30;

impl<'t> Record<'t> {
    pub(super) const fn new(words: &'t [AtomicU64; WORDS]) -> Self {
        Self(words)
    }

    /// The cell of its first limit.
    #[inline]
    pub(super) const fn cell(self) -> &'t AtomicU64 {
        &self.0[CELL]
    }

    /// Uses since they were last collected: those that passed, and above them those that were forbidden.
    #[inline]
    pub(super) const fn passed_and_forbidden(self) -> &'t AtomicU64 {
        &self.0[PASSED_AND_FORBIDDEN]
    }

    /// Those beyond a rate, and above them those beyond a quota.
    #[inline]
    pub(super) const fn limited_and_exceeded(self) -> &'t AtomicU64 {
        &self.0[LIMITED_AND_EXCEEDED]
    }

    /// When the key last passed, and by which rule.
    pub(super) fn last_use(self) -> u32 {
        upper(self.0[DIGEST_LOW_AND_LAST_USE].load(Ordering::Relaxed))
    }

    /// Notes when the key last passed, and by which rule. Of two who do so at once, one holds.
    #[inline]
    pub(super) fn set_last_use(self, last_use: u32) {
        let word = &self.0[DIGEST_LOW_AND_LAST_USE];
        let digest_low = word.load(Ordering::Relaxed) & u64::from(u32::MAX);
        word.store(digest_low | u64::from(last_use) << 32, Ordering::Relaxed);
    }

    /// Whether it is that digest's, given that the entry that led here has its upper half of the first word.
    #[inline]
    pub(super) fn is_of(self, words: [u64; 2]) -> bool {
        // Both at once: where two digests differ is nothing a caller can use, and nothing that is shown.
        let low = u64::from(self.digest_low() ^ lower(words[0]));
        low | (self.0[DIGEST_REST].load(Ordering::Relaxed) ^ words[1]) == 0
    }

    /// The low half of the digest's first word.
    pub(super) fn digest_low(self) -> u32 {
        lower(self.0[DIGEST_LOW_AND_LAST_USE].load(Ordering::Relaxed))
    }

    /// What it is found by, given the upper half of the first word.
    pub(super) fn words(self, upper_half: u32) -> [u64; 2] {
        let first = u64::from(upper_half) << 32 | u64::from(self.digest_low());
        [first, self.0[DIGEST_REST].load(Ordering::Relaxed)]
    }

    /// Makes an unused record that of a key. Nobody can find it yet.
    pub(super) fn fill(self, words: [u64; 2], id: KeyId, holder: Option<Holder>) {
        self.0[DIGEST_LOW_AND_LAST_USE].store(lower(words[0]).into(), Ordering::Relaxed);
        self.0[DIGEST_REST].store(words[1], Ordering::Relaxed);
        self.0[ID_AND_LINE].store(id.0.cast_unsigned() & MOST_ID, Ordering::Relaxed);
        self.0[OWNER].store(holder.map_or(0, owner_of), Ordering::Relaxed);
        self.0[FACTS].store(DEAD, Ordering::Release);
    }

    /// The key's number.
    pub(super) fn id(self) -> KeyId {
        KeyId((self.0[ID_AND_LINE].load(Ordering::Relaxed) & MOST_ID).cast_signed())
    }

    /// Whether a number has room in a record.
    pub(super) const fn has_room_for(id: KeyId) -> bool {
        id.0 >= 0 && id.0.cast_unsigned() <= MOST_ID
    }

    /// The number of its first line of cells, if it has one.
    pub(super) fn line(self) -> Option<usize> {
        let above = (self.0[ID_AND_LINE].load(Ordering::Relaxed) >> ID_BITS) as usize;
        above.checked_sub(1)
    }

    /// Gives it a line of cells; false if the number has no room.
    pub(super) fn set_line(self, line: usize) -> bool {
        let above = (line as u64 + 1) << ID_BITS;
        let fits = above >> ID_BITS == line as u64 + 1;
        if fits {
            self.0[ID_AND_LINE].store(self.id().0.cast_unsigned() | above, Ordering::Relaxed);
        }
        fits
    }

    /// Whether it is that owner's.
    pub(super) fn is_owned_as(self, holder: Holder) -> bool {
        self.0[OWNER].load(Ordering::Relaxed) == owner_of(holder)
    }

    /// The project it belongs to, if it is a project's key.
    pub(super) fn project(self) -> Option<ProjectId> {
        let project = upper(self.0[OWNER].load(Ordering::Relaxed));
        (project > 0).then_some(ProjectId(project))
    }

    /// The organization it belongs to; 0 for an operator's key.
    pub(super) fn organization(self) -> OrganizationId {
        OrganizationId(lower(self.0[OWNER].load(Ordering::Relaxed)))
    }

    /// Makes it live, in that version, with the grant of a slot.
    pub(super) fn set_live(self, version: u32, slot: u32) {
        self.0[FACTS].store(u64::from(version) << 32 | u64::from(slot) << 2 | LIVE, Ordering::Release);
    }

    /// Makes it dead, for ever.
    pub(super) fn set_dead(self) {
        self.0[FACTS].store(DEAD, Ordering::Release);
    }

    /// Version and slot of a live key. For who applies changes.
    pub(super) fn version_and_slot(self) -> Option<(u32, u32)> {
        live_facts(self.0[FACTS].load(Ordering::Relaxed))
    }

    /// The version of a live key, and what `look` finds in the slot of its grant while that is the key's; nothing if the key is dead.
    #[inline]
    pub(super) fn read<T>(self, look: impl Fn(u32) -> Option<T>) -> Option<(u32, T)> {
        loop {
            let facts = self.0[FACTS].load(Ordering::Acquire);
            let (version, slot) = live_facts(facts)?;
            let seen = look(slot);
            // If the slot was given to others meanwhile, the record names another one by now; see `Grants`.
            fence(Ordering::Acquire);
            if self.0[FACTS].load(Ordering::Relaxed) == facts {
                return seen.map(|seen| (version, seen));
            }
        }
    }

    /// Whom it speaks for, with that standing.
    pub(super) fn holder(self, standing: Standing) -> Holder {
        let owner = self.0[OWNER].load(Ordering::Relaxed);
        let (project, organization) = (ProjectId(upper(owner)), OrganizationId(lower(owner)));
        match standing {
            Standing::Project { kind, scope, role } => Holder::Project { project, organization, kind, scope, role },
            Standing::Organization { role } => Holder::Organization { organization, role },
            Standing::Operator => Holder::Operator,
            Standing::Follower => Holder::Follower,
        }
    }

    /// All of it, as it was put in.
    pub(super) fn whole(self, version: u32, grant: &Grant) -> KeyRecord {
        KeyRecord {
            id: self.id(),
            version,
            holder: self.holder(grant.standing),
            reach: grant.reach,
            permissions: grant.permissions.clone(),
            limits: grant.limits.clone(),
            is_system: grant.is_system,
        }
    }
}

#[inline]
const fn live_facts(facts: u64) -> Option<(u32, u32)> {
    let slot = lower(facts) >> (32 - SLOT_BITS);
    if facts & 3 == LIVE { Some((upper(facts), slot)) } else { None }
}

pub(super) const fn upper(word: u64) -> u32 {
    (word >> 32) as u32
}

#[expect(clippy::cast_possible_truncation, reason = "the other half is what `upper` gives")]
pub(super) const fn lower(word: u64) -> u32 {
    word as u32
}

fn owner_of(holder: Holder) -> u64 {
    match holder {
        Holder::Project { project, organization, .. } => u64::from(project.0) << 32 | u64::from(organization.0),
        Holder::Organization { organization, .. } => u64::from(organization.0),
        Holder::Operator | Holder::Follower => 0,
    }
}
