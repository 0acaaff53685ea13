//! Every route times every kind of stranger. A route without a row fails.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::Request;
use keyrack::{ApiKey, KeyKind};
use keyrack_server::http;
use serde_json::json;

use crate::app::{Installed, TestApp};

/// Who is let into a route; everybody else is a stranger there.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Access {
    /// A project's secret key of at least this role.
    Project(&'static str),
    /// An organization's key of at least this role.
    Organization(&'static str),
    /// An organization's key of any role that reaches the project: `admin`, `owner`, and a `member` it was given.
    Reaching,
    /// The same, of project role `admin`.
    ReachingAsAdmin,
    /// An operator's key.
    Operator,
    /// Everybody: it holds no secret.
    Anyone,
}
use Access::{Anyone, Operator, Organization, Project, Reaching, ReachingAsAdmin};

const ROUTES: [(&str, &str, Access); 57] = [
    ("get", "/api/client/keys", Project("admin")),
    ("post", "/api/client/keys", Project("admin")),
    ("get", "/api/client/keys/{keyId}", Project("admin")),
    ("patch", "/api/client/keys/{keyId}", Project("admin")),
    ("delete", "/api/client/keys/{keyId}", Project("admin")),
    ("get", "/api/client/keys/{keyId}/usage", Project("admin")),
    ("get", "/api/client/usage", Project("admin")),
    ("get", "/api/client/me", Project("support")),
    ("get", "/api/client/audit-events", Project("admin")),
    ("get", "/api/admin/organizations/me", Organization("member")),
    ("get", "/api/admin/organizations/api-keys", Organization("owner")),
    ("post", "/api/admin/organizations/api-keys", Organization("owner")),
    ("get", "/api/admin/organizations/api-keys/{keyId}", Organization("owner")),
    ("patch", "/api/admin/organizations/api-keys/{keyId}", Organization("owner")),
    ("delete", "/api/admin/organizations/api-keys/{keyId}", Organization("owner")),
    ("get", "/api/admin/projects", Organization("member")),
    ("post", "/api/admin/projects", Organization("admin")),
    ("get", "/api/admin/projects/{projectId}", Reaching),
    ("patch", "/api/admin/projects/{projectId}", Organization("admin")),
    ("delete", "/api/admin/projects/{projectId}", Organization("owner")),
    ("get", "/api/admin/projects/{projectId}/keys", ReachingAsAdmin),
    ("post", "/api/admin/projects/{projectId}/keys", ReachingAsAdmin),
    ("get", "/api/admin/projects/{projectId}/keys/{keyId}", ReachingAsAdmin),
    ("patch", "/api/admin/projects/{projectId}/keys/{keyId}", ReachingAsAdmin),
    ("delete", "/api/admin/projects/{projectId}/keys/{keyId}", ReachingAsAdmin),
    ("get", "/api/admin/projects/{projectId}/keys/{keyId}/usage", ReachingAsAdmin),
    ("get", "/api/admin/projects/{projectId}/usage", ReachingAsAdmin),
    ("get", "/api/admin/projects/{projectId}/members", Organization("admin")),
    ("put", "/api/admin/projects/{projectId}/members/{keyId}", Organization("admin")),
    ("delete", "/api/admin/projects/{projectId}/members/{keyId}", Organization("admin")),
    ("get", "/api/admin/audit-events", Organization("admin")),
    ("get", "/api/operator/organizations", Operator),
    ("post", "/api/operator/organizations", Operator),
    ("get", "/api/operator/organizations/{organizationId}", Operator),
    ("delete", "/api/operator/organizations/{organizationId}", Operator),
    ("post", "/api/operator/organizations/{organizationId}/suspend", Operator),
    ("post", "/api/operator/organizations/{organizationId}/resume", Operator),
    ("get", "/api/operator/projects/{projectId}/system-keys", Operator),
    ("post", "/api/operator/projects/{projectId}/system-keys", Operator),
    ("delete", "/api/operator/projects/{projectId}/system-keys/{keyId}", Operator),
    ("post", "/api/operator/projects/{projectId}/system-keys/{keyId}/rotate", Operator),
    ("get", "/api/operator/follower-keys", Operator),
    ("post", "/api/operator/follower-keys", Operator),
    ("delete", "/api/operator/follower-keys/{keyId}", Operator),
    ("get", "/api/operator/operator-keys", Operator),
    ("post", "/api/operator/operator-keys", Operator),
    ("delete", "/api/operator/operator-keys/{keyId}", Operator),
    ("get", "/api/operator/policy", Operator),
    ("put", "/api/operator/policy", Operator),
    ("get", "/api/operator/audit-events", Operator),
    ("get", "/api/operator/nodes", Operator),
    ("get", "/api/openapi.json", Anyone),
    ("get", "/docs", Anyone),
    ("get", "/docs.md", Anyone),
    ("get", "/docs/{page}", Anyone),
    ("get", "/livez", Anyone),
    ("get", "/llms.txt", Anyone),
];
/// A policy that could be applied.
const POLICY: &str = r#"{"policies": [{"name": "default", "read": "support", "write": "editor"}]}"#;
const READINESS: (&str, &str, Access) = ("get", "/readyz", Anyone);

#[test]
fn every_route_has_a_row() {
    let document = serde_json::to_value(http::openapi()).unwrap();
    let mut routes = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        routes.extend(operations.as_object().unwrap().keys().map(|method| (method.clone(), path.clone())));
    }
    let rows = ROUTES.iter().chain([&READINESS]);
    let rows: BTreeSet<_> = rows.map(|(method, path, _)| ((*method).to_owned(), (*path).to_owned())).collect();
    assert_eq!(routes, rows);
}

const PROJECT_ROLES: [&str; 5] = ["support", "smtpproxy", "editor", "publisher", "admin"];
const ORGANIZATION_ROLES: [&str; 3] = ["member", "admin", "owner"];

/// What a stranger is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// No key that passes anywhere.
    Nobody,
    /// A project's key of a role.
    Project(&'static str),
    /// A project's secret key that was narrowed.
    Narrowed,
    /// An organization's key of a role.
    Organization(&'static str),
    /// A `member` that was given the project, with a role there.
    MemberAs(&'static str),
    /// An organization's key of another organization.
    OwnerElsewhere,
    /// An operator's key.
    Operator,
}

/// What a route answers to somebody, where only who asks decides; `None` if the caller is let in.
fn refusal(access: Access, kind: Kind) -> Option<u16> {
    let below = |roles: &[&str], role, least| {
        let place = |role| roles.iter().position(|known| *known == role);
        (place(role) < place(least)).then_some(403)
    };
    match (access, kind) {
        (Anyone, _) | (Operator, Kind::Operator) => None,
        (_, Kind::Nobody) => Some(401),
        (Project(least), Kind::Project(role)) => below(&PROJECT_ROLES, role, least),
        (Project(_), Kind::Narrowed) => Some(403),
        (Organization(least), Kind::Organization(role)) => below(&ORGANIZATION_ROLES, role, least),
        (Organization(least), Kind::MemberAs(_)) => below(&ORGANIZATION_ROLES, "member", least),
        // An owner of another organization has the role; what the path names is not there for it.
        (Organization(_), Kind::OwnerElsewhere) => None,
        (Reaching | ReachingAsAdmin, Kind::Organization("member") | Kind::OwnerElsewhere) => Some(404),
        (Reaching | ReachingAsAdmin, Kind::Organization(_)) | (Reaching, Kind::MemberAs(_)) => None,
        (ReachingAsAdmin, Kind::MemberAs(role)) => below(&PROJECT_ROLES, role, "admin"),
        (Project(_) | Organization(_) | Reaching | ReachingAsAdmin | Operator, _) => Some(401),
    }
}

struct Stranger {
    who: String,
    headers: Vec<String>,
    kind: Kind,
}

/// Every kind of caller that there is, good ones included: to each other's surfaces they are strangers.
async fn strangers(app: &TestApp, installed: &Installed) -> Vec<Stranger> {
    let mut strangers = vec![Stranger { who: "no key".to_owned(), headers: vec![], kind: Kind::Nobody }];
    let mut stranger = |who: &str, header: String, kind| {
        strangers.push(Stranger { who: who.to_owned(), headers: vec![header], kind });
    };
    let bearer = |key: &str| format!("Bearer {key}");
    let keys = [&app.first_keys.project, &app.first_keys.organization, &app.first_keys.operator];
    for key in keys {
        let value = key.expose().to_owned();
        stranger("no scheme", value.clone(), Kind::Nobody);
        stranger("basic", format!("Basic {value}"), Kind::Nobody);
        stranger("two spaces", format!("Bearer  {value}"), Kind::Nobody);
        stranger("a space behind", format!("Bearer {value} x"), Kind::Nobody);
        stranger("two values", format!("Bearer {value}, Bearer {value}"), Kind::Nobody);
        stranger("folded", bearer(&value.to_lowercase()), Kind::Nobody);
        stranger("a mask", bearer(key.mask().as_str()), Kind::Nobody);
        stranger("never issued", bearer(ApiKey::generate(key.kind(), &[9; 26]).expose()), Kind::Nobody);
    }
    stranger("garbage", bearer("garbage"), Kind::Nobody);
    stranger("empty", "Bearer ".to_owned(), Kind::Nobody);
    stranger("100 kB", bearer(&"A".repeat(100_000)), Kind::Nobody);
    stranger("never issued", bearer(ApiKey::generate(KeyKind::Publishable, &[9; 26]).expose()), Kind::Nobody);

    let (id, revoked) = app.create(json!({"name": "revoked", "role": "admin"})).await;
    assert_eq!(app.call(("DELETE", &format!("/api/client/keys/{id}")), None).await.status, 200);
    stranger("revoked", bearer(&revoked), Kind::Nobody);
    let (_, publishable) = app.create(json!({"name": "pk", "role": "admin", "scope": "public"})).await;
    stranger("publishable", bearer(&publishable), Kind::Nobody);
    for role in PROJECT_ROLES {
        let (_, key) = app.create(json!({"name": role, "role": role})).await;
        stranger(role, bearer(&key), Kind::Project(role));
    }
    let (id, narrowed) = app.create(json!({"name": "narrowed", "role": "admin"})).await;
    let narrow = app.call(("PATCH", &format!("/api/client/keys/{id}")), Some(json!({"scope": "public"}))).await;
    assert_eq!(narrow.status, 200);
    stranger("narrowed to public", bearer(&narrowed), Kind::Narrowed);

    for role in ORGANIZATION_ROLES {
        let (_, key) = app.organization_key(role).await;
        stranger(role, bearer(&key), Kind::Organization(role));
    }
    for role in PROJECT_ROLES {
        let (id, key) = app.organization_key("member").await;
        let path = format!("/api/admin/projects/1/members/{id}");
        assert_eq!(app.as_owner(("PUT", &path), Some(json!({"role": role}))).await.status, 200);
        stranger("a member", bearer(&key), Kind::MemberAs(role));
    }
    stranger("an owner elsewhere", bearer(&installed.owner), Kind::OwnerElsewhere);
    stranger("an owner who is suspended", bearer(&installed.suspended), Kind::Nobody);
    stranger("an operator", bearer(app.first_keys.operator.expose()), Kind::Operator);
    for key in keys {
        let twice = vec![bearer(key.expose()), bearer(key.expose())];
        strangers.push(Stranger { who: "two headers".to_owned(), headers: twice, kind: Kind::Nobody });
    }
    strangers
}

#[tokio::test]
async fn every_route_times_every_stranger() {
    let app = TestApp::new().await;
    let installed = app.install_others().await;
    let (key, _) = app.create(json!({"name": "the target"})).await;
    let (organization_key, _) = app.organization_key("admin").await;
    let strangers = strangers(&app, &installed).await;
    let entries = app.app.store.verify_audit().await.unwrap().entries;

    let mut bodies = BTreeSet::new();
    for (method, path, access) in ROUTES.into_iter().chain([READINESS]) {
        let is_own_key = path.contains("api-keys") || path.contains("members");
        let key = if path.contains("operator-keys") {
            1
        } else if is_own_key {
            organization_key
        } else {
            key
        };
        let path = path.replace("{keyId}", &key.to_string()).replace("{page}", "errors.md");
        let path = path.replace("{projectId}", "1").replace("{organizationId}", "1");
        for Stranger { who, headers, kind } in &strangers {
            let Some(status) = refusal(access, *kind) else { continue };
            let mut request = Request::builder().method(method.to_uppercase().as_str()).uri(&path);
            for header in headers {
                request = request.header("Authorization", header);
            }
            // The body would do, so that only the caller can be what is refused.
            let body = match path.as_str() {
                "/api/operator/organizations" => r#"{"username": "x"}"#,
                "/api/admin/projects" => r#"{"name": "x", "locale": "en", "timezone": "UTC"}"#,
                path if path.contains("/members/") => r#"{"role": "support"}"#,
                "/api/operator/policy" => POLICY,
                path if path.ends_with("suspend") || path.ends_with("resume") || path.ends_with("rotate") => "",
                _ => r#"{"name": "x"}"#,
            };
            let request = request.header("Content-Type", "application/json").body(Body::from(body));
            let reply = app.send(request.unwrap()).await;
            assert_eq!(reply.status, status, "{who} ({kind:?}) on {method} {path}: {}", reply.text);
            if reply.status == 401 {
                let challenge = reply.headers["www-authenticate"].to_str().unwrap();
                assert_eq!(challenge.contains("invalid_token"), !headers.is_empty(), "{who}");
                let mut body = reply.json();
                body["request_id"] = "".into();
                bodies.insert(body.to_string());
            }
        }
    }
    assert_eq!(bodies.len(), 1, "every 401 has the same body");
    let report = app.app.store.verify_audit().await.unwrap();
    assert_eq!((report.entries, report.faults), (entries, vec![]), "no stranger changed a thing");
}

/// Who is let in is let in: without this, a route that refused everybody would pass.
#[tokio::test]
async fn every_route_lets_somebody_in() {
    for (method, path, access) in ROUTES.into_iter().chain([READINESS]) {
        let app = TestApp::new().await;
        let (key, _) = app.create(json!({"name": "the target"})).await;
        let (member, _) = app.organization_key("member").await;
        let (owner, operator) = (app.first_keys.organization.expose(), app.first_keys.operator.expose());
        let route = ("PUT", &*format!("/api/admin/projects/1/members/{member}"));
        assert_eq!(app.as_owner(route, Some(json!({"role": "editor"}))).await.status, 200);
        let system = app.system_key(json!({"name": "relay"})).await.0;
        let second = app.as_operator(("POST", "/api/operator/operator-keys"), Some(json!({"name": "second"}))).await;
        let second = second.json()["id"].as_i64().unwrap();
        let follower = app.as_operator(("POST", "/api/operator/follower-keys"), Some(json!({"name": "service"}))).await;
        let follower = follower.json()["id"].as_i64().unwrap();

        let key = match path {
            path if path.contains("system-keys") => system,
            path if path.contains("operator-keys") => second,
            path if path.contains("follower-keys") => follower,
            path if path.contains("api-keys") || path.contains("members") => member,
            _ => key,
        };
        let confirm = if method == "delete" && (path.ends_with("{projectId}") || path.ends_with("{organizationId}")) {
            "?confirm=true"
        } else {
            ""
        };
        let path = path.replace("{keyId}", &key.to_string()).replace("{page}", "errors.md") + confirm;
        let path = path.replace("{projectId}", "1").replace("{organizationId}", "1");
        let bearer = match access {
            Project(_) => app.admin(),
            Organization(_) | Reaching | ReachingAsAdmin => owner,
            Operator => operator,
            Anyone => "",
        };
        let body = match (method, path.as_str()) {
            ("post", "/api/operator/organizations") => Some(json!({"username": "x"})),
            ("post", "/api/admin/projects") => Some(json!({"name": "x", "locale": "en", "timezone": "UTC"})),
            ("put", "/api/operator/policy") => Some(serde_json::from_str(POLICY).unwrap()),
            ("put", _) => Some(json!({"role": "support"})),
            ("post", path) if path.ends_with("suspend") || path.ends_with("resume") || path.ends_with("rotate") => None,
            ("post" | "patch", _) => Some(json!({"name": "x"})),
            _ => None,
        };
        let reply = app.call_with(bearer, (&method.to_uppercase(), &path), body, &[]).await;
        assert_eq!(reply.status, 200, "{method} {path}: {}", reply.text);
        assert_eq!(app.app.store.verify_audit().await.unwrap().faults, Vec::<String>::new(), "{method} {path}");
    }
}

#[tokio::test]
async fn identity_in_the_wrong_place_opens_nothing() {
    let app = TestApp::new().await;
    let admin = app.admin();
    for (name, value) in [
        ("x-api-key", admin),
        ("cookie", admin),
        ("x-project-id", "1"),
        ("x-forwarded-user", "admin"),
        ("authorization_", admin),
    ] {
        let request = Request::get(format!("/api/client/keys?key={admin}&userId=1")).header(name, value);
        assert_eq!(app.send(request.body(Body::empty()).unwrap()).await.status, 401, "{name}");
    }
}
