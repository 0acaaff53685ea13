//! Which key may call which endpoint: the operator's routes, and what each of them takes (contract section 7).
//!
//! A [`Document`] is compiled into [`Policies`] once; from then on [`Policies::route`] finds the one rule that applies
//! to a request without allocating or waiting, and [`judge()`] says whether a key may pass there.
//!
//! ```
//! use keyrack::policy::{Document, Method, Path, Policies, PolicyId, Reason, Rule, judge};
//! use keyrack::{ProjectRole, Scope};
//!
//! let mut document = Document::builtin();
//! document.policies[0].rules.push(Rule {
//!     methods: vec!["POST".to_owned()],
//!     path: "/events".to_owned(),
//!     role: ProjectRole::Support,
//!     public: true,
//!     permission: None,
//! });
//! let policies = Policies::compile(&document).map_err(|faults| format!("{faults:?}"))?;
//!
//! let open = policies.route(PolicyId::DEFAULT, Method::scan(b"POST")?, &Path::scan(b"/events?batch=1")?)?;
//! assert_eq!(judge(&open, ProjectRole::Support, Scope::Public, |_| false), Ok(()));
//! let other = policies.route(PolicyId::DEFAULT, Method::scan(b"POST")?, &Path::scan(b"/users")?)?;
//! assert_eq!(judge(&other, ProjectRole::Support, Scope::Public, |_| false), Err(Reason::ScopeTooSmall));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod check;
mod compiled;
mod document;
mod explain;
mod fold;
mod gain;
mod judge;
mod method;
mod path;
mod pattern;
#[cfg(test)]
mod reference;
mod trie;

pub use check::{Fault, MOST_METHODS, MOST_POLICIES, MOST_RULE_BYTES, MOST_RULES};
pub use document::{Document, Least, NamedPolicy, Rule, is_permission};
pub use explain::{ExplainKey, ExplainedRule, Explanation};
pub use gain::public_gain;
pub use judge::{Reason, judge};
pub use method::{BadMethod, MOST_METHOD_BYTES, Method};
pub use path::{BadPath, MOST_PATH_BYTES, MOST_PATH_SEGMENTS, MOST_RULE_SEGMENTS, Path};

use self::compiled::{CompiledRule, Needs, Policy, number_in};
use self::trie::Spelling;

/// The policies of one document, ready to be asked.
#[derive(Debug)]
pub struct Policies {
    /// `default` first, the others in the order of the document.
    policies: Box<[Policy]>,
    /// Sorted.
    names: Box<[(Box<str>, PolicyId)]>,
    /// The methods that rules name, sorted.
    methods: Box<[u128]>,
    /// What each rule takes, over all policies, in the order of the document: the first has the number
    /// [`RouteNumber::FIRST_RULE`].
    needs: Box<[Needs]>,
    /// The permissions that rules take, each once.
    permissions: Box<[Box<str>]>,
    /// The rules in the same order, for people.
    rules: Box<[CompiledRule]>,
}

/// One policy of the [`Policies`] that gave it; it means nothing to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyId(u16);

impl PolicyId {
    /// The policy called `default`, which every document has.
    pub const DEFAULT: Self = Self(0);
}

/// What a request is counted under: a rule, or one of the two answers where no rule applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteNumber(pub u16);

impl RouteNumber {
    /// Reads that no rule applies to, of whatever policy.
    pub const OTHER_READS: Self = Self(0);
    /// Writes that no rule applies to, of whatever policy.
    pub const OTHER_WRITES: Self = Self(1);
    /// The first rule of the document's first policy. The others follow in the order of the document.
    pub const FIRST_RULE: Self = Self(2);

    /// Which rule of the document it is, from 0, if it is one.
    fn rule_place(self) -> Option<usize> {
        self.0.checked_sub(Self::FIRST_RULE.0).map(usize::from)
    }
}

/// What one request takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route<'p> {
    /// The rule that applies, or that none does.
    pub number: RouteNumber,
    /// The least role that may pass.
    pub least: Least,
    /// Whether publishable keys may pass.
    pub public: bool,
    /// The permission that the key has to hold.
    pub permission: Option<&'p str>,
}

impl Policies {
    /// Makes a document ready to be asked.
    ///
    /// # Errors
    /// Everything that stands against the document, if anything does.
    pub fn compile(document: &Document) -> Result<Self, Vec<Fault>> {
        let faults = check::faults(document);
        if faults.is_empty() { Ok(Self::assemble(document)) } else { Err(faults) }
    }

    /// Whether a request is open to publishable keys at all. One that was issued under these policies reaches no further, whatever is
    /// opened later.
    ///
    /// # Errors
    /// [`BadPath`], as of [`Policies::route`].
    pub fn is_public(&self, policy: PolicyId, method: Method<'_>, path: &Path<'_>) -> Result<bool, BadPath> {
        self.route(policy, method, path).map(|route| route.public && route.least != Least::None)
    }

    /// What holds until a policy is applied, see [`Document::builtin`].
    pub fn builtin() -> Self {
        Self::assemble(&Document::builtin())
    }

    /// The policy of that name.
    pub fn named(&self, name: &[u8]) -> Option<PolicyId> {
        let position = self.names.binary_search_by(|(known, _)| known.as_bytes().cmp(name)).ok()?;
        self.names.get(position).map(|(_, policy)| *policy)
    }

    /// Finds the one rule that applies to a request: of those that match, segment by segment from the left a literal
    /// comes before `*` and that before `**`; of two on one path the one that names the method. Without any, what the
    /// policy says of reads and writes. Allocates nothing and waits for nobody.
    ///
    /// A policy of other [`Policies`] is closed to every key.
    ///
    /// # Errors
    /// [`BadPath::Ambiguous`] if a back end that overlooks letter case, a last `/` or needless encoding would be asked
    /// for something that another rule is about.
    pub fn route(&self, policy: PolicyId, method: Method<'_>, path: &Path<'_>) -> Result<Route<'_>, BadPath> {
        let Some(policy) = self.policies.get(usize::from(policy.0)) else {
            return Ok(fallback(method, Least::None, Least::None));
        };
        let known = self.method_number(method.code());
        let rule = policy.exact.find(path, known, Spelling::Exact);
        if path.is_odd() || policy.folded.is_some() {
            let folded = policy.folded.as_ref().unwrap_or(&policy.exact);
            if folded.find(path, known, Spelling::Folded) != rule {
                return Err(BadPath::Ambiguous);
            }
        }
        let Some(number) = rule else { return Ok(fallback(method, policy.read, policy.write)) };
        let number = RouteNumber(number);
        Ok(match self.needs.get(number.rule_place().unwrap_or(usize::MAX)) {
            Some(needs) => {
                let permission =
                    self.permissions.get(usize::from(needs.permission).wrapping_sub(1)).map(|text| &**text);
                Route { number, least: Least::Role(needs.role), public: needs.public, permission }
            }
            None => fallback(method, Least::None, Least::None),
        })
    }

    /// What a number stands for: `POST /events`, `GET, POST /events/*`, `other reads` or `other writes`; nothing if
    /// there is no such rule.
    pub fn describe(&self, number: RouteNumber) -> Option<String> {
        match number {
            RouteNumber::OTHER_READS => Some("other reads".to_owned()),
            RouteNumber::OTHER_WRITES => Some("other writes".to_owned()),
            RouteNumber(_) => self.rule(number).map(|rule| rule.text.to_string()),
        }
    }

    fn rule(&self, number: RouteNumber) -> Option<&CompiledRule> {
        self.rules.get(number.rule_place()?)
    }

    /// The number under which the trees know a method, or none of their numbers.
    fn method_number(&self, code: u128) -> u16 {
        number_in(&self.methods, &code).unwrap_or(u16::MAX)
    }
}

const fn fallback(method: Method<'_>, read: Least, write: Least) -> Route<'static> {
    let (number, least) =
        if method.is_read() { (RouteNumber::OTHER_READS, read) } else { (RouteNumber::OTHER_WRITES, write) };
    Route { number, least, public: false, permission: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ProjectRole;

    /// Policy `default` with rules written as `METHOD,METHOD PATH ROLE`.
    fn policies(rules: &[&str]) -> Policies {
        let mut document = Document::builtin();
        document.policies[0].rules = rules
            .iter()
            .map(|line| {
                let [methods, path, role] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
                Rule {
                    methods: methods.split(',').map(str::to_owned).collect(),
                    path: path.to_owned(),
                    role: role.parse().unwrap(),
                    public: false,
                    permission: None,
                }
            })
            .collect();
        Policies::compile(&document).unwrap()
    }

    /// What the request `METHOD PATH` leads to, in words.
    fn routed(policies: &Policies, request: &str) -> String {
        let (method, path) = request.split_once(' ').unwrap();
        let method = Method::scan(method.as_bytes()).unwrap();
        match policies.route(PolicyId::DEFAULT, method, &Path::scan(path.as_bytes()).unwrap()) {
            Ok(route) => policies.describe(route.number).unwrap(),
            Err(bad) => bad.reason().to_owned(),
        }
    }

    #[test]
    fn without_rules_reads_and_writes_are_told_apart() {
        let builtin = Policies::builtin();
        for read in ["GET", "HEAD", "OPTIONS"] {
            assert_eq!(routed(&builtin, &format!("{read} /a")), "other reads");
        }
        for write in ["POST", "PUT", "PATCH", "DELETE", "QUERY"] {
            assert_eq!(routed(&builtin, &format!("{write} /")), "other writes");
        }
        let route = |method| builtin.route(PolicyId::DEFAULT, method, &Path::scan(b"/").unwrap()).unwrap();
        let reads = route(Method::scan(b"GET").unwrap());
        assert_eq!((reads.least, reads.public), (Least::Role(ProjectRole::Support), false));
        assert_eq!(route(Method::scan(b"PUT").unwrap()).least, Least::Role(ProjectRole::Editor));
    }

    #[test]
    fn the_most_precise_rule_applies_segment_by_segment() {
        let policies = policies(&[
            "* /** admin",
            "GET /a/** editor",
            "GET /a/*/c editor",
            "GET /a/b/** editor",
            "POST /a/b/d editor",
            "* /a/b/c support",
            "GET /a/b/c support",
        ]);
        for (request, rule) in [
            ("GET /a/b/c", "GET /a/b/c"),
            ("HEAD /a/b/c", "* /a/b/c"),
            ("GET /a/b/d", "GET /a/b/**"),
            ("GET /a/x/c", "GET /a/*/c"),
            ("GET /a/x/d", "GET /a/**"),
            ("GET /a/b", "GET /a/**"),
            ("GET /a", "* /**"),
            ("PUT /a/b/d", "* /**"),
            ("GET /", "* /**"),
        ] {
            assert_eq!(routed(&policies, request), rule, "{request}");
        }
    }

    #[test]
    fn a_spelling_that_leads_elsewhere_is_refused() {
        let policies = policies(&[
            "* /events admin",
            "* /users/* editor",
            "* /users/me admin",
            "* /V1/Ping support",
            "* /a/** editor",
        ]);
        for (request, rule) in [
            ("GET /events", "* /events"),
            ("GET /Events", "path_ambiguous"),
            ("GET /events/", "path_ambiguous"),
            ("GET /users/AbC", "* /users/*"),
            ("GET /users/a%40b", "* /users/*"),
            ("GET /users/ME", "path_ambiguous"),
            ("GET /V1/Ping", "* /V1/Ping"),
            ("GET /v1/ping", "path_ambiguous"),
            ("GET /a/", "path_ambiguous"),
            ("GET /a/b/", "* /a/**"),
            ("GET /Else/", "other reads"),
        ] {
            assert_eq!(routed(&policies, request), rule, "{request}");
        }
    }

    #[test]
    fn policies_are_found_by_exact_name_and_default_is_the_first_id() {
        let mut document = Document::builtin();
        let named = |name: &str, read| NamedPolicy { name: name.to_owned(), read, ..document.policies[0].clone() };
        let (b, a) = (named("b", Least::None), named("a", Least::Role(ProjectRole::Admin)));
        document.policies.insert(0, b);
        document.policies.push(a);
        let policies = Policies::compile(&document).unwrap();
        assert_eq!(policies.named(b"default"), Some(PolicyId::DEFAULT));
        let least = |name: &[u8]| {
            let (get, path) = (Method::scan(b"GET").unwrap(), Path::scan(b"/").unwrap());
            policies.named(name).map(|id| policies.route(id, get, &path).unwrap().least)
        };
        assert_eq!(least(b"default"), Some(Least::Role(ProjectRole::Support)));
        assert_eq!(least(b"a"), Some(Least::Role(ProjectRole::Admin)));
        assert_eq!(least(b"b"), Some(Least::None));
        assert_eq!((least(b"A"), least(b""), least(b"defaul"), least(b"\xff")), (None, None, None, None));
        let stranger = Policies::builtin();
        let id = policies.named(b"b").unwrap();
        let route = stranger.route(id, Method::scan(b"GET").unwrap(), &Path::scan(b"/").unwrap()).unwrap();
        assert_eq!(route.least, Least::None, "a policy of another document is closed");
    }

    #[test]
    fn rules_are_numbered_over_all_policies_from_two() {
        let mut document = Document::builtin();
        let rule = |path: &str| Rule {
            methods: vec!["GET".to_owned(), "POST".to_owned()],
            path: path.to_owned(),
            role: ProjectRole::Editor,
            public: true,
            permission: Some("a:b".to_owned()),
        };
        document.policies[0].rules = vec![rule("/b"), rule("/a")];
        let first = NamedPolicy { name: "x".to_owned(), rules: vec![rule("/c")], ..document.policies[0].clone() };
        document.policies.insert(0, first);
        let policies = Policies::compile(&document).unwrap();
        let words: Vec<_> = (0..6).map(|number| policies.describe(RouteNumber(number))).collect();
        let expected = ["other reads", "other writes", "GET, POST /c", "GET, POST /b", "GET, POST /a"];
        assert_eq!(words[..5], expected.map(|word| Some(word.to_owned())));
        assert_eq!((words[5].as_deref(), policies.describe(RouteNumber(u16::MAX))), (None, None));
        let route =
            policies.route(PolicyId::DEFAULT, Method::scan(b"POST").unwrap(), &Path::scan(b"/a").unwrap()).unwrap();
        let (number, least) = (RouteNumber(4), Least::Role(ProjectRole::Editor));
        assert_eq!(route, Route { number, least, public: true, permission: Some("a:b") });
    }
}
