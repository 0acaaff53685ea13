//! One transaction for the changes of several requests: whoever has written its change waits in line once more, and the first that comes
//! up commits what all have written. So the disk is synced, and the place in the log taken, once for many.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::oneshot;

use super::database::{Connection, DatabaseError, Others};
use super::live_sum::LiveSum;
use super::relied_on::ReliedOn;
use super::{Effect, Followed, Store, StoreError, sql};
use crate::audit::{Entry, Event};
use crate::clock::Timestamp;
use crate::crash::crash_point;
use crate::kept::Reference;

/// So many changes share a transaction at most: other nodes wait for its end.
const MOST_IN_GROUP: usize = 64;

/// What was written in a transaction.
#[derive(Default)]
pub(super) struct Written {
    /// As it will be in force.
    pub(super) effects: Vec<Effect>,
    /// The entries that it will have in the audit log.
    pub(super) log: Log,
    /// Number and hash of the newest one that was written.
    pub(super) newest: Option<Followed>,
    pub(super) relied_on: ReliedOn,
}

/// What a change adds to the audit log when it is committed.
#[derive(Default)]
pub(super) struct Log {
    pub(super) events: Vec<(Timestamp, Event)>,
    /// What came to the sum over all live rows, and what went.
    pub(super) moved: LiveSum,
}

/// How a group ended: how far the log goes with it.
type Outcome = Result<i64, StoreError>;

/// The changes that are written in the open transaction, and are committed together or not at all.
#[derive(Default)]
pub(super) struct Group {
    written: Written,
    /// How far the log was in force when the transaction began.
    pub(super) begun_at: i64,
    /// What they changed.
    touched: Vec<Reference>,
    waiting: Vec<oneshot::Sender<Outcome>>,
}

impl Group {
    pub(super) const fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) const fn is_full(&self) -> bool {
        self.waiting.len() >= MOST_IN_GROUP
    }

    /// Whether a change that went by this would be another one after those of the group.
    pub(super) fn concerns(&self, relied_on: &ReliedOn) -> bool {
        relied_on.is_among(&self.touched)
    }

    /// Adds a change that is written to its end.
    pub(super) fn add(&mut self, change: Written) -> oneshot::Receiver<Outcome> {
        let Written { effects, log, newest, relied_on } = change;
        self.touched.extend(log.events.iter().map(|(_, event)| event.target));
        self.written.effects.extend(effects);
        self.written.log.events.extend(log.events);
        self.written.log.moved = self.written.log.moved.and(log.moved);
        self.written.newest = newest.or(self.written.newest.take());
        self.written.relied_on.extend(relied_on);
        let (sender, receiver) = oneshot::channel();
        self.waiting.push(sender);
        receiver
    }

    /// Tells everyone in it that nothing came of it, before it was to be committed.
    pub(super) fn take_back(self) {
        self.tell(&Err(StoreError::Conflict));
    }

    /// Tells everyone in it how it ended.
    fn tell(self, outcome: &Outcome) {
        for waiting in self.waiting {
            // Who is gone does not want to know.
            let _gone = waiting.send(match outcome {
                Ok(seq) => Ok(*seq),
                Err(error) => Err(error.for_those_beside()),
            });
        }
    }
}

impl Store {
    /// Commits a group, brings it into force, and tells everyone in it. Whether the connection can be used again is the second thing
    /// that comes back.
    pub(super) async fn commit_group(&self, on: &mut Connection, mut group: Group) -> (Outcome, bool) {
        let outcome = self.write_commit_apply(on, &mut group).await;
        let is_usable = match &outcome {
            Ok(_) => true,
            // The log says what was committed: it is read on a new connection.
            Err(
                StoreError::OutcomeUnknown(_)
                | StoreError::Damaged { .. }
                | StoreError::Astray { .. }
                | StoreError::IndexFull,
            ) => false,
            Err(_) => on.roll_back().await.is_ok(),
        };
        group.tell(&outcome);
        (outcome, is_usable)
    }

    async fn write_commit_apply(&self, on: &mut Connection, group: &mut Group) -> Outcome {
        self.write_log(on, &mut group.written, group.begun_at).await?;
        let (before, others, after) = match group.written.newest {
            Some(_) => ("before-commit", Others::AreTold, "after-commit"),
            None => ("before-commit-unlogged", Others::NeedNotKnow, "after-commit-unlogged"),
        };
        crash_point(before);
        on.commit(others).await.map_err(|error| match error.into() {
            StoreError::Unavailable(error) => StoreError::OutcomeUnknown(error),
            certain @ (StoreError::Full
            | StoreError::IndexFull
            | StoreError::Conflict
            | StoreError::Busy
            | StoreError::OutcomeUnknown(_)
            | StoreError::Damaged { .. }
            | StoreError::Astray { .. }
            | StoreError::Journal { .. }
            | StoreError::ForeignRootKey
            | StoreError::NewerSchema { .. }
            | StoreError::OlderSchema { .. }) => certain,
        })?;
        crash_point(after);
        // What one of them has no room for does not keep a revocation beside it from being in force.
        let mut applied = Ok(());
        for effect in &group.written.effects {
            applied = applied.and(self.in_force.apply(effect));
        }
        applied?;
        let Some(newest) = group.written.newest.take() else { return Ok(group.begun_at) };
        // The newest hash in a place of its own: a log that was cut short shows against it.
        tracing::info!(seq = newest.seq, hash = data_encoding::HEXLOWER.encode(&newest.hash), "committed");
        let seq = newest.seq;
        self.follow_own(newest).await;
        Ok(seq)
    }

    /// Adds the entries noted so far to the audit chain. From here on nobody else commits a change.
    pub(super) async fn write_log(
        &self,
        on: &mut Connection,
        written: &mut Written,
        begun_at: i64,
    ) -> Result<(), StoreError> {
        let Log { events, moved } = std::mem::take(&mut written.log);
        if events.is_empty() {
            return Ok(());
        }
        let known = sql::take_seqs(on, events.len() as i64).await?;
        if self.is_shared() && written.newest.is_none() && known.seq != begun_at {
            self.certify(on, &written.relied_on, (begun_at, &known)).await?;
        }
        let sum = self.sum_of(&known).filter(|_| self.is_authentic(&known));
        let damaged = || StoreError::Damaged { what: "the newest audit hash does not authenticate".to_owned() };
        let sum = sum.ok_or_else(damaged)?.and(moved);
        let (mut seq, mut hash) = (known.seq, known.hash);
        let mut entries = Vec::with_capacity(events.len());
        for (at, event) in events {
            let entry = Entry::chained(seq + 1, at, event, &hash);
            (seq, hash) = (entry.seq, entry.hash.clone());
            entries.push(entry);
        }
        sql::insert_audit_entries(on, &entries).await?;
        let head = self.head_of(seq, hash, sum);
        sql::set_audit_head(on, &head).await?;
        crash_point("after-audit-entry");
        written.newest = Some(Followed { seq: head.seq, hash: head.hash });
        Ok(())
    }

    /// What others committed since the transaction began comes into force here first; if this one went by what they changed, it is
    /// done again.
    async fn certify(
        &self,
        on: &mut Connection,
        relied_on: &ReliedOn,
        (begun_at, head): (i64, &sql::Head),
    ) -> Result<(), StoreError> {
        let changed = sql::targets_between(on, begun_at, head.seq).await?;
        if relied_on.is_among(&changed) {
            return Err(StoreError::Conflict);
        }
        self.catch_up_to(on, head).await?;
        Ok(())
    }

    /// Has an outcome settled that nobody knows: in the background, as soon as the disk allows.
    pub(super) fn settle_if_open(self: &Arc<Self>, outcome: &Outcome) {
        let is_open = matches!(outcome, Err(StoreError::OutcomeUnknown(_)));
        if is_open && !self.is_settling.swap(true, Ordering::Relaxed) {
            tokio::spawn(Arc::clone(self).settle());
        }
    }
}

impl StoreError {
    /// What the changes are told that were to be committed together with the one that failed so.
    fn for_those_beside(&self) -> Self {
        match self {
            Self::OutcomeUnknown(_) => Self::OutcomeUnknown(DatabaseError::Closed),
            Self::Full => Self::Full,
            // Nothing was written. Each finds out for itself whether it fails too.
            Self::IndexFull
            | Self::Conflict
            | Self::Busy
            | Self::Unavailable(_)
            | Self::Damaged { .. }
            | Self::Astray { .. }
            | Self::NewerSchema { .. }
            | Self::Journal { .. }
            | Self::ForeignRootKey
            | Self::OlderSchema { .. } => Self::Conflict,
        }
    }
}
