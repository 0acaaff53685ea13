//! The policies in force, and those under which publishable keys were issued before.

use std::sync::Arc;

use crate::index::Live;
use crate::policy::{Method, Path, Policies, PolicyId, Route, RouteNumber, judge};
use crate::{AskedRequest, Denial, PolicyVersion, ProjectRole, Scope, Unavailable};

/// The policies in force, and the former ones that keys are still bound to.
///
/// The reach of a key of public scope is frozen at issue: it passes where both the policies it was issued under and those in
/// force let it. So a later policy can take from it, and gives it nothing.
#[derive(Clone, Debug)]
pub struct PolicySet {
    version: PolicyVersion,
    /// Nothing if it cannot be told what that version says: then nobody can tell who may pass where.
    in_force: Option<Arc<Policies>>,
    /// By version, lowest first.
    former: Vec<(PolicyVersion, Arc<Policies>)>,
}

/// Why a request does not pass by the policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPass {
    /// It may not.
    Denied(Denial),
    /// Nobody can tell.
    Unavailable(Unavailable),
}

impl<T: Into<Denial>> From<T> for NoPass {
    fn from(denial: T) -> Self {
        Self::Denied(denial.into())
    }
}

impl PolicySet {
    /// The built-in policy, in force until another is applied.
    pub fn builtin() -> Self {
        Self { version: PolicyVersion(0), in_force: Some(Arc::new(Policies::builtin())), former: Vec::new() }
    }

    /// The same with the policies of one more version. Those of the highest version are in force; one that is known already
    /// stays as it is.
    #[must_use]
    pub fn followed_by(&self, version: PolicyVersion, policies: impl Into<Arc<Policies>>) -> Self {
        if version > self.version {
            return self.succeeded_by(version, Some(policies.into()));
        }
        let mut same = self.clone();
        if version < self.version
            && let Err(at) = self.former_at(version)
        {
            same.former.insert(at, (version, policies.into()));
        }
        same
    }

    /// The same when nobody can tell what a version says. If it is the one in force or a later one, every request is
    /// answered with [`Unavailable::PolicyUnknown`] until another follows; keys that are frozen at it pass nowhere that
    /// takes a frozen reach.
    #[must_use]
    pub fn unknown(&self, version: PolicyVersion) -> Self {
        if version > self.version {
            return self.succeeded_by(version, None);
        }
        let mut same = self.clone();
        if version == self.version {
            same.in_force = None;
        } else if let Ok(at) = self.former_at(version) {
            same.former.remove(at);
        }
        same
    }

    fn succeeded_by(&self, version: PolicyVersion, in_force: Option<Arc<Policies>>) -> Self {
        let mut former = self.former.clone();
        former.extend(self.in_force.clone().map(|policies| (self.version, policies)));
        Self { version, in_force, former }
    }

    fn former_at(&self, version: PolicyVersion) -> Result<usize, usize> {
        self.former.binary_search_by_key(&version, |(known, _)| *known)
    }

    /// The version in force.
    pub const fn version(&self) -> PolicyVersion {
        self.version
    }

    /// The policies in force, if it can be told what they say.
    pub fn in_force(&self) -> Option<&Policies> {
        self.in_force.as_deref()
    }

    /// The policies of a version, if it is known.
    pub fn of_version(&self, version: PolicyVersion) -> Option<&Policies> {
        if version == self.version {
            return self.in_force();
        }
        let at = self.former_at(version).ok()?;
        self.former.get(at).map(|(_, policies)| &**policies)
    }

    /// What the policies say of a request, whoever makes it. Nothing of it depends on a key, so it can be found out while the key
    /// is still being fetched.
    #[inline]
    pub(crate) fn route<'p>(&'p self, request: AskedRequest<'p>) -> Result<Routed<'p>, NoPass> {
        let Some(in_force) = self.in_force() else { return Err(NoPass::Unavailable(Unavailable::PolicyUnknown)) };
        let (method, path) = (Method::scan(request.method)?, Path::scan(request.target)?);
        let policy = named(in_force, request.policy).ok_or(Denial::UnknownPolicy)?;
        let route = in_force.route(policy, method, &path)?;
        Ok(Routed { set: self, policy: request.policy, method, path, route })
    }
}

fn named(policies: &Policies, name: Option<&[u8]>) -> Option<PolicyId> {
    name.map_or(Some(PolicyId::DEFAULT), |name| policies.named(name))
}

/// A request, and the rule that applies to it.
pub(crate) struct Routed<'p> {
    set: &'p PolicySet,
    policy: Option<&'p [u8]>,
    method: Method<'p>,
    path: Path<'p>,
    route: Route<'p>,
}

impl Routed<'_> {
    /// Whether what a key holds decides too.
    pub(crate) const fn asks_for_permission(&self) -> bool {
        self.route.permission.is_some()
    }

    /// May a live key of that scope and role make the request?
    #[inline]
    pub(crate) fn judge(&self, live: &Live<'_>, (scope, role): (Scope, ProjectRole)) -> Result<RouteNumber, NoPass> {
        judge(&self.route, role, scope, |needed| live.holds(needed))?;
        let reach = live.reach();
        if scope == Scope::Public && reach != self.set.version {
            self.was_open_at(reach)?;
        }
        Ok(self.route.number)
    }

    /// Whether the request was open to publishable keys under a former version.
    fn was_open_at(&self, reach: PolicyVersion) -> Result<(), NoPass> {
        let former = self.set.of_version(reach).ok_or(Denial::ScopeTooSmall)?;
        let policy = named(former, self.policy).ok_or(Denial::ScopeTooSmall)?;
        let was_open = former.is_public(policy, self.method, &self.path)?;
        if was_open { Ok(()) } else { Err(Denial::ScopeTooSmall.into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Document, Rule};

    fn policies(paths: &[&str]) -> Policies {
        let mut document = Document::builtin();
        document.policies[0].rules = paths
            .iter()
            .map(|path| Rule {
                methods: vec!["GET".to_owned()],
                path: (*path).to_owned(),
                role: ProjectRole::Support,
                public: true,
                permission: None,
            })
            .collect();
        Policies::compile(&document).unwrap()
    }

    fn rules(set: &PolicySet, version: u32) -> Option<String> {
        set.of_version(PolicyVersion(version))?.describe(RouteNumber::FIRST_RULE)
    }

    #[test]
    fn versions_may_come_in_any_order() {
        let (one, two, three) = (PolicyVersion(1), PolicyVersion(2), PolicyVersion(3));
        let set = PolicySet::builtin().followed_by(three, policies(&["/3"])).followed_by(one, policies(&["/1"]));
        let set = set.followed_by(two, policies(&["/2"])).followed_by(two, policies(&["/other"]));
        let set = set.followed_by(three, policies(&["/other"])).followed_by(PolicyVersion(0), policies(&["/other"]));
        assert_eq!(set.version(), three);
        let known: Vec<_> = (0..5).map(|version| rules(&set, version)).collect();
        let known: Vec<_> = known.iter().map(Option::as_deref).collect();
        assert_eq!(known, [None, Some("GET /1"), Some("GET /2"), Some("GET /3"), None]);
    }

    #[test]
    fn nothing_takes_the_place_of_a_version_that_is_unknown_but_a_later_one() {
        let (one, two, three) = (PolicyVersion(1), PolicyVersion(2), PolicyVersion(3));
        let first = PolicySet::builtin().followed_by(one, policies(&["/1"]));
        for unknown in [first.unknown(two), first.followed_by(two, policies(&["/2"])).unknown(two)] {
            let unknown = unknown.followed_by(two, policies(&["/2"])).followed_by(one, policies(&["/2"]));
            assert_eq!((unknown.version(), unknown.in_force().is_none()), (two, true));
            assert_eq!(rules(&unknown, 1).as_deref(), Some("GET /1"));
            let healed = unknown.followed_by(three, policies(&["/3"]));
            assert_eq!((rules(&healed, 2), rules(&healed, 3).as_deref()), (None, Some("GET /3")));
        }
        let without = first.followed_by(two, policies(&["/2"])).unknown(one);
        assert_eq!((rules(&without, 1), rules(&without, 2).as_deref()), (None, Some("GET /2")));
    }
}
