//! A document laid out for searching.

use std::collections::BTreeSet;
use std::ops::Range;

use super::pattern::Pattern;
use super::trie::{EVERY_METHOD, Leaf, Trie};
use super::{Document, Least, NamedPolicy, Policies, PolicyId, RouteNumber, Rule, check, method};
use crate::ProjectRole;

#[derive(Debug)]
pub(super) struct Policy {
    pub(super) name: Box<str>,
    pub(super) read: Least,
    pub(super) write: Least,
    pub(super) exact: Trie,
    /// The rules as a careless reader has them; none if that is how they are written.
    pub(super) folded: Option<Trie>,
    /// The policy's part of [`Policies::rules`].
    pub(super) rules: Range<usize>,
}

/// Small: a thousand of them are wanted in the fastest memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Needs {
    pub(super) role: ProjectRole,
    pub(super) public: bool,
    /// The place of the permission, from 1; 0 is none.
    pub(super) permission: u16,
}

#[derive(Debug)]
pub(super) struct CompiledRule {
    pub(super) public: bool,
    pub(super) pattern: Pattern,
    /// From [`method::code_in_rule`].
    pub(super) methods: Box<[u128]>,
    /// The rule in one line.
    pub(super) text: Box<str>,
}

impl Policies {
    /// Lays out a document without faults.
    pub(super) fn assemble(document: &Document) -> Self {
        let documented = || document.policies.iter().flat_map(|policy| &policy.rules);
        let rules: Vec<_> = documented().map(CompiledRule::new).collect();
        let permissions: BTreeSet<&str> = documented().filter_map(|rule| rule.permission.as_deref()).collect();
        let permissions: Vec<&str> = permissions.into_iter().collect();
        let needs = documented().map(|rule| Needs {
            role: rule.role,
            public: rule.public,
            permission: rule.permission.as_deref().and_then(|one| number_in(&permissions, &one)).unwrap_or(0),
        });
        let needs = needs.collect();
        let methods: BTreeSet<u128> = rules.iter().flat_map(|rule| rule.methods.iter().copied()).collect();
        let methods: Vec<u128> = methods.into_iter().filter(|code| *code != method::ANY).collect();
        let mut start = 0;
        let policies = document.policies.iter().map(|policy| {
            let span = start..start + policy.rules.len();
            start = span.end;
            Policy::new(policy, span, &rules, &methods)
        });
        let mut policies: Vec<_> = policies.collect();
        // Stable: the others stay in order.
        policies.sort_by_key(|policy| &*policy.name != "default");
        let ids = (0..).map(PolicyId);
        let mut names: Vec<_> = policies.iter().map(|policy| policy.name.clone()).zip(ids).collect();
        names.sort_by(|(one, _), (two, _)| one.cmp(two));
        Self {
            policies: policies.into(),
            names: names.into(),
            methods: methods.into(),
            needs,
            permissions: permissions.into_iter().map(Into::into).collect(),
            rules: rules.into(),
        }
    }
}

impl Policy {
    /// `span` is the policy's part of the rules of all, `methods` what they name, sorted.
    pub(super) fn new(policy: &NamedPolicy, span: Range<usize>, rules: &[CompiledRule], methods: &[u128]) -> Self {
        let own = rules.get(span.clone()).unwrap_or_default();
        let folded: Vec<_> = own.iter().map(|rule| rule.pattern.folded()).collect();
        let is_as_written = folded.iter().zip(own).all(|(folded, rule)| *folded == rule.pattern);
        let trie = |patterns: &mut dyn Iterator<Item = &Pattern>| {
            let numbers = (RouteNumber::FIRST_RULE.0..).skip(span.start);
            let leaves = patterns.zip(own).zip(numbers).flat_map(|((pattern, rule), number)| {
                let known = rule.methods.iter().map(|code| number_in(methods, code).unwrap_or(EVERY_METHOD));
                known.map(move |method| Leaf { pattern, method, rule: number })
            });
            Trie::build(leaves.collect())
        };
        Self {
            name: policy.name.as_str().into(),
            read: policy.read,
            write: policy.write,
            exact: trie(&mut own.iter().map(|rule| &rule.pattern)),
            folded: (!is_as_written).then(|| trie(&mut folded.iter())),
            rules: span,
        }
    }
}

impl CompiledRule {
    pub(super) fn new(rule: &Rule) -> Self {
        Self {
            public: rule.public,
            pattern: Pattern::of(&rule.path),
            methods: rule.methods.iter().filter_map(|method| method::code_in_rule(method).ok()).collect(),
            text: check::text(rule).into(),
        }
    }
}

/// The place of something in a sorted list, from 1.
pub(super) fn number_in<T: Ord>(sorted: &[T], wanted: &T) -> Option<u16> {
    let place = sorted.binary_search(wanted).ok()?;
    u16::try_from(place + 1).ok()
}
