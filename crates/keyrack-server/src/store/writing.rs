//! The one way to change anything.

use std::sync::Arc;
use std::time::Duration;

use keyrack::{KeyChange, KeyDigest, ProjectId};
use sqlx::{Connection as _, SqliteConnection};
use tokio::sync::OwnedMutexGuard;
use tokio::time::timeout;

use super::live_sum::LiveSum;
use super::{Store, StoreError, sql, sqlite, with_version};
use crate::audit::{self, Actor, Entry, Event, NO_HASH, Target, tenant_of};
use crate::clock::Timestamp;
use crate::crash::crash_point;
use crate::replies::KeptReply;
use crate::stored_key::StoredKey;

/// How long a change waits for the ones before it.
const ORDINARY_WAIT: Duration = Duration::from_secs(5);
/// How long a revocation does: nearly as long as a request may take.
const REVOCATION_WAIT: Duration = Duration::from_secs(25);

/// How long is waited before an open outcome is settled again.
const SETTLE_INTERVAL: Duration = Duration::from_millis(500);

/// Whether a change may go ahead of others and use the last of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// It takes its turn, and leaves the ballast in place, so that keys can still be revoked afterwards.
    Ordinary,
    /// It revokes: it waits for one ordinary change at most, and the ballast may be given up for it.
    Revocation,
}

/// The connection that writes, and how far the index has come.
#[derive(Default)]
pub(super) struct WriterState {
    /// `None` before the first change and after a failure: the next one opens it anew and finds out what was committed.
    connection: Option<SqliteConnection>,
    in_transaction: bool,
    /// Number of the newest change that the index holds.
    pub(super) applied: i64,
}

impl WriterState {
    pub(super) fn put(&mut self, connection: SqliteConnection) {
        self.connection = Some(connection);
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
    /// The turn among ordinary changes.
    _turn: Option<OwnedMutexGuard<()>>,
    effects: Vec<(KeyDigest, KeyChange)>,
    newest: Option<(i64, Vec<u8>)>,
    now: Timestamp,
}

impl Store {
    /// Begins a change, after those before it. Only one is under way at a time.
    ///
    /// # Errors
    /// [`StoreError::Busy`] if the turn does not come, [`StoreError::Full`] if only revocations have room left.
    pub async fn begin(self: &Arc<Self>, need: Need) -> Result<Writing, StoreError> {
        let (turn, state) = self.turn(need).await.ok_or(StoreError::Busy)?;
        if need == Need::Ordinary && !self.ballast.is_whole() {
            let ballast = Arc::clone(&self.ballast);
            if !tokio::task::spawn_blocking(move || ballast.fill()).await.unwrap_or(false) {
                return Err(StoreError::Full);
            }
        }
        let now = self.clock.now();
        let (store, effects) = (Arc::clone(self), Vec::new());
        let mut writing = Writing { store, state, _turn: turn, effects, newest: None, now };
        match writing.open().await {
            Err(error) if need == Need::Revocation && error.may_be_for_want_of_room() => {
                self.ballast.give_up();
                writing.state.connection = None;
                writing.open().await?;
            }
            outcome => outcome?,
        }
        Ok(writing)
    }

    async fn turn(&self, need: Need) -> Option<(Option<OwnedMutexGuard<()>>, OwnedMutexGuard<WriterState>)> {
        let (ordinary, writer) = (Arc::clone(&self.ordinary_turn), Arc::clone(&self.writer));
        match need {
            Need::Ordinary => {
                let both = async { (Some(ordinary.lock_owned().await), writer.lock_owned().await) };
                timeout(ORDINARY_WAIT, both).await.ok()
            }
            Need::Revocation => Some((None, timeout(REVOCATION_WAIT, writer.lock_owned()).await.ok()?)),
        }
    }

    /// A commit whose sync failed is not seen by any reader, yet lies in the log and would come to life after a crash.
    /// The next commit overwrites it, so one is made as soon as the disk allows.
    async fn settle(self: Arc<Self>) {
        while let Err(error) = self.settle_once().await {
            tracing::warn!(%error, "the outcome of a change is still open; trying again");
            tokio::time::sleep(SETTLE_INTERVAL).await;
        }
        tracing::info!("the outcome of the last change is settled");
    }

    async fn settle_once(self: &Arc<Self>) -> Result<(), StoreError> {
        let mut writing = self.begin(Need::Ordinary).await?;
        // A change that is one: SQLite does not write what stays the same.
        sql::next_id(writing.connection()?, "settlement").await?;
        writing.commit_or_fail().await
    }

    /// Makes room for a revocation on a full disk.
    pub fn give_up_ballast(&self) {
        self.ballast.give_up();
    }
}

impl Writing {
    /// Begins the transaction, on a new connection if there is none. After a failure nobody knows whether the last
    /// change was committed: the change log does, read under the write lock.
    async fn open(&mut self) -> Result<(), StoreError> {
        let is_new = self.state.connection.is_none();
        if is_new {
            self.state.connection = Some(sqlite::open_for_writing(&self.store.file).await?);
        }
        self.state.in_transaction = true;
        sqlx::query(sqlite::BEGIN_WRITE).execute(self.connection()?).await?;
        if is_new {
            let applied = self.state.applied;
            for row in sql::changed_keys(self.connection()?, applied).await? {
                let key = self.store.authentic(&row)?;
                self.store.apply(&key.digest, &change_of(&key))?;
                self.state.applied = sqlx::Row::try_get(&row, "seq")?;
            }
        }
        Ok(())
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
        Ok(sql::next_id(self.connection()?, "api_key").await?)
    }

    /// A live key of a project.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read or is damaged: a damaged row is never authenticated anew.
    pub async fn project_key(&mut self, project: ProjectId, id: i64) -> Result<Option<StoredKey>, StoreError> {
        let row = sql::project_key(self.connection()?, project, id).await?;
        row.map(|row| self.store.authentic(&row)).transpose()
    }

    /// Writes a key that is new, with its audit and change-log entries.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing of this transaction will be committed.
    pub async fn insert_key(&mut self, key: &StoredKey, action: &str, by: &By) -> Result<(), StoreError> {
        let tag = self.store.row_tag(key);
        sql::insert_key(self.connection()?, key, &with_version(tag)).await?;
        crash_point("after-key-row");
        self.record_key(None, (key, tag), action, by).await
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
        let tag = self.store.row_tag(after);
        if !sql::update_key(self.connection()?, after, &with_version(tag)).await? {
            return Err(StoreError::Damaged { what: format!("key {} changed while it was locked", after.id) });
        }
        crash_point("after-key-row");
        self.record_key(Some(before), (after, tag), action, by).await
    }

    async fn record_key(
        &mut self,
        before: Option<&StoredKey>,
        (after, tag): (&StoredKey, [u8; 32]),
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
        let gone = before.map(|before| self.store.row_tag(before));
        let come = after.revoked_at.is_none().then_some(tag);
        let seq = self.record(event, gone, come).await?;
        sql::insert_change(self.connection()?, seq, after.id).await?;
        self.effects.push((after.digest, change_of(after)));
        Ok(())
    }

    /// Adds an entry to the audit chain, and takes the MACs of rows that are no longer live, or newly so, into account.
    async fn record(
        &mut self,
        event: Event,
        gone: Option<[u8; 32]>,
        come: Option<[u8; 32]>,
    ) -> Result<i64, StoreError> {
        let known = sql::take_seq(self.connection()?).await?;
        let sum = LiveSum::from_bytes(&known.live_sum).filter(|_| self.store.is_authentic(&known));
        let damaged = || StoreError::Damaged { what: "the newest audit hash does not authenticate".to_owned() };
        let sum = sum.ok_or_else(damaged)?;
        let sum = gone.map_or(sum, |tag| sum.without(&tag));
        let sum = come.map_or(sum, |tag| sum.with(&tag)).to_bytes();

        let entry = Entry::chained(known.seq + 1, self.now, event, &known.hash);
        sql::insert_audit_entry(self.connection()?, &entry).await?;
        let mac = self.store.head_mac(entry.seq, &entry.hash, &sum);
        let head = sql::Head { seq: entry.seq, hash: entry.hash, live_sum: sum, mac };
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

    /// Commits, and brings the index up to date. When this returns `Ok`, the change is on disk and in force.
    ///
    /// # Errors
    /// [`StoreError::Full`] if nothing was committed for want of room; [`StoreError::OutcomeUnknown`] if the database
    /// failed in the middle. That is settled in the background, before any other change.
    pub async fn commit(self) -> Result<(), StoreError> {
        let store = Arc::clone(&self.store);
        let outcome = self.commit_or_fail().await;
        if let Err(StoreError::OutcomeUnknown(_)) = outcome {
            tokio::spawn(store.settle());
        }
        outcome
    }

    async fn commit_or_fail(mut self) -> Result<(), StoreError> {
        crash_point("before-commit");
        let committed = sqlx::query("COMMIT").execute(self.connection()?).await;
        if let Err(error) = committed {
            return match error.into() {
                StoreError::Unavailable(error) => Err(StoreError::OutcomeUnknown(error)),
                certain @ (StoreError::Full
                | StoreError::Busy
                | StoreError::OutcomeUnknown(_)
                | StoreError::Damaged { .. }
                | StoreError::ForeignRootKey
                | StoreError::NewerSchema { .. }
                | StoreError::OlderSchema { .. }) => Err(certain),
            };
        }
        crash_point("after-commit");
        for (digest, change) in &self.effects {
            // Should this fail, `in_transaction` is still set: the next change reads the change log.
            self.store.apply(digest, change)?;
        }
        self.state.in_transaction = false;
        if let Some((seq, hash)) = self.newest.take() {
            // The newest hash in a place of its own: a log that was cut short shows against it.
            tracing::info!(seq, hash = data_encoding::HEXLOWER.encode(&hash), "committed");
            self.state.applied = seq;
        }
        Ok(())
    }

    /// Ends the transaction without a trace.
    pub async fn abandon(mut self) {
        let Ok(connection) = self.connection() else { return };
        if sqlx::query("ROLLBACK").execute(connection).await.is_ok() {
            self.state.in_transaction = false;
        }
    }

    /// Undoes everything since the beginning, and begins again.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn start_over(&mut self) -> Result<(), StoreError> {
        sqlx::query("ROLLBACK").execute(self.connection()?).await?;
        self.effects.clear();
        self.newest = None;
        sqlx::query(sqlite::BEGIN_WRITE).execute(self.connection()?).await?;
        Ok(())
    }

    /// The connection of this transaction.
    fn connection(&mut self) -> Result<&mut SqliteConnection, StoreError> {
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
        sql::insert_installation(self.connection()?, now, &check).await?;
        let live_sum = LiveSum::default().to_bytes();
        let mac = self.store.head_mac(0, &NO_HASH, &live_sum);
        let head = sql::Head { seq: 0, hash: NO_HASH.to_vec(), live_sum, mac };
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
