//! What is read is only used if it is as Keyrack wrote it.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use keyrack::Living;

use super::database::Connection;
use super::live_sum::LiveSum;
use super::{Followed, Store, StoreError, Table, no_head, sql};
use crate::audit;
use crate::canonical::Canonical;
use crate::clock::Uptime;
use crate::kept::{Kept, Kind, Reference, Tenant};
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
        self.in_force.forget();
        let loaded = self.load_rows(Some(Living::default())).await?;
        self.reloads.fetch_add(1, Ordering::Relaxed);
        tracing::error!(keys = loaded.keys, "everything was loaded anew");
        Ok(loaded)
    }

    /// With `anew`, which is for all keys that live, it does not matter what was known of them.
    async fn load_rows(&self, mut anew: Option<Living>) -> Result<Loaded, StoreError> {
        let mut followed = self.followed.lock().await;
        let mut snapshot = self.readers.snapshot().await?;
        let head = sql::audit_head(&mut snapshot).await?.ok_or_else(no_head)?;
        let is_anew = anew.is_some();
        let organizations = self.load_a::<Organization>(&mut snapshot, is_anew, |_| {}).await?;
        let projects = self.load_a::<Project>(&mut snapshot, is_anew, |_| {}).await?;
        let members = self.load_a::<Member>(&mut snapshot, is_anew, |_| {}).await?;
        let policies = self.load_a::<AppliedPolicy>(&mut snapshot, is_anew, |_| {}).await?;
        let mut missing = BTreeSet::new();
        let keys = self
            .load_a::<StoredKey>(&mut snapshot, is_anew, |key| {
                if let Some(living) = &mut anew {
                    living.insert(&key.digest);
                }
                let Tenant { organization, project } = key.tenant();
                let parents = [(Kind::Organization, organization), (Kind::Project, project)];
                let parents = parents.into_iter().filter_map(|(kind, id)| Some(Reference { kind, id: id? }));
                missing.extend(parents.filter(|parent| !self.in_force.knows(*parent)));
            })
            .await?;
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
        on: &mut Connection,
        is_anew: bool,
        mut each: impl FnMut(&K) + Send,
    ) -> Result<Read, StoreError> {
        let mut read = Read::default();
        let mut last_told = self.clock.uptime();
        sql::for_each_live::<K>(on, |row| match self.authentic_form::<K>(row) {
            Ok((found, form)) => {
                (read.rows, read.sum) = (read.rows + 1, read.sum.with(&self.summand_of(&form)));
                if read.rows.is_multiple_of(ROWS_TO_A_LOOK) {
                    self.tell_progress(K::NAME, read.rows, &mut last_told);
                }
                if !is_anew {
                    self.in_force.apply(&found.effect())?;
                } else if let Some((digest, key)) = self.in_force.reset(&found.effect())? {
                    self.reassert(digest, key);
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
    async fn explain(&self, on: &mut Connection, damaged: u64) -> Result<u64, StoreError> {
        let report = self.compare_with_audit(on, || ()).await?;
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
        on: &mut Connection,
        mut each: impl FnMut() + Send,
    ) -> Result<audit::Report, StoreError> {
        let (mut check, mut sum) = (audit::Check::default(), LiveSum::default());
        sql::for_each_audit_entry(on, |entry| {
            check.entry(&entry);
            each();
        })
        .await?;
        let head = sql::audit_head(on).await?.ok_or_else(no_head)?;
        check.head(head.seq, &head.hash, self.is_authentic(&head));
        self.compare_a::<Organization>(on, &mut check, &mut sum).await?;
        self.compare_a::<Project>(on, &mut check, &mut sum).await?;
        self.compare_a::<Member>(on, &mut check, &mut sum).await?;
        self.compare_a::<AppliedPolicy>(on, &mut check, &mut sum).await?;
        self.compare_a::<StoredKey>(on, &mut check, &mut sum).await?;
        check.sum(self.sum_of(&head) == Some(sum));
        Ok(check.report())
    }

    async fn compare_a<K: Table>(
        &self,
        on: &mut Connection,
        check: &mut audit::Check,
        sum: &mut LiveSum,
    ) -> Result<(), StoreError> {
        sql::for_each::<K>(on, |row| {
            match self.authentic::<K>(row) {
                Ok(found) => check.row(&found),
                Err(error) => check.damaged(K::KIND, &error),
            }
            Ok(())
        })
        .await?;
        // The very statement that the start reads by: in a damaged file it may see other rows than another one does.
        sql::for_each_live::<K>(on, |row| {
            if let Ok(found) = self.authentic::<K>(row) {
                check.live(&found);
                *sum = sum.with(&self.summand(&found));
            }
            Ok(())
        })
        .await
    }

    pub(super) fn authentic<K: Table>(&self, row: &sql::Row) -> Result<K, StoreError> {
        self.authentic_form(row).map(|(found, _form)| found)
    }

    /// [`Store::authentic`], and the form that it was authenticated in.
    fn authentic_form<K: Table>(&self, row: &sql::Row) -> Result<(K, Canonical), StoreError> {
        let (found, mac) = sql::decode::<K>(row)?;
        let form = found.canonical();
        let fits = matches!(mac.split_first(), Some((&ROOT_KEY_VERSION, tag)) if self.row_key.fits(&form, tag));
        let damaged = || StoreError::Damaged { what: format!("{} does not authenticate", found.reference()) };
        if fits { Ok((found, form)) } else { Err(damaged()) }
    }

    pub(super) fn row_mac(&self, row: &impl Kept) -> Vec<u8> {
        with_version(self.row_key.tag(&row.canonical()))
    }

    /// What a row adds to the sum over all live ones. Never stored.
    pub(super) fn summand(&self, row: &impl Kept) -> [u8; 32] {
        self.summand_of(&row.canonical())
    }

    fn summand_of(&self, form: &Canonical) -> [u8; 32] {
        self.sum_key.tag(&Canonical::new("summand").bytes(form.as_bytes()))
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
}

fn head(seq: i64, hash: &[u8], live_sum: &[u8]) -> Canonical {
    Canonical::new("audit head").int(seq).bytes(hash).bytes(live_sum)
}

/// A MAC as it is stored: the version of the root key, and the tag.
fn with_version(tag: [u8; 32]) -> Vec<u8> {
    [&[ROOT_KEY_VERSION], tag.as_slice()].concat()
}
