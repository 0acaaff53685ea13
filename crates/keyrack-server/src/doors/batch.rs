//! `POST /v1/verify/batch`: many questions at once, looked up together.

use keyrack::{Ask, Details};

use super::json::{self, Question};
use super::{Doors, answer};
use crate::wire::{Reply, Request};

impl Doors {
    pub(super) fn batch(&self, request: &Request<'_>, reply: &mut Reply) {
        let questions = match json::questions(request.body) {
            Ok(questions) => questions,
            Err(problem) => return self.problem(&problem, reply),
        };
        let asks: Vec<Ask<'_>> = questions.iter().filter_map(Question::ask).collect();
        let id = self.ids.next();
        let id = std::str::from_utf8(&id).unwrap_or_default();
        reply.set_status(200);
        answer::common_fields(reply, id.as_bytes());
        reply.field("content-type", b"application/json");
        let knowledge = self.knowledge(request);
        let out = reply.body();
        out.extend_from_slice(b"{\"results\":[");
        let mut is_first = true;
        self.verifier.check_batch(&asks, request.now, |verdict, details| {
            if !std::mem::take(&mut is_first) {
                out.push(b',');
            }
            json::write_answer(out, verdict, details.iter().flat_map(Details::permissions), knowledge, id);
        });
        out.extend_from_slice(b"]}");
    }
}
