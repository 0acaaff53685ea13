//! What a change may hold: rows with their MACs, audit and change-log entries, kept replies.

use keyrack::ProjectId;

use super::live_sum::LiveSum;
use super::transaction::{Writing, change_of};
use super::{StoreError, sql};
use crate::audit::{self, Actor, Entry, Event, NO_HASH, Target, tenant_of};
use crate::clock::Timestamp;
use crate::crash::crash_point;
use crate::replies::KeptReply;
use crate::stored_key::StoredKey;

/// Who asks for a change.
#[derive(Clone, Debug)]
pub struct By {
    /// The credential.
    pub actor: Actor,
    /// The request.
    pub request_id: String,
}

impl Writing {
    /// The time of this change.
    pub const fn now(&self) -> Timestamp {
        self.now
    }

    /// The next number for a key of any kind.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn next_key_id(&mut self) -> Result<i64, StoreError> {
        Ok(sql::next_id(self.connection()?, "api_key").await?)
    }

    /// A live key of a project, to be changed.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read or is damaged, or if it is not the state that is in force: what was tampered
    /// with, or put back while the server runs, is never authenticated anew.
    pub async fn project_key(&mut self, project: ProjectId, id: i64) -> Result<Option<StoredKey>, StoreError> {
        let row = sql::project_key(self.connection()?, project, id).await?;
        let Some(key) = row.map(|row| self.store.authentic(&row)).transpose()? else { return Ok(None) };
        let changed_here = self.effects.iter().rev().find(|(digest, _)| *digest == key.digest);
        let is_in_force = match changed_here {
            Some((_, change)) => *change == change_of(&key),
            None => self.store.is_in_force(&key),
        };
        if is_in_force {
            return Ok(Some(key));
        }
        Err(StoreError::Damaged { what: format!("the row of key {id} is not the one that is in force") })
    }

    /// Writes a key that is new, with its audit and change-log entries.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing of this transaction will be committed.
    pub async fn insert_key(&mut self, key: &StoredKey, action: &str, by: &By) -> Result<(), StoreError> {
        let mac = self.store.row_mac(key);
        sql::insert_key(self.connection()?, key, &mac).await?;
        crash_point("after-key-row");
        self.record_key(None, key, action, by).await
    }

    /// Writes a key that was changed, with its audit and change-log entries. `after` is one version on.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing of this transaction will be committed.
    pub async fn update_key(
        &mut self,
        before: &StoredKey,
        after: &StoredKey,
        action: &str,
        by: &By,
    ) -> Result<(), StoreError> {
        let mac = self.store.row_mac(after);
        if !sql::update_key(self.connection()?, after, &mac).await? {
            return Err(StoreError::Damaged { what: format!("key {} changed while it was locked", after.id) });
        }
        crash_point("after-key-row");
        self.record_key(Some(before), after, action, by).await
    }

    async fn record_key(
        &mut self,
        before: Option<&StoredKey>,
        after: &StoredKey,
        action: &str,
        by: &By,
    ) -> Result<(), StoreError> {
        let (organization, project) = tenant_of(after.holder);
        let event = Event {
            actor: by.actor.clone(),
            action: action.to_owned(),
            target: Target { kind: "key".to_owned(), id: after.id.0, version: after.version.into() },
            organization: organization.map(|id| id.0.into()),
            project: project.map(|id| id.0.into()),
            before: before.map(audit::describe),
            after: Some(audit::describe(after)),
            request_id: by.request_id.clone(),
        };
        let gone = before.map(|before| self.store.summand(before));
        let come = after.revoked_at.is_none().then(|| self.store.summand(after));
        let seq = self.record(event, gone, come).await?;
        sql::insert_change(self.connection()?, seq, after.id).await?;
        self.effects.push((after.digest, change_of(after)));
        Ok(())
    }

    /// Adds an entry to the audit chain, and adds or takes away the summands of rows that are live now, or no longer.
    async fn record(
        &mut self,
        event: Event,
        gone: Option<[u8; 32]>,
        come: Option<[u8; 32]>,
    ) -> Result<i64, StoreError> {
        let known = sql::take_seq(self.connection()?).await?;
        let sum = self.store.sum_of(&known).filter(|_| self.store.is_authentic(&known));
        let damaged = || StoreError::Damaged { what: "the newest audit hash does not authenticate".to_owned() };
        let sum = gone.iter().fold(sum.ok_or_else(damaged)?, LiveSum::without);
        let sum = come.iter().fold(sum, LiveSum::with);

        let entry = Entry::chained(known.seq + 1, self.now, event, &known.hash);
        sql::insert_audit_entry(self.connection()?, &entry).await?;
        let head = self.store.head_of(entry.seq, entry.hash, sum);
        sql::set_audit_head(self.connection()?, &head).await?;
        crash_point("after-audit-entry");
        self.newest = Some((head.seq, head.hash));
        Ok(head.seq)
    }

    /// The kept reply to a request, if it is not too old.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn reply(&mut self, lookup: &[u8; 32]) -> Result<Option<KeptReply>, StoreError> {
        let now = self.now;
        Ok(sql::reply(self.connection()?, lookup, now).await?)
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
        let now = self.now;
        Ok(sql::delete_expired_replies(self.connection()?, now).await?)
    }
}

/// What only the first start needs.
impl Writing {
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

    /// Makes an organization.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn insert_organization(&mut self, username: &str, by: &By) -> Result<i64, StoreError> {
        let now = self.now;
        let id = sql::next_id(self.connection()?, "organization").await?;
        sql::insert_organization(self.connection()?, id, username, now).await?;
        let after = serde_json::json!({"username": username});
        self.record_made("organization", id, (Some(id), None), &after, by).await?;
        Ok(id)
    }

    /// Makes a project.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn insert_project(&mut self, organization: i64, name: &str, by: &By) -> Result<i64, StoreError> {
        let now = self.now;
        let id = sql::next_id(self.connection()?, "project").await?;
        sql::insert_project(self.connection()?, id, organization, name, now).await?;
        let after = serde_json::json!({"name": name});
        self.record_made("project", id, (Some(organization), Some(id)), &after, by).await?;
        Ok(id)
    }

    async fn record_made(
        &mut self,
        kind: &str,
        id: i64,
        (organization, project): (Option<i64>, Option<i64>),
        after: &serde_json::Value,
        by: &By,
    ) -> Result<(), StoreError> {
        let event = Event {
            actor: by.actor.clone(),
            action: format!("{kind}.create"),
            target: Target { kind: kind.to_owned(), id, version: 1 },
            organization,
            project,
            before: None,
            after: Some(after.to_string()),
            request_id: by.request_id.clone(),
        };
        self.record(event, None, None).await?;
        Ok(())
    }

    /// The organization that a project belongs to.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn organization_of(&mut self, project: i64) -> Result<Option<i64>, StoreError> {
        Ok(sql::organization_of(self.connection()?, project).await?)
    }

    /// Whether there is such an organization.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn organization_exists(&mut self, id: i64) -> Result<bool, StoreError> {
        Ok(sql::organization_exists(self.connection()?, id).await?)
    }
}
