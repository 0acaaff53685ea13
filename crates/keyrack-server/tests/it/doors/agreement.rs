//! One table of cases through every door: the same verdict at each.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use expect_test::expect;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response};
use keyrack::layer::KeyrackLayer;
use keyrack::{Index, Lease, OrganizationId, ProjectId, Verifier};
use keyrack_server::clock::{Clock as _, SystemClock};
use keyrack_server::config::LimitHeaders;
use serde_json::{Value, json};
use tokio::net::{TcpStream, UnixStream};
use tower::{Layer as _, ServiceExt as _, service_fn};

use super::super::app::TestApp;
use super::{Answer, Opened, head, policy};
use crate::wire::http2::{Sender, speak};

#[derive(Clone)]
struct Case {
    name: &'static str,
    key: String,
    method: &'static str,
    path: &'static str,
    policy: Option<&'static str>,
    project: Option<&'static str>,
    organization: Option<&'static str>,
}

/// What a door was asked, in whatever version of HTTP.
struct Asked {
    method: &'static str,
    target: String,
    fields: Vec<(&'static str, String)>,
    body: String,
}

fn code(answer: &Answer) -> String {
    match answer.field("x-keyrack-reason") {
        Some(reason) => reason.to_owned(),
        None => {
            assert_eq!(answer.status, 200, "{answer:?}");
            "VALID".to_owned()
        }
    }
}

/// The code in a body of the doors that answer with one.
fn told(answer: &Answer) -> String {
    match answer.field("content-type") {
        // Introspection has no body for these.
        Some("application/problem+json") => code(answer),
        _ => {
            let body = answer.json();
            let told = body["code"].as_str().or(body["results"][0]["code"].as_str());
            told.unwrap_or(if body["active"] == true { "VALID" } else { "inactive" }).to_owned()
        }
    }
}

impl Asked {
    fn post(target: &str, body: String) -> Self {
        Self { method: "POST", target: target.to_owned(), fields: vec![], body }
    }

    fn over_http1(&self, doors: &Opened) -> [Answer; 2] {
        let fields: Vec<_> = self.fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let head = head(self.method, &self.target, &fields);
        [doors.send(&head, &self.body), doors.send_locally(&head, &self.body)]
    }

    async fn over_http2(&self, sender: &mut Sender) -> Answer {
        let mut request = Request::builder().method(self.method).uri(format!("http://keyrack.test{}", self.target));
        for (name, value) in &self.fields {
            request = request.header(*name, value);
        }
        let body = Full::new(self.body.clone().into());
        let (parts, body) = sender.send_request(request.body(body).unwrap()).await.unwrap().into_parts();
        let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        let field = |(name, value): (&hyper::header::HeaderName, &hyper::header::HeaderValue)| {
            (name.as_str().to_owned(), value.to_str().unwrap().to_owned())
        };
        Answer { status: parts.status.as_u16(), fields: parts.headers.iter().map(field).collect(), body }
    }
}

impl Case {
    fn selectors(&self) -> String {
        let policy = self.policy.map(|name| format!("/policy/{name}")).unwrap_or_default();
        let project = self.project.map(|id| format!("/project/{id}")).unwrap_or_default();
        let organization = self.organization.map(|id| format!("/organization/{id}")).unwrap_or_default();
        policy + &project + &organization
    }

    fn question(&self) -> Value {
        let mut question = json!({"key": self.key, "method": self.method, "path": self.path});
        if let Some(policy) = self.policy {
            question["policy"] = policy.into();
        }
        for (name, id) in [("project_id", self.project), ("organization_id", self.organization)] {
            if let Some(id) = id {
                question[name] = id.parse::<u64>().unwrap().into();
            }
        }
        question
    }

    /// The question at each door.
    fn asked(&self) -> Vec<(&'static str, Asked)> {
        let selectors = self.selectors();
        let bearer = ("Authorization", format!("Bearer {}", self.key));
        let fields = |more: &[(&'static str, &str)]| {
            let more = more.iter().map(|(name, value)| (*name, (*value).to_owned()));
            [bearer.clone()].into_iter().chain(more).collect::<Vec<_>>()
        };
        let get = |door: &str, fields| Asked {
            method: "GET",
            target: format!("/v1/auth/{door}{selectors}"),
            fields,
            body: String::new(),
        };
        let forwarded = fields(&[
            ("X-Forwarded-Method", self.method),
            ("X-Forwarded-Uri", self.path),
            ("X-Forwarded-Host", "api.example.com"),
            ("X-Forwarded-For", "203.0.113.9"),
        ]);
        let envoy = format!("/v1/auth/envoy{selectors}/-{}", self.path);
        let mut asked = vec![
            ("verify", Asked::post("/v1/verify", self.question().to_string())),
            ("batch", Asked::post("/v1/verify/batch", json!({"requests": [self.question()]}).to_string())),
            ("nginx", get("nginx", fields(&[("X-Original-Method", self.method), ("X-Original-URI", self.path)]))),
            ("forward", get("forward", forwarded.clone())),
            ("haproxy", get("haproxy", forwarded)),
            ("envoy", Asked { method: self.method, target: envoy, fields: fields(&[]), body: String::new() }),
        ];
        // It judges the key and nothing else.
        if selectors.is_empty() {
            let asks = Asked::post("/v1/introspect", format!("token={}", self.key));
            let form = vec![("Content-Type", "application/x-www-form-urlencoded".to_owned())];
            asked.push(("introspect", Asked { fields: form, ..asks }));
        }
        asked
    }

    /// The code that each door gives.
    async fn ask(&self, doors: &Opened) -> Vec<(String, String)> {
        let mut over_tcp = speak(TcpStream::connect(doors.address).await.unwrap()).await;
        let mut over_unix = speak(UnixStream::connect(&doors.socket).await.unwrap()).await;
        let mut codes = Vec::new();
        for (door, asked) in self.asked() {
            let [tcp, unix] = asked.over_http1(doors);
            let mut answers = vec![("tcp", tcp), ("unix", unix)];
            // Envoy's door is closed there; see `a_path_that_http2_may_have_cut_is_not_judged`.
            if door != "envoy" {
                answers.push(("tcp, HTTP/2", asked.over_http2(&mut over_tcp).await));
                answers.push(("unix, HTTP/2", asked.over_http2(&mut over_unix).await));
            }
            for (way, answer) in answers {
                let code = if asked.body.is_empty() { code(&answer) } else { told(&answer) };
                codes.push((format!("{door}, {way}"), code));
            }
        }
        if let Some(code) = self.through_the_layer(&doors.verifier).await {
            codes.push(("layer".to_owned(), code));
        }
        codes
    }

    /// What the layer of a service says; nothing of a path that no service can be asked for.
    async fn through_the_layer(&self, verifier: &Arc<Verifier>) -> Option<String> {
        let bearer = format!("Bearer {}", self.key);
        let request = Request::builder().method(self.method).uri(self.path).header("authorization", bearer);
        let request = request.body(Body::empty()).ok()?;
        let id = |id: &str| id.parse().unwrap_or(0);
        let mut layer = KeyrackLayer::new(Arc::clone(verifier));
        layer = self.policy.map_or(layer.clone(), |name| layer.policy(name));
        layer = self.project.map_or(layer.clone(), |project| layer.project(ProjectId(id(project))));
        layer = self.organization.map_or(layer.clone(), |found| layer.organization(OrganizationId(id(found))));
        let inner = service_fn(|_| async { Ok::<_, std::convert::Infallible>(Response::new(Body::empty())) });
        let response = layer.layer(inner).oneshot(request).await.unwrap();
        let reason = response.headers().get("x-keyrack-reason").map(|reason| reason.to_str().unwrap().to_owned());
        assert_eq!(reason.is_none(), response.status() == 200, "{response:?}");
        Some(reason.unwrap_or_else(|| "VALID".to_owned()))
    }

    /// The one code that all doors give. Introspection does not know of the request, and tells no reason.
    async fn agreed(&self, doors: &Opened) -> String {
        let codes = self.ask(doors).await;
        let agreed = codes[0].1.clone();
        for (door, code) in &codes {
            let is_so = match (door.starts_with("introspect"), agreed.as_str()) {
                (true, "FORBIDDEN") => code == "VALID" || code == "inactive",
                (true, "NOT_FOUND" | "DISABLED") => code == "inactive",
                _ => *code == agreed,
            };
            assert!(is_so, "{}: {agreed}, but {code} at {door}", self.name);
        }
        agreed
    }
}

fn case(name: &'static str, key: &str, method: &'static str, path: &'static str) -> Case {
    Case { name, key: key.to_owned(), method, path, policy: None, project: None, organization: None }
}

/// How often a case is asked: at seven doors, over TCP and the Unix socket, over HTTP/1 and HTTP/2 (but for Envoy's door), and
/// by the layer.
const TIMES: u64 = 6 * 4 + 2 + 1;

/// A key of an organization that is suspended.
async fn suspended(app: &TestApp) -> String {
    let (id, owner) = app.organization("late-payer").await;
    let project = json!({"name": "Shop", "locale": "en-GB", "timezone": "Europe/London"});
    let project = app.call_with(&owner, ("POST", "/api/admin/projects"), Some(project), &[]).await.json();
    let keys = format!("/api/admin/projects/{}/keys", project["id"]);
    let key = app.call_with(&owner, ("POST", &keys), Some(json!({"name": "x"})), &[]).await.json();
    let suspended = app.as_operator(("POST", &format!("/api/operator/organizations/{id}/suspend")), None).await;
    assert_eq!(suspended.status, 200);
    key["value"].as_str().unwrap().to_owned()
}

/// A secret key that was narrowed to what publishable ones may do.
async fn narrowed(app: &TestApp) -> String {
    let (id, value) = app.create(json!({"name": "narrowed", "role": "editor"})).await;
    let path = format!("/api/client/keys/{id}");
    assert_eq!(app.call(("PATCH", &path), Some(json!({"scope": "public"}))).await.status, 200);
    value
}

async fn cases(app: &TestApp) -> Vec<Case> {
    let (_, support) = app.create(json!({"name": "support"})).await;
    let (_, editor) = app.create(json!({"name": "editor", "role": "editor"})).await;
    let (_, public) = app.create(json!({"name": "public", "scope": "public"})).await;
    let (_, holder) = app.create(json!({"name": "holder", "permissions": ["exports:create"]})).await;
    let (_, limited) =
        app.create(json!({"name": "limited", "limits": [{"name": "r", "limit": TIMES, "period": "31d"}]})).await;
    let (_, used_up) =
        app.create(json!({"name": "used up", "limits": [{"name": "q", "limit": TIMES, "period": "month"}]})).await;
    let (dead_id, dead) = app.create(json!({"name": "dead"})).await;
    app.call(("DELETE", &format!("/api/client/keys/{dead_id}")), None).await;
    let (suspended, narrowed) = (suspended(app).await, narrowed(app).await);
    let admin = app.admin().to_owned();
    let operator = app.first_keys.operator.expose().to_owned();
    let mut unknown = support.clone();
    unknown.replace_range(10..11, if &unknown[10..11] == "7" { "8" } else { "7" });
    vec![
        case("a support key reads", &support, "GET", "/things"),
        case("a support key does not write", &support, "POST", "/things"),
        case("an editor writes", &editor, "DELETE", "/things/4"),
        case("an editor is no admin", &editor, "GET", "/admin/users"),
        case("an admin is", &admin, "PUT", "/admin/users/7"),
        case("a rule opens a write to support", &support, "POST", "/events"),
        case("and to publishable keys", &public, "POST", "/events?batch=1"),
        case("not with another method", &public, "GET", "/events"),
        case("not elsewhere", &public, "GET", "/things"),
        case("a permission that is not held", &support, "POST", "/exports/7"),
        case("a permission that is", &holder, "POST", "/exports/7"),
        case("an admin holds all", &admin, "POST", "/exports/7"),
        case("a path in two ways", &editor, "GET", "/things/../admin/users"),
        case("a path with two slashes", &editor, "GET", "//things"),
        case("an encoded slash", &editor, "GET", "/things%2fx"),
        case("a parameter of a segment", &editor, "GET", "/things;x=1"),
        case("another letter case than the rule's", &editor, "GET", "/Admin/users"),
        case("a trailing slash that the rule has not", &editor, "POST", "/events/"),
        case("no path", &editor, "GET", "things"),
        case("a dead key", &dead, "GET", "/things"),
        case("no key of ours", "hello", "GET", "/things"),
        case("an unknown key", &unknown, "GET", "/things"),
        case("a key of another surface", &operator, "GET", "/things"),
        Case { policy: Some("strict"), ..case("a policy that closes all", &admin, "GET", "/things") },
        Case { policy: Some("none"), ..case("a policy that is not there", &admin, "GET", "/things") },
        Case { project: Some("1"), ..case("its own project", &support, "GET", "/things") },
        Case { project: Some("2"), ..case("another project", &support, "GET", "/things") },
        Case { project: Some("99999999999"), ..case("a project that cannot be", &support, "GET", "/things") },
        Case { organization: Some("1"), ..case("its own organization", &support, "GET", "/things") },
        Case { organization: Some("2"), ..case("another organization", &support, "GET", "/things") },
        case("a key of a suspended organization", &suspended, "GET", "/things"),
        case("a narrowed key where publishable ones may", &narrowed, "POST", "/events"),
        case("a narrowed key where they may not", &narrowed, "GET", "/things"),
        case("too often", &limited, "GET", "/things"),
        case("more than its quota", &used_up, "GET", "/things"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_door_gives_the_same_verdict() {
    let doors = Opened::new().await;
    let (_, early) = doors.key(json!({"name": "early", "scope": "public"})).await;
    doors.apply(1, policy());
    let mut cases = cases(&doors.app).await;
    cases.push(case("what was opened after a publishable key was issued", &early, "POST", "/events"));
    let mut table = String::new();
    for case in cases {
        if matches!(case.name, "too often" | "more than its quota") {
            // There is just enough for each door once.
            assert_eq!(case.agreed(&doors).await, "VALID");
        }
        table += &format!("{:<50} {}\n", case.name, case.agreed(&doors).await);
    }
    expect![[r#"
        a support key reads                                VALID
        a support key does not write                       FORBIDDEN
        an editor writes                                   VALID
        an editor is no admin                              FORBIDDEN
        an admin is                                        VALID
        a rule opens a write to support                    VALID
        and to publishable keys                            VALID
        not with another method                            FORBIDDEN
        not elsewhere                                      FORBIDDEN
        a permission that is not held                      FORBIDDEN
        a permission that is                               VALID
        an admin holds all                                 VALID
        a path in two ways                                 FORBIDDEN
        a path with two slashes                            FORBIDDEN
        an encoded slash                                   FORBIDDEN
        a parameter of a segment                           FORBIDDEN
        another letter case than the rule's                FORBIDDEN
        a trailing slash that the rule has not             FORBIDDEN
        no path                                            FORBIDDEN
        a dead key                                         NOT_FOUND
        no key of ours                                     NOT_FOUND
        an unknown key                                     NOT_FOUND
        a key of another surface                           NOT_FOUND
        a policy that closes all                           FORBIDDEN
        a policy that is not there                         FORBIDDEN
        its own project                                    VALID
        another project                                    NOT_FOUND
        a project that cannot be                           NOT_FOUND
        its own organization                               VALID
        another organization                               NOT_FOUND
        a key of a suspended organization                  DISABLED
        a narrowed key where publishable ones may          VALID
        a narrowed key where they may not                  FORBIDDEN
        too often                                          RATE_LIMITED
        more than its quota                                USAGE_EXCEEDED
        what was opened after a publishable key was issued FORBIDDEN
    "#]]
    .assert_eq(&table);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_door_tells_anything_of_a_key_that_cannot_be_told() {
    let doors = Opened::new().await;
    let (_, key) = doors.key(json!({"name": "x"})).await;
    let case = case("x", &key, "GET", "/things");
    assert_eq!(case.agreed(&doors).await, "VALID");
    let past = SystemClock.moment().boot - Duration::from_millis(1);
    doors.verifier.index().renew(Lease { heard: past, fresh_until: past, trusted_until: past });
    assert_eq!(case.agreed(&doors).await, "UNAVAILABLE", "the lease is over");
    let later = past + Duration::from_secs(600);
    doors.verifier.index().renew(Lease { heard: past, fresh_until: later, trusted_until: later });
    assert_eq!(case.agreed(&doors).await, "VALID");
    doors.verifier.index().distrust();
    assert_eq!(case.agreed(&doors).await, "UNAVAILABLE", "it is not trusted");

    let filling = Arc::new(Verifier::new(Index::with_capacity(0)));
    let doors = Opened::over(TestApp::new().await, filling, "127.0.0.0/8", LimitHeaders::X);
    assert_eq!(case.agreed(&doors).await, "UNAVAILABLE", "it is not loaded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_seen_by_the_next_verification() {
    let doors = Opened::new().await;
    let (id, key) = doors.key(json!({"name": "x", "role": "editor"})).await;
    assert_eq!(doors.nginx(&key, "POST", "/x").status, 200);
    let path = format!("/api/client/keys/{id}");
    doors.app.call(("PATCH", &path), Some(json!({"role": "support"}))).await;
    assert_eq!(doors.nginx(&key, "POST", "/x").field("x-keyrack-detail"), Some("role"));
    doors.app.call(("DELETE", &path), None).await;
    assert_eq!(doors.nginx(&key, "GET", "/x").field("x-keyrack-reason"), Some("NOT_FOUND"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reach_of_a_publishable_key_is_frozen_until_somebody_widens_it() {
    let doors = Opened::new().await;
    let open = |paths: &[&str]| {
        let rules: Vec<_> = paths
            .iter()
            .map(|path| json!({"methods": ["GET"], "path": path, "role": "support", "public": true}))
            .collect();
        json!({"policies": [{"name": "default", "read": "support", "write": "editor", "rules": rules}]})
    };
    doors.apply(1, open(&["/one"]));
    let (_, early) = doors.key(json!({"name": "early", "scope": "public"})).await;
    doors.apply(2, open(&["/one", "/two"]));
    let (_, late) = doors.key(json!({"name": "late", "scope": "public"})).await;
    let passes = |key: &str, path: &str| doors.nginx(key, "GET", path).status == 200;
    assert!(passes(&early, "/one") && !passes(&early, "/two"));
    assert!(passes(&late, "/one") && passes(&late, "/two"));
    doors.apply(3, open(&["/two"]));
    assert!(!passes(&early, "/one") && !passes(&late, "/one"), "what is closed is closed to all at once");
    assert!(!passes(&early, "/two") && passes(&late, "/two"));

    let keys = doors.app.call(("GET", "/api/client/keys?q=early"), None).await.json();
    assert_eq!(keys["results"][0]["policy_version"], 1);
    let path = format!("/api/client/keys/{}", keys["results"][0]["id"]);
    let refused = doors.app.call(("PATCH", &path), Some(json!({"policy_version": 4}))).await;
    assert_eq!((refused.status, &refused.json()["errors"][0]["param"]), (422, &json!("policy_version")));
    doors.app.call(("PATCH", &path), Some(json!({"policy_version": 3}))).await;
    assert!(passes(&early, "/two"));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_verdict_needs_the_store() {
    let doors = Opened::new().await;
    doors.apply(1, policy());
    let limits = json!([{"name": "r", "limit": 100, "period": "1m"}, {"name": "d", "limit": 100, "period": "day"}]);
    let (_, secret) = doors.key(json!({"name": "s", "role": "editor", "limits": limits})).await;
    let (_, public) = doors.key(json!({"name": "p", "scope": "public"})).await;
    // From here on, whatever touches the store fails.
    doors.app.app.store.close().await;
    doors.app.lose_the_store().await;
    assert_eq!(doors.app.as_operator(("GET", "/api/operator/organizations"), None).await.status, 503);
    let stranger = keyrack::ApiKey::generate(keyrack::KeyKind::Secret, &[7; keyrack::ApiKey::RANDOM_BYTES]);
    for (key, method, path, code) in [
        (secret.as_str(), "POST", "/events", "VALID"),
        (secret.as_str(), "GET", "/admin/x", "FORBIDDEN"),
        (public.as_str(), "GET", "/users", "FORBIDDEN"),
        (stranger.expose(), "POST", "/events", "NOT_FOUND"),
        ("sk_none", "POST", "/events", "NOT_FOUND"),
    ] {
        assert_eq!(case("without", key, method, path).agreed(&doors).await, code, "{method} {path}");
    }
}
