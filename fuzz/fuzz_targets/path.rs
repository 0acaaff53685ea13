//! Arbitrary bytes as a path and as the paths of rules: nothing panics, a path that is accepted can be read in one way,
//! and the rule that is found is the one that a slow search finds.
#![no_main]

use std::cmp::Ordering;

use keyrack::ProjectRole;
use keyrack::policy::{BadPath, Document, Method, Path, Policies, PolicyId, RouteNumber, Rule};
use libfuzzer_sys::fuzz_target;

/// Rules to run into without having to guess any.
const RULES: &[&str] = &["/", "/a", "/a/*", "/a/**", "/a/b/c", "/*/b", "/V1/Ping", "/a@b/*/", "/%C3%A9"];

// The first line is asked for; the others are rules.
fuzz_target!(|data: &[u8]| {
    let mut lines = data.split(|byte| *byte == b'\n');
    let target = lines.next().unwrap_or_default();
    if let Ok(path) = Path::scan(target) {
        assert_eq!(Some(path.as_str().as_bytes()), target.split(|byte| *byte == b'?').next());
        can_be_read_in_one_way(path.as_str());
    }
    leads_to_the_right_rule(target, RULES.iter().map(|rule| (*rule).to_owned()).collect());
    leads_to_the_right_rule(target, lines.map(|line| String::from_utf8_lossy(line).into_owned()).collect());
});

fn can_be_read_in_one_way(path: &str) {
    let segments: Vec<_> = path.split('/').skip(1).collect();
    assert!(path.starts_with('/') && path.len() <= 8_192 && segments.len() <= 128);
    let (last, before) = segments.split_last().expect("at least one segment");
    assert!(before.iter().all(|segment| !segment.is_empty()), "an empty segment inside");
    for segment in before.iter().chain([last]) {
        assert!(!segment.ends_with('.') && !segment.ends_with("%20") && !segment.contains([';', '\\', '#', '?', '\0']));
        let decoded = decoded(segment, |_| true);
        // What comes out of an encoded byte is text, no control character and nothing that means something in a path.
        let mut decoded = String::from_utf8(decoded).expect("text");
        assert!(!decoded.contains(['/', '\\', ';', '%', '?', '#']) && !decoded.ends_with('.'));
        assert!(!decoded.chars().any(|one| one.is_ascii_control()));
        // No letter or digit was encoded.
        decoded.retain(|one| one.is_ascii_alphanumeric());
        let mut written: String = segment.to_string();
        while let Some(at) = written.find('%') {
            written.replace_range(at..at + 3, "");
        }
        written.retain(|one| one.is_ascii_alphanumeric());
        assert_eq!(decoded, written);
    }
}

/// A segment with every encoded byte decoded that `is_it` picks.
fn decoded(segment: &str, is_it: impl Fn(u8) -> bool) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut rest = segment.as_bytes();
    while let Some((first, others)) = rest.split_first() {
        let digits = others.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let encoded = digits.filter(|_| *first == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match encoded.filter(|byte| is_it(*byte)) {
            Some(byte) => {
                decoded.push(byte);
                rest = &others[2..];
            }
            None => {
                decoded.push(*first);
                rest = others;
            }
        }
    }
    decoded
}

/// What a careless reader makes of a path: no last slash, small letters, nothing encoded that need not be.
fn folded(path: &str) -> Vec<Vec<u8>> {
    let path = if path == "/" { path } else { path.strip_suffix('/').unwrap_or(path) };
    let fold = |segment| decoded(segment, |byte| b"!$&'()*+,=:@".contains(&byte)).to_ascii_lowercase();
    path.split('/').skip(1).map(fold).collect()
}

fn as_written(path: &str) -> Vec<Vec<u8>> {
    path.split('/').skip(1).map(|segment| segment.as_bytes().to_vec()).collect()
}

fn leads_to_the_right_rule(target: &[u8], rules: Vec<String>) {
    let rule = |path: &String| Rule {
        methods: vec!["GET".to_owned()],
        path: path.clone(),
        role: ProjectRole::Editor,
        public: false,
        permission: None,
    };
    let mut document = Document::builtin();
    document.policies[0].rules = rules.iter().map(rule).collect();
    let Ok(policies) = Policies::compile(&document) else { return };
    let (Ok(method), Ok(path)) = (Method::scan(b"GET"), Path::scan(target)) else { return };
    let exact = slow_search(&rules, &as_written(path.as_str()), as_written);
    let careless = slow_search(&rules, &folded(path.as_str()), folded);
    let expected = if exact == careless { Ok(exact) } else { Err(BadPath::Ambiguous) };
    let found = policies.route(PolicyId::DEFAULT, method, &path).map(|route| route.number);
    let number = |rule: Option<usize>| rule.map_or(0, |rule| u16::try_from(rule).expect("few rules") + 2);
    assert_eq!(found, expected.map(number).map(RouteNumber));
}

/// The most precise rule that matches, by its place.
fn slow_search(rules: &[String], segments: &[Vec<u8>], spelled: impl Fn(&str) -> Vec<Vec<u8>>) -> Option<usize> {
    // Wildcards are what is written as one: folding must not make one of an encoded star.
    let pieces = |rule: &str| -> Vec<(u8, Vec<u8>)> {
        let kinds = rule.split('/').skip(1).map(|piece| match piece {
            "*" => 1,
            "**" => 2,
            _ => 0,
        });
        kinds.zip(spelled(rule)).collect()
    };
    let matches = |rule: &[(u8, Vec<u8>)]| {
        let tail = rule.last().is_some_and(|(kind, _)| *kind == 2);
        let long_enough = if tail { segments.len() >= rule.len() } else { segments.len() == rule.len() };
        long_enough
            && rule.iter().zip(segments).all(|((kind, literal), segment)| match kind {
                0 => literal == segment,
                1 => !segment.is_empty(),
                _ => true,
            })
    };
    let candidates = rules.iter().map(|rule| pieces(rule)).enumerate().filter(|(_, rule)| matches(rule));
    let best = candidates.min_by(|(_, one), (_, two)| {
        let kinds = one.iter().zip(two).map(|((one, _), (two, _))| one.cmp(two));
        kinds.fold(Ordering::Equal, Ordering::then)
    });
    best.map(|(place, _)| place)
}
