//! What keys were used for, counted in their records until somebody collects it.

use super::Live;
use super::record::{Record, lower, upper};
use super::sync::Ordering;
use super::table::Table;
use crate::limit::counts_at;
use crate::policy::RouteNumber;
use crate::{KeyId, LimitPlan, Now, ProjectId};

/// Stands where a request was not asked about.
const NO_ROUTE: u16 = u16::MAX;

/// How a use ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// By a rule, if a request was asked about.
    Passed(Option<RouteNumber>),
    Forbidden,
    Limited,
    Exceeded,
}

/// The uses of one key since they were last collected. Nothing is in two collections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uses {
    /// The key.
    pub id: KeyId,
    /// The project it belongs to, unless it is an organization's or an operator's.
    pub project: Option<ProjectId>,
    /// Requests that it let pass.
    pub passed: u32,
    /// Requests it did not reach far enough for.
    pub forbidden: u32,
    /// Requests beyond one of its rates.
    pub limited: u32,
    /// Requests beyond one of its quotas.
    pub exceeded: u32,
    /// Requests with it when it was dead already.
    pub dead: u32,
    /// When it last let a request pass, if it ever did, and by which rule: the low 16 bits of the seconds since 1970.
    pub last: Option<(u16, Option<RouteNumber>)>,
    /// Where it stands with its quotas.
    pub quotas: Vec<QuotaCount>,
}

/// What is counted for a quota; given back to [`crate::Index::restore_quota`] it counts on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaCount {
    /// The limit's name.
    pub name: String,
    /// Window and count; of one kind of window, higher is later.
    pub counted: u64,
}

impl QuotaCount {
    /// Whether it counts at a time, or is of a window that is over, or of one that only a wrong clock can have seen.
    pub fn counts_at(&self, unix_seconds: i64) -> bool {
        counts_at(self.counted, unix_seconds)
    }
}

impl Table {
    /// Counts a use. One atomic addition, and a second one if it is the first since the last collection.
    #[inline]
    pub(super) fn count(&self, live: &Live<'_>, outcome: Outcome, now: Now) {
        let record = live.record;
        let before = match outcome {
            Outcome::Passed(route) => {
                #[expect(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "the low 16 bits are kept")]
                let seconds = now.unix_seconds as u16;
                let route = route.map_or(NO_ROUTE, |route| route.0);
                record.set_last_use(u32::from(route) << 16 | u32::from(seconds));
                record.passed_and_forbidden().fetch_add(1, Ordering::Relaxed)
            }
            Outcome::Forbidden => record.passed_and_forbidden().fetch_add(1 << 32, Ordering::Relaxed),
            Outcome::Limited => record.limited_and_exceeded().fetch_add(1, Ordering::Relaxed),
            Outcome::Exceeded => record.limited_and_exceeded().fetch_add(1 << 32, Ordering::Relaxed),
        };
        if before == 0 {
            self.touch(live.number);
        }
    }

    /// Counts a use of a dead key.
    pub(super) fn count_dead(&self, number: u32) {
        let before =
            self.record(number).map(|record| record.passed_and_forbidden().fetch_add(1 << 32, Ordering::Relaxed));
        if before == Some(0) {
            self.touch(number);
        }
    }

    /// Takes the counts of every key that was used since the last time.
    pub(super) fn collect_uses(&self, mut each: impl FnMut(Uses)) {
        self.take_touched(|record| {
            let first = record.passed_and_forbidden().swap(0, Ordering::Relaxed);
            let second = record.limited_and_exceeded().swap(0, Ordering::Relaxed);
            if first == 0 && second == 0 {
                return;
            }
            let (quotas, is_dead) = match self.read(record) {
                Some((_, grant)) => {
                    (grant.as_deref().map_or_else(Vec::new, |grant| self.quotas(record, &grant.limits)), false)
                }
                None => (Vec::new(), true),
            };
            let last = record.last_use();
            let (low, high) = split(last);
            let refused = upper(first);
            each(Uses {
                id: record.id(),
                project: record.project(),
                passed: lower(first),
                forbidden: if is_dead { 0 } else { refused },
                limited: lower(second),
                exceeded: upper(second),
                dead: if is_dead { refused } else { 0 },
                last: (lower(first) > 0).then_some((low, (high != NO_ROUTE).then_some(RouteNumber(high)))),
                quotas,
            });
        });
    }

    fn quotas(&self, record: Record<'_>, plan: &LimitPlan) -> Vec<QuotaCount> {
        let quotas = plan.limits().iter().enumerate().filter(|(_, limit)| limit.window().is_some());
        let counted = quotas.filter_map(|(at, limit)| {
            let counted = self.cell(record, at)?.load(Ordering::Relaxed);
            Some(QuotaCount { name: limit.name().to_owned(), counted })
        });
        counted.collect()
    }

    /// Counts on from what was counted before a restart.
    pub(super) fn restore_quota(&self, live: &Live<'_>, quota: &QuotaCount, unix_seconds: i64) {
        let Some(grant) = live.grant() else { return };
        let limits = grant.limits.limits().iter().enumerate();
        for (at, limit) in limits.filter(|(_, limit)| limit.name() == quota.name) {
            if let Some(cell) = self.cell(live.record, at) {
                limit.restore(cell, quota.counted, unix_seconds);
            }
        }
    }
}

const fn split(word: u32) -> (u16, u16) {
    let [a, b, c, d] = word.to_le_bytes();
    (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]))
}
