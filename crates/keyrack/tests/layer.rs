//! The layer around real services: what passes, what is refused and how, and what the service behind it sees.
#![expect(clippy::unwrap_used, reason = "a test that goes wrong says where")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{self, HeaderMap};
use axum::routing::any;
use keyrack::layer::KeyrackLayer;
use keyrack::policy::{Document, Least, NamedPolicy, Policies, Rule};
use keyrack::{
    ApiKey, Holder, Index, KeyChange, KeyDigest, KeyId, KeyKind, KeyRecord, Limit, LimitPlan, Now, OrganizationId,
    Period, PolicyVersion, ProjectId, ProjectRole, Scope, VerifiedKey, Verifier,
};
use tower::{Service as _, ServiceExt as _};

/// A verifier with a policy, a clock that is turned by hand, and a secret key that may be used twice a minute.
struct Installed {
    verifier: Arc<Verifier>,
    minutes: Arc<AtomicU64>,
    key: ApiKey,
}

impl Installed {
    fn new() -> Self {
        let verifier = Arc::new(Verifier::new(Index::with_capacity(4)));
        let rule = |path: &str, role, public| Rule {
            methods: vec!["POST".to_owned()],
            path: path.to_owned(),
            role,
            public,
            permission: None,
        };
        let rules = vec![rule("/events", ProjectRole::Support, true), rule("/admin", ProjectRole::Admin, false)];
        let (read, write) = (Least::Role(ProjectRole::Support), Least::Role(ProjectRole::Editor));
        let default = NamedPolicy { name: "default".to_owned(), read, write, rules };
        let closed = NamedPolicy { name: "closed".to_owned(), read: Least::None, write: Least::None, rules: vec![] };
        let policies = Policies::compile(&Document { policies: vec![default, closed] }).unwrap();
        verifier.set_policies(verifier.policies().followed_by(PolicyVersion(1), policies));
        verifier.index().mark_loaded();
        let key = issue(&verifier, 1, KeyKind::Secret, Scope::Secret, ProjectRole::Editor);
        Self { verifier, minutes: Arc::default(), key }
    }

    fn layer(&self) -> KeyrackLayer {
        let minutes = Arc::clone(&self.minutes);
        KeyrackLayer::new(Arc::clone(&self.verifier)).clock(move || {
            let seconds = 1_000_000 + 60 * minutes.load(Ordering::Relaxed);
            Now { boot: Duration::from_secs(seconds), unix_seconds: 1_777_368_600 }
        })
    }

    /// An application that says what it sees, behind the layer.
    fn application(&self, layer: KeyrackLayer) -> Router {
        let shown = |key: VerifiedKey, request: Request| async move {
            format!("key {} {}", key.id(), request.headers().contains_key("authorization"))
        };
        Router::new().fallback(any(shown)).layer(layer)
    }

    async fn ask(&self, layer: KeyrackLayer, request: Request) -> Seen {
        let response = self.application(layer).oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = String::from_utf8(to_bytes(body, 10_000).await.unwrap().to_vec()).unwrap();
        Seen { status: parts.status.as_u16(), headers: parts.headers, body }
    }
}

struct Seen {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Seen {
    fn field(&self, name: &str) -> &str {
        self.headers.get(name).map_or("-", |value| value.to_str().unwrap())
    }

    fn reason(&self) -> (u16, &str, &str) {
        (self.status, self.field("x-keyrack-reason"), self.field("x-keyrack-detail"))
    }
}

fn issue(verifier: &Verifier, id: i64, kind: KeyKind, scope: Scope, role: ProjectRole) -> ApiKey {
    let key = ApiKey::generate(kind, &[u8::try_from(id).unwrap(); ApiKey::RANDOM_BYTES]);
    let holder = Holder::Project { project: ProjectId(1), organization: OrganizationId(1), kind, scope, role };
    let limits = LimitPlan::new([Limit::new("requests", 2, Period::Seconds(60), None).unwrap()]);
    let record = KeyRecord { reach: PolicyVersion(1), limits, ..KeyRecord::new(KeyId(id), 1, holder) };
    verifier.index().apply(&KeyDigest::of(&key), &KeyChange::Put(record)).unwrap();
    key
}

fn request(method: &str, uri: &str, authorization: &[&str]) -> Request {
    let mut request = Request::builder().method(method).uri(uri);
    for value in authorization {
        request = request.header("Authorization", *value);
    }
    request.body(Body::empty()).unwrap()
}

#[tokio::test]
async fn what_passes_is_known_to_the_service_and_its_key_is_not() {
    let installed = Installed::new();
    let bearer = format!("Bearer {}", installed.key.expose());
    let seen = installed.ask(installed.layer(), request("POST", "/x?y=1", &[&bearer])).await;
    assert_eq!((seen.status, seen.body.as_str()), (200, "key 1 false"));
    assert_eq!((seen.field("x-ratelimit-limit"), seen.field("x-ratelimit-remaining")), ("2", "1"));
}

/// Method, target and credentials of a request; status, reason and detail of the answer.
type Case<'a> = (&'a str, &'a str, &'a [&'a str], (u16, &'a str, &'a str));

#[tokio::test]
async fn every_refusal_says_why_in_status_field_and_document() {
    let installed = Installed::new();
    let bearer = format!("Bearer {}", installed.key.expose());
    let two = format!("{bearer},{bearer}");
    let cases: [Case<'_>; 9] = [
        ("GET", "/x", &[], (401, "NOT_FOUND", "credential_missing")),
        ("GET", "/x", &[&bearer, &bearer], (401, "NOT_FOUND", "credential_repeated")),
        ("GET", "/x", &[&two], (401, "NOT_FOUND", "credential_repeated")),
        ("GET", "/x", &["Basic abcdefgh"], (401, "NOT_FOUND", "credential_malformed")),
        ("GET", "/x", &["Bearer sk_wrong"], (401, "NOT_FOUND", "-")),
        ("POST", "/admin", &[&bearer], (403, "FORBIDDEN", "role")),
        ("GET", "/a//b", &[&bearer], (403, "FORBIDDEN", "path_ambiguous")),
        ("GET", "/a/%2e%2e/b", &[&bearer], (403, "FORBIDDEN", "path_ambiguous")),
        ("GET", "*", &[&bearer], (403, "FORBIDDEN", "path_malformed")),
    ];
    for (method, uri, authorization, expected) in cases {
        let seen = installed.ask(installed.layer(), request(method, uri, authorization)).await;
        assert_eq!(seen.reason(), expected, "{method} {uri} {authorization:?}");
        let document: serde_json::Value = serde_json::from_str(&seen.body).unwrap();
        assert_eq!((seen.field("content-type"), seen.field("cache-control")), ("application/problem+json", "no-store"));
        assert_eq!((&document["status"], &document["error"]), (&"error".into(), &document["message"]));
        assert_eq!(seen.field("www-authenticate").starts_with("Bearer realm="), seen.status == 401);
    }
    let mut odd = request("GET", "/x", &[&bearer]);
    odd.headers_mut().insert("X-HTTP-Method-Override", "DELETE".parse().unwrap());
    assert_eq!(installed.ask(installed.layer(), odd).await.reason(), (403, "FORBIDDEN", "method_override"));
}

#[tokio::test]
async fn limits_hold_and_are_won_back_by_the_clock_of_the_layer() {
    let installed = Installed::new();
    let bearer = format!("Bearer {}", installed.key.expose());
    let ask = async || installed.ask(installed.layer(), request("GET", "/x", &[&bearer])).await;
    assert_eq!((ask().await.status, ask().await.status), (200, 200));
    let refused = ask().await;
    assert_eq!((refused.reason(), refused.field("retry-after")), ((429, "RATE_LIMITED", "rate"), "30"));
    assert_eq!(refused.field("x-ratelimit-remaining"), "0");
    installed.minutes.store(1, Ordering::Relaxed);
    assert_eq!(ask().await.status, 200);
}

#[tokio::test]
async fn who_is_let_in_may_be_narrowed_and_what_cannot_be_told_is_no_denial() {
    let installed = Installed::new();
    let bearer = format!("Bearer {}", installed.key.expose());
    let ask = async |layer| installed.ask(layer, request("GET", "/x", &[&bearer])).await;
    assert_eq!(ask(installed.layer().project(ProjectId(2))).await.reason().0, 401);
    assert_eq!(ask(installed.layer().organization(OrganizationId(2))).await.reason().0, 401);
    assert_eq!(ask(installed.layer().policy("closed")).await.reason(), (403, "FORBIDDEN", "closed"));
    assert_eq!(ask(installed.layer().policy("none")).await.reason().1, "FORBIDDEN");
    installed.verifier.index().distrust();
    let unavailable = ask(installed.layer()).await;
    assert_eq!((unavailable.reason(), unavailable.field("retry-after")), ((503, "UNAVAILABLE", "-"), "1"));
}

#[tokio::test]
async fn a_publishable_key_reaches_what_is_open_to_it() {
    let installed = Installed::new();
    let key = issue(&installed.verifier, 2, KeyKind::Publishable, Scope::Public, ProjectRole::Support);
    let bearer = format!("Bearer {}", key.expose());
    assert_eq!(installed.ask(installed.layer(), request("POST", "/events", &[&bearer])).await.status, 200);
    let seen = installed.ask(installed.layer(), request("GET", "/users/7", &[&bearer])).await;
    assert_eq!(seen.reason(), (403, "FORBIDDEN", "scope"));
}

#[tokio::test]
async fn grpc_is_refused_in_its_own_way() {
    let installed = Installed::new();
    let inner = tower::service_fn(async |_request: Request| {
        Ok::<_, std::convert::Infallible>(http::Response::new(tonic::body::Body::empty()))
    });
    let mut service = tower::Layer::layer(&installed.layer().grpc(), inner);
    let bearer = format!("Bearer {}", installed.key.expose());
    for (authorization, path, status) in [
        (Some(bearer.as_str()), "/events", None),
        (None, "/events", Some("16")),
        (Some(&bearer), "/admin", Some("7")),
        (Some(&bearer), "/events", None),
        (Some(&bearer), "/events", Some("8")),
    ] {
        let request = request("POST", path, &authorization.into_iter().collect::<Vec<_>>());
        let response = service.ready().await.unwrap().call(request).await.unwrap();
        assert_eq!(response.status(), 200, "gRPC tells it in a field");
        let shown = response.headers().get("grpc-status").map(|status| status.to_str().unwrap());
        assert_eq!(shown, status, "{authorization:?} {path}");
        assert_eq!(response.headers().contains_key("grpc-message"), status.is_some());
    }
}

/// Takes requests only when it says that it is ready, as a service with a bound on what is under way does.
#[derive(Clone)]
struct Bounded {
    is_ready: bool,
}

impl tower::Service<Request> for Bounded {
    type Response = axum::response::Response;
    type Error = std::convert::Infallible;
    type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _context: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        self.is_ready = true;
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _request: Request) -> Self::Future {
        assert!(std::mem::take(&mut self.is_ready), "it was asked without being ready");
        std::future::ready(Ok(axum::response::Response::default()))
    }
}

#[tokio::test]
async fn the_service_that_was_ready_is_the_one_that_is_asked() {
    let installed = Installed::new();
    let bearer = format!("Bearer {}", installed.key.expose());
    let mut service = tower::Layer::layer(&installed.layer(), Bounded { is_ready: false });
    for _ in 0..2 {
        let response = service.ready().await.unwrap().call(request("GET", "/x", &[&bearer])).await.unwrap();
        assert_eq!(response.status(), 200);
    }
}
