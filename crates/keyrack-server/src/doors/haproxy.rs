//! HAProxy, which asks through our script on its own HTTP client: the script sets the same headers as Caddy and Traefik
//! do, and hands a denial on as it is.

use super::dialect::{Dialect, as_it_is};
use super::forward;

pub(super) static DIALECT: Dialect = Dialect { name: b"haproxy", read: forward::read, status: as_it_is };
