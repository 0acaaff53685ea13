//! How often keys were used, for both doors that lead to a project: its own key, and an organization's.

use axum::response::Response;
use keyrack::KeyId;
use serde::Serialize;
use utoipa::ToSchema;

use super::caller::Caller;
use super::problem::Problem;
use super::project_keys::Door;
use super::{ok, query, to_json};
use crate::app::App;
use crate::place::Place;
use crate::turns::tenant_of;
use crate::usage::Counts;

/// How often keys were used, cut into steps.
#[derive(Serialize, ToSchema)]
#[schema(as = Usage)]
pub(super) struct UsageBody {
    /// Number of the key; absent if it is of all keys of the project.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 4, nullable = false)]
    key_id: Option<i64>,
    /// Number of the project.
    #[schema(example = 1)]
    project_id: u32,
    /// Where the first step begins.
    #[schema(example = "2026-04-27T09:00:00.000Z", format = DateTime)]
    from: String,
    /// Where the last step ends.
    #[schema(example = "2026-04-28T10:00:00.000Z", format = DateTime)]
    to: String,
    /// `hour`, `day` or `month`.
    #[schema(example = "hour")]
    step: &'static str,
    /// Every step, oldest first, those without a use included.
    results: Vec<StepBody>,
    /// All steps together.
    totals: CountsBody,
}

/// One step.
#[derive(Serialize, ToSchema)]
#[schema(as = UsageStep)]
struct StepBody {
    /// When it begins.
    #[schema(example = "2026-04-28T09:00:00.000Z", format = DateTime)]
    at: String,
    #[serde(flatten)]
    counts: CountsBody,
}

/// Verifications by what was said.
#[derive(Serialize, ToSchema)]
#[schema(as = UsageCounts)]
struct CountsBody {
    /// `VALID`.
    #[schema(example = 120)]
    valid: u64,
    /// `FORBIDDEN` and `DISABLED`.
    #[schema(example = 3)]
    forbidden: u64,
    /// `RATE_LIMITED`.
    #[schema(example = 0)]
    rate_limited: u64,
    /// `USAGE_EXCEEDED`.
    #[schema(example = 0)]
    usage_exceeded: u64,
    /// `NOT_FOUND`, because the key was revoked.
    #[schema(example = 0)]
    not_found: u64,
    /// All of them.
    #[schema(example = 123)]
    total: u64,
}

impl From<Counts> for CountsBody {
    fn from(counts: Counts) -> Self {
        let Counts { valid, forbidden, rate_limited, usage_exceeded, not_found } = counts;
        Self { valid, forbidden, rate_limited, usage_exceeded, not_found, total: counts.total() }
    }
}

/// The usage of a project, or of one of its keys, revoked ones included.
///
/// # Errors
/// A problem with the caller or the query, or of the store.
pub(super) async fn read(
    app: &App,
    caller: &Caller,
    door: Door,
    key: Option<i64>,
    query: Option<&str>,
) -> Result<Response, Problem> {
    let project = door.open(&mut &*app.store, &caller.key).await?.project;
    let key = key.map(KeyId);
    if let Some(key) = key
        && !app.store.was_ever(Place::Project(project), key).await?
    {
        return Err(Problem::missing());
    }
    let range = query::usage(query, app.clock.now())?;
    let wait = "Your other lists are still being read. Try again.";
    let _turn = app.list_turns.wait(tenant_of(&caller.key)).await.ok_or_else(|| Problem::unavailable(wait))?;
    let hours = app.store.hours_of_use(project, key, range.hours()).await?;
    let totals = hours.iter().fold(Counts::default(), |sum, (_, counts)| sum.and(*counts));
    let steps = range.parts(&hours).into_iter();
    Ok(ok(to_json(&UsageBody {
        key_id: key.map(|key| key.0),
        project_id: project.0,
        from: range.from().to_string(),
        to: range.to().to_string(),
        step: range.step().as_str(),
        results: steps.map(|(at, counts)| StepBody { at: at.to_string(), counts: counts.into() }).collect(),
        totals: totals.into(),
    })))
}
