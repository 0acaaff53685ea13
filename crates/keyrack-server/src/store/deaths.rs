//! Which keys this data directory has seen die, kept beside the database: so that they stay dead when that is put back from an older copy,
//! also if everything was stopped meanwhile. Revoked is final.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keyrack::{KeyDigest, KeyId};

use super::journal::is_for_want_of_room;
use super::{Store, StoreError};
use crate::canonical::Canonical;
use crate::data_dir::sync_parent;
use crate::root_key::MacKey;

const FILE: &str = "deaths";
/// So much of a digest as the index looks at.
const DIGEST_BYTES: usize = 16;
const TAG_BYTES: usize = 16;
/// Length of a record: a digest, and a tag that only this installation can make.
const RECORD_BYTES: usize = DIGEST_BYTES + TAG_BYTES;

/// As much of a digest as is kept.
type Half = [u8; DIGEST_BYTES];

/// The file.
pub(super) struct Deaths {
    path: PathBuf,
    key: MacKey,
}

impl Deaths {
    pub(super) fn of(data_dir: &Path, key: MacKey) -> Self {
        Self { path: data_dir.join(FILE), key }
    }

    /// Adds to it; synced when this returns. Blocks on the disk.
    fn add(&self, died: &[KeyDigest]) -> io::Result<()> {
        let records: Vec<u8> = died.iter().map(half_of).flat_map(|half| self.record_of(half)).collect();
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path)?;
        // A crash may have left a part of a record behind.
        let length = file.metadata()?.len();
        let whole = length - length % RECORD_BYTES as u64;
        if whole < length {
            file.set_len(whole)?;
        }
        if let Err(error) = file.write_all(&records).and_then(|()| file.sync_all()) {
            file.set_len(whole)?;
            return Err(error);
        }
        if whole == 0 { sync_parent(&self.path) } else { Ok(()) }
    }

    /// Those of its keys that live all the same, as `living_id` says. What this installation did not write is passed over.
    ///
    /// # Errors
    /// [`StoreError::Journal`] if there is a file and it cannot be read: keys that died would live again.
    fn that_live(
        &self,
        living_id: impl Fn(&KeyDigest) -> Option<KeyId>,
    ) -> Result<Vec<(KeyDigest, KeyId)>, StoreError> {
        let unreadable = |source| StoreError::Journal { file: self.path.clone(), source };
        let mut file = match File::open(&self.path) {
            Ok(file) => BufReader::with_capacity(1 << 20, file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(unreadable(error)),
        };
        let (mut living, mut record) = (Vec::new(), [0; RECORD_BYTES]);
        loop {
            match file.read_exact(&mut record) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(living),
                Err(error) => return Err(unreadable(error)),
            }
            let Some((half, _)) = record.split_first_chunk() else { continue };
            let digest = digest_of(half);
            // The tag is looked at last, as nearly all of them are dead.
            if let Some(id) = living_id(&digest)
                && self.record_of(*half) == record
            {
                living.push((digest, id));
            }
        }
    }

    fn record_of(&self, half: Half) -> [u8; RECORD_BYTES] {
        let tag = self.key.tag(&Canonical::new("death").bytes(&half));
        let mut record = [0; RECORD_BYTES];
        for (to, from) in record.iter_mut().zip(half.iter().chain(&tag)) {
            *to = *from;
        }
        record
    }
}

/// What a record has of a digest.
fn half_of(digest: &KeyDigest) -> Half {
    let mut half = Half::default();
    half.iter_mut().zip(digest.as_bytes()).for_each(|(to, from)| *to = *from);
    half
}

/// A digest of which only what an index looks at is right.
fn digest_of(half: &Half) -> KeyDigest {
    let mut bytes = [0; KeyDigest::BYTES];
    bytes.iter_mut().zip(half).for_each(|(to, from)| *to = *from);
    KeyDigest::from_bytes(bytes)
}

impl Store {
    /// Keeps what died since the last time.
    ///
    /// # Errors
    /// Whatever the file system says; what was not kept is next time.
    pub(super) async fn keep_deaths(&self) -> io::Result<()> {
        let deaths = Arc::clone(&self.deaths).lock_owned().await;
        let died = self.in_force.died();
        if died.is_empty() {
            return Ok(());
        }
        let many = died.len();
        let kept = tokio::task::spawn_blocking(move || deaths.add(&died)).await?;
        if kept.as_ref().is_err_and(is_for_want_of_room) {
            // The next time there is room.
            self.ballast.give_up();
        }
        kept?;
        self.in_force.forget_died(many);
        Ok(())
    }

    /// Keys that died here and live in the database are dead all the same: it was put back, and is told again. Those in memory that it does
    /// not know to be dead are `forgotten`.
    ///
    /// # Errors
    /// [`StoreError::Journal`] if it cannot be told which others there are.
    pub(super) async fn bury(&self, forgotten: Vec<(KeyDigest, KeyId)>) -> Result<(), StoreError> {
        let deaths = self.deaths.lock().await;
        let mut died = deaths.that_live(|digest| self.verifier.index().id_of_live(digest))?;
        died.extend(forgotten);
        if !died.is_empty() {
            let keys = died.len();
            tracing::error!(keys, "the database was put back: keys live in it that have died; they are revoked again");
        }
        self.remember_deaths(&died);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::OsRandom;
    use crate::root_key::RootKey;

    fn digest(number: u8) -> KeyDigest {
        let mut bytes = [0; KeyDigest::BYTES];
        bytes[0] = number;
        KeyDigest::from_bytes(bytes)
    }

    /// The numbers of all that are in it.
    fn all(deaths: &Deaths) -> Vec<i64> {
        let living = deaths.that_live(|digest| Some(KeyId(digest.as_bytes()[0].into()))).unwrap();
        living.into_iter().map(|(_, id)| id.0).collect()
    }

    #[test]
    fn what_is_kept_is_read_again_and_what_is_torn_or_was_tampered_with_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let root_key = RootKey::create(&dir.path().join("root.key"), &OsRandom).unwrap();
        let deaths = Deaths::of(dir.path(), root_key.derive("deaths"));
        assert_eq!(all(&deaths), [] as [i64; 0], "there is none");
        deaths.add(&[digest(1), digest(2)]).unwrap();
        deaths.add(&[digest(3)]).unwrap();
        assert_eq!(all(&deaths), [1, 2, 3]);
        assert!(deaths.that_live(|_| None).unwrap().is_empty(), "all of them are dead");

        let path = dir.path().join(FILE);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[RECORD_BYTES] = 9;
        bytes.truncate(3 * RECORD_BYTES - 1);
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(all(&deaths), [1]);
        deaths.add(&[digest(4)]).unwrap();
        assert_eq!(all(&deaths), [1, 4], "it begins where the torn one began");

        let other = Deaths::of(dir.path(), root_key.derive("another installation's"));
        assert_eq!(all(&other), [] as [i64; 0]);
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        let refused = deaths.that_live(|_| None).unwrap_err().to_string();
        assert!(refused.contains("deaths"), "{refused}");
    }
}
