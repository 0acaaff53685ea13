//! The paths of a policy's rules as a tree, laid out flat: finding a rule allocates nothing and waits for nobody.
//!
//! A search goes down depth first, the more precise branch first, so that the first rule it comes to is the one that
//! applies. It sees each node at most once: its work is bounded by the number of rules, whatever the path.
//!
//! Everything is kept small and apart, so that a thousand rules still fit into the fastest memory there is.

use std::collections::HashMap;

use super::fold::fold_into;
use super::path::Path;
use super::pattern::{Pattern, Piece};

/// Longer than any segment of a rule.
const MOST_LITERAL_BYTES: usize = super::check::MOST_RULE_BYTES;

/// How the segments of a path are compared with those of the rules.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    /// Byte by byte.
    Exact,
    /// As a careless reader does, see [`super::fold`]. The tree must have been built of folded patterns.
    Folded,
}

/// Every method, in a rule; the methods of a request are other numbers.
pub(super) const EVERY_METHOD: u16 = 0;

/// Which method of which path leads to which rule.
pub(super) struct Leaf<'a> {
    pub(super) pattern: &'a Pattern,
    /// The number of a method, or [`EVERY_METHOD`].
    pub(super) method: u16,
    pub(super) rule: u16,
}

/// The tree.
#[derive(Debug)]
pub(super) struct Trie {
    nodes: Box<[Node]>,
    /// Where children by literal segment are found: open addressing, a power of two of them.
    slots: Box<[Slot]>,
    /// The literal segments one after the other, each once.
    literals: Box<[u8]>,
    uses: Box<[Use]>,
}

/// A path so far.
#[derive(Clone, Copy, Debug, Default)]
struct Node {
    parent: u32,
    /// The child by `*`. 0, the root, is nobody's child and stands for none.
    star: u32,
    /// Where the literal that leads here begins, if one does.
    literal: u32,
    literal_bytes: u16,
    /// How many rules have a path that ends here.
    here: u16,
    /// How many go on with `**`.
    tail: u16,
    has_literal_children: bool,
    /// Where those that end here begin among the uses. Those that go on follow them.
    uses: u32,
}

/// A child and a part of its hash, or nothing. The bits for the child are enough for [`super::MOST_RULES`] rules of
/// [`super::MOST_RULE_SEGMENTS`] segments.
#[derive(Clone, Copy, Debug, Default)]
struct Slot(u32);

impl Slot {
    const CHILD: u32 = (1 << 17) - 1;

    const fn of(hash: u32, child: u32) -> Self {
        Self(hash & !Self::CHILD | child)
    }

    /// 0 if the slot is empty: the root is nobody's child.
    const fn child(self) -> u32 {
        self.0 & Self::CHILD
    }

    const fn may_be(self, hash: u32) -> bool {
        (self.0 ^ hash) & !Self::CHILD == 0
    }
}

/// A rule, by the method that leads to it.
#[derive(Clone, Copy, Debug)]
struct Use {
    method: u16,
    rule: u16,
}

impl Trie {
    /// The rule that applies to a request, if any does.
    pub(super) fn find(&self, path: &Path<'_>, method: u16, spelling: Spelling) -> Option<u16> {
        let dropped = usize::from(spelling == Spelling::Folded && path.ends_in_slash());
        let search = Search { trie: self, path, method, spelling, segments: path.segments() - dropped };
        search.below(0, 0)
    }
}

/// One search in a tree.
struct Search<'a> {
    trie: &'a Trie,
    path: &'a Path<'a>,
    method: u16,
    spelling: Spelling,
    segments: usize,
}

impl Search<'_> {
    /// The most precise rule below a node that `depth` segments led to.
    fn below(&self, number: u32, depth: usize) -> Option<u16> {
        let node = self.trie.nodes.get(number as usize)?;
        if depth == self.segments {
            return self.pick(node.uses, node.here);
        }
        // Behind the last segment that a rule may have, no node has children.
        if let Some(segment) = self.path.segment(depth) {
            if node.has_literal_children
                && let Some(child) = self.child(number, segment)
                && let Some(rule) = self.below(child, depth + 1)
            {
                return Some(rule);
            }
            if node.star != 0
                && !segment.is_empty()
                && let Some(rule) = self.below(node.star, depth + 1)
            {
                return Some(rule);
            }
        }
        self.pick(node.uses + u32::from(node.here), node.tail)
    }

    fn child(&self, parent: u32, segment: &[u8]) -> Option<u32> {
        match self.spelling {
            Spelling::Exact => self.trie.child(parent, segment, |literal| literal == segment),
            Spelling::Folded if self.path.has_plain_twin() => {
                let mut buffer = [0; MOST_LITERAL_BYTES];
                let folded = fold_into(segment, &mut buffer)?;
                self.trie.child(parent, folded, |literal| literal == folded)
            }
            Spelling::Folded => self.trie.child(parent, segment, |literal| literal.eq_ignore_ascii_case(segment)),
        }
    }

    /// The one that names the method, else the one for every method, which is the last.
    fn pick(&self, start: u32, number: u16) -> Option<u16> {
        let mut uses = part(&self.trie.uses, start, number).iter();
        let is_it = |candidate: &&Use| candidate.method == self.method || candidate.method == EVERY_METHOD;
        uses.find(is_it).map(|found| found.rule)
    }
}

impl Trie {
    fn child(&self, parent: u32, segment: &[u8], is_it: impl Fn(&[u8]) -> bool) -> Option<u32> {
        let hash = hash(parent, segment);
        for position in probe(hash, self.slots.len()) {
            let slot = *self.slots.get(position)?;
            if slot.child() == 0 {
                return None;
            }
            if slot.may_be(hash) {
                let child = self.nodes.get(slot.child() as usize)?;
                if child.parent == parent && is_it(part(&self.literals, child.literal, child.literal_bytes)) {
                    return Some(slot.child());
                }
            }
        }
        None
    }

    /// Builds the tree. No two leaves may have one pattern and one method.
    pub(super) fn build(mut leaves: Vec<Leaf<'_>>) -> Self {
        // Neighbours share their beginnings, and every method comes last on its path.
        leaves.sort_by(|one, two| one.pattern.cmp(two.pattern).then(two.method.cmp(&one.method)));
        let mut building = Building { nodes: vec![Node::default()], ..Building::default() };
        // The nodes that lead to the leaf before, root first, with what led to each.
        let mut way: Vec<(u32, &Piece)> = Vec::new();
        let mut ends = Vec::with_capacity(leaves.len());
        for leaf in &leaves {
            let (pieces, ends_in_tail) = match leaf.pattern.pieces() {
                [before @ .., Piece::Tail] => (before, true),
                all => (all, false),
            };
            let shared = way.iter().zip(pieces).take_while(|((_, led), piece)| led == piece).count();
            way.truncate(shared);
            for piece in pieces.iter().skip(shared) {
                let parent = way.last().map_or(0, |(node, _)| *node);
                way.push((building.add_child(parent, piece), piece));
            }
            let node = way.last().map_or(0, |(node, _)| *node);
            ends.push((node, ends_in_tail, Use { method: leaf.method, rule: leaf.rule }));
        }
        // Stable: on its path, every method stays the last.
        ends.sort_by_key(|(node, ends_in_tail, _)| (*node, *ends_in_tail));
        for (place, (node, ends_in_tail, _)) in (0..).zip(&ends) {
            let Some(node) = building.nodes.get_mut(*node as usize) else { continue };
            if node.here == 0 && node.tail == 0 {
                node.uses = place;
            }
            *(if *ends_in_tail { &mut node.tail } else { &mut node.here }) += 1;
        }
        Self {
            slots: building.slots(),
            nodes: building.nodes.into(),
            literals: building.literals.into(),
            uses: ends.into_iter().map(|(_, _, found)| found).collect(),
        }
    }
}

#[derive(Default)]
struct Building<'a> {
    nodes: Vec<Node>,
    literals: Vec<u8>,
    known: HashMap<&'a [u8], u32>,
    literal_children: Vec<u32>,
}

impl<'a> Building<'a> {
    fn add_child(&mut self, parent: u32, piece: &'a Piece) -> u32 {
        let number = short(self.nodes.len());
        let mut node = Node { parent, ..Node::default() };
        if let Piece::Literal(literal) = piece {
            node.literal = *self.known.entry(literal).or_insert_with(|| {
                let start = short(self.literals.len());
                self.literals.extend_from_slice(literal);
                start
            });
            node.literal_bytes = u16::try_from(literal.len()).unwrap_or(u16::MAX);
            self.literal_children.push(number);
        }
        self.nodes.push(node);
        if let Some(parent) = self.nodes.get_mut(parent as usize) {
            match piece {
                Piece::Literal(_) => parent.has_literal_children = true,
                Piece::One | Piece::Tail => parent.star = number,
            }
        }
        number
    }

    /// The slots in which each literal child is found.
    fn slots(&self) -> Box<[Slot]> {
        let mut slots = vec![Slot::default(); (self.literal_children.len() * 2 + 1).next_power_of_two()];
        for child in &self.literal_children {
            let Some(node) = self.nodes.get(*child as usize) else { continue };
            let hash = hash(node.parent, part(&self.literals, node.literal, node.literal_bytes));
            let is_free = |position: &usize| slots.get(*position).is_some_and(|slot| slot.child() == 0);
            let free = probe(hash, slots.len()).find(is_free);
            if let Some(slot) = free.and_then(|position| slots.get_mut(position)) {
                *slot = Slot::of(hash, *child);
            }
        }
        slots.into()
    }
}

fn part<T>(list: &[T], start: u32, length: u16) -> &[T] {
    let start = start as usize;
    list.get(start..start + usize::from(length)).unwrap_or_default()
}

/// Every position once, beginning at the one that belongs to the hash. `slots` is a power of two.
fn probe(hash: u32, slots: usize) -> impl Iterator<Item = usize> {
    (0..slots).map(move |step| (hash as usize).wrapping_add(step) & (slots - 1))
}

/// Never cut: the limits of a document keep every list far below 2^32.
fn short(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// A fast hash of a node and a segment that leaves letter case out of account.
///
/// Not a secret one: what is in the table comes from the operator, so that a chosen path can at worst be compared with
/// a few segments in vain.
fn hash(parent: u32, segment: &[u8]) -> u32 {
    const SMALL_LETTERS: u64 = 0x2020_2020_2020_2020;
    const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
    let add = |sum: u64, word: u64| (sum.rotate_left(23) ^ (word | SMALL_LETTERS)).wrapping_mul(MIX);
    let mut sum = add(u64::from(parent), segment.len() as u64);
    if let Some(last) = segment.last_chunk() {
        for word in segment.as_chunks().0 {
            sum = add(sum, u64::from_le_bytes(*word));
        }
        // What is left over, with some of what is not.
        sum = add(sum, u64::from_le_bytes(*last));
    } else if let (Some(first), Some(last)) = (segment.first_chunk(), segment.last_chunk()) {
        sum = add(sum, u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << 32);
    } else {
        sum = add(sum, segment.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)));
    }
    // A bit of a product knows nothing of the bits above it: once more, with the upper half below.
    short(((sum ^ sum >> 32).wrapping_mul(MIX) >> 32) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_whose_hash_is_that_of_another_nodes_child_is_not_that_child() {
        // As the tree numbers them: "a", "a/…", "b", "b/z"; 16 slots for the four.
        let (a, b) = (1, 3);
        let is_same_slot = |segment: &String| {
            let differing = hash(a, segment.as_bytes()) ^ hash(b, segment.as_bytes());
            differing & (!Slot::CHILD | 15) == 0
        };
        let segment = (0..).map(|number: u32| format!("x{number}")).find(is_same_slot).unwrap();
        let patterns = [format!("/a/{segment}"), "/b/z".to_owned()].map(|path| Pattern::of(&path));
        let leaves = patterns.iter().zip(2..).map(|(pattern, rule)| Leaf { pattern, method: EVERY_METHOD, rule });
        let trie = Trie::build(leaves.collect());
        assert_eq!(trie.slots.len(), 16);
        let find = |path: String| trie.find(&Path::scan(path.as_bytes()).unwrap(), 1, Spelling::Exact);
        assert_eq!((find(format!("/a/{segment}")), find("/b/z".to_owned())), (Some(2), Some(3)));
        assert_eq!(find(format!("/b/{segment}")), None);
    }
}
