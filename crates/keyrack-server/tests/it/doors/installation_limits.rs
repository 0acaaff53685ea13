//! Limits that the installation sets for every project key, in the real binary.

use std::time::{Duration, Instant};

use keyrack_server::clock::{Clock as _, SystemClock};
use keyrack_server::usage::INTERVAL;
use serde_json::{Value, json};

use super::Running;
use crate::cli::{Host, words};
use crate::server::keyrack;

const KEYS: &str = "/api/client/keys";
/// Nothing of it comes back while a test runs.
const LONG: &str = "31d";

fn limit(name: &str, limit: u64, period: &str) -> Value {
    json!({"name": name, "limit": limit, "period": period})
}

/// Asks about a key so many times; gives each time the code, and how much is left of how much.
fn asked(running: &Running, key: &str, times: usize) -> Vec<(String, u64, u64)> {
    let answers = (0..times).map(|_| running.verify(&json!({"key": key})).json());
    let told = answers.map(|answer| {
        let number = |name: &str| answer["ratelimit"][name].as_u64().unwrap();
        (answer["code"].as_str().unwrap().to_owned(), number("remaining"), number("limit"))
    });
    told.collect()
}

fn expected(answers: &[(&str, u64, u64)]) -> Vec<(String, u64, u64)> {
    answers.iter().map(|(code, remaining, limit)| ((*code).to_owned(), *remaining, *limit)).collect()
}

/// A tenant manages its own keys, and must not lift what the operator set (decision 9).
#[test]
fn a_limit_of_the_installation_wins_over_a_keys_own_of_that_name() {
    let host = Host::new();
    let admin = words(&host.keys, "project_key");
    let running = Running::with(&host.data(), &[]);
    let own = |name: &str, most: u64| running.key(&admin, &json!({"name": "x", "limits": [limit(name, most, LONG)]}));
    let ((greedy_id, greedy), (_, modest), (_, other)) = (own("calls", 1_000), own("calls", 1), own("other", 2));
    assert_eq!(asked(&running, &greedy, 1), expected(&[("VALID", 999, 1_000)]), "there is no other yet");
    assert!(running.server.stop().success());

    let running = Running::with(&host.data(), &["--key-limits", &format!("calls=3/{LONG}")]);
    let to_the_end = expected(&[("VALID", 2, 3), ("VALID", 1, 3), ("VALID", 0, 3), ("RATE_LIMITED", 0, 3)]);
    assert_eq!(asked(&running, &greedy, 4), to_the_end);
    assert_eq!(asked(&running, &modest, 4), to_the_end, "in both directions");
    let both = expected(&[("VALID", 1, 2), ("VALID", 0, 2), ("RATE_LIMITED", 0, 2)]);
    assert_eq!(asked(&running, &other, 3), both, "one of another name stands beside it");
    // Neither a key that is made now nor a change gets around it.
    let (_, made) = running.key(&admin, &json!({"name": "x", "limits": [limit("calls", 1_000, LONG)]}));
    assert_eq!(asked(&running, &made, 4), to_the_end);
    let path = format!("{KEYS}/{greedy_id}");
    let patch = json!({"limits": [limit("calls", 5_000, LONG)]});
    let changed = running.server.send("PATCH", &path, &admin, Some(&patch), &[]).unwrap();
    assert_eq!((changed.status, &changed.json()["limits"][0]["limit"]), (200, &json!(5_000)), "it is kept as it is");
    assert_eq!(asked(&running, &greedy, 1), expected(&[("RATE_LIMITED", 0, 3)]));
    assert!(running.server.stop().success());

    let running = Running::with(&host.data(), &[]);
    assert_eq!(asked(&running, &greedy, 1), expected(&[("VALID", 4_999, 5_000)]), "what it had of its own is back");
}

/// Does something within one day of the calendar, again if the day ended meanwhile.
fn within_a_day(run: impl Fn()) {
    let today = || SystemClock.moment().unix_seconds.div_euclid(86_400);
    loop {
        let day = today();
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(&run));
        match done {
            Ok(()) => return,
            Err(failed) if today() == day => std::panic::resume_unwind(failed),
            Err(_) => {}
        }
    }
}

#[test]
fn what_was_counted_of_a_day_is_not_forgotten_by_a_restart() {
    within_a_day(|| {
        let host = Host::new();
        let admin = words(&host.keys, "project_key");
        let start = || Running::with(&host.data(), &["--key-limits", "calls=5/day"]);
        let running = start();
        let (id, key) = running.key(&admin, &json!({"name": "x", "limits": [limit("own", 100, "day")]}));
        assert_eq!(asked(&running, &key, 2), expected(&[("VALID", 4, 5), ("VALID", 3, 5)]));
        assert!(running.server.stop().success());

        let mut running = start();
        assert_eq!(asked(&running, &key, 2), expected(&[("VALID", 2, 5), ("VALID", 1, 5)]), "after a stop");
        let path = format!("{KEYS}/{id}/usage?step=month");
        let begun = Instant::now();
        while running.server.send("GET", &path, &admin, None, &[]).unwrap().json()["totals"]["valid"] != 4 {
            assert!(begun.elapsed() < INTERVAL * 30, "nothing is written");
            std::thread::sleep(Duration::from_millis(50));
        }
        running.server.child.kill().unwrap();
        drop(running);

        let running = start();
        let left = expected(&[("VALID", 0, 5), ("USAGE_EXCEEDED", 0, 5)]);
        assert_eq!(asked(&running, &key, 2), left, "after it was killed");
        drop(running);
        let without = Running::with(&host.data(), &[]);
        assert_eq!(asked(&without, &key, 1)[0].2, 100, "of its own it has its count all the same");
    });
}

#[test]
fn a_key_has_eight_limits_of_its_own_beside_eight_of_the_installation_and_no_ninth() {
    let host = Host::new();
    let admin = words(&host.keys, "project_key");
    // Their names stand before, between and behind those that a key has of its own.
    let names = ["a1", "a2", "a3", "e1", "e2", "z1", "z2", "z3"];
    let all_of_one = |least: &str, most: u64| {
        let size = |name: &str| if name == least { most } else { 1_000 };
        names.map(|name| format!("{name}={}/{LONG}", size(name))).join(" ")
    };
    let own = |smallest: &str, most: u64, how_many: usize| {
        let names = ["c1", "c2", "c3", "c4", "g1", "g2", "g3", "g4", "g5"].into_iter().take(how_many);
        let size = |name: &str| if name == smallest { most } else { 1_000 };
        Value::from(names.map(|name| limit(name, size(name), LONG)).collect::<Vec<_>>())
    };
    for (nth, least) in names.into_iter().enumerate() {
        let running = Running::with(&host.data(), &["--key-limits", &all_of_one(least, 4)]);
        let (_, key) = running.key(&admin, &json!({"name": "x", "limits": own("", 0, 8)}));
        assert_eq!(asked(&running, &key, 1), expected(&[("VALID", 3, 4)]), "{least} is in force");
        if nth > 0 {
            continue;
        }
        for least in ["c1", "c4", "g1", "g4"] {
            let (_, key) = running.key(&admin, &json!({"name": "x", "limits": own(least, 2, 8)}));
            let answers = expected(&[("VALID", 1, 2), ("VALID", 0, 2), ("RATE_LIMITED", 0, 2)]);
            assert_eq!(asked(&running, &key, 3), answers, "{least} is in force");
        }
        let (id, _) = running.key(&admin, &json!({"name": "x"}));
        let nine = json!({"name": "x", "limits": own("", 0, 9)});
        let patch = json!({"limits": own("", 0, 9)});
        for (method, path, body) in [("POST", KEYS.to_owned(), nine), ("PATCH", format!("{KEYS}/{id}"), patch)] {
            let refused = running.server.send(method, &path, &admin, Some(&body), &[]).unwrap();
            let fault = &refused.json()["errors"][0];
            assert_eq!((refused.status, &fault["param"]), (422, &json!("limits")), "{method}");
            assert_eq!(fault["message"], "must have at most 8 entries", "{method}");
        }
    }
    let nine = format!("{} z4=1000/{LONG}", all_of_one("", 0));
    let refused = keyrack(&host.data()).args(["config", "check", "--key-limits", &nine]).output().unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && said.contains("--key-limits is "), "{said}");
    assert!(said.contains("must be at most 8 limits such as requests=100/1m:20"), "{said}");
}
