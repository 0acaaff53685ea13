//! The audit log over HTTP: the same on every surface, each for its own tenant.

use std::sync::atomic::Ordering;

use axum::response::Response;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::paging::{self, Page};
use super::problem::Problem;
use super::{ok, query, raw_json, to_json};
use crate::app::App;
use crate::audit::Entry;
use crate::kept::Tenant;
use crate::store::{Row, Store};

/// A page of the entries of a tenant.
///
/// # Errors
/// A problem with the query, or of the store.
pub(super) async fn list(app: &App, tenant: Tenant, query: Option<&str>) -> Result<Response, Problem> {
    Ok(ok(to_json(&page(app, tenant, query).await?)))
}

/// A page of everybody's entries, and how many changes have none because they were refused.
///
/// # Errors
/// A problem with the query, or of the store.
pub(super) async fn list_all(app: &App, query: Option<&str>) -> Result<Response, Problem> {
    let page = page(app, Tenant::default(), query).await?;
    Ok(ok(to_json(&WholePage { page, refused_changes: app.refused_changes.load(Ordering::Relaxed) })))
}

async fn page(app: &App, tenant: Tenant, query: Option<&str>) -> Result<Page<Box<RawValue>>, Problem> {
    let (list, query) = query::audit(query, tenant, &app.cursors)?;
    let read = |store: &Store, row: &Row| store.read_entry(row);
    paging::page(app, &list, &query, read, |entry: &Entry| raw_json(&entry.body())).await
}

/// A page of the log of the whole installation.
#[derive(Serialize, ToSchema)]
pub(super) struct WholePage<T> {
    #[serde(flatten)]
    page: Page<T>,
    /// How many changes were refused since the process started. They are not in the log: nothing came of them.
    refused_changes: u64,
}
