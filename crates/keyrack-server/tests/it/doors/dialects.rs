//! Each gateway's dialect: what it reads, whom it believes, and how it denies (reliability rules 4.6 and 4.7).

use expect_test::expect;
use http_body_util::Full;
use hyper::Request;
use keyrack_server::config::LimitHeaders;
use serde_json::json;
use tokio::net::TcpStream;

use crate::wire::http2::speak;

use super::{Answer, Opened, head, policy};

/// Status and what says why.
pub(super) fn verdict(answer: &Answer) -> String {
    let fields = ["x-keyrack-reason", "x-keyrack-status", "x-keyrack-detail", "retry-after", "www-authenticate"];
    let shown: Vec<_> = fields.iter().map(|name| answer.field(name).unwrap_or("-")).collect();
    assert_eq!(answer.field("cache-control"), Some("no-store"));
    format!("{} {}", answer.status, shown.join(" | "))
}

#[tokio::test(flavor = "multi_thread")]
async fn allow_is_200_with_every_identity_field() {
    let doors = Opened::new().await;
    let (id, key) = doors.key(json!({"name": "x", "role": "editor"})).await;
    let answer = doors.nginx(&key, "GET", "/x");
    let identity: Vec<_> = answer
        .fields
        .iter()
        .filter(|(name, _)| name.starts_with("x-keyrack"))
        .map(|(n, v)| format!("{n}: {v}"))
        .collect();
    let seq = doors.app.app.verifier.index().position();
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    assert_eq!(
        identity,
        [
            format!("x-keyrack-key-id: {id}"),
            "x-keyrack-project-id: 1".to_owned(),
            "x-keyrack-organization-id: 1".to_owned(),
            "x-keyrack-role: editor".to_owned(),
            "x-keyrack-scope: secret".to_owned(),
            format!("x-keyrack-seq: {seq}"),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_gateway_is_denied_in_a_way_it_understands() {
    let doors = Opened::new().await;
    doors.apply(1, policy());
    let (_, key) = doors.key(json!({"name": "x", "limits": [{"name": "r", "limit": 4, "period": "31d"}]})).await;
    let bearer = format!("Bearer {key}");
    let mut table = String::new();
    let mut ask = |what: &str, bearer: &str, method: &str, path: &str| {
        for dialect in ["nginx", "forward", "haproxy", "envoy"] {
            let answer = match dialect {
                "envoy" => {
                    doors.send(&head(method, &format!("/v1/auth/envoy/-{path}"), &[("Authorization", bearer)]), "")
                }
                dialect => doors.get(
                    &format!("/v1/auth/{dialect}"),
                    &[
                        ("Authorization", bearer),
                        ("X-Original-Method", method),
                        ("X-Original-URI", path),
                        ("X-Forwarded-Method", method),
                        ("X-Forwarded-Uri", path),
                        ("X-Forwarded-Host", "api.example.com"),
                        ("X-Forwarded-For", "203.0.113.9"),
                    ],
                ),
            };
            if answer.status != 200 {
                assert_eq!(answer.field("content-type"), Some("application/problem+json"));
                assert!(answer.json()["request_id"].as_str().unwrap().starts_with("req_"));
            }
            table += &format!("{what:<6} {dialect:<8} {}\n", verdict(&answer));
        }
    };
    ask("bad", "Bearer sk_wrong", "GET", "/x");
    ask("role", &bearer, "POST", "/x");
    ask("spend", &bearer, "GET", "/x");
    ask("rate", &bearer, "GET", "/x");
    doors.app.app.verifier.index().distrust();
    ask("unfit", &bearer, "GET", "/x");
    expect![[r#"
        bad    nginx    401 NOT_FOUND | 401 | - | - | Bearer realm="keyrack", error="invalid_token"
        bad    forward  401 NOT_FOUND | 401 | - | - | Bearer realm="keyrack", error="invalid_token"
        bad    haproxy  401 NOT_FOUND | 401 | - | - | Bearer realm="keyrack", error="invalid_token"
        bad    envoy    401 NOT_FOUND | 401 | - | - | Bearer realm="keyrack", error="invalid_token"
        role   nginx    403 FORBIDDEN | 403 | role | - | -
        role   forward  403 FORBIDDEN | 403 | role | - | -
        role   haproxy  403 FORBIDDEN | 403 | role | - | -
        role   envoy    403 FORBIDDEN | 403 | role | - | -
        spend  nginx    200 - | - | - | - | -
        spend  forward  200 - | - | - | - | -
        spend  haproxy  200 - | - | - | - | -
        spend  envoy    200 - | - | - | - | -
        rate   nginx    403 RATE_LIMITED | 429 | rate | 669600 | -
        rate   forward  429 RATE_LIMITED | 429 | rate | 669600 | -
        rate   haproxy  429 RATE_LIMITED | 429 | rate | 669600 | -
        rate   envoy    429 RATE_LIMITED | 429 | rate | 669600 | -
        unfit  nginx    403 UNAVAILABLE | 503 | - | 1 | -
        unfit  forward  503 UNAVAILABLE | 503 | - | 1 | -
        unfit  haproxy  503 UNAVAILABLE | 503 | - | 1 | -
        unfit  envoy    403 UNAVAILABLE | 503 | - | 1 | -
    "#]]
    .assert_eq(&table);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_odd_is_denied_with_its_reason() {
    let doors = Opened::new().await;
    let (_, key) = doors.key(json!({"name": "x"})).await;
    let bearer = format!("Bearer {key}");
    let good = [
        ("Authorization", bearer.as_str()),
        ("X-Forwarded-Method", "GET"),
        ("X-Forwarded-Uri", "/x"),
        ("X-Forwarded-Host", "api.example.com"),
        ("X-Forwarded-For", "203.0.113.9"),
    ];
    assert_eq!(doors.get("/v1/auth/forward", &good).status, 200);
    let with = |name: &'static str, value: &'static str| {
        good.iter().copied().filter(|(known, _)| *known != name).chain([(name, value)]).collect::<Vec<_>>()
    };
    let without = |name: &str| good.iter().copied().filter(|(known, _)| *known != name).collect::<Vec<_>>();
    let twice = |name: &str| {
        let again = good.iter().copied().find(|(known, _)| *known == name).unwrap();
        good.iter().copied().chain([again]).collect::<Vec<_>>()
    };
    let also =
        |name: &'static str, value: &'static str| good.iter().copied().chain([(name, value)]).collect::<Vec<_>>();
    let mut table = String::new();
    let mut ask = |what: &str, target: &str, fields: &[(&str, &str)]| {
        table += &format!("{what:<28} {}\n", verdict(&doors.get(target, fields)));
    };
    let door = "/v1/auth/forward";
    for (name, _) in good {
        ask(&format!("no {name}"), door, &without(name));
        ask(&format!("{name} twice"), door, &twice(name));
    }
    ask("two keys in one", door, &with("Authorization", "Bearer a, Bearer b"));
    ask("another scheme", door, &with("Authorization", "Basic eDp5"));
    ask("no space", door, &with("Authorization", "Bearer"));
    ask("method in lower case", door, &with("X-Forwarded-Method", "get"));
    ask("method of nothing", door, &with("X-Forwarded-Method", ""));
    ask("path of nothing", door, &with("X-Forwarded-Uri", ""));
    ask("whole URL as path", door, &with("X-Forwarded-Uri", "http://x/y"));
    ask("host with a path", door, &with("X-Forwarded-Host", "a/b"));
    ask("address of words", door, &with("X-Forwarded-For", "unknown"));
    ask("address with a zone", door, &with("X-Forwarded-For", "fe80::1%eth0"));
    ask("method override", door, &also("X-HTTP-Method-Override", "DELETE"));
    ask("headers of another dialect", "/v1/auth/nginx", &good);
    ask("unknown door", "/v1/auth/forward/policy", &good);
    ask("a policy from the query", "/v1/auth/forward?policy=none", &good);
    expect![[r#"
        no Authorization             401 NOT_FOUND | 401 | credential_missing | - | Bearer realm="keyrack"
        Authorization twice          401 NOT_FOUND | 401 | credential_repeated | - | Bearer realm="keyrack", error="invalid_token"
        no X-Forwarded-Method        403 FORBIDDEN | 403 | method_missing | - | -
        X-Forwarded-Method twice     403 FORBIDDEN | 403 | header_repeated | - | -
        no X-Forwarded-Uri           403 FORBIDDEN | 403 | path_missing | - | -
        X-Forwarded-Uri twice        403 FORBIDDEN | 403 | header_repeated | - | -
        no X-Forwarded-Host          403 FORBIDDEN | 403 | host_missing | - | -
        X-Forwarded-Host twice       403 FORBIDDEN | 403 | header_repeated | - | -
        no X-Forwarded-For           403 FORBIDDEN | 403 | address_missing | - | -
        X-Forwarded-For twice        403 FORBIDDEN | 403 | header_repeated | - | -
        two keys in one              401 NOT_FOUND | 401 | credential_repeated | - | Bearer realm="keyrack", error="invalid_token"
        another scheme               401 NOT_FOUND | 401 | credential_malformed | - | Bearer realm="keyrack", error="invalid_token"
        no space                     401 NOT_FOUND | 401 | credential_malformed | - | Bearer realm="keyrack", error="invalid_token"
        method in lower case         403 FORBIDDEN | 403 | method_malformed | - | -
        method of nothing            403 FORBIDDEN | 403 | method_malformed | - | -
        path of nothing              403 FORBIDDEN | 403 | path_malformed | - | -
        whole URL as path            403 FORBIDDEN | 403 | path_malformed | - | -
        host with a path             403 FORBIDDEN | 403 | host_malformed | - | -
        address of words             403 FORBIDDEN | 403 | address_malformed | - | -
        address with a zone          403 FORBIDDEN | 403 | address_malformed | - | -
        method override              403 FORBIDDEN | 403 | method_override | - | -
        headers of another dialect   403 FORBIDDEN | 403 | method_missing | - | -
        unknown door                 403 FORBIDDEN | 403 | door_unknown | - | -
        a policy from the query      200 - | - | - | - | -
    "#]].assert_eq(&table);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_method_is_asked_for_in_no_spelling_and_an_empty_key_is_none() {
    let doors = Opened::new().await;
    let (_, key) = doors.key(json!({"name": "x"})).await;
    let bearer = format!("Bearer {key}");
    let ask = |bearer: &str, also: (&str, &str)| {
        let asked = [("Authorization", bearer), ("X-Original-Method", "GET"), ("X-Original-URI", "/x"), also];
        verdict(&doors.get("/v1/auth/nginx", &asked))
    };
    assert_eq!(ask(&bearer, ("X-HTTP-Methods", "DELETE")), "200 - | - | - | - | -");
    for name in ["X-HTTP-Method-Override", "x_http_method_override", "X-Method_Override", "X_HTTP-METHOD"] {
        for method in ["DELETE", ""] {
            let denied = "403 FORBIDDEN | 403 | method_override | - | -";
            assert_eq!(ask(&bearer, (name, method)), denied, "{name}: {method}");
        }
    }
    let missing = "401 NOT_FOUND | 401 | credential_missing | - | Bearer realm=\"keyrack\"";
    assert_eq!(ask("", ("X-Other", "")), missing);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_trusted_peers_are_believed() {
    let doors = Opened::with("10.0.0.0/8", LimitHeaders::X).await;
    let (_, key) = doors.key(json!({"name": "x"})).await;
    let refused = doors.nginx(&key, "GET", "/x");
    assert_eq!(verdict(&refused), "403 FORBIDDEN | 403 | peer_untrusted | - | -");
    let bearer = format!("Bearer {key}");
    let fields = [("Authorization", bearer.as_str()), ("X-Original-Method", "GET"), ("X-Original-URI", "/x")];
    let local = doors.send_locally(&head("GET", "/v1/auth/nginx", &fields), "");
    assert_eq!(local.status, 200, "whoever may open the socket is trusted");
    assert_eq!(doors.verify(&json!({"key": key})).status, 200, "this door reads no header of others");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_prefix_without_its_mark_lets_no_client_choose_its_policy() {
    let doors = Opened::new().await;
    doors.apply(1, policy());
    let admin = format!("Bearer {}", doors.app.admin());
    let ask = |target: &str| verdict(&doors.send(&head("GET", target, &[("Authorization", &admin)]), ""));
    assert!(ask("/v1/auth/envoy/-/things").starts_with("200"));
    assert!(ask("/v1/auth/envoy/policy/strict/-/policy/default/-/x").starts_with("403 FORBIDDEN | 403 | closed"));
    for target in ["/v1/auth/envoy/things", "/v1/auth/envoy", "/v1/auth/envoy/-"] {
        assert!(ask(target).contains("door_unknown"), "{target}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_even_a_request_is_denied_in_the_gateways_way() {
    let doors = Opened::new().await;
    let (long, many) = ("x".repeat(17 * 1024), "X-Many: 1\r\n".repeat(65));
    let oddities =
        [format!("X-Long: {long}\r\n"), many, "Transfer-Encoding: chunked\r\n".to_owned(), "Expect: x\r\n".to_owned()];
    for dialect in ["nginx", "forward", "haproxy", "envoy/-/x"] {
        for odd in &oddities {
            let answer = doors.send(&format!("{}{odd}", head("GET", &format!("/v1/auth/{dialect}"), &[])), "");
            let shown = (answer.status, answer.field("x-keyrack-reason"), answer.field("x-keyrack-detail"));
            assert_eq!(shown, (403, Some("FORBIDDEN"), Some("request_malformed")), "{dialect} {:.20}", odd);
        }
    }
    for dialect in ["nginx?", "forward?", "haproxy?", "envoy/-/"] {
        // Refused before the first line is over.
        let answer = doors.answer_to(&format!("GET /v1/auth/{dialect}{long}"), true).unwrap();
        let shown = (answer.status, answer.field("x-keyrack-reason"), answer.field("x-keyrack-detail"));
        assert_eq!(shown, (403, Some("FORBIDDEN"), Some("request_malformed")), "{dialect}");
    }
    let answer = doors.send(&format!("{}X-Long: {long}\r\n", head("POST", "/v1/verify", &[])), "");
    assert_eq!((answer.status, answer.field("x-keyrack-reason")), (431, None), "who asks here reads the status");
}

/// What is kept of a request while it comes in is bounded by what its door has a use for.
#[tokio::test(flavor = "multi_thread")]
async fn no_door_takes_more_body_than_it_reads() {
    let doors = Opened::new().await;
    let mut sender = speak(TcpStream::connect(doors.address).await.unwrap()).await;
    for (target, most, refused) in [
        ("/v1/auth/nginx", 0, (403, Some("FORBIDDEN"))),
        ("/v1/auth/forward", 0, (403, Some("FORBIDDEN"))),
        ("/v1/auth/haproxy", 0, (403, Some("FORBIDDEN"))),
        ("/v1/auth/envoy/-/x", 0, (403, Some("FORBIDDEN"))),
        ("/v1/verify", 16 * 1024, (413, None)),
        ("/v1/introspect", 16 * 1024, (413, None)),
        ("/v1/verify/batch", 1024 * 1024, (413, None)),
    ] {
        let send = |length: usize| {
            // No more than the head: the answer does not wait for the rest.
            let head = head("POST", target, &[("Content-Length", &length.to_string())]);
            doors.answer_to(&format!("{head}\r\n"), length > most)
        };
        let too_much = send(most + 1).unwrap();
        assert_eq!((too_much.status, too_much.field("x-keyrack-reason")), refused, "{target}");
        if most > 0 {
            assert!(send(most).is_none(), "{target}: the body is waited for");
        }
        let request = |length: usize| {
            let body = Full::new(vec![b' '; length].into());
            Request::post(format!("http://keyrack.test{target}")).body(body).unwrap()
        };
        let answer = sender.send_request(request(most + 1)).await.unwrap();
        let found = answer.headers().get("x-keyrack-reason").map(|reason| reason.to_str().unwrap());
        assert_eq!((answer.status().as_u16(), found), refused, "{target} over HTTP/2");
        let answer = sender.send_request(request(most)).await.unwrap();
        assert_ne!(answer.status().as_u16(), 413, "{target} over HTTP/2");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_the_unix_socket_the_address_is_read_all_the_same() {
    let doors = Opened::new().await;
    let (_, key) = doors.key(json!({"name": "x"})).await;
    let bearer = format!("Bearer {key}");
    for (door, method, uri) in [
        ("forward", "X-Forwarded-Method", "X-Forwarded-Uri"),
        ("haproxy", "X-Forwarded-Method", "X-Forwarded-Uri"),
        ("nginx", "X-Original-Method", "X-Original-URI"),
    ] {
        for (address, expected) in
            [("203.0.113.9", "200 - | - | - | - | -"), ("unknown", "403 FORBIDDEN | 403 | address_malformed | - | -")]
        {
            let fields = [
                ("Authorization", &*bearer),
                (method, "GET"),
                (uri, "/x"),
                ("X-Forwarded-Host", "a"),
                ("X-Forwarded-For", address),
            ];
            let head = head("GET", &format!("/v1/auth/{door}"), &fields);
            for answer in [doors.send(&head, ""), doors.send_locally(&head, "")] {
                assert_eq!(verdict(&answer), expected, "{door} {address}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_http2_may_have_cut_is_not_judged() {
    let doors = Opened::new().await;
    let (_, key) = doors.key(json!({"name": "x"})).await;
    let mut sender = speak(TcpStream::connect(doors.address).await.unwrap()).await;
    for (target, status, detail) in [
        ("/v1/auth/nginx", 200, None),
        // As it comes for `/open#/../closed` too: what stands behind the `#` is gone.
        ("/v1/auth/envoy/-/open", 403, Some("http2_unsupported")),
    ] {
        let request = Request::get(format!("http://keyrack.test{target}"))
            .header("authorization", format!("Bearer {key}"))
            .header("x-original-method", "GET")
            .header("x-original-uri", "/open");
        let answer = sender.send_request(request.body(Full::default()).unwrap()).await.unwrap();
        let found = answer.headers().get("x-keyrack-detail").map(|detail| detail.to_str().unwrap());
        assert_eq!((answer.status().as_u16(), found), (status, detail), "{target}");
    }
}
