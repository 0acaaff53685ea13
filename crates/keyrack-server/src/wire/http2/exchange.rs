//! One request over HTTP/2, held to the same shape as over HTTP/1.1, and its reply.

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request as HyperRequest, Response, StatusCode};
use tokio::sync::Semaphore;

use super::Shared;
use crate::clock::{Clock as _, SystemClock};
use crate::wire::desk::ask;
use crate::wire::head::{MOST_FIELDS, MOST_TARGET_BYTES};
use crate::wire::refused::Refused;
use crate::wire::{Field, Fields, Peer, Reply, Request};

/// Fields that most replies have room for.
const MOST_REPLY_FIELDS: usize = 24;

/// Answers one request, whatever becomes of the service. The connection stays as it is. `bodies` has room for those of it that are read at a time.
pub(super) async fn answer(
    request: HyperRequest<Incoming>,
    peer: Peer,
    shared: &Shared,
    bodies: &Semaphore,
) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let mut reply = Reply::default();
    match read(&parts, body, shared, bodies).await {
        Ok((target, body)) => {
            let mut fields = Vec::with_capacity(parts.headers.len() + 1);
            // Over HTTP/1.1 this is a field, and whoever answers finds it in one place.
            if let Some(authority) = parts.uri.authority().filter(|_| !parts.headers.contains_key(HOST)) {
                fields.push(Field { name: "host", value: authority.as_str().as_bytes() });
            }
            fields.extend(
                parts.headers.iter().map(|(name, value)| Field { name: name.as_str(), value: value.as_bytes() }),
            );
            let request = Request {
                method: parts.method.as_str().as_bytes(),
                target: target.as_bytes(),
                target_is_whole: false,
                fields: Fields::new(&fields),
                body: &body,
                peer,
                now: SystemClock.moment(),
            };
            ask(shared.service.as_ref(), &request, &mut reply);
        }
        Err(refused) => {
            let target = parts.uri.path_and_query().map(|target| target.as_str().as_bytes());
            refused.write(&shared.settings, (shared.service.as_ref(), target), &mut reply);
        }
    }
    render(&reply, &parts.method)
}

/// The target and the body of a request that keeps to the shape.
async fn read<'a>(
    parts: &'a Parts,
    body: Incoming,
    shared: &Shared,
    bodies: &Semaphore,
) -> Result<(&'a str, Bytes), Refused> {
    let (target, length) = check(parts)?;
    if body.is_end_stream() {
        return Ok((target, Bytes::new()));
    }
    let most = shared.service.most_body(target.as_bytes());
    if length.is_some_and(|length| length > most) {
        return Err(Refused::BodyTooLarge);
    }
    let whole = async {
        // It is never closed.
        let _room = bodies.acquire().await;
        Limited::new(body, most).collect().await
    };
    match tokio::time::timeout(shared.settings.limits.body, whole).await {
        Ok(Ok(body)) => Ok((target, body.to_bytes())),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refused::BodyTooLarge),
        // The client took it back, and reads no reply.
        Ok(Err(_)) => Err(Refused::Malformed),
        Err(_elapsed) => Err(Refused::Slow),
    }
}

/// Holds a head to the rules that HTTP/2 itself does not have. Gives the target, and the length of the body if that is told.
fn check(parts: &Parts) -> Result<(&str, Option<usize>), Refused> {
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
    if !target.starts_with('/')
        || !target.bytes().all(|byte| byte.is_ascii_graphic())
        || parts.method == Method::CONNECT
    {
        return Err(Refused::Target);
    }
    if target.len() > MOST_TARGET_BYTES {
        return Err(Refused::TargetTooLong);
    }
    // The host may come as a field of its own.
    if parts.headers.len() >= MOST_FIELDS {
        return Err(Refused::HeadTooLarge);
    }
    check_host(parts)?;
    if parts.headers.contains_key(EXPECT) {
        return Err(Refused::Expectation);
    }
    if parts.headers.get_all(CONTENT_ENCODING).iter().any(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(Refused::Coded);
    }
    let mut lengths = parts.headers.get_all(CONTENT_LENGTH).iter();
    match (lengths.next(), lengths.next()) {
        (None, _) => Ok((target, None)),
        (Some(_), Some(_)) => Err(Refused::Length),
        (Some(length), None) => match length.to_str().ok().and_then(|length| length.parse::<usize>().ok()) {
            Some(length) => Ok((target, Some(length))),
            None => Err(Refused::Length),
        },
    }
}

/// There is one host, however it is told (RFC 9113, section 8.3.1).
fn check_host(parts: &Parts) -> Result<(), Refused> {
    let mut hosts = parts.headers.get_all(HOST).iter();
    match (parts.uri.authority(), hosts.next(), hosts.next()) {
        (_, Some(_), Some(_)) | (None, None, _) => Err(Refused::Host),
        (Some(authority), Some(host), None) if authority.as_str().as_bytes() != host.as_bytes() => Err(Refused::Host),
        (Some(_), _, None) | (None, Some(_), None) | (Some(_), None, Some(_)) => Ok(()),
    }
}

fn render(reply: &Reply, method: &Method) -> Response<Full<Bytes>> {
    let (Ok(status), Some(mut headers)) = (StatusCode::from_u16(reply.status()), headers_of(reply)) else {
        let mut unavailable = Response::new(Full::default());
        // No gateway takes this for a yes, and none for its own fault.
        *unavailable.status_mut() = StatusCode::FORBIDDEN;
        return unavailable;
    };
    let body = match status {
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED => Bytes::new(),
        _ => {
            headers.insert(CONTENT_LENGTH, reply.content().len().into());
            if method == Method::HEAD { Bytes::new() } else { Bytes::copy_from_slice(reply.content()) }
        }
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// The fields of a reply. Their values share one piece of memory.
fn headers_of(reply: &Reply) -> Option<HeaderMap> {
    let values = Bytes::copy_from_slice(reply.values());
    let mut headers = HeaderMap::with_capacity(MOST_REPLY_FIELDS);
    let mut start = 0;
    for (name, value) in reply.fields() {
        let end = start + value.len();
        let value = HeaderValue::from_maybe_shared(values.slice(start..end)).ok()?;
        headers.append(header_name(name)?, value);
        start = end;
    }
    Some(headers)
}

/// Names that are written as they are sent here need no memory.
fn header_name(name: &'static str) -> Option<HeaderName> {
    if name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-') {
        return Some(HeaderName::from_static(name));
    }
    HeaderName::from_bytes(name.as_bytes()).ok()
}
