//! One number over all live rows, so that a row that was put back, taken out or doubled shows at the next start.
//!
//! Each live row has a summand, a keyed hash of it that is nowhere stored, taken as four 64-bit numbers. Their sum, masked
//! by another keyed hash, is stored and authenticated together with the newest audit hash: who reads the database learns
//! no summand and no difference of two, and so cannot make rows that cancel out. Each change adds the summand of the new
//! row and takes that of the old one away; a start adds up what it reads.

/// What one row adds to the sum.
pub(super) type Summand = [u8; 32];

/// The sum over all live rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LiveSum([u64; 4]);

impl LiveSum {
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<8>();
        let words: [[u8; 8]; 4] = words.try_into().ok()?;
        rest.is_empty().then(|| Self(words.map(u64::from_le_bytes)))
    }

    pub(super) fn to_bytes(self) -> Vec<u8> {
        self.0.map(u64::to_le_bytes).concat()
    }

    #[must_use]
    pub(super) fn with(self, summand: &Summand) -> Self {
        self.combine(summand, u64::wrapping_add)
    }

    #[must_use]
    pub(super) fn without(self, summand: &Summand) -> Self {
        self.combine(summand, u64::wrapping_sub)
    }

    /// Both together.
    #[must_use]
    pub(super) fn and(self, other: Self) -> Self {
        let mut sum = self;
        for (word, more) in sum.0.iter_mut().zip(other.0) {
            *word = word.wrapping_add(more);
        }
        sum
    }

    fn combine(mut self, summand: &Summand, operation: fn(u64, u64) -> u64) -> Self {
        for (sum, word) in self.0.iter_mut().zip(summand.as_chunks::<8>().0) {
            *sum = operation(*sum, u64::from_le_bytes(*word));
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_does_not_matter_and_every_key_does() {
        let [a, b, c] = [[1; 32], [200; 32], [255; 32]];
        let all = LiveSum::default().with(&a).with(&b).with(&c);
        assert_eq!(all, LiveSum::default().with(&c).with(&a).with(&b));
        assert_eq!(all.without(&b), LiveSum::default().with(&a).with(&c));
        assert_ne!(all, all.with(&a));
        assert_ne!(all, all.without(&a));
        assert_eq!(all, LiveSum::default().with(&a).and(LiveSum::default().with(&b).with(&c)));
        assert_eq!(LiveSum::from_bytes(&all.to_bytes()), Some(all));
        assert_eq!(LiveSum::from_bytes(&[0; 31]), None);
        assert_eq!(LiveSum::from_bytes(&[0; 33]), None);
    }
}
