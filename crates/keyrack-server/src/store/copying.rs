//! Moving a whole store from one database to another, of whichever engine: every row as it is, with its MAC.

use sha2::{Digest as _, Sha256};

use super::StoreError;
use super::database::{Connection, Database, Others, Row, Snapshot, Statement, Value};
use super::live_sum::LiveSum;
use crate::canonical::Canonical;

/// Every table, what a row refers to before what refers to it, with its primary key. Not the list of migrations, which is made there.
pub(super) const TABLES: [(&str, &[&str]); 15] = [
    ("installation", &["id"]),
    ("counters", &["name"]),
    ("organizations", &["id"]),
    ("projects", &["id"]),
    ("api_keys", &["id"]),
    ("members", &["id"]),
    ("policies", &["id"]),
    ("audit_head", &["id"]),
    ("audit_events", &["seq"]),
    ("replies", &["lookup"]),
    ("key_usage", &["key_id", "hour"]),
    ("key_last_use", &["key_id"]),
    ("key_quotas", &["key_id", "name"]),
    ("usage_writers", &["writer"]),
    // Services that follow may still answer by what they had from there.
    ("nodes", &["id"]),
];

/// Rows that are read and written at a time: with their columns far below the most values that a statement may have.
const ROWS_AT_A_TIME: i64 = 250;

/// How many rows there are to copy.
///
/// # Errors
/// [`StoreError`] if they cannot be counted.
pub async fn rows_to_copy(from: &Database) -> Result<u64, StoreError> {
    let mut from = from.pool(1).snapshot().await?;
    from.be_patient();
    let mut rows = 0;
    for (table, _) in TABLES {
        let counted = from.one(Statement::new(format!("SELECT COUNT(*) AS rows FROM {table}"))).await?;
        rows += counted.try_get::<i64>("rows")?.unsigned_abs();
    }
    Ok(rows)
}

/// Copies everything into a database in which nothing was set up, all of it or nothing; calls `each` with how many rows it has copied.
///
/// # Errors
/// [`StoreError`] if one of the two cannot be used; nothing is in the other then.
pub async fn copy(from: &Database, to: &Database, mut each: impl FnMut(u64) + Send) -> Result<(), StoreError> {
    let mut from = from.pool(1).snapshot().await?;
    from.be_patient();
    let mut to = to.open_for_writing().await?;
    to.migrate().await?;
    to.be_patient();
    to.begin_write().await?;
    for (table, key) in TABLES {
        copy_table(&mut from, &mut to, (table, key), &mut each).await?;
    }
    to.commit(Others::NeedNotKnow).await?;
    Ok(to.close().await?)
}

/// What is in a database: for each table how many rows, and a sum over them, in whatever order they come.
#[derive(Debug, PartialEq, Eq)]
pub struct Contents(Vec<(u64, LiveSum)>);

/// Reads everything that is copied.
///
/// # Errors
/// [`StoreError`] if it cannot be read.
pub async fn contents(of: &Database) -> Result<Contents, StoreError> {
    let mut of = of.pool(1).snapshot().await?;
    of.be_patient();
    let mut contents = Vec::new();
    for (table, _) in TABLES {
        let (mut rows, mut sum) = (0, LiveSum::default());
        of.for_each(Statement::new(format!("SELECT * FROM {table}")), |row| {
            (rows, sum) = (rows + 1, sum.with(&hash_of(&row)?));
            Ok::<_, StoreError>(())
        })
        .await?;
        contents.push((rows, sum));
    }
    Ok(Contents(contents))
}

fn hash_of(row: &Row) -> Result<[u8; 32], StoreError> {
    let mut columns = row.columns();
    columns.sort_unstable();
    let mut canonical = Canonical::new("row");
    for column in columns {
        canonical = canonical.text(column);
        canonical = match row.value(column)? {
            Value::Int(value) => canonical.maybe_int(value),
            Value::Text(value) => canonical.maybe_text(value.as_deref()),
            Value::Bytes(value) => canonical.bytes(value),
        };
    }
    Ok(Sha256::digest(canonical.as_bytes()).into())
}

async fn copy_table(
    from: &mut Snapshot,
    to: &mut Connection,
    (table, key): (&str, &[&str]),
    each: &mut (impl FnMut(u64) + Send),
) -> Result<(), StoreError> {
    let order = key.join(", ");
    let mut last: Option<Row> = None;
    loop {
        let mut page = Statement::new(format!("SELECT * FROM {table}"));
        if let Some(last) = &last {
            let after = key.iter().map(|column| last.value(column)).collect::<Result<Vec<_>, _>>()?;
            page.push(format!(" WHERE ({order}) > ")).push_list(after);
        }
        page.push(format!(" ORDER BY {order} LIMIT ")).push_bind(ROWS_AT_A_TIME);
        let mut rows = from.all(page).await?;
        let Some(first) = rows.first() else { return Ok(()) };
        let columns: Vec<String> = first.columns().into_iter().map(str::to_owned).collect();
        let mut insert = Statement::new(format!("INSERT INTO {table} ({}) ", columns.join(", ")));
        insert.push_rows(rows.iter().map(|row| columns.iter().map(|column| row.value(column))))?;
        insert.execute(to).await?;
        each(rows.len() as u64);
        last = rows.pop();
    }
}
