//! Reading outside of a change: what is committed, from the pool.

use keyrack::{OrganizationId, ProjectRole};

use super::{Store, StoreError, Table, no_head, sql};
use crate::audit::Entry;
use crate::listing::{Anchor, List, Listing};
use crate::tenancy::{Member, Organization, Project};

/// Part of a list, nearest to the listing's anchor first.
#[derive(Debug)]
pub struct Rows<T> {
    /// What was read.
    pub items: Vec<T>,
    /// The place of the first row that was read, damaged or not.
    pub nearest: Option<Anchor>,
    /// The place of the last one.
    pub farthest: Option<Anchor>,
    /// Whether there are rows behind that.
    pub more: bool,
}

/// How much there is beneath an organization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beneath {
    /// Live projects.
    pub projects: i64,
    /// Keys that are not revoked, its own and those of its projects.
    pub live_keys: i64,
}

/// Where live things are found: in the pool, or in the transaction that is about to change them.
pub trait Find {
    /// The live thing at a place.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read or is damaged.
    fn find<K: Table>(&mut self, at: K::Place) -> impl Future<Output = Result<Option<K>, StoreError>> + Send;
}

impl Find for &Store {
    async fn find<K: Table>(&mut self, at: K::Place) -> Result<Option<K>, StoreError> {
        let mut reader = self.readers.acquire().await?;
        let row = K::find(&mut reader, at).await?;
        row.map(|row| self.authentic(&row)).transpose()
    }
}

impl Store {
    /// The rows that a listing asks for, nearest to its anchor first, each read by `read`. Damaged ones are left out.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub async fn page<T>(
        &self,
        list: &List,
        listing: &Listing,
        read: impl Fn(&Self, &sql::Row) -> Result<T, StoreError>,
    ) -> Result<Rows<T>, StoreError> {
        let mut reader = self.readers.acquire().await?;
        let rows = sql::page(&mut reader, list, listing).await?;
        let shown = rows.get(..listing.rows_to_show).unwrap_or(&rows);
        let left_out = |error: &StoreError| tracing::error!(%error, "left a damaged row out of a list");
        let anchor = |row: Option<&sql::Row>| row.map(|row| sql::anchor_of(row, list, listing)).transpose();
        Ok(Rows {
            items: shown.iter().filter_map(|row| read(self, row).inspect_err(left_out).ok()).collect(),
            nearest: anchor(shown.first())?,
            farthest: anchor(shown.last())?,
            more: rows.len() > shown.len(),
        })
    }

    /// Reads a row of a list of things that are kept.
    ///
    /// # Errors
    /// [`StoreError::Damaged`].
    pub fn read_row<K: Table>(&self, row: &sql::Row) -> Result<K, StoreError> {
        self.authentic(row)
    }

    /// Reads a row of the audit log.
    ///
    /// # Errors
    /// [`StoreError::Damaged`].
    pub fn read_entry(&self, row: &sql::Row) -> Result<Entry, StoreError> {
        sql::entry_of(row).ok_or_else(|| StoreError::Damaged { what: "an audit entry cannot be read".to_owned() })
    }

    /// Reads a row of the list of organizations.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn read_organization(&self, row: &sql::Row) -> Result<(Organization, Beneath), StoreError> {
        Ok((self.authentic(row)?, sql::beneath(row)?))
    }

    /// Reads a row of a list of projects, with the role that the list says its reader has there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn read_project(&self, row: &sql::Row) -> Result<(Project, Option<ProjectRole>), StoreError> {
        Ok((self.authentic(row)?, sql::member_role(row)))
    }

    /// Reads a row of a list of members, with name and mask of the key.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn read_member(&self, row: &sql::Row) -> Result<(Member, String, String), StoreError> {
        let (name, mask) = sql::key_of_member(row)?;
        Ok((self.authentic(row)?, name, mask))
    }

    /// What there is beneath an organization.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be counted.
    pub async fn counts_beneath(&self, organization: OrganizationId) -> Result<Beneath, StoreError> {
        let mut reader = self.readers.acquire().await?;
        Ok(sql::counts_beneath(&mut reader, organization).await?)
    }

    /// How many audit entries there are: the number of the newest one.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub async fn audit_entries(&self) -> Result<u64, StoreError> {
        let mut reader = self.readers.acquire().await?;
        let head = sql::audit_head(&mut reader).await?.ok_or_else(no_head)?;
        Ok(head.seq.unsigned_abs())
    }

    /// Hands every audit entry to `each`, oldest first.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub async fn for_each_audit_entry(&self, each: impl FnMut(Entry) + Send) -> Result<(), StoreError> {
        let mut reader = self.readers.acquire().await?;
        sql::for_each_audit_entry(&mut reader, each).await
    }
}
