//! Processes that follow this one over HTTP, and verify by themselves. Each is on the list of nodes, and its lease comes from a committed
//! write as any node's does; this process writes it on its behalf (`heard.rs`).

use std::sync::Arc;
use std::time::Duration;

use keyrack::feed::{Line, News, Told};

use super::feed::{MOST_AT_ONCE, Spot};
use super::membership::lease_of_follower;
use super::{Beat, LEASE, Need, Store, StoreError, sql};

/// How long a follower waits for news: as long as a node between two heartbeats.
const PATIENCE: Duration = super::HEARTBEAT;

impl Store {
    /// Hears from the store, so that nothing is missing here that was committed before; false if it cannot be heard from.
    pub async fn is_newest(self: &Arc<Self>) -> bool {
        !self.is_shared() || self.look(self.clock.uptime(), LEASE).await.is_ok()
    }

    /// Everything a follower must know at first, line by line, until `each` has had enough. `is_newest` as that says. Takes a while: call
    /// it where blocking is allowed.
    pub fn tell_everything(&self, is_newest: bool, mut each: impl FnMut(&Line) -> bool) {
        let index = self.verifier.index();
        // Before anything is looked at: what changes meanwhile comes as news.
        let (seq, spot) = (index.position(), self.in_force.feed.end());
        if !each(&Line::Begin { cursor: self.cursor(seq, spot), seq, keys: index.len(), is_newest }) {
            return;
        }
        let mut lines = 0;
        let mut is_wanted = true;
        let mut tell = |news: News| {
            lines += 1;
            is_wanted = each(&Line::News(news));
            is_wanted
        };
        let suspended = index.suspended().into_iter();
        let suspended = suspended.map(|id| News::Organization { id: id.0, is_suspended: true });
        if suspended.chain(self.in_force.policy_news()).all(&mut tell) {
            index.for_each_live(|digest, record| tell(News::of_key(&digest, &record)));
        }
        if is_wanted {
            each(&Line::End { lines });
        }
    }

    /// Hears from a follower, and tells it what is new as soon as there is something, with its lease. If it cannot be told from its
    /// cursor what that is, it must load everything anew.
    ///
    /// # Errors
    /// [`StoreError`]; its lease is then as it was.
    pub async fn tell_news(
        self: &Arc<Self>,
        id: String,
        cursor: &str,
        stale_limit: Duration,
        (asked, version): (i64, String),
    ) -> Result<Told, StoreError> {
        let nothing = Told { cursor: None, seq: 0, news: Vec::new(), lease: None };
        let cursor = self.read_cursor(cursor);
        // Before it is heard: what it knows may be of a log that is gone, and is no place in this one.
        let Some((known, spot)) = cursor.filter(|(_, spot)| self.in_force.feed.knows(*spot)) else {
            return Ok(nothing);
        };
        let stale_limit = stale_limit.min(self.membership_limit());
        let stale_ms = i64::try_from(stale_limit.as_millis()).unwrap_or(i64::MAX);
        let was_listed = self.hear(Beat { id, seq: known, beats: asked, stale_ms, version }, spot).await?;
        if was_listed {
            let _came = tokio::time::timeout(PATIENCE, self.in_force.feed.more_than(spot)).await.is_ok();
        }
        // In this order: all that is known by the lease and at the position is among the news.
        let (own, seq) = (self.verifier.index().lease(), self.verifier.index().position());
        let Some((news, behind)) = self.in_force.feed.since(spot) else { return Ok(nothing) };
        // What is told in parts is all of it only with the last.
        let is_all = news.len() < MOST_AT_ONCE;
        let lease = lease_of_follower(own, self.clock.uptime(), stale_limit).filter(|_| was_listed && is_all);
        let seq = if is_all { seq } else { known };
        Ok(Told { cursor: Some(self.cursor(seq, behind)), seq, news, lease })
    }

    /// Whether a follower is on the list, or there is room on it for another of its key.
    pub fn has_room_for_follower(&self, id: &str) -> bool {
        self.membership.has_room_for(id)
    }

    /// Takes a follower off the list that answers nothing any more.
    ///
    /// # Errors
    /// [`StoreError`]; others then wait for it until its lease is over.
    pub async fn forget_follower(self: &Arc<Self>, id: &str) -> Result<(), StoreError> {
        self.membership.heard.forget(id);
        let mut writing = self.begin_beside(Need::Ordinary).await?;
        sql::leave(writing.connection()?, id).await?;
        writing.commit().await.map(|_| ())
    }

    /// A place in the feed of this process, with how far the log is in force there.
    fn cursor(&self, seq: i64, spot: Spot) -> String {
        format!("{}.{}.{}.{seq}", self.membership_id(), spot.age, spot.next)
    }

    fn read_cursor(&self, cursor: &str) -> Option<(i64, Spot)> {
        let mut parts = cursor.split('.');
        let is_own = parts.next()? == self.membership_id();
        let (age, next, seq) = (parts.next()?, parts.next()?, parts.next()?);
        let spot = Spot { age: age.parse().ok()?, next: next.parse().ok()? };
        let seq = seq.parse().ok().filter(|seq| *seq >= 0)?;
        (is_own && parts.next().is_none()).then_some((seq, spot))
    }
}
