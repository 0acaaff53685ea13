//! An API that verifies the keys of a running server in its own process:
//! `KEYRACK_URL=http://127.0.0.1:8080 KEYRACK_FOLLOWER_KEY=fk_… cargo run -p keyrack --features axum,remote --example embedded`.
//!
//! Revoke a key at the server: when that answers `"effective": "all"`, this service lets it in no more.
#![expect(clippy::print_stdout, reason = "it says how to try it")]

use std::error::Error;

use axum::Router;
use axum::routing::get;
use keyrack::layer::KeyrackLayer;
use keyrack::remote::{Follower, Remote};
use keyrack::{ApiKey, VerifiedKey};

/// Loads the keys of the server at a URL and follows it, until the first of the two is dropped; the other is the API.
///
/// # Errors
/// If the server or the key is not what it should be.
pub(crate) fn open(url: &str, follower_key: &str) -> Result<(Follower, Router), Box<dyn Error>> {
    let follower = Remote::new(url, ApiKey::parse(follower_key.as_bytes())?).start()?;
    let api = Router::new()
        .route("/events", get(|key: VerifiedKey| async move { format!("seen by key {}\n", key.id()) }))
        .layer(KeyrackLayer::new(follower.verifier()));
    Ok((follower, api))
}

#[expect(clippy::disallowed_methods, reason = "a program of its own: there is no other place")]
fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::var("KEYRACK_URL").map_err(|_unset| "set KEYRACK_URL to the server's URL")?;
    let key = std::env::var("KEYRACK_FOLLOWER_KEY").map_err(|_unset| "set KEYRACK_FOLLOWER_KEY")?;
    let (_follower, api) = open(&url, &key)?;
    tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        println!("curl -i -H 'Authorization: Bearer sk_…' http://{}/events", listener.local_addr()?);
        Ok(axum::serve(listener, api).await?)
    })
}
