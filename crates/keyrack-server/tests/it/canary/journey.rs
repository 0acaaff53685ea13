//! A day in the life of an installation, with every byte that came out of it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use keyrack::{ApiKey, KeyKind};
use keyrack_server::random::{self, OsRandom};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::stray;
use super::wire::{Ask, exchange};
use crate::server::{Server, keyrack};

pub(super) const KEYS: &str = "/api/client/keys";

/// Something that came out of the service, and the secrets that belong there.
pub(super) struct Seen {
    pub(super) what: String,
    pub(super) bytes: Vec<u8>,
    pub(super) may_hold: Vec<usize>,
}

/// What a journey leaves: every secret there was, and everything that was seen.
pub(super) struct Journey {
    pub(super) secrets: Vec<Vec<u8>>,
    pub(super) seen: Vec<Seen>,
    dir: TempDir,
    log_format: &'static str,
    /// How many commands were run, to give each a log of its own.
    commands: usize,
}

impl Journey {
    pub(super) fn run(log_format: &'static str) -> Self {
        let (dir, secrets, seen) = (tempfile::tempdir().unwrap(), Vec::new(), Vec::new());
        let mut journey = Self { secrets, seen, dir, log_format, commands: 0 };
        let (server, first) = journey.first_start();
        let [operator, _, admin] = &first;
        let mut keys = journey.live(&server, admin).to_vec();
        keys.extend(journey.operate(&server, operator));
        journey.go_astray(&server, admin, &keys);
        journey.look_around("while it serves");
        journey.commands_beside(&["audit", "export"]);
        server.stop();
        journey.look_around("after it stopped");
        let [operator, _, admin] = journey.recover();
        let server = journey.start();
        journey.live(&server, &admin);
        journey.operate(&server, &operator);
        journey.commands_beside(&["recover", "--project", "1"]);
        journey.look_around("after recovery");
        drop(server);
        journey.look_around("after it was killed");
        journey.commands_beside(&["audit", "verify"]);
        journey.read_logs();
        journey
    }

    fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn secret(&mut self, value: impl Into<Vec<u8>>) -> usize {
        self.secrets.push(value.into());
        self.secrets.len() - 1
    }

    fn saw(&mut self, what: impl Into<String>, bytes: impl Into<Vec<u8>>, may_hold: &[usize]) {
        self.seen.push(Seen { what: what.into(), bytes: bytes.into(), may_hold: may_hold.to_vec() });
    }

    // ---- commands ----------------------------------------------------------------------------------------------

    /// A command at the finest log level, with a log of its own.
    fn command(&mut self, args: &[&str]) -> Command {
        self.commands += 1;
        let log = File::create(self.dir.path().join(format!("{}-{}.log", self.commands, args[0]))).unwrap();
        let mut command = keyrack(&self.data_dir());
        command.args(args).args(["--log-level", "trace", "--log-format", self.log_format]).stderr(log);
        command
    }

    fn start(&mut self) -> Server {
        let server = Server::try_start(&mut self.command(&["serve"])).unwrap();
        self.saw("greeting of a later start", server.greeting.clone(), &[]);
        server
    }

    /// The first keys come from `init` in one journey, and from `serve` in the other.
    fn first_start(&mut self) -> (Server, [String; 3]) {
        let (printed, server) = if self.log_format == "text" {
            let output = self.command(&["init", "--json"]).output().unwrap();
            (String::from_utf8(output.stdout).unwrap(), self.start())
        } else {
            let server = Server::try_start(&mut self.command(&["serve"])).unwrap();
            (server.greeting.clone(), server)
        };
        let mut first = keys_in(&printed);
        first.dedup();
        let secrets: Vec<_> = first.iter().map(|key| self.secret(key.as_bytes())).collect();
        assert!(secrets.len() >= 3, "{printed}");
        self.saw("the first keys", printed, &secrets);
        let root_key = fs::read(self.data_dir().join("root.key")).unwrap();
        let root_key = self.secret(root_key);
        assert_eq!(self.secrets[root_key].len(), 32);
        (server, ["op_", "ok_", "sk_"].map(|prefix| first.iter().find(|key| key.starts_with(prefix)).unwrap().clone()))
    }

    /// Commands that may be run at any time, one of the journey's choice among them.
    fn commands_beside(&mut self, also: &[&str]) {
        let settings: &[&str] = &["config", "check"];
        let no_store: &[&str] = &["init", "--json"];
        for args in [settings, no_store, also] {
            let output = self.command(args).output().unwrap();
            self.saw(format!("output of {args:?}"), output.stdout, &[]);
        }
    }

    /// New keys for every surface.
    fn recover(&mut self) -> [String; 3] {
        let mut keys = Vec::new();
        for args in
            [&["recover", "--operator"][..], &["recover", "--organization", "1"], &["recover", "--project", "1"]]
        {
            let output = self.command(args).output().unwrap();
            let [key] = keys_in(&String::from_utf8_lossy(&output.stdout)).try_into().unwrap();
            let secret = self.secret(key.as_bytes());
            self.saw(format!("output of {args:?}"), output.stdout, &[secret]);
            keys.push(key);
        }
        let output = self.command(&["recover", "--project", "99"]).output().unwrap();
        self.saw("output of a recovery that failed", output.stdout, &[]);
        keys.try_into().unwrap()
    }

    // ---- requests ----------------------------------------------------------------------------------------------

    pub(super) fn ask(&mut self, server: &Server, ask: &Ask, may_hold: &[usize]) -> Vec<u8> {
        let reply = exchange(&server.url, ask);
        self.saw(format!("reply to {} {:?}", ask.line, ask.headers), reply.clone(), may_hold);
        reply
    }

    /// A create that succeeds: its reply, and no other, holds the value. Gives number and value.
    pub(super) fn create(&mut self, server: &Server, ask: &Ask) -> (i64, String) {
        let reply = exchange(&server.url, ask);
        let made = body_of(&reply);
        let key = made.get("owner_key").unwrap_or(&made);
        let (id, value) = (key["id"].as_i64().unwrap(), key["value"].as_str().unwrap().to_owned());
        let secret = self.secret(value.as_bytes());
        self.saw("reply to a create", reply, &[secret]);
        if ask.headers.iter().any(|header| header.starts_with("Idempotency-Key")) {
            let replay = self.ask(server, ask, &[secret]);
            assert_eq!(body_of(&replay), made);
        }
        (id, value)
    }

    /// What a user does all day; gives the values of a live key, a publishable one and a revoked one.
    fn live(&mut self, server: &Server, admin: &str) -> [String; 3] {
        let post = |body: Value| Ask::new(format!("POST {KEYS}")).bearer(admin).json(&body);
        let (id, live) = self.create(server, &post(json!({"name": "Admin bot", "role": "admin"})));
        let once = post(json!({"name": "CI bot", "description": "Deploys from main"})).header("Idempotency-Key: ci");
        self.create(server, &once);
        let (_, publishable) = self.create(server, &post(json!({"name": "Browser", "scope": "public"})));
        let (dying, revoked) = self.create(server, &post(json!({"name": "Old bot", "role": "admin"})));
        let by_it = Ask::new(format!("POST {KEYS}")).bearer(&live).json(&json!({"name": "Grandchild"}));
        self.create(server, &by_it.header("Idempotency-Key: grandchild"));

        let get = |target: &str| Ask::new(format!("GET {target}")).bearer(admin);
        let page = self.ask(server, &get(&format!("{KEYS}?limit=2&sort=name&q=bot")), &[]);
        let next = body_of(&page)["nextCursor"].as_str().unwrap().to_owned();
        let patch = |body| Ask::new(format!("PATCH {KEYS}/{id}")).bearer(admin).json(&body);
        let others = [
            get(&format!("{KEYS}?limit=2&sort=name&q=bot&cursor={next}")),
            get(&format!("{KEYS}?limit=-1")),
            get(&format!("{KEYS}/{id}")),
            patch(json!({"description": "Looks after the others"})),
            patch(json!({"name": "Keeper"})).header("Idempotency-Key: patch"),
            patch(json!({"name": "Keeper"})).header("Idempotency-Key: patch"),
            patch(json!({"name": "Another body"})).header("Idempotency-Key: patch"),
            Ask::new(format!("DELETE {KEYS}/{dying}")).bearer(admin),
            Ask::new(format!("DELETE {KEYS}/{dying}")).bearer(admin),
            Ask::new(format!("GET {KEYS}")).bearer(&revoked),
            Ask::new(format!("GET {KEYS}")).bearer(&publishable),
            Ask::new("GET /readyz"),
            Ask::new("GET /docs"),
        ];
        for ask in others {
            self.ask(server, &ask, &[]);
        }
        [live, publishable, revoked]
    }

    /// Keys where they do not belong: the user's own, and one that was never issued here.
    fn go_astray(&mut self, server: &Server, admin: &str, keys: &[String]) {
        let stranger = ApiKey::generate(KeyKind::Secret, &random::bytes(&OsRandom)).expose().to_owned();
        self.secret(stranger.as_bytes());
        for key in keys.iter().chain([&stranger]) {
            for ask in stray::everywhere(key, admin) {
                let reply = self.ask(server, &ask, &[]);
                assert!(keys_in(&String::from_utf8_lossy(&reply)).is_empty(), "a key came back from {ask:?}");
            }
            // This one works: the header may be anything, and only a digest of it is kept.
            let once = Ask::new(format!("POST {KEYS}")).bearer(admin).json(&json!({"name": "Odd header"}));
            self.create(server, &once.header(format!("Idempotency-Key: {key}")));
        }
    }

    // ---- files -------------------------------------------------------------------------------------------------

    /// Reads every file of the data directory as it is now.
    fn look_around(&mut self, when: &str) {
        for (name, bytes) in files_in(&self.data_dir()) {
            // The root key is the one secret that is kept in plain, in its own file.
            let is_its_own = |secret: &Vec<u8>| name == "root.key" && *secret == bytes;
            let own: Vec<_> = self.secrets.iter().position(is_its_own).into_iter().collect();
            self.saw(format!("{name} {when}"), bytes, &own);
        }
    }

    fn read_logs(&mut self) {
        for (name, bytes) in files_in(self.dir.path()) {
            let text = String::from_utf8_lossy(&bytes);
            assert!(!name.ends_with("serve.log") || text.contains("answered"), "{name} is no log: {text}");
            self.saw(name, bytes, &[]);
        }
    }
}

fn files_in(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    let files = entries.filter(|entry| entry.file_type().unwrap().is_file());
    files.map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap())).collect()
}

pub(super) fn body_of(reply: &[u8]) -> Value {
    let at = reply.windows(4).position(|part| part == b"\r\n\r\n").unwrap() + 4;
    serde_json::from_slice(&reply[at..]).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(reply)))
}

/// Every whole key in a text.
fn keys_in(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| ApiKey::parse(word.as_bytes()).is_ok()).map(str::to_owned).collect()
}
