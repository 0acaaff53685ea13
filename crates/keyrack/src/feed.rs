//! What a server tells the processes that follow it: the words that both sides share.
//!
//! A follower first asks for a snapshot, lines of JSON that begin with a [`Line::Begin`] and end with a [`Line::End`]. From then on it
//! asks for the [`News`] since its cursor, several times a second; each answer renews its lease.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::policy::Document;
use crate::{
    Holder, KeyDigest, KeyId, KeyKind, KeyRecord, Limit, LimitPlan, OrganizationId, OrganizationRole, Permissions,
    PolicyVersion, ProjectId, ProjectRole, Scope,
};

/// Where the snapshot is.
pub const SNAPSHOT: &str = "/api/follower/snapshot";
/// Where the news are.
pub const NEWS: &str = "/api/follower/news";
/// Where a follower says that it answers nothing any more.
pub const LEAVE: &str = "/api/follower/leave";

/// One thing to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum News {
    /// The newest state of a key that lives.
    Key(Box<Key>),
    /// A key is dead, for ever.
    Death {
        /// The first half of its digest, in hexadecimal digits.
        digest: String,
        /// Its number.
        id: i64,
    },
    /// Whether the keys of an organization pass.
    Organization {
        /// Its number.
        id: u32,
        /// Whether they do not.
        is_suspended: bool,
    },
    /// A policy that was applied.
    Policy {
        /// Its version.
        version: u32,
        /// What it says, if that can be told.
        document: Option<Document>,
    },
}

/// A key that lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// The first half of its digest, in hexadecimal digits: what an index looks at.
    digest: String,
    id: i64,
    version: u32,
    kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    organization: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    project: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    role: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    reach: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    permissions: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    limits: Vec<NamedLimit>,
}

/// A limit of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct NamedLimit {
    name: String,
    limit: u64,
    period: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    burst: Option<u64>,
}

/// A line of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    /// The first.
    Begin {
        /// From where on to ask for news.
        cursor: String,
        /// How far in the log of changes the snapshot is.
        seq: i64,
        /// About how many keys there are.
        keys: usize,
        /// Whether nothing is missing that was committed before it was asked for. Then whoever knows more knows what the store has lost.
        #[serde(default)]
        is_newest: bool,
    },
    /// The last: what comes before it is all.
    End {
        /// How many lines there were between the first and this.
        lines: u64,
    },
    /// One of those between.
    News(News),
}

/// What a follower asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// What it calls itself: 8 of a-z, drawn at its start.
    pub follower: String,
    /// How often it has asked for news.
    pub asked: i64,
    /// What it has applied.
    pub cursor: String,
    /// For how many milliseconds at the most it answers without hearing from a server.
    pub stale_ms: i64,
    /// The version of its library.
    pub version: String,
}

/// What a follower is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// From where on to ask the next time; `None` if the server cannot tell what is new since then: everything must be loaded anew.
    pub cursor: Option<String>,
    /// How far in the log of changes it is with these.
    pub seq: i64,
    /// In the order in which they came into force.
    pub news: Vec<News>,
    /// What the lease is, from the moment when this was asked; `None` if it is as it was.
    pub lease: Option<Lease>,
}

/// A lease, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// How old what is told may be.
    pub age: u64,
    /// How long it is as young as it should be.
    pub fresh: u64,
    /// How long it may be answered with.
    pub trusted: u64,
}

impl Lease {
    /// The lease on the clock of the follower that asked for it at `asked`, and answers no longer than `stale_limit`.
    pub fn since(self, asked: Duration, stale_limit: Duration) -> crate::Lease {
        let until = |milliseconds| asked + Duration::from_millis(milliseconds).min(stale_limit);
        crate::Lease {
            heard: asked.saturating_sub(Duration::from_millis(self.age)),
            fresh_until: until(self.fresh),
            trusted_until: until(self.trusted),
        }
    }
}

/// What was told cannot be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} cannot be read: is the server newer than this library?")]
pub struct Unreadable(String);

/// A key's news, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveKey {
    /// A digest of which only what an index looks at is right.
    pub digest: KeyDigest,
    /// Its newest state.
    pub record: KeyRecord,
}

impl News {
    /// That a key is dead.
    pub fn death(digest: &KeyDigest, id: KeyId) -> Self {
        Self::Death { digest: hex_of(digest), id: id.0 }
    }

    /// That a key lives.
    pub fn of_key(digest: &KeyDigest, record: &KeyRecord) -> Self {
        let (kind, tenant, role, scope) = match record.holder {
            Holder::Project { project, organization, kind, scope, role } => {
                (kind, (Some(project.0), Some(organization.0)), Some(role.as_str()), Some(scope.as_str()))
            }
            Holder::Organization { organization, role } => {
                (KeyKind::Organization, (None, Some(organization.0)), Some(role.as_str()), None)
            }
            Holder::Operator => (KeyKind::Operator, (None, None), None, None),
            Holder::Follower => (KeyKind::Follower, (None, None), None, None),
        };
        let limit = |limit: &Limit| NamedLimit {
            name: limit.name().to_owned(),
            limit: limit.limit(),
            period: limit.period().to_string(),
            burst: limit.window().is_none().then(|| limit.burst()),
        };
        Self::Key(Box::new(Key {
            digest: hex_of(digest),
            id: record.id.0,
            version: record.version,
            kind: kind.prefix().to_owned(),
            organization: tenant.1,
            project: tenant.0,
            role: role.map(str::to_owned),
            scope: scope.map(str::to_owned),
            reach: record.reach.0,
            permissions: record.permissions.iter().map(str::to_owned).collect(),
            limits: record.limits.limits().iter().map(limit).collect(),
        }))
    }
}

impl Key {
    /// What it says.
    ///
    /// # Errors
    /// [`Unreadable`] if it is no key.
    pub fn read(&self) -> Result<LiveKey, Unreadable> {
        let unreadable = || Unreadable(format!("key {}", self.id));
        let holder = self.holder().ok_or_else(unreadable)?;
        let limits = self.limits.iter().map(|limit| {
            let period = limit.period.parse().map_err(|_bad| unreadable())?;
            Limit::new(&limit.name, limit.limit, period, limit.burst).map_err(|_bad| unreadable())
        });
        let record = KeyRecord {
            id: KeyId(self.id),
            version: self.version,
            holder,
            reach: PolicyVersion(self.reach),
            permissions: Permissions::new(self.permissions.iter().map(String::as_str)),
            limits: LimitPlan::new(limits.collect::<Result<Vec<_>, _>>()?),
            // Nobody asks a follower to revoke anything.
            is_system: false,
        };
        Ok(LiveKey { digest: digest_of(&self.digest)?, record })
    }

    fn holder(&self) -> Option<Holder> {
        let role = self.role.as_deref();
        let organization = || self.organization.map(OrganizationId);
        Some(match KeyKind::ALL.into_iter().find(|kind| kind.prefix() == self.kind)? {
            kind @ (KeyKind::Secret | KeyKind::Publishable) => Holder::Project {
                project: self.project.map(ProjectId)?,
                organization: organization()?,
                kind,
                scope: Scope::effective(kind, self.scope.as_deref()?.parse().ok()?),
                role: role?.parse::<ProjectRole>().ok()?,
            },
            KeyKind::Organization => {
                Holder::Organization { organization: organization()?, role: role?.parse::<OrganizationRole>().ok()? }
            }
            KeyKind::Operator => Holder::Operator,
            KeyKind::Follower => Holder::Follower,
        })
    }
}

/// The first half of a digest, in hexadecimal digits: what an index finds a key by.
pub fn hex_of(digest: &KeyDigest) -> String {
    let [first, second] = digest.words();
    format!("{first:016x}{second:016x}")
}

/// A digest of which only what an index looks at is right.
///
/// # Errors
/// [`Unreadable`] if it is none.
pub fn digest_of(hex: &str) -> Result<KeyDigest, Unreadable> {
    let unreadable = || Unreadable("a digest".to_owned());
    let (first, second) = hex.split_at_checked(16).filter(|(_, rest)| rest.len() == 16).ok_or_else(unreadable)?;
    let word = |text| u64::from_str_radix(text, 16).map_err(|_bad| unreadable());
    Ok(KeyDigest::of_words([word(first)?, word(second)?]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ApiKey, Period, Window};

    #[test]
    fn every_holder_comes_back_as_it_was_and_is_found_by_its_digest() {
        let (project, organization) = (ProjectId(7), OrganizationId(3));
        let of_project = |kind, scope, role| Holder::Project { project, organization, kind, scope, role };
        let holders = [
            of_project(KeyKind::Secret, Scope::Secret, ProjectRole::Admin),
            of_project(KeyKind::Publishable, Scope::Public, ProjectRole::Support),
            Holder::Organization { organization, role: OrganizationRole::Member },
            Holder::Operator,
            Holder::Follower,
        ];
        for (number, holder) in (1..).zip(holders) {
            let digest = KeyDigest::of(&ApiKey::generate(KeyKind::Secret, &[number; ApiKey::RANDOM_BYTES]));
            let mut record = KeyRecord::new(KeyId(number.into()), 9, holder);
            record.reach = PolicyVersion(4);
            record.permissions = Permissions::new(["b:c", "a:b"]);
            let rate = Limit::new("rate", 10, Period::Seconds(90), Some(4)).unwrap();
            let quota = Limit::new("quota", 10, Period::Calendar(Window::Month), None).unwrap();
            record.limits = LimitPlan::new(vec![rate, quota]);
            let line = serde_json::to_string(&Line::News(News::of_key(&digest, &record))).unwrap();
            let Line::News(News::Key(key)) = serde_json::from_str(&line).unwrap() else { panic!("{line}") };
            let read = key.read().unwrap();
            assert_eq!((read.record, read.digest.words()), (record, digest.words()));
        }
    }

    #[test]
    fn what_is_no_key_is_not_taken_for_one() {
        assert!(digest_of("0123456789abcdef0123456789abcdef").is_ok());
        for text in ["", "0123456789abcdef", "0123456789abcdef0123456789abcdeg", "0123456789abcdef0123456789abcdef0"] {
            assert!(digest_of(text).is_err(), "{text}");
        }
        let key = |kind: &str, role| Key {
            digest: "0".repeat(32),
            id: 1,
            version: 1,
            kind: kind.to_owned(),
            organization: Some(1),
            project: Some(1),
            role: Some(String::from(role)),
            scope: Some("secret".to_owned()),
            reach: 0,
            permissions: Vec::new(),
            limits: Vec::new(),
        };
        assert!(key("sk_", "admin").read().is_ok());
        assert!(key("zz_", "admin").read().is_err());
        assert!(key("sk_", "emperor").read().is_err());
    }
}
