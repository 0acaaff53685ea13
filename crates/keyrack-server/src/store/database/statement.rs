//! A statement and its values.

use std::borrow::Cow;

use futures_util::TryStreamExt as _;
use sqlx::sqlite::SqliteArguments;
use sqlx::{AssertSqlSafe, Sqlite, SqliteConnection};
use tokio_postgres::types::{ToSql, Type};

use super::{Connection, DatabaseError, Row};

/// A value in a statement.
#[derive(Clone, Debug)]
pub(in crate::store) enum Value<'a> {
    Int(Option<i64>),
    Text(Option<Cow<'a, str>>),
    Bytes(&'a [u8]),
}

impl Value<'_> {
    fn typed(&self) -> (&(dyn ToSql + Sync), Type) {
        match self {
            Self::Int(value) => (value, Type::INT8),
            Self::Text(value) => (value, Type::TEXT),
            Self::Bytes(value) => (value, Type::BYTEA),
        }
    }
}

impl From<Value<'_>> for rusqlite::types::Value {
    fn from(value: Value<'_>) -> Self {
        match value {
            Value::Int(value) => value.into(),
            Value::Text(value) => value.map(Cow::into_owned).into(),
            Value::Bytes(value) => value.to_vec().into(),
        }
    }
}

impl From<i64> for Value<'_> {
    fn from(value: i64) -> Self {
        Self::Int(Some(value))
    }
}

impl From<u32> for Value<'_> {
    fn from(value: u32) -> Self {
        Self::Int(Some(value.into()))
    }
}

impl From<Option<i64>> for Value<'_> {
    fn from(value: Option<i64>) -> Self {
        Self::Int(value)
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(value: &'a str) -> Self {
        Self::Text(Some(value.into()))
    }
}

impl<'a> From<&'a String> for Value<'a> {
    fn from(value: &'a String) -> Self {
        Self::Text(Some(value.into()))
    }
}

impl From<String> for Value<'_> {
    fn from(value: String) -> Self {
        Self::Text(Some(value.into()))
    }
}

impl<'a> From<&'a Option<String>> for Value<'a> {
    fn from(value: &'a Option<String>) -> Self {
        Self::Text(value.as_deref().map(Cow::from))
    }
}

impl From<Option<String>> for Value<'_> {
    fn from(value: Option<String>) -> Self {
        Self::Text(value.map(Cow::from))
    }
}

impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(value: &'a [u8]) -> Self {
        Self::Bytes(value)
    }
}

impl<'a> From<&'a Vec<u8>> for Value<'a> {
    fn from(value: &'a Vec<u8>) -> Self {
        Self::Bytes(value)
    }
}

/// A statement in the words that both engines know, with its values for `$1`, `$2` and so on.
pub(in crate::store) struct Statement<'a> {
    text: Cow<'static, str>,
    values: Vec<Value<'a>>,
}

impl<'a> Statement<'a> {
    pub(in crate::store) fn new(text: impl Into<Cow<'static, str>>) -> Self {
        Self { text: text.into(), values: Vec::new() }
    }

    /// The next value, for a place that the text has already.
    pub(in crate::store) fn bind(mut self, value: impl Into<Value<'a>>) -> Self {
        self.values.push(value.into());
        self
    }

    /// More text.
    pub(in crate::store) fn push(&mut self, text: impl AsRef<str>) -> &mut Self {
        self.text.to_mut().push_str(text.as_ref());
        self
    }

    /// The next value, and its place.
    pub(in crate::store) fn push_bind(&mut self, value: impl Into<Value<'a>>) -> &mut Self {
        self.values.push(value.into());
        let place = format!("${}", self.values.len());
        self.push(place)
    }

    /// `VALUES` with a row for each of `items`; `values` says which it has.
    pub(in crate::store) fn push_values<T, const N: usize>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        values: impl Fn(T) -> [Value<'a>; N],
    ) -> &mut Self {
        for (at, item) in items.into_iter().enumerate() {
            self.push_row(at, values(item));
        }
        self
    }

    /// [`Statement::push_values`] of rows that have to be read first.
    pub(in crate::store) fn push_rows<R>(&mut self, rows: impl IntoIterator<Item = R>) -> Result<(), DatabaseError>
    where
        R: Iterator<Item = Result<Value<'a>, DatabaseError>>,
    {
        for (at, row) in rows.into_iter().enumerate() {
            self.push_row(at, row.collect::<Result<Vec<_>, _>>()?);
        }
        Ok(())
    }

    fn push_row(&mut self, at: usize, values: impl IntoIterator<Item = Value<'a>>) {
        self.push(if at == 0 { "VALUES " } else { ", " }).push_list(values);
    }

    /// Values and their places, in parentheses.
    pub(in crate::store) fn push_list<V: Into<Value<'a>>>(&mut self, values: impl IntoIterator<Item = V>) -> &mut Self {
        let mut before = "(";
        for value in values {
            self.push(before).push_bind(value);
            before = ", ";
        }
        self.push(")")
    }

    /// Runs it; says how many rows it wrote.
    pub(in crate::store) async fn execute(self, on: &mut Connection) -> Result<u64, DatabaseError> {
        match on {
            Connection::Sqlite(connection) => Ok(self.of_sqlite().execute(connection).await?.rows_affected()),
            Connection::PooledSqlite(connection) => {
                Ok(self.of_sqlite().execute(&mut **connection).await?.rows_affected())
            }
            Connection::Postgres(session) => session.execute(&self.text, &self.of_postgres()).await,
        }
    }

    /// The one row that it gives.
    pub(in crate::store) async fn fetch_one(self, on: &mut Connection) -> Result<Row, DatabaseError> {
        self.fetch_optional(on).await?.ok_or_else(|| sqlx::Error::RowNotFound.into())
    }

    /// The first row that it gives, if any.
    pub(in crate::store) async fn fetch_optional(self, on: &mut Connection) -> Result<Option<Row>, DatabaseError> {
        match on {
            Connection::Sqlite(connection) => self.first_of_sqlite(connection).await,
            Connection::PooledSqlite(connection) => self.first_of_sqlite(connection).await,
            Connection::Postgres(session) => {
                Ok(session.all(&self.text, &self.of_postgres()).await?.into_iter().next().map(Row::Postgres))
            }
        }
    }

    /// Every row that it gives.
    pub(in crate::store) async fn fetch_all(self, on: &mut Connection) -> Result<Vec<Row>, DatabaseError> {
        let mut rows = Vec::new();
        self.for_each(on, |row| {
            rows.push(row);
            Ok::<_, DatabaseError>(true)
        })
        .await?;
        Ok(rows)
    }

    /// Hands every row that it gives to `each`, as they come, until that says that it is enough.
    pub(in crate::store) async fn for_each<E: From<DatabaseError>>(
        self,
        on: &mut Connection,
        each: impl FnMut(Row) -> Result<bool, E> + Send,
    ) -> Result<(), E> {
        match on {
            Connection::Sqlite(connection) => self.each_of_sqlite(connection, each).await,
            Connection::PooledSqlite(connection) => self.each_of_sqlite(connection, each).await,
            Connection::Postgres(session) => session.each(&self.text, &self.of_postgres(), each).await,
        }
    }

    async fn first_of_sqlite(self, on: &mut SqliteConnection) -> Result<Option<Row>, DatabaseError> {
        Ok(self.of_sqlite().fetch_optional(on).await?.map(Row::Sqlite))
    }

    async fn each_of_sqlite<E: From<DatabaseError>>(
        self,
        on: &mut SqliteConnection,
        mut each: impl FnMut(Row) -> Result<bool, E> + Send,
    ) -> Result<(), E> {
        let mut rows = self.of_sqlite().fetch(on);
        while let Some(row) = rows.try_next().await.map_err(DatabaseError::from)? {
            if !each(Row::Sqlite(row))? {
                break;
            }
        }
        Ok(())
    }

    fn of_sqlite(self) -> sqlx::query::Query<'a, Sqlite, SqliteArguments> {
        let query = sqlx::query(AssertSqlSafe(self.text));
        self.values.into_iter().fold(query, |query, value| match value {
            Value::Int(value) => query.bind(value),
            Value::Text(value) => query.bind(value),
            Value::Bytes(value) => query.bind(value),
        })
    }

    /// Text and values for who runs it on another thread.
    pub(super) fn into_owned(self) -> (Cow<'static, str>, Vec<rusqlite::types::Value>) {
        (self.text, self.values.into_iter().map(Into::into).collect())
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn of_postgres(&self) -> Vec<(&(dyn ToSql + Sync), Type)> {
        self.values.iter().map(Value::typed).collect()
    }
}
