//! How a change begins and ends: whose turn it is, and when it is in force.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use tokio::time::timeout;

use super::database::{Connection, DatabaseError, Others};
use super::relied_on::ReliedOn;
use super::writing::Log;
use super::{Effect, Followed, Store, StoreError, sql};
use crate::clock::Timestamp;
use crate::crash::crash_point;

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

/// The connection that writes.
#[derive(Default)]
pub(super) struct WriterState {
    /// `None` after a failure: the next one opens it anew and finds out what was committed.
    connection: Option<Connection>,
    in_transaction: bool,
    /// Set when the process lets go of the store: a change that still waits must not open it again.
    is_closed: bool,
}

impl WriterState {
    pub(super) fn put(&mut self, connection: Connection) {
        self.connection = Some(connection);
    }

    pub(super) async fn close(&mut self) {
        self.is_closed = true;
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, "the store did not close cleanly; nothing is lost");
        }
    }
}

/// One transaction. Without [`Writing::commit`] it leaves nothing behind.
pub struct Writing {
    pub(super) store: Arc<Store>,
    state: OwnedMutexGuard<WriterState>,
    /// The turn among ordinary changes.
    _turn: Option<OwnedMutexGuard<()>>,
    /// What was written so far, as it will be in force.
    pub(super) effects: Vec<Effect>,
    /// The entries that it will have in the audit log.
    pub(super) log: Log,
    /// Number and hash of the newest one that was written.
    pub(super) newest: Option<Followed>,
    /// How far the log was in force when this began, or found a kept reply.
    pub(super) begun_at: i64,
    pub(super) relied_on: ReliedOn,
    /// Whether it takes something away.
    pub(super) narrows: bool,
    pub(super) now: Timestamp,
}

impl Store {
    /// Begins a change, after those before it. Only one is under way at a time.
    ///
    /// # Errors
    /// [`StoreError::Busy`] if the turn does not come, [`StoreError::Full`] if only revocations have room left.
    pub async fn begin(self: &Arc<Self>, need: Need) -> Result<Writing, StoreError> {
        let (turn, state) = self.turn(need).await.filter(|(_, state)| !state.is_closed).ok_or(StoreError::Busy)?;
        if need == Need::Ordinary && !self.ballast.is_whole() {
            let ballast = Arc::clone(&self.ballast);
            if !tokio::task::spawn_blocking(move || ballast.fill()).await.unwrap_or(false) {
                return Err(StoreError::Full);
            }
        }
        let now = self.clock.now();
        let (store, effects) = (Arc::clone(self), Vec::new());
        let mut writing = Writing {
            store,
            state,
            _turn: turn,
            effects,
            log: Log::default(),
            newest: None,
            begun_at: 0,
            relied_on: ReliedOn::default(),
            narrows: false,
            now,
        };
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
        self.is_settling.store(false, Ordering::Relaxed);
        tracing::info!("the outcome of the last change is settled");
    }

    async fn settle_once(self: &Arc<Self>) -> Result<(), StoreError> {
        let mut writing = self.begin(Need::Revocation).await?;
        // A change that is one: SQLite does not write what stays the same.
        sql::next_id(writing.connection()?, "settlement").await?;
        writing.commit_or_fail().await.map(|_| ())
    }

    /// Makes room for a revocation on a full disk.
    pub fn give_up_ballast(&self) {
        self.ballast.give_up();
    }
}

impl Writing {
    /// Begins the transaction, on a new connection if there is none. After a failure nobody knows whether the last
    /// change was committed: the log does, read under the write lock.
    async fn open(&mut self) -> Result<(), StoreError> {
        self.state.connection.take_if(|connection| connection.is_broken());
        let is_new = self.state.connection.is_none();
        if is_new {
            self.state.connection = Some(self.store.database.open_for_writing().await?);
        }
        self.state.in_transaction = true;
        self.connection()?.begin_write().await?;
        let store = Arc::clone(&self.store);
        self.begun_at = if is_new || store.is_shared() {
            store.catch_up(self.connection()?).await?
        } else {
            store.followed.lock().await.seq
        };
        Ok(())
    }

    /// How far the log is in force for this change, which has committed nothing yet.
    pub const fn position(&self) -> i64 {
        self.begun_at
    }

    /// Whether what was written so far takes something away from a key.
    pub const fn narrows(&self) -> bool {
        self.narrows
    }

    /// Commits, and brings the index up to date. When this returns `Ok`, the change is on disk and in force; what comes back is how far
    /// the log goes then.
    ///
    /// # Errors
    /// [`StoreError::Full`] if nothing was committed for want of room; [`StoreError::OutcomeUnknown`] if the database
    /// failed in the middle. That is settled in the background, as soon as the disk allows.
    pub async fn commit(self) -> Result<i64, StoreError> {
        let store = Arc::clone(&self.store);
        let outcome = self.commit_or_fail().await;
        let is_open = matches!(outcome, Err(StoreError::OutcomeUnknown(_)));
        if is_open && !store.is_settling.swap(true, Ordering::Relaxed) {
            tokio::spawn(store.settle());
        }
        outcome
    }

    async fn commit_or_fail(mut self) -> Result<i64, StoreError> {
        self.write_log().await?;
        crash_point("before-commit");
        let others = if self.newest.is_some() { Others::AreTold } else { Others::NeedNotKnow };
        let committed = self.connection()?.commit(others).await;
        if let Err(error) = committed {
            return match error.into() {
                StoreError::Unavailable(error) => Err(StoreError::OutcomeUnknown(error)),
                certain @ (StoreError::Full
                | StoreError::Conflict
                | StoreError::Busy
                | StoreError::OutcomeUnknown(_)
                | StoreError::Damaged { .. }
                | StoreError::ForeignRootKey
                | StoreError::NewerSchema { .. }
                | StoreError::OlderSchema { .. }) => Err(certain),
            };
        }
        crash_point("after-commit");
        for effect in &self.effects {
            // Should this fail, `in_transaction` is still set: the next change reads the log.
            self.store.in_force.apply(effect)?;
        }
        self.state.in_transaction = false;
        if let Some(newest) = self.newest.take() {
            // The newest hash in a place of its own: a log that was cut short shows against it.
            tracing::info!(seq = newest.seq, hash = data_encoding::HEXLOWER.encode(&newest.hash), "committed");
            let seq = newest.seq;
            self.store.follow_own(newest).await;
            return Ok(seq);
        }
        Ok(self.begun_at)
    }

    /// Ends the transaction without a trace.
    pub async fn abandon(mut self) {
        let Ok(connection) = self.connection() else { return };
        if connection.roll_back().await.is_ok() {
            self.state.in_transaction = false;
        }
    }

    /// Undoes everything since the beginning, and begins again.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn start_over(&mut self) -> Result<(), StoreError> {
        self.connection()?.roll_back().await?;
        self.effects.clear();
        self.log = Log::default();
        self.newest = None;
        self.relied_on = ReliedOn::default();
        self.narrows = false;
        self.open().await
    }

    /// The connection of this transaction.
    pub(super) fn connection(&mut self) -> Result<&mut Connection, StoreError> {
        self.state.connection.as_mut().ok_or(StoreError::Unavailable(DatabaseError::Closed))
    }
}

/// A transaction that was neither committed nor abandoned takes its connection with it: the database rolls it back, and
/// the next change opens a new one and reads the log.
impl Drop for Writing {
    fn drop(&mut self) {
        if self.state.in_transaction {
            self.state.connection = None;
        }
    }
}
