//! The directory of an installation: private, and used by one process at a time.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

const LOCK_FILE: &str = "keyrack.lock";

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process has it.
    #[error("{dir} is in use by another keyrack. Stop that one first, or choose another directory with --data-dir")]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// Others may change what is in it.
    #[error("{dir} can be written by others (mode {mode:04o}). Run: chmod 700 {dir}")]
    Exposed {
        /// The directory.
        dir: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file system refused.
    #[error("cannot use {dir} as data directory; choose another with --data-dir, or let this user write to it")]
    Io {
        /// The directory.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The right to use a data directory; given up when dropped, or when the process ends in whatever way.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Makes the directory if it is not there (mode 0700) and takes it for this process.
///
/// # Errors
/// [`DataDirError`].
pub fn take(dir: &Path) -> Result<Lock, DataDirError> {
    let io = |source| DataDirError::Io { dir: dir.into(), source };
    if !dir.exists() {
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io)?;
        sync_parent(dir).map_err(io)?;
    }
    let mode = dir.metadata().map_err(io)?.mode() & 0o7777;
    // Who can put another file in the place of the database need not write to the database.
    if mode & 0o022 != 0 {
        return Err(DataDirError::Exposed { dir: dir.into(), mode });
    }
    let options = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).clone();
    let file = options.open(dir.join(LOCK_FILE)).map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(Lock { _file: file }),
        Err(TryLockError::WouldBlock) => Err(DataDirError::InUse { dir: dir.into() }),
        Err(TryLockError::Error(error)) => Err(io(error)),
    }
}

/// Makes the name of a new file or directory survive a power cut.
///
/// # Errors
/// Whatever the file system says.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}
