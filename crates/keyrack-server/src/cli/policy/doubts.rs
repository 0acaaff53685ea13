//! What is not wrong with a policy, and may not be meant.

use keyrack::policy::{Document, Least, NamedPolicy, Rule};

/// Every rule that asks more of GET than is asked of HEAD, which most services answer as they answer GET, without the body.
pub(super) fn doubts(document: &Document) -> Vec<String> {
    let policies = document.policies.iter().enumerate();
    policies.flat_map(|(at, policy)| of_policy(at, policy)).collect()
}

fn of_policy(at: usize, policy: &NamedPolicy) -> Vec<String> {
    let Least::Role(read) = policy.read else { return Vec::new() };
    let names = |rule: &Rule, method: &str| rule.methods.iter().any(|known| known == method);
    let is_for_head = |rule: &Rule| names(rule, "HEAD") || names(rule, "*");
    let is_doubtful = |rule: &Rule| {
        let asks_more = rule.role > read || rule.permission.is_some();
        let on_its_path = |other: &&Rule| other.path == rule.path;
        names(rule, "GET") && asks_more && !policy.rules.iter().filter(on_its_path).any(is_for_head)
    };
    let told = |(number, rule): (usize, &Rule)| {
        format!(
            "policies[{at}].rules[{number}]: GET {} is named and HEAD is not: HEAD takes what a less precise rule or `read` takes",
            rule.path
        )
    };
    policy.rules.iter().enumerate().filter(|(_, rule)| is_doubtful(rule)).map(told).collect()
}

#[cfg(test)]
mod tests {
    use keyrack::ProjectRole;

    use super::*;

    #[test]
    fn head_is_asked_for_where_get_takes_more_than_reads_do() {
        let rule = |methods: &[&str], path: &str, role, permission: Option<&str>| Rule {
            methods: methods.iter().map(|method| (*method).to_owned()).collect(),
            path: path.to_owned(),
            role,
            public: false,
            permission: permission.map(str::to_owned),
        };
        let mut document = Document::builtin();
        document.policies[0].rules = vec![
            rule(&["GET"], "/admin", ProjectRole::Admin, None),
            rule(&["GET", "HEAD"], "/both", ProjectRole::Admin, None),
            rule(&["*"], "/all", ProjectRole::Admin, None),
            rule(&["GET"], "/beside", ProjectRole::Admin, None),
            rule(&["HEAD"], "/beside", ProjectRole::Admin, None),
            rule(&["GET"], "/as-reads", ProjectRole::Support, None),
            rule(&["POST"], "/write", ProjectRole::Admin, None),
            rule(&["GET"], "/held", ProjectRole::Support, Some("a:b")),
        ];
        let told = doubts(&document);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].starts_with("policies[0].rules[0]: GET /admin is named and HEAD is not"), "{told:?}");
        assert!(told[1].starts_with("policies[0].rules[7]: GET /held"), "{told:?}");
        document.policies[0].read = Least::None;
        assert_eq!(doubts(&document), Vec::<String>::new());
    }
}
