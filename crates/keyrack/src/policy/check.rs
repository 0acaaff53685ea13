//! Whether a document can be applied, and everything that stands against it at once.

use std::collections::HashMap;

use super::document::{Document, NamedPolicy, Rule, is_permission};
use super::method::Method;
use super::path::{BadPath, MOST_RULE_SEGMENTS, Path};
use super::pattern::Pattern;

/// The most policies of a document.
pub const MOST_POLICIES: usize = 100;
/// The most rules of a document, over all its policies.
pub const MOST_RULES: usize = 4_000;
/// The longest path of a rule, in bytes.
pub const MOST_RULE_BYTES: usize = 1_024;
/// The most methods that one rule names.
pub const MOST_METHODS: usize = 16;

/// Something that stands against a document.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Fault {
    /// Where, from 0: `policies[0].rules[2].path`.
    pub at: String,
    /// What to do about it.
    pub message: String,
}

/// Every fault of a document, in its order; none if it can be applied.
pub(super) fn faults(document: &Document) -> Vec<Fault> {
    let mut faults = Faults(Vec::new());
    let policies = &document.policies;
    if !policies.iter().any(|policy| policy.name == "default") {
        faults.add("policies", "name one of them \"default\": it is used where no policy is named");
    }
    if policies.len() > MOST_POLICIES {
        faults.add("policies", &format!("use at most {MOST_POLICIES} policies"));
    }
    if policies.iter().map(|policy| policy.rules.len()).sum::<usize>() > MOST_RULES {
        faults.add("policies", &format!("use at most {MOST_RULES} rules in all policies together"));
    }
    let mut names = HashMap::new();
    for (number, policy) in policies.iter().enumerate() {
        let at = format!("policies[{number}]");
        faults.check_name(&at, &policy.name);
        if let Some(first) = names.insert(policy.name.as_str(), number) {
            faults.add(&format!("{at}.name"), &format!("use another name: policies[{first}] has this one"));
        }
        faults.check_rules(&at, policy);
    }
    faults.0
}

struct Faults(Vec<Fault>);

impl Faults {
    fn add(&mut self, at: &str, message: &str) {
        self.0.push(Fault { at: at.to_owned(), message: message.to_owned() });
    }

    fn check_name(&mut self, at: &str, name: &str) {
        let fits = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
        if !(1..=64).contains(&name.len()) || !name.bytes().all(fits) {
            self.add(&format!("{at}.name"), "use 1 to 64 of a-z, 0-9, '-' and '_'");
        }
    }

    fn check_rules(&mut self, at: &str, policy: &NamedPolicy) {
        let mut routes = HashMap::new();
        let mut spellings: HashMap<Pattern, (usize, &str)> = HashMap::new();
        for (number, rule) in policy.rules.iter().enumerate() {
            let here = format!("{at}.rules[{number}]");
            self.check_methods(&here, &rule.methods);
            if rule.permission.as_deref().is_some_and(|permission| !is_permission(permission)) {
                let message = "use resource:action, each side 1 to 64 of a-z, 0-9, '_', '.' and '-'";
                self.add(&format!("{here}.permission"), message);
            }
            if let Err(message) = check_path(&rule.path) {
                self.add(&format!("{here}.path"), &message);
                continue;
            }
            let (first, path) = *spellings.entry(Pattern::of(&rule.path).folded()).or_insert((number, &rule.path));
            if path != rule.path {
                let message = format!(
                    "write it as rules[{first}] does, \"{path}\": programs that overlook letter case, a last '/' or \
                     needless encoding cannot tell the two apart"
                );
                self.add(&format!("{here}.path"), &message);
            }
            let twin = rule.methods.iter().filter_map(|method| {
                // The first keeps its place, so that a third is told of the first too.
                let first = *routes.entry((&rule.path, method)).or_insert(number);
                (first != number).then_some(first)
            });
            if let Some(first) = twin.min() {
                let other = policy.rules.get(first).map(text).unwrap_or_default();
                let message = format!(
                    "take a method out of this rule, {}, or out of rules[{first}], {other}: nothing can tell the two apart",
                    text(rule)
                );
                self.add(&here, &message);
            }
        }
    }

    fn check_methods(&mut self, here: &str, methods: &[String]) {
        let at = format!("{here}.methods");
        if methods.is_empty() {
            self.add(&at, "name at least one method, or \"*\" for all of them");
        }
        if methods.len() > MOST_METHODS {
            self.add(&at, &format!("name at most {MOST_METHODS} methods, or \"*\" for all of them"));
        }
        if methods.len() > 1 && methods.iter().any(|method| method == "*") {
            self.add(&at, "let \"*\" stand alone, or name the methods");
        }
        for (number, method) in methods.iter().enumerate() {
            if method != "*" && Method::scan(method.as_bytes()).is_err() {
                self.add(&format!("{at}[{number}]"), "use 1 to 20 of A-Z and '-', or \"*\" alone for all methods");
            }
            if methods.iter().take(number).any(|before| before == method) {
                self.add(&format!("{at}[{number}]"), "name each method once");
            }
        }
    }
}

/// A rule in one line: `GET, POST /events/*`.
pub(super) fn text(rule: &Rule) -> String {
    format!("{} {}", rule.methods.join(", "), rule.path)
}

fn check_path(path: &str) -> Result<(), String> {
    if !path.starts_with('/') {
        return Err("begin it with '/'".to_owned());
    }
    if path.len() > MOST_RULE_BYTES {
        return Err(format!("use at most {MOST_RULE_BYTES} bytes"));
    }
    if path.contains('?') {
        return Err("leave the query out: rules are about paths".to_owned());
    }
    let segments = || path.split('/').skip(1);
    if segments().count() > MOST_RULE_SEGMENTS {
        return Err(format!("use at most {MOST_RULE_SEGMENTS} segments"));
    }
    if segments().any(|segment| segment.contains('*') && segment != "*" && segment != "**") {
        return Err("let '*' or '**' be a whole segment; a star that is part of a name is not possible".to_owned());
    }
    if path.strip_suffix("/**").unwrap_or(path).split('/').any(|segment| segment == "**") {
        return Err("let '**' stand in the last segment only".to_owned());
    }
    match Path::scan(path.as_bytes()) {
        Ok(_) => Ok(()),
        Err(BadPath::Malformed) => {
            Err("use letters, digits and -._~!$&'()+,=:@ only, everything else as '%' and two hex digits".to_owned())
        }
        Err(BadPath::Ambiguous) => {
            Err("write it so that it can be read in one way only: no '//', no segment that ends \
                                        in '.', no ';', and nothing encoded that need not be or is a control character"
                .to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ProjectRole;
    use crate::policy::Least;

    fn rule(methods: &[&str], path: &str) -> Rule {
        let methods = methods.iter().map(|method| (*method).to_owned()).collect();
        Rule { methods, path: path.to_owned(), role: ProjectRole::Support, public: false, permission: None }
    }

    fn document(rules: Vec<Rule>) -> Document {
        let mut document = Document::builtin();
        document.policies[0].rules = rules;
        document
    }

    fn places(document: &Document) -> Vec<String> {
        faults(document).into_iter().map(|fault| fault.at).collect()
    }

    fn path_is_refused(path: &str) -> bool {
        let places = places(&document(vec![rule(&["GET"], path)]));
        assert!(places.is_empty() || places == ["policies[0].rules[0].path"], "{places:?}");
        !places.is_empty()
    }

    #[test]
    fn every_fault_is_found_at_once_and_says_where_it_is() {
        let mut faulty = document(vec![
            rule(&["GET"], "/a"),
            rule(&[], "a"),
            rule(&["get", "*", "PUT", "PUT"], "/b/**/c"),
            Rule { permission: Some("write".to_owned()), ..rule(&["POST", "GET"], "/a") },
        ]);
        faulty.policies[0].name = "Default".to_owned();
        faulty.policies.push(NamedPolicy {
            name: "Default".to_owned(),
            read: Least::None,
            write: Least::None,
            rules: vec![rule(&["*"], "/A"), rule(&["*"], "/a/")],
        });
        let found = places(&faulty);
        assert_eq!(
            found,
            [
                "policies",
                "policies[0].name",
                "policies[0].rules[1].methods",
                "policies[0].rules[1].path",
                "policies[0].rules[2].methods",
                "policies[0].rules[2].methods[0]",
                "policies[0].rules[2].methods[3]",
                "policies[0].rules[2].path",
                "policies[0].rules[3].permission",
                "policies[0].rules[3]",
                "policies[1].name",
                "policies[1].name",
                "policies[1].rules[1].path",
            ]
        );
    }

    #[test]
    fn numbers_are_bounded() {
        let some = |rules: usize| (0..rules).map(|number| rule(&["GET"], &format!("/{number}"))).collect();
        assert_eq!(faults(&document(some(MOST_RULES))), []);
        assert_eq!(places(&document(some(MOST_RULES + 1))), ["policies"]);
        let named = |name: usize| NamedPolicy { name: name.to_string(), ..Document::builtin().policies.remove(0) };
        let mut many = document(some(1));
        many.policies.extend((1..MOST_POLICIES).map(named));
        assert_eq!(faults(&many), []);
        many.policies.push(named(MOST_POLICIES));
        assert_eq!(places(&many), ["policies"]);
        // Over all policies together.
        let mut two = document(some(MOST_RULES));
        two.policies.push(NamedPolicy { rules: some(1), ..named(1) });
        assert_eq!(places(&two), ["policies"]);
        let methods: Vec<_> = (b'A'..=b'Z').flat_map(|one| [[one, b'A'], [one, b'B'], [one, b'C']]).collect();
        let methods: Vec<_> = methods.iter().map(|method| std::str::from_utf8(method).unwrap()).collect();
        assert_eq!(faults(&document(vec![rule(&methods[..MOST_METHODS], "/a")])), []);
        assert_eq!(places(&document(vec![rule(&methods[..=MOST_METHODS], "/a")])), ["policies[0].rules[0].methods"]);
    }

    #[test]
    fn names_are_short_and_small() {
        let accepted = |name: &str| {
            let mut document = document(Vec::new());
            document.policies.push(NamedPolicy { name: name.to_owned(), ..document.policies[0].clone() });
            faults(&document).is_empty()
        };
        assert!(["a", "public-api_2", "0", "-", &"a".repeat(64)].into_iter().all(accepted));
        assert!(!["", "A", "a b", "a/b", "a.b", "é", "default", &"a".repeat(65)].into_iter().any(accepted));
    }

    #[test]
    fn a_path_is_one_that_a_request_could_have() {
        for good in ["/", "/a", "/a/", "/*", "/**", "/a/*/b/**", "/*/", "/%C3%A9", "/a.b", "/a@b", "/a%40b"] {
            assert!(!path_is_refused(good), "{good}");
        }
        for bad in ["", "a", "//", "/a//b", "/..", "/a/./b", "/a.", "/a;b", "/%61", "/%2f", "/a?b", "/a b", "/é", "/%"]
        {
            assert!(path_is_refused(bad), "{bad}");
        }
        for bad in ["/a*", "/*a", "/***", "/**/a", "/**/", "/**/**", "/a/**/*", "/*/a*b"] {
            assert!(path_is_refused(bad), "{bad}");
        }
        let (deep, long) = ("/a".repeat(MOST_RULE_SEGMENTS), format!("/{}", "a".repeat(MOST_RULE_BYTES - 1)));
        assert!(!path_is_refused(&deep) && !path_is_refused(&long));
        assert!(path_is_refused(&format!("{deep}/a")) && path_is_refused(&format!("{long}a")));
    }

    #[test]
    fn rules_that_nothing_can_tell_apart_are_refused_with_both_named() {
        let refused = |one: &[&str], two: &[&str]| {
            let found = faults(&document(vec![rule(one, "/a/*"), rule(two, "/a/*")]));
            assert!(found.iter().all(|fault| fault.at == "policies[0].rules[1]"));
            found.into_iter().next().map(|fault| fault.message)
        };
        assert_eq!(refused(&["GET"], &["PUT"]), None);
        assert_eq!(refused(&["GET"], &["*"]), None);
        assert!(refused(&["*"], &["*"]).is_some());
        assert_eq!(
            refused(&["GET", "PUT"], &["HEAD", "PUT"]).unwrap(),
            "take a method out of this rule, HEAD, PUT /a/*, or out of rules[0], GET, PUT /a/*: nothing can tell the \
             two apart"
        );
    }

    #[test]
    fn of_several_rules_that_are_the_same_the_first_is_named() {
        let found = faults(&document(vec![rule(&["GET"], "/a"), rule(&["PUT"], "/a"), rule(&["PUT", "GET"], "/a")]));
        assert_eq!(found.len(), 1);
        assert!(found[0].message.contains("out of rules[0], GET /a:"), "{found:?}");
    }

    #[test]
    fn rules_that_a_careless_reader_confuses_are_refused() {
        let refused = |one: &str, two: &str| {
            let found = faults(&document(vec![rule(&["GET"], one), rule(&["PUT"], two)]));
            assert!(found.iter().all(|fault| fault.at == "policies[0].rules[1].path"), "{found:?}");
            found.first().is_some_and(|fault| fault.message.contains(&format!("rules[0] does, \"{one}\"")))
        };
        for (one, two) in [
            ("/a", "/A"),
            ("/a", "/a/"),
            ("/%C3%A9", "/%c3%a9"),
            ("/a@b", "/a%40b"),
            ("/a%3ab", "/a%3Ab"),
            ("/*/", "/*"),
            ("/Ab/**", "/aB/**"),
        ] {
            assert!(refused(one, two), "{one} {two}");
        }
        for (one, two) in [("/a", "/b"), ("/", "/*"), ("/*", "/**"), ("/a/*", "/a/**"), ("/%2A", "/*"), ("/a", "/a")] {
            assert!(!refused(one, two), "{one} {two}");
        }
        // Two policies never meet.
        let mut two = document(vec![rule(&["GET"], "/a")]);
        two.policies.push(NamedPolicy {
            name: "b".to_owned(),
            rules: vec![rule(&["GET"], "/A")],
            ..two.policies[0].clone()
        });
        assert_eq!(faults(&two), []);
    }
}
