//! `POST /v1/verify`: a question as JSON, for whatever has no gateway in front of it.

use keyrack::Details;

use super::json;
use super::{Doors, answer};
use crate::wire::{Reply, Request};

impl Doors {
    pub(super) fn verify(&self, request: &Request<'_>, reply: &mut Reply) {
        let question = match json::question(request.body) {
            Ok(question) => question,
            Err(problem) => return self.problem(&problem, reply),
        };
        let Some(ask) = question.ask() else { return };
        let id = self.ids.next();
        let id = std::str::from_utf8(&id).unwrap_or_default();
        answer::common_fields(reply, id.as_bytes());
        reply.field("content-type", b"application/json");
        let knowledge = self.knowledge(request);
        self.verifier.check_with(&ask, request.now, |verdict, details| {
            reply.set_status(verdict.code().status());
            answer::detail(reply, verdict.detail());
            answer::retry_after(reply, verdict.retry_after());
            json::write_answer(reply.body(), verdict, details.iter().flat_map(Details::permissions), knowledge, id);
        });
    }
}
