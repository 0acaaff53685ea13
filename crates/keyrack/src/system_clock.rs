//! The time, for those who do not bring a clock of their own.

use rustix::time::{ClockId, clock_gettime};

use crate::Now;

/// The machine's clocks.
pub fn system_clock() -> Now {
    // The boot-time clock goes on while the machine sleeps, so what is too old is known to be.
    #[cfg(target_os = "linux")]
    let boot = clock_gettime(ClockId::Boottime);
    #[cfg(not(target_os = "linux"))]
    let boot = clock_gettime(ClockId::Monotonic);
    let wall = clock_gettime(ClockId::Realtime);
    Now { boot: boot.try_into().unwrap_or_default(), unix_seconds: wall.tv_sec }
}
