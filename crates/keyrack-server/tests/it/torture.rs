//! `kill -9` in the middle of things. What was acknowledged is there after the restart, what was revoked stays dead,
//! nothing is half made, and the audit log tells the same story.
//!
//! Several clients keep a model of their keys. A request that was under way when the server died may have happened or
//! not; the first look after the restart settles which, and from then on it must stay so.

mod client;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use self::client::{Client, Loss, Tally};
use super::server::{Reply, Server, init, keyrack};

const ROUNDS: usize = 50;
/// A store is given up after so many rounds, so that a long run does not spend its time on old keys.
const ROUNDS_OF_A_STORE: usize = 50;
const CLIENTS: u64 = 4;
const KEYS: &str = "/api/client/keys";
const PLACES: [&str; 5] = ["after-row", "after-audit-entry", "before-commit", "after-commit", "before-reply"];
/// How long a named place is waited for.
const PLACE_DEADLINE: Duration = Duration::from_secs(5);

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let rounds = number("TORTURE_ROUNDS").map_or(ROUNDS, |rounds| rounds as usize);
    let seed = number("TORTURE_SEED").unwrap_or_else(random_seed);
    println!("torture: TORTURE_SEED={seed} (what is asked and when it ends; the timing of threads is not repeatable)");
    let mut random = Random::new(seed);
    let mut tally = Tally::default();
    let mut done = 0;
    while done < rounds && tally.losses.is_empty() {
        let rounds = ROUNDS_OF_A_STORE.min(rounds - done);
        done += one_store(rounds, &mut random, &mut tally);
    }
    println!("torture: {done} rounds; {}", tally.summary());
    let losses: Vec<_> = tally.losses.iter().map(|(what, text)| format!("{what:?}: {text}")).collect();
    assert!(losses.is_empty(), "TORTURE_SEED={seed}\n{}", losses.join("\n"));
    let changes = tally.creates + tally.patches + tally.revokes;
    assert!(changes >= done as u64 && tally.unknown > 0, "the rounds were too idle to show anything");
}

#[test]
fn a_first_start_that_dies_is_finished_by_the_next() {
    let deaths = [("after-row", 5), ("after-audit-entry", 1), ("before-commit", 1), ("after-commit", 1)];
    for (place, most) in deaths {
        for times in 1..=most {
            let dir = tempfile::tempdir().unwrap();
            let mut init = keyrack(dir.path());
            init.args(["init", "--json"]).env("CRASH_AT", format!("{place}:{times}"));
            assert!(!init.output().unwrap().status.success(), "{place}:{times} was not passed");
            let server = Server::start(dir.path());
            let is_set_up = place == "after-commit";
            assert_eq!(server.greeting.contains("sk_"), !is_set_up, "{place}:{times}");
            assert!(audit(dir.path(), "verify").status.success(), "{place}:{times}");
            assert_eq!(audit(dir.path(), "export").stdout.split(|byte| *byte == b'\n').count(), 5 + 1);
            server.stop();
            // The keys of a first start that died unseen are found again by hand.
            let recovered = keyrack(dir.path()).args(["recover", "--project", "1"]).output().unwrap();
            let key = String::from_utf8(recovered.stdout).unwrap();
            let list = Server::start(dir.path()).send("GET", KEYS, key.trim(), None, &[]).unwrap();
            assert_eq!((list.status, results(&list).len()), (200, 2), "{place}:{times}");
        }
    }
}

/// Tortures one installation; gives the number of rounds it took, fewer than asked if something was lost.
fn one_store(rounds: usize, random: &mut Random, tally: &mut Tally) -> usize {
    let dir = tempfile::tempdir().unwrap();
    let admin = init(dir.path())["project_key"].as_str().unwrap().to_owned();
    let mut clients: Vec<_> = (0..CLIENTS).map(|number| Client::new(number, admin.clone(), random.next())).collect();
    for round in 1..=rounds {
        live_and_die(dir.path(), &mut clients, random, tally);
        if random.below(2) == 0 {
            stumble(dir.path(), random);
        }
        let server = Server::start(dir.path());
        settle_and_check(dir.path(), &server, &mut clients, round == rounds, tally);
        if !tally.losses.is_empty() {
            return round;
        }
    }
    rounds
}

/// One life of the server: all clients are at it until it dies.
fn live_and_die(dir: &Path, clients: &mut [Client], random: &mut Random, tally: &mut Tally) {
    let place = (random.below(3) == 0).then(|| PLACES[random.below(PLACES.len() as u64) as usize]);
    let mut command = keyrack(dir);
    command.arg("serve").stderr(Stdio::null());
    let life = match place {
        Some(place) => {
            command.env("CRASH_AT", format!("{place}:{}", 1 + random.below(8)));
            PLACE_DEADLINE
        }
        None => Duration::from_micros(5_000 + random.below(55_000)),
    };
    let server = Server::try_start(&mut command).expect("the server did not start");
    let end = Instant::now() + life;
    thread::scope(|scope| {
        let at_it: Vec<_> = clients.iter_mut().map(|client| scope.spawn(|| client.work(&server))).collect();
        while Instant::now() < end && !at_it.iter().all(thread::ScopedJoinHandle::is_finished) {
            thread::sleep(Duration::from_micros(500));
        }
        let pid = rustix::process::Pid::from_child(&server.child);
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
    });
    let at_a_place = place.is_some() && Instant::now() < end;
    tally.at_places += u64::from(at_a_place);
    tally.by_signal += u64::from(!at_a_place);
}

/// A start that is killed before, while or after it repairs what the last death left.
fn stumble(dir: &Path, random: &mut Random) {
    let mut command = keyrack(dir);
    let mut child = command.arg("serve").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    thread::sleep(Duration::from_micros(random.below(40_000)));
    child.kill().unwrap();
    child.wait().unwrap();
}

fn settle_and_check(dir: &Path, server: &Server, clients: &mut [Client], thorough: bool, tally: &mut Tally) {
    let listed = list(server, clients, tally);
    for client in &mut *clients {
        client.settle(server, &listed);
    }
    let listed = list(server, clients, tally);
    for client in &mut *clients {
        client.check(server, &listed, thorough);
    }
    check_audit(dir, clients, tally);
    for client in clients {
        tally.take(std::mem::take(&mut client.tally));
    }
}

/// Every key of the project by number, without the first one, which no client made.
fn list(server: &Server, clients: &[Client], tally: &mut Tally) -> BTreeMap<i64, Value> {
    let reply = server.send("GET", &format!("{KEYS}?limit=-1"), &clients[0].admin, None, &[]).unwrap();
    let keys = results(&reply).into_iter().filter(|key| key["name"] != "First admin key");
    let listed: BTreeMap<_, _> = keys.map(|key| (key["id"].as_i64().unwrap(), key)).collect();
    let known = |id: &i64| clients.iter().any(|client| client.keys.iter().any(|key| key.id == *id));
    let asked = |key: &Value| clients.iter().any(|client| client.asked_for(key));
    for (id, key) in listed.iter().filter(|(id, key)| !known(id) && !asked(key)) {
        tally.lose(
            Loss::HalfMade,
            format!("key {id} is there, but it was never made, or had been settled as not made: {key}"),
        );
    }
    listed
}

/// The audit log is whole and has exactly one entry for each change, with what was before and after.
fn check_audit(dir: &Path, clients: &[Client], tally: &mut Tally) {
    let verified = audit(dir, "verify");
    if !verified.status.success() {
        tally.lose(Loss::Audit, String::from_utf8_lossy(&verified.stdout).into_owned());
    }
    let exported = String::from_utf8(audit(dir, "export").stdout).unwrap();
    let entries: Vec<Value> = exported.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut found: BTreeMap<i64, Vec<&Value>> = BTreeMap::new();
    // The first five set the installation up.
    for entry in entries.iter().skip(5) {
        found.entry(entry["target"]["id"].as_i64().unwrap()).or_default().push(entry);
    }
    for key in clients.iter().flat_map(|client| &client.keys) {
        let found = found.remove(&key.id).unwrap_or_default();
        let mut before = &Value::Null;
        let fits = found.len() == key.history.len()
            && found.iter().zip(&key.history).all(|(entry, change)| {
                let continues = entry["before"] == *before;
                before = &entry["after"];
                continues && change.is(entry)
            });
        if !fits {
            tally.lose(Loss::Audit, format!("key {}: made {:?}, but the log has {found:?}", key.id, key.history));
        }
    }
    for (id, entries) in found {
        tally.lose(Loss::Audit, format!("the log speaks of key {id}, which nobody made: {entries:?}"));
    }
}

fn audit(dir: &Path, what: &str) -> Output {
    keyrack(dir).args(["audit", what]).output().unwrap()
}

fn results(reply: &Reply) -> Vec<Value> {
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.json()["results"].as_array().unwrap().clone()
}

/// Xorshift: enough to choose by, and the same choices for the same seed.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }
}

fn random_seed() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one("seed") >> 16
}

#[expect(clippy::disallowed_methods, reason = "not a setting of the service: how hard a test tries")]
pub(super) fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} must be a number")))
}
