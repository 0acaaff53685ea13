//! Loading a store that holds many keys.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use keyrack::{Index, Verifier};
use keyrack_server::clock::{Clock, Timestamp, Uptime};
use keyrack_server::root_key::RootKey;
use keyrack_server::store::{Database, LEASE, Store};

use crate::app::TestApp;

/// More than are looked at before it is thought of telling how far that is.
const KEYS: usize = 9_000;

/// A clock that goes on by a second whenever somebody looks: what takes no time takes long by it.
struct Hasty(AtomicU64);

impl Clock for Hasty {
    fn now(&self) -> Timestamp {
        Timestamp(1_777_368_600_000_000)
    }

    fn uptime(&self) -> Uptime {
        Uptime(self.0.fetch_add(1_000_000, Ordering::SeqCst))
    }
}

/// Where the log goes.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_load_that_takes_long_says_how_far_it_has_come() {
    let app = TestApp::new().await;
    app.mint(KEYS).await;

    let lines = Lines::default();
    let writer = lines.clone();
    let log = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _logged = tracing::subscriber::set_default(log);
    let root_key = RootKey::load(&app.data_dir().join("root.key")).unwrap();
    let (database, verifier) =
        (Database::in_directory(app.data_dir(), LEASE), Arc::new(Verifier::new(Index::with_capacity(0))));
    let clock = Arc::new(Hasty(AtomicU64::new(1)));
    let store = Store::open(database, app.data_dir(), &root_key, verifier, Vec::new(), clock).await.unwrap();
    store.load().await.unwrap();
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let told: Vec<_> = text.lines().filter(|line| line.contains("loading")).collect();
    let rows = ["rows=4096", "rows=8192"];
    assert!(told.len() == 2 && told.iter().zip(rows).all(|(line, rows)| line.contains(rows)), "{text}");
    assert!(told[0].contains("table=\"api_keys\""), "{text}");
}
