//! The way most services check a key: a framework, and a SELECT for each request.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::get;
use keyrack::{ApiKey, KeyDigest};
use tokio::net::TcpListener;
use tokio_postgres::{Client, NoTls, Statement};

use crate::Outcome;

struct Database {
    client: Client,
    find: Statement,
}

/// Serves one route that looks the bearer up in `api_keys`. Requests share one connection to the database, which sends
/// statements on without waiting for the answers to those before.
pub(super) async fn serve(address: &str, database: &str) -> Outcome<()> {
    let (client, connection) = tokio_postgres::connect(database, NoTls).await?;
    // Without its connection every statement fails, and each request says so.
    tokio::spawn(async move { drop(connection.await) });
    let find = client.prepare("SELECT id, role FROM api_keys WHERE digest = $1").await?;
    let routes = Router::new().route(crate::PATH, get(verify)).with_state(Arc::new(Database { client, find }));
    Ok(axum::serve(TcpListener::bind(address).await?, routes).await?)
}

async fn verify(State(database): State<Arc<Database>>, headers: HeaderMap) -> StatusCode {
    let presented = headers.get(header::AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    let Some(Ok(key)) = presented.map(ApiKey::parse) else { return StatusCode::UNAUTHORIZED };
    let digest = KeyDigest::of(&key);
    match database.client.query_opt(&database.find, &[&digest.as_bytes().as_slice()]).await {
        Ok(Some(row)) if !row.get::<_, &str>("role").is_empty() && row.get::<_, i64>("id") > 0 => StatusCode::OK,
        Ok(_) => StatusCode::UNAUTHORIZED,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}
