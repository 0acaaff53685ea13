//! The one straight line that every verification takes, whichever door it came through.

use crate::{ApiKey, Denial, Index, KeyDigest, KeyId, Lookup, NotAKey, Requirement, VerifiedKey, decide};

/// The index cannot be trusted now, so nothing can be said about any key. Never a verdict on the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// The index has not been filled yet.
    #[error("the keys are still being loaded")]
    NotLoaded,
}

/// Why there is no [`VerifiedKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The key may not pass.
    #[error("{denial}")]
    Denied {
        /// Why.
        denial: Denial,
        /// Which key it was, if it is or was one: for the log, never for the caller.
        key: Option<KeyId>,
    },
    /// Whether it may cannot be told.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Verifies presented keys against an [`Index`]. Never waits, writes or reads a store.
#[derive(Debug)]
pub struct Verifier {
    index: Index,
}

impl Verifier {
    /// A verifier over an index, which may still be filling.
    pub const fn new(index: Index) -> Self {
        Self { index }
    }

    /// The index, to apply changes to.
    pub const fn index(&self) -> &Index {
        &self.index
    }

    /// Verifies the bytes a caller presented as its key.
    ///
    /// # Errors
    /// [`VerifyError::Denied`] if the key may not pass, [`VerifyError::Unavailable`] if that cannot be told.
    pub fn verify(&self, presented: &[u8], requirement: Requirement) -> Result<VerifiedKey, VerifyError> {
        match ApiKey::parse(presented) {
            Ok(key) => self.verify_key(&key, requirement),
            Err(NotAKey) => Err(VerifyError::Denied { denial: Denial::Malformed, key: None }),
        }
    }

    /// Verifies a presented value that has been parsed already.
    ///
    /// # Errors
    /// As for [`Verifier::verify`].
    pub fn verify_key(&self, key: &ApiKey, requirement: Requirement) -> Result<VerifiedKey, VerifyError> {
        let denied = |denial, key| Err(VerifyError::Denied { denial, key });
        match self.index.find(&KeyDigest::of(key))? {
            Lookup::Live(record) => decide(&record, requirement).or_else(|denial| denied(denial, Some(record.id))),
            Lookup::Suspended(record) => denied(Denial::Suspended, Some(record.id)),
            Lookup::Dead(id) => denied(Denial::Revoked, Some(id)),
            Lookup::Absent => denied(Denial::Unknown, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        Holder, KeyChange, KeyKind, KeyRecord, OrganizationId, OrganizationRole, ProjectId, ProjectRole, Scope,
    };

    fn denied(denial: Denial, key: Option<i64>) -> VerifyError {
        VerifyError::Denied { denial, key: key.map(KeyId) }
    }

    fn operator_key(seed: u8) -> (ApiKey, KeyDigest, KeyChange) {
        let key = ApiKey::generate(KeyKind::Operator, &[seed; ApiKey::RANDOM_BYTES]);
        let digest = KeyDigest::of(&key);
        let record = KeyRecord { id: KeyId(i64::from(seed)), version: 1, holder: Holder::Operator };
        (key, digest, KeyChange::Put(record))
    }

    #[test]
    fn an_index_that_is_not_loaded_says_nothing_about_a_key() {
        let (key, digest, put) = operator_key(1);
        let index = Index::with_capacity(1);
        index.apply(&digest, &put).unwrap();
        let verifier = Verifier::new(index);
        let verdict = verifier.verify(key.expose().as_bytes(), Requirement::Operator);
        assert_eq!(verdict, Err(VerifyError::Unavailable(Unavailable::NotLoaded)));
    }

    proptest! {
        #[test]
        fn revoked_never_passes(
            steps in proptest::collection::vec((any::<bool>(), 1..9_u32, 0..5_u8), 0..40), death in 0..40_usize
        ) {
            let key = ApiKey::generate(KeyKind::Secret, &[5; ApiKey::RANDOM_BYTES]);
            let digest = KeyDigest::of(&key);
            let verifier = Verifier::new(Index::with_capacity(1));
            verifier.index().mark_loaded();
            let mut dead = false;
            for (at, (revoke, version, role)) in steps.into_iter().enumerate() {
                let holder = Holder::Project {
                    project: ProjectId(1),
                    organization: OrganizationId(1),
                    kind: KeyKind::Secret,
                    scope: Scope::Secret,
                    role: ProjectRole::from_position(role).unwrap(),
                };
                dead |= revoke && at >= death;
                let change = if dead && revoke {
                    KeyChange::Revoke { id: KeyId(1) }
                } else {
                    KeyChange::Put(KeyRecord { id: KeyId(1), version, holder })
                };
                verifier.index().apply(&digest, &change).unwrap();
                for least in ProjectRole::ALL {
                    let verdict = verifier.verify(key.expose().as_bytes(), Requirement::Project { least: *least });
                    prop_assert!(!dead || verdict == Err(denied(Denial::Revoked, Some(1))));
                }
            }
        }
    }

    #[test]
    fn a_key_of_a_suspended_organization_is_denied() {
        let key = ApiKey::generate(KeyKind::Organization, &[1; ApiKey::RANDOM_BYTES]);
        let holder = Holder::Organization { organization: OrganizationId(3), role: OrganizationRole::Owner };
        let record = KeyRecord { id: KeyId(1), version: 1, holder };
        let verifier = Verifier::new(Index::with_capacity(1));
        verifier.index().mark_loaded();
        verifier.index().apply(&KeyDigest::of(&key), &KeyChange::Put(record)).unwrap();
        let needs = Requirement::Organization { least: OrganizationRole::Member };
        assert!(verifier.verify_key(&key, needs).is_ok());
        verifier.index().suspend(OrganizationId(3));
        assert_eq!(verifier.verify_key(&key, needs), Err(denied(Denial::Suspended, Some(1))));
    }

    #[test]
    fn live_revoked_unknown_and_malformed_are_told_apart_inside() {
        let (key, digest, put) = operator_key(1);
        let (stranger, ..) = operator_key(2);
        let verifier = Verifier::new(Index::with_capacity(1));
        verifier.index().mark_loaded();
        verifier.index().apply(&digest, &put).unwrap();
        let judge = |value: &str| verifier.verify(value.as_bytes(), Requirement::Operator);
        assert_eq!(judge(key.expose()).unwrap().id(), KeyId(1));
        assert_eq!(judge(stranger.expose()), Err(denied(Denial::Unknown, None)));
        assert_eq!(judge("op_"), Err(denied(Denial::Malformed, None)));
        verifier.index().apply(&digest, &KeyChange::Revoke { id: KeyId(1) }).unwrap();
        assert_eq!(judge(key.expose()), Err(denied(Denial::Revoked, Some(1))));
    }
}
