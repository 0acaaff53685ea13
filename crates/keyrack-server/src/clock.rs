//! The only place that reads the time.

use std::fmt;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Reads a time as ISO 8601 writes it, with an offset or `Z`; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse::<jiff::Timestamp>().ok().map(|time| Self(time.as_microsecond()))
    }

    /// This long after; stops at the end of time.
    #[must_use]
    pub const fn plus_seconds(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(1_000_000)))
    }
}

/// ISO 8601 in UTC with three fractional digits and `Z` (contract section 2).
impl fmt::Display for Timestamp {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(time) => write!(out, "{time:.3}"),
            // Only a damaged row holds a time before the year -9999 or after 9999.
            Err(_) => out.write_str("invalid time"),
        }
    }
}

/// Microseconds since the machine was started, those it slept included. Nobody can set it, so it is what durations are
/// measured with; it says nothing after a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Uptime(pub u64);

impl Uptime {
    /// Microseconds since an earlier reading; none if that is not earlier.
    #[must_use]
    pub const fn microseconds_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Where the time comes from.
pub trait Clock: Send + Sync {
    /// The time now, to show and to keep. It can be set, forwards and backwards.
    fn now(&self) -> Timestamp;

    /// How long the machine has been up, to measure with.
    fn uptime(&self) -> Uptime;

    /// Both, as a verification is given them.
    fn moment(&self) -> keyrack::Now {
        let boot = Duration::from_micros(self.uptime().0);
        keyrack::Now { boot, unix_seconds: self.now().0.div_euclid(1_000_000) }
    }
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    fn now(&self) -> Timestamp {
        Timestamp(jiff::Timestamp::now().as_microsecond())
    }

    fn uptime(&self) -> Uptime {
        let read = clock_gettime(ClockId::Boottime);
        let part = |number, each| u64::try_from(number).unwrap_or(0).saturating_mul(each);
        Uptime(part(read.tv_sec, 1_000_000).saturating_add(part(read.tv_nsec / 1_000, 1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits_and_are_cut_not_rounded() {
        assert_eq!(Timestamp(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Timestamp(1_795_000_000_999_999).to_string(), "2026-11-18T11:06:40.999Z");
        assert_eq!(Timestamp(i64::MAX).to_string(), "invalid time");
    }

    #[test]
    fn uptime_goes_forwards_in_microseconds() {
        let before = SystemClock.uptime();
        std::thread::sleep(Duration::from_millis(20));
        let after = SystemClock.uptime();
        let went = after.microseconds_since(before);
        assert!((20_000..10_000_000).contains(&went), "{went}");
        assert_eq!(before.microseconds_since(after), 0);
    }
}
