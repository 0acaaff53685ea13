//! The policy as the operator writes it: the same names in TOML and in JSON.

use crate::ProjectRole;

/// One document, applied as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Document {
    /// The policies by name. One of them is called `default`.
    pub policies: Vec<NamedPolicy>,
}

/// The routes of one API.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct NamedPolicy {
    /// 1 to 64 of `a-z 0-9 - _`.
    pub name: String,
    /// The least role for `GET`, `HEAD` and `OPTIONS` where no rule applies.
    pub read: Least,
    /// The least role for every other method where no rule applies.
    pub write: Least,
    /// What is said of single routes, in any order: precedence is by how precise they are.
    #[cfg_attr(feature = "serde", serde(default))]
    pub rules: Vec<Rule>,
}

/// The least role that may pass, if any may. On the wire the role's word, or `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Least {
    /// Nobody passes, whatever the role.
    None,
    /// This role and those above it.
    Role(ProjectRole),
}

/// What a key needs on one route.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Rule {
    /// The methods it is about, or `*` alone for all of them. A rule for `GET` is not about `HEAD`.
    pub methods: Vec<String>,
    /// Segments; `*` is one segment that is not empty, `**` one or more of them at the end.
    ///
    /// `/a/**` is not about `/a`; `/**` is about every path.
    pub path: String,
    /// The least role that may pass.
    pub role: ProjectRole,
    /// Whether publishable keys may pass.
    #[cfg_attr(feature = "serde", serde(default))]
    pub public: bool,
    /// What the key must hold besides, see [`is_permission`].
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub permission: Option<String>,
}

impl Document {
    /// What holds until a policy is applied: publishable keys pass nowhere, secret keys read from `support` and write
    /// from `editor`.
    pub fn builtin() -> Self {
        let (read, write) = (Least::Role(ProjectRole::Support), Least::Role(ProjectRole::Editor));
        Self { policies: vec![NamedPolicy { name: "default".to_owned(), read, write, rules: Vec::new() }] }
    }
}

/// Whether a text is a permission: `resource:action`, each side 1 to 64 of `a-z 0-9 _ . -`.
pub fn is_permission(text: &str) -> bool {
    let is_side = |side: &str| {
        (1..=64).contains(&side.len())
            && side.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'-'))
    };
    text.split_once(':').is_some_and(|(resource, action)| is_side(resource) && is_side(action))
}

#[cfg(feature = "serde")]
mod wire {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Least;
    use crate::ProjectRole;

    impl Serialize for ProjectRole {
        fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
            out.serialize_str(self.as_str())
        }
    }

    impl<'de> Deserialize<'de> for ProjectRole {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            String::deserialize(from)?.parse().map_err(D::Error::custom)
        }
    }

    impl Serialize for Least {
        fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
            match self {
                Self::None => out.serialize_str("none"),
                Self::Role(role) => role.serialize(out),
            }
        }
    }

    impl<'de> Deserialize<'de> for Least {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            let word = String::deserialize(from)?;
            if word == "none" {
                return Ok(Self::None);
            }
            word.parse().map(Self::Role).map_err(|unknown| D::Error::custom(format_args!("{unknown}, or none")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permission_is_two_sides_of_small_letters() {
        let longest = format!("{0}:{0}", "a".repeat(64));
        for good in ["events:write", "a:b", "a.b-c_0:9", &longest] {
            assert!(is_permission(good), "{good}");
        }
        let too_long = format!("{}:a", "a".repeat(65));
        for bad in ["", ":", "a", "a:", ":a", "a:b:c", "A:b", "a: b", "a:*", "é:a", &too_long] {
            assert!(!is_permission(bad), "{bad}");
        }
    }
}
