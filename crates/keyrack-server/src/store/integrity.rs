//! What is read is only used if it is as Keyrack wrote it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use keyrack::{KeyDigest, KeyId, Living};

use super::database::Snapshot;
use super::live_sum::{LiveSum, Summand};
use super::looking::look_at;
use super::row_keys::with_version;
use super::{Followed, Store, StoreError, Table, no_head, sql};
use crate::audit;
use crate::canonical::Canonical;
use crate::clock::Uptime;
use crate::kept::{Kept as _, Kind, Reference, Tenant};
use crate::policies::AppliedPolicy;
use crate::root_key::ROOT_KEY_VERSION;
use crate::stored_key::StoredKey;
use crate::tenancy::{Member, Organization, Project};

/// After so many rows it is worth a look at the clock.
const ROWS_TO_A_LOOK: u64 = 4_096;
/// How often a load that takes long says how far it has come.
const PROGRESS_INTERVAL_US: u64 = 1_000_000;

/// How many keys entered the index, and how many were refused because they are not as Keyrack wrote them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Live keys.
    pub keys: u64,
    /// Rows that were refused and reported.
    pub refused: u64,
}

/// What one table gave at the start.
#[derive(Default)]
struct Read {
    rows: u64,
    refused: u64,
    sum: LiveSum,
}

impl Store {
    /// Brings every live row into force. A row that does not authenticate, or that is older than the audit log says, is
    /// refused and reported; the keys of an organization whose row is refused do not pass.
    ///
    /// # Errors
    /// [`StoreError`] if the rows cannot be read, or if it cannot be told which of them were tampered with; the index is
    /// then not marked as loaded.
    pub async fn load(&self) -> Result<Loaded, StoreError> {
        self.load_rows(None).await
    }

    /// Loads everything anew, because the log is not the one that was followed: the database was put back, or has lost what it had
    /// acknowledged. Keys that it does not have any more are dead; of those that died here it is told again. Until there is a new
    /// lease no key passes.
    ///
    /// # Errors
    /// As for [`Store::load`].
    pub(super) async fn reload(&self) -> Result<Loaded, StoreError> {
        self.verifier.index().distrust();
        let loaded = self.load_rows(Some(Living::default())).await?;
        self.reloads.fetch_add(1, Ordering::Relaxed);
        tracing::error!(keys = loaded.keys, "everything was loaded anew");
        Ok(loaded)
    }

    /// With `anew`, which is for all keys that live, it does not matter what was known of them.
    async fn load_rows(&self, mut anew: Option<Living>) -> Result<Loaded, StoreError> {
        let mut followed = self.followed.lock().await;
        let mut proof = if anew.is_some() { Some(self.prove(false).await?) } else { None };
        let mut snapshot = self.readers.snapshot().await?;
        let head = sql::head_of_snapshot(&mut snapshot).await?.ok_or_else(no_head)?;
        if let Some(proof) = &mut proof {
            proof.covers(&head).await?;
            self.in_force.forget();
        }
        // Keys that died here, and live in the database.
        let mut forgotten = proof.as_ref().map(|_| Vec::new());
        let organizations = self.load_a::<Organization>(&mut snapshot, &mut forgotten, |_| {}).await?;
        let projects = self.load_a::<Project>(&mut snapshot, &mut forgotten, |_| {}).await?;
        let members = self.load_a::<Member>(&mut snapshot, &mut forgotten, |_| {}).await?;
        let policies = self.load_a::<AppliedPolicy>(&mut snapshot, &mut forgotten, |_| {}).await?;
        let (mut missing, mut known_tenant) = (BTreeSet::new(), None);
        let keys = self
            .load_a::<StoredKey>(&mut snapshot, &mut forgotten, |key| {
                if let Some(living) = &mut anew {
                    living.insert(&key.digest);
                }
                // Keys that stand together often have the same parents.
                let tenant = key.tenant();
                if known_tenant.replace(tenant) == Some(tenant) {
                    return;
                }
                let Tenant { organization, project } = tenant;
                let parents = [(Kind::Organization, organization), (Kind::Project, project)];
                let parents = parents.into_iter().filter_map(|(kind, id)| Some(Reference { kind, id: id? }));
                missing.extend(parents.filter(|parent| !self.in_force.knows(*parent)));
            })
            .await?;
        self.bury(forgotten.unwrap_or_default()).await?;
        for parent in missing {
            tracing::error!(%parent, "refused every key beneath what has ended, or has no row that can be used");
            self.in_force.refuse(parent);
        }
        let mut loaded = Loaded { keys: keys.rows, refused: 0 };
        let all = [organizations, projects, members, policies, keys];
        loaded.refused = all.iter().map(|read| read.refused).sum();
        let sum = all.iter().fold(LiveSum::default(), |sum, read| sum.and(read.sum));
        if !self.is_authentic(&head) || self.sum_of(&head) != Some(sum) {
            loaded.refused += self.explain(&mut snapshot, loaded.refused).await?;
        }
        self.verifier.index().reset_position(head.seq);
        *followed = Followed { seq: head.seq, hash: head.hash };
        self.apply_journal()?;
        // Before anybody else may bring a change into force.
        if let Some(living) = &anew {
            self.in_force.keep_only(living);
        }
        self.restore_quotas(&mut snapshot).await;
        self.verifier.index().mark_loaded();
        self.in_force.feed.begin_anew();
        Ok(loaded)
    }

    async fn load_a<K: Table>(
        &self,
        of: &mut Snapshot,
        forgotten: &mut Option<Vec<(KeyDigest, KeyId)>>,
        mut each: impl FnMut(&K) + Send,
    ) -> Result<Read, StoreError> {
        let mut read = Read::default();
        let mut last_told = self.clock.uptime();
        self.each_live(of, |looked_at: Result<(K, Summand), StoreError>| match looked_at {
            Ok((found, summand)) => {
                (read.rows, read.sum) = (read.rows + 1, read.sum.with(&summand));
                if read.rows.is_multiple_of(ROWS_TO_A_LOOK) {
                    self.tell_progress(K::NAME, read.rows, &mut last_told);
                }
                match forgotten {
                    None => self.in_force.apply(&found.effect())?,
                    Some(forgotten) => {
                        let effect = found.effect();
                        forgotten.extend(self.in_force.reset(&effect)?.map(|(digest, key)| (*digest, key)));
                    }
                }
                each(&found);
                Ok(())
            }
            Err(error) => {
                read.refused += 1;
                tracing::error!(%error, "refused a damaged row; what it holds does not pass until it is restored");
                Ok(())
            }
        })
        .await?;
        Ok(read)
    }

    /// Says how far a long load has come, now and then.
    fn tell_progress(&self, table: &str, rows: u64, last_told: &mut Uptime) {
        let now = self.clock.uptime();
        if now.microseconds_since(*last_told) >= PROGRESS_INTERVAL_US {
            *last_told = now;
            tracing::info!(table, rows, "loading");
        }
    }

    /// The live rows do not add up. The audit log tells which are older than they should be, or gone; if that and the
    /// damaged rows are no explanation, nobody can tell which is to be trusted.
    async fn explain(&self, of: &mut Snapshot, damaged: u64) -> Result<u64, StoreError> {
        let report = self.compare_with_audit(of, || ()).await?;
        for fault in &report.faults {
            tracing::error!(fault, "the store does not agree with the audit log");
        }
        let is_explained = damaged > 0 || !report.put_back.is_empty() || !report.gone.is_empty();
        if !report.is_whole || !is_explained {
            let what = "keys and audit log do not agree, and no key can be trusted; `keyrack audit verify` says more";
            return Err(StoreError::Damaged { what: what.to_owned() });
        }
        for reference in report.put_back.iter().chain(&report.gone) {
            self.in_force.refuse(*reference);
        }
        Ok(report.put_back.len() as u64)
    }

    /// Checks the whole audit chain and every key against it; the list of what is wrong is empty if all is well.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    pub async fn verify_audit(&self) -> Result<audit::Report, StoreError> {
        self.verify_audit_with(|| ()).await
    }

    /// [`Store::verify_audit`] that calls `each` for every entry it has checked, for those who watch.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    pub async fn verify_audit_with(&self, each: impl FnMut() + Send) -> Result<audit::Report, StoreError> {
        let mut snapshot = self.readers.snapshot().await?;
        self.compare_with_audit(&mut snapshot, each).await
    }

    async fn compare_with_audit(
        &self,
        of: &mut Snapshot,
        mut each: impl FnMut() + Send,
    ) -> Result<audit::Report, StoreError> {
        let (mut check, mut sum) = (audit::Check::default(), LiveSum::default());
        sql::for_each_audit_entry(of, |entry| {
            check.entry(&entry);
            each();
        })
        .await?;
        let head = sql::head_of_snapshot(of).await?.ok_or_else(no_head)?;
        check.head(head.seq, &head.hash, self.is_authentic(&head));
        self.compare_a::<Organization>(of, &mut check, &mut sum).await?;
        self.compare_a::<Project>(of, &mut check, &mut sum).await?;
        self.compare_a::<Member>(of, &mut check, &mut sum).await?;
        self.compare_a::<AppliedPolicy>(of, &mut check, &mut sum).await?;
        self.compare_a::<StoredKey>(of, &mut check, &mut sum).await?;
        check.sum(self.sum_of(&head) == Some(sum));
        Ok(check.report())
    }

    async fn compare_a<K: Table>(
        &self,
        of: &mut Snapshot,
        check: &mut audit::Check,
        sum: &mut LiveSum,
    ) -> Result<(), StoreError> {
        let row_keys = Arc::clone(&self.row_keys);
        let compare = |looked_at: Result<K, StoreError>| {
            match looked_at {
                Ok(found) => check.row(&found),
                Err(error) => check.damaged(K::KIND, &error),
            }
            Ok(())
        };
        look_at(sql::all::<K>(of).await?, move |row| row_keys.authentic(row), compare).await?;
        self.each_live(of, |looked_at: Result<(K, Summand), StoreError>| {
            if let Ok((found, summand)) = looked_at {
                check.live(&found);
                *sum = sum.with(&summand);
            }
            Ok(())
        })
        .await
    }

    /// Hands every live row to `each`, or why it is refused, in the order in which they are read. The start and what explains it both read
    /// by this: in a damaged file one statement may see other rows than another.
    async fn each_live<K: Table>(
        &self,
        of: &mut Snapshot,
        each: impl FnMut(Result<(K, Summand), StoreError>) -> Result<(), StoreError> + Send,
    ) -> Result<(), StoreError> {
        let row_keys = Arc::clone(&self.row_keys);
        look_at(sql::live::<K>(of).await?, move |row| row_keys.authentic_with_summand(row), each).await
    }

    /// The sum as a head holds it, unmasked.
    pub(super) fn sum_of(&self, head: &sql::Head) -> Option<LiveSum> {
        Some(LiveSum::from_bytes(&head.live_sum)?.without(&self.row_keys.mask(head.seq)))
    }

    /// The head behind a change: its number, its hash, the sum after it.
    pub(super) fn head_of(&self, seq: i64, hash: Vec<u8>, sum: LiveSum) -> sql::Head {
        let live_sum = sum.with(&self.row_keys.mask(seq)).to_bytes();
        let mac = with_version(self.head_key.tag(&head(seq, &hash, &live_sum)));
        sql::Head { seq, hash, live_sum, mac }
    }

    pub(super) fn is_authentic(&self, known: &sql::Head) -> bool {
        let over = head(known.seq, &known.hash, &known.live_sum);
        matches!(known.mac.split_first(), Some((&ROOT_KEY_VERSION, tag)) if self.head_key.fits(&over, tag))
    }

    pub(super) fn root_key_check(&self) -> Vec<u8> {
        with_version(self.root_check_key.tag(&Canonical::new("root key check")))
    }
}

fn head(seq: i64, hash: &[u8], live_sum: &[u8]) -> Canonical {
    Canonical::new("audit head").int(seq).bytes(hash).bytes(live_sum)
}
