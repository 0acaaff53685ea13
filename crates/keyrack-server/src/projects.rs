//! Projects: who reaches them, what their organization says of them, and their end.

use keyrack::{Holder, OrganizationId, OrganizationRole, ProjectId, ProjectRole, VerifiedKey};

use crate::kept::History;
use crate::keys::{self, Place};
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

/// A caller in a project: where it may act, and up to which role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProjectCaller {
    /// The project.
    pub project: ProjectId,
    /// The organization of the project.
    pub organization: OrganizationId,
    /// The caller's role there: the highest it may grant.
    pub role: ProjectRole,
}

impl ProjectCaller {
    /// The place of a project's own key, if it is one.
    pub const fn of(key: &VerifiedKey) -> Option<Self> {
        match key.holder() {
            Holder::Project { project, organization, role, .. } => Some(Self { project, organization, role }),
            Holder::Organization { .. } | Holder::Operator => None,
        }
    }

    /// Refuses a caller whose role is too low.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`].
    pub fn needs(self, least: ProjectRole) -> Result<Self, Refusal> {
        if self.role < least { Err(Refusal::RoleTooLow { needs: least.as_str() }) } else { Ok(self) }
    }

    /// Refuses to give away more than the caller has.
    ///
    /// # Errors
    /// [`Refusal::RoleAboveCaller`].
    pub fn may_grant(self, role: ProjectRole) -> Result<(), Refusal> {
        if role > self.role { Err(Refusal::RoleAboveCaller { asked: role.as_str() }) } else { Ok(()) }
    }
}

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
    };
    let project = find.find::<Project>((id, within)).await?.ok_or(Refusal::NotFound)?;
    let role = match key.holder() {
        Holder::Project { role, .. } => role,
        Holder::Organization { role: OrganizationRole::Member, .. } => {
            let member = find.find::<Member>((id, key.id())).await?;
            member.and_then(|member| member.role).ok_or(Refusal::NotFound)?
        }
        Holder::Organization { role: OrganizationRole::Admin | OrganizationRole::Owner, .. } | Holder::Operator => {
            ProjectRole::Admin
        }
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

/// Archives a project: every key of it is revoked, for ever. Says how many there were.
///
/// # Errors
/// [`Refusal`]; nothing is changed then.
pub async fn archive(
    writing: &mut Writing,
    project: Project,
    is_confirmed: bool,
    by: &By,
) -> Result<(Project, i64), Refusal> {
    let place = Place::Project(project.id);
    if !is_confirmed {
        return Err(Refusal::Unconfirmed { keys: writing.count_live_keys(place).await? });
    }
    let keys = keys::revoke_all(writing, place, by).await?;
    Ok((put_away(writing, project, by).await?, keys))
}

/// Ends a project whose keys are dead.
pub(crate) async fn put_away(writing: &mut Writing, before: Project, by: &By) -> Result<Project, StoreError> {
    let mut after = before.clone();
    after.version += 1;
    after.history = before.history.changed(by.actor, writing.now());
    after.archived_at = Some(writing.now());
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
    let history = History::begun(by.actor, writing.now());
    let Some(before) = writing.find::<Member>((caller.project, key.id)).await? else {
        let member = Member {
            id: writing.next_id::<Member>().await?,
            version: 1,
            organization: caller.organization,
            project: caller.project,
            key: key.id,
            role: Some(role),
            history,
        };
        writing.insert(&member, "member.create", by).await?;
        return Ok((key, member));
    };
    if before.role == Some(role) {
        return Ok((key, before));
    }
    // One that was taken away and is given again begins anew, but for its number and version.
    let (history, action) = match before.role {
        Some(_) => (before.history.changed(by.actor, writing.now()), "member.update"),
        None => (history, "member.create"),
    };
    let after = Member { version: before.version + 1, role: Some(role), history, ..before.clone() };
    writing.update(&before, &after, action, by).await?;
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
    let before = writing.find::<Member>((caller.project, key.id)).await?.filter(|member| member.role.is_some());
    let before = before.ok_or(Refusal::NotFound)?;
    let history = before.history.changed(by.actor, writing.now());
    let after = Member { version: before.version + 1, role: None, history, ..before.clone() };
    writing.update(&before, &after, "member.remove", by).await?;
    Ok((key, before))
}

async fn member_key(writing: &mut Writing, organization: OrganizationId, id: i64) -> Result<StoredKey, Refusal> {
    let place = Place::Organization(organization);
    let key = writing.find::<StoredKey>((place, id)).await?.ok_or(Refusal::NotFound)?;
    match key.holder {
        Holder::Organization { role: OrganizationRole::Member, .. } => Ok(key),
        Holder::Organization { .. } | Holder::Project { .. } | Holder::Operator => Err(Refusal::NotAMemberKey),
    }
}
