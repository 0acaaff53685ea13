//! Taking many keys out of force at once: by what is known of them, not by their digests.

use std::collections::HashSet;

use super::{Books, Ordering, Table, lower, upper};
use crate::KeyRecord;

impl Table {
    /// Marks every key that `is_it` picks dead, of those that are out of force too; gives the words they are found by.
    pub(in crate::index) fn revoke_where(
        &self,
        books: &mut Books,
        is_it: impl Fn(&KeyRecord) -> bool,
    ) -> Vec<[u64; 2]> {
        let killed = self.kill_where(books, |key, _| is_it(key));
        let withdrawn = books.withdrawn.extract_if(|_, key| is_it(key));
        killed.into_iter().chain(withdrawn).map(|(words, _)| words).collect()
    }

    /// Takes every live key out of force that `is_it` picks; says how many there were.
    pub(in crate::index) fn withdraw_where(&self, books: &mut Books, is_it: impl Fn(&KeyRecord) -> bool) -> usize {
        let withdrawn = self.kill_where(books, |key, _| is_it(key));
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

    fn kill_where(
        &self,
        books: &mut Books,
        is_it: impl Fn(&KeyRecord, [u64; 2]) -> bool,
    ) -> Vec<([u64; 2], KeyRecord)> {
        let mut killed = Vec::new();
        for slot in self.entries() {
            let entry = slot.load(Ordering::Acquire);
            let Some(record) = lower(entry).checked_sub(1).and_then(|number| self.record(number)) else { continue };
            let Some((version, grant)) = self.read(record) else { continue };
            let Some(key) = grant.as_deref().map(|grant| record.whole(version, grant)) else { continue };
            let words = record.words(upper(entry));
            if is_it(&key, words) {
                drop(grant);
                self.kill(books, record);
                killed.push((words, key));
            }
        }
        killed
    }
}
