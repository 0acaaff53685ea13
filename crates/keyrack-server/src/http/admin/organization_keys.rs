//! An organization's own keys, for its owners.

use std::sync::Arc;

use axum::extract::{RawQuery, Request, State};
use axum::response::Response;
use utoipa::ToSchema;

use super::super::body;
use super::super::caller::{As, OrganizationOwner};
use super::super::changing::{self, Asked, Job, Target};
use super::super::described::{ListParams, OnceHeader, Refused};
use super::super::effective::Reached;
use super::super::keys::{OrganizationKeyBody, parse_new_organization_key, parse_organization_key_patch};
use super::super::paging::{self, Page};
use super::super::path::Ids;
use super::super::problem::Problem;
use super::super::{ok, raw_json, to_json};
use super::organization_of;
use crate::app::App;
use crate::keys;
use crate::listing::List;
use crate::place::Place;
use crate::store::{Find as _, Need};
use crate::stored_key::StoredKey;

/// An organization's key to create.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "Provisioning", "role": "admin"}))]
#[expect(dead_code, reason = "describes the body in the OpenAPI document; `parse_new_organization_key` reads it")]
pub(in crate::http) struct CreateOrganizationKey {
    /// 1 to 255 characters after trimming, no control characters. Need not be unique.
    #[schema(min_length = 1, max_length = 255, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$")]
    name: String,
    /// `member`, `admin` (the default) or `owner`; not above the caller's own.
    #[schema(default = "admin", nullable = false, pattern = "^(member|admin|owner)$")]
    role: Option<String>,
    /// At most 2,048 characters.
    #[schema(max_length = 2048)]
    description: Option<String>,
}

/// What to change of an organization's key. What is left out stays as it is.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"role": "member"}))]
#[expect(dead_code, reason = "describes the body in the OpenAPI document; `parse_organization_key_patch` reads it")]
pub(in crate::http) struct ChangeOrganizationKey {
    /// 1 to 255 characters after trimming, no control characters.
    #[schema(min_length = 1, max_length = 255, nullable = false, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$")]
    name: Option<String>,
    /// `member`, `admin` or `owner`; not above the caller's own.
    #[schema(nullable = false, pattern = "^(member|admin|owner)$")]
    role: Option<String>,
    /// At most 2,048 characters, or null for none.
    #[schema(max_length = 2048)]
    description: Option<String>,
}

/// Create an organization key
///
/// The reply holds the whole value, this one time. A `member` key reaches nothing until it is given a project.
#[utoipa::path(
    post, path = "/api/admin/organizations/api-keys", operation_id = "createOrganizationKey", tag = "Organization keys",
    params(OnceHeader), request_body = CreateOrganizationKey,
    responses((status = 200, description = "The key with its whole value", body = OrganizationKeyBody<'static>), Refused)
)]
pub(in crate::http) async fn create(
    State(app): State<Arc<App>>,
    As(caller, _): As<OrganizationOwner>,
    request: Request,
) -> Result<Response, Problem> {
    let asked = Asked::read(request).await?;
    let new = body::parse(&asked.body).and_then(parse_new_organization_key);
    changing::once(app, caller, asked, new, Need::Ordinary, |job: Job<'_>, new| {
        Box::pin(async move {
            let Job { app, caller, writing } = job;
            let (own, random) = (organization_of(&caller.key)?, app.random.as_ref());
            let (key, value) = keys::issue_organization_key(writing, own, new.clone(), &caller.by(), random).await?;
            Ok(to_json(&OrganizationKeyBody::whole(&key, &value)?))
        })
    })
    .await
}

/// List organization keys
///
/// Masked, newest first.
#[utoipa::path(
    get, path = "/api/admin/organizations/api-keys", operation_id = "listOrganizationKeys", tag = "Organization keys",
    params(ListParams),
    responses((status = 200, description = "A page of keys", body = Page<OrganizationKeyBody<'static>>), Refused)
)]
pub(in crate::http) async fn list(
    State(app): State<Arc<App>>,
    As(caller, _): As<OrganizationOwner>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let list = List::Keys(Place::Organization(organization_of(&caller.key)?.organization));
    paging::of_query(
        &app,
        &caller,
        &list,
        query.as_deref(),
        |store, row| store.read_row::<StoredKey>(row),
        |key| Ok(raw_json(&OrganizationKeyBody::masked(key)?)),
    )
    .await
}

/// Read an organization key
///
/// Masked.
#[utoipa::path(
    get, path = "/api/admin/organizations/api-keys/{keyId}", operation_id = "readOrganizationKey",
    tag = "Organization keys", params(("keyId" = i64, Path, description = "Number of the key", example = 5)),
    responses((status = 200, description = "The key, masked", body = OrganizationKeyBody<'static>), Refused)
)]
pub(in crate::http) async fn read(
    State(app): State<Arc<App>>,
    As(caller, _): As<OrganizationOwner>,
    Ids([id]): Ids<1>,
) -> Result<Response, Problem> {
    let place = Place::Organization(organization_of(&caller.key)?.organization);
    let key = (&*app.store).find::<StoredKey>((place, id)).await?.ok_or_else(Problem::missing)?;
    Ok(ok(to_json(&OrganizationKeyBody::masked(&key)?)))
}

/// Change an organization key
///
/// The value never changes. An empty object changes nothing and succeeds.
#[utoipa::path(
    patch, path = "/api/admin/organizations/api-keys/{keyId}", operation_id = "changeOrganizationKey",
    tag = "Organization keys",
    params(("keyId" = i64, Path, description = "Number of the key", example = 5), OnceHeader),
    request_body = ChangeOrganizationKey,
    responses((status = 200, description = "The key as it is now, masked", body = Reached<OrganizationKeyBody<'static>>), Refused)
)]
pub(in crate::http) async fn change(
    State(app): State<Arc<App>>,
    As(caller, _): As<OrganizationOwner>,
    Ids([id]): Ids<1>,
    request: Request,
) -> Result<Response, Problem> {
    let asked = Asked::read(request).await?;
    let patch = body::parse(&asked.body).and_then(parse_organization_key_patch);
    changing::once(app, caller, asked, patch, Need::Ordinary, move |job: Job<'_>, patch| {
        Box::pin(async move {
            let Job { caller, writing, .. } = job;
            let own = organization_of(&caller.key)?;
            let key = keys::change_organization_key(writing, own, id, patch.clone(), &caller.by()).await?;
            Ok(to_json(&OrganizationKeyBody::masked(&key)?))
        })
    })
    .await
}

/// Revoke an organization key
///
/// Dead before the reply is sent, for ever. A key may revoke itself.
#[utoipa::path(
    delete, path = "/api/admin/organizations/api-keys/{keyId}", operation_id = "revokeOrganizationKey",
    tag = "Organization keys", params(("keyId" = i64, Path, description = "Number of the key", example = 5)),
    responses((status = 200, description = "The key, dead", body = Reached<OrganizationKeyBody<'static>>), Refused)
)]
pub(in crate::http) async fn revoke(
    State(app): State<Arc<App>>,
    As(caller, _): As<OrganizationOwner>,
    Ids([id]): Ids<1>,
) -> Result<Response, Problem> {
    let place = Place::Organization(organization_of(&caller.key)?.organization);
    let target = Target { id, place, within: None };
    changing::revoked(app, caller, Some(target), move |job: Job<'_>| {
        Box::pin(async move {
            let Job { caller, writing, .. } = job;
            let key = keys::revoke(writing, place, id, &caller.by()).await?;
            Ok(to_json(&OrganizationKeyBody::masked(&key)?))
        })
    })
    .await
}
