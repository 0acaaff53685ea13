//! Settings: flag before environment before file before default. Reading them touches nothing but the file.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tracing::level_filters::LevelFilter;

use crate::limits::{self, Limits, Rates, Tier};
use crate::telemetry::LogFormat;

/// One thing that can be set.
struct Setting {
    /// Name in the file; the flag has `-` for `_`, the variable is in upper case behind `KEYRACK_`.
    name: &'static str,
    default: &'static str,
}

/// Every setting, in the order of [`Flags::values`].
const SETTINGS: [Setting; 9] = [
    Setting { name: "listen", default: "127.0.0.1:8080" },
    Setting { name: "data_dir", default: "./keyrack-data" },
    Setting { name: "root_key_file", default: "" },
    Setting { name: "log_level", default: "info" },
    Setting { name: "log_format", default: "text" },
    Setting { name: "problem_types", default: "/docs/errors" },
    Setting { name: "rate_limit_tier", default: "starter" },
    Setting { name: "rate_limits", default: "starter=200/100/1.5 professional=1000/500/1.5 enterprise=5000/2500/2" },
    Setting { name: "rate_limit_addresses", default: "20" },
];
const PREFIX: &str = "KEYRACK_";
const CONFIG_VARIABLE: &str = "KEYRACK_CONFIG";
/// Chooses a profile for the commands that talk to a server; the server itself has no use for it.
const PROFILE_VARIABLE: &str = "KEYRACK_PROFILE";

/// The settings as flags.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct Flags {
    /// TOML file with settings [env: KEYRACK_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address and port of the management API [env: KEYRACK_LISTEN] [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Directory of the store [env: KEYRACK_DATA_DIR] [default: ./keyrack-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// File of the root key [env: KEYRACK_ROOT_KEY_FILE] [default: root.key in the data directory]
    #[arg(long, value_name = "FILE")]
    root_key_file: Option<String>,
    /// How much is logged: error, warn, info, debug or trace [env: KEYRACK_LOG_LEVEL] [default: info]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// How it is logged: text or json [env: KEYRACK_LOG_FORMAT] [default: text]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// What the `type` of a problem begins with [env: KEYRACK_PROBLEM_TYPES] [default: /docs/errors]
    #[arg(long, value_name = "URL")]
    problem_types: Option<String>,
    /// What keys may call: starter, professional or enterprise [env: KEYRACK_RATE_LIMIT_TIER] [default: starter]
    #[arg(long, value_name = "TIER")]
    rate_limit_tier: Option<String>,
    /// Reads and writes a second, and burst, of every tier [env: KEYRACK_RATE_LIMITS] [default: starter=200/100/1.5
    /// professional=1000/500/1.5 enterprise=5000/2500/2]
    #[arg(long, value_name = "RATES")]
    rate_limits: Option<String>,
    /// Calls a second from one address without a valid key [env: KEYRACK_RATE_LIMIT_ADDRESSES] [default: 20]
    #[arg(long, value_name = "NUMBER")]
    rate_limit_addresses: Option<String>,
}

impl Flags {
    /// These flags, and `others` where there are none.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        Self {
            config: self.config.or(others.config),
            listen: self.listen.or(others.listen),
            data_dir: self.data_dir.or(others.data_dir),
            root_key_file: self.root_key_file.or(others.root_key_file),
            log_level: self.log_level.or(others.log_level),
            log_format: self.log_format.or(others.log_format),
            problem_types: self.problem_types.or(others.problem_types),
            rate_limit_tier: self.rate_limit_tier.or(others.rate_limit_tier),
            rate_limits: self.rate_limits.or(others.rate_limits),
            rate_limit_addresses: self.rate_limit_addresses.or(others.rate_limit_addresses),
        }
    }

    fn values(&self) -> [&Option<String>; SETTINGS.len()] {
        [
            &self.listen,
            &self.data_dir,
            &self.root_key_file,
            &self.log_level,
            &self.log_format,
            &self.problem_types,
            &self.rate_limit_tier,
            &self.rate_limits,
            &self.rate_limit_addresses,
        ]
    }
}

/// Settings that have been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where the management API listens.
    pub listen: SocketAddr,
    /// Where the store is.
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

fn known_variables() -> impl Iterator<Item = String> {
    SETTINGS.iter().map(variable).chain([CONFIG_VARIABLE.to_owned(), PROFILE_VARIABLE.to_owned()])
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
    let mut values: [Option<Sourced>; SETTINGS.len()] = Default::default();
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
    for ((slot, setting), flag) in values.iter_mut().zip(&SETTINGS).zip(flags.values()) {
        if let Some(value) = flag {
            *slot = Some(Sourced { value: value.clone(), source: format!("--{}", setting.name.replace('_', "-")) });
        }
    }
    check(values, problems)
}

fn read_file(path: &Path, problems: &mut Vec<String>) -> [Option<Sourced>; SETTINGS.len()] {
    let mut values: [Option<Sourced>; SETTINGS.len()] = Default::default();
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
        let known = SETTINGS.iter().position(|setting| setting.name == name);
        match (known.and_then(|at| values.get_mut(at)), value) {
            (Some(slot), toml::Value::String(value)) => {
                *slot = Some(Sourced { value, source: format!("`{name}` in {shown}") });
            }
            (Some(_), _) => problems.push(format!("`{name}` in {shown} must be a string in quotes")),
            (None, _) => {
                let known = SETTINGS.iter().map(|setting| setting.name.to_owned());
                problems.push(format!(
                    "unknown setting `{name}` in {shown}; the nearest one is `{}`",
                    nearest(&name, known)
                ));
            }
        }
    }
    values
}

fn check(values: [Option<Sourced>; SETTINGS.len()], mut problems: Vec<String>) -> Result<Config, ConfigError> {
    let mut values = values.into_iter().zip(&SETTINGS).map(|(value, setting)| {
        value.unwrap_or_else(|| Sourced { value: setting.default.to_owned(), source: "the default".to_owned() })
    });
    let mut next = || values.next().unwrap_or_else(|| Sourced { value: String::new(), source: String::new() });
    let [listen, data_dir, root_key_file, log_level, log_format, problem_types, tier, rates, addresses] =
        std::array::from_fn(|_| next());

    let data_path = PathBuf::from(&data_dir.value);
    let root_key_path = match root_key_file.value.as_str() {
        "" => data_path.join("root.key"),
        path => PathBuf::from(path),
    };
    let listen = want(&listen, "an address and port, such as 127.0.0.1:8080", &mut problems, |text| text.parse().ok());
    let log_level = want(&log_level, "error, warn, info, debug or trace", &mut problems, |text| match text {
        "error" | "warn" | "info" | "debug" | "trace" => text.parse().ok(),
        _ => None,
    });
    let log_format = want(&log_format, "text or json", &mut problems, |text| match text {
        "text" => Some(LogFormat::Text),
        "json" => Some(LogFormat::Json),
        _ => None,
    });
    let data_dir = want(&data_dir, "a directory", &mut problems, |text| (!text.is_empty()).then_some(data_path));
    let problem_types = want(&problem_types, "a URL or path without `#` and spaces", &mut problems, |text| {
        let is_plain = !text.is_empty() && !text.contains(|c: char| c == '#' || c.is_whitespace() || c.is_control());
        is_plain.then(|| text.to_owned())
    });
    let limits = check_limits(&tier, &rates, &addresses, &mut problems);
    match (listen, data_dir, log_level, log_format, problem_types, limits) {
        (Some(listen), Some(data_dir), Some(log_level), Some(log_format), Some(problem_types), Some(limits))
            if problems.is_empty() =>
        {
            Ok(Config { listen, data_dir, root_key_file: root_key_path, log_level, log_format, problem_types, limits })
        }
        _ => Err(ConfigError(problems)),
    }
}

fn check_limits(tier: &Sourced, rates: &Sourced, addresses: &Sourced, problems: &mut Vec<String>) -> Option<Limits> {
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

fn variable(setting: &Setting) -> String {
    format!("{PREFIX}{}", setting.name.to_uppercase())
}

/// Kubernetes sets these for a Service called `keyrack` in every container beside it; they are not ours.
fn is_of_a_service(name: &str) -> bool {
    ["KEYRACK_SERVICE_", "KEYRACK_PORT_"].iter().any(|prefix| name.starts_with(prefix)) || name == "KEYRACK_PORT"
}

fn nearest(name: &str, known: impl Iterator<Item = String>) -> String {
    known.min_by_key(|candidate| strsim::damerau_levenshtein(name, candidate)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn nothing_set_gives_the_defaults() {
        let config = read(&Flags::default(), []).unwrap();
        assert_eq!(config.listen, "127.0.0.1:8080".parse().unwrap());
        assert_eq!(config.root_key_file, PathBuf::from("./keyrack-data/root.key"));
        assert_eq!(config.log_level, LevelFilter::INFO);
        assert_eq!((config.limits.tier, config.limits.addresses_per_second), (Tier::Starter, 20));
    }

    #[test]
    fn flag_beats_environment_beats_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("keyrack.toml");
        std::fs::write(&file, "listen = \"127.0.0.1:1\"\nlog_level = \"warn\"\nlog_format = \"json\"\n").unwrap();
        let flags = Flags { config: Some(file), listen: Some("127.0.0.1:3".into()), ..Flags::default() };
        let config =
            read(&flags, environment(&[("KEYRACK_LISTEN", "127.0.0.1:2"), ("KEYRACK_LOG_LEVEL", "debug")])).unwrap();
        assert_eq!(config.listen.port(), 3);
        assert_eq!(config.log_level, LevelFilter::DEBUG);
        assert_eq!(config.log_format, LogFormat::Json);
    }

    #[test]
    fn a_client_knows_its_variables_and_refuses_misspelt_ones() {
        let settings = client(environment(&[
            ("KEYRACK_PROFILE", "work"),
            ("KEYRACK_LISTEN", "nowhere"),
            ("KEYRACK_PORT", "tcp://10.0.0.1:80"),
            ("HOME", "/home/me"),
            ("XDG_CONFIG_HOME", "relative"),
        ]));
        let expected = ClientSettings { profile: Some("work".into()), config_home: Some("/home/me/.config".into()) };
        assert_eq!(settings, Ok(expected));
        let settings = client(environment(&[("XDG_CONFIG_HOME", "/etc/me"), ("HOME", "/home/me")])).unwrap();
        assert_eq!(settings.config_home, Some("/etc/me".into()));
        let refused = client(environment(&[("KEYRACK_PROFLE", "work")])).unwrap_err();
        assert_eq!(refused.0, ["unknown variable KEYRACK_PROFLE; the nearest one is KEYRACK_PROFILE"]);
        assert!(read(&Flags::default(), environment(&[("KEYRACK_PROFILE", "work")])).is_ok());
    }

    #[test]
    fn every_problem_is_named_at_once_and_unknown_names_get_the_nearest() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("k.toml");
        std::fs::write(&file, "lsiten = \"x\"\nlog_level = 3\n").unwrap();
        let flags = Flags { config: Some(file), listen: Some("nowhere".into()), ..Flags::default() };
        let ConfigError(problems) =
            read(&flags, environment(&[("KEYRACK_DATADIR", "x"), ("KEYRACK_PORT_80_TCP", "x"), ("HOME", "/")]))
                .unwrap_err();
        let expected = [
            "unknown variable KEYRACK_DATADIR; the nearest one is KEYRACK_DATA_DIR",
            "`log_level` in FILE must be a string in quotes",
            "unknown setting `lsiten` in FILE; the nearest one is `listen`",
            "--listen is \"nowhere\", but must be an address and port, such as 127.0.0.1:8080",
        ];
        let shown = dir.path().join("k.toml").display().to_string();
        let mut problems: Vec<_> = problems.iter().map(|problem| problem.replace(&shown, "FILE")).collect();
        problems.sort();
        let mut expected: Vec<_> = expected.iter().map(|problem| (*problem).to_owned()).collect();
        expected.sort();
        assert_eq!(problems, expected);
    }
}
