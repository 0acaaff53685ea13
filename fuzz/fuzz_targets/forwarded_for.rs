//! Arbitrary text as what a proxy says of those it speaks for: nothing panics, and a second reader, written to be obvious, finds
//! the same client, or the same fault.
#![no_main]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use keyrack_server::proxies::TrustedProxies;
use libfuzzer_sys::fuzz_target;

const TRUSTED: &str = "127.0.0.0/8 10.0.0.0/8 ::1 fd00::/8";

fuzz_target!(|data: &[u8]| {
    let Some(trusted) = TrustedProxies::parse(TRUSTED) else { panic!("a good setting") };
    check(&trusted, data);
    // Arbitrary bytes seldom hold an address, so they are also tried behind and before some.
    check(&trusted, &[data, b", 10.1.2.3, 127.0.0.1"].concat());
    check(&trusted, &[b"203.0.113.9, ".as_slice(), data, b", [fd00::1]:443"].concat());
    if let Ok(text) = std::str::from_utf8(data)
        && let Some(networks) = TrustedProxies::parse(text)
    {
        assert_eq!(TrustedProxies::parse(&networks.to_string()), Some(networks), "{text:?}");
    }
});

fn check(trusted: &TrustedProxies, forwarded_for: &[u8]) {
    let client = trusted.client(forwarded_for);
    assert_eq!(client.ok(), client_obviously(forwarded_for), "{:?}", String::from_utf8_lossy(forwarded_for));
    // Whoever is found is an address that stands there, and is no proxy of ours unless all of them are.
    if let Ok(client) = client
        && !trusted.hold(client)
    {
        let hops = forwarded_for.split(|byte| *byte == b',').filter_map(hop);
        assert!(hops.into_iter().any(|hop| hop == client));
    }
}

/// From right to left, until one is not ours.
fn client_obviously(forwarded_for: &[u8]) -> Option<IpAddr> {
    let hops: Vec<_> = forwarded_for.split(|byte| *byte == b',').rev().take(64).collect();
    let mut client = None;
    for text in hops {
        let address = hop(text)?;
        client = Some(address);
        if !is_ours(address) {
            break;
        }
    }
    client
}

fn is_ours(address: IpAddr) -> bool {
    let v4 = |v4: Ipv4Addr| matches!(v4.octets()[0], 10 | 127);
    match address {
        IpAddr::V4(address) => v4(address),
        IpAddr::V6(address) => address == Ipv6Addr::LOCALHOST || address.octets()[0] == 0xfd,
    }
}

/// An address with or without a port: `1.2.3.4`, `1.2.3.4:5`, `::1`, `[::1]`, `[::1]:5`.
fn hop(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text.trim_ascii()).ok()?;
    let plain = text.parse().ok();
    let in_brackets = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    let with_port = || text.parse::<SocketAddr>().ok().filter(|_| !text.contains('%')).map(|address| address.ip());
    // An IPv4 address that is written as IPv6 is the same one.
    plain.or_else(in_brackets).or_else(with_port).map(|address: IpAddr| address.to_canonical())
}
