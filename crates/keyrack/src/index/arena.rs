//! Room that grows at its end and never moves, so that what was found in it stays where it is.

use std::sync::OnceLock;

/// Most chunks of an arena.
const CHUNKS: usize = 24;

/// Part of an arena.
pub(super) trait Chunk: Sized {
    /// What it is made of.
    type Item;

    /// So many items, all blank; nothing if the system has no memory for them.
    fn blank(items: usize) -> Option<Self>;

    /// All of them.
    fn items(&self) -> &[Self::Item];
}

impl<T: Default> Chunk for Box<[T]> {
    type Item = T;

    fn blank(items: usize) -> Option<Self> {
        Some((0..items).map(|_| T::default()).collect())
    }

    #[inline]
    fn items(&self) -> &[T] {
        self
    }
}

/// Items in chunks, made when they are first needed and kept until the arena goes. The first chunk holds `FIRST` of them, a power
/// of two, the second as many, every further one as many as all before it.
#[derive(Debug)]
pub(super) struct Arena<C, const FIRST: usize> {
    chunks: [OnceLock<C>; CHUNKS],
}

impl<C: Chunk, const FIRST: usize> Arena<C, FIRST> {
    /// Room for nothing yet.
    pub(super) const fn new() -> Self {
        Self { chunks: [const { OnceLock::new() }; CHUNKS] }
    }

    /// The item at a place, if there is room made for it.
    #[inline]
    pub(super) fn get(&self, at: usize) -> Option<&C::Item> {
        let (chunk, at) = Self::place_of(at);
        self.chunks.get(chunk)?.get()?.items().get(at)
    }

    /// Makes room for an item, and gives it; nothing if the arena is full, or the system has no memory. Only one thread at a
    /// time may call this.
    pub(super) fn make_room(&self, at: usize) -> Option<&C::Item> {
        let (number, within) = Self::place_of(at);
        let chunk = self.chunks.get(number)?;
        if chunk.get().is_none() {
            let made = C::blank(FIRST.checked_shl(u32::try_from(number.saturating_sub(1)).ok()?)?)?;
            chunk.get_or_init(|| made);
        }
        chunk.get()?.items().get(within)
    }

    /// The chunks that were made, with the place of the first item of each.
    pub(super) fn chunks(&self) -> impl Iterator<Item = (usize, &[C::Item])> {
        let made = self.chunks.iter().enumerate();
        made.filter_map(|(number, chunk)| Some((Self::first_of(number), chunk.get()?.items())))
    }

    #[inline]
    const fn place_of(at: usize) -> (usize, usize) {
        let number = (usize::BITS - (at / FIRST).leading_zeros()) as usize;
        (number, at - Self::first_of(number))
    }

    #[inline]
    const fn first_of(chunk: usize) -> usize {
        if chunk == 0 { 0 } else { FIRST << (chunk - 1) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn every_place_is_in_one_chunk_and_is_found_again() {
        let arena = Arena::<Box<[AtomicUsize]>, 4>::new();
        assert!(arena.get(0).is_none());
        for at in 0..100 {
            assert_eq!(arena.make_room(at).unwrap().swap(at, Ordering::Relaxed), 0);
        }
        for at in 0..100 {
            assert_eq!(arena.get(at).unwrap().load(Ordering::Relaxed), at);
        }
        let lengths: Vec<_> = arena.chunks().map(|(first, items)| (first, items.len())).collect();
        assert_eq!(lengths, [(0, 4), (4, 4), (8, 8), (16, 16), (32, 32), (64, 64)]);
        assert!(arena.get(128).is_none() && arena.make_room(4 << CHUNKS).is_none());
    }
}
