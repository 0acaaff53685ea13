//! Everything that needs more than one module: one binary, one link.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    reason = "in a test a broken assumption is a failure, and says where"
)]

mod anomalies;
mod api_description;
mod app;
mod bodies;
mod canary;
mod cli;
mod client_keys;
mod concurrency;
mod connections;
mod disk;
mod errors;
mod flips;
mod half_done;
mod idempotency;
mod isolation;
mod limits;
mod listing;
mod refusals;
mod roles;
mod server;
mod strangers;
mod tampering;
mod tenancy_tampering;
mod torture;
