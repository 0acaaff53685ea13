//! `/api/follower`: what a process is told that follows this installation and verifies by itself, with `keyrack::remote`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use keyrack::feed::{Ask, Line};
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout_at};

use super::body;
use super::caller::{As, Caller, Follower};
use super::changing::respond;
use super::problem::{Code, Problem};
use super::to_json;
use crate::app::App;
use crate::replies::ReplyBody;

/// A snapshot is sent in pieces of about this size, and no more than a few are made ahead.
const PIECE: usize = 64 << 10;
const PIECES_AHEAD: usize = 4;
/// Longest that a follower may take nothing of it, and longest that it may take for all of it.
const PIECE_PATIENCE: Duration = Duration::from_secs(30);
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(600);
/// How soon it is worth asking again for who found no room, in seconds.
const ASK_AGAIN: u32 = 5;

/// Everything there is to know at first, as lines of JSON. Not a part of the described API: both sides come from one version of Keyrack.
pub(super) async fn snapshot(State(app): State<Arc<App>>, As(caller, _): As<Follower>) -> Result<Response, Problem> {
    let message = "Too many followers are reading everything there is at this moment with this key. Try again.";
    let turn = app.snapshot_turns.wait(caller.key.id()).await;
    let turn = turn.ok_or_else(|| Problem::unavailable(message).retry_after(ASK_AGAIN))?;
    let is_newest = app.store.is_newest().await;
    let (pieces, mut received) = tokio::sync::mpsc::channel::<Bytes>(PIECES_AHEAD);
    let (runtime, deadline) = (Handle::current(), Instant::now() + SNAPSHOT_PATIENCE);
    tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let mut piece = Vec::with_capacity(PIECE);
        app.store.tell_everything(is_newest, |line| {
            piece.extend_from_slice(&to_json(line));
            piece.push(b'\n');
            let is_last = matches!(line, Line::End { .. });
            if piece.len() < PIECE && !is_last {
                return true;
            }
            // Who is gone, or reads nothing, wants no more.
            let sending = pieces.send(Bytes::from(std::mem::take(&mut piece)));
            let deadline = deadline.min(Instant::now() + PIECE_PATIENCE);
            matches!(runtime.block_on(async { timeout_at(deadline, sending).await }), Ok(Ok(())))
        });
    });
    let stream =
        futures_util::stream::poll_fn(move |context| received.poll_recv(context).map(|it| it.map(Ok::<_, Infallible>)));
    let mut response = Response::new(Body::from_stream(stream));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    Ok(response)
}

/// What is new since the follower's cursor, and its lease.
pub(super) async fn news(
    State(app): State<Arc<App>>,
    As(caller, _): As<Follower>,
    request: Request,
) -> Result<Response, Problem> {
    let (id, ask) = asked(&caller, request).await?;
    if !app.store.has_room_for_follower(&id) {
        let message = "Too many processes follow with this key. Those that are gone make room when their leases are over; for more, issue \
                       another follower key.";
        return Err(Problem::new(Code::RateLimited, message).retry_after(ASK_AGAIN));
    }
    let stale_limit = Duration::from_millis(ask.stale_ms.unsigned_abs());
    let told = app.store.tell_news(id, &ask.cursor, stale_limit, (ask.asked, ask.version)).await?;
    Ok(respond(ReplyBody { status: 200, body: to_json(&told) }))
}

/// The follower answers nothing any more.
pub(super) async fn leave(
    State(app): State<Arc<App>>,
    As(caller, _): As<Follower>,
    request: Request,
) -> Result<Response, Problem> {
    let (id, _ask) = asked(&caller, request).await?;
    app.store.forget_follower(&id).await?;
    Ok(respond(ReplyBody { status: 200, body: b"{}".to_vec() }))
}

/// What a follower asks, and what it is called here: the number of its key is a part of that, so that no key speaks for another's.
async fn asked(caller: &Caller, request: Request) -> Result<(String, Ask), Problem> {
    let (parts, body) = request.into_parts();
    let bytes = body::read(&parts.headers, body).await?;
    let ask: Ask = serde_json::from_slice(&bytes).map_err(|_other| unreadable())?;
    let is_name = ask.follower.len() == 8 && ask.follower.bytes().all(|byte| byte.is_ascii_lowercase());
    if !is_name
        || ask.stale_ms < 0
        || ask.asked < 0
        || ask.version.len() > 64
        || ask.version.contains(|it: char| it.is_control())
    {
        return Err(unreadable());
    }
    Ok((format!("follower_{}_{}", caller.key.id(), ask.follower), ask))
}

fn unreadable() -> Problem {
    Problem::new(Code::ParameterInvalidFormat, "This is for `keyrack::remote`, of the same version as the server.")
}
