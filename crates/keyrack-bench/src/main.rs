//! Measures the verification beside what it is compared with: `./dev bench`.
//!
//! Machines differ, and share: what counts is a ratio, taken inside one round of one run. Nothing here is asserted.

mod arguments;
mod child;
mod figures;
mod goals;
mod h2;
mod load;
mod micro;
mod million;
mod random;
mod report;
mod rounds;
mod serve;
mod servers;
mod system;
mod verification;

use std::error::Error;
use std::process::ExitCode;

use crate::arguments::Arguments;

/// What can go wrong needs no kinds here: somebody reads it and runs again.
type Outcome<T> = Result<T, Box<dyn Error>>;

/// The path of every request, so that each server has the same bytes to read.
const PATH: &str = "/v1/auth/nginx";

const USAGE: &str = "usage: keyrack-bench verify [--rounds N] [--seconds S] [--peers]\n\
                     usage: keyrack-bench micro ROUNDS [large]";

#[expect(clippy::print_stderr, reason = "the reason why there is no result")]
fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("keyrack-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["serve", which, address, ..] => serve::serve(which, address, words.get(3..).unwrap_or_default()),
        ["verify", ..] => verification::run(&Arguments::parse(words.get(1..).unwrap_or_default())?),
        ["micro", rounds] => micro::run(rounds.parse()?, false),
        ["micro", rounds, "large"] => micro::run(rounds.parse()?, true),
        _ => Err(USAGE.into()),
    }
}
