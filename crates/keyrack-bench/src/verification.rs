//! The verification over sockets: the product beside nginx, the frameworks and, if wanted, its peers.

use std::rc::Rc;

use serde_json::json;

use crate::arguments::Arguments;
use crate::figures::{Figure, Line, lines};
use crate::goals::Goal;
use crate::h2::Multiplexed;
use crate::rounds::Sample;
use crate::servers::product::Product;
use crate::servers::{Place, nginx, own, peers};
use crate::{Outcome, h2, report, rounds, system};

/// Measures, prints and writes the results.
///
/// # Errors
/// If a server does not start or fails.
pub(crate) fn run(arguments: &Arguments) -> Outcome<()> {
    system::pin_to_load_core()?;
    let place = Place::new()?;
    let product = Product::start(&place)?;
    // The same requests for all, so that the load has as much memory to walk.
    let requests = Rc::clone(&product.nginx.requests);

    let mut servers = vec![nginx::start(&place, &requests)?, own::axum(&requests)?, own::hyper(&requests)?];
    if arguments.peers {
        servers.extend(peers::start(&place)?);
    }
    let start = product.start;
    let mut goals = Vec::from(start.goals());
    servers.extend([product.nginx, product.socket, product.batch, product.strangers]);

    let samples = rounds::run(&servers, arguments.plan)?;
    let names: Vec<_> = servers.iter().map(|server| server.name).collect();
    let lines = lines(&names, &samples);
    let by_name = |name: &str| servers.iter().find(|server| server.name == name);
    let hyper = by_name(own::HYPER).ok_or("hyper is always there")?;
    let multiplexed = h2::run(hyper, by_name(Product::NGINX), arguments.plan)
        .unwrap_or_else(|error| Multiplexed::missing(error.as_ref()));
    goals.push(multiplexed.goal.clone());
    goals.splice(0..0, goals_of(&lines, &names, &samples, arguments.peers));

    report::print_servers("HTTP/1.1, 64 connections", &lines, arguments.plan.rounds);
    report::print_servers("h2load (p50 is the mean, p99 the longest)", &multiplexed.lines, arguments.plan.rounds);
    report::print_goals(&goals);
    let figures = json!({
        "rounds": arguments.plan.rounds,
        "seconds_per_sample": arguments.plan.sample.as_secs_f64(),
        "servers": lines.iter().map(Line::to_json).collect::<Vec<_>>(),
        "h2load": multiplexed.to_json(),
        "start": start.to_json(),
    });
    report::write(if arguments.peers { "peers" } else { "verify" }, figures, &goals)
}

/// The promises, with what this run saw of them.
fn goals_of(lines: &[Line], names: &[&'static str], samples: &[Vec<Sample>], with_peers: bool) -> Vec<Goal> {
    let line = |name: &str| lines.iter().find(|line| line.name == name);
    let per_second = |name: &str| {
        let (_, samples) = names.iter().zip(samples).find(|(known, _)| **known == name)?;
        Some(samples.iter().map(|sample| sample.per_second))
    };
    let over = |over: &str, under: &str| Some(Figure::of_ratios(per_second(over)?, per_second(under)?)?.median);
    let door = line(Product::NGINX);
    let batch = line(Product::BATCH).map(|line| line.per_second.median * Product::BATCH_KEYS as f64 / 1e6);
    let mut goals = vec![
        Goal::at_least("nginx door over TCP, req/s ÷ nginx's empty 204", 1.1, door.map(|line| line.ratio.median)),
        Goal::at_most("its 99th percentile ÷ nginx's", 1.0, door.map(|line| line.p99_ratio.median)),
        Goal::at_least(
            "nginx door over a Unix socket, req/s ÷ nginx's TCP 204",
            2.0,
            line(Product::SOCKET).map(|line| line.ratio.median),
        ),
        Goal::at_least("batches of 100, million keys per second and core", 1.5, batch),
        Goal::at_most(
            "processor time of an unknown key ÷ that of a good one",
            1.2,
            line(Product::STRANGERS).zip(door).map(|(bad, good)| bad.cpu.median / good.cpu.median),
        ),
    ];
    if with_peers {
        for (peer, least) in peers::GOALS {
            goals.push(Goal::at_least(format!("nginx door ÷ {peer}"), least, over(Product::NGINX, peer)));
        }
    }
    goals
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_are_taken_from_the_lines_they_speak_of() {
        let sample = |per_second| Sample { per_second, p50: 1.0, p99: 100.0, cpu: 1.0, busy: 1.0, foreign: 0.0 };
        let names = ["nginx", Product::NGINX, peers::GOALS[0].0];
        let samples = [100.0, 120.0, 0.5].map(|per_second| vec![sample(per_second)]);
        let goals = goals_of(&lines(&names, &samples), &names, &samples, true);
        assert_eq!(
            goals.iter().map(|goal| goal.seen).collect::<Vec<_>>(),
            [Some(1.2), Some(1.0), None, None, None, Some(240.0), None, None]
        );
    }
}
