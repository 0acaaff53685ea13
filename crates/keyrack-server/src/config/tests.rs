//! Where settings come from, and what is wrong with them.

use super::check::stale_limit;
use super::*;
use crate::limits::Tier;
use crate::store::LEASE;

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

#[test]
fn of_a_database_nothing_is_shown_that_could_hold_a_password() {
    let read = |url: &str| read(&Flags { database_url: Some(url.into()), ..Flags::default() }, []);
    for url in ["postgres://u:hunter2@", "postgres://u:hunter2@db:port/x", "mysql://u:hunter2@db/x", "hunter2"] {
        let ConfigError(problems) = read(url).unwrap_err();
        assert!(problems.len() == 1 && problems[0].starts_with("--database-url must be a URL"), "{problems:?}");
        assert!(!problems[0].contains("hunter2"), "{problems:?}");
    }
    let config = read("postgres://u:hunter2@db1,db2:5433/keys").unwrap();
    assert_eq!(config.database().to_string(), "keys at db1,db2");
    assert!(!format!("{config:?}").contains("hunter2"));
    assert_eq!(config.stale_limit.as_secs(), 300);
    let strict = super::read(&Flags { strict: Some("on".into()), ..Flags::default() }, []).unwrap();
    assert_eq!(strict.stale_limit, LEASE);
    let limit = |text: &str| stale_limit(text).map(|limit| limit.as_secs());
    assert_eq!([limit("2s"), limit("10m"), limit("24h")], [Some(2), Some(600), Some(86_400)]);
    assert_eq!([limit("1s"), limit("25h"), limit("5"), limit("-3s"), limit("")], [None; 5]);
}
