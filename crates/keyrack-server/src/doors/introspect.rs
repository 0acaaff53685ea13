//! `POST /v1/introspect`: OAuth 2.0 token introspection (RFC 7662), for gateways that already speak it. Only the key itself is
//! judged, and that is a use of it: it counts, and takes one from its limits. As the standard asks, not everybody may ask: only peers
//! that are trusted as proxies.

use keyrack::{Ask, Code, Details, Holder};
use serde_json::json;

use super::{Doors, answer};
use crate::http::problem::{Code as ProblemCode, Problem};
use crate::wire::{Peer, Reply, Request};

impl Doors {
    pub(super) fn introspect(&self, request: &Request<'_>, reply: &mut Reply) {
        if let Peer::Address(address) = request.peer
            && !self.proxies.hold(address)
        {
            let message = "Only trusted proxies may introspect keys. See the setting trusted_proxies.";
            return self.problem(&Problem::new(ProblemCode::PermissionDenied, message), reply);
        }
        if !is_form(request) {
            let message = "Send one `token`, as `application/x-www-form-urlencoded`.";
            return self.problem(&Problem::new(ProblemCode::MediaTypeUnsupported, message), reply);
        }
        let mut tokens = form_urlencoded::parse(request.body).filter(|(name, _)| name == "token");
        let (Some((_, token)), None) = (tokens.next(), tokens.next()) else {
            let message = "Send one `token`, as `application/x-www-form-urlencoded`.";
            return self.problem(&Problem::param(ProblemCode::ParameterMissing, "token", message), reply);
        };
        let ask = Ask { key: token.as_bytes(), cost: 1, ..Ask::default() };
        let verdict = self.verifier.check_with(&ask, request.now, |verdict, details| {
            (*verdict, details.iter().flat_map(Details::permissions).collect::<Vec<_>>().join(" "))
        });
        let (verdict, permissions) = verdict;
        let body = match (verdict.code(), verdict.about.map(|about| (about.id, about.holder))) {
            (Code::Valid, Some((id, Holder::Project { project, organization, scope, role, .. }))) => json!({
                "active": true,
                "token_type": "Bearer",
                "sub": id.0.to_string(),
                "client_id": project.0.to_string(),
                "scope": permissions,
                "key_id": id.0,
                "project_id": project.0,
                "organization_id": organization.0,
                "key_scope": scope.as_str(),
                "role": role.as_str(),
            }),
            (code @ (Code::RateLimited | Code::UsageExceeded), _) => {
                self.problem(&Problem::new(ProblemCode::RateLimited, "This key was used too often."), reply);
                reply.field("x-keyrack-reason", code.as_str().as_bytes());
                return answer::retry_after(reply, verdict.retry_after());
            }
            (Code::Unavailable, _) => {
                self.problem(&Problem::unavailable("Keys cannot be checked at this moment. Try again."), reply);
                reply.field("x-keyrack-reason", b"UNAVAILABLE");
                return answer::retry_after(reply, verdict.retry_after());
            }
            (Code::Valid | Code::NotFound | Code::Disabled | Code::Forbidden, _) => json!({"active": false}),
        };
        reply.set_status(200);
        answer::common_fields(reply, &self.ids.next());
        reply.field("content-type", b"application/json");
        reply.body().extend_from_slice(body.to_string().as_bytes());
    }
}

/// Whether the body says that it is a form, whatever parameters it has (RFC 7662 section 2.1).
fn is_form(request: &Request<'_>) -> bool {
    let Ok(Some(media_type)) = request.fields.only("content-type") else { return false };
    let name = media_type.split(|byte| *byte == b';').next().unwrap_or_default();
    name.trim_ascii().eq_ignore_ascii_case(b"application/x-www-form-urlencoded")
}
