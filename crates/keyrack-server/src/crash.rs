//! Named places where the crash tests end the process, as a power cut would. Release builds have none.

/// Ends the process at once if `CRASH_AT` is `NAME:N` and this is the N-th time the place of that name is passed.
#[cfg(debug_assertions)]
#[expect(clippy::disallowed_methods, reason = "not a setting: it is not there in a release build")]
pub fn crash_point(name: &str) {
    static PASSED: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let Ok(at) = std::env::var("CRASH_AT") else { return };
    let Some((place, times)) = at.split_once(':') else { return };
    if place == name && PASSED.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1 == times.parse().unwrap_or(1) {
        std::process::abort();
    }
}

/// Does nothing.
#[cfg(not(debug_assertions))]
pub const fn crash_point(_name: &str) {}
