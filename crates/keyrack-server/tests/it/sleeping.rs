//! What durations are measured with goes on while the machine sleeps: whoever wakes up knows that what it has in memory is old.

use std::process::Command;

use keyrack_server::clock::{Clock as _, SystemClock};

/// Seconds by which the boot-time clock of another time namespace is ahead of every other clock, as after a sleep.
const SLEPT: u64 = 1_000_000_000;
/// Set in the process that looks at its clocks there.
const IS_THERE: &str = "KEYRACK_TEST_SLEPT";

#[test]
#[expect(clippy::disallowed_methods, reason = "the variable is the test's own")]
fn the_clock_of_leases_counts_the_time_that_the_machine_slept() {
    if std::env::var_os(IS_THERE).is_some() {
        assert!(SystemClock.uptime().0 > SLEPT * 1_000_000, "the server's: {:?}", SystemClock.uptime());
        let library = keyrack::system_clock().boot;
        assert!(library.as_secs() > SLEPT, "the library's: {library:?}");
        return;
    }
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--time", "--boottime", &SLEPT.to_string()]).arg(std::env::current_exe().unwrap());
    let name = concat!(module_path!(), "::the_clock_of_leases_counts_the_time_that_the_machine_slept");
    let name = name.split_once("::").unwrap().1;
    let there = command.args(["--exact", name, "--nocapture"]).env(IS_THERE, "1").output().unwrap();
    let said = String::from_utf8_lossy(&there.stdout);
    assert!(there.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&there.stderr));
}
