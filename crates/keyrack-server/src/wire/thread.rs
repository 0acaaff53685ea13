//! One thread of the wire: its event loop, and every connection it has let in.

use std::fmt;
use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mio::event::Event;
use mio::{Events, Interest, Poll, Token, Waker};
use slab::Slab;

use super::connection::{Connection, Heard, Next};
use super::desk::Desk;
use super::http2::Sender;
use super::listen::Listener;
use super::{Limits, Service, WireSettings};

/// Most events that are read at once, and so the most requests that share one reading of the clocks.
const MOST_EVENTS: usize = 256;
/// Most that are let in at once through one door, so that a crowd does not hold up those who are in.
const MOST_ACCEPTED_AT_ONCE: usize = 16;
/// Most connections that are answered before their replies are sent: one kind of work after the other is done faster than all kinds in
/// turn, and nobody waits longer for that than a few others take.
const MOST_HEARD_AT_ONCE: usize = 32;
/// How long nobody is let in when the system has no room for another.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often, at most, connections are looked through for those that have waited too long.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

const WAKER: Token = Token(0);
/// The token of the first door; connections have those from [`FIRST_CONNECTION`] on.
const FIRST_DOOR: usize = 1;
const FIRST_CONNECTION: usize = 8;

/// A listening socket, and whether somebody may wait there.
struct Door {
    listener: Listener,
    has_visitors: bool,
}

/// One thread.
pub(super) struct Thread {
    poll: Poll,
    doors: Vec<Door>,
    connections: Slab<Connection>,
    desk: Desk,
    http2: Sender,
    stop: Arc<AtomicBool>,
    /// When everything that is still open is closed.
    stop_by: Option<Duration>,
    /// Who was answered, and waits for the second half of its turn.
    heard: Vec<(usize, io::Result<Heard>)>,
    /// Who has more to do than it could do in its turn.
    again: Vec<usize>,
    accept_from: Duration,
    next_sweep: Duration,
    sweep_interval: Duration,
}

impl fmt::Debug for Thread {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Thread").field("connections", &self.connections.len()).finish_non_exhaustive()
    }
}

impl Thread {
    /// A thread that serves these sockets once it runs, and what wakes it.
    ///
    /// # Errors
    /// The system has no room for another event loop.
    pub(super) fn new(
        listeners: Vec<Listener>,
        settings: Arc<WireSettings>,
        service: Arc<dyn Service>,
        http2: Sender,
        stop: Arc<AtomicBool>,
    ) -> io::Result<(Self, Waker)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let mut doors = Vec::new();
        for (number, mut listener) in listeners.into_iter().enumerate() {
            poll.registry().register(listener.source(), Token(FIRST_DOOR + number), Interest::READABLE)?;
            doors.push(Door { listener, has_visitors: true });
        }
        let sweep_interval = sweep_interval(&settings.limits);
        let thread = Self {
            poll,
            doors,
            connections: Slab::new(),
            desk: Desk::new(settings, service),
            http2,
            stop,
            stop_by: None,
            heard: Vec::new(),
            again: Vec::new(),
            accept_from: Duration::ZERO,
            next_sweep: Duration::ZERO,
            sweep_interval,
        };
        Ok((thread, waker))
    }

    /// Serves until it is told to stop. A fault of the wire itself costs the connections that are open, not the service.
    pub(super) fn run(mut self) {
        loop {
            match catch_unwind(AssertUnwindSafe(|| self.serve())) {
                Ok(Ok(())) => return,
                Ok(Err(error)) => tracing::error!(%error, "the verification listener could not wait for events"),
                Err(_panic) => tracing::error!("the verification listener lost its connections to a fault of its own"),
            }
            // Closing is all that is done to them, so it does not matter in what state they were left.
            self.connections.clear();
            self.heard.clear();
            self.again.clear();
            self.desk.restore();
            for door in &mut self.doors {
                door.has_visitors = true;
            }
            // Whatever is wrong, trying again at once would only fill the log.
            std::thread::sleep(ACCEPT_PAUSE);
        }
    }

    fn serve(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(MOST_EVENTS);
        let mut again = Vec::new();
        loop {
            match self.poll.poll(&mut events, self.patience()) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            self.desk.read_time();
            std::mem::swap(&mut again, &mut self.again);
            for event in &events {
                self.take_note(event);
            }
            for index in again.drain(..) {
                self.hear(index);
            }
            self.speak();
            self.accept();
            if self.desk.now.boot >= self.next_sweep {
                self.sweep();
            }
            if self.stop.load(Ordering::Relaxed) && self.has_stopped() {
                return Ok(());
            }
        }
    }

    /// How long to wait for an event; `None` for ever.
    fn patience(&self) -> Option<Duration> {
        let now = self.desk.now.boot;
        let has_visitors = self.doors.iter().any(|door| door.has_visitors);
        if !self.again.is_empty() || (has_visitors && self.accept_from <= now) {
            return Some(Duration::ZERO);
        }
        let accept = has_visitors.then(|| self.accept_from.saturating_sub(now));
        let sweep = (!self.connections.is_empty()).then(|| self.next_sweep.saturating_sub(now));
        accept.into_iter().chain(sweep).min()
    }

    fn take_note(&mut self, event: &Event) {
        let token = event.token().0;
        if let Some(index) = token.checked_sub(FIRST_CONNECTION) {
            if let Some(connection) = self.connections.get_mut(index) {
                connection.told(event.is_readable(), event.is_read_closed() || event.is_error());
                self.hear(index);
            }
        } else if let Some(door) = token.checked_sub(FIRST_DOOR).and_then(|number| self.doors.get_mut(number)) {
            door.has_visitors = true;
        }
    }

    /// Gives a connection the first half of its turn. It may be another than the one meant, if that ended and its place was taken: a
    /// turn with nothing to do is harmless.
    fn hear(&mut self, index: usize) {
        let Some(connection) = self.connections.get_mut(index) else { return };
        let heard = connection.hear(&mut self.desk);
        self.heard.push((index, heard));
        if self.heard.len() >= MOST_HEARD_AT_ONCE {
            self.speak();
        }
    }

    /// Gives those that were heard the second half of their turns.
    fn speak(&mut self) {
        let mut all = std::mem::take(&mut self.heard);
        for (index, heard) in all.drain(..) {
            let Some(connection) = self.connections.get_mut(index) else { continue };
            let token = Token(FIRST_CONNECTION + index);
            let next = heard.and_then(|heard| connection.speak(heard, &mut self.desk, self.poll.registry(), token));
            self.settle(index, next.unwrap_or(Next::Close));
        }
        self.heard = all;
    }

    fn settle(&mut self, index: usize, next: Next) {
        match next {
            Next::Wait => {}
            Next::Again => self.again.push(index),
            // Closing the socket also takes it from the event loop.
            Next::Close => drop(self.connections.try_remove(index)),
            Next::Http2 => self.hand_over(index),
        }
    }

    fn hand_over(&mut self, index: usize) {
        let Some(connection) = self.connections.try_remove(index) else { return };
        match connection.hand_over(self.poll.registry()) {
            Ok(handed) => self.http2.take(handed),
            Err(error) => tracing::warn!(%error, "a connection could not be handed over to HTTP/2"),
        }
    }

    /// Lets those in who wait at the doors.
    fn accept(&mut self) {
        if self.accept_from > self.desk.now.boot {
            return;
        }
        let mut doors = std::mem::take(&mut self.doors);
        for door in &mut doors {
            for _ in 0..MOST_ACCEPTED_AT_ONCE {
                if !door.has_visitors {
                    break;
                }
                match door.listener.accept() {
                    Ok((stream, peer)) => self.let_in(Connection::new(stream, peer, &self.desk)),
                    Err(error) => self.not_accepted(&error, door),
                }
                if self.accept_from > self.desk.now.boot {
                    break;
                }
            }
        }
        self.doors = doors;
    }

    fn let_in(&mut self, mut connection: Connection) {
        if self.connections.len() >= self.desk.settings.limits.connections {
            // Whoever is told at once can try elsewhere.
            return;
        }
        let place = self.connections.vacant_entry();
        match connection.register(self.poll.registry(), Token(FIRST_CONNECTION + place.key())) {
            Ok(()) => {
                place.insert(connection);
            }
            Err(error) => tracing::warn!(%error, "a connection was not accepted"),
        }
    }

    fn not_accepted(&mut self, error: &io::Error, door: &mut Door) {
        let kind = error.kind();
        if kind == ErrorKind::WouldBlock {
            door.has_visitors = false;
        } else if matches!(kind, ErrorKind::Interrupted | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) {
            // Who waited has gone; the next may still be there.
        } else {
            // Above all, no file descriptor is left. The visitors stay where they are.
            tracing::warn!(%error, "connections are not accepted for a moment");
            self.accept_from = self.desk.now.boot + ACCEPT_PAUSE;
        }
    }

    /// Ends what has waited too long, and has the idle give memory back.
    fn sweep(&mut self) {
        self.next_sweep = self.desk.now.boot + self.sweep_interval;
        // Nothing is let in here, so no place is taken twice.
        for index in 0..self.connections.capacity() {
            let Some(connection) = self.connections.get_mut(index) else { continue };
            if connection.is_overdue(&self.desk) {
                let next = connection.overdue(&mut self.desk, self.poll.registry(), Token(FIRST_CONNECTION + index));
                self.settle(index, next.unwrap_or(Next::Close));
            } else {
                connection.rest();
            }
        }
    }

    /// Goes on stopping. Says whether that is done.
    fn has_stopped(&mut self) -> bool {
        let now = self.desk.now.boot;
        let stop_by = self.stop_by.unwrap_or_else(|| now + self.desk.settings.limits.stop);
        if self.stop_by.replace(stop_by).is_none() {
            self.begin_to_stop();
        }
        self.connections.is_empty() || now >= stop_by
    }

    fn begin_to_stop(&mut self) {
        self.desk.stopping = true;
        // Who is at the door already is let in: the system has told them that they are connected.
        while self.doors.iter().any(|door| door.has_visitors) && self.accept_from <= self.desk.now.boot {
            self.accept();
        }
        self.doors.clear();
        for index in 0..self.connections.capacity() {
            if let Some(connection) = self.connections.get_mut(index) {
                connection.told(true, false);
                self.hear(index);
            }
        }
        self.speak();
    }
}

/// Often enough for the shortest deadline, but not more than once a second for those that matter.
fn sweep_interval(limits: &Limits) -> Duration {
    let shortest = limits.head.min(limits.body).min(limits.idle).min(limits.unread);
    (shortest / 2).clamp(Duration::from_millis(10), SWEEP_INTERVAL)
}
