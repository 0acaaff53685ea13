//! How a change begins and ends: whose turn it is, and when it is in force.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio::time::timeout;
use tracing::Instrument as _;

use super::database::{Connection, DatabaseError};
use super::group::{Group, Written};
use super::{Store, StoreError, sql};
use crate::clock::Timestamp;

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
    /// The changes that wait in its open transaction. There is none open if this is empty and nobody works on it.
    group: Group,
    /// Set while somebody works on the connection: who stops in the middle leaves it in a state that nobody knows.
    is_at_work: bool,
    /// Set when the process lets go of the store: a change that still waits must not open it again.
    is_closed: bool,
}

impl WriterState {
    pub(super) fn put(&mut self, connection: Connection) {
        self.connection = Some(connection);
    }

    pub(super) async fn close(&mut self) {
        self.is_closed = true;
        std::mem::take(&mut self.group).take_back();
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, "the store did not close cleanly; nothing is lost");
        }
    }

    /// Gives up the connection and what was not committed on it: the database rolls it back, and who waits hears that nothing came of it.
    fn give_up(&mut self) {
        self.connection = None;
        std::mem::take(&mut self.group).take_back();
        self.is_at_work = false;
    }
}

/// The turn to write. Who drops it in the middle of something takes the connection with it.
struct Turn {
    writer: OwnedMutexGuard<WriterState>,
    _among_ordinary: Option<OwnedMutexGuard<()>>,
}

impl Turn {
    /// The connection of the transaction.
    fn connection(&mut self) -> Result<&mut Connection, StoreError> {
        self.writer.connection.as_mut().ok_or(StoreError::Unavailable(DatabaseError::Closed))
    }

    /// Commits what waits, in a task of its own that has the turn until it is done: others wait for the same, whatever becomes of who
    /// commits it.
    async fn commit_group(mut self, store: &Arc<Store>) -> Result<(Self, i64), StoreError> {
        let store = Arc::clone(store);
        let committing = async move {
            let group = std::mem::take(&mut self.writer.group);
            self.writer.is_at_work = true;
            let (outcome, is_usable) = store.commit_group(self.connection()?, group).await;
            self.writer.is_at_work = !is_usable;
            store.settle_if_open(&outcome);
            outcome.map(|seq| (self, seq))
        };
        tokio::spawn(committing.in_current_span()).await.unwrap_or_else(|_died| Err(unknown()))
    }
}

/// What is known of a change when whoever committed it is gone without a word.
const fn unknown() -> StoreError {
    StoreError::OutcomeUnknown(DatabaseError::Closed)
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.writer.is_at_work {
            self.writer.give_up();
        }
    }
}

/// One change, in a transaction that others may share. Without [`Writing::commit`] it leaves nothing behind.
pub struct Writing {
    pub(super) store: Arc<Store>,
    turn: Turn,
    need: Need,
    /// What was written so far.
    pub(super) own: Written,
    /// How far the log was in force when this began, or found a kept reply.
    pub(super) position: i64,
    /// Whether it takes something away.
    pub(super) narrows: bool,
    pub(super) now: Timestamp,
    /// By which replies grow old, once somebody has asked.
    pub(super) reply_time: Option<Timestamp>,
}

impl Store {
    /// Begins a change in a transaction of its own, after those before it. Only one is under way at a time.
    ///
    /// # Errors
    /// [`StoreError::Busy`] if the turn does not come, [`StoreError::Full`] if only revocations have room left.
    pub async fn begin(self: &Arc<Self>, need: Need) -> Result<Writing, StoreError> {
        let mut turn = self.admit(need).await?;
        if !turn.writer.group.is_empty() {
            (turn, _) = turn.commit_group(self).await?;
        }
        self.writing(need, turn).await
    }

    /// [`Store::begin`] for a change that others were in the way of again and again: from here on nobody else commits one, wherever.
    ///
    /// # Errors
    /// As [`Store::begin`].
    pub async fn begin_alone(self: &Arc<Self>, need: Need) -> Result<Writing, StoreError> {
        let mut writing = self.begin(need).await?;
        if self.is_shared() {
            let head = sql::take_seqs(writing.connection()?, 0).await?;
            writing.position = self.catch_up_to(writing.connection()?, &head).await?;
            writing.turn.writer.group.begun_at = writing.position;
        }
        Ok(writing)
    }

    /// Begins a change that may share the transaction of those before it. Should it go by what they changed, that is a
    /// [`StoreError::Conflict`], and it must [`Store::begin`] again by itself.
    ///
    /// # Errors
    /// As [`Store::begin`].
    pub async fn begin_beside(self: &Arc<Self>, need: Need) -> Result<Writing, StoreError> {
        let turn = self.admit(need).await?;
        self.writing(need, turn).await
    }

    async fn admit(&self, need: Need) -> Result<Turn, StoreError> {
        let longest = if need == Need::Revocation { REVOCATION_WAIT } else { ORDINARY_WAIT };
        let turn = timeout(longest, self.turn(need)).await.ok().filter(|turn| !turn.writer.is_closed);
        let turn = turn.ok_or(StoreError::Busy)?;
        if need == Need::Ordinary && !self.ballast.is_whole() {
            let ballast = Arc::clone(&self.ballast);
            if !tokio::task::spawn_blocking(move || ballast.fill()).await.unwrap_or(false) {
                return Err(StoreError::Full);
            }
        }
        Ok(turn)
    }

    async fn turn(&self, need: Need) -> Turn {
        let among_ordinary = match need {
            Need::Ordinary => Some(Arc::clone(&self.ordinary_turn).lock_owned().await),
            Need::Revocation => None,
        };
        Turn { writer: Arc::clone(&self.writer).lock_owned().await, _among_ordinary: among_ordinary }
    }

    async fn writing(self: &Arc<Self>, need: Need, turn: Turn) -> Result<Writing, StoreError> {
        let (store, own, now) = (Arc::clone(self), Written::default(), self.clock.now());
        let mut writing = Writing { store, turn, need, own, position: 0, narrows: false, now, reply_time: None };
        match writing.open().await {
            Err(error) if need == Need::Revocation && error.may_be_for_want_of_room() => {
                self.ballast.give_up();
                writing.turn.writer.give_up();
                writing.open().await?;
            }
            outcome => outcome?,
        }
        Ok(writing)
    }

    /// A commit whose sync failed is not seen by any reader, yet lies in the log and would come to life after a crash.
    /// The next commit overwrites it, so one is made as soon as the disk allows.
    pub(super) async fn settle(self: Arc<Self>) {
        while let Err(error) = self.settle_once().await {
            tracing::warn!(%error, "the outcome of a change is still open; trying again");
            tokio::time::sleep(SETTLE_INTERVAL).await;
        }
        self.is_settling.store(false, Ordering::Relaxed);
        tracing::info!("the outcome of the last change is settled");
    }

    async fn settle_once(self: &Arc<Self>) -> Result<(), StoreError> {
        let mut writing = self.begin_beside(Need::Revocation).await?;
        // A change that is one: SQLite does not write what stays the same.
        sql::next_id(writing.connection()?, "settlement").await?;
        let (turn, _outcome) = writing.add_to_group();
        turn.commit_group(self).await.map(|_| ())
    }

    /// Makes room for a revocation on a full disk.
    pub fn give_up_ballast(&self) {
        self.ballast.give_up();
    }
}

impl Writing {
    /// Begins the transaction, on a new connection if there is none, or goes on in the one that others wait in. After a failure nobody
    /// knows whether the last change was committed: the log does, read under the write lock.
    async fn open(&mut self) -> Result<(), StoreError> {
        let writer = &mut self.turn.writer;
        if writer.connection.as_ref().is_some_and(Connection::is_broken) {
            writer.give_up();
        }
        let is_new = writer.connection.is_none();
        if is_new {
            writer.connection = Some(self.store.database.open_for_writing().await?);
        }
        writer.is_at_work = true;
        if writer.group.is_empty() {
            self.connection()?.begin_write().await?;
            let store = Arc::clone(&self.store);
            self.turn.writer.group.begun_at = if is_new || store.is_shared() {
                store.catch_up(self.connection()?).await?
            } else {
                store.followed.lock().await.seq
            };
        } else {
            self.connection()?.begin_part().await?;
        }
        self.position = self.turn.writer.group.begun_at;
        Ok(())
    }

    /// How far the log is in force for this change, which has committed nothing yet.
    pub const fn position(&self) -> i64 {
        self.position
    }

    /// Whether what was written so far takes something away from a key.
    pub const fn narrows(&self) -> bool {
        self.narrows
    }

    /// Whether others wait for the end of this transaction.
    pub(super) fn is_shared(&self) -> bool {
        !self.turn.writer.group.is_empty()
    }

    /// Commits, with the changes that wait in line, and brings the index up to date. When this returns `Ok`, the change is on disk and
    /// in force; what comes back is how far the log goes then.
    ///
    /// # Errors
    /// [`StoreError::Full`] if nothing was committed for want of room; [`StoreError::Conflict`] if nothing was committed, as others
    /// changed the same; [`StoreError::OutcomeUnknown`] if the database failed in the middle. That is settled in the background, as
    /// soon as the disk allows.
    pub async fn commit(self) -> Result<i64, StoreError> {
        if self.turn.writer.group.concerns(&self.own.relied_on) {
            self.abandon().await?;
            return Err(StoreError::Conflict);
        }
        let (store, need) = (Arc::clone(&self.store), self.need);
        // One that counted would be in the way of everybody beside it.
        let must_go = self.own.relied_on.is_on_everything();
        let (mut turn, mut told) = self.add_to_group();
        if !must_go && !turn.writer.group.is_full() {
            drop(turn);
            tokio::select! {
                biased;
                outcome = &mut told => return outcome.unwrap_or_else(|_gone| Err(unknown())),
                next = store.turn(need) => turn = next,
            }
            match told.try_recv() {
                // Nobody has committed it.
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Closed) => return Err(unknown()),
                Ok(outcome) => return outcome,
            }
        }
        turn.commit_group(&store).await.map(|(_turn, seq)| seq)
    }

    /// Takes back what was written. What it was read beside is committed, so that the reason for this holds; what comes back is how far
    /// the log goes then.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if that came to nothing, and this is worth another try.
    pub async fn abandon(mut self) -> Result<i64, StoreError> {
        if self.is_shared() {
            self = self.undo_part().await?;
        } else if self.connection()?.roll_back().await.is_ok() {
            self.turn.writer.is_at_work = false;
        }
        Ok(self.position)
    }

    /// Takes back what was written, and begins again.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn start_over(mut self) -> Result<Self, StoreError> {
        if self.is_shared() {
            self = self.undo_part().await?;
        } else {
            self.connection()?.roll_back().await?;
        }
        self.own = Written::default();
        self.narrows = false;
        self.open().await?;
        Ok(self)
    }

    /// Takes this change out of the transaction, and commits what others wrote there.
    async fn undo_part(mut self) -> Result<Self, StoreError> {
        if self.connection()?.roll_back_part().await.is_err() {
            return Err(StoreError::Conflict);
        }
        let (turn, seq) =
            self.turn.commit_group(&self.store).await.map_err(|_told_to_those_who_wait| StoreError::Conflict)?;
        let position = self.position.max(seq);
        Ok(Self { turn, position, ..self })
    }

    fn add_to_group(mut self) -> (Turn, oneshot::Receiver<Result<i64, StoreError>>) {
        let told = self.turn.writer.group.add(self.own);
        self.turn.writer.is_at_work = false;
        (self.turn, told)
    }

    /// The connection of this transaction.
    pub(super) fn connection(&mut self) -> Result<&mut Connection, StoreError> {
        self.turn.connection()
    }
}
