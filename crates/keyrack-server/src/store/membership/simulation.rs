//! Nodes, followers, leases and the barrier, simulated: processes that stop, die and come back, clocks that go at different speeds, messages
//! that are late or lost, a database that goes on without those who are cut off. Every rule is the one that the program runs by.
//!
//! A seed decides everything. `./dev simulate N FROM` runs others than those of every build.

mod process;
mod world;

use std::time::Duration;

use self::world::World;

/// What is run with every build.
const SEEDS: std::ops::Range<u64> = 0..2_000;

#[expect(clippy::disallowed_methods, reason = "it is the tests' own setting")]
fn seeds() -> std::ops::Range<u64> {
    let Ok(asked) = std::env::var("SIMULATE") else { return SEEDS };
    let (from, to) = asked.split_once("..").expect("SIMULATE is FROM..TO");
    from.parse().unwrap()..to.parse().unwrap()
}

/// Safety while everything goes wrong: once a key is said to be dead everywhere, nobody may let it pass, whatever happens next. Liveness
/// once everything goes right again: every process is fresh and knows everything, and every change is known to be everywhere.
#[test]
fn a_key_that_is_said_to_be_dead_passes_nowhere_and_in_the_end_all_are() {
    let seeds = seeds();
    let (mut proofs, mut expired) = (0, 0);
    for seed in seeds.clone() {
        let mut world = World::new(seed);
        world.run(Duration::from_secs(30));
        world.heal();
        world.run(Duration::from_secs(20));
        world.check_is_well();
        proofs += world.proofs;
        expired += world.expired;
    }
    let seeds = seeds.end - seeds.start;
    println!(
        "{seeds} seeds: {proofs} changes proven to be everywhere, {expired} of them only as somebody's lease was over"
    );
    assert!(proofs > seeds * 20 && expired > seeds / 4, "{proofs} {expired}: too little happened");
}
