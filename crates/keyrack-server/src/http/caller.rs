//! Who is calling: the one line of verification, as an extractor.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use keyrack::{
    ApiKey, Denial, Holder, NotAKey, OrganizationRole, ProjectRole, Requirement, Unavailable, VerifiedKey, VerifyError,
};

use super::conventions::RequestId;
use super::effective;
use super::limits;
use super::problem::{Code, Problem};
use crate::actor::Actor;
use crate::app::App;
use crate::kept::{Kind, Reference};
use crate::store::By;

/// What a call takes, as a type: a route that asks for no caller cannot touch anything.
pub(super) trait Needs: Send + Sync + 'static {
    /// The requirement.
    const REQUIREMENT: Requirement;
}

macro_rules! needs {
    ($($(#[$doc:meta])* $name:ident = $requirement:expr),+ $(,)?) => {
        $(
            $(#[$doc])*
            pub(super) struct $name;

            impl Needs for $name {
                const REQUIREMENT: Requirement = $requirement;
            }
        )+
    };
}

needs! {
    /// A project's secret key of any role.
    ProjectKey = Requirement::Project { least: ProjectRole::Support },
    /// A project's secret key of role `admin` (contract section 2).
    ProjectAdmin = Requirement::Project { least: ProjectRole::Admin },
    /// An organization's key of any role (contract section 3).
    OrganizationMember = Requirement::Organization { least: OrganizationRole::Member },
    /// An organization's key of role `admin` or above.
    OrganizationAdmin = Requirement::Organization { least: OrganizationRole::Admin },
    /// An organization's key of role `owner`.
    OrganizationOwner = Requirement::Organization { least: OrganizationRole::Owner },
    /// An operator's key.
    Operator = Requirement::Operator,
    /// The key of a process that follows.
    Follower = Requirement::Follower,
}

/// A caller whose key passed.
pub(super) struct Caller {
    /// Proof of it.
    pub key: VerifiedKey,
    /// The value as presented, to derive from.
    pub presented: ApiKey,
    /// The request.
    pub request_id: RequestId,
    /// When it came.
    pub came: Instant,
    /// How long it waits for other nodes.
    pub patience: Duration,
    requirement: Requirement,
}

impl Caller {
    /// Verifies the caller once more. A change calls this when its turn has come, because the changes before it may have
    /// revoked or narrowed the very key that asks: a key makes nothing after its death was acknowledged.
    ///
    /// # Errors
    /// The same as for a caller who comes now.
    pub(super) fn verify_again(&mut self, app: &App) -> Result<(), Problem> {
        let verdict = judge(app, &self.presented, self.requirement);
        self.key = verdict.map_err(|error| problem(error, self.requirement))?;
        Ok(())
    }

    /// What it takes for this caller to be let through: its key, and the organization above it.
    pub(super) fn relied_on(&self) -> impl Iterator<Item = Reference> {
        let key = Reference { kind: Kind::Key, id: self.key.id().0 };
        let organization = match self.key.holder() {
            Holder::Project { organization, .. } | Holder::Organization { organization, .. } => Some(organization),
            Holder::Operator | Holder::Follower => None,
        };
        let organization = organization.map(|id| Reference { kind: Kind::Organization, id: id.0.into() });
        [Some(key), organization].into_iter().flatten()
    }

    /// Who did it, for the audit log.
    pub(super) fn by(&self) -> By {
        By { actor: Actor::caller(&self.key), request_id: self.request_id.as_str().to_owned() }
    }
}

/// A caller who meets what a call needs.
pub(super) struct As<N>(pub Caller, pub PhantomData<N>);

impl<N: Needs> FromRequestParts<Arc<App>> for As<N> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let requirement = N::REQUIREMENT;
        let presented = ApiKey::parse(presented(&parts.headers)?)
            .map_err(|NotAKey| problem(VerifyError::Denied { denial: Denial::Malformed, key: None }, requirement))?;
        let verdict = judge(app, &presented, requirement);
        // A follower asks several times a second; holding it back would take the keys of its service out of force.
        if requirement != Requirement::Follower {
            limits::count(app, parts, &verdict)?;
        }
        let key = verdict.map_err(|error| problem(error, requirement))?;
        tracing::Span::current().record("key", key.id().0);
        let (came, request_id, patience) = (Instant::now(), RequestId::of(parts), effective::patience(&parts.headers));
        Ok(Self(Caller { key, presented, request_id, came, patience, requirement }, PhantomData))
    }
}

/// Whoever does not know for certain who is alive lets nobody in, and whoever has heard nothing for a while denies nobody that it does not
/// know: the key may have been made since.
fn judge(app: &App, presented: &ApiKey, requirement: Requirement) -> Result<VerifiedKey, VerifyError> {
    let (index, now) = (app.verifier.index(), app.clock.moment());
    index.is_fit(now)?;
    let verdict = app.verifier.verify_key(presented, requirement);
    match verdict {
        Err(VerifyError::Denied { denial: Denial::Unknown, .. }) if index.staleness(now).is_some() => {
            Err(Unavailable::TooOld.into())
        }
        verdict => verdict,
    }
}

/// The credential: one header, `Bearer` in any case, one space, one value (contract section 4).
fn presented(headers: &HeaderMap) -> Result<&[u8], Problem> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Err(Problem::unauthenticated(false)) };
    let credential = value.as_bytes().split_at_checked(b"Bearer ".len());
    match (credential, values.next()) {
        (Some((scheme, key)), None) if scheme.eq_ignore_ascii_case(b"Bearer ") => Ok(key),
        (Some(_) | None, Some(_) | None) => Err(Problem::unauthenticated(true)),
    }
}

/// The outside never learns which of the reasons for 401 it was; the log does.
fn problem(error: VerifyError, requirement: Requirement) -> Problem {
    match error {
        VerifyError::Unavailable(unavailable) => {
            tracing::warn!(%unavailable, "cannot tell whether a key may pass");
            Problem::unavailable("Keys cannot be checked at this moment. Try again.")
        }
        VerifyError::Denied { denial, key } => {
            let span = tracing::Span::current();
            span.record("denied", tracing::field::display(denial));
            key.map(|key| span.record("key", key.0));
            match denial {
                Denial::Malformed
                | Denial::Unknown
                | Denial::Revoked
                | Denial::Suspended
                | Denial::WrongSurface
                | Denial::OtherTenant => Problem::unauthenticated(true),
                Denial::ScopeTooSmall => Problem::new(Code::PermissionDenied, scope_too_small(requirement)),
                Denial::RoleTooSmall { needs } => {
                    Problem::new(Code::PermissionDenied, format!("This takes a key of role `{needs}`."))
                }
                // Reasons of the user's own API: no surface of ours asks for them.
                Denial::Closed
                | Denial::PermissionMissing
                | Denial::UnknownPolicy
                | Denial::BadRequest(_)
                | Denial::RateLimited
                | Denial::UsageExceeded => Problem::new(Code::PermissionDenied, "This key does not reach that far."),
            }
        }
    }
}

fn scope_too_small(requirement: Requirement) -> String {
    match requirement {
        Requirement::Project { least } if least > ProjectRole::Support => {
            format!("This takes a key of scope `secret` and role `{least}`; this key is public.")
        }
        Requirement::Project { .. }
        | Requirement::Organization { .. }
        | Requirement::Operator
        | Requirement::Follower => "This takes a key of scope `secret`; this key is public.".to_owned(),
    }
}
