//! The directory of an installation: private, and used by one process at a time.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
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
    /// The file system refused.
    #[error("cannot use {dir} as data directory")]
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
        // The directory's own entry must survive a power cut before anything in it is promised.
        let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent).and_then(|parent| parent.sync_all()).map_err(io)?;
    }
    let options = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).clone();
    let file = options.open(dir.join(LOCK_FILE)).map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(Lock { _file: file }),
        Err(TryLockError::WouldBlock) => Err(DataDirError::InUse { dir: dir.into() }),
        Err(TryLockError::Error(error)) => Err(io(error)),
    }
}

/// Makes the names of new files in the directory survive a power cut.
///
/// # Errors
/// [`DataDirError::Io`].
pub fn sync(dir: &Path) -> Result<(), DataDirError> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(|source| DataDirError::Io { dir: dir.into(), source })
}
