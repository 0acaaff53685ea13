//! The audit log over HTTP: the same on every surface, each for its own tenant.

use axum::response::Response;

use super::problem::Problem;
use super::{ok, paging, query, raw_json, to_json};
use crate::app::App;
use crate::audit::Entry;
use crate::kept::Tenant;
use crate::store::{Row, Store};

/// A page of the entries of a tenant.
///
/// # Errors
/// A problem with the query, or of the store.
pub(super) async fn list(app: &App, tenant: Tenant, query: Option<&str>) -> Result<Response, Problem> {
    let (list, query) = query::audit(query, tenant, &app.cursors)?;
    let read = |store: &Store, row: &Row| store.read_entry(row);
    let page = paging::page(app, &list, &query, read, |entry: &Entry| raw_json(&entry.body())).await?;
    Ok(ok(to_json(&page)))
}
