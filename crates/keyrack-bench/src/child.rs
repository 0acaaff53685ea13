//! A process that is measured: started on its core, stopped by its number.

use std::ffi::OsString;
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Outcome;
use crate::system::{LOAD_CORE, SERVER_CORE};

/// Who a process runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunAs {
    /// Whoever runs this program.
    Ourselves,
    /// `nobody` where we are root: for programs that refuse to be root, or that should not be.
    Nobody,
}

/// `nobody` of Debian.
pub(crate) const NOBODY: u32 = 65534;

/// A child process. It is stopped when this is dropped, and by the kernel if this process ends without dropping it.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    id: Pid,
}

impl Running {
    /// Starts a command on [`SERVER_CORE`]. What it prints goes to the end of the log file.
    ///
    /// # Errors
    /// If it cannot be started. A program that does not exist is only seen when [`Running::has_ended`] says so.
    pub(crate) fn start(command: &[OsString], run_as: RunAs, log: &Path) -> Outcome<Self> {
        Self::start_on(&SERVER_CORE.to_string(), command, run_as, log)
    }

    /// [`Running::start`] on both cores.
    ///
    /// # Errors
    /// As for [`Running::start`].
    pub(crate) fn start_unpinned(command: &[OsString], run_as: RunAs, log: &Path) -> Outcome<Self> {
        Self::start_on(&format!("{SERVER_CORE},{LOAD_CORE}"), command, run_as, log)
    }

    fn start_on(cores: &str, command: &[OsString], run_as: RunAs, log: &Path) -> Outcome<Self> {
        let log = File::options().create(true).append(true).open(log)?;
        // Both become the program in the end, so that the number of the child is the number of the program.
        let mut pinned = Command::new("taskset");
        pinned.args(["--cpu-list", cores, "setpriv", "--pdeathsig", "TERM"]);
        if run_as == RunAs::Nobody && rustix::process::geteuid().is_root() {
            pinned.args(["--reuid", &NOBODY.to_string(), "--regid", &NOBODY.to_string(), "--clear-groups"]);
        }
        pinned.arg("--").args(command).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = pinned.spawn()?;
        let id = Pid::from_child(&child);
        Ok(Self { child, id })
    }

    /// Its number.
    pub(crate) const fn id(&self) -> Pid {
        self.id
    }

    /// Whether it is over.
    pub(crate) fn has_ended(&mut self) -> Outcome<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// If it says that it failed.
    pub(crate) fn finish(mut self) -> Outcome<()> {
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { Err(format!("a command failed: {status}").into()) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        const PATIENCE: Duration = Duration::from_secs(5);
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        let asked = kill_process(self.id, Signal::TERM);
        let deadline = Instant::now() + PATIENCE;
        while asked.is_ok() && Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        // Nothing is left to do about a process that cannot even be killed.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_started_runs_on_its_core_and_is_gone_when_dropped() {
        let command = ["sleep", "60"].map(OsString::from);
        let mut running = Running::start(&command, RunAs::Ourselves, Path::new("/dev/null")).unwrap();
        let id = running.id();
        assert!(!running.has_ended().unwrap());
        let at = format!("/proc/{}/status", id.as_raw_nonzero());
        let pinned = |status: String| status.lines().any(|line| line == format!("Cpus_allowed_list:\t{SERVER_CORE}"));
        while !pinned(std::fs::read_to_string(&at).unwrap()) {
            thread::yield_now();
        }
        drop(running);
        assert!(!Path::new(&at).exists());
    }

    #[test]
    fn a_command_that_fails_says_so() {
        let end = |program: &str| {
            Running::start(&[program.into()], RunAs::Ourselves, Path::new("/dev/null")).unwrap().finish()
        };
        assert!(end("true").is_ok());
        assert!(end("false").is_err());
    }
}
