//! Why a key may pass on a route or may not, rule by rule, for people.

use super::path::{BadPath, Path};
use super::{CompiledRule, Method, Policies, PolicyId, Reason, Route, judge, method};
use crate::{ProjectRole, Scope};

/// The key that an explanation is about.
#[derive(Clone, Copy, Debug)]
pub struct ExplainKey<'a> {
    /// Its role in its project.
    pub role: ProjectRole,
    /// Its effective scope.
    pub scope: Scope,
    /// The permissions it holds.
    pub permissions: &'a [&'a str],
}

/// What becomes of a request, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Explanation {
    /// Every rule of the policy, the more precise first.
    pub rules: Vec<ExplainedRule>,
    /// What applies: a rule, `other reads` or `other writes`; nothing if the path is refused.
    pub applies: Option<String>,
    /// Whether the key may pass.
    pub allowed: bool,
    /// In words: `allowed`, `role is below editor`, `not open to publishable keys`, `permission a:b is not held`,
    /// `closed to every key`, or what is wrong with the path.
    pub reason: String,
}

/// One rule of the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct ExplainedRule {
    /// Its place among the policy's rules in the document, from 0.
    pub place: usize,
    /// The rule in one line: `GET, POST /events/*`.
    pub rule: String,
    /// Whether it applies: the same as `why_not` being absent.
    pub applies: bool,
    /// Why it does not apply: `path`, `method`, `less precise than rules[N]` with the place of the rule that does, or
    /// `path_ambiguous` where it would, but the path is refused.
    pub why_not: Option<String>,
}

impl Policies {
    /// Explains what [`Policies::route`] and [`judge()`] say of a request: the verdict is theirs. Slow.
    pub fn explain(&self, policy: PolicyId, method: Method<'_>, path: &Path<'_>, key: &ExplainKey<'_>) -> Explanation {
        let found = self.route(policy, method, path);
        let (allowed, reason) = verdict(&found, key);
        let applies = found.as_ref().ok().and_then(|route| self.describe(route.number));
        Explanation { rules: self.explained_rules(policy, method, path, found.is_ok()), applies, allowed, reason }
    }

    /// `accepted` is false if no rule applies because of the path's spelling.
    fn explained_rules(
        &self,
        policy: PolicyId,
        method: Method<'_>,
        path: &Path<'_>,
        accepted: bool,
    ) -> Vec<ExplainedRule> {
        let span = self.policies.get(usize::from(policy.0)).map(|policy| policy.rules.clone()).unwrap_or_default();
        let mut rules: Vec<_> = self.rules.get(span).unwrap_or_default().iter().enumerate().collect();
        rules.sort_by(|(_, one), (_, two)| {
            one.pattern.cmp(&two.pattern).then(one.is_for_all_methods().cmp(&two.is_for_all_methods()))
        });
        let mut applying = None;
        let explained = rules.into_iter().map(|(place, rule)| {
            let why_not = if !rule.pattern.matches(path) {
                Some("path".to_owned())
            } else if !rule.covers(method.code()) {
                Some("method".to_owned())
            } else if let Some(first) = applying {
                Some(format!("less precise than rules[{first}]"))
            } else {
                applying = Some(place);
                (!accepted).then(|| BadPath::Ambiguous.reason().to_owned())
            };
            ExplainedRule { place, rule: rule.text.to_string(), applies: why_not.is_none(), why_not }
        });
        explained.collect()
    }
}

fn verdict(found: &Result<Route<'_>, BadPath>, key: &ExplainKey<'_>) -> (bool, String) {
    let route = match found {
        Ok(route) => route,
        Err(bad) => return (false, bad.to_string()),
    };
    match judge(route, key.role, key.scope, |permission| key.permissions.contains(&permission)) {
        Ok(()) => (true, "allowed".to_owned()),
        Err(Reason::PermissionMissing) => {
            (false, format!("permission {} is not held", route.permission.unwrap_or_default()))
        }
        Err(reason @ (Reason::Closed | Reason::ScopeTooSmall | Reason::RoleTooSmall { .. })) => {
            (false, reason.to_string())
        }
    }
}

impl CompiledRule {
    fn is_for_all_methods(&self) -> bool {
        self.methods.contains(&method::ANY)
    }

    /// Whether a method, by its code, is one of the rule's.
    pub(super) fn covers(&self, method: u128) -> bool {
        self.is_for_all_methods() || self.methods.contains(&method)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Document, Least, Rule};

    fn policies() -> Policies {
        let rule = |methods: &[&str], path: &str, public, permission: Option<&str>| Rule {
            methods: methods.iter().map(|method| (*method).to_owned()).collect(),
            path: path.to_owned(),
            role: ProjectRole::Editor,
            public,
            permission: permission.map(str::to_owned),
        };
        let mut document = Document::builtin();
        document.policies[0].write = Least::None;
        document.policies[0].rules = vec![
            rule(&["*"], "/events/**", false, None),
            rule(&["*"], "/events", false, None),
            rule(&["GET", "POST"], "/events", true, Some("events:write")),
            rule(&["POST"], "/users", false, None),
        ];
        Policies::compile(&document).unwrap()
    }

    fn explain(request: &str, role: ProjectRole, scope: Scope, permissions: &[&str]) -> Explanation {
        let (method, path) = request.split_once(' ').unwrap();
        let (method, path) = (Method::scan(method.as_bytes()).unwrap(), Path::scan(path.as_bytes()).unwrap());
        policies().explain(PolicyId::DEFAULT, method, &path, &ExplainKey { role, scope, permissions })
    }

    #[test]
    fn every_rule_is_listed_in_order_of_precedence_with_why_it_does_not_apply() {
        let explained = explain("POST /events", ProjectRole::Editor, Scope::Public, &["events:write"]);
        let lines: Vec<_> =
            explained.rules.iter().map(|line| (line.place, line.rule.as_str(), line.why_not.as_deref())).collect();
        assert_eq!(
            lines,
            [
                (2, "GET, POST /events", None),
                (1, "* /events", Some("less precise than rules[2]")),
                (0, "* /events/**", Some("path")),
                (3, "POST /users", Some("path")),
            ]
        );
        assert_eq!((explained.applies.as_deref(), explained.allowed), (Some("GET, POST /events"), true));
        assert_eq!(explained.reason, "allowed");
        let method = explain("PUT /events", ProjectRole::Editor, Scope::Public, &[]);
        assert_eq!(method.rules[0].why_not.as_deref(), Some("method"));
        assert!(method.rules[1].applies);
    }

    #[test]
    fn each_verdict_has_its_words() {
        let reason = |request, role, scope| {
            let explained = explain(request, role, scope, &["x:y"]);
            (explained.allowed, explained.reason)
        };
        let (editor, secret) = (ProjectRole::Editor, Scope::Secret);
        assert_eq!(reason("POST /events", editor, secret), (false, "permission events:write is not held".to_owned()));
        assert_eq!(reason("POST /users", editor, Scope::Public), (false, "not open to publishable keys".to_owned()));
        assert_eq!(reason("POST /users", ProjectRole::Support, secret), (false, "role is below editor".to_owned()));
        assert_eq!(reason("PUT /", ProjectRole::Admin, secret), (false, "closed to every key".to_owned()));
        assert_eq!(reason("GET /", ProjectRole::Support, secret), (true, "allowed".to_owned()));
        let path = "a path that can be read in more than one way".to_owned();
        assert_eq!(reason("PUT /events/", ProjectRole::Admin, secret), (false, path));
    }

    #[test]
    fn nothing_applies_to_a_path_that_is_refused() {
        let explained = explain("PUT /events/", ProjectRole::Admin, Scope::Secret, &[]);
        assert_eq!(explained.applies, None);
        assert!(explained.rules.iter().all(|line| !line.applies));
        assert_eq!(explained.rules[2].why_not.as_deref(), Some("path_ambiguous"));
        let odd = explain("GET /Else", ProjectRole::Admin, Scope::Secret, &[]);
        assert_eq!(odd.applies.as_deref(), Some("other reads"));
    }
}
