//! One bit of the database is wrong: nothing passes that did not pass before, and nothing panics.
//!
//! For each flip a copy of a whole store is opened and loaded as the server does it. Each key must then stand in the
//! index exactly as it did in the undamaged store, or pass nowhere.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use keyrack::{
    ApiKey, KeyDigest, KeyKind, Limit, Lookup, OrganizationId, OrganizationRole, Period, Permissions, ProjectId,
    ProjectRole, Requirement, Scope, VerifiedKey, Verifier, VerifyError,
};
use keyrack_server::actor::Actor;
use keyrack_server::config::{self, Config, Flags};
use keyrack_server::keys::{self, KeyPatch, Labels, NewKey, Powers};
use keyrack_server::place::{Place, ProjectCaller};
use keyrack_server::random::{self, OsRandom};
use keyrack_server::serve::{self, Installation, ServeError};
use keyrack_server::store::{By, DATABASE_FILE, DatabaseError, Need, StoreError};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::torture::number;

const FLIPS: usize = 10_000;
const PROJECT_KEYS: usize = 24;
const WORKERS: usize = 2;
/// The audit log is checked after one in so many flips.
const AUDIT_SAMPLE: usize = 20;
/// Longest that a damaged store may take to be opened, looked at and closed.
const DEADLINE: Duration = Duration::from_secs(20);
/// Panics of other threads, the database's own and those that read ahead: they do not arrive where the work was asked for, and rows may
/// only seem to end.
static PANICS_BENEATH: Mutex<Vec<String>> = Mutex::new(Vec::new());

#[test]
fn a_flipped_bit_lets_nothing_pass() {
    let flips = number("FLIPS").map_or(FLIPS, |flips| flips as usize);
    note_panics_beneath();
    let original = Original::make();
    let bits = original.bits(flips);
    let tally = thread::scope(|scope| {
        let shares = (0..WORKERS).map(|worker| bits.iter().enumerate().skip(worker).step_by(WORKERS));
        let original = &original;
        let at_it: Vec<_> = shares.map(|share| scope.spawn(move || original.survive(share))).collect();
        at_it.into_iter().map(|worker| worker.join().unwrap()).fold(Tally::default(), Tally::and)
    });
    println!("flips: {} of {} bits; {}", bits.len(), original.database.len() * 8, tally.summary());
    assert!(tally.faults.is_empty(), "{}", tally.faults.join("\n"));
    assert_eq!(tally.panics, 0);
    assert_eq!(bits.len(), tally.refused_stores + tally.refused_keys + tally.harmless);
    // Only if damage was met at both places was there anything to see.
    assert!(tally.refused_stores > 0 && tally.refused_keys > 0, "the flips hit nothing");
}

fn note_panics_beneath() {
    let others = take_hook();
    set_hook(Box::new(move |panic| {
        if thread::current().name().is_some_and(|name| name.starts_with("sqlx") || name.starts_with("tokio")) {
            PANICS_BENEATH.lock().unwrap().push(panic.to_string());
        }
        others(panic);
    }));
}

// ---- the undamaged store -------------------------------------------------------------------------------------------

/// A store with keys of all sorts, live and dead, and what is to be expected of each of them.
struct Original {
    dir: TempDir,
    database: Vec<u8>,
    keys: Vec<Known>,
    /// How many keys the index holds.
    live: usize,
}

/// A key, and what an undamaged store says of it.
struct Known {
    value: ApiKey,
    seen: Seen,
}

/// All that a store can say of a key: what the index holds, and who lets it pass.
#[derive(Debug, PartialEq)]
struct Seen {
    index: Option<Lookup>,
    verdicts: [Result<VerifiedKey, VerifyError>; REQUIREMENTS.len()],
}

/// The least and the most that each surface asks for.
const REQUIREMENTS: [Requirement; 5] = [
    Requirement::Project { least: ProjectRole::Support },
    Requirement::Project { least: ProjectRole::Admin },
    Requirement::Organization { least: OrganizationRole::Member },
    Requirement::Organization { least: OrganizationRole::Owner },
    Requirement::Operator,
];

impl Seen {
    fn by(verifier: &Verifier, key: &ApiKey) -> Self {
        Self {
            index: verifier.index().find(&KeyDigest::of(key)).ok(),
            verdicts: REQUIREMENTS.map(|requirement| verifier.verify(key.expose().as_bytes(), requirement)),
        }
    }

    fn passes(&self) -> bool {
        matches!(self.index, None | Some(Lookup::Live(_))) || self.verdicts.iter().any(Result::is_ok)
    }
}

impl Original {
    /// On the memory file system if there is one: the disk is not what is tested.
    fn make() -> Self {
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let data_dir = dir.path().join("original");
        let runtime = runtime();
        let (values, expected_live) = runtime.block_on(fill(&config(&dir, &data_dir)));
        let database = fs::read(data_dir.join(DATABASE_FILE)).unwrap();
        assert!(!data_dir.join("keyrack.db-wal").exists(), "the database is not all in one file");

        let installation = runtime.block_on(serve::open(&config(&dir, &data_dir))).unwrap();
        let see = |value| Known { seen: Seen::by(&installation.verifier, &value), value };
        let keys: Vec<_> = values.into_iter().map(see).collect();
        let live = keys.iter().filter(|key| key.seen.passes()).count();
        assert_eq!((live, installation.verifier.index().len()), (expected_live, expected_live));
        runtime.block_on(installation.store.close());
        Self { dir, database, keys, live }
    }

    /// Half of the bits evenly over the whole file, half over the places where keys are kept.
    fn bits(&self, flips: usize) -> Vec<usize> {
        let of_keys: Vec<usize> = self.bytes_of_keys().iter().flat_map(|byte| byte * 8..byte * 8 + 8).collect();
        let everywhere = (0..flips.div_ceil(2)).map(|nth| nth * self.database.len() * 8 / flips.div_ceil(2));
        let in_keys = (0..flips / 2).map(|nth| of_keys[nth * of_keys.len() / (flips / 2)]);
        // The even steps over the file would otherwise hit the same bit of each byte.
        everywhere.enumerate().map(|(nth, bit)| bit - bit % 8 + nth % 8).chain(in_keys).collect()
    }

    /// The pages that hold a digest: rows, and the index over digests.
    fn bytes_of_keys(&self) -> Vec<usize> {
        let page_bytes = usize::from(u16::from_be_bytes(*self.database[16..].first_chunk().unwrap()));
        let digests: Vec<_> = self.keys.iter().map(|key| KeyDigest::of(&key.value)).collect();
        let holds_one = |page: &[u8]| {
            page.windows(KeyDigest::BYTES).any(|part| digests.iter().any(|digest| part == digest.as_bytes()))
        };
        let pages = self.database.chunks(page_bytes).enumerate();
        let of_keys = pages.filter(|(_, page)| holds_one(page));
        let used = of_keys
            .flat_map(|(nth, page)| (0..page.len()).filter(|at| page[*at] != 0).map(move |at| nth * page_bytes + at));
        used.collect()
    }
}

/// Sets a store up and gives every key that was ever issued, and how many of them live. The last ones never were issued.
async fn fill(config: &Config) -> (Vec<ApiKey>, usize) {
    let mut installation = serve::open(config).await.unwrap();
    let first = installation.first_keys.take().unwrap();
    let mut values = vec![first.operator, first.organization, first.project];
    let caller = ProjectCaller { project: ProjectId(1), organization: OrganizationId(1), role: ProjectRole::Admin };
    let by = By { actor: Actor::HOST, request_id: "req_flips".to_owned() };
    let mut dead = 0;
    for nth in 0..PROJECT_KEYS {
        let mut writing = installation.store.begin(Need::Ordinary).await.unwrap();
        let new = NewKey {
            labels: Labels {
                name: format!("Key {nth}"),
                description: (nth % 2 == 0).then(|| "with a description ".repeat(nth)),
            },
            scope: Scope::ALL[usize::from(nth % 4 != 0)],
            role: ProjectRole::ALL[nth % ProjectRole::ALL.len()],
            powers: Powers {
                permissions: Permissions::new(["events:read", "events:write"].into_iter().take(nth % 3)),
                limits: Limit::new("requests", 100, Period::Seconds(60), None).into_iter().take(nth % 2).collect(),
            },
        };
        let (key, value) = keys::issue(&mut writing, caller, new, &by, &OsRandom).await.unwrap();
        if nth % 3 == 0 {
            let patch = KeyPatch { role: Some(ProjectRole::Publisher), ..KeyPatch::default() };
            keys::change(&mut writing, caller, key.id.0, patch, &by).await.unwrap();
        }
        if nth % 4 == 1 {
            keys::revoke(&mut writing, Place::Project(caller.project), key.id.0, &by).await.unwrap();
            dead += 1;
        }
        writing.commit().await.unwrap();
        values.push(value);
    }
    installation.store.close().await;
    let live = values.len() - dead;
    values.extend(KeyKind::ALL.map(|kind| ApiKey::generate(kind, &random::bytes(&OsRandom))));
    (values, live)
}

fn config(dir: &TempDir, data_dir: &Path) -> Config {
    let (data_dir, root_key) = (data_dir.display().to_string(), dir.path().join("root.key").display().to_string());
    let set = [("KEYRACK_DATA_DIR", data_dir), ("KEYRACK_ROOT_KEY_FILE", root_key)];
    let config = config::read(&Flags::default(), set.map(|(name, value)| (name.to_owned(), value)));
    Config { limits: crate::app::plenty(), ..config.unwrap() }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

// ---- damaged copies ------------------------------------------------------------------------------------------------

#[derive(Default)]
struct Tally {
    /// The store did not open: why, without what differs from flip to flip.
    why: BTreeMap<String, usize>,
    refused_stores: usize,
    /// The store opened, and at least one key no longer passes.
    refused_keys: usize,
    /// Those of them where loading did not report each key that is gone.
    silent: usize,
    harmless: usize,
    audits: usize,
    audits_with_faults: usize,
    accepted: usize,
    panics: usize,
    faults: Vec<String>,
}

impl Tally {
    fn and(mut self, other: Self) -> Self {
        for (why, times) in other.why {
            *self.why.entry(why).or_default() += times;
        }
        self.refused_stores += other.refused_stores;
        self.refused_keys += other.refused_keys;
        self.silent += other.silent;
        self.harmless += other.harmless;
        self.audits += other.audits;
        self.audits_with_faults += other.audits_with_faults;
        self.accepted += other.accepted;
        self.panics += other.panics;
        self.faults.extend(other.faults);
        self
    }

    fn panic(&mut self, what: String) {
        self.panics += 1;
        self.faults.push(what);
    }

    fn summary(&self) -> String {
        format!(
            "accepted because of damage {}, panics {}; store refused {} {:?}, key refused {} (unreported {}), harmless {}; audit checks \
             {}, of which {} found or failed on something",
            self.accepted,
            self.panics,
            self.refused_stores,
            self.why,
            self.refused_keys,
            self.silent,
            self.harmless,
            self.audits,
            self.audits_with_faults,
        )
    }
}

impl Original {
    /// Flips each bit in a copy of its own.
    fn survive<'a>(&self, bits: impl Iterator<Item = (usize, &'a usize)>) -> Tally {
        let runtime = runtime();
        let mut tally = Tally::default();
        for (nth, bit) in bits {
            let data_dir = self.dir.path().join(format!("flip-{nth}"));
            let with_audit = nth % AUDIT_SAMPLE == 0;
            let flip = async { timeout(DEADLINE, self.flip(*bit, data_dir.clone(), with_audit, &mut tally)).await };
            match catch_unwind(AssertUnwindSafe(|| runtime.block_on(flip))) {
                Ok(Ok(())) => {}
                Ok(Err(_elapsed)) => tally.faults.push(format!("bit {bit}: no end after {DEADLINE:?}")),
                Err(_panic) => tally.panic(format!("bit {bit}: panicked")),
            }
            // The two workers may note each other's, so the bit is this one or the one tried beside it.
            for panic in PANICS_BENEATH.lock().unwrap().drain(..) {
                tally.panic(format!("bit {bit} or beside it: {panic}"));
            }
            fs::remove_dir_all(&data_dir).ok();
        }
        tally
    }

    async fn flip(&self, bit: usize, data_dir: PathBuf, with_audit: bool, tally: &mut Tally) {
        let mut database = self.database.clone();
        database[bit / 8] ^= 1 << (bit % 8);
        fs::create_dir(&data_dir).unwrap();
        fs::write(data_dir.join(DATABASE_FILE), database).unwrap();
        let installation = match serve::open(&config(&self.dir, &data_dir)).await {
            Ok(installation) => installation,
            Err(error) => {
                tally.refused_stores += 1;
                *tally.why.entry(reason(&error).to_owned()).or_default() += 1;
                return;
            }
        };
        let faults = self.compare(&installation);
        tally.accepted += faults.len();
        tally.faults.extend(faults.iter().map(|fault| format!("bit {bit}: {fault}")));
        let passing = self.keys.iter().filter(|key| Seen::by(&installation.verifier, &key.value).passes()).count();
        if passing < self.live {
            tally.refused_keys += 1;
            let reported = installation.store.load().await.map_or(0, |loaded| loaded.keys + loaded.refused);
            tally.silent += usize::from(reported < self.live as u64);
        } else {
            tally.harmless += 1;
        }
        if with_audit {
            tally.audits += 1;
            let report = installation.store.verify_audit().await;
            tally.audits_with_faults += usize::from(report.map_or(true, |report| !report.faults.is_empty()));
        }
        installation.store.close().await;
    }

    /// What is not as it was, other than that a key no longer passes.
    fn compare(&self, damaged: &Installation) -> Vec<String> {
        let mut faults = Vec::new();
        if damaged.first_keys.is_some() {
            faults.push("new first keys were handed out for a store that exists".to_owned());
        }
        if damaged.verifier.index().len() > self.live {
            faults.push(format!("there are {} keys, not {}", damaged.verifier.index().len(), self.live));
        }
        for Known { value, seen } in &self.keys {
            let now = Seen::by(&damaged.verifier, value);
            if now != *seen && now.passes() {
                faults.push(format!("{value:?} was {seen:?} and is {now:?}"));
            }
        }
        faults
    }
}

/// The kind of an error.
fn reason(error: &ServeError) -> &'static str {
    let ServeError::Store { source, .. } = error else { return "not the store" };
    if matches!(source, StoreError::Damaged { .. }) {
        "damaged"
    } else if matches!(source, StoreError::Unavailable(DatabaseError::Sqlite(sqlx::Error::WorkerCrashed))) {
        "a lost thread"
    } else if matches!(
        source,
        StoreError::Unavailable(DatabaseError::Sqlite(sqlx::Error::Database(_)) | DatabaseError::Snapshot(_))
    ) {
        "refused by the database"
    } else if matches!(source, StoreError::Unavailable(_)) {
        "cannot be read"
    } else {
        "otherwise"
    }
}
