//! Looking at every key, and taking many out of force at once: by what is known of them, not by their digests.

use std::collections::HashSet;

use super::{Books, Ordering, Record, Table, lower, upper};
use crate::{KeyId, KeyRecord};

impl Table {
    /// Every record with the words it is found by. One that comes in meanwhile may be missing.
    fn known(&self) -> impl Iterator<Item = ([u64; 2], Record<'_>)> {
        self.entries().iter().filter_map(|slot| {
            let entry = slot.load(Ordering::Acquire);
            let record = self.record(lower(entry).checked_sub(1)?)?;
            Some((record.words(upper(entry)), record))
        })
    }

    /// All that is known of the key of a record; nothing if it is dead.
    fn whole(&self, record: Record<'_>) -> Option<KeyRecord> {
        let (version, grant) = self.read(record)?;
        grant.as_deref().map(|grant| record.whole(version, grant))
    }

    /// Every live key with the words it is found by, until `each` has had enough. One that comes in meanwhile may be missing.
    pub(in crate::index) fn for_each_live(&self, mut each: impl FnMut([u64; 2], KeyRecord) -> bool) {
        let live = self.known().filter_map(|(words, record)| Some((words, self.whole(record)?)));
        for (words, key) in live {
            if !each(words, key) {
                return;
            }
        }
    }

    /// Marks every key that `is_it` picks dead, of those that are out of force too; gives the words they are found by, and their
    /// numbers.
    pub(in crate::index) fn revoke_where(
        &self,
        books: &mut Books,
        is_it: impl Fn(&KeyRecord) -> bool,
    ) -> Vec<([u64; 2], KeyId)> {
        let killed = self.kill_where(books, |_| true, &is_it);
        let withdrawn = books.withdrawn.extract_if(|_, key| is_it(key));
        killed.into_iter().chain(withdrawn).map(|(words, key)| (words, key.id)).collect()
    }

    /// Takes every live key out of force that `is_it` picks; says how many there were.
    pub(in crate::index) fn withdraw_where(&self, books: &mut Books, is_it: impl Fn(&KeyRecord) -> bool) -> usize {
        self.withdraw(books, |_| true, is_it)
    }

    /// Takes every live key out of force that is found by none of these words; says how many there were.
    pub(in crate::index) fn keep_only(&self, books: &mut Books, living: &HashSet<[u64; 2]>) -> usize {
        self.withdraw(books, |words| !living.contains(words), |_| true)
    }

    fn withdraw(
        &self,
        books: &mut Books,
        is_among: impl Fn(&[u64; 2]) -> bool,
        is_it: impl Fn(&KeyRecord) -> bool,
    ) -> usize {
        let withdrawn = self.kill_where(books, is_among, is_it);
        let many = withdrawn.len();
        books.withdrawn.extend(withdrawn);
        many
    }

    /// Looks at a key only if the words it is found by are among those that matter.
    fn kill_where(
        &self,
        books: &mut Books,
        is_among: impl Fn(&[u64; 2]) -> bool,
        is_it: impl Fn(&KeyRecord) -> bool,
    ) -> Vec<([u64; 2], KeyRecord)> {
        let mut killed = Vec::new();
        for (words, record) in self.known().filter(|(words, _)| is_among(words)) {
            if let Some(key) = self.whole(record).filter(|key| is_it(key)) {
                self.kill(books, record);
                killed.push((words, key));
            }
        }
        killed
    }
}
