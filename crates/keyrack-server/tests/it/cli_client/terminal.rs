//! A terminal for a command to sit at.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

const PATIENCE: Duration = Duration::from_secs(20);

/// A command at a terminal of its own.
pub(crate) struct AtTerminal {
    child: Child,
    ours: File,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl AtTerminal {
    /// Starts a command with all its streams at a new terminal.
    pub(crate) fn start(command: &mut Command) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let name = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
        let theirs = || File::options().read(true).write(true).open(&name).unwrap();
        let child = command.env("TERM", "xterm").stdin(theirs()).stdout(theirs()).stderr(theirs()).spawn().unwrap();
        // The command builder keeps the other end open, so its end is not seen: the reader just stays behind.
        let ours = File::from(ours);
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, kept) = (ours.try_clone().unwrap(), Arc::clone(&shown));
        thread::spawn(move || {
            let mut bytes = [0; 1024];
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                kept.lock().unwrap().extend_from_slice(&bytes[..count]);
            }
        });
        Self { child, ours, shown }
    }

    /// Everything on the screen so far.
    pub(crate) fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    /// Waits until something is on the screen, and types an answer.
    pub(crate) fn answer(&mut self, question: &str, typed: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.shown().contains(question) {
            assert!(Instant::now() < deadline, "no {question:?} in {:?}", self.shown());
            thread::sleep(Duration::from_millis(10));
        }
        // What is asked for is on the screen before the terminal has become silent.
        thread::sleep(Duration::from_millis(100));
        self.ours.write_all(typed.as_bytes()).unwrap();
    }

    /// Waits for the end: the exit code, and everything that was on the screen.
    pub(crate) fn end(mut self) -> (i32, String) {
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait().unwrap().is_none() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        self.child.kill().ok();
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        thread::sleep(Duration::from_millis(100));
        (code, self.shown())
    }
}
