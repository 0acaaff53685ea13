//! Setting an installation up, and getting back into one.

use keyrack::{ApiKey, Holder, KeyKind, OrganizationId, OrganizationRole, ProjectId, ProjectRole, Scope};
use serde::Serialize;
use std::sync::Arc;

use crate::actor::Actor;
use crate::kept::Kept as _;
use crate::keys::{self, Labels, Powers};
use crate::organizations;
use crate::projects;
use crate::random::Random;
use crate::refusal::Refusal;
use crate::store::{By, Find as _, Need, Store, StoreError, Writing};
use crate::tenancy::{Organization, Project, ProjectFields};

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
    /// It was refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl From<StoreError> for RecoverError {
    fn from(error: StoreError) -> Self {
        Self::Refused(error.into())
    }
}

fn by_host(command: &str) -> By {
    By { actor: Actor::HOST, request_id: format!("host:{command}") }
}

/// Sets a new installation up in one transaction: one organization, one project, a key for each surface.
///
/// # Errors
/// [`StoreError`]; nothing is set up then, and the next start tries again.
pub async fn set_up(store: &Arc<Store>, random: &dyn Random) -> Result<FirstKeys, StoreError> {
    let mut writing = store.begin(Need::Ordinary).await?;
    writing.set_up().await?;
    let made = first_keys(&mut writing, &by_host("init"), random).await;
    let keys = made.map_err(|refusal| {
        let impossible = |refusal| StoreError::Damaged { what: format!("cannot be set up: {refusal}") };
        refusal.into_store_error().unwrap_or_else(impossible)
    })?;
    writing.commit().await?;
    Ok(keys)
}

async fn first_keys(writing: &mut Writing, by: &By, random: &dyn Random) -> Result<FirstKeys, Refusal> {
    let label = Labels::named("First operator key");
    let (_, operator) =
        keys::mint(writing, Holder::Operator, false, (label, Powers::default()), "key.create", by, random).await?;
    let (owner, _, organization) = organizations::create(writing, "default".to_owned(), None, by, random).await?;
    let fields = ProjectFields {
        name: "Default".to_owned(),
        locale: "en".to_owned(),
        timezone: "UTC".to_owned(),
        ..ProjectFields::default()
    };
    let admins = projects::create(writing, owner.id, fields, by).await?;
    let label = Labels::named("First admin key");
    let (_, project) =
        keys::mint(writing, admin_of(&admins), false, (label, Powers::default()), "key.create", by, random).await?;
    let (organization_id, project_id) = (owner.id(), admins.id());
    Ok(FirstKeys { operator, organization_id, organization, project_id, project })
}

/// Mints a key of the highest role there is for someone who has the host but no key.
///
/// # Errors
/// [`RecoverError`]; nothing is made then.
pub async fn recover(store: &Arc<Store>, what: Recover, random: &dyn Random) -> Result<ApiKey, RecoverError> {
    let mut writing = store.begin(Need::Ordinary).await?;
    let holder = match what {
        Recover::Operator => Holder::Operator,
        Recover::Organization(id) => {
            let no_such = || RecoverError::NoSuch { kind: "organization", id };
            let id = OrganizationId(u32::try_from(id).map_err(|_beyond| no_such())?);
            writing.find::<Organization>(id).await?.ok_or_else(no_such)?;
            Holder::Organization { organization: id, role: OrganizationRole::Owner }
        }
        Recover::Project(id) => {
            let no_such = || RecoverError::NoSuch { kind: "project", id };
            let id = ProjectId(u32::try_from(id).map_err(|_beyond| no_such())?);
            admin_of(&writing.find::<Project>((id, None)).await?.ok_or_else(no_such)?)
        }
    };
    let (by, labels) = (by_host("recover"), Labels::named("Recovered on the host"));
    let (_, key) =
        keys::mint(&mut writing, holder, false, (labels, Powers::default()), "key.recover", &by, random).await?;
    writing.commit().await?;
    tracing::warn!(key = %key.mask(), ?what, "a key of the highest role was recovered on the host");
    Ok(key)
}

fn admin_of(project: &Project) -> Holder {
    Holder::Project {
        project: project.id,
        organization: project.organization,
        kind: KeyKind::Secret,
        scope: Scope::Secret,
        role: ProjectRole::Admin,
    }
}
