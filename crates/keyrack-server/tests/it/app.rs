//! The whole application in process: a real store, a clock that stands still, random bytes from a seed.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request};
use axum::response::Response;
use http_body_util::BodyExt as _;
use keyrack::{Holder, Index, KeyKind, OrganizationId, ProjectId, ProjectRole, Scope, Verifier};
use keyrack_server::actor::Actor;
use keyrack_server::app::App;
use keyrack_server::clock::{Clock, Timestamp, Uptime};
use keyrack_server::http;
use keyrack_server::installation::{self, FirstKeys};
use keyrack_server::keys::{Labels, Powers, mint};
use keyrack_server::limits::{Limits, Rates, Tier};
use keyrack_server::random::{OsRandom, Random};
use keyrack_server::root_key::RootKey;
use keyrack_server::store::{By, Database, Need, Store};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tower::ServiceExt as _;

use crate::database::{self, Beside, Place};

/// 2026-04-28T09:30:00.123Z
const START: i64 = 1_777_368_600_123_456;
/// About an hour and a half after the machine was started.
const UPTIME: u64 = 5_432_100_000;

/// Both clocks of the machine; they stand still until a test moves them.
pub(crate) struct FrozenClock {
    now: AtomicI64,
    uptime: AtomicU64,
}

impl Clock for FrozenClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.now.load(Ordering::SeqCst))
    }

    fn uptime(&self) -> Uptime {
        Uptime(self.uptime.load(Ordering::SeqCst))
    }
}

/// SHA-256 of a counter: the same bytes in every run.
pub(crate) struct SeededRandom(AtomicU64);

impl Random for SeededRandom {
    fn fill(&self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(32) {
            let block = Sha256::digest(self.0.fetch_add(1, Ordering::SeqCst).to_be_bytes());
            chunk.copy_from_slice(&block[..chunk.len()]);
        }
    }
}

pub(crate) struct TestApp {
    router: Router,
    pub(crate) app: Arc<App>,
    pub(crate) clock: Arc<FrozenClock>,
    pub(crate) first_keys: FirstKeys,
    place: Place,
    dir: tempfile::TempDir,
}

async fn open(
    database: Database,
    dir: &Path,
    root_key: &RootKey,
    verifier: &Arc<Verifier>,
    clock: &Arc<FrozenClock>,
) -> Arc<Store> {
    let (verifier, clock) = (Arc::clone(verifier), Arc::clone(clock));
    Store::open(database, dir, root_key, verifier, Vec::new(), clock).await.unwrap()
}

/// A node beside the one of a [`TestApp`].
pub(crate) struct Node {
    router: Router,
    pub(crate) app: Arc<App>,
    _dir: tempfile::TempDir,
}

impl Node {
    /// Sends a request with a key, and a JSON body if there is one.
    pub(crate) async fn call(&self, key: &str, route: (&str, &str), body: Option<Value>) -> Reply {
        self.call_with(key, route, body, &[]).await
    }

    /// Sends a request with a key, a JSON body and more headers.
    pub(crate) async fn call_with(
        &self,
        key: &str,
        route: (&str, &str),
        body: Option<Value>,
        headers: &[(&str, &str)],
    ) -> Reply {
        reply_of(self.router.clone().oneshot(request(key, route, body, headers)).await.unwrap()).await
    }
}

fn request(key: &str, (method, path): (&str, &str), body: Option<Value>, headers: &[(&str, &str)]) -> Request<Body> {
    let request = Request::builder().method(method).uri(path).header("Authorization", format!("Bearer {key}"));
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let request = match body {
        Some(body) => request.header("Content-Type", "application/json").body(Body::from(body.to_string())),
        None => request.body(Body::empty()),
    };
    request.unwrap()
}

/// A reply with what matters of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The body, and not how far it has reached.
    pub(crate) fn without_reach(&self) -> Value {
        let mut json = self.json();
        json.as_object_mut().unwrap().remove("effective");
        json
    }

    /// Status line, headers and indented body, as snapshots hold it.
    pub(crate) fn snapshot(&self) -> String {
        let mut shown = format!("{}\n", self.status);
        for (name, value) in &self.headers {
            shown += &format!("{name}: {}\n", value.to_str().unwrap());
        }
        if !self.text.is_empty() {
            // Parsed into a structure that keeps the order of the fields as they were sent.
            let pretty = indent(&self.text);
            shown += &format!("\n{pretty}\n");
        }
        shown
    }
}

/// Indents JSON without changing the order of its fields.
fn indent(json: &str) -> String {
    let (mut out, mut depth, mut in_string, mut escaped) = (String::new(), 0, false, false);
    for c in json.chars() {
        if in_string {
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
            out.push(c);
            continue;
        }
        match c {
            '{' | '[' => {
                depth += 1;
                out.push(c);
                out += &format!("\n{:1$}", "", depth * 2);
            }
            '}' | ']' => {
                depth -= 1;
                // Nothing in it: no lines for it either.
                let kept = out.trim_end().len();
                if out[..kept].ends_with(['{', '[']) {
                    out.truncate(kept);
                } else {
                    out += &format!("\n{:1$}", "", depth * 2);
                }
                out.push(c);
            }
            ',' => out += &format!(",\n{:1$}", "", depth * 2),
            ':' => out += ": ",
            '"' => {
                in_string = true;
                out.push(c);
            }
            other => out.push(other),
        }
    }
    out
}

/// Reads a response to its end.
pub(crate) async fn reply_of(response: Response) -> Reply {
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    Reply { status: parts.status.as_u16(), headers: parts.headers, text }
}

/// The rates of installations under test that are not about rates.
pub(crate) const PLENTY: &str = "starter=50000/50000/10 professional=1/1/1 enterprise=1/1/1";
/// The same for callers without a valid key.
pub(crate) const PLENTY_OF_STRANGERS: u32 = 50_000;

/// Limits that no test meets by chance.
pub(crate) fn plenty() -> Limits {
    let rates = Rates::parse(PLENTY).unwrap();
    Limits { tier: Tier::Starter, rates, addresses_per_second: PLENTY_OF_STRANGERS }
}

impl TestApp {
    /// With limits that no test meets by chance.
    pub(crate) async fn new() -> Self {
        Self::with_limits(plenty()).await
    }

    /// One whose store is asked past those who try again.
    pub(crate) async fn asked_once() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::new(dir.path()).await;
        Self::in_place(plenty(), dir, place).await
    }

    /// On PostgreSQL, whatever the others are made on.
    pub(crate) async fn shared() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::Schema(database::new_schema().await);
        Self::in_place(plenty(), dir, place).await
    }

    pub(crate) async fn with_limits(limits: Limits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::new(dir.path()).await;
        let app = Self::in_place(limits, dir, place).await;
        app.place.inject().await;
        app
    }

    async fn in_place(limits: Limits, dir: tempfile::TempDir, place: Place) -> Self {
        let random = Arc::new(SeededRandom(AtomicU64::new(0)));
        let clock = Arc::new(FrozenClock { now: AtomicI64::new(START), uptime: AtomicU64::new(UPTIME) });
        let root_key = RootKey::create(&dir.path().join("root.key"), random.as_ref()).unwrap();
        let verifier = Arc::new(Verifier::new(Index::with_capacity(0)));
        let store = open(place.database(), dir.path(), &root_key, &verifier, &clock).await;
        let first_keys = installation::set_up(&store, random.as_ref()).await.unwrap();
        store.load().await.unwrap();
        store.join().await.unwrap();
        let types = "/docs/errors".to_owned();
        let app = Arc::new(App::new(store, verifier, &root_key, limits, types, clock.clone(), random));
        Self { router: http::service(Arc::clone(&app)), app, clock, first_keys, place, dir }
    }

    /// The same installation after a restart: all it knows is what it had on disk.
    pub(crate) async fn restarted(self) -> Self {
        let Self { app, clock, first_keys, place, dir, .. } = self;
        app.store.leave().await.unwrap();
        app.store.close().await;
        let root_key = RootKey::load(&dir.path().join("root.key")).unwrap();
        let verifier = Arc::new(Verifier::new(Index::with_capacity(0)));
        let store = open(place.database(), dir.path(), &root_key, &verifier, &clock).await;
        assert!(store.was_set_up());
        store.load().await.unwrap();
        store.join().await.unwrap();
        let (types, random) = (app.problem_types.clone(), Arc::clone(&app.random));
        let app = Arc::new(App::new(store, verifier, &root_key, plenty(), types, clock.clone(), random));
        Self { router: http::service(Arc::clone(&app)), app, clock, first_keys, place, dir }
    }

    /// Another node of the same store.
    pub(crate) async fn another_node(&self) -> Node {
        self.another_node_with(self.place.database(), &self.clock).await
    }

    /// Another node of the same store, which answers for so long without that.
    pub(crate) async fn another_node_that_is_stale_for(&self, stale_limit: Duration) -> Node {
        self.another_node_with(self.place.database_for(stale_limit), &self.clock).await
    }

    /// Another node of the same store, whose wall clock was set wrong by so many hours.
    pub(crate) async fn another_node_ahead(&self, hours: i64) -> Node {
        let (now, uptime) = (self.clock.now().plus_seconds(hours * 60 * 60), self.clock.uptime());
        let clock = FrozenClock { now: AtomicI64::new(now.0), uptime: AtomicU64::new(uptime.0) };
        self.another_node_with(self.place.database(), &Arc::new(clock)).await
    }

    async fn another_node_with(&self, database: Database, clock: &Arc<FrozenClock>) -> Node {
        let dir = tempfile::tempdir().unwrap();
        let root_key = RootKey::load(&self.dir.path().join("root.key")).unwrap();
        let verifier = Arc::new(Verifier::new(Index::with_capacity(0)));
        let store = open(database, dir.path(), &root_key, &verifier, clock).await;
        store.load().await.unwrap();
        store.join().await.unwrap();
        let (types, random) = (self.app.problem_types.clone(), Arc::clone(&self.app.random));
        let app = Arc::new(App::new(store, verifier, &root_key, plenty(), types, clock.clone(), random));
        Node { router: http::service(Arc::clone(&app)), app, _dir: dir }
    }

    /// A way around the server to what it keeps.
    pub(crate) async fn beside(&self) -> Beside {
        self.place.beside().await
    }

    /// The store is gone, and nothing brings it back.
    pub(crate) async fn lose_the_store(&self) {
        self.place.delete().await;
    }

    pub(crate) fn data_dir(&self) -> &Path {
        self.dir.path()
    }

    /// Time passes, on both clocks.
    pub(crate) fn advance_seconds(&self, seconds: u32) {
        self.advance_microseconds(u64::from(seconds) * 1_000_000);
    }

    /// Time passes, on both clocks.
    pub(crate) fn advance_microseconds(&self, microseconds: u64) {
        self.set_wall_clock(microseconds as i64);
        self.clock.uptime.fetch_add(microseconds, Ordering::SeqCst);
    }

    /// Somebody sets the wall clock, forwards or backwards by so many microseconds; no time passes.
    pub(crate) fn set_wall_clock(&self, by: i64) {
        self.clock.now.fetch_add(by, Ordering::SeqCst);
    }

    /// The last seconds pass until the replies are a day old that are kept now; where they go by the clock of a server, which nobody
    /// here sets, they are made so.
    pub(crate) async fn end_the_day(&self, seconds: u32) {
        self.advance_seconds(seconds);
        if matches!(self.place, Place::Schema(_)) {
            self.beside().await.run("UPDATE replies SET expires_at = expires_at - 86400000000").await;
        }
    }

    /// The admin key of the first project.
    pub(crate) fn admin(&self) -> &str {
        self.first_keys.project.expose()
    }

    /// Sends a request exactly as built.
    pub(crate) async fn send(&self, request: Request<Body>) -> Reply {
        reply_of(self.respond(request).await).await
    }

    /// The same, of which nothing but the head was read.
    pub(crate) async fn respond(&self, request: Request<Body>) -> Response {
        self.router.clone().oneshot(request).await.unwrap()
    }

    /// Sends a request with a key, a JSON body and more headers.
    pub(crate) async fn call_with(
        &self,
        key: &str,
        route: (&str, &str),
        body: Option<Value>,
        headers: &[(&str, &str)],
    ) -> Reply {
        self.send(request(key, route, body, headers)).await
    }

    /// Sends a request as the first project's admin.
    pub(crate) async fn call(&self, route: (&str, &str), body: Option<Value>) -> Reply {
        self.call_with(self.admin(), route, body, &[]).await
    }

    /// Creates a key and gives its id and its value.
    pub(crate) async fn create(&self, body: Value) -> (i64, String) {
        id_and_value(&self.call(("POST", "/api/client/keys"), Some(body)).await)
    }
}

/// What else an installation may hold: organizations that the first one must not see.
pub(crate) struct Installed {
    /// An owner of an organization of its own.
    pub(crate) owner: String,
    /// An owner of an organization that is suspended.
    pub(crate) suspended: String,
}

impl TestApp {
    /// Sends a request as an owner of the first organization.
    pub(crate) async fn as_owner(&self, route: (&str, &str), body: Option<Value>) -> Reply {
        self.call_with(self.first_keys.organization.expose(), route, body, &[]).await
    }

    /// Sends a request as the operator.
    pub(crate) async fn as_operator(&self, route: (&str, &str), body: Option<Value>) -> Reply {
        self.call_with(self.first_keys.operator.expose(), route, body, &[]).await
    }

    /// Makes so many keys at once, of which nobody knows the values.
    pub(crate) async fn mint(&self, keys: usize) {
        let by = By { actor: Actor::HOST, request_id: "host:test".to_owned() };
        let (kind, scope, role) = (KeyKind::Secret, Scope::Secret, ProjectRole::Editor);
        let holder = Holder::Project { project: ProjectId(1), organization: OrganizationId(1), kind, scope, role };
        let mut writing = self.app.store.begin(Need::Ordinary).await.unwrap();
        for number in 0..keys {
            let named = (Labels::named(&format!("Customer {number}")), Powers::default());
            mint(&mut writing, holder, false, named, "key.create", &by, &OsRandom).await.unwrap();
        }
        writing.commit().await.unwrap();
    }

    /// Creates a key of the first organization and gives its id and its value.
    pub(crate) async fn organization_key(&self, role: &str) -> (i64, String) {
        let body = serde_json::json!({"name": role, "role": role});
        id_and_value(&self.as_owner(("POST", "/api/admin/organizations/api-keys"), Some(body)).await)
    }

    /// Creates a system key in the first project and gives its id and its value.
    pub(crate) async fn system_key(&self, body: Value) -> (i64, String) {
        id_and_value(&self.as_operator(("POST", "/api/operator/projects/1/system-keys"), Some(body)).await)
    }

    /// Makes an organization and gives its number and the value of its owner key.
    pub(crate) async fn organization(&self, username: &str) -> (i64, String) {
        let body = serde_json::json!({"username": username});
        let made = self.as_operator(("POST", "/api/operator/organizations"), Some(body)).await;
        assert_eq!(made.status, 200, "{}", made.text);
        let made = made.json();
        let id = made["organization"]["id"].as_i64().unwrap();
        (id, made["owner_key"]["value"].as_str().unwrap().to_owned())
    }

    /// Makes other organizations, one of them suspended.
    pub(crate) async fn install_others(&self) -> Installed {
        let (_, owner) = self.organization("other").await;
        let (id, suspended) = self.organization("late-payer").await;
        let route = format!("/api/operator/organizations/{id}/suspend");
        assert_eq!(self.as_operator(("POST", &route), None).await.status, 200);
        Installed { owner, suspended }
    }
}

fn id_and_value(reply: &Reply) -> (i64, String) {
    assert_eq!(reply.status, 200, "{}", reply.text);
    let json = reply.json();
    (json["id"].as_i64().unwrap(), json["value"].as_str().unwrap().to_owned())
}
