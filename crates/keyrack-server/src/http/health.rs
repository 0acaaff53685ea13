//! Is the process alive, and is it ready?

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::changing::respond;
use super::problem::{Problem, ProblemDocument};
use super::to_json;
use crate::app::App;
use crate::replies::ReplyBody;

/// Readiness is asked often, and by programs that wait for a second.
const PING_DEADLINE: Duration = Duration::from_millis(500);

/// Is the process alive?
#[utoipa::path(
    get, path = "/livez", operation_id = "livez", tag = "Health",
    responses((status = 200, description = "It is", content_type = "application/json"))
)]
pub(super) async fn livez() -> Response {
    up()
}

/// Can it do its work?
///
/// Ready means: the keys are loaded, and may be answered for. Whether the store answers is said beside that: without it keys are still
/// verified, on every node that shares it, so it is no reason to send callers elsewhere.
#[utoipa::path(
    get, path = "/readyz", operation_id = "readyz", tag = "Health",
    responses(
        (status = 200, description = "It can", body = Readiness, content_type = "application/json"),
        (status = 503, description = "It cannot", body = ProblemDocument<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn readyz(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let is_fit = app.verifier.index().is_fit(app.clock.moment());
    is_fit.map_err(|cause| Problem::unavailable(format!("Not ready: {cause}.")))?;
    let store = match tokio::time::timeout(PING_DEADLINE, app.store.ping()).await {
        Ok(Ok(())) => "ok",
        Ok(Err(_)) | Err(_) => "unavailable",
    };
    Ok(respond(ReplyBody { status: 200, body: to_json(&Readiness { status: "ok", store }) }))
}

/// It can do its work.
#[derive(Serialize, ToSchema)]
struct Readiness {
    /// Always `ok`.
    #[schema(example = "ok")]
    status: &'static str,
    /// Whether the store answers: `ok` or `unavailable`. Without it keys are verified from memory, and nothing can be changed.
    #[schema(example = "ok")]
    store: &'static str,
}

fn up() -> Response {
    respond(ReplyBody { status: 200, body: br#"{"status":"ok"}"#.to_vec() })
}
