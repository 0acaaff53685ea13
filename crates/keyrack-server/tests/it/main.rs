//! Everything that needs more than one module: one binary, one link.

mod server;
