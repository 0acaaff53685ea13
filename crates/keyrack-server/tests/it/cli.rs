//! The commands of the host, through the real binary: what they print, what they leave behind, and how they refuse.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use data_encoding::HEXLOWER;
use expect_test::{Expect, expect};
use keyrack::ApiKey;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::server::{KEYRACK, Server, init, keyrack};

/// An installation, and the place it is in.
pub(crate) struct Host {
    pub(crate) place: TempDir,
    pub(crate) keys: Value,
}

impl Host {
    pub(crate) fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let keys = init(&place.path().join("data"));
        Self { place, keys }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.place.path().join("data")
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.data().join(name)
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = keyrack(&self.data());
        command.args(arguments);
        command
    }

    /// Runs a command that must fail and change nothing, and compares all that it says.
    pub(crate) fn refuses(&self, arguments: &[&str], expected: &Expect) {
        let before = contents(self.place.path());
        refuses(&mut self.command(arguments), self.place.path(), expected);
        assert_eq!(contents(self.place.path()), before, "`keyrack {}` changed something", arguments.join(" "));
    }
}

/// Every file beneath a directory: mode, and digest of the bytes. What SQLite works with beside the database is left out
/// as long as there is nothing in it.
pub(crate) fn contents(dir: &Path) -> BTreeMap<PathBuf, (u32, String)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let mode = path.metadata().unwrap().mode() & 0o7777;
        if path.is_dir() {
            found.extend(contents(&path));
            found.insert(path, (mode, "directory".to_owned()));
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        let name = path.to_str().unwrap();
        let holds_nothing = name.ends_with("-shm") || (name.ends_with("-wal") && bytes.is_empty());
        if !holds_nothing {
            found.insert(path, (mode, HEXLOWER.encode(&Sha256::digest(bytes))));
        }
    }
    found
}

/// What a command says: exit code and both streams, with the test's own paths made the same for everybody.
pub(crate) fn transcript(command: &mut Command, place: &Path) -> String {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A server that should have refused to start would run for ever.
    let deadline = Instant::now() + Duration::from_secs(20);
    while child.try_wait().unwrap().is_none() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).unwrap().replace(&place.display().to_string(), "PLACE");
    format!("exit {}\n{said}", output.status.code().unwrap_or_default())
}

pub(crate) fn refuses(command: &mut Command, place: &Path, expected: &Expect) {
    let said = transcript(command, place);
    assert!(!said.starts_with("exit 0"), "{said}");
    expected.assert_eq(&said);
}

pub(crate) fn words(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap().to_owned()
}

pub(crate) fn create(server: &Server, key: &str) -> u16 {
    server.send("POST", "/api/client/keys", key, Some(&json!({"name": "made"})), &[]).unwrap().status
}

#[test]
fn the_first_start_sets_everything_up_and_greets_once() {
    let place = tempfile::tempdir().unwrap();
    let serve = || {
        let mut command = Command::new(KEYRACK);
        command
            .env_clear()
            .current_dir(place.path())
            .args(["serve", "--listen", "127.0.0.1:0", "--verify-listen", "127.0.0.1:0"])
            .stderr(Stdio::null());
        Server::try_start(&mut command).unwrap()
    };
    let server = serve();
    let data = place.path().join("keyrack-data");
    let mode = |path: &Path| path.metadata().unwrap().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    assert_eq!(mode(&data.join("keyrack.db")), 0o600);
    assert_eq!(mode(&data.join("root.key")), 0o600);
    assert_eq!(fs::read(data.join("root.key")).unwrap().len(), 32);

    let greeting = &server.greeting;
    let keys: Vec<_> =
        greeting.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| is_key(word)).collect();
    let mut shown = greeting.clone();
    for (key, name) in keys.iter().zip(["OPERATOR", "OWNER", "ADMIN"]) {
        shown = shown.replace(key, name);
    }
    expect![[r#"
        Keyrack is set up in ./keyrack-data. These keys are shown this once; only digests of them are kept:

          operator key                   OPERATOR
          owner key of organization 1    OWNER
          admin key of project 1         ADMIN

        Once it is serving, create your first key:

          curl -sS http://ADDRESS/api/client/keys \
            -H 'Authorization: Bearer ADMIN' \
            -H 'Content-Type: application/json' \
            -d '{"name": "CI bot"}'

        Keep a copy of ./keyrack-data/root.key apart from your backups: the store cannot be used without it.

        Verifying at http://DOORS
        Listening on http://ADDRESS, reference at http://ADDRESS/docs
    "#]]
    .assert_eq(&without_doors(&shown.replace(&server.url, "http://ADDRESS")));

    let curl = greeting.split("\n\n").find(|part| part.trim_start().starts_with("curl ")).unwrap();
    let output = Command::new("sh").arg("-c").arg(curl).output().unwrap();
    let made: Value = serde_json::from_slice(&output.stdout).expect("curl is installed, and got JSON");
    assert_eq!(made["name"], "CI bot");
    assert!(is_key(&words(&made, "value")));

    assert!(server.stop().success());
    let again = serve();
    let no_keys = again.greeting.replace(&again.url, "http://ADDRESS").replace(&again.url[7..], "ADDRESS");
    let expected = "Verifying at http://DOORS\nListening on http://ADDRESS, reference at http://ADDRESS/docs\n";
    assert_eq!(without_doors(&no_keys), expected);
}

/// The port of the doors is another each time.
fn without_doors(greeting: &str) -> String {
    let line =
        |line: &str| if line.starts_with("Verifying at ") { "Verifying at http://DOORS" } else { line }.to_owned();
    greeting.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

fn is_key(word: &str) -> bool {
    ApiKey::parse(word.as_bytes()).is_ok()
}

#[test]
fn init_prints_one_object_and_its_keys_work() {
    let place = tempfile::tempdir().unwrap();
    let output = keyrack(&place.path().join("data")).args(["init", "--json"]).output().unwrap();
    assert!(output.status.success());
    assert!(output.stderr.is_empty());
    let mut keys: Value = serde_json::from_slice(&output.stdout).unwrap();
    let admin = words(&keys, "project_key");
    assert_eq!(create(&Server::start(&place.path().join("data")), &admin), 200);
    for name in ["operator_key", "organization_key", "project_key"] {
        assert!(is_key(&words(&keys, name)));
        keys[name] = words(&keys, name)[..3].into();
    }
    let expected = json!({
        "operator_key": "op_", "organization_id": 1, "organization_key": "ok_", "project_id": 1, "project_key": "sk_"
    });
    assert_eq!(keys, expected);
}

#[test]
fn init_leaves_a_store_that_exists_alone() {
    let host = Host::new();
    host.refuses(&["init", "--json"], &expect![[r#"
        exit 1
        keyrack: there is a store in PLACE/data already, and nothing was changed. If its keys are lost, run: keyrack recover --project 1
    "#]]);
    host.refuses(&["init"], &expect![[r#"
        exit 1
        keyrack: there is a store in PLACE/data already, and nothing was changed. If its keys are lost, run: keyrack recover --project 1
    "#]]);
}

#[test]
fn recover_prints_a_key_that_works_and_leaves_a_loud_trace() {
    let host = Host::new();
    for (arguments, prefix) in
        [(&["--project", "1"][..], "sk_"), (&["--organization", "1"], "ok_"), (&["--operator"], "op_")]
    {
        let output = host.command(&["recover"]).args(arguments).output().unwrap();
        assert!(output.status.success());
        let printed = String::from_utf8(output.stdout).unwrap();
        let key = printed.strip_suffix('\n').unwrap();
        assert!(is_key(key) && key.starts_with(prefix), "{prefix} {printed:?}");
        let log = String::from_utf8(output.stderr).unwrap();
        assert!(log.contains("WARN") && !log.contains(key), "{log}");
        let as_project_admin = if prefix == "sk_" { 200 } else { 401 };
        assert_eq!(create(&Server::start(&host.data()), key), as_project_admin);
    }
    let exported = host.command(&["audit", "export"]).output().unwrap().stdout;
    let entries = String::from_utf8(exported).unwrap();
    let entries = entries.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let recovered: Vec<_> = entries.filter(|entry| entry["action"] == "key.recover").collect();
    assert_eq!(recovered.len(), 3);
    for entry in recovered {
        assert_eq!(entry["actor"], json!({"kind": "host", "id": null}));
        assert_eq!(entry["target"]["kind"], "key");
        assert_eq!(entry["after"]["name"], "Recovered on the host");
    }
    assert!(host.command(&["audit", "verify"]).status().unwrap().success());
}

#[test]
fn recover_refuses_what_is_not_there_and_wrong_use() {
    let host = Host::new();
    let quiet = "--log-level=error";
    host.refuses(
        &["recover", "--project", "7", quiet],
        &expect![[r#"
        exit 1
        keyrack: there is no project 7 in this store
    "#]],
    );
    host.refuses(
        &["recover", "--organization", "7", quiet],
        &expect![[r#"
        exit 1
        keyrack: there is no organization 7 in this store
    "#]],
    );
    host.refuses(
        &["recover"],
        &expect![[r#"
        exit 2
        error: the following required arguments were not provided:
          <--project <ID>|--organization <ID>|--operator>

        Usage: keyrack recover <--project <ID>|--organization <ID>|--operator>

        For more information, try '--help'.
    "#]],
    );
    host.refuses(
        &["recover", "--operator", "--project", "1"],
        &expect![[r#"
        exit 2
        error: the argument '--operator' cannot be used with '--project <ID>'

        Usage: keyrack recover <--project <ID>|--organization <ID>|--operator>

        For more information, try '--help'.
    "#]],
    );
    host.refuses(
        &["recover", "--project", "one"],
        &expect![[r#"
        exit 2
        error: invalid value 'one' for '--project <ID>': invalid digit found in string

        For more information, try '--help'.
    "#]],
    );

    let nothing = tempfile::tempdir().unwrap();
    let data = nothing.path().join("data");
    refuses(
        keyrack(&data).args(["recover", "--operator"]),
        nothing.path(),
        &expect![[r#"
        exit 1
        keyrack: there is no store in PLACE/data. Make one with: keyrack serve
    "#]],
    );
    refuses(
        keyrack(&data).args(["audit", "verify"]),
        nothing.path(),
        &expect![[r#"
        exit 1
        keyrack: there is no store in PLACE/data. Make one with: keyrack serve
    "#]],
    );
    assert!(contents(nothing.path()).is_empty());
}

#[test]
fn config_check_names_every_problem_at_once() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("keyrack.toml"), "log_format = \"xml\"\nlsiten = \"127.0.0.1:1\"\nlog_level = 3\n")
        .unwrap();
    let check = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = Command::new(KEYRACK);
        command.env_clear().envs(variables.iter().copied()).current_dir(place.path()).args(["config", "check"]);
        transcript(command.args(arguments), place.path())
    };
    let variables = [
        ("KEYRACK_LOG_LEVEL", "loud"),
        ("KEYRACK_DATADIR", "/tmp"),
        ("KEYRACK_CONFIG", "keyrack.toml"),
        ("KEYRACK_RATE_LIMITS", "starter=200/100 gold=1/1/1"),
        ("KEYRACK_RATE_LIMIT_TIER", "gold"),
    ];
    expect![[r#"
        exit 1
        keyrack: the settings have 13 problem(s)
          - unknown variable KEYRACK_DATADIR; the nearest one is KEYRACK_DATA_DIR
          - `log_level` in keyrack.toml must be a string in quotes
          - unknown setting `lsiten` in keyrack.toml; the nearest one is `listen`
          - --listen is "nowhere", but must be an address and port, such as 127.0.0.1:8080
          - KEYRACK_LOG_LEVEL is "loud", but must be error, warn, info, debug or trace
          - `log_format` in keyrack.toml is "xml", but must be text or json
          - --data-dir is "", but must be a directory
          - KEYRACK_RATE_LIMIT_TIER is "gold", but must be starter, professional or enterprise
          - KEYRACK_RATE_LIMITS: "starter=200/100" must be like starter=200/100/1.5: reads and writes per second, from 1 to 1000000, and a burst from 1 to 10 with at most two decimals
          - KEYRACK_RATE_LIMITS: "gold" is no tier; they are starter, professional and enterprise
          - KEYRACK_RATE_LIMITS: professional is missing
          - KEYRACK_RATE_LIMITS: enterprise is missing
          - --rate-limit-addresses is "0", but must be a whole number of calls a second, from 1 to 1000000
    "#]]
    .assert_eq(&check(&["--listen", "nowhere", "--data-dir", "", "--rate-limit-addresses=0"], &variables));
    expect![[r#"
        exit 2
        error: unexpected argument '--lissten' found

          tip: a similar argument exists: '--listen'

        Usage: keyrack config check --listen <ADDRESS:PORT>

        For more information, try '--help'.
    "#]]
    .assert_eq(&check(&["--lissten", "127.0.0.1:1"], &[]));
    expect![[r#"
        exit 1
        keyrack: the settings have 1 problem(s)
          - cannot read missing.toml: No such file or directory (os error 2)
    "#]]
    .assert_eq(&check(&["--config", "missing.toml"], &[]));
    fs::write(place.path().join("broken.toml"), "listen = ").unwrap();
    expect![[r#"
        exit 1
        keyrack: the settings have 1 problem(s)
          - broken.toml: TOML parse error at line 1, column 10: string values must be quoted, expected literal string
    "#]]
    .assert_eq(&check(&["--config", "broken.toml"], &[]));
    assert_eq!(contents(place.path()).len(), 2);
}

#[test]
fn config_check_shows_flag_before_environment_before_file_before_default() {
    let place = tempfile::tempdir().unwrap();
    let file =
        "listen = \"127.0.0.1:1\"\nlog_level = \"warn\"\nlog_format = \"json\"\nrate_limit_tier = \"enterprise\"\n";
    fs::write(place.path().join("keyrack.toml"), file).unwrap();
    let mut command = Command::new(KEYRACK);
    command.env_clear().current_dir(place.path());
    command.env("KEYRACK_LISTEN", "127.0.0.1:2").env("KEYRACK_LOG_LEVEL", "debug");
    command.env("KEYRACK_RATE_LIMITS", "enterprise=9/9/9.50 starter=1/2/3 professional=4/5/6.0");
    command.args(["config", "check", "--config", "keyrack.toml", "--listen", "127.0.0.1:3"]);
    expect![[r#"
        exit 0
        The settings are good:
          listen                127.0.0.1:3
          metrics_listen        off
          verify_listen         127.0.0.1:8081
          verify_socket         
          verify_threads        cores
          trusted_proxies       127.0.0.0/8 ::1/128
          key_limits            
          limit_headers         x
          database_url          
          stale_limit           300s
          data_dir              ./keyrack-data
          root_key_file         ./keyrack-data/root.key
          log_level             debug
          log_format            json
          problem_types         /docs/errors
          rate_limit_tier       enterprise
          rate_limits           starter=1/2/3 professional=4/5/6 enterprise=9/9/9.5
          rate_limit_addresses  20
    "#]]
    .assert_eq(&transcript(&mut command, place.path()));
    assert_eq!(contents(place.path()).len(), 1);
}

/// A log that cannot be written ends nothing, and a result that cannot be printed is an error that says what to do.
#[test]
fn outputs_that_fail_are_survived() {
    let data = tempfile::tempdir().unwrap();
    let keys = init(data.path());
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let server = Server::try_start(keyrack(data.path()).arg("serve").stderr(full())).unwrap();
    let admin = keys["project_key"].as_str().unwrap();
    for _ in 0..3 {
        assert_eq!(server.send("GET", "/api/client/keys", admin, None, &[]).unwrap().status, 200);
    }
    drop(server);

    let new = tempfile::tempdir().unwrap();
    let output = keyrack(new.path()).args(["init", "--json"]).stdout(full()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("the keys are lost") && said.contains("keyrack recover --operator"), "{said}");
    let recovered = keyrack(new.path()).args(["recover", "--project", "1"]).output().unwrap();
    assert!(recovered.status.success());
}

/// What was begun and not finished is not an installation yet.
#[test]
fn a_first_start_that_was_cut_off_can_be_repeated() {
    let data = tempfile::tempdir().unwrap();
    let cut_off = keyrack(data.path()).env("CRASH_AT", "before-commit:1").args(["init", "--json"]).output().unwrap();
    assert!(!cut_off.status.success() && cut_off.stdout.is_empty());
    let recovered = keyrack(data.path()).args(["recover", "--operator"]).output().unwrap();
    assert!(!recovered.status.success() && recovered.stdout.is_empty());
    assert!(init(data.path())["project_key"].is_string());
}

#[test]
fn a_data_directory_that_others_can_write_is_refused() {
    let data = tempfile::tempdir().unwrap();
    fs::set_permissions(data.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let output = keyrack(data.path()).arg("serve").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("can be written by others (mode 0777)") && said.contains("chmod 700"), "{said}");
    assert_eq!(fs::read_dir(data.path()).unwrap().count(), 0);
}
