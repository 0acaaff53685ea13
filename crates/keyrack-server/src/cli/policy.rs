//! `keyrack policy`: which key may call which endpoint of the user's own API.

mod cases;
mod diff;
mod doubts;
mod file;

use std::error::Error;
use std::path::{Path as FilePath, PathBuf};

use clap::{Args, Subcommand};
use keyrack::policy::{Document, ExplainKey, Explanation, Method, Path, Policies, PolicyId, public_gain};
use keyrack::{KeyKind, ProjectRole, Scope};
use serde_json::{Value, json};
use ureq::http;

use self::doubts::doubts;
use self::file::read;
use super::exit::{Exit, Failure};
use super::keys::{project_roles, scopes};
use super::output::{print, table};
use super::session::{Common, Session};
use crate::policies::document;

const POLICY: &str = "/api/operator/policy";

#[derive(Debug, Args)]
pub(super) struct PolicyArgs {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: PolicyCommand,
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    /// Show the policy in force
    Show {
        /// As a file that `keyrack policy apply` takes
        #[arg(long, conflicts_with = "json")]
        toml: bool,
    },
    /// Check a file, without a server: every fault at once
    Check {
        /// TOML, or JSON if its name ends in .json
        file: PathBuf,
    },
    /// Put a file in force, as a whole
    Apply {
        /// TOML, or JSON if its name ends in .json
        file: PathBuf,
        /// Only say what would become of it
        #[arg(long)]
        dry_run: bool,
        /// Refuse if another version is in force
        #[arg(long, value_name = "VERSION")]
        expected_version: Option<u32>,
    },
    /// Say what a file would change, and which routes it would open to publishable keys
    Diff {
        /// TOML, or JSON if its name ends in .json
        file: PathBuf,
    },
    /// Say what becomes of a request, rule by rule
    Explain(Explain),
    /// Run a table of expectations, in your own CI for instance
    Test {
        /// TOML: [[cases]] with method, path, role, scope, permissions, policy, expect and rule
        cases: PathBuf,
        /// Ask this file instead of the server
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
struct Explain {
    /// Ask this file instead of the server
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Method of the request
    #[arg(long)]
    method: String,
    /// Path of the request
    #[arg(long)]
    path: String,
    /// Role of the key
    #[arg(long, value_parser = project_roles(), default_value = "support")]
    role: String,
    /// Scope of the key
    #[arg(long, value_parser = scopes(), default_value = "secret")]
    scope: String,
    /// A permission that the key holds; may be given often
    #[arg(long, value_name = "RESOURCE:ACTION")]
    permission: Vec<String>,
    /// Which of the policies
    #[arg(long, value_name = "NAME", default_value = "default")]
    policy: String,
    /// The version that a publishable key was issued under, which its reach is frozen at
    #[arg(long, value_name = "VERSION")]
    policy_version: Option<u32>,
}

/// Runs `keyrack policy …`.
pub(super) fn run(PolicyArgs { common, command }: PolicyArgs) -> Result<(), Box<dyn Error>> {
    let session = || common.session(KeyKind::Operator);
    match command {
        PolicyCommand::Show { toml: false } => session()?.get(POLICY),
        PolicyCommand::Show { toml: true } => {
            let (document, _) = of_server(&session()?)?;
            print(toml::to_string_pretty(&document)?.trim_end())
        }
        PolicyCommand::Check { file } => {
            let (document, _) = read(&file)?;
            let rules: usize = document.policies.iter().map(|policy| policy.rules.len()).sum();
            let policies = document.policies.len();
            print(&format!("The file is good: {policies} policies, {rules} rules."))?;
            doubts(&document).iter().try_for_each(|doubt| print(&format!("! {doubt}")))
        }
        PolicyCommand::Apply { file, dry_run, expected_version } => {
            let (document, _) = read(&file)?;
            let mut query = format!("?dry_run={dry_run}");
            if let Some(version) = expected_version {
                query += &format!("&expected_version={version}");
            }
            apply(&session()?, &query, &serde_json::to_value(&document)?)
        }
        PolicyCommand::Diff { file } => {
            let new = read(&file)?;
            compare(&of_server(&session()?)?, &new)
        }
        PolicyCommand::Explain(explain) => {
            let policies = asked(explain.file.as_deref(), session)?;
            let issued_under = match explain.policy_version {
                Some(version) => Some(former(&session()?, version)?),
                None => None,
            };
            show(&policies, issued_under.as_ref(), &explain, common.json())
        }
        PolicyCommand::Test { cases, file } => {
            let policies = asked(file.as_deref(), session)?;
            cases::run(&cases, &policies, common.json())
        }
    }
}

/// The policies of a file, or those in force.
fn asked(
    file: Option<&FilePath>,
    session: impl FnOnce() -> Result<Session, Box<dyn Error>>,
) -> Result<Policies, Box<dyn Error>> {
    match file {
        Some(file) => Ok(read(file)?.1),
        None => Ok(of_server(&session()?)?.1),
    }
}

fn compare(
    (old, old_policies): &(Document, Policies),
    (new, new_policies): &(Document, Policies),
) -> Result<(), Box<dyn Error>> {
    let lines = diff::lines(old, new);
    if lines.is_empty() {
        return print("The file says the same as the policy in force.");
    }
    print(&lines.join("\n"))?;
    for route in public_gain(old_policies, new_policies) {
        print(&format!("! opened to publishable keys issued from then on: {route}"))?;
    }
    Err(Failure::new(Exit::Local, "the file differs from the policy in force").into())
}

fn of_server(session: &Session) -> Result<(Document, Policies), Failure> {
    at_server(session, POLICY)
}

/// The policies of a version that is in force or was.
fn former(session: &Session, version: u32) -> Result<Policies, Failure> {
    Ok(at_server(session, &format!("{POLICY}?version={version}"))?.1)
}

fn at_server(session: &Session, path: &str) -> Result<(Document, Policies), Failure> {
    let shown = session.look(path)?;
    let value = json!({"policies": shown.field("policies")});
    let unusable = |_| Failure::new(Exit::Unavailable, "the server's policy is not understood by this program");
    document::read(&value).map_err(unusable)
}

fn apply(session: &Session, query: &str, document: &Value) -> Result<(), Box<dyn Error>> {
    if session.json() {
        return session.change(&http::Method::PUT, &format!("{POLICY}{query}"), Some(document));
    }
    let reply = match session.told(&http::Method::PUT, &format!("{POLICY}{query}"), Some(document)) {
        // A call whose connection broke is made again, and may meet what its first try has done.
        Err(failure) if failure.exit == Exit::Conflict => {
            let shown = session.look(POLICY)?;
            let same = shown.field("version").filter(|_| shown.field("policies") == document.get("policies"));
            let version = same.ok_or(failure)?;
            return print(&format!("Version {version} is in force and says this already."));
        }
        reply => reply?,
    };
    let field = |name: &str| reply.get(name).cloned().unwrap_or_default();
    let (version, before) = (field("version"), field("previous_version"));
    let would = query.contains("dry_run=true");
    print(&match (field("changed") == true, would) {
        (false, _) => format!("Nothing changes: version {version} is in force and says the same."),
        (true, true) => format!("It would follow version {before}. Nothing was applied."),
        (true, false) => format!("Version {version} is in force, after {before}."),
    })?;
    for gain in field("publishable_keys").as_array().into_iter().flatten() {
        let routes: Vec<_> = gain["would_gain"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let ids: Vec<_> = gain["ids"].as_array().into_iter().flatten().map(Value::to_string).collect();
        let (keys, before, routes, ids) = (&gain["keys"], &gain["policy_version"], routes.join(", "), ids.join(" "));
        print(&format!("{keys} publishable key(s) issued under version {before} would gain {routes}: {ids}"))?;
        if !would {
            print(&format!("  Each gains it with: keyrack keys widen ID --to {version}"))?;
        }
    }
    Ok(())
}

fn show(
    policies: &Policies,
    issued_under: Option<&Policies>,
    explain: &Explain,
    json: bool,
) -> Result<(), Box<dyn Error>> {
    let explained = explained(policies, issued_under, explain)?;
    if json {
        return print(&serde_json::to_string(&explained)?);
    }
    let rows: Vec<_> = explained
        .rules
        .iter()
        .map(|rule| {
            let verdict = rule.why_not.as_deref().map_or("applies", |why| why);
            serde_json::from_value(json!({"rule": rule.rule, "verdict": verdict}))
        })
        .collect::<Result<_, _>>()?;
    if !rows.is_empty() {
        print(&table(&[("RULE", "rule"), ("VERDICT", "verdict")], &rows))?;
    }
    let word = if explained.allowed { "ALLOWED" } else { "DENIED" };
    let applies = explained.applies.unwrap_or_else(|| "no rule".to_owned());
    print(&format!("{word} by {applies}: {}", explained.reason))
}

/// What a door would say. What it would not even judge is denied there, and so here.
fn explained(
    policies: &Policies,
    issued_under: Option<&Policies>,
    explain: &Explain,
) -> Result<Explanation, Box<dyn Error>> {
    let named = |policies: &Policies| match explain.policy.as_str() {
        "default" => Some(PolicyId::DEFAULT),
        name => policies.named(name.as_bytes()),
    };
    let missing = || Failure::new(Exit::Usage, format!("there is no policy `{}`", explain.policy));
    let policy = named(policies).ok_or_else(missing)?;
    let (role, scope): (ProjectRole, Scope) = (explain.role.parse()?, explain.scope.parse()?);
    let permissions: Vec<_> = explain.permission.iter().map(String::as_str).collect();
    let denied = |reason: String| Explanation { rules: Vec::new(), applies: None, allowed: false, reason };
    let method = match Method::scan(explain.method.as_bytes()) {
        Ok(method) => method,
        Err(bad) => return Ok(denied(bad.to_string())),
    };
    let path = match Path::scan(explain.path.as_bytes()) {
        Ok(path) => path,
        Err(bad) => return Ok(denied(bad.to_string())),
    };
    let key = ExplainKey { role, scope, permissions: &permissions };
    let mut explained = policies.explain(policy, method, &path, &key);
    if let (Some(former), Scope::Public, true) = (issued_under, scope, explained.allowed) {
        let was_open = named(former).map_or(Ok(false), |policy| former.is_public(policy, method, &path));
        if !matches!(was_open, Ok(true)) {
            explained.allowed = false;
            explained.reason = "was not open to publishable keys when this one was issued".to_owned();
        }
    }
    Ok(explained)
}
