//! The query of a list (contract section 6).

use keyrack::ProjectId;

use super::problem::{Code, Problem};
use crate::listing::{ALL, Cursors, DEFAULT_LIMIT, Direction, Listing, MOST_ROWS, MOST_ROWS_OF_ALL, Page, Sort};

/// Longest text that is searched for, in characters.
const MOST_SEARCH_CHARACTERS: usize = 255;
const KNOWN: [&str; 6] = ["cursor", "page", "limit", "sort", "direction", "q"];

/// A list as it was asked for.
#[derive(Debug)]
pub(super) struct ListQuery {
    /// Which rows.
    pub listing: Listing,
    /// The `limit` as it was asked for.
    pub limit: i64,
}

/// Reads the query of a list.
///
/// # Errors
/// A problem that names the first value that is wrong.
pub(super) fn list(query: Option<&str>, project: ProjectId, cursors: &Cursors) -> Result<ListQuery, Problem> {
    let mut values: [Option<String>; KNOWN.len()] = Default::default();
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        let slot = KNOWN.iter().zip(&mut values).find(|(known, _)| **known == name);
        let Some((known, slot)) = slot else {
            let message = format!("Unknown query value. This call knows: {}.", KNOWN.join(", "));
            return Err(Problem::param(Code::ParameterUnknown, "query", message));
        };
        if slot.replace(value.into_owned()).is_some() {
            return Err(wrong(known, "Send it once."));
        }
    }
    let [cursor, page, limit, sort, direction, q] = values;
    let limit = self::limit(limit.as_deref())?;
    let mut listing = Listing {
        sort: word("sort", sort.as_deref(), &Sort::ALL)?.unwrap_or(Sort::CreatedAt),
        direction: word("direction", direction.as_deref(), &Direction::ALL)?.unwrap_or(Direction::Desc),
        q: q.unwrap_or_default(),
        anchor: None,
        page: word("page", page.as_deref(), &Page::ALL)?.unwrap_or(Page::Next),
        rows_to_show: usize::try_from(limit).unwrap_or(MOST_ROWS_OF_ALL),
    };
    if listing.q.chars().count() > MOST_SEARCH_CHARACTERS || listing.q.contains('\0') {
        return Err(wrong(
            "q",
            &format!("Search for at most {MOST_SEARCH_CHARACTERS} characters, none of them U+0000."),
        ));
    }
    match cursor {
        Some(cursor) => {
            let message = "Use a cursor as it came, with the same sort, direction and q.";
            let anchor = cursors.read(project, &listing, &cursor).ok_or_else(|| wrong("cursor", message))?;
            listing.anchor = Some(anchor);
        }
        None if listing.page == Page::Prev => {
            return Err(Problem::param(
                Code::ParameterMissing,
                "cursor",
                "`page=prev` needs the `prevCursor` of a reply.",
            ));
        }
        None => {}
    }
    Ok(ListQuery { listing, limit })
}

fn limit(text: Option<&str>) -> Result<i64, Problem> {
    let Some(text) = text else { return Ok(DEFAULT_LIMIT) };
    match text.parse::<i64>() {
        Ok(limit) if limit.to_string() == text && (limit == ALL || (1..=MOST_ROWS).contains(&limit)) => Ok(limit),
        Ok(_) | Err(_) => Err(wrong("limit", &format!("Send 1 to {MOST_ROWS}, or {ALL} for all."))),
    }
}

fn word<T: Copy>(param: &str, text: Option<&str>, known: &[(&str, T)]) -> Result<Option<T>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let found = known.iter().find(|(word, _)| *word == text);
    let words: Vec<_> = known.iter().map(|(word, _)| *word).collect();
    found.map(|(_, value)| Some(*value)).ok_or_else(|| wrong(param, &format!("Send one of: {}.", words.join(", "))))
}

fn wrong(param: &str, message: &str) -> Problem {
    Problem::param(Code::ParameterInvalidFormat, param, message)
}
