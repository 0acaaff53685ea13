//! What a change may hold: rows with their MACs, the entries of the audit log, kept replies.

use std::sync::Arc;

use keyrack::{KeyId, KeyRecord, OrganizationId, PolicyVersion, ProjectId};

use super::live_sum::LiveSum;
use super::reading::{Beneath, Find};
use super::transaction::Writing;
use super::{StoreError, Table, not_in_force, sql};
use crate::actor::Actor;
use crate::audit::{Event, NO_HASH};
use crate::clock::Timestamp;
use crate::crash::crash_point;
use crate::kept::{Kept, Kind, Reference};
use crate::place::Place;
use crate::replies::KeptReply;
use crate::stored_key::StoredKey;
use crate::tenancy::Project;

/// How many keys are read at a time where there may be many.
const KEYS_AT_A_TIME: i64 = 500;

/// Who asks for a change.
#[derive(Clone, Debug)]
pub struct By {
    /// The credential.
    pub actor: Actor,
    /// The request.
    pub request_id: String,
}

/// Only what is in force is found: what was tampered with, or put back while the server runs, is never authenticated anew.
impl Find for Writing {
    async fn find<K: Table>(&mut self, at: K::Place) -> Result<Option<K>, StoreError> {
        let Some(row) = K::find(self.connection()?, at).await? else {
            self.own.relied_on.add_everything();
            return Ok(None);
        };
        self.in_force_or_moved(&row).await.map(Some)
    }
}

impl Writing {
    /// The time of this change.
    pub const fn now(&self) -> Timestamp {
        self.now
    }

    /// The next number of a kind of thing; keys of all kinds share theirs.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn next_id<K: Kept>(&mut self) -> Result<i64, StoreError> {
        Ok(sql::next_id(self.connection()?, K::KIND.as_str()).await?)
    }

    /// The policy in force.
    pub fn policy_version(&mut self) -> PolicyVersion {
        let version = self.store.verifier.policies().version();
        // What comes next would be relied on too, were it there.
        self.own.relied_on.add(Reference { kind: Kind::Policy, id: i64::from(version.0) + 1 });
        version
    }

    /// What is newer than what is in force here was changed by another process just now.
    async fn in_force_or_moved<K: Table>(&mut self, row: &sql::Row) -> Result<K, StoreError> {
        match self.in_force::<K>(row) {
            Ok(found) => {
                self.own.relied_on.add(found.reference());
                Ok(found)
            }
            Err(_) if self.has_moved().await? => Err(StoreError::Conflict),
            Err(error) => {
                self.own.relied_on.add_everything();
                Err(error)
            }
        }
    }

    /// Whether others have committed since this began, or wrote before it in the same transaction.
    async fn has_moved(&mut self) -> Result<bool, StoreError> {
        if self.is_shared() {
            return Ok(true);
        }
        if !self.store.database.is_shared() {
            return Ok(false);
        }
        // Where it has its own place in the log already, nobody else has one behind that.
        let position = self.own.newest.as_ref().map_or(self.position, |newest| newest.seq);
        let head = sql::audit_head(self.connection()?).await?;
        Ok(head.is_some_and(|head| head.seq > position))
    }

    /// Says that this change goes by something that was looked up elsewhere, such as the key that asks for it.
    pub fn rely_on(&mut self, thing: Reference) {
        self.own.relied_on.add(thing);
    }

    fn in_force<K: Table>(&self, row: &sql::Row) -> Result<K, StoreError> {
        let found: K = self.store.row_keys.authentic(row)?;
        if self.store.in_force.holds(&found.effect(), &self.own.effects) {
            return Ok(found);
        }
        Err(not_in_force(&found))
    }

    /// A key of a place, as the database has it, that died on this node while the database was away, which has not heard of it yet.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read or is damaged.
    pub async fn unheard_death(&mut self, place: Place, id: i64) -> Result<Option<StoredKey>, StoreError> {
        if !self.store.journal.has_number(KeyId(id)) {
            return Ok(None);
        }
        let row = StoredKey::find(self.connection()?, (place, id)).await?;
        let found = row.map(|row| self.store.row_keys.authentic::<StoredKey>(&row)).transpose()?;
        self.own.relied_on.add(Reference { kind: Kind::Key, id });
        Ok(found.filter(|key| key.is_live() && self.store.journal.holds(&key.digest)))
    }

    /// The row of a key that lives, for all that the database knows, whatever is in force here.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read or is damaged.
    pub async fn living_row(&mut self, key: KeyId) -> Result<Option<StoredKey>, StoreError> {
        let row = sql::by_id::<StoredKey>(self.connection()?, key.0).await?;
        let found = row.map(|row| self.store.row_keys.authentic::<StoredKey>(&row)).transpose()?;
        Ok(found.filter(Kept::is_live))
    }

    /// Some live keys of a place whose numbers are above `after`, lowest first, and the number to go on from; none of that
    /// when there are no more. A key whose row cannot be used is left out: it is dead in memory from here on, and is
    /// refused at every start.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub async fn live_keys(&mut self, place: Place, after: i64) -> Result<Option<(Vec<StoredKey>, i64)>, StoreError> {
        let rows = sql::live_keys(self.connection()?, place, after, KEYS_AT_A_TIME).await?;
        let Some(last) = rows.last().and_then(sql::reference::<StoredKey>) else { return Ok(None) };
        Ok(Some((self.usable(&rows).await?, last.id)))
    }

    /// Every live project of an organization. One whose row cannot be used is left out; it is refused everywhere else
    /// too.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub async fn live_projects(&mut self, organization: OrganizationId) -> Result<Vec<Project>, StoreError> {
        let rows = sql::live_projects(self.connection()?, organization).await?;
        self.usable(&rows).await
    }

    async fn usable<K: Table>(&mut self, rows: &[sql::Row]) -> Result<Vec<K>, StoreError> {
        self.own.relied_on.add_everything();
        let mut usable = Vec::with_capacity(rows.len());
        for row in rows {
            match self.in_force(row) {
                Ok(found) => usable.push(found),
                Err(_) if self.has_moved().await? => return Err(StoreError::Conflict),
                Err(error) => {
                    tracing::error!(%error, "a row was left out of a change");
                    if let Some(reference) = sql::reference::<K>(row) {
                        self.store.in_force.refuse(reference);
                    }
                }
            }
        }
        Ok(usable)
    }

    /// Makes a key dead in memory whose row cannot be used, if it may be revoked in that place; says whether there was one.
    pub fn kill_in_memory(&self, place: Place, id: i64) -> bool {
        self.store.in_force.kill(|key| key.id.0 == id && place.may_end(key)) > 0
    }

    /// Makes a key dead in memory whose row is gone or only looks as if it were dead; says whether there was one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn kill_if_hidden(&mut self, place: Place, id: i64) -> Result<bool, StoreError> {
        self.own.relied_on.add_everything();
        let row = sql::by_id::<StoredKey>(self.connection()?, id).await?;
        let is_hidden = match row.map(|row| self.store.row_keys.authentic::<StoredKey>(&row)) {
            // As it should be: of another place, or dead.
            Some(Ok(key)) => !key.is_live() && self.store.in_force.lets_pass(&key.digest),
            Some(Err(_)) => true,
            // To look through all keys is dear, so it is not done for a number that was never given out.
            None => sql::newest_id(self.connection()?, StoredKey::KIND.as_str()).await? >= id,
        };
        if is_hidden && self.has_moved().await? {
            return Err(StoreError::Conflict);
        }
        Ok(is_hidden && self.kill_in_memory(place, id))
    }

    /// Stops every key of an organization in memory whose row cannot be used.
    pub fn stop_in_memory(&self, organization: OrganizationId) {
        self.store.in_force.refuse(Reference { kind: Kind::Organization, id: organization.0.into() });
    }

    /// Makes a key dead in memory, if it is of that place and organization.
    pub fn kill_in_memory_beneath(&self, organization: OrganizationId, place: Place, id: i64) {
        let is_own = |key: &KeyRecord| Place::Beneath(organization).holds(key.holder) && place.may_end(key);
        self.store.in_force.kill(|key| key.id.0 == id && is_own(key));
    }

    /// Makes every key of a project dead in memory, if it is that organization's.
    pub fn kill_project_in_memory(&self, organization: OrganizationId, project: ProjectId) {
        let place = Place::Project(project);
        let is_own = |holder| Place::Beneath(organization).holds(holder) && place.holds(holder);
        self.store.in_force.kill(|key| is_own(key.holder));
    }

    /// What there is beneath an organization.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn counts_beneath(&mut self, organization: OrganizationId) -> Result<Beneath, StoreError> {
        self.own.relied_on.add_everything();
        Ok(sql::counts_beneath(self.connection()?, organization).await?)
    }

    /// Whether an organization has or had a short name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn username_is_taken(&mut self, username: &str) -> Result<bool, StoreError> {
        self.own.relied_on.add_everything();
        Ok(sql::username_is_taken(self.connection()?, username).await?)
    }

    /// Writes something new.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing of this transaction will be committed.
    pub async fn insert<K: Table>(&mut self, new: &K, action: &str, by: &By) -> Result<(), StoreError> {
        self.insert_after(None, new, action, by).await
    }

    /// Writes something new that follows upon another, which stays; the log says what that was.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing of this transaction will be committed.
    pub async fn insert_after<K: Table>(
        &mut self,
        former: Option<&K>,
        new: &K,
        action: &str,
        by: &By,
    ) -> Result<(), StoreError> {
        let mac = self.store.row_keys.mac(new);
        new.insert(self.connection()?, &mac).await?;
        crash_point("after-row");
        self.note(None, new, Event::of(former, new, action, by.actor, &by.request_id));
        Ok(())
    }

    /// Writes something that was changed. `after` is one version on.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing of this transaction will be committed.
    pub async fn update<K: Table>(&mut self, before: &K, after: &K, action: &str, by: &By) -> Result<(), StoreError> {
        let mac = self.store.row_keys.mac(after);
        if !after.update(self.connection()?, &mac).await? {
            if self.has_moved().await? {
                return Err(StoreError::Conflict);
            }
            return Err(StoreError::Damaged { what: format!("{} changed while it was locked", after.reference()) });
        }
        crash_point("after-row");
        self.note(Some(before), after, Event::of(Some(before), after, action, by.actor, &by.request_id));
        Ok(())
    }

    /// Notes what was written: for the log, for the sum over all live rows, and for the state in force.
    fn note<K: Table>(&mut self, before: Option<&K>, after: &K, event: Event) {
        let gone = before.filter(|before| before.is_live()).map(|before| self.store.row_keys.summand(before));
        let come = after.is_live().then(|| self.store.row_keys.summand(after));
        self.own.log.moved = gone.iter().fold(self.own.log.moved, LiveSum::without);
        self.own.log.moved = come.iter().fold(self.own.log.moved, LiveSum::with);
        self.narrows |= K::narrows(before, after);
        self.own.log.events.push((self.now, event));
        self.own.effects.push(after.effect());
    }

    /// Adds the entries noted so far to the audit chain. A change that has many does it now and then, so that they do not all lie in
    /// memory; the others when they are committed, so that the place in the log is the last thing taken.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing of this transaction will be committed. [`StoreError::Conflict`] if others wait for it.
    pub async fn write_log(&mut self) -> Result<(), StoreError> {
        if self.is_shared() {
            return Err(StoreError::Conflict);
        }
        let (store, begun_at) = (Arc::clone(&self.store), self.position);
        let mut written = std::mem::take(&mut self.own);
        let outcome = store.write_log(self.connection()?, &mut written, begun_at).await;
        self.own = written;
        outcome
    }

    /// The time by which replies grow old: that of the database. A node whose clock is wrong would forget everybody's.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn reply_time(&mut self) -> Result<Timestamp, StoreError> {
        if let Some(time) = self.reply_time {
            return Ok(time);
        }
        let own = self.now;
        let time = self.connection()?.time(own).await?;
        self.reply_time = Some(time);
        Ok(time)
    }

    /// The kept reply to a request, if it is not too old. [`Writing::position`] is not below its change then, even if another process
    /// committed that after this transaction began.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn reply(&mut self, lookup: &[u8; 32]) -> Result<Option<KeptReply>, StoreError> {
        let now = self.reply_time().await?;
        let found = sql::reply(self.connection()?, lookup, now).await?;
        if found.is_some() && self.store.is_shared() {
            let store = Arc::clone(&self.store);
            self.position = store.catch_up(self.connection()?).await?;
        }
        Ok(found)
    }

    /// Keeps the reply to a request, and forgets those that are too old, one under the same name included.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn keep_reply(&mut self, lookup: &[u8; 32], reply: &KeptReply) -> Result<(), StoreError> {
        self.forget_old_replies().await?;
        Ok(sql::insert_reply(self.connection()?, lookup, reply).await?)
    }

    /// Forgets replies that are too old; says how many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget_old_replies(&mut self) -> Result<u64, StoreError> {
        let now = self.reply_time().await?;
        Ok(sql::delete_expired_replies(self.connection()?, now).await?)
    }

    /// Sets the installation up: binds it to its root key and begins the audit chain.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_up(&mut self) -> Result<(), StoreError> {
        let (now, check) = (self.now, self.store.root_key_check());
        sql::insert_installation(self.connection()?, now, &check).await?;
        let head = self.store.head_of(0, NO_HASH.to_vec(), LiveSum::default());
        sql::insert_audit_head(self.connection()?, &head).await?;
        Ok(())
    }
}
