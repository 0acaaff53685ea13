//! Which of the hosts of a database can be written to: they are asked one after the other, and none of them is waited for long.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_postgres::config::Host;
use tokio_postgres::{Config, NoTls};

use super::super::DatabaseError;
use super::Session;
use super::server::session;
use super::tls::Tls;

/// How long a host may say nothing until the next one is asked too.
const HEAD_START: Duration = Duration::from_millis(250);

/// The hosts of a URL.
pub(super) struct Hosts {
    /// For each of them how it is reached.
    each: Vec<Config>,
    /// Which one is asked first: the one in use, or the one behind it if that gave no answer. A former primary that nobody stopped
    /// still says that it can be written to.
    first: AtomicUsize,
    /// Which one the newest connection is to.
    in_use: AtomicUsize,
}

impl Hosts {
    pub(super) fn of(config: &Config) -> Self {
        Self {
            each: (0..config.get_hosts().len()).map(|at| only(config, at)).collect(),
            first: AtomicUsize::new(0),
            in_use: AtomicUsize::new(0),
        }
    }

    /// Connects to the first that can be written to, beginning with the one that could be the last time. What is connected to another is
    /// not used any more.
    pub(super) async fn connect(
        self: &Arc<Self>,
        tls: Option<&Tls>,
        hint: &Arc<Notify>,
    ) -> Result<Session, DatabaseError> {
        let attempts: Vec<_> = self
            .in_turn()
            .map(|(at, host)| {
                let (host, tls, way) =
                    (host.clone(), tls.cloned(), Way { at: (Arc::clone(self), at), hint: Arc::clone(hint) });
                async move { Ok((at, connect_to(host, tls, way).await?)) }
            })
            .collect();
        let (at, session) = first_of(attempts).await?;
        self.use_from_now_on(at);
        Ok(session)
    }

    /// All of them, each with its number, in the order in which they are asked.
    fn in_turn(&self) -> impl Iterator<Item = (usize, &Config)> {
        let first = self.first.load(Ordering::Relaxed);
        self.each.iter().enumerate().cycle().skip(first).take(self.each.len())
    }

    fn use_from_now_on(&self, host: usize) {
        self.first.store(host, Ordering::Relaxed);
        self.in_use.store(host, Ordering::Relaxed);
    }

    pub(super) fn is_in_use(&self, host: usize) -> bool {
        self.in_use.load(Ordering::Relaxed) == host
    }

    /// It gave no answer: the others are asked before it.
    pub(super) fn put_last(&self, host: usize) {
        let next = (host + 1) % self.each.len();
        // Unless somebody else has done so already.
        let _was_first = self.first.compare_exchange(host, next, Ordering::Relaxed, Ordering::Relaxed).is_ok();
    }
}

/// What a session knows of where it leads.
#[derive(Clone)]
struct Way {
    at: (Arc<Hosts>, usize),
    hint: Arc<Notify>,
}

/// Shows nothing: there are passwords in it.
impl fmt::Debug for Hosts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Hosts")
    }
}

/// The way to one of several hosts.
fn only(config: &Config, at: usize) -> Config {
    let mut one = Config::new();
    match config.get_hosts().get(at) {
        Some(Host::Tcp(name)) => one.host(name),
        Some(Host::Unix(path)) => one.host_path(path),
        None => &mut one,
    };
    if let Some(address) = config.get_hostaddrs().get(at) {
        one.hostaddr(*address);
    }
    // One port may be that of all.
    if let Some(port) = config.get_ports().get(at).or_else(|| config.get_ports().first()) {
        one.port(*port);
    }
    if let Some(user) = config.get_user() {
        one.user(user);
    }
    if let Some(password) = config.get_password() {
        one.password(password);
    }
    if let Some(name) = config.get_dbname() {
        one.dbname(name);
    }
    if let Some(options) = config.get_options() {
        one.options(options);
    }
    if let Some(name) = config.get_application_name() {
        one.application_name(name);
    }
    if let Some(timeout) = config.get_connect_timeout() {
        one.connect_timeout(*timeout);
    }
    if let Some(timeout) = config.get_tcp_user_timeout() {
        one.tcp_user_timeout(*timeout);
    }
    if let Some(interval) = config.get_keepalives_interval() {
        one.keepalives_interval(interval);
    }
    if let Some(retries) = config.get_keepalives_retries() {
        one.keepalives_retries(retries);
    }
    one.keepalives(config.get_keepalives()).keepalives_idle(config.get_keepalives_idle());
    one.ssl_mode(config.get_ssl_mode()).ssl_negotiation(config.get_ssl_negotiation());
    one.target_session_attrs(config.get_target_session_attrs()).channel_binding(config.get_channel_binding());
    one
}

/// Connects to a host at whichever of its addresses answers first.
async fn connect_to(host: Config, tls: Option<Tls>, way: Way) -> Result<Session, DatabaseError> {
    let addresses = addresses_of(&host).await;
    if addresses.is_empty() {
        // It is no name, or has no address: the library says so.
        return connect_at(host, tls, way).await;
    }
    first_of(addresses.into_iter().map(|address| {
        let mut host = host.clone();
        host.hostaddr(address.ip());
        connect_at(host, tls.clone(), way.clone())
    }))
    .await
}

async fn addresses_of(host: &Config) -> Vec<SocketAddr> {
    let ([Host::Tcp(name)], []) = (host.get_hosts(), host.get_hostaddrs()) else { return Vec::new() };
    let port = host.get_ports().first().copied().unwrap_or(5432);
    lookup_host((name.as_str(), port)).await.map_or_else(|_unknown| Vec::new(), Iterator::collect)
}

async fn connect_at(host: Config, tls: Option<Tls>, Way { at, hint }: Way) -> Result<Session, DatabaseError> {
    match tls {
        Some(tls) => {
            let (client, connection) = host.connect(tls).await?;
            Ok(session(client, connection, at, hint))
        }
        None => {
            let (client, connection) = host.connect(NoTls).await?;
            Ok(session(client, connection, at, hint))
        }
    }
}

/// The first of several attempts that succeeds. Each begins when one has failed, or when the one before it has had its head start;
/// those that are still under way when one succeeds are given up.
async fn first_of<T: Send + 'static>(
    attempts: impl IntoIterator<Item = impl Future<Output = Result<T, DatabaseError>> + Send + 'static>,
) -> Result<T, DatabaseError> {
    let mut waiting = attempts.into_iter();
    let (mut under_way, mut failed) = (JoinSet::new(), DatabaseError::Closed);
    loop {
        if let Some(attempt) = waiting.next() {
            under_way.spawn(attempt);
        }
        match tokio::time::timeout(HEAD_START, under_way.join_next()).await {
            Ok(Some(Ok(Ok(found)))) => return Ok(found),
            Ok(Some(Ok(Err(error)))) => failed = error,
            Ok(Some(Err(_panicked))) => {}
            Ok(None) => return Err(failed),
            Err(_silent) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Attempt = std::pin::Pin<Box<dyn Future<Output = Result<u8, DatabaseError>> + Send>>;

    fn silent() -> Attempt {
        Box::pin(std::future::pending())
    }

    fn fails(seconds: u64) -> Attempt {
        Box::pin(async move { Err(DatabaseError::Late(Duration::from_secs(seconds))) })
    }

    fn succeeds(number: u8) -> Attempt {
        Box::pin(async move { Ok(number) })
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_holds_up_nobody_and_the_first_in_line_is_preferred() {
        let began = tokio::time::Instant::now();
        assert_eq!(first_of([succeeds(1), succeeds(2)]).await.unwrap(), 1);
        assert_eq!(first_of([fails(1), succeeds(2)]).await.unwrap(), 2);
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert_eq!(first_of((0..4).map(|_| silent()).chain([fails(1), succeeds(7)])).await.unwrap(), 7);
        assert_eq!(began.elapsed(), HEAD_START * 4);
        let failed = first_of([fails(1), fails(2)]).await;
        assert!(matches!(failed, Err(DatabaseError::Late(late)) if late == Duration::from_secs(2)), "{failed:?}");
    }

    #[test]
    fn every_host_has_what_the_url_says_of_all() {
        let url = "postgres://user:secret@one:1,two:2/name?application_name=app&options=-cx%3D1&keepalives_retries=4";
        let config: Config = url.parse().unwrap();
        let hosts = Hosts::of(&config).each;
        assert_eq!(hosts.len(), 2);
        for (at, host) in ["one:1", "two:2"].into_iter().enumerate() {
            let alone: Config = url.replace("one:1,two:2", host).parse().unwrap();
            assert_eq!(hosts[at], alone);
        }
        let one_port: Config = "host=one,two port=7 user=user".parse().unwrap();
        assert_eq!(Hosts::of(&one_port).each[1].get_ports(), [7]);
    }

    #[test]
    fn the_one_in_use_is_asked_first_and_the_one_that_gave_no_answer_last() {
        let hosts = Hosts::of(&"postgres://k@a,b,c/d".parse().unwrap());
        let order = || hosts.in_turn().map(|(number, _)| number).collect::<Vec<_>>();
        assert_eq!(order(), [0, 1, 2]);
        hosts.use_from_now_on(1);
        assert!(hosts.is_in_use(1) && !hosts.is_in_use(0));
        assert_eq!(order(), [1, 2, 0]);
        hosts.put_last(1);
        hosts.put_last(1);
        assert_eq!(order(), [2, 0, 1]);
        assert!(hosts.is_in_use(1), "there is no other yet");
    }
}
