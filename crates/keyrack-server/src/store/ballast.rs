//! A file that is given up when the disk is full, so that a leaked key can be revoked all the same.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::random::{OsRandom, Random as _};

/// Size of the ballast: several times what the log and the growth of the database take before the log is reused.
pub const BALLAST_BYTES: usize = 4 << 20;
const BALLAST_FILE: &str = "ballast";

pub(super) struct Ballast {
    path: PathBuf,
}

impl Ballast {
    pub(super) fn new(data_dir: &Path) -> Self {
        Self { path: data_dir.join(BALLAST_FILE) }
    }

    pub(super) fn is_whole(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|meta| meta.len() == BALLAST_BYTES as u64)
    }

    /// Puts the ballast in place; false, and no file, if there is no room for it. Blocks on the disk.
    pub(super) fn fill(&self) -> bool {
        let write = || {
            // Random, so that a file system that compresses keeps the space taken.
            let mut bytes = vec![0; BALLAST_BYTES];
            OsRandom.fill(&mut bytes);
            let mut file = File::create(&self.path)?;
            file.write_all(&bytes)?;
            file.sync_all()
        };
        let filled: io::Result<()> = write();
        if filled.is_err() {
            fs::remove_file(&self.path).ok();
        }
        filled.is_ok()
    }

    /// Frees the space.
    pub(super) fn give_up(&self) {
        match fs::remove_file(&self.path) {
            Ok(()) => tracing::warn!("gave up the ballast file to make room"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::error!(%error, "cannot give up the ballast file"),
        }
    }
}
