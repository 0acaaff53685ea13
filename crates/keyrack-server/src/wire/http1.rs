//! How a reply is written in HTTP/1.1.

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

use super::head::After;
use super::reply::Reply;

/// The line with the date, made anew when a second has passed.
#[derive(Debug, Default)]
pub(super) struct DateLine {
    second: i64,
    line: Vec<u8>,
}

impl DateLine {
    /// Sets the time, in seconds since 1970-01-01T00:00:00Z.
    pub(super) fn set(&mut self, second: i64) {
        if second == self.second && !self.line.is_empty() {
            return;
        }
        self.second = second;
        self.line.clear();
        let date = Timestamp::from_second(second)
            .ok()
            .and_then(|time| DateTimePrinter::new().timestamp_to_rfc9110_string(&time).ok());
        // A clock that is thousands of years off has no date; a reply may go without.
        if let Some(date) = date {
            self.line.extend_from_slice(b"date: ");
            self.line.extend_from_slice(date.as_bytes());
            self.line.extend_from_slice(b"\r\n");
        }
    }
}

/// Whether the client wants the body, or only to know how long it would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Everything.
    Whole,
    /// The answer to `HEAD`.
    Head,
}

impl Part {
    /// What a method asks for.
    pub(super) fn of(method: &[u8]) -> Self {
        if method == b"HEAD" { Self::Head } else { Self::Whole }
    }
}

/// Appends a reply to what is to be sent.
pub(super) fn write(reply: &Reply, date: &DateLine, part: Part, after: After, out: &mut Vec<u8>) {
    write_status(reply.status(), out);
    out.extend_from_slice(&date.line);
    for (name, value) in reply.fields() {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
    match after {
        After::Stays => {}
        After::StaysByRequest => out.extend_from_slice(b"connection: keep-alive\r\n"),
        After::Closes => out.extend_from_slice(b"connection: close\r\n"),
    }
    // These two have no body by their meaning, and so no length.
    if matches!(reply.status(), 204 | 304) {
        out.extend_from_slice(b"\r\n");
        return;
    }
    out.extend_from_slice(b"content-length: ");
    write_number(reply.content().len(), out);
    out.extend_from_slice(b"\r\n\r\n");
    match part {
        Part::Whole => out.extend_from_slice(reply.content()),
        Part::Head => {}
    }
}

fn write_status(status: u16, out: &mut Vec<u8>) {
    let known: &[u8] = match status {
        200 => b"HTTP/1.1 200 OK\r\n",
        204 => b"HTTP/1.1 204 No Content\r\n",
        400 => b"HTTP/1.1 400 Bad Request\r\n",
        401 => b"HTTP/1.1 401 Unauthorized\r\n",
        403 => b"HTTP/1.1 403 Forbidden\r\n",
        404 => b"HTTP/1.1 404 Not Found\r\n",
        429 => b"HTTP/1.1 429 Too Many Requests\r\n",
        503 => b"HTTP/1.1 503 Service Unavailable\r\n",
        // The reason is for people, and may be empty.
        other => {
            out.extend_from_slice(b"HTTP/1.1 ");
            write_number(usize::from(other), out);
            b" \r\n"
        }
    };
    out.extend_from_slice(known);
}

fn write_number(mut number: usize, out: &mut Vec<u8>) {
    let start = out.len();
    loop {
        // A digit fits a byte.
        out.push(b'0' + u8::try_from(number % 10).unwrap_or(0));
        number /= 10;
        if number == 0 {
            break;
        }
    }
    if let Some(digits) = out.get_mut(start..) {
        digits.reverse();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(reply: &Reply, part: Part, after: After) -> String {
        let mut date = DateLine::default();
        date.set(784_111_777);
        let mut out = Vec::new();
        write(reply, &date, part, after, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_reply_is_written_as_http_has_it() {
        let mut reply = Reply::default();
        reply.set_status(200);
        reply.field("X-Reason", b"none");
        reply.body().extend_from_slice(b"hello");
        assert_eq!(
            written(&reply, Part::Whole, After::Stays),
            "HTTP/1.1 200 OK\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\nX-Reason: none\r\ncontent-length: 5\r\n\r\nhello"
        );
        assert!(written(&reply, Part::Head, After::Closes).ends_with("connection: close\r\ncontent-length: 5\r\n\r\n"));

        reply.clear();
        reply.set_status(204);
        assert!(written(&reply, Part::Whole, After::StaysByRequest).ends_with("GMT\r\nconnection: keep-alive\r\n\r\n"));

        reply.set_status(418);
        assert!(written(&reply, Part::Whole, After::Stays).starts_with("HTTP/1.1 418 \r\n"));
        assert!(written(&reply, Part::Whole, After::Stays).ends_with("content-length: 0\r\n\r\n"));
    }

    #[test]
    fn the_date_goes_on_with_the_clock() {
        let mut date = DateLine::default();
        date.set(0);
        assert_eq!(date.line, b"date: Thu, 01 Jan 1970 00:00:00 GMT\r\n");
        date.set(1);
        assert_eq!(date.line, b"date: Thu, 01 Jan 1970 00:00:01 GMT\r\n");
        date.set(i64::MAX);
        assert!(date.line.is_empty());
    }

    #[test]
    fn numbers_have_all_their_digits() {
        for number in [0, 9, 10, 1_048_576, usize::MAX] {
            let mut out = Vec::new();
            write_number(number, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
    }
}
