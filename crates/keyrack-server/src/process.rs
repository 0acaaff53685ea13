//! What the process asks of the system for itself.

use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit, umask};

/// New files are private, and no core dump ever holds a key. What the system refuses is left as it is.
pub fn harden() {
    umask(Mode::from_bits_truncate(0o077));
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).ok();
    set_dumpable_behavior(DumpableBehavior::NotDumpable).ok();
}
