//! Reading outside of a change: what is committed, from the pool.

use std::collections::HashMap;

use keyrack::{KeyId, OrganizationId, ProjectId, ProjectRole};

use super::{Store, StoreError, Table, sql};
use crate::audit::Entry;
use crate::kept::Kept;
use crate::listing::{Anchor, List, Listing};
use crate::tenancy::{Member, Organization};

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

/// What is found here decides too who may do what: nothing is found that was put back, or that a start refused.
impl Find for &Store {
    async fn find<K: Table>(&mut self, at: K::Place) -> Result<Option<K>, StoreError> {
        let mut reader = self.readers.acquire().await?;
        let Some(row) = K::find(&mut reader, at).await? else { return Ok(None) };
        let mut found: K = self.authentic(&row)?;
        if self.is_superseded(&found) {
            // What is in force was committed first: who looks again sees it, unless an old row was put back.
            let Some(row) = K::find(&mut reader, at).await? else { return Ok(None) };
            found = self.authentic(&row)?;
            if self.is_superseded(&found) {
                return Err(not_in_force(&found));
            }
        }
        // One that is not in force at all was refused at the start, or is not acknowledged yet.
        Ok(self.in_force.version(&found.effect()).is_some().then_some(found))
    }
}

fn not_in_force(row: &impl Kept) -> StoreError {
    StoreError::Damaged { what: format!("the row of {} is not the one that is in force", row.reference()) }
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

    /// The projects that a `member` key was given, and as what.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub async fn projects_of(&self, key: KeyId) -> Result<HashMap<ProjectId, ProjectRole>, StoreError> {
        let projects = sql::projects_of(&mut *self.readers.acquire().await?, key).await?;
        let mut given = HashMap::new();
        for project in projects {
            let member = (&*self).find::<Member>((project, key)).await;
            let left_out = |error: &StoreError| tracing::error!(%error, "left a membership out of a list");
            let role = member.inspect_err(left_out).ok().flatten().and_then(|member| member.role);
            given.extend(role.map(|role| (project, role)));
        }
        Ok(given)
    }

    fn is_superseded(&self, row: &impl Table) -> bool {
        self.in_force.version(&row.effect()).is_some_and(|newest| row.version() < newest)
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

    /// Hands every audit entry to `each`, oldest first.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub async fn for_each_audit_entry(&self, each: impl FnMut(Entry) + Send) -> Result<(), StoreError> {
        let mut reader = self.readers.acquire().await?;
        sql::for_each_audit_entry(&mut reader, each).await
    }
}
