//! The policy of the user's API: which key may call which endpoint (contract section 7).

use std::sync::Arc;

use axum::extract::{RawQuery, Request, State};
use axum::response::Response;
use keyrack::PolicyVersion;
use keyrack::policy::{Document, Policies};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::super::body;
use super::super::caller::{As, Operator};
use super::super::changing::{self, Job};
use super::super::described::Refused;
use super::super::effective::Reached;
use super::super::problem::{Code, Fault, Problem};
use super::super::{ok, to_json};
use crate::actor::ActorBody;
use crate::app::App;
use crate::policies::document::{self, Wrong};
use crate::policies::{self, AppliedPolicy, Gain, MOST_IDS, Outcome};
use crate::store::Need;

/// Largest document that is read.
const MOST_DOCUMENT_BYTES: usize = 1 << 20;

/// The policy in force, on the wire.
#[derive(Serialize, ToSchema)]
#[schema(as = Policy)]
pub(in crate::http) struct PolicyBody<'a> {
    /// Its number, from 1; 0 is the built-in policy.
    #[schema(example = 1)]
    version: u32,
    /// When it was applied; null for the built-in policy.
    #[schema(example = "2026-04-28T09:30:00.000Z", format = DateTime)]
    applied_at: Option<String>,
    /// Who applied it.
    applied_by: Option<ActorBody>,
    /// The policies, as they were applied.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    document: &'a Document,
}

impl<'a> PolicyBody<'a> {
    fn of(policy: &'a AppliedPolicy) -> Self {
        Self {
            version: policy.version.0,
            applied_at: policy.history.map(|history| history.created_at.to_string()),
            applied_by: policy.history.map(|history| history.created_by.body()),
            document: &policy.document,
        }
    }
}

/// What became of a policy that was to be applied.
#[derive(Serialize, ToSchema)]
#[schema(as = AppliedPolicy)]
pub(in crate::http) struct OutcomeBody<'a> {
    #[serde(flatten)]
    policy: PolicyBody<'a>,
    /// The version that was in force before.
    previous_version: u32,
    /// Whether another policy is in force now, or would be.
    changed: bool,
    /// Publishable keys that were issued under an earlier policy and would gain something if they were widened. Nothing of it
    /// happens by itself.
    publishable_keys: Vec<GainBody<'a>>,
}

/// What publishable keys would gain.
#[derive(Serialize, ToSchema)]
#[schema(as = Gain)]
struct GainBody<'a> {
    /// The policy that their reach is frozen at.
    policy_version: u32,
    /// How many there are.
    keys: i64,
    /// The numbers of the first of them, 100 at the most.
    ids: &'a [i64],
    /// What they would gain.
    #[schema(example = json!(["default: POST /events"]))]
    would_gain: &'a [String],
}

impl<'a> OutcomeBody<'a> {
    fn of(outcome: &'a Outcome, gains: &'a [Gain]) -> Self {
        let gain = |gain: &'a Gain| GainBody {
            policy_version: gain.keys.version.0,
            keys: gain.keys.count,
            ids: &gain.keys.ids,
            would_gain: &gain.routes,
        };
        Self {
            policy: PolicyBody::of(&outcome.in_force),
            previous_version: outcome.previous.0,
            changed: outcome.is_changed,
            publishable_keys: gains.iter().map(gain).collect(),
        }
    }
}

/// Show the policy in force
///
/// Or the one of a former version, which the reach of publishable keys may be frozen at.
#[utoipa::path(
    get, path = "/api/operator/policy", operation_id = "getPolicy", tag = "Operation",
    params(("version" = Option<u32>, Query, description = "That version, not the one in force")),
    responses((status = 200, description = "The policy", body = PolicyBody<'static>), Refused)
)]
pub(in crate::http) async fn read(
    State(app): State<Arc<App>>,
    As(..): As<Operator>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let newest = app.verifier.policies().version();
    let version = asked_version(query.as_deref())?.unwrap_or(newest);
    if version > newest {
        return Err(Problem::missing());
    }
    let policy = policies::of_version(&mut &*app.store, version).await?;
    Ok(ok(to_json(&PolicyBody::of(&policy))))
}

/// Apply a policy
///
/// As a whole, instead of the one in force. One that is in force already changes nothing. The reach of publishable keys is frozen at the
/// policy they were issued under: the reply says which of them would gain what.
#[utoipa::path(
    put, path = "/api/operator/policy", operation_id = "applyPolicy", tag = "Operation",
    params(
        ("expected_version" = Option<u32>, Query, description = "Refuse if another version is in force"),
        ("dry_run" = Option<bool>, Query, description = "Only say what would become of it")
    ),
    request_body(content = Object, description = "The document: `{\"policies\": [...]}`"),
    responses((status = 200, description = "The policy in force now", body = Reached<OutcomeBody<'static>>), Refused)
)]
pub(in crate::http) async fn apply(
    State(app): State<Arc<App>>,
    As(caller, _): As<Operator>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, Problem> {
    let Asked { expected, dry_run } = Asked::of(query.as_deref())?;
    let (parts, body) = request.into_parts();
    let bytes = body::read_most(&parts.headers, body, MOST_DOCUMENT_BYTES).await?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|_malformed| body::malformed())?;
    let (document, compiled) = document::read(&value).map_err(|faults| problem(&faults))?;
    // What was sent twice, one reader takes the first of and another the last: this one takes neither.
    if serde_json::from_slice::<Document>(&bytes).is_err() {
        return Err(Problem::param(Code::ParameterInvalidFormat, "body", "A field is there more than once."));
    }
    let (document, compiled) = (Arc::new(document), Arc::new(compiled));
    if dry_run {
        let previous = app.verifier.policies().version();
        let outcome = policies::rehearse(&mut &*app.store, &document, previous, expected).await?;
        let gains = gains(&app, &compiled).await?;
        return Ok(ok(to_json(&OutcomeBody::of(&outcome, &gains))));
    }
    let gains = gains(&app, &compiled).await?;
    changing::done(app, caller, Need::Ordinary, move |job: Job<'_>| {
        let (document, gains) = (Arc::clone(&document), gains.clone());
        Box::pin(async move {
            let Job { caller, writing, .. } = job;
            let outcome = policies::apply(writing, &document, expected, &caller.by()).await?;
            Ok(to_json(&OutcomeBody::of(&outcome, &gains)))
        })
    })
    .await
}

/// The version that a query asks for.
fn asked_version(query: Option<&str>) -> Result<Option<PolicyVersion>, Problem> {
    let mut asked = form_urlencoded::parse(query.unwrap_or_default().as_bytes()).filter(|(name, _)| name == "version");
    let wrong = || Problem::param(Code::ParameterInvalidFormat, "version", "Send one whole number.");
    match (asked.next(), asked.next()) {
        (None, _) => Ok(None),
        (Some((_, version)), None) => {
            version.parse().map(|version| Some(PolicyVersion(version))).map_err(|_odd| wrong())
        }
        (Some(_), Some(_)) => Err(wrong()),
    }
}

async fn gains(app: &App, new: &Policies) -> Result<Vec<Gain>, Problem> {
    Ok(policies::gains(app.store.public_keys(MOST_IDS).await?, &app.verifier.policies(), new))
}

/// Every fault under the names that the document has them by.
fn problem(faults: &[document::Fault]) -> Problem {
    let fault = |fault: &document::Fault| Fault {
        param: match fault.wrong {
            // Somebody may have put a key where a name belongs.
            Wrong::Unknown(_) | Wrong::Missing | Wrong::Invalid if fault.at.is_empty() => "body".to_owned(),
            Wrong::Unknown(_) | Wrong::Missing | Wrong::Invalid => fault.at.replace('[', ".").replace(']', ""),
        },
        code: match fault.wrong {
            Wrong::Missing => Code::ParameterMissing,
            Wrong::Unknown(_) => Code::ParameterUnknown,
            Wrong::Invalid => Code::ParameterInvalidFormat,
        },
        message: fault.message.clone(),
    };
    Problem::validation(faults.iter().map(fault).collect())
}

/// What the query asks for.
#[derive(Default)]
struct Asked {
    expected: Option<PolicyVersion>,
    dry_run: bool,
}

impl Asked {
    fn of(query: Option<&str>) -> Result<Self, Problem> {
        let mut asked = Self::default();
        for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            let wrong = |param: &str, message| Err(Problem::param(Code::ParameterInvalidFormat, param, message));
            match (&*name, &*value) {
                ("expected_version", digits) => match digits.parse() {
                    Ok(version) => asked.expected = Some(PolicyVersion(version)),
                    Err(_) => return wrong("expected_version", "Send a whole number."),
                },
                ("dry_run", "true") => asked.dry_run = true,
                ("dry_run", "false") => asked.dry_run = false,
                ("dry_run", _) => return wrong("dry_run", "Send true or false."),
                (_, _) => {
                    let message = "This query value is not known here. There are expected_version and dry_run.";
                    return Err(Problem::param(Code::ParameterUnknown, "query", message));
                }
            }
        }
        Ok(asked)
    }
}
