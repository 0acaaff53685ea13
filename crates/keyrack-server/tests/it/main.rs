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
mod archiving;
mod audit_events;
mod authors;
mod bodies;
mod canary;
mod cli;
mod cli_client;
mod client_keys;
mod cluster;
mod concurrency;
mod conflicts;
mod connections;
mod copying;
mod database;
mod disk;
mod doors;
mod errors;
mod failover;
mod flips;
mod followers;
mod gateways;
mod grants;
mod group_commit;
mod half_done;
mod heard;
mod hosts;
mod idempotency;
mod isolation;
mod journey;
mod limits;
mod listing;
mod loading;
mod members;
mod methods;
mod metrics;
mod migrations;
mod nodes;
mod operator_keys;
mod organization_keys;
mod organizations;
mod policy;
mod project_keys;
mod projects;
mod reach;
mod refusals;
mod replays;
mod restoring;
mod roles;
mod server;
mod sleeping;
mod standby;
mod stopping;
mod strace;
mod strangers;
mod surfaces;
mod suspension;
mod system_keys;
mod tampering;
mod tenancy_tampering;
mod torture;
mod usage;
mod wire;
