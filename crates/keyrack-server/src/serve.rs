//! The only place where the parts meet: opening an installation, and serving it.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum_server::Handle;
use axum_server::accept::Accept;
use keyrack::{Index, Verifier};
use rustix::net::sockopt::set_tcp_user_timeout;
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use crate::app::App;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::data_dir::{self, DataDirError, Lock};
use crate::doors::{Doors, RequestIds};
use crate::http;
use crate::installation::{self, FirstKeys};
use crate::metrics::{self, Watched};
use crate::random::OsRandom;
use crate::root_key::{RootKey, RootKeyError};
use crate::store::{Database, Need, Schema, Store, StoreError};
use crate::usage::Usage;
use crate::wire::{self, Bound, WireSettings};

/// Longest from the first byte of a connection to the end of its first request's head.
const FIRST_REQUEST_DEADLINE: Duration = Duration::from_secs(10);
/// Longest that a connection may be idle, or take for the head of a later request.
const IDLE_DEADLINE: Duration = Duration::from_secs(30);
/// Longest that what was written may stay unread, in milliseconds.
const WRITE_DEADLINE_MS: u32 = 30_000;
/// Longest that requests under way are waited for when the process is told to stop.
const STOP_DEADLINE: Duration = Duration::from_secs(25);
/// Longest that the last uses may take to be written when the process stops.
const LAST_USES_DEADLINE: Duration = Duration::from_secs(10);
/// How long something rests that a fault of its own has ended, at first and at the most.
const PAUSE_AFTER_FAULT: Duration = Duration::from_secs(1);
const LONGEST_PAUSE_AFTER_FAULT: Duration = Duration::from_secs(60);
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// Why an installation could not be opened or served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The data directory.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The root key.
    #[error(transparent)]
    RootKey(#[from] RootKeyError),
    /// The store.
    #[error("cannot use the store in {place}")]
    Store {
        /// Where it is.
        place: Database,
        /// Why.
        source: StoreError,
    },
    /// There is one already.
    #[error(
        "there is a store in {place} already, and nothing was changed. If its keys are lost, run: keyrack recover --project 1"
    )]
    AlreadyThere {
        /// Where it is.
        place: Database,
    },
    /// There is none.
    #[error("there is no store in {place}. Make one with: keyrack serve")]
    NotThere {
        /// Where it would be.
        place: Database,
    },
    /// The address.
    #[error("cannot listen on {address}. Choose another with --listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The address of the metrics.
    #[error("cannot listen on {address} for the metrics. Choose another with --metrics-listen")]
    Metrics {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The verification doors.
    #[error("cannot open the verification doors. Choose other places with --verify-listen and --verify-socket")]
    Doors(#[source] io::Error),
    /// Serving failed.
    #[error("serving failed")]
    Serve(#[source] io::Error),
}

/// An installation, open and for this process alone.
pub struct Installation {
    /// What is kept.
    pub store: Arc<Store>,
    /// Who may pass; holds every live key.
    pub verifier: Arc<Verifier>,
    /// The root key.
    pub root_key: RootKey,
    /// The keys of a new installation: shown once.
    pub first_keys: Option<FirstKeys>,
    _lock: Lock,
}

/// Opens the installation of a data directory, setting a new one up in an empty directory.
///
/// # Errors
/// [`ServeError`]; what was there is as it was.
pub async fn open(config: &Config) -> Result<Installation, ServeError> {
    let (dir, database) = (&config.data_dir, config.database());
    let in_store = |source| ServeError::Store { place: config.database(), source };
    let lock = data_dir::take(dir)?;
    // The root key comes first, so a store without one is one that has lost it.
    let root_key = if config.root_key_file.exists() || database.is_there().await.map_err(in_store)? {
        RootKey::load(&config.root_key_file)?
    } else {
        RootKey::create(&config.root_key_file, &OsRandom)?
    };
    let verifier = Arc::new(Verifier::new(Index::with_capacity(0)));
    let tier = config.key_limits.clone();
    let open = || async {
        let (database, verifier, tier) = (database.clone(), Arc::clone(&verifier), tier.clone());
        Store::open(database, dir, &root_key, verifier, tier, Arc::new(SystemClock)).await
    };
    let mut store = open().await.map_err(in_store)?;
    if let Database::File { file, .. } = config.database() {
        data_dir::sync_parent(&file).map_err(|source| DataDirError::Io { dir: dir.clone(), source })?;
    }
    let mut first_keys = None;
    if !store.was_set_up() {
        match installation::set_up(&store, &OsRandom).await {
            Ok(keys) => first_keys = Some(keys),
            // Another node that started at the same time was first.
            Err(StoreError::Conflict) => {
                store.close().await;
                store = open().await.map_err(in_store)?;
            }
            Err(error) => return Err(in_store(error)),
        }
    }
    let loaded = store.load().await.map_err(in_store)?;
    tracing::info!(keys = loaded.keys, refused = loaded.refused, "the index is loaded");
    Ok(Installation { store, verifier, root_key, first_keys, _lock: lock })
}

impl Installation {
    /// Takes the place among the nodes of a shared store: from here on keys are verified.
    ///
    /// # Errors
    /// [`ServeError`].
    pub async fn join(&self, config: &Config) -> Result<(), ServeError> {
        self.store.join().await.map_err(|source| ServeError::Store { place: config.database(), source })
    }
}

/// Opens a store to read it, beside a running server if there is one.
///
/// # Errors
/// [`ServeError`], also if nothing was set up there yet.
pub async fn inspect(config: &Config) -> Result<Arc<Store>, ServeError> {
    let in_store = |source| ServeError::Store { place: config.database(), source };
    let not_there = || ServeError::NotThere { place: config.database() };
    if !config.database().is_there().await.map_err(in_store)? {
        return Err(not_there());
    }
    let root_key = RootKey::load(&config.root_key_file)?;
    let store = Store::inspect(config.database(), &config.data_dir, &root_key, Arc::new(SystemClock)).await;
    let store = store.map_err(in_store)?;
    if store.was_set_up() { Ok(store) } else { Err(not_there()) }
}

/// Which schema a store has.
///
/// # Errors
/// [`ServeError`], also if a newer program made it.
pub async fn schema(config: &Config) -> Result<Schema, ServeError> {
    let in_store = |source| ServeError::Store { place: config.database(), source };
    config.database().schema().await.map_err(in_store)
}

/// Brings the schema of a store up to date; says which it was. A store that several nodes share may be in use.
///
/// # Errors
/// [`ServeError`], also if there is none yet, or a process uses it that has it to itself.
pub async fn migrate(config: &Config) -> Result<Schema, ServeError> {
    let before = schema(config).await?;
    if before.found.is_none() {
        return Err(ServeError::NotThere { place: config.database() });
    }
    let _lock = match config.database() {
        Database::File { .. } => Some(data_dir::take(&config.data_dir)?),
        Database::Server { .. } => None,
    };
    let in_store = |source| ServeError::Store { place: config.database(), source };
    config.database().migrate().await.map_err(in_store)?;
    Ok(before)
}

/// Opens an installation that is there already.
///
/// # Errors
/// [`ServeError::NotThere`] if there is none; nothing is made then.
pub async fn open_existing(config: &Config) -> Result<Installation, ServeError> {
    inspect(config).await?.close().await;
    open(config).await
}

/// Sets an installation up where there is none.
///
/// # Errors
/// [`ServeError::AlreadyThere`] if there is one; nothing is changed then.
pub async fn open_new(config: &Config) -> Result<(Installation, FirstKeys), ServeError> {
    let there = || ServeError::AlreadyThere { place: config.database() };
    match inspect(config).await {
        Err(ServeError::NotThere { .. }) => {}
        Ok(store) => {
            store.close().await;
            return Err(there());
        }
        Err(other) => return Err(other),
    }
    let mut installation = open(config).await?;
    let first_keys = installation.first_keys.take().ok_or_else(there)?;
    Ok((installation, first_keys))
}

/// The places where a server listens, taken and not served yet.
pub struct Places {
    management: TcpListener,
    /// The address of the management API, with the port that was taken.
    pub address: SocketAddr,
    doors: Bound,
    metrics: Option<TcpListener>,
}

impl Places {
    /// The address of the verification doors, with the port that was taken, if there is one.
    pub const fn doors_address(&self) -> Option<SocketAddr> {
        self.doors.address()
    }

    /// The address of the metrics, with the port that was taken, if there is one.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref()?.local_addr().ok()
    }
}

/// Takes the places before anything else is touched.
///
/// # Errors
/// [`ServeError::Listen`] or [`ServeError::Doors`].
pub fn bind(config: &Config) -> Result<Places, ServeError> {
    let address = config.listen;
    let failed = |source| ServeError::Listen { address, source };
    let management = TcpListener::bind(address).map_err(failed)?;
    let address = management.local_addr().map_err(failed)?;
    let doors = wire::bind(&wire_settings(config)).map_err(ServeError::Doors)?;
    let metrics = config
        .metrics
        .map(|address| TcpListener::bind(address).map_err(|source| ServeError::Metrics { address, source }));
    Ok(Places { management, address, doors, metrics: metrics.transpose()? })
}

fn wire_settings(config: &Config) -> WireSettings {
    let ids = RequestIds::new();
    WireSettings {
        tcp: config.verify.listen,
        unix: config.verify.socket.clone(),
        threads: config.verify.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, Into::into)),
        limits: wire::Limits::default(),
        problem_types: config.problem_types.clone(),
        request_id: Arc::new(move || ids.text()),
    }
}

/// Serves an installation until `stop` is done, then finishes what is under way.
///
/// # Errors
/// [`ServeError::Serve`].
pub async fn run(
    installation: Installation,
    places: Places,
    config: &Config,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let Installation { store, verifier, root_key, _lock, .. } = installation;
    let (clock, random) = (Arc::new(SystemClock), Arc::new(OsRandom));
    let problem_types = config.problem_types.clone();
    let headers = config.verify.headers;
    let doors = Doors::new(Arc::clone(&verifier), config.trusted_proxies.clone(), headers, problem_types.clone());
    let app = App::new(Arc::clone(&store), verifier, &root_key, config.limits, problem_types, clock, random);
    drop(root_key);

    let doors = wire::start(places.doors, wire_settings(config), Arc::new(doors)).map_err(ServeError::Doors)?;
    let handle = Handle::new();
    let usage = Arc::clone(&app.usage);
    let housekeeping = keep_at("housekeeping", &store, {
        let usage = Arc::clone(&usage);
        move |store| keep_house(store, Arc::clone(&usage))
    });
    let following = keep_at("following the store", &store, |store| async move { store.follow().await });
    let delivering = keep_at("delivering revocations", &store, |store| async move { store.deliver().await });
    let writing_usage = keep_at("writing down uses", &usage, |usage| async move { usage.run().await });
    if let Some(listener) = places.metrics {
        let watched = Watched { store: Arc::clone(&store), clock: Arc::new(SystemClock) };
        tokio::spawn(watch(listener, watched, handle.clone()));
    }
    tokio::spawn({
        let handle = handle.clone();
        async move {
            stop.await;
            tracing::info!("stopping: finishing what is under way");
            handle.graceful_shutdown(Some(STOP_DEADLINE));
        }
    });
    let mut server = axum_server::from_tcp(places.management).map_err(ServeError::Serve)?.http1_only();
    server.http_builder().http1().header_read_timeout(IDLE_DEADLINE);
    let served = server
        .acceptor(Deadlines)
        .first_request_timeout(FIRST_REQUEST_DEADLINE)
        .accept_error_handler(|_from, error| tracing::warn!(%error, "a connection was not accepted"))
        .handle(handle)
        .serve(http::service(Arc::new(app)).into_make_service_with_connect_info::<SocketAddr>())
        .await;
    housekeeping.abort();
    // It waits for what is under way, which is no work for this thread.
    if tokio::task::spawn_blocking(move || doors.stop()).await.is_err() {
        tracing::error!("the verification doors did not stop cleanly");
    }
    // Nothing is counted any more.
    writing_usage.abort();
    write_last_uses(&usage).await;
    following.abort();
    delivering.abort();
    if let Err(error) = store.leave().await {
        tracing::warn!(%error, "the other nodes were not told; they wait until the lease of this one is over");
    }
    store.close().await;
    tracing::info!("stopped");
    served.map_err(ServeError::Serve)
}

/// Has something done for as long as the process serves: if a fault of its own ends it, it begins again.
fn keep_at<T, F>(what: &'static str, on: &Arc<T>, work: impl Fn(Arc<T>) -> F + Send + 'static) -> JoinHandle<()>
where
    T: Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let on = Arc::clone(on);
    tokio::spawn(async move {
        let mut pause = PAUSE_AFTER_FAULT;
        loop {
            let begun = Instant::now();
            // Ended with this one.
            let mut task = JoinSet::new();
            task.spawn(work(Arc::clone(&on)));
            // What it panicked with may hold what no log is to have.
            let Some(Err(_fault)) = task.join_next().await else { return };
            tracing::error!("{what} ended by a fault of its own, and begins again");
            if begun.elapsed() > LONGEST_PAUSE_AFTER_FAULT {
                pause = PAUSE_AFTER_FAULT;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE_AFTER_FAULT);
        }
    })
}

/// Sets up a connection that was accepted. What is read has its deadlines in the server; what is written has this one: a
/// client that reads nothing is cut off by the system.
#[derive(Clone, Copy, Debug)]
struct Deadlines;

impl<S: Send + 'static> Accept<TcpStream, S> for Deadlines {
    type Stream = TcpStream;
    type Service = S;
    type Future = std::future::Ready<io::Result<(TcpStream, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let set = stream.set_nodelay(true).and_then(|()| Ok(set_tcp_user_timeout(&stream, WRITE_DEADLINE_MS)?));
        std::future::ready(set.map(|()| (stream, service)))
    }
}

/// Without metrics, keys are verified all the same.
async fn watch(listener: TcpListener, watched: Watched, handle: Handle<SocketAddr>) {
    if let Err(error) = metrics::serve(listener, watched, handle).await {
        tracing::error!(%error, "the metrics are not served");
    }
}

/// Writes what was counted since the last time, if the store takes it.
async fn write_last_uses(usage: &Usage) {
    let written = tokio::time::timeout(LAST_USES_DEADLINE, usage.flush()).await;
    if !matches!(written, Ok(Ok(()))) {
        tracing::warn!(keys = usage.pending_keys().await, "the last uses of keys were not written, and are lost");
    }
}

/// Forgets replies when their day is over, and uses when nobody can ask for them any more.
async fn keep_house(store: Arc<Store>, usage: Arc<Usage>) {
    let mut hourly = tokio::time::interval(HOUSEKEEPING_INTERVAL);
    loop {
        hourly.tick().await;
        if let Err(error) = forget_old_replies(&store).await {
            tracing::warn!(%error, "could not forget old replies; trying again in an hour");
        }
        match usage.forget_old().await {
            Ok(0) => {}
            Ok(forgotten) => tracing::info!(forgotten, "forgot hours of usage that are too old"),
            Err(error) => tracing::warn!(%error, "could not forget old usage; trying again in an hour"),
        }
    }
}

async fn forget_old_replies(store: &Arc<Store>) -> Result<(), StoreError> {
    let mut writing = store.begin(Need::Ordinary).await?;
    let forgotten = writing.forget_old_replies().await?;
    writing.commit().await?;
    if forgotten > 0 {
        tracing::info!(forgotten, "forgot replies older than a day");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_a_fault_ends_begins_again_until_it_is_told_to_stop() {
        let begun = Arc::new(AtomicUsize::new(0));
        let working = keep_at("the test", &begun, |begun| async move {
            if begun.fetch_add(1, Ordering::Relaxed) < 2 {
                panic!("a fault");
            }
            std::future::pending::<()>().await;
        });
        tokio::time::sleep(PAUSE_AFTER_FAULT * 5).await;
        assert_eq!(begun.load(Ordering::Relaxed), 3);
        assert_eq!(Arc::strong_count(&begun), 3);
        working.abort();
        working.await.unwrap_err();
        tokio::time::sleep(PAUSE_AFTER_FAULT).await;
        assert_eq!(Arc::strong_count(&begun), 1, "what it did has ended too");
    }
}
