//! What `./dev cluster` shows, and that it can be tried.

use std::io::{BufRead as _, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::server::{KEYRACK, free_port};

/// The demonstration, which goes on until it is stopped.
struct Demo {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    shown: String,
}

impl Demo {
    fn start() -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../nodes/demo");
        let mut command = Command::new(script);
        command.arg(KEYRACK).env("PORT", free_port().to_string()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines, shown: String::new() }
    }

    /// Reads on until a line has a word in it.
    fn show_until(&mut self, word: &str) {
        loop {
            let line = self.lines.next().unwrap_or_else(|| panic!("no {word:?} in {}", self.shown)).unwrap();
            self.shown += &(line.clone() + "\n");
            if line.contains(word) {
                return;
            }
        }
    }

    /// Does what it says that one can do.
    fn try_what_is_shown(&self, word: &str) -> String {
        let line = self.shown.lines().find(|line| line.starts_with("  curl") && line.contains(word)).unwrap();
        let tried = Command::new("sh").args(["-c", line]).output().unwrap();
        String::from_utf8(tried.stdout).unwrap()
    }

    /// Ends it as somebody does at a terminal, and waits until it has cleaned up.
    fn stop(&mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).ok();
        self.child.wait().unwrap();
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        self.stop();
    }
}

#[test]
fn the_demonstration_shows_a_death_everywhere_and_life_without_the_database() {
    let mut demo = Demo::start();
    demo.show_until("to see what goes on without it");
    let said = |word: &str| demo.shown.matches(word).count();
    assert_eq!((said("\"VALID\""), said("\"NOT_FOUND\""), said("\"effective\":\"all\"")), (6, 3, 1), "{}", demo.shown);
    assert!(demo.shown.contains("x-keyrack-stale: "), "{}", demo.shown);
    assert_eq!(demo.try_what_is_shown("/api/operator/nodes").matches("\"id\":\"node_").count(), 3);
    assert!(demo.try_what_is_shown("/v1/verify").contains("\"VALID\""));
}
