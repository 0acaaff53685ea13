//! Real servers on three PostgreSQL under Patroni, in strict synchronous mode, of which the primary is killed again and again while
//! clients write: what was acknowledged is there, and in force everywhere.

mod clients;
mod patroni;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use self::clients::Clients;
use self::patroni::{Patroni, Victim};
use crate::cluster::history::{Wrong, check};
use crate::cluster::nodes::{Clock, Cluster, KEYS};
use crate::server::keyrack;

/// The two that are the least alike for a node.
const ROUNDS: u64 = 2;
const NODES: usize = 3;
const WRITERS: usize = 6;
/// Longer than any failover.
const STALE_LIMIT: &str = "--stale-limit=5m";
/// How long is waited for what must come about: longer than it ever takes, as the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn what_was_acknowledged_survives_kill_9_of_the_primary() {
    let rounds = crate::torture::number("TORTURE_FAILOVER").unwrap_or(ROUNDS);
    let patroni = Patroni::start();
    let urls = std::iter::repeat_n(patroni.url.clone(), NODES);
    let clients = Clients::of(Cluster::start(urls, STALE_LIMIT, Clock::Machine));
    let gaps = thread::scope(|scope| {
        let _ends = Ends(&clients.run.is_over);
        let clients = &clients;
        (0..WRITERS).for_each(|writer| drop(scope.spawn(move || clients.write(writer))));
        (0..NODES).for_each(|node| drop(scope.spawn(move || clients.verify(node))));
        scope.spawn(|| clients.revoke_old());
        (1..=rounds).map(|round| one_round(round, &patroni, clients)).collect::<Vec<_>>()
    });
    judge(&clients, gaps);
}

/// The clients come to their end also if something else failed.
struct Ends<'e>(&'e AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Kills the primary under load and waits until everything is well again; gives the longest time without an acknowledged change.
fn one_round(round: u64, patroni: &Patroni, clients: &Clients) -> Duration {
    let before = clients.acknowledged();
    let start = Instant::now();
    while clients.acknowledged() < before + 100 {
        assert!(start.elapsed() < PATIENCE, "the clients are too idle to show anything");
        thread::sleep(Duration::from_millis(10));
    }
    let unknown = clients.unknown.load(Ordering::SeqCst);
    let killed = patroni.primary().expect("there is no primary");
    let victim = match round % 3 {
        1 => Victim::Postgres,
        2 => Victim::Patroni,
        _ => Victim::Both,
    };
    let kill = Instant::now();
    let (primary, elected) = patroni.fail_over(&killed, victim, PATIENCE);
    for node in 0..NODES {
        clients.run.await_fresh(node, PATIENCE).unwrap();
        clients.create(&[node], true);
    }
    let well = kill.elapsed();
    patroni.mend();
    let (first, gap) = clients.pause_after(kill);
    println!(
        "failover: round {round}: killed {killed} ({victim:?}), {primary} is the primary after {:.1} s; a change is made after {:.1} s, \
         on every node after {:.1} s; longest time without one {:.1} s; {} outcomes unknown; all is mended after {:.1} s",
        elected.as_secs_f64(),
        first.as_secs_f64(),
        well.as_secs_f64(),
        gap.as_secs_f64(),
        clients.unknown.load(Ordering::SeqCst) - unknown,
        kill.elapsed().as_secs_f64(),
    );
    gap
}

/// Everything is repaired: what is in force, what is listed and what the log says is what was acknowledged.
fn judge(clients: &Clients, mut gaps: Vec<Duration>) {
    let run = &clients.run;
    (0..NODES).for_each(|node| run.await_fresh(node, PATIENCE).unwrap());
    await_empty_journals(&run.cluster);
    let last = Instant::now();
    let all = std::mem::take(&mut *run.made.lock().unwrap());
    all.iter().for_each(|(key, made)| run.verify_everywhere(*key, made, made.seq));
    let log = Log::of(&run.cluster);
    let made = (0..run.keys.load(Ordering::SeqCst)).map(|key| (key, log.creates.get(&key).map_or(0, |ids| ids.len())));
    let made: HashMap<usize, usize> = made.collect();
    let wrong = check(&run.events.lock().unwrap(), &made, last);
    let lost = lost(clients, &log);

    let known = clients.known.lock().unwrap();
    gaps.sort_unstable();
    let doubled = wrong.iter().filter(|(wrong, _)| *wrong == Wrong::DoubleCreate).count();
    println!(
        "failover: {} rounds; acknowledged {} creates, {} renames, {} revokes ({} without the database); {} outcomes unknown; lost {}, \
         doubled {doubled}; time without a change: median {:.1} s, longest {:.1} s; verifications not answered from memory: {}",
        gaps.len(),
        known.len(),
        known.values().filter(|key| key.is_renamed).count(),
        known.values().filter(|key| key.is_revoked).count(),
        clients.without_database.load(Ordering::SeqCst),
        clients.unknown.load(Ordering::SeqCst),
        lost.len() + wrong.len() - doubled,
        gaps[gaps.len() / 2].as_secs_f64(),
        gaps[gaps.len() - 1].as_secs_f64(),
        clients.unanswered.load(Ordering::SeqCst),
    );
    assert_eq!((wrong, lost), (Vec::new(), Vec::new()));
    assert_eq!(clients.unanswered.load(Ordering::SeqCst), 0, "keys pass while the database is away");
}

/// What was revoked without the database is committed as soon as that is back.
fn await_empty_journals(cluster: &Cluster) {
    let start = Instant::now();
    let is_empty = |path: std::path::PathBuf| std::fs::metadata(path).map_or(true, |file| file.len() == 0);
    while !cluster.nodes.iter().all(|node| is_empty(node.dir.path().join("revocations"))) {
        assert!(start.elapsed() < PATIENCE, "revocations that were made without the database are not committed");
        thread::sleep(Duration::from_millis(100));
    }
}

/// What the audit log says of the clients' keys.
#[derive(Default)]
struct Log {
    /// By the number in its name: the keys that were made.
    creates: BTreeMap<usize, Vec<i64>>,
    renamed: BTreeSet<i64>,
    revoked: BTreeSet<i64>,
}

impl Log {
    /// Read where a node was, which is killed for that. The log is whole, and what is kept agrees with it.
    fn of(cluster: &Cluster) -> Self {
        let node = &cluster.nodes[0];
        node.kill();
        let audit = |what: &str| {
            let mut command = keyrack(node.dir.path());
            let output = command.args(["--database-url", &node.url, "audit", what]).output().unwrap();
            let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(output.status.success(), "audit {what}: {text}{errors}");
            text.into_owned()
        };
        audit("verify");
        let mut log = Self::default();
        for line in audit("export").lines() {
            let entry: Value = serde_json::from_str(line).unwrap();
            let name = entry["after"]["name"].as_str().unwrap_or_default();
            let Some((key, rest)) = name.strip_prefix("key-").and_then(|name| name.split_once('-')) else { continue };
            let id = entry["target"]["id"].as_i64().unwrap();
            match entry["action"].as_str().unwrap() {
                "key.create" => log.creates.entry(key.parse().unwrap()).or_default().push(id),
                "key.update" if rest == "renamed" => drop(log.renamed.insert(id)),
                "key.revoke" => drop(log.revoked.insert(id)),
                _ => {}
            }
        }
        log
    }
}

/// What was acknowledged and is not in the log, or not on the list of a node.
fn lost(clients: &Clients, log: &Log) -> Vec<String> {
    let cluster = &clients.run.cluster;
    let list = |node: usize| {
        let list = cluster.nodes[node].ask("GET", &format!("{KEYS}?limit=-1"), &cluster.admin, None, &[]).unwrap();
        let name = |key: &Value| (key["id"].as_i64().unwrap(), key["name"].as_str().unwrap().to_owned());
        list.json()["results"].as_array().unwrap().iter().map(name).collect::<HashMap<_, _>>()
    };
    // The first is gone: the log was read in its place.
    let lists: Vec<_> = (1..NODES).map(list).collect();
    let mut lost = std::mem::take(&mut *clients.strange.lock().unwrap());
    for (key, known) in clients.known.lock().unwrap().iter() {
        let name = format!("key-{key}-{}", if known.is_renamed { "renamed" } else { "" });
        let listed = (!known.is_revoked).then_some(&name);
        let faults = [
            (log.creates.get(key) != Some(&vec![known.id]), "its making"),
            (known.is_renamed && !log.renamed.contains(&known.id), "its new name"),
            (known.is_revoked && !log.revoked.contains(&known.id), "its end"),
            (lists.iter().any(|list| list.get(&known.id) != listed), "how it is listed"),
        ];
        let faults = faults.iter().filter(|(is_lost, _)| *is_lost);
        lost.extend(faults.map(|(_, what)| format!("{what}, of key {key} with the number {}", known.id)));
    }
    lost
}
