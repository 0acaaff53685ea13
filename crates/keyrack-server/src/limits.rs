//! How many calls a key may make on the management surfaces, and a source address without a valid key. A pure rule, in
//! memory alone: what time it is comes from outside (contract section 6; why so, in decision 8).

mod rates;
mod windows;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Mutex, PoisonError};

use keyrack::KeyId;

pub use self::rates::{Limits, Rates, Tier, per_second};
use self::windows::Windows;
use crate::clock::Uptime;

/// How long a window is.
pub const WINDOW_SECONDS: u32 = 10;
/// Most addresses with a window of their own. All others share one until there is room.
const MOST_ADDRESSES: usize = 65_536;

/// Calls that are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// They change nothing.
    Reads,
    /// All others.
    Writes,
}

/// What a caller says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// Anything else.
    Ordinary,
    /// A Model Context Protocol client, which is granted twice as much.
    Mcp,
}

/// What a window admits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Quota {
    /// In all.
    window: u32,
    /// In each of its seconds.
    second: u32,
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How many calls a window admits.
    pub limit: u32,
    /// How many of them are left.
    pub remaining: u32,
    /// Microseconds until the window ends.
    pub ends_in: u64,
    /// Whether the call may go on.
    pub verdict: Verdict,
}

/// Whether a call may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may, and was counted.
    Admitted,
    /// The window has calls left, but this second of it has not. Not counted.
    SecondSpent {
        /// How many calls a second admits.
        limit: u32,
        /// Microseconds until the second ends.
        ends_in: u64,
    },
    /// The window has no calls left. Not counted.
    WindowSpent,
}

impl Outcome {
    /// Whole seconds after which a refused call could be admitted, at least 1; `None` if this one was.
    pub fn retry_after_seconds(&self) -> Option<u32> {
        let ends_in = match self.verdict {
            Verdict::Admitted => return None,
            Verdict::SecondSpent { ends_in, .. } => ends_in,
            Verdict::WindowSpent => self.ends_in,
        };
        Some(u32::try_from(ends_in.div_ceil(1_000_000)).unwrap_or(WINDOW_SECONDS).max(1))
    }
}

/// Counts calls. Holds no more than the windows that are open: those of live keys that called in the last ten seconds,
/// and of at most 65,536 addresses.
pub struct Limiter {
    limits: Limits,
    keys: Mutex<Windows<(KeyId, Class)>>,
    addresses: Mutex<Windows<Source>>,
}

impl Limiter {
    /// A limiter that has counted nothing.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            // Only who verifies gets in here, so the keys that there are bound it.
            keys: Mutex::new(Windows::at_most(usize::MAX)),
            addresses: Mutex::new(Windows::at_most(MOST_ADDRESSES)),
        }
    }

    /// What keys are granted.
    pub const fn tier(&self) -> Tier {
        self.limits.tier
    }

    /// Counts a call of a live key.
    pub fn count_key(&self, key: KeyId, class: Class, client: Client, now: Uptime) -> Outcome {
        let quota = self.limits.of_keys(class, client);
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).count((key, class), quota, now)
    }

    /// Counts a call without a valid key from an address.
    pub fn count_address(&self, address: IpAddr, now: Uptime) -> Outcome {
        let quota = self.limits.of_addresses();
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner).count(Source::of(address), quota, now)
    }
}

/// Whom an address stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Source {
    V4(Ipv4Addr),
    /// The first 64 bits: one customer of a network has all that follow.
    V6([u16; 4]),
}

impl Source {
    fn of(address: IpAddr) -> Self {
        // A listener for both families sees IPv4 callers under mapped addresses.
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self::V6([a, b, c, d])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const KEY: KeyId = KeyId(7);
    const START: Uptime = Uptime(1_234_567_890);

    fn after(microseconds: u64) -> Uptime {
        Uptime(START.0 + microseconds)
    }

    /// 40 reads and 20 writes in a window, 6 and 3 in a second; 20 and 3 for an address.
    fn limiter() -> Limiter {
        let rates = Rates::parse("starter=4/2/1.5 professional=1/1/1 enterprise=1/1/1").unwrap();
        Limiter::new(Limits { tier: Tier::Starter, rates, addresses_per_second: 2 })
    }

    fn read(limiter: &Limiter, now: Uptime) -> Outcome {
        limiter.count_key(KEY, Class::Reads, Client::Ordinary, now)
    }

    fn is_admitted(outcome: Outcome) -> bool {
        outcome.verdict == Verdict::Admitted
    }

    /// How many of so many calls at one moment are admitted.
    fn admitted(calls: u32, mut call: impl FnMut() -> Outcome) -> usize {
        (0..calls).filter(|_| is_admitted(call())).count()
    }

    /// As many reads in each second as it admits, until the window has no more; gives when that was.
    fn spend(limiter: &Limiter) -> (usize, u64) {
        let mut spent = 0;
        for second in 0..10 {
            let now = after(second * 1_000_000);
            spent += admitted(10, || read(limiter, now));
            if read(limiter, now).verdict == Verdict::WindowSpent {
                return (spent, second);
            }
        }
        panic!("a window has an end");
    }

    #[test]
    fn a_window_admits_its_quota_and_not_one_more() {
        let limiter = limiter();
        assert_eq!(spend(&limiter), (40, 6));
        let refused = read(&limiter, after(9_999_999));
        assert_eq!(refused, Outcome { limit: 40, remaining: 0, ends_in: 1, verdict: Verdict::WindowSpent });
    }

    #[test]
    fn a_window_ends_ten_seconds_after_its_first_call_to_the_microsecond() {
        let limiter = limiter();
        spend(&limiter);
        assert!(!is_admitted(read(&limiter, after(9_999_999))));
        let next = read(&limiter, after(10_000_000));
        assert_eq!(next, Outcome { limit: 40, remaining: 39, ends_in: 10_000_000, verdict: Verdict::Admitted });
        // The next begins with a call, not where the last one ended.
        let late = read(&limiter, after(27_000_000));
        assert_eq!((late.remaining, late.ends_in), (39, 10_000_000));
    }

    #[test]
    fn a_second_admits_rate_times_burst() {
        let limiter = limiter();
        assert_eq!(admitted(10, || read(&limiter, START)), 6);
        let refused = read(&limiter, after(250_000));
        assert_eq!((refused.limit, refused.remaining, refused.ends_in), (40, 34, 9_750_000));
        assert_eq!(refused.verdict, Verdict::SecondSpent { limit: 6, ends_in: 750_000 });
        assert_eq!(admitted(10, || read(&limiter, after(999_999))), 0);
        assert_eq!(admitted(10, || read(&limiter, after(1_000_000))), 6);
    }

    #[test]
    fn retry_after_is_rounded_up_and_at_least_one() {
        let retry = |verdict, ends_in| Outcome { limit: 1, remaining: 0, ends_in, verdict }.retry_after_seconds();
        let second = |ends_in| Verdict::SecondSpent { limit: 1, ends_in };
        assert_eq!(retry(Verdict::Admitted, 1), None);
        assert_eq!(retry(second(1), 9_000_000), Some(1));
        assert_eq!(retry(second(1_000_000), 9_000_000), Some(1));
        assert_eq!(retry(Verdict::WindowSpent, 10_000_000), Some(10));
        assert_eq!(retry(Verdict::WindowSpent, 9_000_001), Some(10));
        assert_eq!(retry(Verdict::WindowSpent, 9_000_000), Some(9));
        assert_eq!(retry(Verdict::WindowSpent, 0), Some(1));
    }

    #[test]
    fn reads_writes_and_keys_are_counted_apart() {
        let limiter = limiter();
        spend(&limiter);
        let now = after(6_000_000);
        let write = limiter.count_key(KEY, Class::Writes, Client::Ordinary, now);
        assert_eq!((write.limit, write.remaining, write.verdict), (20, 19, Verdict::Admitted));
        let other = limiter.count_key(KeyId(8), Class::Reads, Client::Ordinary, now);
        assert_eq!((other.limit, other.remaining, other.verdict), (40, 39, Verdict::Admitted));
        assert!(!is_admitted(read(&limiter, now)));
    }

    #[test]
    fn a_model_context_client_has_twice_as_much_of_the_same_window() {
        let limiter = limiter();
        let mcp = |now| limiter.count_key(KEY, Class::Reads, Client::Mcp, now);
        assert_eq!(admitted(20, || mcp(START)), 12);
        // The key has used up what it has without the word, and saying the word does not begin anew.
        assert!(!is_admitted(read(&limiter, START)));
        let total: usize = (1..10).map(|second| admitted(20, || mcp(after(second * 1_000_000)))).sum();
        assert_eq!(12 + total, 80);
        let plain = read(&limiter, after(9_500_000));
        assert_eq!((plain.limit, plain.remaining, plain.verdict), (40, 0, Verdict::WindowSpent));
    }

    #[test]
    fn sixty_four_threads_never_exceed_a_quota() {
        let limiter = limiter();
        assert!(is_admitted(read(&limiter, START)));
        for (second, expected) in [(0, 5), (1, 6), (2, 6), (3, 6), (4, 6), (5, 6), (6, 4), (7, 0)] {
            let admitted = AtomicU32::new(0);
            std::thread::scope(|threads| {
                for thread in 0..64 {
                    let (limiter, admitted) = (&limiter, &admitted);
                    threads.spawn(move || {
                        for call in 0..50 {
                            // Not in the order in which they read the clock.
                            let now = after(second * 1_000_000 + (thread * 7 + call * 13) % 1_000);
                            admitted.fetch_add(u32::from(is_admitted(read(limiter, now))), Ordering::Relaxed);
                        }
                    });
                }
            });
            assert_eq!(admitted.into_inner(), expected, "in second {second}");
        }
    }

    #[test]
    fn a_clock_reading_that_comes_late_opens_nothing_again() {
        let limiter = limiter();
        spend(&limiter);
        assert_eq!(admitted(10, || read(&limiter, after(10_000_000))), 6);
        assert_eq!(admitted(10, || read(&limiter, after(9_999_000))), 0);
        assert_eq!(admitted(10, || read(&limiter, START)), 0);
        assert_eq!(admitted(10, || read(&limiter, after(11_000_000))), 6);
        assert_eq!(admitted(10, || read(&limiter, after(10_500_000))), 0);
        assert_eq!(admitted(10, || read(&limiter, after(11_500_000))), 0);
    }

    #[test]
    fn an_address_is_its_ipv4_or_the_first_half_of_its_ipv6() {
        let of = |text: &str| Source::of(text.parse().unwrap());
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        let limiter = limiter();
        let count = |last| {
            let address = Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 0, 0, 0, last);
            limiter.count_address(address.into(), START).verdict
        };
        assert_eq!([1, 2, 3].map(count), [Verdict::Admitted; 3]);
        assert_ne!(count(4), Verdict::Admitted);
    }

    #[test]
    fn a_flood_of_addresses_takes_no_more_room_than_there_is() {
        let limiter = limiter();
        let address = |number: u32| IpAddr::from(number.to_be_bytes());
        let call = |number, now| is_admitted(limiter.count_address(address(number), now));
        let admitted = (0..1_000_000).filter(|number| call(*number, START)).count();
        let open = || limiter.addresses.lock().unwrap().open();
        // Each with a window was admitted; the others shared one.
        assert_eq!((open(), admitted), (MOST_ADDRESSES, MOST_ADDRESSES + 3));
        assert!(call(5, START) && call(5, START) && !call(5, START), "who has a window keeps it");
        assert!(!call(2_000_000, START));
        // Keys are counted elsewhere.
        assert!(is_admitted(read(&limiter, START)));

        // When their windows have ended there is room again.
        assert!(call(2_000_000, after(10_000_000)));
        assert_eq!(open(), 1);
    }

    #[test]
    fn keys_that_have_not_called_for_ten_seconds_take_no_room() {
        let limiter = limiter();
        for key in 0..10_000 {
            limiter.count_key(KeyId(key), Class::Writes, Client::Ordinary, after(key.unsigned_abs()));
        }
        let open = || limiter.keys.lock().unwrap().open();
        assert_eq!(open(), 10_000);
        read(&limiter, after(10_004_999));
        assert_eq!(open(), 5_001);
        read(&limiter, after(10_010_000));
        assert_eq!(open(), 1);
    }
}
