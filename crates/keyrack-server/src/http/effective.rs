//! What a call that takes something away answers with, besides the thing itself: how far that has reached.

use axum::http::header::HeaderMap;
use serde::Serialize;
use std::time::Duration;
use utoipa::ToSchema;

use crate::store::{Effective, Pending};

/// How long a change waits for other nodes if the caller does not say.
const DEFAULT_PATIENCE: Duration = Duration::from_secs(5);
/// The most that it waits: less than a request may take.
const MOST_PATIENCE: Duration = Duration::from_secs(25);
/// When the reply must be on its way, counted from the request: before that is given up.
const LATEST_REPLY: Duration = Duration::from_secs(28);

/// Where the reach of a change goes when it is known: behind everything else.
const OPEN: &[u8] = b",\"effective\":null}";

/// How long to wait, by `Prefer: wait=SECONDS` (RFC 7240, section 4.3). What is no such preference is not heeded, as that says.
pub(super) fn patience(headers: &HeaderMap) -> Duration {
    let preferences = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    let mut waits = preferences.flat_map(|value| value.split(',')).filter_map(|preference| {
        let (name, seconds) = preference.split(';').next()?.split_once('=')?;
        let seconds = seconds.trim().trim_matches('"').parse::<u32>().ok()?;
        name.trim().eq_ignore_ascii_case("wait").then(|| Duration::from_secs(seconds.into()))
    });
    waits.next().unwrap_or(DEFAULT_PATIENCE).min(MOST_PATIENCE)
}

/// How long a change still waits for other nodes that was asked for so long ago: whoever made it must also be told so in time.
pub(super) fn patience_left(patience: Duration, spent: Duration) -> Duration {
    patience.min(LATEST_REPLY.saturating_sub(spent))
}

/// Leaves room in a JSON object for how far it has reached.
pub(super) fn leave_open(body: &mut Vec<u8>) {
    if body.pop_if(|last| *last == b'}').is_some() {
        body.extend_from_slice(OPEN);
    }
}

/// Whether room was left. No text that a body holds can look like it: its quotes would be escaped.
pub(super) fn is_open(body: &[u8]) -> bool {
    body.ends_with(OPEN)
}

/// Says how far it has reached, where room was left for it.
pub(super) fn close(body: &mut Vec<u8>, effective: &Effective) {
    if !is_open(body) {
        return;
    }
    body.truncate(body.len() - OPEN.len());
    let reach = match effective {
        Effective::All => Reach { effective: "all", pending: None },
        Effective::Partial(pending) => {
            let until = |one: &Pending| one.until.as_ref().map(ToString::to_string);
            let pending = pending.iter().map(|one| PendingNode { node: one.node.clone(), until: until(one) });
            Reach { effective: "partial", pending: Some(pending.collect()) }
        }
    };
    let reach = serde_json::to_vec(&reach).expect("it is plain data");
    body.push(b',');
    body.extend_from_slice(reach.get(1..).unwrap_or_default());
}

/// How far a change has reached.
#[derive(Serialize, ToSchema)]
struct Reach {
    /// `all`: no node answers any more as if it had not been made. `partial`: some may.
    #[schema(example = "all", required = false)]
    effective: &'static str,
    /// With `partial`: which. Others too if it cannot be told at this moment which nodes there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pending: Option<Vec<PendingNode>>,
}

/// A node that may not have heard of a change yet.
#[derive(Serialize, ToSchema)]
struct PendingNode {
    /// Which one.
    #[schema(example = "node_7vq2x4ma")]
    node: String,
    /// When it answers nothing any more unless it has heard of the change. Not there if that cannot be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "2026-04-28T09:30:00.000Z", format = DateTime, required = false, nullable = false)]
    until: Option<String>,
}

/// Something, and how far a change to it has reached; that is said of what takes something away.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its description is used: the reach is added when the change is everywhere")]
pub(super) struct Reached<T> {
    #[schema(inline)]
    #[serde(flatten)]
    what: T,
    #[serde(flatten)]
    reach: Reach,
}

/// Something that was archived, and how many keys died with it.
#[derive(Serialize, ToSchema)]
pub(super) struct Archived<T> {
    #[serde(flatten)]
    what: T,
    /// How many live keys were revoked.
    #[schema(example = 12)]
    revoked_keys: i64,
}

impl<T> Archived<T> {
    /// Archived, with so many keys.
    pub(super) const fn with(what: T, revoked_keys: i64) -> Self {
        Self { what, revoked_keys }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    fn closed(body: &str, effective: &Effective) -> String {
        let mut body = body.as_bytes().to_vec();
        leave_open(&mut body);
        assert!(is_open(&body));
        close(&mut body, effective);
        String::from_utf8(body).unwrap()
    }

    #[test]
    fn the_reach_stands_behind_everything_else() {
        assert_eq!(closed(r#"{"id":1}"#, &Effective::All), r#"{"id":1,"effective":"all"}"#);
        let pending = vec![Pending { node: "node_a".to_owned(), until: Some(Timestamp(0)) }];
        let expected =
            r#"{"id":1,"effective":"partial","pending":[{"node":"node_a","until":"1970-01-01T00:00:00.000Z"}]}"#;
        assert_eq!(closed(r#"{"id":1}"#, &Effective::Partial(pending)), expected);
    }

    #[test]
    fn a_value_that_looks_like_it_is_left_alone() {
        let body = serde_json::to_vec(&serde_json::json!({"name": ",\"effective\":null}"})).unwrap();
        assert!(!is_open(&body));
        let mut same = body.clone();
        close(&mut same, &Effective::All);
        assert_eq!(same, body);
    }

    #[test]
    fn a_preference_is_a_number_of_seconds() {
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("prefer", axum::http::HeaderValue::from_static(value));
            }
            patience(&headers).as_secs()
        };
        assert_eq!(of(&[]), 5);
        assert_eq!(of(&["wait=2"]), 2);
        assert_eq!(of(&["return=minimal", "respond-async, Wait=\"0\"; x=y"]), 0);
        assert_eq!(of(&["wait=900"]), 25);
        assert_eq!(of(&["wait=soon"]), 5);
    }

    #[test]
    fn who_waited_for_his_turn_waits_less_for_others() {
        let seconds = Duration::from_secs;
        assert_eq!(patience_left(seconds(5), seconds(1)), seconds(5));
        assert_eq!(patience_left(seconds(25), seconds(24)), seconds(4));
        assert_eq!(patience_left(seconds(25), seconds(40)), seconds(0));
    }
}
