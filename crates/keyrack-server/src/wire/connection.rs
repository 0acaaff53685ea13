//! One connection: what of it waits to be read, answered and sent, and until when.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::Shutdown;
use std::time::Duration;

use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};

use super::Peer;
use super::desk::{Desk, Step};
use super::head::After;
use super::http2::{self, Handed};
use super::refused::Refused;

/// Longest that a client which was told goodbye may take to go. Closing while it still sends would make the system throw
/// away what it has not read yet.
const FAREWELL: Duration = Duration::from_secs(2);
/// The most memory for replies that a connection keeps from one turn to the next, in bytes.
const MOST_UNSENT_KEPT: usize = 16 * 1024;

/// Either kind of socket.
#[derive(Debug)]
pub(super) enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
}

impl Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(into),
            Self::Unix(stream) => stream.read(into),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn end_writing(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
    }

    /// The socket as the event loop knows it.
    pub(super) fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Tcp(stream) => stream,
            Self::Unix(stream) => stream,
        }
    }
}

/// What a connection waits for. Each has a deadline of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    /// The first byte of a request.
    Idle,
    /// The rest of a head.
    Head,
    /// The rest of a body.
    Body,
    /// The client to take what was said.
    Reader,
    /// The client to go.
    Goodbye,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    /// Nothing has been answered; it may turn out to speak HTTP/2.
    New,
    /// It is answered.
    Open,
    /// It is answered no more, and closed when everything is sent.
    Ending,
    /// Everything is sent; what still comes is thrown away.
    Farewell,
    /// It speaks HTTP/2, and is somebody else's.
    Http2,
}

/// What the system last said about reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// There is nothing; it will tell.
    Drained,
    /// There may be something.
    Ready,
    /// There may be something, and behind it the end.
    HungUp,
}

/// What is to be done with a connection after its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing, until something happens to it.
    Wait,
    /// Another turn, after the others had theirs.
    Again,
    /// It is over.
    Close,
    /// It is handed to those who speak HTTP/2.
    Http2,
}

/// What the first half of a turn has brought.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heard {
    has_sent: bool,
    has_answered: bool,
    /// Whether nothing more will come.
    has_ended: bool,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    peer: Peer,
    course: Course,
    reading: Reading,
    waits: Waits,
    /// What of a request is missing, if some of it is pending.
    missing: Waits,
    /// When it has waited too long, since the machine was started.
    deadline: Duration,
    /// What was read and not answered.
    pending: Vec<u8>,
    /// How much must be pending before another look is worth it.
    needs: usize,
    /// Replies that the system has not taken yet.
    unsent: Vec<u8>,
    /// Whether the event loop tells when more can be sent.
    watches_sending: bool,
}

impl Connection {
    /// A connection that was just accepted.
    pub(super) fn new(stream: Stream, peer: Peer, desk: &Desk) -> Self {
        Self {
            stream,
            peer,
            course: Course::New,
            // What the client sent before it was registered is told of by the registration.
            reading: Reading::Drained,
            waits: Waits::Idle,
            missing: Waits::Head,
            deadline: desk.now.boot + desk.settings.limits.idle,
            pending: Vec::new(),
            needs: 0,
            unsent: Vec::new(),
            watches_sending: false,
        }
    }

    /// Has the event loop tell when there is something to read.
    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.stream.source().register(registry, token, Interest::READABLE)
    }

    /// Takes note of what the system told.
    pub(super) const fn told(&mut self, readable: bool, hung_up: bool) {
        if hung_up {
            self.reading = Reading::HungUp;
        } else if readable && matches!(self.reading, Reading::Drained) {
            self.reading = Reading::Ready;
        }
    }

    /// The first half of its turn: reads and answers, as far as it goes without waiting. The replies are sent by
    /// [`Connection::speak`].
    ///
    /// # Errors
    /// The client is gone, or the system has no room for it: nothing more can be said.
    pub(super) fn hear(&mut self, desk: &mut Desk) -> io::Result<Heard> {
        let mut heard = Heard::default();
        if self.course == Course::Farewell {
            return Ok(heard);
        }
        heard.has_sent = self.send()?;
        heard.has_answered = self.answer_pending(desk);
        if self.may_go_on(desk) && self.reading != Reading::Drained {
            let (read, has_answered) = self.read(desk)?;
            heard.has_ended = read == Some(0);
            heard.has_answered |= has_answered;
        }
        Ok(heard)
    }

    /// The second half of its turn: sends the replies.
    ///
    /// # Errors
    /// As for [`Connection::hear`].
    pub(super) fn speak(
        &mut self,
        heard: Heard,
        desk: &mut Desk,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Next> {
        match self.course {
            Course::Farewell => return self.discard(desk),
            Course::Http2 => return Ok(Next::Http2),
            Course::New | Course::Open | Course::Ending => {}
        }
        if heard.has_ended {
            self.course = Course::Ending;
        }
        let has_sent = self.send()? || heard.has_sent;
        if !self.has_unsent() && (heard.has_ended || (desk.stopping && self.is_idle())) {
            return Ok(Next::Close);
        }
        self.watch_sending(registry, token)?;
        if self.course == Course::Ending && !self.has_unsent() {
            self.stream.end_writing()?;
            self.course = Course::Farewell;
            self.pending = Vec::new();
            self.waits = Waits::Goodbye;
            self.deadline = desk.now.boot + FAREWELL;
            // Whatever came behind the last request may have been there for long.
            self.told(true, false);
            return Ok(Next::Again);
        }
        self.wait(has_sent, heard.has_answered, desk);
        let has_more = self.reading != Reading::Drained || self.has_something_to_answer();
        Ok(if has_more && self.may_go_on(desk) { Next::Again } else { Next::Wait })
    }

    /// Says that it has waited too long, if that is of use to anybody.
    ///
    /// # Errors
    /// As for [`Connection::hear`].
    pub(super) fn overdue(&mut self, desk: &mut Desk, registry: &Registry, token: Token) -> io::Result<Next> {
        match self.waits {
            Waits::Head | Waits::Body => {
                let pending = std::mem::take(&mut self.pending);
                desk.refuse(Refused::Slow, &pending, &mut self.unsent);
                self.course = Course::Ending;
                self.speak(Heard::default(), desk, registry, token)
            }
            Waits::Idle | Waits::Reader | Waits::Goodbye => Ok(Next::Close),
        }
    }

    /// Takes it out of the event loop, with what was read of it.
    ///
    /// # Errors
    /// The event loop does not let go of it.
    pub(super) fn hand_over(mut self, registry: &Registry) -> io::Result<Handed> {
        self.stream.source().deregister(registry)?;
        Ok(Handed { stream: self.stream, peer: self.peer, front: self.pending })
    }

    /// Whether it has waited too long.
    pub(super) fn is_overdue(&self, desk: &Desk) -> bool {
        self.deadline <= desk.now.boot
    }

    /// Gives memory back that it does not need while nothing is asked.
    pub(super) fn rest(&mut self) {
        if self.waits == Waits::Idle {
            self.pending = Vec::new();
        }
        if !self.has_unsent() {
            self.unsent = Vec::new();
        }
    }

    /// Takes note of what it waits for now, and until when. The time starts anew if that is something else, or the next
    /// of its kind.
    fn wait(&mut self, has_sent: bool, has_answered: bool, desk: &Desk) {
        let limits = &desk.settings.limits;
        let (waits, longest, anew) = if self.has_unsent() {
            (Waits::Reader, limits.unread, has_sent)
        } else if self.pending.is_empty() {
            (Waits::Idle, limits.idle, has_answered)
        } else {
            let longest = if self.missing == Waits::Body { limits.body } else { limits.head };
            (self.missing, longest, has_answered)
        };
        if anew || waits != self.waits {
            self.waits = waits;
            self.deadline = desk.now.boot + longest;
        }
    }

    /// Whether requests are still answered, and there is room for their replies.
    fn may_go_on(&self, desk: &Desk) -> bool {
        matches!(self.course, Course::New | Course::Open) && self.unsent.len() <= desk.settings.limits.unsent_bytes
    }

    const fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    const fn has_something_to_answer(&self) -> bool {
        !self.pending.is_empty() && self.pending.len() >= self.needs
    }

    fn is_idle(&self) -> bool {
        self.pending.is_empty() && !self.has_unsent() && self.reading == Reading::Drained
    }

    /// Reads and throws away.
    fn discard(&mut self, desk: &mut Desk) -> io::Result<Next> {
        loop {
            return match self.stream.read(&mut desk.input) {
                Ok(0) => Ok(Next::Close),
                Ok(count) => {
                    desk.input.iter_mut().take(count).for_each(|byte| *byte = 0);
                    Ok(Next::Again)
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Next::Wait),
                Err(error) => Err(error),
            };
        }
    }

    /// Sends what the system takes, and keeps the rest. Says whether it took anything.
    fn send(&mut self) -> io::Result<bool> {
        let mut sent = 0;
        while let Some(rest) = self.unsent.get(sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        // At once: behind a slow reader's back more replies come, and what was sent must not pile up before them.
        self.unsent.drain(..sent);
        if self.unsent.is_empty() {
            self.unsent.shrink_to(MOST_UNSENT_KEPT);
        }
        Ok(sent > 0)
    }

    /// Has the event loop tell when more can be sent, as long as there is something to send. Asked for always, it would
    /// tell of every reply that a client takes.
    fn watch_sending(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        if self.watches_sending == self.has_unsent() {
            return Ok(());
        }
        self.watches_sending = self.has_unsent();
        let interest = if self.watches_sending { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        self.stream.source().reregister(registry, token, interest)
    }

    /// Reads once and answers what came. Gives how much it was, if anything could be read, and whether anything was
    /// answered.
    fn read(&mut self, desk: &mut Desk) -> io::Result<(Option<usize>, bool)> {
        let mut input = std::mem::take(&mut desk.input);
        let read = self.stream.read(&mut input);
        let mut answered = false;
        let result = match read {
            Ok(count) => {
                // A read that does not fill the room has emptied the socket; only the end may still be behind it.
                if count < input.len() && self.reading == Reading::Ready {
                    self.reading = Reading::Drained;
                }
                desk.read_time_again();
                if let Some(got) = input.get_mut(..count) {
                    answered = self.take_in(got, desk);
                    // Nothing that a client sent stays where the next client's bytes go.
                    got.fill(0);
                }
                Ok(Some(count))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.reading = Reading::Drained;
                Ok(None)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(None),
            Err(error) => Err(error),
        };
        desk.input = input;
        Ok((result?, answered))
    }

    fn take_in(&mut self, got: &[u8], desk: &mut Desk) -> bool {
        if self.pending.is_empty() {
            self.needs = 0;
            let used = self.answer(got, desk);
            self.pending.extend_from_slice(got.get(used..).unwrap_or_default());
            used > 0
        } else {
            self.pending.extend_from_slice(got);
            self.answer_pending(desk)
        }
    }

    fn answer_pending(&mut self, desk: &mut Desk) -> bool {
        if !self.has_something_to_answer() {
            return false;
        }
        let mut pending = std::mem::take(&mut self.pending);
        let used = self.answer(&pending, desk);
        pending.drain(..used);
        self.pending = pending;
        used > 0
    }

    /// Answers the requests in `bytes`, as many as are whole and as there is room for. Gives how many bytes they were.
    fn answer(&mut self, bytes: &[u8], desk: &mut Desk) -> usize {
        let mut used = 0;
        while self.may_go_on(desk) {
            let Some(rest) = bytes.get(used..).filter(|rest| !rest.is_empty()) else { break };
            let (is_first, out) = (self.course == Course::New, &mut self.unsent);
            let step = if is_first { begin(rest, self.peer, desk, out) } else { desk.answer(rest, self.peer, out) };
            match step {
                Step::InHead => {
                    (self.needs, self.missing) = (rest.len() + 1, Waits::Head);
                    break;
                }
                Step::InBody(whole) => {
                    (self.needs, self.missing) = (whole, Waits::Body);
                    break;
                }
                Step::Answered(length, after) => {
                    used += length;
                    self.needs = 0;
                    self.course = match after {
                        After::Stays | After::StaysByRequest => Course::Open,
                        After::Closes => Course::Ending,
                    };
                }
                Step::Refused => self.course = Course::Ending,
                Step::Http2 => self.course = Course::Http2,
            }
        }
        used
    }
}

/// Answers the first request of a connection, which may turn out to be the beginning of something else.
fn begin(bytes: &[u8], peer: Peer, desk: &mut Desk, out: &mut Vec<u8>) -> Step {
    if bytes.starts_with(http2::PREFACE) {
        Step::Http2
    } else if http2::PREFACE.starts_with(bytes) {
        Step::InHead
    } else {
        desk.answer(bytes, peer, out)
    }
}

#[cfg(test)]
mod tests;
