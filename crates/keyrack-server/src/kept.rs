//! What everything has in common that the store keeps: it is numbered and versioned, belongs to a tenant, says who made and
//! changed it, and is authenticated as a whole.

use crate::actor::Actor;
use crate::canonical::Canonical;
use crate::clock::Timestamp;

/// What kind of thing it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A key of any kind.
    Key,
    /// An organization.
    Organization,
    /// A project.
    Project,
    /// What an organization's `member` key may do in a project.
    Member,
    /// The policies of the user's API, as they were applied once.
    Policy,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Key, Self::Organization, Self::Project, Self::Member, Self::Policy];

    /// The word on the wire and in the audit log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Organization => "organization",
            Self::Project => "project",
            Self::Member => "member",
            Self::Policy => "policy",
        }
    }

    /// The kind of a word, if it is one.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// One thing that is kept, as others refer to it: `key 4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// What kind of thing.
    pub kind: Kind,
    /// Its number among its kind.
    pub id: i64,
}

impl std::fmt::Display for Reference {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} {}", self.kind.as_str(), self.id)
    }
}

/// Whom something belongs to; nobody but the operator if both are empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tenant {
    /// Number of the organization.
    pub organization: Option<i64>,
    /// Number of the project.
    pub project: Option<i64>,
}

/// Who made something and who changed it last, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it.
    pub created_by: Actor,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// Who changed it last.
    pub changed_by: Actor,
}

impl History {
    /// Of something that is made now.
    pub const fn begun(by: Actor, now: Timestamp) -> Self {
        Self { created_at: now, created_by: by, updated_at: now, changed_by: by }
    }

    /// Of the same thing when it is changed.
    #[must_use]
    pub const fn changed(self, by: Actor, now: Timestamp) -> Self {
        Self { updated_at: now, changed_by: by, ..self }
    }

    /// Adds it to what a MAC covers.
    #[must_use]
    pub fn added_to(&self, canonical: Canonical) -> Canonical {
        let actor = |canonical: Canonical, by: Actor| canonical.text(by.kind.as_str()).maybe_int(by.id);
        let canonical = actor(canonical.int(self.created_at.0), self.created_by);
        actor(canonical.int(self.updated_at.0), self.changed_by)
    }
}

/// Something the store keeps.
pub trait Kept {
    /// What kind of thing.
    const KIND: Kind;

    /// Its number.
    fn id(&self) -> i64;

    /// How often it was written, from 1.
    fn version(&self) -> u32;

    /// Whom it belongs to.
    fn tenant(&self) -> Tenant;

    /// Whether it is in use: not revoked, archived or taken away.
    fn is_live(&self) -> bool;

    /// What its MAC covers: every field.
    fn canonical(&self) -> Canonical;

    /// What the audit log says of it: JSON, without a secret.
    fn describe(&self) -> String;

    /// How others refer to it.
    fn reference(&self) -> Reference {
        Reference { kind: Self::KIND, id: self.id() }
    }
}
