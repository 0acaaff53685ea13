//! What it costs to scan a path and to find its rule, in nanoseconds, for 10, 200 and 1,000 rules.
//!
//! `cargo run --release -p keyrack --example policy_speed`
#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use keyrack::ProjectRole;
use keyrack::policy::{Document, Method, Path, Policies, PolicyId, Rule};

const SIZES: [usize; 3] = [10, 200, 1_000];
const ROUNDS: usize = 31;
const CALLS: usize = 50_000;

fn main() -> Result<(), Box<dyn Error>> {
    let policies = SIZES.map(|rules| Policies::compile(&document(rules)));
    let mut finding = [const { Vec::new() }; SIZES.len()];
    let mut scanning = Vec::new();
    // Interleaved, so that whatever else the machine does meets all of them.
    for _ in 0..ROUNDS {
        for ((rules, policies), times) in SIZES.into_iter().zip(&policies).zip(&mut finding) {
            let policies = policies.as_ref().map_err(|faults| format!("{faults:?}"))?;
            let targets = targets(rules);
            let paths: Vec<_> = targets.iter().map(|target| Path::scan(target.as_bytes())).collect::<Result<_, _>>()?;
            let methods = [Method::scan(b"GET")?, Method::scan(b"POST")?];
            let asked = paths.iter().zip(methods.iter().cycle()).cycle().take(CALLS);
            let start = Instant::now();
            for (path, method) in asked {
                black_box(policies.route(PolicyId::DEFAULT, black_box(*method), black_box(path)))?;
            }
            times.push(nanoseconds(start));

            let asked = targets.iter().cycle().take(CALLS);
            let start = Instant::now();
            for target in asked {
                black_box(Path::scan(black_box(target.as_bytes())))?;
            }
            scanning.push(nanoseconds(start));
        }
    }
    let smallest = finding.first_mut().map(|times| median(times)).unwrap_or_default();
    println!("scan a path             {:6.1} ns", median(&mut scanning));
    for (rules, times) in SIZES.into_iter().zip(&mut finding) {
        let found = median(times);
        println!("find one of {rules:5} rules {found:6.1} ns  {:.2} times that of {}", found / smallest, SIZES[0]);
    }
    Ok(())
}

/// Routes of two and three segments such as an API has, with different methods on them.
fn document(rules: usize) -> Document {
    let mut document = Document::builtin();
    let rule = |number: usize| {
        let resource = number / 5;
        let (method, path) = match number % 5 {
            0 => ("GET", format!("/v1/resource-{resource}")),
            1 => ("POST", format!("/v1/resource-{resource}")),
            2 => ("GET", format!("/v1/resource-{resource}/*")),
            3 => ("*", format!("/v1/resource-{resource}/*")),
            _ => ("POST", format!("/v1/resource-{resource}/search")),
        };
        let methods = vec![method.to_owned()];
        Rule { methods, path, role: ProjectRole::Support, public: number.is_multiple_of(3), permission: None }
    };
    if let Some(policy) = document.policies.first_mut() {
        policy.rules = (0..rules).map(rule).collect();
    }
    document
}

/// A list, one member and a search of every resource, in an order that no predictor follows.
fn targets(rules: usize) -> Vec<String> {
    let resources = (rules / 5).max(1);
    let target = |number: usize| {
        let resource = number.wrapping_mul(2_654_435_761) % 1_000_003 % resources;
        match number.wrapping_mul(40_503) % 7 % 3 {
            0 => format!("/v1/resource-{resource}"),
            1 => format!("/v1/resource-{resource}/{}", number * 7919),
            _ => format!("/v1/resource-{resource}/search"),
        }
    };
    (0..4_096).map(target).collect()
}

fn nanoseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e9 / CALLS as f64
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}
