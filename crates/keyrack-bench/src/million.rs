//! A store with a million keys and a policy of two hundred rules, made once and kept, and the requests that its keys make.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use keyrack::policy::{Document, Least, NamedPolicy, Rule};
use keyrack::{ApiKey, Holder, Index, KeyKind, OrganizationId, ProjectId, ProjectRole, Scope, Verifier};
use keyrack_server::actor::Actor;
use keyrack_server::clock::SystemClock;
use keyrack_server::keys::{Labels, Powers, mint};
use keyrack_server::policies;
use keyrack_server::root_key::RootKey;
use keyrack_server::store::{By, Database, LEASE, Need, Store};

use crate::Outcome;
use crate::random::Random;

/// How many keys there are.
pub(crate) const KEYS: usize = 1_000_000;
/// The program that is measured.
pub(crate) const PROGRAM: &str = "target/release/keyrack";

const DIRECTORY: &str = "target/bench/million";
/// How many rules the policy has.
pub(crate) const RULES: usize = 200;
/// One rule in so many is open to publishable keys, and one key in so many is one.
const PUBLIC_EVERY: usize = 4;
/// Keys in one transaction.
const AT_ONCE: usize = 10_000;
const SEED: u64 = 11;

/// What every key may do: so often that no measurement reaches it.
pub(crate) const KEY_LIMITS: &str = "requests=1000000/1m:1000000";

/// What a key asks for.
#[derive(Debug)]
pub(crate) struct Asked {
    /// The key's value.
    pub(crate) key: ApiKey,
    /// The method of the request.
    pub(crate) method: &'static str,
    /// Its target.
    pub(crate) target: String,
}

/// What every key asks for, in the order of the keys: each is allowed.
pub(crate) fn requests() -> impl Iterator<Item = Asked> {
    let (mut values, mut random) = (Random::seeded(SEED), Random::seeded(SEED + 1));
    (0..KEYS).map(move |number| {
        let kind = kind_of(number);
        let key = ApiKey::generate(kind, &values.bytes());
        let rule = match kind {
            KeyKind::Publishable => random.below(RULES / PUBLIC_EVERY) * PUBLIC_EVERY,
            KeyKind::Secret | KeyKind::Organization | KeyKind::Operator | KeyKind::Follower => random.below(RULES),
        };
        let target = format!("/v1/resource-{rule}/{}?expand=all", random.below(10_000));
        Asked { key, method: method_of(rule), target }
    })
}

/// The directory of the store, which is made if it is not there.
///
/// # Errors
/// If it cannot be made.
pub(crate) fn directory() -> Outcome<PathBuf> {
    let directory = PathBuf::from(DIRECTORY);
    if directory.exists() {
        return Ok(directory);
    }
    let unfinished = directory.with_extension("unfinished");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished)?;
    }
    fs::create_dir_all("target/bench")?;
    let init = Command::new(PROGRAM).args(["init", "--json", "--data-dir"]).arg(&unfinished).output()?;
    if !init.status.success() {
        return Err(format!("keyrack init: {}", String::from_utf8_lossy(&init.stderr)).into());
    }
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(fill(&unfinished))?;
    fs::rename(&unfinished, &directory)?;
    Ok(directory)
}

async fn fill(directory: &Path) -> Outcome<()> {
    let root_key = RootKey::load(&directory.join("root.key"))?;
    let verifier = Arc::new(Verifier::new(Index::with_capacity(0)));
    let database = Database::in_directory(directory, LEASE);
    let store = Store::open(database, directory, &root_key, verifier, Vec::new(), Arc::new(SystemClock)).await?;
    store.load().await?;
    let by = By { actor: Actor::HOST, request_id: "host:bench".to_owned() };

    let mut writing = store.begin(Need::Ordinary).await?;
    policies::apply(&mut writing, &Arc::new(policy(RULES)), None, &by).await?;
    writing.commit().await?;

    let random = Sequence(Mutex::new(Random::seeded(SEED)));
    for first in (0..KEYS).step_by(AT_ONCE) {
        say_progress(first);
        let mut writing = store.begin(Need::Ordinary).await?;
        for number in first..KEYS.min(first + AT_ONCE) {
            let named = (Labels::named(&format!("Customer {number}")), Powers::default());
            mint(&mut writing, holder_of(number), false, named, "key.create", &by, &random).await?;
        }
        writing.commit().await?;
    }
    store.close().await;
    Ok(())
}

/// The product draws the values of its keys from here, so that they are known again in the next run.
struct Sequence(Mutex<Random>);

impl keyrack_server::random::Random for Sequence {
    fn fill(&self, buffer: &mut [u8]) {
        let mut random = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        buffer.fill_with(|| random.bytes::<1>()[0]);
    }
}

const fn kind_of(number: usize) -> KeyKind {
    if number.is_multiple_of(PUBLIC_EVERY) { KeyKind::Publishable } else { KeyKind::Secret }
}

fn holder_of(number: usize) -> Holder {
    let kind = kind_of(number);
    let (scope, role) = match kind {
        KeyKind::Publishable => (Scope::Public, ProjectRole::Support),
        KeyKind::Secret | KeyKind::Organization | KeyKind::Operator | KeyKind::Follower => {
            (Scope::Secret, ProjectRole::Editor)
        }
    };
    Holder::Project { project: ProjectId(1), organization: OrganizationId(1), kind, scope, role }
}

const fn method_of(rule: usize) -> &'static str {
    if rule.is_multiple_of(2) { "GET" } else { "POST" }
}

/// Rules for different paths, half of them for reads by every role, half for writes by editors.
pub(crate) fn policy(rules: usize) -> Document {
    let rule = |number: usize| Rule {
        methods: vec![method_of(number).to_owned()],
        path: format!("/v1/resource-{number}/*"),
        role: if number.is_multiple_of(2) { ProjectRole::Support } else { ProjectRole::Editor },
        public: number.is_multiple_of(PUBLIC_EVERY),
        permission: None,
    };
    let rules = (0..rules).map(rule).collect();
    let (read, write) = (Least::Role(ProjectRole::Admin), Least::Role(ProjectRole::Admin));
    Document { policies: vec![NamedPolicy { name: "default".to_owned(), read, write, rules }] }
}

#[expect(clippy::print_stderr, reason = "whoever waits sees that it goes on")]
fn say_progress(keys: usize) {
    if keys.is_multiple_of(KEYS / 10) {
        eprintln!("making a store of {KEYS} keys: {keys}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_allowed_by_the_policy_and_is_the_same_in_every_run() {
        let policies = keyrack::policy::Policies::compile(&policy(RULES)).unwrap();
        let random = Sequence(Mutex::new(Random::seeded(SEED)));
        for (number, asked) in requests().take(1_000).enumerate() {
            let mut drawn = [0; ApiKey::RANDOM_BYTES];
            keyrack_server::random::Random::fill(&random, &mut drawn);
            assert!(ApiKey::generate(kind_of(number), &drawn).expose() == asked.key.expose());
            let Holder::Project { scope, role, .. } = holder_of(number) else { unreachable!() };
            let path = keyrack::policy::Path::scan(asked.target.as_bytes()).unwrap();
            let method = keyrack::policy::Method::scan(asked.method.as_bytes()).unwrap();
            let default = policies.named(b"default").unwrap();
            let route = policies.route(default, method, &path).unwrap();
            assert_eq!(keyrack::policy::judge(&route, role, scope, |_| false), Ok(()));
        }
    }
}
