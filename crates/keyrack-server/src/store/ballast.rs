//! A file that is given up when the disk is full, so that a leaked key can be revoked all the same.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::random::Random;

/// Size of the ballast: room for about a hundred revocations before SQLite reuses its log.
pub const BALLAST_BYTES: usize = 4 << 20;
const BALLAST_FILE: &str = "ballast";

pub(super) struct Ballast {
    path: PathBuf,
    /// Repeated to fill the file. Random, so that a file system that compresses keeps the space taken.
    pattern: Vec<u8>,
}

impl Ballast {
    pub(super) fn new(data_dir: &Path, random: &dyn Random) -> Self {
        let mut pattern = vec![0; 64 << 10];
        random.fill(&mut pattern);
        Self { path: data_dir.join(BALLAST_FILE), pattern }
    }

    /// Makes sure the ballast is in place; false if there is no room for it.
    pub(super) fn is_in_place(&self) -> bool {
        let whole = fs::metadata(&self.path).is_ok_and(|meta| meta.len() == BALLAST_BYTES as u64);
        whole || self.fill().inspect_err(|_| self.give_up()).is_ok()
    }

    /// Frees the space.
    pub(super) fn give_up(&self) {
        match fs::remove_file(&self.path) {
            Ok(()) => tracing::warn!("gave up the ballast file to make room for a revocation"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::error!(%error, "cannot give up the ballast file"),
        }
    }

    fn fill(&self) -> io::Result<()> {
        let mut file = File::create(&self.path)?;
        for _ in 0..BALLAST_BYTES / self.pattern.len() {
            file.write_all(&self.pattern)?;
        }
        file.sync_all()
    }
}
