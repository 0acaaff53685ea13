//! What keys may do, each combination held once: a record has room for a number only.

use std::collections::HashMap;
use std::sync::Arc;

use super::ApplyError;
use super::arena::Arena;
use super::pages::Lines;
use super::sync::{AtomicU64, Guard, Ordering, Slot, fence};
use crate::limit::Rate;
use crate::{Holder, KeyKind, KeyRecord, LimitPlan, OrganizationRole, Permissions, PolicyVersion, ProjectRole, Scope};

/// All of a key that decides and may change, but for its version.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Grant {
    pub(super) standing: Standing,
    pub(super) reach: PolicyVersion,
    pub(super) permissions: Permissions,
    pub(super) limits: LimitPlan,
    pub(super) is_system: bool,
}

/// A holder without the numbers of its tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Standing {
    Project { kind: KeyKind, scope: Scope, role: ProjectRole },
    Organization { role: OrganizationRole },
    Operator,
    Follower,
}

/// What of a grant fits into a few words, which is all that most verifications look at. To look at the grant itself costs two
/// locked instructions, at which the processor waits for whatever it is fetching.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) standing: Standing,
    pub(super) reach: PolicyVersion,
    pub(super) limits: Limits,
    /// Whether it has any permissions, for which the grant must be asked.
    pub(super) has_permissions: bool,
}

/// The limits of a grant, if they fit into words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limits {
    None,
    OneRate(Rate),
    /// Ask the grant.
    Others,
}

impl Standing {
    /// What of it never changes.
    pub(super) const fn kind(self) -> KeyKind {
        match self {
            Self::Project { kind, .. } => kind,
            Self::Organization { .. } => KeyKind::Organization,
            Self::Operator => KeyKind::Operator,
            Self::Follower => KeyKind::Follower,
        }
    }
}

impl Summary {
    const WORDS: usize = 4;

    fn of(grant: &Grant) -> Self {
        let limits = match grant.limits.limits() {
            [] => Limits::None,
            [only] => only.rate().map_or(Limits::Others, Limits::OneRate),
            [..] => Limits::Others,
        };
        let has_permissions = grant.permissions.iter().next().is_some();
        Self { standing: grant.standing, reach: grant.reach, limits, has_permissions }
    }

    fn to_words(self) -> [u64; Self::WORDS] {
        let (what, first, second, third) = match self.standing {
            Standing::Project { kind, scope, role } => {
                (0, u8::from(kind == KeyKind::Publishable), scope.position(), role.position())
            }
            Standing::Organization { role } => (1, role.position(), 0, 0),
            Standing::Operator => (2, 0, 0, 0),
            Standing::Follower => (3, 0, 0, 0),
        };
        let (limits, interval, burst) = match self.limits {
            Limits::None => (0, 0, 0),
            Limits::OneRate(Rate { interval, burst }) => (1, interval, burst),
            Limits::Others => (2, 0, 0),
        };
        let facts = u64::from_le_bytes([what, first, second, third, limits, self.has_permissions.into(), 0, 0]);
        [facts, self.reach.0.into(), interval, burst]
    }

    /// Nothing if they are no summary: then part of one was read, and part of another.
    #[inline]
    fn of_words([facts, reach, interval, burst]: [u64; Self::WORDS]) -> Option<Self> {
        let [what, first, second, third, limits, has_permissions, ..] = facts.to_le_bytes();
        let standing = match what {
            0 => Standing::Project {
                kind: if first == 0 { KeyKind::Secret } else { KeyKind::Publishable },
                scope: Scope::from_position(second)?,
                role: ProjectRole::from_position(third)?,
            },
            1 => Standing::Organization { role: OrganizationRole::from_position(first)? },
            2 => Standing::Operator,
            3 => Standing::Follower,
            _ => return None,
        };
        let limits = match limits {
            0 => Limits::None,
            1 => Limits::OneRate(Rate { interval, burst }),
            _ => Limits::Others,
        };
        let reach = PolicyVersion(u32::try_from(reach).ok()?);
        Some(Self { standing, reach, limits, has_permissions: has_permissions != 0 })
    }
}

impl Grant {
    pub(super) fn of(record: &KeyRecord) -> Self {
        let standing = match record.holder {
            Holder::Project { kind, scope, role, .. } => Standing::Project { kind, scope, role },
            Holder::Organization { role, .. } => Standing::Organization { role },
            Holder::Operator => Standing::Operator,
            Holder::Follower => Standing::Follower,
        };
        let KeyRecord { reach, permissions, limits, is_system, .. } = record.clone();
        Self { standing, reach, permissions, limits, is_system }
    }
}

/// A slot is used anew when no key has its grant any more, so that what keys once had takes no room. A reader therefore looks at
/// its record again after it has looked into a slot: if that names the same slot in the same version, it was this key's.
#[derive(Debug)]
pub(super) struct Grants {
    slots: Arena<Box<[Slot<Grant>]>, 64>,
    summaries: Arena<Lines<{ Summary::WORDS }>, 64>,
}

/// Which slots are taken, by how many keys. Only who applies changes has it.
#[derive(Debug, Default)]
pub(super) struct Tenants {
    taken: HashMap<Arc<Grant>, (u32, u32)>,
    free: Vec<u32>,
}

impl Grants {
    pub(super) fn new() -> Self {
        Self { slots: Arena::new(), summaries: Arena::new() }
    }

    /// What is in a slot.
    pub(super) fn get(&self, slot: u32) -> Option<Guard<Option<Arc<Grant>>>> {
        self.slots.get(slot as usize).map(Slot::load)
    }

    /// What is in a slot, in short. It may be none's, or half of each of two, if the slot is given to others meanwhile.
    #[inline]
    pub(super) fn summary(&self, slot: u32) -> Option<Summary> {
        let words = self.summaries.get(slot as usize)?;
        Summary::of_words(words.each_ref().map(|word| word.load(Ordering::Relaxed)))
    }

    /// Nobody's record may name the slot yet.
    fn fill(&self, slot: u32, grant: &Arc<Grant>) -> Option<()> {
        let words = self.summaries.make_room(slot as usize)?;
        // Who sees one of the words also sees that the record of whose slot it was names it no more.
        fence(Ordering::Release);
        for (word, next) in words.iter().zip(Summary::of(grant).to_words()) {
            AtomicU64::store(word, next, Ordering::Relaxed);
        }
        self.slots.make_room(slot as usize)?.store(Some(Arc::clone(grant)));
        Some(())
    }

    /// The slot of a grant, for one more key.
    pub(super) fn take(&self, tenants: &mut Tenants, grant: Grant) -> Result<u32, ApplyError> {
        if let Some((slot, keys)) = tenants.taken.get_mut(&grant) {
            *keys += 1;
            return Ok(*slot);
        }
        let fresh = || u32::try_from(tenants.taken.len()).ok();
        let slot = tenants.free.pop().or_else(fresh).ok_or(ApplyError::Full)?;
        let grant = Arc::new(grant);
        self.fill(slot, &grant).ok_or(ApplyError::Full)?;
        tenants.taken.insert(grant, (slot, 1));
        Ok(slot)
    }

    /// One key less has the grant of a slot. Its record must not name the slot any more.
    pub(super) fn give_back(&self, tenants: &mut Tenants, slot: u32) {
        let Some(grant) = self.get(slot).and_then(|grant| grant.clone()) else { return };
        let Some((_, keys)) = tenants.taken.get_mut(&grant) else { return };
        *keys -= 1;
        if *keys == 0 {
            tenants.taken.remove(&grant);
            tenants.free.push(slot);
            if let Some(empty) = self.slots.get(slot as usize) {
                empty.store(None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Limit, Period, Window};

    fn grant(reach: u32) -> Grant {
        let (standing, permissions) = (Standing::Operator, Permissions::default());
        Grant { standing, reach: PolicyVersion(reach), permissions, limits: LimitPlan::default(), is_system: false }
    }

    #[test]
    fn a_summary_comes_back_from_its_words() {
        let kinds = [KeyKind::Secret, KeyKind::Publishable].into_iter();
        let projects = kinds.flat_map(|kind| {
            let scopes = Scope::ALL.iter().flat_map(|scope| ProjectRole::ALL.iter().map(move |role| (*scope, *role)));
            scopes.map(move |(scope, role)| Standing::Project { kind, scope, role })
        });
        let organizations = OrganizationRole::ALL.iter().map(|role| Standing::Organization { role: *role });
        let rate = Limit::new("a", 7, Period::Seconds(60), Some(3)).unwrap();
        let quota = Limit::new("b", 7, Period::Calendar(Window::Day), None).unwrap();
        let plans = [vec![], vec![rate.clone()], vec![quota.clone()], vec![rate.clone(), quota]];
        let mut seen = 0;
        for standing in projects.chain(organizations).chain([Standing::Operator, Standing::Follower]) {
            for plan in &plans {
                let grant = Grant { standing, limits: LimitPlan::new(plan.clone()), ..grant(u32::MAX) };
                let summary = Summary::of(&grant);
                assert_eq!(Summary::of_words(summary.to_words()), Some(summary));
                assert_eq!((summary.standing, summary.reach), (standing, PolicyVersion(u32::MAX)));
                let expected = match plan.as_slice() {
                    [] => Limits::None,
                    [only] if only.window().is_none() => Limits::OneRate(rate.rate().unwrap()),
                    [..] => Limits::Others,
                };
                assert_eq!(summary.limits, expected);
                seen += 1;
            }
        }
        assert_eq!(seen, 4 * (20 + 3 + 2));
        assert_eq!(Summary::of_words([4, 0, 0, 0]), None);
        assert_eq!(Summary::of_words([0x0009_0000, 0, 0, 0]), None, "there is no such scope");
    }

    #[test]
    fn equal_grants_share_a_slot_and_an_unused_slot_is_used_again() {
        let (grants, mut tenants) = (Grants::new(), Tenants::default());
        let first = grants.take(&mut tenants, grant(1)).unwrap();
        assert_eq!(grants.take(&mut tenants, grant(1)).unwrap(), first);
        let second = grants.take(&mut tenants, grant(2)).unwrap();
        assert_ne!(second, first);
        grants.give_back(&mut tenants, first);
        assert!(grants.get(first).unwrap().is_some());
        grants.give_back(&mut tenants, first);
        assert!(grants.get(first).unwrap().is_none());
        assert_eq!(grants.take(&mut tenants, grant(3)).unwrap(), first);
        assert_eq!(grants.get(second).unwrap().as_ref().unwrap().reach, PolicyVersion(2));
    }
}
