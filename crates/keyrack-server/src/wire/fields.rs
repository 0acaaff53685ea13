//! The header fields of a request.

/// One header field: its name as sent, and its value without the spaces around it.
pub type Field<'a> = httparse::Header<'a>;

/// A field that may be there once was there twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a header field was sent more than once")]
pub struct Repeated;

/// Every header field of a request, in the order in which they were sent.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a>(&'a [Field<'a>]);

impl<'a> Fields<'a> {
    /// These fields.
    #[must_use]
    pub const fn new(fields: &'a [Field<'a>]) -> Self {
        Self(fields)
    }

    /// The value of a field that may be there once; the name counts in any letter case.
    ///
    /// # Errors
    /// It is there more than once: two parsers may each believe another of the two.
    pub fn only(&self, name: &str) -> Result<Option<&'a [u8]>, Repeated> {
        let mut found = None;
        for field in self.0 {
            if field.name.eq_ignore_ascii_case(name) && found.replace(field.value).is_some() {
                return Err(Repeated);
            }
        }
        Ok(found)
    }

    /// Whether a field is there at all; the name counts in any letter case.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|field| field.name.eq_ignore_ascii_case(name))
    }

    /// Names and values, as sent.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        self.0.iter().map(|field| (field.name.as_bytes(), field.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_in_any_case_and_only_once() {
        let field = |name, value| Field { name, value };
        let all = [field("Host", b"a".as_slice()), field("X-One", b"1"), field("x-two", b"2"), field("X-TWO", b"3")];
        let fields = Fields::new(&all);
        assert_eq!(fields.only("x-one"), Ok(Some(b"1".as_slice())));
        assert_eq!(fields.only("x-on"), Ok(None));
        assert_eq!(fields.only("X-Two"), Err(Repeated));
        assert!(fields.has("x-Two") && !fields.has("x-three"));
        assert_eq!(fields.iter().nth(2), Some((b"x-two".as_slice(), b"2".as_slice())));
    }
}
