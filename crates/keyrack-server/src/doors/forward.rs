//! The forward-auth of Caddy and Traefik. Both ask with GET at a fixed address, set these headers themselves, and hand a
//! denial on as it is.

use super::dialect::{Dialect, Forwarded, Selectors, Unreadable, as_it_is, required};
use crate::wire::Request;

pub(super) static DIALECT: Dialect = Dialect { name: b"forward", read, status: as_it_is };

/// Also how the script for HAProxy asks.
pub(super) fn read<'a>(request: &Request<'a>, door: Selectors<'a>) -> Result<Forwarded<'a>, Unreadable> {
    Ok(Forwarded {
        method: required(request, "x-forwarded-method", "method_missing")?,
        target: required(request, "x-forwarded-uri", "path_missing")?,
        host: Some(required(request, "x-forwarded-host", "host_missing")?),
        forwarded_for: Some(required(request, "x-forwarded-for", "address_missing")?),
        selected: door.whole()?,
    })
}
