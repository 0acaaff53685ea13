//! Where the server is, and how it is reached.

use std::fmt;
use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::error::{DbError, Severity};
use tokio_postgres::{AsyncMessage, Client, Config, Connection};

use super::super::DatabaseError;
use super::hosts::Hosts;
use super::tls::Tls;
use super::{ANSWER_DEADLINE, Session};
use crate::random::{OsRandom, bytes};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long it may take to find the primary and to log in.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the first attempt after a failure waits, and the most that any does.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Why an address of a database cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ServerUrlError(String);

/// A PostgreSQL server, or several of which one is the primary.
pub struct Server {
    config: Config,
    hosts: Arc<Hosts>,
    /// `None` if the connection is not encrypted.
    tls: Option<Tls>,
    pauses: Mutex<Pauses>,
    /// Woken when the server says that somebody committed a change.
    hint: Arc<Notify>,
}

/// Attempts are further apart the more of them have failed, so that nothing reconnects in a storm.
#[derive(Default)]
struct Pauses {
    failures: u32,
    next: Option<Instant>,
}

impl PartialEq for Server {
    fn eq(&self, other: &Self) -> bool {
        self.config == other.config
    }
}

impl Eq for Server {}

impl fmt::Debug for Server {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.shown())
    }
}

impl Server {
    /// Reads `postgres://USER:PASSWORD@HOST:PORT,HOST:PORT/DATABASE`. With the parameter `sslmode=require` the connection is encrypted
    /// and the server must show a certificate for its name, by an authority in the file `sslrootcert` or one that this host trusts;
    /// with `disable` it is not. Without one of them it is, unless every host is this one.
    ///
    /// # Errors
    /// [`ServerUrlError`] with what is wrong; never with the password.
    pub fn parse(url: &str) -> Result<Self, ServerUrlError> {
        let (url, wanted) = Wanted::split_from(url)?;
        let mut config: Config = url.parse().map_err(|error| ServerUrlError(reason(&error)))?;
        if config.get_hosts().is_empty() {
            return Err(ServerUrlError("it names no host".to_owned()));
        }
        // What is behind it would be shown as a host.
        if config.get_hosts().iter().any(|host| matches!(host, Host::Tcp(name) if name.contains('@'))) {
            let reason = "there is more than one @ in it: in a password it is written %40";
            return Err(ServerUrlError(reason.to_owned()));
        }
        let is_encrypted = wanted.is_encrypted.unwrap_or_else(|| !config.get_hosts().iter().all(is_this_one));
        config.ssl_mode(if is_encrypted { SslMode::Require } else { SslMode::Disable });
        let tls =
            is_encrypted.then(|| Tls::trusting(wanted.authorities.as_deref())).transpose().map_err(ServerUrlError)?;
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        config.connect_timeout(CONNECT_TIMEOUT);
        config.keepalives_idle(Duration::from_secs(10));
        config.tcp_user_timeout(Duration::from_secs(10));
        if config.get_application_name().is_none() {
            config.application_name("keyrack");
        }
        let hosts = Arc::new(Hosts::of(&config));
        Ok(Self { config, hosts, tls, pauses: Mutex::default(), hint: Arc::default() })
    }

    /// The hosts and the database, without who logs in.
    pub fn shown(&self) -> String {
        let hosts = self.config.get_hosts().iter().map(|host| match host {
            Host::Tcp(name) => name.clone(),
            Host::Unix(path) => path.display().to_string(),
        });
        let (hosts, name) = (hosts.collect::<Vec<_>>().join(","), self.config.get_dbname().unwrap_or("postgres"));
        format!("{name} at {hosts}")
    }

    /// Connects to the first host that can be written to.
    pub(in crate::store) async fn connect(&self) -> Result<Session, DatabaseError> {
        if let Some(rest) = self.pauses().next.and_then(|next| next.checked_duration_since(Instant::now())) {
            return Err(DatabaseError::NotDue(rest));
        }
        let connecting = self.hosts.connect(self.tls.as_ref(), &self.hint);
        let connected = tokio::time::timeout(LOGIN_TIMEOUT, connecting).await;
        let connected = connected.unwrap_or(Err(DatabaseError::Late(LOGIN_TIMEOUT)));
        let mut pauses = self.pauses();
        match connected {
            Ok(session) => {
                *pauses = Pauses::default();
                Ok(session)
            }
            Err(error) => {
                let longest = LONGEST_PAUSE.min(FIRST_PAUSE * 2_u32.saturating_pow(pauses.failures.min(16)));
                // Between half of it and all of it, so that many nodes do not come back at once.
                let [random] = bytes(&OsRandom);
                let pause = longest / 2 + longest / 2 * u32::from(random) / 255;
                *pauses = Pauses { failures: pauses.failures + 1, next: Some(Instant::now() + pause) };
                Err(error)
            }
        }
    }

    /// Waits until the server says that somebody committed a change.
    pub(in crate::store) async fn hint(&self) {
        self.hint.notified().await;
    }

    fn pauses(&self) -> std::sync::MutexGuard<'_, Pauses> {
        self.pauses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a URL wants of TLS, in the parameters that other programs have for it.
#[derive(Default)]
struct Wanted {
    is_encrypted: Option<bool>,
    authorities: Option<String>,
}

impl Wanted {
    /// Takes it out of a URL.
    fn split_from(url: &str) -> Result<(String, Self), ServerUrlError> {
        let Some((place, query)) = url.split_once('?') else { return Ok((url.to_owned(), Self::default())) };
        let (mut wanted, mut rest) = (Self::default(), Vec::new());
        for parameter in query.split('&') {
            match parameter.split_once('=') {
                Some(("sslmode", "disable")) => wanted.is_encrypted = Some(false),
                Some(("sslmode", "require" | "verify-full")) => wanted.is_encrypted = Some(true),
                Some(("sslmode", _)) => {
                    let reason = "sslmode is disable, or require: then the certificate is checked, with the name";
                    return Err(ServerUrlError(reason.to_owned()));
                }
                Some(("sslrootcert", file)) => {
                    let file = form_urlencoded::parse(file.as_bytes()).next().map(|(file, _)| file.into_owned());
                    wanted.authorities = file;
                }
                _ => rest.push(parameter),
            }
        }
        let query = if rest.is_empty() { String::new() } else { format!("?{}", rest.join("&")) };
        Ok((format!("{place}{query}"), wanted))
    }
}

/// Whether nobody is between here and a host.
fn is_this_one(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()),
    }
}

/// The library says in its source what is wrong.
fn reason(error: &tokio_postgres::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

/// The newest warning that a server gave.
#[derive(Default)]
pub(super) struct Warning(Mutex<Option<String>>);

impl Warning {
    pub(super) fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put(&self, warning: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(warning);
    }
}

pub(super) fn session<S, T>(
    client: Client,
    mut connection: Connection<S, T>,
    at: (Arc<Hosts>, usize),
    hint: Arc<Notify>,
) -> Session
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let warning = Arc::new(Warning::default());
    tokio::spawn({
        let warning = Arc::clone(&warning);
        poll_fn(move |context| poll_messages(&mut connection, (&warning, &hint), context))
    });
    Session {
        client,
        at,
        warning,
        is_broken: false.into(),
        has_failed: false,
        carries_heartbeats: false,
        deadline: Some(ANSWER_DEADLINE),
    }
}

/// Messages come in order: a warning is noted before the answer that it belongs to is handed on.
fn poll_messages<S, T>(
    connection: &mut Connection<S, T>,
    (warning, hint): (&Warning, &Notify),
    context: &mut Context<'_>,
) -> Poll<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        match std::task::ready!(connection.poll_message(context)) {
            Some(Ok(AsyncMessage::Notice(notice))) => {
                tracing::debug!(code = notice.code().code(), message = notice.message(), "the database says");
                if is_warning(&notice) {
                    warning.put(format!("{}: {}", notice.code().code(), notice.message()));
                }
            }
            Some(Ok(AsyncMessage::Notification(_))) => hint.notify_one(),
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                tracing::debug!(%error, "a connection to the database ended");
                return Poll::Ready(());
            }
            None => return Poll::Ready(()),
        }
    }
}

/// By the word that is the same in every language that a server may speak. Where there is none it is taken for one.
fn is_warning(notice: &DbError) -> bool {
    matches!(notice.parsed_severity(), Some(Severity::Warning) | None)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
    use tokio_postgres::NoTls;

    use super::super::super::Others;
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[kind], length.to_be_bytes().as_slice(), body].concat()
    }

    /// A server that lets everybody in, and says the same with every commit.
    async fn speak(mut stream: DuplexStream, notice: &[u8]) {
        let ready = message(b'Z', b"I");
        let mut length = [0; 4];
        stream.read_exact(&mut length).await.unwrap();
        let mut startup = vec![0; u32::from_be_bytes(length) as usize - 4];
        stream.read_exact(&mut startup).await.unwrap();
        stream.write_all(&[message(b'R', &[0; 4]), ready.clone()].concat()).await.unwrap();
        let mut head = [0; 5];
        // Until it says goodbye.
        while stream.read_exact(&mut head).await.is_ok() && head[0] == b'Q' {
            let mut body = vec![0; u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize - 4];
            stream.read_exact(&mut body).await.unwrap();
            let answer = [message(b'N', notice), message(b'C', b"COMMIT\0"), ready.clone()].concat();
            stream.write_all(&answer).await.unwrap();
        }
    }

    async fn commits(notice: &'static [u8]) -> bool {
        let (ours, theirs) = tokio::io::duplex(4096);
        tokio::spawn(speak(theirs, notice));
        let (client, connection) = Config::new().user("keyrack").connect_raw(ours, NoTls).await.unwrap();
        let hosts = Arc::new(Hosts::of(&Config::new()));
        let committed = session(client, connection, (hosts, 0), Arc::default()).commit(Others::NeedNotKnow).await;
        assert!(matches!(committed, Ok(()) | Err(DatabaseError::Warned(_))), "{committed:?}");
        committed.is_ok()
    }

    #[tokio::test]
    async fn a_warning_is_one_in_whatever_language() {
        assert!(commits(b"SNOTICE\0VNOTICE\0C00000\0Mno matter\0\0").await);
        assert!(commits(b"SHINWEIS\0VNOTICE\0C00000\0Mno matter\0\0").await);
        assert!(!commits(b"SWARNING\0VWARNING\0C01000\0Mnot at the standby\0\0").await);
        assert!(!commits(b"SWARNUNG\0VWARNING\0C01000\0Mnicht beim Standby\0\0").await);
        assert!(!commits(b"SWARNUNG\0C01000\0Mnicht beim Standby\0\0").await);
    }

    #[test]
    fn what_is_in_a_password_is_never_taken_for_a_host() {
        let refused = Server::parse("postgres://k:secret@tail@db/k").unwrap_err().to_string();
        assert!(refused.contains("%40") && !refused.contains("tail"), "{refused}");
        let server = Server::parse("postgres://k:secret%40tail@db:5433/k?sslmode=disable").unwrap();
        assert_eq!(server.shown(), "k at db");
    }

    #[test]
    fn a_connection_is_encrypted_unless_it_stays_on_this_host_or_is_told_not_to_be() {
        let is_encrypted = |url: &str| Server::parse(url).map(|server| server.tls.is_some());
        for (url, expected) in [
            ("postgres://k@127.0.0.1/k", false),
            ("postgres://k@localhost:5433/k", false),
            ("postgres://k@%2Frun%2Fpostgresql/k", false),
            ("postgres://k@127.0.0.1/k?sslmode=disable", false),
            ("postgres://k@db1,db2/k?sslmode=disable&application_name=x", false),
        ] {
            assert_eq!(is_encrypted(url), Ok(expected), "{url}");
        }
        for url in ["postgres://k@db/k?sslmode=prefer", "postgres://k@db/k?sslmode=require&sslrootcert=/no/such"] {
            assert!(is_encrypted(url).is_err(), "{url}");
        }
    }
}
