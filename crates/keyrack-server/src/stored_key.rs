//! A key as it is kept.

use keyrack::{
    Holder, KeyDigest, KeyId, KeyKind, KeyRecord, Limit, LimitPlan, MaskedKey, OrganizationId, Permissions,
    PolicyVersion, ProjectId, Scope,
};
use serde::Serialize;

use crate::canonical::Canonical;
use crate::clock::Timestamp;
use crate::kept::{History, Kept, Kind, Tenant};
use crate::key_limits::LimitBody;

/// Everything that is kept of a key. The value is not among it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredKey {
    /// Its number.
    pub id: KeyId,
    /// How often it was written, from 1.
    pub version: u32,
    /// Whom it speaks for.
    pub holder: Holder,
    /// What it holds besides its role.
    pub permissions: Permissions,
    /// The limits of its own, in the order of their names; those of the installation come to them.
    pub limits: Vec<Limit>,
    /// The policy at whose version its reach is frozen while its scope is public.
    pub reach: PolicyVersion,
    /// Made by the service for itself: the tenant sees it and cannot touch it.
    pub is_system: bool,
    /// What people call it.
    pub name: String,
    /// What people say of it.
    pub description: Option<String>,
    /// What may be shown of the value.
    pub mask: MaskedKey,
    /// SHA-256 of the value.
    pub digest: KeyDigest,
    /// Who made and changed it.
    pub history: History,
    /// When it died, if it did.
    pub revoked_at: Option<Timestamp>,
}

/// The columns that say whom a key speaks for; the two forms are inverse where both exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HolderColumns {
    /// Position in [`KeyKind::ALL`].
    pub kind: i64,
    /// Number of the organization, unless an operator's key.
    pub organization: Option<i64>,
    /// Number of the project, if a project's key.
    pub project: Option<i64>,
    /// Position in the roles of that kind; 0 for an operator.
    pub role: i64,
    /// Position in [`Scope::ALL`]; secret for keys that have no scope.
    pub scope: i64,
}

impl StoredKey {
    /// What the index holds of it.
    pub fn record(&self) -> KeyRecord {
        let (permissions, limits) = (self.permissions.clone(), LimitPlan::new(self.limits.iter().cloned()));
        let &Self { id, version, holder, reach, is_system, .. } = self;
        KeyRecord { id, version, holder, reach, permissions, limits, is_system }
    }
}

/// The columns of what is variable in length; the two forms are inverse.
impl StoredKey {
    /// Permissions, one after the other.
    pub fn permissions_column(&self) -> String {
        self.permissions.iter().collect::<Vec<_>>().join(" ")
    }

    /// The permissions of a column, if it is one.
    pub fn permissions_of(column: &str) -> Option<Permissions> {
        let permissions = Permissions::new(column.split_ascii_whitespace());
        (permissions.iter().collect::<Vec<_>>().join(" ") == column).then_some(permissions)
    }

    /// Limits as JSON; nothing if there are none.
    pub fn limits_column(&self) -> String {
        limits_column(&self.limits)
    }

    /// The limits of a column, if it is one.
    pub fn limits_of(column: &str) -> Option<Vec<Limit>> {
        let bodies: Vec<LimitBody<'_>> =
            if column.is_empty() { Vec::new() } else { serde_json::from_str(column).ok()? };
        let limits: Vec<_> = bodies.iter().map(|body| body.limit().ok()).collect::<Option<_>>()?;
        (limits_column(&limits) == column).then_some(limits)
    }
}

fn limits_column(limits: &[Limit]) -> String {
    if limits.is_empty() {
        return String::new();
    }
    let bodies: Vec<_> = limits.iter().map(LimitBody::of).collect();
    serde_json::to_string(&bodies).expect("a limit is plain data")
}

impl Kept for StoredKey {
    const KIND: Kind = Kind::Key;

    fn id(&self) -> i64 {
        self.id.0
    }

    fn version(&self) -> u32 {
        self.version
    }

    fn tenant(&self) -> Tenant {
        let columns = HolderColumns::of(self.holder);
        Tenant { organization: columns.organization, project: columns.project }
    }

    fn is_live(&self) -> bool {
        self.revoked_at.is_none()
    }

    fn canonical(&self) -> Canonical {
        let columns = HolderColumns::of(self.holder);
        let canonical = Canonical::new("api key row")
            .int(self.id.0)
            .int(columns.kind)
            .maybe_int(columns.organization)
            .maybe_int(columns.project)
            .int(columns.role)
            .int(columns.scope)
            .text(&self.permissions_column())
            .text(&self.limits_column())
            .int(self.reach.0.into())
            .int(self.is_system.into())
            .text(&self.name)
            .maybe_text(self.description.as_deref())
            .text(self.mask.as_str())
            .bytes(self.digest.as_bytes())
            .maybe_int(self.revoked_at.map(|at| at.0))
            .int(self.version.into());
        self.history.added_to(canonical)
    }

    /// All but the digest, the value, and what it shares with its entries.
    fn describe(&self) -> String {
        let (scope, role) = match self.holder {
            Holder::Project { scope, role, .. } => (Some(scope.as_str()), Some(role.as_str())),
            Holder::Organization { role, .. } => (None, Some(role.as_str())),
            Holder::Operator | Holder::Follower => (None, None),
        };
        let described = Described {
            name: &self.name,
            scope,
            role,
            value: self.mask.as_str(),
            description: self.description.as_deref(),
            permissions: self.permissions.iter().collect(),
            limits: self.limits.iter().map(LimitBody::of).collect(),
            policy_version: matches!(self.holder, Holder::Project { .. }).then_some(self.reach.0),
            is_system_key: self.is_system,
            revoked_at: self.revoked_at.map(|at| at.to_string()),
        };
        serde_json::to_string(&described).expect("a key is plain data")
    }
}

#[derive(Serialize)]
struct Described<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    value: &'a str,
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    permissions: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    limits: Vec<LimitBody<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy_version: Option<u32>,
    is_system_key: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_at: Option<String>,
}

impl HolderColumns {
    /// The columns of a holder.
    pub fn of(holder: Holder) -> Self {
        let position = |kind| KeyKind::ALL.iter().position(|known| *known == kind).map_or(0, |at| at as i64);
        match holder {
            Holder::Project { project, organization, kind, scope, role } => Self {
                kind: position(kind),
                organization: Some(organization.0.into()),
                project: Some(project.0.into()),
                role: role.position().into(),
                scope: scope.position().into(),
            },
            Holder::Organization { organization, role } => Self {
                kind: position(KeyKind::Organization),
                organization: Some(organization.0.into()),
                project: None,
                role: role.position().into(),
                scope: Scope::Secret.position().into(),
            },
            Holder::Operator | Holder::Follower => Self {
                kind: position(if holder == Holder::Operator { KeyKind::Operator } else { KeyKind::Follower }),
                organization: None,
                project: None,
                role: 0,
                scope: Scope::Secret.position().into(),
            },
        }
    }

    /// The holder of columns, if they are those of one.
    pub fn holder(self) -> Option<Holder> {
        let role = u8::try_from(self.role).ok()?;
        let organization = || Some(OrganizationId(u32::try_from(self.organization?).ok()?));
        let kind = *KeyKind::ALL.get(usize::try_from(self.kind).ok()?)?;
        let holder = match kind {
            KeyKind::Secret | KeyKind::Publishable => Holder::Project {
                project: ProjectId(u32::try_from(self.project?).ok()?),
                organization: organization()?,
                kind,
                scope: Scope::effective(kind, Scope::from_position(u8::try_from(self.scope).ok()?)?),
                role: keyrack::ProjectRole::from_position(role)?,
            },
            KeyKind::Organization => Holder::Organization {
                organization: organization()?,
                role: keyrack::OrganizationRole::from_position(role)?,
            },
            KeyKind::Operator => Holder::Operator,
            KeyKind::Follower => Holder::Follower,
        };
        // Columns that another holder would have written the same way, or that nobody would have, are not accepted.
        (Self::of(holder) == self).then_some(holder)
    }
}
