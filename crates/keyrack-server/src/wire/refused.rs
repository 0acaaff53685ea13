//! What the wire itself refuses, and how it says so.

use super::reply::Reply;
use super::{Service, WireSettings};
use crate::http::problem::{self, Code, Problem};

/// Why a request never reached the service. The connection is closed after each of them: where one request ends and the
/// next begins is no longer certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Not the one shape that a request line and header fields may have.
    Malformed,
    /// Not a path: `*`, a whole URL, or the address of a tunnel.
    Target,
    /// No `Host`, more than one, or one that is no host.
    Host,
    /// A `Content-Length` that is not one plain number.
    Length,
    /// Both `Content-Length` and `Transfer-Encoding`.
    TwoLengths,
    /// A body whose length is not known beforehand.
    Chunked,
    /// It did not arrive in time.
    Slow,
    /// More body than is read.
    BodyTooLarge,
    /// A target that is too long.
    TargetTooLong,
    /// A body in a coding of its own.
    Coded,
    /// A client that waits to be told to go on.
    Expectation,
    /// A head that is too long, or has too many fields.
    HeadTooLarge,
    /// Another version of HTTP.
    Version,
}

impl Refused {
    /// The HTTP status. Never one of 500 to 599: there are gateways that can be told to take those for a yes.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Malformed | Self::Target | Self::Host | Self::Length | Self::TwoLengths | Self::Version => 400,
            Self::Slow => 408,
            Self::Chunked => 411,
            Self::BodyTooLarge => 413,
            Self::TargetTooLong => 414,
            Self::Coded => 415,
            Self::Expectation => 417,
            Self::HeadTooLarge => 431,
        }
    }

    /// The catalogue has one code for all that is not understood.
    const fn code(self) -> Code {
        match self {
            Self::Slow => Code::RequestTimeout,
            Self::BodyTooLarge => Code::BodyTooLarge,
            Self::Coded => Code::MediaTypeUnsupported,
            Self::Malformed
            | Self::Target
            | Self::Host
            | Self::Length
            | Self::TwoLengths
            | Self::Chunked
            | Self::TargetTooLong
            | Self::Expectation
            | Self::HeadTooLarge
            | Self::Version => Code::ParameterInvalidFormat,
        }
    }

    /// What to do about it.
    const fn message(self) -> &'static str {
        match self {
            Self::Malformed => {
                "This is not a request as HTTP/1.1 writes it. Send lines that end in CR LF, and plain fields."
            }
            Self::Target => "Send a path that begins with `/` as the target of the request.",
            Self::Host => "Send exactly one `Host`.",
            Self::Length => "Send at most one `Content-Length`, a plain number.",
            Self::TwoLengths => "Send `Content-Length`, and no `Transfer-Encoding`.",
            Self::Chunked => "Send the body with a `Content-Length`: no transfer coding is understood here.",
            Self::Slow => "The request did not arrive in time. Send it again.",
            Self::BodyTooLarge => "The body is larger than is read here. Send less at a time.",
            Self::TargetTooLong => "The target is longer than 8 KiB.",
            Self::Coded => "Send the body as it is, without a `Content-Encoding`.",
            Self::Expectation => "Send the body at once, without `Expect`.",
            Self::HeadTooLarge => "The head of the request is larger than 16 KiB, or has more than 64 fields.",
            Self::Version => "Send HTTP/1.1 or HTTP/1.0.",
        }
    }

    /// Writes the whole reply into a blank one; the service has the last word on it, if it is known what was asked for.
    pub(super) fn write(
        self,
        settings: &WireSettings,
        (service, target): (&dyn Service, Option<&[u8]>),
        reply: &mut Reply,
    ) {
        let request_id = (settings.request_id)();
        reply.set_status(self.status());
        reply.field("content-type", problem::MEDIA_TYPE.as_bytes());
        reply.field("cache-control", b"no-store");
        reply.field("x-request-id", request_id.as_bytes());
        let document = Problem::new(self.code(), self.message()).body(&settings.problem_types, &request_id);
        reply.body().extend_from_slice(&document);
        if let Some(target) = target {
            service.refused(target, reply);
        }
    }
}
