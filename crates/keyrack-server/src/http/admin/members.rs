//! Which `member` keys reach a project, and as what.

use std::sync::Arc;

use axum::extract::{RawQuery, Request, State};
use axum::response::Response;
use keyrack::ProjectRole;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::body::{self, Object};
use super::super::caller::{As, OrganizationAdmin};
use super::super::changing::{self, Asked, Job};
use super::super::described::{ListParams, Refused};
use super::super::effective::Reached;
use super::super::fields::Fields;
use super::super::paging::{self, Page};
use super::super::path::{Ids, project_id};
use super::super::problem::Problem;
use super::super::{raw_json, to_json};
use crate::actor::ActorBody;
use crate::app::App;
use crate::listing::List;
use crate::projects;
use crate::store::Need;
use crate::tenancy::Member;

/// A `member` key in a project, on the wire.
#[derive(Serialize, ToSchema)]
#[schema(as = Member)]
pub(in crate::http) struct MemberBody<'a> {
    /// Number of the project.
    #[schema(example = 1)]
    project_id: u32,
    /// Number of the organization's key.
    #[schema(example = 5)]
    key_id: i64,
    /// What people call the key.
    #[schema(example = "Support desk")]
    name: &'a str,
    /// The key's mask.
    #[schema(example = "ok_****S1T2")]
    value: &'a str,
    /// Its role in the project; as it was, if it was taken away.
    #[schema(example = "editor")]
    role: &'static str,
    /// When it was given the project.
    #[schema(example = "2026-04-28T09:30:00.000Z", format = DateTime)]
    created_at: String,
    /// When that was last changed.
    #[schema(example = "2026-04-28T09:30:00.000Z", format = DateTime)]
    updated_at: String,
    /// Who gave it.
    created_by: ActorBody,
    /// Who changed it last.
    last_changed_by: ActorBody,
}

impl<'a> MemberBody<'a> {
    fn of(member: &Member, name: &'a str, mask: &'a str) -> Self {
        Self {
            project_id: member.project.0,
            key_id: member.key.0,
            name,
            value: mask,
            role: member.role.as_str(),
            created_at: member.history.created_at.to_string(),
            updated_at: member.history.updated_at.to_string(),
            created_by: member.history.created_by.body(),
            last_changed_by: member.history.changed_by.body(),
        }
    }
}

/// The role to give.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"role": "editor"}))]
#[expect(dead_code, reason = "describes the body in the OpenAPI document; `parse_role` reads it")]
pub(in crate::http) struct GiveRole {
    /// `support`, `smtpproxy`, `editor`, `publisher` or `admin`.
    #[schema(pattern = "^(support|smtpproxy|editor|publisher|admin)$")]
    role: String,
}

fn parse_role(body: Object) -> Result<ProjectRole, Problem> {
    let mut fields = Fields::of(body);
    let role = fields.word("role");
    let role = fields.require("role", role).unwrap_or(ProjectRole::Support);
    fields.finish()?;
    Ok(role)
}

/// List the members of a project
///
/// The keys that were given it while they were of role `member`. `admin` and `owner` keys reach every project.
#[utoipa::path(
    get, path = "/api/admin/projects/{projectId}/members", operation_id = "listMembers", tag = "Members",
    params(("projectId" = i64, Path, description = "Number of the project", example = 1), ListParams),
    responses((status = 200, description = "A page of members", body = Page<MemberBody<'static>>), Refused)
)]
pub(in crate::http) async fn list(
    State(app): State<Arc<App>>,
    As(caller, _): As<OrganizationAdmin>,
    Ids([project]): Ids<1>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let (_, own) = projects::reach(&mut &*app.store, &caller.key, project_id(project)).await?;
    let list = List::Members(own.project);
    paging::of_query(
        &app,
        &caller,
        &list,
        query.as_deref(),
        |store, row| store.read_member(row),
        |(member, name, mask)| Ok(raw_json(&MemberBody::of(member, name, mask))),
    )
    .await
}

/// Give a project to a member
///
/// Or another role to one who has it. Only for keys of role `member`: the others reach every project already.
#[utoipa::path(
    put, path = "/api/admin/projects/{projectId}/members/{keyId}", operation_id = "giveProject", tag = "Members",
    params(
        ("projectId" = i64, Path, description = "Number of the project", example = 1),
        ("keyId" = i64, Path, description = "Number of the organization's key", example = 5),
    ),
    request_body = GiveRole,
    responses((status = 200, description = "The member", body = Reached<MemberBody<'static>>), Refused)
)]
pub(in crate::http) async fn give(
    State(app): State<Arc<App>>,
    As(caller, _): As<OrganizationAdmin>,
    Ids([project, key]): Ids<2>,
    request: Request,
) -> Result<Response, Problem> {
    let asked = Asked::read(request).await?;
    let role = body::parse(&asked.body).and_then(parse_role)?;
    changing::done(app, caller, Need::Ordinary, move |job: Job<'_>| {
        Box::pin(async move {
            let Job { caller, writing, .. } = job;
            let (_, own) = projects::reach(writing, &caller.key, project_id(project)).await?;
            let (key, member) = projects::give(writing, own, key, role, &caller.by()).await?;
            Ok(to_json(&MemberBody::of(&member, &key.name, key.mask.as_str())))
        })
    })
    .await
}

/// Take a project from a member
#[utoipa::path(
    delete, path = "/api/admin/projects/{projectId}/members/{keyId}", operation_id = "takeProject", tag = "Members",
    params(
        ("projectId" = i64, Path, description = "Number of the project", example = 1),
        ("keyId" = i64, Path, description = "Number of the organization's key", example = 5),
    ),
    responses((status = 200, description = "The member as it was", body = Reached<MemberBody<'static>>), Refused)
)]
pub(in crate::http) async fn take(
    State(app): State<Arc<App>>,
    As(caller, _): As<OrganizationAdmin>,
    Ids([project, key]): Ids<2>,
) -> Result<Response, Problem> {
    changing::done(app, caller, Need::Revocation, move |job: Job<'_>| {
        Box::pin(async move {
            let Job { caller, writing, .. } = job;
            let (_, own) = projects::reach(writing, &caller.key, project_id(project)).await?;
            let (key, member) = projects::take(writing, own, key, &caller.by()).await?;
            Ok(to_json(&MemberBody::of(&member, &key.name, key.mask.as_str())))
        })
    })
    .await
}
