//! What a thread answers requests with: the service, one reply, and the buffer into which all its connections are read.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use keyrack::Now;

use super::head::{self, After, Head};
use super::http1::{self, DateLine, Part};
use super::refused::Refused;
use super::reply::Reply;
use super::{Peer, Request, Service, WireSettings};
use crate::clock::{Clock as _, SystemClock};

/// The most that is read at once, in bytes.
const READ_BYTES: usize = 64 * 1024;

/// One thread's desk.
pub(super) struct Desk {
    /// Where bytes are read into. A connection keeps only what is left of them when its turn is over.
    pub(super) input: Vec<u8>,
    /// When the current events were read.
    pub(super) now: Now,
    /// How everything was asked to be.
    pub(super) settings: Arc<WireSettings>,
    /// Whether connections are to end as soon as they can.
    pub(super) stopping: bool,
    date: DateLine,
    reply: Reply,
    service: Arc<dyn Service>,
}

/// What became of the bytes at the front of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Part of a head; more must come before it is worth another look.
    InHead,
    /// A head without all of its body; so many bytes in all make it whole.
    InBody(usize),
    /// A request of so many bytes was answered.
    Answered(usize, After),
    /// It was refused, and that was said.
    Refused,
    /// The connection speaks HTTP/2.
    Http2,
}

impl Desk {
    /// A desk for one thread.
    pub(super) fn new(settings: Arc<WireSettings>, service: Arc<dyn Service>) -> Self {
        Self {
            input: vec![0; READ_BYTES],
            now: Now::default(),
            settings,
            stopping: false,
            date: DateLine::default(),
            reply: Reply::default(),
            service,
        }
    }

    /// Reads the clocks, once for everything that came together.
    pub(super) fn read_time(&mut self) {
        self.now = SystemClock.moment();
        self.date.set(self.now.unix_seconds);
    }

    /// Reads the clocks once more, behind what was just read from a connection. A process may be stopped at any moment, and what was
    /// sent meanwhile must not be answered as if no time had passed.
    pub(super) fn read_time_again(&mut self) {
        if self.service.must_know_the_time() {
            self.read_time();
        }
    }

    /// Answers the request at the front of `bytes`, if it is whole. The reply goes to the end of `out`.
    pub(super) fn answer(&mut self, bytes: &[u8], peer: Peer, out: &mut Vec<u8>) -> Step {
        let mut room = head::room();
        let head = match head::parse(bytes, &mut room) {
            Ok(Some(head)) => head,
            Ok(None) => return Step::InHead,
            Err(refused) => return self.refuse(refused, bytes, out),
        };
        if head.body > 0 && head.body > self.service.most_body(head.target) {
            return self.refuse(Refused::BodyTooLarge, bytes, out);
        }
        let end = head.length + head.body;
        let Some(body) = bytes.get(head.length..end) else { return Step::InBody(end) };
        let Head { method, target, fields, .. } = head;
        self.reply.clear();
        let request = Request { method, target, target_is_whole: true, fields, body, peer, now: self.now };
        let after = match ask(self.service.as_ref(), &request, &mut self.reply) {
            Asked::Answered if self.stopping => After::Closes,
            Asked::Answered => head.after,
            Asked::Broken => After::Closes,
        };
        http1::write(&self.reply, &self.date, Part::of(method), after, out);
        Step::Answered(end, after)
    }

    /// Says at the end of `out` why the request at the front of `bytes` is refused.
    pub(super) fn refuse(&mut self, refused: Refused, bytes: &[u8], out: &mut Vec<u8>) -> Step {
        self.reply.clear();
        refused.write(&self.settings, (self.service.as_ref(), head::target_of(bytes)), &mut self.reply);
        http1::write(&self.reply, &self.date, Part::Whole, After::Closes, out);
        Step::Refused
    }

    /// Makes the desk usable again after a fault in the middle of a turn.
    pub(super) fn restore(&mut self) {
        self.input.resize(READ_BYTES, 0);
    }
}

/// Whether a service did what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// The reply is its answer.
    Answered,
    /// The reply says that there is none.
    Broken,
}

/// Has a request answered into a blank reply, whatever happens to the service on the way.
pub(super) fn ask(service: &dyn Service, request: &Request<'_>, reply: &mut Reply) -> Asked {
    // The service shares nothing with the wire but the reply, and what is in that is not used after a panic.
    let answered = catch_unwind(AssertUnwindSafe(|| service.answer(request, reply)));
    if answered.is_ok() && reply.is_sound() {
        return Asked::Answered;
    }
    tracing::error!("a verification was answered as unavailable: the service did not answer");
    reply.clear();
    let said = catch_unwind(AssertUnwindSafe(|| service.broken(request.target, reply)));
    if said.is_err() || !reply.is_sound() {
        reply.clear();
        // No gateway takes this for a yes, and none for its own fault.
        reply.set_status(403);
    }
    Asked::Broken
}
