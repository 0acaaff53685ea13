//! Everything at once: whatever order things come in, no key lives beneath what is suspended or has ended, and what was
//! acknowledged holds from then on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keyrack::{ApiKey, KeyDigest, Lookup, OrganizationId, ProjectId};
use keyrack_server::actor::Actor;
use keyrack_server::organizations;
use keyrack_server::place::ProjectCaller;
use keyrack_server::projects;
use keyrack_server::store::{By, Need, Writing};
use keyrack_server::tenancy::Standing;
use serde_json::{Value, json};

use crate::app::{Reply, TestApp};
use crate::database::Beside;

const ROUNDS: u64 = 18;
const TASKS: u64 = 16;
const STEPS: usize = 20;
const ORGANIZATION_KEYS: &str = "/api/admin/organizations/api-keys";

/// Xorshift: enough to choose by.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % end
    }
}

/// An organization with two projects, and every value that was ever handed out for it.
struct Arena {
    app: Arc<TestApp>,
    organization: i64,
    owner: String,
    projects: [i64; 2],
    members: [i64; 2],
    system: Mutex<Vec<i64>>,
    /// Number and value of every key, in the order of their replies.
    made: Mutex<Vec<(i64, String)>>,
    /// Whether the end of each project, and of the organization, has been acknowledged.
    ended: [AtomicBool; 3],
}

/// The verdict of the index on a value: whether it passes where it belongs.
fn is_live(app: &TestApp, value: &str) -> bool {
    let digest = KeyDigest::of(&ApiKey::parse(value.as_bytes()).unwrap());
    matches!(app.app.verifier.index().find(&digest).unwrap(), Lookup::Live(_))
}

impl Arena {
    async fn new(app: Arc<TestApp>, name: &str) -> Self {
        let (organization, owner) = app.organization(name).await;
        let body = json!({"name": "x", "locale": "en", "timezone": "UTC"});
        let mut projects = [0; 2];
        for project in &mut projects {
            let made = app.call_with(&owner, ("POST", "/api/admin/projects"), Some(body.clone()), &[]).await;
            *project = made.json()["id"].as_i64().unwrap();
        }
        let ended = [const { AtomicBool::new(false) }; 3];
        let (system, made) = (Mutex::default(), Mutex::new(vec![(0, owner.clone())]));
        let mut arena = Self { app, organization, owner, projects, members: [0; 2], system, made, ended };
        for at in 0..2 {
            let body = json!({"name": "member", "role": "member"});
            arena.members[at] = arena.make(&arena.owner, ORGANIZATION_KEYS, body).await.unwrap();
            let path = format!("/api/operator/projects/{}/system-keys", arena.projects[at]);
            let operator = arena.app.first_keys.operator.expose();
            let system = arena.make(operator, &path, json!({"name": "system"})).await.unwrap();
            arena.system.lock().unwrap().push(system);
        }
        arena
    }

    /// Asks for a key, and notes it if there is one.
    async fn make(&self, caller: &str, path: &str, body: Value) -> Option<i64> {
        let reply = self.app.call_with(caller, ("POST", path), (!body.is_null()).then_some(body), &[]).await;
        assert!([200, 401, 403, 404].contains(&reply.status), "{path}: {}", reply.text);
        if reply.status != 200 {
            return None;
        }
        let key = reply.json();
        let (id, value) = (key["id"].as_i64().unwrap(), key["value"].as_str().unwrap().to_owned());
        // A reply that comes after the end was acknowledged holds a key that is dead already.
        let project = key["project_id"].as_i64();
        let at = project.and_then(|project| self.projects.iter().position(|known| *known == project));
        let has_ended = |at: usize| self.ended[at].load(Ordering::SeqCst);
        assert!(!(has_ended(2) || at.is_some_and(has_ended)) || !is_live(&self.app, &value), "{path} made a live key");
        let mut made = self.made.lock().unwrap();
        if let Some((_, old)) = made.iter().find(|(id, _)| key["replaces"] == *id) {
            assert!(!is_live(&self.app, old), "{path} left the old key alive");
        }
        made.push((id, value));
        Some(id)
    }

    async fn ask(&self, caller: &str, route: (&str, &str), body: Option<Value>) -> Reply {
        let reply = self.app.call_with(caller, route, body, &[]).await;
        assert!([200, 401, 404].contains(&reply.status), "{route:?}: {}", reply.text);
        reply
    }

    /// Notes an acknowledged end, and sees that nothing beneath it lives.
    fn end(&self, at: usize, reply: &Reply) {
        if reply.status != 200 {
            return;
        }
        self.ended[at].store(true, Ordering::SeqCst);
        if at == 2 {
            for (id, value) in self.made.lock().unwrap().iter() {
                assert!(!is_live(&self.app, value), "key {id} outlived its organization");
            }
        }
    }

    async fn step(&self, random: &mut Random) {
        let operator = self.app.first_keys.operator.expose();
        let at = random.below(2) as usize;
        let (project, member) = (self.projects[at], self.members[random.below(2) as usize]);
        let admin = format!("/api/admin/projects/{project}");
        let organization = format!("/api/operator/organizations/{}", self.organization);
        let picked = {
            let made = self.made.lock().unwrap();
            made[random.below(made.len() as u64) as usize].clone()
        };
        match random.below(40) {
            0..8 => {
                let role = ["support", "admin"][random.below(2) as usize];
                self.make(&self.owner, &format!("{admin}/keys"), json!({"name": "x", "role": role})).await;
            }
            8..14 => {
                if is_admin(&self.app, &picked.1) {
                    self.make(&picked.1, "/api/client/keys", json!({"name": "x", "role": "admin"})).await;
                }
            }
            14..17 => {
                self.make(&self.owner, ORGANIZATION_KEYS, json!({"name": "x", "role": "admin"})).await;
            }
            17..20 => {
                let path = format!("/api/operator/projects/{project}/system-keys");
                let made = self.make(operator, &path, json!({"name": "x"})).await;
                self.system.lock().unwrap().extend(made);
            }
            20..23 => {
                let system = self.system.lock().unwrap()[0];
                let path = format!("/api/operator/projects/{project}/system-keys/{system}/rotate");
                if let Some(next) = self.make(operator, &path, Value::Null).await {
                    self.system.lock().unwrap().insert(0, next);
                }
            }
            23..27 => {
                let body = json!({"role": (["support", "admin"][random.below(2) as usize])});
                self.app
                    .call_with(&self.owner, ("PATCH", &format!("{admin}/keys/{}", picked.0)), Some(body), &[])
                    .await;
            }
            27..29 => {
                self.app.call_with(&self.owner, ("DELETE", &format!("{admin}/keys/{}", picked.0)), None, &[]).await;
            }
            29..32 => {
                let role = json!({"role": "admin"});
                self.ask(&self.owner, ("PUT", &format!("{admin}/members/{member}")), Some(role)).await;
            }
            32 => {
                self.ask(&self.owner, ("DELETE", &format!("{admin}/members/{member}")), None).await;
            }
            33 => {
                self.ask(operator, ("POST", &format!("{organization}/suspend")), None).await;
            }
            34..39 => {
                self.ask(operator, ("POST", &format!("{organization}/resume")), None).await;
            }
            _ if random.below(4) > 0 => {}
            _ => {
                let end = format!("{admin}?confirm=true");
                self.end(at, &self.ask(&self.owner, ("DELETE", &end), None).await);
            }
        }
    }
}

fn is_admin(app: &TestApp, value: &str) -> bool {
    let least = keyrack::Requirement::Project { least: keyrack::ProjectRole::Admin };
    app.app.verifier.verify(value.as_bytes(), least).is_ok()
}

/// What the store holds of a key, and of what it belongs to: whether all of that is alive.
async fn is_alive(database: &mut Beside, id: i64) -> bool {
    let alive = format!(
        "SELECT COUNT(*) FROM api_keys JOIN organizations ON organizations.id = api_keys.organization_id \
         LEFT JOIN projects ON projects.id = api_keys.project_id WHERE api_keys.id = {id} \
         AND api_keys.revoked_at IS NULL AND projects.archived_at IS NULL AND organizations.archived_at IS NULL \
         AND organizations.standing = 0"
    );
    database.number(alive).await == 1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_key_lives_beneath_what_ended_or_is_suspended() {
    let app = Arc::new(TestApp::new().await);
    let mut database = app.beside().await;
    let (mut live, mut dead) = (0, 0);
    for round in 0..ROUNDS {
        let arena = Arc::new(Arena::new(Arc::clone(&app), &format!("arena-{round}")).await);
        let mut tasks: Vec<_> = (0..TASKS)
            .map(|task| {
                let arena = Arc::clone(&arena);
                tokio::spawn(async move {
                    let mut random = Random::new(round * 1_000 + task + 1);
                    for _ in 0..STEPS {
                        arena.step(&mut random).await;
                    }
                })
            })
            .collect();
        if round % 3 == 0 {
            let arena = Arc::clone(&arena);
            tasks.push(tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(20 + round * 10)).await;
                let path = format!("/api/operator/organizations/{}?confirm=true", arena.organization);
                let operator = arena.app.first_keys.operator.expose();
                arena.end(2, &arena.ask(operator, ("DELETE", &path), None).await);
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        let made = arena.made.lock().unwrap().split_off(1);
        for (id, value) in made {
            let is_live = is_live(&app, &value);
            assert_eq!(is_live, is_alive(&mut database, id).await, "key {id} of round {round}");
            (live, dead) = if is_live { (live + 1, dead) } else { (live, dead + 1) };
        }
        assert_eq!(app.app.store.verify_audit().await.unwrap().faults, Vec::<String>::new());
    }
    println!("concurrency: {live} live and {dead} dead keys");
    assert!(live > 200 && dead > 200, "{live} live and {dead} dead keys show nothing");
}

// ---- waiting for a turn --------------------------------------------------------------------------------------------

/// What happens while callers wait.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Meanwhile {
    Suspended,
    Archived,
    ProjectArchived,
    Taken,
}

async fn happen(writing: &mut Writing, meanwhile: Meanwhile, member: i64) {
    let by = By { actor: Actor::HOST, request_id: "test".to_owned() };
    let organization = OrganizationId(1);
    let project = ProjectId(1);
    match meanwhile {
        Meanwhile::Suspended => {
            organizations::set_standing(writing, organization, Standing::Suspended, &by).await.unwrap();
        }
        Meanwhile::Archived => drop(organizations::archive(writing, organization, &by).await.unwrap()),
        Meanwhile::ProjectArchived => {
            projects::archive(writing, organization, project, &by).await.unwrap();
        }
        Meanwhile::Taken => {
            let role = keyrack::ProjectRole::Admin;
            let caller = ProjectCaller { project, organization, role };
            projects::take(writing, caller, member, &by).await.unwrap();
        }
    }
}

/// Who asks, method, path, body, and the status after each [`Meanwhile`].
type Call = (&'static str, &'static str, &'static str, Option<&'static str>, [u16; 4]);

/// Every call that makes or changes something, asked before and answered after.
const CALLS: [Call; 12] = [
    ("sk", "POST", "/api/client/keys", Some(r#"{"name": "x", "role": "admin"}"#), [401, 401, 401, 200]),
    ("sk", "PATCH", "/api/client/keys/{key}", Some(r#"{"role": "admin"}"#), [401, 401, 401, 200]),
    ("member", "POST", "/api/admin/projects/1/keys", Some(r#"{"name": "x"}"#), [401, 401, 404, 404]),
    ("member", "PATCH", "/api/admin/projects/1/keys/{key}", Some(r#"{"role": "admin"}"#), [401, 401, 404, 404]),
    ("member", "DELETE", "/api/admin/projects/1/keys/{key}", None, [401, 401, 404, 404]),
    ("owner", "POST", "/api/admin/projects/1/keys", Some(r#"{"name": "x"}"#), [401, 401, 404, 200]),
    ("owner", "POST", ORGANIZATION_KEYS, Some(r#"{"name": "x"}"#), [401, 401, 200, 200]),
    ("owner", "PATCH", "/api/admin/projects/1", Some(r#"{"name": "x"}"#), [401, 401, 404, 200]),
    (
        "owner",
        "POST",
        "/api/admin/projects",
        Some(r#"{"name": "x", "locale": "en", "timezone": "UTC"}"#),
        [401, 401, 200, 200],
    ),
    ("owner", "PUT", "/api/admin/projects/1/members/{member}", Some(r#"{"role": "admin"}"#), [401, 401, 404, 200]),
    ("operator", "POST", "/api/operator/projects/1/system-keys", Some(r#"{"name": "x"}"#), [200, 404, 404, 200]),
    ("operator", "POST", "/api/operator/projects/1/system-keys/{system}/rotate", None, [200, 404, 404, 200]),
];

async fn ask_and_wait(
    meanwhile: Meanwhile,
    (who, method, path, body, status): Call,
    headers: &'static [(&'static str, &'static str)],
) {
    let app = Arc::new(TestApp::asked_once().await);
    let (key, _) = app.create(json!({"name": "x"})).await;
    let (system, _) = app.system_key(json!({"name": "x"})).await;
    let (member, its_value) = app.organization_key("member").await;
    let place = format!("/api/admin/projects/1/members/{member}");
    assert_eq!(app.as_owner(("PUT", &place), Some(json!({"role": "admin"}))).await.status, 200);
    let path = path.replace("{key}", &key.to_string()).replace("{system}", &system.to_string());
    let path = path.replace("{member}", &member.to_string());
    let caller = match who {
        "sk" => app.admin().to_owned(),
        "member" => its_value,
        "owner" => app.first_keys.organization.expose().to_owned(),
        _ => app.first_keys.operator.expose().to_owned(),
    };
    let mut held = app.app.store.begin(Need::Revocation).await.unwrap();
    let waiting = tokio::spawn({
        let (app, path) = (Arc::clone(&app), path.clone());
        let body = body.map(|body| serde_json::from_str(body).unwrap());
        async move { app.call_with(&caller, (method, &path), body, headers).await }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!waiting.is_finished(), "{method} {path} did not wait");
    happen(&mut held, meanwhile, member).await;
    held.commit().await.unwrap();
    let reply = waiting.await.unwrap();
    assert_eq!(reply.status, status[meanwhile as usize], "{who} {method} {path}, {meanwhile:?}: {}", reply.text);
    if let Some(value) = reply.json()["value"].as_str().filter(|value| !value.contains('*')) {
        let is_above = meanwhile == Meanwhile::Taken || value.starts_with("ok_");
        assert_eq!(is_live(&app, value), is_above, "{who} {method} {path}, {meanwhile:?}");
    }
    assert_eq!(app.app.store.verify_audit().await.unwrap().faults, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_a_turn_is_judged_when_it_has_come() {
    for call in CALLS {
        for meanwhile in [Meanwhile::Suspended, Meanwhile::Archived, Meanwhile::ProjectArchived, Meanwhile::Taken] {
            ask_and_wait(meanwhile, call, &[]).await;
            if call.1 != "DELETE" && call.1 != "PUT" {
                ask_and_wait(meanwhile, call, &[("Idempotency-Key", "waiting")]).await;
            }
        }
    }
}
