//! Rate limits as callers meet them: headers, refusals, and who is counted where. The numbers are small and the clock
//! stands still; the rules themselves are tested where they are written.

use std::net::{IpAddr, SocketAddr};
use std::process::Stdio;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use expect_test::expect;
use keyrack::{ApiKey, KeyKind};
use keyrack_server::limits::{Limits, Rates, Tier};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;

use crate::app::{Reply, TestApp, plenty};
use crate::server::{Server, init, keyrack};

const KEYS: &str = "/api/client/keys";
const LIST: (&str, &str) = ("GET", KEYS);
const CREATE: (&str, &str) = ("POST", KEYS);
const HEADERS: [&str; 4] = ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "x-ratelimit-tier"];

/// Ten reads and twenty writes in a window, all of them in one second if the caller likes.
const SMALL_WINDOWS: &str = "starter=1/2/10 professional=1/1/1 enterprise=1/1/1";

async fn with_small_windows() -> TestApp {
    with_rates(SMALL_WINDOWS).await
}

async fn with_rates(rates: &str) -> TestApp {
    TestApp::with_limits(Limits { rates: Rates::parse(rates).unwrap(), ..plenty() }).await
}

/// An address without a valid key has twenty calls in a window, three of them in a second.
async fn with_few_strangers() -> TestApp {
    TestApp::with_limits(Limits { addresses_per_second: 2, ..plenty() }).await
}

/// The rate limit headers of a reply; empty where there is none.
fn told(reply: &Reply) -> [&str; 4] {
    HEADERS.map(|name| reply.headers.get(name).map_or("", |value| value.to_str().unwrap()))
}

/// How many of so many calls are let in.
async fn let_in(app: &TestApp, calls: usize, route: (&str, &str)) -> usize {
    let mut let_in = 0;
    for _ in 0..calls {
        let status = app.call(route, None).await.status;
        assert!(status == 429 || status == 200 || route.0 != "GET", "{status}");
        let_in += usize::from(status != 429);
    }
    let_in
}

/// A list with a credential of any sort, from an address.
async fn from(app: &TestApp, address: &str, credential: Option<&str>) -> Reply {
    let mut request = Request::get(KEYS);
    if let Some(credential) = credential {
        request = request.header("Authorization", credential);
    }
    let mut request = request.body(Body::empty()).unwrap();
    let address: IpAddr = address.parse().unwrap();
    request.extensions_mut().insert(ConnectInfo(SocketAddr::from((address, 40_000))));
    app.send(request).await
}

#[tokio::test]
async fn every_reply_says_what_is_left_and_one_too_many_is_refused() {
    let app = with_small_windows().await;
    let first = app.call(("GET", "/api/client/keys/3"), None).await;
    expect![[r#"
        200
        content-type: application/json
        x-request-id: req_05GD3T67GRZPCPXQ3RJTMW5VDT
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        x-ratelimit-limit: 10
        x-ratelimit-remaining: 9
        x-ratelimit-reset: 1777368611
        x-ratelimit-tier: starter
        content-length: 397

        {
          "id": 3,
          "project_id": 1,
          "name": "First admin key",
          "scope": "secret",
          "role": "admin",
          "value": "sk_****VEYF",
          "created_at": "2026-04-28T09:30:00.123Z",
          "updated_at": "2026-04-28T09:30:00.123Z",
          "description": null,
          "is_system_key": false,
          "permissions": [],
          "limits": [],
          "policy_version": 0,
          "last_used_at": null,
          "last_used_route": null,
          "created_by": {
            "kind": "host",
            "id": null
          },
          "last_changed_by": {
            "kind": "host",
            "id": null
          }
        }
    "#]]
    .assert_eq(&first.snapshot());
    assert_eq!(let_in(&app, 8, LIST).await, 8);
    app.advance_microseconds(2_500_000);
    let last = app.call(LIST, None).await;
    assert_eq!((last.status, told(&last)), (200, ["10", "0", "1777368611", "starter"]));
    let refused = app.call(LIST, None).await;
    expect![[r#"
        429
        content-type: application/problem+json
        retry-after: 8
        x-request-id: req_PHZTCHJQR4YHA0RHB3J54Q1ABK
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        x-ratelimit-limit: 10
        x-ratelimit-remaining: 0
        x-ratelimit-reset: 1777368611
        x-ratelimit-tier: starter
        content-length: 341

        {
          "status": "error",
          "code": "rate_limited",
          "title": "Too many requests",
          "message": "This key has used up its 10 reads of 10 seconds. Wait as long as `Retry-After` says.",
          "error": "This key has used up its 10 reads of 10 seconds. Wait as long as `Retry-After` says.",
          "type": "/docs/errors#rate_limited",
          "request_id": "req_PHZTCHJQR4YHA0RHB3J54Q1ABK"
        }
    "#]]
    .assert_eq(&refused.snapshot());
}

#[tokio::test]
async fn a_second_has_a_limit_of_its_own() {
    let app = with_rates("starter=2/1/1.5 professional=1/1/1 enterprise=1/1/1").await;
    assert_eq!(let_in(&app, 3, LIST).await, 3);
    app.advance_microseconds(600_000);
    let refused = app.call(LIST, None).await;
    expect![[r#"
        429
        content-type: application/problem+json
        retry-after: 1
        x-request-id: req_3BDRZ5JWFMN55Z9B4AWDNB6F4R
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        x-ratelimit-limit: 20
        x-ratelimit-remaining: 17
        x-ratelimit-reset: 1777368611
        x-ratelimit-tier: starter
        content-length: 335

        {
          "status": "error",
          "code": "rate_limited",
          "title": "Too many requests",
          "message": "This key has used up its 3 reads of a second. Wait as long as `Retry-After` says.",
          "error": "This key has used up its 3 reads of a second. Wait as long as `Retry-After` says.",
          "type": "/docs/errors#rate_limited",
          "request_id": "req_3BDRZ5JWFMN55Z9B4AWDNB6F4R"
        }
    "#]]
    .assert_eq(&refused.snapshot());
    app.advance_microseconds(400_000);
    assert_eq!(let_in(&app, 5, LIST).await, 3);
}

#[tokio::test]
async fn a_new_window_begins_when_the_last_one_has_ended() {
    let app = with_small_windows().await;
    assert_eq!(let_in(&app, 12, LIST).await, 10);
    app.advance_microseconds(9_999_999);
    let early = app.call(LIST, None).await;
    assert_eq!((early.status, early.headers["retry-after"].to_str().unwrap()), (429, "1"));
    app.advance_microseconds(1);
    assert_eq!(let_in(&app, 12, LIST).await, 10);
}

#[tokio::test]
async fn setting_the_wall_clock_changes_nothing_but_what_is_shown() {
    let app = with_small_windows().await;
    let hour = 3_600_000_000;
    assert_eq!(let_in(&app, 5, LIST).await, 5);
    app.set_wall_clock(hour);
    let later = app.call(LIST, None).await;
    assert_eq!(told(&later), ["10", "4", "1777372211", "starter"]);
    app.set_wall_clock(-2 * hour);
    assert_eq!(let_in(&app, 9, LIST).await, 4);
    let earlier = app.call(LIST, None).await;
    assert_eq!((told(&earlier)[2], earlier.headers["retry-after"].to_str().unwrap()), ("1777365011", "10"));
    app.advance_seconds(10);
    assert_eq!(let_in(&app, 12, LIST).await, 10);
}

#[tokio::test]
async fn reads_and_writes_are_counted_apart() {
    let app = with_small_windows().await;
    assert_eq!(let_in(&app, 5, LIST).await + let_in(&app, 7, ("HEAD", KEYS)).await, 10);
    let mut writes = 0;
    for route in [CREATE, ("PATCH", "/api/client/keys/3"), ("DELETE", "/api/client/keys/999")] {
        writes += let_in(&app, 7, route).await;
    }
    assert_eq!(writes, 20);
    let refused = app.call(CREATE, Some(json!({"name": "one too many"}))).await;
    assert_eq!((refused.status, told(&refused)), (429, ["20", "0", "1777368611", "starter"]));
    app.advance_seconds(10);
    assert!(!app.call(LIST, None).await.text.contains("one too many"));
}

#[tokio::test]
async fn another_key_of_the_project_has_windows_of_its_own() {
    let app = with_small_windows().await;
    let (_, other) = app.create(json!({"name": "other", "role": "admin"})).await;
    assert_eq!(let_in(&app, 12, LIST).await, 10);
    let reply = app.call_with(&other, LIST, None, &[]).await;
    assert_eq!((reply.status, told(&reply)), (200, ["10", "9", "1777368611", "starter"]));
}

#[tokio::test]
async fn the_tier_decides_and_a_model_context_client_has_twice_as_much() {
    let rates = Rates::parse("starter=1/1/1 professional=3/2/1.5 enterprise=5/5/1").unwrap();
    let app = TestApp::with_limits(Limits { tier: Tier::Professional, rates, ..plenty() }).await;
    let told_to = async |route, client: Option<&str>| {
        let header = client.map(|client| ("x-spotzee-client-type", client));
        told(&app.call_with(app.admin(), route, None, header.as_slice()).await).map(str::to_owned)
    };
    assert_eq!(told_to(LIST, None).await, ["30", "29", "1777368611", "professional"]);
    assert_eq!(told_to(LIST, Some("mcp")).await, ["60", "58", "1777368611", "professional"]);
    assert_eq!(told_to(CREATE, Some("mcp")).await, ["40", "39", "1777368611", "professional"]);
    for other in ["web", "MCP", "mcp, web", ""] {
        assert_eq!(told_to(LIST, Some(other)).await[0], "30", "{other}");
        app.advance_seconds(1);
    }
}

#[tokio::test]
async fn whatever_a_known_caller_is_told_it_is_told_what_is_left() {
    let app = TestApp::new().await;
    let (_, reader) = app.create(json!({"name": "reader", "role": "support"})).await;
    for (key, route, body, status) in [
        (app.admin(), CREATE, Some(json!({"name": ""})), 422),
        (app.admin(), ("GET", "/api/client/keys?limit=0"), None, 400),
        (app.admin(), ("GET", "/api/client/keys/999"), None, 404),
        (app.admin(), CREATE, None, 415),
        (reader.as_str(), LIST, None, 403),
    ] {
        let reply = app.call_with(key, route, body, &[]).await;
        assert_eq!(reply.status, status);
        assert!(told(&reply).iter().all(|value| !value.is_empty()), "{status}: {:?}", reply.headers);
    }
    let body = Some(json!({"name": "a"}));
    for _ in 0..2 {
        let reply = app.call_with(app.admin(), CREATE, body.clone(), &[("Idempotency-Key", "a")]).await;
        assert_eq!((reply.status, told(&reply)[3]), (200, "starter"));
    }
    // Nobody was asked who is calling, or nobody known was.
    for route in [("GET", "/docs"), ("GET", "/nothing"), ("PUT", KEYS), ("GET", "/livez")] {
        assert_eq!(told(&app.call(route, None).await), [""; 4], "{route:?}");
    }
    assert_eq!(told(&app.call_with("sk_", LIST, None, &[]).await), [""; 4]);
}

#[tokio::test]
async fn a_key_whose_role_is_too_low_is_counted_on_itself() {
    let rates = Rates::parse(SMALL_WINDOWS).unwrap();
    let app = TestApp::with_limits(Limits { rates, addresses_per_second: 1, ..plenty() }).await;
    let (_, reader) = app.create(json!({"name": "reader", "role": "support"})).await;
    let mut statuses = Vec::new();
    for _ in 0..12 {
        statuses.push(app.call_with(&reader, LIST, None, &[]).await.status);
    }
    assert_eq!((&statuses[..10], &statuses[10..]), (&[403; 10][..], &[429; 2][..]));
    // It is known, so its address was not counted.
    assert_eq!(app.call_with("sk_", LIST, None, &[]).await.status, 401);
}

#[tokio::test]
async fn a_refusal_is_not_kept_under_an_idempotency_key() {
    let app = with_small_windows().await;
    let_in(&app, 20, CREATE).await;
    let create = async || {
        let body = Some(json!({"name": "patient"}));
        app.call_with(app.admin(), CREATE, body, &[("Idempotency-Key", "patient")]).await
    };
    assert_eq!(create().await.status, 429);
    app.advance_seconds(10);
    let created = create().await;
    assert_eq!((created.status, created.headers.contains_key("idempotent-replayed")), (200, false));
    assert_eq!(create().await.headers["idempotent-replayed"], "true");
}

#[tokio::test]
async fn strangers_are_counted_on_their_address_and_never_hold_up_a_valid_key() {
    let app = with_few_strangers().await;
    let valid = format!("Bearer {}", app.admin());
    let first = from(&app, "192.0.2.1", None).await;
    for number in 0..20_u8 {
        let unknown = format!("Bearer {}", ApiKey::generate(KeyKind::Secret, &[number; 26]).expose());
        let reply = from(&app, "192.0.2.1", Some(&unknown)).await;
        assert_eq!(reply.status, if number < 2 { 401 } else { 429 }, "stranger {number}");
        assert_eq!(told(&reply), [""; 4]);
        assert_eq!(from(&app, "192.0.2.1", Some(&valid)).await.status, 200);
    }
    let refused = from(&app, "192.0.2.1", None).await;
    expect![[r#"
        429
        content-type: application/problem+json
        retry-after: 1
        x-request-id: req_2BFDY9ZBFBMTT8PWKJZ09NM3P2
        spotzee-version: 2026-04-28
        cache-control: no-store
        x-content-type-options: nosniff
        content-length: 403

        {
          "status": "error",
          "code": "rate_limited",
          "title": "Too many requests",
          "message": "Too many calls without a valid key came from this address. Send a valid key, or wait as long as `Retry-After` says.",
          "error": "Too many calls without a valid key came from this address. Send a valid key, or wait as long as `Retry-After` says.",
          "type": "/docs/errors#rate_limited",
          "request_id": "req_2BFDY9ZBFBMTT8PWKJZ09NM3P2"
        }
    "#]]
    .assert_eq(&refused.snapshot());

    // Below the limit a stranger learns nothing of it.
    let names: Vec<_> = first.headers.keys().map(|name| name.as_str()).collect();
    let expected = [
        "content-type",
        "www-authenticate",
        "x-request-id",
        "spotzee-version",
        "cache-control",
        "x-content-type-options",
        "content-length",
    ];
    assert_eq!((first.status, &names[..]), (401, &expected[..]));

    assert_eq!(from(&app, "192.0.2.2", None).await.status, 401, "another address");
    assert_eq!(from(&app, "::ffff:192.0.2.1", None).await.status, 429, "the same address");
    app.advance_seconds(1);
    assert_eq!(from(&app, "192.0.2.1", None).await.status, 401, "a second later");
    app.advance_seconds(9);
    assert_eq!(from(&app, "192.0.2.1", None).await.status, 401, "when the window has ended");
}

#[tokio::test]
async fn every_kind_of_401_counts() {
    let app = with_few_strangers().await;
    let (id, revoked) = app.create(json!({"name": "revoked", "role": "admin"})).await;
    assert_eq!(app.call(("DELETE", &format!("{KEYS}/{id}")), None).await.status, 200);
    let (_, publishable) = app.create(json!({"name": "pk", "role": "admin", "scope": "public"})).await;
    let unknown = ApiKey::generate(KeyKind::Secret, &[9; 26]);
    let bearer = |key: &str| format!("Bearer {key}");
    let kinds = [
        None,
        Some("Basic x".to_owned()),
        Some(bearer("garbage")),
        Some(bearer(unknown.expose())),
        Some(bearer(&revoked)),
        Some(bearer(&publishable)),
        Some(bearer(app.first_keys.organization.expose())),
        Some(bearer(app.first_keys.operator.expose())),
    ];
    for (number, kind) in kinds.iter().enumerate() {
        let address = format!("192.0.2.{number}");
        for expected in [401, 401, 401, 429] {
            assert_eq!(from(&app, &address, kind.as_deref()).await.status, expected, "{kind:?}");
        }
    }
}

#[tokio::test]
async fn a_key_is_not_counted_where_it_never_works() {
    let app = with_small_windows().await;
    let (id, revoked) = app.create(json!({"name": "revoked", "role": "admin"})).await;
    assert_eq!(app.call(("DELETE", &format!("{KEYS}/{id}")), None).await.status, 200);
    for key in [&revoked, app.first_keys.organization.expose()] {
        for _ in 0..12 {
            assert_eq!(app.call_with(key, LIST, None, &[]).await.status, 401);
        }
    }
}

/// Through the real listener: it is the connection that tells the address.
#[tokio::test]
async fn the_address_is_that_of_the_connection() {
    let data = tempfile::tempdir().unwrap();
    let keys = init(data.path());
    let mut command = keyrack(data.path());
    command.args(["--rate-limit-addresses", "1", "serve"]).stderr(Stdio::null());
    let server = Server::try_start(&mut command).unwrap();
    let to: SocketAddr = server.url["http://".len()..].parse().unwrap();
    let stranger = async |from: &str| {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(from.parse().unwrap()).unwrap();
        let mut stream = socket.connect(to).await.unwrap();
        let forged = "X-Forwarded-For: 192.0.2.1\r\nForwarded: for=192.0.2.1\r\n";
        let request = format!("GET {KEYS} HTTP/1.1\r\nHost: x\r\n{forged}Connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.unwrap();
        reply["HTTP/1.1 ".len()..][..3].to_owned()
    };
    // Eleven would do, did they all come within one window.
    let mut refused = false;
    for _ in 0..50 {
        refused |= stranger("127.0.0.1:0").await == "429";
    }
    assert!(refused);
    assert_eq!(stranger("127.0.0.2:0").await, "401");
    let admin = keys["project_key"].as_str().unwrap();
    let known = server.send("GET", KEYS, admin, None, &[]).unwrap();
    assert_eq!((known.status, known.headers["x-ratelimit-tier"].to_str().unwrap()), (200, "starter"));
}
