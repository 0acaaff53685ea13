//! Policies and requests against a slow, obvious search that shares no code with the fast one.

use std::cmp::Ordering;

use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};

use super::*;
use crate::{ProjectRole, Scope};

/// Rules and paths are made of these, so that they meet.
const SEGMENTS: &[&str] =
    &["a", "b", "A", "aB", "a@b", "a%40B", "x%3A", "%C3%A9", "%c3%a9", "a%20b", "a-rather-long-one"];

/// What the contract says of precedence, word by word: the place of the rule that applies.
fn slow_search(rules: &[Rule], method: &str, path: &str, fold: fn(&str) -> String) -> Option<usize> {
    let segments = |path: &str| fold(path).split('/').skip(1).map(str::to_owned).collect::<Vec<_>>();
    let path = segments(path);
    let matches = |rule: &Rule| {
        let pieces = segments(&rule.path);
        let (pieces, tail) = match pieces.split_last() {
            Some((last, before)) if last == "**" => (before, true),
            _ => (pieces.as_slice(), false),
        };
        let fits = |(piece, segment): (&String, &String)| match piece.as_str() {
            "*" => !segment.is_empty(),
            literal => literal == segment,
        };
        let long_enough = if tail { path.len() > pieces.len() } else { path.len() == pieces.len() };
        long_enough && pieces.iter().zip(&path).all(fits)
    };
    let names = |rule: &Rule, method| rule.methods.iter().any(|one| one == method);
    let mut applying: Vec<_> = rules.iter().enumerate().collect();
    applying.retain(|(_, rule)| matches(rule) && (names(rule, method) || names(rule, "*")));
    applying.sort_by(|(_, one), (_, two)| {
        let rank = |piece: String| match piece.as_str() {
            "**" => 2,
            "*" => 1,
            _literal => 0,
        };
        let pairs = segments(&one.path).into_iter().zip(segments(&two.path));
        let paths = pairs.map(|(one, two)| rank(one).cmp(&rank(two))).fold(Ordering::Equal, Ordering::then);
        paths.then(names(one, "*").cmp(&names(two, "*")))
    });
    applying.first().map(|(place, _)| *place)
}

fn careless(path: &str) -> String {
    let path = if path.len() > 1 { path.strip_suffix('/').unwrap_or(path) } else { path };
    path.to_lowercase().replace("%40", "@").replace("%3a", ":")
}

fn expected(rules: &[Rule], method: &str, path: &str) -> Result<Option<usize>, BadPath> {
    let exact = slow_search(rules, method, path, str::to_owned);
    if slow_search(rules, method, path, careless) == exact { Ok(exact) } else { Err(BadPath::Ambiguous) }
}

fn found(policies: &Policies, method: &str, path: &str) -> Result<Option<usize>, BadPath> {
    let path = Path::scan(path.as_bytes())?;
    let route = policies.route(PolicyId::DEFAULT, Method::scan(method.as_bytes()).unwrap(), &path)?;
    Ok(route.number.0.checked_sub(2).map(usize::from))
}

fn any_segment() -> impl Strategy<Value = &'static str> {
    prop_oneof![3 => select(&SEGMENTS[..2]), 1 => select(SEGMENTS)]
}

fn any_path() -> impl Strategy<Value = String> {
    let segments = proptest::collection::vec(any_segment(), 0..5);
    (segments, proptest::bool::weighted(0.2)).prop_map(|(segments, slash)| {
        let end = if slash || segments.is_empty() { "/" } else { "" };
        segments.iter().map(|segment| format!("/{segment}")).chain([end.to_owned()]).collect()
    })
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let segment = prop_oneof![2 => any_segment(), 1 => Just("*")];
    let path = (proptest::collection::vec(segment, 0..4), select(vec!["", "", "/", "/**", "/**"]));
    let methods = prop_oneof![Just(vec!["*"]), subsequence(vec!["GET", "HEAD", "POST"], 1..3)];
    let permission = proptest::option::weighted(0.3, Just("a:b".to_owned()));
    (path, methods, select(ProjectRole::ALL), any::<bool>(), permission).prop_map(
        |((segments, end), methods, role, public, permission)| {
            let path: String = segments.iter().map(|segment| format!("/{segment}")).chain([end.to_owned()]).collect();
            let path = if path.is_empty() { "/".to_owned() } else { path };
            let methods = methods.into_iter().map(str::to_owned).collect();
            Rule { methods, path, role, public, permission }
        },
    )
}

/// Rules that can stand together: each that cannot stand beside those before it is left out.
fn any_rules() -> impl Strategy<Value = Vec<Rule>> {
    proptest::collection::vec(any_rule(), 0..12).prop_map(|rules| {
        let mut kept = Vec::new();
        for rule in rules {
            kept.push(rule);
            if !check::faults(&document(&kept)).is_empty() {
                kept.pop();
            }
        }
        kept
    })
}

fn any_method() -> impl Strategy<Value = &'static str> {
    select(vec!["GET", "HEAD", "POST", "DELETE"])
}

fn document(rules: &[Rule]) -> Document {
    let mut document = Document::builtin();
    document.policies[0].rules = rules.to_vec();
    document
}

fn compiled(rules: &[Rule]) -> Policies {
    Policies::compile(&document(rules)).unwrap()
}

/// Writes a path in another way, at some place: what a back end may take for the same path.
fn respelled(path: &str, how: usize, place: Index) -> String {
    let bytes = path.as_bytes();
    let at = place.index(bytes.len());
    let slash = (0..=at).rev().find(|at| bytes[*at] == b'/').unwrap_or(0);
    let (to_slash, behind_slash) = path.split_at(slash + 1);
    let (before, here, after) = (&path[..at], bytes[at], &path[at + 1..]);
    let flipped = if here.is_ascii_lowercase() { here.to_ascii_uppercase() } else { here.to_ascii_lowercase() };
    match how {
        0 => format!("{to_slash}/{behind_slash}"),
        1 => format!("{to_slash}./{behind_slash}"),
        2 => format!("{to_slash}x/../{behind_slash}"),
        3 => format!("{before}%{here:02x}{after}"),
        4 => format!("{before}%{here:02X}{after}"),
        5 => format!("{to_slash};x/{behind_slash}"),
        6 => format!("{path};x"),
        7..=9 => format!("{before}{}{after}", char::from(flipped)),
        10 => path.strip_suffix('/').filter(|rest| !rest.is_empty()).map_or(format!("{path}/"), str::to_owned),
        11 => path.replace('@', "%40"),
        12 => path.replace("%40", "@").replace("%3A", ":"),
        13 => format!("{}%2f{behind_slash}", &path[..slash]),
        14 => format!("{path}."),
        _ => format!("{path}%00"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_rule_that_is_found_is_the_one_that_a_slow_search_finds(
        rules in any_rules(), requests in proptest::collection::vec((any_method(), any_path()), 1..20)
    ) {
        let policies = compiled(&rules);
        for (method, path) in requests {
            prop_assert_eq!(found(&policies, method, &path), expected(&rules, method, &path), "{} {}", method, path);
        }
    }

    #[test]
    fn another_spelling_leads_to_the_same_rule_or_nowhere(
        rules in any_rules(), method in any_method(), path in any_path(),
        changes in proptest::collection::vec((0..16_usize, any::<Index>()), 1..4)
    ) {
        let policies = compiled(&rules);
        let plain = found(&policies, method, &path);
        prop_assume!(plain.is_ok());
        let odd = changes.into_iter().fold(path.clone(), |path, (how, place)| respelled(&path, how, place));
        let there = found(&policies, method, &odd);
        prop_assert!(there == plain || there.is_err(), "{} for {}: {:?} for {:?}", odd, path, there, plain);
    }

    #[test]
    fn an_explanation_says_what_route_and_judge_say(
        rules in any_rules(), method in any_method(), path in any_path(), role in select(ProjectRole::ALL),
        scope in select(Scope::ALL), permissions in subsequence(vec!["a:b", "c:d"], 0..=2)
    ) {
        let policies = compiled(&rules);
        let (method, path) = (Method::scan(method.as_bytes()).unwrap(), Path::scan(path.as_bytes()).unwrap());
        let key = ExplainKey { role, scope, permissions: &permissions };
        let explained = policies.explain(PolicyId::DEFAULT, method, &path, &key);
        let found = policies.route(PolicyId::DEFAULT, method, &path);

        let judged = found.map(|route| judge(&route, role, scope, |permission| permissions.contains(&permission)));
        prop_assert_eq!(explained.allowed, judged == Ok(Ok(())));
        prop_assert_eq!(explained.applies, found.ok().and_then(|route| policies.describe(route.number)));
        let applying: Vec<_> = explained.rules.iter().filter(|rule| rule.applies).map(|rule| rule.place).collect();
        let rule = found.ok().and_then(|route| route.number.0.checked_sub(2)).map(usize::from);
        prop_assert_eq!(applying, Vec::from_iter(rule));
        prop_assert_eq!(explained.rules.len(), rules.len());
    }

    #[test]
    fn every_route_that_is_newly_open_is_named(
        old in any_rules(), new in any_rules(), kept in any::<u16>(),
        requests in proptest::collection::vec((any_method(), any_path()), 1..40)
    ) {
        // Mostly one document with a few rules taken out or put in: two strangers have little to compare.
        let mut changed: Vec<_> = (0..).zip(&old).filter(|(at, _)| kept >> at & 1 == 1).map(|(_, rule)| rule.clone()).collect();
        changed.extend(new.into_iter().take(2));
        while !check::faults(&document(&changed)).is_empty() {
            changed.pop();
        }
        let (old, new) = (compiled(&old), compiled(&changed));
        let gain = public_gain(&old, &new);
        for (method, path) in requests {
            let (method, path) = (Method::scan(method.as_bytes()).unwrap(), Path::scan(path.as_bytes()).unwrap());
            let open = |policies: &Policies| {
                let route = policies.route(PolicyId::DEFAULT, method, &path).ok().filter(|route| route.public)?;
                policies.describe(route.number)
            };
            if let (None, Some(rule)) = (open(&old), open(&new)) {
                prop_assert!(gain.contains(&format!("default: {rule}")), "{} lacks {}", gain.join("; "), rule);
            }
        }
        prop_assert_eq!(public_gain(&new, &new), Vec::<String>::new());
    }
}
