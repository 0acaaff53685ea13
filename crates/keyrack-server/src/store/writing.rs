//! The one way to change anything.

use std::sync::Arc;
use std::time::Duration;

use keyrack::{KeyChange, KeyDigest, ProjectId};
use sqlx::{Connection as _, SqliteConnection};
use tokio::sync::OwnedMutexGuard;
use tokio::time::timeout;

use super::{Store, StoreError, sql, sqlite};
use crate::audit::{self, Actor, Entry, Event, NO_HASH, Target, tenant_of};
use crate::clock::Timestamp;
use crate::crash::crash_point;
use crate::replies::KeptReply;
use crate::stored_key::StoredKey;

/// How long a change waits for the ones before it.
const TURN_WAIT: Duration = Duration::from_secs(5);

/// Whether a change may use the last of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// It leaves the ballast in place, so that keys can still be revoked afterwards.
    Ordinary,
    /// It revokes: the ballast is given up for it if there is no other room.
    Revocation,
}

/// The connection that writes, and how far the index has come.
pub(super) struct WriterState {
    /// `None` after a failure: the next change opens it anew and finds out what was committed.
    connection: Option<SqliteConnection>,
    in_transaction: bool,
    /// Number of the newest change that the index holds.
    pub(super) applied: i64,
}

impl WriterState {
    pub(super) const fn new(connection: Option<SqliteConnection>) -> Self {
        Self { connection, in_transaction: false, applied: 0 }
    }

    pub(super) async fn close(&mut self) {
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, "the store did not close cleanly; nothing is lost");
        }
    }
}

/// Who asks for a change.
#[derive(Clone, Debug)]
pub struct By {
    /// The credential.
    pub actor: Actor,
    /// The request.
    pub request_id: String,
}

/// One transaction. Without [`Writing::commit`] it leaves nothing behind.
pub struct Writing {
    store: Arc<Store>,
    state: OwnedMutexGuard<WriterState>,
    effects: Vec<(KeyDigest, KeyChange)>,
    seq: i64,
    now: Timestamp,
}

impl Store {
    /// Begins a change, after those before it. Only one is under way at a time.
    ///
    /// # Errors
    /// [`StoreError::Busy`] if the turn does not come, [`StoreError::Full`] if only revocations have room left.
    pub async fn begin(self: &Arc<Self>, need: Need) -> Result<Writing, StoreError> {
        let turn = timeout(TURN_WAIT, Arc::clone(&self.writer).lock_owned()).await;
        let mut state = turn.map_err(|_elapsed| StoreError::Busy)?;
        if need == Need::Ordinary && !self.ballast.is_in_place() {
            return Err(StoreError::Full);
        }
        let mut connection = match state.connection.take() {
            Some(connection) => connection,
            None => self.reopen(&mut state).await?,
        };
        sqlx::query(sqlite::BEGIN_WRITE).execute(&mut connection).await?;
        state.connection = Some(connection);
        state.in_transaction = true;
        let seq = state.applied;
        Ok(Writing { store: Arc::clone(self), state, effects: Vec::new(), seq, now: self.now() })
    }

    /// Makes room for a revocation on a full disk.
    pub fn give_up_ballast(&self) {
        self.ballast.give_up();
    }

    /// After a failure nobody knows whether the last change was committed: the change log does.
    async fn reopen(&self, state: &mut WriterState) -> Result<SqliteConnection, StoreError> {
        let mut connection = sqlite::open_for_writing(&self.file).await?;
        state.in_transaction = false;
        for row in sql::changed_keys(&mut connection, state.applied).await? {
            let key = self.authentic(&row)?;
            self.apply(&key.digest, &change_of(&key))?;
            state.applied = sqlx::Row::try_get(&row, "seq")?;
        }
        Ok(connection)
    }
}

fn change_of(key: &StoredKey) -> KeyChange {
    match key.revoked_at {
        None => KeyChange::Put(key.record()),
        Some(_) => KeyChange::Revoke { id: key.id },
    }
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
        Ok(sql::next_id(self.on()?, "api_key").await?)
    }

    /// A live key of a project.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read or is damaged: a damaged row is never authenticated anew.
    pub async fn project_key(&mut self, project: ProjectId, id: i64) -> Result<Option<StoredKey>, StoreError> {
        let row = sql::project_key(self.on()?, project, id).await?;
        row.map(|row| self.store.authentic(&row)).transpose()
    }

    /// Writes a key that is new, with its audit and change-log entries.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing of this transaction will be committed.
    pub async fn insert_key(&mut self, key: &StoredKey, action: &str, by: &By) -> Result<(), StoreError> {
        let mac = self.store.row_mac(key);
        sql::insert_key(self.on()?, key, &mac).await?;
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
        if !sql::update_key(self.on()?, after, &mac).await? {
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
        let seq = self.record(event).await?;
        sql::insert_change(self.on()?, seq, after.id).await?;
        self.effects.push((after.digest, change_of(after)));
        Ok(())
    }

    /// Adds an entry to the audit chain.
    async fn record(&mut self, event: Event) -> Result<i64, StoreError> {
        let previous = sql::take_seq(self.on()?).await?;
        if !self.store.head_key.fits(&audit::head(previous.seq, &previous.hash), &previous.mac) {
            return Err(StoreError::Damaged { what: "the audit chain's newest hash does not authenticate".to_owned() });
        }
        let entry = Entry::chained(previous.seq + 1, self.now, event, &previous.hash);
        let mac = self.store.head_key.tag(&audit::head(entry.seq, &entry.hash));
        sql::insert_audit_entry(self.on()?, &entry).await?;
        sql::set_audit_head(self.on()?, &entry.hash, &mac).await?;
        crash_point("after-audit-entry");
        self.seq = entry.seq;
        Ok(entry.seq)
    }

    /// The kept reply to a request, if it is not too old.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn reply(&mut self, lookup: &[u8; 32]) -> Result<Option<KeptReply>, StoreError> {
        let now = self.now;
        sql::delete_expired_replies(self.on()?, now).await?;
        Ok(sql::reply(self.on()?, lookup).await?)
    }

    /// Keeps the reply to a request.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn keep_reply(&mut self, lookup: &[u8; 32], reply: &KeptReply) -> Result<(), StoreError> {
        Ok(sql::insert_reply(self.on()?, lookup, reply).await?)
    }

    /// Forgets replies that are too old; says how many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget_old_replies(&mut self) -> Result<u64, StoreError> {
        let now = self.now;
        Ok(sql::delete_expired_replies(self.on()?, now).await?)
    }

    /// Commits, and brings the index up to date. When this returns `Ok`, the change is on disk and in force.
    ///
    /// # Errors
    /// [`StoreError::Full`] if nothing was committed for want of room; [`StoreError::OutcomeUnknown`] if the database
    /// failed in the middle. The next change finds out what became of it.
    pub async fn commit(mut self) -> Result<(), StoreError> {
        crash_point("before-commit");
        let committed = sqlx::query("COMMIT").execute(self.on()?).await;
        if let Err(error) = committed {
            return match error.into() {
                StoreError::Unavailable(error) => Err(StoreError::OutcomeUnknown(error)),
                certain @ (StoreError::Full
                | StoreError::Busy
                | StoreError::OutcomeUnknown(_)
                | StoreError::Damaged { .. }
                | StoreError::NewerSchema { .. }
                | StoreError::OlderSchema { .. }) => Err(certain),
            };
        }
        crash_point("after-commit");
        self.state.in_transaction = false;
        for (digest, change) in &self.effects {
            self.store.apply(digest, change)?;
        }
        self.state.applied = self.seq;
        Ok(())
    }

    /// Ends the transaction without a trace.
    pub async fn abandon(mut self) {
        let Ok(connection) = self.on() else { return };
        if sqlx::query("ROLLBACK").execute(connection).await.is_ok() {
            self.state.in_transaction = false;
        }
    }

    /// Undoes everything since the beginning, and begins again.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn start_over(&mut self) -> Result<(), StoreError> {
        sqlx::query("ROLLBACK").execute(self.on()?).await?;
        self.effects.clear();
        self.seq = self.state.applied;
        sqlx::query(sqlite::BEGIN_WRITE).execute(self.on()?).await?;
        Ok(())
    }

    /// The connection of this transaction.
    fn on(&mut self) -> Result<&mut SqliteConnection, StoreError> {
        self.state.connection.as_mut().ok_or(StoreError::Unavailable(sqlx::Error::PoolClosed))
    }
}

/// A transaction that was neither committed nor abandoned takes its connection with it: the database rolls it back, and
/// the next change opens a new one and reads the change log.
impl Drop for Writing {
    fn drop(&mut self) {
        if self.state.in_transaction {
            self.state.connection = None;
        }
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
        sql::insert_installation(self.on()?, now, &check).await?;
        let mac = self.store.head_key.tag(&audit::head(0, &NO_HASH)).to_vec();
        sql::insert_audit_head(self.on()?, &sql::Head { seq: 0, hash: NO_HASH.to_vec(), mac }).await?;
        Ok(())
    }

    /// Makes an organization.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn insert_organization(&mut self, username: &str, by: &By) -> Result<i64, StoreError> {
        let now = self.now;
        let id = sql::next_id(self.on()?, "organization").await?;
        sql::insert_organization(self.on()?, id, username, now).await?;
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
        let id = sql::next_id(self.on()?, "project").await?;
        sql::insert_project(self.on()?, id, organization, name, now).await?;
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
        self.record(event).await?;
        Ok(())
    }

    /// The organization that a project belongs to.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn organization_of(&mut self, project: i64) -> Result<Option<i64>, StoreError> {
        Ok(sql::organization_of(self.on()?, project).await?)
    }

    /// Whether there is such an organization.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn organization_exists(&mut self, id: i64) -> Result<bool, StoreError> {
        Ok(sql::organization_exists(self.on()?, id).await?)
    }
}
