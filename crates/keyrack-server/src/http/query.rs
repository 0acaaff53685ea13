//! The query of a list (contract section 6).

use super::path::plain_number;
use super::problem::{Code, Problem};
use crate::actor::ActorKind;
use crate::clock::Timestamp;
use crate::kept::{Kind, Tenant};
use crate::listing::{
    ALL, AuditFilter, Cursors, DEFAULT_LIMIT, Direction, List, Listing, MOST_ROWS, MOST_ROWS_OF_ALL, Page, Sort,
};
use crate::usage::{BadRange, MOST_DAYS, Range, Step};

/// Longest text that is searched for, in characters.
const MOST_SEARCH_CHARACTERS: usize = 100;
const LIST: [&str; 6] = ["cursor", "page", "limit", "sort", "direction", "q"];
const AUDIT: [&str; 10] =
    ["cursor", "page", "limit", "sort", "direction", "actor", "action", "target", "since", "until"];

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
pub(super) fn list(query: Option<&str>, list: &List, cursors: &Cursors) -> Result<ListQuery, Problem> {
    let [cursor, page, limit, sort, direction, q] = values(query, LIST)?;
    let limit = self::limit(limit.as_deref())?;
    let listing = Listing {
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
    let message = "Use a cursor as it came, with the same sort, direction and q.";
    let listing = anchored(listing, cursor.as_deref(), list, cursors, message)?;
    Ok(ListQuery { listing, limit })
}

/// Reads the query of an audit log, for a tenant.
///
/// # Errors
/// A problem that names the first value that is wrong.
pub(super) fn audit(query: Option<&str>, tenant: Tenant, cursors: &Cursors) -> Result<(List, ListQuery), Problem> {
    let [cursor, page, limit, sort, direction, actor, action, target, since, until] = values(query, AUDIT)?;
    let limit = self::limit(limit.as_deref())?;
    let sorts = [("created_at", Sort::CreatedAt), ("id", Sort::Id)];
    let listing = Listing {
        sort: word("sort", sort.as_deref(), &sorts)?.unwrap_or(Sort::CreatedAt),
        direction: word("direction", direction.as_deref(), &Direction::ALL)?.unwrap_or(Direction::Desc),
        q: String::new(),
        anchor: None,
        page: word("page", page.as_deref(), &Page::ALL)?.unwrap_or(Page::Next),
        rows_to_show: usize::try_from(limit).unwrap_or(MOST_ROWS_OF_ALL),
    };
    let filter = AuditFilter {
        tenant,
        actor: reference("actor", actor.as_deref(), &ActorKind::ALL.map(|kind| (kind.as_str(), kind)))?,
        action: action.map(checked_action).transpose()?,
        target: reference("target", target.as_deref(), &Kind::ALL.map(|kind| (kind.as_str(), kind)))?,
        since: time("since", since.as_deref())?,
        until: time("until", until.as_deref())?,
    };
    let list = List::Audit(filter);
    let message = "Use a cursor as it came, with the same sort, direction and filters.";
    let listing = anchored(listing, cursor.as_deref(), &list, cursors, message)?;
    Ok((list, ListQuery { listing, limit }))
}

/// Reads which time a usage is asked for; without a word the last 24 hours.
///
/// # Errors
/// A problem that names the value that is wrong.
pub(super) fn usage(query: Option<&str>, now: Timestamp) -> Result<Range, Problem> {
    let [from, to, step] = values(query, ["from", "to", "step"])?;
    let step = word("step", step.as_deref(), &Step::ALL)?.unwrap_or(Step::Hour);
    let to = time("to", to.as_deref())?.unwrap_or(now);
    let from = time("from", from.as_deref())?.unwrap_or_else(|| to.plus_seconds(-86_400));
    Range::new(from, to, step).map_err(|bad| match bad {
        BadRange::OutOfTime => wrong("from", "Send times from 1970 to 9997."),
        BadRange::Empty => wrong("from", "Send a time before `to`, which is now if left out."),
        BadRange::TooLong => wrong("from", &format!("Ask for at most {MOST_DAYS} days at once.")),
    })
}

/// Reads `confirm`: only `true` confirms.
///
/// # Errors
/// A problem for anything else.
pub(super) fn is_confirmed(query: Option<&str>) -> Result<bool, Problem> {
    let [confirm] = values(query, ["confirm"])?;
    match confirm.as_deref() {
        None => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(wrong("confirm", "Send `true`, or leave it out.")),
    }
}

/// The values of a query, each at most once, in the order of their names.
fn values<const N: usize>(query: Option<&str>, known: [&str; N]) -> Result<[Option<String>; N], Problem> {
    let mut values: [Option<String>; N] = std::array::from_fn(|_| None);
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        let slot = known.iter().zip(&mut values).find(|(known, _)| **known == name);
        let Some((known, slot)) = slot else {
            let message = format!("Unknown query value. This call knows: {}.", known.join(", "));
            return Err(Problem::param(Code::ParameterUnknown, "query", message));
        };
        if slot.replace(value.into_owned()).is_some() {
            return Err(wrong(known, "Send it once."));
        }
    }
    Ok(values)
}

/// The listing with the place that its cursor names.
fn anchored(
    mut listing: Listing,
    cursor: Option<&str>,
    list: &List,
    cursors: &Cursors,
    message: &str,
) -> Result<Listing, Problem> {
    match cursor {
        Some(cursor) => {
            let anchor = cursors.read(list, &listing, cursor).ok_or_else(|| wrong("cursor", message))?;
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
    Ok(listing)
}

/// `KIND`, or `KIND:NUMBER`.
fn reference<T: Copy>(
    param: &str,
    text: Option<&str>,
    known: &[(&str, T)],
) -> Result<Option<(T, Option<i64>)>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let (kind, id) = text.split_once(':').map_or((text, None), |(kind, id)| (kind, Some(id)));
    let words: Vec<_> = known.iter().map(|(word, _)| *word).collect();
    let message = format!("Send one of: {}; behind it, if you like, `:` and a number.", words.join(", "));
    let kind = known.iter().find(|(word, _)| *word == kind).map(|(_, kind)| *kind);
    let id = id.map(|id| plain_number(id).ok_or(()));
    match (kind, id.transpose()) {
        (Some(kind), Ok(id)) => Ok(Some((kind, id))),
        (None | Some(_), _) => Err(wrong(param, &message)),
    }
}

fn checked_action(action: String) -> Result<String, Problem> {
    let is_action = action.bytes().all(|byte| byte.is_ascii_lowercase() || b"._".contains(&byte));
    if is_action && (1..=64).contains(&action.len()) {
        Ok(action)
    } else {
        Err(wrong("action", "Send a kind of thing and what was done to it, such as `key.create`."))
    }
}

fn time(param: &str, text: Option<&str>) -> Result<Option<Timestamp>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let time = Timestamp::parse(text);
    time.map(Some).ok_or_else(|| wrong(param, "Send a time such as 2026-04-28T09:30:00Z."))
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
