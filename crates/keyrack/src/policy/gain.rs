//! What publishable keys would gain by a new policy.

use std::collections::{BTreeSet, HashMap};

use super::pattern::Pattern;
use super::{CompiledRule, Policies, Policy, method};

/// The routes of `new` that publishable keys may pass on and could not under `old`: one line per rule, `default: POST
/// /events`, in the order of the document. Policies are the same if their names are.
///
/// A rule is named if, for one of its methods, `old` has no public rule on the same path, or if a more precise rule
/// that took part of its requests away is gone. Every request that is newly open falls under a rule that is named; a
/// rule may be named although nothing is, because what was taken away was open too.
pub fn public_gain(old: &Policies, new: &Policies) -> Vec<String> {
    let mut lines = Vec::new();
    let mut policies: Vec<_> = new.policies.iter().collect();
    policies.sort_by_key(|policy| policy.rules.start);
    for policy in policies {
        let before = old.named(policy.name.as_bytes()).and_then(|id| old.policies.get(usize::from(id.0)));
        let difference = Difference::between(rules(old, before), rules(new, Some(policy)));
        let gaining = rules(new, Some(policy)).iter().filter(|rule| rule.public && difference.gains(rule));
        lines.extend(gaining.map(|rule| format!("{}: {}", policy.name, rule.text)));
    }
    lines
}

fn rules<'a>(policies: &'a Policies, policy: Option<&Policy>) -> &'a [CompiledRule] {
    policy.and_then(|policy| policies.rules.get(policy.rules.clone())).unwrap_or_default()
}

struct Difference<'a> {
    old: ByPath<'a>,
    new: ByPath<'a>,
    /// The rules of the old policy that the new one lacks for one of these methods or more.
    gone: Vec<Gone<'a>>,
    /// Every method that a rule of either names, and [`method::ANY`] for all others.
    methods: BTreeSet<u128>,
}

struct Gone<'a> {
    pattern: &'a Pattern,
    folded: Pattern,
    methods: BTreeSet<u128>,
}

impl<'a> Difference<'a> {
    fn between(old: &'a [CompiledRule], new: &'a [CompiledRule]) -> Self {
        let mut methods = BTreeSet::from([method::ANY]);
        methods.extend(old.iter().chain(new).flat_map(|rule| rule.methods.iter().copied()));
        let (old, new) = (ByPath::of(old), ByPath::of(new));
        let lost = |pattern: &Pattern| -> BTreeSet<u128> {
            let is_lost = |one: &u128| old.rule(pattern, *one).is_some() && new.rule(pattern, *one).is_none();
            methods.iter().copied().filter(is_lost).collect()
        };
        let gone = old.0.keys().map(|pattern| Gone { pattern, folded: pattern.folded(), methods: lost(pattern) });
        let gone = gone.filter(|gone| !gone.methods.is_empty()).collect();
        Self { old, new, gone, methods }
    }

    fn gains(&self, rule: &CompiledRule) -> bool {
        self.methods.iter().any(|one| {
            // Another rule on the same path may name the method.
            let is_about_it = self.new.rule(&rule.pattern, *one).is_some_and(|found| std::ptr::eq(found, rule));
            is_about_it && (!self.was_public(rule, *one) || self.reaches_further(rule, *one))
        })
    }

    fn was_public(&self, rule: &CompiledRule, method: u128) -> bool {
        self.old.rule(&rule.pattern, method).is_some_and(|before| before.public)
    }

    /// Whether a rule may have taken requests away that it takes no more, as they are written or as a careless reader
    /// has them.
    fn reaches_further(&self, rule: &CompiledRule, method: u128) -> bool {
        let folded = rule.pattern.folded();
        let shadowed = |one: &Pattern, two: &Pattern| one < two && one.overlaps(two);
        self.gone.iter().any(|gone| {
            gone.methods.contains(&method) && (shadowed(gone.pattern, &rule.pattern) || shadowed(&gone.folded, &folded))
        })
    }
}

/// The rules of a policy by their path.
struct ByPath<'a>(HashMap<&'a Pattern, Vec<&'a CompiledRule>>);

impl<'a> ByPath<'a> {
    fn of(rules: &'a [CompiledRule]) -> Self {
        let mut by_path: HashMap<_, Vec<_>> = HashMap::new();
        for rule in rules {
            by_path.entry(&rule.pattern).or_default().push(rule);
        }
        Self(by_path)
    }

    /// The rule on that path that is about a method: the one that names it, else the one for all.
    fn rule(&self, pattern: &Pattern, method: u128) -> Option<&'a CompiledRule> {
        let rules = self.0.get(pattern)?;
        let naming = |method| rules.iter().find(|rule| rule.methods.contains(&method)).copied();
        naming(method).or_else(|| naming(method::ANY))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ProjectRole;
    use crate::policy::{Document, NamedPolicy, Rule};

    /// Rules are written as `METHOD,METHOD PATH`, and `public ` before it.
    fn policy(name: &str, rules: &[&str]) -> NamedPolicy {
        let rules = rules.iter().map(|line| {
            let (public, rule) = line.strip_prefix("public ").map_or((false, *line), |rule| (true, rule));
            let (methods, path) = rule.split_once(' ').unwrap();
            let methods = methods.split(',').map(str::to_owned).collect();
            Rule { methods, path: path.to_owned(), role: ProjectRole::Support, public, permission: None }
        });
        NamedPolicy { name: name.to_owned(), rules: rules.collect(), ..Document::builtin().policies.remove(0) }
    }

    fn policies(rules: &[&str]) -> Policies {
        Policies::compile(&Document { policies: vec![policy("default", rules)] }).unwrap()
    }

    fn gain(old: &[&str], new: &[&str]) -> Vec<String> {
        public_gain(&policies(old), &policies(new))
    }

    #[test]
    fn a_route_that_was_not_open_is_named() {
        assert_eq!(gain(&[], &["public POST /events", "GET /events"]), ["default: POST /events"]);
        assert_eq!(gain(&["POST /events"], &["public POST /events"]), ["default: POST /events"]);
        assert_eq!(gain(&["public POST /a"], &["public POST,PUT /a"]), ["default: POST, PUT /a"]);
        assert_eq!(gain(&["public POST /a"], &["public * /a"]), ["default: * /a"]);
        assert_eq!(gain(&["public * /a/*"], &["public * /a/*", "public GET /a/**"]), ["default: GET /a/**"]);
    }

    #[test]
    fn what_was_open_before_is_not() {
        let rules = ["public * /a/*", "GET /a/b", "public POST /b", "* /**"];
        assert_eq!(gain(&rules, &rules), [""; 0]);
        assert_eq!(gain(&rules, &rules[1..]), [""; 0]);
        assert_eq!(gain(&["public * /a"], &["public GET,PUT /a"]), [""; 0]);
        assert_eq!(gain(&["public GET,PUT /a"], &["public GET /a", "public PUT /a"]), [""; 0]);
        assert_eq!(gain(&["public * /a/*"], &["public * /a/*", "GET /a/b"]), [""; 0]);
    }

    #[test]
    fn a_rule_reaches_further_when_a_more_precise_one_is_gone() {
        let wide = "public * /a/**";
        assert_eq!(gain(&[wide, "GET /a/b"], &[wide]), ["default: * /a/**"]);
        assert_eq!(gain(&[wide, "GET /a/*"], &[wide, "PUT /a/*"]), ["default: * /a/**"]);
        assert_eq!(gain(&["public * /a", "GET /a"], &["public * /a"]), ["default: * /a"]);
        assert_eq!(gain(&[wide, "GET /a/b"], &[wide, "public GET /a/b"]), ["default: GET /a/b"]);
        // Less precise, elsewhere, or about another method.
        assert_eq!(gain(&[wide, "* /**"], &[wide]), [""; 0]);
        assert_eq!(gain(&[wide, "GET /b/b"], &[wide]), [""; 0]);
        assert_eq!(gain(&["public GET /a/**", "PUT /a/b"], &["public GET /a/**"]), [""; 0]);
    }

    #[test]
    fn policies_are_compared_by_name_and_listed_as_in_the_document() {
        let document = |policies: &[NamedPolicy]| Policies::compile(&Document { policies: policies.to_vec() }).unwrap();
        let old = document(&[policy("default", &["public GET /a"]), policy("gone", &["public GET /b"])]);
        let rules = ["public GET /b", "public GET /a"];
        let new = document(&[policy("new", &rules), policy("default", &rules)]);
        assert_eq!(public_gain(&old, &new), ["new: GET /b", "new: GET /a", "default: GET /b"]);
    }
}
