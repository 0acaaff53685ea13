//! What a second thread adds while keys change.

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use keyrack::KeyDigest;

use super::check;
use super::issued::{Issued, limits, put};
use crate::Outcome;
use crate::figures::Figure;
use crate::random::Random;
use crate::system::{LOAD_CORE, SERVER_CORE, pin_to};

/// Verifications of each thread in one sample.
const STEPS: usize = 500_000;
/// One change in so many steps.
const CHANGE_EVERY: usize = 100;

/// Verifications per second of two threads, each on its core, in terms of one. Every hundredth step of each is a change.
///
/// # Errors
/// If there are not two cores, or no round.
pub(super) fn scaling(issued: &Issued, rounds: usize) -> Outcome<Figure> {
    let mut ratios = Vec::new();
    for round in 0..rounds {
        let version = u32::try_from(round)? * 2 + 2;
        let one = per_second(issued, &[LOAD_CORE], version)?;
        let two = per_second(issued, &[SERVER_CORE, LOAD_CORE], version + 1)?;
        ratios.push(two / one);
    }
    Figure::of(ratios).ok_or_else(|| "no round".into())
}

fn per_second(issued: &Issued, cores: &[usize], version: u32) -> Outcome<f64> {
    let ready = Barrier::new(cores.len() + 1);
    thread::scope(|threads| {
        let work = |core: usize| {
            let pinned = pin_to(core).map_err(|error| error.to_string());
            // Whatever happened: the others wait here.
            ready.wait();
            pinned?;
            steps(issued, core, version).map_err(|error| error.to_string())
        };
        let running: Vec<_> = cores.iter().map(|core| threads.spawn(move || work(*core))).collect();
        ready.wait();
        let started = Instant::now();
        for thread in running {
            thread.join().map_err(|_panic| "a thread broke off")??;
        }
        Ok((cores.len() * STEPS) as f64 / started.elapsed().as_secs_f64())
    })
}

fn steps(issued: &Issued, core: usize, version: u32) -> Outcome<()> {
    let mut random = Random::seeded(u64::try_from(core)? + 7);
    let limits = limits()?;
    for step in 0..STEPS {
        let position = random.below(issued.values().len());
        if step % CHANGE_EVERY == 0 {
            let digest = issued.digests().get(position).copied().unwrap_or_default();
            let change = put(i64::try_from(position)? + 1, version, &limits);
            issued.verifier().index().apply(&KeyDigest::from_bytes(digest), &change)?;
        }
        if let Some(value) = issued.values().get(position) {
            black_box(check(issued, value));
        }
    }
    Ok(())
}
