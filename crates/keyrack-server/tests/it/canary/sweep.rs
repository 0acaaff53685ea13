//! Looking for any 16 bytes of any secret in any usual encoding, in one pass for each length an encoded window has.

use std::collections::{BTreeMap, HashMap};

use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD, HEXLOWER, HEXUPPER};

/// So many bytes of a secret are a leak.
pub(super) const WINDOW: usize = 16;

type Encode = fn(&[u8]) -> Vec<u8>;

/// How a secret might be written down.
pub(super) const ENCODINGS: &[(&str, Encode)] = &[
    ("raw", <[u8]>::to_vec),
    ("lower case", <[u8]>::to_ascii_lowercase),
    ("hex", |bytes| HEXLOWER.encode(bytes).into_bytes()),
    ("HEX", |bytes| HEXUPPER.encode(bytes).into_bytes()),
    ("base64", |bytes| BASE64_NOPAD.encode(bytes).into_bytes()),
    ("base64url", |bytes| BASE64URL_NOPAD.encode(bytes).into_bytes()),
    ("%hex", |bytes| bytes.iter().flat_map(|byte| format!("%{byte:02x}").into_bytes()).collect()),
    ("%HEX", |bytes| bytes.iter().flat_map(|byte| format!("%{byte:02X}").into_bytes()).collect()),
    ("UTF-16LE", |bytes| bytes.iter().flat_map(|byte| [*byte, 0]).collect()),
    // What `Debug` and JSON make of a list of bytes.
    ("decimal, spaced", |bytes| joined(bytes, ", ")),
    ("decimal", |bytes| joined(bytes, ",")),
];

fn joined(bytes: &[u8], by: &str) -> Vec<u8> {
    bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(by).into_bytes()
}

/// Every window of every secret in every encoding, by its length.
pub(super) struct Sweep {
    by_length: BTreeMap<usize, Windows>,
}

struct Windows {
    of: HashMap<Vec<u8>, (usize, &'static str)>,
    /// Whether some window begins with bytes that fold to this: most places are passed by with one look.
    begins: Vec<bool>,
}

/// A window that was found.
#[derive(Debug)]
pub(super) struct Hit {
    pub(super) secret: usize,
    pub(super) encoding: &'static str,
    pub(super) at: usize,
}

impl Sweep {
    pub(super) fn new(secrets: &[Vec<u8>]) -> Self {
        let mut sweep = Self { by_length: BTreeMap::new() };
        for (number, secret) in secrets.iter().enumerate() {
            for part in secret.windows(WINDOW) {
                for (encoding, encode) in ENCODINGS {
                    for window in as_it_appears(part, encoding, *encode) {
                        sweep.add(window, (number, *encoding));
                    }
                }
            }
        }
        sweep
    }

    fn add(&mut self, window: Vec<u8>, what: (usize, &'static str)) {
        let empty = || Windows { of: HashMap::new(), begins: vec![false; FOLDS] };
        let windows = self.by_length.entry(window.len()).or_insert_with(empty);
        windows.begins[fold(&window)] = true;
        // The first one stays: what looks the same in two encodings is the plainer of them.
        windows.of.entry(window).or_insert(what);
    }

    pub(super) fn windows(&self) -> usize {
        self.by_length.values().map(|windows| windows.of.len()).sum()
    }

    /// The first hit of each secret in each encoding.
    pub(super) fn hits(&self, bytes: &[u8]) -> Vec<Hit> {
        let mut found = BTreeMap::new();
        for (length, windows) in &self.by_length {
            for (at, part) in bytes.windows(*length).enumerate() {
                if windows.begins[fold(part)]
                    && let Some(what) = windows.of.get(part)
                {
                    found.entry(*what).or_insert(at);
                }
            }
        }
        found.into_iter().map(|((secret, encoding), at)| Hit { secret, encoding, at }).collect()
    }
}

/// The bytes that 16 bytes of a secret are sure to leave in an encoded text, whatever stands around them.
fn as_it_appears(part: &[u8], encoding: &str, encode: Encode) -> Vec<Vec<u8>> {
    let whole = encode(part);
    // Most numbers have two digits. Where some have three, fewer of them are looked for, so that one length will do.
    let decimal_bytes = |between: usize| 2 * WINDOW + between * (WINDOW - 1);
    match encoding {
        "decimal" => return whole.get(..decimal_bytes(1)).map(<[u8]>::to_vec).into_iter().collect(),
        "decimal, spaced" => return whole.get(..decimal_bytes(2)).map(<[u8]>::to_vec).into_iter().collect(),
        "base64" | "base64url" => {}
        _ => return vec![whole],
    }
    // Three bytes make four characters, so there are three ways to cut a text into groups. A character that shares its
    // bits with a neighbouring byte is left out at both ends; 20 remain of each.
    [(0, 0), (1, 2), (2, 3)]
        .map(|(before, shared)| encode(&[&[0; 2][..before], part].concat())[shared..][..20].to_vec())
        .into()
}

const FOLDS: usize = 1 << 20;

fn fold(bytes: &[u8]) -> usize {
    match bytes {
        [a, b, c, d, ..] => {
            (usize::from(*a) ^ usize::from(*b) << 4 ^ usize::from(*c) << 8 ^ usize::from(*d) << 12) % FOLDS
        }
        _ => 0,
    }
}
