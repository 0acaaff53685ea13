//! The keys that the platform itself needs in a project: its tenant sees them and cannot touch them.

use std::sync::Arc;

use axum::extract::{RawQuery, Request, State};
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::body;
use super::super::caller::{As, Operator};
use super::super::changing::{self, Asked, Job};
use super::super::described::{ListParams, OnceHeader, Refused};
use super::super::effective::Reached;
use super::super::keys::{CreateKey, KeyBody, parse_new};
use super::super::paging::{self, Page};
use super::super::path::{Ids, project_id};
use super::super::problem::Problem;
use super::super::{raw_json, to_json};
use crate::app::App;
use crate::keys;
use crate::listing::List;
use crate::place::Place;
use crate::projects;
use crate::refusal::Refusal;
use crate::store::{Need, Store, StoreError};

/// A key that took the place of another.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct RotatedKey<'a> {
    #[serde(flatten)]
    key: KeyBody<'a>,
    /// Number of the key that is dead now.
    #[schema(example = 8)]
    replaces: i64,
}

/// Create a system key
///
/// The reply holds the whole value, this one time.
#[utoipa::path(
    post, path = "/api/operator/projects/{projectId}/system-keys", operation_id = "createSystemKey",
    tag = "System keys",
    params(("projectId" = i64, Path, description = "Number of the project", example = 1), OnceHeader),
    request_body = CreateKey,
    responses((status = 200, description = "The key with its whole value", body = KeyBody<'static>), Refused)
)]
pub(in crate::http) async fn create(
    State(app): State<Arc<App>>,
    As(caller, _): As<Operator>,
    Ids([project]): Ids<1>,
    request: Request,
) -> Result<Response, Problem> {
    let asked = Asked::read(request).await?;
    let new = body::parse(&asked.body).and_then(parse_new);
    changing::once(app, caller, asked, new, Need::Ordinary, move |job: Job<'_>, new| {
        Box::pin(async move {
            let Job { app, caller, writing } = job;
            let (_, place) = projects::reach(writing, &caller.key, project_id(project)).await?;
            let (by, random) = (caller.by(), app.random.as_ref());
            let (key, value) = keys::issue_system_key(writing, place, new.clone(), &by, random).await?;
            Ok(to_json(&KeyBody::whole(&key, &value)?))
        })
    })
    .await
}

/// List the system keys of a project
///
/// Masked, newest first.
#[utoipa::path(
    get, path = "/api/operator/projects/{projectId}/system-keys", operation_id = "listSystemKeys",
    tag = "System keys",
    params(("projectId" = i64, Path, description = "Number of the project", example = 1), ListParams),
    responses((status = 200, description = "A page of keys", body = Page<KeyBody<'static>>), Refused)
)]
pub(in crate::http) async fn list(
    State(app): State<Arc<App>>,
    As(caller, _): As<Operator>,
    Ids([project]): Ids<1>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let (_, place) = projects::reach(&mut &*app.store, &caller.key, project_id(project)).await?;
    let list = List::Keys(Place::System(place.project));
    paging::of_query(&app, &caller, &list, query.as_deref(), Store::read_key, |(key, last_use)| {
        Ok(raw_json(&KeyBody::masked(key, last_use.as_ref())?))
    })
    .await
}

/// Rotate a system key
///
/// Makes a key like it, with a number and a value of its own, and revokes the old one, in one transaction. The reply
/// holds the new value, this one time.
#[utoipa::path(
    post, path = "/api/operator/projects/{projectId}/system-keys/{keyId}/rotate", operation_id = "rotateSystemKey",
    tag = "System keys",
    params(
        ("projectId" = i64, Path, description = "Number of the project", example = 1),
        ("keyId" = i64, Path, description = "Number of the key", example = 8),
        OnceHeader,
    ),
    responses((status = 200, description = "The new key with its whole value", body = RotatedKey<'static>), Refused)
)]
pub(in crate::http) async fn rotate(
    State(app): State<Arc<App>>,
    As(caller, _): As<Operator>,
    Ids([project, id]): Ids<2>,
    request: Request,
) -> Result<Response, Problem> {
    let (asked, checked) = Asked::read_bare(request).await?;
    changing::once(app, caller, asked, checked, Need::Ordinary, move |job: Job<'_>, ()| {
        Box::pin(async move {
            let Job { app, caller, writing } = job;
            let (_, place) = projects::reach(writing, &caller.key, project_id(project)).await?;
            let (by, random) = (caller.by(), app.random.as_ref());
            let (key, value) = keys::rotate_system_key(writing, place.project, id, &by, random).await?;
            Ok(to_json(&RotatedKey { key: KeyBody::whole(&key, &value)?, replaces: id }))
        })
    })
    .await
}

/// Revoke a system key
///
/// Dead before the reply is sent, for ever.
#[utoipa::path(
    delete, path = "/api/operator/projects/{projectId}/system-keys/{keyId}", operation_id = "revokeSystemKey",
    tag = "System keys",
    params(
        ("projectId" = i64, Path, description = "Number of the project", example = 1),
        ("keyId" = i64, Path, description = "Number of the key", example = 8),
    ),
    responses((status = 200, description = "The key, dead", body = Reached<KeyBody<'static>>), Refused)
)]
pub(in crate::http) async fn revoke(
    State(app): State<Arc<App>>,
    As(caller, _): As<Operator>,
    Ids([project, id]): Ids<2>,
) -> Result<Response, Problem> {
    changing::done(app, caller, Need::Revocation, move |job: Job<'_>| {
        Box::pin(async move {
            let Job { caller, writing, .. } = job;
            let project = project_id(project);
            let opened = projects::reach(writing, &caller.key, project).await;
            // The project's own row says nothing about its keys: they can be killed without it.
            if matches!(opened, Err(Refusal::Store(StoreError::Damaged { .. }))) {
                writing.kill_in_memory(Place::System(project), id);
            }
            let (_, place) = opened?;
            let key = keys::revoke(writing, Place::System(place.project), id, &caller.by()).await?;
            let last_use = writing.last_use(key.id).await?;
            Ok(to_json(&KeyBody::masked(&key, last_use.as_ref())?))
        })
    })
    .await
}
