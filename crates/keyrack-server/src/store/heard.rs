//! What processes say that follow this one. It is a heartbeat, small and often: no change of anybody holds it up.

use std::collections::HashMap;
use std::sync::{Arc, Mutex as Lock, MutexGuard, PoisonError};

use tokio::sync::{Mutex, oneshot};

use super::database::{Connection, Others};
use super::feed::Spot;
use super::{Beat, DatabaseError, Need, Store, StoreError, sql};

/// What was heard from followers.
#[derive(Default)]
pub(super) struct Heard {
    /// Where others write to the store: what waits to be written, and the connection that is for it alone.
    waiting: Lock<Vec<Report>>,
    connection: Mutex<Option<Connection>>,
    /// Where no other does: the newest of each that this process has listed. Their rows only say who may be answering, for the next
    /// process. So it takes no turn to write, and no room on the disk.
    latest: Lock<HashMap<String, Beat>>,
}

/// What a follower says, and who waits for whether it may answer by that.
struct Report {
    beat: Beat,
    spot: Spot,
    told: oneshot::Sender<Result<bool, StoreError>>,
}

fn locked<T>(lock: &Lock<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Heard {
    /// A list with what was heard since it was written.
    pub(super) fn latest(&self, mut list: Vec<Beat>) -> Vec<Beat> {
        let latest = locked(&self.latest);
        for beat in &mut list {
            if let Some(newer) = latest.get(&beat.id).filter(|newer| newer.beats > beat.beats) {
                beat.clone_from(newer);
            }
        }
        list
    }

    /// Takes in what a follower says; whether it may answer by that. `None` if it must be listed first, or for longer.
    fn take(&self, beat: &Beat) -> Option<bool> {
        let mut latest = locked(&self.latest);
        let known = latest.get_mut(&beat.id).filter(|known| known.stale_ms >= beat.stale_ms)?;
        let is_later = known.beats < beat.beats;
        if is_later {
            *known = Beat { stale_ms: known.stale_ms, ..beat.clone() };
        }
        Some(is_later)
    }

    /// Forgets one that was silent, unless it has spoken since.
    pub(super) fn forget_silent(&self, beat: &Beat) -> bool {
        let mut latest = locked(&self.latest);
        let is_silent = latest.get(&beat.id).is_none_or(|known| known.beats == beat.beats);
        if is_silent {
            latest.remove(&beat.id);
        }
        is_silent
    }

    pub(super) fn forget(&self, id: &str) {
        locked(&self.latest).remove(id);
    }
}

impl Store {
    /// Hears that a follower is alive and how far it has come; whether it may answer by that.
    pub(super) async fn hear(self: &Arc<Self>, beat: Beat, spot: Spot) -> Result<bool, StoreError> {
        let heard = &self.membership.heard;
        if !self.is_shared() {
            if let Some(may_answer) = heard.take(&beat) {
                return Ok(may_answer);
            }
            let mut writing = self.begin_beside(Need::Ordinary).await?;
            let was_listed = sql::beat(writing.connection()?, &beat).await?;
            writing.commit().await?;
            locked(&heard.latest).insert(beat.id.clone(), beat);
            return Ok(was_listed);
        }
        let (told, hears) = oneshot::channel();
        locked(&heard.waiting).push(Report { beat, spot, told });
        let store = Arc::clone(self);
        // Whoever comes first writes what all have said, whatever becomes of who asked for it.
        tokio::spawn(async move { store.write_what_was_heard().await });
        hears.await.unwrap_or(Err(StoreError::Unavailable(DatabaseError::Closed)))
    }

    async fn write_what_was_heard(&self) {
        let heard = &self.membership.heard;
        let mut connection = heard.connection.lock().await;
        let mut reports = std::mem::take(&mut *locked(&heard.waiting));
        // In the order in which other processes write theirs, so that nobody waits for one who waits for him.
        reports.sort_by(|one, other| (&one.beat.id, one.beat.beats).cmp(&(&other.beat.id, other.beat.beats)));
        if reports.is_empty() {
            return;
        }
        let written = self.write_reports(&mut connection, &reports).await;
        let mut written = written.inspect_err(|error| tracing::warn!(%error, "what followers say cannot be written"));
        for (at, report) in reports.into_iter().enumerate() {
            let may_answer = match &mut written {
                Ok(may_answer) => Ok(may_answer.get(at).copied().unwrap_or_default()),
                Err(_) => Err(StoreError::Unavailable(DatabaseError::Closed)),
            };
            // Who is gone does not want to know.
            let _gone = report.told.send(may_answer);
        }
    }

    async fn write_reports(&self, kept: &mut Option<Connection>, reports: &[Report]) -> Result<Vec<bool>, StoreError> {
        // Whatever fails leaves none behind.
        let mut connection = match kept.take() {
            Some(connection) if !connection.is_broken() => connection,
            Some(_) | None => self.database.open_for_writing().await?,
        };
        connection.begin_write().await?;
        // Only what is known to be of this log is written into it.
        let own = self.catch_up(&mut connection).await?;
        let mut may_answer = Vec::with_capacity(reports.len());
        for Report { beat, spot, .. } in reports {
            let beat = Beat { seq: beat.seq.min(own), ..beat.clone() };
            may_answer.push(self.in_force.feed.knows(*spot) && sql::beat(&mut connection, &beat).await?);
        }
        connection.commit(Others::NeedNotKnow).await?;
        *kept = Some(connection);
        Ok(may_answer)
    }
}
