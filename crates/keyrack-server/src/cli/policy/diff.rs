//! What a new policy changes.

use keyrack::policy::{Document, NamedPolicy, Rule};

/// Every difference in a line of its own: `+` is new, `-` is gone, `~` is changed. Nothing if the two say the same.
pub(super) fn lines(old: &Document, new: &Document) -> Vec<String> {
    let mut lines = Vec::new();
    let of = |document: &Document, name: &str| document.policies.iter().find(|policy| policy.name == name).cloned();
    for policy in &old.policies {
        match of(new, &policy.name) {
            Some(changed) => compare(policy, &changed, &mut lines),
            None => lines.push(format!("- policy {}", policy.name)),
        }
    }
    for policy in new.policies.iter().filter(|policy| of(old, &policy.name).is_none()) {
        lines.push(format!("+ policy {}: read {}, write {}", policy.name, word(policy.read), word(policy.write)));
        lines.extend(policy.rules.iter().map(|rule| format!("+ {}: {}", policy.name, whole(rule))));
    }
    lines
}

fn compare(old: &NamedPolicy, new: &NamedPolicy, lines: &mut Vec<String>) {
    let name = &old.name;
    for (what, old, new) in [("read", old.read, new.read), ("write", old.write, new.write)] {
        if old != new {
            lines.push(format!("~ {name}: {what} {} -> {}", word(old), word(new)));
        }
    }
    let of = |rules: &[Rule], like: &Rule| rules.iter().find(|rule| route(rule) == route(like)).cloned();
    for rule in &old.rules {
        match of(&new.rules, rule) {
            Some(same) if same == *rule || demands(&same) == demands(rule) => {}
            Some(changed) => {
                lines.push(format!("~ {name}: {}: {} -> {}", route(rule), demands(rule), demands(&changed)));
            }
            None => lines.push(format!("- {name}: {}", whole(rule))),
        }
    }
    let added = new.rules.iter().filter(|rule| of(&old.rules, rule).is_none());
    lines.extend(added.map(|rule| format!("+ {name}: {}", whole(rule))));
}

/// What a rule is about; in whatever order its methods stand.
fn route(rule: &Rule) -> String {
    let mut methods = rule.methods.clone();
    methods.sort_unstable();
    format!("{} {}", methods.join(", "), rule.path)
}

/// What it takes to pass.
fn demands(rule: &Rule) -> String {
    let public = if rule.public { ", publishable keys too" } else { "" };
    let permission = rule.permission.as_ref().map_or_else(String::new, |needed| format!(", permission {needed}"));
    format!("{}{permission}{public}", rule.role)
}

fn whole(rule: &Rule) -> String {
    format!("{}: {}", route(rule), demands(rule))
}

fn word(least: keyrack::policy::Least) -> &'static str {
    match least {
        keyrack::policy::Least::None => "none",
        keyrack::policy::Least::Role(role) => role.as_str(),
    }
}

#[cfg(test)]
mod tests {
    use keyrack::ProjectRole;
    use keyrack::policy::Least;

    use super::*;

    fn rule(methods: &[&str], path: &str, role: ProjectRole, public: bool) -> Rule {
        let methods = methods.iter().map(|method| (*method).to_owned()).collect();
        Rule { methods, path: path.to_owned(), role, public, permission: None }
    }

    #[test]
    fn every_difference_has_a_line_and_order_is_none() {
        let (support, editor) = (ProjectRole::Support, ProjectRole::Editor);
        let mut old = Document::builtin();
        old.policies[0].rules = vec![rule(&["POST", "GET"], "/a", editor, false), rule(&["*"], "/b", support, false)];
        let mut new = old.clone();
        new.policies[0].rules.reverse();
        new.policies[0].rules[1].methods.reverse();
        assert_eq!(lines(&old, &new), Vec::<String>::new());

        new.policies[0].read = Least::None;
        new.policies[0].rules = vec![rule(&["*"], "/b", editor, true), rule(&["PUT"], "/c", support, false)];
        new.policies.push(NamedPolicy { name: "eu".to_owned(), ..old.policies[0].clone() });
        let expected = [
            "~ default: read support -> none",
            "- default: GET, POST /a: editor",
            "~ default: * /b: support -> editor, publishable keys too",
            "+ default: PUT /c: support",
            "+ policy eu: read support, write editor",
            "+ eu: GET, POST /a: editor",
            "+ eu: * /b: support",
        ];
        assert_eq!(lines(&old, &new), expected);
        assert_eq!(lines(&new, &old).last().unwrap(), "- policy eu");
    }
}
