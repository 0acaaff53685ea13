//! Taking many keys out of force at once: by what is known of them, not by their digests.

use std::collections::HashSet;

use super::{Books, Ordering, Record, Table, lower, upper};
use crate::KeyRecord;

impl Table {
    /// Marks every live key that `is_it` picks dead; gives the words they are found by, and the versions they had.
    pub(in crate::index) fn revoke_where(
        &self,
        books: &mut Books,
        is_it: impl Fn(&KeyRecord) -> bool,
    ) -> Vec<([u64; 2], u32)> {
        self.kill_where(books, |record, _| {
            self.read(record).is_some_and(|(version, grant)| {
                grant.as_deref().is_some_and(|grant| is_it(&record.whole(version, grant)))
            })
        })
    }

    /// Takes every live key out of force that `is_it` picks; says how many there were.
    pub(in crate::index) fn withdraw_where(&self, books: &mut Books, is_it: impl Fn(&KeyRecord) -> bool) -> usize {
        let withdrawn = self.revoke_where(books, is_it);
        let many = withdrawn.len();
        books.withdrawn.extend(withdrawn);
        many
    }

    /// Takes every live key out of force that is found by none of these words; says how many there were.
    pub(in crate::index) fn keep_only(&self, books: &mut Books, living: &HashSet<[u64; 2]>) -> usize {
        let withdrawn = self.kill_where(books, |_, words| !living.contains(&words));
        let many = withdrawn.len();
        books.withdrawn.extend(withdrawn);
        many
    }

    fn kill_where(&self, books: &mut Books, is_it: impl Fn(Record<'_>, [u64; 2]) -> bool) -> Vec<([u64; 2], u32)> {
        let mut killed = Vec::new();
        for slot in self.entries() {
            let entry = slot.load(Ordering::Acquire);
            let Some(record) = lower(entry).checked_sub(1).and_then(|number| self.record(number)) else { continue };
            let Some((version, _)) = record.version_and_slot() else { continue };
            let words = record.words(upper(entry));
            if is_it(record, words) {
                self.kill(books, record);
                killed.push((words, version));
            }
        }
        killed
    }
}
