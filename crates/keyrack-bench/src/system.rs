//! What the system says of processes and of itself, and which core this process works on.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::Outcome;

/// The core of whatever is measured over a socket.
pub(crate) const SERVER_CORE: usize = 0;
/// The core of the load, and of what is measured in this process.
pub(crate) const LOAD_CORE: usize = 1;

/// Keeps this process, and what it starts from now on, on [`LOAD_CORE`].
///
/// # Errors
/// If there are not two cores.
pub(crate) fn pin_to_load_core() -> Outcome<()> {
    let allowed = sched_getaffinity(None)?;
    if !allowed.is_set(SERVER_CORE) || !allowed.is_set(LOAD_CORE) {
        return Err("two cores are needed: one for the server, one for the load".into());
    }
    pin_to(LOAD_CORE)
}

/// Keeps this thread, and what it starts from now on, on a core.
///
/// # Errors
/// If there is no such core.
pub(crate) fn pin_to(core: usize) -> Outcome<()> {
    let mut one = CpuSet::new();
    one.set(core);
    Ok(sched_setaffinity(None, &one)?)
}

/// Processor time in seconds, user and system, that some processes and everything below them have taken.
pub(crate) fn seconds_of_trees(roots: &[Pid]) -> Outcome<f64> {
    let processes = processes()?;
    let roots: Vec<i32> = roots.iter().map(|root| root.as_raw_nonzero().get()).collect();
    let mut ticks = 0;
    for process in processes.values() {
        let mut ancestor = Some(process);
        while let Some(candidate) = ancestor {
            if roots.contains(&candidate.id) {
                ticks += process.ticks;
                break;
            }
            ancestor = processes.get(&candidate.parent);
        }
    }
    Ok(seconds(ticks))
}

/// Processor time in seconds that this process has taken, and those that it started and that have ended.
pub(crate) fn own_seconds() -> Outcome<f64> {
    Ok(seconds(Process::parse(&fs::read_to_string("/proc/self/stat")?).ok_or("/proc/self/stat is odd")?.with_ended))
}

/// Processor time in seconds that all processes have taken on all cores, and what the host kept from us.
pub(crate) fn busy_seconds() -> Outcome<f64> {
    busy_ticks(&fs::read_to_string("/proc/stat")?).map(seconds).ok_or_else(|| "/proc/stat is odd".into())
}

/// Resident memory of a process in bytes.
pub(crate) fn resident_bytes(process: Pid) -> Outcome<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", process.as_raw_nonzero()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    let kibibytes: u64 = line.split_whitespace().next().ok_or("no VmRSS")?.parse()?;
    Ok(kibibytes * 1024)
}

/// The machine in one line.
pub(crate) fn machine() -> Outcome<String> {
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpus.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split(": ").nth(1));
    let cores = cpus.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(format!("{cores} × {}, Linux {}", model.unwrap_or("unknown processor"), kernel.trim()))
}

/// What a command prints on one line; empty if it fails.
pub(crate) fn said_by(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

fn seconds(ticks: u64) -> f64 {
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

/// Every process there is, by its number.
fn processes() -> Outcome<HashMap<i32, Process>> {
    let mut all = HashMap::new();
    for entry in fs::read_dir(Path::new("/proc"))? {
        // A process may end while we look.
        let stat = fs::read_to_string(entry?.path().join("stat"));
        if let Some(process) = stat.ok().as_deref().and_then(Process::parse) {
            all.insert(process.id, process);
        }
    }
    Ok(all)
}

/// A line of `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Process {
    id: i32,
    parent: i32,
    ticks: u64,
    /// The same, with that of children that have ended.
    with_ended: u64,
}

impl Process {
    fn parse(stat: &str) -> Option<Self> {
        // The name stands in parentheses and may contain anything, parentheses too.
        let (before, after) = stat.rsplit_once(')')?;
        let id = before.split_once(' ')?.0.parse().ok()?;
        let mut fields = after.split_whitespace().skip(1);
        let parent = fields.next()?.parse().ok()?;
        // Fields 14 to 17 of the line: user and system time, its own and that of its ended children.
        let times: Vec<u64> = fields.skip(9).take(4).map_while(|field| field.parse().ok()).collect();
        let [user, system, ended_user, ended_system] = times.as_slice() else { return None };
        let ticks = user + system;
        Some(Self { id, parent, ticks, with_ended: ticks + ended_user + ended_system })
    }
}

/// User, nice, system and stolen time: not what interrupts took, for those are the load's own packets too.
fn busy_ticks(stat: &str) -> Option<u64> {
    let fields: Vec<u64> =
        stat.lines().next()?.split_whitespace().skip(1).map_while(|field| field.parse().ok()).collect();
    let [user, nice, system, _idle, _waiting, _interrupts, _soft_interrupts, stolen, ..] = fields.as_slice() else {
        return None;
    };
    Some(user + nice + system + stolen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_from_the_right_fields() {
        let line = "42 (odd ) name) S 7 42 42 0 -1 4194560 100 200 3 4 500 60 70 80 20 0 1 0 12345 9 9";
        assert_eq!(Process::parse(line), Some(Process { id: 42, parent: 7, ticks: 560, with_ended: 710 }));
        assert_eq!(busy_ticks("cpu  1 20 300 4000 5 6 7 50000 0 0\ncpu0 1"), Some(50_321));
        assert_eq!(busy_ticks("cpu  1 20 300"), None);
    }

    #[test]
    fn a_process_is_in_its_own_tree_and_in_its_parents() {
        let own = rustix::process::getpid();
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let known = processes().unwrap();
        let id = i32::try_from(child.id()).unwrap();
        assert_eq!(known[&id].parent, own.as_raw_nonzero().get());
        child.kill().unwrap();
        child.wait().unwrap();
        let alone = own_seconds().unwrap();
        assert!(seconds_of_trees(&[own]).unwrap() >= alone);
        assert_eq!(seconds_of_trees(&[]).unwrap(), 0.0);
    }
}
