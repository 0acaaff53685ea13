//! Whether a row is as Keyrack wrote it, and what it adds to the sum over all live ones.

use super::live_sum::Summand;
use super::sql::{self, Row};
use super::{StoreError, Table};
use crate::canonical::Canonical;
use crate::kept::Kept;
use crate::root_key::{MacKey, ROOT_KEY_VERSION, RootKey};

/// What rows are authenticated with.
pub(super) struct RowKeys {
    mac: MacKey,
    sum: MacKey,
}

impl RowKeys {
    pub(super) fn of(root_key: &RootKey) -> Self {
        Self { mac: root_key.derive("keyrack row v1"), sum: root_key.derive("keyrack live sum v1") }
    }

    /// What a row holds. An error if it is not as Keyrack wrote it.
    pub(super) fn authentic<K: Table>(&self, row: &Row) -> Result<K, StoreError> {
        self.with_form(row).map(|(found, _form)| found)
    }

    /// [`RowKeys::authentic`] and [`RowKeys::summand`].
    pub(super) fn authentic_with_summand<K: Table>(&self, row: &Row) -> Result<(K, Summand), StoreError> {
        let (found, form) = self.with_form(row)?;
        let summand = self.summand_of(&form);
        Ok((found, summand))
    }

    /// What a row holds, and the form that it was authenticated in.
    fn with_form<K: Table>(&self, row: &Row) -> Result<(K, Canonical), StoreError> {
        let (found, mac) = sql::decode::<K>(row)?;
        let form = found.canonical();
        let fits = matches!(mac.split_first(), Some((&ROOT_KEY_VERSION, tag)) if self.mac.fits(&form, tag));
        let damaged = || StoreError::Damaged { what: format!("{} does not authenticate", found.reference()) };
        if fits { Ok((found, form)) } else { Err(damaged()) }
    }

    /// The MAC of a row, as it is stored.
    pub(super) fn mac(&self, row: &impl Kept) -> Vec<u8> {
        with_version(self.mac.tag(&row.canonical()))
    }

    /// What a row adds to the sum over all live ones. Never stored.
    pub(super) fn summand(&self, row: &impl Kept) -> Summand {
        self.summand_of(&row.canonical())
    }

    fn summand_of(&self, form: &Canonical) -> Summand {
        self.sum.tag(&Canonical::new("summand").bytes(form.as_bytes()))
    }

    /// What the sum is masked with behind the change of that number.
    pub(super) fn mask(&self, seq: i64) -> Summand {
        self.sum.tag(&Canonical::new("mask").int(seq))
    }
}

/// A MAC as it is stored: the version of the root key, and the tag.
pub(super) fn with_version(tag: [u8; 32]) -> Vec<u8> {
    [&[ROOT_KEY_VERSION], tag.as_slice()].concat()
}
