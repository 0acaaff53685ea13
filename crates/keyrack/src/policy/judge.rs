//! May a key with this role and scope pass on this route? Asked by every verdict and by every explanation.

use super::{Least, Route};
use crate::{ProjectRole, Scope};

/// Why a live key may not pass on a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The route is closed to every key.
    #[error("closed to every key")]
    Closed,
    /// The key is publishable, and the route is not open to such keys.
    #[error("not open to publishable keys")]
    ScopeTooSmall,
    /// The role is too low.
    #[error("role is below {needs}")]
    RoleTooSmall {
        /// The least role that would have passed.
        needs: ProjectRole,
    },
    /// The key does not hold the permission that the route takes.
    #[error("the permission is not held")]
    PermissionMissing,
}

/// Judges a key's role and effective scope on a route. `holds` says whether it holds a permission; it is asked only if
/// that alone decides. Role `admin` holds every permission.
///
/// # Errors
/// The first reason that stands against it.
pub fn judge(
    route: &Route<'_>,
    role: ProjectRole,
    scope: Scope,
    holds: impl FnOnce(&str) -> bool,
) -> Result<(), Reason> {
    let Least::Role(needs) = route.least else { return Err(Reason::Closed) };
    if scope == Scope::Public && !route.public {
        return Err(Reason::ScopeTooSmall);
    }
    if role < needs {
        return Err(Reason::RoleTooSmall { needs });
    }
    match route.permission {
        Some(permission) if role != ProjectRole::Admin && !holds(permission) => Err(Reason::PermissionMissing),
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::RouteNumber;

    fn route(least: Least, public: bool, permission: Option<&str>) -> Route<'_> {
        Route { number: RouteNumber(2), least, public, permission }
    }

    #[test]
    fn each_reason_has_its_case() {
        let editor = Least::Role(ProjectRole::Editor);
        let open = route(editor, true, Some("a:b"));
        let secret_only = route(editor, false, None);
        let judged = |route: &Route<'_>, role, scope, held: &[&str]| judge(route, role, scope, |it| held.contains(&it));
        assert_eq!(judged(&open, ProjectRole::Editor, Scope::Public, &["x:y", "a:b"]), Ok(()));
        assert_eq!(judged(&open, ProjectRole::Admin, Scope::Public, &[]), Ok(()), "admin holds all");
        assert_eq!(judged(&open, ProjectRole::Publisher, Scope::Secret, &["x:y"]), Err(Reason::PermissionMissing));
        assert_eq!(
            judged(&open, ProjectRole::SmtpProxy, Scope::Secret, &["a:b"]),
            Err(Reason::RoleTooSmall { needs: ProjectRole::Editor })
        );
        assert_eq!(judged(&secret_only, ProjectRole::Admin, Scope::Public, &[]), Err(Reason::ScopeTooSmall));
        assert_eq!(judged(&secret_only, ProjectRole::Editor, Scope::Secret, &[]), Ok(()));
        let closed = route(Least::None, true, None);
        assert_eq!(judged(&closed, ProjectRole::Admin, Scope::Secret, &[]), Err(Reason::Closed));
    }
}
