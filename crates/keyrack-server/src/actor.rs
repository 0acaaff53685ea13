//! Who makes a change: a credential, or a command on the machine itself.

use keyrack::{Holder, VerifiedKey};
use serde::Serialize;
use utoipa::ToSchema;

/// What kind of credential makes a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActorKind {
    /// A command on the machine itself.
    Host,
    /// A project's secret key.
    SecretKey,
    /// An organization's key.
    OrganizationKey,
    /// An operator's key.
    OperatorKey,
    /// The key of a process that follows. It changes nothing.
    FollowerKey,
}

impl ActorKind {
    /// Every kind.
    pub const ALL: [Self; 5] =
        [Self::Host, Self::SecretKey, Self::OrganizationKey, Self::OperatorKey, Self::FollowerKey];

    /// The word on the wire and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::SecretKey => "secret_key",
            Self::OrganizationKey => "organization_key",
            Self::OperatorKey => "operator_key",
            Self::FollowerKey => "follower_key",
        }
    }

    /// The kind of a word, if it is one.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// Who makes a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Actor {
    /// What kind of credential.
    pub kind: ActorKind,
    /// The number of the key, if it is one.
    pub id: Option<i64>,
}

impl Actor {
    /// A command on the machine itself.
    pub const HOST: Self = Self { kind: ActorKind::Host, id: None };

    /// A caller whose key passed.
    pub const fn caller(key: &VerifiedKey) -> Self {
        let kind = match key.holder() {
            Holder::Project { .. } => ActorKind::SecretKey,
            Holder::Organization { .. } => ActorKind::OrganizationKey,
            Holder::Operator => ActorKind::OperatorKey,
            Holder::Follower => ActorKind::FollowerKey,
        };
        Self { kind, id: Some(key.id().0) }
    }

    /// As it stands in replies.
    pub const fn body(self) -> ActorBody {
        ActorBody { kind: self.kind.as_str(), id: self.id }
    }
}

/// A credential on the wire.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[schema(as = Actor)]
pub struct ActorBody {
    /// `secret_key`, `organization_key`, `operator_key`, or `host` for a command on the machine itself.
    #[schema(example = "organization_key")]
    kind: &'static str,
    /// Number of the key; null for `host`.
    #[schema(example = 2)]
    id: Option<i64>,
}
