//! What keeps to the shape is answered, however it comes in.

use super::{Client, LARGE, connect, get, start_with, started};

const POST: &str = "POST /verify?x=1 HTTP/1.1\r\nHost: keyrack:8081\r\nX-One:1\r\nX-Two: \t 2 \r\nX-None:\r\n\
                    Content-Type: application/json\r\nContent-Length: 11\r\n\r\n{\"a\": true}";

#[test]
fn a_connection_is_kept_for_the_next_request() {
    let wire = started();
    let mut client = connect(&wire);
    let first = client.ask(get("/one"));
    assert_eq!((first.status, first.text()), (200, "GET /one "));
    assert_eq!(first.field("X-Peer"), Some("address"));
    assert_eq!(first.field("connection"), None);
    assert!(first.field("date").unwrap().ends_with(" GMT"));
    let second = client.ask(POST);
    assert_eq!((second.text(), second.field("X-Fields")), ("POST /verify?x=1 {\"a\": true}", Some("6")));
    let third = client.ask(get("/empty"));
    assert_eq!((third.status, third.field("content-length")), (204, None));
    assert_eq!(client.ask("GET /get HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").text(), "GET /get hi");
    assert_eq!(client.ask("PURGE /any-method HTTP/1.1\r\nHost:\r\n\r\n").text(), "PURGE /any-method ");
}

#[test]
fn what_the_client_says_of_the_connection_holds() {
    let wire = started();
    for (request, says) in [
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "close"),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, CLOSE\r\n\r\n", "close"),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nConnection: x,close\r\n\r\n", "close"),
        ("GET / HTTP/1.0\r\n\r\n", "close"),
        ("GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", "close"),
    ] {
        let mut client = connect(&wire);
        client.send(request);
        client.send(get("/behind"));
        let answer = client.answer();
        assert_eq!((answer.status, answer.field("connection")), (200, Some(says)), "{request}");
        assert_eq!(client.rest(), b"", "{request}");
    }
    let mut client = connect(&wire);
    let kept = client.ask("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
    assert_eq!(kept.field("connection"), Some("keep-alive"));
    let upgrade = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c, websocket\r\nHTTP2-Settings: AAMAAABk\r\n";
    let answer = client.ask(format!("GET /plain HTTP/1.1\r\nHost: a\r\n{upgrade}\r\n"));
    assert_eq!((answer.status, answer.text()), (200, "GET /plain "));
    assert_eq!(client.ask(get("/still")).text(), "GET /still ");
}

#[test]
fn requests_that_come_together_are_answered_in_order() {
    let wire = started();
    let mut client = connect(&wire);
    let targets: Vec<_> = (0..5_000).map(|number| format!("/{number}")).collect();
    let mut all: String = targets.iter().map(|target| get(target)).collect();
    all.push_str(POST);
    let mut sender = Client::over(client.stream.try_clone().unwrap());
    let sending = std::thread::spawn(move || sender.send(all));
    for target in &targets {
        assert_eq!(client.answer().text(), format!("GET {target} "));
    }
    assert_eq!(client.answer().text(), "POST /verify?x=1 {\"a\": true}");
    sending.join().unwrap();
}

#[test]
fn however_a_request_is_cut_the_reply_is_the_same() {
    let wire = started();
    let whole = connect(&wire).ask(POST).undated();
    let mut client = connect(&wire);
    for cut in 1..POST.len() {
        let (front, back) = POST.split_at(cut);
        client.send(front);
        client.send(back);
        assert_eq!(client.answer().undated(), whole, "cut at {cut}");
    }
    for byte in POST.as_bytes() {
        client.send([*byte]);
    }
    assert_eq!(client.answer().undated(), whole);
    // The second begins in the piece in which the first ends.
    let both = POST.repeat(2);
    for cut in POST.len() - 3..POST.len() + 40 {
        let (front, back) = both.split_at(cut);
        client.send(front);
        client.send(back);
        assert_eq!([client.answer().undated(), client.answer().undated()], [whole.clone(), whole.clone()]);
    }
}

#[test]
fn a_body_may_be_as_large_as_the_limit() {
    let wire = started();
    let mut client = connect(&wire);
    let body = vec![b'b'; 1024 * 1024];
    for _ in 0..2 {
        client.send(format!("POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()));
        client.send(&body);
        let answer = client.answer();
        assert_eq!(answer.body.len(), "POST /b ".len() + body.len());
    }
}

#[test]
fn head_is_answered_without_the_body() {
    let wire = started();
    let mut client = connect(&wire);
    client.send("HEAD /large HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = client.answer_of(false);
    assert_eq!(answer.field("content-length").unwrap().parse::<usize>().unwrap(), LARGE + "HEAD /large ".len());
    assert_eq!(client.ask(get("/next")).text(), "GET /next ");
}

#[test]
fn a_client_that_has_said_everything_is_answered_before_the_end() {
    let wire = started();
    let mut client = connect(&wire);
    client.send([get("/one"), get("/large"), "GET /cut HT".to_owned()].concat());
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.answer().text(), "GET /one ");
    assert!(client.answer().text().ends_with("xxGET /large "));
    assert_eq!(client.rest(), b"");
}

#[test]
fn a_panic_costs_one_connection_and_reads_as_unavailable() {
    let wire = started();
    let mut bystander = connect(&wire);
    assert_eq!(bystander.ask(get("/")).status, 200);
    for target in ["/panic", "/unfit", "/blank"] {
        let mut client = connect(&wire);
        let answer = client.ask(get(target));
        assert_eq!((answer.status, answer.text()), (503, ""), "{target}");
        assert_eq!(answer.field("X-Keyrack-Reason"), Some("UNAVAILABLE"));
        assert_eq!(answer.field("connection"), Some("close"));
        assert_eq!(answer.field("X-Other"), None);
        assert_eq!(client.rest(), b"");
    }
    assert_eq!(bystander.ask(get("/")).status, 200);
}

#[test]
fn several_threads_share_a_port() {
    let wire = start_with(|settings| settings.threads = 4);
    let mut clients: Vec<_> = (0..64).map(|_| connect(&wire)).collect();
    for client in &mut clients {
        assert_eq!(client.ask(get("/")).status, 200);
    }
}
