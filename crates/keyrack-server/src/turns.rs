//! Whose turn it is: what takes long and is scarce is shared out, so that none of it is for one tenant or one key alone.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use keyrack::{Holder, OrganizationId, VerifiedKey};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long somebody waits for a turn.
const PATIENCE: Duration = Duration::from_secs(5);
/// From so many on, those who have no turn are forgotten.
const MOST_IDLE: usize = 1_000;

/// Turns of one kind.
pub struct Turns<K> {
    at_a_time: usize,
    of: Mutex<HashMap<K, Arc<Semaphore>>>,
}

impl<K: Eq + Hash> Turns<K> {
    /// Each has so many of them at a time.
    pub fn new(at_a_time: usize) -> Self {
        Self { at_a_time, of: Mutex::default() }
    }

    /// Waits for a turn; it is over when what comes back is dropped. `None` if it does not come.
    pub async fn wait(&self, whose: K) -> Option<OwnedSemaphorePermit> {
        let turns = {
            let mut all = self.of.lock().unwrap_or_else(PoisonError::into_inner);
            if all.len() > MOST_IDLE {
                all.retain(|_, turns| Arc::strong_count(turns) > 1);
            }
            Arc::clone(all.entry(whose).or_insert_with(|| Arc::new(Semaphore::new(self.at_a_time))))
        };
        tokio::time::timeout(PATIENCE, turns.acquire_owned()).await.ok()?.ok()
    }
}

/// Whose the turns of a key are: its organization's, or the operator's.
pub fn tenant_of(key: &VerifiedKey) -> Option<OrganizationId> {
    match key.holder() {
        Holder::Project { organization, .. } | Holder::Organization { organization, .. } => Some(organization),
        Holder::Operator | Holder::Follower => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nobody_ever_has_all_the_turns() {
        let turns = Turns::new(2);
        let first = turns.wait(1).await;
        let second = turns.wait(1).await;
        assert!(first.is_some() && second.is_some());
        assert!(turns.wait(1).await.is_none(), "a third does not come");
        assert!(turns.wait(2).await.is_some());
        drop(second);
        assert!(turns.wait(1).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_have_none_are_forgotten() {
        let turns = Turns::new(2);
        let held = turns.wait(0).await;
        for number in 1..5_000 {
            assert!(turns.wait(number).await.is_some());
        }
        assert!(turns.of.lock().unwrap().len() <= MOST_IDLE + 1);
        assert!(turns.wait(0).await.is_some());
        assert!(held.is_some() && turns.wait(0).await.is_some());
    }
}
