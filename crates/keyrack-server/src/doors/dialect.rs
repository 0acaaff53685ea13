//! What sets one gateway's requests apart from another's: where it says what was asked, and which denials it understands
//! (reliability rule 4.7).

use keyrack::Code;

use super::{envoy, forward, haproxy, nginx};
use crate::wire::{Repeated, Request};

/// One gateway's way of asking.
pub(super) struct Dialect {
    /// What stands behind `/v1/auth/`.
    pub(super) name: &'static [u8],
    /// Reads the request that the gateway passes on. The bytes are what is left of the target behind the door's name.
    pub(super) read: for<'a> fn(&Request<'a>, Selectors<'a>) -> Result<Forwarded<'a>, Unreadable>,
    /// The status that this gateway makes of a code what it means.
    pub(super) status: fn(Code) -> u16,
}

const DIALECTS: [&Dialect; 4] = [&nginx::DIALECT, &forward::DIALECT, &haproxy::DIALECT, &envoy::DIALECT];

/// The request that a gateway asks about.
pub(super) struct Forwarded<'a> {
    pub(super) method: &'a [u8],
    pub(super) target: &'a [u8],
    pub(super) host: Option<&'a [u8]>,
    pub(super) forwarded_for: Option<&'a [u8]>,
    pub(super) selected: Selected<'a>,
}

/// What the configured address of a door narrows a question to.
#[derive(Clone, Copy, Default)]
pub(super) struct Selected<'a> {
    pub(super) policy: Option<&'a [u8]>,
    pub(super) project: Option<u64>,
    pub(super) organization: Option<u64>,
}

/// Why a request that a gateway passes on cannot be read: the word goes into a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable(pub(super) &'static str);

impl From<Repeated> for Unreadable {
    fn from(_: Repeated) -> Self {
        Self("header_repeated")
    }
}

impl Dialect {
    /// The dialect that a target behind `/v1/auth/` speaks, and what is left of the target.
    pub(super) fn of(behind: &[u8]) -> Option<(&'static Self, &[u8])> {
        let end = behind.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(behind.len());
        let (name, rest) = behind.split_at(end);
        DIALECTS.into_iter().find(|dialect| dialect.name == name).map(|dialect| (dialect, rest))
    }
}

/// What is left of a door's target: `/policy/NAME`, `/project/ID` and `/organization/ID`, each at most once.
#[derive(Clone, Copy)]
pub(super) struct Selectors<'a>(pub(super) &'a [u8]);

impl<'a> Selectors<'a> {
    /// Reads all of it; the query is whatever the client of the gateway sent, and is not looked at.
    pub(super) fn whole(self) -> Result<Selected<'a>, Unreadable> {
        let path = self.0.split(|byte| *byte == b'?').next().unwrap_or_default();
        match Selectors(path).read()? {
            (selected, b"") => Ok(selected),
            _ => Err(Unreadable("door_unknown")),
        }
    }

    /// Reads what stands before `/-`, and gives what comes behind that.
    pub(super) fn before_marker(self) -> Result<(Selected<'a>, &'a [u8]), Unreadable> {
        let (selected, rest) = self.read()?;
        let target = rest.strip_prefix(b"/-").filter(|target| target.first() == Some(&b'/'));
        target.map(|target| (selected, target)).ok_or(Unreadable("door_unknown"))
    }

    fn read(self) -> Result<(Selected<'a>, &'a [u8]), Unreadable> {
        let (mut selected, mut rest) = (Selected::default(), self.0);
        while let Some((name, value, behind)) = pair(rest) {
            let is_new = match name {
                b"policy" => selected.policy.replace(value).is_none(),
                b"project" => selected.project.replace(number(value)?).is_none(),
                b"organization" => selected.organization.replace(number(value)?).is_none(),
                _ => break,
            };
            if !is_new {
                return Err(Unreadable("door_unknown"));
            }
            rest = behind;
        }
        Ok((selected, rest))
    }
}

/// `/name/value` at the beginning, and what comes behind it.
fn pair(rest: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let rest = rest.strip_prefix(b"/")?;
    let name_end = rest.iter().position(|byte| *byte == b'/')?;
    let (name, rest) = (rest.get(..name_end)?, rest.get(name_end + 1..)?);
    let value_end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let (value, behind) = rest.split_at(value_end);
    (!value.is_empty()).then_some((name, value, behind))
}

fn number(digits: &[u8]) -> Result<u64, Unreadable> {
    let is_plain = !digits.is_empty() && digits.len() <= 19 && digits.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(digits).ok().filter(|_| is_plain).and_then(|digits| digits.parse().ok());
    number.ok_or(Unreadable("door_unknown"))
}

/// A header that must be there, once.
pub(super) fn required<'a>(request: &Request<'a>, name: &str, missing: &'static str) -> Result<&'a [u8], Unreadable> {
    request.fields.only(name)?.ok_or(Unreadable(missing))
}

/// Most gateways hand a denial on as it is.
pub(super) const fn as_it_is(code: Code) -> u16 {
    code.status()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_a_door_is_read_whole_or_refused() {
        let whole = |path: &'static str| Selectors(path.as_bytes()).whole();
        let read = whole("/policy/strict/project/7/organization/3?policy=weak").ok().unwrap();
        assert_eq!((read.policy, read.project, read.organization), (Some(&b"strict"[..]), Some(7), Some(3)));
        assert!(whole("").is_ok() && whole("?x").is_ok());
        for wrong in
            ["/", "/policy", "/policy/", "/policy/a/", "/project/x", "/project/+1", "/policy/a/policy/b", "/x/y"]
        {
            assert_eq!(whole(wrong).err(), Some(Unreadable("door_unknown")), "{wrong}");
        }
    }

    #[test]
    fn what_a_client_asks_for_is_never_read_as_an_address() {
        let (selected, target) = Selectors(b"/project/7/-/policy/weak/-/x?q").before_marker().ok().unwrap();
        assert_eq!((selected.policy, selected.project, target), (None, Some(7), &b"/policy/weak/-/x?q"[..]));
        for wrong in ["/events", "/policy/weak/events", "/-", "/-events", "", "/project/7"] {
            assert!(Selectors(wrong.as_bytes()).before_marker().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_dialect_is_a_whole_word() {
        let of = |behind: &'static str| Dialect::of(behind.as_bytes()).map(|(dialect, rest)| (dialect.name, rest));
        assert_eq!(of("nginx"), Some((&b"nginx"[..], &b""[..])));
        assert_eq!(of("forward/project/1?x"), Some((&b"forward"[..], &b"/project/1?x"[..])));
        assert_eq!(of("nginxx"), None);
        assert_eq!(of(""), None);
    }
}
