//! Rate limits at the door: a caller with a valid key is counted on that key, every other on its source address (contract
//! section 6). A valid key is never held back by its address.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};

use axum::extract::{ConnectInfo, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use keyrack::{VerifiedKey, VerifyError};

use super::problem::{Code, Problem};
use crate::app::App;
use crate::clock::Timestamp;
use crate::limits::{Class, Client, Outcome, Verdict, WINDOW_SECONDS};

const CLIENT_TYPE: HeaderName = HeaderName::from_static("x-spotzee-client-type");
const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
const TIER: HeaderName = HeaderName::from_static("x-ratelimit-tier");

/// Counts a call on the key that was verified, also if its role or scope is too small. Who has no valid key is counted
/// when the 401 passes [`Meter::judge`]; if it cannot be told whether the key is valid, nobody is counted.
///
/// # Errors
/// 429 if the key has called too often, whatever the verdict.
pub(super) fn count(app: &App, parts: &Parts, verdict: &Result<VerifiedKey, VerifyError>) -> Result<(), Problem> {
    let key = match verdict {
        Ok(key) => key.id(),
        Err(VerifyError::Denied { denial, key: Some(key) }) if denial.code().status() != 401 => *key,
        Err(VerifyError::Denied { .. } | VerifyError::Unavailable(_)) => return Ok(()),
    };
    let class = match parts.method {
        Method::GET | Method::HEAD | Method::OPTIONS => Class::Reads,
        _ => Class::Writes,
    };
    // A request counts once, however often its caller is asked for.
    let count = || Count::of(app.limiter.count_key(key, class, client(&parts.headers), app.clock.uptime()), app);
    let cell = parts.extensions.get::<Cell>().cloned().unwrap_or_default();
    let outcome = cell.0.get_or_init(count).outcome;
    let calls = match class {
        Class::Reads => "reads",
        Class::Writes => "writes",
    };
    let message = match outcome.verdict {
        Verdict::Admitted => return Ok(()),
        Verdict::SecondSpent { limit, .. } => format!("This key has used up its {limit} {calls} of a second. {WAIT}"),
        Verdict::WindowSpent => {
            format!("This key has used up its {} {calls} of {WINDOW_SECONDS} seconds. {WAIT}", outcome.limit)
        }
    };
    tracing::Span::current().record("key", key.0);
    Err(refused(&outcome, message))
}

const WAIT: &str = "Wait as long as `Retry-After` says.";

fn client(headers: &HeaderMap) -> Client {
    if headers.get(CLIENT_TYPE).is_some_and(|value| value == "mcp") { Client::Mcp } else { Client::Ordinary }
}

fn refused(outcome: &Outcome, message: impl Into<String>) -> Problem {
    Problem::new(Code::RateLimited, message).retry_after(outcome.retry_after_seconds().unwrap_or(1))
}

/// What became of the count of a request's key.
#[derive(Clone, Copy, Debug)]
struct Count {
    outcome: Outcome,
    /// When its window ends, in seconds since 1970, rounded up.
    reset: u64,
}

impl Count {
    fn of(outcome: Outcome, app: &App) -> Self {
        let Timestamp(now) = app.clock.now();
        let ends = u64::try_from(now).unwrap_or(0).saturating_add(outcome.ends_in);
        Self { outcome, reset: ends.div_ceil(1_000_000) }
    }
}

/// Where [`count`] leaves what the reply has to say; travels with the request.
#[derive(Clone, Debug, Default)]
struct Cell(Arc<OnceLock<Count>>);

/// What the outermost layer keeps of a request while that is worked on.
pub(super) struct Meter {
    address: IpAddr,
    key: Cell,
}

impl Meter {
    /// Puts the cell for [`count`] beside a request.
    pub(super) fn attach(request: &mut Request) -> Self {
        let key = Cell::default();
        request.extensions_mut().insert(key.clone());
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
        let address = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |ConnectInfo(peer)| peer.ip());
        Self { address, key }
    }

    /// The problem to answer with instead: every 401 counts on the address it goes to, and is 429 if there were too many.
    pub(super) fn judge(&mut self, app: &App, problem: Problem) -> Problem {
        if problem.status() != 401 {
            return problem;
        }
        // A key that died while its change waited was counted; the reply says no more of that than to any stranger.
        self.key = Cell::default();
        let outcome = app.limiter.count_address(self.address, app.clock.uptime());
        match outcome.verdict {
            Verdict::Admitted => problem,
            Verdict::SecondSpent { .. } | Verdict::WindowSpent => {
                let message = "Too many calls without a valid key came from this address. Send a valid key, or wait as \
                               long as `Retry-After` says.";
                refused(&outcome, message)
            }
        }
    }

    /// Says how much the key has left, if there was one.
    pub(super) fn set_headers(&self, app: &App, headers: &mut HeaderMap) {
        let Some(Count { outcome, reset }) = self.key.0.get() else { return };
        headers.insert(LIMIT, outcome.limit.into());
        headers.insert(REMAINING, outcome.remaining.into());
        headers.insert(RESET, (*reset).into());
        headers.insert(TIER, HeaderValue::from_static(app.limiter.tier().as_str()));
    }
}
