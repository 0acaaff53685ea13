//! May this key do that? Pure: a record and a requirement in, a proof or a denial out.

use crate::{Holder, KeyId, KeyKind, KeyRecord, OrganizationRole, ProjectRole, Scope};

/// What a request needs of the key that makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// A project's secret key of at least this role.
    Project {
        /// The least role that may pass.
        least: ProjectRole,
    },
    /// An organization's key of at least this role.
    Organization {
        /// The least role that may pass.
        least: OrganizationRole,
    },
    /// An operator's key.
    Operator,
}

/// Why a key may not pass. Closed on purpose: who matches on it lists every reason.
///
/// The outside learns only [`Denial::status`] and [`Denial::code`]; every reason for 401 looks the same there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// What was presented is not of the shape of a key.
    #[error("malformed key")]
    Malformed,
    /// No key of this installation.
    #[error("unknown key")]
    Unknown,
    /// Was a key, and is dead for ever.
    #[error("revoked key")]
    Revoked,
    /// A key that is alive, of an organization that is suspended.
    #[error("suspended organization")]
    Suspended,
    /// A live key, of a kind that never works here.
    #[error("wrong surface for this kind of key")]
    WrongSurface,
    /// A live secret key that was narrowed to public scope.
    #[error("scope is public")]
    ScopeTooSmall,
    /// A live key of the right kind whose role is too low; holds the role it takes.
    #[error("role is below {needs}")]
    RoleTooSmall {
        /// The least role that would have passed.
        needs: &'static str,
    },
}

impl Denial {
    /// The HTTP status of this denial: 401 or 403 (contract section 4).
    pub const fn status(self) -> u16 {
        match self {
            Self::Malformed | Self::Unknown | Self::Revoked | Self::Suspended | Self::WrongSurface => 401,
            Self::ScopeTooSmall | Self::RoleTooSmall { .. } => 403,
        }
    }

    /// The error code of this denial (contract section 5).
    pub const fn code(self) -> &'static str {
        match self.status() {
            401 => "authentication_required",
            _ => "permission_denied",
        }
    }
}

/// Proof that a key passed a check. Only [`decide`] makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifiedKey {
    record: KeyRecord,
}

impl VerifiedKey {
    /// The key's number.
    pub const fn id(&self) -> KeyId {
        self.record.id
    }

    /// Whom the key speaks for.
    pub const fn holder(&self) -> Holder {
        self.record.holder
    }
}

/// Judges a live key.
///
/// # Errors
/// The first reason that stands against it.
pub fn decide(record: &KeyRecord, requirement: Requirement) -> Result<VerifiedKey, Denial> {
    let verified = VerifiedKey { record: *record };
    match (requirement, record.holder) {
        (Requirement::Project { least }, Holder::Project { kind: KeyKind::Secret, scope, role, .. }) => {
            if scope == Scope::Public {
                Err(Denial::ScopeTooSmall)
            } else if role < least {
                Err(Denial::RoleTooSmall { needs: least.as_str() })
            } else {
                Ok(verified)
            }
        }
        (Requirement::Organization { least }, Holder::Organization { role, .. }) => {
            if role < least {
                Err(Denial::RoleTooSmall { needs: least.as_str() })
            } else {
                Ok(verified)
            }
        }
        (Requirement::Operator, Holder::Operator) => Ok(verified),
        (Requirement::Project { .. } | Requirement::Organization { .. } | Requirement::Operator, _) => {
            Err(Denial::WrongSurface)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{OrganizationId, ProjectId};

    fn project_key(kind: KeyKind, scope: Scope, role: ProjectRole) -> KeyRecord {
        let holder = Holder::Project { project: ProjectId(2), organization: OrganizationId(1), kind, scope, role };
        KeyRecord { id: KeyId(9), version: 1, holder }
    }

    fn any_holder() -> impl Strategy<Value = Holder> {
        let project = (any::<bool>(), 0..2_u8, 0..5_u8).prop_map(|(secret, scope, role)| Holder::Project {
            project: ProjectId(2),
            organization: OrganizationId(1),
            kind: if secret { KeyKind::Secret } else { KeyKind::Publishable },
            scope: Scope::from_position(scope).unwrap(),
            role: ProjectRole::from_position(role).unwrap(),
        });
        let organization = (0..3_u8).prop_map(|role| Holder::Organization {
            organization: OrganizationId(1),
            role: OrganizationRole::from_position(role).unwrap(),
        });
        prop_oneof![project, organization, Just(Holder::Operator)]
    }

    fn any_requirement() -> impl Strategy<Value = Requirement> {
        prop_oneof![
            (0..5_u8).prop_map(|role| Requirement::Project { least: ProjectRole::from_position(role).unwrap() }),
            (0..3_u8)
                .prop_map(|role| Requirement::Organization { least: OrganizationRole::from_position(role).unwrap() }),
            Just(Requirement::Operator),
        ]
    }

    #[test]
    fn each_reason_has_its_case() {
        let needs = Requirement::Project { least: ProjectRole::Editor };
        let judge = |kind, scope, role| decide(&project_key(kind, scope, role), needs).err();
        assert_eq!(judge(KeyKind::Secret, Scope::Secret, ProjectRole::Editor), None);
        assert_eq!(
            judge(KeyKind::Secret, Scope::Secret, ProjectRole::SmtpProxy),
            Some(Denial::RoleTooSmall { needs: "editor" })
        );
        assert_eq!(judge(KeyKind::Secret, Scope::Public, ProjectRole::Admin), Some(Denial::ScopeTooSmall));
        assert_eq!(judge(KeyKind::Publishable, Scope::Public, ProjectRole::Admin), Some(Denial::WrongSurface));
    }

    proptest! {
        #[test]
        fn more_role_never_means_less_access(holder in any_holder(), requirement in any_requirement()) {
            let raised = match holder {
                Holder::Project { project, organization, kind, scope, role } => {
                    let role = ProjectRole::from_position(role.position() + 1).unwrap_or(role);
                    Holder::Project { project, organization, kind, scope, role }
                }
                Holder::Organization { organization, role } => {
                    let role = OrganizationRole::from_position(role.position() + 1).unwrap_or(role);
                    Holder::Organization { organization, role }
                }
                Holder::Operator => Holder::Operator,
            };
            let passes = |holder| decide(&KeyRecord { id: KeyId(1), version: 1, holder }, requirement).is_ok();
            prop_assert!(!passes(holder) || passes(raised));
        }

        #[test]
        fn a_publishable_key_passes_nowhere(requirement in any_requirement(), role in 0..5_u8, scope in 0..2_u8) {
            let record = project_key(
                KeyKind::Publishable,
                Scope::from_position(scope).unwrap(),
                ProjectRole::from_position(role).unwrap(),
            );
            prop_assert_eq!(decide(&record, requirement), Err(Denial::WrongSurface));
        }
    }
}
