//! The five calls on a project's keys, for both doors that lead to them: a project's own key, and an organization's.

use std::sync::Arc;

use axum::extract::Request;
use axum::response::Response;
use keyrack::{Holder, OrganizationRole, ProjectRole, VerifiedKey};

use super::body;
use super::caller::Caller;
use super::changing::{self, Asked, Job, Target};
use super::keys::{KeyBody, parse_new, parse_patch};
use super::path::project_id;
use super::problem::Problem;
use super::{ok, paging, raw_json, to_json};
use crate::app::App;
use crate::keys;
use crate::listing::List;
use crate::place::{Place, ProjectCaller};
use crate::projects;
use crate::refusal::Refusal;
use crate::store::{Find, Need, Store, StoreError};
use crate::stored_key::StoredKey;

/// Which project is meant.
#[derive(Clone, Copy, Debug)]
pub(super) enum Door {
    /// The one that the caller's key belongs to.
    Own,
    /// The one that the path names.
    Named(i64),
}

impl Door {
    /// Lets a caller in who may manage the keys there.
    pub(super) async fn open(self, find: &mut (impl Find + Send), key: &VerifiedKey) -> Result<ProjectCaller, Refusal> {
        let caller = match self {
            Self::Own => ProjectCaller::of(key).ok_or(Refusal::NotFound)?,
            Self::Named(id) => projects::reach(find, key, project_id(id)).await?.1,
        };
        caller.needs(ProjectRole::Admin)
    }

    /// A key behind it, as it can be found without the database; none if only that knows whether the caller may come in.
    fn target(self, key: &VerifiedKey, id: i64) -> Option<Target> {
        match (self, key.holder()) {
            (Self::Own, Holder::Project { project, .. }) => {
                Some(Target { id, place: Place::Project(project), within: None })
            }
            (Self::Named(project), Holder::Organization { organization, role }) if role >= OrganizationRole::Admin => {
                Some(Target { id, place: Place::Project(project_id(project)), within: Some(organization) })
            }
            (
                Self::Own | Self::Named(_),
                Holder::Project { .. } | Holder::Organization { .. } | Holder::Operator | Holder::Follower,
            ) => None,
        }
    }
}

pub(super) async fn create(app: Arc<App>, caller: Caller, door: Door, request: Request) -> Result<Response, Problem> {
    let asked = Asked::read(request).await?;
    let new = body::parse(&asked.body).and_then(parse_new);
    changing::once(app, caller, asked.through(door), new, Need::Ordinary, move |job: Job<'_>, new| {
        Box::pin(async move {
            let Job { app, caller, writing } = job;
            let place = door.open(writing, &caller.key).await?;
            let (key, value) = keys::issue(writing, place, new.clone(), &caller.by(), app.random.as_ref()).await?;
            Ok(to_json(&KeyBody::whole(&key, &value)?))
        })
    })
    .await
}

pub(super) async fn list(app: &App, caller: &Caller, door: Door, query: Option<&str>) -> Result<Response, Problem> {
    let place = door.open(&mut &*app.store, &caller.key).await?;
    let list = List::Keys(Place::Project(place.project));
    paging::of_query(app, caller, &list, query, Store::read_key, |(key, last_use)| {
        Ok(raw_json(&KeyBody::masked(key, last_use.as_ref())?))
    })
    .await
}

pub(super) async fn read(app: &App, caller: &Caller, door: Door, id: i64) -> Result<Response, Problem> {
    let mut store = &*app.store;
    let place = door.open(&mut store, &caller.key).await?;
    let key = store.find::<StoredKey>((Place::Project(place.project), id)).await?.ok_or_else(Problem::missing)?;
    let last_use = app.store.last_use(key.id).await?;
    Ok(ok(to_json(&KeyBody::masked(&key, last_use.as_ref())?)))
}

pub(super) async fn change(
    app: Arc<App>,
    caller: Caller,
    door: Door,
    id: i64,
    request: Request,
) -> Result<Response, Problem> {
    let asked = Asked::read(request).await?;
    let patch = body::parse(&asked.body).and_then(parse_patch);
    changing::once(app, caller, asked.through(door), patch, Need::Ordinary, move |job: Job<'_>, patch| {
        Box::pin(async move {
            let Job { caller, writing, .. } = job;
            let place = door.open(writing, &caller.key).await?;
            let key = keys::change(writing, place, id, patch.clone(), &caller.by()).await?;
            let last_use = writing.last_use(key.id).await?;
            Ok(to_json(&KeyBody::masked(&key, last_use.as_ref())?))
        })
    })
    .await
}

pub(super) async fn revoke(app: Arc<App>, caller: Caller, door: Door, id: i64) -> Result<Response, Problem> {
    let target = door.target(&caller.key, id);
    changing::revoked(app, caller, target, move |job: Job<'_>| {
        Box::pin(async move {
            let Job { caller, writing, .. } = job;
            let opened = door.open(writing, &caller.key).await;
            // The project's own row says nothing about its keys: they can be killed without it.
            if let (Err(Refusal::Store(StoreError::Damaged { .. })), Door::Named(project)) = (&opened, door)
                && let Holder::Organization { organization, role } = caller.key.holder()
                && role >= OrganizationRole::Admin
            {
                writing.kill_in_memory_beneath(organization, Place::Project(project_id(project)), id);
            }
            let key = keys::revoke(writing, Place::Project(opened?.project), id, &caller.by()).await?;
            let last_use = writing.last_use(key.id).await?;
            Ok(to_json(&KeyBody::masked(&key, last_use.as_ref())?))
        })
    })
    .await
}
