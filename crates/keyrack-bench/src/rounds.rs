//! Rounds: each runs every server once, so that a machine that others use too disturbs all of them alike.

use std::time::{Duration, Instant};

use crate::Outcome;
use crate::load::Load;
use crate::servers::Server;
use crate::system::{busy_seconds, own_seconds, seconds_of_trees};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Rounds.
    pub(crate) rounds: usize,
    /// How long each sample takes.
    pub(crate) sample: Duration,
}

impl Plan {
    /// Keep-alive connections, one request in flight on each.
    const CONNECTIONS: usize = 64;
    /// How often a sample is taken again because others took the processor.
    const TRIES: usize = 3;
    /// The share of a core that others may take of a sample.
    pub(crate) const QUIET: f64 = 0.1;

    /// How long a server is asked before it is measured.
    fn warm_up(self) -> Duration {
        self.sample / 4
    }
}

/// What one server did in one round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Requests per second.
    pub(crate) per_second: f64,
    /// Median latency in microseconds.
    pub(crate) p50: f64,
    /// Latency in microseconds that 99 of 100 requests did not exceed.
    pub(crate) p99: f64,
    /// Processor time of the server in microseconds per request, user and system.
    pub(crate) cpu: f64,
    /// How much of its core the server took: well below 1, and it is the load or somebody else who was measured.
    pub(crate) busy: f64,
    /// How much of a core other processes took meanwhile.
    pub(crate) foreign: f64,
}

/// Runs all rounds; the answer has, for each server, its samples by round.
///
/// # Errors
/// If a server fails, or gives a reply of another status than it should.
pub(crate) fn run(servers: &[Server], plan: Plan) -> Outcome<Vec<Vec<Sample>>> {
    let mut samples = vec![Vec::new(); servers.len()];
    for round in 0..plan.rounds {
        let mut order: Vec<_> = servers.iter().zip(&mut samples).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for (server, samples) in order {
            let sample = quietest(|| measure(server, plan)).map_err(|error| format!("{}: {error}", server.name))?;
            eprint_progress(round, server, &sample);
            samples.push(sample);
        }
    }
    Ok(samples)
}

/// Takes a sample until one is quiet, and keeps the quietest.
///
/// # Errors
/// If it cannot be taken.
pub(crate) fn quietest(take: impl Fn() -> Outcome<Sample>) -> Outcome<Sample> {
    let mut best = take()?;
    for _ in 1..Plan::TRIES {
        if best.foreign < Plan::QUIET {
            break;
        }
        let again = take()?;
        if again.foreign < best.foreign {
            best = again;
        }
    }
    Ok(best)
}

fn measure(server: &Server, plan: Plan) -> Outcome<Sample> {
    let mut load = Load::connect(&server.address, Plan::CONNECTIONS)?;
    load.run(&server.requests, plan.warm_up())?;
    let meter = Meter::start(server)?;
    let measured = load.run(&server.requests, plan.sample)?;
    let used = meter.stop(server)?;
    if measured.statuses.keys().any(|status| *status != server.status) {
        return Err(format!("replies by status: {:?}, expected {}", measured.statuses, server.status).into());
    }
    let replies = measured.replies() as f64;
    Ok(Sample {
        per_second: replies / measured.seconds,
        p50: measured.percentile(0.5),
        p99: measured.percentile(0.99),
        cpu: used.server * 1e6 / replies.max(1.0),
        busy: used.server / measured.seconds,
        foreign: used.foreign,
    })
}

/// Reads processor times before and after.
#[derive(Debug)]
pub(crate) struct Meter {
    started: Instant,
    server: f64,
    own: f64,
    busy: f64,
}

/// What was used in between.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Used {
    /// Seconds that the server took.
    pub(crate) server: f64,
    /// Seconds that went by.
    pub(crate) seconds: f64,
    /// How much of a core went to processes that are neither the server nor this one.
    pub(crate) foreign: f64,
}

impl Meter {
    /// Reads the times before.
    pub(crate) fn start(server: &Server) -> Outcome<Self> {
        let ids = server.ids();
        Ok(Self {
            server: seconds_of_trees(&ids)?,
            own: own_seconds()?,
            busy: busy_seconds()?,
            started: Instant::now(),
        })
    }

    /// Reads the times after.
    pub(crate) fn stop(self, server: &Server) -> Outcome<Used> {
        let seconds = self.started.elapsed().as_secs_f64();
        let (busy, own) = (busy_seconds()? - self.busy, own_seconds()? - self.own);
        let server = seconds_of_trees(&server.ids())? - self.server;
        Ok(Used { server, seconds, foreign: (busy - own - server).max(0.0) / seconds })
    }
}

#[expect(clippy::print_stderr, reason = "whoever waits sees that it goes on")]
fn eprint_progress(round: usize, server: &Server, sample: &Sample) {
    eprintln!("round {:>2}  {:<34} {:>9.0}/s", round + 1, server.name, sample.per_second);
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn tries_and_kept(foreign: &[f64]) -> (usize, f64) {
        let tries = Cell::new(0);
        let kept = quietest(|| {
            let foreign = foreign[tries.get()];
            tries.set(tries.get() + 1);
            Ok(Sample { per_second: 1.0, p50: 1.0, p99: 1.0, cpu: 1.0, busy: 1.0, foreign })
        });
        (tries.get(), kept.unwrap().foreign)
    }

    #[test]
    fn a_disturbed_sample_is_repeated_and_the_quietest_kept() {
        assert_eq!(tries_and_kept(&[0.02]), (1, 0.02));
        assert_eq!(tries_and_kept(&[0.5, 0.05]), (2, 0.05));
        assert_eq!(tries_and_kept(&[0.5, 0.3, 0.4]), (3, 0.3));
    }
}
