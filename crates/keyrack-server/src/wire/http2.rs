//! HTTP/2 without TLS, for proxies that send many requests over one connection. The connection begins in the event loop
//! like any other, and is handed over when its first bytes show what it speaks.

mod exchange;
mod rewound;

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::rt::Executor;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use self::exchange::answer;
use self::rewound::Rewound;
use super::connection::Stream;
use super::head::MOST_HEAD_BYTES;
use super::{Peer, Service, WireSettings};

/// How a client begins that speaks HTTP/2 without being asked (RFC 9113, section 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Most requests of one connection that are under way at once.
const MOST_STREAMS: u32 = 128;
/// Most streams that a client may have opened and reset before they were looked at; beyond it is disconnected.
const MOST_RESET_STREAMS: usize = 64;
/// How long a connection may be silent before it is asked whether it is still there.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// How long the answer to that may take.
const PING_DEADLINE: Duration = Duration::from_secs(10);
/// How much of all bodies of a connection together may be on the way to be read, in bytes.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Bodies of a connection that are read at a time: the others wait with the client.
const MOST_BODIES: usize = 4;
/// How long a client that was told goodbye, and has nothing under way, may take to go.
const FAREWELL: Duration = Duration::from_secs(2);

/// A connection that speaks HTTP/2.
#[derive(Debug)]
pub(super) struct Handed {
    /// The socket, in no event loop.
    pub(super) stream: Stream,
    /// Who is at the other end.
    pub(super) peer: Peer,
    /// What was read of it already.
    pub(super) front: Vec<u8>,
}

/// Where connections are handed to. When it is dropped, no more will come.
#[derive(Debug)]
pub(super) struct Sender {
    queue: UnboundedSender<Handed>,
    open: Arc<AtomicUsize>,
    most: usize,
}

impl Sender {
    /// Hands a connection over; it is closed if there are too many.
    pub(super) fn take(&self, handed: Handed) {
        if self.open.fetch_add(1, Ordering::Relaxed) >= self.most || self.queue.send(handed).is_err() {
            self.open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// What all connections of a thread share.
struct Shared {
    settings: Arc<WireSettings>,
    service: Arc<dyn Service>,
    open: Arc<AtomicUsize>,
}

/// Starts the thread that serves what is handed over. It ends when it is told to stop and the sender is gone, or a while
/// after it was told.
///
/// # Errors
/// The system has no room for another thread or event loop.
pub(super) fn start(
    number: usize,
    settings: Arc<WireSettings>,
    service: Arc<dyn Service>,
    stop: watch::Receiver<bool>,
) -> io::Result<(Sender, JoinHandle<()>)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (queue, handed) = unbounded_channel();
    let open = Arc::new(AtomicUsize::new(0));
    let sender = Sender { queue, open: Arc::clone(&open), most: settings.limits.connections };
    let shared = Arc::new(Shared { settings, service, open });
    let thread = std::thread::Builder::new()
        .name(format!("wire-h2-{number}"))
        .spawn(move || runtime.block_on(serve_all(handed, shared, stop)))?;
    Ok((sender, thread))
}

async fn serve_all(mut handed: UnboundedReceiver<Handed>, shared: Arc<Shared>, stop: watch::Receiver<bool>) {
    let mut out_of_time = pin!(async {
        told_to_stop(stop.clone()).await;
        sleep(shared.settings.limits.stop).await;
    });
    let mut connections = JoinSet::new();
    let mut may_more_come = true;
    while may_more_come || !connections.is_empty() {
        tokio::select! {
            next = handed.recv(), if may_more_come => match next {
                Some(next) => {
                    connections.spawn(serve(next, Arc::clone(&shared), stop.clone()));
                }
                None => may_more_come = false,
            },
            Some(_ended) = connections.join_next() => {
                shared.open.fetch_sub(1, Ordering::Relaxed);
            }
            () = &mut out_of_time => return,
        }
    }
}

/// Waits until the wire is stopped.
async fn told_to_stop(mut stop: watch::Receiver<bool>) {
    // An error means that whoever could say so is gone.
    stop.wait_for(|stopping| *stopping).await.ok();
}

async fn serve(handed: Handed, shared: Arc<Shared>, stop: watch::Receiver<bool>) {
    let Handed { stream, peer, front } = handed;
    match stream {
        Stream::Tcp(stream) => {
            if let Ok(stream) = TcpStream::from_std(stream.into()) {
                serve_over(Rewound::new(front, stream), peer, shared, stop).await;
            }
        }
        Stream::Unix(stream) => {
            if let Ok(stream) = UnixStream::from_std(stream.into()) {
                serve_over(Rewound::new(front, stream), peer, shared, stop).await;
            }
        }
    }
}

async fn serve_over<S>(stream: Rewound<S>, peer: Peer, shared: Arc<Shared>, stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let idle = shared.settings.limits.idle_http2;
    let activity = Arc::new(Activity::new());
    let bodies = Arc::new(Semaphore::new(MOST_BODIES));
    let service = service_fn({
        let activity = Arc::clone(&activity);
        move |request| {
            let under_way = UnderWay::of(&activity);
            let (shared, bodies) = (Arc::clone(&shared), Arc::clone(&bodies));
            async move {
                let response = answer(request, peer, &shared, &bodies).await;
                drop(under_way);
                Ok::<_, std::convert::Infallible>(response)
            }
        }
    });
    let unanswered = Unanswered::default();
    let mut builder = Builder::new(unanswered.clone());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MOST_STREAMS)
        .max_pending_accept_reset_streams(MOST_RESET_STREAMS)
        // It fits: 16 KiB.
        .max_header_list_size(u32::try_from(MOST_HEAD_BYTES).unwrap_or(u32::MAX))
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_DEADLINE);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    // How it ends does not matter: a client that breaks the rules has been told so by then.
    tokio::select! {
        () = progress(connection.as_mut(), &unanswered) => return,
        () = told_to_stop(stop) => {}
        () = activity.has_ceased(idle) => {}
    }
    connection.as_mut().graceful_shutdown();
    while tokio::time::timeout(FAREWELL, progress(connection.as_mut(), &unanswered)).await.is_err() {
        if !activity.is_under_way() {
            return;
        }
    }
}

/// Goes on with a connection until it ends.
async fn progress(mut connection: Pin<&mut impl Future>, unanswered: &Unanswered) {
    poll_fn(|context| {
        loop {
            if connection.as_mut().poll(context).is_ready() {
                return Poll::Ready(());
            }
            if !unanswered.answer() {
                return Poll::Pending;
            }
        }
    })
    .await;
}

/// Requests that were read and are not answered yet.
///
/// Most have no body and need not wait for anything, so they need no task of their own. They are answered when everything that came
/// together has been read, so that the replies go together too.
#[derive(Clone, Default)]
struct Unanswered(Arc<Mutex<Vec<Answering>>>);

type Answering = Pin<Box<dyn Future<Output = ()> + Send>>;

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Unanswered {
    fn execute(&self, answering: F) {
        self.lock().push(Box::pin(answering));
    }
}

impl Unanswered {
    fn lock(&self) -> MutexGuard<'_, Vec<Answering>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers them. Says whether there were any.
    fn answer(&self) -> bool {
        let unanswered = std::mem::take(&mut *self.lock());
        let were_any = !unanswered.is_empty();
        for mut answering in unanswered {
            // Whoever has to wait is asked again by its task, and says there whom to wake.
            if answering.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
                tokio::spawn(answering);
            }
        }
        were_any
    }
}

/// Whether anything is asked over a connection.
struct Activity {
    begun: Instant,
    /// When a request last came or was answered, in milliseconds since the connection began.
    last: AtomicU64,
    under_way: AtomicUsize,
}

impl Activity {
    fn new() -> Self {
        Self { begun: Instant::now(), last: AtomicU64::new(0), under_way: AtomicUsize::new(0) }
    }

    fn note(&self) {
        let since = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(since, Ordering::Relaxed);
    }

    fn is_under_way(&self) -> bool {
        self.under_way.load(Ordering::Relaxed) > 0
    }

    /// Waits until nothing was asked for so long.
    async fn has_ceased(&self, idle: Duration) {
        loop {
            let last = self.begun + Duration::from_millis(self.last.load(Ordering::Relaxed));
            if self.is_under_way() {
                sleep(idle).await;
            } else if last.elapsed() >= idle {
                return;
            } else {
                sleep_until(last + idle).await;
            }
        }
    }
}

/// A request that is worked on, until it is dropped.
struct UnderWay(Arc<Activity>);

impl UnderWay {
    fn of(activity: &Arc<Activity>) -> Self {
        activity.note();
        activity.under_way.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(activity))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.note();
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}
