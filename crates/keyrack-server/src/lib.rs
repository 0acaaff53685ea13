//! The Keyrack service: everything behind the binary `keyrack`.

pub mod actor;
pub mod app;
pub mod audit;
pub mod canonical;
pub mod cli;
pub mod clock;
pub mod config;
pub mod crash;
pub mod data_dir;
pub mod http;
pub mod installation;
pub mod kept;
pub mod keys;
pub mod listing;
pub mod organizations;
pub mod process;
pub mod projects;
pub mod random;
pub mod refusal;
pub mod replies;
pub mod root_key;
pub mod serve;
pub mod store;
pub mod stored_key;
pub mod telemetry;
pub mod tenancy;
