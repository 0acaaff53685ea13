use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use rusqlite::types::Value;
use tempfile::TempDir;

use super::batch::MOST_BYTES;
use super::*;
use crate::store::database::{Connection, Pool, Readable, sqlite};

/// A file with a table in whose columns anything may stand, and in it these rows.
fn file_of(rows: &[[Value; 3]]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut connection = rusqlite::Connection::open(dir.path().join("store.db")).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    connection.execute_batch("CREATE TABLE kept (number BIGINT, words TEXT, bytes BLOB)").unwrap();
    let transaction = connection.transaction().unwrap();
    for row in rows {
        transaction.execute("INSERT INTO kept VALUES (?, ?, ?)", rusqlite::params_from_iter(row)).unwrap();
    }
    transaction.commit().unwrap();
    dir
}

async fn snapshot(dir: &Path) -> Snapshot {
    pool(dir).snapshot().await.unwrap()
}

fn pool(dir: &Path) -> Pool {
    Pool::Sqlite(sqlite::open_for_reading(&dir.join("store.db"), 1))
}

/// So many numbers, or all if there are not so many.
async fn numbers(of: &mut Snapshot, text: &'static str, most: usize) -> Result<Vec<i64>, DatabaseError> {
    let (mut batches, mut numbers) = (of.read(Statement::new(text)).await?, Vec::new());
    while numbers.len() < most {
        let Some(rows) = batches.next().await? else {
            assert!(batches.next().await?.is_none(), "it stays at its end");
            break;
        };
        assert!((1..=MOST_ROWS).contains(&rows.len()));
        for row in &rows {
            numbers.push(row.try_get("number")?);
        }
    }
    numbers.truncate(most);
    Ok(numbers)
}

/// What can be read of each cell as `T`, by its place and by its name.
fn read<T>(rows: &[Row]) -> Vec<Option<T>>
where
    T: for<'r> Readable<'r> + PartialEq + std::fmt::Debug,
{
    let of_row = |row: &Row| {
        let mut cells = row.cells();
        ["number", "words", "bytes"].map(|name| {
            let by_place: Option<T> = cells.next();
            assert_eq!(by_place, row.try_get(name).ok());
            by_place
        })
    };
    rows.iter().flat_map(of_row).collect()
}

fn anything() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::Integer),
        (-2..3_i64).prop_map(Value::Integer),
        any::<f64>().prop_map(Value::Real),
        Just(Value::Real(1.0)),
        any::<String>().prop_map(Value::Text),
        proptest::sample::select(vec!["", "12", "1.0", "a\0b", "\0"]).prop_map(|text| Value::Text(text.to_owned())),
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(Value::Blob),
        Just(Value::Blob(b"12".to_vec())),
    ]
}

#[test]
fn what_is_read_is_what_is_read_row_by_row() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let rows = proptest::collection::vec([anything(), anything(), anything()], 0..20);
    let compare = |rows: Vec<[Value; 3]>| {
        let dir = file_of(&rows);
        // Text that is none, and text of numbers where numbers belong: nothing writes that, but it can stand in a file.
        let behind = rusqlite::Connection::open(dir.path().join("store.db")).unwrap();
        behind.execute_batch("INSERT INTO kept VALUES (CAST(x'ff00' AS TEXT), CAST(x'ff' AS TEXT), 'text')").unwrap();
        runtime.block_on(async {
            let mut one = Connection::PooledSqlite(match pool(dir.path()) {
                Pool::Sqlite(pool) => pool.acquire().await.unwrap(),
                Pool::Postgres(_) => unreachable!(),
            });
            let all = || Statement::new("SELECT number, words, bytes FROM kept ORDER BY rowid");
            let (one, many) = (all().fetch_all(&mut one).await.unwrap(), snapshot(dir.path()).await.all(all()).await);
            let many = many.unwrap();
            // Of what may be missing: otherwise the library makes nothing into 0 or an empty text, and here it is refused.
            macro_rules! compare {
                ($($kind:ty),*) => { $(
                    let found = read::<Option<$kind>>(&many);
                    assert_eq!(found, read::<Option<$kind>>(&one));
                    let not_missing: Vec<Option<$kind>> = found.into_iter().map(Option::flatten).collect();
                    assert_eq!(read::<$kind>(&many), not_missing);
                )* };
            }
            compare!(i64, String, Vec<u8>);
        });
        Ok(())
    };
    TestRunner::new(ProptestConfig::with_cases(64)).run(&rows, compare).unwrap();
}

#[tokio::test]
async fn rows_come_in_their_order_however_many_and_long_and_no_more_than_are_wanted() {
    let long = || Value::Text("long".repeat(MOST_BYTES));
    let row = |number: i64| [number.into(), if number == 700 { long() } else { Value::Null }, Value::Null];
    let all: Vec<i64> = (0..3 * MOST_ROWS as i64).collect();
    for length in [0, 1, MOST_ROWS - 1, MOST_ROWS, MOST_ROWS + 1, all.len()] {
        let rows: Vec<_> = all[..length].iter().map(|number| row(*number)).collect();
        let dir = file_of(&rows);
        let mut snapshot = snapshot(dir.path()).await;
        let text = "SELECT * FROM kept ORDER BY number";
        assert_eq!(numbers(&mut snapshot, text, usize::MAX).await.unwrap(), all[..length]);
        for most in [1, MOST_ROWS, MOST_ROWS + 1] {
            assert_eq!(numbers(&mut snapshot, text, most).await.unwrap(), all[..length.min(most)]);
        }
        let first = snapshot.first(Statement::new(text)).await.unwrap();
        assert_eq!(first.map(|row| row.try_get("number").unwrap()), all[..length].first().copied());
    }
}

#[tokio::test]
async fn values_stand_where_their_numbers_say() {
    let dir = file_of(&[]);
    let mut snapshot = snapshot(dir.path()).await;
    let statement = || Statement::new("SELECT $2 AS b, $1 AS a, $3 AS c, $2 AS again").bind(1_i64).bind("two");
    let row = snapshot.one(statement().bind(b"three".as_slice())).await.unwrap();
    assert_eq!(row.try_get::<i64>("a").unwrap(), 1);
    assert_eq!(row.try_get::<&str>("b").unwrap(), "two");
    assert_eq!(row.try_get::<&[u8]>("c").unwrap(), b"three");
    assert_eq!(row.try_get::<&str>("again").unwrap(), "two");
    assert!(row.try_get::<i64>("d").is_err());
    assert!(snapshot.one(statement()).await.is_err(), "one is missing");
}

#[tokio::test]
async fn it_is_read_as_it_was_at_first_and_never_written() {
    let dir = file_of(&[[1.into(), Value::Null, Value::Null]]);
    let mut snapshot = snapshot(dir.path()).await;
    let text = "SELECT number FROM kept";
    // SQLite begins to see at the first look, so that this is when it began.
    assert_eq!(numbers(&mut snapshot, text, usize::MAX).await.unwrap(), [1]);
    let behind = rusqlite::Connection::open(dir.path().join("store.db")).unwrap();
    behind.execute_batch("INSERT INTO kept (number) VALUES (2)").unwrap();
    assert_eq!(numbers(&mut snapshot, text, usize::MAX).await.unwrap(), [1]);
    let insert = Statement::new("INSERT INTO kept (number) VALUES (3) RETURNING number");
    assert!(snapshot.all(insert).await.is_err());
    // An error leaves it usable.
    assert_eq!(numbers(&mut snapshot, text, usize::MAX).await.unwrap(), [1]);
}

/// Where the rows before the error are fewer than a batch, and where they are many.
#[tokio::test]
async fn an_error_in_the_middle_is_not_the_end_of_the_rows() {
    for rows in [1, MOST_ROWS, 3 * MOST_ROWS + 1] {
        let numbered: Vec<_> = (1..=rows as i64).map(|number| [number.into(), Value::Null, Value::Null]).collect();
        let dir = file_of(&numbered);
        let behind = rusqlite::Connection::open(dir.path().join("store.db")).unwrap();
        behind.execute_batch("INSERT INTO kept (number) VALUES (-9223372036854775808)").unwrap();
        let text = "SELECT number, abs(number) FROM kept ORDER BY rowid";
        let outcome = numbers(&mut snapshot(dir.path()).await, text, usize::MAX).await;
        assert!(matches!(outcome, Err(DatabaseError::Snapshot(_))), "{outcome:?}");
    }
}
