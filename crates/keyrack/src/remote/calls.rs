//! What a follower asks its server, over HTTP.

use std::io::{BufRead, BufReader};
use std::sync::Arc;
use std::time::Duration;

use ureq::http::Response;
use ureq::tls::{Certificate, TlsConfig};
use ureq::{Agent, Body};

use super::RemoteError;
use crate::ApiKey;
use crate::feed::{Ask, LEAVE, NEWS, SNAPSHOT, Told};

const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// For an answer that is small; a lease would be over by then.
const CALL_DEADLINE: Duration = Duration::from_secs(10);
/// For a snapshot of many millions of keys.
const SNAPSHOT_DEADLINE: Duration = Duration::from_secs(600);
/// Far above what a server tells at once.
const MOST_NEWS_BYTES: u64 = 64 << 20;

/// Far above what a server says is wrong.
const MOST_PROBLEM_BYTES: u64 = 64 << 10;

/// What a server says is wrong (RFC 9457, as the management API has it).
#[derive(serde::Deserialize)]
struct Problem {
    message: String,
}

/// A server, and the key to ask it with.
pub(super) struct Calls {
    agent: Agent,
    url: String,
    key: ApiKey,
}

impl Calls {
    pub(super) fn new(url: String, key: ApiKey) -> Result<Self, RemoteError> {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // Another host must not see the key.
            .max_redirects(0)
            .proxy(None)
            .timeout_connect(Some(CONNECT_DEADLINE))
            .user_agent(concat!("keyrack-follower/", env!("CARGO_PKG_VERSION")));
        let config = if url.starts_with("https://") { config.tls_config(tls()?) } else { config };
        Ok(Self { agent: config.build().into(), url, key })
    }

    /// Everything there is, line by line.
    pub(super) fn snapshot(&self) -> Result<impl BufRead + use<>, RemoteError> {
        let asked = self.agent.get(format!("{}{SNAPSHOT}", self.url)).header("Authorization", self.bearer());
        let asked = asked.config().timeout_global(Some(SNAPSHOT_DEADLINE)).build();
        let answer = self.usable(asked.call())?;
        Ok(BufReader::new(answer.into_body().into_with_config().limit(u64::MAX).reader()))
    }

    /// What is new, and the lease that comes with it.
    pub(super) fn news(&self, ask: &Ask) -> Result<Told, RemoteError> {
        let mut answer = self.usable(self.post(NEWS, ask))?;
        let text = answer.body_mut().with_config().limit(MOST_NEWS_BYTES).read_to_string();
        let text = text.map_err(|error| self.no_answer(&error.to_string()))?;
        serde_json::from_str(&text).map_err(|error| self.no_answer(&error.to_string()))
    }

    /// Says that this follower answers nothing any more. If that does not arrive, the server finds out by itself.
    pub(super) fn leave(&self, ask: &Ask) {
        drop(self.post(LEAVE, ask));
    }

    fn post(&self, path: &str, ask: &Ask) -> Result<Response<Body>, ureq::Error> {
        let asked = self.agent.post(format!("{}{path}", self.url)).header("Authorization", self.bearer());
        let asked = asked.header("Content-Type", "application/json");
        let body = serde_json::to_string(ask).expect("it is plain data");
        asked.config().timeout_global(Some(CALL_DEADLINE)).build().send(body)
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.key.expose())
    }

    fn usable(&self, answer: Result<Response<Body>, ureq::Error>) -> Result<Response<Body>, RemoteError> {
        let mut answer = answer.map_err(|error| self.no_answer(&error.to_string()))?;
        match answer.status().as_u16() {
            200 => Ok(answer),
            401 => Err(RemoteError::NotAccepted { url: self.url.clone() }),
            status => {
                let text =
                    answer.body_mut().with_config().limit(MOST_PROBLEM_BYTES).read_to_string().unwrap_or_default();
                let said =
                    serde_json::from_str(&text).map_or_else(|_other| String::new(), |Problem { message }| message);
                let why = format!("status {status}. {said}").trim_end().to_owned();
                let url = self.url.clone();
                Err(if status == 503 { RemoteError::Busy { url, why } } else { RemoteError::NoAnswer { url, why } })
            }
        }
    }

    pub(super) fn not_known(&self) -> RemoteError {
        RemoteError::NotKnown { url: self.url.clone() }
    }

    pub(super) fn no_answer(&self, why: &str) -> RemoteError {
        RemoteError::NoAnswer { url: self.url.clone(), why: why.to_owned() }
    }
}

fn tls() -> Result<TlsConfig, RemoteError> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        return Err(RemoteError::NoCertificates);
    }
    let roots = found.certs.iter().map(|certificate| Certificate::from_der(certificate).to_owned());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(TlsConfig::builder().root_certs(roots.into()).unversioned_rustls_crypto_provider(provider).build())
}
