//! Speaking to a PostgreSQL server; the only place that knows it, with [`super::sqlite`] for the other engine.

mod hosts;
mod migrations;
mod server;
mod tls;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::stream::Fuse;
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::time::timeout;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};

pub(in crate::store) use self::migrations::{has_usable_schema, migrate, schema_of};
pub use self::server::{Server, ServerUrlError};
use super::error::Meaning;
use super::{DatabaseError, Others, Row};

/// How a transaction that writes begins. A node that stops in the middle of one holds others up for no longer than this; what is
/// committed is at the standby too, whatever the server's own setting is.
pub(super) const BEGIN_WRITE: &str = "BEGIN; SET LOCAL lock_timeout = '4s'; \
     SET LOCAL idle_in_transaction_session_timeout = '3s'; SET LOCAL synchronous_commit = on";

/// How a transaction begins that sees what is committed then, and nothing that comes after.
pub(super) const BEGIN_SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// What is sent with a commit to those who listen. A hint that may be lost: nobody relies on it.
const NOTIFY_AND_COMMIT: &str = "NOTIFY keyrack_changes; COMMIT";
pub(super) const LISTEN: &str = "LISTEN keyrack_changes";

/// The server's time, in microseconds since 1970.
pub(super) const TIME: &str = "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT) AS time";

/// How long one answer may take, but to what reads or writes a whole table. A commit that waits for a standby is not ended by any timeout
/// of the server.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// Rows on their way; it may be asked for more behind the last one.
pub(super) type RowStream = Fuse<tokio_postgres::RowStream>;

/// A connection to a server.
pub struct Session {
    client: Client,
    /// To which of the hosts.
    at: (Arc<hosts::Hosts>, usize),
    /// Set by a warning, and taken away before every commit.
    warning: Arc<server::Warning>,
    /// Set when nobody knows any more where the connection stands.
    is_broken: AtomicBool,
    /// Set when a statement failed: the server would roll back where it is told to commit, and call that a success.
    has_failed: bool,
    /// Whether heartbeats go over it.
    carries_heartbeats: bool,
    /// How long an answer may take; as long as it does if there is none.
    deadline: Option<Duration>,
}

impl Session {
    /// From here on an answer may take as long as it does: that the server is gone shows on the connection all the same.
    pub(in crate::store) const fn be_patient(&mut self) {
        self.deadline = None;
    }

    /// Ends that.
    pub(super) const fn be_impatient(&mut self) {
        self.deadline = Some(ANSWER_DEADLINE);
    }

    /// From here on heartbeats go over it.
    pub(super) const fn carry_heartbeats(&mut self) {
        self.carries_heartbeats = true;
    }

    /// Whether it cannot be used again. After a failover a former primary may still answer whoever reads from it.
    pub(in crate::store) fn is_broken(&self) -> bool {
        let (hosts, host) = &self.at;
        self.is_broken.load(Ordering::Relaxed) || self.client.is_closed() || !hosts.is_in_use(*host)
    }

    pub(super) async fn run(&mut self, words: &str) -> Result<(), DatabaseError> {
        if words.starts_with("BEGIN") || words.starts_with("ROLLBACK") {
            self.has_failed = false;
        }
        let done = self.answered(self.client.batch_execute(words)).await;
        self.noting(done)
    }

    pub(super) async fn execute(
        &mut self,
        text: &str,
        values: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<u64, DatabaseError> {
        let done = self.answered(self.client.execute_typed(text, values)).await;
        self.noting(done)
    }

    pub(super) async fn all(
        &mut self,
        text: &str,
        values: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<tokio_postgres::Row>, DatabaseError> {
        let rows = self.answered(self.client.query_typed(text, values)).await;
        self.noting(rows)
    }

    pub(super) async fn each<E: From<DatabaseError>>(
        &mut self,
        text: &str,
        values: &[(&(dyn ToSql + Sync), Type)],
        mut each: impl FnMut(Row) -> Result<bool, E> + Send,
    ) -> Result<(), E> {
        let mut rows = self.rows(text, values).await?;
        while let Some(row) = self.next_of(rows.as_mut()).await? {
            if !each(row)? {
                break;
            }
        }
        Ok(())
    }

    /// Begins to read the rows that a statement gives.
    pub(super) async fn rows(
        &mut self,
        text: &str,
        values: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Pin<Box<RowStream>>, DatabaseError> {
        let values = values.iter().map(|(value, kind)| (*value, kind.clone()));
        let rows = self.answered(self.client.query_typed_raw(text, values)).await;
        Ok(Box::pin(self.noting(rows)?.fuse()))
    }

    /// The next of them.
    pub(super) async fn next_of(&mut self, mut rows: Pin<&mut RowStream>) -> Result<Option<Row>, DatabaseError> {
        let row = self.answered(rows.try_next()).await;
        Ok(self.noting(row)?.map(Row::Postgres))
    }

    /// Commits. A warning means that the change may not be where it should: somebody ended the wait for the standby.
    pub(super) async fn commit(&mut self, others: Others) -> Result<(), DatabaseError> {
        if self.has_failed {
            return Err(DatabaseError::Closed);
        }
        self.warning.take();
        self.run(match others {
            Others::AreTold => NOTIFY_AND_COMMIT,
            Others::NeedNotKnow => "COMMIT",
        })
        .await?;
        match self.warning.take() {
            None => Ok(()),
            Some(warning) => {
                self.is_broken.store(true, Ordering::Relaxed);
                Err(DatabaseError::Warned(warning))
            }
        }
    }

    /// Waits for an answer. Whoever gives up waiting, or is dropped while he waits, leaves a connection that is not used again.
    async fn answered<T>(
        &self,
        answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, DatabaseError> {
        let was_broken = self.is_broken.swap(true, Ordering::Relaxed);
        let answer = match self.deadline {
            Some(deadline) => timeout(deadline, answer).await.map_err(|_elapsed| {
                let (hosts, host) = &self.at;
                hosts.put_last(*host);
                DatabaseError::Late(deadline)
            })?,
            None => answer.await,
        };
        self.is_broken.store(was_broken, Ordering::Relaxed);
        Ok(answer?)
    }

    /// Whoever is told that this is a standby, or on its way down, asks for a server that is neither: on a new connection.
    fn noting<T>(&mut self, outcome: Result<T, DatabaseError>) -> Result<T, DatabaseError> {
        if let Err(error) = &outcome {
            self.has_failed = true;
            if error.is_outage() {
                self.is_broken.store(true, Ordering::Relaxed);
            }
            // What a heartbeat needs is held for no longer than a statement, unless by one that waits for a standby which does not come: the
            // next connection is to another host, if there is one that can be written to.
            if error.meaning() == Meaning::Busy && self.carries_heartbeats {
                let (hosts, host) = &self.at;
                hosts.put_last(*host);
            }
        }
        outcome
    }
}

/// What an error means.
pub(super) fn meaning(error: &tokio_postgres::Error) -> Meaning {
    match error.code() {
        Some(code) if *code == SqlState::DISK_FULL => Meaning::Full,
        // Its own reports of damage.
        Some(code) if [SqlState::DATA_CORRUPTED, SqlState::INDEX_CORRUPTED].contains(code) => Meaning::Damaged,
        Some(code) if *code == SqlState::LOCK_NOT_AVAILABLE => Meaning::Busy,
        // Two that change the same at once: also when both make the first row of its kind.
        Some(code)
            if [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED, SqlState::UNIQUE_VIOLATION]
                .contains(code) =>
        {
            Meaning::Conflict
        }
        Some(_) | None => Meaning::Unavailable,
    }
}

/// Whether a server is away, or on its way up or down: no answer, a standby, or one of the classes of errors that say so.
pub(super) fn is_outage(error: &tokio_postgres::Error) -> bool {
    error.code().is_none_or(|code| {
        *code == SqlState::READ_ONLY_SQL_TRANSACTION
            // Connection exception, insufficient resources, operator intervention, system error.
            || ["08", "53", "57", "58"].iter().any(|class| code.code().starts_with(class))
    })
}
