//! May this key do that? Pure: a record and a requirement in, a proof or a denial out.

use crate::policy::{BadMethod, BadPath, Reason};
use crate::{Holder, KeyId, KeyKind, OrganizationId, OrganizationRole, ProjectId, ProjectRole, Scope};

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
    /// The key of a process that follows this installation.
    Follower,
}

/// Why a key may not pass. Closed on purpose: who matches on it lists every reason.
///
/// The outside learns only [`Denial::code`], and [`Denial::detail`] where that may be told.
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
    /// A live key, of another project or organization than was asked for.
    #[error("key of another project or organization")]
    OtherTenant,
    /// A live secret key that was narrowed to public scope.
    #[error("scope is public")]
    ScopeTooSmall,
    /// A live key of the right kind whose role is too low; holds the role it takes.
    #[error("role is below {needs}")]
    RoleTooSmall {
        /// The least role that would have passed.
        needs: &'static str,
    },
    /// The policy opens this to no role.
    #[error("closed to every role")]
    Closed,
    /// The key does not hold the permission it takes.
    #[error("permission is not held")]
    PermissionMissing,
    /// The policy asked for does not exist.
    #[error("no such policy")]
    UnknownPolicy,
    /// What was asked for is not of a shape that can be judged: the word says what is wrong.
    #[error("{0}")]
    BadRequest(&'static str),
    /// Beyond one of the key's rates.
    #[error("too many requests for now")]
    RateLimited,
    /// Beyond one of the key's quotas.
    #[error("quota used up")]
    UsageExceeded,
}

/// The code of a verdict (contract section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The key may pass.
    Valid,
    /// No such key; which of the reasons is not told.
    NotFound,
    /// A key that lives, and may not be used for now.
    Disabled,
    /// A key that does not reach that far.
    Forbidden,
    /// Too often.
    RateLimited,
    /// More than its quota.
    UsageExceeded,
    /// Cannot tell.
    Unavailable,
}

impl Code {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "VALID",
            Self::NotFound => "NOT_FOUND",
            Self::Disabled => "DISABLED",
            Self::Forbidden => "FORBIDDEN",
            Self::RateLimited => "RATE_LIMITED",
            Self::UsageExceeded => "USAGE_EXCEEDED",
            Self::Unavailable => "UNAVAILABLE",
        }
    }

    /// The HTTP status (contract section 7).
    pub const fn status(self) -> u16 {
        match self {
            Self::Valid => 200,
            Self::NotFound | Self::Disabled => 401,
            Self::Forbidden => 403,
            Self::RateLimited | Self::UsageExceeded => 429,
            Self::Unavailable => 503,
        }
    }
}

impl From<BadPath> for Denial {
    fn from(bad: BadPath) -> Self {
        Self::BadRequest(bad.reason())
    }
}

impl From<BadMethod> for Denial {
    fn from(bad: BadMethod) -> Self {
        Self::BadRequest(bad.reason())
    }
}

impl From<Reason> for Denial {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::Closed => Self::Closed,
            Reason::ScopeTooSmall => Self::ScopeTooSmall,
            Reason::RoleTooSmall { needs } => Self::RoleTooSmall { needs: needs.as_str() },
            Reason::PermissionMissing => Self::PermissionMissing,
        }
    }
}

impl Denial {
    /// What a verification says of it (contract section 7).
    pub const fn code(self) -> Code {
        match self {
            Self::Malformed | Self::Unknown | Self::Revoked | Self::WrongSurface | Self::OtherTenant => Code::NotFound,
            Self::Suspended => Code::Disabled,
            Self::ScopeTooSmall
            | Self::RoleTooSmall { .. }
            | Self::Closed
            | Self::PermissionMissing
            | Self::UnknownPolicy
            | Self::BadRequest(_) => Code::Forbidden,
            Self::RateLimited => Code::RateLimited,
            Self::UsageExceeded => Code::UsageExceeded,
        }
    }

    /// The finer reason as a word for a header; nothing where it is not to be told.
    pub const fn detail(self) -> Option<&'static str> {
        match self {
            Self::Malformed | Self::Unknown | Self::Revoked | Self::WrongSurface | Self::OtherTenant => None,
            Self::Suspended => Some("suspended"),
            Self::ScopeTooSmall => Some("scope"),
            Self::RoleTooSmall { .. } => Some("role"),
            Self::Closed => Some("closed"),
            Self::PermissionMissing => Some("permission"),
            Self::UnknownPolicy => Some("policy"),
            Self::BadRequest(what) => Some(what),
            Self::RateLimited => Some("rate"),
            Self::UsageExceeded => Some("quota"),
        }
    }
}

/// Proof that a key passed a check. Only this file makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifiedKey {
    id: KeyId,
    holder: Holder,
}

impl VerifiedKey {
    /// The key's number.
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// Whom the key speaks for.
    pub const fn holder(&self) -> Holder {
        self.holder
    }
}

/// Judges a live key for one of Keyrack's own surfaces.
///
/// # Errors
/// The first reason that stands against it.
pub fn decide(id: KeyId, holder: Holder, requirement: Requirement) -> Result<VerifiedKey, Denial> {
    let verified = VerifiedKey { id, holder };
    match (requirement, holder) {
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
        (Requirement::Operator, Holder::Operator) | (Requirement::Follower, Holder::Follower) => Ok(verified),
        (
            Requirement::Project { .. }
            | Requirement::Organization { .. }
            | Requirement::Operator
            | Requirement::Follower,
            _,
        ) => Err(Denial::WrongSurface),
    }
}

/// What a request to the user's own API needs of its key, besides that it lives.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reach<'a> {
    /// The project it must be of.
    pub(crate) project: Option<ProjectId>,
    /// The organization it must be of.
    pub(crate) organization: Option<OrganizationId>,
    /// A permission it must hold, besides those of the route.
    pub(crate) permission: Option<&'a str>,
}

/// Judges a live project key for the user's own API, but for the route; `holds` says whether it holds a permission.
pub(crate) fn decide_use(
    id: KeyId,
    holder: Holder,
    reach: Reach<'_>,
    holds: impl FnOnce(&str) -> bool,
) -> Result<(VerifiedKey, Scope, ProjectRole), Denial> {
    let Holder::Project { project, organization, scope, role, .. } = holder else { return Err(Denial::WrongSurface) };
    let is_other_project = reach.project.is_some_and(|asked| asked != project);
    if is_other_project || reach.organization.is_some_and(|asked| asked != organization) {
        return Err(Denial::OtherTenant);
    }
    if reach.permission.is_some_and(|needed| role < ProjectRole::Admin && !holds(needed)) {
        return Err(Denial::PermissionMissing);
    }
    Ok((VerifiedKey { id, holder }, scope, role))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn project_key(kind: KeyKind, scope: Scope, role: ProjectRole) -> Holder {
        Holder::Project { project: ProjectId(2), organization: OrganizationId(1), kind, scope, role }
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
        prop_oneof![project, organization, Just(Holder::Operator), Just(Holder::Follower)]
    }

    fn any_requirement() -> impl Strategy<Value = Requirement> {
        prop_oneof![
            (0..5_u8).prop_map(|role| Requirement::Project { least: ProjectRole::from_position(role).unwrap() }),
            (0..3_u8)
                .prop_map(|role| Requirement::Organization { least: OrganizationRole::from_position(role).unwrap() }),
            Just(Requirement::Operator),
            Just(Requirement::Follower),
        ]
    }

    #[test]
    fn each_reason_has_its_case() {
        let needs = Requirement::Project { least: ProjectRole::Editor };
        let judge = |kind, scope, role| decide(KeyId(9), project_key(kind, scope, role), needs).err();
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
                Holder::Follower => Holder::Follower,
            };
            let passes = |holder| decide(KeyId(1), holder, requirement).is_ok();
            prop_assert!(!passes(holder) || passes(raised));
        }

        #[test]
        fn a_publishable_key_passes_nowhere(requirement in any_requirement(), role in 0..5_u8, scope in 0..2_u8) {
            let holder = project_key(
                KeyKind::Publishable,
                Scope::from_position(scope).unwrap(),
                ProjectRole::from_position(role).unwrap(),
            );
            prop_assert_eq!(decide(KeyId(9), holder, requirement), Err(Denial::WrongSurface));
        }
    }
}
