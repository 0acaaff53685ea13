//! What an operator watches, in the text format of Prometheus. On a listener of its own, which answers nothing else and asks for no key:
//! it is for the network of whoever watches.

use std::fmt::Write as _;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use axum_server::Handle;

use crate::clock::Clock;
use crate::store::{Lease, Standing, Store};

/// Version 0.0.4 of the text format.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the metrics are taken from.
pub struct Watched {
    /// The store and the index over it.
    pub store: Arc<Store>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

/// Answers `GET /metrics` until the handle is told to stop.
///
/// # Errors
/// The listener cannot be used.
pub async fn serve(listener: TcpListener, watched: Watched, handle: Handle<SocketAddr>) -> io::Result<()> {
    let router = Router::new().route("/metrics", get(read)).with_state(Arc::new(watched));
    axum_server::from_tcp(listener)?.http1_only().handle(handle).serve(router.into_make_service()).await
}

async fn read(State(watched): State<Arc<Watched>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, TEXT)], text(&watched.store.standing(watched.clock.moment())))
}

/// All of it as text.
fn text(standing: &Standing) -> String {
    let mut text = String::new();
    let version = format!("{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    one(&mut text, "build_info", "gauge", "Which version runs.", &[(version.as_str(), 1.0)]);
    let is = |yes: bool| if yes { 1.0 } else { 0.0 };
    let lease = [
        ("{state=\"fresh\"}", is(standing.lease == Lease::Fresh)),
        ("{state=\"stale\"}", is(standing.lease == Lease::Stale)),
        ("{state=\"expired\"}", is(standing.lease == Lease::Expired)),
    ];
    one(&mut text, "lease", "gauge", "Whether keys are verified: stale ones still are, expired ones are not.", &lease);
    let whole: [(&str, &str, &str, f64); 6] = [
        ("age_seconds", "gauge", "For how long nothing was heard of the store.", standing.age.as_secs_f64()),
        ("keys", "gauge", "Keys in memory, those that were revoked since the start included.", standing.keys as f64),
        ("log_position", "gauge", "How far the log of changes is in force here.", standing.seq as f64),
        ("reloads_total", "counter", "How often everything was loaded anew.", standing.reloads as f64),
        ("journal_revocations", "gauge", "Revocations that the store does not have yet.", standing.waiting as f64),
        ("loaded", "gauge", "Whether every key has been loaded.", is(standing.is_loaded)),
    ];
    for (name, kind, help, value) in whole {
        one(&mut text, name, kind, help, &[("", value)]);
    }
    text
}

fn one(text: &mut String, name: &str, kind: &str, help: &str, values: &[(&str, f64)]) {
    // A string takes whatever is written to it.
    let _always = writeln!(text, "# HELP keyrack_{name} {help}\n# TYPE keyrack_{name} {kind}");
    for (labels, value) in values {
        let _always = writeln!(text, "keyrack_{name}{labels} {value}");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_watched_is_text_for_prometheus() {
        let standing = Standing {
            lease: Lease::Stale,
            age: Duration::from_millis(2_500),
            keys: 3,
            seq: 41,
            reloads: 1,
            waiting: 2,
            is_loaded: true,
        };
        let text = text(&standing);
        let values: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let version = format!("keyrack_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"));
        let expected = [
            version.as_str(),
            "keyrack_lease{state=\"fresh\"} 0",
            "keyrack_lease{state=\"stale\"} 1",
            "keyrack_lease{state=\"expired\"} 0",
            "keyrack_age_seconds 2.5",
            "keyrack_keys 3",
            "keyrack_log_position 41",
            "keyrack_reloads_total 1",
            "keyrack_journal_revocations 2",
            "keyrack_loaded 1",
        ];
        assert_eq!(values, expected);
        assert_eq!(text.lines().filter(|line| line.starts_with("# TYPE keyrack_")).count(), 8);
    }
}
