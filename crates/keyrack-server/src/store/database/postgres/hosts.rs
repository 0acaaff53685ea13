//! Several hosts, of which one is the primary.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::Host;

/// How long a host may take to let somebody in. One that takes the connection and then says nothing must not keep the others from
/// being asked.
pub(super) const HOST_TIMEOUT: Duration = Duration::from_secs(3);

/// The hosts of a server, and which of them is in use.
pub(super) struct Hosts {
    each: Vec<Config>,
    /// Which one is asked first: the one in use, or the one behind it if that gave no answer. A former primary that nobody stopped
    /// still says that it can be written to.
    first: AtomicUsize,
    /// Which one the newest connection is to.
    in_use: AtomicUsize,
}

impl Hosts {
    pub(super) fn of(config: &Config) -> Self {
        let count = config.get_hosts().len();
        let each = (0..count).map(|number| alone(config, number)).collect();
        Self { each, first: AtomicUsize::new(0), in_use: AtomicUsize::new(0) }
    }

    /// All of them, each with its number, in the order in which they are asked.
    pub(super) fn in_turn(&self) -> impl Iterator<Item = (usize, &Config)> {
        let count = self.each.len();
        let first = self.first.load(Ordering::Relaxed);
        self.each.iter().enumerate().cycle().skip(first).take(count)
    }

    /// A connection to this one was made. What is connected to another is not used any more.
    pub(super) fn use_from_now_on(&self, host: usize) {
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

/// How one of the hosts is reached.
fn alone(config: &Config, number: usize) -> Config {
    let mut alone = Config::new();
    match config.get_hosts().get(number) {
        Some(Host::Tcp(name)) => alone.host(name),
        Some(Host::Unix(path)) => alone.host_path(path),
        None => &mut alone,
    };
    if let Some(address) = config.get_hostaddrs().get(number) {
        alone.hostaddr(*address);
    }
    // One port may be for all of them.
    if let Some(port) = config.get_ports().get(number).or_else(|| config.get_ports().first()) {
        alone.port(*port);
    }
    if let Some(user) = config.get_user() {
        alone.user(user);
    }
    if let Some(password) = config.get_password() {
        alone.password(password);
    }
    if let Some(name) = config.get_dbname() {
        alone.dbname(name);
    }
    if let Some(options) = config.get_options() {
        alone.options(options);
    }
    if let Some(name) = config.get_application_name() {
        alone.application_name(name);
    }
    if let Some(timeout) = config.get_connect_timeout() {
        alone.connect_timeout(*timeout);
    }
    if let Some(timeout) = config.get_tcp_user_timeout() {
        alone.tcp_user_timeout(*timeout);
    }
    if let Some(interval) = config.get_keepalives_interval() {
        alone.keepalives_interval(interval);
    }
    if let Some(retries) = config.get_keepalives_retries() {
        alone.keepalives_retries(retries);
    }
    alone
        .ssl_mode(config.get_ssl_mode())
        .ssl_negotiation(config.get_ssl_negotiation())
        .channel_binding(config.get_channel_binding())
        .target_session_attrs(config.get_target_session_attrs())
        .load_balance_hosts(config.get_load_balance_hosts())
        .keepalives(config.get_keepalives())
        .keepalives_idle(config.get_keepalives_idle());
    alone
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(url: &str) -> Hosts {
        Hosts::of(&url.parse().unwrap())
    }

    fn order(hosts: &Hosts) -> Vec<usize> {
        hosts.in_turn().map(|(number, _)| number).collect()
    }

    #[test]
    fn each_host_is_reached_as_the_whole_says() {
        let whole =
            "postgres://k:p@a:1,b:2/d?options=-cx%3D1&application_name=n&keepalives_retries=2&channel_binding=disable";
        let each: Vec<_> = hosts(whole).each;
        let alone = |text: &str| text.parse::<Config>().unwrap();
        assert_eq!(each[0], alone(&whole.replace("a:1,b:2", "a:1")));
        assert_eq!(each[1], alone(&whole.replace("a:1,b:2", "b:2")));
        assert_eq!(hosts("postgres://k@a,b:7/d").each.len(), 2);
        let one_port = hosts("host=a,b hostaddr=127.0.0.1,127.0.0.2 port=7 user=k");
        assert_eq!(one_port.each[1], alone("host=b hostaddr=127.0.0.2 port=7 user=k"));
    }

    #[test]
    fn the_one_in_use_is_asked_first_and_the_one_that_gave_no_answer_last() {
        let hosts = hosts("postgres://k@a,b,c/d");
        assert_eq!(order(&hosts), [0, 1, 2]);
        hosts.use_from_now_on(1);
        assert!(hosts.is_in_use(1) && !hosts.is_in_use(0));
        assert_eq!(order(&hosts), [1, 2, 0]);
        hosts.put_last(1);
        hosts.put_last(1);
        assert_eq!(order(&hosts), [2, 0, 1]);
        assert!(hosts.is_in_use(1), "there is no other yet");
    }
}
