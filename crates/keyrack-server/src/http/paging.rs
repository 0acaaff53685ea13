//! One page of a list, whatever is listed (contract section 6).

use axum::response::Response;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::caller::Caller;
use super::problem::{Code, Problem};
use super::query::{self, ListQuery};
use super::{ok, to_json};
use crate::app::App;
use crate::listing::{ALL, Anchor, List, MOST_ROWS_OF_ALL, Page as Side};
use crate::store::{Row, Rows, Store, StoreError};
use crate::turns::tenant_of;

/// One page of a list.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Page<T> {
    /// What was asked for, in its order.
    results: Vec<T>,
    /// Send as `cursor` for what comes after; null on the last page.
    next_cursor: Option<String>,
    /// Send as `cursor` with `page=prev` for what comes before; null on the first page.
    prev_cursor: Option<String>,
    /// The limit as it was asked for.
    limit: i64,
}

/// Reads the page that a query asks for. `read` makes something of a row, or finds that it may not be shown; `body` writes
/// it.
///
/// # Errors
/// A problem with the query, or of the store.
pub(super) async fn of_query<T, R, B>(
    app: &App,
    caller: &Caller,
    list: &List,
    query: Option<&str>,
    read: R,
    body: B,
) -> Result<Response, Problem>
where
    R: Fn(&Store, &Row) -> Result<Option<T>, StoreError> + Send + Sync,
    B: Fn(&T) -> Result<Box<RawValue>, StoreError> + Send + Sync,
{
    let query = query::list(query, list, &app.cursors)?;
    Ok(ok(to_json(&page(app, caller, list, &query, read, body).await?)))
}

/// Reads a page.
///
/// # Errors
/// A problem if there is more than a reply may hold, or of the store.
pub(super) async fn page<T, R, B>(
    app: &App,
    caller: &Caller,
    list: &List,
    query: &ListQuery,
    read: R,
    body: B,
) -> Result<Page<Box<RawValue>>, Problem>
where
    R: Fn(&Store, &Row) -> Result<Option<T>, StoreError> + Send + Sync,
    B: Fn(&T) -> Result<Box<RawValue>, StoreError> + Send + Sync,
{
    let wait = "Your other lists are still being read. Try again.";
    let _turn = app.list_turns.wait(tenant_of(&caller.key)).await.ok_or_else(|| Problem::unavailable(wait))?;
    let written = |store: &Store, row: &Row| {
        let Some(item) = read(store, row)? else { return Ok(None) };
        let written = body(&item)?;
        let length = written.get().len();
        Ok(Some((written, length)))
    };
    let listing = &query.listing;
    let Rows { items: mut results, nearest, farthest, more } = app.store.page(list, listing, &written).await?;
    if query.limit == ALL && more {
        let message = format!(
            "There are more than {MOST_ROWS_OF_ALL}, or they are too large for one reply. Page through them with a \
             limit up to 100."
        );
        return Err(Problem::param(Code::ParameterInvalidFormat, "limit", message));
    }
    let far = farthest.filter(|_| more);
    let near = match &listing.anchor {
        None => None,
        Some(anchor) => {
            let nearest = nearest.unwrap_or_else(|| listing.beyond(anchor));
            let before = app.store.page(list, &listing.other_side(nearest.clone()), &written).await?;
            before.nearest.map(|_| nearest)
        }
    };
    let (next, prev) = match listing.page {
        Side::Next => (far, near),
        Side::Prev => {
            results.reverse();
            (near, far)
        }
    };
    let cursor = |anchor: Anchor| app.cursors.write(list, listing, &anchor);
    Ok(Page { results, next_cursor: next.map(cursor), prev_cursor: prev.map(cursor), limit: query.limit })
}
