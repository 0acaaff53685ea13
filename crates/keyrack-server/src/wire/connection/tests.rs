use std::sync::Arc;

use super::*;
use crate::wire::{Limits, Reply, Request, Service, WireSettings};

struct Yes;

impl Service for Yes {
    fn answer(&self, _: &Request<'_>, reply: &mut Reply) {
        reply.set_status(204);
    }
}

fn desk(limits: Limits) -> Desk {
    let settings = WireSettings {
        tcp: None,
        unix: None,
        threads: 1,
        limits,
        problem_types: String::new(),
        request_id: Arc::new(String::new),
    };
    Desk::new(Arc::new(settings), Arc::new(Yes))
}

#[test]
fn what_was_sent_does_not_pile_up_for_who_reads_slowly() {
    const UNSENT_BYTES: usize = 64 * 1024;
    let mut desk = desk(Limits { unsent_bytes: UNSENT_BYTES, ..Limits::default() });
    let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.set_nonblocking(true).unwrap();
    let mut connection = Connection::new(Stream::Unix(UnixStream::from_std(ours)), Peer::Unix, &desk);
    let (requests, mut into) = (b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1_024), [0; 2_048]);
    let (mut behind, mut read, mut kept, mut rounds) = (0, 0, 0, 0);
    // It always has more to ask, and is never far from having read all.
    while read < 4 * 1024 * 1024 {
        behind = (behind + theirs.write(&requests[behind..]).unwrap_or(0)) % requests.len();
        connection.told(true, false);
        connection.hear(&mut desk).unwrap();
        kept = kept.max(connection.unsent.capacity());
        read += theirs.read(&mut into).unwrap_or(0);
        rounds += 1;
        assert!(rounds < 1_000_000, "nothing comes any more, after {read} bytes");
    }
    // What is read at once is answered up to the limit; room grows by doubling.
    assert!(kept <= 4 * UNSENT_BYTES, "{kept}");
}
