//! Who is calling: the one line of verification, as an extractor.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use keyrack::{ApiKey, Denial, NotAKey, ProjectRole, Requirement, VerifiedKey, VerifyError};

use super::conventions::RequestId;
use super::limits;
use super::problem::{Code, Problem};
use crate::app::App;
use crate::audit::Actor;
use crate::keys::ProjectCaller;
use crate::store::By;

/// A caller with a secret key of role `admin` (contract section 2).
pub(super) struct ProjectAdmin {
    /// Proof that the key passed.
    pub key: VerifiedKey,
    /// Where it may act.
    pub project: ProjectCaller,
    /// The value as presented, to derive from.
    pub presented: ApiKey,
    /// The request.
    pub request_id: RequestId,
}

impl ProjectAdmin {
    /// Verifies the caller once more. A change calls this when its turn has come, because the changes before it may have
    /// revoked or narrowed the very key that asks: a key makes nothing after its death was acknowledged.
    ///
    /// # Errors
    /// The same as for a caller who comes now.
    pub(super) fn verify_again(&mut self, app: &App) -> Result<(), Problem> {
        (self.key, self.project) = let_in(verify(app, &self.presented))?;
        Ok(())
    }

    /// Who did it, for the audit log.
    pub(super) fn by(&self) -> By {
        By { actor: Actor::secret_key(self.key.id()), request_id: self.request_id.as_str().to_owned() }
    }
}

impl FromRequestParts<Arc<App>> for ProjectAdmin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let presented = ApiKey::parse(presented(&parts.headers)?)
            .map_err(|NotAKey| problem(VerifyError::Denied { denial: Denial::Malformed, key: None }))?;
        let verdict = verify(app, &presented);
        limits::count(app, parts, &verdict)?;
        let (key, project) = let_in(verdict)?;
        tracing::Span::current().record("key", key.id().0);
        Ok(Self { key, project, presented, request_id: RequestId::of(parts) })
    }
}

fn verify(app: &App, presented: &ApiKey) -> Result<VerifiedKey, VerifyError> {
    app.verifier.verify_key(presented, Requirement::Project { least: ProjectRole::Admin })
}

fn let_in(verdict: Result<VerifiedKey, VerifyError>) -> Result<(VerifiedKey, ProjectCaller), Problem> {
    let key = verdict.map_err(problem)?;
    let project = ProjectCaller::of(&key).ok_or_else(|| Problem::unauthenticated(true))?;
    Ok((key, project))
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
fn problem(error: VerifyError) -> Problem {
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
                Denial::Malformed | Denial::Unknown | Denial::Revoked | Denial::WrongSurface => {
                    Problem::unauthenticated(true)
                }
                Denial::ScopeTooSmall => Problem::new(
                    Code::PermissionDenied,
                    "This takes a key of scope `secret` and role `admin`; this key is public.",
                ),
                Denial::RoleTooSmall { needs } => {
                    Problem::new(Code::PermissionDenied, format!("This takes a key of role `{needs}`."))
                }
            }
        }
    }
}
