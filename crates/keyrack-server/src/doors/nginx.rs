//! nginx's `auth_request`. It asks with GET at a fixed address; what its client asked for stands in the headers that our
//! configuration sets. It understands 200, 401 and 403: whatever else comes it makes a 500 of.

use keyrack::Code;

use super::dialect::{Dialect, Forwarded, Selectors, Unreadable, required};
use crate::wire::Request;

pub(super) static DIALECT: Dialect = Dialect { name: b"nginx", read, status };

fn read<'a>(request: &Request<'a>, door: Selectors<'a>) -> Result<Forwarded<'a>, Unreadable> {
    Ok(Forwarded {
        method: required(request, "x-original-method", "method_missing")?,
        target: required(request, "x-original-uri", "path_missing")?,
        host: None,
        forwarded_for: request.fields.only("x-forwarded-for")?,
        selected: door.whole()?,
    })
}

const fn status(code: Code) -> u16 {
    match code {
        Code::Valid => 200,
        Code::NotFound | Code::Disabled => 401,
        Code::Forbidden | Code::RateLimited | Code::UsageExceeded | Code::Unavailable => 403,
    }
}
