//! The management surface: the route table, and the few layers around it.

pub mod body;
mod caller;
mod changing;
pub mod client_keys;
mod conventions;
mod docs;
mod fields;
mod health;
mod limits;
mod path;
pub mod problem;
mod query;

use std::sync::Arc;

use axum::Router;
use axum::middleware;
use axum::response::{IntoResponse as _, Response};
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::problem::{Code, Problem};
use crate::app::App;

/// Every route there is, and the document that describes them.
fn routes() -> (Router<Arc<App>>, OpenApi) {
    OpenApiRouter::with_openapi(docs::empty_document())
        .routes(routes!(client_keys::create, client_keys::list))
        .routes(routes!(client_keys::read, client_keys::change, client_keys::revoke))
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
        .routes(routes!(docs::openapi_json))
        .routes(routes!(docs::page))
        .routes(routes!(docs::markdown))
        .routes(routes!(docs::document))
        .routes(routes!(docs::llms_txt))
        .split_for_parts()
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

/// What panicked, the panic hook has logged; its payload goes nowhere.
fn caught_panic(_payload: Box<dyn std::any::Any + Send>) -> Response {
    Problem::internal().into_response()
}
