//! A way to a database that can be cut.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Passes everything on until it is told otherwise.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    to: SocketAddr,
    /// Both ends of every connection; `None` while the way is cut.
    streams: Mutex<Option<Vec<TcpStream>>>,
    /// After so many commits of changes more, the connection is cut between the commit and its answer.
    commits_left: AtomicI64,
    was_cut_at_a_commit: AtomicBool,
    attempts: AtomicUsize,
    /// After so many bytes more, in whichever direction, the way is cut.
    bytes_left: AtomicI64,
    /// Whether everything is held back, and nobody is told.
    is_silent: AtomicBool,
    /// Whether that begins with the next commit of a change.
    falls_silent: AtomicBool,
    /// Whoever wants to hear of changes hears of something else, which never happens.
    is_deaf: AtomicBool,
}

impl Proxy {
    pub(crate) fn to(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            to,
            streams: Mutex::new(Some(Vec::new())),
            commits_left: AtomicI64::new(-1),
            was_cut_at_a_commit: AtomicBool::new(false),
            attempts: AtomicUsize::new(0),
            is_deaf: AtomicBool::new(false),
            bytes_left: AtomicI64::new(i64::MAX),
            is_silent: AtomicBool::new(false),
            falls_silent: AtomicBool::new(false),
        });
        thread::spawn({
            let shared = Arc::clone(&shared);
            move || listener.incoming().flatten().for_each(|client| shared.take(client))
        });
        Self { address, shared }
    }

    /// Nothing passes any more, and nobody is let in.
    pub(crate) fn cut(&self) {
        self.shared.cut();
    }

    /// After so many bytes more, in whichever direction, it is cut.
    pub(crate) fn cut_after(&self, bytes: i64) {
        self.shared.bytes_left.store(bytes, Ordering::SeqCst);
    }

    /// Whatever is sent is held back, and nobody is told: connections stay, and new ones are taken.
    pub(crate) fn fall_silent(&self) {
        self.shared.is_silent.store(true, Ordering::SeqCst);
    }

    /// That begins with the next commit of a change, which does not reach the database.
    pub(crate) fn fall_silent_at_next_commit(&self) {
        self.shared.falls_silent.store(true, Ordering::SeqCst);
    }

    /// The way is open again.
    pub(crate) fn mend(&self) {
        self.shared.bytes_left.store(i64::MAX, Ordering::SeqCst);
        self.shared.falls_silent.store(false, Ordering::SeqCst);
        self.shared.is_silent.store(false, Ordering::SeqCst);
        self.shared.streams.lock().unwrap().get_or_insert_default();
    }

    /// From here on no notification of the database arrives.
    pub(crate) fn lose_notifications(&self) {
        self.shared.is_deaf.store(true, Ordering::SeqCst);
        self.cut();
        self.mend();
    }

    /// The next commit of a change reaches the database; its answer does not come back.
    pub(crate) fn cut_at_next_commit(&self) {
        self.shared.commits_left.store(1, Ordering::SeqCst);
    }

    /// Whether that has come about.
    pub(crate) fn was_cut_at_a_commit(&self) -> bool {
        self.shared.was_cut_at_a_commit.load(Ordering::SeqCst)
    }

    /// How often somebody wanted to connect.
    pub(crate) fn attempts(&self) -> usize {
        self.shared.attempts.load(Ordering::SeqCst)
    }
}

impl Shared {
    fn cut(&self) {
        for stream in self.streams.lock().unwrap().take().into_iter().flatten() {
            stream.shutdown(Shutdown::Both).ok();
        }
    }

    /// Waits while everything is held back; says how many of so many bytes may still pass.
    fn let_pass(&self, bytes: usize) -> usize {
        while self.is_silent.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(5));
        }
        let bytes = i64::try_from(bytes).unwrap();
        let left = self.bytes_left.fetch_sub(bytes, Ordering::SeqCst);
        usize::try_from(left.clamp(0, bytes)).unwrap()
    }

    fn take(self: &Arc<Self>, client: TcpStream) {
        self.attempts.fetch_add(1, Ordering::SeqCst);
        let mut streams = self.streams.lock().unwrap();
        let Some(streams) = streams.as_mut() else { return };
        let Ok(server) = TcpStream::connect(self.to) else { return };
        client.set_nodelay(true).unwrap();
        server.set_nodelay(true).unwrap();
        streams.extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
        let is_cut = Arc::new(AtomicI64::new(0));
        for (mut from, mut to, is_up) in
            [(client.try_clone().unwrap(), server.try_clone().unwrap(), true), (server, client, false)]
        {
            let (shared, is_cut) = (Arc::clone(self), Arc::clone(&is_cut));
            thread::spawn(move || {
                let mut buffer = [0; 16 << 10];
                while let Ok(count @ 1..) = from.read(&mut buffer) {
                    let got = &mut buffer[..count];
                    if is_up && shared.is_deaf.load(Ordering::SeqCst) {
                        deafen(got);
                    }
                    // A change is told to those who listen; heartbeats are not.
                    let is_commit = is_up && got.windows(14).any(|window| window == b"keyrack_change");
                    let is_commit = is_commit && got.windows(6).any(|window| window == b"COMMIT");
                    if is_commit && shared.commits_left.fetch_sub(1, Ordering::SeqCst) == 1 {
                        is_cut.store(1, Ordering::SeqCst);
                        shared.was_cut_at_a_commit.store(true, Ordering::SeqCst);
                    }
                    if !is_up && is_cut.load(Ordering::SeqCst) == 1 {
                        break;
                    }
                    if is_commit && shared.falls_silent.swap(false, Ordering::SeqCst) {
                        shared.is_silent.store(true, Ordering::SeqCst);
                    }
                    let passes = shared.let_pass(count);
                    if to.write_all(&got[..passes]).is_err() {
                        break;
                    }
                    if passes < count {
                        shared.cut();
                    }
                }
                from.shutdown(Shutdown::Both).ok();
                to.shutdown(Shutdown::Both).ok();
            });
        }
    }
}

fn deafen(words: &mut [u8]) {
    const LISTEN: &[u8] = b"LISTEN keyrack_changes";
    if let Some(at) = words.windows(LISTEN.len()).position(|window| window == LISTEN) {
        words[at..at + LISTEN.len()].copy_from_slice(b"LISTEN keyrack_nothing");
    }
}
