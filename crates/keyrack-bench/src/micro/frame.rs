//! How something small is measured: in long chains, where each step waits for the answer to the one before.

use std::hint::black_box;

use rustix::time::{ClockId, clock_gettime};

use crate::Outcome;
use crate::figures::Figure;
use crate::goals::Goal;
use crate::random::Random;

/// Steps of one sample: some tens of milliseconds.
const STEPS: usize = 100_000;

/// Inputs of a batch.
pub(super) const BATCH: usize = 16;

/// Inputs that are laid out: more than all samples of five rounds take, so that none is in the cache from the last time.
const ORDER: usize = 1_000_000;

/// Something small that is measured.
pub(super) struct Candidate<'a> {
    name: &'static str,
    most: Option<f64>,
    run: Box<dyn FnMut(usize) -> u64 + 'a>,
}

impl Candidate<'_> {
    /// What it is called in the table.
    pub(super) const fn name(&self) -> &'static str {
        self.name
    }

    /// The promise about it, if there is one.
    pub(super) fn goal(&self, seen: Figure) -> Option<Goal> {
        Some(Goal::at_most(format!("{}, ns", self.name), self.most?, Some(seen.median)))
    }
}

/// A candidate that answers inputs in random order; `most` nanoseconds are promised.
///
/// The order is laid out beforehand, so that the next input is in the cache by the time it is looked at, as a server has the bytes
/// of a request there. Each is mixed with the answer to the one before in a way that changes nothing, which only the compiler and
/// the processor do not know: so steps do not overlap, and what is measured is how long one takes.
pub(super) fn chain<'a, const N: usize>(
    name: &'static str,
    most: Option<f64>,
    inputs: &'a [[u8; N]],
    answer: impl Fn(&[u8; N]) -> u64 + 'a,
) -> Candidate<'a> {
    batches(name, most, inputs, move |[input]: &[[u8; N]; 1]| answer(input))
}

/// [`chain`] for what answers `B` inputs at once; the time is that of one input.
pub(super) fn batches<'a, const N: usize, const B: usize>(
    name: &'static str,
    most: Option<f64>,
    inputs: &'a [[u8; N]],
    answer: impl Fn(&[[u8; N]; B]) -> u64 + 'a,
) -> Candidate<'a> {
    let mut random = Random::seeded(4);
    let mut pick = || inputs.get(random.below(inputs.len())).copied().unwrap_or([0; N]);
    let order: Vec<[[u8; N]; B]> = (0..ORDER / B).map(|_| std::array::from_fn(|_| pick())).collect();
    let mut at = 0;
    let run = move |steps: usize| {
        let nothing = black_box(0_u8);
        let mut answered = 0_u64;
        for _ in 0..steps / B {
            let mut batch = order.get(at).copied().unwrap_or([[0; N]; B]);
            at = if at + 1 < order.len() { at + 1 } else { 0 };
            for first in batch.iter_mut().filter_map(|input| input.first_mut()) {
                *first ^= answered.to_le_bytes()[0] & nothing;
            }
            answered = answer(&batch);
        }
        answered
    };
    Candidate { name, most, run: Box::new(run) }
}

/// Nanoseconds a step of each candidate takes. Every round begins with another candidate, so that none always follows
/// the same one.
///
/// # Errors
/// If there is no round.
pub(super) fn measure(candidates: &mut [Candidate<'_>], rounds: usize) -> Outcome<Vec<Figure>> {
    let mut samples = vec![Vec::new(); candidates.len()];
    for candidate in &mut *candidates {
        black_box((candidate.run)(STEPS));
    }
    for round in 0..rounds {
        let mut order: Vec<_> = candidates.iter_mut().zip(&mut samples).collect();
        let first = round % order.len().max(1);
        order.rotate_left(first);
        for (candidate, samples) in order {
            let before = thread_nanoseconds();
            black_box((candidate.run)(STEPS));
            samples.push((thread_nanoseconds() - before) / STEPS as f64);
        }
    }
    samples.into_iter().map(|samples| Figure::of(samples).ok_or_else(|| "no round".into())).collect()
}

/// Processor time of this thread.
fn thread_nanoseconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    #[test]
    fn inputs_reach_the_candidate_unchanged_whatever_it_answers() {
        let inputs = [[1, 2], [3, 4]];
        let seen = Cell::new(0);
        let mut candidates = [chain("", None, &inputs, |input: &[u8; 2]| {
            assert!(inputs.contains(input));
            seen.set(seen.get() + 1);
            u64::MAX
        })];
        assert!(measure(&mut candidates, 2).unwrap()[0].least >= 0.0);
        assert_eq!(seen.get(), 3 * STEPS);
    }

    #[test]
    fn every_round_begins_with_another() {
        let order = RefCell::new(Vec::new());
        let note = |name: u64| {
            let order = &order;
            let run = move |_steps| {
                order.borrow_mut().push(name);
                name
            };
            Candidate { name: "", most: None, run: Box::new(run) }
        };
        measure(&mut [note(1), note(2), note(3)], 2).unwrap();
        assert_eq!(*order.borrow(), [1, 2, 3, 1, 2, 3, 2, 3, 1]);
    }
}
