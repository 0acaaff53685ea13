//! The operator's own keys.

use std::sync::Arc;

use axum::extract::{RawQuery, Request, State};
use axum::response::Response;
use keyrack::Holder;
use utoipa::ToSchema;

use super::super::body;
use super::super::caller::{As, Caller, Operator};
use super::super::changing::{self, Asked, Job};
use super::super::described::{ListParams, OnceHeader, Refused};
use super::super::effective::Reached;
use super::super::keys::{OperatorKeyBody, parse_new_operator_key};
use super::super::paging::{self, Page};
use super::super::path::Ids;
use super::super::problem::Problem;
use super::super::{raw_json, to_json};
use crate::app::App;
use crate::keys::{self, Powers};
use crate::listing::List;
use crate::place::Place;
use crate::store::Need;
use crate::stored_key::StoredKey;

/// An operator's key to create.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "On call"}))]
#[expect(dead_code, reason = "describes the body in the OpenAPI document; `parse_new_operator_key` reads it")]
pub(in crate::http) struct CreateOperatorKey {
    /// 1 to 255 characters after trimming, no control characters. Need not be unique.
    #[schema(min_length = 1, max_length = 255, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$")]
    name: String,
    /// At most 2,048 characters.
    #[schema(max_length = 2048)]
    description: Option<String>,
}

/// Create an operator key
///
/// The reply holds the whole value, this one time.
#[utoipa::path(
    post, path = "/api/operator/operator-keys", operation_id = "createOperatorKey", tag = "Operation",
    params(OnceHeader), request_body = CreateOperatorKey,
    responses((status = 200, description = "The key with its whole value", body = OperatorKeyBody<'static>), Refused)
)]
pub(in crate::http) async fn create(
    State(app): State<Arc<App>>,
    As(caller, _): As<Operator>,
    request: Request,
) -> Result<Response, Problem> {
    create_for(app, caller, request, Holder::Operator).await
}

/// Creates a key of the installation for a holder.
pub(super) async fn create_for(
    app: Arc<App>,
    caller: Caller,
    request: Request,
    holder: Holder,
) -> Result<Response, Problem> {
    let asked = Asked::read(request).await?;
    let new = body::parse(&asked.body).and_then(parse_new_operator_key);
    changing::once(app, caller, asked, new, Need::Ordinary, move |job: Job<'_>, labels| {
        Box::pin(async move {
            let Job { app, caller, writing } = job;
            let (by, random) = (caller.by(), app.random.as_ref());
            let told = (labels.clone(), Powers::default());
            let (key, value) = keys::mint(writing, holder, false, told, "key.create", &by, random).await?;
            Ok(to_json(&OperatorKeyBody::whole(&key, &value)))
        })
    })
    .await
}

/// List operator keys
///
/// Masked, newest first.
#[utoipa::path(
    get, path = "/api/operator/operator-keys", operation_id = "listOperatorKeys", tag = "Operation",
    params(ListParams),
    responses((status = 200, description = "A page of keys", body = Page<OperatorKeyBody<'static>>), Refused)
)]
pub(in crate::http) async fn list(
    State(app): State<Arc<App>>,
    As(caller, _): As<Operator>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    list_of(&app, &caller, query.as_deref(), Place::Installation).await
}

/// A page of the keys of a place of the installation.
pub(super) async fn list_of(
    app: &App,
    caller: &Caller,
    query: Option<&str>,
    place: Place,
) -> Result<Response, Problem> {
    let list = List::Keys(place);
    paging::of_query(
        app,
        caller,
        &list,
        query,
        |store, row| store.read_row::<StoredKey>(row),
        |key| Ok(raw_json(&OperatorKeyBody::masked(key))),
    )
    .await
}

/// Revoke an operator key
///
/// Dead before the reply is sent, for ever. The last one cannot be revoked: `keyrack recover --operator` on the host
/// makes another.
#[utoipa::path(
    delete, path = "/api/operator/operator-keys/{keyId}", operation_id = "revokeOperatorKey", tag = "Operation",
    params(("keyId" = i64, Path, description = "Number of the key", example = 1)),
    responses((status = 200, description = "The key, dead", body = Reached<OperatorKeyBody<'static>>), Refused)
)]
pub(in crate::http) async fn revoke(
    State(app): State<Arc<App>>,
    As(caller, _): As<Operator>,
    Ids([id]): Ids<1>,
) -> Result<Response, Problem> {
    revoke_of(app, caller, Place::Installation, id).await
}

/// Revokes a key of a place of the installation.
pub(super) async fn revoke_of(app: Arc<App>, caller: Caller, place: Place, id: i64) -> Result<Response, Problem> {
    changing::done(app, caller, Need::Revocation, move |job: Job<'_>| {
        Box::pin(async move {
            let Job { caller, writing, .. } = job;
            let key = keys::revoke(writing, place, id, &caller.by()).await?;
            Ok(to_json(&OperatorKeyBody::masked(&key)))
        })
    })
    .await
}
