//! What threads share. Compiled with `--cfg keyrack_model` it is the model checker's, which tries every order in which threads may see
//! each other's steps: `./dev model`.

#[cfg(not(keyrack_model))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

#[cfg(not(keyrack_model))]
pub(super) use arc_swap::{ArcSwapOption as Slot, Guard};
#[cfg(keyrack_model)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

#[cfg(keyrack_model)]
pub(super) use self::modelled::{Guard, Slot};

/// The checker does not know `arc_swap`: a lock stands for it, which promises as much and no more.
#[cfg(keyrack_model)]
mod modelled {
    use std::ops::Deref;
    use std::sync::Arc;

    use loom::sync::Mutex;

    #[derive(Debug)]
    pub(in super::super) struct Slot<T>(Mutex<Option<Arc<T>>>);

    impl<T> Default for Slot<T> {
        fn default() -> Self {
            Self(Mutex::new(None))
        }
    }

    impl<T> Slot<T> {
        pub(in super::super) fn load(&self) -> Guard<Option<Arc<T>>> {
            Guard(self.0.lock().expect("nothing panics in here").clone())
        }

        pub(in super::super) fn store(&self, value: Option<Arc<T>>) {
            *self.0.lock().expect("nothing panics in here") = value;
        }
    }

    #[derive(Debug)]
    pub(in super::super) struct Guard<T>(T);

    impl<T> Deref for Guard<T> {
        type Target = T;

        fn deref(&self) -> &T {
            &self.0
        }
    }
}
