//! The secret itself: its shape, its checksum, its mask (contract section 1).
#![expect(clippy::indexing_slicing, reason = "every range is a constant within the fixed length of a key or a mask")]

use std::fmt;

use zeroize::Zeroize as _;

use crate::KeyDigest;

/// Crockford base32, upper case: no `I`, `L`, `O`, `U`.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const PREFIX_BYTES: usize = 3;
const CHECK_CHARACTERS: usize = 6;
const UNMASKED_CHARACTERS: usize = 4;

/// What a key is for; fixed for ever by the first three characters of its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// `sk_`: a project's secret key, kept on servers.
    Secret,
    /// `pk_`: a project's publishable key, safe in a browser.
    Publishable,
    /// `ok_`: an organization's key.
    Organization,
    /// `op_`: an operator's key, for the installation as a whole.
    Operator,
    /// `fk_`: the key of a process that verifies by itself, and follows what is changed.
    Follower,
}

impl KeyKind {
    /// Every kind, in the order of the contract's table.
    pub const ALL: [Self; 5] = [Self::Secret, Self::Publishable, Self::Organization, Self::Operator, Self::Follower];

    /// The three characters that every value of this kind starts with.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Secret => "sk_",
            Self::Publishable => "pk_",
            Self::Organization => "ok_",
            Self::Operator => "op_",
            Self::Follower => "fk_",
        }
    }
}

/// A whole key value: the plain secret.
///
/// It cannot be printed, serialised, compared or copied by accident, and is wiped when dropped. `Debug` shows the mask.
/// The only way out is [`ApiKey::expose`]. None of these compiles:
///
/// ```compile_fail,E0277
/// let shown = |key: keyrack::ApiKey| key.to_string();
/// ```
/// ```compile_fail,E0369
/// let compared = |key: keyrack::ApiKey, other: keyrack::ApiKey| key == other;
/// ```
/// ```compile_fail,E0599
/// let copied = |key: keyrack::ApiKey| keyrack::ApiKey::clone(&key);
/// ```
pub struct ApiKey {
    value: [u8; Self::BYTES],
    kind: KeyKind,
}

/// The bytes are not a key: wrong length, prefix, alphabet or checksum. Which of them is not said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a key")]
pub struct NotAKey;

impl ApiKey {
    /// Length of every key value in bytes.
    pub const BYTES: usize = PREFIX_BYTES + Self::RANDOM_BYTES + CHECK_CHARACTERS;
    /// How many random bytes [`ApiKey::generate`] takes: one for each random character.
    pub const RANDOM_BYTES: usize = 26;

    /// Makes a key from bytes of the operating system's generator: five bits of each byte, 130 bits in all.
    pub fn generate(kind: KeyKind, random: &[u8; Self::RANDOM_BYTES]) -> Self {
        let mut key = Self { value: [0; Self::BYTES], kind };
        let (prefix, rest) = key.value.split_at_mut(PREFIX_BYTES);
        prefix.copy_from_slice(kind.prefix().as_bytes());
        for (character, byte) in rest.iter_mut().zip(random) {
            *character = character_of(u32::from(*byte));
        }
        let check = check_characters(&key.value);
        key.value[Self::BYTES - CHECK_CHARACTERS..].copy_from_slice(&check);
        key
    }

    /// Reads a presented value. Exactly one byte string is the key: no folding, no trimming, no look-alikes.
    ///
    /// # Errors
    /// [`NotAKey`] for anything that [`ApiKey::generate`] could not have made.
    pub fn parse(presented: &[u8]) -> Result<Self, NotAKey> {
        let (value, kind) = read(presented)?;
        Ok(Self { value: *value, kind })
    }

    /// The digest of a presented value, if it is a key. The value is not copied, so that nothing has to be wiped.
    ///
    /// # Errors
    /// As for [`ApiKey::parse`].
    pub(crate) fn digest_of(presented: &[u8]) -> Result<KeyDigest, NotAKey> {
        let (value, _kind) = read(presented)?;
        Ok(KeyDigest::of_value(value))
    }

    /// What the key is for.
    pub const fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The plain value, to be hashed.
    pub(crate) const fn bytes(&self) -> &[u8; Self::BYTES] {
        &self.value
    }

    /// The plain value. Call it only to hand the key to its owner, or to derive from it.
    pub fn expose(&self) -> &str {
        std::str::from_utf8(&self.value).expect("a key is ASCII by construction")
    }

    /// The form that may be shown and stored.
    pub fn mask(&self) -> MaskedKey {
        let mut mask = *b"xx_****xxxx";
        mask[..PREFIX_BYTES].copy_from_slice(&self.value[..PREFIX_BYTES]);
        mask[MaskedKey::BYTES - UNMASKED_CHARACTERS..]
            .copy_from_slice(&self.value[Self::BYTES - UNMASKED_CHARACTERS..]);
        MaskedKey(mask)
    }
}

impl Drop for ApiKey {
    fn drop(&mut self) {
        self.value.zeroize();
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "ApiKey({})", self.mask())
    }
}

/// Prefix, four stars, last four characters. Made once at issue; a star is outside the alphabet, so a mask never parses
/// as a key, and the four characters are check characters, so no random one is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct MaskedKey([u8; Self::BYTES]);

impl MaskedKey {
    const BYTES: usize = PREFIX_BYTES + 4 + UNMASKED_CHARACTERS;

    /// Reads a stored mask.
    ///
    /// # Errors
    /// [`NotAKey`] if the text is not of the shape of a mask.
    pub fn parse(text: &str) -> Result<Self, NotAKey> {
        let mask: [u8; Self::BYTES] = text.as_bytes().try_into().map_err(|_other_length| NotAKey)?;
        let known_prefix = KeyKind::ALL.iter().any(|kind| text.starts_with(kind.prefix()));
        let starred = &mask[PREFIX_BYTES..PREFIX_BYTES + 4] == b"****";
        let shown = mask[PREFIX_BYTES + 4..].iter().all(|byte| is_in_alphabet(*byte));
        if known_prefix && starred && shown { Ok(Self(mask)) } else { Err(NotAKey) }
    }

    /// The mask as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a mask is ASCII by construction")
    }
}

impl fmt::Display for MaskedKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

impl fmt::Debug for MaskedKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// What [`ApiKey::parse`] looks at.
fn read(presented: &[u8]) -> Result<(&[u8; ApiKey::BYTES], KeyKind), NotAKey> {
    let value: &[u8; ApiKey::BYTES] = presented.try_into().map_err(|_other_length| NotAKey)?;
    let kind = kind_of(value).ok_or(NotAKey)?;
    // The check characters are compared as they stand, so their alphabet is checked by the comparison.
    let checksum_fits = value[ApiKey::BYTES - CHECK_CHARACTERS..] == check_characters(value);
    // Without a way out half-way: all at once is faster than byte by byte.
    let random = &value[PREFIX_BYTES..ApiKey::BYTES - CHECK_CHARACTERS];
    let in_alphabet = random.iter().fold(true, |so_far, byte| so_far & is_in_alphabet(*byte));
    if checksum_fits && in_alphabet { Ok((value, kind)) } else { Err(NotAKey) }
}

/// Written so that many bytes can be looked at together.
const fn is_in_alphabet(byte: u8) -> bool {
    let is_digit = byte.wrapping_sub(b'0') < 10;
    let is_letter = byte.wrapping_sub(b'A') < 26;
    let is_missing = (byte == b'I') | (byte == b'L') | (byte == b'O') | (byte == b'U');
    is_digit | (is_letter & !is_missing)
}

fn kind_of(value: &[u8; ApiKey::BYTES]) -> Option<KeyKind> {
    KeyKind::ALL.into_iter().find(|kind| value.starts_with(kind.prefix().as_bytes()))
}

/// The character of the lowest five bits.
fn character_of(bits: u32) -> u8 {
    ALPHABET[(bits & 0x1f) as usize]
}

/// The top 30 bits of CRC-32 (IEEE) over prefix and random part, most significant five bits first. Not a secret: it only
/// refuses typing errors and scanner noise before anything else is done.
fn check_characters(value: &[u8; ApiKey::BYTES]) -> [u8; CHECK_CHARACTERS] {
    let crc = crc32fast::hash(&value[..ApiKey::BYTES - CHECK_CHARACTERS]);
    [27, 22, 17, 12, 7, 2].map(|shift| character_of(crc >> shift))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_kind() -> impl Strategy<Value = KeyKind> {
        proptest::sample::select(KeyKind::ALL.to_vec())
    }

    #[test]
    fn a_key_of_known_bytes_has_the_published_shape() {
        let key = ApiKey::generate(KeyKind::Secret, &[0; ApiKey::RANDOM_BYTES]);
        // The check characters come from Python's zlib.crc32.
        assert_eq!(key.expose(), "sk_0000000000000000000000000095T2AG");
        assert_eq!(format!("{key:?}"), "ApiKey(sk_****T2AG)");
    }

    /// The checksum computed bit by bit, without the library.
    fn reference_check(value: &str) -> String {
        let mut crc = u32::MAX;
        for byte in value.bytes().take(ApiKey::BYTES - CHECK_CHARACTERS) {
            crc ^= u32::from(byte);
            for _ in 0..8 {
                crc = if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
            }
        }
        let top = u64::from(!crc) >> 2;
        (0..6).rev().map(|place| char::from(ALPHABET[(top >> (5 * place) & 31) as usize])).collect()
    }

    proptest! {
        #[test]
        fn parse_and_format_are_inverse(kind in any_kind(), random: [u8; ApiKey::RANDOM_BYTES]) {
            let key = ApiKey::generate(kind, &random);
            let parsed = ApiKey::parse(key.expose().as_bytes()).unwrap();
            prop_assert_eq!(parsed.expose(), key.expose());
            prop_assert_eq!(parsed.kind(), kind);
            prop_assert!(key.expose().ends_with(&reference_check(key.expose())));
        }

        #[test]
        fn nothing_else_parses(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(key) = ApiKey::parse(&bytes) {
                prop_assert_eq!(key.expose().as_bytes(), bytes.as_slice());
                prop_assert!(key.expose().ends_with(&reference_check(key.expose())));
            }
        }

        #[test]
        fn one_changed_byte_never_parses(
            kind in any_kind(), random: [u8; ApiKey::RANDOM_BYTES], at in 0..ApiKey::BYTES, to: u8
        ) {
            let mut bytes = ApiKey::generate(kind, &random).expose().as_bytes().to_vec();
            prop_assume!(bytes[at] != to);
            bytes[at] = to;
            prop_assert!(ApiKey::parse(&bytes).is_err());
        }

        #[test]
        fn trimmed_folded_or_padded_never_parses(kind in any_kind(), random: [u8; ApiKey::RANDOM_BYTES]) {
            let value = ApiKey::generate(kind, &random).expose().to_owned();
            for other in [format!(" {value}"), format!("{value} "), format!("{value}\n"), value[1..].to_owned()] {
                prop_assert!(ApiKey::parse(other.as_bytes()).is_err());
            }
            let folded = value.to_lowercase();
            prop_assert!(folded == value || ApiKey::parse(folded.as_bytes()).is_err());
        }

        #[test]
        fn a_mask_shows_four_characters_and_is_no_key(kind in any_kind(), random: [u8; ApiKey::RANDOM_BYTES]) {
            let key = ApiKey::generate(kind, &random);
            let mask = key.mask();
            prop_assert_eq!(mask.as_str(), format!("{}****{}", kind.prefix(), &key.expose()[31..]));
            prop_assert_eq!(MaskedKey::parse(mask.as_str()).unwrap(), mask);
            prop_assert!(ApiKey::parse(mask.as_str().as_bytes()).is_err());
        }
    }
}
