//! How often a key may be used: named limits, each counted in one atomic cell.
//!
//! A *rate* is a token bucket (the generic cell rate algorithm): `burst` tokens at the most, `limit` new ones every period, evenly. So a
//! key passes at most `burst + limit` times in any period, and `limit` times per period in the long run. A *quota* counts
//! within a calendar day or month in UTC, and is exact: never more than `limit` in one of them.
//!
//! What a cell holds tells by itself which of the two it is, and of a quota in which window. A limit leaves alone what another kind
//! wrote: it is on its way out then, and the cell belongs to one that took its place.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::index::sync::{AtomicU64, Ordering};

/// Most limits that one key can have.
pub const MOST_LIMITS: usize = 16;

/// The time, as a verification is given it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// A clock that never goes back or stands still: rates are measured by it.
    pub boot: Duration,
    /// Seconds since 1970 in UTC: quotas and times of use are counted by it.
    pub unix_seconds: i64,
}

/// In what time a limit is won back. On the wire `30s`, `5m`, `1h`, `7d`, or one of the calendar windows `day` and `month`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Period {
    /// So many seconds, evenly: a rate.
    Seconds(u32),
    /// All at once when the window ends: a quota.
    Calendar(Window),
}

/// A calendar window of a quota, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Window {
    /// From midnight to midnight.
    Day,
    /// From the first of a month to the first of the next.
    Month,
}

/// One named limit of a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Limit {
    name: Box<str>,
    limit: u64,
    period: Period,
    /// Most uses at once; of a quota, all of them.
    burst: u64,
    /// Of a rate, the nanoseconds in which one use is won back.
    interval: u64,
}

/// What of a limit that is a rate is looked at when it is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    /// Nanoseconds in which one use is won back.
    pub(crate) interval: u64,
    /// Most uses at once.
    pub(crate) burst: u64,
}

/// A limit that cannot be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLimit {
    /// Of the name.
    #[error("must be 1 to 64 characters of a-z, 0-9, - and _")]
    Name,
    /// Of the limit.
    #[error("must be from 1 to 1000000000000")]
    Limit,
    /// Of the period.
    #[error("must be 1s to 31d in whole seconds (s), minutes (m), hours (h) or days (d), or day or month")]
    Period,
    /// Of the burst.
    #[error("must be from 1, and be won back within 10 years")]
    Burst,
    /// Of the burst of a quota.
    #[error("must be left out with a period of day or month: all of a quota may be used at once")]
    BurstOfQuota,
}

/// Where a key stands with a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitState {
    /// Which of the key's limits, from 0.
    pub at: usize,
    /// How much there is at the most: the burst of a rate, the whole of a quota.
    pub limit: u64,
    /// How much of it is left.
    pub remaining: u64,
    /// Seconds until all of it is there again.
    pub reset: u64,
    /// Seconds until the same request may pass, if it was refused; nothing if it never will, because it costs more than there can be.
    pub retry_after: Option<u64>,
    /// Whether it is a quota.
    pub is_quota: bool,
}

const NANOS: u64 = 1_000_000_000;
const MOST_LIMIT: u64 = 1_000_000_000_000;
/// 31 days.
const MOST_PERIOD: u32 = 31 * 86_400;
/// Units of a period and their seconds, longest first.
const UNITS: [(char, u32); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];
/// A cell of a quota: the window in the upper 16 bits, the count below.
const COUNT_BITS: u32 = 48;
const MOST_COUNT: u64 = (1 << COUNT_BITS) - 1;
/// The upper two bits of a window tell what kind it is; those of a rate's cell are 0.
const KIND_BITS: u32 = 2;
const NUMBER_BITS: u32 = 16 - KIND_BITS;
const MOST_NUMBER: u64 = (1 << NUMBER_BITS) - 1;
const DAYS: u64 = 0b01;
const MONTHS: u64 = 0b10;
/// Longest time in which a burst must be won back: rates stay far below the sizes that a quota's cell has.
const MOST_CAPACITY: u64 = 10 * 366 * 86_400 * NANOS;

impl Limit {
    /// So many uses per period. Of a rate, `burst` of them at once at the most; all of them if that is not said.
    ///
    /// # Errors
    /// [`BadLimit`] names what is out of range.
    pub fn new(name: &str, limit: u64, period: Period, burst: Option<u64>) -> Result<Self, BadLimit> {
        let fits = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
        if !(1..=64).contains(&name.len()) || !name.bytes().all(fits) {
            return Err(BadLimit::Name);
        }
        if !(1..=MOST_LIMIT).contains(&limit) {
            return Err(BadLimit::Limit);
        }
        let interval = match period {
            // Rounded up, so that there are never more.
            Period::Seconds(seconds) => (u64::from(seconds) * NANOS).div_ceil(limit),
            Period::Calendar(_) if burst.is_some() => return Err(BadLimit::BurstOfQuota),
            Period::Calendar(_) => 0,
        };
        let burst = burst.unwrap_or(limit);
        let capacity = burst.checked_mul(interval).filter(|capacity| *capacity <= MOST_CAPACITY);
        if burst == 0 || capacity.is_none() {
            return Err(BadLimit::Burst);
        }
        Ok(Self { name: name.into(), limit, period, burst, interval })
    }

    /// What people call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Uses per period.
    pub const fn limit(&self) -> u64 {
        self.limit
    }

    /// In what time they are won back.
    pub const fn period(&self) -> Period {
        self.period
    }

    /// Most uses at once.
    pub const fn burst(&self) -> u64 {
        self.burst
    }

    /// The calendar window, if it is a quota.
    pub const fn window(&self) -> Option<Window> {
        match self.period {
            Period::Seconds(_) => None,
            Period::Calendar(window) => Some(window),
        }
    }

    /// What is charged, if it is a rate.
    pub(crate) const fn rate(&self) -> Option<Rate> {
        match self.period {
            Period::Seconds(_) => Some(self.pace()),
            Period::Calendar(_) => None,
        }
    }

    const fn pace(&self) -> Rate {
        Rate { interval: self.interval, burst: self.burst }
    }

    /// The length of the period in seconds; of a quota, that of the window that `now` is in.
    pub fn period_seconds(&self, now: Now) -> u64 {
        match self.period {
            Period::Seconds(seconds) => seconds.into(),
            Period::Calendar(window) => {
                let (_, begins, ends) = window.around(now.unix_seconds);
                (ends - begins).unsigned_abs()
            }
        }
    }

    /// What a cell holds of which nothing was taken.
    pub(crate) const fn blank(&self) -> u64 {
        self.kind() << (COUNT_BITS + NUMBER_BITS)
    }

    const fn kind(&self) -> u64 {
        match self.period {
            Period::Seconds(_) => 0,
            Period::Calendar(window) => window.kind(),
        }
    }

    /// Takes `cost` uses, all or none. `Err` if they are not there; then nothing is taken.
    ///
    /// Where another kind of limit has the cell by now, the key was given other limits while this use was on its way: it came before
    /// them, and nothing is counted.
    ///
    /// `at` is the limit's place among those of the key, for what is told of it.
    pub(crate) fn charge(&self, at: usize, cell: &AtomicU64, cost: u32, now: Now) -> Result<LimitState, LimitState> {
        match self.period {
            Period::Seconds(_) => self.pace().charge(at, cell, cost, now),
            Period::Calendar(window) => charge_quota(at, cell, (self.limit, window), cost.into(), now),
        }
    }

    /// Gives back what [`Limit::charge`] took at the same `now`; of a quota only while its window lasts.
    pub(crate) fn refund(&self, cell: &AtomicU64, cost: u32, now: Now) {
        let cost = u64::from(cost);
        let given_back = |known: u64| match self.period {
            _ if kind_of(known) != self.kind() => None,
            Period::Seconds(_) => known.checked_sub(self.interval * cost),
            Period::Calendar(window) => {
                let (number, ..) = window.around(now.unix_seconds);
                let (written, count) = current(known, number);
                (written == known >> COUNT_BITS && count >= cost).then(|| known - cost)
            }
        };
        // If there is nothing to give back to, the cell has a new use already.
        let _unchanged = cell.fetch_update(Ordering::Relaxed, Ordering::Relaxed, given_back);
    }

    /// Counts on from what a cell of this limit held, if that still counts.
    pub(crate) fn restore(&self, cell: &AtomicU64, held: u64, unix_seconds: i64) {
        let later = |known: u64| {
            let is_behind = !counts_at(known, unix_seconds) || known < held;
            (kind_of(held) == self.kind() && counts_at(held, unix_seconds) && is_behind).then_some(held)
        };
        // As it is, it is right.
        let _unchanged = cell.fetch_update(Ordering::Relaxed, Ordering::Relaxed, later);
    }
}

impl FromStr for Period {
    type Err = BadLimit;

    fn from_str(word: &str) -> Result<Self, BadLimit> {
        match word {
            "day" => return Ok(Self::Calendar(Window::Day)),
            "month" => return Ok(Self::Calendar(Window::Month)),
            _ => {}
        }
        let unit = word.chars().next_back().ok_or(BadLimit::Period)?;
        let (_, seconds) = UNITS.iter().find(|(known, _)| *known == unit).ok_or(BadLimit::Period)?;
        let number = word.strip_suffix(unit).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        let number: u32 = number.and_then(|digits| digits.parse().ok()).ok_or(BadLimit::Period)?;
        let seconds = number.checked_mul(*seconds).filter(|seconds| (1..=MOST_PERIOD).contains(seconds));
        seconds.map(Self::Seconds).ok_or(BadLimit::Period)
    }
}

impl fmt::Display for Period {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Calendar(Window::Day) => out.write_str("day"),
            Self::Calendar(Window::Month) => out.write_str("month"),
            Self::Seconds(seconds) => {
                let whole = UNITS.iter().find(|(_, unit)| seconds % unit == 0);
                let (unit, length) = whole.copied().unwrap_or(('s', 1));
                write!(out, "{}{unit}", seconds / length)
            }
        }
    }
}

impl Rate {
    /// [`Limit::charge`] of a rate. The cell holds the time at which all tokens are there again, in nanoseconds of the boot-time clock.
    #[inline]
    pub(crate) fn charge(self, at: usize, cell: &AtomicU64, cost: u32, now: Now) -> Result<LimitState, LimitState> {
        let Self { interval, burst } = self;
        let cost = u64::from(cost);
        let now = u64::try_from(now.boot.as_nanos()).unwrap_or(u64::MAX >> 2);
        let latest = now + burst * interval;
        let state = |full_again: u64, retry_after: Option<u64>| LimitState {
            at,
            limit: burst,
            remaining: (latest - full_again) / interval,
            reset: (full_again - now).div_ceil(NANOS),
            retry_after,
            is_quota: false,
        };
        let mut known = cell.load(Ordering::Relaxed);
        loop {
            if kind_of(known) != 0 {
                return Ok(state(now, None));
            }
            // Later than any charge of this limit could have made it, after one of the same name that took longer: as if all were taken.
            let full_again = known.clamp(now, latest);
            let then = full_again.saturating_add(cost.saturating_mul(interval));
            if then > latest {
                return Err(state(full_again, (cost <= burst).then(|| (then - latest).div_ceil(NANOS))));
            }
            match cell.compare_exchange_weak(known, then, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(state(then, None)),
                Err(newer) => known = newer,
            }
        }
    }
}

/// The cell holds the window and the count in it.
fn charge_quota(
    at: usize,
    cell: &AtomicU64,
    (limit, window): (u64, Window),
    cost: u64,
    now: Now,
) -> Result<LimitState, LimitState> {
    let (present, _, ends) = window.around(now.unix_seconds);
    let state = |counting: u64, count: u64| {
        let ends = if counting == present { ends } else { window.around(ends).2 };
        LimitState {
            at,
            limit,
            remaining: limit.saturating_sub(count),
            reset: (ends - now.unix_seconds).unsigned_abs(),
            retry_after: None,
            is_quota: true,
        }
    };
    let mut known = cell.load(Ordering::Relaxed);
    loop {
        if kind_of(known) != window.kind() {
            return Ok(state(present, 0));
        }
        let (counting, count) = current(known, present);
        let then = count + cost;
        if then > limit {
            let refused = state(counting, count);
            return Err(LimitState { retry_after: (cost <= limit).then_some(refused.reset), ..refused });
        }
        match cell.compare_exchange_weak(known, counting << COUNT_BITS | then, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return Ok(state(counting, then)),
            Err(newer) => known = newer,
        }
    }
}

/// The kind of limit that a cell is of.
const fn kind_of(cell: u64) -> u64 {
    cell >> (COUNT_BITS + NUMBER_BITS)
}

/// The window that counts and the count in it: that of now, or the next one, because a clock that is set back across midnight does not
/// give a used window anew. What is further ahead was written by a clock that was wrong, and does not count.
const fn current(cell: u64, now: u64) -> (u64, u64) {
    let (written, count) = (cell >> COUNT_BITS, cell & MOST_COUNT);
    let next = now & !MOST_NUMBER | (now + 1) & MOST_NUMBER;
    if written == now || written == next { (written, count) } else { (now, 0) }
}

/// Whether what a quota's cell holds counts at a time.
pub(crate) fn counts_at(cell: u64, unix_seconds: i64) -> bool {
    let counts = |window: Window| {
        let (number, ..) = window.around(unix_seconds);
        current(cell, number) != (number, 0)
    };
    match kind_of(cell) {
        DAYS => counts(Window::Day),
        MONTHS => counts(Window::Month),
        _ => false,
    }
}

impl Window {
    const fn kind(self) -> u64 {
        match self {
            Self::Day => DAYS,
            Self::Month => MONTHS,
        }
    }

    /// The number of the window that a second is in, and when it begins and ends.
    fn around(self, unix_seconds: i64) -> (u64, i64, i64) {
        const DAY: i64 = 86_400;
        let day = unix_seconds.div_euclid(DAY);
        let numbered = |number: i64| self.kind() << NUMBER_BITS | number.unsigned_abs() & MOST_NUMBER;
        match self {
            Self::Day => (numbered(day), day * DAY, (day + 1) * DAY),
            Self::Month => {
                let (year, month) = year_and_month(day);
                let begins = first_day(year, month) * DAY;
                let ends = if month == 12 { first_day(year + 1, 1) } else { first_day(year, month + 1) } * DAY;
                (numbered((year - 1970) * 12 + month - 1), begins, ends)
            }
        }
    }
}

/// Year and month (from 1) of a day since 1970, in the Gregorian calendar. The year is counted from March, so that the leap day is its last.
const fn year_and_month(day: i64) -> (i64, i64) {
    let since_era_0 = day + 719_468;
    let era = since_era_0.div_euclid(146_097);
    let of_era = since_era_0.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year_of_era + era * 400 + (month <= 2) as i64, month)
}

/// The first day of a month, since 1970.
const fn first_day(year: i64, month: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let from_march = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * from_march + 2) / 5;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + day_of_year - 719_468
}

/// The limits of a key, in the order of their names, none twice.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct LimitPlan(Option<Arc<[Limit]>>);

/// Most limits that a key can have of its own; as many again can come from its installation.
pub const MOST_OWN_LIMITS: usize = MOST_LIMITS / 2;

impl LimitPlan {
    /// A plan of limits; of two with one name the first is kept, and no more than [`MOST_LIMITS`].
    pub fn new(limits: impl IntoIterator<Item = Limit>) -> Self {
        let mut limits: Vec<_> = limits.into_iter().collect();
        limits.sort_by(|one, other| one.name.cmp(&other.name));
        limits.dedup_by(|later, first| later.name == first.name);
        limits.truncate(MOST_LIMITS);
        Self((!limits.is_empty()).then(|| limits.into()))
    }

    /// The limits.
    pub fn limits(&self) -> &[Limit] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl fmt::Debug for LimitPlan {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_list().entries(self.limits()).finish()
    }
}

#[cfg(test)]
mod tests;
