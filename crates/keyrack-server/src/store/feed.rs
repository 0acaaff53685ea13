//! What came into force lately, for those who follow this process from afar.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use keyrack::feed::News;
use tokio::sync::Notify;

/// So much is kept. Who is further behind loads everything anew.
const MOST_NEWS: usize = 20_000;
/// So much is told at once.
pub(super) const MOST_AT_ONCE: usize = 2_000;

/// A place in the feed: who has all that comes before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    /// Raised whenever something changed that cannot be told as news.
    pub(super) age: u64,
    pub(super) next: u64,
}

/// The newest news, in the order in which they came into force.
#[derive(Default)]
pub(super) struct Feed {
    kept: Mutex<Kept>,
    more: Notify,
}

#[derive(Default)]
struct Kept {
    is_open: bool,
    age: u64,
    /// Number of the first that is kept.
    first: u64,
    news: VecDeque<News>,
}

impl Kept {
    fn end(&self) -> Spot {
        Spot { age: self.age, next: self.first + self.news.len() as u64 }
    }

    /// How much of what is kept comes before a spot; `None` if it is not known any more what comes after.
    fn skipped(&self, spot: Spot) -> Option<usize> {
        let is_known = spot.age == self.age && (self.first..=self.end().next).contains(&spot.next);
        is_known.then(|| usize::try_from(spot.next - self.first).ok()).flatten()
    }
}

impl Feed {
    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what is in force already.
    pub(super) fn add(&self, news: impl FnOnce() -> News) {
        let mut kept = self.kept();
        if !kept.is_open {
            return;
        }
        kept.news.push_back(news());
        if kept.news.len() > MOST_NEWS {
            kept.news.pop_front();
            kept.first += 1;
        }
        drop(kept);
        self.more.notify_waiters();
    }

    /// Something changed that cannot be told: everybody loads everything anew. From here on news are kept.
    pub(super) fn begin_anew(&self) {
        let mut kept = self.kept();
        kept.is_open = true;
        kept.age += 1;
        kept.first = kept.end().next;
        kept.news.clear();
        drop(kept);
        self.more.notify_waiters();
    }

    /// Where it ends.
    pub(super) fn end(&self) -> Spot {
        self.kept().end()
    }

    /// Whether it is known what came after a spot.
    pub(super) fn knows(&self, spot: Spot) -> bool {
        self.kept().skipped(spot).is_some()
    }

    /// What came after a spot, and the spot behind it; `None` if that is not known any more.
    pub(super) fn since(&self, spot: Spot) -> Option<(Vec<News>, Spot)> {
        let kept = self.kept();
        let skipped = kept.skipped(spot)?;
        let news: Vec<_> = kept.news.iter().skip(skipped).take(MOST_AT_ONCE).cloned().collect();
        let behind = Spot { next: spot.next + news.len() as u64, ..spot };
        Some((news, behind))
    }

    /// Waits until something comes behind a spot.
    pub(super) async fn more_than(&self, spot: Spot) {
        let mut more = std::pin::pin!(self.more.notified());
        // Before it is looked at, so that nothing comes between the two unheard.
        more.as_mut().enable();
        if self.end() == spot {
            more.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news(id: usize) -> News {
        News::Organization { id: id.try_into().unwrap(), is_suspended: true }
    }

    #[test]
    fn whoever_is_too_far_behind_or_of_another_age_is_told_nothing() {
        let feed = Feed::default();
        feed.add(|| unreachable!("nothing is kept before it begins"));
        feed.begin_anew();
        let start = feed.end();
        (0..3).for_each(|id| feed.add(|| news(id)));
        let (told, spot) = feed.since(start).unwrap();
        assert_eq!((told, spot), ((0..3).map(news).collect(), feed.end()));
        assert_eq!(feed.since(spot).unwrap().0, []);
        assert_eq!(feed.since(Spot { next: spot.next + 1, ..spot }), None);

        (0..=MOST_NEWS).for_each(|id| feed.add(|| news(id)));
        assert_eq!(feed.since(spot), None, "one is gone");
        let (told, next) = feed.since(Spot { next: spot.next + 1, ..spot }).unwrap();
        assert_eq!((told.len(), told[0].clone()), (MOST_AT_ONCE, news(1)));
        assert_eq!(feed.since(next).unwrap().0[0], news(1 + MOST_AT_ONCE));

        let before = feed.end();
        feed.begin_anew();
        assert_eq!(feed.since(before), None);
        assert_eq!(feed.since(feed.end()).unwrap().0, []);
    }
}
