//! The library by itself, in this process: processor time of one thread, so that others cost it nothing but cache.

mod frame;
mod issued;
mod threads;

use keyrack::{ApiKey, Ask, KeyDigest};
use serde_json::json;

use self::frame::Candidate;
use self::issued::{Issued, NOW, Value, number};
use crate::figures::Figure;
use crate::goals::Goal;
use crate::million::RULES;
use crate::{Outcome, report, system};

/// Few enough keys to stay in the first caches.
const HOT: usize = 1_000;
const MILLION: usize = 1_000_000;
const TEN_RULES: &str = "check, hot, a policy of 10 rules";
const THOUSAND_RULES: &str = "check, hot, a policy of 1,000 rules";

/// Measures, prints and writes the results. `large` adds ten million keys, which take about two gigabytes.
///
/// # Errors
/// If a figure cannot be taken.
pub(crate) fn run(rounds: usize, large: bool) -> Outcome<()> {
    system::pin_to_load_core()?;
    // First of all, while no freed memory lies about that it could grow into.
    let ten_million = if large { Some(Issued::new(10 * MILLION, RULES)?) } else { None };
    let (hot, million) = (Issued::new(HOT, RULES)?, Issued::new(MILLION, RULES)?);
    let (few_rules, many_rules) = (Issued::new(HOT, 10)?, Issued::new(HOT, 1_000)?);
    let broken = hot.values_with_a_broken_checksum();
    let strangers = Issued::strangers(MILLION);

    let mut candidates = vec![
        frame::chain("a value with a wrong checksum, refused", Some(30.0), &broken, |value| check(&hot, value)),
        frame::chain("parse", None, hot.values(), |value| u64::from(ApiKey::parse(value).is_ok())),
        frame::chain("parse and SHA-256", None, hot.values(), |value| {
            ApiKey::parse(value).map_or(0, |key| u64::from(KeyDigest::of(&key).as_bytes()[0]))
        }),
        frame::chain("check, 1 thousand keys (hot)", Some(150.0), hot.values(), |value| check(&hot, value)),
        frame::chain("check, 1 million keys", Some(450.0), million.values(), |value| check(&million, value)),
        frame::chain("check, stranger to 1 million keys", None, &strangers, |value| check(&million, value)),
        frame::batches("batch of 16, 1 million keys, each", Some(250.0), million.values(), |values| {
            check_batch(&million, values)
        }),
        frame::chain(TEN_RULES, None, few_rules.values(), |value| check(&few_rules, value)),
        frame::chain(THOUSAND_RULES, None, many_rules.values(), |value| check(&many_rules, value)),
    ];
    if let Some(all) = &ten_million {
        candidates.push(frame::chain("check, 10 million keys", Some(600.0), all.values(), |value| check(all, value)));
    }

    let figures = frame::measure(&mut candidates, rounds)?;
    let scaling = threads::scaling(&million, rounds)?;
    let bytes = ten_million.as_ref().map(|all| all.bytes_per_key());
    print(&candidates, &figures);

    let mut goals: Vec<Goal> = candidates.iter().zip(&figures).filter_map(|(one, seen)| one.goal(*seen)).collect();
    if !large {
        goals.push(Goal::at_most("check, 10 million keys, ns", 600.0, None));
    }
    let median = |name: &str| {
        let found = candidates.iter().zip(&figures).find(|(candidate, _)| candidate.name() == name);
        found.map(|(_, seen)| seen.median)
    };
    let rules = median(THOUSAND_RULES).zip(median(TEN_RULES)).map(|(many, few)| many / few);
    goals.push(Goal::at_most("policy of 1,000 rules ÷ one of 10", 1.3, rules));
    goals.push(Goal::at_least("two threads ÷ one, 1 % changes, 1 million keys", 1.9, Some(scaling.median)));
    goals.push(Goal::at_most("bytes per key, 10 million keys", 96.0, bytes));
    report::print_goals(&goals);
    let lines = candidates.iter().zip(&figures);
    let lines: Vec<_> = lines.map(|(one, seen)| json!({ "name": one.name(), "ns": seen.to_json() })).collect();
    report::write("micro", json!({ "rounds": rounds, "candidates": lines, "scaling": scaling.to_json() }), &goals)
}

fn check(issued: &Issued, value: &Value) -> u64 {
    number(&issued.verifier().check(&issued.ask(value), NOW))
}

fn check_batch(issued: &Issued, values: &[Value; frame::BATCH]) -> u64 {
    let asks: [Ask<'_>; frame::BATCH] = values.each_ref().map(|value| issued.ask(value));
    let mut sum = 0;
    issued.verifier().check_batch(&asks, NOW, |verdict, _details| sum ^= number(verdict));
    sum
}

#[expect(clippy::print_stdout, reason = "the result is what it prints")]
fn print(candidates: &[Candidate<'_>], figures: &[Figure]) {
    println!("\n## In process, ns of processor time\n\n| what | median | min..max |\n|---|---|---|");
    for (candidate, seen) in candidates.iter().zip(figures) {
        println!("| {} | {:.0} | {:.0}..{:.0} |", candidate.name(), seen.median, seen.least, seen.most);
    }
}
