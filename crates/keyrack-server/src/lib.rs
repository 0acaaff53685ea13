//! The Keyrack service: everything behind the binary `keyrack`.

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
pub mod keys;
pub mod limits;
pub mod listing;
pub mod process;
pub mod random;
pub mod replies;
pub mod root_key;
pub mod serve;
pub mod store;
pub mod stored_key;
pub mod telemetry;
