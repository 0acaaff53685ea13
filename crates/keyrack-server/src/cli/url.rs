//! Where a server is.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ureq::http::Uri;

/// What stands in front of every path of a server: scheme, host and port, perhaps a path of its own; no slash at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServerUrl {
    text: String,
    host: String,
    is_https: bool,
}

impl ServerUrl {
    /// A server on this machine, with the settings it has by default.
    pub(super) const DEFAULT: &str = "http://127.0.0.1:8080";

    /// Reads a URL. The message says what is wrong with it, and repeats none of it: it might hold a password.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wanted = || "the URL must be like http://127.0.0.1:8080 or https://keys.example.com".to_owned();
        // What is refused here is what would need quoting in the file of profiles.
        if text.chars().any(|character| !character.is_ascii_graphic() || matches!(character, '"' | '\\')) {
            return Err(wanted());
        }
        let Ok(uri) = text.parse::<Uri>() else { return Err(wanted()) };
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return Err(wanted()) };
        if !matches!(scheme, "http" | "https") || authority.host().is_empty() {
            return Err(wanted());
        }
        if authority.as_str().contains('@') {
            return Err("the URL must hold no user and no password".to_owned());
        }
        if uri.query().is_some() || text.contains('#') {
            return Err("the URL must end with its host, port or path: no `?` and no `#`".to_owned());
        }
        let path = uri.path().trim_end_matches('/');
        let host = authority.host().trim_matches(['[', ']']).to_ascii_lowercase();
        Ok(Self { text: format!("{scheme}://{authority}{path}"), host, is_https: scheme == "https" })
    }

    /// As it is written.
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether what is said cannot be listened to on the way.
    pub(super) const fn is_https(&self) -> bool {
        self.is_https
    }

    /// Whether the server is on this machine.
    pub(super) fn is_loopback(&self) -> bool {
        let ip =
            self.host.parse::<Ipv4Addr>().map(IpAddr::V4).or_else(|_| self.host.parse::<Ipv6Addr>().map(IpAddr::V6));
        self.host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_kept_without_its_last_slash() {
        for (given, kept) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("https://keys.example.com/", "https://keys.example.com"),
            ("https://example.com/keys/", "https://example.com/keys"),
            ("http://[::1]:80", "http://[::1]:80"),
        ] {
            assert_eq!(ServerUrl::parse(given).unwrap().as_str(), kept);
        }
    }

    #[test]
    fn what_is_no_url_of_a_server_is_refused_and_not_repeated() {
        for given in [
            "",
            "localhost:8080",
            "ftp://a",
            "http://",
            "/x",
            "http://me:hunter2@a",
            "http://a/?q=hunter2",
            "http://a/#x",
            "http://a b",
            "http://a\"b",
            "http://a\u{1b}[1m",
        ] {
            assert!(!ServerUrl::parse(given).unwrap_err().contains("hunter2"), "{given}");
        }
    }

    #[test]
    fn loopback_is_this_machine_only() {
        for (given, expected) in [
            ("http://localhost", true),
            ("http://LOCALHOST:1", true),
            ("http://127.8.0.1:2", true),
            ("http://[::1]:80", true),
            ("http://0.0.0.0", false),
            ("http://127.0.0.1.example.com", false),
            ("http://10.0.0.1", false),
            ("http://localhost.example.com", false),
        ] {
            assert_eq!(ServerUrl::parse(given).unwrap().is_loopback(), expected, "{given}");
        }
    }
}
