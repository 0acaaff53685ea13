//! The small servers of this program, each on one thread: `keyrack-bench serve WHICH ADDRESS`.

mod postgres;

use std::convert::Infallible;
use std::future::Future;

use axum::Router;
use axum::http::{Response, StatusCode};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::Outcome;

/// Serves until the process is stopped.
///
/// # Errors
/// If the server has no such name, or the address cannot be listened on.
pub(crate) fn serve(which: &str, address: &str, arguments: &[String]) -> Outcome<()> {
    match (which, arguments) {
        ("axum", []) => on_one_thread(axum(address)),
        ("hyper", []) => on_one_thread(hyper(address)),
        ("postgres", [database]) => on_one_thread(postgres::serve(address, database)),
        _ => Err(format!("there is no server '{which}'").into()),
    }
}

fn on_one_thread(server: impl Future<Output = Outcome<()>>) -> Outcome<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(server)
}

async fn axum(address: &str) -> Outcome<()> {
    let routes = Router::new().route(crate::PATH, get(|| async { StatusCode::NO_CONTENT }));
    Ok(axum::serve(TcpListener::bind(address).await?, routes).await?)
}

async fn hyper(address: &str) -> Outcome<()> {
    let listener = TcpListener::bind(address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let empty = service_fn(|_request| async {
            let mut response = Response::new(String::new());
            *response.status_mut() = StatusCode::NO_CONTENT;
            Ok::<_, Infallible>(response)
        });
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), empty);
        // How a connection ends is the client's affair.
        tokio::spawn(async move { drop(connection.await) });
    }
}
