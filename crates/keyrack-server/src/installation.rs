//! Setting an installation up, and getting back into one.

use keyrack::{ApiKey, Holder, KeyKind, OrganizationId, OrganizationRole, ProjectId, ProjectRole, Scope};
use serde::Serialize;
use std::sync::Arc;

use crate::audit::Actor;
use crate::keys::{self, Labels};
use crate::random::Random;
use crate::store::{By, Need, Store, StoreError, Writing};

/// What the first start hands out, once. Serialising it is the way out of the secrets; `Debug` shows masks.
#[derive(Debug)]
pub struct FirstKeys {
    /// For `/api/operator`.
    pub operator: ApiKey,
    /// The organization that was made.
    pub organization_id: i64,
    /// An owner of it.
    pub organization: ApiKey,
    /// The project that was made.
    pub project_id: i64,
    /// An admin of it.
    pub project: ApiKey,
}

/// The plain form of [`FirstKeys`], made only to be printed.
#[derive(Serialize)]
pub struct PlainFirstKeys<'a> {
    operator_key: &'a str,
    organization_id: i64,
    organization_key: &'a str,
    project_id: i64,
    project_key: &'a str,
}

impl FirstKeys {
    /// The values themselves, to be shown to the operator this one time.
    pub fn expose(&self) -> PlainFirstKeys<'_> {
        PlainFirstKeys {
            operator_key: self.operator.expose(),
            organization_id: self.organization_id,
            organization_key: self.organization.expose(),
            project_id: self.project_id,
            project_key: self.project.expose(),
        }
    }
}

/// What a new key of the highest role is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recover {
    /// A project: an admin key.
    Project(i64),
    /// An organization: an owner key.
    Organization(i64),
    /// The installation: an operator key.
    Operator,
}

/// Why no key was recovered.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// There is no project or organization of that number.
    #[error("there is no {kind} {id} in this store")]
    NoSuch {
        /// `project` or `organization`.
        kind: &'static str,
        /// The number asked for.
        id: i64,
    },
    /// The store did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn by_host(command: &str) -> By {
    By { actor: Actor::host(), request_id: format!("host:{command}") }
}

/// Sets a new installation up in one transaction: one organization, one project, a key for each surface.
///
/// # Errors
/// [`StoreError`]; nothing is set up then, and the next start tries again.
pub async fn set_up(store: &Arc<Store>, random: &dyn Random) -> Result<FirstKeys, StoreError> {
    let by = by_host("init");
    let mut writing = store.begin(Need::Ordinary).await?;
    writing.set_up().await?;
    let operator = minted(&mut writing, Holder::Operator, "First operator key", "key.create", &by, random).await?;

    let organization_id = writing.insert_organization("default", &by).await?;
    let owner = owner_of(organization_id)?;
    let organization = minted(&mut writing, owner, "First owner key", "key.create", &by, random).await?;

    let project_id = writing.insert_project(organization_id, "Default", &by).await?;
    let admin = admin_of(project_id, organization_id)?;
    let project = minted(&mut writing, admin, "First admin key", "key.create", &by, random).await?;

    writing.commit().await?;
    Ok(FirstKeys { operator, organization_id, organization, project_id, project })
}

/// Mints a key of the highest role there is for someone who has the host but no key.
///
/// # Errors
/// [`RecoverError`]; nothing is made then.
pub async fn recover(store: &Arc<Store>, what: Recover, random: &dyn Random) -> Result<ApiKey, RecoverError> {
    let by = by_host("recover");
    let mut writing = store.begin(Need::Ordinary).await?;
    let holder = match what {
        Recover::Operator => Holder::Operator,
        Recover::Organization(id) if writing.organization_exists(id).await? => owner_of(id)?,
        Recover::Organization(id) => return Err(RecoverError::NoSuch { kind: "organization", id }),
        Recover::Project(id) => {
            let organization = writing.organization_of(id).await?;
            admin_of(id, organization.ok_or(RecoverError::NoSuch { kind: "project", id })?)?
        }
    };
    let key = minted(&mut writing, holder, "Recovered on the host", "key.recover", &by, random).await?;
    writing.commit().await?;
    tracing::warn!(key = %key.mask(), ?what, "a key of the highest role was recovered on the host");
    Ok(key)
}

async fn minted(
    writing: &mut Writing,
    holder: Holder,
    name: &str,
    action: &str,
    by: &By,
    random: &dyn Random,
) -> Result<ApiKey, StoreError> {
    let labels = Labels { name: name.to_owned(), description: None, is_system: false };
    Ok(keys::mint(writing, holder, labels, action, by, random).await?.1)
}

fn owner_of(organization: i64) -> Result<Holder, StoreError> {
    Ok(Holder::Organization { organization: OrganizationId(record_id(organization)?), role: OrganizationRole::Owner })
}

fn admin_of(project: i64, organization: i64) -> Result<Holder, StoreError> {
    Ok(Holder::Project {
        project: ProjectId(record_id(project)?),
        organization: OrganizationId(record_id(organization)?),
        kind: KeyKind::Secret,
        scope: Scope::Secret,
        role: ProjectRole::Admin,
    })
}

fn record_id(id: i64) -> Result<u32, StoreError> {
    u32::try_from(id).map_err(|_beyond| StoreError::Damaged { what: format!("number {id} does not fit 32 bits") })
}
