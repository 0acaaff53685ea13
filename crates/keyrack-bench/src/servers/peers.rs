//! Other ways to check a key, each doing nothing else.

use super::{Place, Server, postgres};
use crate::Outcome;

/// The peers, with how many times faster the nginx door is to be.
pub(crate) const GOALS: [(&str, f64); 3] = [
    ("better-auth, API key plugin, SQLite", 150.0),
    ("djangorestframework-api-key, SQLite", 150.0),
    (postgres::NAME, 3.5),
];

/// How many keys each of them holds.
pub(crate) const KEYS: i64 = 500;

/// Starts all of them.
///
/// # Errors
/// If one does not start.
pub(crate) fn start(place: &Place) -> Outcome<Vec<Server>> {
    Ok(vec![postgres::start(place)?])
}
