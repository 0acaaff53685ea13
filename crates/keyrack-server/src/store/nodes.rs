//! Several processes on one store: how each takes its place, follows the log, and how a change finds out that all of them have it.

use std::time::Duration;

use super::database::Database;
use super::database::Others;
use super::membership::{Beat, Effective, HEARTBEAT, LEASE, Node, Pending, lease_of, silent_for_too_long, stale_limit};
use super::{Need, Store, StoreError, former, sql};
use crate::clock::{Timestamp, Uptime};

/// Heartbeats are at least so far apart, however much is changed.
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
/// How often somebody who waits looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

impl Store {
    /// One heartbeat: brings into force what was changed, says so, and renews the lease.
    ///
    /// # Errors
    /// [`StoreError`]; the lease is then as it was, and runs out.
    async fn beat(&self) -> Result<(), StoreError> {
        let members = &self.membership;
        let mut heart = members.heart.lock().await;
        // Whatever fails leaves none behind: the next heartbeat opens one.
        let mut connection = match heart.take().filter(|connection| !connection.is_broken()) {
            Some(connection) => connection,
            None => {
                let mut connection = self.database.open_for_writing().await?;
                connection.listen().await?;
                connection
            }
        };
        let began = self.clock.uptime();
        members.begin_beat();
        connection.begin_write().await?;
        let seq = match self.catch_up(&mut connection).await {
            Err(error @ StoreError::Damaged { .. }) => {
                tracing::error!(%error, "the store is not the one that was followed; everything is loaded anew");
                self.reload().await?;
                self.catch_up(&mut connection).await?
            }
            outcome => outcome?,
        };
        let beat = members.own_beat(seq);
        let was_listed = sql::beat(&mut connection, &beat).await?;
        if !was_listed {
            sql::enlist(&mut connection, &beat).await?;
        }
        let list = sql::nodes(&mut connection).await?;
        connection.commit(Others::NeedNotKnow).await?;
        if let Some(lease) = lease_of(began, was_listed, members.stale_limit) {
            self.verifier.index().renew(lease);
        }
        for beat in silent_for_too_long(members.judge(list, self.clock.uptime())) {
            if sql::strike_off(&mut connection, &beat.id, beat.beats).await? {
                tracing::warn!(node = beat.id, "a node was silent for longer than its lease, and is off the list");
            }
        }
        *heart = Some(connection);
        Ok(())
    }

    /// Takes the place among the nodes: when this returns, there is a lease.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn join(&self) -> Result<(), StoreError> {
        if self.is_shared() {
            match former::replace(&self.membership.data_dir, &self.membership.id) {
                Ok(Some(former)) => self.strike(&former).await?,
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "the next start will not know which node this was"),
            }
            // The first lists this node, the second is its lease.
            self.beat().await?;
            self.beat().await?;
        }
        Ok(())
    }

    /// Follows the store for as long as it is polled: a heartbeat now and then, and soon after every change of another process.
    pub async fn follow(self: &std::sync::Arc<Self>) {
        if !self.is_shared() {
            return self.strike_off_followers().await;
        }
        let mut is_well = true;
        loop {
            self.database.hint(HEARTBEAT).await;
            let outcome = self.beat().await;
            match &outcome {
                Ok(()) if !is_well => tracing::info!("the store is followed again"),
                Err(error) if is_well => {
                    tracing::warn!(%error, "the store cannot be followed; keys are verified from memory while the lease lasts");
                }
                Ok(()) | Err(_) => {}
            }
            is_well = outcome.is_ok();
            tokio::time::sleep(SHORTEST_PAUSE).await;
        }
    }

    /// Where there are no heartbeats: takes followers off the list that were silent for longer than their leases.
    async fn strike_off_followers(self: &std::sync::Arc<Self>) {
        loop {
            tokio::time::sleep(LEASE).await;
            let outcome = self.strike_off_expired().await;
            if let Err(error) = outcome {
                tracing::warn!(%error, "a follower that was silent for too long cannot be taken off the list");
            }
        }
    }

    async fn strike_off_expired(self: &std::sync::Arc<Self>) -> Result<(), StoreError> {
        for beat in silent_for_too_long(self.nodes().await?) {
            let mut writing = self.begin(Need::Ordinary).await?;
            let is_off = sql::strike_off(writing.connection()?, &beat.id, beat.beats).await?;
            writing.commit().await?;
            if is_off {
                tracing::warn!(node = beat.id, "a follower was silent for longer than its lease, and is off the list");
            }
        }
        Ok(())
    }

    /// What this process is called among the nodes.
    pub(super) fn membership_id(&self) -> &str {
        &self.membership.id
    }

    /// For how long a node of this installation answers without hearing from anybody.
    pub(super) const fn membership_limit(&self) -> Duration {
        self.membership.stale_limit
    }

    /// Whether other processes answer from the same store.
    pub const fn is_shared(&self) -> bool {
        self.database.is_shared()
    }

    /// Takes this process off the list: it answers nothing any more.
    ///
    /// # Errors
    /// [`StoreError`]; others then wait for it until its lease is over.
    pub async fn leave(&self) -> Result<(), StoreError> {
        if !self.is_shared() {
            return Ok(());
        }
        self.verifier.index().distrust();
        self.strike(&self.membership.id).await
    }

    /// Takes a node off the list that answers nothing any more.
    async fn strike(&self, id: &str) -> Result<(), StoreError> {
        let mut heart = self.membership.heart.lock().await;
        let mut connection = match heart.take().filter(|connection| !connection.is_broken()) {
            Some(connection) => connection,
            None => self.database.open_for_writing().await?,
        };
        Ok(sql::leave(&mut connection, id).await?)
    }

    /// The nodes that are listed, as they are seen from here.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub async fn nodes(&self) -> Result<Vec<Node>, StoreError> {
        let list = self.list_since(self.clock.uptime()).await?;
        let mut nodes = self.membership.judge(list, self.clock.uptime());
        if !self.is_shared() {
            // Only followers are on the list.
            let beat = self.membership.own_beat(self.verifier.index().position());
            nodes.insert(0, Node { beat, silent: Duration::ZERO, is_own: true });
        }
        Ok(nodes)
    }

    /// A list that was asked for no earlier than that.
    async fn list_since(&self, moment: Uptime) -> Result<Vec<Beat>, StoreError> {
        let mut list = self.membership.list.lock().await;
        if list.0 <= moment {
            let asked = self.clock.uptime();
            let mut finder = self.finders.acquire().await?;
            *list = (asked, sql::nodes(&mut finder).await?);
        }
        Ok(list.1.clone())
    }

    /// Waits until every node has a change that was committed, or answers nothing any more; no longer than `patience`.
    pub async fn await_everywhere(&self, seq: i64, patience: Duration) -> Effective {
        let committed = self.clock.uptime();
        let waited = || Duration::from_micros(self.clock.uptime().microseconds_since(committed));
        loop {
            let nodes = match self.list_since(self.clock.uptime()).await {
                Ok(list) => self.membership.judge(list, self.clock.uptime()),
                Err(error) => {
                    tracing::warn!(%error, seq, "cannot see how far a change has reached");
                    self.membership.known(self.clock.uptime())
                }
            };
            let waited = waited();
            let pending: Vec<_> = nodes.into_iter().filter(|node| !node.is_done_with(seq, waited)).collect();
            if pending.is_empty() {
                return Effective::All;
            }
            if waited >= patience {
                return Effective::Partial(pending.iter().map(|node| self.pending(node)).collect());
            }
            tokio::time::sleep(LOOK_AGAIN.min(patience.saturating_sub(waited))).await;
        }
    }

    /// How far a change has reached of which no other node can have heard.
    pub(super) fn known_reach(&self) -> Effective {
        let others = self.membership.known(self.clock.uptime()).into_iter().filter(|node| !node.is_own);
        let pending: Vec<_> = others.map(|node| self.pending(&node)).collect();
        if pending.is_empty() { Effective::All } else { Effective::Partial(pending) }
    }

    fn pending(&self, node: &Node) -> Pending {
        let rest = stale_limit(&node.beat).saturating_sub(node.silent);
        let rest = i64::try_from(rest.as_micros()).unwrap_or(i64::MAX);
        Pending { node: node.beat.id.clone(), until: Timestamp(self.clock.now().0.saturating_add(rest)) }
    }
}

/// Whether processes answer from a database now: whether there is a heartbeat while this waits for several. A file has a lock for that.
///
/// # Errors
/// [`StoreError`] if it cannot be asked.
pub async fn is_in_use(database: &Database) -> Result<bool, StoreError> {
    if !database.is_shared() {
        return Ok(false);
    }
    let mut connection = database.open_for_writing().await?;
    let before = sql::nodes(&mut connection).await?;
    tokio::time::sleep(HEARTBEAT * 4).await;
    Ok(sql::nodes(&mut connection).await? != before)
}
