//! Rows are looked at on other threads, many at a time, while more are read.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::task::{JoinHandle, spawn_blocking};

use super::StoreError;
use super::database::{Batches, DatabaseError, Row};

/// Batches that may be looked at, or wait for one before them, at a time: enough for a few cores, and little memory.
const UNDER_WAY: usize = 8;

/// Hands what `look` finds in rows to `each`, in the order of the rows.
pub(super) async fn look_at<T: Send + 'static>(
    mut batches: Batches<'_>,
    look: impl Fn(&Row) -> T + Send + Sync + 'static,
    mut each: impl FnMut(T) -> Result<(), StoreError> + Send,
) -> Result<(), StoreError> {
    let (look, mut under_way) = (Arc::new(look), VecDeque::new());
    while let Some(rows) = batches.next().await? {
        let look = Arc::clone(&look);
        under_way.push_back(spawn_blocking(move || rows.iter().map(|row| look(row)).collect()));
        if under_way.len() == UNDER_WAY
            && let Some(first) = under_way.pop_front()
        {
            hand_over(first, &mut each).await?;
        }
    }
    for next in under_way {
        hand_over(next, &mut each).await?;
    }
    Ok(())
}

async fn hand_over<T>(
    looked_at: JoinHandle<Vec<T>>,
    each: &mut (impl FnMut(T) -> Result<(), StoreError> + Send),
) -> Result<(), StoreError> {
    let found = looked_at.await.map_err(|_panicked| DatabaseError::ThreadLost)?;
    found.into_iter().try_for_each(each)
}

#[cfg(test)]
mod tests;
