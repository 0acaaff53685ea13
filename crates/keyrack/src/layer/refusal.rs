//! What is told of a request that may not pass.

use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Response, StatusCode};

use crate::{Code, LimitState};

/// Why a request does not pass.
#[derive(Clone, Copy, Debug)]
pub struct Refusal {
    pub(super) code: Code,
    pub(super) detail: Option<&'static str>,
    pub(super) key_was_sent: bool,
    pub(super) limit: Option<LimitState>,
    pub(super) retry_after: Option<u64>,
}

impl Refusal {
    pub(super) const fn of(code: Code, detail: Option<&'static str>) -> Self {
        Self { code, detail, key_was_sent: true, limit: None, retry_after: None }
    }

    /// Why, in a word of the contract (section 7).
    pub const fn code(&self) -> Code {
        self.code
    }

    /// What of it in particular, where that may be told.
    pub const fn detail(&self) -> Option<&'static str> {
        self.detail
    }

    /// What a person reads.
    pub const fn message(&self) -> &'static str {
        match self.code {
            Code::NotFound if !self.key_was_sent => "Send a key: `Authorization: Bearer <key>`.",
            Code::NotFound => "This key is not known, or not here.",
            Code::Disabled => "This key is disabled for now.",
            Code::Forbidden => "This key does not reach this request.",
            Code::RateLimited => "Too many requests with this key. Slow down.",
            Code::UsageExceeded => "The quota of this key is used up.",
            Code::Valid | Code::Unavailable => "Keys cannot be checked at this moment. Try again.",
        }
    }

    /// Seconds after which it is worth asking again, where that is known.
    pub const fn retry_after(&self) -> Option<u64> {
        self.retry_after
    }

    /// The fields that every refusal has, in whatever style.
    pub(super) fn add_to(&self, headers: &mut HeaderMap) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert("x-keyrack-reason", HeaderValue::from_static(self.code.as_str()));
        if let Some(detail) = self.detail {
            headers.insert("x-keyrack-detail", HeaderValue::from_static(detail));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
    }

    /// Code and title of the catalogue (contract section 5).
    const fn problem(&self) -> (&'static str, &'static str) {
        match self.code {
            Code::NotFound | Code::Disabled => ("authentication_required", "Authentication is required"),
            Code::Forbidden => ("permission_denied", "Permission denied"),
            Code::RateLimited | Code::UsageExceeded => ("rate_limited", "Too many requests"),
            Code::Valid | Code::Unavailable => ("service_unavailable", "The service is not available"),
        }
    }
}

/// How refusals are told.
pub trait Style<R>: Clone {
    /// The response to a request that may not pass.
    fn refuse(&self, refusal: &Refusal) -> Response<R>;
}

/// As HTTP does it: a status, and a document (RFC 9457; contract section 5).
#[derive(Clone, Copy, Debug)]
pub struct Http;

impl<R: From<String>> Style<R> for Http {
    fn refuse(&self, refusal: &Refusal) -> Response<R> {
        let ((code, title), message) = (refusal.problem(), refusal.message());
        // No word of it needs an escape.
        let document = format!(
            r#"{{"status":"error","code":"{code}","title":"{title}","message":"{message}","error":"{message}","type":"/docs/errors#{code}"}}"#
        );
        let mut response = Response::new(R::from(document));
        *response.status_mut() = StatusCode::from_u16(refusal.code.status()).unwrap_or(StatusCode::FORBIDDEN);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if refusal.code.status() == 401 {
            let challenge = if refusal.key_was_sent {
                r#"Bearer realm="keyrack", error="invalid_token""#
            } else {
                r#"Bearer realm="keyrack""#
            };
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        refusal.add_to(headers);
        response
    }
}
