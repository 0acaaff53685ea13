//! What every reply that is not a success looks like (contract section 5).

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use crate::refusal::Refusal;
use crate::store::StoreError;

/// The catalogue: every code, with its HTTP status and its title.
macro_rules! catalogue {
    ($($(#[$doc:meta])* $variant:ident = $status:literal $word:literal $title:literal),+ $(,)?) => {
        /// Every error code there is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum Code {
            $($(#[$doc])* $variant),+
        }

        impl Code {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word on the wire.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }

            /// The HTTP status it comes with as the code of a whole reply.
            pub const fn status(self) -> u16 {
                match self {
                    $(Self::$variant => $status),+
                }
            }

            /// What it means in general.
            pub const fn title(self) -> &'static str {
                match self {
                    $(Self::$variant => $title),+
                }
            }
        }
    };
}

catalogue! {
    /// Something that must be sent was not.
    ParameterMissing = 400 "parameter_missing" "A required value is missing",
    /// Something was sent empty.
    ParameterInvalidEmpty = 400 "parameter_invalid_empty" "A value is empty",
    /// Something was sent in a form that is not understood.
    ParameterInvalidFormat = 400 "parameter_invalid_format" "A value has the wrong form",
    /// Something was sent that is not known here.
    ParameterUnknown = 400 "parameter_unknown" "A value is not known here",
    /// The `Idempotency-Key` header is not usable.
    IdempotencyKeyInvalid = 400 "idempotency_key_invalid" "The Idempotency-Key is not valid",
    /// A date that is no version.
    VersionUnsupported = 400 "version_unsupported" "The version is not supported",
    /// A version must be named.
    VersionRequired = 400 "version_required" "A version is required",
    /// No key, or none that passes.
    AuthenticationRequired = 401 "authentication_required" "Authentication is required",
    /// A key that does not reach so far.
    PermissionDenied = 403 "permission_denied" "Permission denied",
    /// Nothing there, or nothing that the caller may know of.
    ResourceMissing = 404 "resource_missing" "There is no such resource",
    /// The path knows other methods.
    MethodNotAllowed = 405 "method_not_allowed" "The method is not allowed here",
    /// The body did not arrive in time.
    RequestTimeout = 408 "request_timeout" "The request took too long to arrive",
    /// It is there already.
    ResourceAlreadyExists = 409 "resource_already_exists" "The resource already exists",
    /// What is asked cannot be done to it as it is.
    StateConflict = 409 "state_conflict" "The state of the resource does not allow this",
    /// The key stands for another request.
    IdempotencyKeyMismatch = 409 "idempotency_key_mismatch" "The Idempotency-Key was used for another request",
    /// The first request is not done yet.
    IdempotencyInProgress = 409 "idempotency_in_progress" "A request with this Idempotency-Key is under way",
    /// More than is read.
    BodyTooLarge = 413 "body_too_large" "The body is too large",
    /// Not JSON.
    MediaTypeUnsupported = 415 "media_type_unsupported" "The media type is not supported",
    /// The body breaks the schema.
    ValidationFailed = 422 "validation_failed" "The body is not valid",
    /// Too much, too fast.
    RateLimited = 429 "rate_limited" "Too many requests",
    /// Our fault.
    InternalError = 500 "internal_error" "Something went wrong here",
    /// Cannot tell, or cannot do it now.
    ServiceUnavailable = 503 "service_unavailable" "The service is not available",
}

/// One thing that is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Fault {
    /// Where, as a dotted path.
    pub param: String,
    /// What kind of thing.
    pub code: Code,
    /// What to do about it.
    pub message: String,
}

/// A reply that is not a success. Becomes bytes in [`Problem::render`], where the request's id is known.
#[derive(Clone, Debug)]
pub struct Problem {
    code: Code,
    message: String,
    param: Option<String>,
    errors: Vec<Fault>,
    retry_after_seconds: Option<u32>,
    credential_was_sent: bool,
}

/// The document on the wire.
#[derive(Serialize, ToSchema)]
pub struct ProblemDocument<'a> {
    /// Always `error`.
    #[schema(example = "error")]
    status: &'static str,
    /// What went wrong, for programs.
    code: Code,
    /// What the code means, always the same.
    title: &'static str,
    /// What to do about it, for people.
    message: &'a str,
    /// The same text as `message`, for older clients.
    error: &'a str,
    /// Where the code is explained.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    problem_type: ProblemType<'a>,
    /// The id of the request, also in `X-Request-Id`.
    #[schema(example = "req_01J9Z3N8Q4V7W2X5Y6T0R1S3AB")]
    request_id: &'a str,
    /// The header or query value that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    param: Option<&'a str>,
    /// Everything that is wrong with the body.
    #[serde(skip_serializing_if = "<[Fault]>::is_empty")]
    errors: &'a [Fault],
}

/// Where a code is explained, written when it is.
struct ProblemType<'a> {
    types: &'a str,
    code: Code,
}

impl Serialize for ProblemType<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}#{}", self.types, self.code.as_str()))
    }
}

impl<'a> ProblemDocument<'a> {
    /// A problem of which there is no more to say than that.
    pub const fn new(code: Code, message: &'a str, types: &'a str, request_id: &'a str) -> Self {
        Self {
            status: "error",
            code,
            title: code.title(),
            message,
            error: message,
            problem_type: ProblemType { types, code },
            request_id,
            param: None,
            errors: &[],
        }
    }

    /// Appends it as JSON; takes no memory but for that.
    pub fn write(&self, out: &mut Vec<u8>) {
        serde_json::to_writer(out, self).expect("a problem is plain data");
    }
}

impl Problem {
    /// A problem with something to do about it. The message must not repeat input that could hold a secret.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            param: None,
            errors: Vec::new(),
            retry_after_seconds: None,
            credential_was_sent: false,
        }
    }

    /// A header or query value that is wrong.
    pub fn param(code: Code, param: impl Into<String>, message: impl Into<String>) -> Self {
        Self { param: Some(param.into()), ..Self::new(code, message) }
    }

    /// A body with faults, at least one. So many are counted, and so many of them listed that the reply stays small.
    pub fn validation(mut errors: Vec<Fault>) -> Self {
        const MOST_LISTED: usize = 100;
        let message = match errors.as_slice() {
            [only] => format!("`{}`: {}", only.param, only.message),
            all if all.len() <= MOST_LISTED => format!("The body has {} faults; `errors` lists them.", all.len()),
            all => format!("The body has {} faults; `errors` lists the first {MOST_LISTED}.", all.len()),
        };
        errors.truncate(MOST_LISTED);
        Self { errors, ..Self::new(Code::ValidationFailed, message) }
    }

    /// The one answer to every caller who is not let in, whatever the reason.
    pub fn unauthenticated(credential_was_sent: bool) -> Self {
        let message = "Send a valid key for this surface as `Authorization: Bearer <key>`.";
        Self { credential_was_sent, ..Self::new(Code::AuthenticationRequired, message) }
    }

    /// Nothing there.
    pub fn missing() -> Self {
        Self::new(Code::ResourceMissing, "Nothing is there. Check the path and the id.")
    }

    /// Cannot tell or cannot do it now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self { retry_after_seconds: Some(1), ..Self::new(Code::ServiceUnavailable, message) }
    }

    /// Our fault; the cause has been logged.
    pub fn internal() -> Self {
        Self::new(Code::InternalError, "This is a fault of the service, not of the request. It has been logged.")
    }

    /// The same problem, saying when to come back.
    #[must_use]
    pub const fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }

    /// The HTTP status.
    pub const fn status(&self) -> u16 {
        self.code.status()
    }

    /// The bytes of the document.
    pub fn body(&self, types: &str, request_id: &str) -> Vec<u8> {
        let mut body = Vec::new();
        ProblemDocument {
            param: self.param.as_deref(),
            errors: &self.errors,
            ..ProblemDocument::new(self.code, &self.message, types, request_id)
        }
        .write(&mut body);
        body
    }

    /// The whole reply.
    pub fn render(&self, types: &str, request_id: &str) -> Response {
        let mut response = Response::new(Body::from(self.body(types, request_id)));
        *response.status_mut() = StatusCode::from_u16(self.status()).expect("the catalogue holds valid statuses");
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if self.code == Code::AuthenticationRequired {
            let challenge = if self.credential_was_sent {
                r#"Bearer realm="keyrack", error="invalid_token""#
            } else {
                r#"Bearer realm="keyrack""#
            };
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response
    }
}

/// The media type of a problem (RFC 9457).
pub const MEDIA_TYPE: &str = "application/problem+json";

/// Leaves the problem in the reply's extensions: the outermost layer knows the request's id and renders it.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let conflict = |message: &str| Self::new(Code::StateConflict, message);
        match refusal {
            Refusal::NotFound => Self::missing(),
            Refusal::SystemKey => conflict(
                "This is a system key: the service made it and needs it. It cannot be changed or revoked here.",
            ),
            Refusal::AlreadyPublished => conflict(
                "A publishable key cannot become secret: its value has been public. Create a new key with scope \
                 `secret` instead.",
            ),
            Refusal::RoleAboveCaller { asked } => Self::new(
                Code::PermissionDenied,
                format!("A key cannot grant a role above its own. Granting `{asked}` takes a key of that role."),
            ),
            Refusal::RoleTooLow { needs } => {
                Self::new(Code::PermissionDenied, format!("This takes a key of role `{needs}` in the project."))
            }
            Refusal::LastOperatorKey => conflict(
                "This is the last operator key. Create another first; if it has leaked, run `keyrack recover \
                 --operator` on the host and revoke it then.",
            ),
            Refusal::UsernameTaken => Self::param(
                Code::ResourceAlreadyExists,
                "username",
                "An organization has or had this username. Choose another.",
            ),
            Refusal::Unconfirmed { keys } => {
                let keys = if keys == 1 { "1 live key".to_owned() } else { format!("{keys} live keys") };
                conflict(&format!(
                    "This would revoke {keys}, for ever. Nothing was done. To do it, send `?confirm=true`."
                ))
            }
            Refusal::NotAMemberKey => conflict(
                "Only keys of role `member` are given projects: an `admin` or `owner` key reaches all of them.",
            ),
            Refusal::UnknownPolicyVersion { newest } => Self::validation(vec![Fault {
                param: "policy_version".to_owned(),
                code: Code::ParameterInvalidFormat,
                message: format!("must be the version of a policy that was applied: 0 to {newest}"),
            }]),
            Refusal::PolicyChanged { version } => conflict(&format!(
                "Version {version} of the policy is in force, and nothing was changed. Compare with it, and send its number."
            )),
            Refusal::Store(error) => error.into(),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        tracing::error!(error = &error as &dyn std::error::Error, "the store did not do what was asked");
        match error {
            StoreError::Full => Self::unavailable(
                "The disk is full: nothing was changed. Keys still verify and can still be revoked. Free some space.",
            )
            .retry_after(30),
            StoreError::Busy | StoreError::Conflict => {
                Self::unavailable("Another change is taking long; nothing was changed. Try again.")
            }
            StoreError::OutcomeUnknown(_) => Self::unavailable(
                "The change may or may not have been made. Send it again, with the same Idempotency-Key if it had one.",
            ),
            StoreError::Astray { .. } => Self::unavailable(
                "The store is not as it was known here, and it is being found out what holds. Try again.",
            ),
            StoreError::Unavailable(_) => {
                Self::unavailable("The store is not available; nothing was changed. Try again.")
            }
            StoreError::Damaged { .. }
            | StoreError::Journal { .. }
            | StoreError::IndexFull
            | StoreError::ForeignRootKey
            | StoreError::NewerSchema { .. }
            | StoreError::OlderSchema { .. } => Self::internal(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_of_a_code_is_the_word_on_the_wire() {
        for code in Code::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
            assert!((400..600).contains(&code.status()), "{code:?}");
        }
    }

    #[test]
    fn the_library_speaks_the_codes_of_the_catalogue() {
        use keyrack::Denial;
        for denial in [Denial::Unknown, Denial::ScopeTooSmall, Denial::RoleTooSmall { needs: "admin" }] {
            assert!(Code::ALL.iter().any(|code| code.status() == denial.code().status()));
        }
    }
}
