//! What was counted and is not written yet.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use keyrack::{KeyId, ProjectId, QuotaCount, Uses};

use crate::clock::Timestamp;

/// Hours that are kept apart for one key while nothing can be written; then the oldest two become one. So what is pending
/// is bounded by the keys in use, however long the store is away.
const MOST_HOURS: usize = 25;

/// How often keys were used, by what became of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Let pass.
    pub valid: u64,
    /// Not reaching far enough.
    pub forbidden: u64,
    /// Beyond a rate.
    pub rate_limited: u64,
    /// Beyond a quota.
    pub usage_exceeded: u64,
    /// With a key that was dead.
    pub not_found: u64,
}

impl Counts {
    /// Those of one collection.
    pub fn of(uses: &Uses) -> Self {
        Self {
            valid: uses.passed.into(),
            forbidden: uses.forbidden.into(),
            rate_limited: uses.limited.into(),
            usage_exceeded: uses.exceeded.into(),
            not_found: uses.dead.into(),
        }
    }

    /// Both together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            valid: self.valid.saturating_add(other.valid),
            forbidden: self.forbidden.saturating_add(other.forbidden),
            rate_limited: self.rate_limited.saturating_add(other.rate_limited),
            usage_exceeded: self.usage_exceeded.saturating_add(other.usage_exceeded),
            not_found: self.not_found.saturating_add(other.not_found),
        }
    }

    /// All of them.
    pub const fn total(self) -> u64 {
        let passed = self.valid.saturating_add(self.forbidden).saturating_add(self.rate_limited);
        passed.saturating_add(self.usage_exceeded).saturating_add(self.not_found)
    }
}

/// When a key last let a request pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastUse {
    /// When, to the second.
    pub at: Timestamp,
    /// By which rule of the policy, if that is known for sure.
    pub route: Option<Arc<str>>,
}

/// What one key was used for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyUses {
    /// The key.
    pub key: KeyId,
    /// Its project.
    pub project: ProjectId,
    /// Counts by hour since 1970, oldest first, no hour twice.
    pub hours: Vec<(i64, Counts)>,
    /// When it was last let pass, if it was.
    pub last: Option<LastUse>,
    /// Where it stands with its quotas.
    pub quotas: Vec<QuotaCount>,
}

/// What is to be written, by key.
#[derive(Debug, Default)]
pub struct Pending {
    keys: BTreeMap<KeyId, KeyUses>,
    /// The last one that was taken: the others have their turn first.
    taken: Option<KeyId>,
}

impl Pending {
    /// Adds what a key was used for since it was last collected.
    pub fn add(&mut self, newer: KeyUses) {
        let Some(known) = self.keys.get_mut(&newer.key) else {
            self.keys.insert(newer.key, newer);
            return;
        };
        for (hour, counts) in newer.hours {
            known.count(hour, counts);
        }
        known.last = newer.last.or(known.last.take());
        // Each collection has all quotas of the key; a dead one has none, and needs none.
        known.quotas = newer.quotas;
    }

    /// Takes so many keys at most, each in its turn.
    pub fn take(&mut self, most: usize) -> Vec<KeyUses> {
        let after = self.taken.map_or(Bound::Unbounded, Bound::Excluded);
        let above = self.keys.range((after, Bound::Unbounded)).map(|(key, _)| *key);
        let mut turn: Vec<_> = above.take(most).collect();
        let missing = most - turn.len();
        let up_to = self.taken.map_or(Bound::Excluded(KeyId(0)), Bound::Included);
        turn.extend(self.keys.range((Bound::Unbounded, up_to)).map(|(key, _)| *key).take(missing));
        self.taken = turn.last().copied();
        turn.iter().filter_map(|key| self.keys.remove(key)).collect()
    }

    /// How many keys have something to be written.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is nothing to be written.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

impl KeyUses {
    fn count(&mut self, hour: i64, counts: Counts) {
        match self.hours.binary_search_by_key(&hour, |(hour, _)| *hour) {
            Ok(at) => {
                if let Some((_, known)) = self.hours.get_mut(at) {
                    *known = known.and(counts);
                }
            }
            Err(at) => self.hours.insert(at, (hour, counts)),
        }
        if self.hours.len() > MOST_HOURS {
            let (_, oldest) = self.hours.remove(0);
            if let Some((_, next)) = self.hours.first_mut() {
                *next = next.and(oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uses(key: i64, hour: i64, valid: u64) -> KeyUses {
        let counts = Counts { valid, ..Counts::default() };
        KeyUses { key: KeyId(key), project: ProjectId(1), hours: vec![(hour, counts)], last: None, quotas: vec![] }
    }

    fn valid(uses: &[KeyUses]) -> u64 {
        uses.iter().flat_map(|uses| &uses.hours).map(|(_, counts)| counts.valid).sum()
    }

    #[test]
    fn every_key_has_its_turn_and_nothing_is_taken_twice() {
        let mut pending = Pending::default();
        (1..=5).for_each(|key| pending.add(uses(key, 1, 10)));
        let ids = |taken: &[KeyUses]| taken.iter().map(|uses| uses.key.0).collect::<Vec<_>>();
        assert_eq!(ids(&pending.take(2)), [1, 2]);
        pending.add(uses(1, 1, 10));
        assert_eq!(ids(&pending.take(2)), [3, 4], "a busy key does not hold up the others");
        assert_eq!(ids(&pending.take(9)), [5, 1]);
        assert!(pending.is_empty() && pending.take(9).is_empty());
    }

    #[test]
    fn however_long_nothing_is_written_no_count_is_lost_and_the_memory_is_bounded() {
        let mut pending = Pending::default();
        (0..1_000).for_each(|hour| pending.add(uses(7, hour, 2)));
        let taken = pending.take(1);
        assert_eq!((taken[0].hours.len(), valid(&taken)), (MOST_HOURS, 2_000));
        assert_eq!(taken[0].hours.last().unwrap().1.valid, 2, "the newest hours are exact");
    }

    #[test]
    fn the_newest_use_is_the_last_one_and_refusals_do_not_hide_it() {
        let last = |at| Some(LastUse { at: Timestamp(at), route: None });
        let mut pending = Pending::default();
        for last in [last(1), last(2), None] {
            pending.add(KeyUses { last, ..uses(7, 1, 1) });
        }
        assert_eq!(pending.take(1)[0].last, last(2));
    }
}
