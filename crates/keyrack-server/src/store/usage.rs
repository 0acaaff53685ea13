//! What keys were used for, as the store has it. It carries no MAC and is in no audit log: it lets nobody pass.

use keyrack::{KeyId, ProjectId};

use super::database::Snapshot;
use super::transaction::Writing;
use super::{Store, StoreError, sql};
use crate::clock::Timestamp;
use crate::place::Place;
use crate::stored_key::StoredKey;
use crate::usage::{Batch, Counts, LastUse, hour_of};

impl Writing {
    /// Adds a batch of uses; false if it is there already, and then nothing is written.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing of this transaction will be committed.
    pub async fn write_usage(&mut self, batch: &Batch) -> Result<bool, StoreError> {
        let now = self.now;
        let on = self.connection()?;
        if !sql::note_batch(on, batch, now).await? {
            return Ok(false);
        }
        sql::add_counts(on, &batch.keys).await?;
        sql::note_last_uses(on, &batch.keys).await?;
        sql::note_quotas(on, &batch.keys, now).await?;
        Ok(true)
    }

    /// Forgets so many hours of keys at most that were before a time, and who wrote then; says how many there were. `but` is
    /// the writer that still writes.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget_usage(&mut self, before: Timestamp, but: Option<i64>, most: i64) -> Result<u64, StoreError> {
        let on = self.connection()?;
        sql::delete_writers(on, before, but).await?;
        Ok(sql::delete_hours(on, hour_of(before), most).await?)
    }

    /// When a key was last used.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn last_use(&mut self, key: KeyId) -> Result<Option<LastUse>, StoreError> {
        Ok(sql::last_use(self.connection()?, key).await?)
    }
}

impl Store {
    /// Lets quotas count on where they stood. What cannot be read of them counts from nothing: a key does not die of that.
    pub(super) async fn restore_quotas(&self, of: &mut Snapshot) {
        match sql::quotas(of).await {
            Ok(quotas) => {
                let now = self.clock.moment().unix_seconds;
                for (digest, quota) in &quotas {
                    self.verifier.index().restore_quota(digest, quota, now);
                }
            }
            Err(error) => tracing::error!(%error, "the quotas cannot be read; all of them begin anew"),
        }
    }

    /// When a key was last used, as far as it is written.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub async fn last_use(&self, key: KeyId) -> Result<Option<LastUse>, StoreError> {
        let mut finder = self.finders.acquire().await?;
        Ok(sql::last_use(&mut finder, key).await?)
    }

    /// Reads a row of the list of keys.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn read_key(&self, row: &sql::Row) -> Result<Option<(StoredKey, Option<LastUse>)>, StoreError> {
        let last_use = sql::last_use_of(row)?;
        Ok(self.read_row::<StoredKey>(row)?.map(|key| (key, last_use)))
    }

    /// Whether a key is of a place, or was when it died.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read or is damaged.
    pub async fn was_ever(&self, place: Place, key: KeyId) -> Result<bool, StoreError> {
        let mut finder = self.finders.acquire().await?;
        let row = sql::key_ever(&mut finder, place, key).await?;
        row.map_or(Ok(false), |row| self.row_keys.authentic::<StoredKey>(&row).map(|key| place.holds(key.holder)))
    }

    /// How often a project's keys were used, or one of them, from one hour since 1970 to another: those in which there was a
    /// use.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub async fn hours_of_use(
        &self,
        project: ProjectId,
        key: Option<KeyId>,
        hours: (i64, i64),
    ) -> Result<Vec<(i64, Counts)>, StoreError> {
        let mut reader = self.readers.acquire().await?;
        Ok(sql::hours(&mut reader, project, key, hours).await?)
    }

    /// Whether there are uses of hours before one.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub async fn has_usage_before(&self, hour: i64) -> Result<bool, StoreError> {
        let mut finder = self.finders.acquire().await?;
        Ok(sql::has_hours_before(&mut finder, hour).await?)
    }
}
