//! Arbitrary bytes as the body of a question about a key: nothing panics, every reply can be sent, and nobody passes where no key is.
#![no_main]

use std::sync::{Arc, LazyLock};

use keyrack::{Index, Now, Verifier};
use keyrack_server::config::LimitHeaders;
use keyrack_server::doors::Doors;
use keyrack_server::proxies::TrustedProxies;
use keyrack_server::wire::{Field, Fields, Peer, Reply, Request, Service as _};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

static DOORS: LazyLock<Doors> = LazyLock::new(|| {
    let verifier = Arc::new(Verifier::new(Index::with_capacity(1)));
    verifier.index().mark_loaded();
    let proxies = TrustedProxies::parse("").expect("nobody");
    Doors::new(verifier, proxies, LimitHeaders::X, String::new())
});

fuzz_target!(|data: &[u8]| {
    ask(b"/v1/verify", data);
    ask(b"/v1/verify/batch", data);
    ask(b"/v1/introspect", data);
    ask(b"/v1/introspect", &[b"token=", data].concat());
    // Arbitrary bytes seldom are JSON, so they are also tried as what is in it.
    let text = String::from_utf8_lossy(data);
    let mut words = text.split('|').chain(std::iter::repeat(""));
    let mut word = || words.next().unwrap_or_default();
    let question = json!({
        "key": word(), "method": word(), "path": word(), "policy": word(), "permission": word(), "origin": word(),
        "client_address": word(), "cost": word().parse::<i64>().unwrap_or(1),
    });
    ask(b"/v1/verify", question.to_string().as_bytes());
    ask(b"/v1/verify/batch", json!({"requests": [question, {"key": word()}]}).to_string().as_bytes());
});

fn ask(target: &[u8], body: &[u8]) {
    let fields = [Field { name: "content-type", value: b"application/x-www-form-urlencoded" }];
    let request = Request {
        method: b"POST",
        target,
        target_is_whole: true,
        fields: Fields::new(&fields),
        body,
        peer: Peer::Unix,
        now: Now::default(),
    };
    let mut reply = Reply::default();
    DOORS.answer(&request, &mut reply);
    assert!(reply.is_sound(), "a reply that cannot be sent");
    let said: Value = serde_json::from_slice(reply.content()).expect("a reply is JSON");
    match (target, reply.status()) {
        (b"/v1/verify", status) => assert!(matches!(status, 400 | 401 | 422), "{status}"),
        (b"/v1/verify/batch", 200) => {
            let results = said["results"].as_array().expect("results");
            assert!(results.iter().all(|result| result["code"] == "NOT_FOUND"), "{said}");
        }
        (b"/v1/introspect", 200) => assert_eq!(said, json!({"active": false})),
        (_, status) => assert!(matches!(status, 400 | 422), "{status}"),
    }
}
