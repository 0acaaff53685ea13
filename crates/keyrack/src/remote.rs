//! The keys of a running server, in a process of one's own: verified without asking anybody, and dead here when a revocation is said to be
//! in force everywhere.
//!
//! ```no_run
//! use keyrack::ApiKey;
//! use keyrack::remote::Remote;
//!
//! // `keyrack operator follower-keys create --name "my service"` makes one.
//! let key = ApiKey::parse(std::env::var("KEYRACK_FOLLOWER_KEY")?.as_bytes())?;
//! let follower = Remote::new("https://keyrack.internal", key).start()?;
//! let verifier = follower.verifier();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A thread follows the server for as long as the [`Follower`] lives. Every answer of the server renews a lease that is no longer than the
//! server's own; without a lease the verifier answers nothing but [`Unavailable`](crate::Unavailable). The follower is listed among the
//! server's nodes, and who revokes a key waits for it as for any of them. Uses and limits are counted in this process alone.

mod calls;
mod known;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use self::calls::Calls;
use self::known::Known;
use crate::feed::{Ask, Told, Unreadable};
use crate::system_clock::system_clock;
use crate::{ApiKey, Index, KeyKind, Verifier};

/// For how long a follower answers without hearing from a server, if nothing else is said. A server may allow less.
pub const STALE_LIMIT: Duration = Duration::from_secs(300);

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How soon a follower has a lease once it has loaded everything.
const FIRST_LEASE: Duration = Duration::from_secs(10);
/// How long a server that is busy is asked again at the start.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// How long who drops a follower waits for it to take its leave.
const LEAVE_TAKING: Duration = Duration::from_secs(2);

/// A server to follow.
#[derive(Debug)]
pub struct Remote {
    url: String,
    key: ApiKey,
    stale_limit: Duration,
    is_plaintext_allowed: bool,
}

/// Why a server is not followed.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The key is of another kind.
    #[error("{0} is not a follower key (fk_…). Make one: keyrack operator follower-keys create --name NAME")]
    OtherKind(&'static str),
    /// Whoever is on the way could say which keys there are.
    #[error("{0} is not encrypted, and whoever is on the way could make keys: use https, or call `allow_plaintext`")]
    Plaintext(String),
    /// This machine trusts no certificates.
    #[error("this machine trusts no certificates: install ca-certificates, or set SSL_CERT_FILE")]
    NoCertificates,
    /// No usable answer came.
    #[error("no usable answer from {url}: {why}")]
    NoAnswer {
        /// The server.
        url: String,
        /// Why not.
        why: String,
    },
    /// The server has no room now, or cannot do it now.
    #[error("{url} cannot answer now: {why}")]
    Busy {
        /// The server.
        url: String,
        /// What it says.
        why: String,
    },
    /// The server does not let this key in.
    #[error("{url} does not accept the follower key: revoked, mistyped, or of another server?")]
    NotAccepted {
        /// The server.
        url: String,
    },
    /// What was told cannot be right.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// Everything is loaded again.
    #[error(
        "{url} does not know how far this follower has come: it was started anew, or a load balancer gives every question to another \
         node. Follow one node"
    )]
    NotKnown {
        /// The server.
        url: String,
    },
    /// What was told did not come to its end.
    #[error("what the server told was cut off")]
    CutOff,
    /// The server does not know yet what this follower was told by another.
    #[error(
        "the server is at change {seq}, and change {known} is known here already: waiting until it has come that far"
    )]
    Behind {
        /// How far the server has come.
        seq: i64,
        /// How far this follower has.
        known: i64,
    },
    /// What was told does not go together with what is known.
    #[error(transparent)]
    NotApplied(#[from] crate::ApplyError),
    /// The policy that was told is not one that this library can use.
    #[error("policy {0} cannot be used: is the server newer than this library?")]
    Policy(u32),
    /// The machine gave no thread, or no random numbers.
    #[error("the machine refused: {0}")]
    Machine(#[from] std::io::Error),
}

impl Remote {
    /// A server by its URL, and the follower key that its operator issued.
    pub fn new(url: &str, key: ApiKey) -> Self {
        let url = url.trim_end_matches('/').to_owned();
        Self { url, key, stale_limit: STALE_LIMIT, is_plaintext_allowed: false }
    }

    /// Answers no longer than this without hearing from the server. With two seconds or less nothing is ever stale.
    #[must_use]
    pub const fn stale_limit(mut self, limit: Duration) -> Self {
        self.stale_limit = limit;
        self
    }

    /// Follows over `http://` also what is not on this machine: on a network where nobody else can listen or answer.
    #[must_use]
    pub const fn allow_plaintext(mut self) -> Self {
        self.is_plaintext_allowed = true;
        self
    }

    /// Loads every key and follows from then on. When this returns, keys are verified. Blocks; call it before the service begins. A server
    /// that is busy, because many followers start at once, is asked again for half a minute.
    ///
    /// # Errors
    /// [`RemoteError`] if the server cannot be followed now.
    pub fn start(self) -> Result<Follower, RemoteError> {
        if self.key.kind() != KeyKind::Follower {
            return Err(RemoteError::OtherKind(self.key.kind().prefix()));
        }
        if !self.is_plaintext_allowed && !self.url.starts_with("https://") && !is_loopback(&self.url) {
            return Err(RemoteError::Plaintext(self.url));
        }
        let verifier = Arc::new(Verifier::new(Index::with_capacity(0)));
        verifier.index().distrust();
        let shared = Arc::new(Shared::default());
        let mut following = Following {
            calls: Calls::new(self.url, self.key)?,
            known: Known::new(Arc::clone(&verifier)),
            cursor: None,
            name: draw_name()?,
            asked: 0,
            stale_limit: self.stale_limit,
            shared: Arc::clone(&shared),
        };
        if let Err(error) = following.start() {
            following.take_leave();
            return Err(error);
        }
        let thread = std::thread::Builder::new().name("keyrack-follower".to_owned());
        thread.spawn(move || following.follow())?;
        Ok(Follower { verifier, shared })
    }
}

fn is_loopback(url: &str) -> bool {
    let host = url.strip_prefix("http://").and_then(|rest| rest.split('/').next()).unwrap_or_default();
    let host = host
        .rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()))
        .map_or(host, |it| it.0);
    matches!(host, "localhost" | "127.0.0.1" | "[::1]")
}

/// What this follower is called: another name after every start.
fn draw_name() -> Result<String, std::io::Error> {
    let letter = |byte: u8| char::from(b'a' + byte % 26);
    Ok(draw::<8>()?.map(letter).iter().collect())
}

fn draw<const N: usize>() -> Result<[u8; N], std::io::Error> {
    let mut random = [0; N];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut random)?;
    Ok(random)
}

/// Attempts are further apart the more of them have failed.
struct Pauses(Duration);

impl Default for Pauses {
    fn default() -> Self {
        Self(FIRST_PAUSE)
    }
}

impl Pauses {
    /// How long to wait until the next attempt: between half of it and all of it, so that many followers do not come back at once.
    fn next(&mut self) -> Duration {
        let longest = self.0;
        self.0 = (longest * 2).min(LONGEST_PAUSE);
        let [random] = draw().unwrap_or([u8::MAX]);
        longest / 2 + longest / 2 * u32::from(random) / 255
    }
}

/// Follows a server until it is dropped.
#[derive(Debug)]
pub struct Follower {
    verifier: Arc<Verifier>,
    shared: Arc<Shared>,
}

/// What the thread and its owner share.
#[derive(Debug, Default)]
struct Shared {
    stage: Mutex<Stage>,
    /// Woken when the stage is another.
    moved_on: Condvar,
    trouble: Mutex<Option<String>>,
}

/// How far the life of a follower is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Following,
    /// Nothing renews its lease any more.
    Over,
    /// Its thread is gone.
    Ended,
}

impl Shared {
    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        *self.stage() != Stage::Following
    }

    /// Renews the lease of an index, unless the follower is over: from then on nothing does.
    fn renew(&self, index: &Index, lease: crate::Lease) {
        let stage = self.stage();
        if *stage == Stage::Following {
            index.renew(lease);
        }
    }

    /// From here on the index answers nothing.
    fn end(&self, index: &Index) {
        let mut stage = self.stage();
        index.distrust();
        *stage = Stage::Over;
        self.moved_on.notify_all();
    }

    /// Waits, but no longer than until the follower is over.
    fn pause(&self, longest: Duration) {
        drop(self.moved_on.wait_timeout_while(self.stage(), longest, |stage| *stage == Stage::Following));
    }
}

/// Says that the thread is gone, however that came.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        *self.0.stage() = Stage::Ended;
        self.0.moved_on.notify_all();
    }
}

impl Follower {
    /// What verifies: hand it to [`KeyrackLayer`](crate::layer::KeyrackLayer), or ask it.
    pub fn verifier(&self) -> Arc<Verifier> {
        Arc::clone(&self.verifier)
    }

    /// Why the server is not followed at this moment, for a log or a health check; `None` if it is.
    pub fn trouble(&self) -> Option<String> {
        self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Follower {
    /// From here on the verifier answers nothing, and the server is told not to wait for it any more. If it does not listen, this takes
    /// two seconds.
    fn drop(&mut self) {
        self.shared.end(self.verifier.index());
        let has_time = |stage: &mut Stage| *stage != Stage::Ended;
        drop(self.shared.moved_on.wait_timeout_while(self.shared.stage(), LEAVE_TAKING, has_time));
    }
}

/// The thread's own.
struct Following {
    calls: Calls,
    known: Known,
    /// From where on to ask for news. Without it everything is loaded.
    cursor: Option<String>,
    name: String,
    asked: i64,
    stale_limit: Duration,
    shared: Arc<Shared>,
}

impl Following {
    fn follow(mut self) {
        let _ending = Ending(Arc::clone(&self.shared));
        let mut pauses = Pauses::default();
        while !self.shared.is_over() {
            let outcome = self.step();
            let trouble = outcome.as_ref().err().map(ToString::to_string);
            *self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
            if outcome.is_ok() {
                pauses = Pauses::default();
            } else {
                self.shared.pause(pauses.next());
            }
        }
        self.take_leave();
    }

    /// Loads everything, and follows until there is a lease.
    fn start(&mut self) -> Result<(), RemoteError> {
        let (mut loaded, mut busy, mut pauses) = (None, None, Pauses::default());
        loop {
            let outcome = self.step();
            let index = self.known.verifier.index();
            if index.is_fit(system_clock()).is_ok() {
                return Ok(());
            }
            let now = Instant::now();
            let is_late = index.is_loaded() && now.duration_since(*loaded.get_or_insert(now)) > FIRST_LEASE;
            match outcome {
                Ok(()) if is_late => return Err(self.calls.no_answer("it gave no lease")),
                Ok(()) => busy = None,
                // Something may have come between the two answers that cannot be told as news.
                Err(RemoteError::NotKnown { .. }) if !is_late => std::thread::sleep(pauses.next()),
                // What it owes a lease for begins when it answers.
                Err(RemoteError::Busy { .. }) if now.duration_since(*busy.get_or_insert(now)) < START_PATIENCE => {
                    loaded = None;
                    std::thread::sleep(pauses.next());
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Nothing is answered any more: so the server need not wait.
    fn take_leave(&self) {
        if self.asked > 0 {
            self.calls.leave(&self.ask());
        }
    }

    /// Loads everything, or asks for what is new.
    fn step(&mut self) -> Result<(), RemoteError> {
        if self.cursor.is_none() {
            let is_wanted = || !self.shared.is_over();
            self.cursor = Some(self.known.load(self.calls.snapshot()?, is_wanted)?);
        }
        self.asked += 1;
        let began = system_clock().boot;
        let Told { cursor, seq, news, lease } = self.calls.news(&self.ask())?;
        self.cursor = None;
        let cursor = cursor.ok_or_else(|| self.calls.not_known())?;
        self.known.apply(news, seq)?;
        if let Some(lease) = lease {
            self.shared.renew(self.known.verifier.index(), lease.since(began, self.stale_limit));
        }
        self.cursor = Some(cursor);
        Ok(())
    }

    fn ask(&self) -> Ask {
        Ask {
            follower: self.name.clone(),
            asked: self.asked,
            cursor: self.cursor.clone().unwrap_or_default(),
            stale_ms: i64::try_from(self.stale_limit.as_millis()).unwrap_or(i64::MAX),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_renews_the_lease_of_a_follower_that_was_dropped() {
        let lease = || {
            let until = system_clock().boot + Duration::from_secs(60);
            crate::Lease { heard: Duration::ZERO, fresh_until: until, trusted_until: until }
        };
        let index = Index::with_capacity(0);
        index.mark_loaded();
        for round in 0..2_000 {
            let (shared, start) = (Shared::default(), std::sync::Barrier::new(2));
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    start.wait();
                    (0..50).for_each(|_| shared.renew(&index, lease()));
                });
                start.wait();
                shared.end(&index);
                assert!(index.is_fit(system_clock()).is_err(), "round {round}: at once");
            });
            assert!(index.is_fit(system_clock()).is_err(), "round {round}: and for ever");
        }
    }

    #[test]
    fn only_what_is_encrypted_or_on_this_machine_is_followed() {
        for url in ["http://localhost:8080", "http://127.0.0.1", "http://[::1]:1/keyrack", "http://127.0.0.1:8080/x"] {
            assert!(is_loopback(url), "{url}");
        }
        for url in
            ["http://localhost.example", "http://10.0.0.1:80", "http://127.0.0.1:80@evil.example", "ftp://localhost"]
        {
            assert!(!is_loopback(url), "{url}");
        }
        let key = || ApiKey::generate(KeyKind::Follower, &[1; ApiKey::RANDOM_BYTES]);
        let refused = Remote::new("http://10.0.0.1", key()).start();
        assert!(matches!(refused, Err(RemoteError::Plaintext(_))), "{refused:?}");
        let refused = Remote::new("https://x", ApiKey::generate(KeyKind::Operator, &[1; ApiKey::RANDOM_BYTES])).start();
        assert!(matches!(refused, Err(RemoteError::OtherKind("op_"))), "{refused:?}");
    }
}
