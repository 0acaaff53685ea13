//! Reading a file of SQLite.
//!
//! The library that everything else goes through copies each value of a row into memory of its own and hands rows over one by one: for a
//! whole table that takes several times as long as reading it (decision 0014). Here a thread lays many rows one behind the other and
//! hands them over together.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, Statement};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};

use super::super::error::Meaning;
use super::super::{DatabaseError, Row, sqlite, statement};
use super::batch::{Batch, Column};

/// Batches that are read ahead.
const AHEAD: usize = 4;

/// A connection in the middle of a transaction that reads.
pub(in crate::store) struct Reader(Arc<Mutex<Connection>>);

impl Reader {
    /// Sees what is committed now, and nothing that comes after.
    pub(super) async fn begin(file: PathBuf) -> Result<Self, DatabaseError> {
        let begun = spawn_blocking(move || {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(file, flags)?;
            connection.busy_timeout(sqlite::BUSY_TIMEOUT)?;
            connection.pragma_update(None, "trusted_schema", "OFF")?;
            connection.pragma_update(None, "query_only", "ON")?;
            connection.execute_batch("BEGIN")?;
            Ok::<_, rusqlite::Error>(connection)
        });
        let connection = begun.await.map_err(|_panicked| DatabaseError::ThreadLost)??;
        Ok(Self(Arc::new(Mutex::new(connection))))
    }

    pub(super) fn read(&self, statement: statement::Statement<'_>) -> Batches {
        let (connection, (text, values)) = (Arc::clone(&self.0), statement.into_owned());
        let (sender, receiver) = mpsc::channel(AHEAD);
        let reading = spawn_blocking(move || {
            // Waits for a statement before it that nobody wanted to the end.
            let connection = connection.lock().map_err(|_panicked| DatabaseError::ThreadLost)?;
            Ok(read(&connection, &text, &values, &sender)?)
        });
        Batches { receiver, reading: Some(reading) }
    }
}

/// What a statement gives.
pub(in crate::store) struct Batches {
    receiver: mpsc::Receiver<Batch>,
    /// None once it is known how it ended.
    reading: Option<JoinHandle<Result<(), DatabaseError>>>,
}

impl Batches {
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Row>>, DatabaseError> {
        if let Some(batch) = self.receiver.recv().await {
            return Ok(Some(batch.into_rows().map(Row::Batched).collect()));
        }
        // No more of them may mean that the thread has come to the end, or to an error, or has panicked.
        if let Some(reading) = &mut self.reading {
            let ended = reading.await;
            self.reading = None;
            ended.map_err(|_panicked| DatabaseError::ThreadLost)??;
        }
        Ok(None)
    }
}

/// What an error means.
pub(in crate::store::database) fn meaning(error: &rusqlite::Error) -> Meaning {
    sqlite::meaning_of(error.sqlite_error().and_then(|error| u32::try_from(error.extended_code & 0xff).ok()))
}

/// Reads until there is no more, or nobody wants more.
fn read(
    connection: &Connection,
    text: &str,
    values: &[Value],
    to: &mpsc::Sender<Batch>,
) -> Result<(), rusqlite::Error> {
    let mut statement = connection.prepare(text)?;
    bind(&mut statement, values)?;
    let columns = statement.columns();
    let width = columns.len();
    let mut batch = Batch::of(columns.iter().map(Column::of).collect());
    let mut rows = statement.raw_query();
    while let Some(row) = rows.next()? {
        for at in 0..width {
            batch.push(row.get_ref(at)?);
        }
        if batch.is_full() && to.blocking_send(batch.take()).is_err() {
            return Ok(());
        }
    }
    if !batch.is_empty() {
        // If nobody wants it, that is the end as well.
        let _is_wanted = to.blocking_send(batch).is_ok();
    }
    Ok(())
}

/// Gives `$1` the first value wherever it stands: to SQLite it is a name.
fn bind(statement: &mut Statement<'_>, values: &[Value]) -> Result<(), rusqlite::Error> {
    for place in 1..=statement.parameter_count() {
        let number = statement.parameter_name(place).and_then(|name| name.strip_prefix('$')?.parse::<usize>().ok());
        let value = number.and_then(|number| values.get(number.checked_sub(1)?));
        let value = value.ok_or(rusqlite::Error::InvalidParameterCount(values.len(), place))?;
        statement.raw_bind_parameter(place, value)?;
    }
    Ok(())
}
