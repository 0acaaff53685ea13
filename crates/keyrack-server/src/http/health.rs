//! Is the process alive, and is it ready?

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;

use super::changing::respond;
use super::problem::{Problem, ProblemDocument};
use crate::app::App;
use crate::replies::ReplyBody;

/// Readiness is asked often and by impatient programs.
const PING_DEADLINE: Duration = Duration::from_secs(2);

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
/// Ready means: the index is loaded, and the store answers.
#[utoipa::path(
    get, path = "/readyz", operation_id = "readyz", tag = "Health",
    responses(
        (status = 200, description = "It can", content_type = "application/json"),
        (status = 503, description = "It cannot", body = ProblemDocument<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn readyz(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    if !app.verifier.index().is_loaded() {
        return Err(Problem::unavailable("The keys are still being loaded."));
    }
    match tokio::time::timeout(PING_DEADLINE, app.store.ping()).await {
        Ok(Ok(())) => Ok(up()),
        Ok(Err(_)) | Err(_) => Err(Problem::unavailable("The store does not answer. Keys are still verified.")),
    }
}

fn up() -> Response {
    respond(ReplyBody { status: 200, body: br#"{"status":"ok"}"#.to_vec() })
}
