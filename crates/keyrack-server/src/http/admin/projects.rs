//! The projects of an organization.

use std::sync::Arc;

use axum::extract::{RawQuery, Request, State};
use axum::response::Response;
use keyrack::{OrganizationRole, ProjectRole};

use super::super::body;
use super::super::caller::{As, OrganizationAdmin, OrganizationMember, OrganizationOwner};
use super::super::changing::{self, Asked, Job};
use super::super::described::{ListParams, OnceHeader, Refused};
use super::super::effective::{Archived, Reached};
use super::super::paging::{self, Page};
use super::super::path::{Ids, project_id};
use super::super::problem::Problem;
use super::super::projects::{ChangeProject, CreateProject, ProjectBody, parse_new, parse_patch};
use super::super::{ok, query, raw_json, to_json};
use super::organization_of;
use crate::app::App;
use crate::listing::List;
use crate::place::Place;
use crate::projects;
use crate::refusal::Refusal;
use crate::store::{Need, Row, Store};
use crate::tenancy::Project;

/// Create a project
#[utoipa::path(
    post, path = "/api/admin/projects", operation_id = "createProject", tag = "Projects",
    params(OnceHeader), request_body = CreateProject,
    responses((status = 200, description = "The project", body = ProjectBody<'static>), Refused)
)]
pub(in crate::http) async fn create(
    State(app): State<Arc<App>>,
    As(caller, _): As<OrganizationAdmin>,
    request: Request,
) -> Result<Response, Problem> {
    let asked = Asked::read(request).await?;
    let new = body::parse(&asked.body).and_then(parse_new);
    changing::once(app, caller, asked, new, Need::Ordinary, |job: Job<'_>, new| {
        Box::pin(async move {
            let Job { caller, writing, .. } = job;
            let own = organization_of(&caller.key)?;
            let project = projects::create(writing, own.organization, new.clone(), &caller.by()).await?;
            Ok(to_json(&ProjectBody::of(&project, ProjectRole::Admin)))
        })
    })
    .await
}

/// List projects
///
/// All of the organization for `admin` and `owner`; for a `member` those it was given. Newest first.
#[utoipa::path(
    get, path = "/api/admin/projects", operation_id = "listProjects", tag = "Projects", params(ListParams),
    responses((status = 200, description = "A page of projects", body = Page<ProjectBody<'static>>), Refused)
)]
pub(in crate::http) async fn list(
    State(app): State<Arc<App>>,
    As(caller, _): As<OrganizationMember>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let own = organization_of(&caller.key)?;
    let (list, given) = match own.role {
        OrganizationRole::Member => {
            let key = caller.key.id();
            (List::ProjectsOf(key), Some(app.store.projects_of(key).await?))
        }
        OrganizationRole::Admin | OrganizationRole::Owner => (List::Projects(own.organization), None),
    };
    let read = |store: &Store, row: &Row| {
        let project: Option<Project> = store.read_row(row)?;
        let role = |id| given.as_ref().map_or(Some(ProjectRole::Admin), |given| given.get(&id).copied());
        Ok(project.and_then(|project| Some((role(project.id)?, project))))
    };
    let body = |(role, project): &(ProjectRole, Project)| Ok(raw_json(&ProjectBody::of(project, *role)));
    paging::of_query(&app, &caller, &list, query.as_deref(), read, body).await
}

/// Read a project
#[utoipa::path(
    get, path = "/api/admin/projects/{projectId}", operation_id = "readProject", tag = "Projects",
    params(("projectId" = i64, Path, description = "Number of the project", example = 1)),
    responses((status = 200, description = "The project", body = ProjectBody<'static>), Refused)
)]
pub(in crate::http) async fn read(
    State(app): State<Arc<App>>,
    As(caller, _): As<OrganizationMember>,
    Ids([id]): Ids<1>,
) -> Result<Response, Problem> {
    let (project, own) = projects::reach(&mut &*app.store, &caller.key, project_id(id)).await?;
    Ok(ok(to_json(&ProjectBody::of(&project, own.role))))
}

/// Change a project
///
/// An empty object changes nothing and succeeds.
#[utoipa::path(
    patch, path = "/api/admin/projects/{projectId}", operation_id = "changeProject", tag = "Projects",
    params(("projectId" = i64, Path, description = "Number of the project", example = 1), OnceHeader),
    request_body = ChangeProject,
    responses((status = 200, description = "The project as it is now", body = ProjectBody<'static>), Refused)
)]
pub(in crate::http) async fn change(
    State(app): State<Arc<App>>,
    As(caller, _): As<OrganizationAdmin>,
    Ids([id]): Ids<1>,
    request: Request,
) -> Result<Response, Problem> {
    let asked = Asked::read(request).await?;
    let patch = body::parse(&asked.body).and_then(parse_patch);
    changing::once(app, caller, asked, patch, Need::Ordinary, move |job: Job<'_>, patch| {
        Box::pin(async move {
            let Job { caller, writing, .. } = job;
            let (project, own) = projects::reach(writing, &caller.key, project_id(id)).await?;
            let fields = patch.clone().applied_to(project.fields.clone());
            let project = projects::change(writing, project, fields, &caller.by()).await?;
            Ok(to_json(&ProjectBody::of(&project, own.role)))
        })
    })
    .await
}

/// Archive a project
///
/// Revokes every key of it, for ever, in one transaction. Without `confirm=true` nothing is done, and the refusal (409)
/// says how many keys would die.
#[utoipa::path(
    delete, path = "/api/admin/projects/{projectId}", operation_id = "archiveProject", tag = "Projects",
    params(
        ("projectId" = i64, Path, description = "Number of the project", example = 1),
        ("confirm" = Option<bool>, Query, description = "`true` to do it"),
    ),
    responses(
        (status = 200, description = "The project, archived", body = Reached<Archived<ProjectBody<'static>>>),
        Refused,
    )
)]
pub(in crate::http) async fn archive(
    State(app): State<Arc<App>>,
    As(caller, _): As<OrganizationOwner>,
    Ids([id]): Ids<1>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let own = organization_of(&caller.key)?;
    if !query::is_confirmed(query.as_deref())? {
        let (_, place) = projects::reach(&mut &*app.store, &caller.key, project_id(id)).await?;
        let keys = app.store.count_live_keys(Place::Project(place.project)).await?;
        return Err(Refusal::Unconfirmed { keys }.into());
    }
    changing::done(app, caller, Need::Revocation, move |job: Job<'_>| {
        Box::pin(async move {
            let Job { caller, writing, .. } = job;
            let (project, keys) = projects::archive(writing, own.organization, project_id(id), &caller.by()).await?;
            let body = ProjectBody::of(&project, ProjectRole::Admin);
            Ok(to_json(&Archived::with(body, keys)))
        })
    })
    .await
}
