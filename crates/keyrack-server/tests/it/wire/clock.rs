//! What time a request is judged at.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use keyrack_server::clock::{Clock as _, SystemClock};
use keyrack_server::wire::{Reply, Request, Service, bind, start};

use super::{connect, get, settings};

/// Says what time it is for it, and takes its time where it is asked to.
struct Slow;

impl Service for Slow {
    fn answer(&self, request: &Request<'_>, reply: &mut Reply) {
        if request.target == b"/slow" {
            thread::sleep(Duration::from_millis(200));
        }
        reply.set_status(200);
        reply.body().extend_from_slice(request.now.boot.as_micros().to_string().as_bytes());
    }

    fn must_know_the_time(&self) -> bool {
        true
    }
}

/// The thread is held up between seeing that a connection can be read and reading it, as by a stopped process; what was sent
/// meanwhile is judged at the time that it is then.
#[test]
fn what_was_sent_while_the_thread_was_held_up_is_not_judged_by_an_old_clock() {
    let settings = settings();
    let wire = start(bind(&settings).unwrap(), settings, Arc::new(Slow)).unwrap();
    let (mut first, mut slow, mut late) = (connect(&wire), connect(&wire), connect(&wire));
    first.send(get("/slow"));
    thread::sleep(Duration::from_millis(50));
    // Both can be read in the next turn: one holds it up, of the other only a part is there.
    slow.send(get("/slow"));
    let whole = get("/late");
    let (begin, end) = whole.split_at(10);
    thread::sleep(Duration::from_millis(20));
    late.send(begin);
    thread::sleep(Duration::from_millis(230));
    let sent = SystemClock.moment().boot.as_micros();
    late.send(end);
    let judged: u128 = late.answer().text().parse().unwrap();
    assert!(judged >= sent, "judged at {judged}, sent at {sent}");
}
