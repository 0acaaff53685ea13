//! Organizations, for the operator.

use std::sync::Arc;

use axum::extract::{RawQuery, Request, State};
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::body::{self, Object};
use super::super::caller::{As, Caller, Operator};
use super::super::changing::{self, Asked, Job};
use super::super::described::{ListParams, OnceHeader, Refused};
use super::super::effective::{Archived, Reached};
use super::super::fields::Fields;
use super::super::keys::OrganizationKeyBody;
use super::super::paging::{self, Page};
use super::super::path::{Ids, organization_id};
use super::super::problem::Problem;
use super::super::{ok, query, raw_json, to_json};
use crate::actor::ActorBody;
use crate::app::App;
use crate::listing::List;
use crate::organizations::{self, MOST_USERNAME_CHARACTERS};
use crate::place::Place;
use crate::projects::MOST_WORD_CHARACTERS;
use crate::refusal::Refusal;
use crate::store::{Beneath, Find as _, Need};
use crate::tenancy::{Organization, Standing};

/// An organization as the operator sees it.
#[derive(Serialize, ToSchema)]
#[schema(as = Organization)]
pub(in crate::http) struct OrganizationBody<'a> {
    /// Number of the organization.
    #[schema(example = 2)]
    id: u32,
    /// Its short name.
    #[schema(example = "acme")]
    username: &'a str,
    /// The domain it is known by.
    #[schema(example = "acme.example")]
    domain: Option<&'a str>,
    /// `active` or `suspended`; `archived` in the reply that archives it.
    #[schema(example = "active")]
    state: &'static str,
    /// How many projects it has.
    #[schema(example = 1)]
    projects: i64,
    /// How many keys beneath it are not revoked.
    #[schema(example = 12)]
    live_keys: i64,
    /// When it was made.
    #[schema(example = "2026-04-28T09:30:00.000Z", format = DateTime)]
    created_at: String,
    /// When it was last changed.
    #[schema(example = "2026-04-28T09:30:00.000Z", format = DateTime)]
    updated_at: String,
    /// Who made it.
    created_by: ActorBody,
    /// Who changed it last.
    last_changed_by: ActorBody,
}

impl<'a> OrganizationBody<'a> {
    fn of(organization: &'a Organization, beneath: Beneath) -> Self {
        Self {
            id: organization.id.0,
            username: &organization.username,
            domain: organization.domain.as_deref(),
            state: if organization.archived_at.is_some() { "archived" } else { organization.standing.as_str() },
            projects: beneath.projects,
            live_keys: beneath.live_keys,
            created_at: organization.history.created_at.to_string(),
            updated_at: organization.history.updated_at.to_string(),
            created_by: organization.history.created_by.body(),
            last_changed_by: organization.history.changed_by.body(),
        }
    }
}

/// An organization that was just made.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct NewOrganization<'a> {
    /// The organization.
    organization: OrganizationBody<'a>,
    /// Its first key, of role `owner`, with the whole value, this one time.
    owner_key: OrganizationKeyBody<'a>,
}

/// An organization to create.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"username": "acme", "domain": "acme.example"}))]
#[expect(dead_code, reason = "describes the body in the OpenAPI document; `parse_new` reads it")]
pub(in crate::http) struct CreateOrganization {
    /// 1 to 64 of `a-z`, `0-9` and `-`; no other organization has or had it.
    #[schema(min_length = 1, max_length = 64, pattern = "^[a-z0-9-]+$")]
    username: String,
    /// A domain name, or null for none.
    #[schema(max_length = 255)]
    domain: Option<String>,
}

fn parse_new(body: Object) -> Result<(String, Option<String>), Problem> {
    let mut fields = Fields::of(body);
    let slug = "must have only a-z, 0-9 and -";
    let username = fields.line_that("username", MOST_USERNAME_CHARACTERS, is_slug, slug);
    let username = fields.require("username", username).unwrap_or_default();
    let domain = "must be a domain name in lower case, such as acme.example";
    let domain = fields.line_or_null("domain", MOST_WORD_CHARACTERS, is_domain, domain).flatten();
    fields.finish()?;
    Ok((username, domain))
}

fn is_slug(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// Labels of letters, digits and inner hyphens (RFC 1123, section 2.1), in lower case.
fn is_domain(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len()) && is_slug(label) && !label.starts_with('-') && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

/// Create an organization
///
/// The reply holds the value of its first owner key, this one time.
#[utoipa::path(
    post, path = "/api/operator/organizations", operation_id = "createOrganization", tag = "Operation",
    params(OnceHeader), request_body = CreateOrganization,
    responses((status = 200, description = "The organization and its first key", body = NewOrganization<'static>), Refused)
)]
pub(in crate::http) async fn create(
    State(app): State<Arc<App>>,
    As(caller, _): As<Operator>,
    request: Request,
) -> Result<Response, Problem> {
    let asked = Asked::read(request).await?;
    let new = body::parse(&asked.body).and_then(parse_new);
    changing::once(app, caller, asked, new, Need::Ordinary, |job: Job<'_>, (username, domain)| {
        Box::pin(async move {
            let Job { app, caller, writing } = job;
            let (random, by) = (app.random.as_ref(), caller.by());
            let (organization, key, value) =
                organizations::create(writing, username.clone(), domain.clone(), &by, random).await?;
            let beneath = writing.counts_beneath(organization.id).await?;
            let organization = OrganizationBody::of(&organization, beneath);
            Ok(to_json(&NewOrganization { organization, owner_key: OrganizationKeyBody::whole(&key, &value)? }))
        })
    })
    .await
}

/// List organizations
///
/// Newest first; archived ones are not among them.
#[utoipa::path(
    get, path = "/api/operator/organizations", operation_id = "listOrganizations", tag = "Operation",
    params(ListParams),
    responses((status = 200, description = "A page of organizations", body = Page<OrganizationBody<'static>>), Refused)
)]
pub(in crate::http) async fn list(
    State(app): State<Arc<App>>,
    As(caller, _): As<Operator>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let read = |store: &_, row: &_| crate::store::Store::read_organization(store, row);
    paging::of_query(&app, &caller, &List::Organizations, query.as_deref(), read, |(organization, beneath)| {
        Ok(raw_json(&OrganizationBody::of(organization, *beneath)))
    })
    .await
}

/// Read an organization
#[utoipa::path(
    get, path = "/api/operator/organizations/{organizationId}", operation_id = "readOrganization", tag = "Operation",
    params(("organizationId" = i64, Path, description = "Number of the organization", example = 2)),
    responses((status = 200, description = "The organization", body = OrganizationBody<'static>), Refused)
)]
pub(in crate::http) async fn read(
    State(app): State<Arc<App>>,
    _operator: As<Operator>,
    Ids([id]): Ids<1>,
) -> Result<Response, Problem> {
    let organization = (&*app.store).find::<Organization>(organization_id(id)).await?.ok_or_else(Problem::missing)?;
    let beneath = app.store.counts_beneath(organization.id).await?;
    Ok(ok(to_json(&OrganizationBody::of(&organization, beneath))))
}

/// Suspend an organization
///
/// No key beneath it passes from when the reply is sent, until it is resumed.
#[utoipa::path(
    post, path = "/api/operator/organizations/{organizationId}/suspend", operation_id = "suspendOrganization",
    tag = "Operation",
    params(("organizationId" = i64, Path, description = "Number of the organization", example = 2), OnceHeader),
    responses((status = 200, description = "The organization, suspended", body = Reached<OrganizationBody<'static>>), Refused)
)]
pub(in crate::http) async fn suspend(
    State(app): State<Arc<App>>,
    As(caller, _): As<Operator>,
    Ids([id]): Ids<1>,
    request: Request,
) -> Result<Response, Problem> {
    set_standing(app, caller, id, request, Standing::Suspended, Need::Revocation).await
}

/// Resume an organization
///
/// Its keys pass again, but for those that were revoked.
#[utoipa::path(
    post, path = "/api/operator/organizations/{organizationId}/resume", operation_id = "resumeOrganization",
    tag = "Operation",
    params(("organizationId" = i64, Path, description = "Number of the organization", example = 2), OnceHeader),
    responses((status = 200, description = "The organization, active", body = OrganizationBody<'static>), Refused)
)]
pub(in crate::http) async fn resume(
    State(app): State<Arc<App>>,
    As(caller, _): As<Operator>,
    Ids([id]): Ids<1>,
    request: Request,
) -> Result<Response, Problem> {
    set_standing(app, caller, id, request, Standing::Active, Need::Ordinary).await
}

async fn set_standing(
    app: Arc<App>,
    caller: Caller,
    id: i64,
    request: Request,
    standing: Standing,
    need: Need,
) -> Result<Response, Problem> {
    let (asked, checked) = Asked::read_bare(request).await?;
    changing::once(app, caller, asked, checked, need, move |job: Job<'_>, ()| {
        Box::pin(async move {
            let Job { caller, writing, .. } = job;
            let id = organization_id(id);
            let organization = organizations::set_standing(writing, id, standing, &caller.by()).await?;
            let beneath = writing.counts_beneath(id).await?;
            Ok(to_json(&OrganizationBody::of(&organization, beneath)))
        })
    })
    .await
}

/// Archive an organization
///
/// Revokes every key beneath it, for ever, in one transaction. Without `confirm=true` nothing is done, and the refusal
/// (409) says how many keys would die.
#[utoipa::path(
    delete, path = "/api/operator/organizations/{organizationId}", operation_id = "archiveOrganization",
    tag = "Operation",
    params(
        ("organizationId" = i64, Path, description = "Number of the organization", example = 2),
        ("confirm" = Option<bool>, Query, description = "`true` to do it"),
    ),
    responses(
        (status = 200, description = "The organization, archived", body = Reached<Archived<OrganizationBody<'static>>>),
        Refused,
    )
)]
pub(in crate::http) async fn archive(
    State(app): State<Arc<App>>,
    As(caller, _): As<Operator>,
    Ids([id]): Ids<1>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let id = organization_id(id);
    if !query::is_confirmed(query.as_deref())? {
        (&*app.store).find::<Organization>(id).await?.ok_or_else(Problem::missing)?;
        let keys = app.store.count_live_keys(Place::Beneath(id)).await?;
        return Err(Refusal::Unconfirmed { keys }.into());
    }
    changing::done(app, caller, Need::Revocation, move |job: Job<'_>| {
        Box::pin(async move {
            let Job { caller, writing, .. } = job;
            let (organization, keys) = organizations::archive(writing, id, &caller.by()).await?;
            let body = OrganizationBody::of(&organization, Beneath::default());
            Ok(to_json(&Archived::with(body, keys)))
        })
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_slug_and_a_domain() {
        for (text, expected) in [("acme-2", true), ("Acme", false), ("a_b", false), ("caf\u{e9}", false)] {
            assert_eq!(is_slug(text), expected, "{text}");
        }
        for (text, expected) in [
            ("acme.example", true),
            ("localhost", true),
            ("a..b", false),
            ("-a.b", false),
            ("a.b/", false),
            ("A.b", false),
        ] {
            assert_eq!(is_domain(text), expected, "{text}");
        }
    }
}
