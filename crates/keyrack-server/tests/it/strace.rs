//! The system calls of a server, watched or made to fail.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// A `strace` that is attached to a process, until this is dropped.
pub(crate) struct Tracer {
    strace: Child,
}

impl Tracer {
    /// Attaches a command that runs `strace` to a process; `more` says what it does there, `output` where it writes that down.
    pub(crate) fn attach(mut strace: Command, process: u32, output: &str, more: &[&str]) -> Self {
        strace.args(["--follow-forks", "--output", output, "--attach", &process.to_string()]).args(more);
        let mut strace = strace.stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(strace.stderr.take().unwrap()).lines();
        let attached = said.find(|line| line.as_ref().is_ok_and(|line| line.contains(" attached")));
        assert!(attached.is_some(), "strace is installed and may trace");
        // Nobody may stop strace by not listening to it.
        std::thread::spawn(move || said.for_each(drop));
        Self { strace }
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // Asked to end, it lets go of the process; killed, it might not.
        kill_process(Pid::from_child(&self.strace), Signal::TERM).ok();
        self.strace.wait().ok();
    }
}
