//! The arguments of a run over sockets.

use std::str::FromStr;
use std::time::Duration;

use crate::Outcome;
use crate::rounds::Plan;

/// What to measure, and how much.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arguments {
    /// `--rounds N` (5) and `--seconds S` of each sample (1).
    pub(crate) plan: Plan,
    /// `--peers`: the peers too.
    pub(crate) peers: bool,
}

impl Arguments {
    /// Reads the words after the command.
    ///
    /// # Errors
    /// If one is not understood.
    pub(crate) fn parse(words: &[String]) -> Outcome<Self> {
        let plan = Plan { rounds: 5, sample: Duration::from_secs(1) };
        let mut arguments = Self { plan, peers: false };
        let mut words = words.iter();
        while let Some(option) = words.next() {
            match option.as_str() {
                "--rounds" => arguments.plan.rounds = value(option, words.next())?,
                "--seconds" => arguments.plan.sample = Duration::try_from_secs_f64(value(option, words.next())?)?,
                "--peers" => arguments.peers = true,
                _ => return Err(format!("'{option}' is not understood").into()),
            }
        }
        if arguments.plan.rounds == 0 || arguments.plan.sample.is_zero() {
            return Err("nothing would be measured".into());
        }
        Ok(arguments)
    }
}

fn value<T: FromStr>(option: &str, word: Option<&String>) -> Outcome<T> {
    let parsed = word.and_then(|word| word.parse().ok());
    parsed.ok_or_else(|| format!("{option} needs a value").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Outcome<Arguments> {
        Arguments::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn what_is_given_is_taken() {
        let arguments = parse("--rounds 3 --seconds 0.5 --peers").unwrap();
        assert_eq!((arguments.plan.rounds, arguments.plan.sample), (3, Duration::from_millis(500)));
        assert!(arguments.peers);
    }

    #[test]
    fn what_would_measure_nothing_is_refused() {
        for line in ["--rounds 0", "--seconds 0", "--seconds", "--rounds x", "--what"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
