//! A customer.

use keyrack::OrganizationId;

use crate::canonical::Canonical;
use crate::clock::Timestamp;
use crate::kept::{History, Kept, Kind, Tenant};

/// Whether the keys of an organization pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// They do.
    Active,
    /// They do not, until the operator resumes it.
    Suspended,
}

impl Standing {
    /// Both, in the order of their numbers in the store.
    pub const ALL: [Self; 2] = [Self::Active, Self::Suspended];

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
        }
    }
}

/// An organization as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Organization {
    /// Its number.
    pub id: OrganizationId,
    /// How often it was written, from 1.
    pub version: u32,
    /// Its short name, which no other organization has or had.
    pub username: String,
    /// The domain it is known by.
    pub domain: Option<String>,
    /// Whether its keys pass.
    pub standing: Standing,
    /// Who made and changed it.
    pub history: History,
    /// When everything beneath it was revoked, if it was.
    pub archived_at: Option<Timestamp>,
}

impl Kept for Organization {
    const KIND: Kind = Kind::Organization;

    fn id(&self) -> i64 {
        self.id.0.into()
    }

    fn version(&self) -> u32 {
        self.version
    }

    fn tenant(&self) -> Tenant {
        Tenant { organization: Some(self.id.0.into()), project: None }
    }

    fn is_live(&self) -> bool {
        self.archived_at.is_none()
    }

    fn canonical(&self) -> Canonical {
        let canonical = Canonical::new("organization row")
            .int(self.id())
            .text(&self.username)
            .maybe_text(self.domain.as_deref())
            .int(self.standing as i64)
            .maybe_int(self.archived_at.map(|at| at.0))
            .int(self.version.into());
        self.history.added_to(canonical)
    }

    fn describe(&self) -> String {
        let (username, domain, state) = (&self.username, &self.domain, self.standing.as_str());
        match self.archived_at.map(|at| at.to_string()) {
            None => serde_json::json!({"username": username, "domain": domain, "state": state}),
            Some(at) => serde_json::json!({"username": username, "domain": domain, "state": state, "archived_at": at}),
        }
        .to_string()
    }
}
