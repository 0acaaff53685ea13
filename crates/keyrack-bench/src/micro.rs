//! The library by itself, in this process: processor time of one thread, so that others cost it nothing but cache.

mod frame;
mod issued;
mod threads;

use keyrack::{ApiKey, KeyDigest, Lookup, ProjectRole, Requirement};
use serde_json::json;

use self::frame::Candidate;
use self::issued::Issued;
use crate::figures::Figure;
use crate::goals::Goal;
use crate::{Outcome, report, system};

/// The least that every request needs here.
const NEEDS: Requirement = Requirement::Project { least: ProjectRole::Support };
/// Few enough keys to stay in the first caches.
const HOT: usize = 1_000;
const MILLION: usize = 1_000_000;

/// Measures, prints and writes the results. `large` adds ten million keys, which take about two gigabytes.
///
/// # Errors
/// If a figure cannot be taken.
pub(crate) fn run(rounds: usize, large: bool) -> Outcome<()> {
    system::pin_to_load_core()?;
    // First of all, while no freed memory lies about that it could grow into.
    let ten_million = if large { Some(Issued::new(10 * MILLION)?) } else { None };
    let (hot, million) = (Issued::new(HOT)?, Issued::new(MILLION)?);
    let broken = hot.values_with_a_broken_checksum();
    let strangers = Issued::strangers(MILLION);

    let mut candidates = vec![
        frame::chain("a value with a wrong checksum, refused", Some(30.0), &broken, |value| {
            u64::from(ApiKey::parse(value).is_ok())
        }),
        frame::chain("parse", None, hot.values(), |value| u64::from(ApiKey::parse(value).is_ok())),
        frame::chain("parse and SHA-256", None, hot.values(), |value| {
            ApiKey::parse(value).map_or(0, |key| u64::from(KeyDigest::of(&key).as_bytes()[0]))
        }),
        frame::chain("index, 1 thousand keys", None, hot.digests(), |digest| find(&hot, digest)),
        frame::chain("index, 1 million keys", None, million.digests(), |digest| find(&million, digest)),
        frame::chain("verify, 1 thousand keys (hot)", Some(150.0), hot.values(), |value| verify(&hot, value)),
        frame::chain("verify, 1 million keys", Some(450.0), million.values(), |value| verify(&million, value)),
        frame::chain("verify, stranger to 1 million keys", None, &strangers, |value| verify(&million, value)),
    ];
    if let Some(all) = &ten_million {
        candidates.push(frame::chain("verify, 10 million keys", Some(600.0), all.values(), |value| verify(all, value)));
    }

    let figures = frame::measure(&mut candidates, rounds)?;
    let scaling = threads::scaling(&million, rounds)?;
    let bytes = ten_million.as_ref().map(|all| all.bytes_per_key());
    print(&candidates, &figures);

    let mut goals: Vec<Goal> = candidates.iter().zip(&figures).filter_map(|(one, seen)| one.goal(*seen)).collect();
    if !large {
        goals.push(Goal::at_most("verify, 10 million keys, ns", 600.0, None));
    }
    goals.push(Goal::at_least("two threads ÷ one, 1 % changes, 1 million keys", 1.9, Some(scaling.median)));
    goals.push(Goal::at_most("bytes per key, 10 million keys", 96.0, bytes));
    report::print_goals(&goals);
    let lines = candidates.iter().zip(&figures);
    let lines: Vec<_> = lines.map(|(one, seen)| json!({ "name": one.name(), "ns": seen.to_json() })).collect();
    report::write("micro", json!({ "rounds": rounds, "candidates": lines, "scaling": scaling.to_json() }), &goals)
}

fn find(issued: &Issued, digest: &[u8; KeyDigest::BYTES]) -> u64 {
    match issued.verifier().index().find(&KeyDigest::from_bytes(*digest)) {
        Ok(Lookup::Live(record) | Lookup::Suspended(record)) => record.id.0.unsigned_abs(),
        Ok(Lookup::Dead(_) | Lookup::Absent) | Err(_) => 0,
    }
}

fn verify(issued: &Issued, value: &[u8]) -> u64 {
    issued.verifier().verify(value, NEEDS).map_or(0, |verified| verified.id().0.unsigned_abs())
}

#[expect(clippy::print_stdout, reason = "the result is what it prints")]
fn print(candidates: &[Candidate<'_>], figures: &[Figure]) {
    println!("\n## In process, ns of processor time\n\n| what | median | min..max |\n|---|---|---|");
    for (candidate, seen) in candidates.iter().zip(figures) {
        println!("| {} | {:.0} | {:.0}..{:.0} |", candidate.name(), seen.median, seen.least, seen.most);
    }
}
