//! Issuing, changing and revoking keys of every kind. No HTTP, no SQL: every door uses these.

use keyrack::{
    ApiKey, Holder, KeyDigest, KeyId, KeyKind, KeyRecord, Limit, OrganizationId, OrganizationRole, Permissions,
    PolicyVersion, ProjectId, ProjectRole, Scope,
};

use crate::kept::History;
use crate::place::{OrganizationCaller, Place, ProjectCaller};
use crate::random::{self, Random};
use crate::refusal::Refusal;
use crate::store::{By, Effective, Find as _, Store, StoreError, Writing};
use crate::stored_key::StoredKey;
use crate::tenancy::{Organization, Project};

/// Longest name of a key, in characters, after trimming.
pub const MOST_NAME_CHARACTERS: usize = 255;
/// Longest description of a key, in characters.
pub const MOST_DESCRIPTION_CHARACTERS: usize = 2_048;

/// What people call a key, and say of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels {
    /// Its name.
    pub name: String,
    /// What people say of it.
    pub description: Option<String>,
}

impl Labels {
    /// A name alone.
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), description: None }
    }
}

/// What a project's key may do besides its role, and how often.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Powers {
    /// What it holds besides its role.
    pub permissions: Permissions,
    /// The limits of its own, in the order of their names.
    pub limits: Vec<Limit>,
}

/// A project's key to be made; every field has been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// What people call it.
    pub labels: Labels,
    /// Fixes the prefix of the value.
    pub scope: Scope,
    /// Its role.
    pub role: ProjectRole,
    /// What else it may do.
    pub powers: Powers,
}

/// What is to be changed of what people call a key; `None` leaves it as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelsPatch {
    /// A new name.
    pub name: Option<String>,
    /// A new description, or none.
    pub description: Option<Option<String>>,
}

/// What is to be changed of a project's key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPatch {
    /// What people call it.
    pub labels: LabelsPatch,
    /// A new scope.
    pub scope: Option<Scope>,
    /// A new role.
    pub role: Option<ProjectRole>,
    /// New permissions, instead of those it has.
    pub permissions: Option<Permissions>,
    /// New limits, instead of those it has.
    pub limits: Option<Vec<Limit>>,
    /// The policy at whose version its reach is to be frozen from now on.
    pub reach: Option<PolicyVersion>,
}

/// Makes a key of a project. The value comes back this one time and is kept nowhere.
///
/// # Errors
/// [`Refusal`]; nothing is made then.
pub async fn issue(
    writing: &mut Writing,
    caller: ProjectCaller,
    new: NewKey,
    by: &By,
    random: &dyn Random,
) -> Result<(StoredKey, ApiKey), Refusal> {
    caller.may_grant(new.role)?;
    mint(writing, project_holder(caller, &new), false, (new.labels, new.powers), "key.create", by, random).await
}

/// Makes a key that the service itself needs in a project: the tenant sees it and cannot touch it.
///
/// # Errors
/// [`Refusal`]; nothing is made then.
pub async fn issue_system_key(
    writing: &mut Writing,
    caller: ProjectCaller,
    new: NewKey,
    by: &By,
    random: &dyn Random,
) -> Result<(StoredKey, ApiKey), Refusal> {
    caller.may_grant(new.role)?;
    mint(writing, project_holder(caller, &new), true, (new.labels, new.powers), "key.create", by, random).await
}

fn project_holder(caller: ProjectCaller, new: &NewKey) -> Holder {
    let kind = match new.scope {
        Scope::Secret => KeyKind::Secret,
        Scope::Public => KeyKind::Publishable,
    };
    let ProjectCaller { project, organization, .. } = caller;
    Holder::Project { project, organization, kind, scope: new.scope, role: new.role }
}

/// Makes a key of an organization.
///
/// # Errors
/// [`Refusal`]; nothing is made then.
pub async fn issue_organization_key(
    writing: &mut Writing,
    caller: OrganizationCaller,
    (labels, role): (Labels, OrganizationRole),
    by: &By,
    random: &dyn Random,
) -> Result<(StoredKey, ApiKey), Refusal> {
    caller.may_grant(role)?;
    let holder = Holder::Organization { organization: caller.organization, role };
    mint(writing, holder, false, (labels, Powers::default()), "key.create", by, random).await
}

/// Draws a value for a holder and writes the key that stands for it, if what it belongs to is there. Whether the caller
/// may do that is for the caller to know.
///
/// # Errors
/// [`Refusal`]; nothing is made then.
pub async fn mint(
    writing: &mut Writing,
    holder: Holder,
    is_system: bool,
    (labels, powers): (Labels, Powers),
    action: &str,
    by: &By,
    random: &dyn Random,
) -> Result<(StoredKey, ApiKey), Refusal> {
    let kind = match holder {
        Holder::Project { project, organization, kind, .. } => {
            writing.find::<Project>((project, Some(organization))).await?.ok_or(Refusal::NotFound)?;
            kind
        }
        Holder::Organization { organization, .. } => {
            writing.find::<Organization>(organization).await?.ok_or(Refusal::NotFound)?;
            KeyKind::Organization
        }
        Holder::Operator => KeyKind::Operator,
        Holder::Follower => KeyKind::Follower,
    };
    let id = KeyId(writing.next_id::<StoredKey>().await?);
    let value = ApiKey::generate(kind, &random::bytes(random));
    let key = StoredKey {
        id,
        version: 1,
        holder,
        permissions: powers.permissions,
        limits: powers.limits,
        reach: writing.policy_version(),
        is_system,
        name: labels.name,
        description: labels.description,
        mask: value.mask(),
        digest: KeyDigest::of(&value),
        history: History::begun(by.actor, writing.now()),
        revoked_at: None,
    };
    writing.insert(&key, action, by).await?;
    Ok((key, value))
}

/// Changes a key of a project. A patch that changes nothing succeeds and leaves no trace.
///
/// # Errors
/// [`Refusal`]; nothing is changed then.
pub async fn change(
    writing: &mut Writing,
    caller: ProjectCaller,
    id: i64,
    patch: KeyPatch,
    by: &By,
) -> Result<StoredKey, Refusal> {
    let before = touchable(writing, Place::Project(caller.project), id).await?;
    let Holder::Project { project, organization, kind, scope, role } = before.holder else {
        return Err(Refusal::NotFound);
    };
    if kind == KeyKind::Publishable && patch.scope == Some(Scope::Secret) {
        return Err(Refusal::AlreadyPublished);
    }
    if let Some(role) = patch.role {
        caller.may_grant(role)?;
    }
    let newest = writing.policy_version();
    if patch.reach.is_some_and(|reach| reach > newest) {
        return Err(Refusal::UnknownPolicyVersion { newest });
    }
    let mut after = before.clone();
    let becomes_public = scope == Scope::Secret && patch.scope == Some(Scope::Public);
    after.reach = patch.reach.unwrap_or(if becomes_public { newest } else { before.reach });
    after.permissions = patch.permissions.unwrap_or(after.permissions);
    after.limits = patch.limits.unwrap_or(after.limits);
    let (scope, role) = (patch.scope.unwrap_or(scope), patch.role.unwrap_or(role));
    after.holder = Holder::Project { project, organization, kind, scope, role };
    rewrite(writing, before, after, patch.labels, by).await
}

/// Changes a key of an organization. A patch that changes nothing succeeds and leaves no trace.
///
/// # Errors
/// [`Refusal`]; nothing is changed then.
pub async fn change_organization_key(
    writing: &mut Writing,
    caller: OrganizationCaller,
    id: i64,
    (labels, role): (LabelsPatch, Option<OrganizationRole>),
    by: &By,
) -> Result<StoredKey, Refusal> {
    let before = touchable(writing, Place::Organization(caller.organization), id).await?;
    let Holder::Organization { organization, role: known } = before.holder else { return Err(Refusal::NotFound) };
    if let Some(role) = role {
        caller.may_grant(role)?;
    }
    let mut after = before.clone();
    after.holder = Holder::Organization { organization, role: role.unwrap_or(known) };
    rewrite(writing, before, after, labels, by).await
}

async fn rewrite(
    writing: &mut Writing,
    before: StoredKey,
    mut after: StoredKey,
    labels: LabelsPatch,
    by: &By,
) -> Result<StoredKey, Refusal> {
    after.name = labels.name.unwrap_or(after.name);
    after.description = labels.description.unwrap_or(after.description);
    if after == before {
        return Ok(before);
    }
    after.version += 1;
    after.history = before.history.changed(by.actor, writing.now());
    writing.update(&before, &after, "key.update", by).await?;
    Ok(after)
}

/// Revokes a key: dead when the transaction has been committed, for ever. One whose row cannot be used, or is hidden, is
/// dead in memory at once, and is refused at every start.
///
/// # Errors
/// [`Refusal`]; if the row was damaged or hidden too.
pub async fn revoke(writing: &mut Writing, place: Place, id: i64, by: &By) -> Result<StoredKey, Refusal> {
    match writing.unheard_death(place, id).await? {
        Some(key) => Ok(put_to_death(writing, in_reach(key, place)?, by).await?),
        None => revoke_living(writing, place, id, by).await,
    }
}

async fn revoke_living(writing: &mut Writing, place: Place, id: i64, by: &By) -> Result<StoredKey, Refusal> {
    let found = touchable(writing, place, id).await;
    if matches!(found, Err(Refusal::Store(StoreError::Damaged { .. }))) {
        writing.kill_in_memory(place, id);
    }
    if matches!(found, Err(Refusal::NotFound)) && writing.kill_if_hidden(place, id).await? {
        return Err(StoreError::Damaged { what: format!("the row of key {id} was hidden") }.into());
    }
    let key = found?;
    if place == Place::Installation && writing.live_keys(place, 0).await?.is_none_or(|(keys, _)| keys.len() < 2) {
        return Err(Refusal::LastOperatorKey);
    }
    Ok(put_to_death(writing, key, by).await?)
}

/// Revokes a key while the database is away, by what is in memory of it: it is dead here when this returns, and everywhere once the
/// database has it. With `within` it must be of that organization too. `None` if no such key is known here.
///
/// # Errors
/// [`Refusal::SystemKey`], or [`StoreError::Full`] if it cannot be kept; the key lives on then.
pub fn revoke_without_database(
    store: &Store,
    (place, within): (Place, Option<OrganizationId>),
    id: i64,
    by: &By,
) -> Result<Option<Effective>, Refusal> {
    let is_it = is_key_of((place, within), id);
    let mut effective = None;
    // Two have the number for a moment, if the database lost the one and gave its number to the other.
    while let Some((digest, key)) = store.live_key(&is_it) {
        if !place.may_end(&key) {
            return Err(Refusal::SystemKey);
        }
        effective = Some(store.revoke_without_database(&digest, key.id, by)?);
    }
    // Who asks again is told the same.
    Ok(effective.or_else(|| store.revoked_without_database(KeyId(id), by)))
}

/// Whether a key of that number lives in a place, as far as this node knows.
pub fn is_live_here(store: &Store, at: (Place, Option<OrganizationId>), id: i64) -> bool {
    store.live_key(is_key_of(at, id)).is_some()
}

fn is_key_of((place, within): (Place, Option<OrganizationId>), id: i64) -> impl Fn(&KeyRecord) -> bool {
    move |key| {
        key.id.0 == id
            && place.holds(key.holder)
            && within.is_none_or(|within| Place::Beneath(within).holds(key.holder))
    }
}

/// Revokes a key that is dead already where it counts, and of which the database does not know that: the one of that number, if by its
/// digest `is_it` says so. Nobody is asked whether it may be: that was done, and is final.
///
/// # Errors
/// [`StoreError`].
pub async fn revoke_again(
    writing: &mut Writing,
    key: KeyId,
    is_it: impl Fn(&KeyDigest) -> bool,
    by: &By,
) -> Result<(), StoreError> {
    if let Some(key) = writing.living_row(key).await?.filter(|key| is_it(&key.digest)) {
        put_to_death(writing, key, by).await?;
    }
    Ok(())
}

/// Revokes a system key and makes another like it, in one transaction.
///
/// # Errors
/// [`Refusal`]; nothing is changed then.
pub async fn rotate_system_key(
    writing: &mut Writing,
    project: ProjectId,
    id: i64,
    by: &By,
    random: &dyn Random,
) -> Result<(StoredKey, ApiKey), Refusal> {
    let old = revoke_living(writing, Place::System(project), id, by).await?;
    let labels = Labels { name: old.name, description: old.description };
    let powers = Powers { permissions: old.permissions, limits: old.limits };
    mint(writing, old.holder, true, (labels, powers), "key.rotate", by, random).await
}

/// Revokes every live key of a place; says how many there were. In portions, so that it takes little memory.
///
/// # Errors
/// [`StoreError`]; nothing is changed then.
pub async fn revoke_all(writing: &mut Writing, place: Place, by: &By) -> Result<i64, StoreError> {
    let (mut many, mut after) = (0, 0);
    while let Some((keys, last)) = writing.live_keys(place, after).await? {
        (many, after) = (many + keys.len() as i64, last);
        for key in keys {
            put_to_death(writing, key, by).await?;
        }
        writing.write_log().await?;
    }
    Ok(many)
}

async fn put_to_death(writing: &mut Writing, before: StoredKey, by: &By) -> Result<StoredKey, StoreError> {
    let mut after = before.clone();
    after.version += 1;
    after.history = before.history.changed(by.actor, writing.now());
    after.revoked_at = Some(writing.now());
    writing.update(&before, &after, "key.revoke", by).await?;
    Ok(after)
}

/// A key that may be changed or revoked where it stands.
async fn touchable(writing: &mut Writing, place: Place, id: i64) -> Result<StoredKey, Refusal> {
    if writing.unheard_death(place, id).await?.is_some() {
        return Err(Refusal::NotFound);
    }
    in_reach(writing.find::<StoredKey>((place, id)).await?.ok_or(Refusal::NotFound)?, place)
}

fn in_reach(key: StoredKey, place: Place) -> Result<StoredKey, Refusal> {
    let is_out_of_reach = key.is_system && !matches!(place, Place::System(_));
    if is_out_of_reach { Err(Refusal::SystemKey) } else { Ok(key) }
}
