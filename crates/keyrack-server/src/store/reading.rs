//! Reading outside of a change: what is committed, from the pool.

use std::collections::HashMap;

use keyrack::{KeyId, OrganizationId, PolicyVersion, ProjectId, ProjectRole};

use super::in_force::Age;
use super::{Store, StoreError, Table, no_head, not_in_force, sql};
use crate::audit::Entry;
use crate::listing::{Anchor, List, Listing};
use crate::place::Place;
use crate::tenancy::{Member, Organization};

/// Most bytes that a page may take: with `limit=-1`, more than that must be paged through.
const MOST_PAGE_BYTES: usize = 8 << 20;

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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beneath {
    /// Live projects.
    pub projects: i64,
    /// Keys that are not revoked, its own and those of its projects.
    pub live_keys: i64,
}

/// The live keys of public scope whose reach is frozen at one version of the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKeys {
    /// The version.
    pub version: PolicyVersion,
    /// How many there are.
    pub count: i64,
    /// The numbers of the first of them.
    pub ids: Vec<i64>,
}

/// Where live things are found: in the pool, or in the transaction that is about to change them.
pub trait Find {
    /// The live thing at a place.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read or is damaged.
    fn find<K: Table>(&mut self, at: K::Place) -> impl Future<Output = Result<Option<K>, StoreError>> + Send;
}

/// What was put back into the database, or is refused, is not there; nor is what has not been acknowledged yet.
impl Find for &Store {
    async fn find<K: Table>(&mut self, at: K::Place) -> Result<Option<K>, StoreError> {
        let mut finder = self.finders.acquire().await?;
        let Some(row) = K::find(&mut finder, at).await? else { return Ok(None) };
        match self.shown(&row) {
            Ok(found) => Ok(found),
            // A newer one was committed while it was read: who looks again sees that.
            Err(_) => {
                let row = K::find(&mut finder, at).await?;
                row.map_or(Ok(None), |row| self.shown(&row))
            }
        }
    }
}

impl Store {
    /// The rows that a listing asks for, nearest to its anchor first: each as `read` makes it, with the bytes that it will
    /// take. Damaged ones are left out.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub async fn page<T: Send>(
        &self,
        list: &List,
        listing: &Listing,
        read: impl Fn(&Self, &sql::Row) -> Result<Option<(T, usize)>, StoreError> + Send + Sync,
    ) -> Result<Rows<T>, StoreError> {
        let (rows, is_whole) = self.page_once(list, listing, &read).await?;
        if is_whole {
            return Ok(rows);
        }
        // What changes while it is read is not left out: who looks again sees it as it is now.
        Ok(self
            .page_once(list, listing, |store, row| {
                read(store, row).inspect_err(|error| tracing::error!(%error, "left a damaged row out of a list"))
            })
            .await?
            .0)
    }

    /// Reads a page, and says whether all of its rows could be used.
    async fn page_once<T: Send>(
        &self,
        list: &List,
        listing: &Listing,
        read: impl Fn(&Self, &sql::Row) -> Result<Option<(T, usize)>, StoreError> + Send + Sync,
    ) -> Result<(Rows<T>, bool), StoreError> {
        let mut reader = self.readers.acquire().await?;
        let mut rows = Rows { items: Vec::new(), nearest: None, farthest: None, more: false };
        let (mut seen, mut bytes, mut is_whole) = (0, 0, true);
        sql::page(&mut reader, list, listing, |row| {
            if seen == listing.rows_to_show || bytes > MOST_PAGE_BYTES {
                rows.more = true;
                return Ok(false);
            }
            seen += 1;
            let anchor = sql::anchor_of(row, list, listing)?;
            rows.nearest.get_or_insert_with(|| anchor.clone());
            rows.farthest = Some(anchor);
            match read(self, row) {
                Ok(Some((item, length))) => {
                    bytes += length;
                    rows.items.push(item);
                }
                Ok(None) => {}
                Err(_) => is_whole = false,
            }
            Ok(true)
        })
        .await?;
        Ok((rows, is_whole))
    }

    /// A row that was read outside of a change, if it may be shown. An error if it is damaged, or older than what is in
    /// force.
    fn shown<K: Table>(&self, row: &sql::Row) -> Result<Option<K>, StoreError> {
        let found: K = self.row_keys.authentic(row)?;
        match self.in_force.age_of(&found.effect()) {
            Age::Current => Ok(Some(found)),
            Age::NotInForce => Ok(None),
            Age::Superseded => Err(not_in_force(&found)),
        }
    }

    /// Reads a row of a list of things that are kept.
    ///
    /// # Errors
    /// [`StoreError::Damaged`].
    pub fn read_row<K: Table>(&self, row: &sql::Row) -> Result<Option<K>, StoreError> {
        self.shown(row)
    }

    /// Reads a row of the audit log.
    ///
    /// # Errors
    /// [`StoreError::Damaged`].
    pub fn read_entry(&self, row: &sql::Row) -> Result<Option<Entry>, StoreError> {
        sql::entry_of(row)
            .map(Some)
            .ok_or_else(|| StoreError::Damaged { what: "an audit entry cannot be read".to_owned() })
    }

    /// Reads a row of the list of organizations.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn read_organization(&self, row: &sql::Row) -> Result<Option<(Organization, Beneath)>, StoreError> {
        let beneath = sql::beneath(row)?;
        Ok(self.shown(row)?.map(|organization| (organization, beneath)))
    }

    /// The projects that a `member` key was given, with its role in each.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub async fn projects_of(&self, key: KeyId) -> Result<HashMap<ProjectId, ProjectRole>, StoreError> {
        let mut finder = self.finders.acquire().await?;
        let rows = sql::members_of(&mut finder, key).await?;
        let left_out = |error: &StoreError| tracing::error!(%error, "left a damaged membership out");
        let members = rows.iter().filter_map(|row| self.shown::<Member>(row).inspect_err(left_out).ok().flatten());
        Ok(members.map(|member| (member.project, member.role)).collect())
    }

    /// Reads a row of a list of members, with name and mask of the key.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn read_member(&self, row: &sql::Row) -> Result<Option<(Member, String, String)>, StoreError> {
        let (name, mask) = sql::key_of_member(row)?;
        Ok(self.shown(row)?.map(|member| (member, name, mask)))
    }

    /// What there is beneath an organization.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be counted.
    pub async fn counts_beneath(&self, organization: OrganizationId) -> Result<Beneath, StoreError> {
        let mut finder = self.finders.acquire().await?;
        Ok(sql::counts_beneath(&mut finder, organization).await?)
    }

    /// How many live keys there are in a place.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be counted.
    pub async fn count_live_keys(&self, place: Place) -> Result<i64, StoreError> {
        let mut finder = self.finders.acquire().await?;
        Ok(sql::count_live_keys(&mut finder, place).await?)
    }

    /// The live keys of public scope by the version that their reach is frozen at, oldest first; of each version the numbers
    /// of `most` keys.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub async fn public_keys(&self, most: usize) -> Result<Vec<PublicKeys>, StoreError> {
        let mut reader = self.readers.acquire().await?;
        Ok(sql::public_keys(&mut reader, most).await?)
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
        let mut snapshot = self.readers.snapshot().await?;
        sql::for_each_audit_entry(&mut snapshot, each).await
    }
}
