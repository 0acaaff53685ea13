//! Rows of SQLite one behind the other, and what can be read from them.

use std::sync::Arc;

use rusqlite::types::ValueRef;

use super::super::DatabaseError;
use super::MOST_ROWS;

/// A batch ends behind so many bytes of text and blobs, however few rows that is.
pub(super) const MOST_BYTES: usize = 256 << 10;

/// A column of what a statement gives.
pub(super) struct Column {
    name: String,
    /// The type that it was made with, if it is one of a table.
    declared: String,
}

impl Column {
    pub(super) fn of(column: &rusqlite::Column<'_>) -> Self {
        Self { name: column.name().to_owned(), declared: column.decl_type().unwrap_or_default().to_owned() }
    }
}

/// What stands in a column of a row: as it is kept, never made into another kind.
#[derive(Clone, Copy)]
enum Cell {
    Nothing,
    Int(i64),
    Real(f64),
    /// From where on in the bytes, and how many.
    Text(usize, usize),
    Blob(usize, usize),
}

/// Rows one behind the other.
pub(super) struct Batch {
    columns: Arc<[Column]>,
    cells: Vec<Cell>,
    bytes: Vec<u8>,
}

impl Batch {
    pub(super) fn of(columns: Arc<[Column]>) -> Self {
        Self { columns, cells: Vec::new(), bytes: Vec::new() }
    }

    /// Takes it out, and begins the next one with as much room.
    pub(super) fn take(&mut self) -> Self {
        let (cells, bytes) = (Vec::with_capacity(self.cells.len()), Vec::with_capacity(self.bytes.len()));
        std::mem::replace(self, Self { columns: Arc::clone(&self.columns), cells, bytes })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.cells.len() >= self.columns.len() * MOST_ROWS || self.bytes.len() >= MOST_BYTES
    }

    /// The next value of a row, or the first one of the next.
    pub(super) fn push(&mut self, value: ValueRef<'_>) {
        let start = self.bytes.len();
        self.cells.push(match value {
            ValueRef::Null => Cell::Nothing,
            ValueRef::Integer(value) => Cell::Int(value),
            ValueRef::Real(value) => Cell::Real(value),
            ValueRef::Text(text) => {
                self.bytes.extend_from_slice(text);
                Cell::Text(start, text.len())
            }
            ValueRef::Blob(blob) => {
                self.bytes.extend_from_slice(blob);
                Cell::Blob(start, blob.len())
            }
        });
    }

    pub(super) fn into_rows(self) -> impl Iterator<Item = BatchedRow> {
        let (cells, width) = (self.cells.len(), self.columns.len().max(1));
        let batch = Arc::new(self);
        (0..cells).step_by(width).map(move |first| BatchedRow { batch: Arc::clone(&batch), first })
    }

    fn stored(&self, cell: Cell) -> Option<ValueRef<'_>> {
        Some(match cell {
            Cell::Nothing => ValueRef::Null,
            Cell::Int(value) => ValueRef::Integer(value),
            Cell::Real(value) => ValueRef::Real(value),
            Cell::Text(start, length) => ValueRef::Text(self.bytes.get(start..start + length)?),
            Cell::Blob(start, length) => ValueRef::Blob(self.bytes.get(start..start + length)?),
        })
    }
}

/// A row of a batch, which stays as long as one of its rows does.
pub struct BatchedRow {
    batch: Arc<Batch>,
    /// Its first cell.
    first: usize,
}

impl BatchedRow {
    pub(in crate::store::database) fn columns(&self) -> impl Iterator<Item = &str> {
        self.batch.columns.iter().map(|column| &*column.name)
    }

    /// The type that a column was made with; nothing if it is not one of a table.
    pub(in crate::store::database) fn declared(&self, column: &str) -> Option<&str> {
        Some(&*self.batch.columns.iter().find(|known| known.name == column)?.declared)
    }

    /// What stands in the column of that name.
    pub(in crate::store::database) fn named<'r, T: FromStored<'r>>(&'r self, column: &str) -> Result<T, DatabaseError> {
        let place = self.columns().position(|name| name == column);
        place.ok_or_else(|| unreadable(column)).and_then(|place| self.at(place))
    }

    /// What stands in the column of that place.
    pub(in crate::store::database) fn at<'r, T: FromStored<'r>>(&'r self, place: usize) -> Result<T, DatabaseError> {
        let cell = self.batch.cells.get(self.first + place).filter(|_| place < self.batch.columns.len());
        let read = cell.and_then(|cell| T::of(self.batch.stored(*cell)?));
        read.ok_or_else(|| unreadable(self.columns().nth(place).unwrap_or_default()))
    }
}

fn unreadable(column: &str) -> DatabaseError {
    rusqlite::Error::InvalidColumnName(column.to_owned()).into()
}

/// What can be read from a column. Nothing is made into another kind; only bytes may stand there as text, as they may for the library
/// that everything else goes through. That reads nothing as 0 or as no text where something must stand; here it is refused.
pub trait FromStored<'r>: Sized {
    /// Nothing if something else stands there.
    fn of(stored: ValueRef<'r>) -> Option<Self>;
}

impl FromStored<'_> for i64 {
    fn of(stored: ValueRef<'_>) -> Option<Self> {
        if let ValueRef::Integer(value) = stored { Some(value) } else { None }
    }
}

impl<'r> FromStored<'r> for &'r str {
    fn of(stored: ValueRef<'r>) -> Option<Self> {
        if let ValueRef::Text(text) = stored { std::str::from_utf8(text).ok() } else { None }
    }
}

impl FromStored<'_> for String {
    fn of(stored: ValueRef<'_>) -> Option<Self> {
        <&str>::of(stored).map(str::to_owned)
    }
}

impl<'r> FromStored<'r> for &'r [u8] {
    fn of(stored: ValueRef<'r>) -> Option<Self> {
        match stored {
            ValueRef::Blob(bytes) | ValueRef::Text(bytes) => Some(bytes),
            ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => None,
        }
    }
}

impl FromStored<'_> for Vec<u8> {
    fn of(stored: ValueRef<'_>) -> Option<Self> {
        <&[u8]>::of(stored).map(<[u8]>::to_vec)
    }
}

impl<'r, T: FromStored<'r>> FromStored<'r> for Option<T> {
    fn of(stored: ValueRef<'r>) -> Option<Self> {
        if let ValueRef::Null = stored { Some(None) } else { T::of(stored).map(Some) }
    }
}
