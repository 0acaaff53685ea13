//! The database that the tests of a run are made on: a file for each of them or, where `KEYRACK_TEST_DATABASE` names a PostgreSQL
//! server, a schema of its own on that. `./dev test` runs them on both.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use keyrack_server::store::{DATABASE_FILE, Database, Server};
use tokio_postgres::{Client, NoTls};

/// URL of the server, up to its parameters.
pub(crate) fn server() -> Option<String> {
    std::env::var("KEYRACK_TEST_DATABASE").ok()
}

/// A database that nobody else uses.
pub(crate) async fn new_database(dir: &Path) -> Database {
    match server() {
        None => Database::File(dir.join(DATABASE_FILE)),
        Some(server) => Database::Server(Arc::new(Server::parse(&new_schema(&server).await).unwrap())),
    }
}

/// The URL of a new schema on a server.
pub(crate) async fn new_schema(server: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("t{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    connect(server).await.batch_execute(&format!("CREATE SCHEMA {name}")).await.unwrap();
    format!("{server}?options=-csearch_path%3D{name}")
}

/// A connection beside those of the server under test.
pub(crate) async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}
