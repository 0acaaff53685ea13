//! Who may do what where, as one table that shows in review what a change of the rules means.
//!
//! `UPDATE_EXPECT=1 cargo test -p keyrack --test policy_table` writes it anew.

use std::fmt::Write as _;

use expect_test::expect_file;
use keyrack::policy::{Document, Least, Method, NamedPolicy, Path, Policies, Reason, Route, Rule, judge};
use keyrack::{ProjectRole, Scope};

const METHODS: &[&str] = &["GET", "HEAD", "POST", "DELETE"];

const PATHS: &[&str] = &[
    "/",
    "/events",
    "/Events",
    "/events/",
    "/events/7",
    "/events/me%40example.com",
    "/events/search",
    "/events/7/log",
    "/events//log",
    "/events/../users",
    "/users",
    "/users/7",
    "/users;x",
    "/%75sers",
    "/files/a/B/c",
    "/files",
    "files",
];

/// What the key holds besides its role.
const HELD: &[&str] = &["events:write"];

fn policies() -> Policies {
    let rule = |methods: &[&str], path: &str, role, public, permission: Option<&str>| Rule {
        methods: methods.iter().map(|method| (*method).to_owned()).collect(),
        path: path.to_owned(),
        role,
        public,
        permission: permission.map(str::to_owned),
    };
    let rules = vec![
        rule(&["POST"], "/events", ProjectRole::Support, true, Some("events:write")),
        rule(&["GET", "HEAD"], "/events/*", ProjectRole::Support, true, None),
        rule(&["*"], "/events/*", ProjectRole::Publisher, false, None),
        rule(&["GET"], "/events/search", ProjectRole::SmtpProxy, false, Some("events:search")),
        rule(&["*"], "/users/**", ProjectRole::Admin, false, None),
        rule(&["GET"], "/files/**", ProjectRole::Support, true, None),
    ];
    let (read, write) = (Least::Role(ProjectRole::Support), Least::Role(ProjectRole::Editor));
    let default = NamedPolicy { name: "default".to_owned(), read, write, rules: rules.clone() };
    let strict = NamedPolicy { name: "strict".to_owned(), read: Least::None, write: Least::None, rules };
    let open = NamedPolicy { name: "builtin".to_owned(), ..Document::builtin().policies.remove(0) };
    Policies::compile(&Document { policies: vec![default, strict, open] }).expect("a document without faults")
}

#[test]
fn role_by_scope_by_method_by_route() {
    let policies = policies();
    let mut table = String::new();
    for name in ["default", "strict", "builtin"] {
        writeln!(table, "policy {name}; the key holds {}\n", HELD.join(", ")).unwrap();
        write!(table, "{:<32}{:<22}", "request", "rule").unwrap();
        for scope in [Scope::Secret, Scope::Public] {
            for role in ProjectRole::ALL {
                write!(table, "{:<13}", format!("{} {role}", if scope == Scope::Public { "pk" } else { "sk" }))
                    .unwrap();
            }
        }
        end_line(&mut table);
        let policy = policies.named(name.as_bytes()).unwrap();
        for path in PATHS {
            for method in METHODS {
                write!(table, "{:<32}", format!("{method} {path}")).unwrap();
                let method = Method::scan(method.as_bytes()).unwrap();
                let found = Path::scan(path.as_bytes()).and_then(|path| policies.route(policy, method, &path));
                match found {
                    Ok(route) => {
                        write!(table, "{:<22}", policies.describe(route.number).unwrap()).unwrap();
                        write_verdicts(&mut table, &route);
                    }
                    Err(bad) => table.push_str(bad.reason()),
                }
                end_line(&mut table);
            }
        }
        table.push('\n');
    }
    expect_file!["policy_table.txt"].assert_eq(&table);
}

/// Ends a line, without the spaces at its end.
fn end_line(table: &mut String) {
    table.truncate(table.trim_end().len());
    table.push('\n');
}

fn write_verdicts(table: &mut String, route: &Route<'_>) {
    for scope in [Scope::Secret, Scope::Public] {
        for role in ProjectRole::ALL {
            let word = match judge(route, *role, scope, |permission| HELD.contains(&permission)) {
                Ok(()) => "yes",
                Err(Reason::Closed) => "closed",
                Err(Reason::ScopeTooSmall) => "scope",
                Err(Reason::RoleTooSmall { .. }) => "role",
                Err(Reason::PermissionMissing) => "perm",
            };
            table.push_str(&format!("{word:<13}"));
        }
    }
}
