//! The windows that are open, and what each has admitted.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use super::{Outcome, Quota, Verdict, WINDOW_SECONDS};
use crate::clock::Uptime;

const SECOND: u64 = 1_000_000;
const WINDOW: u64 = SECOND * WINDOW_SECONDS as u64;

/// The open windows of many callers. One that has ended is forgotten, so what is held is bounded by how many callers open
/// one within ten seconds, and by `most`.
pub(super) struct Windows<K> {
    open: HashMap<K, Window>,
    /// The callers in the order in which their windows began, and so, as all last equally long, in which they end.
    order: VecDeque<(Uptime, K)>,
    most: usize,
    /// The window of all those for whom there is no room.
    shared: Window,
    /// The latest time that was seen. Threads come here in another order than they read the clock; time does not go back
    /// for that.
    now: Uptime,
}

impl<K: Copy + Eq + Hash> Windows<K> {
    /// None yet, and never more than so many.
    pub(super) fn at_most(most: usize) -> Self {
        let (shared, now) = (Window::beginning(Uptime(0)), Uptime(0));
        Self { open: HashMap::new(), order: VecDeque::new(), most, shared, now }
    }

    /// Counts a call, in the caller's window or one that begins with this call.
    pub(super) fn count(&mut self, caller: K, quota: Quota, now: Uptime) -> Outcome {
        self.now = self.now.max(now);
        self.forget_ended();
        let is_full = self.open.len() >= self.most;
        let window = match self.open.entry(caller) {
            Entry::Occupied(window) => window.into_mut(),
            Entry::Vacant(_) if is_full => {
                if self.shared.has_ended(self.now) {
                    self.shared = Window::beginning(self.now);
                }
                &mut self.shared
            }
            Entry::Vacant(free) => {
                self.order.push_back((self.now, caller));
                free.insert(Window::beginning(self.now))
            }
        };
        window.count(quota, self.now)
    }

    /// Each window is forgotten once, so this costs a call no more than opening its own did.
    fn forget_ended(&mut self) {
        while let Some((began, caller)) = self.order.front()
            && self.now.microseconds_since(*began) >= WINDOW
        {
            self.open.remove(caller);
            self.order.pop_front();
        }
    }

    /// How many windows are held.
    #[cfg(test)]
    pub(super) fn open(&self) -> usize {
        assert_eq!(self.open.len(), self.order.len());
        self.open.len()
    }
}

/// Ten seconds of one caller.
#[derive(Clone, Copy, Debug)]
struct Window {
    began: Uptime,
    admitted: u32,
    /// Which second of the window was counted in last.
    second: u64,
    admitted_in_second: u32,
}

impl Window {
    const fn beginning(now: Uptime) -> Self {
        Self { began: now, admitted: 0, second: 0, admitted_in_second: 0 }
    }

    const fn has_ended(&self, now: Uptime) -> bool {
        now.microseconds_since(self.began) >= WINDOW
    }

    /// Counts a call in a window that has not ended. What it is granted comes with the call: it is not the same for all
    /// calls of one key.
    fn count(&mut self, quota: Quota, now: Uptime) -> Outcome {
        let age = now.microseconds_since(self.began);
        let second = age / SECOND;
        if second != self.second {
            (self.second, self.admitted_in_second) = (second, 0);
        }
        let verdict = if self.admitted >= quota.window {
            Verdict::WindowSpent
        } else if self.admitted_in_second >= quota.second {
            Verdict::SecondSpent { limit: quota.second, ends_in: SECOND - age % SECOND }
        } else {
            self.admitted += 1;
            self.admitted_in_second += 1;
            Verdict::Admitted
        };
        let remaining = quota.window.saturating_sub(self.admitted);
        Outcome { limit: quota.window, remaining, ends_in: WINDOW.saturating_sub(age), verdict }
    }
}
