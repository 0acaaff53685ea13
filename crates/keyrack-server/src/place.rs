//! Where keys belong, and where a caller may act, and up to which role.

use keyrack::{Holder, KeyRecord, OrganizationId, OrganizationRole, ProjectId, ProjectRole, VerifiedKey};

use crate::canonical::Canonical;
use crate::refusal::Refusal;

/// Which keys are meant. Who is let into a place sees and touches those keys and no others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A project's keys, system keys included.
    Project(ProjectId),
    /// The system keys of a project.
    System(ProjectId),
    /// An organization's own keys.
    Organization(OrganizationId),
    /// Those and the keys of all its projects.
    Beneath(OrganizationId),
    /// The operator's keys.
    Installation,
    /// The keys of processes that follow this installation.
    Followers,
}

impl Place {
    /// Whether the keys of a holder are of this place; of system keys it cannot tell them from others of the project.
    pub fn holds(self, holder: Holder) -> bool {
        match (self, holder) {
            (Self::Project(id) | Self::System(id), Holder::Project { project, .. }) => id == project,
            (Self::Organization(id), Holder::Organization { organization, .. })
            | (Self::Beneath(id), Holder::Organization { organization, .. } | Holder::Project { organization, .. }) => {
                id == organization
            }
            (Self::Installation, Holder::Operator) | (Self::Followers, Holder::Follower) => true,
            (
                Self::Project(_)
                | Self::System(_)
                | Self::Organization(_)
                | Self::Beneath(_)
                | Self::Installation
                | Self::Followers,
                Holder::Project { .. } | Holder::Organization { .. } | Holder::Operator | Holder::Follower,
            ) => false,
        }
    }

    /// Whether who is let into this place may revoke a key, as far as memory tells: one of its holders', and a system key only where
    /// those are what is meant.
    pub fn may_end(self, key: &KeyRecord) -> bool {
        let is_meant = match self {
            Self::System(_) => key.is_system,
            Self::Project(_) | Self::Organization(_) | Self::Beneath(_) | Self::Installation | Self::Followers => {
                !key.is_system
            }
        };
        is_meant && self.holds(key.holder)
    }

    /// What sets this place apart from every other.
    pub fn canonical(self) -> Canonical {
        match self {
            Self::Project(id) => Canonical::new("project").int(id.0.into()),
            Self::System(id) => Canonical::new("system").int(id.0.into()),
            Self::Organization(id) => Canonical::new("organization").int(id.0.into()),
            Self::Beneath(id) => Canonical::new("beneath").int(id.0.into()),
            Self::Installation => Canonical::new("installation"),
            Self::Followers => Canonical::new("followers"),
        }
    }
}

/// A caller in a project: where it may act, and up to which role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProjectCaller {
    /// The project.
    pub project: ProjectId,
    /// The organization of the project.
    pub organization: OrganizationId,
    /// The caller's role there: the highest it may grant.
    pub role: ProjectRole,
}

impl ProjectCaller {
    /// The place of a project's own key, if it is one.
    pub const fn of(key: &VerifiedKey) -> Option<Self> {
        match key.holder() {
            Holder::Project { project, organization, role, .. } => Some(Self { project, organization, role }),
            Holder::Organization { .. } | Holder::Operator | Holder::Follower => None,
        }
    }

    /// Refuses a caller whose role is too low.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`].
    pub fn needs(self, least: ProjectRole) -> Result<Self, Refusal> {
        if self.role < least { Err(Refusal::RoleTooLow { needs: least.as_str() }) } else { Ok(self) }
    }

    /// Refuses to give away more than the caller has.
    ///
    /// # Errors
    /// [`Refusal::RoleAboveCaller`].
    pub fn may_grant(self, role: ProjectRole) -> Result<(), Refusal> {
        if role > self.role { Err(Refusal::RoleAboveCaller { asked: role.as_str() }) } else { Ok(()) }
    }
}

/// A caller with an organization's key, and its role there: the highest it may grant.
#[derive(Clone, Copy, Debug)]
pub struct OrganizationCaller {
    /// The organization.
    pub organization: OrganizationId,
    /// The caller's role.
    pub role: OrganizationRole,
}

impl OrganizationCaller {
    /// Refuses to give away more than the caller has.
    ///
    /// # Errors
    /// [`Refusal::RoleAboveCaller`].
    pub fn may_grant(self, role: OrganizationRole) -> Result<(), Refusal> {
        if role > self.role { Err(Refusal::RoleAboveCaller { asked: role.as_str() }) } else { Ok(()) }
    }
}
