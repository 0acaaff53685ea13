//! A layer for services on [`tower`](tower_service): axum, tonic, hyper. Each request is verified in this process before the
//! service behind sees it.
//!
//! The key is read from `Authorization: Bearer`, once and only there; method and path are those of the request, exactly as they
//! came. What may not pass is answered as the doors of the server answer it (contract section 7). What may pass has its
//! [`VerifiedKey`] among its extensions, and no `Authorization` any more.
//!
//! Put it around the whole application: a router that is nested in another sees only the rest of the path.
//!
//! | feature | gives |
//! | --- | --- |
//! | `tower` | [`KeyrackLayer`], for services whose response bodies can be made from a [`String`], as axum's can |
//! | `axum` | a handler that asks for a [`VerifiedKey`] among its arguments gets it |
//! | `tonic` | [`KeyrackLayer::grpc`]: denials as gRPC statuses, for services whose response bodies have a default |

#[cfg(feature = "axum")]
mod extract;
#[cfg(feature = "tonic")]
mod grpc;
mod refusal;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

#[cfg(feature = "tonic")]
pub use self::grpc::Grpc;
use self::refusal::Refusal;
pub use self::refusal::{Http, Style};
pub use crate::system_clock::system_clock;
use crate::{
    Ask, AskedRequest, Code, LimitState, Now, OrganizationId, ProjectId, VerifiedKey, Verifier, bearer,
    is_method_override,
};

/// The layer; see the module's head.
#[derive(Clone)]
pub struct KeyrackLayer<S = Http> {
    rules: Arc<Rules>,
    style: S,
}

/// What a request must be.
#[derive(Clone)]
struct Rules {
    verifier: Arc<Verifier>,
    clock: Arc<dyn Fn() -> Now + Send + Sync>,
    policy: Option<Box<[u8]>>,
    project: Option<ProjectId>,
    organization: Option<OrganizationId>,
}

impl KeyrackLayer {
    /// A layer that asks a verifier, by the machine's clocks.
    pub fn new(verifier: Arc<Verifier>) -> Self {
        let clock = Arc::new(system_clock);
        Self {
            rules: Arc::new(Rules { verifier, clock, policy: None, project: None, organization: None }),
            style: Http,
        }
    }

    /// The same with denials as gRPC statuses.
    #[cfg(feature = "tonic")]
    #[must_use]
    pub fn grpc(self) -> KeyrackLayer<Grpc> {
        KeyrackLayer { rules: self.rules, style: Grpc }
    }
}

impl<S> KeyrackLayer<S> {
    fn with(mut self, set: impl FnOnce(&mut Rules)) -> Self {
        set(Arc::make_mut(&mut self.rules));
        self
    }

    /// Judges by the policy of that name, not by `default`.
    #[must_use]
    pub fn policy(self, name: &str) -> Self {
        self.with(|rules| rules.policy = Some(name.as_bytes().into()))
    }

    /// Lets only keys of one project pass.
    #[must_use]
    pub fn project(self, project: ProjectId) -> Self {
        self.with(|rules| rules.project = Some(project))
    }

    /// Lets only keys of one organization pass.
    #[must_use]
    pub fn organization(self, organization: OrganizationId) -> Self {
        self.with(|rules| rules.organization = Some(organization))
    }

    /// Takes the time from another clock, in a test for instance.
    #[must_use]
    pub fn clock(self, clock: impl Fn() -> Now + Send + Sync + 'static) -> Self {
        self.with(|rules| rules.clock = Arc::new(clock))
    }
}

impl<S> fmt::Debug for KeyrackLayer<S> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("KeyrackLayer").finish_non_exhaustive()
    }
}

impl<I, S: Clone> Layer<I> for KeyrackLayer<S> {
    type Service = Keyrack<I, S>;

    fn layer(&self, inner: I) -> Keyrack<I, S> {
        Keyrack { inner, rules: Arc::clone(&self.rules), style: self.style.clone() }
    }
}

/// A service behind the layer.
#[derive(Clone)]
pub struct Keyrack<I, S = Http> {
    inner: I,
    rules: Arc<Rules>,
    style: S,
}

impl<I: fmt::Debug, S> fmt::Debug for Keyrack<I, S> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Keyrack").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<I, S, B, R> Service<Request<B>> for Keyrack<I, S>
where
    I: Service<Request<B>, Response = Response<R>>,
    S: Style<R>,
{
    type Response = Response<R>;
    type Error = I::Error;
    type Future = Answer<I::Future, R>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), I::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        match self.rules.verify(&request) {
            Ok((verified, limit)) => {
                request.headers_mut().remove(AUTHORIZATION);
                request.extensions_mut().insert(verified);
                Answer { state: State::Passed { answer: self.inner.call(request), limit } }
            }
            Err(refusal) => {
                let mut response = self.style.refuse(&refusal);
                add_limit(response.headers_mut(), refusal.limit.as_ref());
                Answer { state: State::Refused { response: Some(response) } }
            }
        }
    }
}

impl Rules {
    fn verify<B>(&self, request: &Request<B>) -> Result<(VerifiedKey, Option<LimitState>), Refusal> {
        let key = credential(request.headers())?;
        if request.headers().keys().any(|name| is_method_override(name.as_str().as_bytes())) {
            return Err(Refusal::of(Code::Forbidden, Some("method_override")));
        }
        let target = request.uri().path_and_query().map_or("", |target| target.as_str());
        let method = request.method().as_str().as_bytes();
        let asked = AskedRequest { method, target: target.as_bytes(), policy: self.policy.as_deref() };
        let ask = Ask {
            key,
            request: Some(asked),
            project: self.project,
            organization: self.organization,
            cost: 1,
            ..Ask::default()
        };
        let verdict = self.verifier.check(&ask, (self.clock)());
        match verdict.outcome {
            Ok(verified) => Ok((verified, verdict.limit)),
            Err(_) => Err(Refusal {
                limit: verdict.limit,
                retry_after: verdict.retry_after(),
                ..Refusal::of(verdict.code(), verdict.detail())
            }),
        }
    }
}

/// The one key that was presented.
fn credential(headers: &HeaderMap) -> Result<&[u8], Refusal> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let not_found = |detail| Refusal::of(Code::NotFound, Some(detail));
    match (values.next(), values.next()) {
        (Some(_), Some(_)) => Err(not_found("credential_repeated")),
        (Some(value), None) if !value.is_empty() => {
            bearer(value.as_bytes()).map_err(|no_bearer| not_found(no_bearer.detail()))
        }
        // An empty one is none.
        (None | Some(_), None) | (None, Some(_)) => {
            Err(Refusal { key_was_sent: false, ..not_found("credential_missing") })
        }
    }
}

fn add_limit(headers: &mut HeaderMap, limit: Option<&LimitState>) {
    let Some(LimitState { limit, remaining, reset, .. }) = limit else { return };
    for (name, number) in
        [("x-ratelimit-limit", limit), ("x-ratelimit-remaining", remaining), ("x-ratelimit-reset", reset)]
    {
        headers.insert(name, HeaderValue::from(*number));
    }
}

pin_project! {
    /// What becomes of a request.
    #[derive(Debug)]
    pub struct Answer<F, R> {
        #[pin]
        state: State<F, R>,
    }
}

pin_project! {
    #[project = StateProjection]
    #[derive(Debug)]
    enum State<F, R> {
        // It is answered by the service behind the layer.
        Passed { #[pin] answer: F, limit: Option<LimitState> },
        Refused { response: Option<Response<R>> },
    }
}

impl<F, R, E> Future for Answer<F, R>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<R>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Passed { answer, limit } => {
                let mut response = ready!(answer.poll(context))?;
                add_limit(response.headers_mut(), limit.as_ref());
                Poll::Ready(Ok(response))
            }
            StateProjection::Refused { response } => {
                Poll::Ready(Ok(response.take().expect("a future is not asked again when it was ready")))
            }
        }
    }
}
