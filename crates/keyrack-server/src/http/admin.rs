//! `/api/admin`: an organization, for a caller with one of its keys (contract section 3).

pub(super) mod members;
pub(super) mod organization_keys;
pub(super) mod project_keys;
pub(super) mod projects;

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use keyrack::{Holder, VerifiedKey};
use serde::Serialize;
use utoipa::ToSchema;

use super::audit_events;
use super::caller::{As, OrganizationAdmin, OrganizationMember};
use super::described::{AuditParams, Refused};
use super::paging::Page;
use super::problem::Problem;
use super::{ok, to_json};
use crate::app::App;
use crate::audit::EntryBody;
use crate::kept::Tenant;
use crate::place::OrganizationCaller;
use crate::refusal::Refusal;
use crate::store::Find as _;
use crate::tenancy::Organization;

/// Where the caller's key speaks for an organization.
fn organization_of(key: &VerifiedKey) -> Result<OrganizationCaller, Refusal> {
    match key.holder() {
        Holder::Organization { organization, role } => Ok(OrganizationCaller { organization, role }),
        Holder::Project { .. } | Holder::Operator | Holder::Follower => Err(Refusal::NotFound),
    }
}

/// Which organization a key is of, and as what.
#[derive(Serialize, ToSchema)]
pub(super) struct WhoAmI<'a> {
    /// The organization.
    organization: OwnOrganization<'a>,
    /// The key's role: `member`, `admin` or `owner`.
    #[schema(example = "owner")]
    role: &'static str,
}

/// An organization as its own keys see it.
#[derive(Serialize, ToSchema)]
pub(super) struct OwnOrganization<'a> {
    /// Number of the organization.
    #[schema(example = 1)]
    id: u32,
    /// Its short name.
    #[schema(example = "acme")]
    username: &'a str,
    /// When it was made.
    #[schema(example = "2026-04-28T09:30:00.000Z", format = DateTime)]
    created_at: String,
    /// When it was last changed.
    #[schema(example = "2026-04-28T09:30:00.000Z", format = DateTime)]
    updated_at: String,
    /// The domain it is known by.
    domain: Option<&'a str>,
}

/// Which organization a key is of
///
/// For a key of any role; `role` is the key's own.
#[utoipa::path(
    get, path = "/api/admin/organizations/me", operation_id = "organizationMe", tag = "Organization",
    responses((status = 200, description = "The organization", body = WhoAmI<'static>), Refused)
)]
pub(super) async fn me(
    State(app): State<Arc<App>>,
    As(caller, _): As<OrganizationMember>,
) -> Result<Response, Problem> {
    let own = organization_of(&caller.key)?;
    let found = (&*app.store).find::<Organization>(own.organization).await?.ok_or_else(Problem::missing)?;
    let organization = OwnOrganization {
        id: found.id.0,
        username: &found.username,
        created_at: found.history.created_at.to_string(),
        updated_at: found.history.updated_at.to_string(),
        domain: found.domain.as_deref(),
    };
    Ok(ok(to_json(&WhoAmI { organization, role: own.role.as_str() })))
}

/// Who did what in this organization
///
/// In its projects too. Newest first.
#[utoipa::path(
    get, path = "/api/admin/audit-events", operation_id = "listOrganizationEvents", tag = "Organization",
    params(AuditParams),
    responses((status = 200, description = "A page of the audit log", body = Page<EntryBody<'static>>), Refused)
)]
pub(super) async fn audit(
    State(app): State<Arc<App>>,
    As(caller, _): As<OrganizationAdmin>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let own = organization_of(&caller.key)?;
    let tenant = Tenant { organization: Some(own.organization.0.into()), project: None };
    audit_events::list(&app, &caller, tenant, query.as_deref()).await
}
