//! Several processes on one store: how each proves that what it knows is young, and how a change finds out that all of them have it.
//!
//! A node renews its lease by a *committed write*: its heartbeat reads what was changed, says how far it has come, and commits. A read
//! proves nothing, for a database that was cut off from its standby still answers reads. Whoever waits for a change to be everywhere
//! therefore waits until each node on the list has come that far, or has been silent for longer than its lease can last.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex as Lock, PoisonError};
use std::time::Duration;

use tokio::sync::Mutex;

use super::database::{Connection, Database, Others};
use super::{Need, Store, StoreError, former, sql};
use crate::clock::{Timestamp, Uptime};
use crate::random::{Random, bytes};

/// How long a lease is fresh.
pub const LEASE: Duration = Duration::from_secs(2);
/// How often it is renewed.
pub const HEARTBEAT: Duration = Duration::from_millis(250);
/// Heartbeats are at least so far apart, however much is changed.
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
/// How often somebody who waits looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    /// Which one; another after every start.
    pub id: String,
    /// How far in the log of changes it has come.
    pub seq: i64,
    /// How often it has said so.
    pub beats: i64,
    /// For how many milliseconds after a heartbeat it answers without another.
    pub stale_ms: i64,
    /// The version of its program.
    pub version: String,
}

/// Whether a node may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// It has heard from the database just now.
    Fresh,
    /// It has not, but not for longer than its operator allows: it answers, and says so.
    Stale,
    /// It answers nothing.
    Expired,
}

/// A node as another sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What it says of itself.
    pub beat: Beat,
    /// How long ago it was last heard of, as far as this process knows.
    pub silent: Duration,
    /// Whether it is this one.
    pub is_own: bool,
}

impl Node {
    /// Whether it may answer.
    pub fn lease(&self) -> Lease {
        if self.silent <= LEASE {
            Lease::Fresh
        } else if self.silent <= stale_limit(&self.beat) {
            Lease::Stale
        } else {
            Lease::Expired
        }
    }
}

/// How far a change has reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effective {
    /// Every node has it, or answers nothing any more.
    All,
    /// These do not have it yet, for all that is known.
    Partial(Vec<Pending>),
}

/// A node that may not have a change yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Which one.
    pub node: String,
    /// When it answers nothing any more unless it has the change.
    pub until: Timestamp,
}

/// This process among the others. Nothing of it is used where a store is one process's alone.
pub(super) struct Membership {
    id: String,
    data_dir: PathBuf,
    stale_limit: Duration,
    /// The connection of the heartbeat.
    heart: Mutex<Option<Connection>>,
    seen: Lock<Seen>,
    /// The newest list, and when it was asked for: so that many who wait ask once.
    list: Mutex<(Uptime, Vec<Beat>)>,
}

/// Each node's newest heartbeat and when it was first seen here.
type Seen = HashMap<String, (Beat, Uptime)>;

impl Membership {
    pub(super) fn new(stale_limit: Duration, data_dir: &Path, random: &dyn Random) -> Self {
        let drawn: [u8; 5] = bytes(random);
        let id = format!("node_{}", data_encoding::BASE32_NOPAD.encode(&drawn).to_lowercase());
        Self {
            id,
            data_dir: data_dir.to_owned(),
            stale_limit,
            heart: Mutex::default(),
            seen: Lock::default(),
            list: Mutex::new((Uptime(0), Vec::new())),
        }
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn own_beat(&self, seq: i64) -> Beat {
        let stale_ms = i64::try_from(self.stale_limit.as_millis()).unwrap_or(i64::MAX);
        Beat { id: self.id.clone(), seq, beats: 1, stale_ms, version: env!("CARGO_PKG_VERSION").to_owned() }
    }

    /// The nodes of a list, each with how long it has been silent. An older list that comes late does not put a newer one back.
    fn judge(&self, list: Vec<Beat>, now: Uptime) -> Vec<Node> {
        let mut seen = self.seen();
        seen.retain(|id, _| list.iter().any(|beat| beat.id == *id));
        let mut node = |beat: Beat| {
            let known = seen.entry(beat.id.clone()).or_insert_with(|| (beat.clone(), now));
            if known.0.beats < beat.beats {
                *known = (beat.clone(), now);
            }
            self.node(beat, known.1, now)
        };
        list.into_iter().map(&mut node).collect()
    }

    /// The nodes that were on the newest list, for when there is none.
    fn known(&self, now: Uptime) -> Vec<Node> {
        self.seen().values().map(|(beat, since)| self.node(beat.clone(), *since, now)).collect()
    }

    fn node(&self, beat: Beat, since: Uptime, now: Uptime) -> Node {
        Node { silent: Duration::from_micros(now.microseconds_since(since)), is_own: beat.id == self.id, beat }
    }
}

/// After how much silence a node cannot be answering any more: a little more than it allows itself, as no two clocks go alike.
fn stale_limit(beat: &Beat) -> Duration {
    Duration::from_millis(beat.stale_ms.unsigned_abs()).mul_f64(1.05)
}

impl Store {
    /// One heartbeat: brings into force what was changed, says so, and renews the lease.
    ///
    /// # Errors
    /// [`StoreError`]; the lease is then as it was, and runs out.
    async fn beat(&self) -> Result<(), StoreError> {
        let members = &self.membership;
        let mut heart = members.heart.lock().await;
        // Whatever fails leaves none behind: the next heartbeat opens one.
        let mut connection = match heart.take() {
            Some(connection) => connection,
            None => {
                let mut connection = self.database.open_for_writing().await?;
                connection.listen().await?;
                connection
            }
        };
        let began = self.clock.uptime();
        connection.begin_write().await?;
        let seq = match self.catch_up(&mut connection).await {
            Err(error @ StoreError::Damaged { .. }) => {
                tracing::error!(%error, "the store is not the one that was followed; everything is loaded anew");
                self.reload().await?;
                self.catch_up(&mut connection).await?
            }
            outcome => outcome?,
        };
        // Who asked for the list before this node was on it did not wait for it: so its first heartbeat lists it, and only those after
        // that are a lease.
        let was_listed = sql::beat(&mut connection, &members.id, seq).await?;
        if !was_listed {
            sql::enlist(&mut connection, &members.own_beat(seq)).await?;
        }
        let list = sql::nodes(&mut connection).await?;
        connection.commit(Others::NeedNotKnow).await?;
        if was_listed {
            let heard = Duration::from_micros(began.0);
            let (fresh_until, trusted_until) = (heard + LEASE.min(members.stale_limit), heard + members.stale_limit);
            self.verifier.index().renew(keyrack::Lease { heard, fresh_until, trusted_until });
        }
        // Only this shows for certain that a node answers nothing: it cannot renew a lease any more without being listed anew. One that
        // is just doing so holds its row, and is not struck off.
        let nodes = members.judge(list, self.clock.uptime());
        for Node { beat, .. } in nodes.into_iter().filter(|node| !node.is_own && node.lease() == Lease::Expired) {
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
        let nodes = self.nodes().await?;
        for Node { beat, .. } in nodes.into_iter().filter(|node| !node.is_own && node.lease() == Lease::Expired) {
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
        let mut connection = match heart.take() {
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

impl Node {
    /// Whether it cannot answer any more as if a change had not been made, `waited` after that was committed: it has the change, or
    /// every lease is over that it may have begun before.
    fn is_done_with(&self, seq: i64, waited: Duration) -> bool {
        self.is_own || self.beat.seq >= seq || waited > stale_limit(&self.beat)
    }
}
