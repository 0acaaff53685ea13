//! Room that grows at its end and never moves, so that what was found in it stays where it is.

use std::sync::OnceLock;

/// At most `CHUNKS` chunks of `IN_CHUNK` items each, made when they are first needed and kept until the arena goes.
#[derive(Debug)]
pub(super) struct Arena<T, const IN_CHUNK: usize, const CHUNKS: usize> {
    chunks: Box<[OnceLock<Box<[T]>>]>,
}

impl<T: Default, const IN_CHUNK: usize, const CHUNKS: usize> Arena<T, IN_CHUNK, CHUNKS> {
    /// Room for so many items, beginning at 0.
    pub(super) fn with_capacity(items: usize) -> Self {
        let arena = Self { chunks: (0..CHUNKS).map(|_| OnceLock::new()).collect() };
        for first in (0..items).step_by(IN_CHUNK) {
            arena.make_room(first);
        }
        arena
    }

    /// The item at a place, if there is room made for it.
    #[inline]
    pub(super) fn get(&self, at: usize) -> Option<&T> {
        self.chunks.get(at / IN_CHUNK)?.get()?.get(at % IN_CHUNK)
    }

    /// Makes room for an item, and gives it; nothing if the arena is full.
    pub(super) fn make_room(&self, at: usize) -> Option<&T> {
        let chunk = self.chunks.get(at / IN_CHUNK)?;
        chunk.get_or_init(|| (0..IN_CHUNK).map(|_| T::default()).collect()).get(at % IN_CHUNK)
    }

    /// The chunks that were made, with the place of the first item of each.
    pub(super) fn chunks(&self) -> impl Iterator<Item = (usize, &[T])> {
        let made = self.chunks.iter().map_while(|chunk| chunk.get());
        made.enumerate().map(|(number, chunk)| (number * IN_CHUNK, &chunk[..]))
    }
}
