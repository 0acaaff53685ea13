//! A reply as a service makes it: structured, because each version of HTTP writes it in its own way.

/// The status of a reply that nobody has said anything with. There is none that a gateway could take for a yes by default.
const NOTHING_SAID: u16 = 0;

/// The reply to one request. One is kept for all requests of a thread, so that its memory is.
#[derive(Clone, Debug)]
pub struct Reply {
    status: u16,
    /// Names, each with where its value ends in `values`; it begins where the one before ends.
    ends: Vec<(&'static str, usize)>,
    values: Vec<u8>,
    body: Vec<u8>,
    sound: bool,
}

impl Default for Reply {
    fn default() -> Self {
        Self { status: NOTHING_SAID, ends: Vec::new(), values: Vec::new(), body: Vec::new(), sound: true }
    }
}

impl Reply {
    /// Most memory that is kept for the next reply, in bytes.
    const MOST_KEPT: usize = 1024 * 1024;

    /// Makes it blank: no status, no fields, no body. So it is not sound.
    pub fn clear(&mut self) {
        self.status = NOTHING_SAID;
        self.ends.clear();
        self.values.clear();
        self.body.clear();
        self.body.shrink_to(Self::MOST_KEPT);
        self.sound = true;
    }

    /// Sets the status, 200 to 599.
    pub fn set_status(&mut self, status: u16) {
        self.status = status;
    }

    /// Adds a header field. The name is a token in lower case, other than `content-length`, `date`, `connection` and
    /// `transfer-encoding`, which are the wire's. A value with a control character makes the whole reply unfit: it is
    /// answered as if the service had panicked.
    pub fn field(&mut self, name: &'static str, value: &[u8]) {
        self.field_with(name, |out| out.extend_from_slice(value));
    }

    /// Adds a header field whose value is appended by a function; see [`Reply::field`].
    pub fn field_with(&mut self, name: &'static str, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.values.len();
        write(&mut self.values);
        // Whatever ends a line would be read as a field or a reply of its own.
        self.sound &=
            self.values.get(start..).is_some_and(|value| !value.iter().any(|byte| *byte < b' ' || *byte == 127));
        self.ends.push((name, self.values.len()));
    }

    /// The body, to be written.
    pub const fn body(&mut self) -> &mut Vec<u8> {
        &mut self.body
    }

    /// The status.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// The header fields that were added, in order.
    pub fn fields(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        let mut start = 0;
        self.ends.iter().map(move |(name, end)| {
            let value = self.values.get(start..*end).unwrap_or_default();
            start = *end;
            (*name, value)
        })
    }

    /// The values of the header fields, one behind the other.
    pub(super) fn values(&self) -> &[u8] {
        &self.values
    }

    /// The body that was written.
    #[must_use]
    pub fn content(&self) -> &[u8] {
        &self.body
    }

    /// Whether it can be sent.
    #[must_use]
    pub const fn is_sound(&self) -> bool {
        self.sound && 200 <= self.status && self.status < 600
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_there_in_order_until_it_is_cleared() {
        let mut reply = Reply::default();
        reply.set_status(403);
        reply.field("x-one", b"1");
        reply.field("x-none", b"");
        reply.field_with("x-two", |out| out.extend_from_slice(b"22"));
        reply.body().extend_from_slice(b"no");
        let fields: Vec<_> = reply.fields().collect();
        assert_eq!(fields, [("x-one", b"1".as_slice()), ("x-none", b""), ("x-two", b"22")]);
        assert_eq!((reply.status(), reply.content(), reply.is_sound()), (403, b"no".as_slice(), true));

        reply.clear();
        assert_eq!((reply.content(), reply.fields().count(), reply.is_sound()), (b"".as_slice(), 0, false));
    }

    #[test]
    fn a_value_that_would_end_its_line_is_not_sent() {
        for value in [b"a\r\nx: y".as_slice(), b"\n", b"\0", b"\x7f", b"a\tb"] {
            let mut reply = Reply::default();
            reply.set_status(200);
            reply.field("x", value);
            assert!(!reply.is_sound(), "{value:?}");
            reply.clear();
            reply.set_status(200);
            assert!(reply.is_sound());
        }
        let mut reply = Reply::default();
        assert!(!reply.is_sound(), "nothing was said");
        reply.set_status(101);
        assert!(!reply.is_sound(), "a status that is no final reply");
    }
}
