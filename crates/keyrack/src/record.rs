//! What is known of a key: ids, roles, scope (contract section 1).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::{KeyKind, LimitPlan};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(out)
            }
        }
    };
}

id!(
    /// Number of a key, of whatever kind; never used twice in one installation.
    KeyId(i64)
);
id!(
    /// Number of a project. 32 bits, so that a record of the index fits one cache line.
    ProjectId(u32)
);
id!(
    /// Number of an organization. 32 bits, as for [`ProjectId`].
    OrganizationId(u32)
);

id!(
    /// Number of a policy that was applied, from 1; 0 is the built-in one.
    PolicyVersion(u32)
);

/// A word that is not in the list it was looked up in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be one of: {expected}")]
pub struct UnknownWord {
    /// The words that would have been understood.
    pub expected: &'static str,
}

/// A closed list of words, written once: the word on the wire, the position that orders them, the number in a record.
macro_rules! ladder {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? } as $list:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $name {
            $($(#[$variant_doc])* $variant),+
        }

        impl $name {
            /// Every value, lowest first.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word used on the wire.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }

            /// The position in the list, lowest first, from 0.
            pub const fn position(self) -> u8 {
                self as u8
            }

            /// The value at a position, if there is one.
            pub fn from_position(position: u8) -> Option<Self> {
                Self::ALL.get(usize::from(position)).copied()
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;

            fn from_str(word: &str) -> Result<Self, UnknownWord> {
                let found = Self::ALL.iter().copied().find(|known| known.as_str() == word);
                found.ok_or(UnknownWord { expected: $list })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(self.as_str())
            }
        }
    };
}

ladder!(
    /// How much a key may do in its project. Compared by position: a higher role may do all that a lower one may.
    ProjectRole {
        /// Lowest: may look.
        Support = "support",
        /// May hand over mail.
        SmtpProxy = "smtpproxy",
        /// May change content.
        Editor = "editor",
        /// May publish content.
        Publisher = "publisher",
        /// May do everything, keys included.
        Admin = "admin",
    } as "support, smtpproxy, editor, publisher, admin"
);

ladder!(
    /// How much a key may do in its organization.
    OrganizationRole {
        /// Reaches only the projects it was given.
        Member = "member",
        /// Counts as project admin in every project of the organization.
        Admin = "admin",
        /// Admin, and may manage organization keys.
        Owner = "owner",
    } as "member, admin, owner"
);

ladder!(
    /// Which endpoints a project key can reach. `Public` is the narrower.
    Scope {
        /// Only routes that an allowlist names.
        Public = "public",
        /// Every route its role reaches.
        Secret = "secret",
    } as "public, secret"
);

impl Scope {
    /// The scope a key really has: the narrower of what its prefix allows and what is stored for it.
    #[must_use]
    pub fn effective(kind: KeyKind, stored: Self) -> Self {
        match kind {
            KeyKind::Publishable => Self::Public,
            KeyKind::Secret | KeyKind::Organization | KeyKind::Operator | KeyKind::Follower => stored,
        }
    }
}

/// Whom a key speaks for, and how much it may do there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A project's key, `sk_` or `pk_`.
    Project {
        /// The project.
        project: ProjectId,
        /// The organization the project belongs to.
        organization: OrganizationId,
        /// [`KeyKind::Secret`] or [`KeyKind::Publishable`]: what the value's prefix says.
        kind: KeyKind,
        /// The *effective* scope, see [`Scope::effective`].
        scope: Scope,
        /// The role in the project.
        role: ProjectRole,
    },
    /// An organization's key, `ok_`.
    Organization {
        /// The organization.
        organization: OrganizationId,
        /// The role in it.
        role: OrganizationRole,
    },
    /// An operator's key, `op_`.
    Operator,
    /// The key of a process that follows an installation and verifies by itself, `fk_`.
    Follower,
}

/// Everything about a live key that decides anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// The key's number: below 2⁴⁰.
    pub id: KeyId,
    /// How often the key was written, from 1. Of two states of one key the higher version holds.
    pub version: u32,
    /// Whom it speaks for.
    pub holder: Holder,
    /// The policy at whose version its reach is frozen while its scope is public.
    pub reach: PolicyVersion,
    /// What it holds besides its role.
    pub permissions: Permissions,
    /// How often it may be used.
    pub limits: LimitPlan,
    /// Made by the service for itself: the tenant sees it and cannot touch it.
    pub is_system: bool,
}

impl KeyRecord {
    /// A tenant's key with a role and nothing else: no permission, no limit, and issued before there was a policy.
    pub fn new(id: KeyId, version: u32, holder: Holder) -> Self {
        let (permissions, limits) = (Permissions::default(), LimitPlan::default());
        Self { id, version, holder, reach: PolicyVersion(0), permissions, limits, is_system: false }
    }
}

/// Permissions `resource:action` of a key, sorted, none twice.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Permissions(Option<Arc<[Box<str>]>>);

impl Permissions {
    /// Most permissions of one key (contract section 7).
    pub const MOST: usize = 100;

    /// The permissions among these words, in whatever order they are.
    pub fn new<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        let mut sorted: Vec<Box<str>> = words.into_iter().map(Into::into).collect();
        sorted.sort_unstable();
        sorted.dedup();
        Self((!sorted.is_empty()).then(|| sorted.into()))
    }

    /// Whether a permission is among them.
    pub fn hold(&self, permission: &str) -> bool {
        self.0.as_ref().is_some_and(|sorted| sorted.binary_search_by(|held| (**held).cmp(permission)).is_ok())
    }

    /// Each of them, sorted.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        self.0.as_deref().unwrap_or_default().iter().map(|held| &**held)
    }
}

impl fmt::Debug for Permissions {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_ordered_as_the_contract_lists_them() {
        let words: Vec<_> = ProjectRole::ALL.iter().map(|role| role.as_str()).collect();
        assert_eq!(words, ["support", "smtpproxy", "editor", "publisher", "admin"]);
        assert!(ProjectRole::ALL.is_sorted());
        assert!(OrganizationRole::Member < OrganizationRole::Admin);
        assert!(OrganizationRole::Admin < OrganizationRole::Owner);
    }

    #[test]
    fn words_and_positions_are_inverse_and_exact() {
        for role in ProjectRole::ALL {
            assert_eq!(role.as_str().parse(), Ok(*role));
            assert_eq!(ProjectRole::from_position(role.position()), Some(*role));
        }
        assert_eq!(ProjectRole::from_position(5), None);
        let unknown = "Admin".parse::<ProjectRole>().unwrap_err();
        assert_eq!(unknown.to_string(), "must be one of: support, smtpproxy, editor, publisher, admin");
        let words: Vec<_> = ProjectRole::ALL.iter().map(|role| role.as_str()).collect();
        assert_eq!(unknown.expected, words.join(", "));
    }

    #[test]
    fn a_publishable_value_is_public_whatever_is_stored() {
        assert_eq!(Scope::effective(KeyKind::Publishable, Scope::Secret), Scope::Public);
        assert_eq!(Scope::effective(KeyKind::Secret, Scope::Public), Scope::Public);
        assert_eq!(Scope::effective(KeyKind::Secret, Scope::Secret), Scope::Secret);
    }
}
