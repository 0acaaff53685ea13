//! Which time is asked for, and how it is cut.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp as Instant, ToSpan as _};

use super::{Counts, hour_of};
use crate::clock::Timestamp;

/// Longest time that can be asked for, in days. In hours that is below 10,000 parts.
pub const MOST_DAYS: i64 = 400;
const DAY: i64 = 86_400_000_000;
const HOUR: i64 = 3_600_000_000;
/// 9998-01-01: behind it no calendar of ours goes.
const END_OF_TIME: i64 = 253_339_228_800_000_000;

/// How long the parts of a range are. Days and months are those of UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// A month.
    Month,
}

/// Why a range cannot be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadRange {
    /// It begins before 1970, or ends after 9997.
    OutOfTime,
    /// It ends before it begins, or at once.
    Empty,
    /// It is longer than [`MOST_DAYS`].
    TooLong,
}

/// A time in whole steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    from: Timestamp,
    to: Timestamp,
    step: Step,
}

impl Step {
    /// Their words on the wire.
    pub const ALL: [(&'static str, Self); 3] = [("hour", Self::Hour), ("day", Self::Day), ("month", Self::Month)];

    /// Its word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    /// Where the step that a time is in began.
    fn floor(self, at: Timestamp) -> Timestamp {
        match self {
            Self::Hour => Timestamp(at.0.div_euclid(HOUR) * HOUR),
            Self::Day => Timestamp(at.0.div_euclid(DAY) * DAY),
            Self::Month => {
                in_calendar(at, |date| date.date().first_of_month().to_datetime(jiff::civil::Time::midnight()))
            }
        }
    }

    /// Where the step after the one that begins then begins.
    fn next(self, began: Timestamp) -> Timestamp {
        match self {
            Self::Hour => Timestamp(began.0 + HOUR),
            Self::Day => Timestamp(began.0 + DAY),
            Self::Month => in_calendar(began, |date| date.saturating_add(1.month())),
        }
    }
}

/// A time as the calendar of UTC changes it. Never at a loss between 1970 and [`END_OF_TIME`]; beyond, it stays as it is.
fn in_calendar(at: Timestamp, change: impl FnOnce(DateTime) -> DateTime) -> Timestamp {
    let date = Instant::from_microsecond(at.0).map(|instant| instant.to_zoned_datetime(TimeZone::UTC).datetime());
    let changed = date.and_then(|date| change(date).to_zoned_datetime(TimeZone::UTC));
    changed.map_or(at, |zoned| Timestamp(zoned.timestamp().as_microsecond()))
}

impl Range {
    /// All whole steps that have a part of that time.
    ///
    /// # Errors
    /// [`BadRange`].
    pub fn new(from: Timestamp, to: Timestamp, step: Step) -> Result<Self, BadRange> {
        if from.0 < 0 || to.0 > END_OF_TIME {
            return Err(BadRange::OutOfTime);
        }
        if from >= to {
            return Err(BadRange::Empty);
        }
        if to.0 - from.0 > MOST_DAYS * DAY {
            return Err(BadRange::TooLong);
        }
        let last = step.floor(to);
        Ok(Self { from: step.floor(from), to: if last == to { to } else { step.next(last) }, step })
    }

    /// Where it begins.
    pub const fn from(&self) -> Timestamp {
        self.from
    }

    /// Where it ends; that is no part of it.
    pub const fn to(&self) -> Timestamp {
        self.to
    }

    /// How long its parts are.
    pub const fn step(&self) -> Step {
        self.step
    }

    /// Its first hour since 1970, and the first behind it.
    pub const fn hours(&self) -> (i64, i64) {
        (hour_of(self.from), hour_of(self.to))
    }

    /// Each part of it with where it begins, those without a use included. `hours` are in their order.
    pub fn parts(&self, hours: &[(i64, Counts)]) -> Vec<(Timestamp, Counts)> {
        let (mut parts, mut began, mut rest) = (Vec::new(), self.from, hours);
        while began < self.to {
            let ends = self.step.next(began);
            let (own, later) = rest.split_at(rest.partition_point(|(hour, _)| *hour < hour_of(ends)));
            parts.push((began, own.iter().fold(Counts::default(), |sum, (_, counts)| sum.and(*counts))));
            (began, rest) = (ends, later);
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    fn range(from: &str, to: &str, step: Step) -> Result<Range, BadRange> {
        Range::new(at(from), at(to), step)
    }

    #[test]
    fn a_range_is_widened_to_whole_steps() {
        let shown = |step| {
            let range = range("2024-02-28T23:30:00Z", "2024-03-01T00:00:00.001Z", step).unwrap();
            (range.from().to_string(), range.to().to_string(), range.parts(&[]).len())
        };
        let expected = |from: &str, to: &str, parts| (format!("{from}:00:00.000Z"), format!("{to}:00:00.000Z"), parts);
        assert_eq!(shown(Step::Hour), expected("2024-02-28T23", "2024-03-01T01", 26));
        assert_eq!(shown(Step::Day), expected("2024-02-28T00", "2024-03-02T00", 3));
        assert_eq!(shown(Step::Month), expected("2024-02-01T00", "2024-04-01T00", 2));
        let whole = range("2024-02-01T00:00:00Z", "2024-03-01T00:00:00Z", Step::Month).unwrap();
        assert_eq!(whole.parts(&[]).len(), 1, "what ends with a step has none of the next");
    }

    #[test]
    fn every_hour_is_in_exactly_one_part() {
        let range = range("2023-11-15T12:34:56Z", "2024-12-01T00:00:00Z", Step::Month).unwrap();
        let (first, end) = range.hours();
        let hours: Vec<_> = (first..end).map(|hour| (hour, Counts { valid: 1, ..Counts::default() })).collect();
        let days: Vec<_> = range.parts(&hours).iter().map(|(_, counts)| counts.valid / 24).collect();
        assert_eq!(days, [30, 31, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30]);
    }

    #[test]
    fn what_is_no_range_is_refused() {
        let day = |from, to| range(from, to, Step::Day).unwrap_err();
        assert_eq!(day("2024-02-01T00:00:00Z", "2024-02-01T00:00:00Z"), BadRange::Empty);
        assert_eq!(day("2024-02-02T00:00:00Z", "2024-02-01T00:00:00Z"), BadRange::Empty);
        assert_eq!(day("1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z"), BadRange::OutOfTime);
        assert_eq!(day("9998-12-01T00:00:00Z", "9998-12-31T00:00:00Z"), BadRange::OutOfTime);
        assert_eq!(day("2023-01-01T00:00:00Z", "2024-02-05T00:00:00.000001Z"), BadRange::TooLong);
        let longest = range("2023-01-01T00:00:00Z", "2024-02-05T00:00:00Z", Step::Hour).unwrap();
        assert_eq!(longest.parts(&[]).len(), 9_600);
        assert!(range("9997-12-01T00:00:00Z", "9997-12-31T00:00:00Z", Step::Month).is_ok());
    }
}
