//! What the words of the settings mean, and everything that is wrong with them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Config, ConfigError, LimitHeaders, Sourced, Values, VerifySettings};
use crate::key_limits;
use crate::limits::{self, Limits, Rates, Tier};
use crate::proxies::TrustedProxies;
use crate::store::{LEASE, Server};
use crate::telemetry::LogFormat;

pub(super) fn check(values: Vec<Option<Sourced>>, mut problems: Vec<String>) -> Result<Config, ConfigError> {
    let values = Values::of(values);
    let wrong = &mut problems;
    let data_path = PathBuf::from(&values.data_dir.value);
    let root_key_file = match values.root_key_file.value.as_str() {
        "" => data_path.join("root.key"),
        path => PathBuf::from(path),
    };
    let listen = want(&values.listen, "an address and port, such as 127.0.0.1:8080", wrong, |text| text.parse().ok());
    let metrics = want(&values.metrics_listen, "an address and port, such as 127.0.0.1:8082, or off", wrong, or_off);
    let verify = check_verify(&values, wrong);
    let networks = "networks such as 10.0.0.0/8 with spaces between them";
    let trusted_proxies = want(&values.trusted_proxies, networks, wrong, TrustedProxies::parse);
    let key_limits = want(
        &values.key_limits,
        "at most 8 limits such as requests=100/1m:20 or monthly=50000/month, with spaces between them",
        wrong,
        key_limits::of_setting,
    );
    let log_level = want(&values.log_level, "error, warn, info, debug or trace", wrong, |text| match text {
        "error" | "warn" | "info" | "debug" | "trace" => text.parse().ok(),
        _ => None,
    });
    let log_format = want(&values.log_format, "text or json", wrong, |text| match text {
        "text" => Some(LogFormat::Text),
        "json" => Some(LogFormat::Json),
        _ => None,
    });
    let data_dir = want(&values.data_dir, "a directory", wrong, |text| (!text.is_empty()).then_some(data_path));
    let problem_types = want(&values.problem_types, "a URL or path without `#` and spaces", wrong, |text| {
        let is_plain = !text.is_empty() && !text.contains(|c: char| c == '#' || c.is_whitespace() || c.is_control());
        is_plain.then(|| text.to_owned())
    });
    let is_strict = want(&values.strict, "on or off", wrong, |text| match text {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    });
    let stale_limit = want(&values.stale_limit, "2s to 24h, such as 5m", wrong, stale_limit);
    let database = check_database(&values.database_url, wrong);
    let limits = check_limits(&values, wrong);
    let all = || {
        Some(Config {
            listen: listen?,
            metrics: metrics?,
            verify: verify?,
            trusted_proxies: trusted_proxies?,
            key_limits: key_limits?,
            database: database?,
            stale_limit: if is_strict? { LEASE } else { stale_limit? },
            data_dir: data_dir?,
            root_key_file,
            log_level: log_level?,
            log_format: log_format?,
            problem_types: problem_types?,
            limits: limits?,
        })
    };
    if problems.is_empty() { all().ok_or(ConfigError(problems)) } else { Err(ConfigError(problems)) }
}

/// An address and port, or none.
fn or_off(text: &str) -> Option<Option<SocketAddr>> {
    if text == "off" { Some(None) } else { text.parse().ok().map(Some) }
}

/// A whole number of seconds, minutes or hours; no shorter than a lease.
pub(super) fn stale_limit(text: &str) -> Option<Duration> {
    let (number, seconds) = [("s", 1), ("m", 60), ("h", 3_600)]
        .into_iter()
        .find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)))?;
    let seconds: u64 = number.parse::<u32>().ok().map(u64::from)?.checked_mul(seconds)?;
    let limit = Duration::from_secs(seconds);
    (LEASE..=Duration::from_secs(24 * 3_600)).contains(&limit).then_some(limit)
}

/// Of this value nothing is shown: it may hold a password.
fn check_database(from: &Sourced, problems: &mut Vec<String>) -> Option<Option<Arc<Server>>> {
    match from.value.as_str() {
        "" => Some(None),
        url => match Server::parse(url) {
            Ok(server) => Some(Some(Arc::new(server))),
            Err(error) => {
                let form = "postgres://USER:PASSWORD@HOST:PORT/DATABASE";
                problems.push(format!("{} must be a URL such as {form}: {error}", from.source));
                None
            }
        },
    }
}

fn check_verify(values: &Values, problems: &mut Vec<String>) -> Option<VerifySettings> {
    let address = "an address and port, such as 127.0.0.1:8081, or off";
    let listen = want(&values.verify_listen, address, problems, or_off);
    let socket = Some(values.verify_socket.value.as_str()).filter(|path| !path.is_empty()).map(PathBuf::from);
    let threads = want(&values.verify_threads, "cores, or a number from 1 to 256", problems, |text| match text {
        "cores" => Some(None),
        text => text.parse().ok().filter(|threads| (1..=256).contains(threads)).map(Some),
    });
    let headers = want(&values.limit_headers, "x or draft", problems, |text| match text {
        "x" => Some(LimitHeaders::X),
        "draft" => Some(LimitHeaders::Draft),
        _ => None,
    });
    Some(VerifySettings { listen: listen?, socket, threads: threads?, headers: headers? })
}

fn check_limits(values: &Values, problems: &mut Vec<String>) -> Option<Limits> {
    let (tier, rates, addresses) = (&values.rate_limit_tier, &values.rate_limits, &values.rate_limit_addresses);
    let tier = want(tier, "starter, professional or enterprise", problems, Tier::parse);
    let parsed = Rates::parse(&rates.value);
    let wrong = parsed.as_ref().err().into_iter().flatten();
    problems.extend(wrong.map(|problem| format!("{}: {problem}", rates.source)));
    let addresses_per_second =
        want(addresses, "a whole number of calls a second, from 1 to 1000000", problems, limits::per_second);
    Some(Limits { tier: tier?, rates: parsed.ok()?, addresses_per_second: addresses_per_second? })
}

fn want<T>(
    from: &Sourced,
    wanted: &str,
    problems: &mut Vec<String>,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Option<T> {
    let parsed = parse(&from.value);
    if parsed.is_none() {
        problems.push(format!("{} is \"{}\", but must be {wanted}", from.source, from.value));
    }
    parsed
}
