//! `/api/client`: a project, for a caller with one of its secret keys (contract section 2).

use std::sync::Arc;

use axum::extract::{RawQuery, Request, State};
use axum::response::Response;

use super::audit_events;
use super::caller::{As, ProjectAdmin, ProjectKey};
use super::described::{AuditParams, ListParams, OnceHeader, Refused, UsageParams};
use super::effective::Reached;
use super::keys::{ChangeKey, CreateKey, KeyBody};
use super::paging::Page;
use super::path::Ids;
use super::problem::Problem;
use super::project_keys::{self, Door};
use super::projects::ProjectBody;
use super::usage::{self, UsageBody};
use super::{ok, to_json};
use crate::app::App;
use crate::audit::EntryBody;
use crate::kept::Tenant;
use crate::place::ProjectCaller;
use crate::projects;

/// Create a key
///
/// The reply holds the whole value, this one time: only a digest of it is kept. With an `Idempotency-Key` the same
/// request gets the same reply for 24 hours.
#[utoipa::path(
    post, path = "/api/client/keys", operation_id = "createKey", tag = "Project keys",
    params(OnceHeader), request_body = CreateKey,
    responses((status = 200, description = "The key with its whole value", body = KeyBody<'static>), Refused)
)]
pub(super) async fn create_key(
    State(app): State<Arc<App>>,
    As(caller, _): As<ProjectAdmin>,
    request: Request,
) -> Result<Response, Problem> {
    project_keys::create(app, caller, Door::Own, request).await
}

/// List keys
///
/// Masked, newest first. Follow `nextCursor` until it is null.
#[utoipa::path(
    get, path = "/api/client/keys", operation_id = "listKeys", tag = "Project keys", params(ListParams),
    responses((status = 200, description = "A page of keys", body = Page<KeyBody<'static>>), Refused)
)]
pub(super) async fn list_keys(
    State(app): State<Arc<App>>,
    As(caller, _): As<ProjectAdmin>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    project_keys::list(&app, &caller, Door::Own, query.as_deref()).await
}

/// Read a key
///
/// Masked. A key of another project is missing like one that never was.
#[utoipa::path(
    get, path = "/api/client/keys/{keyId}", operation_id = "readKey", tag = "Project keys",
    params(("keyId" = i64, Path, description = "Number of the key", example = 4)),
    responses((status = 200, description = "The key, masked", body = KeyBody<'static>), Refused)
)]
pub(super) async fn read_key(
    State(app): State<Arc<App>>,
    As(caller, _): As<ProjectAdmin>,
    Ids([id]): Ids<1>,
) -> Result<Response, Problem> {
    project_keys::read(&app, &caller, Door::Own, id).await
}

/// Change a key
///
/// The value never changes. An empty object changes nothing and succeeds.
#[utoipa::path(
    patch, path = "/api/client/keys/{keyId}", operation_id = "changeKey", tag = "Project keys",
    params(("keyId" = i64, Path, description = "Number of the key", example = 4), OnceHeader),
    request_body = ChangeKey,
    responses((status = 200, description = "The key as it is now, masked", body = Reached<KeyBody<'static>>), Refused)
)]
pub(super) async fn change_key(
    State(app): State<Arc<App>>,
    As(caller, _): As<ProjectAdmin>,
    Ids([id]): Ids<1>,
    request: Request,
) -> Result<Response, Problem> {
    project_keys::change(app, caller, Door::Own, id, request).await
}

/// Revoke a key
///
/// Dead before the reply is sent, for ever. A second time it is missing. A key may revoke itself.
#[utoipa::path(
    delete, path = "/api/client/keys/{keyId}", operation_id = "revokeKey", tag = "Project keys",
    params(("keyId" = i64, Path, description = "Number of the key", example = 4)),
    responses((status = 200, description = "The key, dead", body = Reached<KeyBody<'static>>), Refused)
)]
pub(super) async fn revoke_key(
    State(app): State<Arc<App>>,
    As(caller, _): As<ProjectAdmin>,
    Ids([id]): Ids<1>,
) -> Result<Response, Problem> {
    project_keys::revoke(app, caller, Door::Own, id).await
}

/// How often a key was used
///
/// Of a revoked key too. The last few seconds may be missing.
#[utoipa::path(
    get, path = "/api/client/keys/{keyId}/usage", operation_id = "readKeyUsage", tag = "Project keys",
    params(("keyId" = i64, Path, description = "Number of the key", example = 4), UsageParams),
    responses((status = 200, description = "Counts by step", body = UsageBody), Refused)
)]
pub(super) async fn read_key_usage(
    State(app): State<Arc<App>>,
    As(caller, _): As<ProjectAdmin>,
    Ids([id]): Ids<1>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    usage::read(&app, &caller, Door::Own, Some(id), query.as_deref()).await
}

/// How often the keys of this project were used
///
/// All of them together, revoked ones included. The last few seconds may be missing.
#[utoipa::path(
    get, path = "/api/client/usage", operation_id = "readUsage", tag = "Project keys", params(UsageParams),
    responses((status = 200, description = "Counts by step", body = UsageBody), Refused)
)]
pub(super) async fn usage(
    State(app): State<Arc<App>>,
    As(caller, _): As<ProjectAdmin>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    usage::read(&app, &caller, Door::Own, None, query.as_deref()).await
}

/// Which project a key is of
///
/// For a secret key of any role; `role` is the key's own.
#[utoipa::path(
    get, path = "/api/client/me", operation_id = "me", tag = "Project keys",
    responses((status = 200, description = "The project", body = ProjectBody<'static>), Refused)
)]
pub(super) async fn me(State(app): State<Arc<App>>, As(caller, _): As<ProjectKey>) -> Result<Response, Problem> {
    let own = ProjectCaller::of(&caller.key).ok_or_else(Problem::missing)?;
    let (project, own) = projects::reach(&mut &*app.store, &caller.key, own.project).await?;
    Ok(ok(to_json(&ProjectBody::of(&project, own.role))))
}

/// Who did what in this project
///
/// Newest first.
#[utoipa::path(
    get, path = "/api/client/audit-events", operation_id = "listProjectEvents", tag = "Project keys",
    params(AuditParams),
    responses((status = 200, description = "A page of the audit log", body = Page<EntryBody<'static>>), Refused)
)]
pub(super) async fn audit(
    State(app): State<Arc<App>>,
    As(caller, _): As<ProjectAdmin>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let own = ProjectCaller::of(&caller.key).ok_or_else(Problem::missing)?;
    let tenant = Tenant { organization: Some(own.organization.0.into()), project: Some(own.project.0.into()) };
    audit_events::list(&app, &caller, tenant, query.as_deref()).await
}
