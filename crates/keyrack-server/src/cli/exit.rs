//! How a command ends: one code for each class of failure, and the error that carries it.

use std::error::Error;
use std::fmt;

/// The exit code of a command that did not do what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Something on this machine.
    Local = 1,
    /// The command line; clap's own code.
    Usage = 2,
    /// No key, or none that the server knows.
    NotAuthenticated = 3,
    /// The key does not reach so far.
    NotPermitted = 4,
    /// Nothing there.
    NotFound = 5,
    /// What is there does not allow it.
    Conflict = 6,
    /// The server refuses what was sent.
    Refused = 7,
    /// Too much, too fast.
    RateLimited = 8,
    /// No answer, or none that can be used.
    Unavailable = 9,
    /// The question was answered with no.
    Declined = 10,
}

/// Every code with what it means, as `keyrack --help` says it.
const MEANINGS: [(Exit, &str); 10] = [
    (Exit::Local, "failed on this machine; also: `policy diff` found a difference, `policy test` a failed case"),
    (Exit::Usage, "wrong use of the command line"),
    (Exit::NotAuthenticated, "not authenticated: no key for this, or the server does not accept it (401)"),
    (Exit::NotPermitted, "not permitted: the key does not reach so far (403)"),
    (Exit::NotFound, "not found (404)"),
    (Exit::Conflict, "conflict with what is there (409)"),
    (Exit::Refused, "the server refused what was sent (400, 413, 415, 422)"),
    (Exit::RateLimited, "rate limited (429)"),
    (Exit::Unavailable, "server or network unavailable (5xx, no connection)"),
    (Exit::Declined, "the question was answered with no"),
];

/// The part of the help that lists the codes.
pub(super) fn help() -> String {
    let mut text = String::from("Exit codes:\n   0  done\n");
    for (exit, meaning) in MEANINGS {
        text += &format!("  {:>2}  {meaning}\n", exit as u8);
    }
    text
}

impl Exit {
    /// What the status of a reply that is not a success means.
    pub(super) const fn of_status(status: u16) -> Self {
        match status {
            401 => Self::NotAuthenticated,
            403 => Self::NotPermitted,
            404 => Self::NotFound,
            409 => Self::Conflict,
            429 => Self::RateLimited,
            400 | 405 | 413 | 415 | 422 => Self::Refused,
            _ => Self::Unavailable,
        }
    }

    /// The code of any error a command ended with.
    pub fn of(error: &(dyn Error + 'static)) -> Self {
        error.downcast_ref::<Failure>().map_or(Self::Local, |failure| failure.exit)
    }
}

/// Why a command failed, for people, and its exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) exit: Exit,
    message: String,
}

impl Failure {
    /// A failure; the message may hold several lines and must hold no secret.
    pub(super) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)
    }
}

impl Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_lists_every_code_once_and_in_order() {
        let codes: Vec<_> = MEANINGS.iter().map(|(exit, _)| *exit as u8).collect();
        assert_eq!(codes, (1..=10).collect::<Vec<u8>>());
        assert_eq!(help().lines().count(), 12);
    }

    #[test]
    fn every_status_has_its_class() {
        let classes = [(401, 3), (403, 4), (404, 5), (409, 6), (400, 7), (413, 7), (415, 7), (422, 7), (429, 8)];
        for (status, code) in classes.into_iter().chain([(500, 9), (503, 9), (301, 9), (200, 9)]) {
            assert_eq!(Exit::of_status(status) as u8, code, "{status}");
        }
        let other: Box<dyn Error> = "else".into();
        assert_eq!(Exit::of(other.as_ref()), Exit::Local);
    }
}
