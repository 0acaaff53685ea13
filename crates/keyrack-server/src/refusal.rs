//! Why something was not done, whichever door asked for it.

use keyrack::PolicyVersion;

use crate::store::StoreError;

/// Why something was not done; nothing was changed then.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Nothing there, or nothing that the caller may know of.
    #[error("no such thing")]
    NotFound,
    /// The service made the key for itself.
    #[error("a system key cannot be changed or revoked here")]
    SystemKey,
    /// A value that was published stays public.
    #[error("a publishable key cannot become secret")]
    AlreadyPublished,
    /// The caller may not give away more than it has.
    #[error("the role is above the caller's own")]
    RoleAboveCaller {
        /// The role that was asked for.
        asked: &'static str,
    },
    /// The caller's role does not reach.
    #[error("the role is below {needs}")]
    RoleTooLow {
        /// The least role that would have.
        needs: &'static str,
    },
    /// Without it nobody could operate the installation.
    #[error("the last operator key cannot be revoked")]
    LastOperatorKey,
    /// Another organization has or had the short name.
    #[error("the username is taken")]
    UsernameTaken,
    /// Too many keys would die to do it without being told twice.
    #[error("not confirmed")]
    Unconfirmed {
        /// How many live keys would be revoked.
        keys: i64,
    },
    /// Only keys of role `member` are given projects; the others reach all of them.
    #[error("not a member key")]
    NotAMemberKey,
    /// A key's reach can only be frozen at a policy that was applied.
    #[error("no such policy version")]
    UnknownPolicyVersion {
        /// The newest there is.
        newest: PolicyVersion,
    },
    /// Another policy is in force than the one that was to be replaced.
    #[error("another policy was applied meanwhile")]
    PolicyChanged {
        /// The version in force.
        version: PolicyVersion,
    },
    /// The store did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Refusal {
    /// The error of the store, if that is what it is: then another attempt may help.
    ///
    /// # Errors
    /// The refusal itself, if it is another.
    pub fn into_store_error(self) -> Result<StoreError, Self> {
        match self {
            Self::Store(error) => Ok(error),
            Self::NotFound
            | Self::SystemKey
            | Self::AlreadyPublished
            | Self::RoleAboveCaller { .. }
            | Self::RoleTooLow { .. }
            | Self::LastOperatorKey
            | Self::UsernameTaken
            | Self::Unconfirmed { .. }
            | Self::NotAMemberKey
            | Self::UnknownPolicyVersion { .. }
            | Self::PolicyChanged { .. } => Err(self),
        }
    }
}
