//! What a change went by. Where several processes write to one store, another may change it before this one commits; then all of this
//! one is done again.

use std::collections::HashSet;

use crate::kept::Reference;

/// What a change found, or did not find, before it was written.
#[derive(Debug, Default)]
pub(super) struct ReliedOn {
    things: HashSet<Reference>,
    /// It counted or listed, so anything may matter that others make.
    is_on_everything: bool,
}

impl ReliedOn {
    pub(super) fn add(&mut self, thing: Reference) {
        self.things.insert(thing);
    }

    pub(super) const fn add_everything(&mut self) {
        self.is_on_everything = true;
    }

    pub(super) const fn is_on_everything(&self) -> bool {
        self.is_on_everything
    }

    pub(super) fn extend(&mut self, other: Self) {
        self.things.extend(other.things);
        self.is_on_everything |= other.is_on_everything;
    }

    /// Whether it might have been done otherwise, had these been changed before.
    pub(super) fn is_among(&self, changed: &[Reference]) -> bool {
        !changed.is_empty() && (self.is_on_everything || changed.iter().any(|thing| self.things.contains(thing)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kept::Kind;

    #[test]
    fn what_was_found_matters_and_after_counting_everything_does() {
        let thing = |id| Reference { kind: Kind::Key, id };
        let mut relied = ReliedOn::default();
        relied.add(thing(1));
        assert!(relied.is_among(&[thing(2), thing(1)]));
        assert!(!relied.is_among(&[thing(2), Reference { kind: Kind::Project, id: 1 }]));
        relied.add_everything();
        assert!(relied.is_among(&[thing(2)]));
        assert!(!relied.is_among(&[]));
    }
}
