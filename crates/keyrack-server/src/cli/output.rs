//! What commands print: results to the standard output, everything else to the standard error stream. Text that came from
//! a server is cleaned first, so that nobody's key name can move the cursor or recolour the terminal.

use std::error::Error;
use std::fmt;
use std::io::Write as _;

use anstyle::Style;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use unicode_width::UnicodeWidthStr as _;

/// Widest cell of a table; `get` shows the rest.
const WIDEST_CELL: usize = 48;
const HEADING: Style = Style::new().bold();
const LABEL: Style = Style::new().dimmed();

/// A column of a table: its heading, and the field of an object that stands in it.
pub(super) type Column = (&'static str, &'static str);

/// Prints a result; a closed pipe or a full disk is an error like others. Colours end up on a terminal only.
pub(super) fn print(text: &str) -> Result<(), Box<dyn Error>> {
    let mut out = anstream::stdout();
    Ok(writeln!(out, "{text}").and_then(|()| out.flush())?)
}

/// Says something beside the result. If even that cannot be said, nothing is lost.
pub(super) fn note(text: &str) {
    writeln!(anstream::stderr(), "{text}").ok();
}

/// Text as it may reach a terminal: what would steer it is spelt out.
pub(super) fn clean(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut cleaned, character| {
        if steers(character) {
            cleaned.extend(character.escape_default());
        } else {
            cleaned.push(character);
        }
        cleaned
    })
}

/// A server's JSON as it may reach a terminal: still the same JSON, since what is spelt out can only stand in strings.
pub(super) fn clean_json(json: &str) -> String {
    json.trim_end().chars().fold(String::with_capacity(json.len()), |mut cleaned, character| {
        if steers(character) && !matches!(character, '\n' | '\r' | '\t') {
            cleaned += &format!("\\u{:04x}", u32::from(character));
        } else {
            cleaned.push(character);
        }
        cleaned
    })
}

/// Control characters, and the invisible ones that turn text around or hide in it.
fn steers(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// A value for people. Who and what is written as the audit filters take it, `secret_key:3`, a limit as `--limit` does,
/// `requests=100/1m:20`.
pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => clean(text),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Object(object) => match (object.get("kind"), object.get("id")) {
            (Some(Value::String(kind)), None | Some(Value::Null)) => clean(kind),
            (Some(Value::String(kind)), Some(id)) => format!("{}:{}", clean(kind), cell(id)),
            _ => limit(value).unwrap_or_else(|| clean(&value.to_string())),
        },
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(", "),
    }
}

fn limit(value: &Value) -> Option<String> {
    let (name, period) = (value.get("name")?.as_str()?, value.get("period")?.as_str()?);
    let burst = value.get("burst").and_then(Value::as_u64).map_or_else(String::new, |burst| format!(":{burst}"));
    Some(format!("{}={}/{}{burst}", clean(name), value.get("limit")?.as_u64()?, clean(period)))
}

/// Rows under headings, aligned.
pub(super) fn table(columns: &[Column], rows: &[Value]) -> String {
    let headings = columns.iter().map(|(heading, _)| (*heading).to_owned()).collect();
    let cells = rows.iter().map(|row| columns.iter().map(|(_, field)| cut(cell(&row[field]))).collect());
    let lines: Vec<Vec<String>> = std::iter::once(headings).chain(cells).collect();
    let widths: Vec<_> = (0..columns.len())
        .map(|at| lines.iter().filter_map(|line| line.get(at)).map(|cell| cell.width()).max().unwrap_or_default())
        .collect();
    let lines = lines.iter().enumerate().map(|(number, line)| {
        let padded = line.iter().zip(&widths).map(|(cell, width)| pad(cell, *width));
        let line = padded.collect::<Vec<_>>().join("  ").trim_end().to_owned();
        if number == 0 { format!("{HEADING}{line}{HEADING:#}") } else { line }
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The fields of one object beneath each other.
pub(super) fn details(fields: &Fields) -> String {
    let widest = fields.0.iter().map(|(name, _)| clean(name).width()).max().unwrap_or_default();
    let lines = fields.0.iter().map(|(name, value)| {
        let name = pad(&clean(name), widest);
        format!("{LABEL}{name}{LABEL:#}  {}", cell(value))
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn pad(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(text.width())))
}

fn cut(text: String) -> String {
    if text.width() <= WIDEST_CELL {
        return text;
    }
    let mut short = String::new();
    for character in text.chars() {
        if short.width() >= WIDEST_CELL - 2 {
            break;
        }
        short.push(character);
    }
    short + "…"
}

/// The fields of a JSON object in the order the server wrote them; those of an object within it under a dotted name.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Fields(Vec<(String, Value)>);

impl Fields {
    /// The value of a field.
    pub(super) fn field(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(field, _)| field == name).map(|(_, value)| value)
    }

    /// All but one.
    pub(super) fn without(mut self, name: &str) -> Self {
        self.0.retain(|(field, _)| field != name);
        self
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(InOrder)
    }
}

struct InOrder;

impl<'de> Visitor<'de> for InOrder {
    type Value = Fields;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields = Vec::new();
        while let Some((name, raw)) = map.next_entry::<String, Box<RawValue>>()? {
            let value: Value = serde_json::from_str(raw.get()).map_err(A::Error::custom)?;
            // Who and what fits in one cell.
            if value.is_object() && value.get("kind").is_none() {
                let within: Self::Value = serde_json::from_str(raw.get()).map_err(A::Error::custom)?;
                fields.extend(within.0.into_iter().map(|(inner, value)| (format!("{name}.{inner}"), value)));
            } else {
                fields.push((name, value));
            }
        }
        Ok(Fields(fields))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn plain(styled: &str) -> String {
        anstream::adapter::strip_str(styled).to_string()
    }

    #[test]
    fn nothing_that_steers_a_terminal_is_left() {
        let hostile = "a\u{1b}[31mb\u{9b}2Jc\u{202e}d\ne\u{7f}";
        assert_eq!(clean(hostile), r"a\u{1b}[31mb\u{9b}2Jc\u{202e}d\ne\u{7f}");
        let json = format!("{{\"name\": \"{}\"}}\n", hostile.replace(['\u{1b}', '\n'], ""));
        let cleaned = clean_json(&json);
        assert!(!cleaned.chars().any(steers), "{cleaned}");
        assert_eq!(serde_json::from_str::<Value>(&cleaned).unwrap(), serde_json::from_str::<Value>(&json).unwrap());
        assert_eq!(clean("Zoë 日本 ok"), "Zoë 日本 ok");
    }

    #[test]
    fn a_table_is_aligned_whatever_the_width_of_its_letters() {
        let rows = [
            json!({"id": 1, "name": "日本", "by": {"kind": "host", "id": null}}),
            json!({"id": 20, "name": "x\ty", "by": {"kind": "secret_key", "id": 3}, "more": true}),
            json!({"id": 3, "name": "n".repeat(60), "by": null}),
        ];
        let shown = plain(&table(&[("ID", "id"), ("NAME", "name"), ("BY", "by")], &rows));
        let long = format!("{}…", "n".repeat(46));
        let expected = [
            format!("ID  NAME{}  BY", " ".repeat(43)),
            format!("1   日本{}  host", " ".repeat(43)),
            format!("20  x\\ty{}  secret_key:3", " ".repeat(43)),
            format!("3   {long}  -"),
        ];
        assert_eq!(shown, expected.join("\n"));
    }

    #[test]
    fn details_keep_the_order_of_the_server() {
        let json =
            r#"{"z": {"name": "CI", "id": 4, "value": "hidden"}, "by": {"kind": "host", "id": null}, "a": null}"#;
        let fields: Fields = serde_json::from_str(json).unwrap();
        assert_eq!(fields.field("z.value"), Some(&json!("hidden")));
        assert_eq!(plain(&details(&fields.without("z.value"))), "z.name  CI\nz.id    4\nby      host\na       -");
    }

    #[test]
    fn lists_are_written_as_they_are_given() {
        let limits = json!([
            {"name": "requests", "limit": 100, "period": "1m", "burst": 20},
            {"name": "monthly", "limit": 50_000, "period": "month", "burst": null},
        ]);
        assert_eq!(cell(&limits), "requests=100/1m:20, monthly=50000/month");
        assert_eq!((cell(&json!(["a:read", "b"])), cell(&json!([]))), ("a:read, b".to_owned(), "-".to_owned()));
    }
}
