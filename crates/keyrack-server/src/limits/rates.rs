//! The numbers of the rate limits, and how they are written in the settings.

use std::fmt;

use super::{Class, Client, Quota, WINDOW_SECONDS};

/// More calls a second than this process can answer; every quota made of it fits 32 bits.
const MOST_PER_SECOND: u32 = 1_000_000;
/// A burst is kept in hundredths, so that quotas are exact.
const BURST_UNIT: u32 = 100;
const MOST_BURST: u32 = 10 * BURST_UNIT;
const BURST_OF_ADDRESSES: Burst = Burst(150);

/// Which of the rates an installation grants its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// The smallest.
    Starter,
    /// The middle one.
    Professional,
    /// The largest.
    Enterprise,
}

impl Tier {
    /// Every tier, in the order in which settings name them.
    pub const ALL: [Self; 3] = [Self::Starter, Self::Professional, Self::Enterprise];

    /// The word in settings and on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starter => "starter",
            Self::Professional => "professional",
            Self::Enterprise => "enterprise",
        }
    }

    /// The tier of a word; `None` if there is none.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tier| tier.as_str() == word)
    }
}

/// How many times its rate a caller may use in one second; at least 1, in hundredths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Burst(u32);

impl Burst {
    fn parse(text: &str) -> Option<Self> {
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let hundredths = match part.len() {
            1 => digits(part)? * 10,
            2 => digits(part)?,
            _ => return None,
        };
        let burst = digits(whole)?.checked_mul(BURST_UNIT)?.checked_add(hundredths)?;
        (BURST_UNIT..=MOST_BURST).contains(&burst).then_some(Self(burst))
    }

    /// Rounded down.
    const fn times(self, per_second: u32) -> u32 {
        per_second * self.0 / BURST_UNIT
    }
}

impl fmt::Display for Burst {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / BURST_UNIT, self.0 % BURST_UNIT);
        match (part, part % 10) {
            (0, _) => write!(out, "{whole}"),
            (_, 0) => write!(out, "{whole}.{}", part / 10),
            (_, _) => write!(out, "{whole}.{part:02}"),
        }
    }
}

/// The rate of one tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rate {
    reads_per_second: u32,
    writes_per_second: u32,
    burst: Burst,
}

impl Rate {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let (reads, writes, burst) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        Some(Self {
            reads_per_second: per_second(reads)?,
            writes_per_second: per_second(writes)?,
            burst: Burst::parse(burst)?,
        })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}/{}", self.reads_per_second, self.writes_per_second, self.burst)
    }
}

/// The rates of every tier, in the order of [`Tier::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates([Rate; Tier::ALL.len()]);

impl Rates {
    /// Reads `TIER=READS/WRITES/BURST` for each tier, once, in any order.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Vec<String>> {
        let mut found = [None; Tier::ALL.len()];
        let mut problems = Vec::new();
        for word in text.split_whitespace() {
            let (name, rate) = word.split_once('=').unwrap_or((word, ""));
            let Some(tier) = Tier::parse(name) else {
                problems.push(format!("\"{name}\" is no tier; they are starter, professional and enterprise"));
                continue;
            };
            let parsed = Rate::parse(rate);
            if parsed.is_none() {
                problems.push(format!(
                    "\"{word}\" must be like {name}=200/100/1.5: reads and writes per second, from 1 to \
                     {MOST_PER_SECOND}, and a burst from 1 to 10 with at most two decimals"
                ));
            }
            if let Some(slot) = found.get_mut(tier as usize)
                && slot.replace(parsed).is_some()
            {
                problems.push(format!("{name} is there twice"));
            }
        }
        for tier in Tier::ALL {
            if found.get(tier as usize).is_some_and(Option::is_none) {
                problems.push(format!("{} is missing", tier.as_str()));
            }
        }
        match found {
            [Some(Some(starter)), Some(Some(professional)), Some(Some(enterprise))] if problems.is_empty() => {
                Ok(Self([starter, professional, enterprise]))
            }
            _ => Err(problems),
        }
    }

    const fn of(&self, tier: Tier) -> Rate {
        let [starter, professional, enterprise] = self.0;
        match tier {
            Tier::Starter => starter,
            Tier::Professional => professional,
            Tier::Enterprise => enterprise,
        }
    }
}

impl fmt::Display for Rates {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [starter, professional, enterprise] = &self.0;
        write!(out, "starter={starter} professional={professional} enterprise={enterprise}")
    }
}

/// The limits of an installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// What its keys are granted.
    pub tier: Tier,
    /// What each tier is.
    pub rates: Rates,
    /// Calls per second from one source address without a valid key.
    pub addresses_per_second: u32,
}

impl Limits {
    /// What a window of a key admits.
    pub(super) const fn of_keys(&self, class: Class, client: Client) -> Quota {
        let rate = self.rates.of(self.tier);
        let per_second = match class {
            Class::Reads => rate.reads_per_second,
            Class::Writes => rate.writes_per_second,
        };
        match client {
            Client::Ordinary => quota(per_second, rate.burst),
            Client::Mcp => quota(per_second * 2, rate.burst),
        }
    }

    /// What a window of an address admits.
    pub(super) const fn of_addresses(&self) -> Quota {
        quota(self.addresses_per_second, BURST_OF_ADDRESSES)
    }
}

const fn quota(per_second: u32, burst: Burst) -> Quota {
    Quota { window: per_second * WINDOW_SECONDS, second: burst.times(per_second) }
}

/// Calls per second, from 1 to a million; `None` if it is anything else.
pub fn per_second(text: &str) -> Option<u32> {
    digits(text).filter(|number| (1..=MOST_PER_SECOND).contains(number))
}

/// A number in digits alone; the standard parser takes a sign.
fn digits(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: &str = "starter=200/100/1.5 professional=1000/500/1.5 enterprise=5000/2500/2";

    fn limits(tier: Tier, rates: &str) -> Limits {
        Limits { tier, rates: Rates::parse(rates).unwrap(), addresses_per_second: 20 }
    }

    #[test]
    fn quotas_are_those_of_the_contract() {
        for (tier, reads, writes) in [
            (Tier::Starter, (2_000, 300), (1_000, 150)),
            (Tier::Professional, (10_000, 1_500), (5_000, 750)),
            (Tier::Enterprise, (50_000, 10_000), (25_000, 5_000)),
        ] {
            let limits = limits(tier, DEFAULT);
            for (class, (window, second)) in [(Class::Reads, reads), (Class::Writes, writes)] {
                assert_eq!(limits.of_keys(class, Client::Ordinary), Quota { window, second });
                assert_eq!(limits.of_keys(class, Client::Mcp), Quota { window: window * 2, second: second * 2 });
            }
            assert_eq!(limits.of_addresses(), Quota { window: 200, second: 30 });
        }
    }

    #[test]
    fn a_burst_is_rounded_down_after_doubling() {
        let limits = limits(Tier::Starter, "starter=3/1/1.5 professional=1/1/1 enterprise=1/1/1");
        assert_eq!(limits.of_keys(Class::Reads, Client::Ordinary), Quota { window: 30, second: 4 });
        assert_eq!(limits.of_keys(Class::Reads, Client::Mcp), Quota { window: 60, second: 9 });
        assert_eq!(limits.of_keys(Class::Writes, Client::Ordinary), Quota { window: 10, second: 1 });
    }

    #[test]
    fn the_largest_numbers_are_exact() {
        let rates = "starter=1000000/1000000/10 professional=1/1/1 enterprise=1/1/1";
        let largest = Quota { window: 20_000_000, second: 20_000_000 };
        assert_eq!(limits(Tier::Starter, rates).of_keys(Class::Writes, Client::Mcp), largest);
    }

    #[test]
    fn what_is_read_is_what_is_shown() {
        for text in [DEFAULT, "starter=1/1/1 professional=7/8/1.05 enterprise=1000000/1000000/10"] {
            assert_eq!(Rates::parse(text).unwrap().to_string(), text);
        }
        let other_way = "  enterprise=5000/2500/2.0\n professional=1000/500/1.50  starter=200/100/1.5 ";
        assert_eq!(Rates::parse(other_way).unwrap().to_string(), DEFAULT);
    }

    #[test]
    fn every_problem_is_named_at_once() {
        let problems = Rates::parse("starter=200/100 gold=1/1/1 starter=1/1/1 enterprise").unwrap_err();
        let form = "reads and writes per second, from 1 to 1000000, and a burst from 1 to 10 with at most two decimals";
        let expected = [
            format!("\"starter=200/100\" must be like starter=200/100/1.5: {form}"),
            "\"gold\" is no tier; they are starter, professional and enterprise".to_owned(),
            "starter is there twice".to_owned(),
            format!("\"enterprise\" must be like enterprise=200/100/1.5: {form}"),
            "professional is missing".to_owned(),
        ];
        assert_eq!(problems, expected);
        assert_eq!(Rates::parse("").unwrap_err().len(), 3);
    }

    #[test]
    fn a_rate_has_one_form() {
        for rate in ["1/1/1", "1000000/1/1", "1/1/10", "1/1/10.00", "1/1/1.5", "1/1/9.99"] {
            assert!(Rate::parse(rate).is_some(), "{rate}");
        }
        for rate in [
            "",
            "1",
            "1/1",
            "1/1/",
            "1/1/1/",
            "1/1/1/1",
            "0/1/1",
            "1/0/1",
            "1/1/0",
            "1/1/0.99",
            "1/1/10.01",
            "1/1/11",
            "1/1/1.",
            "1/1/.5",
            "1/1/1.005",
            "1/1/1,5",
            "+1/1/1",
            "-1/1/1",
            "1/1/+1",
            "1/1/1.+5",
            "1000001/1/1",
            "99999999999/1/1",
            "1/1/99999999999",
            "1/1/42949673",
            "1 /1/1",
            "a/1/1",
            "\u{661}/1/1",
        ] {
            assert!(Rate::parse(rate).is_none(), "{rate}");
        }
    }
}
