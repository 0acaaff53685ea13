//! The wire of the verification listener: a thin HTTP server that knows nothing of keys.
//!
//! One thread per core, each with its own sockets and its own event loop, and nothing shared between them. A request has
//! one strict shape ([`head`]); whatever else comes is refused and its connection closed. What keeps to the shape is
//! handed to a [`Service`], and what that says is written back. In the steady state nothing is allocated per request, and
//! the requests that came together cost one read and one write.

mod connection;
mod desk;
mod fields;
pub mod head;
mod http1;
mod http2;
mod listen;
mod refused;
mod reply;
mod thread;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

pub use self::fields::{Field, Fields, Repeated};
pub use self::listen::Bound;
pub use self::refused::Refused;
pub use self::reply::Reply;

use keyrack::Now;
use tokio::sync::watch;

use self::listen::SocketFile;
use self::thread::Thread;

/// Who sent a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// The other end of a TCP connection. An IPv4 address is one, however the socket shows it.
    Address(IpAddr),
    /// Whoever may open the Unix socket.
    Unix,
}

/// A request that keeps to the shape, whole.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method, as sent; any token.
    pub method: &'a [u8],
    /// The target, as sent: begins with `/`, and may have a query.
    pub target: &'a [u8],
    /// Whether that is all that was sent: over HTTP/2 what stands behind a `#` is gone before anybody here sees it.
    pub target_is_whole: bool,
    /// Every header field, in order.
    pub fields: Fields<'a>,
    /// The body; empty if there is none.
    pub body: &'a [u8],
    /// Who sent it.
    pub peer: Peer,
    /// When it was read.
    pub now: Now,
}

/// What answers requests. Called from every thread of the wire at once; whoever waits in it holds up every connection of
/// the thread.
pub trait Service: Send + Sync + 'static {
    /// Answers one request. The reply is blank: no status, no fields, no body; one without a status is answered as if this had
    /// panicked. Length, date and connection are the wire's to add.
    fn answer(&self, request: &Request<'_>, reply: &mut Reply);

    /// Says that it cannot answer, after [`Service::answer`] panicked. The reply is blank. What is said here must never
    /// read as *allow*.
    fn broken(&self, target: &[u8], reply: &mut Reply) {
        let _ = target;
        reply.set_status(503);
        reply.field("x-keyrack-reason", b"UNAVAILABLE");
    }

    /// Has the last word on a request that the wire refused: its reply is written, and may be given the status and the fields
    /// that whoever asks at this target understands.
    fn refused(&self, target: &[u8], reply: &mut Reply) {
        let _ = (target, reply);
    }

    /// Most bytes of a body that is read for a target; what has more is refused before it is kept.
    fn most_body(&self, target: &[u8]) -> usize {
        let _ = target;
        head::MOST_BODY_BYTES
    }

    /// Whether an answer is only good for a time, so that the clocks must be read after the question was, and not before.
    fn must_know_the_time(&self) -> bool {
        false
    }
}

/// How much and how long.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most connections of one thread; who comes then is disconnected.
    pub connections: usize,
    /// Longest from the first byte of a head to its last.
    pub head: Duration,
    /// Longest from the end of a head to the end of its body.
    pub body: Duration,
    /// Longest that a connection may be open with nothing asked.
    pub idle: Duration,
    /// The same for a connection that speaks HTTP/2.
    pub idle_http2: Duration,
    /// Longest that a client may take nothing of a reply that waits for it.
    pub unread: Duration,
    /// Most bytes of replies that wait for a client before nothing more of it is read or answered. The reply that goes
    /// beyond it is still kept whole.
    pub unsent_bytes: usize,
    /// Longest that what is under way is waited for when the wire is stopped.
    pub stop: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16_384,
            head: Duration::from_secs(5),
            body: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            idle_http2: Duration::from_secs(60),
            unread: Duration::from_secs(10),
            unsent_bytes: 256 * 1024,
            stop: Duration::from_secs(10),
        }
    }
}

/// Makes the id of a request that the wire itself refuses.
pub type RequestIds = Arc<dyn Fn() -> String + Send + Sync>;

/// What to listen on, and how.
#[derive(Clone)]
pub struct WireSettings {
    /// Where to listen for TCP; port 0 takes a free one.
    pub tcp: Option<SocketAddr>,
    /// Where to listen on a Unix socket.
    pub unix: Option<PathBuf>,
    /// How many threads; at least one is started.
    pub threads: usize,
    /// How much and how long.
    pub limits: Limits,
    /// What stands before `#code` in the type of a problem.
    pub problem_types: String,
    /// Where the ids of refused requests come from.
    pub request_id: RequestIds,
}

impl fmt::Debug for WireSettings {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("WireSettings")
            .field("tcp", &self.tcp)
            .field("unix", &self.unix)
            .field("threads", &self.threads)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Takes the sockets. Connections wait in them until [`start`].
///
/// # Errors
/// The address or the socket file cannot be had; the text says which.
pub fn bind(settings: &WireSettings) -> io::Result<Bound> {
    listen::bind(settings.tcp, settings.unix.as_deref(), settings.threads.max(1))
}

/// Starts to serve on sockets that were taken.
///
/// # Errors
/// A thread cannot be started. Nothing listens then.
#[expect(clippy::needless_pass_by_value, reason = "it is given away: every thread keeps a handle of its own")]
pub fn start(bound: Bound, settings: WireSettings, service: Arc<dyn Service>) -> io::Result<Wire> {
    let Bound { sets, address, socket_file } = bound;
    let mut wire = Wire {
        address,
        socket_file,
        stopping: Arc::new(AtomicBool::new(false)),
        stopping_http2: watch::Sender::new(false),
        threads: Vec::new(),
    };
    let settings = Arc::new(settings);
    for (number, listeners) in sets.into_iter().enumerate() {
        let stop = wire.stopping_http2.subscribe();
        let (sender, http2) = http2::start(number, Arc::clone(&settings), Arc::clone(&service), stop)?;
        let (thread, waker) =
            Thread::new(listeners, Arc::clone(&settings), Arc::clone(&service), sender, Arc::clone(&wire.stopping))?;
        let http1 = std::thread::Builder::new().name(format!("wire-{number}")).spawn(move || thread.run())?;
        wire.threads.push(Running { waker, http1, http2 });
    }
    Ok(wire)
}

/// A wire that serves, until it is stopped or dropped.
#[derive(Debug)]
pub struct Wire {
    address: Option<SocketAddr>,
    socket_file: Option<SocketFile>,
    stopping: Arc<AtomicBool>,
    stopping_http2: watch::Sender<bool>,
    threads: Vec<Running>,
}

/// What was started for one core.
#[derive(Debug)]
struct Running {
    waker: mio::Waker,
    http1: JoinHandle<()>,
    http2: JoinHandle<()>,
}

impl Wire {
    /// Where it listens for TCP, with the port that was taken.
    #[must_use]
    pub const fn local_addr(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Stops: nobody new is let in, idle connections are closed, what is under way is finished within
    /// [`Limits::stop`], and the socket file is gone. Blocks until then.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.stopping_http2.send_replace(true);
        for thread in &self.threads {
            if let Err(error) = thread.waker.wake() {
                tracing::error!(%error, "a thread of the verification listener could not be told to stop");
            }
        }
        for thread in self.threads.drain(..) {
            for handle in [thread.http1, thread.http2] {
                if handle.join().is_err() {
                    tracing::error!("a thread of the verification listener had ended before it was stopped");
                }
            }
        }
        if let Some(file) = self.socket_file.take() {
            file.remove();
        }
    }
}
