//! Organizations, as the operator makes, suspends and ends them.

use keyrack::{ApiKey, Holder, OrganizationId, OrganizationRole};

use crate::kept::History;
use crate::keys::{self, Labels, Powers};
use crate::place::Place;
use crate::projects;
use crate::random::Random;
use crate::refusal::Refusal;
use crate::store::{By, Find as _, StoreError, Writing};
use crate::stored_key::StoredKey;
use crate::tenancy::{Organization, Standing};

/// Longest short name of an organization.
pub const MOST_USERNAME_CHARACTERS: usize = 64;

/// Makes an organization and its first owner key. The key's value comes back this one time.
///
/// # Errors
/// [`Refusal`]; nothing is made then.
pub async fn create(
    writing: &mut Writing,
    username: String,
    domain: Option<String>,
    by: &By,
    random: &dyn Random,
) -> Result<(Organization, StoredKey, ApiKey), Refusal> {
    if writing.username_is_taken(&username).await? {
        return Err(Refusal::UsernameTaken);
    }
    let id = writing.next_id::<Organization>().await?;
    let id = u32::try_from(id).map_err(|_beyond| StoreError::Damaged { what: "no number is left".to_owned() })?;
    let organization = Organization {
        id: OrganizationId(id),
        version: 1,
        username,
        domain,
        standing: Standing::Active,
        history: History::begun(by.actor, writing.now()),
        archived_at: None,
    };
    writing.insert(&organization, "organization.create", by).await?;
    let holder = Holder::Organization { organization: organization.id, role: OrganizationRole::Owner };
    let labels = Labels::named("First owner key");
    let (key, value) =
        keys::mint(writing, holder, false, (labels, Powers::default()), "key.create", by, random).await?;
    Ok((organization, key, value))
}

/// Suspends an organization, so that no key beneath it passes, or ends that. Doing it twice leaves no trace. If its row
/// cannot be used, its keys are stopped in memory, and at every start.
///
/// # Errors
/// [`Refusal`]; nothing is changed then, but for that.
pub async fn set_standing(
    writing: &mut Writing,
    id: OrganizationId,
    standing: Standing,
    by: &By,
) -> Result<Organization, Refusal> {
    let (before, action) = match standing {
        Standing::Active => (writing.find::<Organization>(id).await?.ok_or(Refusal::NotFound)?, "organization.resume"),
        Standing::Suspended => (found_to_stop(writing, id).await?, "organization.suspend"),
    };
    if before.standing == standing {
        return Ok(before);
    }
    let history = before.history.changed(by.actor, writing.now());
    let after = Organization { version: before.version + 1, standing, history, ..before.clone() };
    writing.update(&before, &after, action, by).await?;
    Ok(after)
}

/// Archives an organization: its projects end, and every key beneath it is revoked, for ever. Says how many there were.
/// If its row cannot be used, its keys are stopped in memory, and at every start.
///
/// # Errors
/// [`Refusal`]; nothing is changed then, but for that.
pub async fn archive(writing: &mut Writing, id: OrganizationId, by: &By) -> Result<(Organization, i64), Refusal> {
    let before = found_to_stop(writing, id).await?;
    // First, so that nobody who brings this into force finds keys alive whose project is over.
    let keys = keys::revoke_all(writing, Place::Beneath(id), by).await?;
    for project in writing.live_projects(id).await? {
        projects::put_away(writing, project, by).await?;
    }
    let history = before.history.changed(by.actor, writing.now());
    let archived_at = Some(writing.now());
    let after = Organization { version: before.version + 1, history, archived_at, ..before.clone() };
    writing.update(&before, &after, "organization.archive", by).await?;
    Ok((after, keys))
}

async fn found_to_stop(writing: &mut Writing, id: OrganizationId) -> Result<Organization, Refusal> {
    let found = writing.find::<Organization>(id).await;
    if matches!(found, Err(StoreError::Damaged { .. })) {
        writing.stop_in_memory(id);
    }
    found?.ok_or(Refusal::NotFound)
}
