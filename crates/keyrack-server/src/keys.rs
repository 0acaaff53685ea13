//! Issuing, changing and revoking project keys. No HTTP, no SQL: every door uses these.

use keyrack::{ApiKey, Holder, KeyDigest, KeyId, KeyKind, OrganizationId, ProjectId, ProjectRole, Scope, VerifiedKey};

use crate::random::{self, Random};
use crate::store::{By, StoreError, Writing};
use crate::stored_key::StoredKey;

/// Longest name of a key, in characters, after trimming.
pub const MOST_NAME_CHARACTERS: usize = 255;
/// Longest description of a key, in characters.
pub const MOST_DESCRIPTION_CHARACTERS: usize = 2_048;

/// A key to be made; every field has been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// What people call it.
    pub name: String,
    /// Fixes the prefix of the value.
    pub scope: Scope,
    /// Its role.
    pub role: ProjectRole,
    /// What people say of it.
    pub description: Option<String>,
}

/// What is to be changed of a key; `None` leaves a field as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPatch {
    /// A new name.
    pub name: Option<String>,
    /// A new scope.
    pub scope: Option<Scope>,
    /// A new role.
    pub role: Option<ProjectRole>,
    /// A new description, or none.
    pub description: Option<Option<String>>,
}

/// Why a key was not issued, changed or revoked.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// No such key in the caller's project.
    #[error("no such key")]
    NotFound,
    /// The service made the key for itself.
    #[error("a system key cannot be changed or revoked here")]
    SystemKey,
    /// A value that was published stays public.
    #[error("a publishable key cannot become secret")]
    AlreadyPublished,
    /// The caller may not give away more than it has.
    #[error("the role is above the caller's own")]
    RoleAboveCaller {
        /// The role that was asked for.
        asked: ProjectRole,
    },
    /// The store did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A caller with a project's key: where it may act, and up to which role.
#[derive(Clone, Copy, Debug)]
pub struct ProjectCaller {
    /// The project.
    pub project: ProjectId,
    /// The organization of the project.
    pub organization: OrganizationId,
    /// The caller's role: the highest it may grant.
    pub role: ProjectRole,
}

impl ProjectCaller {
    /// The place of a verified key, if it is a project's.
    pub fn of(key: &VerifiedKey) -> Option<Self> {
        match key.holder() {
            Holder::Project { project, organization, role, .. } => Some(Self { project, organization, role }),
            Holder::Organization { .. } | Holder::Operator => None,
        }
    }

    fn may_grant(&self, role: ProjectRole) -> Result<(), KeysError> {
        if role > self.role { Err(KeysError::RoleAboveCaller { asked: role }) } else { Ok(()) }
    }
}

/// Makes a key. The value comes back this one time and is kept nowhere.
///
/// # Errors
/// [`KeysError`]; nothing is made then.
pub async fn issue(
    writing: &mut Writing,
    caller: ProjectCaller,
    new: NewKey,
    by: &By,
    random: &dyn Random,
) -> Result<(StoredKey, ApiKey), KeysError> {
    caller.may_grant(new.role)?;
    let kind = match new.scope {
        Scope::Secret => KeyKind::Secret,
        Scope::Public => KeyKind::Publishable,
    };
    let holder = Holder::Project {
        project: caller.project,
        organization: caller.organization,
        kind,
        scope: new.scope,
        role: new.role,
    };
    let labels = Labels { name: new.name, description: new.description, is_system: false };
    Ok(mint(writing, holder, labels, "key.create", by, random).await?)
}

/// What a new key is called.
pub struct Labels {
    /// Its name.
    pub name: String,
    /// What people say of it.
    pub description: Option<String>,
    /// Whether the service made it for itself.
    pub is_system: bool,
}

/// Draws a value for a holder and writes the key that stands for it. Whether that may be is the caller's to know.
///
/// # Errors
/// [`StoreError`]; nothing is made then.
pub async fn mint(
    writing: &mut Writing,
    holder: Holder,
    labels: Labels,
    action: &str,
    by: &By,
    random: &dyn Random,
) -> Result<(StoredKey, ApiKey), StoreError> {
    let kind = match holder {
        Holder::Project { kind, .. } => kind,
        Holder::Organization { .. } => KeyKind::Organization,
        Holder::Operator => KeyKind::Operator,
    };
    let value = ApiKey::generate(kind, &random::bytes(random));
    let key = StoredKey {
        id: KeyId(writing.next_key_id().await?),
        version: 1,
        holder,
        is_system: labels.is_system,
        name: labels.name,
        description: labels.description,
        mask: value.mask(),
        digest: KeyDigest::of(&value),
        created_at: writing.now(),
        updated_at: writing.now(),
        revoked_at: None,
    };
    writing.insert_key(&key, action, by).await?;
    Ok((key, value))
}

/// Changes a key. A patch that changes nothing succeeds and leaves no trace.
///
/// # Errors
/// [`KeysError`]; nothing is changed then.
pub async fn change(
    writing: &mut Writing,
    caller: ProjectCaller,
    id: i64,
    patch: KeyPatch,
    by: &By,
) -> Result<StoredKey, KeysError> {
    let before = touchable_key(writing, caller, id).await?;
    let Holder::Project { project, organization, kind, scope, role } = before.holder else {
        return Err(KeysError::NotFound);
    };
    if kind == KeyKind::Publishable && patch.scope == Some(Scope::Secret) {
        return Err(KeysError::AlreadyPublished);
    }
    if let Some(role) = patch.role {
        caller.may_grant(role)?;
    }
    let mut after = before.clone();
    let (scope, role) = (patch.scope.unwrap_or(scope), patch.role.unwrap_or(role));
    after.holder = Holder::Project { project, organization, kind, scope, role };
    after.name = patch.name.unwrap_or(after.name);
    after.description = patch.description.unwrap_or(after.description);
    if after == before {
        return Ok(before);
    }
    after.version += 1;
    after.updated_at = writing.now();
    writing.update_key(&before, &after, "key.update", by).await?;
    Ok(after)
}

/// Revokes a key: dead when the transaction has been committed, for ever.
///
/// # Errors
/// [`KeysError`]; the key lives then.
pub async fn revoke(writing: &mut Writing, caller: ProjectCaller, id: i64, by: &By) -> Result<StoredKey, KeysError> {
    let before = touchable_key(writing, caller, id).await?;
    let mut after = before.clone();
    after.version += 1;
    after.updated_at = writing.now();
    after.revoked_at = Some(writing.now());
    writing.update_key(&before, &after, "key.revoke", by).await?;
    Ok(after)
}

async fn touchable_key(writing: &mut Writing, caller: ProjectCaller, id: i64) -> Result<StoredKey, KeysError> {
    let key = writing.project_key(caller.project, id).await?.ok_or(KeysError::NotFound)?;
    if key.is_system { Err(KeysError::SystemKey) } else { Ok(key) }
}
