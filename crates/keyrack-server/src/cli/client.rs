//! Calls to a server: one key, one URL, bounded in time and size, repeated only where that is safe.

use std::io::ErrorKind::{ConnectionRefused, HostUnreachable, InvalidData, NetworkUnreachable};
use std::thread::sleep;
use std::time::Duration;

use data_encoding::HEXLOWER;
use keyrack::ApiKey;
use serde::Deserialize;
use serde_json::Value;
use ureq::http::{Method, Request, Response};
use ureq::tls::{Certificate, TlsConfig};
use ureq::{Agent, Body};

use super::exit::{Exit, Failure};
use super::output::clean;
use super::progress::Progress;
use super::url::ServerUrl;
use crate::random::{self, OsRandom};

const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
const CALL_DEADLINE: Duration = Duration::from_secs(60);
/// Far above the largest page there is.
const MOST_REPLY_BYTES: u64 = 16 * 1024 * 1024;
/// How long is waited before each further try.
const DELAYS: [Duration; 3] = [Duration::from_millis(200), Duration::from_millis(400), Duration::from_millis(800)];
/// Longest that a server's `Retry-After` is obeyed; a person can do the rest.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(5);
const NOT_KNOWN: &str = "It is not known whether it was done: look before you repeat it.";

/// A server, and the key to call it with.
pub(super) struct Client {
    agent: Agent,
    url: ServerUrl,
    key: ApiKey,
}

/// A reply, whatever its status.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) text: String,
    retry_after: Option<Duration>,
    request_id: Option<String>,
    location: Option<String>,
}

/// What the server says of a call that did not succeed (contract section 5).
#[derive(Default, Deserialize)]
#[serde(default)]
struct Problem {
    code: String,
    message: String,
    request_id: String,
    errors: Vec<Fault>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Fault {
    param: String,
    message: String,
}

/// Why there is no whole reply.
enum Broken {
    /// Nothing was sent.
    NotReached(String),
    /// Something was sent, and nobody knows what became of it.
    CutOff(String),
    /// The time is over, and nobody knows what became of it.
    TooSlow(String),
    /// Another try would end the same way.
    Hopeless(String),
}

impl Client {
    /// Prepares calls; nothing is sent yet.
    pub(super) fn new(url: ServerUrl, key: ApiKey) -> Result<Self, Failure> {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            // Another host must not see the key, and a management API does not move.
            .max_redirects(0)
            .timeout_connect(Some(CONNECT_DEADLINE))
            .timeout_global(Some(CALL_DEADLINE))
            .user_agent(concat!("keyrack/", env!("CARGO_PKG_VERSION")))
            .accept("application/json");
        if url.is_loopback() {
            // What is meant for this machine does not pass through another one.
            config = config.proxy(None);
        }
        if url.is_https() {
            config = config.tls_config(tls()?);
        }
        Ok(Self { agent: config.build().into(), url, key })
    }

    /// The key, when the calls are done.
    pub(super) fn into_key(self) -> ApiKey {
        self.key
    }

    /// Calls and wants success.
    pub(super) fn call(&self, method: &Method, path: &str, body: Option<&Value>) -> Result<Reply, Failure> {
        let progress = Progress::spinner("Waiting for the server");
        let reply = self.exchange(method, path, body);
        drop(progress);
        let reply = reply?;
        if reply.is_success() { Ok(reply) } else { Err(self.refusal(&reply, method)) }
    }

    /// Calls, and takes any reply. Repeated on broken connections and where the server asks for it; a delete is not,
    /// because the second one would say that there is nothing to delete.
    pub(super) fn exchange(&self, method: &Method, path: &str, body: Option<&Value>) -> Result<Reply, Failure> {
        let idempotency_key =
            matches!(*method, Method::POST | Method::PATCH).then(|| HEXLOWER.encode(&random::bytes::<16>(&OsRandom)));
        let mut delays = DELAYS.into_iter();
        loop {
            let outcome = self.once(method, path, body, idempotency_key.as_deref());
            match (
                outcome.as_ref().map_or_else(|broken| broken.wait(method), |reply| reply.wait(method)),
                delays.next(),
            ) {
                (Some(wait), Some(delay)) => sleep(wait.max(delay)),
                _ => return outcome.map_err(|broken| self.failure(broken, method)),
            }
        }
    }

    fn once(&self, method: &Method, path: &str, body: Option<&Value>, repeats: Option<&str>) -> Result<Reply, Broken> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("Authorization", format!("Bearer {}", self.key.expose()));
        if let Some(key) = repeats {
            request = request.header("Idempotency-Key", key);
        }
        if body.is_some() {
            request = request.header("Content-Type", "application/json");
        }
        let sends_body = !matches!(*method, Method::GET | Method::DELETE);
        let sent = if sends_body {
            let text = body.map(Value::to_string).unwrap_or_default();
            request.body(text).map_err(ureq::Error::from).and_then(|request| self.agent.run(request))
        } else {
            request.body(()).map_err(ureq::Error::from).and_then(|request| self.agent.run(request))
        };
        sent.and_then(Reply::read).map_err(|error| Broken::of(&error))
    }

    fn failure(&self, broken: Broken, method: &Method) -> Failure {
        let url = &self.url;
        let message = match broken {
            Broken::NotReached(why) => {
                format!("the server is not reachable at {url} ({why}). Is it running? Start it with: keyrack serve")
            }
            Broken::CutOff(why) | Broken::TooSlow(why) if *method == Method::GET => {
                format!("the server at {url} gave no whole answer ({why})")
            }
            Broken::CutOff(why) | Broken::TooSlow(why) => {
                format!("the server at {url} gave no whole answer ({why}). {NOT_KNOWN}")
            }
            Broken::Hopeless(why) => format!("cannot talk to {url}: {why}"),
        };
        Failure::new(Exit::Unavailable, message)
    }

    /// What a reply that is no success means, with all that the server says of it.
    pub(super) fn refusal(&self, reply: &Reply, method: &Method) -> Failure {
        let (url, status) = (&self.url, reply.status);
        if (300..400).contains(&status) {
            let to = reply.location.as_deref().map(|to| format!(" to {}", clean(to))).unwrap_or_default();
            let message = format!("{url} redirects{to}, which is not followed with a key: is the URL right?");
            return Failure::new(Exit::Unavailable, message);
        }
        let problem = serde_json::from_str::<Problem>(&reply.text).unwrap_or_default();
        if problem.message.is_empty() {
            let message = format!("{url} answers {status}, and not as Keyrack does: is the URL right?");
            return Failure::new(Exit::of_status(status), message);
        }
        let mut message = clean(&problem.message);
        for Fault { param, message: fault } in &problem.errors {
            message += &format!("\n  {}: {}", clean(param), clean(fault));
        }
        if status >= 500 && *method != Method::GET {
            message += &format!("\n  {NOT_KNOWN}");
        }
        let id = if problem.request_id.is_empty() { reply.request_id.as_deref() } else { Some(&*problem.request_id) };
        message += &format!("\n  code {}, request {}", clean(&problem.code), clean(id.unwrap_or("-")));
        Failure::new(Exit::of_status(status), message)
    }
}

impl Reply {
    fn read(mut response: Response<Body>) -> Result<Self, ureq::Error> {
        let header = |name: &str| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
        let retry_after = header("Retry-After").and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
        let (request_id, location) = (header("X-Request-Id"), header("Location"));
        let status = response.status().as_u16();
        let text = response.body_mut().with_config().limit(MOST_REPLY_BYTES).read_to_string()?;
        Ok(Self { status, text, retry_after, request_id, location })
    }

    pub(super) const fn is_success(&self) -> bool {
        matches!(self.status, 200..300)
    }

    /// The body as JSON.
    pub(super) fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Failure> {
        serde_json::from_str(&self.text).map_err(|_not_repeated_since_it_may_hold_a_secret| {
            Failure::new(Exit::Unavailable, "what answers there does not answer as Keyrack does: is the URL right?")
        })
    }

    /// What the server says of a change that the state of things does not allow.
    pub(super) fn state_conflict(&self) -> Option<String> {
        let problem = serde_json::from_str::<Problem>(&self.text).ok()?;
        (self.status == 409 && problem.code == "state_conflict").then_some(problem.message)
    }

    /// How long to wait before the next try; `None` if there is to be none.
    fn wait(&self, method: &Method) -> Option<Duration> {
        let is_worth_it = match self.status {
            429 => self.retry_after.is_some(),
            503 => *method != Method::DELETE,
            409 => serde_json::from_str(&self.text).is_ok_and(|it: Problem| it.code == "idempotency_in_progress"),
            _ => false,
        };
        let wait = self.retry_after.unwrap_or_default();
        (is_worth_it && wait <= LONGEST_RETRY_AFTER).then_some(wait)
    }
}

impl Broken {
    fn of(error: &ureq::Error) -> Self {
        use ureq::{Error, Timeout};
        let text = clean(&error.to_string());
        if let Error::Io(io) = error {
            let kind = io.kind();
            return if matches!(kind, ConnectionRefused | HostUnreachable | NetworkUnreachable) {
                Self::NotReached(clean(&io.to_string()))
            } else if kind == InvalidData {
                // What is not valid TLS does not become so.
                Self::Hopeless(text)
            } else {
                Self::CutOff(text)
            };
        }
        let connecting = matches!(error, Error::Timeout(Timeout::Connect | Timeout::Resolve));
        if connecting || matches!(error, Error::HostNotFound | Error::ConnectionFailed) {
            Self::NotReached(text)
        } else if matches!(error, Error::Timeout(_)) {
            Self::TooSlow(text)
        } else if matches!(error, Error::Protocol(_) | Error::BodyStalled) {
            Self::CutOff(text)
        } else {
            Self::Hopeless(text)
        }
    }

    fn wait(&self, method: &Method) -> Option<Duration> {
        match self {
            Self::NotReached(_) => Some(Duration::ZERO),
            Self::CutOff(_) => (*method != Method::DELETE).then_some(Duration::ZERO),
            Self::TooSlow(_) | Self::Hopeless(_) => None,
        }
    }
}

/// The certificates that this machine trusts: a server of one's own often has a certificate of one's own.
fn tls() -> Result<TlsConfig, Failure> {
    // Whoever was first has set the same one.
    rustls::crypto::ring::default_provider().install_default().ok();
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        let message =
            format!("this machine trusts no certificates{why}: install ca-certificates, or set SSL_CERT_FILE");
        return Err(Failure::new(Exit::Local, message));
    }
    let roots = found.certs.iter().map(|certificate| Certificate::from_der(certificate).to_owned());
    Ok(TlsConfig::builder().root_certs(roots.into()).build())
}
