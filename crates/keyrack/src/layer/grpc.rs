//! Refusals as gRPC tells them: the reply is its head alone, with status 200 and the gRPC status in a field.

use http::Response;
use http::header::{CONTENT_TYPE, HeaderValue};

use super::refusal::{Refusal, Style};
use crate::Code;

/// As gRPC does it.
#[derive(Clone, Copy, Debug)]
pub struct Grpc;

impl<R: Default> Style<R> for Grpc {
    fn refuse(&self, refusal: &Refusal) -> Response<R> {
        let status = match refusal.code() {
            // UNAUTHENTICATED, PERMISSION_DENIED, RESOURCE_EXHAUSTED, UNAVAILABLE.
            Code::NotFound | Code::Disabled => "16",
            Code::Forbidden => "7",
            Code::RateLimited | Code::UsageExceeded => "8",
            Code::Valid | Code::Unavailable => "14",
        };
        let mut response = Response::new(R::default());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from_static(status));
        headers.insert("grpc-message", HeaderValue::from_static(refusal.message()));
        refusal.add_to(headers);
        response
    }
}
