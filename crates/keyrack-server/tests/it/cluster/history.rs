//! What was done and what came of it, and whether all of that can be true at once.

use std::collections::HashMap;
use std::time::Instant;

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Create,
    Revoke,
    /// To verify, with the position of the create as the least.
    Verify,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The change is made.
    Made,
    /// A revocation is made, and said to be everywhere.
    MadeEverywhere,
    /// The key may pass.
    Accepted,
    /// It may not.
    Denied,
    /// It cannot be told.
    CannotTell,
    /// There was no answer, or one that says that it is not known whether the change was made.
    Unknown,
}

/// One thing that was asked of one node about one key.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) asked: Asked,
    pub(crate) key: usize,
    /// Who answered, or would have.
    pub(crate) node: usize,
    /// Of a change: where it stands in the log, as its reply says. Of a verification: the least that the node had to know.
    pub(crate) position: Option<i64>,
    pub(crate) start: Instant,
    pub(crate) end: Instant,
    pub(crate) outcome: Outcome,
}

/// What cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wrong {
    /// A key passed after it was said to be dead everywhere.
    AcceptedAfterProof,
    /// A key passed on the node that had said that it is revoked.
    AcceptedWhereRevoked,
    /// A key passed on a node that said that it knew its revocation.
    AcceptedAtPosition,
    /// A key was denied that was made and that nobody had revoked.
    LostCreate,
    /// One request made two keys.
    DoubleCreate,
    /// A node let a key pass that it had denied, or a revocation that was made is gone at the end.
    Unrevoked,
    /// A change stands in the log before one that was made before it was asked for.
    OutOfOrder,
}

/// Everything that cannot be, with the number of the key. `made` says how often each key is there at the end; the events from `last` on
/// were asked when everything had been repaired.
pub(crate) fn check(events: &[Event], made: &HashMap<usize, usize>, last: Instant) -> Vec<(Wrong, usize)> {
    let mut by_key: HashMap<usize, Vec<&Event>> = HashMap::new();
    for event in events {
        by_key.entry(event.key).or_default().push(event);
    }
    let mut wrongs = Vec::new();
    for (key, events) in &by_key {
        let mut note = |is_wrong: bool, wrong| {
            if is_wrong && !wrongs.contains(&(wrong, *key)) {
                wrongs.push((wrong, *key));
            }
        };
        let of = |asked| events.iter().filter(move |event| event.asked == asked);
        let revokes = || of(Asked::Revoke);
        let is_made = of(Asked::Create).any(|event| event.outcome == Outcome::Made);
        let is_revoked = revokes().any(|event| matches!(event.outcome, Outcome::Made | Outcome::MadeEverywhere));
        let proven = revokes().filter(|event| event.outcome == Outcome::MadeEverywhere).map(|event| event.end).min();
        let first_revoke = revokes().map(|event| event.start).min();
        for verify in of(Asked::Verify) {
            let was_accepted = verify.outcome == Outcome::Accepted;
            note(was_accepted && proven.is_some_and(|proven| proven < verify.start), Wrong::AcceptedAfterProof);
            let said_here = |revoke: &&&Event| {
                matches!(revoke.outcome, Outcome::Made | Outcome::MadeEverywhere)
                    && revoke.node == verify.node
                    && revoke.end < verify.start
            };
            note(was_accepted && revokes().any(|revoke| said_here(&revoke)), Wrong::AcceptedWhereRevoked);
            let known_here = |revoke: &&Event| revoke.position.is_some() && revoke.position <= verify.position;
            note(was_accepted && revokes().any(known_here), Wrong::AcceptedAtPosition);
            note(was_accepted && is_revoked && verify.start >= last, Wrong::Unrevoked);
            let had_denied = |other: &&&Event| {
                other.outcome == Outcome::Denied && other.node == verify.node && other.end < verify.start
            };
            note(was_accepted && of(Asked::Verify).any(|other| had_denied(&other)), Wrong::Unrevoked);
            let nobody_revoked = first_revoke.is_none_or(|revoke| verify.end < revoke);
            note(is_made && nobody_revoked && verify.outcome == Outcome::Denied, Wrong::LostCreate);
        }
        note(made.get(key).is_some_and(|made| *made > 1), Wrong::DoubleCreate);
        note(is_made && !is_revoked && first_revoke.is_none() && made.get(key) == Some(&0), Wrong::LostCreate);
    }
    wrongs.extend(out_of_order(events));
    wrongs.sort_unstable();
    wrongs
}

/// The changes whose position is not above those of all changes that had been answered when they were asked for.
fn out_of_order(events: &[Event]) -> impl Iterator<Item = (Wrong, usize)> {
    let is_placed = |event: &&Event| event.asked != Asked::Verify && event.position.is_some();
    let changes: Vec<_> = events.iter().filter(is_placed).collect();
    let is_wrong = move |change: &&Event| {
        changes.iter().any(|other| other.end < change.start && other.position >= change.position)
    };
    events.iter().filter(is_placed).filter(is_wrong).map(|change| (Wrong::OutOfOrder, change.key))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A history of key 1, one event a second.
    fn judged(events: &[(Asked, usize, Outcome)], made: usize) -> Vec<Wrong> {
        let events: Vec<_> = events.iter().map(|&(asked, node, outcome)| (asked, node, outcome, None)).collect();
        judged_with_positions(&events, made)
    }

    fn judged_with_positions(events: &[(Asked, usize, Outcome, Option<i64>)], made: usize) -> Vec<Wrong> {
        let zero = Instant::now();
        let at = |second: usize| zero + Duration::from_secs(second as u64);
        let event =
            |(second, &(asked, node, outcome, position)): (usize, &(Asked, usize, Outcome, Option<i64>))| Event {
                asked,
                key: 1,
                node,
                position,
                start: at(second),
                end: at(second) + Duration::from_millis(10),
                outcome,
            };
        let events: Vec<_> = events.iter().enumerate().map(event).collect();
        let wrongs = check(&events, &HashMap::from([(1, made)]), at(events.len() - 1));
        wrongs.into_iter().map(|(wrong, _)| wrong).collect()
    }

    #[test]
    fn each_planted_fault_is_found_by_its_name() {
        use Asked::{Create, Revoke, Verify};
        use Outcome::{Accepted, CannotTell, Denied, Made, MadeEverywhere, Unknown};
        let good = [
            (Create, 0, Made),
            (Verify, 1, Accepted),
            (Revoke, 0, Made),
            (Verify, 0, Denied),
            (Verify, 1, Accepted),
            (Revoke, 0, MadeEverywhere),
            (Verify, 1, Denied),
            (Verify, 0, CannotTell),
        ];
        assert_eq!(judged(&good, 1), []);
        assert_eq!(judged(&[(Create, 0, Unknown), (Verify, 1, Denied)], 0), []);
        assert_eq!(judged(&[(Create, 0, Unknown), (Revoke, 0, Unknown), (Verify, 1, Accepted)], 1), []);

        let after_proof = [(Create, 0, Made), (Revoke, 0, MadeEverywhere), (Verify, 2, Accepted), (Verify, 2, Denied)];
        assert_eq!(judged(&after_proof, 1), [Wrong::AcceptedAfterProof]);
        let here = [(Create, 0, Made), (Revoke, 2, Made), (Verify, 2, Accepted), (Verify, 2, Denied)];
        assert_eq!(judged(&here, 1), [Wrong::AcceptedWhereRevoked]);
        assert_eq!(judged(&[(Create, 0, Made), (Verify, 1, Denied)], 1), [Wrong::LostCreate]);
        assert_eq!(judged(&[(Create, 0, Made), (Verify, 1, CannotTell)], 0), [Wrong::LostCreate]);
        assert_eq!(judged(&[(Create, 0, Made), (Verify, 1, Accepted)], 2), [Wrong::DoubleCreate]);
        let back =
            [(Create, 0, Made), (Revoke, 0, Made), (Verify, 1, Denied), (Verify, 1, Accepted), (Verify, 1, Denied)];
        assert_eq!(judged(&back, 1), [Wrong::Unrevoked]);
        assert_eq!(judged(&[(Create, 0, Made), (Revoke, 0, Made), (Verify, 1, Accepted)], 1), [Wrong::Unrevoked]);
    }

    #[test]
    fn a_position_that_cannot_be_is_found() {
        use Asked::{Create, Revoke, Verify};
        use Outcome::{Accepted, CannotTell, Denied, Made};
        let good = [
            (Create, 0, Made, Some(4)),
            (Verify, 1, Accepted, Some(4)),
            (Revoke, 0, Made, Some(5)),
            (Verify, 1, Accepted, Some(4)),
            (Verify, 1, CannotTell, Some(5)),
            (Verify, 1, Denied, Some(5)),
        ];
        assert_eq!(judged_with_positions(&good, 1), []);
        let mut known = good;
        known[4].2 = Accepted;
        assert_eq!(judged_with_positions(&known, 1), [Wrong::AcceptedAtPosition]);
        let mut backward = good;
        backward[1].3 = Some(3);
        backward[2].3 = Some(4);
        backward[3].3 = Some(3);
        assert_eq!(judged_with_positions(&backward, 1), [Wrong::OutOfOrder]);
    }
}
