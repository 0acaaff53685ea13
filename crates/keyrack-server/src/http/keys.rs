//! Keys on the wire, of every kind: what is sent, and what is asked for.

use keyrack::{ApiKey, Holder, OrganizationRole, PolicyVersion, ProjectRole, Scope};
use serde::Serialize;
use utoipa::ToSchema;

use super::body::Object;
use super::fields::Fields;
use super::problem::Problem;
use crate::actor::ActorBody;
use crate::key_limits::LimitBody;
use crate::keys::{KeyPatch, Labels, LabelsPatch, MOST_DESCRIPTION_CHARACTERS, MOST_NAME_CHARACTERS, NewKey, Powers};
use crate::store::StoreError;
use crate::stored_key::StoredKey;
use crate::usage::LastUse;

/// A project's key on the wire.
#[derive(Serialize, ToSchema)]
#[schema(as = Key)]
pub struct KeyBody<'a> {
    /// Number of the key.
    #[schema(example = 4)]
    id: i64,
    /// Number of its project.
    #[schema(example = 1)]
    project_id: u32,
    /// What people call it.
    #[schema(example = "CI bot")]
    name: &'a str,
    /// Which endpoints it can reach: `public` or `secret`.
    #[schema(example = "secret")]
    scope: &'static str,
    /// How much it may do: `support`, `smtpproxy`, `editor`, `publisher` or `admin`.
    #[schema(example = "support")]
    role: &'static str,
    /// The mask. Only the reply that creates a key holds the whole value.
    #[schema(example = "sk_****S1T2")]
    value: &'a str,
    /// When it was made.
    #[schema(example = "2026-04-28T09:30:00.000Z", format = DateTime)]
    created_at: String,
    /// When it was last changed.
    #[schema(example = "2026-04-28T09:30:00.000Z", format = DateTime)]
    updated_at: String,
    /// What people say of it.
    description: Option<&'a str>,
    /// Whether the service made it for itself. Its tenant can neither change nor revoke it.
    is_system_key: bool,
    /// What it holds besides its role, `resource:action`.
    #[schema(example = json!(["events:write"]))]
    permissions: Vec<&'a str>,
    /// The limits of its own. The installation may set others for every key.
    limits: Vec<LimitBody<'a>>,
    /// The policy at whose version its reach is frozen while its scope is public; 0 is before the first.
    #[schema(example = 1)]
    policy_version: u32,
    /// When a verification last let it pass, up to a few seconds behind; null if none did.
    #[schema(example = "2026-04-28T09:30:00.000Z", format = DateTime)]
    last_used_at: Option<String>,
    /// By which rule of the policy that was, if it is known.
    #[schema(example = "POST /events")]
    last_used_route: Option<&'a str>,
    /// Who made it.
    created_by: ActorBody,
    /// Who changed it last.
    last_changed_by: ActorBody,
}

impl<'a> KeyBody<'a> {
    /// As everybody but its creator sees it.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if it is not a project's key.
    pub(super) fn masked(key: &'a StoredKey, last_use: Option<&'a LastUse>) -> Result<Self, StoreError> {
        let Holder::Project { project, scope, role, .. } = key.holder else { return Err(of_another_kind(key)) };
        Ok(Self {
            id: key.id.0,
            project_id: project.0,
            name: &key.name,
            scope: scope.as_str(),
            role: role.as_str(),
            value: key.mask.as_str(),
            created_at: key.history.created_at.to_string(),
            updated_at: key.history.updated_at.to_string(),
            description: key.description.as_deref(),
            is_system_key: key.is_system,
            permissions: key.permissions.iter().collect(),
            limits: key.limits.iter().map(LimitBody::of).collect(),
            policy_version: key.reach.0,
            last_used_at: last_use.map(|last| last.at.to_string()),
            last_used_route: last_use.and_then(|last| last.route.as_deref()),
            created_by: key.history.created_by.body(),
            last_changed_by: key.history.changed_by.body(),
        })
    }

    /// As its creator sees it, this one time.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if it is not a project's key.
    pub(super) fn whole(key: &'a StoredKey, value: &'a ApiKey) -> Result<Self, StoreError> {
        Ok(Self { value: value.expose(), ..Self::masked(key, None)? })
    }
}

/// An organization's key on the wire.
#[derive(Serialize, ToSchema)]
#[schema(as = OrganizationKey)]
pub struct OrganizationKeyBody<'a> {
    /// Number of the key.
    #[schema(example = 5)]
    id: i64,
    /// Number of its organization.
    #[schema(example = 1)]
    organization_id: u32,
    /// What people call it.
    #[schema(example = "Provisioning")]
    name: &'a str,
    /// How much it may do: `member`, `admin` or `owner`.
    #[schema(example = "admin")]
    role: &'static str,
    /// The mask. Only the reply that creates a key holds the whole value.
    #[schema(example = "ok_****S1T2")]
    value: &'a str,
    /// When it was made.
    #[schema(example = "2026-04-28T09:30:00.000Z", format = DateTime)]
    created_at: String,
    /// When it was last changed.
    #[schema(example = "2026-04-28T09:30:00.000Z", format = DateTime)]
    updated_at: String,
    /// What people say of it.
    description: Option<&'a str>,
    /// Who made it.
    created_by: ActorBody,
    /// Who changed it last.
    last_changed_by: ActorBody,
}

impl<'a> OrganizationKeyBody<'a> {
    /// As everybody but its creator sees it.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if it is not an organization's key.
    pub(super) fn masked(key: &'a StoredKey) -> Result<Self, StoreError> {
        let Holder::Organization { organization, role } = key.holder else { return Err(of_another_kind(key)) };
        Ok(Self {
            id: key.id.0,
            organization_id: organization.0,
            name: &key.name,
            role: role.as_str(),
            value: key.mask.as_str(),
            created_at: key.history.created_at.to_string(),
            updated_at: key.history.updated_at.to_string(),
            description: key.description.as_deref(),
            created_by: key.history.created_by.body(),
            last_changed_by: key.history.changed_by.body(),
        })
    }

    /// As its creator sees it, this one time.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if it is not an organization's key.
    pub(super) fn whole(key: &'a StoredKey, value: &'a ApiKey) -> Result<Self, StoreError> {
        Ok(Self { value: value.expose(), ..Self::masked(key)? })
    }
}

/// An operator's key on the wire.
#[derive(Serialize, ToSchema)]
#[schema(as = OperatorKey)]
pub struct OperatorKeyBody<'a> {
    /// Number of the key.
    #[schema(example = 1)]
    id: i64,
    /// What people call it.
    #[schema(example = "On call")]
    name: &'a str,
    /// The mask. Only the reply that creates a key holds the whole value.
    #[schema(example = "op_****S1T2")]
    value: &'a str,
    /// When it was made.
    #[schema(example = "2026-04-28T09:30:00.000Z", format = DateTime)]
    created_at: String,
    /// When it was last changed.
    #[schema(example = "2026-04-28T09:30:00.000Z", format = DateTime)]
    updated_at: String,
    /// What people say of it.
    description: Option<&'a str>,
    /// Who made it.
    created_by: ActorBody,
    /// Who changed it last.
    last_changed_by: ActorBody,
}

impl<'a> OperatorKeyBody<'a> {
    /// As everybody but its creator sees it.
    pub(super) fn masked(key: &'a StoredKey) -> Self {
        Self {
            id: key.id.0,
            name: &key.name,
            value: key.mask.as_str(),
            created_at: key.history.created_at.to_string(),
            updated_at: key.history.updated_at.to_string(),
            description: key.description.as_deref(),
            created_by: key.history.created_by.body(),
            last_changed_by: key.history.changed_by.body(),
        }
    }

    /// As its creator sees it, this one time.
    pub(super) fn whole(key: &'a StoredKey, value: &'a ApiKey) -> Self {
        Self { value: value.expose(), ..Self::masked(key) }
    }
}

fn of_another_kind(key: &StoredKey) -> StoreError {
    StoreError::Damaged { what: format!("key {} is of another kind than where it was found", key.id) }
}

/// A project's key to create.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "CI bot"}))]
#[expect(dead_code, reason = "describes the body in the OpenAPI document; `parse_new` reads it")]
pub struct CreateKey {
    /// 1 to 255 characters after trimming, no control characters. Need not be unique.
    #[schema(min_length = 1, max_length = 255, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$")]
    name: String,
    /// `secret` (the default) or `public`.
    #[schema(default = "secret", nullable = false, pattern = "^(public|secret)$")]
    scope: Option<String>,
    /// `support` (the default), `smtpproxy`, `editor`, `publisher` or `admin`; not above the caller's own.
    #[schema(default = "support", nullable = false, pattern = "^(support|smtpproxy|editor|publisher|admin)$")]
    role: Option<String>,
    /// At most 2,048 characters.
    #[schema(max_length = 2048)]
    description: Option<String>,
    /// What it holds besides its role; none if left out.
    #[schema(max_items = 100, nullable = false, example = json!(["events:write"]))]
    permissions: Option<Vec<String>>,
    /// The limits of its own; none if left out.
    #[schema(max_items = 8, nullable = false)]
    limits: Option<Vec<LimitBody<'static>>>,
}

/// What to change of a project's key. What is left out stays as it is.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"role": "editor", "description": "Deploys from main"}))]
#[expect(dead_code, reason = "describes the body in the OpenAPI document; `parse_patch` reads it")]
pub struct ChangeKey {
    /// 1 to 255 characters after trimming, no control characters.
    #[schema(min_length = 1, max_length = 255, nullable = false, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$")]
    name: Option<String>,
    /// `secret` or `public`; a publishable key stays public.
    #[schema(pattern = "^(public|secret)$", nullable = false)]
    scope: Option<String>,
    /// `support`, `smtpproxy`, `editor`, `publisher` or `admin`; not above the caller's own.
    #[schema(pattern = "^(support|smtpproxy|editor|publisher|admin)$", nullable = false)]
    role: Option<String>,
    /// At most 2,048 characters, or null for none.
    #[schema(max_length = 2048)]
    description: Option<String>,
    /// All that it is to hold besides its role, instead of what it holds.
    #[schema(max_items = 100, nullable = false)]
    permissions: Option<Vec<String>>,
    /// All limits that it is to have of its own, instead of those it has.
    #[schema(max_items = 8, nullable = false)]
    limits: Option<Vec<LimitBody<'static>>>,
    /// Freezes the reach of a publishable key at this version of the policy. This is how it gains routes that were opened
    /// after it was issued.
    #[schema(nullable = false, minimum = 0)]
    policy_version: Option<u32>,
}

/// What a create of a project's key asks for.
///
/// # Errors
/// A problem with every fault of the body.
pub fn parse_new(body: Object) -> Result<NewKey, Problem> {
    let mut fields = Fields::of(body);
    let labels = labels(&mut fields);
    let new = NewKey {
        scope: fields.word("scope").unwrap_or(Scope::Secret),
        role: fields.word("role").unwrap_or(ProjectRole::Support),
        powers: Powers {
            permissions: fields.permissions("permissions").unwrap_or_default(),
            limits: fields.limits("limits").unwrap_or_default(),
        },
        labels,
    };
    fields.finish()?;
    Ok(new)
}

/// What a patch of a project's key asks for.
///
/// # Errors
/// A problem with every fault of the body.
pub fn parse_patch(body: Object) -> Result<KeyPatch, Problem> {
    let mut fields = Fields::of(body);
    let labels = labels_patch(&mut fields);
    let patch = KeyPatch {
        labels,
        scope: fields.word("scope"),
        role: fields.word("role"),
        permissions: fields.permissions("permissions"),
        limits: fields.limits("limits"),
        reach: fields.number("policy_version").map(PolicyVersion),
    };
    fields.finish()?;
    Ok(patch)
}

/// What a create of an organization's key asks for.
///
/// # Errors
/// A problem with every fault of the body.
pub(super) fn parse_new_organization_key(body: Object) -> Result<(Labels, OrganizationRole), Problem> {
    let mut fields = Fields::of(body);
    let new = (labels(&mut fields), fields.word("role").unwrap_or(OrganizationRole::Admin));
    fields.finish()?;
    Ok(new)
}

/// What a patch of an organization's key asks for.
///
/// # Errors
/// A problem with every fault of the body.
pub(super) fn parse_organization_key_patch(body: Object) -> Result<(LabelsPatch, Option<OrganizationRole>), Problem> {
    let mut fields = Fields::of(body);
    let patch = (labels_patch(&mut fields), fields.word("role"));
    fields.finish()?;
    Ok(patch)
}

/// What a create of an operator's key asks for.
///
/// # Errors
/// A problem with every fault of the body.
pub(super) fn parse_new_operator_key(body: Object) -> Result<Labels, Problem> {
    let mut fields = Fields::of(body);
    let labels = labels(&mut fields);
    fields.finish()?;
    Ok(labels)
}

fn labels(fields: &mut Fields) -> Labels {
    let name = fields.line("name", MOST_NAME_CHARACTERS);
    let name = fields.require("name", name).unwrap_or_default();
    Labels { name, description: fields.text_or_null("description", MOST_DESCRIPTION_CHARACTERS).flatten() }
}

fn labels_patch(fields: &mut Fields) -> LabelsPatch {
    LabelsPatch {
        name: fields.line("name", MOST_NAME_CHARACTERS),
        description: fields.text_or_null("description", MOST_DESCRIPTION_CHARACTERS),
    }
}
