//! HTTP/2 without TLS, as a gateway that multiplexes would speak it: a few connections with many streams each.
//!
//! `h2load` of nghttp2 asks here, because it speaks both versions: the mark is hyper over HTTP/1.1, asked by the same.

use std::error::Error;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::Outcome;
use crate::figures::{Line, lines};
use crate::goals::Goal;
use crate::load::Address;
use crate::rounds::{Meter, Plan, Sample, quietest};
use crate::servers::Server;

/// How a server is asked.
#[derive(Clone, Copy, Debug)]
struct Way {
    name: &'static str,
    arguments: &'static [&'static str],
}

const HTTP_1: Way = Way { name: "hyper, HTTP/1.1, 64 connections", arguments: &["--h1", "-c64", "-m1"] };
const H2C: Way = Way { name: "Keyrack, nginx door, h2c, 4 × 16", arguments: &["-c4", "-m16"] };

/// What the rounds gave.
#[derive(Debug)]
pub(crate) struct Multiplexed {
    /// The mark, and the product if it is there.
    pub(crate) lines: Vec<Line>,
    /// The promise.
    pub(crate) goal: Goal,
}

impl Multiplexed {
    /// Nothing was measured; the reason is printed, and the rest of the run keeps its worth.
    #[expect(clippy::print_stderr, reason = "the reason why a figure is missing")]
    pub(crate) fn missing(reason: &dyn Error) -> Self {
        eprintln!("keyrack-bench: without HTTP/2: {reason}");
        Self { lines: Vec::new(), goal: goal(None) }
    }

    /// For the file of results.
    pub(crate) fn to_json(&self) -> Value {
        json!(self.lines.iter().map(Line::to_json).collect::<Vec<_>>())
    }
}

/// Asks hyper and, if it is there, the product, in rounds.
///
/// # Errors
/// If a server fails, or refuses a request.
pub(crate) fn run(hyper: &Server, product: Option<&Server>, plan: Plan) -> Outcome<Multiplexed> {
    let asked: Vec<_> = [(hyper, HTTP_1)].into_iter().chain(product.map(|product| (product, H2C))).collect();
    let mut samples = vec![Vec::new(); asked.len()];
    for round in 0..plan.rounds {
        let mut order: Vec<_> = asked.iter().zip(&mut samples).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for ((server, way), samples) in order {
            samples.push(quietest(|| measure(server, *way, plan.sample))?);
        }
    }
    let names: Vec<_> = asked.iter().map(|(_, way)| way.name).collect();
    let lines = lines(&names, &samples);
    let ratio = lines.iter().find(|line| line.name == H2C.name).map(|line| line.ratio.median);
    Ok(Multiplexed { lines, goal: goal(ratio) })
}

fn goal(seen: Option<f64>) -> Goal {
    Goal::at_least("nginx door over h2c, 4 × 16 ÷ hyper's HTTP/1.1 204", 2.2, seen)
}

fn measure(server: &Server, way: Way, length: Duration) -> Outcome<Sample> {
    let Address::Tcp(address) = server.address else { return Err("h2load asks over TCP only".into()) };
    let (path, headers) = head_of(server.requests.at(0))?;
    let mut command = Command::new("h2load");
    command.args(way.arguments).arg(format!("--duration={}", length.as_secs_f64().ceil()));
    for header in headers {
        command.arg("-H").arg(header);
    }
    let meter = Meter::start(server)?;
    let output = command.arg(format!("http://{address}{path}")).output()?;
    let used = meter.stop(server)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let said = Said::parse(&text).ok_or_else(|| format!("{}: h2load said: {text}", way.name))?;
    if said.succeeded == 0 || said.succeeded != said.done {
        return Err(format!("{}: {} of {} requests succeeded", way.name, said.succeeded, said.done).into());
    }
    let done = said.done as f64;
    Ok(Sample {
        per_second: said.per_second,
        // It tells the mean and not the percentiles.
        p50: said.mean,
        p99: said.longest,
        cpu: used.server * 1e6 / done,
        busy: used.server / used.seconds,
        foreign: used.foreign,
    })
}

/// The path and the headers of a prepared request, without those that a client adds itself.
fn head_of(request: &[u8]) -> Outcome<(String, Vec<String>)> {
    let head = std::str::from_utf8(request)?;
    let path = head.split(' ').nth(1).ok_or("a request without a path")?.to_owned();
    let headers = head.lines().skip(1).filter(|line| !line.is_empty() && !line.starts_with("Host:"));
    Ok((path, headers.map(str::to_owned).collect()))
}

/// What `h2load` prints.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Said {
    per_second: f64,
    done: u64,
    succeeded: u64,
    mean: f64,
    longest: f64,
}

impl Said {
    fn parse(text: &str) -> Option<Self> {
        let line = |start: &str| text.lines().find_map(|line| line.strip_prefix(start));
        let before = |line: &str, unit: &str| line.split(unit).next()?.rsplit(' ').next()?.parse::<f64>().ok();
        let count = |unit: &str| {
            let words = line("requests: ")?.split(", ").find_map(|part| part.strip_suffix(unit))?;
            words.trim().parse::<u64>().ok()
        };
        // min, max, mean, sd, +/- sd
        let times: Vec<f64> = line("time for request:")?.split_whitespace().map_while(microseconds).collect();
        let [_least, longest, mean, ..] = times.as_slice() else { return None };
        Some(Self {
            per_second: before(line("finished in ")?, " req/s")?,
            done: count(" done")?,
            succeeded: count(" succeeded")?,
            mean: *mean,
            longest: *longest,
        })
    }
}

/// A time as `h2load` writes it: `12us`, `3.45ms`, `1.20s`.
fn microseconds(word: &str) -> Option<f64> {
    let (digits, factor) = [("us", 1.0), ("ms", 1e3), ("s", 1e6)]
        .into_iter()
        .find_map(|(unit, factor)| Some((word.strip_suffix(unit)?, factor)))?;
    Some(digits.parse::<f64>().ok()? * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_h2load_prints_is_understood() {
        let text = "finished in 1.01s, 52431.00 req/s, 3.40MB/s\n\
                    requests: 52431 total, 52495 started, 52431 done, 52430 succeeded, 1 failed, 1 errored, 0 timeout\n\
                    status codes: 52430 2xx, 0 3xx, 0 4xx, 0 5xx\n\
                    time for request:      128us     15.36ms      1.21ms       876us    91.10%\n";
        let said = Said::parse(text).unwrap();
        assert_eq!(
            said,
            Said { per_second: 52_431.0, done: 52_431, succeeded: 52_430, mean: 1_210.0, longest: 15_360.0 }
        );
        assert_eq!(Said::parse("h2load: cannot connect"), None);
    }

    #[test]
    fn a_prepared_request_is_asked_with_its_path_and_headers() {
        let request = b"GET /v1/auth/nginx HTTP/1.1\r\nHost: auth\r\nAccept: */*\r\n\r\n";
        let (path, headers) = head_of(request).unwrap();
        assert_eq!((path.as_str(), headers), ("/v1/auth/nginx", vec!["Accept: */*".to_owned()]));
    }
}
