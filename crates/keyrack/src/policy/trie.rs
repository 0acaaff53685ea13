//! The paths of a policy's rules as a tree, laid out flat: finding a rule allocates nothing and waits for nobody.
//!
//! A search goes down depth first, the more precise branch first, so that the first rule it comes to is the one that
//! applies. It sees each node at most once: its work is bounded by the number of rules, whatever the path.

use super::fold::fold_into;
use super::method::ANY;
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

/// Which method of which path leads to which rule.
pub(super) struct Leaf<'a> {
    pub(super) pattern: &'a Pattern,
    /// From [`super::method::code_in_rule`].
    pub(super) method: u128,
    pub(super) rule: u16,
}

/// The tree.
#[derive(Debug)]
pub(super) struct Trie {
    nodes: Box<[Node]>,
    /// Where children by literal segment are found: open addressing, a power of two of them.
    slots: Box<[Slot]>,
    /// The literal segments, one after the other.
    literals: Box<[u8]>,
    uses: Box<[Use]>,
}

/// A path so far.
#[derive(Clone, Copy, Debug, Default)]
struct Node {
    parent: u32,
    literal: Span,
    has_literal_children: bool,
    /// The child by `*`. 0, the root, is nobody's child and stands for none.
    star: u32,
    /// The rules whose path ends here.
    here: Span,
    /// The rules that go on with `**`.
    tail: Span,
}

/// A part of one of the long lists.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    start: u32,
    length: u16,
}

impl Span {
    fn of<T>(self, list: &[T]) -> &[T] {
        let start = self.start as usize;
        list.get(start..start + usize::from(self.length)).unwrap_or_default()
    }
}

/// Empty if the child is 0.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    hash: u32,
    child: u32,
}

/// A rule, by the method that leads to it.
#[derive(Clone, Copy, Debug)]
struct Use {
    method: u128,
    rule: u16,
}

impl Trie {
    /// The rule that applies to a request, if any does.
    pub(super) fn find(&self, path: &Path<'_>, method: u128, spelling: Spelling) -> Option<u16> {
        let dropped = usize::from(spelling == Spelling::Folded && path.ends_in_slash());
        let search = Search { trie: self, path, method, spelling, segments: path.segments() - dropped };
        search.below(0, 0)
    }
}

/// One search in a tree.
struct Search<'a> {
    trie: &'a Trie,
    path: &'a Path<'a>,
    method: u128,
    spelling: Spelling,
    segments: usize,
}

impl Search<'_> {
    /// The most precise rule below a node that `depth` segments led to.
    fn below(&self, number: u32, depth: usize) -> Option<u16> {
        let node = self.trie.nodes.get(number as usize)?;
        if depth == self.segments {
            return self.pick(node.here);
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
        self.pick(node.tail)
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
    fn pick(&self, uses: Span) -> Option<u16> {
        let mut uses = uses.of(&self.trie.uses).iter();
        uses.find(|candidate| candidate.method == self.method || candidate.method == ANY).map(|found| found.rule)
    }
}

impl Trie {
    fn child(&self, parent: u32, segment: &[u8], is_it: impl Fn(&[u8]) -> bool) -> Option<u32> {
        let hash = hash(parent, segment);
        for position in probe(hash, self.slots.len()) {
            let slot = self.slots.get(position)?;
            if slot.child == 0 {
                return None;
            }
            if slot.hash == hash {
                let child = self.nodes.get(slot.child as usize)?;
                if child.parent == parent && is_it(child.literal.of(&self.literals)) {
                    return Some(slot.child);
                }
            }
        }
        None
    }

    /// Builds the tree. Of leaves with one pattern and one method the last counts.
    pub(super) fn build(mut leaves: Vec<Leaf<'_>>) -> Self {
        // Neighbours share their beginnings, and `*`, the smallest code, comes last on its path.
        leaves.sort_by(|one, two| one.pattern.cmp(two.pattern).then(two.method.cmp(&one.method)));
        let mut nodes = vec![Node::default()];
        let mut literals = Vec::new();
        let mut uses = Vec::with_capacity(leaves.len());
        // The nodes that lead to the leaf before, root first, with what led to each.
        let mut way: Vec<(u32, &Piece)> = Vec::new();
        for leaf in &leaves {
            let (pieces, ends_in_tail) = match leaf.pattern.pieces() {
                [before @ .., Piece::Tail] => (before, true),
                all => (all, false),
            };
            let shared = way.iter().zip(pieces).take_while(|((_, led), piece)| led == piece).count();
            way.truncate(shared);
            for piece in pieces.iter().skip(shared) {
                let parent = way.last().map_or(0, |(node, _)| *node);
                let node = add_child(&mut nodes, &mut literals, parent, piece);
                way.push((node, piece));
            }
            let end = way.last().map_or(0, |(node, _)| *node);
            if let Some(node) = nodes.get_mut(end as usize) {
                let span = if ends_in_tail { &mut node.tail } else { &mut node.here };
                if span.length == 0 {
                    span.start = short(uses.len());
                }
                span.length += 1;
                uses.push(Use { method: leaf.method, rule: leaf.rule });
            }
        }
        let slots = lay_out(&nodes, &literals);
        Self { nodes: nodes.into(), slots, literals: literals.into(), uses: uses.into() }
    }
}

fn add_child(nodes: &mut Vec<Node>, literals: &mut Vec<u8>, parent: u32, piece: &Piece) -> u32 {
    let number = short(nodes.len());
    let mut node = Node { parent, ..Node::default() };
    if let Piece::Literal(literal) = piece {
        node.literal = Span { start: short(literals.len()), length: u16::try_from(literal.len()).unwrap_or(u16::MAX) };
        literals.extend_from_slice(literal);
    }
    nodes.push(node);
    if let Some(parent) = nodes.get_mut(parent as usize) {
        match piece {
            Piece::Literal(_) => parent.has_literal_children = true,
            Piece::One | Piece::Tail => parent.star = number,
        }
    }
    number
}

/// The slots in which each literal child is found.
fn lay_out(nodes: &[Node], literals: &[u8]) -> Box<[Slot]> {
    let mut slots = vec![Slot::default(); (nodes.len() * 2).next_power_of_two()];
    for (number, node) in nodes.iter().enumerate().skip(1) {
        let is_star = nodes.get(node.parent as usize).is_some_and(|parent| parent.star as usize == number);
        if is_star {
            continue;
        }
        let hash = hash(node.parent, node.literal.of(literals));
        let free = probe(hash, slots.len()).find(|position| slots.get(*position).is_some_and(|slot| slot.child == 0));
        if let Some(slot) = free.and_then(|position| slots.get_mut(position)) {
            *slot = Slot { hash, child: short(number) };
        }
    }
    slots.into()
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
    // The upper half: the lower bits of a product know nothing of the upper ones.
    short((sum >> 32) as usize)
}
