//! What shows that something is under way: on the standard error stream, if that is a terminal, after one second.

use std::io::{IsTerminal as _, stderr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// What is done before this needs no explanation.
const PATIENCE: Duration = Duration::from_secs(1);
const REDRAW_INTERVAL: Duration = Duration::from_millis(100);
const SPINNER: &str = "{spinner} {msg}";
const COUNT: &str = "{spinner} {msg}: {pos}";
const BAR: &str = "{msg} [{wide_bar}] {pos}/{len} {eta}";

/// Something under way; what is shown of it is cleared when this is dropped.
pub(super) struct Progress {
    done: Arc<AtomicU64>,
    painter: Option<(mpsc::Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    /// One thing of unknown length.
    pub(super) fn spinner(what: &'static str) -> Self {
        Self::start(what, SPINNER, 0)
    }

    /// Things that are counted, nobody knows how far.
    pub(super) fn count(what: &'static str) -> Self {
        Self::start(what, COUNT, 0)
    }

    /// A known number of things.
    pub(super) fn of(what: &'static str, total: u64) -> Self {
        Self::start(what, BAR, total)
    }

    /// So many more are done.
    pub(super) fn add(&self, more: u64) {
        self.done.fetch_add(more, Ordering::Relaxed);
    }

    fn start(what: &'static str, template: &'static str, total: u64) -> Self {
        let done = Arc::new(AtomicU64::new(0));
        if !stderr().is_terminal() {
            return Self { done, painter: None };
        }
        let (stop, stopped) = mpsc::channel::<()>();
        let seen = Arc::clone(&done);
        let painter = thread::spawn(move || {
            if stopped.recv_timeout(PATIENCE) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            let style =
                ProgressStyle::with_template(template).expect("the templates are well formed; a test reads them");
            let bar = ProgressBar::new(total).with_style(style).with_message(what);
            while stopped.recv_timeout(REDRAW_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                bar.set_position(seen.load(Ordering::Relaxed));
                bar.tick();
            }
            bar.finish_and_clear();
        });
        Self { done, painter: Some((stop, painter)) }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((stop, painter)) = self.painter.take() {
            drop(stop);
            painter.join().ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_well_formed() {
        for template in [SPINNER, COUNT, BAR] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
