//! The policies in force, and those under which publishable keys were issued before.

use std::sync::Arc;

use crate::index::Live;
use crate::policy::{Least, Method, Path, Policies, PolicyId, RouteNumber, judge};
use crate::{AskedRequest, Denial, PolicyVersion, ProjectRole, Scope};

/// The policies in force, and the former ones that keys are still bound to.
///
/// The reach of a key of public scope is frozen at issue: it passes where both the policies it was issued under and those in
/// force let it. So a later policy can take from it, and gives it nothing.
#[derive(Clone, Debug)]
pub struct PolicySet {
    version: PolicyVersion,
    in_force: Arc<Policies>,
    /// By version, lowest first.
    former: Vec<(PolicyVersion, Arc<Policies>)>,
}

impl PolicySet {
    /// The built-in policy, in force until another is applied.
    pub fn builtin() -> Self {
        Self { version: PolicyVersion(0), in_force: Arc::new(Policies::builtin()), former: Vec::new() }
    }

    /// The same with newer policies in force; nothing changes if they are not newer.
    #[must_use]
    pub fn followed_by(&self, version: PolicyVersion, policies: Policies) -> Self {
        if version <= self.version {
            return self.clone();
        }
        let mut former = self.former.clone();
        former.push((self.version, Arc::clone(&self.in_force)));
        Self { version, in_force: Arc::new(policies), former }
    }

    /// The version in force.
    pub const fn version(&self) -> PolicyVersion {
        self.version
    }

    /// The policies in force.
    pub fn in_force(&self) -> &Policies {
        &self.in_force
    }

    /// The policies of a version, if it is known.
    pub fn of_version(&self, version: PolicyVersion) -> Option<&Policies> {
        if version == self.version {
            return Some(&self.in_force);
        }
        let at = self.former.binary_search_by_key(&version, |(known, _)| *known).ok()?;
        self.former.get(at).map(|(_, policies)| &**policies)
    }

    /// May a live key of that scope and role make the request?
    #[inline]
    pub(crate) fn judge(
        &self,
        request: AskedRequest<'_>,
        live: &Live<'_>,
        (scope, role): (Scope, ProjectRole),
    ) -> Result<RouteNumber, Denial> {
        let method = Method::scan(request.method)?;
        let path = Path::scan(request.target)?;
        let policy = |policies: &Policies| match request.policy {
            None => Some(PolicyId::DEFAULT),
            Some(name) => policies.named(name),
        };
        let route = self.in_force.route(policy(&self.in_force).ok_or(Denial::UnknownPolicy)?, method, &path)?;
        judge(&route, role, scope, |needed| live.holds(needed))?;
        let reach = live.reach();
        if scope == Scope::Public && reach != self.version {
            let former = self.of_version(reach).ok_or(Denial::ScopeTooSmall)?;
            let was_open = match policy(former) {
                Some(policy) => former.route(policy, method, &path)?,
                None => return Err(Denial::ScopeTooSmall),
            };
            if !was_open.public || was_open.least == Least::None {
                return Err(Denial::ScopeTooSmall);
            }
        }
        Ok(route.number)
    }
}
