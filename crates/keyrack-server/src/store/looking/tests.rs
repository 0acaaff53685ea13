use std::thread::sleep;
use std::time::Duration;

use super::*;
use crate::store::LEASE;
use crate::store::database::{Database, Statement};

/// What a batch holds at most.
const BATCH: i64 = 512;
const NUMBERS: &str = "WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers) \
     SELECT n, 0 FROM numbers LIMIT $1";
/// The same, until it comes to one at which there is an error.
const FAILING: &str = "WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers) \
     SELECT n, abs(CASE WHEN n < 5000 THEN 0 ELSE -9223372036854775808 END) FROM numbers LIMIT $1";

/// What comes back of so many rows that are numbered from 0 if that is how they are looked at, and how it ended.
async fn found(
    (statement, count): (&'static str, i64),
    look: fn(i64) -> i64,
    most: usize,
) -> (Vec<i64>, Result<(), StoreError>) {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::in_directory(dir.path(), LEASE);
    database.open_for_writing().await.unwrap();
    let mut snapshot = database.pool(1).snapshot().await.unwrap();
    let batches = snapshot.read(Statement::new(statement).bind(count)).await.unwrap();
    let mut found = Vec::new();
    let each = |number| {
        found.push(number);
        if found.len() < most { Ok(()) } else { Err(StoreError::Conflict) }
    };
    let outcome = look_at(batches, move |row| look(row.try_get("n").unwrap()), each).await;
    (found, outcome)
}

#[tokio::test]
async fn what_is_found_comes_in_the_order_of_the_rows_whoever_is_ready_first() {
    let slow_at_first = |number: i64| {
        if number % 1_000 == 0 {
            sleep(Duration::from_millis(20_u64.saturating_sub(number.unsigned_abs() / 500)));
        }
        number * 2
    };
    for count in [0, 1, BATCH - 1, BATCH, BATCH + 1, BATCH * (UNDER_WAY as i64 + 3) + 1] {
        let (found, outcome) = found((NUMBERS, count), slow_at_first, usize::MAX).await;
        outcome.unwrap();
        assert!(found.iter().copied().eq((0..count).map(|number| number * 2)), "{count}");
    }
}

#[tokio::test]
async fn an_error_and_a_panic_are_the_end() {
    let (found_so_far, outcome) = found((NUMBERS, BATCH * 20), |number| number, 700).await;
    assert!(matches!(outcome, Err(StoreError::Conflict)));
    assert_eq!(found_so_far.len(), 700);

    let panicking = |number| if number == 3 * BATCH { panic!("as is tested") } else { number };
    let (found_so_far, outcome) = found((NUMBERS, BATCH * 20), panicking, usize::MAX).await;
    assert!(matches!(outcome, Err(StoreError::Unavailable(DatabaseError::ThreadLost))), "{outcome:?}");
    assert!(found_so_far.into_iter().eq(0..3 * BATCH));

    let (found_so_far, outcome) = found((FAILING, BATCH * 20), |number| number, usize::MAX).await;
    assert!(matches!(outcome, Err(StoreError::Unavailable(DatabaseError::Snapshot(_)))), "{outcome:?}");
    assert!(found_so_far.len() < 5_000);
}
