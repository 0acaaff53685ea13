//! An unambiguous byte form of a list of values, to hash or to authenticate: no two lists share one.

/// Most lists are shorter, so that they need not grow.
const USUAL_BYTES: usize = 512;

/// Values in order, each with its kind and length before it.
#[derive(Clone, Debug, Default)]
pub struct Canonical(Vec<u8>);

impl Canonical {
    /// Begins a list; the label keeps the lists of different purposes apart.
    pub fn new(label: &str) -> Self {
        Self(Vec::with_capacity(USUAL_BYTES)).text(label)
    }

    /// Adds a number.
    #[must_use]
    pub fn int(self, value: i64) -> Self {
        self.tagged(b'i', &value.to_be_bytes())
    }

    /// Adds bytes.
    #[must_use]
    pub fn bytes(self, value: &[u8]) -> Self {
        self.tagged(b'b', value)
    }

    /// Adds text.
    #[must_use]
    pub fn text(self, value: &str) -> Self {
        self.tagged(b't', value.as_bytes())
    }

    /// Adds a number or its absence.
    #[must_use]
    pub fn maybe_int(self, value: Option<i64>) -> Self {
        match value {
            Some(value) => self.int(value),
            None => self.tagged(b'-', &[]),
        }
    }

    /// Adds text or its absence.
    #[must_use]
    pub fn maybe_text(self, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.text(value),
            None => self.tagged(b'-', &[]),
        }
    }

    /// The bytes of the list.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn tagged(mut self, tag: u8, value: &[u8]) -> Self {
        let mut head = [tag; 9];
        head[1..].copy_from_slice(&(value.len() as u64).to_be_bytes());
        self.0.extend_from_slice(&head);
        self.0.extend_from_slice(value);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moving_a_boundary_or_a_kind_changes_the_bytes() {
        let forms = [
            Canonical::new("x").text("ab").text("c"),
            Canonical::new("x").text("a").text("bc"),
            Canonical::new("x").text("abc").text(""),
            Canonical::new("x").text("abc"),
            Canonical::new("x").bytes(b"abc"),
            Canonical::new("x").text("abc").maybe_text(None),
            Canonical::new("xabc"),
            Canonical::new("x").int(1),
            Canonical::new("x").maybe_int(None),
        ];
        let distinct: std::collections::HashSet<_> = forms.iter().map(Canonical::as_bytes).collect();
        assert_eq!(distinct.len(), forms.len());
    }
}
