//! What an organization's `member` key may do in a project.

use keyrack::{KeyId, OrganizationId, ProjectId, ProjectRole};

use crate::canonical::Canonical;
use crate::clock::Timestamp;
use crate::kept::{History, Kept, Kind, Tenant};

/// A membership as it is kept. One that was taken away is over for ever: given again, it is another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its number.
    pub id: i64,
    /// How often it was written, from 1.
    pub version: u32,
    /// The organization of both.
    pub organization: OrganizationId,
    /// The project.
    pub project: ProjectId,
    /// The organization's key.
    pub key: KeyId,
    /// What it may do there.
    pub role: ProjectRole,
    /// Who gave and changed it.
    pub history: History,
    /// When it was taken away, if it was.
    pub taken_at: Option<Timestamp>,
}

impl Kept for Member {
    const KIND: Kind = Kind::Member;

    fn id(&self) -> i64 {
        self.id
    }

    fn version(&self) -> u32 {
        self.version
    }

    fn tenant(&self) -> Tenant {
        Tenant { organization: Some(self.organization.0.into()), project: Some(self.project.0.into()) }
    }

    fn is_live(&self) -> bool {
        self.taken_at.is_none()
    }

    fn canonical(&self) -> Canonical {
        let canonical = Canonical::new("member row")
            .int(self.id)
            .int(self.organization.0.into())
            .int(self.project.0.into())
            .int(self.key.0)
            .int(self.role.position().into())
            .maybe_int(self.taken_at.map(|at| at.0))
            .int(self.version.into());
        self.history.added_to(canonical)
    }

    fn describe(&self) -> String {
        let (project, key, role) = (self.project.0, self.key.0, self.role.as_str());
        match self.taken_at.map(|at| at.to_string()) {
            None => serde_json::json!({"project_id": project, "key_id": key, "role": role}),
            Some(at) => serde_json::json!({"project_id": project, "key_id": key, "role": role, "taken_at": at}),
        }
        .to_string()
    }
}
