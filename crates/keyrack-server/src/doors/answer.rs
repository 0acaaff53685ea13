//! What doors say of a verdict, in fields of a reply.

use keyrack::{About, Details, Holder, LimitState, Now};

use crate::config::LimitHeaders;
use crate::wire::Reply;

/// What every reply that could hold a verdict has.
pub(super) fn common_fields(reply: &mut Reply, request_id: &[u8]) {
    reply.field("cache-control", b"no-store");
    reply.field("x-request-id", request_id);
}

/// Who may pass: always all of these, so that a client's own fields of these names never reach the application.
pub(super) fn identity(reply: &mut Reply, about: &About, seq: i64) {
    reply.field_with("x-keyrack-key-id", |out| push_number(out, about.id.0.cast_unsigned()));
    let (project, organization, role, scope) = match about.holder {
        Holder::Project { project, organization, scope, role, .. } => {
            (Some(project.0), Some(organization.0), role.as_str(), scope.as_str())
        }
        Holder::Organization { organization, role } => (None, Some(organization.0), role.as_str(), "-"),
        Holder::Operator | Holder::Follower => (None, None, "-", "-"),
    };
    let mut number = |name, number: Option<u32>| match number {
        Some(number) => reply.field_with(name, |out| push_number(out, number.into())),
        None => reply.field(name, b"-"),
    };
    number("x-keyrack-project-id", project);
    number("x-keyrack-organization-id", organization);
    reply.field("x-keyrack-role", role.as_bytes());
    reply.field("x-keyrack-scope", scope.as_bytes());
    reply.field_with("x-keyrack-seq", |out| push_number(out, seq.max(0).cast_unsigned()));
}

/// Where the key stands with its limits.
pub(super) fn limits(
    reply: &mut Reply,
    kind: LimitHeaders,
    state: &LimitState,
    details: Option<Details<'_>>,
    now: Now,
) {
    match kind {
        LimitHeaders::X => {
            reply.field_with("x-ratelimit-limit", |out| push_number(out, state.limit));
            reply.field_with("x-ratelimit-remaining", |out| push_number(out, state.remaining));
            reply.field_with("x-ratelimit-reset", |out| push_number(out, state.reset));
        }
        LimitHeaders::Draft => {
            let Some(limit) = details.and_then(|details| details.limits().get(state.at)) else { return };
            // The name is of a-z, 0-9, - and _: it needs no escape.
            let named = |out: &mut Vec<u8>| {
                out.push(b'"');
                out.extend_from_slice(limit.name().as_bytes());
                out.push(b'"');
            };
            let parameter = |out: &mut Vec<u8>, name: &[u8], number| {
                out.extend_from_slice(name);
                push_number(out, number);
            };
            reply.field_with("ratelimit-policy", |out| {
                named(out);
                parameter(out, b";q=", limit.limit());
                parameter(out, b";w=", limit.period_seconds(now));
            });
            reply.field_with("ratelimit", |out| {
                named(out);
                parameter(out, b";r=", state.remaining);
                parameter(out, b";t=", state.reset);
            });
        }
    }
}

/// Seconds after which it is worth asking again, where that is known.
pub(super) fn retry_after(reply: &mut Reply, seconds: Option<u64>) {
    if let Some(seconds) = seconds {
        reply.field_with("retry-after", |out| push_number(out, seconds));
    }
}

/// The finer reason of a denial, where that may be told.
pub(super) fn detail(reply: &mut Reply, detail: Option<&'static str>) {
    if let Some(detail) = detail {
        reply.field("x-keyrack-detail", detail.as_bytes());
    }
}

/// What a client is told that presented no key, or one that does not pass (RFC 6750 section 3).
pub(super) const fn challenge(was_sent: bool) -> &'static [u8] {
    if was_sent { b"Bearer realm=\"keyrack\", error=\"invalid_token\"" } else { b"Bearer realm=\"keyrack\"" }
}

/// A number in decimal digits.
pub(super) fn push_number(out: &mut Vec<u8>, number: u64) {
    let mut digits = [b'0'; 20];
    let (mut rest, mut length) = (number, 0);
    for digit in digits.iter_mut().rev() {
        let value = (rest % 10) as u8;
        *digit = b'0' + value;
        rest /= 10;
        length += 1;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(digits.len() - length..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_digits() {
        for number in [0, 9, 10, 12_345, u64::MAX] {
            let mut out = Vec::new();
            push_number(&mut out, number);
            assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
    }
}
