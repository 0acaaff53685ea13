//! Memory for many words: zeroed, at the start of a page, and in huge pages where there is enough of it.
//!
//! The index is asked at random places. With pages of 4 KiB a look-up in a million keys waits longer for the page tables than for
//! the words themselves; see `docs/decisions/0011`.

#[cfg(not(keyrack_model))]
use self::mapped::{Mapped, map};
use super::arena::Chunk;
use super::sync::AtomicU64;
use std::fmt;
use std::ops::Deref;

#[cfg(not(keyrack_model))]
mod mapped {
    use memmap2::{MmapMut, MmapOptions};
    use self_cell::{MutBorrow, self_cell};
    use zerocopy::FromBytes as _;

    use super::AtomicU64;

    /// From this size on, memory may come in huge pages: it is that of one.
    pub(super) const HUGE_PAGE_BYTES: usize = 2 << 20;

    type WordSlice<'a> = &'a [AtomicU64];

    self_cell!(
        pub(super) struct Mapped {
            owner: MutBorrow<MmapMut>,
            #[covariant]
            dependent: WordSlice,
        }
    );

    pub(super) fn map(words: usize) -> Option<Mapped> {
        let bytes = words.checked_mul(size_of::<AtomicU64>())?;
        let map = MmapOptions::new().len(bytes).map_anon().ok()?;
        if bytes >= HUGE_PAGE_BYTES {
            // Without them everything is as right, and slower.
            #[cfg(target_os = "linux")]
            drop(map.advise(memmap2::Advice::HugePage));
        }
        Mapped::try_new(MutBorrow::new(map), words_of).ok()
    }

    /// A page holds whole words, so this does not fail.
    fn words_of(map: &MutBorrow<MmapMut>) -> Result<&[AtomicU64], ()> {
        <[AtomicU64]>::mut_from_bytes(map.borrow_mut()).map(|words| &*words).map_err(|_impossible| ())
    }
}

/// Words that are zero until they are written, and take no room until they are touched.
#[cfg(not(keyrack_model))]
pub(super) struct Words(Mapped);

/// The model checker makes its own atomics.
#[cfg(keyrack_model)]
pub(super) struct Words(Box<[AtomicU64]>);

impl Words {
    /// So many words; nothing if the system has no room for them.
    #[cfg(not(keyrack_model))]
    pub(super) fn zeroed(words: usize) -> Option<Self> {
        map(words).map(Self)
    }

    #[cfg(keyrack_model)]
    pub(super) fn zeroed(words: usize) -> Option<Self> {
        Some(Self((0..words).map(|_| AtomicU64::new(0)).collect()))
    }
}

impl Deref for Words {
    type Target = [AtomicU64];

    #[inline]
    fn deref(&self) -> &[AtomicU64] {
        #[cfg(not(keyrack_model))]
        return self.0.borrow_dependent();
        #[cfg(keyrack_model)]
        return &self.0;
    }
}

impl fmt::Debug for Words {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Words").field("len", &self.len()).finish()
    }
}

/// Lines of so many words each.
#[derive(Debug)]
pub(super) struct Lines<const WORDS: usize>(Words);

impl<const WORDS: usize> Chunk for Lines<WORDS> {
    type Item = [AtomicU64; WORDS];

    fn blank(items: usize) -> Option<Self> {
        Words::zeroed(items.checked_mul(WORDS)?).map(Self)
    }

    #[inline]
    fn items(&self) -> &[[AtomicU64; WORDS]] {
        self.0.as_chunks().0
    }
}

#[cfg(all(test, not(keyrack_model)))]
mod tests {
    use std::sync::atomic::Ordering;

    use super::mapped::HUGE_PAGE_BYTES;
    use super::*;

    #[test]
    fn words_are_zero_and_keep_what_is_written() {
        for words in [1, 512, HUGE_PAGE_BYTES / 8 + 1] {
            let made = Words::zeroed(words).unwrap();
            assert_eq!(made.len(), words);
            assert!(made.iter().all(|word| word.load(Ordering::Relaxed) == 0));
            made[words - 1].store(7, Ordering::Relaxed);
            assert_eq!(made[words - 1].load(Ordering::Relaxed), 7);
            assert_eq!(made.as_ptr().align_offset(64), 0, "a record never lies in two cache lines");
        }
    }

    #[test]
    fn what_the_system_has_no_room_for_is_not_given() {
        assert!(Words::zeroed(usize::MAX).is_none());
        assert!(Words::zeroed(1 << 58).is_none());
    }
}
