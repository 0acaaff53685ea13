//! What is read is only used if it is as Keyrack wrote it.

use keyrack::{KeyChange, KeyDigest, KeyId};
use sqlx::{Connection as _, SqliteConnection};

use super::live_sum::LiveSum;
use super::{Store, StoreError, no_head, sql};
use crate::audit;
use crate::canonical::Canonical;
use crate::root_key::ROOT_KEY_VERSION;
use crate::stored_key::StoredKey;

/// How many keys entered the index, and how many were refused because they are not as Keyrack wrote them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Live keys.
    pub keys: u64,
    /// Rows that were refused and reported.
    pub refused: u64,
}

impl Store {
    /// Fills the index with every live key. A row that does not authenticate, or that is older than the audit log says,
    /// is refused and reported.
    ///
    /// # Errors
    /// [`StoreError`] if the keys cannot be read, or if it cannot be told which of them were tampered with; the index is
    /// then not marked as loaded.
    pub async fn load(&self) -> Result<Loaded, StoreError> {
        let mut writer = self.writer.lock().await;
        let mut reader = self.readers.acquire().await?;
        let mut snapshot = reader.begin().await?;
        let head = sql::audit_head(&mut snapshot).await?.ok_or_else(no_head)?;
        let (mut loaded, mut sum) = (Loaded { keys: 0, refused: 0 }, LiveSum::default());
        sql::for_each_live_key(&mut snapshot, |row| match self.authentic_with_tag(row) {
            Ok((key, tag)) => {
                (loaded.keys, sum) = (loaded.keys + 1, sum.with(&tag));
                self.apply(&key.digest, &KeyChange::Put(key.record()))
            }
            Err(error) => {
                loaded.refused += 1;
                tracing::error!(%error, "refused a damaged key; it does not pass until the row is restored");
                Ok(())
            }
        })
        .await?;
        if !self.is_authentic(&head) || LiveSum::from_bytes(&head.live_sum) != Some(sum) {
            loaded.refused += self.refuse_rows_put_back(&mut snapshot).await?;
        }
        writer.applied = head.seq;
        self.verifier.index().mark_loaded();
        Ok(loaded)
    }

    /// The live keys do not add up: the audit log tells which of them are older than they should be.
    async fn refuse_rows_put_back(&self, on: &mut SqliteConnection) -> Result<u64, StoreError> {
        let report = self.compare_with_audit(on).await?;
        for fault in &report.faults {
            tracing::error!(fault, "the keys do not agree with the audit log");
        }
        if !report.is_whole {
            let what = "keys and audit log were both changed, so no key can be trusted; `keyrack audit verify` says \
                        what";
            return Err(StoreError::Damaged { what: what.to_owned() });
        }
        report.put_back.iter().for_each(|id| {
            self.verifier.index().revoke_by_id(*id);
        });
        Ok(report.put_back.len() as u64)
    }

    /// Checks the whole audit chain and every key against it; the list of what is wrong is empty if all is well.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    pub async fn verify_audit(&self) -> Result<audit::Report, StoreError> {
        let mut reader = self.readers.acquire().await?;
        let mut snapshot = reader.begin().await?;
        self.compare_with_audit(&mut snapshot).await
    }

    async fn compare_with_audit(&self, on: &mut SqliteConnection) -> Result<audit::Report, StoreError> {
        let (mut check, mut sum) = (audit::Check::default(), LiveSum::default());
        sql::for_each_audit_entry(on, |entry| check.entry(&entry)).await?;
        let head = sql::audit_head(on).await?.ok_or_else(no_head)?;
        check.head(head.seq, &head.hash, self.is_authentic(&head));
        sql::for_each_key(on, |row| match self.authentic_with_tag(row) {
            Ok((key, tag)) => {
                check.key(&key);
                sum = if key.revoked_at.is_none() { sum.with(&tag) } else { sum };
            }
            Err(error) => check.damaged(&error),
        })
        .await?;
        check.sum(LiveSum::from_bytes(&head.live_sum) == Some(sum));
        Ok(check.report())
    }

    /// Makes a key dead in the index that can be found there by its number only, because its row is damaged.
    pub fn kill_in_memory(&self, id: KeyId) {
        let found = self.verifier.index().revoke_by_id(id);
        tracing::error!(key = id.0, found, "a key with a damaged row was revoked in memory");
    }

    pub(super) fn authentic(&self, row: &sql::Row) -> Result<StoredKey, StoreError> {
        self.authentic_with_tag(row).map(|(key, _)| key)
    }

    fn authentic_with_tag(&self, row: &sql::Row) -> Result<(StoredKey, [u8; 32]), StoreError> {
        let (key, mac) = sql::decode_key(row)?;
        let tag: Option<[u8; 32]> = match mac.split_first() {
            Some((&ROOT_KEY_VERSION, tag)) if self.row_key.fits(&key.canonical(), tag) => tag.try_into().ok(),
            Some(_) | None => None,
        };
        let damaged = StoreError::Damaged { what: format!("key {} does not authenticate", key.id) };
        tag.map(|tag| (key, tag)).ok_or(damaged)
    }

    pub(super) fn row_tag(&self, key: &StoredKey) -> [u8; 32] {
        self.row_key.tag(&key.canonical())
    }

    pub(super) fn head_mac(&self, seq: i64, hash: &[u8], live_sum: &[u8]) -> Vec<u8> {
        with_version(self.head_key.tag(&head(seq, hash, live_sum)))
    }

    pub(super) fn is_authentic(&self, known: &sql::Head) -> bool {
        let over = head(known.seq, &known.hash, &known.live_sum);
        matches!(known.mac.split_first(), Some((&ROOT_KEY_VERSION, tag)) if self.head_key.fits(&over, tag))
    }

    pub(super) fn root_key_check(&self) -> Vec<u8> {
        with_version(self.root_check_key.tag(&Canonical::new("root key check")))
    }

    pub(super) fn apply(&self, digest: &KeyDigest, change: &KeyChange) -> Result<(), StoreError> {
        Ok(self.verifier.index().apply(digest, change)?)
    }
}

fn head(seq: i64, hash: &[u8], live_sum: &[u8]) -> Canonical {
    Canonical::new("audit head").int(seq).bytes(hash).bytes(live_sum)
}

/// A MAC as it is stored: the version of the root key, and the tag.
pub(super) fn with_version(tag: [u8; 32]) -> Vec<u8> {
    [&[ROOT_KEY_VERSION], tag.as_slice()].concat()
}
