//! Applying a change against looking up, in every order in which two threads may see each other's steps: `./dev model`.

use std::sync::Arc;

use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

use super::*;
use crate::{KeyKind, ProjectId, ProjectRole, Scope};

const FIRST: KeyDigest = KeyDigest::from_bytes([1; 32]);
const SECOND: KeyDigest = KeyDigest::from_bytes([2; 32]);

fn record(id: i64, version: u32, role: ProjectRole) -> KeyRecord {
    let (kind, scope) = (KeyKind::Secret, Scope::Secret);
    let holder = Holder::Project { project: ProjectId(7), organization: OrganizationId(9), kind, scope, role };
    KeyRecord::new(KeyId(id), version, holder)
}

fn put(id: i64, version: u32, role: ProjectRole) -> KeyChange {
    KeyChange::Put(record(id, version, role))
}

fn index_with(changes: &[(KeyDigest, KeyChange)]) -> Arc<Index> {
    let index = Index::with_capacity(2);
    for (digest, change) in changes {
        index.apply(digest, change).unwrap();
    }
    index.mark_loaded();
    Arc::new(index)
}

/// Runs changes in one thread and a look-up in another. `see` is told what was found, and whether the changes were over before.
fn changes_against_look_up(
    before: &'static [fn() -> (KeyDigest, KeyChange)],
    changes: &'static [fn() -> (KeyDigest, KeyChange)],
    digest: KeyDigest,
    see: fn(&Lookup, bool),
) {
    loom::model(move || {
        let made: Vec<_> = before.iter().map(|change| change()).collect();
        let index = index_with(&made);
        let is_over = Arc::new(AtomicBool::new(false));
        let writer = {
            let (index, is_over) = (Arc::clone(&index), Arc::clone(&is_over));
            thread::spawn(move || {
                for change in changes {
                    let (digest, change) = change();
                    index.apply(&digest, &change).unwrap();
                }
                is_over.store(true, Ordering::Release);
            })
        };
        let was_over = is_over.load(Ordering::Acquire);
        see(&index.find(&digest).unwrap(), was_over);
        writer.join().unwrap();
        see(&index.find(&digest).unwrap(), true);
    });
}

#[test]
fn a_revoked_key_is_never_seen_alive_after_apply_returned() {
    changes_against_look_up(
        &[|| (FIRST, put(1, 1, ProjectRole::Editor))],
        &[|| (FIRST, KeyChange::Revoke { id: KeyId(1) })],
        FIRST,
        |found, was_over| match found {
            Lookup::Live(known) => assert!(!was_over && *known == record(1, 1, ProjectRole::Editor)),
            other => assert_eq!(*other, Lookup::Dead(KeyId(1))),
        },
    );
}

#[test]
fn a_narrowed_key_is_seen_as_it_was_or_as_it_is_and_never_as_it_was_after_apply_returned() {
    changes_against_look_up(
        &[|| (FIRST, put(1, 1, ProjectRole::Admin))],
        &[|| (FIRST, put(1, 2, ProjectRole::Support))],
        FIRST,
        |found, was_over| {
            let (was, is) = (record(1, 1, ProjectRole::Admin), record(1, 2, ProjectRole::Support));
            assert!(*found == Lookup::Live(is) || (!was_over && *found == Lookup::Live(was)), "{found:?}");
        },
    );
}

/// The slot of the first key's grant is given to the second key, while the first is being read.
#[test]
fn what_another_key_was_given_is_never_read_as_this_ones() {
    changes_against_look_up(
        &[|| (FIRST, put(1, 1, ProjectRole::Support))],
        &[|| (FIRST, KeyChange::Revoke { id: KeyId(1) }), || (SECOND, put(2, 1, ProjectRole::Admin))],
        FIRST,
        |found, was_over| match found {
            Lookup::Live(known) => assert!(!was_over && *known == record(1, 1, ProjectRole::Support), "{known:?}"),
            other => assert_eq!(*other, Lookup::Dead(KeyId(1))),
        },
    );
}

#[test]
fn a_new_key_is_found_whole_or_not_at_all() {
    changes_against_look_up(&[], &[|| (FIRST, put(1, 1, ProjectRole::Editor))], FIRST, |found, was_over| match found {
        Lookup::Absent => assert!(!was_over),
        other => assert_eq!(*other, Lookup::Live(record(1, 1, ProjectRole::Editor))),
    });
}

#[test]
fn a_key_that_is_there_is_found_while_the_table_grows() {
    changes_against_look_up(
        &[|| (FIRST, put(1, 1, ProjectRole::Editor))],
        &[
            || (SECOND, put(2, 1, ProjectRole::Admin)),
            || (KeyDigest::from_bytes([3; 32]), put(3, 1, ProjectRole::Admin)),
            || (KeyDigest::from_bytes([4; 32]), put(4, 1, ProjectRole::Admin)),
        ],
        FIRST,
        |found, _was_over| assert_eq!(*found, Lookup::Live(record(1, 1, ProjectRole::Editor))),
    );
}
