//! Whose turn it is to have a list read. Lists may be long to search, and the connections that read them are few: none of
//! them is for one tenant alone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use keyrack::{Holder, OrganizationId, VerifiedKey};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many lists of one organization, or of the operator, are read at a time: the others' have their share.
const LISTS_AT_A_TIME: usize = 2;
/// How long a list waits for its turn.
const LIST_WAIT: Duration = Duration::from_secs(5);
/// From so many tenants on, those whose lists are done are forgotten.
const MOST_IDLE_TURNS: usize = 1_000;

/// Whose lists are being read.
#[derive(Default)]
pub struct ListTurns(Mutex<HashMap<Option<OrganizationId>, Arc<Semaphore>>>);

impl ListTurns {
    /// Waits for a turn; it is over when what comes back is dropped. `None` if it does not come.
    pub async fn wait(&self, key: &VerifiedKey) -> Option<OwnedSemaphorePermit> {
        let tenant = match key.holder() {
            Holder::Project { organization, .. } | Holder::Organization { organization, .. } => Some(organization),
            Holder::Operator | Holder::Follower => None,
        };
        let turns = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if all.len() > MOST_IDLE_TURNS {
                all.retain(|_, turns| Arc::strong_count(turns) > 1);
            }
            Arc::clone(all.entry(tenant).or_insert_with(|| Arc::new(Semaphore::new(LISTS_AT_A_TIME))))
        };
        tokio::time::timeout(LIST_WAIT, turns.acquire_owned()).await.ok()?.ok()
    }
}

#[cfg(test)]
mod tests {
    use keyrack::{KeyId, OrganizationRole, Requirement, decide};

    use super::*;

    fn owner_of(organization: u32) -> VerifiedKey {
        let role = OrganizationRole::Owner;
        let holder = Holder::Organization { organization: OrganizationId(organization), role };
        decide(KeyId(1), holder, Requirement::Organization { least: role }).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn one_tenant_never_has_all_the_turns() {
        let turns = ListTurns::default();
        let first = turns.wait(&owner_of(1)).await;
        let second = turns.wait(&owner_of(1)).await;
        assert!(first.is_some() && second.is_some());
        assert!(turns.wait(&owner_of(1)).await.is_none(), "a third does not come");
        assert!(turns.wait(&owner_of(2)).await.is_some());
        drop(second);
        assert!(turns.wait(&owner_of(1)).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn tenants_whose_lists_are_done_are_forgotten() {
        let turns = ListTurns::default();
        let held = turns.wait(&owner_of(0)).await;
        for organization in 1..5_000 {
            assert!(turns.wait(&owner_of(organization)).await.is_some());
        }
        assert!(turns.0.lock().unwrap().len() <= MOST_IDLE_TURNS + 1);
        assert!(turns.wait(&owner_of(0)).await.is_some());
        assert!(held.is_some() && turns.wait(&owner_of(0)).await.is_some());
    }
}
