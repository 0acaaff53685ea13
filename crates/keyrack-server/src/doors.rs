//! The verification doors: each translates a request into the one question that the library answers, and the verdict back
//! into what its gateway understands (contract section 7).

mod answer;
mod batch;
mod dialect;
mod envoy;
mod forward;
mod forward_auth;
mod haproxy;
mod ids;
mod introspect;
mod json;
mod nginx;
mod verify;

use std::sync::Arc;

use keyrack::{Code, Verifier};

use self::dialect::Dialect;
use self::ids::RequestId;
pub use self::ids::RequestIds;
use self::json::Knowledge;
use crate::config::LimitHeaders;
use crate::http::problem::{Code as ProblemCode, Problem, ProblemDocument};
use crate::proxies::TrustedProxies;
use crate::wire::head::MOST_BODY_BYTES;
use crate::wire::{Reply, Request, Service};

/// Most bytes of one question: a key, a path as long as any that is judged, and more than the rest can be.
const MOST_QUESTION_BYTES: usize = 16 * 1024;

/// What all doors share.
pub struct Doors {
    verifier: Arc<Verifier>,
    proxies: TrustedProxies,
    headers: LimitHeaders,
    problem_types: String,
    ids: RequestIds,
}

/// Which door a target leads to, and what stands behind it.
enum Door<'a> {
    Verify,
    Batch,
    Introspect,
    ForwardAuth(&'static Dialect, &'a [u8]),
    None,
}

impl Doors {
    /// Doors to a verifier.
    pub fn new(verifier: Arc<Verifier>, proxies: TrustedProxies, headers: LimitHeaders, problem_types: String) -> Self {
        Self { verifier, proxies, headers, problem_types, ids: RequestIds::new() }
    }

    fn knowledge(&self, request: &Request<'_>) -> Knowledge {
        let index = self.verifier.index();
        Knowledge { seq: index.position(), age: index.age(request.now) }
    }

    fn problem(&self, problem: &Problem, reply: &mut Reply) {
        let id = self.begin_problem(problem.status(), reply);
        let id = std::str::from_utf8(&id).unwrap_or_default();
        reply.body().extend_from_slice(&problem.body(&self.problem_types, id));
    }

    /// [`Doors::problem`] with no more to say than that.
    fn plain_problem(&self, code: ProblemCode, message: &'static str, reply: &mut Reply) {
        let id = self.begin_problem(code.status(), reply);
        let id = std::str::from_utf8(&id).unwrap_or_default();
        ProblemDocument::new(code, message, &self.problem_types, id).write(reply.body());
    }

    fn begin_problem(&self, status: u16, reply: &mut Reply) -> RequestId {
        let id = self.ids.next();
        reply.set_status(status);
        answer::common_fields(reply, &id);
        reply.field("content-type", crate::http::problem::MEDIA_TYPE.as_bytes());
        id
    }

    /// Refuses another method than POST.
    fn is_post(&self, request: &Request<'_>, reply: &mut Reply) -> bool {
        let is_post = request.method == b"POST";
        if !is_post {
            self.problem(&Problem::new(ProblemCode::MethodNotAllowed, "This door takes POST."), reply);
            reply.field("allow", b"POST");
        }
        is_post
    }
}

impl<'a> Door<'a> {
    fn of(target: &'a [u8]) -> Self {
        if let Some(behind) = target.strip_prefix(b"/v1/auth/") {
            return Dialect::of(behind).map_or(Self::None, |(dialect, behind)| Self::ForwardAuth(dialect, behind));
        }
        let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
        match path {
            b"/v1/verify" => Self::Verify,
            b"/v1/verify/batch" => Self::Batch,
            b"/v1/introspect" => Self::Introspect,
            _ => Self::None,
        }
    }
}

impl Service for Doors {
    fn answer(&self, request: &Request<'_>, reply: &mut Reply) {
        match Door::of(request.target) {
            Door::ForwardAuth(dialect, behind) => self.forward_auth(dialect, behind, request, reply),
            Door::Verify if self.is_post(request, reply) => self.verify(request, reply),
            Door::Batch if self.is_post(request, reply) => self.batch(request, reply),
            Door::Introspect if self.is_post(request, reply) => self.introspect(request, reply),
            Door::Verify | Door::Batch | Door::Introspect => {}
            Door::None => {
                let doors = "There is no such door. There are /v1/verify, /v1/verify/batch, /v1/introspect and \
                             /v1/auth/ followed by nginx, forward, haproxy or envoy.";
                self.problem(&Problem::new(ProblemCode::ResourceMissing, doors), reply);
            }
        }
        if let Some(age) = self.verifier.index().staleness(request.now) {
            reply.field_with("x-keyrack-stale", |out| answer::push_number(out, age.as_secs()));
        }
    }

    fn most_body(&self, target: &[u8]) -> usize {
        match Door::of(target) {
            Door::ForwardAuth(..) => 0,
            Door::Verify | Door::Introspect | Door::None => MOST_QUESTION_BYTES,
            Door::Batch => MOST_BODY_BYTES,
        }
    }

    fn must_know_the_time(&self) -> bool {
        self.verifier.index().is_leased()
    }

    fn refused(&self, target: &[u8], reply: &mut Reply) {
        // A gateway would take the wire's own status for a fault, and its client did not keep to HTTP.
        if let Door::ForwardAuth(dialect, _) = Door::of(target) {
            reply.set_status((dialect.status)(Code::Forbidden));
            reply.field("x-keyrack-reason", Code::Forbidden.as_str().as_bytes());
            reply.field("x-keyrack-status", b"403");
            reply.field("x-keyrack-detail", b"request_malformed");
        }
    }

    fn broken(&self, target: &[u8], reply: &mut Reply) {
        tracing::error!("a verification panicked; it was answered as one that cannot be told");
        match Door::of(target) {
            Door::ForwardAuth(dialect, _) => self.cannot_tell(dialect, reply),
            Door::Verify | Door::Batch | Door::Introspect | Door::None => {
                self.problem(&Problem::unavailable("Keys cannot be checked at this moment. Try again."), reply);
                reply.field("x-keyrack-reason", b"UNAVAILABLE");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use keyrack::{Index, Lease};

    use super::*;

    #[test]
    fn the_clocks_are_read_behind_every_question_where_a_lease_may_be_over() {
        let doors = Doors::new(
            Arc::new(Verifier::new(Index::with_capacity(0))),
            TrustedProxies::parse("127.0.0.1").unwrap(),
            LimitHeaders::X,
            String::new(),
        );
        assert!(!doors.must_know_the_time(), "what is this process's own cannot be old");
        let until = Duration::from_secs(1);
        doors.verifier.index().renew(Lease { heard: Duration::ZERO, fresh_until: until, trusted_until: until });
        assert!(doors.must_know_the_time());
    }
}
