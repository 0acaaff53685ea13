//! What a follower knows: the verifier, and how it takes in what it is told.

use std::collections::BTreeSet;
use std::io::BufRead;
use std::sync::Arc;

use super::RemoteError;
use crate::feed::{Line, LiveKey, News, digest_of};
use crate::policy::{Document, Policies};
use crate::{KeyChange, KeyId, Living, OrganizationId, PolicySet, PolicyVersion, Verifier};

/// The verifier of a follower.
pub(super) struct Known {
    pub(super) verifier: Arc<Verifier>,
}

impl Known {
    pub(super) const fn new(verifier: Arc<Verifier>) -> Self {
        Self { verifier }
    }

    /// Takes in a snapshot, whatever was known before: only the dead stay dead. What comes back is from where on to ask for news. Once
    /// it is not wanted any more it is as if it had been cut off.
    pub(super) fn load(&self, snapshot: impl BufRead, is_wanted: impl Fn() -> bool) -> Result<String, RemoteError> {
        let index = self.verifier.index();
        let mut lines = snapshot.lines();
        let mut next = || -> Result<Line, RemoteError> {
            let line = lines.next().ok_or(RemoteError::CutOff)?.map_err(|_broken| RemoteError::CutOff)?;
            serde_json::from_str(&line).map_err(|_other| RemoteError::CutOff)
        };
        let Line::Begin { cursor, seq, keys, is_newest } = next()? else { return Err(RemoteError::CutOff) };
        // What is not in it is out of force here, so it must not come from a server that only lags.
        if seq < index.position() && !is_newest {
            return Err(RemoteError::Behind { seq, known: index.position() });
        }
        index.reserve(keys)?;
        let (mut living, mut suspended, mut policies) = (Living::default(), BTreeSet::new(), Vec::new());
        let mut many = 0_u64;
        loop {
            if !is_wanted() {
                return Err(RemoteError::CutOff);
            }
            match next()? {
                Line::Begin { .. } => return Err(RemoteError::CutOff),
                Line::End { lines } if lines == many => break,
                Line::End { .. } => return Err(RemoteError::CutOff),
                Line::News(News::Key(key)) => {
                    let LiveKey { digest, record } = key.read()?;
                    living.insert(&digest);
                    index.reset(&digest, &record)?;
                }
                Line::News(News::Death { digest, id }) => self.revoke(&digest, id)?,
                Line::News(News::Organization { id, is_suspended }) => {
                    if is_suspended {
                        suspended.insert(OrganizationId(id));
                    }
                }
                Line::News(News::Policy { version, document }) => policies.push((PolicyVersion(version), document)),
            }
            many += 1;
        }
        index.keep_only(&living);
        for organization in index.suspended().into_iter().filter(|known| !suspended.contains(known)) {
            index.resume(organization);
        }
        suspended.into_iter().for_each(|organization| index.suspend(organization));
        let mut set = PolicySet::builtin();
        for (version, document) in &policies {
            set = followed_by(&set, *version, document.as_ref())?;
        }
        self.verifier.set_policies(set);
        index.reset_position(seq);
        index.mark_loaded();
        Ok(cursor)
    }

    /// Takes in what is new.
    pub(super) fn apply(&self, news: Vec<News>, seq: i64) -> Result<(), RemoteError> {
        let index = self.verifier.index();
        for one in news {
            match one {
                News::Key(key) => {
                    let LiveKey { digest, record } = key.read()?;
                    index.apply(&digest, &KeyChange::Put(record))?;
                }
                News::Death { digest, id } => self.revoke(&digest, id)?,
                News::Organization { id, is_suspended: true } => index.suspend(OrganizationId(id)),
                News::Organization { id, is_suspended: false } => index.resume(OrganizationId(id)),
                News::Policy { version, document } => {
                    let known = self.verifier.policies();
                    self.verifier.set_policies(followed_by(&known, PolicyVersion(version), document.as_ref())?);
                }
            }
        }
        index.set_position(seq);
        Ok(())
    }

    fn revoke(&self, digest: &str, id: i64) -> Result<(), RemoteError> {
        Ok(self.verifier.index().apply(&digest_of(digest)?, &KeyChange::Revoke { id: KeyId(id) })?)
    }
}

fn followed_by(set: &PolicySet, version: PolicyVersion, document: Option<&Document>) -> Result<PolicySet, RemoteError> {
    let Some(document) = document else { return Ok(set.unknown(version)) };
    let policies = Policies::compile(document).map_err(|_faults| RemoteError::Policy(version.0))?;
    Ok(set.followed_by(version, policies))
}
