//! What an organization's `member` key may do in a project.

use keyrack::{KeyId, OrganizationId, ProjectId, ProjectRole};

use crate::canonical::Canonical;
use crate::kept::{History, Kept, Kind, Tenant};

/// A membership as it is kept. One that was taken away stays, without a role, so that its versions go on rising.
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
    /// What it may do there; nothing if it was taken away.
    pub role: Option<ProjectRole>,
    /// Who gave and changed it.
    pub history: History,
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

    /// One that was taken away may be given again, so its version must be known after a start: it stays among what is.
    fn is_live(&self) -> bool {
        true
    }

    fn canonical(&self) -> Canonical {
        let canonical = Canonical::new("member row")
            .int(self.id)
            .int(self.organization.0.into())
            .int(self.project.0.into())
            .int(self.key.0)
            .maybe_int(self.role.map(|role| role.position().into()))
            .int(self.version.into());
        self.history.added_to(canonical)
    }

    fn describe(&self) -> String {
        let role = self.role.map(ProjectRole::as_str);
        serde_json::json!({"project_id": self.project.0, "key_id": self.key.0, "role": role}).to_string()
    }
}
