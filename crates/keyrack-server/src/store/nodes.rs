//! Several processes on one store: how each takes its place, follows the log, and how a change finds out that all of them have it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout;
use tracing::Instrument as _;

use super::database::{Connection, Database, Others};
use super::membership::{
    Beat, Effective, HEARTBEAT, Heart, LEASE, Node, Pending, lease_of, silent_for_too_long, stale_limit,
};
use super::{DatabaseError, Need, Store, StoreError, former, no_head, sql};
use crate::clock::{Timestamp, Uptime};

/// So many silent nodes are struck off in a heartbeat: the next must not wait for more of them.
const MOST_STRUCK_OFF: usize = 32;
/// Heartbeats are at least so far apart, however much is changed.
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
/// How far apart they are at the most while everything has to be loaded anew and cannot be.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How soon somebody who waits looks again at first, and how often he does at least.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
const LOOK_AGAIN_AT_LEAST: Duration = Duration::from_millis(100);
/// How long he looks even if he does not want to wait.
const SHORTEST_LOOK: Duration = Duration::from_millis(500);
/// How long the list may take for those who only want to see it.
const DATABASE_PATIENCE: Duration = Duration::from_secs(5);

impl Store {
    /// One heartbeat: brings into force what was changed, says so, and renews the lease.
    ///
    /// # Errors
    /// [`StoreError`]; the lease is then as it was, and runs out. If the log does not go on from where it was followed there is none any
    /// more, until everything is loaded anew.
    async fn beat(&self, heart: &mut Heart) -> Result<(), StoreError> {
        let members = &self.membership;
        if heart.is_astray || heart.has_left {
            return Err(StoreError::Unavailable(DatabaseError::Closed));
        }
        // Whatever fails leaves none behind: the next heartbeat opens one.
        let mut connection = match heart.connection.take().filter(|connection| !connection.is_broken()) {
            Some(connection) => connection,
            None => {
                let mut connection = self.database.open_for_writing().await?;
                connection.carry_heartbeats();
                connection.listen().await?;
                connection
            }
        };
        let began = self.clock.uptime();
        members.begin_beat();
        connection.begin_write().await?;
        let seq = match self.catch_up(&mut connection).await {
            Err(error @ (StoreError::Astray { .. } | StoreError::Damaged { .. })) => {
                drop(connection);
                return Err(self.go_astray(heart, error).await);
            }
            caught_up => caught_up?,
        };
        let beat = members.own_beat(seq);
        let was_listed = sql::beat(&mut connection, &beat).await?;
        let list = sql::nodes(&mut connection).await?;
        connection.commit(Others::NeedNotKnow).await?;
        if let Some(lease) = lease_of(began, was_listed, members.stale_limit) {
            self.verifier.index().renew(lease);
        }
        heart.list = (began, list.clone());
        for beat in silent_for_too_long(members.judge(list, self.clock.uptime())).take(MOST_STRUCK_OFF) {
            if sql::strike_off(&mut connection, &beat.id, beat.beats).await? {
                tracing::warn!(node = beat.id, "a node was silent for longer than its lease, and is off the list");
            }
        }
        heart.connection = Some(connection);
        Ok(())
    }

    /// The log does not go on from where it was followed, if this is the store: it may be a former primary that nobody stopped, which still
    /// answers whoever reads, and commits nothing. Gives what the heartbeat failed with.
    async fn go_astray(&self, heart: &mut Heart, error: StoreError) -> StoreError {
        if let Err(unproven) = self.prove(true).await {
            return unproven;
        }
        tracing::error!(%error, "the store is not the one that was followed: nothing is answered before it is loaded anew");
        heart.is_astray = true;
        self.membership.lose_the_list();
        self.verifier.index().distrust();
        error
    }

    /// Commits a heartbeat that says nothing: what can be written to is the store. To read from it proves nothing. A node that `answers`
    /// nothing goes off the list with it, so that nobody waits for it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) async fn prove(&self, answers: bool) -> Result<Proof, StoreError> {
        let mut connection = self.database.open_for_writing().await?;
        connection.carry_heartbeats();
        self.membership.begin_beat();
        connection.begin_write().await?;
        let head = sql::audit_head(&mut connection).await?.ok_or_else(no_head)?;
        let beat = self.membership.own_beat(0);
        sql::beat(&mut connection, &beat).await?;
        if !answers {
            sql::leave(&mut connection, &beat.id).await?;
        }
        connection.commit(Others::NeedNotKnow).await?;
        Ok(Proof { connection, head })
    }

    /// Takes the place among the nodes: when this returns, there is a lease.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn join(&self) -> Result<(), StoreError> {
        if self.is_shared() {
            let unreadable = |error| tracing::warn!(%error, "which node the last process was cannot be read");
            if let Some(former) = former::last(&self.membership.data_dir).map_err(unreadable).ok().flatten() {
                self.strike(&former).await?;
            }
            if let Err(error) = former::note(&self.membership.data_dir, &self.membership.id) {
                tracing::warn!(%error, "the next start will not know which node this was");
            }
            let mut heart = self.membership.heart.lock().await;
            // The first lists this node, the second is its lease.
            self.beat(&mut heart).await?;
            self.beat(&mut heart).await?;
        }
        Ok(())
    }

    /// Follows the store for as long as it is polled: a heartbeat now and then, and soon after every change of another process.
    pub async fn follow(self: &Arc<Self>) {
        if !self.is_shared() {
            return self.strike_off_followers().await;
        }
        let (mut is_well, mut pause) = (true, SHORTEST_PAUSE);
        loop {
            self.database.hint(HEARTBEAT).await;
            let mut heart = self.membership.heart.lock().await;
            let was_astray = heart.is_astray;
            let outcome = if was_astray { self.find_the_way(&mut heart).await } else { self.beat(&mut heart).await };
            drop(heart);
            match &outcome {
                Ok(()) if !is_well => tracing::info!("the store is followed again"),
                Err(error) if is_well => {
                    tracing::warn!(%error, "the store cannot be followed; keys are verified from memory while the lease lasts");
                }
                Ok(()) | Err(_) => {}
            }
            is_well = outcome.is_ok();
            // To load everything is much work, for the database too.
            let is_still_astray = was_astray && !is_well;
            pause = if is_still_astray { (pause * 2).clamp(HEARTBEAT, LONGEST_PAUSE) } else { SHORTEST_PAUSE };
            tokio::time::sleep(pause).await;
        }
    }

    /// Loads everything anew, after the log did not go on from where it was followed.
    async fn find_the_way(&self, heart: &mut Heart) -> Result<(), StoreError> {
        let outcome = self.reload().await;
        if let Err(error) = &outcome {
            tracing::error!(%error, "the store cannot be loaded anew, and until it is nothing is answered; trying again soon");
        }
        heart.is_astray = outcome.is_err();
        outcome.map(|_loaded| ())
    }

    /// Where there are no heartbeats: takes followers off the list that were silent for longer than their leases.
    async fn strike_off_followers(self: &Arc<Self>) {
        loop {
            tokio::time::sleep(LEASE).await;
            let outcome = self.strike_off_expired().await;
            if let Err(error) = outcome {
                tracing::warn!(%error, "a follower that was silent for too long cannot be taken off the list");
            }
        }
    }

    async fn strike_off_expired(self: &Arc<Self>) -> Result<(), StoreError> {
        let rows = self.listed_rows().await?;
        let heard = self.membership.heard.latest(rows.clone());
        for beat in silent_for_too_long(self.membership.judge(heard, self.clock.uptime())) {
            // From here on it must be listed anew, which changes its row.
            if !self.membership.heard.forget_silent(&beat) {
                continue;
            }
            let in_row = rows.iter().find(|row| row.id == beat.id).map_or(beat.beats, |row| row.beats);
            let mut writing = self.begin(Need::Ordinary).await?;
            let is_off = sql::strike_off(writing.connection()?, &beat.id, in_row).await?;
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
        self.membership.heart.lock().await.has_left = true;
        self.strike(&self.membership.id).await
    }

    /// Takes a node off the list that answers nothing any more.
    async fn strike(&self, id: &str) -> Result<(), StoreError> {
        let mut heart = self.membership.heart.lock().await;
        let mut connection = match heart.connection.take().filter(|connection| !connection.is_broken()) {
            Some(connection) => connection,
            None => self.database.open_for_writing().await?,
        };
        Ok(sql::leave(&mut connection, id).await?)
    }

    /// The nodes that are listed, as they are seen from here.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be told.
    pub async fn nodes(self: &Arc<Self>) -> Result<Vec<Node>, StoreError> {
        let mut nodes = match self.look(self.clock.uptime(), DATABASE_PATIENCE).await {
            Ok(list) => self.membership.judge(list, self.clock.uptime()),
            // Those that were on the newest list, and for how long nothing was heard of each.
            Err(error) if self.is_shared() && error.is_outage() => self.membership.known(self.clock.uptime()),
            Err(error) => return Err(error),
        };
        if !self.is_shared() {
            // Only followers are on the list.
            let beat = self.membership.own_beat(self.verifier.index().position());
            nodes.insert(0, Node { beat, silent: Duration::ZERO, is_own: true });
        }
        Ok(nodes)
    }

    /// Hears of everything that was committed before this was called.
    ///
    /// # Errors
    /// [`StoreError`] if it does not.
    pub async fn hear_of_everything(self: &Arc<Self>) -> Result<(), StoreError> {
        self.look(self.clock.uptime(), DATABASE_PATIENCE).await.map(drop)
    }

    /// Whether nothing was heard of a shared store for longer than should be.
    pub fn is_out_of_touch(&self) -> bool {
        let (index, now) = (self.verifier.index(), self.clock.moment());
        self.is_shared() && (index.is_fit(now).is_err() || index.staleness(now).is_some())
    }

    /// Whether nothing was heard of a shared store for longer than should be, and nothing can be at this moment.
    pub async fn cannot_hear(self: &Arc<Self>) -> bool {
        self.is_out_of_touch() && self.look(self.clock.uptime(), SHORTEST_LOOK).await.is_err()
    }

    /// A list whose reading began after a moment. Where others write to the store it is one that a heartbeat read, and committed.
    async fn list_since(&self, moment: Uptime) -> Result<Vec<Beat>, StoreError> {
        let mut heart = self.membership.heart.lock().await;
        if heart.list.0 <= moment {
            if self.is_shared() {
                self.beat(&mut heart).await?;
            } else {
                let began = self.clock.uptime();
                heart.list = (began, self.membership.heard.latest(self.listed_rows().await?));
            }
        }
        Ok(heart.list.1.clone())
    }

    async fn listed_rows(&self) -> Result<Vec<Beat>, StoreError> {
        Ok(sql::nodes(&mut *self.finders.acquire().await?).await?)
    }

    /// The same for who waits no longer than `patience`. In a task of its own, so that he does not end a heartbeat in the middle.
    pub(super) async fn look(self: &Arc<Self>, moment: Uptime, patience: Duration) -> Result<Vec<Beat>, StoreError> {
        let store = Arc::clone(self);
        let looking = tokio::spawn(async move { store.list_since(moment).await }.in_current_span());
        let late = || StoreError::Unavailable(DatabaseError::Late(patience));
        timeout(patience, looking).await.map_err(|_elapsed| late())?.unwrap_or_else(|_died| Err(late()))
    }

    /// Waits until every node has a change that was committed, or answers nothing any more; no longer than `patience`.
    pub async fn await_everywhere(self: &Arc<Self>, seq: i64, patience: Duration) -> Effective {
        let (asked, committed) = (Instant::now(), self.clock.uptime());
        let (mut moment, mut pause) = (committed, LOOK_AGAIN);
        loop {
            let rest = patience.saturating_sub(asked.elapsed());
            let looked = self.look(std::mem::replace(&mut moment, self.clock.uptime()), rest.max(SHORTEST_LOOK)).await;
            let now = self.clock.uptime();
            let waited = Duration::from_micros(now.microseconds_since(committed));
            let pending = match looked {
                Ok(list) => {
                    let mut nodes = self.membership.judge(list, now);
                    nodes.retain(|node| !node.is_done_with(seq, waited));
                    if nodes.is_empty() {
                        return Effective::All;
                    }
                    nodes.iter().map(|node| self.pending_for(node, waited)).collect()
                }
                // Nobody knows who came meanwhile.
                Err(error) => {
                    tracing::warn!(%error, seq, "cannot see how far a change has reached");
                    self.others()
                }
            };
            let rest = patience.saturating_sub(asked.elapsed());
            if rest.is_zero() {
                return Effective::Partial(pending);
            }
            tokio::time::sleep(pause.min(rest)).await;
            pause = (pause * 2).min(LOOK_AGAIN_AT_LEAST);
        }
    }

    /// How far a change has reached of which no other node can have heard: others may come at any time, and go on as if there were none.
    pub(super) fn known_reach(&self) -> Effective {
        Effective::Partial(self.others())
    }

    fn others(&self) -> Vec<Pending> {
        let others = self.membership.known(self.clock.uptime()).into_iter().filter(|node| !node.is_own);
        others.map(|node| Pending { node: node.beat.id, until: None }).collect()
    }

    /// A node that does not have a change which was committed so long ago.
    fn pending_for(&self, node: &Node, waited: Duration) -> Pending {
        let rest = stale_limit(&node.beat).saturating_sub(waited);
        let rest = i64::try_from(rest.as_micros()).unwrap_or(i64::MAX);
        Pending { node: node.beat.id.clone(), until: Some(Timestamp(self.clock.now().0.saturating_add(rest))) }
    }
}

/// Where something was committed, and how far the log went there.
pub(super) struct Proof {
    connection: Connection,
    head: sql::Head,
}

impl Proof {
    /// Whether what was read later, with its head, is of the same log, and no older.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if it is not.
    pub(super) async fn covers(&mut self, read: &sql::Head) -> Result<(), StoreError> {
        let is_covered = if read.seq > self.head.seq {
            let links = sql::links_behind(&mut self.connection, read.seq - 1, 1).await?;
            links.first().is_some_and(|link| link.seq == read.seq && link.hash == read.hash)
        } else {
            (read.seq, &read.hash) == (self.head.seq, &self.head.hash)
        };
        let what = || "what was read is not what can be written to".to_owned();
        if is_covered { Ok(()) } else { Err(StoreError::Damaged { what: what() }) }
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
