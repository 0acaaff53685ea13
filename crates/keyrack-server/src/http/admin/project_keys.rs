//! A project's keys, for an organization's `admin` and `owner`, and for a `member` that was made project `admin`.

use std::sync::Arc;

use axum::extract::{RawQuery, Request, State};
use axum::response::Response;

use super::super::caller::{As, OrganizationMember};
use super::super::described::{ListParams, OnceHeader, Refused, UsageParams};
use super::super::effective::Reached;
use super::super::keys::{ChangeKey, CreateKey, KeyBody};
use super::super::paging::Page;
use super::super::path::Ids;
use super::super::problem::Problem;
use super::super::project_keys::{self, Door};
use super::super::usage::{self, UsageBody};
use crate::app::App;

/// Create a key in a project
///
/// The reply holds the whole value, this one time: only a digest of it is kept.
#[utoipa::path(
    post, path = "/api/admin/projects/{projectId}/keys", operation_id = "createProjectKey", tag = "Keys of any project",
    params(("projectId" = i64, Path, description = "Number of the project", example = 1), OnceHeader),
    request_body = CreateKey,
    responses((status = 200, description = "The key with its whole value", body = KeyBody<'static>), Refused)
)]
pub(in crate::http) async fn create(
    State(app): State<Arc<App>>,
    As(caller, _): As<OrganizationMember>,
    Ids([project]): Ids<1>,
    request: Request,
) -> Result<Response, Problem> {
    project_keys::create(app, caller, Door::Named(project), request).await
}

/// List the keys of a project
///
/// Masked, newest first.
#[utoipa::path(
    get, path = "/api/admin/projects/{projectId}/keys", operation_id = "listProjectKeys", tag = "Keys of any project",
    params(("projectId" = i64, Path, description = "Number of the project", example = 1), ListParams),
    responses((status = 200, description = "A page of keys", body = Page<KeyBody<'static>>), Refused)
)]
pub(in crate::http) async fn list(
    State(app): State<Arc<App>>,
    As(caller, _): As<OrganizationMember>,
    Ids([project]): Ids<1>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    project_keys::list(&app, &caller, Door::Named(project), query.as_deref()).await
}

/// Read a key of a project
///
/// Masked.
#[utoipa::path(
    get, path = "/api/admin/projects/{projectId}/keys/{keyId}", operation_id = "readProjectKey",
    tag = "Keys of any project",
    params(
        ("projectId" = i64, Path, description = "Number of the project", example = 1),
        ("keyId" = i64, Path, description = "Number of the key", example = 4),
    ),
    responses((status = 200, description = "The key, masked", body = KeyBody<'static>), Refused)
)]
pub(in crate::http) async fn read(
    State(app): State<Arc<App>>,
    As(caller, _): As<OrganizationMember>,
    Ids([project, id]): Ids<2>,
) -> Result<Response, Problem> {
    project_keys::read(&app, &caller, Door::Named(project), id).await
}

/// Change a key of a project
///
/// The value never changes. An empty object changes nothing and succeeds.
#[utoipa::path(
    patch, path = "/api/admin/projects/{projectId}/keys/{keyId}", operation_id = "changeProjectKey",
    tag = "Keys of any project",
    params(
        ("projectId" = i64, Path, description = "Number of the project", example = 1),
        ("keyId" = i64, Path, description = "Number of the key", example = 4),
        OnceHeader,
    ),
    request_body = ChangeKey,
    responses((status = 200, description = "The key as it is now, masked", body = Reached<KeyBody<'static>>), Refused)
)]
pub(in crate::http) async fn change(
    State(app): State<Arc<App>>,
    As(caller, _): As<OrganizationMember>,
    Ids([project, id]): Ids<2>,
    request: Request,
) -> Result<Response, Problem> {
    project_keys::change(app, caller, Door::Named(project), id, request).await
}

/// Revoke a key of a project
///
/// Dead before the reply is sent, for ever. A second time it is missing.
#[utoipa::path(
    delete, path = "/api/admin/projects/{projectId}/keys/{keyId}", operation_id = "revokeProjectKey",
    tag = "Keys of any project",
    params(
        ("projectId" = i64, Path, description = "Number of the project", example = 1),
        ("keyId" = i64, Path, description = "Number of the key", example = 4),
    ),
    responses((status = 200, description = "The key, dead", body = Reached<KeyBody<'static>>), Refused)
)]
pub(in crate::http) async fn revoke(
    State(app): State<Arc<App>>,
    As(caller, _): As<OrganizationMember>,
    Ids([project, id]): Ids<2>,
) -> Result<Response, Problem> {
    project_keys::revoke(app, caller, Door::Named(project), id).await
}

/// How often a key of a project was used
///
/// Of a revoked key too. The last few seconds may be missing.
#[utoipa::path(
    get, path = "/api/admin/projects/{projectId}/keys/{keyId}/usage", operation_id = "readProjectKeyUsage",
    tag = "Keys of any project",
    params(
        ("projectId" = i64, Path, description = "Number of the project", example = 1),
        ("keyId" = i64, Path, description = "Number of the key", example = 4),
        UsageParams,
    ),
    responses((status = 200, description = "Counts by step", body = UsageBody), Refused)
)]
pub(in crate::http) async fn read_usage(
    State(app): State<Arc<App>>,
    As(caller, _): As<OrganizationMember>,
    Ids([project, id]): Ids<2>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    usage::read(&app, &caller, Door::Named(project), Some(id), query.as_deref()).await
}

/// How often the keys of a project were used
///
/// All of them together, revoked ones included. The last few seconds may be missing.
#[utoipa::path(
    get, path = "/api/admin/projects/{projectId}/usage", operation_id = "readProjectUsage", tag = "Keys of any project",
    params(("projectId" = i64, Path, description = "Number of the project", example = 1), UsageParams),
    responses((status = 200, description = "Counts by step", body = UsageBody), Refused)
)]
pub(in crate::http) async fn project_usage(
    State(app): State<Arc<App>>,
    As(caller, _): As<OrganizationMember>,
    Ids([project]): Ids<1>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    usage::read(&app, &caller, Door::Named(project), None, query.as_deref()).await
}
