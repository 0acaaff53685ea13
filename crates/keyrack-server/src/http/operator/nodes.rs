//! `/api/operator/nodes`: the processes that answer from this store, as the one that is asked sees them.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::caller::{As, Operator};
use super::super::changing::respond;
use super::super::described::Refused;
use super::super::problem::Problem;
use super::super::to_json;
use crate::app::App;
use crate::replies::ReplyBody;
use crate::store::{Lease, Node};

/// A process that answers from this store.
#[derive(Serialize, ToSchema)]
#[schema(as = Node)]
pub(in crate::http) struct NodeBody<'a> {
    /// Which one; another after every start.
    #[schema(example = "node_7vq2x4ma")]
    id: &'a str,
    /// How far in the log of changes it has come.
    #[schema(example = 4711)]
    seq: i64,
    /// For how many milliseconds it has not been heard of here.
    #[schema(example = 120)]
    lag_ms: u64,
    /// `fresh`; `stale`: it has not been heard of for a while, and may still answer; `expired`: it answers nothing.
    #[schema(example = "fresh")]
    lease: &'static str,
    /// The version of its program.
    #[schema(example = "0.1.0")]
    version: &'a str,
    /// Whether it is the one that says all this.
    #[schema(example = true)]
    is_self: bool,
}

impl<'a> NodeBody<'a> {
    fn of(node: &'a Node) -> Self {
        let lease = match node.lease() {
            Lease::Fresh => "fresh",
            Lease::Stale => "stale",
            Lease::Expired => "expired",
        };
        Self {
            id: &node.beat.id,
            seq: node.beat.seq,
            lag_ms: u64::try_from(node.silent.as_millis()).unwrap_or(u64::MAX),
            lease,
            version: &node.beat.version,
            is_self: node.is_own,
        }
    }
}

/// All of them.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct Nodes<'a> {
    results: Vec<NodeBody<'a>>,
}

/// List the nodes
///
/// Every process that answers from this store, as this one sees them.
#[utoipa::path(
    get, path = "/api/operator/nodes", operation_id = "listNodes", tag = "Operation",
    responses((status = 200, description = "The nodes", body = Nodes<'static>), Refused)
)]
pub(in crate::http) async fn list(
    State(app): State<Arc<App>>,
    As(_caller, _): As<Operator>,
) -> Result<Response, Problem> {
    let nodes = app.store.nodes().await?;
    let body = to_json(&Nodes { results: nodes.iter().map(NodeBody::of).collect() });
    Ok(respond(ReplyBody { status: 200, body }))
}
