//! What every request that changes something has in common: it runs to its end in a task of its own, whatever becomes of
//! the client, and with an `Idempotency-Key` it is done once and answered again (contract section 6).

use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use keyrack::OrganizationId;
use serde::Serialize;
use tracing::Instrument as _;
use utoipa::ToSchema;

use super::body;
use super::caller::Caller;
use super::effective;
use super::fields::Fields;
use super::problem::{self, Code, Problem};
use super::project_keys::Door;
use super::to_json;
use crate::app::App;
use crate::crash::crash_point;
use crate::keys;
use crate::place::Place;
use crate::random::{self, OsRandom};
use crate::refusal::Refusal;
use crate::replies::{Repeatable, ReplyBody};
use crate::store::{By, Need, StoreError, Writing};

/// How long a request waits for another with the same `Idempotency-Key`.
const TWIN_WAIT: Duration = Duration::from_secs(2);
const TWIN_POLL: Duration = Duration::from_millis(20);
const MOST_HEADER_BYTES: usize = 255;
/// How often a change is tried that other processes are in the way of.
const MOST_ATTEMPTS: u32 = 20;
const LONGEST_PAUSE: Duration = Duration::from_millis(30);
/// After so many attempts nobody else may commit meanwhile.
const ATTEMPTS_BESIDE_OTHERS: u32 = 4;
/// For how long a revocation is tried again that another process is in the way of with a long change.
const REVOCATION_PATIENCE: Duration = Duration::from_secs(20);

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const X_KEYRACK_SEQ: HeaderName = HeaderName::from_static("x-keyrack-seq");
const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// A request for a change, read to its end.
pub(super) struct Asked {
    method: String,
    path: String,
    idempotency_key: Option<Vec<u8>>,
    /// Where else than the caller's own project its changes go, if that is not for its key alone to say.
    door: Option<Door>,
    /// The body as it was sent.
    pub body: Vec<u8>,
}

impl Asked {
    /// Reads a request that has a body.
    ///
    /// # Errors
    /// A problem if the `Idempotency-Key` or the body is not usable.
    pub(super) async fn read(request: Request) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let idempotency_key = idempotency_key(&parts.headers)?;
        let body = body::read(&parts.headers, body).await?;
        Ok(Self::of(&parts, idempotency_key, body))
    }

    /// Reads a request that says all it has to say in its path: its body is empty, or an empty object.
    ///
    /// # Errors
    /// A problem if the `Idempotency-Key` or the body is not usable.
    pub(super) async fn read_bare(request: Request) -> Result<(Self, Result<(), Problem>), Problem> {
        let (parts, body) = request.into_parts();
        let idempotency_key = idempotency_key(&parts.headers)?;
        let body = body::read_if_any(&parts.headers, body).await?;
        let is_bare = if body.is_empty() { Ok(()) } else { body::parse(&body).and_then(|it| Fields::of(it).finish()) };
        Ok((Self::of(&parts, idempotency_key, body), is_bare))
    }

    fn of(parts: &Parts, idempotency_key: Option<Vec<u8>>, body: Vec<u8>) -> Self {
        let path = parts.uri.path_and_query().map_or_else(String::new, ToString::to_string);
        Self { method: parts.method.to_string(), path, idempotency_key, door: None, body }
    }

    /// The same request, which is only for whom a door lets in: who does not come in gets no kept reply and leaves none.
    pub(super) fn through(self, door: Door) -> Self {
        Self { door: Some(door), ..self }
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<Vec<u8>>, Problem> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let is_plain = value.as_bytes().iter().all(|byte| (0x20..0x7f).contains(byte));
    if values.next().is_some() || !is_plain || !(1..=MOST_HEADER_BYTES).contains(&value.len()) {
        let message = format!("Send one `Idempotency-Key` of 1 to {MOST_HEADER_BYTES} printable ASCII characters.");
        return Err(Problem::param(Code::IdempotencyKeyInvalid, "Idempotency-Key", message));
    }
    Ok(Some(value.as_bytes().to_vec()))
}

/// The work of a change: what it writes, and the body of the reply.
pub(super) type Work<'w> = Pin<Box<dyn Future<Output = Result<Vec<u8>, Refusal>> + Send + 'w>>;

/// What the work is done with.
pub(super) struct Job<'w> {
    /// The parts of the installation.
    pub app: &'w App,
    /// Who asks.
    pub caller: &'w Caller,
    /// The transaction it is done in.
    pub writing: &'w mut Writing,
}

/// Does a change that may be asked for with an `Idempotency-Key` once. `checked` is what was made of the body: its
/// problem is kept as a reply like any other.
///
/// # Errors
/// The problem of the body or of the work, or that the `Idempotency-Key` is in use.
pub(super) async fn once<T, F>(
    app: Arc<App>,
    caller: Caller,
    asked: Asked,
    checked: Result<T, Problem>,
    need: Need,
    work: F,
) -> Result<Response, Problem>
where
    T: Send + Sync + 'static,
    F: for<'w> Fn(Job<'w>, &'w T) -> Work<'w> + Send + Sync + 'static,
{
    let Some(header) = &asked.idempotency_key else {
        let input = checked?;
        return to_the_end(async move { Ok(attempts(app, caller, None, &Ok(input), need, work).await?) }).await;
    };
    let request = [asked.method.as_bytes(), asked.path.as_bytes(), &asked.body];
    let repeatable = app.replies.repeatable(caller.key.id(), &caller.presented, header, request);
    let turn = Turn::wait(&app, *repeatable.lookup()).await?;
    to_the_end(async move {
        let _turn = turn;
        let kept = Kept { repeatable, door: asked.door };
        Ok(attempts(app, caller, Some(kept), &checked, need, work).await?)
    })
    .await
}

/// Does a change that leaves things the same when it is asked for twice: PUT and DELETE.
///
/// # Errors
/// The problem of the work.
pub(super) async fn done<F>(app: Arc<App>, caller: Caller, need: Need, work: F) -> Result<Response, Problem>
where
    F: for<'w> Fn(Job<'w>) -> Work<'w> + Send + Sync + 'static,
{
    to_the_end(async move { Ok(attempts(app, caller, None, &Ok(()), need, with_no_input(work)).await?) }).await
}

fn with_no_input<F>(work: F) -> impl for<'w> Fn(Job<'w>, &'w ()) -> Work<'w> + Send + Sync
where
    F: for<'w> Fn(Job<'w>) -> Work<'w> + Send + Sync,
{
    move |job, ()| work(job)
}

/// A key to be revoked, as it can be found without the database.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    /// Its number.
    pub id: i64,
    /// Where it must be.
    pub place: Place,
    /// The organization that it must be of too.
    pub within: Option<OrganizationId>,
}

/// Revokes a key. While a shared database is away it dies on this node at once, and is kept in its journal: 202.
///
/// # Errors
/// The problem of the work.
pub(super) async fn revoked<F>(
    app: Arc<App>,
    caller: Caller,
    target: Option<Target>,
    work: F,
) -> Result<Response, Problem>
where
    F: for<'w> Fn(Job<'w>) -> Work<'w> + Send + Sync + 'static,
{
    let Some(target) = target.filter(|_| app.store.is_shared()) else {
        return done(app, caller, Need::Revocation, work).await;
    };
    to_the_end(async move {
        let by = caller.by();
        // Whoever wants a key dead does not wait for what will not come.
        if app.store.cannot_hear().await
            && let Some(reply) = without_database(&app, target, &by)?
        {
            return Ok(reply);
        }
        match attempts(Arc::clone(&app), caller, None, &Ok(()), Need::Revocation, with_no_input(work)).await {
            Err(Failed::Store(error)) if is_away(&app, &error) => {
                without_database(&app, target, &by)?.ok_or_else(|| error.into())
            }
            Err(Failed::Final(problem)) if problem.status() == 404 => Err(missing(&app, target, problem).await),
            outcome => outcome.map_err(Problem::from),
        }
    })
    .await
}

/// Whether the database is away: also if nothing is heard of it, and somebody holds what is needed for good, as a commit does that waits
/// for a standby which does not come.
fn is_away(app: &App, error: &StoreError) -> bool {
    error.is_outage() || matches!(error, StoreError::Busy) && app.store.is_out_of_touch()
}

/// That a key is not there, from a database that was read and not written to. It must be the one that others write to, and the key must
/// not pass here, for whoever hears that takes it for dead.
async fn missing(app: &App, target: Target, problem: Problem) -> Problem {
    match app.store.hear_of_everything().await {
        Err(error) => error.into(),
        Ok(()) if keys::is_live_here(&app.store, (target.place, target.within), target.id) => {
            Problem::unavailable("It cannot be told at this moment whether there is such a key. Try again.")
        }
        Ok(()) => problem,
    }
}

/// Revokes a key on this node; nothing if it is not known here.
fn without_database(app: &App, target: Target, by: &By) -> Result<Option<Response>, Problem> {
    let Target { id, place, within } = target;
    let Some(effective) = keys::revoke_without_database(&app.store, (place, within), id, by)? else {
        return Ok(None);
    };
    let mut body = to_json(&Undurable { id, durable: false });
    effective::leave_open(&mut body);
    effective::close(&mut body, &effective);
    Ok(Some(respond(ReplyBody { status: 202, body })))
}

/// A key that is dead, and that the database does not know to be.
#[derive(Serialize, ToSchema)]
pub(super) struct Undurable {
    /// Number of the key.
    #[schema(example = 4)]
    id: i64,
    /// Always `false`: the revocation is kept by this node alone until the database is back.
    #[schema(example = false)]
    durable: bool,
}

/// A request whose reply is kept, and who may have it.
struct Kept {
    repeatable: Repeatable,
    door: Option<Door>,
}

/// Why an attempt failed: an error of the store may be worth another one.
enum Failed {
    Final(Problem),
    Store(StoreError),
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Failed> for Problem {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Final(problem) => problem,
            Failed::Store(error) => error.into(),
        }
    }
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        match refusal.into_store_error() {
            Ok(error) => Self::Store(error),
            Err(refusal) => Self::Final(refusal.into()),
        }
    }
}

/// Attempts until nobody else changes the same meanwhile; for what revokes another one with the ballast given up.
async fn attempts<T, F>(
    app: Arc<App>,
    mut caller: Caller,
    kept: Option<Kept>,
    checked: &Result<T, Problem>,
    need: Need,
    work: F,
) -> Result<Response, Failed>
where
    T: Sync,
    F: for<'w> Fn(Job<'w>, &'w T) -> Work<'w>,
{
    let (mut left, began) = (MOST_ATTEMPTS, Instant::now());
    loop {
        // One that was in the way of others goes by itself; in the end, with nobody beside it.
        let begun = match MOST_ATTEMPTS - left {
            0 => app.store.begin_beside(need).await,
            1..ATTEMPTS_BESIDE_OTHERS => app.store.begin(need).await,
            _ => app.store.begin_alone(need).await,
        };
        left -= 1;
        match attempt(&app, &mut caller, kept.as_ref(), checked, begun, &work).await {
            Err(Failed::Store(StoreError::Conflict)) if left > 0 => pause().await,
            Err(Failed::Store(StoreError::Busy))
                if left > 0
                    && need == Need::Revocation
                    && began.elapsed() < REVOCATION_PATIENCE
                    && !app.store.is_out_of_touch() => {}
            Err(Failed::Store(error)) if left > 0 && need == Need::Revocation && error.may_be_for_want_of_room() => {
                app.store.give_up_ballast();
                left = 1;
            }
            outcome => return outcome,
        }
    }
}

/// So that two who are in each other's way do not stay there.
async fn pause() {
    let [random] = random::bytes(&OsRandom);
    tokio::time::sleep(LONGEST_PAUSE * u32::from(random) / 255).await;
}

async fn attempt<T, F>(
    app: &App,
    caller: &mut Caller,
    kept: Option<&Kept>,
    checked: &Result<T, Problem>,
    begun: Result<Writing, StoreError>,
    work: &F,
) -> Result<Response, Failed>
where
    F: for<'w> Fn(Job<'w>, &'w T) -> Work<'w>,
{
    let mut writing = begun?;
    // The changes before this one may have revoked or narrowed the very key that asks.
    if let Err(problem) = caller.verify_again(app) {
        writing.abandon().await?;
        return Err(Failed::Final(problem));
    }
    caller.relied_on().for_each(|thing| writing.rely_on(thing));
    if let Some(Kept { repeatable, door }) = kept {
        let admitted = match door {
            Some(door) => door.open(&mut writing, &caller.key).await.map(|_| ()),
            None => Ok(()),
        };
        let reply = match admitted {
            Ok(()) => replay(&mut writing, repeatable).await?,
            Err(refusal) => Some(Err(Failed::from(refusal))),
        };
        if let Some(reply) = reply {
            let seq = writing.abandon().await?;
            let mut reply = reached(app, caller, seq, reply?).await;
            reply.headers_mut().insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
            return Ok(reply);
        }
    }
    let outcome = match checked {
        Ok(input) => work(Job { app, caller, writing: &mut writing }, input).await.map_err(Failed::from),
        Err(problem) => Err(Failed::Final(problem.clone())),
    };
    let reply = match (outcome, kept) {
        (Ok(mut body), _) => {
            if writing.narrows() {
                effective::leave_open(&mut body);
            }
            ReplyBody { status: 200, body }
        }
        (Err(Failed::Final(problem)), Some(_)) if is_kept(problem.status()) => {
            writing = writing.start_over().await?;
            let body = problem.body(&app.problem_types, caller.request_id.as_str());
            ReplyBody { status: problem.status(), body }
        }
        (Err(failed), _) => {
            writing.abandon().await?;
            return Err(failed);
        }
    };
    if let Some(Kept { repeatable, .. }) = kept {
        let kept = repeatable.seal(&reply, writing.reply_time().await?, app.random.as_ref());
        writing.keep_reply(repeatable.lookup(), &kept).await?;
    }
    let seq = writing.commit().await?;
    crash_point("before-reply");
    Ok(reached(app, caller, seq, reply).await)
}

/// The reply to a change, once that is everywhere if it takes something away.
async fn reached(app: &App, caller: &Caller, seq: i64, mut reply: ReplyBody) -> Response {
    if effective::is_open(&reply.body) {
        let patience = effective::patience_left(caller.patience, caller.came.elapsed());
        let effective = app.store.await_everywhere(seq, patience).await;
        effective::close(&mut reply.body, &effective);
    }
    let mut response = respond(reply);
    response.headers_mut().insert(X_KEYRACK_SEQ, HeaderValue::from(seq));
    response
}

/// Runs in a task of its own: when the client goes away, what was begun is finished all the same.
async fn to_the_end(
    work: impl Future<Output = Result<Response, Problem>> + Send + 'static,
) -> Result<Response, Problem> {
    match tokio::spawn(work.in_current_span()).await {
        Ok(reply) => reply,
        Err(error) => {
            tracing::error!(panicked = error.is_panic(), "a change did not come to its end");
            Err(Problem::internal())
        }
    }
}

/// 5xx say nothing about the request; 408, 425 and 429 ask for another try.
const fn is_kept(status: u16) -> bool {
    status < 500 && !matches!(status, 408 | 425 | 429)
}

async fn replay(
    writing: &mut Writing,
    repeatable: &Repeatable,
) -> Result<Option<Result<ReplyBody, Failed>>, StoreError> {
    let Some(kept) = writing.reply(repeatable.lookup()).await? else { return Ok(None) };
    if !repeatable.is_answered_by(&kept) {
        let message = "This Idempotency-Key was used for a request with another method, path or body. Use a new one.";
        return Ok(Some(Err(Failed::Final(Problem::new(Code::IdempotencyKeyMismatch, message)))));
    }
    let damaged = || StoreError::Damaged { what: "a kept reply cannot be opened".to_owned() };
    Ok(Some(Ok(repeatable.open(&kept).ok_or_else(damaged)?)))
}

/// A reply that is ready to be sent.
pub(super) fn respond(reply: ReplyBody) -> Response {
    let media_type = if reply.status < 400 { "application/json" } else { problem::MEDIA_TYPE };
    let mut response = Response::new(Body::from(reply.body));
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// The turn of one request among those with the same `Idempotency-Key`; over when dropped.
struct Turn {
    app: Arc<App>,
    lookup: [u8; 32],
}

impl Turn {
    async fn wait(app: &Arc<App>, lookup: [u8; 32]) -> Result<Self, Problem> {
        let waited = tokio::time::timeout(TWIN_WAIT, async {
            while !app.under_way.lock().unwrap_or_else(PoisonError::into_inner).insert(lookup) {
                tokio::time::sleep(TWIN_POLL).await;
            }
        });
        match waited.await {
            Ok(()) => Ok(Self { app: Arc::clone(app), lookup }),
            Err(_elapsed) => {
                let message = "The first request with this Idempotency-Key is still under way. Try again.";
                Err(Problem::new(Code::IdempotencyInProgress, message).retry_after(1))
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.app.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.lookup);
    }
}
