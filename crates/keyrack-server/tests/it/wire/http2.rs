//! HTTP/2 without TLS: the same service, the same shape.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Bytes, Frame};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::header::HeaderMap;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use keyrack_server::wire::Wire;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::{LARGE, connect, start_with, started};

pub(crate) type Sender = SendRequest<Full<Bytes>>;

pub(crate) async fn speak<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S) -> Sender {
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn dial(wire: &Wire) -> Sender {
    speak(TcpStream::connect(wire.local_addr().unwrap()).await.unwrap()).await
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn field(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

async fn send(sender: &mut Sender, request: Request<Full<Bytes>>) -> Answer {
    let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
    Answer { status: parts.status, headers: parts.headers, body: body.collect().await.unwrap().to_bytes() }
}

fn post(target: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post(format!("http://keyrack.test{target}")).body(Full::new(body.into())).unwrap()
}

#[tokio::test]
async fn requests_are_answered_as_over_http1() {
    let wire = started();
    let mut sender = dial(&wire).await;
    let mut request = post("/one?a=b", "hello");
    request.headers_mut().insert("x-one", "1".parse().unwrap());
    let answer = send(&mut sender, request).await;
    assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, b"POST /one?a=b hello".as_slice()));
    // The host, the length and one more.
    assert_eq!((answer.field("x-fields"), answer.field("x-peer")), ("3", "address"));
    assert!(answer.field("date").ends_with(" GMT"));
    assert_eq!(answer.field("content-length"), answer.body.len().to_string());

    let empty = send(&mut sender, post("/empty", "")).await;
    assert_eq!((empty.status, empty.field("content-length")), (StatusCode::NO_CONTENT, ""));
    let head = Request::head("http://a/large").body(Full::default()).unwrap();
    let answer = send(&mut sender, head).await;
    assert_eq!((answer.body.len(), answer.field("content-length")), (0, (LARGE + 12).to_string().as_str()));
}

#[tokio::test]
async fn many_streams_share_a_connection() {
    let wire = start_with(|settings| settings.threads = 2);
    let sender = dial(&wire).await;
    let asked = (0..1_000).map(|number| {
        let mut sender = sender.clone();
        tokio::spawn(async move {
            sender.ready().await.unwrap();
            let answer = send(&mut sender, post(&format!("/{number}"), number.to_string())).await;
            assert_eq!(answer.body, format!("POST /{number} {number}"));
        })
    });
    for asked in asked.collect::<Vec<_>>() {
        asked.await.unwrap();
    }
}

#[tokio::test]
async fn it_is_spoken_over_the_unix_socket() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("verify.sock");
    let _wire = start_with(|settings| settings.unix = Some(path.clone()));
    let mut sender = speak(UnixStream::connect(&path).await.unwrap()).await;
    assert_eq!(send(&mut sender, post("/", "")).await.field("x-peer"), "unix");
}

#[tokio::test]
async fn a_panic_costs_one_request_and_reads_as_unavailable() {
    let wire = started();
    let mut sender = dial(&wire).await;
    for target in ["/panic", "/unfit", "/blank"] {
        let answer = send(&mut sender, post(target, "")).await;
        assert_eq!((answer.status, answer.field("x-keyrack-reason")), (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"));
        assert_eq!(answer.field("x-other"), "");
    }
    assert_eq!(send(&mut sender, post("/", "")).await.status, StatusCode::OK);
}

#[tokio::test]
async fn what_is_refused_over_http1_is_refused_here() {
    let wire = start_with(|settings| settings.limits.body = Duration::from_millis(100));
    let with = |name: &'static str, values: &[&'static str]| {
        let mut request = post("/", "");
        for value in values {
            request.headers_mut().append(name, value.parse().unwrap());
        }
        request
    };
    let mut many = post("/", "");
    for number in 0..64 {
        many.headers_mut().append(hyper::header::HeaderName::try_from(format!("x-{number}")).unwrap(), 1.into());
    }
    let connect = Request::connect("a:443").body(Full::default()).unwrap();
    let star = Request::options("*").body(Full::default()).unwrap();
    let largest = post("/", vec![b'b'; 1024 * 1024]);
    for (status, request) in [
        (413, post("/", vec![b'b'; 1024 * 1024 + 1])),
        (200, largest),
        (414, post(&format!("/{}", "a".repeat(8 * 1024)), "")),
        (415, with("content-encoding", &["gzip"])),
        (415, with("content-encoding", &["identity", "br"])),
        (200, with("content-encoding", &["identity"])),
        (417, with("expect", &["100-continue"])),
        (400, with("host", &["other.test"])),
        (400, with("host", &["keyrack.test", "keyrack.test"])),
        (200, with("host", &["keyrack.test"])),
        (431, many),
        (400, connect),
        (400, star),
    ] {
        let shown = format!("{} {:?}", request.method(), request.headers().iter().next());
        let mut sender = dial(&wire).await;
        let answer = send(&mut sender, request).await;
        assert_eq!(answer.status.as_u16(), status, "{shown}");
        if status != 200 {
            let document: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!((&document["status"], &document["request_id"]), (&"error".into(), &"req_TEST".into()));
        }
    }
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

/// Asks `GET /` with `:authority: a`, in the numbers of HPACK's table. Its flags say whether a body follows.
fn headers(stream: u8, flags: u8) -> Vec<u8> {
    vec![0, 0, 6, 1, flags, 0, 0, 0, stream, 0x82, 0x86, 0x84, 0x41, 1, b'a']
}

/// The types of the frames in some bytes.
fn frames(mut bytes: &[u8]) -> Vec<u8> {
    let mut types = Vec::new();
    while let [a, b, c, kind, _, _, _, _, _, ..] = bytes {
        types.push(*kind);
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        bytes = bytes.get(9 + length..).unwrap_or_default();
    }
    types
}

const IS_HEADERS: u8 = 1;
const IS_SETTINGS: u8 = 4;
const IS_GOAWAY: u8 = 7;

#[test]
fn the_beginning_may_come_in_pieces() {
    let wire = start_with(|settings| settings.limits.idle_http2 = Duration::from_millis(200));
    let mut client = connect(&wire);
    for byte in [PREFACE, &SETTINGS, &headers(1, 5)].concat() {
        client.send([byte]);
    }
    let frames = frames(&client.rest());
    assert_eq!(frames.first(), Some(&IS_SETTINGS));
    assert!(frames.contains(&IS_HEADERS) && frames.contains(&IS_GOAWAY), "{frames:?}");
}

#[test]
fn who_says_nothing_is_disconnected() {
    let wire = start_with(|settings| settings.limits.idle_http2 = Duration::from_millis(50));
    let mut client = connect(&wire);
    client.send([PREFACE, &SETTINGS].concat());
    let frames = frames(&client.rest());
    assert!(frames.contains(&IS_GOAWAY), "{frames:?}");
}

#[test]
fn a_body_has_its_time() {
    let wire = start_with(|settings| {
        settings.limits.body = Duration::from_millis(50);
        settings.limits.idle_http2 = Duration::from_millis(500);
    });
    let mut client = connect(&wire);
    client.send([PREFACE, &SETTINGS, &headers(1, 4)].concat());
    let frames = frames(&client.rest());
    assert!(frames.contains(&IS_HEADERS), "{frames:?}");
}

#[test]
fn who_opens_and_resets_streams_without_end_is_disconnected() {
    let wire = started();
    let mut client = connect(&wire);
    let mut flood = [PREFACE, &SETTINGS].concat();
    for stream in (1..=127).step_by(2).cycle().take(64) {
        flood.extend(headers(stream, 5));
        flood.extend([0, 0, 4, 3, 0, 0, 0, 0, stream, 0, 0, 0, 8]);
    }
    for stream in (1_u16..20_000).step_by(2).skip(64) {
        let [high, low] = stream.to_be_bytes();
        flood.extend([0, 0, 6, 1, 5, 0, 0, high, low, 0x82, 0x86, 0x84, 0x41, 1, b'a']);
        flood.extend([0, 0, 4, 3, 0, 0, 0, high, low, 0, 0, 0, 8]);
    }
    client.send(flood);
    client.rest();
    assert_eq!(connect(&wire).ask(super::get("/")).status, 200);
}

#[tokio::test]
async fn a_stop_says_goodbye() {
    let wire = started();
    let mut sender = dial(&wire).await;
    assert_eq!(send(&mut sender, post("/", "")).await.status, StatusCode::OK);
    let mut silent = connect(&wire);
    silent.send([PREFACE, &SETTINGS].concat());
    assert_eq!(silent.first_bytes()[3], IS_SETTINGS);
    tokio::task::spawn_blocking(|| wire.stop()).await.unwrap();
    assert!(sender.ready().await.is_err());
    assert!(frames(&silent.rest()).contains(&IS_GOAWAY));
}

/// A body of which half never comes, or a whole one.
struct Slow {
    bytes: Option<Bytes>,
    comes: bool,
}

impl Body for Slow {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.bytes.take() {
            Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            None if self.comes => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none() && self.comes
    }
}

/// What a client begins to send is kept until it is whole: of a connection, that of four requests.
#[tokio::test]
async fn few_bodies_of_a_connection_are_read_at_a_time() {
    let wire = start_with(|settings| settings.limits.body = Duration::from_secs(3));
    let stream = TcpStream::connect(wire.local_addr().unwrap()).await.unwrap();
    let (mut sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut ask = |target: &str, body: Slow| {
        let request = Request::post(format!("http://keyrack.test{target}")).body(body).unwrap();
        tokio::spawn(sender.send_request(request))
    };
    let bytes = || Some(Bytes::from_static(b"hello"));
    let mut stalled = Vec::new();
    for _ in 0..4 {
        stalled.push(ask("/stalled", Slow { bytes: bytes(), comes: false }));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let began = Instant::now();
    let without = ask("/without", Slow { bytes: None, comes: true }).await.unwrap().unwrap();
    assert!(without.status().is_success() && began.elapsed() < Duration::from_secs(1), "it has none");
    let whole = ask("/whole", Slow { bytes: bytes(), comes: true }).await.unwrap().unwrap();
    assert_eq!(whole.status(), StatusCode::OK);
    assert!(began.elapsed() > Duration::from_secs(1), "there was no room for it");
    for stalled in stalled {
        assert_eq!(stalled.await.unwrap().unwrap().status(), StatusCode::REQUEST_TIMEOUT);
    }
}
