//! Two tenants with something of every kind, and everybody who may call for one of them.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Question;
use crate::app::{Reply, TestApp};

const KEYS: &str = "/api/admin/organizations/api-keys";

/// Numbers that belong together.
#[derive(Clone, Debug, Default)]
pub(super) struct Reach {
    pub(super) projects: Vec<i64>,
    pub(super) keys: Vec<i64>,
}

impl Reach {
    fn and(&self, other: &Self) -> Self {
        let projects = [self.projects.clone(), other.projects.clone()].concat();
        Self { projects, keys: [self.keys.clone(), other.keys.clone()].concat() }
    }
}

/// What must stay unseen, and where it is.
pub(super) struct Hidden {
    /// Stands in every text of it. Has letters that no random text of the service has.
    pub(super) mark: &'static str,
    pub(super) organization: i64,
    pub(super) reach: Reach,
    /// The idempotency keys that were used there.
    pub(super) once: Vec<String>,
    masks: BTreeSet<String>,
    owner: String,
}

/// Somebody who calls for the first tenant.
pub(super) struct Caller {
    pub(super) who: String,
    value: String,
    pub(super) own: Reach,
    /// Whether the second project of its organization is as foreign to it as another tenant.
    is_of_one_project: bool,
    asked: RefCell<BTreeSet<String>>,
}

impl Caller {
    pub(super) fn foreign<'w>(&self, world: &'w World) -> &'w Reach {
        if self.is_of_one_project { &world.both } else { &world.other.reach }
    }

    /// What the paths begin with that its key is for.
    pub(super) fn surface(&self) -> &'static str {
        if self.value.starts_with("sk_") { "/api/client" } else { "/api/admin" }
    }

    /// What must not stand in any reply, in lower case.
    pub(super) fn unseen(&self, world: &World) -> Vec<String> {
        let hidden = if self.is_of_one_project { vec![&world.other, &world.sibling] } else { vec![&world.other] };
        let texts = hidden.iter().flat_map(|hidden| hidden.masks.iter().cloned().chain([hidden.mark.to_owned()]));
        texts.collect()
    }

    pub(super) fn has_asked(&self, once: Option<&str>) -> bool {
        once.is_some_and(|once| self.asked.borrow().contains(once))
    }
}

pub(super) struct World {
    pub(super) app: TestApp,
    pub(super) other: Hidden,
    sibling: Hidden,
    both: Reach,
    pub(super) callers: Vec<Caller>,
    /// Cursors of lists that are not the caller's, or not the list that is asked for.
    pub(super) cursors: Vec<String>,
}

impl World {
    pub(super) async fn new() -> Self {
        let app = TestApp::new().await;
        let (organization, owner) = app.organization("zuqlox-other").await;
        let mut other = Hidden::new("zuqlox", organization, owner);
        for _ in 0..2 {
            other.furnish(&app).await;
        }
        let own = app.first_keys.organization.expose().to_owned();
        let mut sibling = Hidden::new("vukwil", 1, own);
        sibling.furnish(&app).await;
        // The first organization's own keys are foreign to nobody there; only the project's are the sibling's.
        let is_of_project = async |id: &i64| {
            let path = format!("/api/admin/projects/{}/keys/{id}", sibling.reach.projects[0]);
            app.as_owner(("GET", &path), None).await.status == 200
        };
        let mut keys = Vec::new();
        for id in &sibling.reach.keys {
            if is_of_project(id).await {
                keys.push(*id);
            }
        }
        sibling.reach.keys = keys;
        let both = other.reach.and(&sibling.reach);
        let callers = callers(&app).await;
        let mut world = Self { app, other, sibling, both, callers, cursors: Vec::new() };
        world.gather_cursors().await;
        world
    }

    pub(super) async fn send(&self, caller: &Caller, method: &str, path: &str, question: &Question) -> Reply {
        let headers: Vec<_> = question.once.iter().map(|once| ("Idempotency-Key", once.as_str())).collect();
        self.app.call_with(&caller.value, (method, path), question.body.clone(), &headers).await
    }

    /// From now on what is kept under this name may be the caller's own.
    pub(super) fn note(&self, caller: &Caller, once: Option<&str>) {
        caller.asked.borrow_mut().extend(once.map(str::to_owned));
    }

    /// Everything of the other tenant, and everything of the sibling project.
    pub(super) async fn snapshots(&self) -> (String, String) {
        let Hidden { organization, reach, owner, .. } = &self.other;
        let mut other = vec![self.operator(&format!("/api/operator/organizations/{organization}")).await];
        for path in ["/api/admin/organizations/me", KEYS, "/api/admin/projects", "/api/admin/audit-events"] {
            other.push(self.all(owner, path).await);
        }
        for project in &reach.projects {
            other.extend(self.project(owner, *project).await);
        }
        let project = self.sibling.reach.projects[0];
        let mut sibling = self.project(&self.sibling.owner, project).await;
        let its_admin = format!("/api/admin/audit-events?limit=-1&target=project:{project}");
        sibling.push(self.app.as_owner(("GET", &its_admin), None).await.text);
        (other.join("\n"), sibling.join("\n"))
    }

    async fn project(&self, owner: &str, project: i64) -> Vec<String> {
        let path = format!("/api/admin/projects/{project}");
        let read = self.app.call_with(owner, ("GET", &path), None, &[]).await.text;
        let system = self.operator(&format!("/api/operator/projects/{project}/system-keys?limit=-1")).await;
        vec![
            read,
            system,
            self.all(owner, &format!("{path}/keys")).await,
            self.all(owner, &format!("{path}/members")).await,
        ]
    }

    async fn all(&self, owner: &str, path: &str) -> String {
        let query = if path.ends_with("/me") { "" } else { "?limit=-1" };
        let reply = self.app.call_with(owner, ("GET", &format!("{path}{query}")), None, &[]).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text);
        reply.text
    }

    async fn operator(&self, path: &str) -> String {
        let reply = self.app.as_operator(("GET", path), None).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text);
        reply.text
    }

    /// Both cursors of the middle of every list of the other tenant and of the first one's, in every order.
    async fn gather_cursors(&mut self) {
        let mut lists = Vec::new();
        for (owner, reach) in [(&self.other.owner, &self.other.reach), (&self.sibling.owner, &self.sibling.reach)] {
            let projects = reach.projects.iter().flat_map(|project| {
                let path = format!("/api/admin/projects/{project}");
                [format!("{path}/keys"), format!("{path}/members")]
            });
            let fixed = [KEYS, "/api/admin/projects", "/api/admin/audit-events"].map(str::to_owned);
            lists.extend(fixed.into_iter().chain(projects).map(|path| (owner.clone(), path)));
        }
        for (owner, path) in lists {
            for order in ["", "&direction=asc", "&sort=id", "&sort=created_at&direction=asc"] {
                let first = self.app.call_with(&owner, ("GET", &format!("{path}?limit=1{order}")), None, &[]).await;
                let next = first.json()["nextCursor"].as_str().map(str::to_owned);
                let Some(next) = next else { continue };
                let second = format!("{path}?limit=1{order}&cursor={next}");
                let second = self.app.call_with(&owner, ("GET", &second), None, &[]).await.json();
                self.cursors.extend(second["prevCursor"].as_str().map(str::to_owned));
                self.cursors.push(next);
            }
        }
        assert!(self.cursors.len() > 60, "{} cursors", self.cursors.len());
    }
}

impl Hidden {
    fn new(mark: &'static str, organization: i64, owner: String) -> Self {
        let (reach, once, masks) = (Reach::default(), Vec::new(), BTreeSet::new());
        Self { mark, organization, reach, once, masks, owner }
    }

    /// Makes one more project, with keys of every kind and members.
    async fn furnish(&mut self, app: &TestApp) {
        let mark = self.mark;
        let nth = self.reach.projects.len();
        let fields = json!({
            "name": format!("{mark} shop"), "locale": "en", "timezone": "UTC", "description": format!("of {mark}"),
            "website_url": format!("https://{mark}.example/"), "text_opt_out_message": format!("{mark} stop"),
            "text_help_message": format!("{mark} help"), "deeplink_mirror_url": format!("https://{mark}.example/d"),
        });
        let once = format!("once {mark} project {nth}");
        let project = self.make(app, "/api/admin/projects", fields, Some(once)).await["id"].as_i64().unwrap();
        self.reach.projects.push(project);
        let keys = format!("/api/admin/projects/{project}/keys");
        let label = |role: &str| json!({"name": format!("{mark} {role}"), "description": mark, "role": role});
        for role in ["support", "editor", "admin"] {
            let key = self.make(app, &keys, label(role), Some(format!("once {mark} {role} {nth}"))).await;
            if role == "admin" {
                self.by_its_own(app, key["value"].as_str().unwrap(), nth).await;
            }
        }
        let mut public = label("support");
        public["scope"] = "public".into();
        self.make(app, &keys, public, None).await;
        let dead = self.make(app, &keys, label("editor"), None).await["id"].clone();
        self.owner(app, ("DELETE", &format!("{keys}/{dead}")), None).await;
        for role in ["member", "admin"] {
            let id = self.make(app, KEYS, label(role), None).await["id"].as_i64().unwrap();
            if role == "member" {
                let path = format!("/api/admin/projects/{project}/members/{id}");
                self.owner(app, ("PUT", &path), Some(json!({"role": "editor"}))).await;
                self.owner(app, ("PATCH", &format!("{KEYS}/{id}")), Some(json!({"description": "gone"}))).await;
            }
        }
        let path = format!("/api/operator/projects/{project}/system-keys");
        let system = app.as_operator(("POST", &path), Some(label("publisher"))).await;
        self.note(&system.json());
    }

    /// What a project's own admin key makes, some of it without the mark: the sealed reply is what must not be seen.
    async fn by_its_own(&mut self, app: &TestApp, key: &str, nth: usize) {
        for (name, once) in [("plain", "once plain"), ("plain", "1")] {
            let once = format!("{once} {nth}");
            let headers = [("Idempotency-Key", once.as_str())];
            let made = app.call_with(key, ("POST", "/api/client/keys"), Some(json!({"name": name})), &headers).await;
            assert_eq!(made.status, 200, "{}", made.text);
            self.note(&made.json());
            self.once.push(once);
        }
    }

    async fn make(&mut self, app: &TestApp, path: &str, body: Value, once: Option<String>) -> Value {
        let headers: Vec<_> = once.iter().map(|once| ("Idempotency-Key", once.as_str())).collect();
        let made = app.call_with(&self.owner, ("POST", path), Some(body), &headers).await;
        assert_eq!(made.status, 200, "{path}: {}", made.text);
        let made = made.json();
        if made["value"].is_string() {
            self.note(&made);
        }
        self.once.extend(once);
        made
    }

    fn note(&mut self, key: &Value) {
        let value = key["value"].as_str().unwrap();
        self.masks.insert(format!("{}****{}", &value[..3], &value[31..]).to_lowercase());
        self.reach.keys.push(key["id"].as_i64().unwrap());
    }

    async fn owner(&self, app: &TestApp, route: (&str, &str), body: Option<Value>) {
        let reply = app.call_with(&self.owner, route, body, &[]).await;
        assert_eq!(reply.status, 200, "{route:?}: {}", reply.text);
    }
}

/// Everybody who calls for the first organization, with its first project.
async fn callers(app: &TestApp) -> Vec<Caller> {
    let own_keys = app.call(("GET", "/api/client/keys?limit=-1"), None).await.json();
    let ids = |page: &Value| -> Vec<i64> {
        page["results"].as_array().unwrap().iter().map(|key| key["id"].as_i64().unwrap()).collect()
    };
    let project = Reach { projects: vec![1], keys: ids(&own_keys) };
    let mut callers = Vec::new();
    let mut caller = |who: &str, value: &str, is_of_one_project| {
        let (value, own, asked) = (value.to_owned(), project.clone(), RefCell::default());
        callers.push(Caller { who: who.to_owned(), value, own, is_of_one_project, asked });
    };
    caller("the project's admin key", app.admin(), true);
    for role in ["support", "editor"] {
        caller(role, &app.create(json!({"name": role, "role": role})).await.1, true);
    }
    caller("an owner", app.first_keys.organization.expose(), false);
    caller("an admin", &app.organization_key("admin").await.1, false);
    caller("a member of nothing", &app.organization_key("member").await.1, true);
    for role in ["support", "admin"] {
        let (id, member) = app.organization_key("member").await;
        let path = format!("/api/admin/projects/1/members/{id}");
        assert_eq!(app.as_owner(("PUT", &path), Some(json!({"role": role}))).await.status, 200);
        caller(&format!("a member as {role}"), &member, true);
    }
    callers
}
