//! Connections that are used again.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::SqlitePool;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::postgres::{self, Server, Session};
use super::snapshot::Snapshot;
use super::{Connection, DatabaseError};

/// How long is waited for a connection.
pub(super) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// So many connections at most, opened when they are needed.
pub(in crate::store) enum Pool {
    Sqlite(SqlitePool),
    Postgres(SessionPool),
}

impl Pool {
    /// A connection; waits for one if all are in use.
    pub(in crate::store) async fn acquire(&self) -> Result<Pooled, DatabaseError> {
        match self {
            Self::Sqlite(pool) => {
                Ok(Pooled { connection: Some(Connection::PooledSqlite(pool.acquire().await?)), back_to: None })
            }
            Self::Postgres(pool) => {
                let (session, turn) = pool.session().await?;
                let back_to = Some((Arc::clone(&pool.idle), turn));
                Ok(Pooled { connection: Some(Connection::Postgres(session)), back_to })
            }
        }
    }

    /// What is committed now, and nothing that comes after. Its connection is not used again.
    pub(in crate::store) async fn snapshot(&self) -> Result<Snapshot, DatabaseError> {
        match self {
            Self::Sqlite(pool) => Snapshot::of_file(pool.connect_options().get_filename().to_owned()).await,
            Self::Postgres(pool) => {
                let (mut session, _turn) = pool.session().await?;
                session.run(postgres::BEGIN_SNAPSHOT).await?;
                Ok(Snapshot::Server(session))
            }
        }
    }

    pub(in crate::store) async fn close(&self) {
        match self {
            Self::Sqlite(pool) => pool.close().await,
            Self::Postgres(pool) => {
                pool.turns.close();
                pool.idle().clear();
            }
        }
    }
}

/// Sessions with a server.
pub(in crate::store) struct SessionPool {
    server: Arc<Server>,
    turns: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Session>>>,
}

impl SessionPool {
    pub(super) fn new(server: Arc<Server>, most: usize) -> Self {
        Self { server, turns: Arc::new(Semaphore::new(most)), idle: Arc::default() }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Session>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session, and whose turn it is to have it.
    async fn session(&self) -> Result<(Session, OwnedSemaphorePermit), DatabaseError> {
        let turn = tokio::time::timeout(ACQUIRE_TIMEOUT, Arc::clone(&self.turns).acquire_owned());
        let turn = turn.await.map_err(|_elapsed| DatabaseError::Late(ACQUIRE_TIMEOUT))?;
        let turn = turn.map_err(|_closed| DatabaseError::Closed)?;
        let idle = std::iter::from_fn(|| self.idle().pop()).find(|session| !session.is_broken());
        let session = match idle {
            Some(session) => session,
            None => self.server.connect().await?,
        };
        Ok((session, turn))
    }
}

/// A connection out of a pool; back in it when dropped.
pub(in crate::store) struct Pooled {
    /// `None` only while it is dropped.
    connection: Option<Connection>,
    back_to: Option<(Arc<Mutex<Vec<Session>>>, OwnedSemaphorePermit)>,
}

impl Deref for Pooled {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection.as_ref().expect("it is there until it is dropped")
    }
}

impl DerefMut for Pooled {
    fn deref_mut(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("it is there until it is dropped")
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        if let (Some(Connection::Postgres(session)), Some((idle, _turn))) = (self.connection.take(), &self.back_to)
            && !session.is_broken()
        {
            idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
        }
    }
}
