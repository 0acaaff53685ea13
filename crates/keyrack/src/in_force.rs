//! The policies in force. Every verification looks at them and they change seldom, so a look takes no locked instruction.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

use crate::PolicySet;

thread_local! {
    /// What this thread saw last. It keeps policies that are in force no more until it looks again.
    static SEEN: Cell<Option<Seen>> = const { Cell::new(None) };
}

/// No two of a process have one number.
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(0);

/// Policies, as they were in force at some turn of an [`InForce`].
struct Seen {
    number: u64,
    turn: u64,
    policies: Arc<PolicySet>,
}

/// The policies in force, for every thread.
#[derive(Debug)]
pub(crate) struct InForce {
    number: u64,
    /// How often they were changed.
    turn: AtomicU64,
    policies: ArcSwap<PolicySet>,
}

impl InForce {
    pub(crate) fn new(policies: PolicySet) -> Self {
        let number = NEXT_NUMBER.fetch_add(1, Ordering::Relaxed);
        Self { number, turn: AtomicU64::new(0), policies: ArcSwap::from_pointee(policies) }
    }

    /// Puts others in force: when this returns, every later look sees them.
    pub(crate) fn set(&self, policies: PolicySet) {
        self.policies.store(policies.into());
        self.turn.fetch_add(1, Ordering::Release);
    }

    /// Those in force, to be kept.
    pub(crate) fn get(&self) -> Arc<PolicySet> {
        self.policies.load_full()
    }

    /// Looks at those in force.
    #[inline]
    pub(crate) fn with<T>(&self, look: impl FnOnce(&PolicySet) -> T) -> T {
        // Before the policies: what is kept is then as new as its turn, or newer.
        let turn = self.turn.load(Ordering::Acquire);
        // Taken out, so that whoever looks may look again meanwhile. While a thread ends there is nothing to take.
        let seen = SEEN.try_with(Cell::take).ok().flatten();
        let seen = seen.filter(|seen| seen.number == self.number && seen.turn == turn).unwrap_or_else(|| Seen {
            number: self.number,
            turn,
            policies: self.get(),
        });
        let looked = look(&seen.policies);
        // A thread that ends keeps nothing.
        let _is_kept = SEEN.try_with(|kept| kept.set(Some(seen))).is_ok();
        looked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PolicyVersion;

    fn version(number: u32) -> PolicySet {
        PolicySet::builtin().unknown(PolicyVersion(number))
    }

    fn seen(in_force: &InForce) -> u32 {
        in_force.with(|policies| policies.version().0)
    }

    #[test]
    fn every_look_sees_what_is_in_force_of_its_own() {
        let (one, other) = (InForce::new(version(1)), InForce::new(version(2)));
        assert_eq!((seen(&one), seen(&other), seen(&one)), (1, 2, 1));
        one.set(version(3));
        assert_eq!((seen(&one), seen(&other), seen(&one)), (3, 2, 3));
        assert_eq!(one.get().version(), PolicyVersion(3));
        let within = one.with(|outer| {
            one.set(version(4));
            (outer.version().0, seen(&one), seen(&other))
        });
        assert_eq!((within, seen(&one)), ((3, 4, 2), 4));
    }

    #[test]
    fn what_was_set_elsewhere_is_seen_here() {
        let in_force = InForce::new(version(1));
        assert_eq!(seen(&in_force), 1);
        std::thread::scope(|scope| {
            scope.spawn(|| in_force.set(version(2))).join().unwrap();
        });
        assert_eq!(seen(&in_force), 2);
    }
}
