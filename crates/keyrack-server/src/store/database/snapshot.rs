//! The database as it is at one moment, for who reads much of it: whole tables, many rows at a time.

mod batch;
mod file;

use std::path::PathBuf;
use std::pin::Pin;

use super::postgres::{RowStream, Session};
use super::{DatabaseError, Row, Statement};

pub(super) use self::batch::{BatchedRow, FromStored};
pub(super) use self::file::meaning;

/// A batch ends behind so many rows.
const MOST_ROWS: usize = 512;

/// What sees what was committed when it began, and nothing that came after. It only reads.
pub(in crate::store) enum Snapshot {
    /// Of a file.
    File(file::Reader),
    /// Of a server.
    Server(Session),
}

impl Snapshot {
    pub(super) async fn of_file(file: PathBuf) -> Result<Self, DatabaseError> {
        Ok(Self::File(file::Reader::begin(file).await?))
    }

    /// From here on it may take as long as it does: for what reads whole tables.
    pub(in crate::store) const fn be_patient(&mut self) {
        match self {
            Self::File(_) => {}
            Self::Server(session) => session.be_patient(),
        }
    }

    /// Begins to read the rows that a statement gives.
    pub(in crate::store) async fn read(&mut self, statement: Statement<'_>) -> Result<Batches<'_>, DatabaseError> {
        match self {
            Self::File(reader) => Ok(Batches::File(reader.read(statement))),
            Self::Server(session) => {
                let rows = session.rows(statement.text(), &statement.of_postgres()).await?;
                Ok(Batches::Server(session, rows))
            }
        }
    }

    /// The one row that a statement gives.
    pub(in crate::store) async fn one(&mut self, statement: Statement<'_>) -> Result<Row, DatabaseError> {
        self.first(statement).await?.ok_or_else(|| sqlx::Error::RowNotFound.into())
    }

    /// The first row that a statement gives, if any.
    pub(in crate::store) async fn first(&mut self, statement: Statement<'_>) -> Result<Option<Row>, DatabaseError> {
        Ok(self.all(statement).await?.into_iter().next())
    }

    /// Every row that a statement gives.
    pub(in crate::store) async fn all(&mut self, statement: Statement<'_>) -> Result<Vec<Row>, DatabaseError> {
        let (mut batches, mut all) = (self.read(statement).await?, Vec::new());
        while let Some(rows) = batches.next().await? {
            all.extend(rows);
        }
        Ok(all)
    }

    /// Hands every row that a statement gives to `each`, as they come.
    pub(in crate::store) async fn for_each<E: From<DatabaseError>>(
        &mut self,
        statement: Statement<'_>,
        mut each: impl FnMut(Row) -> Result<(), E> + Send,
    ) -> Result<(), E> {
        let mut batches = self.read(statement).await?;
        while let Some(rows) = batches.next().await? {
            rows.into_iter().try_for_each(&mut each)?;
        }
        Ok(())
    }
}

/// The rows that a statement gives, many at a time and in their order. Whoever has enough drops it.
pub(in crate::store) enum Batches<'s> {
    File(file::Batches),
    Server(&'s mut Session, Pin<Box<RowStream>>),
}

impl Batches<'_> {
    /// The next rows; none behind the last one. An error is never the end of the rows.
    pub(in crate::store) async fn next(&mut self) -> Result<Option<Vec<Row>>, DatabaseError> {
        let (session, stream) = match self {
            Self::File(batches) => return batches.next().await,
            Self::Server(session, stream) => (session, stream),
        };
        let mut rows = Vec::new();
        while rows.len() < MOST_ROWS {
            let Some(row) = session.next_of(stream.as_mut()).await? else { break };
            rows.push(row);
        }
        Ok(Some(rows).filter(|rows| !rows.is_empty()))
    }
}

#[cfg(test)]
mod tests;
