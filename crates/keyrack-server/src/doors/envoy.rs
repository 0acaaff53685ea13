//! Envoy's external authorization over HTTP. It asks with its client's own method, at a configured prefix before its
//! client's own path and query. So that no client's path can be read as part of the address, the prefix ends in `/-`.
//!
//! Only over HTTP/1.1: over HTTP/2 the client's path might not be here whole. It may be told to take a 5xx as *allow*, so
//! none is ever sent.

use keyrack::Code;

use super::dialect::{Dialect, Forwarded, Selectors, Unreadable, required};
use crate::wire::Request;

pub(super) static DIALECT: Dialect = Dialect { name: b"envoy", read, status };

fn read<'a>(request: &Request<'a>, door: Selectors<'a>) -> Result<Forwarded<'a>, Unreadable> {
    if !request.target_is_whole {
        return Err(Unreadable("http2_unsupported"));
    }
    let (selected, target) = door.before_marker()?;
    Ok(Forwarded {
        method: request.method,
        target,
        host: Some(required(request, "host", "host_missing")?),
        forwarded_for: request.fields.only("x-forwarded-for")?,
        selected,
    })
}

const fn status(code: Code) -> u16 {
    match code {
        Code::Unavailable => 403,
        Code::Valid | Code::NotFound | Code::Disabled | Code::Forbidden | Code::RateLimited | Code::UsageExceeded => {
            code.status()
        }
    }
}
