//! Forward-auth, the same for every gateway but for its dialect: who asks, whose key it is, what was asked for, the verdict.

use keyrack::{
    Ask, AskedRequest, Code, Details, NoBearer, OrganizationId, ProjectId, Verdict, bearer, is_method_override,
};

use super::Doors;
use super::answer;
use super::dialect::{Dialect, Forwarded, Selected, Selectors, Unreadable};
use super::json::Knowledge;
use crate::http::problem::Code as ProblemCode;
use crate::wire::{Peer, Reply, Request};

/// A denial that is not the library's.
struct Denied {
    code: Code,
    detail: Option<&'static str>,
    key_was_sent: bool,
}

impl Denied {
    const fn forbidden(detail: &'static str) -> Self {
        Self { code: Code::Forbidden, detail: Some(detail), key_was_sent: false }
    }
}

impl From<Unreadable> for Denied {
    fn from(Unreadable(detail): Unreadable) -> Self {
        Self::forbidden(detail)
    }
}

impl Doors {
    pub(super) fn forward_auth(&self, dialect: &Dialect, behind: &[u8], request: &Request<'_>, reply: &mut Reply) {
        let ask = self.asked(dialect, behind, request);
        // Before the look-up: what it finds is as new as that, or newer.
        let knowledge = self.knowledge(request);
        match ask {
            Ok(ask) => self.verifier.check_with(&ask, request.now, |verdict, details| {
                self.tell(dialect, (request, knowledge), (verdict, details), reply);
            }),
            Err(denied) => self.deny(dialect, &denied, reply),
        }
    }

    /// The question that the gateway asks.
    fn asked<'a>(&self, dialect: &Dialect, behind: &'a [u8], request: &Request<'a>) -> Result<Ask<'a>, Denied> {
        if let Peer::Address(address) = request.peer
            && !self.proxies.hold(address)
        {
            return Err(Denied::forbidden("peer_untrusted"));
        }
        let Forwarded { method, target, host, forwarded_for, selected } = (dialect.read)(request, Selectors(behind))?;
        if host.is_some_and(|host| !is_a_host(host)) {
            return Err(Denied::forbidden("host_malformed"));
        }
        if let Some(forwarded_for) = forwarded_for {
            self.proxies.client(forwarded_for).map_err(|_bad| Denied::forbidden("address_malformed"))?;
        }
        if request.fields.iter().any(|(name, _)| is_method_override(name)) {
            return Err(Denied::forbidden("method_override"));
        }
        let key = credential(request)?;
        let Selected { policy, project, organization } = selected;
        Ok(Ask {
            key,
            request: Some(AskedRequest { method, target, policy }),
            project: project.map(|id| ProjectId(within_32_bits(id))),
            organization: organization.map(|id| OrganizationId(within_32_bits(id))),
            permission: None,
            cost: 1,
            min_seq: 0,
        })
    }

    fn tell(
        &self,
        dialect: &Dialect,
        (request, knowledge): (&Request<'_>, Knowledge),
        (verdict, details): (&Verdict, Option<Details<'_>>),
        reply: &mut Reply,
    ) {
        match (&verdict.outcome, &verdict.about) {
            (Ok(_), Some(about)) => {
                reply.set_status(200);
                answer::identity(reply, about, knowledge.seq);
                reply.field("cache-control", b"no-store");
            }
            // It does not happen; an answer without a name must not be 200.
            (Ok(_), None) => self.cannot_tell(dialect, reply),
            (Err(_), _) => {
                let denied = Denied { code: verdict.code(), detail: verdict.detail(), key_was_sent: true };
                self.deny(dialect, &denied, reply);
                answer::retry_after(reply, verdict.retry_after());
            }
        }
        if let Some(limit) = &verdict.limit {
            answer::limits(reply, self.headers, limit, details, request.now);
        }
    }

    /// Says that it cannot tell, in the way of a dialect.
    pub(super) fn cannot_tell(&self, dialect: &Dialect, reply: &mut Reply) {
        self.deny(dialect, &Denied { code: Code::Unavailable, detail: None, key_was_sent: true }, reply);
        answer::retry_after(reply, Some(1));
    }

    fn deny(&self, dialect: &Dialect, denied: &Denied, reply: &mut Reply) {
        let (code, message) = match denied.code {
            Code::Valid | Code::Unavailable => {
                (ProblemCode::ServiceUnavailable, "Keys cannot be checked at this moment. Try again.")
            }
            Code::NotFound if !denied.key_was_sent => {
                (ProblemCode::AuthenticationRequired, "Send a key: `Authorization: Bearer <key>`.")
            }
            Code::NotFound => (ProblemCode::AuthenticationRequired, "This key is not known, or not here."),
            Code::Disabled => (ProblemCode::AuthenticationRequired, "This key is disabled for now."),
            Code::Forbidden => (ProblemCode::PermissionDenied, "This key does not reach this request."),
            Code::RateLimited => (ProblemCode::RateLimited, "Too many requests with this key. Slow down."),
            Code::UsageExceeded => (ProblemCode::RateLimited, "The quota of this key is used up."),
        };
        // No memory is taken for a denial: there may be very many of them.
        self.plain_problem(code, message, reply);
        reply.set_status((dialect.status)(denied.code));
        reply.field("x-keyrack-reason", denied.code.as_str().as_bytes());
        reply.field_with("x-keyrack-status", |out| answer::push_number(out, denied.code.status().into()));
        answer::detail(reply, denied.detail);
        if denied.code.status() == 401 {
            reply.field("www-authenticate", answer::challenge(denied.key_was_sent));
        }
    }
}

/// The one key that was presented: one header, one value (contract section 4). An empty one is what a gateway makes of none.
fn credential<'a>(request: &Request<'a>) -> Result<&'a [u8], Denied> {
    let repeated = |_| Denied { code: Code::NotFound, detail: Some("credential_repeated"), key_was_sent: true };
    let missing = Denied { code: Code::NotFound, detail: Some("credential_missing"), key_was_sent: false };
    let value = request.fields.only("authorization").map_err(repeated)?.filter(|value| !value.is_empty());
    let value = value.ok_or(missing)?;
    let denied =
        |no_bearer: NoBearer| Denied { code: Code::NotFound, detail: Some(no_bearer.detail()), key_was_sent: true };
    bearer(value).map_err(denied)
}

/// A number beyond 32 bits is nobody's; neither is 0.
fn within_32_bits(id: u64) -> u32 {
    u32::try_from(id).unwrap_or(0)
}

/// Whether something could be a host and a port: no rule looks at it yet, and none is to be fooled later.
fn is_a_host(host: &[u8]) -> bool {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(byte);
    (1..=255).contains(&host.len()) && host.iter().all(fits)
}
