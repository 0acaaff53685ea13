//! What keys may do, each combination held once: a record has room for a number only.

use std::collections::HashMap;
use std::sync::Arc;

use super::ApplyError;
use super::arena::Arena;
use super::sync::{Guard, Slot};
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
/// its record again after it has taken a grant out: if that names the same slot in the same version, it was this key's.
#[derive(Debug)]
pub(super) struct Grants {
    slots: Arena<Box<[Slot<Grant>]>, 64>,
}

/// Which slots are taken, by how many keys. Only who applies changes has it.
#[derive(Debug, Default)]
pub(super) struct Tenants {
    taken: HashMap<Arc<Grant>, (u32, u32)>,
    free: Vec<u32>,
}

impl Grants {
    pub(super) fn new() -> Self {
        Self { slots: Arena::new() }
    }

    /// What is in a slot.
    #[inline]
    pub(super) fn get(&self, slot: u32) -> Option<Guard<Option<Arc<Grant>>>> {
        self.slots.get(slot as usize).map(Slot::load)
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
        self.slots.make_room(slot as usize).ok_or(ApplyError::Full)?.store(Some(Arc::clone(&grant)));
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

    fn grant(reach: u32) -> Grant {
        let (standing, permissions) = (Standing::Operator, Permissions::default());
        Grant { standing, reach: PolicyVersion(reach), permissions, limits: LimitPlan::default(), is_system: false }
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
