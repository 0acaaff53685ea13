//! What is expected of a policy, as a table that a build can run.

use std::error::Error;
use std::path::Path as FilePath;

use keyrack::policy::{ExplainKey, Method, Path, Policies, PolicyId};
use keyrack::{ProjectRole, Scope};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::exit::{Exit, Failure};
use super::super::output::{print, table};
use super::file::{failed, read_toml};

/// The file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cases {
    cases: Vec<Case>,
}

/// One expectation.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    method: String,
    path: String,
    /// `support` if it is not said.
    #[serde(default)]
    role: Option<String>,
    /// `secret` if it is not said.
    #[serde(default)]
    scope: Option<String>,
    #[serde(default)]
    permissions: Vec<String>,
    /// `default` if it is not said.
    #[serde(default)]
    policy: Option<String>,
    expect: Expected,
    /// The rule that must apply, as `keyrack policy explain` writes it.
    #[serde(default)]
    rule: Option<String>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Expected {
    Allow,
    Deny,
}

impl Expected {
    const fn of(allowed: bool) -> Self {
        if allowed { Self::Allow } else { Self::Deny }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

/// Runs every case of a file, and prints what came of each.
///
/// # Errors
/// If a case cannot be asked, or one did not come out as expected.
pub(super) fn run(file: &FilePath, policies: &Policies, json: bool) -> Result<(), Box<dyn Error>> {
    let Cases { cases } = read_toml(file)?;
    let rows = cases
        .iter()
        .enumerate()
        .map(|(place, case)| ask(case, policies).map_err(|message| failed(file, format!("cases[{place}]: {message}"))));
    let rows: Vec<Value> = rows.collect::<Result<_, _>>()?;
    let failures = rows.iter().filter(|row| row["result"] != "ok").count();
    if json {
        print(&serde_json::to_string(&rows)?)?;
    } else if !rows.is_empty() {
        let columns =
            [("RESULT", "result"), ("CASE", "case"), ("EXPECTED", "expected"), ("GOT", "got"), ("WHY", "why")];
        print(&table(&columns, &rows))?;
    }
    match failures {
        0 if json => Ok(()),
        0 => print(&format!("All {} cases came out as expected.", rows.len())),
        failures => Err(Failure::new(Exit::Local, format!("{failures} of {} cases failed", rows.len())).into()),
    }
}

fn ask(case: &Case, policies: &Policies) -> Result<Value, String> {
    let name = case.policy.as_deref().unwrap_or("default");
    let policy = if name == "default" { Some(PolicyId::DEFAULT) } else { policies.named(name.as_bytes()) };
    let policy = policy.ok_or_else(|| format!("there is no policy `{name}`"))?;
    let role: ProjectRole = word(case.role.as_deref(), "support", "role")?;
    let scope: Scope = word(case.scope.as_deref(), "secret", "scope")?;
    let method = Method::scan(case.method.as_bytes()).map_err(|bad| format!("method: {}", bad.reason()))?;
    let permissions: Vec<_> = case.permissions.iter().map(String::as_str).collect();
    let key = ExplainKey { role, scope, permissions: &permissions };
    // A path that is refused is a denial like any other, and may be expected.
    let (got, applies, why) = match Path::scan(case.path.as_bytes()) {
        Ok(path) => {
            let explained = policies.explain(policy, method, &path, &key);
            (Expected::of(explained.allowed), explained.applies, explained.reason)
        }
        Err(bad) => (Expected::Deny, None, bad.to_string()),
    };
    let is_rule = case.rule.is_none() || case.rule == applies;
    let expected_rule = case.rule.as_ref().map_or_else(String::new, |rule| format!(" by {rule}"));
    Ok(json!({
        "result": if got == case.expect && is_rule { "ok" } else { "FAILED" },
        "case": format!("{} {}, {role} {scope}", case.method, case.path),
        "expected": format!("{}{expected_rule}", case.expect.as_str()),
        "got": format!("{} by {}", got.as_str(), applies.as_deref().unwrap_or("no rule")),
        "why": why,
    }))
}

fn word<T: std::str::FromStr>(word: Option<&str>, default: &str, field: &str) -> Result<T, String>
where
    T::Err: std::fmt::Display,
{
    word.unwrap_or(default).parse().map_err(|error| format!("{field} {error}"))
}
