//! What is read is only used if it is as Keyrack wrote it.

use keyrack::{KeyChange, KeyDigest, KeyId, Lookup, ProjectId};
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
        sql::for_each_live_key(&mut snapshot, |row| match self.authentic(row) {
            Ok(key) => {
                (loaded.keys, sum) = (loaded.keys + 1, sum.with(&self.summand(&key)));
                self.apply(&key.digest, &KeyChange::Put(key.record()))
            }
            Err(error) => {
                loaded.refused += 1;
                tracing::error!(%error, "refused a damaged key; it does not pass until the row is restored");
                Ok(())
            }
        })
        .await?;
        if !self.is_authentic(&head) || self.sum_of(&head) != Some(sum) {
            loaded.refused += self.explain(&mut snapshot, loaded.refused).await?;
        }
        writer.applied = head.seq;
        self.verifier.index().mark_loaded();
        Ok(loaded)
    }

    /// The live keys do not add up. The audit log tells which rows are older than they should be, or gone; if that and
    /// the damaged rows are no explanation, nobody can tell which key is to be trusted.
    async fn explain(&self, on: &mut SqliteConnection, damaged: u64) -> Result<u64, StoreError> {
        let report = self.compare_with_audit(on).await?;
        for fault in &report.faults {
            tracing::error!(fault, "the keys do not agree with the audit log");
        }
        let is_explained = damaged > 0 || !report.put_back.is_empty() || !report.gone.is_empty();
        if !report.is_whole || !is_explained {
            let what = "keys and audit log do not agree, and no key can be trusted; `keyrack audit verify` says more";
            return Err(StoreError::Damaged { what: what.to_owned() });
        }
        for id in &report.put_back {
            self.verifier.index().revoke_by_id(*id, None);
        }
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
        sql::for_each_key(on, |row| match self.authentic(row) {
            Ok(key) => check.key(&key),
            Err(error) => check.damaged(&error),
        })
        .await?;
        // The very statement that fills the index: in a damaged file it may see other rows than another one does.
        sql::for_each_live_key(on, |row| {
            if let Ok(key) = self.authentic(row) {
                check.live(&key);
                sum = sum.with(&self.summand(&key));
            }
            Ok(())
        })
        .await?;
        check.sum(self.sum_of(&head) == Some(sum));
        Ok(check.report())
    }

    /// Makes a key of a project dead in the index, where it can be found by its number only because its row is damaged.
    pub fn kill_in_memory(&self, id: KeyId, within: Option<ProjectId>) {
        if self.verifier.index().revoke_by_id(id, within) {
            tracing::error!(key = id.0, "a key whose row cannot be used was revoked in memory");
        }
    }

    /// Whether the index holds a key exactly as a row says it is: live, and at this version.
    pub(super) fn is_in_force(&self, key: &StoredKey) -> bool {
        self.verifier.index().find(&key.digest) == Ok(Lookup::Live(key.record()))
    }

    pub(super) fn authentic(&self, row: &sql::Row) -> Result<StoredKey, StoreError> {
        let (key, mac) = sql::decode_key(row)?;
        let fits =
            matches!(mac.split_first(), Some((&ROOT_KEY_VERSION, tag)) if self.row_key.fits(&key.canonical(), tag));
        if fits { Ok(key) } else { Err(StoreError::Damaged { what: format!("key {} does not authenticate", key.id) }) }
    }

    pub(super) fn row_mac(&self, key: &StoredKey) -> Vec<u8> {
        with_version(self.row_key.tag(&key.canonical()))
    }

    /// What a row adds to the sum over all live ones. Never stored.
    pub(super) fn summand(&self, key: &StoredKey) -> [u8; 32] {
        self.sum_key.tag(&Canonical::new("summand").bytes(key.canonical().as_bytes()))
    }

    /// The sum as a head holds it, unmasked.
    pub(super) fn sum_of(&self, head: &sql::Head) -> Option<LiveSum> {
        Some(LiveSum::from_bytes(&head.live_sum)?.without(&self.mask(head.seq)))
    }

    /// The head behind a change: its number, its hash, the sum after it.
    pub(super) fn head_of(&self, seq: i64, hash: Vec<u8>, sum: LiveSum) -> sql::Head {
        let live_sum = sum.with(&self.mask(seq)).to_bytes();
        let mac = with_version(self.head_key.tag(&head(seq, &hash, &live_sum)));
        sql::Head { seq, hash, live_sum, mac }
    }

    fn mask(&self, seq: i64) -> [u8; 32] {
        self.sum_key.tag(&Canonical::new("mask").int(seq))
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
fn with_version(tag: [u8; 32]) -> Vec<u8> {
    [&[ROOT_KEY_VERSION], tag.as_slice()].concat()
}
