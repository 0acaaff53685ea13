//! The commands that talk to a server, through the real binary: against the real server where it has the routes, against a
//! stub where a server has to answer in a way of its own.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use keyrack::{ApiKey, KeyKind};
use serde_json::Value;
use tempfile::TempDir;

use crate::server::KEYRACK;

mod calls;
mod journey;
mod keys;
mod local;
mod login;
mod policy;
mod stub;
pub(crate) mod terminal;

/// Somebody with settings of their own.
struct Person {
    home: TempDir,
}

/// What a command said.
#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Person {
    fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap() }
    }

    /// With a profile `default` as `keyrack login` writes it.
    fn with(url: &str, keys: &[&str]) -> Self {
        let person = Self::new();
        let mut text = format!("[default]\nurl = \"{url}\"\n");
        for key in keys {
            let field = match ApiKey::parse(key.as_bytes()).unwrap().kind() {
                KeyKind::Secret => "secret_key",
                KeyKind::Organization => "organization_key",
                KeyKind::Operator => "operator_key",
                KeyKind::Publishable | KeyKind::Follower => panic!("no profile holds this"),
            };
            text += &format!("{field} = \"{key}\"\n");
        }
        let file = person.file();
        fs::create_dir(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
        fs::set_permissions(file.parent().unwrap(), fs::Permissions::from_mode(0o700)).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        person
    }

    fn file(&self) -> PathBuf {
        self.home.path().join("keyrack/profiles.toml")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(KEYRACK);
        command.env_clear().env("XDG_CONFIG_HOME", self.home.path()).current_dir(self.home.path()).args(arguments);
        command
    }

    /// Runs a command with nobody at a terminal.
    fn says(&self, arguments: &[&str]) -> Said {
        self.hears(arguments, "")
    }

    /// Runs a command that reads something from its standard input.
    fn hears(&self, arguments: &[&str], input: &str) -> Said {
        let mut command = self.command(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Who does not read what is offered may close it.
        child.stdin.take().unwrap().write_all(input.as_bytes()).ok();
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Said { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// A key of a kind that no server knows.
fn key_of(kind: KeyKind, byte: u8) -> String {
    ApiKey::generate(kind, &[byte; ApiKey::RANDOM_BYTES]).expose().to_owned()
}
