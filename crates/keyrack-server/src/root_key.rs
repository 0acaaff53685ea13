//! The installation's root key and the keys derived from it.
//!
//! No issued key depends on it: it authenticates rows, finds and seals replies, and signs cursors.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use hkdf::Hkdf;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::canonical::Canonical;
use crate::data_dir;
use crate::random::{self, Random};

/// Says under which root key something was authenticated or sealed, so that the root key can be changed later.
pub const ROOT_KEY_VERSION: u8 = 1;

const ROOT_KEY_BYTES: usize = 32;

/// Why there is no root key.
#[derive(Debug, thiserror::Error)]
pub enum RootKeyError {
    /// The file is not there.
    #[error(
        "the root key {path} is missing, but the store was made with one. Put the file back from where you keep it, or from another node; \
         without it the store cannot be used"
    )]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// Others can read or write it.
    #[error("the root key {path} can be read or written by others (mode {mode:04o}). Run: chmod 600 {path}")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is not 32 bytes.
    #[error(
        "the root key {path} holds {bytes} bytes, not 32: this is not the file Keyrack made. Put the right one back"
    )]
    WrongLength {
        /// The file.
        path: PathBuf,
        /// How long it is.
        bytes: u64,
    },
    /// The file system refused.
    #[error("cannot use the root key {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// 32 random bytes, wiped on drop; never shown, never compared.
pub struct RootKey(Zeroizing<[u8; ROOT_KEY_BYTES]>);

impl RootKey {
    /// Makes a new key and writes it to a file of mode 0600 that is not there yet: whole and on the disk, or not at all.
    ///
    /// # Errors
    /// [`RootKeyError::Io`].
    pub fn create(path: &Path, random: &dyn Random) -> Result<Self, RootKeyError> {
        let key = Self(Zeroizing::new(random::bytes(random)));
        let write = || {
            let unfinished = path.with_extension("new");
            let options = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).clone();
            let mut file = options.open(&unfinished)?;
            file.write_all(key.0.as_slice())?;
            file.sync_all()?;
            fs::rename(&unfinished, path)?;
            data_dir::sync_parent(path)
        };
        write().map_err(|source| RootKeyError::Io { path: path.into(), source })?;
        Ok(key)
    }

    /// Reads the key from its file.
    ///
    /// # Errors
    /// [`RootKeyError`] if it is missing, exposed, of another length or unreadable.
    pub fn load(path: &Path) -> Result<Self, RootKeyError> {
        let io = |source| RootKeyError::Io { path: path.into(), source };
        let meta = match fs::metadata(path) {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(RootKeyError::Missing { path: path.into() });
            }
            Err(error) => return Err(io(error)),
        };
        // A group may read it, as mounted secrets want; nobody else, and nobody may write it.
        if meta.mode() & 0o027 != 0 {
            return Err(RootKeyError::Exposed { path: path.into(), mode: meta.mode() & 0o7777 });
        }
        if meta.len() != ROOT_KEY_BYTES as u64 {
            return Err(RootKeyError::WrongLength { path: path.into(), bytes: meta.len() });
        }
        let mut key = Self(Zeroizing::new([0; ROOT_KEY_BYTES]));
        fs::File::open(path).and_then(|mut file| file.read_exact(key.0.as_mut_slice())).map_err(io)?;
        Ok(key)
    }

    /// A key for one purpose (HKDF-SHA-256, RFC 5869).
    pub fn derive(&self, purpose: &'static str) -> MacKey {
        let mut derived = MacKey(Zeroizing::new([0; 32]));
        Hkdf::<Sha256>::new(None, self.0.as_slice())
            .expand(purpose.as_bytes(), derived.0.as_mut_slice())
            .expect("32 bytes are a length that HKDF gives");
        derived
    }
}

/// A key derived for one purpose; wiped on drop.
pub struct MacKey(Zeroizing<[u8; 32]>);

impl MacKey {
    /// HMAC-SHA-256 over a list of values.
    pub fn tag(&self, over: &Canonical) -> [u8; 32] {
        self.mac(over).finalize().into_bytes().into()
    }

    /// Whether a tag fits, in time that does not depend on where it differs.
    pub fn fits(&self, over: &Canonical, tag: &[u8]) -> bool {
        self.mac(over).verify_slice(tag).is_ok()
    }

    /// Like [`MacKey::fits`], for a tag of which only the beginning was kept.
    pub fn fits_truncated(&self, over: &Canonical, tag: &[u8]) -> bool {
        self.mac(over).verify_truncated_left(tag).is_ok()
    }

    fn mac(&self, over: &Canonical) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.as_slice()).expect("HMAC takes keys of every length");
        mac.update(over.as_bytes());
        mac
    }
}
