//! What holds for every request and every reply, whatever the route (contract section 6).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, HeaderName, TRANSFER_ENCODING};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use keyrack::feed;
use tracing::Instrument as _;
use tracing::field::Empty;

use super::limits::Meter;
use super::problem::{Code, Problem};
use crate::app::App;
use crate::random;

/// The only version there is, and so the default.
pub(super) const VERSION: &str = "2026-04-28";
/// Longest that a request is worked on. What it changes is finished even if the reply comes too late.
const REPLY_DEADLINE: Duration = Duration::from_secs(30);

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const SPOTZEE_VERSION: HeaderName = HeaderName::from_static("spotzee-version");

/// `req_` and 26 Crockford characters, new for every request; a client's own is not reused.
#[derive(Clone, Debug)]
pub(super) struct RequestId(Arc<str>);

impl RequestId {
    fn new(random: &dyn random::Random) -> Self {
        const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
        let drawn: [u8; 26] = random::bytes(random);
        let characters = drawn.iter().filter_map(|byte| ALPHABET.get(usize::from(byte & 31)));
        Self("req_".chars().chain(characters.map(|byte| char::from(*byte))).collect::<String>().into())
    }

    /// The id of a request that came through [`apply`].
    pub(super) fn of(parts: &Parts) -> Self {
        parts.extensions.get::<Self>().cloned().unwrap_or_else(|| Self("req_".into()))
    }

    /// The id as text.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Gives the request its id, checks its version, holds it to its deadline and its limit, renders problems, dresses the
/// reply, and writes the one line of the access log: method, route, status, time; never a header, query or body.
pub(super) async fn apply(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = RequestId::new(app.random.as_ref());
    request.extensions_mut().insert(id.clone());
    let mut meter = Meter::attach(&mut request);
    let route = request.extensions().get::<MatchedPath>().map_or("-", MatchedPath::as_str).to_owned();
    let method = known_method(request.method());
    let is_change =
        matches!(method, "POST" | "PUT" | "PATCH" | "DELETE") && route.starts_with("/api/") && route != feed::NEWS;
    let span = tracing::info_span!("request", id = id.as_str(), key = Empty, denied = Empty);

    let answer = async {
        if let Err(problem) = check_framing(request.headers()).and_then(|()| check_version(request.headers())) {
            return problem.into_response();
        }
        let late = "The request took too long. If it asked for a change, read the key to see whether it was made.";
        match tokio::time::timeout(REPLY_DEADLINE, next.run(request)).await {
            Ok(response) => response,
            Err(_elapsed) => Problem::unavailable(late).into_response(),
        }
    };
    let mut response = answer.instrument(span.clone()).await;
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        // What the route set beside the problem stays, such as `Allow` on 405.
        let allow = response.headers_mut().remove(ALLOW);
        let problem = meter.judge(&app, problem);
        response = problem.render(&app.problem_types, id.as_str());
        response.headers_mut().extend(allow.map(|allow| (ALLOW, allow)));
    }
    set_headers(response.headers_mut(), &id);
    meter.set_headers(&app, response.headers_mut());
    if is_change && response.status().is_client_error() {
        app.refused_changes.fetch_add(1, Ordering::Relaxed);
    }
    let (status, took_us) = (response.status().as_u16(), started.elapsed().as_micros());
    span.in_scope(|| match status {
        // Several times a second from each follower.
        200 if route == feed::NEWS => tracing::debug!(method, route, status, took_us, "answered"),
        _ => tracing::info!(method, route, status, took_us, "answered"),
    });
    response
}

fn set_headers(headers: &mut HeaderMap, id: &RequestId) {
    if let Ok(id) = HeaderValue::from_str(id.as_str()) {
        headers.insert(X_REQUEST_ID, id);
    }
    headers.insert(SPOTZEE_VERSION, HeaderValue::from_static(VERSION));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
}

/// What is logged of a method: a caller may send anything, a key included.
fn known_method(method: &Method) -> &'static str {
    let known = ["GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS"];
    known.into_iter().find(|known| *known == method.as_str()).unwrap_or("-")
}

/// Two lengths for one body are how requests are smuggled past a proxy (RFC 9112, section 6.3).
fn check_framing(headers: &HeaderMap) -> Result<(), Problem> {
    if headers.contains_key(CONTENT_LENGTH) && headers.contains_key(TRANSFER_ENCODING) {
        let message = "Send `Content-Length` or `Transfer-Encoding`, not both.";
        return Err(Problem::param(Code::ParameterInvalidFormat, "Content-Length", message));
    }
    Ok(())
}

fn check_version(headers: &HeaderMap) -> Result<(), Problem> {
    let mut values = headers.get_all(SPOTZEE_VERSION).iter();
    let malformed = |message| Problem::param(Code::ParameterInvalidFormat, "Spotzee-Version", message);
    match (values.next(), values.next()) {
        (None, _) => Ok(()),
        (Some(_), Some(_)) => Err(malformed("Send `Spotzee-Version` once.")),
        (Some(value), None) if value == VERSION => Ok(()),
        (Some(value), None) => {
            let is_date =
                value.to_str().is_ok_and(|text| text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok());
            if is_date {
                let message = format!("The only version is {VERSION}. Send that, or no `Spotzee-Version` at all.");
                Err(Problem::param(Code::VersionUnsupported, "Spotzee-Version", message))
            } else {
                Err(malformed("Send `Spotzee-Version` as a date, such as 2026-04-28."))
            }
        }
    }
}
