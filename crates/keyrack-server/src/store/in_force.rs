//! The state that is in force: the index for keys and suspensions, and the version of everything else. What was put back
//! into the database while the process runs is not it, and is neither used nor authenticated anew.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use keyrack::{Holder, KeyChange, KeyDigest, KeyRecord, Lookup, OrganizationId, Verifier};

use super::StoreError;
use crate::kept::{Kind, Reference};

/// What a row means for the state in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A key is live, or dead for ever.
    Key(KeyDigest, KeyChange),
    /// Something else is at this version; of organizations, whether they are suspended.
    Other {
        /// What.
        reference: Reference,
        /// Its version.
        version: u32,
        /// Whether the keys beneath it do not pass.
        is_suspended: bool,
    },
}

impl Effect {
    fn is_on_the_same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Key(digest, _), Self::Key(other, _)) => digest == other,
            (Self::Other { reference, .. }, Self::Other { reference: other, .. }) => reference == other,
            (Self::Key(..), Self::Other { .. }) | (Self::Other { .. }, Self::Key(..)) => false,
        }
    }
}

/// The state in force.
pub(super) struct InForce {
    verifier: Arc<Verifier>,
    versions: Mutex<HashMap<Reference, u32>>,
}

impl InForce {
    pub(super) fn new(verifier: Arc<Verifier>) -> Self {
        Self { verifier, versions: Mutex::default() }
    }

    /// Brings a row into force.
    pub(super) fn apply(&self, effect: &Effect) -> Result<(), StoreError> {
        let index = self.verifier.index();
        match effect {
            Effect::Key(digest, change) => index.apply(digest, change)?,
            Effect::Other { reference, version, is_suspended } => {
                self.versions.lock().unwrap_or_else(PoisonError::into_inner).insert(*reference, *version);
                match organization(reference) {
                    Some(id) if *is_suspended => index.suspend(id),
                    Some(id) => index.resume(id),
                    None => {}
                }
            }
        }
        Ok(())
    }

    /// Whether a row is in force, or will be once `pending` are.
    pub(super) fn holds(&self, row: &Effect, pending: &[Effect]) -> bool {
        if let Some(newest) = pending.iter().rev().find(|effect| effect.is_on_the_same_as(row)) {
            return newest == row;
        }
        match row {
            Effect::Key(digest, KeyChange::Put(record)) => {
                let found = self.verifier.index().find(digest);
                found == Ok(Lookup::Live(*record)) || found == Ok(Lookup::Suspended(*record))
            }
            Effect::Key(_, KeyChange::Revoke { .. }) => false,
            Effect::Other { reference, version, .. } => {
                self.versions.lock().unwrap_or_else(PoisonError::into_inner).get(reference) == Some(version)
            }
        }
    }

    /// The version that is in force of what a row is of, if any is; of a dead key, one that no row has.
    pub(super) fn version(&self, row: &Effect) -> Option<u32> {
        match row {
            Effect::Key(digest, _) => match self.verifier.index().find(digest).ok()? {
                Lookup::Live(record) | Lookup::Suspended(record) => Some(record.version),
                Lookup::Dead(_) => Some(u32::MAX),
                Lookup::Absent => None,
            },
            Effect::Other { reference, .. } => {
                self.versions.lock().unwrap_or_else(PoisonError::into_inner).get(reference).copied()
            }
        }
    }

    /// Whether a thing other than a key is in force at all.
    pub(super) fn knows(&self, reference: Reference) -> bool {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&reference)
    }

    /// Takes what has no row that can be used out of force: a key is dead and so are the keys of a project, the keys of an
    /// organization do not pass, a membership is refused.
    pub(super) fn refuse(&self, reference: Reference) {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner).remove(&reference);
        if let Some(id) = organization(&reference) {
            self.verifier.index().suspend(id);
        }
        match reference.kind {
            Kind::Key => self.kill(|key| key.id.0 == reference.id),
            Kind::Project => self.kill(|key| is_of_project(key.holder, reference.id)),
            Kind::Organization | Kind::Member => {}
        }
    }

    /// Makes keys dead that can only be found by what the index knows of them, because their rows cannot be used.
    pub(super) fn kill(&self, is_it: impl Fn(&KeyRecord) -> bool) {
        let killed = self.verifier.index().revoke_where(is_it);
        if killed > 0 {
            tracing::error!(killed, "keys whose rows cannot be used were revoked in memory");
        }
    }
}

fn organization(reference: &Reference) -> Option<OrganizationId> {
    let is_organization = reference.kind == Kind::Organization;
    is_organization.then(|| u32::try_from(reference.id).ok()).flatten().map(OrganizationId)
}

fn is_of_project(holder: Holder, id: i64) -> bool {
    matches!(holder, Holder::Project { project, .. } if i64::from(project.0) == id)
}
