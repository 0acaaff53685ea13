//! Settings: flag before environment before file before default. Reading them touches nothing but the file.

mod check;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tracing::level_filters::LevelFilter;

use crate::limits::Limits;
use crate::proxies::TrustedProxies;
use crate::store::{Database, Server};
use crate::telemetry::LogFormat;
use keyrack::Limit;

use self::check::check;

/// The settings, each written once: what it is, its name, what stands for its value in the help, its default, and what the bare flag
/// means if it may stand alone.
macro_rules! settings {
    ($($(#[doc = $what:literal])+ $name:ident: $value:literal = $default:literal $(or $bare:literal)?;)+) => {
        /// Every setting by its name in the file, in the order of [`Flags::values`]. The flag has `-` for `_`, the variable is in upper case
        /// behind `KEYRACK_`.
        const SETTINGS: &[&str] = &[$(stringify!($name)),+];

        /// The settings as flags.
        #[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
        pub struct Flags {
            /// TOML file with settings [env: KEYRACK_CONFIG]
            #[arg(long, value_name = "FILE")]
            config: Option<PathBuf>,
            $(
                $(#[doc = $what])+
                #[arg(long, value_name = $value $(, num_args = 0..=1, require_equals = true, default_missing_value = $bare)?)]
                $name: Option<String>,
            )+
        }

        impl Flags {
            /// These flags, and `others` where there are none.
            #[must_use]
            pub fn or(self, others: Self) -> Self {
                Self { config: self.config.or(others.config), $($name: self.$name.or(others.$name)),+ }
            }

            fn values(&self) -> Vec<&Option<String>> {
                vec![$(&self.$name),+]
            }
        }

        /// The settings with their sources, before they are checked.
        struct Values {
            $($name: Sourced),+
        }

        impl Values {
            /// One for each of [`SETTINGS`], in their order; the default where there is none.
            fn of(values: Vec<Option<Sourced>>) -> Self {
                let mut values = values.into_iter();
                let mut next = |default: &str| values.next().flatten().unwrap_or_else(|| Sourced::default_of(default));
                Self { $($name: next($default)),+ }
            }
        }
    };
}

settings! {
    /// Address and port of the management API [env: KEYRACK_LISTEN] [default: 127.0.0.1:8080]
    listen: "ADDRESS:PORT" = "127.0.0.1:8080";
    /// Address and port of the metrics, or `off` [env: KEYRACK_METRICS_LISTEN] [default: off]
    metrics_listen: "ADDRESS:PORT" = "off";
    /// Address and port of the verification doors, or `off` [env: KEYRACK_VERIFY_LISTEN] [default: 127.0.0.1:8081]
    verify_listen: "ADDRESS:PORT" = "127.0.0.1:8081";
    /// Unix socket of the verification doors [env: KEYRACK_VERIFY_SOCKET] [default: none]
    verify_socket: "PATH" = "";
    /// Threads of the verification doors, or `cores` for one each [env: KEYRACK_VERIFY_THREADS] [default: cores]
    verify_threads: "NUMBER" = "cores";
    /// Networks of the proxies that are believed when they say whose request they pass on
    /// [env: KEYRACK_TRUSTED_PROXIES] [default: 127.0.0.0/8 ::1]
    trusted_proxies: "NETWORKS" = "127.0.0.0/8 ::1";
    /// Limits of every project key, such as `requests=100/1m:20 monthly=50000/month`
    /// [env: KEYRACK_KEY_LIMITS] [default: none]
    key_limits: "LIMITS" = "";
    /// Headers that tell callers of their key's limits: x for X-RateLimit-*, draft for RateLimit and RateLimit-Policy
    /// [env: KEYRACK_LIMIT_HEADERS] [default: x]
    limit_headers: "KIND" = "x";
    /// PostgreSQL server of a store that several nodes share, such as postgres://keyrack@db1,db2/keyrack; better not as a
    /// flag if it has a password [env: KEYRACK_DATABASE_URL] [default: none, a file in the data directory]
    database_url: "URL" = "";
    /// For how long a node answers when it does not hear from a shared store, such as 5m or 30s; the longer, the longer a
    /// revocation may take to be everywhere then [env: KEYRACK_STALE_LIMIT] [default: 5m]
    stale_limit: "DURATION" = "5m";
    /// on: answer only as long as it is certain that nothing was revoked meanwhile, two seconds; whatever the stale limit is
    /// [env: KEYRACK_STRICT] [default: off]
    strict: "on|off" = "off" or "on";
    /// Directory of the store, or of what is this node's alone [env: KEYRACK_DATA_DIR] [default: ./keyrack-data]
    data_dir: "DIR" = "./keyrack-data";
    /// File of the root key [env: KEYRACK_ROOT_KEY_FILE] [default: root.key in the data directory]
    root_key_file: "FILE" = "";
    /// How much is logged: error, warn, info, debug or trace [env: KEYRACK_LOG_LEVEL] [default: info]
    log_level: "LEVEL" = "info";
    /// How it is logged: text or json [env: KEYRACK_LOG_FORMAT] [default: text]
    log_format: "FORMAT" = "text";
    /// What the `type` of a problem begins with [env: KEYRACK_PROBLEM_TYPES] [default: /docs/errors]
    problem_types: "URL" = "/docs/errors";
    /// What keys may call: starter, professional or enterprise [env: KEYRACK_RATE_LIMIT_TIER] [default: starter]
    rate_limit_tier: "TIER" = "starter";
    /// Reads and writes a second, and burst, of every tier [env: KEYRACK_RATE_LIMITS] [default: starter=200/100/1.5
    /// professional=1000/500/1.5 enterprise=5000/2500/2]
    rate_limits: "RATES" = "starter=200/100/1.5 professional=1000/500/1.5 enterprise=5000/2500/2";
    /// Calls a second from one address without a valid key [env: KEYRACK_RATE_LIMIT_ADDRESSES] [default: 20]
    rate_limit_addresses: "NUMBER" = "20";
}

const PREFIX: &str = "KEYRACK_";
const CONFIG_VARIABLE: &str = "KEYRACK_CONFIG";
/// Chooses a profile for the commands that talk to a server; the server itself has no use for it.
const PROFILE_VARIABLE: &str = "KEYRACK_PROFILE";

/// Settings that have been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where the management API listens.
    pub listen: SocketAddr,
    /// Where the metrics are read, if at all.
    pub metrics: Option<SocketAddr>,
    /// Where the verification doors listen.
    pub verify: VerifySettings,
    /// Which proxies are believed.
    pub trusted_proxies: TrustedProxies,
    /// The limits of every project key.
    pub key_limits: Vec<Limit>,
    /// The server of a store that is shared, if it is.
    pub database: Option<Arc<Server>>,
    /// For how long a node answers without hearing from that.
    pub stale_limit: Duration,
    /// Where the store is, or what is this node's alone.
    pub data_dir: PathBuf,
    /// Where the root key is.
    pub root_key_file: PathBuf,
    /// How much is logged.
    pub log_level: LevelFilter,
    /// How it is logged.
    pub log_format: LogFormat,
    /// What the `type` of a problem begins with.
    pub problem_types: String,
    /// How much may be called.
    pub limits: Limits,
}

impl Config {
    /// Where the store is kept.
    pub fn database(&self) -> Database {
        match &self.database {
            Some(server) => Database::Server { server: Arc::clone(server), stale_limit: self.stale_limit },
            None => Database::in_directory(&self.data_dir, self.stale_limit),
        }
    }
}

/// Where the verification doors listen, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifySettings {
    /// Address and port, if at all.
    pub listen: Option<SocketAddr>,
    /// Path of a Unix socket, if at all.
    pub socket: Option<PathBuf>,
    /// How many threads; one for each core if that is not set.
    pub threads: Option<usize>,
    /// How callers are told of their limits.
    pub headers: LimitHeaders,
}

/// How callers are told of the limits of their key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitHeaders {
    /// `X-RateLimit-Limit`, `-Remaining`, `-Reset`.
    X,
    /// `RateLimit` and `RateLimit-Policy` of the IETF's draft (draft-ietf-httpapi-ratelimit-headers-10).
    Draft,
}

impl LimitHeaders {
    /// The word in the settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::X => "x",
            Self::Draft => "draft",
        }
    }
}

/// Everything that is wrong with the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(pub Vec<String>);

impl fmt::Display for ConfigError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "the settings have {} problem(s)", self.0.len())?;
        self.0.iter().try_for_each(|problem| write!(out, "\n  - {problem}"))
    }
}

impl std::error::Error for ConfigError {}

/// A value and where it came from, to say so if it is wrong.
struct Sourced {
    value: String,
    source: String,
}

impl Sourced {
    fn default_of(setting: &str) -> Self {
        Self { value: setting.to_owned(), source: "the default".to_owned() }
    }
}

/// Reads the settings of this process.
///
/// # Errors
/// [`ConfigError`] with every problem there is.
pub fn of_process(flags: &Flags) -> Result<Config, ConfigError> {
    read(flags, environment())
}

/// What a command that talks to a server takes from the environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientSettings {
    /// The profile that `KEYRACK_PROFILE` names.
    pub profile: Option<String>,
    /// Where programs keep their settings: `XDG_CONFIG_HOME`, or `.config` in `HOME`.
    pub config_home: Option<PathBuf>,
}

/// Reads what the commands that talk to a server take from the environment of this process.
///
/// # Errors
/// [`ConfigError`] with every variable that looks like ours and is not: a misspelt `KEYRACK_PROFILE` would talk to the
/// wrong server.
pub fn of_client() -> Result<ClientSettings, ConfigError> {
    client(environment())
}

fn client(environment: impl IntoIterator<Item = (String, String)>) -> Result<ClientSettings, ConfigError> {
    let (mut settings, mut problems, mut home) = (ClientSettings::default(), Vec::new(), None);
    for (name, value) in environment {
        match name.as_str() {
            PROFILE_VARIABLE => settings.profile = Some(value),
            // A relative path is to be ignored, says the standard that the variable comes from.
            "XDG_CONFIG_HOME" if value.starts_with('/') => settings.config_home = Some(PathBuf::from(value)),
            "HOME" if !value.is_empty() => home = Some(Path::new(&value).join(".config")),
            ours if ours.starts_with(PREFIX)
                && !is_of_a_service(ours)
                && !known_variables().any(|name| name == ours) =>
            {
                problems.push(unknown_variable(ours));
            }
            _ => {}
        }
    }
    settings.config_home = settings.config_home.or(home);
    if problems.is_empty() { Ok(settings) } else { Err(ConfigError(problems)) }
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
}

/// The URL of a database that a variable holds, as a command was told.
pub fn url_of(variable: &str) -> Option<String> {
    environment().find(|(name, _)| name == variable).map(|(_, value)| value)
}

fn known_variables() -> impl Iterator<Item = String> {
    SETTINGS.iter().map(|setting| variable(setting)).chain([CONFIG_VARIABLE.to_owned(), PROFILE_VARIABLE.to_owned()])
}

fn unknown_variable(name: &str) -> String {
    format!("unknown variable {name}; the nearest one is {}", nearest(name, known_variables()))
}

/// Reads the settings from flags, an environment, and the file that either names.
///
/// # Errors
/// [`ConfigError`] with every problem there is.
pub fn read(flags: &Flags, environment: impl IntoIterator<Item = (String, String)>) -> Result<Config, ConfigError> {
    let mut problems = Vec::new();
    let mut values: Vec<Option<Sourced>> = SETTINGS.iter().map(|_| None).collect();
    let mut file = None;
    for (name, value) in environment.into_iter().filter(|(name, _)| name.starts_with(PREFIX) && !is_of_a_service(name))
    {
        let known = SETTINGS.iter().position(|setting| variable(setting) == name);
        match known.and_then(|at| values.get_mut(at)) {
            Some(slot) => *slot = Some(Sourced { value, source: name }),
            None if name == CONFIG_VARIABLE => file = Some(PathBuf::from(value)),
            None if name == PROFILE_VARIABLE => {}
            None => problems.push(unknown_variable(&name)),
        }
    }
    if let Some(path) = flags.config.as_deref().or(file.as_deref()) {
        for (slot, found) in values.iter_mut().zip(read_file(path, &mut problems)) {
            *slot = slot.take().or(found);
        }
    }
    for ((slot, setting), flag) in values.iter_mut().zip(SETTINGS).zip(flags.values()) {
        if let Some(value) = flag {
            *slot = Some(Sourced { value: value.clone(), source: format!("--{}", setting.replace('_', "-")) });
        }
    }
    check(values, problems)
}

fn read_file(path: &Path, problems: &mut Vec<String>) -> Vec<Option<Sourced>> {
    let mut values: Vec<Option<Sourced>> = SETTINGS.iter().map(|_| None).collect();
    let shown = path.display();
    let table = match std::fs::read_to_string(path).map(|text| text.parse::<toml::Table>()) {
        Ok(Ok(table)) => table,
        Ok(Err(error)) => {
            // The first line of the library's report says where.
            let report = error.to_string();
            let place = report.lines().next().unwrap_or("TOML parse error");
            problems.push(format!("{shown}: {place}: {}", error.message()));
            return values;
        }
        Err(error) => {
            problems.push(format!("cannot read {shown}: {error}"));
            return values;
        }
    };
    for (name, value) in table {
        let known = SETTINGS.iter().position(|setting| *setting == name);
        match (known.and_then(|at| values.get_mut(at)), value) {
            (Some(slot), toml::Value::String(value)) => {
                *slot = Some(Sourced { value, source: format!("`{name}` in {shown}") });
            }
            (Some(_), _) => problems.push(format!("`{name}` in {shown} must be a string in quotes")),
            (None, _) => {
                let known = SETTINGS.iter().map(|setting| (*setting).to_owned());
                problems.push(format!(
                    "unknown setting `{name}` in {shown}; the nearest one is `{}`",
                    nearest(&name, known)
                ));
            }
        }
    }
    values
}

fn variable(setting: &str) -> String {
    format!("{PREFIX}{}", setting.to_uppercase())
}

/// Kubernetes sets these for a Service called `keyrack` in every container beside it; they are not ours.
fn is_of_a_service(name: &str) -> bool {
    ["KEYRACK_SERVICE_", "KEYRACK_PORT_"].iter().any(|prefix| name.starts_with(prefix)) || name == "KEYRACK_PORT"
}

fn nearest(name: &str, known: impl Iterator<Item = String>) -> String {
    known.min_by_key(|candidate| strsim::damerau_levenshtein(name, candidate)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
