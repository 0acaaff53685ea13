//! Three PostgreSQL under Patroni, to be killed.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// Stopped when dropped. What it logged stays if the test failed.
pub(super) struct Patroni {
    dir: tempfile::TempDir,
    /// Leads to whichever is the primary.
    pub(super) url: String,
}

/// Who dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Victim {
    /// The processes of the primary. Its Patroni sees that, and lets another take its place.
    Postgres,
    /// Its Patroni too: the others find out when its lock is over.
    Both,
    /// Its Patroni alone: when another has taken its place it is still there, and takes itself for the primary.
    Patroni,
}

impl Patroni {
    pub(super) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let mut patroni = Self { dir, url: String::new() };
        patroni.url = patroni.mend();
        patroni
    }

    /// Starts what does not run, and waits until one is the primary and two follow it; gives the URL.
    pub(super) fn mend(&self) -> String {
        self.run("start", &[]).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Which one is the primary, if any is.
    pub(super) fn primary(&self) -> Option<String> {
        self.run("primary", &[]).ok()
    }

    /// Kills one, and gives the number of the one that has taken its place, and when.
    pub(super) fn fail_over(&self, primary: &str, victim: Victim, patience: Duration) -> (String, Duration) {
        let kill = Instant::now();
        let what = match victim {
            Victim::Postgres => "postgres",
            Victim::Both => "both",
            Victim::Patroni => "patroni",
        };
        self.run("kill", &[primary, what]).unwrap();
        loop {
            if let Some(other) = self.primary().filter(|other| other != primary) {
                return (other, kill.elapsed());
            }
            assert!(kill.elapsed() < patience, "no other PostgreSQL becomes the primary");
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn run(&self, what: &str, more: &[&str]) -> Result<String, String> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../nodes/patroni");
        let output = Command::new(script).arg(what).arg(self.dir.path().join("it")).args(more).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }
}

impl Drop for Patroni {
    fn drop(&mut self) {
        if let Err(error) = self.run("stop", &[]) {
            println!("Patroni is not stopped: {error}");
        }
        if thread::panicking() {
            self.dir.disable_cleanup(true);
            println!("the logs of PostgreSQL, Patroni and etcd are in {}", self.dir.path().join("it").display());
        }
    }
}
