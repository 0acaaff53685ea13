//! `/api/operator`: the installation, for a caller with an operator's key (contract section 3).

pub(super) mod follower_keys;
pub(super) mod nodes;
pub(super) mod operator_keys;
pub(super) mod organizations;
pub(super) mod policy;
pub(super) mod system_keys;

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::response::Response;

use super::audit_events::{self, WholePage};
use super::caller::{As, Operator};
use super::described::{AuditParams, Refused};
use super::problem::Problem;
use crate::app::App;
use crate::audit::EntryBody;

/// Who did what anywhere
///
/// Newest first.
#[utoipa::path(
    get, path = "/api/operator/audit-events", operation_id = "listEvents", tag = "Operation",
    params(AuditParams),
    responses((status = 200, description = "A page of the audit log", body = WholePage<EntryBody<'static>>), Refused)
)]
pub(super) async fn audit(
    State(app): State<Arc<App>>,
    As(caller, _): As<Operator>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    audit_events::list_all(&app, &caller, query.as_deref()).await
}
