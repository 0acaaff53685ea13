//! `keyrack keys usage`: counts by time, drawn as bars for people.

use std::error::Error;
use std::io::{IsTerminal as _, stdout};

use clap::Args;
use serde_json::{Value, json};

use super::output::{Column, table};
use super::session::Session;

/// Every count, for what is not a terminal.
const COLUMNS: [Column; 7] = [
    ("AT", "at"),
    ("VALID", "valid"),
    ("FORBIDDEN", "forbidden"),
    ("RATE LIMITED", "rate_limited"),
    ("USAGE EXCEEDED", "usage_exceeded"),
    ("NOT FOUND", "not_found"),
    ("TOTAL", "total"),
];
/// What fits beside a bar in 80 columns.
const DRAWN: [Column; 4] = [("AT", "at"), ("VALID", "valid"), ("REFUSED", "refused"), ("", "bar")];
/// Length of the longest bar.
const WIDEST_BAR: u64 = 32;

/// Whose usage is asked for, and of which time.
#[derive(Debug, Args)]
pub(super) struct UsageArgs {
    /// Number of the key, also of a revoked one; all keys of the project if left out
    id: Option<u64>,
    /// From this time, such as 2026-04-28T00:00:00Z; at most 400 days [default: 24 hours before --to]
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Up to this time [default: now]
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// What is counted together, in UTC [default: hour]
    #[arg(long, value_parser = ["hour", "day", "month"])]
    step: Option<String>,
}

impl UsageArgs {
    /// What asks for it beneath the path of a project.
    pub(super) fn path(&self, project: &str) -> String {
        let key = self.id.map_or_else(String::new, |id| format!("/keys/{id}"));
        let given = [("from", &self.from), ("to", &self.to), ("step", &self.step)];
        let given = given.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)));
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(given).finish();
        format!("{project}{key}/usage{}{query}", if query.is_empty() { "" } else { "?" })
    }
}

/// Shows what comes back.
pub(super) fn show(session: &Session, path: &str) -> Result<(), Box<dyn Error>> {
    session.show_as(path, |usage| drawn(usage, stdout().is_terminal()))
}

/// The steps beneath each other, and last their sum.
fn drawn(usage: &Value, with_bars: bool) -> String {
    let steps = usage["results"].as_array().map_or(&[][..], Vec::as_slice);
    let most = steps.iter().map(|step| count(step, "total")).max().unwrap_or_default();
    let mut totals = usage["totals"].clone();
    put(&mut totals, "at", json!("all"));
    let rows = steps.iter().map(|step| (step, most)).chain([(&totals, 0)]);
    let rows: Vec<_> = rows.map(|(step, most)| with_bar(step, most)).collect();
    table(if with_bars { &DRAWN } else { &COLUMNS }, &rows)
}

/// A row with its bar: as long as it is used, compared with `most`; what was refused is lighter.
fn with_bar(step: &Value, most: u64) -> Value {
    let (total, valid) = (count(step, "total"), count(step, "valid"));
    // Whatever was used at all shows.
    let scaled = |part: u64| if most == 0 { 0 } else { u128::from(part) * u128::from(WIDEST_BAR) / u128::from(most) };
    let length = if total == 0 { 0 } else { scaled(total).max(u128::from(most > 0)) };
    let full = if total == valid { length } else { scaled(valid).min(length) };
    let times = |part: u128| usize::try_from(part).unwrap_or_default();
    let mut row = step.clone();
    put(&mut row, "refused", json!(total.saturating_sub(valid)));
    let bar = format!("{}{}", "█".repeat(times(full)), "░".repeat(times(length - full)));
    put(&mut row, "bar", json!(bar));
    row
}

/// Sets a field, if the server sent an object.
fn put(row: &mut Value, name: &str, value: Value) {
    if let Value::Object(fields) = row {
        fields.insert(name.to_owned(), value);
    }
}

fn count(step: &Value, name: &str) -> u64 {
    step[name].as_u64().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage() -> Value {
        let step = |at: &str, valid: u64, forbidden: u64| {
            let total = valid + forbidden;
            json!({
                "at": at, "valid": valid, "forbidden": forbidden, "rate_limited": 0, "usage_exceeded": 0,
                "not_found": 0, "total": total,
            })
        };
        let results = [step("T1", 48, 16), step("T2", 0, 0), step("T3", 1, 0)];
        json!({"key_id": 4, "results": results, "totals": step("", 49, 16)})
    }

    fn plain(styled: &str) -> String {
        anstream::adapter::strip_str(styled).to_string()
    }

    #[test]
    fn a_terminal_gets_bars() {
        let expected = [
            "AT   VALID  REFUSED".to_owned(),
            format!("T1   48     16       {}{}", "█".repeat(24), "░".repeat(8)),
            "T2   0      0".to_owned(),
            "T3   1      0        █".to_owned(),
            "all  49     16".to_owned(),
        ];
        assert_eq!(plain(&drawn(&usage(), true)), expected.join("\n"));
    }

    #[test]
    fn others_get_every_count() {
        let shown = plain(&drawn(&usage(), false));
        assert!(!shown.contains('█') && shown.lines().count() == 5, "{shown}");
        let last = shown.lines().last().unwrap();
        assert_eq!(last.split_whitespace().collect::<Vec<_>>(), ["all", "49", "16", "0", "0", "0", "65"]);
    }

    #[test]
    fn what_is_asked_for_stands_in_the_path() {
        let mut asked = UsageArgs { id: None, from: None, to: None, step: None };
        assert_eq!(asked.path("/api/client"), "/api/client/usage");
        (asked.id, asked.from, asked.step) = (Some(4), Some("2026-04-28T00:00:00+02:00".into()), Some("day".into()));
        let expected = "/api/admin/projects/1/keys/4/usage?from=2026-04-28T00%3A00%3A00%2B02%3A00&step=day";
        assert_eq!(asked.path("/api/admin/projects/1"), expected);
    }
}
