//! For handlers of axum: the key that was let through, as an argument.

use axum_core::extract::FromRequestParts;
use axum_core::response::{IntoResponse as _, Response};
use http::StatusCode;
use http::request::Parts;

use crate::VerifiedKey;

impl<S: Sync> FromRequestParts<S> for VerifiedKey {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Response> {
        // Never a way around the layer: without it there is nothing to hand out.
        let missing = || (StatusCode::INTERNAL_SERVER_ERROR, "this route is not behind a KeyrackLayer").into_response();
        parts.extensions.get::<Self>().copied().ok_or_else(missing)
    }
}
