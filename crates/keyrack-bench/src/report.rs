//! What a run leaves behind: tables on the screen, and `bench/results.json`.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::Outcome;
use crate::figures::Line;
use crate::goals::{Goal, shown};
use crate::system::{machine, said_by};

const RESULTS: &str = "bench/results.json";

/// Prints a table of servers.
#[expect(clippy::print_stdout, reason = "the result is what it prints")]
pub(crate) fn print_servers(title: &str, lines: &[Line], rounds: usize) {
    let mark = lines.first().map_or("nothing", |line| line.name);
    println!("\n## {title}\n");
    println!(
        "| server | req/s vs {mark} | min..max | req/s | p50 µs | p99 µs | CPU µs/req | CPU ratio | core % | quiet |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for line in lines {
        println!(
            "| {} | {} | {}..{} | {:.0} | {:.0} | {:.0} | {} | {} | {:.0} | {}/{rounds} |",
            line.name,
            ratio(line.ratio.median),
            ratio(line.ratio.least),
            ratio(line.ratio.most),
            line.per_second.median,
            line.p50.median,
            line.p99.median,
            shown(line.cpu.median),
            shown(line.cpu_ratio.median),
            100.0 * line.busy.median,
            line.quiet,
        );
    }
}

/// Prints what was promised beside what was seen.
#[expect(clippy::print_stdout, reason = "the result is what it prints")]
pub(crate) fn print_goals(goals: &[Goal]) {
    println!("\n| figure | goal | seen | |\n|---|---|---|---|");
    for goal in goals {
        println!("{}", goal.to_markdown());
    }
}

/// Writes a section of the file of results and leaves the others as they are: not every run measures everything.
///
/// # Errors
/// If the file cannot be read or written.
pub(crate) fn write(section: &str, mut figures: Value, goals: &[Goal]) -> Outcome<()> {
    let path = Path::new(RESULTS);
    let mut all: Map<String, Value> = match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)?,
        Err(error) if error.kind() == ErrorKind::NotFound => Map::new(),
        Err(error) => return Err(error.into()),
    };
    if let Some(figures) = figures.as_object_mut() {
        figures.insert("machine".to_owned(), json!(machine()?));
        figures.insert("commit".to_owned(), json!(said_by("git", &["describe", "--always", "--dirty"])));
        figures.insert("date".to_owned(), json!(said_by("date", &["--utc", "+%Y-%m-%dT%H:%M:%SZ"])));
        figures.insert("goals".to_owned(), goals.iter().map(Goal::to_json).collect());
    }
    all.insert(section.to_owned(), figures);
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    Ok(fs::write(path, format!("{:#}\n", Value::Object(all)))?)
}

/// Slow servers are thousandths of the mark.
fn ratio(value: f64) -> String {
    if value < 0.1 { format!("{value:.4}") } else { shown(value) }
}
