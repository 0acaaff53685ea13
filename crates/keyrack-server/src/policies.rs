//! Applying the policies of the user's API. No HTTP, no SQL.

mod applied;
pub mod document;
mod gain;

use std::sync::Arc;

use keyrack::PolicyVersion;
use keyrack::policy::Document;

pub use self::applied::AppliedPolicy;
pub use self::gain::{Gain, MOST_IDS, gains};
use crate::kept::History;
use crate::refusal::Refusal;
use crate::store::{By, Find, StoreError, Writing};

/// What became of a document that was to be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The version that was in force before.
    pub previous: PolicyVersion,
    /// The policy that is in force now; the built-in one if none was ever applied.
    pub in_force: AppliedPolicy,
    /// Whether that is another than before.
    pub is_changed: bool,
}

/// Puts a document without faults in force. One that is in force already leaves no trace.
///
/// # Errors
/// [`Refusal::PolicyChanged`] if another version than `expected` is in force; nothing is changed then.
pub async fn apply(
    writing: &mut Writing,
    document: &Arc<Document>,
    expected: Option<PolicyVersion>,
    by: &By,
) -> Result<Outcome, Refusal> {
    let previous = writing.policy_version();
    is_expected(previous, expected)?;
    let before = replaceable(writing, previous).await?;
    if let Some(same) = before.as_ref().filter(|before| before.document == *document) {
        return Ok(Outcome { previous, in_force: same.clone(), is_changed: false });
    }
    let version = u32::try_from(writing.next_id::<AppliedPolicy>().await?).map(PolicyVersion);
    let version = version.ok().filter(|version| *version > previous);
    let version = version.ok_or_else(|| StoreError::Damaged { what: "no number is left".to_owned() })?;
    let history = Some(History::begun(by.actor, writing.now()));
    let after = AppliedPolicy { version, document: Arc::clone(document), history };
    writing.insert_after(before.as_ref(), &after, "policy.apply", by).await?;
    Ok(Outcome { previous, in_force: after, is_changed: true })
}

/// What would become of a document without faults, if it was applied.
///
/// # Errors
/// As for [`apply`].
pub async fn rehearse(
    find: &mut impl Find,
    document: &Arc<Document>,
    previous: PolicyVersion,
    expected: Option<PolicyVersion>,
) -> Result<Outcome, Refusal> {
    is_expected(previous, expected)?;
    let before = replaceable(find, previous).await?;
    let is_changed = before.as_ref().is_none_or(|before| before.document != *document);
    let history = before.and_then(|before| before.history);
    let in_force = AppliedPolicy { version: previous, document: Arc::clone(document), history };
    Ok(Outcome { previous, in_force, is_changed })
}

/// The policy of a version that is in force or was.
///
/// # Errors
/// [`StoreError::Damaged`] if its row cannot be used.
pub async fn of_version(find: &mut impl Find, version: PolicyVersion) -> Result<AppliedPolicy, StoreError> {
    if version == PolicyVersion(0) {
        return Ok(AppliedPolicy::builtin());
    }
    let gone = || StoreError::Damaged { what: format!("the row of policy {version} is gone") };
    find.find::<AppliedPolicy>(version).await?.ok_or_else(gone)
}

/// The same, to be replaced: if its row cannot be used, any other may take its place.
async fn replaceable(find: &mut impl Find, version: PolicyVersion) -> Result<Option<AppliedPolicy>, StoreError> {
    match of_version(find, version).await {
        Ok(known) => Ok(Some(known)),
        Err(error @ StoreError::Damaged { .. }) => {
            tracing::error!(%error, "the policy in force cannot be read, and may be replaced");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn is_expected(version: PolicyVersion, expected: Option<PolicyVersion>) -> Result<(), Refusal> {
    if expected.is_none_or(|expected| expected == version) {
        return Ok(());
    }
    Err(Refusal::PolicyChanged { version })
}
