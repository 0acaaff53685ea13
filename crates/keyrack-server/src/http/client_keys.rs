//! `/api/client/keys`: a project's keys, for a caller with a secret key of role `admin` (contract section 2).

use std::sync::Arc;

use axum::extract::{RawQuery, Request, State};
use axum::response::Response;
use keyrack::{Holder, KeyId, ProjectRole, Scope};
use serde::Serialize;
use utoipa::ToSchema;

use super::body::{self, Object};
use super::caller::ProjectAdmin;
use super::changing::{self, Asked, Job};
use super::fields::Fields;
use super::path::KeyNumber;
use super::problem::{Code, Problem, ProblemDocument};
use super::query;
use crate::app::App;
use crate::keys::{self, KeyPatch, KeysError, MOST_DESCRIPTION_CHARACTERS, MOST_NAME_CHARACTERS, NewKey};
use crate::listing::{ALL, Anchor, MOST_ROWS_OF_ALL, Page};
use crate::replies::ReplyBody;
use crate::store::{Need, StoreError};
use crate::stored_key::StoredKey;

/// A key on the wire.
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
    /// Whether the service made it for itself. Such a key can be neither changed nor revoked here.
    is_system_key: bool,
}

/// A key that was just revoked.
#[derive(Serialize, ToSchema)]
pub struct RevokedKey<'a> {
    #[serde(flatten)]
    key: KeyBody<'a>,
    /// `all`: the key is dead on every node.
    #[schema(example = "all")]
    effective: &'static str,
}

/// One page of keys.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyPage<'a> {
    /// The keys, masked.
    results: Vec<KeyBody<'a>>,
    /// Send as `cursor` for what comes after; null on the last page.
    next_cursor: Option<String>,
    /// Send as `cursor` with `page=prev` for what comes before; null on the first page.
    prev_cursor: Option<String>,
    /// The limit as it was asked for.
    limit: i64,
}

/// A key to create.
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
}

/// What to change of a key. What is left out stays as it is.
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
}

/// Create a key
///
/// The reply holds the whole value, this one time: only a digest of it is kept. With an `Idempotency-Key` the same
/// request gets the same reply for 24 hours.
#[utoipa::path(
    post, path = "/api/client/keys", operation_id = "createKey", tag = "Project keys",
    params(("Idempotency-Key" = Option<String>, Header, nullable = false, min_length = 1, max_length = 255, pattern = "^[ -~]+$", description = "1 to 255 printable ASCII characters")),
    request_body = CreateKey,
    responses(
        (status = 200, description = "The key with its whole value", body = KeyBody<'static>),
        (status = "4XX", description = "Not created", body = ProblemDocument<'static>, content_type = "application/problem+json"),
        (status = "5XX", description = "Not done; 503 says when to try again", body = ProblemDocument<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn create(
    State(app): State<Arc<App>>,
    caller: ProjectAdmin,
    request: Request,
) -> Result<Response, Problem> {
    let asked = Asked::read(request).await?;
    let new = body::parse(&asked.body).and_then(parse_new);
    changing::once(app, caller, asked, new, |job: Job<'_>, new| {
        Box::pin(async move {
            let Job { app, caller, writing } = job;
            let (key, value) = keys::issue(writing, caller.project, new, &caller.by(), app.random.as_ref()).await?;
            json(&KeyBody { value: value.expose(), ..masked(&key)? })
        })
    })
    .await
}

/// List keys
///
/// Masked, newest first. Follow `nextCursor` until it is null.
#[utoipa::path(
    get, path = "/api/client/keys", operation_id = "listKeys", tag = "Project keys",
    params(
        ("cursor" = Option<String>, Query, description = "`nextCursor` or `prevCursor` of a reply with the same sort, direction and q"),
        ("page" = Option<String>, Query, pattern = "^(next|prev)$", description = "`next` (the default) or `prev`: which side of the cursor"),
        ("limit" = Option<i64>, Query, minimum = -1, maximum = 100, description = "1 to 100, 25 by default; -1 for all, up to 10,000"),
        ("sort" = Option<String>, Query, pattern = "^(created_at|updated_at|name|role|id)$", description = "`created_at` (the default), `updated_at`, `name`, `role` or `id`"),
        ("direction" = Option<String>, Query, pattern = "^(asc|desc)$", description = "`desc` (the default) or `asc`"),
        ("q" = Option<String>, Query, max_length = 255, description = "what name or description must contain, in any case"),
    ),
    responses(
        (status = 200, description = "A page of keys", body = KeyPage<'static>),
        (status = "4XX", description = "Not listed", body = ProblemDocument<'static>, content_type = "application/problem+json"),
        (status = "5XX", description = "Not done; 503 says when to try again", body = ProblemDocument<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    caller: ProjectAdmin,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let project = caller.project.project;
    let query = query::list(query.as_deref(), project, &app.cursors)?;
    let listing = &query.listing;
    let mut rows = app.store.project_keys(project, listing).await?;
    if query.limit == ALL && rows.more {
        let message = format!("There are more than {MOST_ROWS_OF_ALL} keys. Page through them with a limit up to 100.");
        return Err(Problem::param(Code::ParameterInvalidFormat, "limit", message));
    }
    let far = rows.farthest.filter(|_| rows.more);
    let near = match &listing.anchor {
        None => None,
        Some(anchor) => {
            let nearest = rows.nearest.unwrap_or_else(|| listing.beyond(anchor));
            let before = app.store.project_keys(project, &listing.other_side(nearest.clone())).await?;
            before.nearest.map(|_| nearest)
        }
    };
    let (next, prev) = match listing.page {
        Page::Next => (far, near),
        Page::Prev => {
            rows.keys.reverse();
            (near, far)
        }
    };
    let cursor = |anchor: Anchor| app.cursors.write(project, listing, &anchor);
    let results = rows.keys.iter().map(masked).collect::<Result<_, _>>()?;
    let page = KeyPage { results, next_cursor: next.map(cursor), prev_cursor: prev.map(cursor), limit: query.limit };
    Ok(ok(json(&page)?))
}

/// Read a key
///
/// Masked. A key of another project is missing like one that never was.
#[utoipa::path(
    get, path = "/api/client/keys/{keyId}", operation_id = "readKey", tag = "Project keys",
    params(("keyId" = i64, Path, description = "Number of the key", example = 4)),
    responses(
        (status = 200, description = "The key, masked", body = KeyBody<'static>),
        (status = "4XX", description = "Not read", body = ProblemDocument<'static>, content_type = "application/problem+json"),
        (status = "5XX", description = "Not done; 503 says when to try again", body = ProblemDocument<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn read(
    State(app): State<Arc<App>>,
    caller: ProjectAdmin,
    KeyNumber(id): KeyNumber,
) -> Result<Response, Problem> {
    let key = app.store.project_key(caller.project.project, id).await?.ok_or_else(Problem::missing)?;
    Ok(ok(json(&masked(&key)?)?))
}

/// Change a key
///
/// The value never changes. An empty object changes nothing and succeeds.
#[utoipa::path(
    patch, path = "/api/client/keys/{keyId}", operation_id = "changeKey", tag = "Project keys",
    params(
        ("keyId" = i64, Path, description = "Number of the key", example = 4),
        ("Idempotency-Key" = Option<String>, Header, nullable = false, min_length = 1, max_length = 255, pattern = "^[ -~]+$", description = "1 to 255 printable ASCII characters"),
    ),
    request_body = ChangeKey,
    responses(
        (status = 200, description = "The key as it is now, masked", body = KeyBody<'static>),
        (status = "4XX", description = "Not changed", body = ProblemDocument<'static>, content_type = "application/problem+json"),
        (status = "5XX", description = "Not done; 503 says when to try again", body = ProblemDocument<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn change(
    State(app): State<Arc<App>>,
    caller: ProjectAdmin,
    KeyNumber(id): KeyNumber,
    request: Request,
) -> Result<Response, Problem> {
    let asked = Asked::read(request).await?;
    let patch = body::parse(&asked.body).and_then(parse_patch);
    changing::once(app, caller, asked, patch, move |job: Job<'_>, patch| {
        Box::pin(async move {
            let Job { caller, writing, .. } = job;
            let key = keys::change(writing, caller.project, id, patch, &caller.by()).await?;
            json(&masked(&key)?)
        })
    })
    .await
}

/// Revoke a key
///
/// Dead before the reply is sent, for ever. A second time it is missing. A key may revoke itself.
#[utoipa::path(
    delete, path = "/api/client/keys/{keyId}", operation_id = "revokeKey", tag = "Project keys",
    params(("keyId" = i64, Path, description = "Number of the key", example = 4)),
    responses(
        (status = 200, description = "The key, dead", body = RevokedKey<'static>),
        (status = "4XX", description = "Not revoked", body = ProblemDocument<'static>, content_type = "application/problem+json"),
        (status = "5XX", description = "Not done; 503 says when to try again", body = ProblemDocument<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn revoke(
    State(app): State<Arc<App>>,
    mut caller: ProjectAdmin,
    KeyNumber(id): KeyNumber,
) -> Result<Response, Problem> {
    changing::to_the_end(async move {
        let key = match revoke_once(&app, &mut caller, id).await? {
            Err(KeysError::Store(error)) if error.may_be_for_want_of_room() => {
                app.store.give_up_ballast();
                revoke_once(&app, &mut caller, id).await??
            }
            Err(KeysError::Store(error @ StoreError::Damaged { .. })) => {
                app.store.kill_in_memory(KeyId(id), Some(caller.project.project));
                return Err(error.into());
            }
            outcome => outcome?,
        };
        Ok(ok(json(&RevokedKey { key: masked(&key)?, effective: "all" })?))
    })
    .await
}

/// One attempt. The outer error is final; one of the store is an inner one, and may be worth another attempt.
async fn revoke_once(app: &App, caller: &mut ProjectAdmin, id: i64) -> Result<Result<StoredKey, KeysError>, Problem> {
    let mut writing = changing::begin(app, caller, Need::Revocation).await?;
    Ok(match keys::revoke(&mut writing, caller.project, id, &caller.by()).await {
        Ok(key) => writing.commit().await.map(|()| key).map_err(KeysError::from),
        Err(error) => {
            writing.abandon().await;
            Err(error)
        }
    })
}

/// What a create asks for.
///
/// # Errors
/// A problem with every fault of the body.
pub fn parse_new(body: Object) -> Result<NewKey, Problem> {
    let mut fields = Fields::of(body);
    let name = fields.line("name", MOST_NAME_CHARACTERS);
    let name = fields.require("name", name);
    let new = NewKey {
        name: name.unwrap_or_default(),
        scope: fields.word("scope").unwrap_or(Scope::Secret),
        role: fields.word("role").unwrap_or(ProjectRole::Support),
        description: fields.text_or_null("description", MOST_DESCRIPTION_CHARACTERS).flatten(),
    };
    fields.finish()?;
    Ok(new)
}

/// What a patch asks for.
///
/// # Errors
/// A problem with every fault of the body.
pub fn parse_patch(body: Object) -> Result<KeyPatch, Problem> {
    let mut fields = Fields::of(body);
    let patch = KeyPatch {
        name: fields.line("name", MOST_NAME_CHARACTERS),
        scope: fields.word("scope"),
        role: fields.word("role"),
        description: fields.text_or_null("description", MOST_DESCRIPTION_CHARACTERS),
    };
    fields.finish()?;
    Ok(patch)
}

/// A project's key as everybody but its creator sees it.
fn masked(key: &StoredKey) -> Result<KeyBody<'_>, Problem> {
    let Holder::Project { project, scope, role, .. } = key.holder else {
        tracing::error!(key = key.id.0, "a key of a project is held by something else");
        return Err(Problem::internal());
    };
    Ok(KeyBody {
        id: key.id.0,
        project_id: project.0,
        name: &key.name,
        scope: scope.as_str(),
        role: role.as_str(),
        value: key.mask.as_str(),
        created_at: key.created_at.to_string(),
        updated_at: key.updated_at.to_string(),
        description: key.description.as_deref(),
        is_system_key: key.is_system,
    })
}

fn json(body: &impl Serialize) -> Result<Vec<u8>, Problem> {
    serde_json::to_vec(body).map_err(|error| {
        tracing::error!(%error, "cannot write a reply");
        Problem::internal()
    })
}

fn ok(body: Vec<u8>) -> Response {
    changing::respond(ReplyBody { status: 200, body })
}
