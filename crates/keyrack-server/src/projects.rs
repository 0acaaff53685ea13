//! Projects: who reaches them, what their organization says of them, and their end.

use keyrack::{Holder, OrganizationId, OrganizationRole, ProjectId, ProjectRole, VerifiedKey};

use crate::kept::History;
use crate::keys;
use crate::place::{Place, ProjectCaller};
use crate::refusal::Refusal;
use crate::store::{By, Find, StoreError, Writing};
use crate::stored_key::StoredKey;
use crate::tenancy::{Member, Project, ProjectFields};

/// Longest name of a project, in characters, after trimming.
pub const MOST_NAME_CHARACTERS: usize = 100;
/// Longest locale, time zone or address.
pub const MOST_WORD_CHARACTERS: usize = 255;
/// Longest text.
pub const MOST_TEXT_CHARACTERS: usize = 2_048;

/// Lets a caller into a project, if the project is there for it: a project's key into its own, an organization's `admin`
/// and `owner` into every one of that organization as project `admin`, a `member` into those it was given, an operator
/// into all.
///
/// # Errors
/// [`Refusal::NotFound`] for any other project, as if it did not exist.
pub async fn reach(
    find: &mut (impl Find + Send),
    key: &VerifiedKey,
    id: ProjectId,
) -> Result<(Project, ProjectCaller), Refusal> {
    let within = match key.holder() {
        Holder::Project { project, .. } if project != id => return Err(Refusal::NotFound),
        Holder::Project { organization, .. } | Holder::Organization { organization, .. } => Some(organization),
        Holder::Operator => None,
        Holder::Follower => return Err(Refusal::NotFound),
    };
    let project = find.find::<Project>((id, within)).await?.ok_or(Refusal::NotFound)?;
    let role = match key.holder() {
        Holder::Project { role, .. } => role,
        Holder::Organization { role: OrganizationRole::Member, .. } => {
            let member = find.find::<Member>((id, key.id())).await?;
            member.ok_or(Refusal::NotFound)?.role
        }
        Holder::Organization { role: OrganizationRole::Admin | OrganizationRole::Owner, .. } | Holder::Operator => {
            ProjectRole::Admin
        }
        Holder::Follower => return Err(Refusal::NotFound),
    };
    let caller = ProjectCaller { project: id, organization: project.organization, role };
    Ok((project, caller))
}

/// Makes a project.
///
/// # Errors
/// [`StoreError`]; nothing is made then.
pub async fn create(
    writing: &mut Writing,
    organization: OrganizationId,
    fields: ProjectFields,
    by: &By,
) -> Result<Project, StoreError> {
    let id = writing.next_id::<Project>().await?;
    let id = u32::try_from(id).map_err(|_beyond| StoreError::Damaged { what: "no number is left".to_owned() })?;
    let history = History::begun(by.actor, writing.now());
    let project = Project { id: ProjectId(id), organization, version: 1, fields, history, archived_at: None };
    writing.insert(&project, "project.create", by).await?;
    Ok(project)
}

/// Changes what is said of a project. A change that changes nothing leaves no trace.
///
/// # Errors
/// [`StoreError`]; nothing is changed then.
pub async fn change(
    writing: &mut Writing,
    before: Project,
    fields: ProjectFields,
    by: &By,
) -> Result<Project, StoreError> {
    if before.fields == fields {
        return Ok(before);
    }
    let history = before.history.changed(by.actor, writing.now());
    let after = Project { version: before.version + 1, fields, history, ..before.clone() };
    writing.update(&before, &after, "project.update", by).await?;
    Ok(after)
}

/// Archives a project of an organization: every key of it is revoked, for ever. Says how many there were. If its row
/// cannot be used, its keys die in memory.
///
/// # Errors
/// [`Refusal`]; nothing is changed then, but for that.
pub async fn archive(
    writing: &mut Writing,
    organization: OrganizationId,
    id: ProjectId,
    by: &By,
) -> Result<(Project, i64), Refusal> {
    let found = writing.find::<Project>((id, Some(organization))).await;
    if matches!(found, Err(StoreError::Damaged { .. })) {
        writing.kill_project_in_memory(organization, id);
    }
    let project = found?.ok_or(Refusal::NotFound)?;
    let keys = keys::revoke_all(writing, Place::Project(id), by).await?;
    Ok((put_away(writing, project, by).await?, keys))
}

/// Ends a project whose keys are dead, or die in the same transaction.
pub(crate) async fn put_away(writing: &mut Writing, before: Project, by: &By) -> Result<Project, StoreError> {
    let history = before.history.changed(by.actor, writing.now());
    let after = Project { version: before.version + 1, history, archived_at: Some(writing.now()), ..before.clone() };
    writing.update(&before, &after, "project.archive", by).await?;
    Ok(after)
}

/// Gives a `member` key a role in a project, or another one.
///
/// # Errors
/// [`Refusal`]; nothing is changed then.
pub async fn give(
    writing: &mut Writing,
    caller: ProjectCaller,
    key: i64,
    role: ProjectRole,
    by: &By,
) -> Result<(StoredKey, Member), Refusal> {
    caller.may_grant(role)?;
    let key = member_key(writing, caller.organization, key).await?;
    let Some(before) = writing.find::<Member>((caller.project, key.id)).await? else {
        let member = Member {
            id: writing.next_id::<Member>().await?,
            version: 1,
            organization: caller.organization,
            project: caller.project,
            key: key.id,
            role,
            history: History::begun(by.actor, writing.now()),
            taken_at: None,
        };
        writing.insert(&member, "member.create", by).await?;
        return Ok((key, member));
    };
    if before.role == role {
        return Ok((key, before));
    }
    let history = before.history.changed(by.actor, writing.now());
    let after = Member { version: before.version + 1, role, history, ..before.clone() };
    writing.update(&before, &after, "member.update", by).await?;
    Ok((key, after))
}

/// Takes a project from a `member` key. Gives the membership as it was.
///
/// # Errors
/// [`Refusal`]; nothing is changed then.
pub async fn take(
    writing: &mut Writing,
    caller: ProjectCaller,
    key: i64,
    by: &By,
) -> Result<(StoredKey, Member), Refusal> {
    let place = Place::Organization(caller.organization);
    let key = writing.find::<StoredKey>((place, key)).await?.ok_or(Refusal::NotFound)?;
    let before = writing.find::<Member>((caller.project, key.id)).await?.ok_or(Refusal::NotFound)?;
    let history = before.history.changed(by.actor, writing.now());
    let after = Member { version: before.version + 1, history, taken_at: Some(writing.now()), ..before.clone() };
    writing.update(&before, &after, "member.remove", by).await?;
    Ok((key, before))
}

async fn member_key(writing: &mut Writing, organization: OrganizationId, id: i64) -> Result<StoredKey, Refusal> {
    let place = Place::Organization(organization);
    let key = writing.find::<StoredKey>((place, id)).await?.ok_or(Refusal::NotFound)?;
    match key.holder {
        Holder::Organization { role: OrganizationRole::Member, .. } => Ok(key),
        Holder::Organization { .. } | Holder::Project { .. } | Holder::Operator | Holder::Follower => {
            Err(Refusal::NotAMemberKey)
        }
    }
}
