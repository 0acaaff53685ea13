//! The keys of processes that follow this installation and verify by themselves.

use std::sync::Arc;

use axum::extract::{RawQuery, Request, State};
use axum::response::Response;
use keyrack::Holder;

use super::super::caller::{As, Operator};
use super::super::described::{ListParams, OnceHeader, Refused};
use super::super::effective::Reached;
use super::super::keys::OperatorKeyBody;
use super::super::paging::Page;
use super::super::path::Ids;
use super::super::problem::Problem;
use super::operator_keys::{CreateOperatorKey, create_for, list_of, revoke_of};
use crate::app::App;
use crate::place::Place;

/// Create a follower key
///
/// For services that verify in their own process with `keyrack::remote`. Such a key can read which keys there are, by digest,
/// and change nothing. The reply holds the whole value, this one time.
#[utoipa::path(
    post, path = "/api/operator/follower-keys", operation_id = "createFollowerKey", tag = "Operation",
    params(OnceHeader), request_body = CreateOperatorKey,
    responses((status = 200, description = "The key with its whole value", body = OperatorKeyBody<'static>), Refused)
)]
pub(in crate::http) async fn create(
    State(app): State<Arc<App>>,
    As(caller, _): As<Operator>,
    request: Request,
) -> Result<Response, Problem> {
    create_for(app, caller, request, Holder::Follower).await
}

/// List follower keys
///
/// Masked, newest first.
#[utoipa::path(
    get, path = "/api/operator/follower-keys", operation_id = "listFollowerKeys", tag = "Operation",
    params(ListParams),
    responses((status = 200, description = "A page of keys", body = Page<OperatorKeyBody<'static>>), Refused)
)]
pub(in crate::http) async fn list(
    State(app): State<Arc<App>>,
    As(caller, _): As<Operator>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    list_of(&app, &caller, query.as_deref(), Place::Followers).await
}

/// Revoke a follower key
///
/// Dead before the reply is sent, for ever. A service that follows with it answers until its lease is over, and nothing then.
#[utoipa::path(
    delete, path = "/api/operator/follower-keys/{keyId}", operation_id = "revokeFollowerKey", tag = "Operation",
    params(("keyId" = i64, Path, description = "Number of the key", example = 5)),
    responses((status = 200, description = "The key, dead", body = Reached<OperatorKeyBody<'static>>), Refused)
)]
pub(in crate::http) async fn revoke(
    State(app): State<Arc<App>>,
    As(caller, _): As<Operator>,
    Ids([id]): Ids<1>,
) -> Result<Response, Problem> {
    revoke_of(app, caller, Place::Followers, id).await
}
