//! One table of cases through every door: the same verdict at each.

use expect_test::expect;
use serde_json::{Value, json};

use super::super::app::TestApp;
use super::{Answer, Opened, head, policy};

struct Case {
    name: &'static str,
    key: String,
    method: &'static str,
    path: &'static str,
    policy: Option<&'static str>,
    project: Option<&'static str>,
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

impl Case {
    fn selectors(&self) -> String {
        let policy = self.policy.map(|name| format!("/policy/{name}")).unwrap_or_default();
        let project = self.project.map(|id| format!("/project/{id}")).unwrap_or_default();
        policy + &project
    }

    fn question(&self) -> Value {
        let mut question = json!({"key": self.key, "method": self.method, "path": self.path});
        if let Some(policy) = self.policy {
            question["policy"] = policy.into();
        }
        if let Some(project) = self.project {
            question["project_id"] = project.parse::<u64>().unwrap().into();
        }
        question
    }

    /// The code that each door gives.
    fn ask(&self, doors: &Opened) -> Vec<(&'static str, String)> {
        let bearer = format!("Bearer {}", self.key);
        let selectors = self.selectors();
        let original = [("Authorization", &*bearer), ("X-Original-Method", self.method), ("X-Original-URI", self.path)];
        let forwarded = [
            ("Authorization", &*bearer),
            ("X-Forwarded-Method", self.method),
            ("X-Forwarded-Uri", self.path),
            ("X-Forwarded-Host", "api.example.com"),
            ("X-Forwarded-For", "203.0.113.9"),
        ];
        let envoy =
            head(self.method, &format!("/v1/auth/envoy{selectors}/-{}", self.path), &[("Authorization", &bearer)]);
        let nginx = head("GET", &format!("/v1/auth/nginx{selectors}?x=y"), &original);
        let forward = |name: &str| doors.get(&format!("/v1/auth/{name}{selectors}"), &forwarded);
        let verified = doors.verify(&self.question()).json();
        let batch = doors.post("/v1/verify/batch", &json!({"requests": [self.question()]})).json();
        vec![
            ("verify", verified["code"].as_str().unwrap().to_owned()),
            ("batch", batch["results"][0]["code"].as_str().unwrap().to_owned()),
            ("nginx", code(&doors.send(&nginx, ""))),
            ("nginx, unix", code(&doors.send_locally(&nginx, ""))),
            ("forward", code(&forward("forward"))),
            ("haproxy", code(&forward("haproxy"))),
            ("envoy", code(&doors.send(&envoy, ""))),
        ]
    }
}

async fn cases(app: &TestApp) -> Vec<Case> {
    let (_, support) = app.create(json!({"name": "support"})).await;
    let (_, editor) = app.create(json!({"name": "editor", "role": "editor"})).await;
    let (_, public) = app.create(json!({"name": "public", "scope": "public"})).await;
    let (_, holder) = app.create(json!({"name": "holder", "permissions": ["exports:create"]})).await;
    let (_, limited) =
        app.create(json!({"name": "limited", "limits": [{"name": "r", "limit": 7, "period": "31d"}]})).await;
    let (_, used_up) =
        app.create(json!({"name": "used up", "limits": [{"name": "q", "limit": 7, "period": "month"}]})).await;
    let (dead_id, dead) = app.create(json!({"name": "dead"})).await;
    app.call(("DELETE", &format!("/api/client/keys/{dead_id}")), None).await;
    let admin = app.admin().to_owned();
    let operator = app.first_keys.operator.expose().to_owned();
    let mut unknown = support.clone();
    unknown.replace_range(10..11, if &unknown[10..11] == "7" { "8" } else { "7" });
    let case =
        |name, key: &str, method, path| Case { name, key: key.to_owned(), method, path, policy: None, project: None };
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
        case("too often", &limited, "GET", "/things"),
        case("more than its quota", &used_up, "GET", "/things"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_door_gives_the_same_verdict() {
    let doors = Opened::new().await;
    doors.apply(1, policy());
    let mut table = String::new();
    for case in cases(&doors.app).await {
        // The limited ones have just enough for each door once.
        let first = case.ask(&doors);
        let again =
            if matches!(case.name, "too often" | "more than its quota") { case.ask(&doors) } else { first.clone() };
        if again != first {
            assert!(first.iter().all(|(_, code)| code == "VALID"), "{}: {first:?}", case.name);
        }
        let code = again[0].1.clone();
        assert!(again.iter().all(|(_, other)| *other == code), "{}: {again:?}", case.name);
        table += &format!("{:<42} {code}\n", case.name);
    }
    expect![[r#"
        a support key reads                        VALID
        a support key does not write               FORBIDDEN
        an editor writes                           VALID
        an editor is no admin                      FORBIDDEN
        an admin is                                VALID
        a rule opens a write to support            VALID
        and to publishable keys                    VALID
        not with another method                    FORBIDDEN
        not elsewhere                              FORBIDDEN
        a permission that is not held              FORBIDDEN
        a permission that is                       VALID
        an admin holds all                         VALID
        a path in two ways                         FORBIDDEN
        a path with two slashes                    FORBIDDEN
        an encoded slash                           FORBIDDEN
        a parameter of a segment                   FORBIDDEN
        another letter case than the rule's        FORBIDDEN
        a trailing slash that the rule has not     FORBIDDEN
        no path                                    FORBIDDEN
        a dead key                                 NOT_FOUND
        no key of ours                             NOT_FOUND
        an unknown key                             NOT_FOUND
        a key of another surface                   NOT_FOUND
        a policy that closes all                   FORBIDDEN
        a policy that is not there                 FORBIDDEN
        its own project                            VALID
        another project                            NOT_FOUND
        a project that cannot be                   NOT_FOUND
        too often                                  RATE_LIMITED
        more than its quota                        USAGE_EXCEEDED
    "#]]
    .assert_eq(&table);
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
        let case = Case { name: "without", key: key.to_owned(), method, path, policy: None, project: None };
        for (door, seen) in case.ask(&doors) {
            assert_eq!(seen, code, "{door}: {method} {path}");
        }
    }
}
