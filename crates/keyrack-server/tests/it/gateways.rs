//! The shipped configurations of gateways, in the real gateways: one table of requests through each of them.

mod real;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use serde_json::{Value, json};
use sqlx::{ConnectOptions as _, Executor as _};

use self::real::{Answer, Application, Gateway, must_be_here, only, shipped};
use super::server::{KEYRACK, Server, free_port, init, keyrack};

/// Longer than every gateway waits for an answer of the doors, but Traefik.
const LONG: Duration = Duration::from_secs(10);
const IDENTITY: [&str; 6] = ["Key-Id", "Project-Id", "Organization-Id", "Role", "Scope", "Seq"];

/// Keyrack with a policy and three keys, a gateway before an application.
struct World {
    name: &'static str,
    data: tempfile::TempDir,
    doors: u16,
    server: Server,
    publishable: String,
    secret: String,
    /// One call in 31 days.
    limited: String,
    application: Application,
    gateway: Gateway,
}

/// Starts Keyrack with its doors at a port.
fn start(data: &Path, doors: u16) -> Server {
    let mut command = keyrack(data);
    command.args(["serve", "--verify-listen", &format!("127.0.0.1:{doors}")]).stderr(Stdio::null());
    Server::try_start(&mut command).expect("the server did not start")
}

fn put_policy(server: &Server, operator: &str, opened: &[(&str, &str, bool)]) {
    let rules: Vec<_> = opened
        .iter()
        .map(|(method, path, public)| json!({"methods": [method], "path": path, "role": "support", "public": public}))
        .collect();
    let policy = json!({"policies": [{"name": "default", "read": "none", "write": "none", "rules": rules}]});
    let applied = server.send("PUT", "/api/operator/policy", operator, Some(&policy), &[]).unwrap();
    assert_eq!(applied.status, 200, "{}", applied.text);
}

impl World {
    fn new(name: &'static str) -> Self {
        Self::with(name, |doors, application| Gateway::start(name, doors, application))
    }

    fn with(name: &'static str, start_gateway: impl FnOnce(u16, u16) -> Gateway) -> Self {
        must_be_here(name);
        let data = tempfile::tempdir().unwrap();
        let keys = init(data.path());
        let doors = free_port();
        let server = start(data.path(), doors);
        let operator = keys["operator_key"].as_str().unwrap();
        // Two policies, so that the newer one can be tampered with.
        put_policy(&server, operator, &[]);
        put_policy(&server, operator, &[("POST", "/events", true), ("GET", "/users/*", false)]);
        let issue = |key: Value| {
            let issued =
                server.send("POST", "/api/client/keys", keys["project_key"].as_str().unwrap(), Some(&key), &[]);
            issued.unwrap().json()["value"].as_str().unwrap().to_owned()
        };
        let publishable = issue(json!({"name": "browser", "scope": "public"}));
        let secret = issue(json!({"name": "server", "role": "editor"}));
        let limits = json!([{"name": "once", "limit": 1, "period": "31d"}]);
        let limited = issue(json!({"name": "limited", "role": "editor", "limits": limits}));
        let application = Application::start();
        let gateway = start_gateway(doors, application.port);
        Self { name, data, doors, server, publishable, secret, limited, application, gateway }
    }

    /// Sends a request with a key and other fields; gives the answer, and what the application got of it.
    fn ask(&self, key: &str, line: &str, fields: &str, patience: Duration) -> (Option<Answer>, Vec<String>) {
        self.application.got();
        let key = if key.is_empty() { String::new() } else { format!("Authorization: Bearer {key}\r\n") };
        let connection = if fields.contains("Connection:") { "" } else { "Connection: close\r\n" };
        let request =
            format!("{line} HTTP/1.1\r\nHost: app.example\r\nContent-Length: 0\r\n{key}{fields}{connection}\r\n");
        let answer = self.gateway.send(&request, patience);
        (answer, self.application.got())
    }

    /// Whom the application was told of; it was told in one way only, and never of the key.
    fn allowed(&self, key: &str, line: &str, fields: &str) -> String {
        let (answer, got) = self.ask(key, line, fields, LONG);
        let (Some(answer), [head]) = (answer, got.as_slice()) else {
            panic!("{}: {line} {fields}: {got:?}", self.name)
        };
        assert_eq!(answer.status, 200, "{}: {line} {fields}", self.name);
        self.has_nothing_of_the_client(head);
        let role = only(head, "X-Keyrack-Role").unwrap();
        let id: u32 = only(head, "X-Keyrack-Key-Id").unwrap().parse().unwrap();
        assert!(id > 0);
        role.to_owned()
    }

    fn has_nothing_of_the_client(&self, head: &str) {
        let lower = head.to_ascii_lowercase();
        assert!(!lower.contains("forged") && !lower.contains("authorization:"), "{}: {head}", self.name);
        assert!(!head.contains("sk_") && !head.contains("pk_"), "{}: {head}", self.name);
        for name in IDENTITY {
            assert!(only(head, &format!("X-Keyrack-{name}")).is_some(), "{}: {name}: {head}", self.name);
        }
    }

    /// The request does not reach the application; gives the status and the reason.
    fn denied(&self, key: &str, line: &str, fields: &str) -> (u16, Option<String>) {
        let (answer, got) = self.ask(key, line, fields, LONG);
        assert!(got.is_empty(), "{}: {line} {fields}: {got:?}", self.name);
        let answer = answer.unwrap_or_else(|| panic!("{}: {line} {fields}: no answer", self.name));
        let reason = answer.field("X-Keyrack-Reason").map(str::to_owned);
        match (answer.status, reason.as_deref()) {
            (401, Some(_)) => assert!(answer.field("WWW-Authenticate").is_some(), "{answer:?}"),
            (429, _) | (_, Some("UNAVAILABLE")) => assert!(answer.field("Retry-After").is_some(), "{answer:?}"),
            _ => {}
        }
        (answer.status, reason)
    }

    fn keys_get_where_the_policy_lets_them(&self) {
        let Self { publishable, secret, limited, .. } = self;
        assert_eq!(self.allowed(publishable, "POST /events", ""), "support");
        assert_eq!(self.allowed(secret, "POST /events?x=/../y", ""), "editor");
        assert_eq!(self.allowed(secret, "GET /users/7", ""), "editor");
        assert_eq!(self.allowed(limited, "GET /users/7", ""), "editor");
        let refused = |status, reason: &str| (status, Some(reason.to_owned()));
        for (key, line, fields, expected) in [
            (publishable.as_str(), "GET /users/7", "", refused(403, "FORBIDDEN")),
            (secret, "GET /other", "", refused(403, "FORBIDDEN")),
            (secret, "DELETE /users/7", "", refused(403, "FORBIDDEN")),
            // What a client says that it asked for changes nothing.
            (
                publishable,
                "GET /users/7",
                "X-Forwarded-Uri: /events\r\nX-Forwarded-Method: POST\r\n",
                refused(403, "FORBIDDEN"),
            ),
            (
                publishable,
                "GET /users/7",
                "X-Original-URI: /events\r\nX-Original-Method: POST\r\n",
                refused(403, "FORBIDDEN"),
            ),
            (publishable, "GET /users/7?policy=other&project=1", "", refused(403, "FORBIDDEN")),
            ("sk_nonsense", "GET /users/7", "", refused(401, "NOT_FOUND")),
            ("", "GET /users/7", "", refused(401, "NOT_FOUND")),
            (limited, "GET /users/7", "", refused(429, "RATE_LIMITED")),
            (secret, "POST /events", "X-HTTP-Method-Override: DELETE\r\n", refused(403, "FORBIDDEN")),
            (secret, "POST /events", "X-HTTP-Method: DELETE\r\n", refused(403, "FORBIDDEN")),
            (secret, "POST /events", "X-Method-Override: DELETE\r\n", refused(403, "FORBIDDEN")),
        ] {
            assert_eq!(self.denied(key, line, fields), expected, "{}: {line} {fields}", self.name);
        }
        for second in [secret.as_str(), publishable, "sk_nonsense"] {
            let (status, _) = self.denied(secret, "GET /users/7", &format!("Authorization: Bearer {second}\r\n"));
            assert!((400..=403).contains(&status), "{}: {status}", self.name);
        }
    }

    fn odd_paths_open_nothing(&self) {
        for path in [
            "//users/7",
            "/users//7",
            "/users/7/",
            "/users/7/..",
            "/x/../users/7",
            "/users/./7",
            "/users/%2e%2e",
            "/users/..%2fx",
            "/users%2f7",
            "/users%2F7",
            "/users/7%2fx",
            "/users/%5c7",
            "/users/7;x=y",
            "/users/%00",
            "/users/%2500",
            "/USERS/7",
            "/users/7%",
            "/%75sers/7",
            "users/7",
            "/users/..",
            "/users\\7",
            "/-/users/7",
            "/users/7/../../other",
        ] {
            let (answer, got) = self.ask(&self.secret, &format!("GET {path}"), "", LONG);
            // A gateway that tidies a path up shows the tidy one to Keyrack and to the application.
            let is_open = |head: &String| head.starts_with("GET /users/7 ");
            assert!(got.iter().all(is_open), "{}: {path}: {got:?}", self.name);
            let status = answer.map(|answer| answer.status);
            assert_eq!(status == Some(200), !got.is_empty(), "{}: {path}: {status:?}", self.name);
            if self.name == "envoy" && path.to_lowercase().contains("%2f") {
                assert_eq!(status, Some(400), "{path}: Envoy is told to refuse it");
            }
            assert!(status.is_none_or(|status| status < 500), "{}: {path}: {status:?}", self.name);
        }
    }

    fn what_a_client_says_of_itself_never_arrives(&self) {
        let mut forgeries = Vec::new();
        for name in IDENTITY {
            let name = format!("X-Keyrack-{name}");
            let mixed = name.replacen('-', "_", 1);
            for spelled in [name.clone(), name.to_lowercase(), name.to_uppercase(), name.replace('-', "_"), mixed] {
                forgeries.push(format!("{spelled}: forged\r\n"));
            }
            let last = format!("{}_{}", &name[..name.rfind('-').unwrap()], &name[name.rfind('-').unwrap() + 1..]);
            forgeries.push(format!("{last}: forged\r\n"));
            forgeries.push(format!("{name}: forged\r\n{name}: forged too\r\n"));
        }
        for fields in &forgeries {
            assert_eq!(self.allowed(&self.secret, "GET /users/7", fields), "editor", "{fields}");
        }
        // nginx and Traefik take names away one by one, the others whatever begins so.
        if !matches!(self.name, "nginx" | "traefik") {
            for name in ["X-Keyrack-Other", "X_Keyrack_Other", "X-Keyrack_Other", "x_keyrack-other"] {
                self.allowed(&self.secret, "GET /users/7", &format!("{name}: forged\r\n"));
            }
        }
        for name in IDENTITY {
            let fields = format!("Connection: close, X-Keyrack-{name}\r\nX-Keyrack-{name}: forged\r\n");
            let (answer, got) = self.ask(&self.secret, "GET /users/7", &fields, LONG);
            got.iter().for_each(|head| self.has_nothing_of_the_client(head));
            let status = answer.unwrap().status;
            assert_eq!(status, if self.name == "caddy" { 400 } else { 200 }, "{}: {fields}", self.name);
        }
    }

    /// A question has no body, and is small, whatever the request is like that it is about.
    fn what_comes_with_a_request_is_not_taken_for_the_question(&self) {
        let many: String = (0..70).map(|nth| format!("X-Many-{nth}: {nth}\r\n")).collect();
        let cookies = format!("Cookie: {0}\r\nX-Also: {0}\r\n", "c".repeat(6_000));
        for fields in ["Content-Encoding: gzip\r\n", "Expect: 100-continue\r\n", "TE: trailers\r\n", &many, &cookies] {
            self.application.got();
            let request = format!(
                "POST /events HTTP/1.1\r\nHost: app.example\r\nAuthorization: Bearer {}\r\nContent-Length: 4\r\n\
                 {fields}Connection: close\r\n\r\nbody",
                self.secret
            );
            let answer = self.gateway.send(&request, LONG).unwrap();
            let shown = fields.get(..40).unwrap_or(fields);
            assert_eq!((answer.status, self.application.got().len()), (200, 1), "{}: {shown}: {answer:?}", self.name);
        }
    }

    /// Some applications cannot tell `X_HTTP_Method_Override` from `X-HTTP-Method-Override`.
    fn another_method_is_not_asked_for_in_other_letters(&self) {
        let names = ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"];
        for name in names.into_iter().flat_map(spellings) {
            for name in [name.clone(), name.to_lowercase(), name.to_uppercase()] {
                let (answer, got) = self.ask(&self.secret, "POST /events", &format!("{name}: DELETE\r\n"), LONG);
                assert!(got.iter().all(|head| !head.contains("DELETE")), "{}: {name}: {got:?}", self.name);
                let status = answer.unwrap().status;
                assert_eq!(status == 200, !got.is_empty(), "{}: {name}: {status}", self.name);
                assert!(matches!(status, 200 | 403), "{}: {name}: {status}", self.name);
            }
        }
    }

    /// Keyrack is up, and its policy is not the one that was applied.
    async fn keyrack_cannot_tell(&mut self) {
        self.signal(Signal::KILL);
        self.server.child.wait().unwrap();
        let database = sqlx::sqlite::SqliteConnectOptions::new().filename(self.data.path().join("keyrack.db"));
        let forged = "UPDATE policies SET document = replace(document, 'support', 'editor') WHERE id = 2";
        database.connect().await.unwrap().execute(forged).await.unwrap();
        self.server = start(self.data.path(), self.doors);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.server.child), signal).unwrap();
    }

    async fn nobody_passes_without_an_answer(mut self) {
        self.keyrack_cannot_tell().await;
        let unavailable = |status| (status, Some("UNAVAILABLE".to_owned()));
        // Envoy may be told to take 5xx as a permission: it gets none.
        let told = unavailable(if self.name == "envoy" { 403 } else { 503 });
        assert_eq!(self.denied(&self.secret, "GET /users/7", ""), told, "{}: it cannot tell", self.name);

        self.signal(Signal::STOP);
        // Its threads stop one after another.
        waitpid(Some(Pid::from_child(&self.server.child)), WaitOptions::UNTRACED).unwrap();
        // Envoy and Traefik say it in a status only.
        let gone = match self.name {
            "traefik" => (500, None),
            "envoy" => (503, None),
            _ => unavailable(503),
        };
        if self.name == "traefik" {
            let (answer, got) = self.ask(&self.secret, "GET /users/7", "", Duration::from_secs(3));
            assert!(answer.is_none() && got.is_empty(), "it hangs: {answer:?} {got:?}");
        } else {
            assert_eq!(self.denied(&self.secret, "GET /users/7", ""), gone, "{}: it hangs", self.name);
        }

        self.signal(Signal::KILL);
        self.server.child.wait().unwrap();
        assert_eq!(self.denied(&self.secret, "GET /users/7", ""), gone, "{}: it is gone", self.name);
    }
}

/// A name with each of its `-` as it is, or as `_`.
fn spellings(name: &str) -> Vec<String> {
    name.split('-').fold(Vec::new(), |begun, word| match begun.as_slice() {
        [] => vec![word.to_owned()],
        begun => begun.iter().flat_map(|front| [format!("{front}-{word}"), format!("{front}_{word}")]).collect(),
    })
}

async fn stands(gateway: &'static str) {
    let world = World::new(gateway);
    world.keys_get_where_the_policy_lets_them();
    world.odd_paths_open_nothing();
    world.what_a_client_says_of_itself_never_arrives();
    world.what_comes_with_a_request_is_not_taken_for_the_question();
    world.another_method_is_not_asked_for_in_other_letters();
    world.nobody_passes_without_an_answer().await;
}

#[tokio::test]
async fn nginx_lets_pass_whom_keyrack_allows_and_nobody_else() {
    stands("nginx").await;
}

#[tokio::test]
async fn caddy_lets_pass_whom_keyrack_allows_and_nobody_else() {
    stands("caddy").await;
}

#[tokio::test]
async fn haproxy_lets_pass_whom_keyrack_allows_and_nobody_else() {
    stands("haproxy").await;
}

#[tokio::test]
async fn traefik_lets_pass_whom_keyrack_allows_and_nobody_else() {
    stands("traefik").await;
}

#[tokio::test]
async fn envoy_lets_pass_whom_keyrack_allows_and_nobody_else() {
    stands("envoy").await;
}

/// It may be told to take whatever is wrong with Keyrack for a yes. As long as Keyrack is up, that opens nothing (T53).
#[tokio::test]
async fn an_envoy_that_fails_open_lets_nobody_pass_while_keyrack_is_up() {
    let open = |text: &str| text.replace("failure_mode_allow: false", "failure_mode_allow: true");
    let mut world = World::with("envoy", |doors, application| Gateway::changed("envoy", open, doors, application));
    assert_eq!(world.allowed(&world.secret, "GET /users/7", ""), "editor");
    world.keyrack_cannot_tell().await;
    for key in [world.secret.as_str(), &world.publishable, "sk_nonsense", ""] {
        for line in ["GET /users/7", "POST /events", "GET /"] {
            world.denied(key, line, "");
        }
    }
    // So that the test can fail: where nobody is up, it does as it was told.
    world.signal(Signal::KILL);
    world.server.child.wait().unwrap();
    let (answer, got) = world.ask(&world.secret, "GET /users/7", "", LONG);
    assert_eq!((answer.unwrap().status, got.len()), (200, 1));
}

#[test]
fn the_demonstration_shows_the_same_through_each_of_them() {
    for gateway in ["nginx", "caddy", "haproxy", "traefik", "envoy"] {
        must_be_here(gateway);
        let mut command = Command::new(shipped("demo"));
        for port in ["API", "DOORS", "APPLICATION", "GATEWAY"] {
            command.env(port, free_port().to_string());
        }
        let output = command.args([gateway, KEYRACK, "--once"]).output().unwrap();
        let shown = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{gateway}: {shown}{}", String::from_utf8_lossy(&output.stderr));
        let verdicts: Vec<_> = shown.lines().skip(1).map(|line| (&line[..33], &line[line.len() - 5..])).collect();
        let expected = [
            ("publishable key POST /events     ", "[200]"),
            ("publishable key GET  /users/7    ", "[403]"),
            ("secret key      POST /events     ", "[200]"),
            ("secret key      GET  /users/7    ", "[200]"),
            ("no key of ours  GET  /users/7    ", "[401]"),
        ];
        assert_eq!(verdicts, expected, "{gateway}: {shown}");
        assert!(shown.contains("to key 5 of role editor"), "{gateway}: {shown}");
    }
}
