//! How soon a change is known to the others, and how long it waits for one that hears nothing.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::behind_proxies;
use super::history::Outcome;
use crate::server::Reply;

/// So many in a row that polling four times a second would not bring about once in a million.
const IN_A_ROW: usize = 10;

#[test]
fn a_change_is_known_to_the_others_as_soon_as_the_database_tells_them() {
    let (cluster, _proxies) = behind_proxies(2, "--stale-limit=5m");
    let began = Instant::now();
    let (mut quick, mut round) = (0, 0);
    while quick < IN_A_ROW {
        assert!(began.elapsed() < Duration::from_secs(50), "it is never known as soon as that");
        let made = cluster.create(0, &format!("key {round}")).unwrap();
        let made_at = Instant::now();
        while cluster.nodes[1].verify(&made.value, made.seq) != Outcome::Accepted {
            thread::sleep(Duration::from_millis(1));
        }
        quick = if made_at.elapsed() < Duration::from_millis(60) { quick + 1 } else { 0 };
        round += 1;
    }
}

#[test]
fn a_node_that_is_stopped_holds_a_revocation_up_until_its_lease_is_over() {
    let (cluster, _proxies) = behind_proxies(2, "--stale-limit=3s");
    let made = cluster.create(0, "key").unwrap();
    let stopped = &cluster.nodes[1];
    while stopped.verify(&made.value, made.seq) != Outcome::Accepted {
        thread::sleep(Duration::from_millis(5));
    }
    stopped.signal(Signal::STOP);
    let asked = Instant::now();
    let revoked = cluster.revoke(0, made.id, "wait=7");
    let waited = asked.elapsed();
    stopped.signal(Signal::CONT);
    let resumed = Instant::now();
    let revoked = revoked.as_ref().map(Reply::json);
    assert_eq!(revoked.map(|revoked| revoked["effective"].clone()), Some("all".into()), "after {waited:?}");
    assert!(waited >= Duration::from_secs(3), "it may have answered until then: {waited:?}");
    while resumed.elapsed() < Duration::from_secs(1) {
        assert_ne!(stopped.verify(&made.value, made.seq), Outcome::Accepted);
    }
}
