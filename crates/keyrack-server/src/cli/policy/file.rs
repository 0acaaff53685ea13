//! A policy in a file, and where in it something stands.

use std::path::Path as FilePath;

use keyrack::policy::{Document, Policies};
use serde::de::DeserializeOwned;
use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::super::exit::{Exit, Failure};
use crate::policies::document::{self, Fault};

/// Reads a file, TOML or, if its name ends so, JSON. Names every fault of it.
pub(super) fn read(file: &FilePath) -> Result<(Document, Policies), Failure> {
    let text = text_of(file)?;
    let is_json = file.extension().is_some_and(|extension| extension == "json");
    let value: Value = if is_json {
        serde_json::from_str(&text).map_err(|error| failed(file, error.to_string()))?
    } else {
        parse(file, &text)?
    };
    document::read(&value).map_err(|faults| {
        let said = |fault: &Fault| {
            let line = if is_json { None } else { line_of(&text, &fault.place()) };
            let line = line.map_or_else(String::new, |line| format!("line {line}: "));
            format!("  {line}{}: {}", fault.place(), fault.message)
        };
        let lines: Vec<_> = faults.iter().map(said).collect();
        failed(file, format!("{} fault(s)\n{}", faults.len(), lines.join("\n")))
    })
}

/// Reads a TOML file of another kind.
pub(super) fn read_toml<T: DeserializeOwned>(file: &FilePath) -> Result<T, Failure> {
    parse(file, &text_of(file)?)
}

pub(super) fn failed(file: &FilePath, message: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Local, format!("{}: {message}", file.display()))
}

fn text_of(file: &FilePath) -> Result<String, Failure> {
    std::fs::read_to_string(file).map_err(|error| failed(file, error))
}

fn parse<T: DeserializeOwned>(file: &FilePath, text: &str) -> Result<T, Failure> {
    // The library says line and column, and shows the line.
    toml::from_str(text).map_err(|error| failed(file, error.to_string().trim_end()))
}

/// The line, from 1, of what stands at a place such as `policies[0].rules[2].path`, or of the nearest thing around it that is
/// there.
fn line_of(text: &str, place: &str) -> Option<usize> {
    let table = DeTable::parse(text).ok()?;
    let mut start = None;
    let mut here = table.get_ref().iter().collect::<Vec<_>>();
    for step in place.split('.') {
        let (name, numbers) = step.split_once('[').map_or((step, ""), |(name, numbers)| (name, numbers));
        let Some((key, value)) = here.iter().find(|(key, _)| key.get_ref() == name).copied() else { break };
        start = Some(key.span().start);
        let mut value: &Spanned<DeValue<'_>> = value;
        for number in numbers.split(['[', ']']).filter_map(|number| number.parse::<usize>().ok()) {
            let DeValue::Array(items) = value.get_ref() else { break };
            let Some(item) = items.get(number) else { break };
            (value, start) = (item, Some(item.span().start));
        }
        let DeValue::Table(inner) = value.get_ref() else { break };
        here = inner.iter().collect();
    }
    Some(text.get(..start?)?.matches('\n').count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_its_line() {
        let text = "# ours\n[[policies]]\nname = \"default\"\nread = \"support\"\nwrite = \"none\"\n\n[[policies.rules]]\n\
                    methods = [\"GET\"]\npath = \"/a\"\n\n[[policies.rules]]\npath = \"/b\"\nwhat = 1\n";
        for (place, line) in [
            ("policies", 2),
            ("policies[0]", 2),
            ("policies[0].read", 4),
            ("policies[0].rules[0].path", 9),
            ("policies[0].rules[0].methods[0]", 8),
            ("policies[0].rules[1]", 11),
            ("policies[0].rules[1].role", 11),
            ("policies[0].rules[1].what", 13),
        ] {
            assert_eq!(line_of(text, place), Some(line), "{place}");
        }
        assert_eq!(line_of(text, "else"), None);
    }
}
