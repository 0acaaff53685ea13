//! The management surface: the route table, and the few layers around it.

mod admin;
mod audit_events;
pub mod body;
mod caller;
mod changing;
mod client;
mod conventions;
mod described;
mod docs;
mod effective;
pub(crate) mod fields;
mod follower;
mod health;
pub mod keys;
mod limits;
mod operator;
mod paging;
mod path;
pub mod problem;
mod project_keys;
mod projects;
mod query;
mod usage;

use std::sync::Arc;

use axum::Router;
use axum::middleware;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use keyrack::feed;
use serde::Serialize;
use serde_json::value::RawValue;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::problem::{Code, Problem};
use crate::app::App;
use crate::replies::ReplyBody;

/// Every route there is, and the document that describes them.
fn routes() -> (Router<Arc<App>>, OpenApi) {
    let (router, mut document) = OpenApiRouter::with_openapi(docs::empty_document())
        .routes(routes!(client::create_key, client::list_keys))
        .routes(routes!(client::read_key, client::change_key, client::revoke_key))
        .routes(routes!(client::read_key_usage))
        .routes(routes!(client::usage))
        .routes(routes!(client::me))
        .routes(routes!(client::audit))
        .routes(routes!(admin::me))
        .routes(routes!(admin::audit))
        .routes(routes!(admin::organization_keys::create, admin::organization_keys::list))
        .routes(routes!(
            admin::organization_keys::read,
            admin::organization_keys::change,
            admin::organization_keys::revoke
        ))
        .routes(routes!(admin::projects::create, admin::projects::list))
        .routes(routes!(admin::projects::read, admin::projects::change, admin::projects::archive))
        .routes(routes!(admin::project_keys::create, admin::project_keys::list))
        .routes(routes!(admin::project_keys::read, admin::project_keys::change, admin::project_keys::revoke))
        .routes(routes!(admin::project_keys::read_usage))
        .routes(routes!(admin::project_keys::project_usage))
        .routes(routes!(admin::members::list))
        .routes(routes!(admin::members::give, admin::members::take))
        .routes(routes!(operator::audit))
        .routes(routes!(operator::nodes::list))
        .routes(routes!(operator::organizations::create, operator::organizations::list))
        .routes(routes!(operator::organizations::read, operator::organizations::archive))
        .routes(routes!(operator::organizations::suspend))
        .routes(routes!(operator::organizations::resume))
        .routes(routes!(operator::system_keys::create, operator::system_keys::list))
        .routes(routes!(operator::system_keys::revoke))
        .routes(routes!(operator::system_keys::rotate))
        .routes(routes!(operator::operator_keys::create, operator::operator_keys::list))
        .routes(routes!(operator::operator_keys::revoke))
        .routes(routes!(operator::follower_keys::create, operator::follower_keys::list))
        .routes(routes!(operator::follower_keys::revoke))
        .routes(routes!(operator::policy::read, operator::policy::apply))
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
        .routes(routes!(docs::openapi_json))
        .routes(routes!(docs::page))
        .routes(routes!(docs::markdown))
        .routes(routes!(docs::document))
        .routes(routes!(docs::llms_txt))
        .split_for_parts();
    docs::name_credentials(&mut document);
    // Between parts of one version of Keyrack: not described for others.
    let router = router
        .route(feed::SNAPSHOT, get(follower::snapshot))
        .route(feed::NEWS, post(follower::news))
        .route(feed::LEAVE, post(follower::leave));
    (router, document)
}

/// The OpenAPI 3.1 document of every route.
pub fn openapi() -> OpenApi {
    routes().1
}

/// The service that answers the management listener.
pub fn service(app: Arc<App>) -> Router {
    around(app, routes().0)
}

/// What stands around every route: whatever goes wrong, the reply is a problem document.
pub fn around(app: Arc<App>, router: Router<Arc<App>>) -> Router {
    router
        .fallback(|| async { Problem::missing() })
        .method_not_allowed_fallback(|| async {
            Problem::new(Code::MethodNotAllowed, "This path knows other methods; `Allow` lists them.")
        })
        .layer(CatchPanicLayer::custom(caught_panic))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), conventions::apply))
        .with_state(app)
}

/// The bytes of a reply.
fn to_json(body: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(body).expect("a reply is plain data")
}

/// One item of a page.
fn raw_json(body: &impl Serialize) -> Box<RawValue> {
    serde_json::value::to_raw_value(body).expect("a reply is plain data")
}

fn ok(body: Vec<u8>) -> Response {
    changing::respond(ReplyBody { status: 200, body })
}

/// What panicked, the panic hook has logged; its payload goes nowhere.
fn caught_panic(_payload: Box<dyn std::any::Any + Send>) -> Response {
    Problem::internal().into_response()
}
