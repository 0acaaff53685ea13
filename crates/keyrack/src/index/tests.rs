//! The rules of the index as a whole.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::{Holder, KeyKind, OrganizationRole, ProjectId, ProjectRole, Scope};

/// A digest whose table position and tag are chosen, to force collisions.
fn digest(position: u32, tag: u32, rest: u64) -> KeyDigest {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&position.to_le_bytes());
    bytes[4..8].copy_from_slice(&tag.to_le_bytes());
    bytes[8..16].copy_from_slice(&rest.to_le_bytes());
    KeyDigest::from_bytes(bytes)
}

fn record(id: i64, version: u32, role: ProjectRole) -> KeyRecord {
    let holder = Holder::Project {
        project: ProjectId(7),
        organization: OrganizationId(3),
        kind: KeyKind::Secret,
        scope: Scope::Secret,
        role,
    };
    KeyRecord::new(KeyId(id), version, holder)
}

fn loaded(capacity: usize) -> Index {
    let index = Index::with_capacity(capacity);
    index.mark_loaded();
    index
}

#[test]
fn a_record_is_one_cache_line() {
    assert_eq!(size_of::<[AtomicU64; record::WORDS]>(), 64);
}

#[test]
fn every_holder_comes_back_as_it_went_in() {
    let index = loaded(8);
    let organization = OrganizationId(u32::MAX);
    let holders = [
        record(0, 1, ProjectRole::Publisher).holder,
        Holder::Project {
            project: ProjectId(u32::MAX),
            organization,
            kind: KeyKind::Publishable,
            scope: Scope::Public,
            role: ProjectRole::Admin,
        },
        Holder::Organization { organization, role: OrganizationRole::Owner },
        Holder::Operator,
    ];
    for (number, holder) in (1_u32..).zip(holders) {
        let put = KeyRecord::new(KeyId(i64::from(number)), number, holder);
        let digest = digest(number, 0, 0);
        index.apply(&digest, &KeyChange::Put(put.clone())).unwrap();
        assert_eq!(index.find(&digest), Ok(Lookup::Live(put)));
    }
}

#[test]
fn revoked_is_final_whatever_order_changes_come_in() {
    let index = loaded(8);
    let (known, late) = (digest(1, 1, 1), digest(1, 1, 2));
    index.apply(&known, &KeyChange::Put(record(1, 1, ProjectRole::Admin))).unwrap();
    for key in [known, late] {
        index.apply(&key, &KeyChange::Revoke { id: KeyId(1) }).unwrap();
        index.apply(&key, &KeyChange::Put(record(1, 9, ProjectRole::Admin))).unwrap();
        assert_eq!(index.find(&key), Ok(Lookup::Dead(KeyId(1))));
    }
}

#[test]
fn a_key_can_be_revoked_by_number_alone() {
    let index = loaded(1);
    for i in 1..=1_000_u32 {
        index.apply(&digest(i, i, 1), &KeyChange::Put(record(i.into(), 1, ProjectRole::Admin))).unwrap();
    }
    let revoked = |id| index.revoke_where(|key| key.id == KeyId(id)).len();
    assert_eq!((revoked(1_001), revoked(777), revoked(777)), (0, 1, 0));
    assert_eq!(index.find(&digest(777, 777, 1)), Ok(Lookup::Dead(KeyId(777))));
    assert!(matches!(index.find(&digest(778, 778, 1)), Ok(Lookup::Live(_))));
}

#[test]
fn what_a_whole_load_did_not_find_is_dead_also_if_its_number_is_another_keys() {
    let index = loaded(1);
    let mut living = Living::default();
    for i in 1..=1_000_u32 {
        index.apply(&digest(i, i, 1), &KeyChange::Put(record(i.into(), 1, ProjectRole::Admin))).unwrap();
        living.insert(&digest(i, i, 1));
    }
    // Two more of numbers that are taken, of which the load has found one.
    for i in [1_001, 1_002] {
        index.apply(&digest(i, i, 1), &KeyChange::Put(record(7, 1, ProjectRole::Admin))).unwrap();
    }
    living.insert(&digest(1_002, 1_002, 1));
    assert_eq!(index.keep_only(&living), 1);
    assert_eq!(index.find(&digest(1_001, 1_001, 1)), Ok(Lookup::Dead(KeyId(7))));
    for i in [7, 1_000, 1_002] {
        assert!(matches!(index.find(&digest(i, i, 1)), Ok(Lookup::Live(_))), "{i}");
    }
}

#[test]
fn what_is_only_out_of_force_comes_back_and_what_was_revoked_does_not() {
    let index = loaded(4);
    let put = |i: u32, version, role| index.apply(&digest(i, i, 1), &KeyChange::Put(record(i.into(), version, role)));
    let found = |i: u32| index.find(&digest(i, i, 1)).unwrap();
    for i in 1..=4 {
        put(i, 2, ProjectRole::Admin).unwrap();
    }
    assert_eq!(index.withdraw_where(|key| key.id == KeyId(1)), 1);
    let mut living = Living::default();
    living.insert(&digest(3, 3, 1));
    assert_eq!(index.keep_only(&living), 2);
    index.apply(&digest(2, 2, 1), &KeyChange::Revoke { id: KeyId(2) }).unwrap();
    assert_eq!(index.revoke_where(|key| key.id == KeyId(3)).len(), 1);
    for i in 1..=4 {
        assert_eq!(found(i), Lookup::Dead(KeyId(i.into())));
        put(i, 1, ProjectRole::Admin).unwrap();
        assert_eq!(found(i), Lookup::Dead(KeyId(i.into())), "an older one does not bring it back");
        index.reset(&digest(2, 2, 1), &record(2, 9, ProjectRole::Admin)).unwrap();
        put(i, 2, ProjectRole::Editor).unwrap();
        let expected = match i {
            1 | 4 => Lookup::Live(record(i.into(), 2, ProjectRole::Editor)),
            _ => Lookup::Dead(KeyId(i.into())),
        };
        assert_eq!(found(i), expected);
    }
    assert_eq!(index.withdraw_where(|key| key.id == KeyId(1)), 1);
    assert_eq!(index.revoke_where(|key| key.id == KeyId(1)).len(), 1, "also while it is out of force");
    put(1, 9, ProjectRole::Admin).unwrap();
    assert_eq!(found(1), Lookup::Dead(KeyId(1)));
    // Put in as it is, whichever version it had, and only as the same key.
    assert_eq!(index.withdraw_where(|key| key.id == KeyId(4)), 1);
    let other = KeyRecord::new(KeyId(4), 3, Holder::Operator);
    assert!(matches!(index.apply(&digest(4, 4, 1), &KeyChange::Put(other)), Err(ApplyError::IdentityChanged { .. })));
    index.reset(&digest(4, 4, 1), &record(4, 1, ProjectRole::Admin)).unwrap();
    assert_eq!(found(4), Lookup::Live(record(4, 1, ProjectRole::Admin)));
    put(4, 2, ProjectRole::Editor).unwrap();
    assert_eq!(found(4), Lookup::Live(record(4, 2, ProjectRole::Editor)), "as any other from here on");
}

#[test]
fn a_suspended_organization_takes_its_keys_with_it_and_gives_them_back() {
    let index = loaded(4);
    let other = Holder::Organization { organization: OrganizationId(4), role: OrganizationRole::Owner };
    let (own, foreign, late) = (digest(1, 1, 1), digest(2, 2, 2), digest(3, 3, 3));
    let live = record(1, 1, ProjectRole::Admin);
    index.apply(&own, &KeyChange::Put(live.clone())).unwrap();
    index.apply(&foreign, &KeyChange::Put(KeyRecord::new(KeyId(2), 1, other))).unwrap();
    index.suspend(OrganizationId(3));
    index.suspend(OrganizationId(9));
    index.apply(&late, &KeyChange::Put(record(3, 1, ProjectRole::Admin))).unwrap();
    assert_eq!(index.find(&own), Ok(Lookup::Suspended(live.clone())));
    assert!(matches!(index.find(&late), Ok(Lookup::Suspended(_))));
    assert!(matches!(index.find(&foreign), Ok(Lookup::Live(_))));

    index.apply(&late, &KeyChange::Revoke { id: KeyId(3) }).unwrap();
    index.resume(OrganizationId(3));
    assert_eq!(index.find(&own), Ok(Lookup::Live(live)));
    assert_eq!(index.find(&late), Ok(Lookup::Dead(KeyId(3))));
}

#[test]
fn an_older_version_never_replaces_a_newer_one() {
    let index = loaded(8);
    let key = digest(1, 1, 1);
    index.apply(&key, &KeyChange::Put(record(1, 3, ProjectRole::Support))).unwrap();
    index.apply(&key, &KeyChange::Put(record(1, 2, ProjectRole::Admin))).unwrap();
    assert_eq!(index.find(&key), Ok(Lookup::Live(record(1, 3, ProjectRole::Support))));
}

#[test]
fn a_digest_never_changes_hands() {
    let index = loaded(8);
    let key = digest(1, 1, 1);
    let first = record(1, 1, ProjectRole::Support);
    index.apply(&key, &KeyChange::Put(first.clone())).unwrap();
    let other_owner = KeyRecord { holder: Holder::Operator, version: 2, ..first.clone() };
    for claim in [record(2, 2, ProjectRole::Admin), other_owner] {
        let refused = index.apply(&key, &KeyChange::Put(claim.clone())).unwrap_err();
        assert_eq!(refused, ApplyError::IdentityChanged { known: KeyId(1), claimed: claim.id });
    }
    assert_eq!(index.find(&key), Ok(Lookup::Live(first)));
}

#[test]
fn it_grows_and_keeps_every_key_and_every_death() {
    let index = loaded(1);
    let keys: u32 = if cfg!(miri) { 100 } else { 40_000 };
    for i in 0..keys {
        let put = KeyChange::Put(record(i.into(), 1, ProjectRole::Editor));
        // Every eighth position only, so that runs of collisions form.
        index.apply(&digest(i / 8 * 8, i % 3, i.into()), &put).unwrap();
        if i % 5 == 0 {
            let revoke = KeyChange::Revoke { id: KeyId(i.into()) };
            index.apply(&digest(i / 8 * 8, i % 3, i.into()), &revoke).unwrap();
        }
    }
    assert_eq!(index.len(), keys as usize);
    for i in 0..keys {
        let alive = Lookup::Live(record(i.into(), 1, ProjectRole::Editor));
        let expected = if i % 5 == 0 { Lookup::Dead(KeyId(i.into())) } else { alive };
        assert_eq!(index.find(&digest(i / 8 * 8, i % 3, i.into())), Ok(expected));
    }
    assert_eq!(index.find(&digest(0, 0, u64::MAX)), Ok(Lookup::Absent));
}

#[test]
fn readers_beside_a_growing_writer_never_miss_a_key_and_never_see_a_dead_one() {
    let index = loaded(1);
    let seen = std::sync::atomic::AtomicU32::new(0);
    let revoked = std::sync::atomic::AtomicU32::new(0);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            for i in 1..=20_000_u32 {
                index.apply(&digest(i, i, 1), &KeyChange::Put(record(i.into(), 1, ProjectRole::Editor))).unwrap();
                seen.store(i, Ordering::Release);
                if i > 100 {
                    index
                        .apply(&digest(i - 100, i - 100, 1), &KeyChange::Revoke { id: KeyId((i - 100).into()) })
                        .unwrap();
                    revoked.store(i - 100, Ordering::Release);
                }
            }
        });
        threads.spawn(|| {
            loop {
                let (dead, newest) = (revoked.load(Ordering::Acquire), seen.load(Ordering::Acquire));
                if newest > 0 {
                    assert_ne!(index.find(&digest(newest, newest, 1)), Ok(Lookup::Absent));
                }
                if dead > 0 {
                    assert_eq!(index.find(&digest(dead, dead, 1)), Ok(Lookup::Dead(KeyId(dead.into()))));
                }
                if newest == 20_000 {
                    break;
                }
            }
        });
    });
}

proptest! {
    /// Against the obvious model: a map of the highest version put, a set of the dead, and one organization.
    #[test]
    fn it_agrees_with_the_obvious_model(
        steps in proptest::collection::vec((0..12_u32, 0..6_u32, 0..5_u8, 0..8_u8), 0..200)
    ) {
        let index = loaded(1);
        let mut model: HashMap<u32, Lookup> = HashMap::new();
        let mut suspended = false;
        for (key, version, role, kind_of_step) in steps {
            if kind_of_step == 1 {
                suspended = version % 2 == 0;
                if suspended { index.suspend(OrganizationId(3)) } else { index.resume(OrganizationId(3)) }
                continue;
            }
            let put = record(key.into(), version, ProjectRole::from_position(role).unwrap());
            let state = model.entry(key).or_insert(Lookup::Absent);
            let change = if kind_of_step == 0 {
                *state = Lookup::Dead(KeyId(key.into()));
                KeyChange::Revoke { id: KeyId(key.into()) }
            } else {
                *state = match state.clone() {
                    Lookup::Absent => Lookup::Live(put.clone()),
                    Lookup::Live(known) if known.version < version => Lookup::Live(put.clone()),
                    kept @ (Lookup::Live(_) | Lookup::Suspended(_) | Lookup::Dead(_)) => kept,
                };
                KeyChange::Put(put)
            };
            index.apply(&digest(key % 4, key % 2, key.into()), &change).unwrap();
        }
        for key in 0..12 {
            let expected = match model.get(&key).cloned().unwrap_or(Lookup::Absent) {
                Lookup::Live(record) if suspended => Lookup::Suspended(record),
                known @ (Lookup::Live(_) | Lookup::Suspended(_) | Lookup::Dead(_) | Lookup::Absent) => known,
            };
            prop_assert_eq!(index.find(&digest(key % 4, key % 2, key.into())), Ok(expected));
        }
    }
}
