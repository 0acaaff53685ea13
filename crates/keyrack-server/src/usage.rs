//! What keys are used for: counted in their records, collected from there every two seconds, and written in batches by one
//! task; never on the way of a verification. It takes a small share of the machine: where more keys are in use than it can write in
//! that time, they stay counted in their records until it can.
//!
//! Nothing is counted twice: a batch has a number, which is in the transaction that holds it. If it is not known whether
//! that was committed, the batch is written again only if its number is not there. A crash loses what was not written.

mod pending;
mod range;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use keyrack::policy::RouteNumber;
use keyrack::{PolicyVersion, Uses, Verifier};
use tokio::time::{Instant, sleep, sleep_until};

pub use self::pending::{Counts, KeyUses, LastUse, Pending};
pub use self::range::{BadRange, MOST_DAYS, Range, Step};
use crate::clock::{Clock, Timestamp};
use crate::random::{self, Random};
use crate::store::{Need, Store, StoreError};

/// How often uses are collected.
pub const INTERVAL: Duration = Duration::from_secs(2);
/// Most keys in one transaction: a revocation waits for one of them at most.
const MOST_KEYS: usize = 1_000;
/// After a batch, others have the store for so many times as long, on a machine with one core; with more of them for less.
const PAUSES: u32 = 19;
/// At least.
const FEWEST_PAUSES: u32 = 2;
/// How long hours are kept, in days; as long as they can be asked for.
const KEPT_DAYS: i64 = MOST_DAYS;
/// Most rows that are forgotten in one transaction.
const MOST_FORGOTTEN: i64 = 2_000;
/// Seconds that a time of use may seem to lie ahead, because the clock was set back.
const MOST_AHEAD: u16 = 3_600;

const SECOND: i64 = 1_000_000;
const HOUR: i64 = 3_600 * SECOND;

/// The uses of one installation's keys, on their way to the store.
pub struct Usage {
    store: Arc<Store>,
    verifier: Arc<Verifier>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    collector: Arc<Mutex<Collector>>,
    writer: tokio::sync::Mutex<Writer>,
    failed_writes: AtomicU64,
    /// After a batch, others have the store for so many times as long.
    pauses: u32,
}

/// Uses that go together.
#[derive(Debug)]
pub struct Batch {
    /// Which process wrote it.
    pub writer: i64,
    /// Its number, from 1.
    pub number: i64,
    /// What it holds, no key twice.
    pub keys: Vec<KeyUses>,
}

#[derive(Default)]
struct Writer {
    /// Drawn when it is first needed.
    id: Option<i64>,
    newest: i64,
    /// The batch that is not known to be written.
    begun: Option<Batch>,
    is_failing: bool,
}

impl Usage {
    /// The uses that a verifier counts from now on. `random` tells this process from others that write.
    pub fn new(store: Arc<Store>, verifier: Arc<Verifier>, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        let collector = Collector::new(verifier.policies().version(), clock.now());
        Self {
            store,
            verifier,
            clock,
            random,
            collector: Arc::new(Mutex::new(collector)),
            writer: tokio::sync::Mutex::default(),
            failed_writes: AtomicU64::new(0),
            pauses: pauses(),
        }
    }

    /// Collects and writes until it is dropped, at any time: nothing is lost by that but what [`Usage::flush`] still writes.
    pub async fn run(&self) {
        loop {
            let due = Instant::now() + self.until_next_collection();
            // After a batch the others have their turn; what is left over is written then.
            while Instant::now() < due {
                let began = Instant::now();
                match self.write_batch().await {
                    Ok(true) => sleep(began.elapsed() * self.pauses).await,
                    Ok(false) | Err(_) => break,
                }
            }
            sleep_until(due).await;
            // What is not collected is still counted where it is.
            if self.pending_keys().await == 0 || self.is_hour_over() {
                self.collect().await;
            }
        }
    }

    fn is_hour_over(&self) -> bool {
        hour_of(lock(&self.collector).collected_at) < hour_of(self.clock.now())
    }

    /// At the end of an hour there is one more collection, so that the hours are told apart.
    fn until_next_collection(&self) -> Duration {
        let left = HOUR - self.clock.now().0.rem_euclid(HOUR);
        INTERVAL.min(Duration::from_micros(left.unsigned_abs()))
    }

    /// Collects what was counted and writes all there is.
    ///
    /// # Errors
    /// [`StoreError`]; what was not written is kept for the next time.
    pub async fn flush(&self) -> Result<(), StoreError> {
        self.collect().await;
        while self.write_batch().await? {}
        Ok(())
    }

    /// Takes what was counted out of the records, into the memory of this writer.
    pub async fn collect(&self) {
        let (collector, verifier) = (Arc::clone(&self.collector), Arc::clone(&self.verifier));
        let now = self.clock.now();
        let collected = tokio::task::spawn_blocking(move || lock(&collector).collect(&verifier, now));
        if let Err(error) = collected.await {
            tracing::error!(panicked = error.is_panic(), "uses were not collected");
        }
    }

    /// How many keys have uses that are not known to be written.
    pub async fn pending_keys(&self) -> usize {
        let begun = self.writer.lock().await.begun.as_ref().map_or(0, |batch| batch.keys.len());
        begun + lock(&self.collector).pending.len()
    }

    /// How many writes failed since the process started; each was or will be tried again.
    pub fn failed_writes(&self) -> u64 {
        self.failed_writes.load(Ordering::Relaxed)
    }

    /// Writes one batch, if there is something to write.
    ///
    /// # Errors
    /// [`StoreError`]; then it is tried again the next time.
    pub async fn write_batch(&self) -> Result<bool, StoreError> {
        let mut writer = self.writer.lock().await;
        let written = self.write_next(&mut writer).await;
        match &written {
            Ok(true) if writer.is_failing => {
                writer.is_failing = false;
                tracing::info!("usage is written again; nothing was lost");
            }
            Ok(_) => {}
            Err(error) => {
                self.failed_writes.fetch_add(1, Ordering::Relaxed);
                if !std::mem::replace(&mut writer.is_failing, true) {
                    tracing::warn!(%error, "usage cannot be written; it is kept in memory and tried again");
                }
            }
        }
        written
    }

    async fn write_next(&self, writer: &mut Writer) -> Result<bool, StoreError> {
        // What was begun comes first: its outcome must be known before its number is behind.
        let batch = match writer.begun.take() {
            Some(batch) => batch,
            None => {
                let keys = lock(&self.collector).pending.take(MOST_KEYS);
                if keys.is_empty() {
                    return Ok(false);
                }
                writer.newest += 1;
                let id = *writer.id.get_or_insert_with(|| i64::from_ne_bytes(random::bytes(self.random.as_ref())));
                Batch { writer: id, number: writer.newest, keys }
            }
        };
        // Put back before anything is awaited: it stays there if this is dropped half-way.
        let batch = writer.begun.insert(batch);
        let mut writing = self.store.begin(Need::Ordinary).await?;
        match writing.write_usage(batch).await {
            Ok(true) => {
                writing.commit().await?;
            }
            // Committed when nobody heard of it.
            Ok(false) => {
                writing.abandon().await?;
            }
            Err(error) => {
                writing.abandon().await?;
                return Err(error);
            }
        }
        writer.begun = None;
        Ok(true)
    }

    /// Forgets hours that are older than can be asked for, some at a time; says how many rows there were.
    ///
    /// # Errors
    /// [`StoreError`]; what was forgotten so far stays forgotten.
    pub async fn forget_old(&self) -> Result<u64, StoreError> {
        let before = self.clock.now().plus_seconds(-KEPT_DAYS * 86_400);
        let mut forgotten = 0;
        while self.store.has_usage_before(hour_of(before)).await? {
            let began = Instant::now();
            let own = self.writer.lock().await.id;
            let mut writing = self.store.begin(Need::Ordinary).await?;
            forgotten += writing.forget_usage(before, own, MOST_FORGOTTEN).await?;
            writing.commit().await?;
            sleep(began.elapsed() * self.pauses).await;
        }
        Ok(forgotten)
    }
}

/// So many that writing takes about a twentieth of the machine.
fn pauses() -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX));
    (PAUSES / cores).max(FEWEST_PAUSES)
}

fn lock(collector: &Mutex<Collector>) -> std::sync::MutexGuard<'_, Collector> {
    // What a panic left behind is whole: a key is added or not.
    collector.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The hour since 1970 that a time is in.
pub const fn hour_of(at: Timestamp) -> i64 {
    at.0.div_euclid(HOUR)
}

/// Takes counts out of the records and gives them their hour and the name of their route.
struct Collector {
    pending: Pending,
    collected_at: Timestamp,
    /// The policies in force when the last two collections ended.
    policies: [PolicyVersion; 2],
}

impl Collector {
    fn new(policies: PolicyVersion, now: Timestamp) -> Self {
        Self { pending: Pending::default(), collected_at: now, policies: [policies; 2] }
    }

    fn collect(&mut self, verifier: &Verifier, now: Timestamp) {
        let mut collected: Vec<Uses> = Vec::new();
        verifier.index().collect_uses(|uses| collected.push(uses));
        // A number means something in the policy that was in force when it was noted. A verification that began before the
        // policy was switched may note its own a moment later: only who was in force all along gives names.
        let policies = verifier.policies();
        let is_sure = self.policies == [policies.version(); 2];
        self.policies = [self.policies[1], policies.version()];
        let hour = self.hour(now);
        self.collected_at = now;
        let mut names = HashMap::new();
        let mut name = |route: RouteNumber| -> Option<Arc<str>> {
            let described = || policies.in_force().and_then(|policies| policies.describe(route)).map(Arc::from);
            let name = names.entry(route.0).or_insert_with(described);
            name.as_ref().filter(|_| is_sure).map(Arc::clone)
        };
        for uses in collected {
            // Only projects' keys are there to be used; a wrong door is no use of others.
            let Some(project) = uses.project else { continue };
            let last = uses
                .last
                .map(|(seconds, route)| LastUse { at: time_of(seconds, now), route: route.and_then(&mut name) });
            let hours = vec![(hour, Counts::of(&uses))];
            self.pending.add(KeyUses { key: uses.id, project, hours, last, quotas: uses.quotas });
        }
    }

    /// The hour that counts belong to which are collected now: the one that just ended, if it was not over the last time.
    fn hour(&self, now: Timestamp) -> i64 {
        let hour = hour_of(now);
        let began_ago = now.0 - hour * HOUR;
        let just_began = began_ago < INTERVAL.as_secs().cast_signed() * SECOND;
        if just_began && hour_of(self.collected_at) == hour - 1 { hour - 1 } else { hour }
    }
}

/// The time whose low 16 bits were noted, next to `now`.
fn time_of(low: u16, now: Timestamp) -> Timestamp {
    let seconds = now.0.div_euclid(SECOND);
    #[expect(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "the low 16 bits are compared")]
    let behind = (seconds as u16).wrapping_sub(low);
    let ahead = behind.wrapping_neg();
    let seconds =
        if ahead > 0 && ahead <= MOST_AHEAD { seconds + i64::from(ahead) } else { seconds - i64::from(behind) };
    Timestamp(seconds * SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_known_by_its_low_bits() {
        let now = Timestamp(1_777_368_600 * SECOND + 123_456);
        for behind in [0, 1, 2, 3_600, 61_000] {
            let at = 1_777_368_600 - behind;
            let low = (at & 0xffff) as u16;
            assert_eq!(time_of(low, now), Timestamp(at * SECOND), "{behind} s ago");
        }
        let ahead = ((1_777_368_600_i64 + 90) & 0xffff) as u16;
        assert_eq!(time_of(ahead, now), Timestamp((1_777_368_600 + 90) * SECOND), "the clock was set back");
    }

    #[test]
    fn counts_belong_to_the_hour_that_just_ended() {
        let at = |seconds: i64| Timestamp(seconds * SECOND);
        let collected = |before, now| Collector::new(PolicyVersion(0), at(before)).hour(at(now));
        assert_eq!(collected(3_599, 3_600), 0);
        assert_eq!(collected(3_599, 3_601), 0);
        assert_eq!(collected(3_600, 3_601), 1, "that hour has been closed");
        assert_eq!(collected(3_599, 3_602), 1, "too late to tell");
        assert_eq!(collected(3_598, 3_599), 0);
    }
}
