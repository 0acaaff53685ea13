//! The rules of limits.

use proptest::prelude::*;

use super::*;

fn at(millis: u64) -> Now {
    Now { boot: Duration::from_millis(millis), unix_seconds: 1_700_000_000 }
}

fn on(unix_seconds: i64) -> Now {
    Now { boot: Duration::ZERO, unix_seconds }
}

fn rate(limit: u64, period: &str, burst: u64) -> Limit {
    Limit::new("requests", limit, period.parse().unwrap(), Some(burst)).unwrap()
}

#[test]
fn a_rate_gives_its_burst_at_once_and_the_rest_evenly() {
    let (limit, cell) = (rate(10, "1s", 3), AtomicU64::new(0));
    for left in [2, 1, 0] {
        assert_eq!(limit.charge(0, &cell, 1, at(0)).unwrap().remaining, left);
    }
    let refused = limit.charge(0, &cell, 1, at(0)).unwrap_err();
    assert_eq!((refused.limit, refused.remaining, refused.reset, refused.retry_after), (3, 0, 1, Some(1)));
    assert!(limit.charge(0, &cell, 1, at(99)).is_err());
    assert!(limit.charge(0, &cell, 1, at(100)).is_ok());
    assert!(limit.charge(0, &cell, 1, at(100)).is_err());
    assert_eq!(limit.charge(0, &cell, 3, at(10_000)).unwrap().remaining, 0);
    let never = limit.charge(0, &cell, 4, at(90_000)).unwrap_err();
    assert_eq!(never.retry_after, None, "more than the burst never passes");
    assert!(limit.charge(0, &cell, 0, at(90_000)).is_ok());
}

#[test]
fn a_quota_is_exact_in_its_window_and_begins_anew_in_the_next() {
    let quota = |period: &str| Limit::new("q", 2, period.parse().unwrap(), None).unwrap();
    // 2024-02-29 23:59:59, a leap day, and the second after.
    let (last, next) = (1_709_251_199, 1_709_251_200);
    for (limit, reset_after) in [(quota("day"), 86_400), (quota("month"), 31 * 86_400)] {
        let cell = AtomicU64::new(limit.blank());
        assert_eq!(limit.charge(0, &cell, 1, on(last)).unwrap().reset, 1);
        assert_eq!(limit.charge(0, &cell, 2, on(last)).unwrap_err().retry_after, Some(1));
        assert_eq!(limit.charge(0, &cell, 3, on(last)).unwrap_err().retry_after, None, "never");
        assert!(limit.charge(0, &cell, 1, on(last)).is_ok());
        assert!(limit.charge(0, &cell, 1, on(last)).is_err());
        let fresh = limit.charge(0, &cell, 2, on(next)).unwrap();
        assert_eq!((fresh.remaining, fresh.reset), (0, reset_after));
        let set_back = limit.charge(0, &cell, 1, on(last)).unwrap_err();
        let when = reset_after + 1;
        assert_eq!((set_back.retry_after, set_back.reset), (Some(when), when), "a clock that goes back gives nothing");
        assert!(limit.charge(0, &cell, 1, on(last + when.cast_signed() - 1)).is_err());
        assert!(limit.charge(0, &cell, 1, on(last + when.cast_signed())).is_ok());
    }
}

/// The clock may be wrong by years for a moment, as after a bad answer of a time server (T75).
#[test]
fn a_clock_that_ran_ahead_locks_no_quota() {
    let (now, year) = (1_700_000_000, 366 * 86_400);
    for window in [Window::Day, Window::Month] {
        let limit = Limit::new("q", 2, Period::Calendar(window), None).unwrap();
        for ahead in [62 * 86_400, year, 20 * year, 40 * year] {
            let cell = AtomicU64::new(limit.blank());
            limit.charge(0, &cell, 1, on(now)).unwrap();
            limit.charge(0, &cell, 2, on(now + ahead)).unwrap();
            let right_again = limit.charge(0, &cell, 2, on(now)).unwrap();
            assert!(right_again.reset <= 31 * 86_400, "{window:?} {ahead}");
            assert!(limit.charge(0, &cell, 1, on(now)).unwrap_err().retry_after.unwrap() <= 31 * 86_400);
            // Nor does what was written then come back.
            let held = (limit.blank() | (1 << 61)) + 2;
            limit.restore(&cell, held, now);
            assert!(limit.charge(0, &cell, 1, on(now)).is_err(), "{window:?} {ahead}");
        }
    }
}

#[test]
fn a_quota_counts_on_from_the_greater_that_still_counts() {
    let limit = Limit::new("q", 9, Period::Calendar(Window::Day), None).unwrap();
    let (today, day) = (1_700_000_000, 86_400);
    let held = |times: u32, when: i64| {
        let cell = AtomicU64::new(limit.blank());
        limit.charge(0, &cell, times, on(when)).unwrap();
        cell.into_inner()
    };
    let rate = Limit::new("q", 9, Period::Seconds(1), None).unwrap();
    for (before, restored, left) in [
        (limit.blank(), held(4, today), 5),
        (held(2, today), held(4, today), 5),
        (held(6, today), held(4, today), 3),
        (held(6, today), held(9, today - day), 3),
        (held(6, today), held(9, today + 2 * day), 3),
        (held(6, today + 2 * day), held(4, today), 5),
        (held(6, today - day), held(4, today), 5),
        (held(6, today), held(4, today + day), 5),
        (held(6, today), rate.blank(), 3),
    ] {
        let cell = AtomicU64::new(before);
        limit.restore(&cell, restored, today);
        assert_eq!(limit.charge(0, &cell, 0, on(today)).unwrap().remaining, left, "{before:x} {restored:x}");
    }
}

#[test]
fn what_is_given_back_can_be_taken_again() {
    for limit in [rate(10, "1s", 3), Limit::new("q", 3, Period::Calendar(Window::Day), None).unwrap()] {
        let cell = AtomicU64::new(limit.blank());
        limit.charge(0, &cell, 3, at(5)).unwrap();
        limit.refund(&cell, 2, at(5));
        assert!(limit.charge(0, &cell, 2, at(5)).is_ok());
        assert!(limit.charge(0, &cell, 1, at(5)).is_err());
    }
}

/// A use may be on its way with the limits that a key had a moment ago, when its cells are those of others already.
#[test]
fn what_another_kind_of_limit_holds_is_left_alone() {
    let limits = [
        rate(10, "1s", 3),
        Limit::new("d", 3, Period::Calendar(Window::Day), None).unwrap(),
        Limit::new("m", 3, Period::Calendar(Window::Month), None).unwrap(),
    ];
    for before in &limits {
        for late in limits.iter().filter(|late| *late != before) {
            for used in [0, 3] {
                let cell = AtomicU64::new(before.blank());
                before.charge(0, &cell, used, at(1_000_000)).unwrap();
                let held = cell.load(Ordering::Relaxed);
                assert!(late.charge(0, &cell, 2, at(1_000_000)).is_ok(), "{before:?} then {late:?}");
                late.refund(&cell, 1, at(1_000_000));
                late.restore(&cell, late.blank() | 5, 1_700_000_000);
                assert_eq!(cell.into_inner(), held, "{before:?} then {late:?}");
            }
        }
    }
}

#[test]
fn a_shorter_rate_of_the_same_name_gives_nothing_twice() {
    let (long, short) = (rate(1, "7d", 9), rate(10, "1s", 3));
    let cell = AtomicU64::new(long.blank());
    long.charge(0, &cell, 9, at(5)).unwrap();
    let refused = short.charge(0, &cell, 1, at(5)).unwrap_err();
    assert_eq!((refused.remaining, refused.retry_after), (0, Some(1)));
    assert!(short.charge(0, &cell, 1, at(105)).is_err(), "it is not written before it passes");
}

#[test]
fn exactly_the_limit_passes_under_many_threads() {
    let now = at(77);
    for limit in [rate(1, "1h", 5_000), Limit::new("q", 5_000, Period::Calendar(Window::Month), None).unwrap()] {
        let (cell, passed) = (AtomicU64::new(limit.blank()), AtomicU64::new(0));
        std::thread::scope(|threads| {
            for _ in 0..64 {
                threads.spawn(|| {
                    for _ in 0..200 {
                        if limit.charge(0, &cell, 1, now).is_ok() {
                            passed.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(passed.into_inner(), 5_000);
    }
}

#[test]
fn months_are_those_of_the_calendar() {
    for (day, year, month) in [(0, 1970, 1), (59, 1970, 3), (11_016, 2000, 2), (11_017, 2000, 3), (20_453, 2025, 12)] {
        assert_eq!(year_and_month(day), (year, month), "day {day}");
    }
    assert_eq!(first_day(2024, 3) - first_day(2024, 2), 29);
    assert_eq!(first_day(1970, 1), 0);
}

#[test]
fn bounds_are_checked() {
    let limit = |name, limit, period: &str, burst| Limit::new(name, limit, period.parse()?, burst).map(|_| ());
    assert_eq!(limit("requests", 1, "1s", None), Ok(()));
    assert_eq!(limit("Requests", 1, "1s", None), Err(BadLimit::Name));
    assert_eq!(limit("", 1, "1s", None), Err(BadLimit::Name));
    assert_eq!(limit("r", 0, "1s", None), Err(BadLimit::Limit));
    assert_eq!(limit("r", 1, "day", Some(1)), Err(BadLimit::BurstOfQuota));
    assert_eq!(limit("r", 1, "31d", Some(1_000)), Err(BadLimit::Burst));
    assert_eq!(limit("r", 1, "1s", Some(0)), Err(BadLimit::Burst));
    for period in ["", "s", "0s", "32d", "1", "+1s", "1.5s", "-1s", "1S", "99999999999d", "year"] {
        assert_eq!(limit("r", 1, period, None), Err(BadLimit::Period), "{period}");
    }
    for period in ["1s", "90s", "2m", "1h", "7d", "day", "month"] {
        assert_eq!(period.parse::<Period>().unwrap().to_string(), period);
    }
}

proptest! {
    /// In any stretch of time no more passes than the burst and what is won back in it.
    #[test]
    fn a_rate_never_gives_more_than_it_says(
        limit in 1..20_u64, burst in 1..10_u64, steps in proptest::collection::vec((0..300_u64, 1..3_u32), 1..200)
    ) {
        let (rate, cell) = (rate(limit, "1s", burst), AtomicU64::new(0));
        let (mut now, mut passed) = (0, Vec::new());
        for (step, cost) in steps {
            now += step;
            if rate.charge(0, &cell, cost, at(now)).is_ok() {
                passed.push((now, u64::from(cost)));
            }
            for (from, _) in &passed {
                let in_it: u64 = passed.iter().filter(|(at, _)| at >= from).map(|(_, cost)| cost).sum();
                prop_assert!(in_it * 1_000 <= burst * 1_000 + (now - from) * limit);
            }
        }
    }
}
