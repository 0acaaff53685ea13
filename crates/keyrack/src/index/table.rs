//! The packed table and the records behind it.

mod sweep;

use std::cell::OnceCell;
use std::collections::HashMap;
use std::sync::OnceLock;

use arc_swap::ArcSwap;

use super::arena::Arena;
use super::grants::{Grant, Grants, Limits, Tenants};
use super::pages::{Lines, Words};
use super::record::{self, Record, lower, upper};
use super::sync::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use super::{ApplyError, Depth, KeyChange, Live, Seen, Versioned};
use crate::{KeyId, KeyRecord, Limit, LimitPlan, OrganizationId};

/// Records in the first chunk of them: 256 KiB.
const FIRST_RECORDS: usize = if cfg!(keyrack_model) { 64 } else { 1 << 12 };
/// The number of a record is at most this.
const MOST_RECORDS: usize = 1 << 27;
/// A page.
const SMALLEST_TABLE: usize = if cfg!(keyrack_model) { 4 } else { 512 };
/// From the smallest to what 2²⁷ records take.
const SIZES: usize = 20;
/// Cells in a line: as many as a cache line holds.
const LINE: usize = 8;

/// Entries and records as readers see them; shared with whoever applies changes, one at a time.
#[derive(Debug)]
pub(super) struct Table {
    /// Tables of entries, each twice as long as the one before. 0 is empty; otherwise the upper half is the tag, the lower
    /// half the record's number + 1. Those that were outgrown stay: a reader may be in them, and together they are smaller
    /// than the newest.
    sizes: [OnceLock<Words>; SIZES],
    newest: AtomicUsize,
    records: Arena<Lines<{ record::WORDS }>, FIRST_RECORDS>,
    /// A bit for each record that was used since its uses were last collected.
    touched: Arena<Lines<1>, { FIRST_RECORDS / 64 }>,
    /// Cells of keys with more than one limit.
    lines: Arena<Lines<LINE>, { FIRST_RECORDS / 8 }>,
    grants: Grants,
    used: AtomicU32,
    /// Suspended organizations, sorted. Few, so that a search in them costs less than a mark on each of their keys.
    suspended: ArcSwap<Vec<OrganizationId>>,
    any_suspended: AtomicBool,
}

/// Which states of a key take the place of what is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Versions {
    OnlyNewer,
    Whatever,
}

/// What only who applies changes has.
#[derive(Debug, Default)]
pub(super) struct Books {
    tenants: Tenants,
    lines: LinesTaken,
    /// Keys that are out of force and have not died, as they were, by the words they are found by.
    withdrawn: HashMap<[u64; 2], KeyRecord>,
}

impl Books {
    /// Whether the key that is found by these words is out of force and has not died.
    pub(super) fn is_withdrawn(&self, words: [u64; 2]) -> bool {
        self.withdrawn.contains_key(&words)
    }
}

/// Which lines of cells records have. A record keeps its lines for ever, but for those that more of them took the place of.
#[derive(Debug, Default)]
struct LinesTaken {
    used: usize,
    /// How many a record has, by its first one, where that is more than one. Few keys have so many limits.
    several: HashMap<usize, usize>,
}

impl Table {
    pub(super) fn new() -> Self {
        Self {
            sizes: [const { OnceLock::new() }; SIZES],
            newest: AtomicUsize::new(0),
            records: Arena::new(),
            touched: Arena::new(),
            lines: Arena::new(),
            grants: Grants::new(),
            used: AtomicU32::new(0),
            suspended: ArcSwap::default(),
            any_suspended: AtomicBool::new(false),
        }
    }

    #[inline]
    fn entries(&self) -> &[AtomicU64] {
        // Pairs with the store in `make_room_for`: who sees the number sees the table filled.
        let newest = self.sizes.get(self.newest.load(Ordering::Acquire)).and_then(OnceLock::get);
        newest.map_or(&[], |entries| &entries[..])
    }

    pub(super) fn len(&self) -> usize {
        self.used.load(Ordering::Relaxed) as usize
    }

    /// What is known of a digest.
    #[inline]
    pub(super) fn find(&self, words: [u64; 2], depth: Depth) -> Seen<'_> {
        let Some((number, record)) = self.record_of(words) else { return Seen::Absent };
        let seen = record.read(|slot| {
            let summary = self.grants.summary(slot)?;
            let is_enough = depth == Depth::Summary && summary.limits != Limits::Others;
            Some((summary, if is_enough { None } else { self.grants.get(slot) }))
        });
        let Some((version, (summary, grant))) = seen else { return Seen::Dead(number, record.id()) };
        let is_suspended = self.is_suspended(record.organization());
        let whole = OnceCell::new();
        if let Some(grant) = grant {
            drop(whole.set(Some((version, grant))));
        }
        Seen::Live(Live { number, record, summary, whole, table: self, is_suspended })
    }

    #[inline]
    fn record_of(&self, words: [u64; 2]) -> Option<(u32, Record<'_>)> {
        let tag = upper(words[0]);
        for slot in probe(self.entries(), words[0]) {
            // Pairs with the store in `publish`: who sees the entry sees the record it points at.
            let entry = slot.load(Ordering::Acquire);
            if entry == 0 {
                return None;
            }
            if upper(entry) == tag {
                let number = lower(entry) - 1;
                let record = self.record(number)?;
                if record.is_of(words) {
                    return Some((number, record));
                }
            }
        }
        None
    }

    /// Begins to fetch what [`Table::find`] will look at. Gives a number that means nothing, so that it is really read.
    #[inline]
    pub(super) fn fetch_entry(&self, words: [u64; 2]) -> u64 {
        probe(self.entries(), words[0]).next().map_or(0, |slot| slot.load(Ordering::Relaxed))
    }

    /// Begins to fetch the record that an entry leads to.
    #[inline]
    pub(super) fn fetch_record(&self, entry: u64) -> u32 {
        let record = lower(entry).checked_sub(1).and_then(|number| self.record(number));
        record.map_or(0, Record::digest_low)
    }

    /// The cell of a key's limit.
    #[inline]
    pub(super) fn cell<'t>(&'t self, record: Record<'t>, limit: usize) -> Option<&'t AtomicU64> {
        let Some(further) = limit.checked_sub(1) else { return Some(record.cell()) };
        self.lines.get(record.line()? + further / LINE)?.get(further % LINE)
    }

    /// Says that a record was used.
    #[inline]
    pub(super) fn touch(&self, number: u32) {
        if let Some([word]) = self.touched.get(number as usize / 64) {
            word.fetch_or(1 << (number % 64), Ordering::Release);
        }
    }

    /// Each record that was touched since the last time.
    pub(super) fn take_touched(&self, mut each: impl FnMut(Record<'_>)) {
        for (first, words) in self.touched.chunks() {
            for (at, [word]) in words.iter().enumerate() {
                // Looked at before it is written, so that what was not used stays in every cache.
                if word.load(Ordering::Relaxed) == 0 {
                    continue;
                }
                let mut bits = word.swap(0, Ordering::Acquire);
                while bits != 0 {
                    let number = (first + at) * 64 + bits.trailing_zeros() as usize;
                    bits &= bits - 1;
                    if let Some(record) = self.records.get(number) {
                        each(Record::new(record));
                    }
                }
            }
        }
    }

    /// The record of a number.
    #[inline]
    pub(super) fn record(&self, number: u32) -> Option<Record<'_>> {
        self.records.get(number as usize).map(Record::new)
    }

    /// The version of a record's key and all that it may do, for who has the record in hand; nothing if the key is dead.
    pub(super) fn read(&self, record: Record<'_>) -> Option<Versioned> {
        record.read(|slot| self.grants.get(slot))
    }

    /// Applies a change. Only one thread at a time may call this and what follows.
    pub(super) fn apply(&self, books: &mut Books, words: [u64; 2], change: &KeyChange) -> Result<(), ApplyError> {
        let known = self.record_of(words);
        match (known, change) {
            (Some((_, record)), KeyChange::Revoke { .. }) => {
                books.withdrawn.remove(&words);
                self.kill(books, record);
            }
            (Some((_, record)), KeyChange::Put(put)) => match books.withdrawn.get(&words) {
                Some(before) if before.version <= put.version => self.bring_back(books, (words, record), put)?,
                Some(_) => {}
                None => self.replace(books, record, put, Versions::OnlyNewer)?,
            },
            (None, KeyChange::Revoke { id }) => {
                self.insert(words, *id, None, |_dead| Ok(()))?;
            }
            (None, KeyChange::Put(put)) => {
                self.insert(words, put.id, Some(put), |record| {
                    self.grant(books, record, (&LimitPlan::default(), put))
                })?;
            }
        }
        Ok(())
    }

    /// Makes a live key dead.
    fn kill(&self, books: &mut Books, record: Record<'_>) {
        let slot = record.version_and_slot();
        record.set_dead();
        if let Some((_, slot)) = slot {
            self.grants.give_back(&mut books.tenants, slot);
        }
    }

    /// Takes the state of a key as it is given, whatever version is known. The dead stay dead.
    pub(super) fn reset(&self, books: &mut Books, words: [u64; 2], put: &KeyRecord) -> Result<(), ApplyError> {
        match self.record_of(words) {
            Some((_, record)) if books.is_withdrawn(words) => self.bring_back(books, (words, record), put),
            Some((_, record)) => self.replace(books, record, put, Versions::Whatever),
            None => self.apply(books, words, &KeyChange::Put(put.clone())),
        }
    }

    /// Puts a key into force again that was withdrawn.
    fn bring_back(
        &self,
        books: &mut Books,
        (words, record): ([u64; 2], Record<'_>),
        put: &KeyRecord,
    ) -> Result<(), ApplyError> {
        if record.id() != put.id || !record.is_owned_as(put.holder) {
            return Err(ApplyError::IdentityChanged { known: record.id(), claimed: put.id });
        }
        // What was counted for its limits stays counted.
        let limits = books.withdrawn.get(&words).map(|before| before.limits.clone()).unwrap_or_default();
        self.grant(books, record, (&limits, put))?;
        books.withdrawn.remove(&words);
        Ok(())
    }

    /// Makes a record live that is not.
    fn grant(
        &self,
        books: &mut Books,
        record: Record<'_>,
        (limits, put): (&LimitPlan, &KeyRecord),
    ) -> Result<(), ApplyError> {
        let slot = self.grants.take(&mut books.tenants, Grant::of(put))?;
        let with_cells = self.move_cells(&mut books.lines, record, limits, &put.limits);
        if with_cells.is_err() {
            self.grants.give_back(&mut books.tenants, slot);
        }
        with_cells.map(|()| record.set_live(put.version, slot))
    }

    fn replace(
        &self,
        books: &mut Books,
        record: Record<'_>,
        put: &KeyRecord,
        versions: Versions,
    ) -> Result<(), ApplyError> {
        let Some((version, slot)) = record.version_and_slot() else { return Ok(()) };
        let (known, next) = (record.id(), Grant::of(put));
        let Some((_, grant)) = self.read(record) else { return Ok(()) };
        let is_same_key = known == put.id && record.is_owned_as(put.holder);
        let Some(grant) = grant.as_deref().filter(|grant| is_same_key && grant.standing.kind() == next.standing.kind())
        else {
            return Err(ApplyError::IdentityChanged { known, claimed: put.id });
        };
        if versions == Versions::OnlyNewer && put.version <= version {
            return Ok(());
        }
        let next_slot = self.grants.take(&mut books.tenants, next)?;
        if let Err(error) = self.move_cells(&mut books.lines, record, &grant.limits, &put.limits) {
            self.grants.give_back(&mut books.tenants, next_slot);
            return Err(error);
        }
        record.set_live(put.version, next_slot);
        self.grants.give_back(&mut books.tenants, slot);
        Ok(())
    }

    /// Gives a record room for the cells of its limits. What was counted for a limit of the same name and kind stays counted. Whoever
    /// still reads the limits that were may count in a cell meanwhile; see [`Limit::charge`].
    fn move_cells(
        &self,
        taken: &mut LinesTaken,
        record: Record<'_>,
        from: &LimitPlan,
        to: &LimitPlan,
    ) -> Result<(), ApplyError> {
        if from == to {
            return Ok(());
        }
        let place_before = |limit: &Limit| {
            from.limits().iter().position(|known| known.name() == limit.name() && known.window() == limit.window())
        };
        let held = |at: usize| self.cell(record, at).map(|cell| cell.load(Ordering::Relaxed));
        let places: Vec<_> = to.limits().iter().map(place_before).collect();
        let counts: Vec<_> = places.iter().map(|before| before.and_then(held)).collect();
        let has_moved = self.make_lines(taken, record, to.limits().len().saturating_sub(1).div_ceil(LINE))?;
        for (at, limit) in to.limits().iter().enumerate() {
            let stays = places.get(at) == Some(&Some(at)) && !(has_moved && at > 0);
            let count = counts.get(at).copied().flatten().unwrap_or_else(|| limit.blank());
            if let Some(cell) = self.cell(record, at).filter(|_| !stays) {
                cell.store(count, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Gives a record so many lines of cells, if it has not as many. Says whether they are others than before.
    fn make_lines(&self, taken: &mut LinesTaken, record: Record<'_>, lines: usize) -> Result<bool, ApplyError> {
        let has = record.line().map_or(0, |first| taken.several.get(&first).copied().unwrap_or(1));
        if lines <= has {
            return Ok(false);
        }
        let first = taken.used;
        for line in first..first + lines {
            self.lines.make_room(line).ok_or(ApplyError::Full)?;
        }
        let before = record.line();
        if !record.set_line(first) {
            return Err(ApplyError::Full);
        }
        taken.used = first + lines;
        if lines > 1 {
            taken.several.insert(first, lines);
        }
        if let Some(before) = before {
            taken.several.remove(&before);
        }
        Ok(true)
    }

    /// Adds a key that is not known, as `finish` makes it; nothing is added if that fails.
    fn insert(
        &self,
        words: [u64; 2],
        id: KeyId,
        put: Option<&KeyRecord>,
        finish: impl FnOnce(Record<'_>) -> Result<(), ApplyError>,
    ) -> Result<(), ApplyError> {
        let number = self.len();
        let next = u32::try_from(number + 1).ok().filter(|_| Record::has_room_for(id)).ok_or(ApplyError::Full)?;
        self.make_room_for(number + 1)?;
        self.touched.make_room(number / 64).ok_or(ApplyError::Full)?;
        let record = Record::new(self.records.make_room(number).ok_or(ApplyError::Full)?);
        record.fill(words, id, put.map(|put| put.holder));
        finish(record)?;
        publish(self.entries(), words[0], next);
        self.used.store(next, Ordering::Release);
        Ok(())
    }

    /// Makes the table long enough for so many keys: if need be, the entries are laid out anew in a longer one. Readers of the old
    /// one go on undisturbed: the records are shared.
    pub(super) fn make_room_for(&self, keys: usize) -> Result<(), ApplyError> {
        let shorter = self.entries();
        // A quarter stays free.
        if keys.saturating_mul(4) <= shorter.len() * 3 {
            return Ok(());
        }
        let keys = Some(keys).filter(|keys| *keys <= MOST_RECORDS).ok_or(ApplyError::Full)?;
        let entries = (keys * 4).div_ceil(3).next_power_of_two().max(SMALLEST_TABLE);
        let size = (entries / SMALLEST_TABLE).trailing_zeros() as usize;
        let made = Words::zeroed(entries).ok_or(ApplyError::Full)?;
        let longer = self.sizes.get(size).ok_or(ApplyError::Full)?.get_or_init(|| made);
        for entry in shorter.iter().map(|entry| entry.load(Ordering::Relaxed)).filter(|entry| *entry != 0) {
            let number_plus_one = lower(entry);
            let record = self.record(number_plus_one - 1).ok_or(ApplyError::Full)?;
            publish(longer, u64::from(upper(entry)) << 32 | u64::from(record.digest_low()), number_plus_one);
        }
        self.newest.store(size, Ordering::Release);
        Ok(())
    }

    /// The organizations that are suspended.
    pub(super) fn suspended(&self) -> Vec<OrganizationId> {
        self.suspended.load().to_vec()
    }

    /// Suspends an organization, or ends that.
    pub(super) fn set_suspended(&self, organization: OrganizationId, is_suspended: bool) {
        let mut suspended: Vec<_> =
            self.suspended.load().iter().copied().filter(|known| *known != organization).collect();
        if is_suspended {
            suspended.push(organization);
            suspended.sort_unstable();
        }
        let any = !suspended.is_empty();
        self.suspended.store(suspended.into());
        self.any_suspended.store(any, Ordering::Release);
    }

    #[inline]
    fn is_suspended(&self, organization: OrganizationId) -> bool {
        // Operators' keys have no organization: number 0 is never given to one.
        self.any_suspended.load(Ordering::Acquire) && self.suspended.load().binary_search(&organization).is_ok()
    }
}

fn publish(entries: &[AtomicU64], first_word: u64, number_plus_one: u32) {
    let entry = first_word >> 32 << 32 | u64::from(number_plus_one);
    let free = probe(entries, first_word).find(|slot| slot.load(Ordering::Relaxed) == 0);
    free.expect("a quarter of the entries is kept free").store(entry, Ordering::Release);
}

/// Every entry, beginning where the digest says. Digests are SHA-256, so their low bits need no further mixing.
#[inline]
fn probe(entries: &[AtomicU64], first_word: u64) -> impl Iterator<Item = &AtomicU64> {
    // The upper half is the tag's. There are as many entries as a power of two.
    let (start, mask) = (lower(first_word) as usize, entries.len().wrapping_sub(1));
    (0..entries.len()).map_while(move |step| entries.get((start + step) & mask))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Holder, Now, Period};

    const WORDS: [u64; 2] = [1, 2];

    fn put(version: u32, limits: usize) -> KeyChange {
        let limit =
            |at: usize| Limit::new(&format!("l{at:02}"), 100, Period::Calendar(crate::Window::Day), None).unwrap();
        let limits = LimitPlan::new((0..limits).map(limit));
        KeyChange::Put(KeyRecord { limits, ..KeyRecord::new(KeyId(1), version, Holder::Operator) })
    }

    #[test]
    fn a_key_whose_limits_change_keeps_its_lines_and_its_counts() {
        let (table, mut books) = (Table::new(), Books::default());
        let now = Now { boot: std::time::Duration::ZERO, unix_seconds: 1_700_000_000 };
        let mut version = 0;
        let mut has = |limits, table: &Table, books: &mut Books| {
            version += 1;
            table.apply(books, WORDS, &put(version, limits)).unwrap();
        };
        let used = |table: &Table, at: usize| {
            let Seen::Live(live) = table.find(WORDS, Depth::Whole) else { panic!("it is live") };
            let state = live.limits()[at].charge(at, table.cell(live.record, at).unwrap(), 1, now).unwrap();
            state.limit - state.remaining
        };
        has(2, &table, &mut books);
        assert_eq!((used(&table, 0), used(&table, 1)), (1, 1));
        for round in 2..50 {
            has(1, &table, &mut books);
            has(2, &table, &mut books);
            assert_eq!((used(&table, 0), used(&table, 1)), (round, 1));
        }
        assert_eq!(books.lines.used, 1);
        for round in 50..100 {
            has(16, &table, &mut books);
            assert_eq!((used(&table, 0), used(&table, 15)), (round, 1));
            has(9, &table, &mut books);
            has(2, &table, &mut books);
        }
        assert_eq!((books.lines.used, books.lines.several.len()), (3, 1));
    }
}
