//! Which peers are believed when they say whose request they pass on.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Most hops that are looked at in `X-Forwarded-For`.
const MOST_HOPS: usize = 64;

/// Networks of proxies that are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedProxies(Vec<Network>);

/// Addresses with one beginning, IPv4 as IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    bits: u128,
    mask: u128,
}

/// What stands in `X-Forwarded-For` is not a list of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("address_malformed")]
pub struct BadAddress;

impl TrustedProxies {
    /// Reads addresses and networks such as `127.0.0.0/8`, with spaces or commas between them; nothing means nobody.
    pub fn parse(text: &str) -> Option<Self> {
        let words = text.split([' ', ',']).filter(|word| !word.is_empty());
        words.map(Network::parse).collect::<Option<_>>().map(Self)
    }

    /// Whether an address is that of a proxy.
    #[inline]
    pub fn hold(&self, address: IpAddr) -> bool {
        let bits = bits(address);
        self.0.iter().any(|network| bits & network.mask == network.bits)
    }

    /// Whose request it is: the nearest hop that is no proxy of ours, or else the farthest. `forwarded_for` is what a trusted peer
    /// sent; entries on the left of that hop are whatever a client wrote, and change nothing.
    ///
    /// # Errors
    /// [`BadAddress`] if a hop that counts is not an address.
    pub fn client(&self, forwarded_for: &[u8]) -> Result<IpAddr, BadAddress> {
        let mut client = Err(BadAddress);
        for hop in forwarded_for.rsplit(|byte| *byte == b',').take(MOST_HOPS) {
            let address = address(hop.trim_ascii()).ok_or(BadAddress)?;
            client = Ok(address);
            if !self.hold(address) {
                break;
            }
        }
        client
    }
}

impl fmt::Display for TrustedProxies {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, network) in self.0.iter().enumerate() {
            let space = if at == 0 { "" } else { " " };
            let (address, length) = (Ipv6Addr::from_bits(network.bits), network.mask.leading_ones());
            match address.to_ipv4_mapped().filter(|_| length >= 96) {
                Some(address) => write!(out, "{space}{address}/{}", length - 96)?,
                None => write!(out, "{space}{address}/{length}")?,
            }
        }
        Ok(())
    }
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (text, length) = match text.split_once('/') {
            Some((text, length)) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
                (text, Some(length.parse::<u32>().ok()?))
            }
            Some(_) => return None,
            None => (text, None),
        };
        let address: IpAddr = text.parse().ok()?;
        // Those of an IPv4 address are the last of an IPv6 one.
        let before = if address.is_ipv4() { 96 } else { 0 };
        let length = length.map_or(128, |length| before + length);
        let mask = match length {
            0 => 0,
            1..=128 => u128::MAX << (128 - length),
            _ => return None,
        };
        Some(Self { bits: bits(address) & mask, mask })
    }
}

/// IPv4 addresses as those that stand for them in IPv6, so that each has one form.
const fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// An address as proxies write it: with a port or without, IPv6 in brackets or without, never with a zone.
fn address(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?;
    let with_port = || text.parse::<SocketAddr>().ok().filter(|_| !text.contains('%')).map(|address| address.ip());
    let in_brackets = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(IpAddr::V6);
    let address = text.parse().ok().or_else(with_port).or_else(in_brackets)?;
    Some(match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(Ipv4Addr { .. }) => address,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn networks_are_read_and_hold_what_is_in_them() {
        let trusted = TrustedProxies::parse("10.0.0.0/8, 192.168.1.7 fd00::/8").unwrap();
        for inside in ["10.1.2.3", "192.168.1.7", "fd12::1", "::ffff:10.0.0.1"] {
            assert!(trusted.hold(ip(inside)), "{inside}");
        }
        for outside in ["11.0.0.1", "192.168.1.8", "fe80::1", "::1"] {
            assert!(!trusted.hold(ip(outside)), "{outside}");
        }
        assert_eq!(trusted.to_string(), "10.0.0.0/8 192.168.1.7/32 fd00::/8");
        assert!(!TrustedProxies::parse("").unwrap().hold(ip("127.0.0.1")));
        for wrong in ["localhost", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/+8", "10.0.0/8"] {
            assert_eq!(TrustedProxies::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_client_is_the_nearest_hop_that_is_no_proxy() {
        let trusted = TrustedProxies::parse("127.0.0.0/8 10.0.0.0/8").unwrap();
        let client = |forwarded: &str| trusted.client(forwarded.as_bytes());
        assert_eq!(client("203.0.113.9"), Ok(ip("203.0.113.9")));
        assert_eq!(client("6.6.6.6, 203.0.113.9, 10.0.0.2"), Ok(ip("203.0.113.9")));
        assert_eq!(client("10.0.0.3,10.0.0.2"), Ok(ip("10.0.0.3")), "all of them ours: the farthest");
        assert_eq!(client("::ffff:203.0.113.9"), Ok(ip("203.0.113.9")));
        assert_eq!(client("[2001:db8::1]:443"), Ok(ip("2001:db8::1")));
        assert_eq!(client("203.0.113.9:1234"), Ok(ip("203.0.113.9")));
        assert_eq!(client("garbage, 203.0.113.9"), Ok(ip("203.0.113.9")), "what a client wrote is not looked at");
        for wrong in ["", "unknown", "1.2.3", "01.2.3.4", "fe80::1%eth0", "[::1", "1.2.3.4, ", "_hidden"] {
            assert_eq!(client(wrong), Err(BadAddress), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn entries_on_the_left_change_nothing(left in "[ -~]{0,60}", last: [u8; 4]) {
            let trusted = TrustedProxies::parse("127.0.0.0/8").unwrap();
            let last = IpAddr::from(last);
            prop_assume!(!trusted.hold(last));
            let forwarded = format!("{left},{last}");
            prop_assert_eq!(trusted.client(forwarded.as_bytes()), Ok(last));
        }
    }
}
