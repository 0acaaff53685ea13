//! Every live key by digest, in memory.
//!
//! A flat open-addressing table of packed 8-byte entries points at records of one cache line each. Records never move
//! and are never reused: a dead key keeps its record as a tombstone, so a change that arrives late cannot bring it back,
//! and a reader can never find another key's facts behind a digest it just compared. The price is about 80 bytes of memory
//! for each key revoked since the process started: 64 of its record and its share of the table.
//!
//! Readers take no lock and allocate nothing. Everything that decides and may change sits in *one* atomic word of the
//! record, so a reader sees a key either before a change or after it. Writers take turns. What is counted, uses and
//! limits, sits in the record too.

mod arena;
mod grants;
#[cfg(all(test, keyrack_model))]
mod model;
mod pages;
mod record;
pub(crate) mod sync;
mod table;
mod uses;

use std::cell::OnceCell;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use self::grants::{Grant, Limits, Summary};
use self::record::Record;
use self::sync::{AtomicBool, AtomicI64, AtomicU64, Guard, Ordering};
use self::table::{Books, Table};
pub(crate) use self::uses::Outcome;
pub use self::uses::{QuotaCount, Uses};
use crate::{
    Holder, KeyDigest, KeyId, KeyRecord, Limit, LimitState, Now, OrganizationId, Permissions, PolicyVersion,
    Unavailable,
};

/// What happened to a key. Of two changes to one key the higher version holds; revocation holds whatever the order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyChange {
    /// The key is live and this is its newest state.
    Put(KeyRecord),
    /// The key is dead, for ever.
    Revoke {
        /// The key's number.
        id: KeyId,
    },
}

/// What the index says of a digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// A live key.
    Live(KeyRecord),
    /// A key whose organization is suspended: it lives again when that is over.
    Suspended(KeyRecord),
    /// A key that was revoked while this index held it.
    Dead(KeyId),
    /// No key that this index ever held.
    Absent,
}

/// How long an index may be trusted that follows a store elsewhere. All of it is time on the boot-time clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Everything is known that was changed before.
    pub heard: Duration,
    /// What is known is as young as it should be.
    pub fresh_until: Duration,
    /// What is known may be answered with.
    pub trusted_until: Duration,
}

/// A change that cannot be right, and was not applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The digest already stands for a key with another number or another owner; those never change.
    #[error("the digest of key {claimed} already belongs to key {known} or to another owner")]
    IdentityChanged {
        /// The key the index holds.
        known: KeyId,
        /// The key the change speaks of.
        claimed: KeyId,
    },
    /// More than 2²⁷ keys, or a key whose number is not below 2⁴⁰, or more than 2²⁴ keys with several limits.
    #[error("the index is full")]
    Full,
}

/// A key as a verification finds it: borrowed, so that nothing is copied or counted for it.
pub(crate) enum Seen<'t> {
    Live(Live<'t>),
    /// Number of its record, and of the key.
    Dead(u32, KeyId),
    Absent,
}

/// How much of what a key may do is looked at before it is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Whom it speaks for, its reach and its limits.
    Summary,
    /// All: a permission is asked for.
    Whole,
}

/// A version of a key, and all that it may do in that.
type Versioned = (u32, Guard<Option<Arc<Grant>>>);

/// A key that was not revoked.
pub(crate) struct Live<'t> {
    number: u32,
    record: Record<'t>,
    summary: Summary,
    /// With its version. Looked at together with the summary, or when it is asked for.
    whole: OnceCell<Option<Versioned>>,
    table: &'t Table,
    pub(crate) is_suspended: bool,
}

impl Live<'_> {
    #[inline]
    pub(crate) fn id(&self) -> KeyId {
        self.record.id()
    }

    /// Whom it speaks for.
    #[inline]
    pub(crate) fn holder(&self) -> Holder {
        self.record.holder(self.summary.standing)
    }

    #[inline]
    pub(crate) const fn reach(&self) -> PolicyVersion {
        self.summary.reach
    }

    /// Whether it holds a permission. Whoever judges by it has looked the key up with [`Depth::Whole`].
    pub(crate) fn holds(&self, permission: &str) -> bool {
        self.permissions().is_some_and(|permissions| permissions.hold(permission))
    }

    /// What it holds besides its role, if that is anything; nothing if it was revoked meanwhile.
    pub(crate) fn permissions(&self) -> Option<&Permissions> {
        if self.summary.has_permissions { self.grant().map(|grant| &grant.permissions) } else { None }
    }

    /// Its limits; none if it was revoked meanwhile.
    pub(crate) fn limits(&self) -> &[Limit] {
        self.grant().map_or(&[], |grant| grant.limits.limits())
    }

    fn grant(&self) -> Option<&Grant> {
        self.versioned_grant().map(|(_, grant)| grant)
    }

    fn versioned_grant(&self) -> Option<(u32, &Grant)> {
        let (version, grant) = self.whole.get_or_init(|| self.table.read(self.record)).as_ref()?;
        Some((*version, grant.as_deref()?))
    }

    fn whole(&self) -> Option<KeyRecord> {
        let (version, grant) = self.versioned_grant()?;
        Some(self.record.whole(version, grant))
    }
}

/// Every live key by digest; see the module's head for how.
#[derive(Debug)]
pub struct Index {
    table: Table,
    /// Held by whoever applies a change; readers never look at it.
    writing: Mutex<Books>,
    loaded: AtomicBool,
    /// Nanoseconds of the boot-time clock: since when what the index knows is known to be all, until when it is fresh, and until when it
    /// may be trusted.
    heard: AtomicU64,
    fresh_until: AtomicU64,
    trusted_until: AtomicU64,
    position: AtomicI64,
}

/// The keys that a whole load has found alive, by what an index looks at of their digests.
#[derive(Debug, Default)]
pub struct Living(HashSet<[u64; 2]>);

impl Living {
    /// Adds one.
    pub fn insert(&mut self, digest: &KeyDigest) {
        self.0.insert(digest.words());
    }
}

impl Index {
    /// An empty index that holds `keys` keys before it has to grow.
    pub fn with_capacity(keys: usize) -> Self {
        let index = Self {
            table: Table::new(),
            writing: Mutex::default(),
            loaded: AtomicBool::new(false),
            heard: AtomicU64::new(u64::MAX),
            fresh_until: AtomicU64::new(u64::MAX),
            trusted_until: AtomicU64::new(u64::MAX),
            position: AtomicI64::new(0),
        };
        // Where there is no memory for so many, it grows as far as it can.
        let _is_enough = index.reserve(keys).is_ok();
        index
    }

    /// Makes room for so many keys in all, so that it need not grow on the way.
    ///
    /// # Errors
    /// [`ApplyError::Full`] if there is no room for so many; what is in it stays.
    pub fn reserve(&self, keys: usize) -> Result<(), ApplyError> {
        let _turn = self.turn();
        self.table.make_room_for(keys)
    }

    /// Says that every key has been put in; until then [`Index::find`] answers nothing.
    pub fn mark_loaded(&self) {
        self.loaded.store(true, Ordering::Release);
    }

    /// Whether [`Index::mark_loaded`] was called.
    pub fn is_loaded(&self) -> bool {
        self.loaded.load(Ordering::Acquire)
    }

    /// Says how long the index may be trusted; without this, always. For an index that follows a store elsewhere and cannot know
    /// what it has not heard of.
    pub fn renew(&self, lease: Lease) {
        let nanoseconds = |boot: Duration| u64::try_from(boot.as_nanos()).unwrap_or(u64::MAX - 1);
        self.heard.store(nanoseconds(lease.heard), Ordering::Release);
        self.fresh_until.store(nanoseconds(lease.fresh_until), Ordering::Release);
        self.trusted_until.store(nanoseconds(lease.trusted_until).min(u64::MAX - 1), Ordering::Release);
    }

    /// Says that the index may not be trusted until [`Index::renew`] is called.
    pub fn distrust(&self) {
        self.trusted_until.store(0, Ordering::Release);
    }

    /// Whether the index may only be trusted for a time.
    #[inline]
    pub fn is_leased(&self) -> bool {
        self.trusted_until.load(Ordering::Acquire) != u64::MAX
    }

    /// How old what the index knows may be: nothing if it cannot be old.
    pub fn age(&self, now: Now) -> Duration {
        match self.heard.load(Ordering::Acquire) {
            u64::MAX => Duration::ZERO,
            heard => now.boot.saturating_sub(Duration::from_nanos(heard)),
        }
    }

    /// [`Index::age`] if that is more than it should be.
    #[inline]
    pub fn staleness(&self, now: Now) -> Option<Duration> {
        let until = self.fresh_until.load(Ordering::Acquire);
        (until != u64::MAX && now.boot > Duration::from_nanos(until)).then(|| self.age(now))
    }

    /// Refuses to say anything of any key while the index is not loaded or too old.
    ///
    /// # Errors
    /// [`Unavailable`], which it is.
    #[inline]
    pub fn is_fit(&self, now: Now) -> Result<(), Unavailable> {
        if !self.is_loaded() {
            return Err(Unavailable::NotLoaded);
        }
        let until = self.trusted_until.load(Ordering::Acquire);
        if until != u64::MAX && now.boot > Duration::from_nanos(until) {
            return Err(Unavailable::TooOld);
        }
        Ok(())
    }

    /// Says how far in the log of changes the index has come.
    pub fn set_position(&self, seq: i64) {
        self.position.fetch_max(seq, Ordering::Release);
    }

    /// Says how far the index has come in a log that is not the one it followed: that may be less far.
    pub fn reset_position(&self, seq: i64) {
        self.position.store(seq, Ordering::Release);
    }

    /// How far in the log of changes the index has come.
    pub fn position(&self) -> i64 {
        self.position.load(Ordering::Acquire)
    }

    /// How many keys the index holds, dead ones included.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether the index holds no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of a key if it lives, whether everything is loaded already or not.
    pub fn id_of_live(&self, digest: &KeyDigest) -> Option<KeyId> {
        match self.see(digest, Depth::Summary) {
            Seen::Live(live) => Some(live.id()),
            Seen::Dead(..) | Seen::Absent => None,
        }
    }

    /// Looks a digest up, and copies what is known of it.
    ///
    /// # Errors
    /// [`Unavailable::NotLoaded`] until the index has been filled.
    pub fn find(&self, digest: &KeyDigest) -> Result<Lookup, Unavailable> {
        if !self.is_loaded() {
            return Err(Unavailable::NotLoaded);
        }
        Ok(match self.see(digest, Depth::Whole) {
            Seen::Live(live) => match live.whole() {
                Some(record) if live.is_suspended => Lookup::Suspended(record),
                Some(record) => Lookup::Live(record),
                None => Lookup::Dead(live.id()),
            },
            Seen::Dead(_, id) => Lookup::Dead(id),
            Seen::Absent => Lookup::Absent,
        })
    }

    /// Looks a digest up, and copies nothing.
    #[inline]
    pub(crate) fn see(&self, digest: &KeyDigest, depth: Depth) -> Seen<'_> {
        self.table.find(digest.words(), depth)
    }

    /// Begins to fetch what [`Index::see`] will look at first. The result means nothing.
    #[inline]
    pub(crate) fn fetch_entry(&self, digest: &KeyDigest) -> u64 {
        self.table.fetch_entry(digest.words())
    }

    /// Fetches what [`Index::see`] will look at of several digests, all at once, so that their waits for memory overlap. The result
    /// means nothing.
    #[inline]
    pub(crate) fn fetch<const N: usize>(&self, digests: &[Option<KeyDigest>; N]) -> u32 {
        let entry =
            |digest: &Option<KeyDigest>| digest.as_ref().map_or(0, |digest| self.table.fetch_entry(digest.words()));
        let entries = digests.each_ref().map(entry);
        entries.iter().fold(0, |sum, entry| sum ^ self.table.fetch_record(*entry))
    }

    /// Takes `cost` from every limit of a key, or from none. What comes back is where it stands with the one that is nearest to
    /// its end, or with the one that refused.
    #[inline]
    pub(crate) fn charge(&self, live: &Live<'_>, cost: u32, now: Now) -> Result<Option<LimitState>, LimitState> {
        match live.summary.limits {
            Limits::None => Ok(None),
            Limits::OneRate(rate) => rate.charge(0, live.record.cell(), cost, now).map(Some),
            Limits::Others => self.charge_all(live, cost, now),
        }
    }

    fn charge_all(&self, live: &Live<'_>, cost: u32, now: Now) -> Result<Option<LimitState>, LimitState> {
        let plan = live.grant().map_or(&[][..], |grant| grant.limits.limits());
        let mut nearest: Option<LimitState> = None;
        for (at, limit) in plan.iter().enumerate() {
            let Some(cell) = self.table.cell(live.record, at) else { continue };
            match limit.charge(at, cell, cost, now) {
                Ok(state) => {
                    if nearest.is_none_or(|nearest| state.remaining < nearest.remaining) {
                        nearest = Some(state);
                    }
                }
                Err(refused) => {
                    for (at, charged) in plan.iter().enumerate().take(at) {
                        if let Some(cell) = self.table.cell(live.record, at) {
                            charged.refund(cell, cost, now);
                        }
                    }
                    return Err(refused);
                }
            }
        }
        Ok(nearest)
    }

    /// Counts a use of a key.
    #[inline]
    pub(crate) fn count(&self, live: &Live<'_>, outcome: Outcome, now: Now) {
        self.table.count(live, outcome, now);
    }

    /// Counts a use of a dead key.
    pub(crate) fn count_dead(&self, number: u32) {
        self.table.count_dead(number);
    }

    /// Hands over what was counted for every key that was used since the last time.
    pub fn collect_uses(&self, each: impl FnMut(Uses)) {
        self.table.collect_uses(each);
    }

    /// Counts a quota on from what was collected before a restart. Nothing happens if the key has no such quota any more, or if that
    /// does not count at this time.
    pub fn restore_quota(&self, digest: &KeyDigest, quota: &QuotaCount, unix_seconds: i64) {
        if let Seen::Live(live) = self.see(digest, Depth::Whole) {
            self.table.restore_quota(&live, quota, unix_seconds);
        }
    }

    /// Hands over every live key until `each` has had enough, with a digest of which only what the index looks at is right. A key that
    /// comes in meanwhile may be missing.
    pub fn for_each_live(&self, mut each: impl FnMut(KeyDigest, KeyRecord) -> bool) {
        self.table.for_each_live(|words, record| each(KeyDigest::of_words(words), record));
    }

    /// The organizations that are suspended.
    pub fn suspended(&self) -> Vec<OrganizationId> {
        self.table.suspended()
    }

    /// How long the index may be trusted; `None` if always.
    pub fn lease(&self) -> Option<Lease> {
        let trusted_until = self.trusted_until.load(Ordering::Acquire);
        (trusted_until != u64::MAX).then(|| Lease {
            heard: Duration::from_nanos(self.heard.load(Ordering::Acquire)),
            fresh_until: Duration::from_nanos(self.fresh_until.load(Ordering::Acquire)),
            trusted_until: Duration::from_nanos(trusted_until),
        })
    }

    /// Revokes every key that `is_it` picks, also of those that are out of force, for when its digest is not known any more. Looks at each
    /// record; gives their numbers, and digests of which only what an index looks at is right.
    pub fn revoke_where(&self, is_it: impl Fn(&KeyRecord) -> bool) -> Vec<(KeyDigest, KeyId)> {
        let revoked = self.table.revoke_where(&mut self.turn(), is_it);
        revoked.into_iter().map(|(words, id)| (KeyDigest::of_words(words), id)).collect()
    }

    /// Takes every live key out of force that `is_it` picks, because its row cannot be used. It has not died: it is in force again when it
    /// is put in no older than it was. Looks at each record; says how many there were.
    pub fn withdraw_where(&self, is_it: impl Fn(&KeyRecord) -> bool) -> usize {
        self.table.withdraw_where(&mut self.turn(), is_it)
    }

    /// Whether a key is out of force and has not died.
    pub fn is_withdrawn(&self, digest: &KeyDigest) -> bool {
        self.turn().is_withdrawn(digest.words())
    }

    /// Takes every live key out of force that is not among those of a whole load, as [`Index::withdraw_where`] does; says how many there
    /// were. Their numbers say nothing: a store that has lost changes may have given them to other keys.
    pub fn keep_only(&self, living: &Living) -> usize {
        self.table.keep_only(&mut self.turn(), &living.0)
    }

    /// Suspends an organization: when this returns, none of its keys passes, those put in later included.
    pub fn suspend(&self, organization: OrganizationId) {
        let _turn = self.turn();
        self.table.set_suspended(organization, true);
    }

    /// Ends the suspension of an organization: its keys pass again, but for those that were revoked.
    pub fn resume(&self, organization: OrganizationId) {
        let _turn = self.turn();
        self.table.set_suspended(organization, false);
    }

    /// Applies a change; when this returns, every later [`Index::find`] sees it. Changes may come twice and in any order.
    ///
    /// # Errors
    /// [`ApplyError`]; the index is then as it was.
    pub fn apply(&self, digest: &KeyDigest, change: &KeyChange) -> Result<(), ApplyError> {
        self.table.apply(&mut self.turn(), digest.words(), change)
    }

    /// Takes the state of a key as it is given, even if a newer one is known: for an index whose store has lost changes, and goes on
    /// from there. What was revoked stays so.
    ///
    /// # Errors
    /// [`ApplyError`]; the index is then as it was.
    pub fn reset(&self, digest: &KeyDigest, record: &KeyRecord) -> Result<(), ApplyError> {
        self.table.reset(&mut self.turn(), digest.words(), record)
    }

    /// A panic inside cannot leave the table half changed, so a poisoned lock is still good.
    fn turn(&self) -> std::sync::MutexGuard<'_, Books> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, not(keyrack_model)))]
mod tests;
