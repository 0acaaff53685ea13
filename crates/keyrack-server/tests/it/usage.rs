//! What keys were used for: counted once, by hour and verdict, never on the way of a verification.

mod counts;
mod faults;
mod killed;
mod reads;

use keyrack::{Ask, AskedRequest, Code};
use serde_json::{Value, json};

use crate::app::TestApp;

const KEYS: &str = "/api/client/keys";
const READ: (&str, &str) = ("GET", "/things");
const WRITE: (&str, &str) = ("POST", "/things");

impl TestApp {
    /// What a verification says of a key that wants to make a request of the user's own API.
    fn check(&self, value: &str, (method, path): (&str, &str)) -> Code {
        let request = AskedRequest { method: method.as_bytes(), target: path.as_bytes(), policy: None };
        let ask = Ask { key: value.as_bytes(), request: Some(request), cost: 1, ..Ask::default() };
        self.app.verifier.check(&ask, self.app.clock.moment()).code()
    }

    /// Writes what was counted.
    async fn flush(&self) {
        self.app.usage.flush().await.unwrap();
    }

    /// A reply that is a success.
    async fn got(&self, path: &str) -> Value {
        let reply = self.call(("GET", path), None).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text);
        reply.json()
    }

    /// The totals of a key over the last 24 hours: valid, forbidden, rate limited, exceeded, not found.
    async fn totals(&self, id: i64) -> [u64; 5] {
        counts(&self.got(&format!("{KEYS}/{id}/usage")).await["totals"])
    }
}

fn counts(step: &Value) -> [u64; 5] {
    let counts = ["valid", "forbidden", "rate_limited", "usage_exceeded", "not_found"].map(|name| step[name].as_u64());
    let counts = counts.map(Option::unwrap);
    assert_eq!(step["total"], counts.iter().sum::<u64>());
    counts
}

/// The steps in which there was a use: when each begins, and how many were valid.
fn used(usage: &Value) -> Vec<(String, u64)> {
    let steps = usage["results"].as_array().unwrap().iter().filter(|step| step["total"] != 0);
    steps.map(|step| (step["at"].as_str().unwrap().to_owned(), step["valid"].as_u64().unwrap())).collect()
}

fn quota(limit: u64, period: &str) -> Value {
    json!([{"name": "calls", "limit": limit, "period": period}])
}
