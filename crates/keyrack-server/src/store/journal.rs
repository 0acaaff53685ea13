//! Revocations that the database does not have yet: kept in a synced file of this node while the database is away, or when it has
//! lost them, and committed as soon as it can be. Revoked is final.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keyrack::feed::{digest_of, hex_of};
use keyrack::{KeyChange, KeyDigest, KeyId, KeyRecord};
use serde::{Deserialize, Serialize};

use super::in_force::Effect;
use super::writing::By;
use super::{Effective, HEARTBEAT};
use super::{Need, Store, StoreError};
use crate::actor::{Actor, ActorKind};
use crate::canonical::Canonical;
use crate::data_dir::sync_parent;
use crate::keys;
use crate::root_key::MacKey;

const FILE: &str = "revocations";
/// So many are committed at once.
const DELIVERED_AT_ONCE: usize = 64;
/// When so many that were tried one by one have failed, one behind the other, no more are.
const MOST_FAILED_IN_A_ROW: usize = 3;
/// How long nothing is tried, at the most, while it fails.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A key that is dead, and who said so.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Death {
    /// By what the index finds it. A database that has lost changes may give its number to another key.
    digest: String,
    key: i64,
    actor_kind: String,
    actor_id: Option<i64>,
    request_id: String,
}

impl Death {
    fn new(digest: &KeyDigest, key: KeyId, by: &By) -> Self {
        let (actor_kind, actor_id) = (by.actor.kind.as_str().to_owned(), by.actor.id);
        Self { digest: hex_of(digest), key: key.0, actor_kind, actor_id, request_id: by.request_id.clone() }
    }

    /// Whether it is that of the key of this digest.
    fn is_of(&self, digest: &KeyDigest) -> bool {
        self.digest == hex_of(digest)
    }

    fn by(&self) -> By {
        let kind = ActorKind::of_word(&self.actor_kind).unwrap_or(ActorKind::Host);
        By { actor: Actor { kind, id: self.actor_id }, request_id: self.request_id.clone() }
    }

    fn canonical(&self) -> Canonical {
        let death = Canonical::new("journal").text(&self.digest).int(self.key).text(&self.actor_kind);
        death.maybe_int(self.actor_id).text(&self.request_id)
    }
}

/// The file, and what is in it.
pub(super) struct Journal {
    path: PathBuf,
    key: MacKey,
    open: Mutex<Vec<Death>>,
}

impl Journal {
    /// One that was not read yet.
    pub(super) fn of(data_dir: &Path, key: MacKey) -> Self {
        Self { path: data_dir.join(FILE), key, open: Mutex::default() }
    }

    /// Reads what an earlier process left. A line that this installation did not write, or not to its end, is passed over.
    ///
    /// # Errors
    /// [`StoreError::Journal`] if there is one and it cannot be read: keys that died would live again.
    pub(super) fn read(&self) -> Result<(), StoreError> {
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(StoreError::Journal { file: self.path.clone(), source }),
        };
        let mut open = self.deaths();
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match self.death_of(line) {
                Some(death) => open.push(death),
                None => {
                    tracing::error!(file = %self.path.display(), "a line of the journal of revocations cannot be used");
                }
            }
        }
        Ok(())
    }

    fn deaths(&self) -> MutexGuard<'_, Vec<Death>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn death_of(&self, line: &[u8]) -> Option<Death> {
        let (tag, death) = std::str::from_utf8(line).ok()?.split_once(' ')?;
        let death: Death = serde_json::from_str(death).ok()?;
        let tag = data_encoding::HEXLOWER.decode(tag.as_bytes()).ok()?;
        (self.key.fits(&death.canonical(), &tag) && digest_of(&death.digest).is_ok()).then_some(death)
    }

    /// What the database does not have yet.
    pub(super) fn open(&self) -> Vec<Death> {
        self.deaths().clone()
    }

    /// Whether a key of that number is dead of which the database does not know that. Ask [`Journal::holds`] whether it is the one.
    pub(super) fn has_number(&self, key: KeyId) -> bool {
        self.deaths().iter().any(|death| death.key == key.0)
    }

    /// Whether the key of that digest is dead of which the database does not know that.
    pub(super) fn holds(&self, digest: &KeyDigest) -> bool {
        self.deaths().iter().any(|death| death.is_of(digest))
    }

    /// Adds to it; synced when this returns. Blocks on the disk.
    fn add(&self, death: &Death) -> io::Result<()> {
        let mut open = self.deaths();
        if open.contains(death) {
            return Ok(());
        }
        let tag = data_encoding::HEXLOWER.encode(&self.key.tag(&death.canonical()));
        // It begins a line, whatever a crash has left of the one before.
        let line = format!("\n{tag} {}\n", serde_json::to_string(death).expect("it is plain data"));
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path)?;
        let before = file.metadata()?.len();
        let kept = file.write_all(line.as_bytes()).and_then(|()| file.sync_all());
        if let Err(error) = kept.and_then(|()| sync_parent(&self.path)) {
            // What was refused is not to come true after a restart.
            file.set_len(before)?;
            return Err(error);
        }
        open.push(death.clone());
        Ok(())
    }

    /// Adds what is kept elsewhere, until it is committed.
    fn remember(&self, deaths: impl Iterator<Item = Death>) {
        let mut open = self.deaths();
        let known: HashSet<String> = open.iter().map(|death| death.digest.clone()).collect();
        open.extend(deaths.filter(|death| !known.contains(&death.digest)));
    }

    /// Forgets what the database has now; what came meanwhile stays.
    fn remove(&self, done: &[Death]) -> io::Result<()> {
        let mut open = self.deaths();
        let done: HashSet<&Death> = done.iter().collect();
        open.retain(|death| !done.contains(death));
        if open.is_empty() && self.path.exists() {
            File::create(&self.path)?.sync_all()?;
        }
        Ok(())
    }
}

impl Store {
    /// The live key that `is_it` picks, as far as this node knows, with a digest of which only what an index looks at is right.
    pub fn live_key(&self, is_it: impl Fn(&KeyRecord) -> bool) -> Option<(KeyDigest, KeyRecord)> {
        self.in_force.find_live(is_it)
    }

    /// Revokes a key without the database; whether that may be is for the caller to know.
    ///
    /// # Errors
    /// [`StoreError::Full`] if it cannot be kept; the key lives on then.
    pub fn revoke_without_database(&self, digest: &KeyDigest, key: KeyId, by: &By) -> Result<Effective, StoreError> {
        self.keep_death(&Death::new(digest, key, by))?;
        self.in_force.apply(&Effect::Key(*digest, KeyChange::Revoke { id: key }))?;
        tracing::warn!(%key, "revoked without the database; it is committed as soon as that is back");
        Ok(self.known_reach())
    }

    /// What [`Store::revoke_without_database`] says of a key that this caller has revoked so before, and the database does not know it
    /// yet.
    pub fn revoked_without_database(&self, key: KeyId, by: &By) -> Option<Effective> {
        let is_kept = self.journal.open().iter().any(|death| death.key == key.0 && death.by().actor == by.actor);
        is_kept.then(|| self.known_reach())
    }

    /// The ballast is given up for it, as for any revocation.
    fn keep_death(&self, death: &Death) -> Result<(), StoreError> {
        let kept = self.journal.add(death).or_else(|error| {
            if !is_for_want_of_room(&error) {
                return Err(error);
            }
            self.ballast.give_up();
            self.journal.add(death)
        });
        kept.map_err(|error| {
            tracing::error!(%error, "the journal of revocations cannot be written");
            StoreError::Full
        })
    }

    /// What is in the journal is dead, whatever the rows say.
    ///
    /// # Errors
    /// [`StoreError`] if the index has no room for it.
    pub(super) fn apply_journal(&self) -> Result<(), StoreError> {
        for death in self.journal.open() {
            let digest = digest_of(&death.digest).expect("it was read before, or made from one");
            self.in_force.apply(&Effect::Key(digest, KeyChange::Revoke { id: KeyId(death.key) }))?;
        }
        Ok(())
    }

    /// The database has lost the deaths of keys, which are kept elsewhere: it is told again.
    pub(super) fn remember_deaths(&self, died: &[(KeyDigest, KeyId)]) {
        let by = By { actor: Actor::HOST, request_id: "host:reassert".to_owned() };
        self.journal.remember(died.iter().map(|(digest, key)| Death::new(digest, *key, &by)));
    }

    /// Commits what comes into the journal, and keeps what dies, for as long as it is polled. Apart from the heartbeat, which must not wait for a turn.
    pub async fn deliver(self: &Arc<Self>) {
        // Apart from each other: to commit may take long.
        tokio::join!(
            again_and_again(
                || self.commit_journal(),
                "revocations that were made without the database cannot be committed yet"
            ),
            again_and_again(|| self.keep_deaths(), "which keys died cannot be kept beside the database yet"),
        );
    }

    /// Commits what is in the journal, many in a transaction.
    ///
    /// # Errors
    /// [`StoreError`]; what is left is tried again then.
    async fn commit_journal(self: &Arc<Self>) -> Result<(), StoreError> {
        let mut done = Vec::new();
        let outcome = self.commit_open(&mut done).await;
        // All at once: to take some out goes through all of them.
        if !done.is_empty() {
            tracing::info!(revocations = done.len(), "the database has revocations that were made without it");
            self.journal.remove(&done).map_err(|error| {
                tracing::error!(%error, "the journal of revocations cannot be emptied; nothing comes of that but work");
                StoreError::Full
            })?;
        }
        outcome
    }

    async fn commit_open(self: &Arc<Self>, done: &mut Vec<Death>) -> Result<(), StoreError> {
        let mut open = self.journal.open();
        // Others may have seen the same keys die: in the same order nobody waits for one who waits for him.
        open.sort_by_key(|death| death.key);
        let mut damaged = Ok(());
        for deaths in open.chunks(DELIVERED_AT_ONCE) {
            match self.commit_deaths(deaths, done).await {
                Ok(()) => {}
                Err(error @ StoreError::Damaged { .. }) => damaged = Err(error),
                Err(error @ StoreError::Astray { .. }) => return Err(error),
                Err(error) if error.is_outage() => return Err(error),
                Err(_) => self.commit_one_by_one(deaths, done).await?,
            }
        }
        damaged
    }

    /// One that cannot be committed, because somebody holds its row, must not hold up the others. If several in a row cannot, it is not them.
    async fn commit_one_by_one(self: &Arc<Self>, deaths: &[Death], done: &mut Vec<Death>) -> Result<(), StoreError> {
        let mut failed = 0;
        for death in deaths.chunks(1) {
            match self.commit_deaths(death, done).await {
                Ok(()) | Err(StoreError::Damaged { .. }) => failed = 0,
                Err(error) => {
                    failed += 1;
                    if failed == MOST_FAILED_IN_A_ROW {
                        return Err(error);
                    }
                }
            }
        }
        Ok(())
    }

    /// Commits all of them or none, but for those whose rows are damaged: those stay in the journal, and are the error when the others are
    /// committed.
    async fn commit_deaths(self: &Arc<Self>, deaths: &[Death], done: &mut Vec<Death>) -> Result<(), StoreError> {
        let mut writing = self.begin(Need::Revocation).await?;
        let mut written = Vec::with_capacity(deaths.len());
        for death in deaths {
            let is_it = |digest: &KeyDigest| death.is_of(digest);
            match keys::revoke_again(&mut writing, KeyId(death.key), is_it, &death.by()).await {
                Ok(()) => written.push(death.clone()),
                Err(StoreError::Damaged { .. }) => {}
                Err(error) => {
                    writing.abandon().await?;
                    return Err(error);
                }
            }
        }
        writing.commit().await?;
        let is_all = written.len() == deaths.len();
        done.append(&mut written);
        let damaged = || StoreError::Damaged { what: "keys that died have rows that cannot be used".to_owned() };
        if is_all { Ok(()) } else { Err(damaged()) }
    }
}

/// Whether the same may succeed once there is more room on the disk.
pub(super) fn is_for_want_of_room(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Does something four times a second, and less often while it fails; says so when it begins to.
async fn again_and_again<E, F>(work: impl Fn() -> F, trouble: &'static str)
where
    E: std::fmt::Display,
    F: Future<Output = Result<(), E>>,
{
    let mut pause = HEARTBEAT;
    loop {
        tokio::time::sleep(pause).await;
        let outcome = work().await;
        if let Err(error) = &outcome
            && pause == HEARTBEAT
        {
            tracing::warn!(%error, "{trouble}");
        }
        pause = if outcome.is_ok() { HEARTBEAT } else { (pause * 2).min(LONGEST_PAUSE) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::OsRandom;
    use crate::root_key::RootKey;

    fn death(key: u8, by: &By) -> Death {
        Death::new(&KeyDigest::from_bytes([key; KeyDigest::BYTES]), KeyId(key.into()), by)
    }

    #[test]
    fn what_is_kept_is_read_again_and_what_was_tampered_with_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let root_key = RootKey::create(&dir.path().join("root.key"), &OsRandom).unwrap();
        let journal = || {
            let journal = Journal::of(dir.path(), root_key.derive("journal"));
            journal.read().unwrap();
            journal
        };
        let by = By { actor: Actor { kind: ActorKind::SecretKey, id: Some(3) }, request_id: "req_1".to_owned() };
        let deaths = [death(4, &by), death(5, &by)];
        let first = journal();
        deaths.iter().for_each(|death| first.add(death).unwrap());
        first.add(&deaths[0]).unwrap();
        assert_eq!(journal().open(), deaths);
        assert_eq!(journal().open()[0].by().actor, by.actor);

        let path = dir.path().join(FILE);
        let text = std::fs::read_to_string(&path).unwrap();
        // One that was changed, and one that was not written to its end.
        std::fs::write(&path, &text.replace("\"key\":4", "\"key\":9")[..text.len() - 3]).unwrap();
        assert_eq!(journal().open(), []);
        std::fs::write(&path, text).unwrap();
        let again = journal();
        again.remove(&deaths[..1]).unwrap();
        assert_eq!(again.open(), deaths[1..]);
        again.remove(&deaths).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "");

        // A crash in the middle of a line, or a byte that is no text, takes that line and no other.
        first.add(&death(6, &by)).unwrap();
        let torn = &std::fs::read(&path).unwrap()[..40];
        std::fs::write(&path, [torn, b"\xff"].concat()).unwrap();
        let last = death(7, &by);
        journal().add(&last).unwrap();
        assert_eq!(journal().open(), [last]);
    }

    #[test]
    fn one_that_cannot_be_read_is_not_taken_for_an_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        let root_key = RootKey::create(&dir.path().join("root.key"), &OsRandom).unwrap();
        let journal = Journal::of(dir.path(), root_key.derive("journal"));
        assert!(journal.read().is_ok(), "there is none");
        std::fs::create_dir(dir.path().join(FILE)).unwrap();
        let refused = journal.read().unwrap_err().to_string();
        assert!(refused.contains("revocations"), "{refused}");
    }
}
