//! `keyrack keys`: the keys of a project, with its own admin key or with a key of its organization.

use std::error::Error;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use keyrack::{KeyKind, Limit, ProjectRole, Scope};
use ureq::http::Method;

use super::ask::Consent;
use super::listing::ListArgs;
use super::output::Column;
use super::session::{Common, Given};
use super::usage::{self, UsageArgs};
use crate::key_limits::{self, LimitBody};

/// What a list of project keys shows.
pub(super) const COLUMNS: [Column; 8] = [
    ("ID", "id"),
    ("NAME", "name"),
    ("SCOPE", "scope"),
    ("ROLE", "role"),
    ("VALUE", "value"),
    ("CREATED", "created_at"),
    ("LAST USED", "last_used_at"),
    ("DESCRIPTION", "description"),
];

#[derive(Debug, Args)]
pub(super) struct KeysArgs {
    #[command(flatten)]
    common: Common,
    /// The keys of this project, with the profile's organization key; else those of its secret key's own
    #[arg(long, global = true, value_name = "ID")]
    project: Option<u64>,
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// List the live keys
    List(ListArgs),
    /// Create a key and print its value, alone: KEY=$(keyrack keys create --name ci)
    Create(NewKey),
    /// Show how often a key was used, or all keys of the project together
    Usage(UsageArgs),
    /// Show a key
    Get {
        /// Number of the key
        id: u64,
    },
    /// Change a key; its value stays
    Update(KeyChanges),
    /// Let a publishable key reach what was opened after it was issued
    Widen {
        /// Number of the key
        id: u64,
        /// The policy to freeze its reach at
        #[arg(long, value_name = "VERSION")]
        to: u32,
    },
    /// Revoke a key: dead at once, and for ever
    Revoke {
        /// Number of the key
        id: u64,
        #[command(flatten)]
        consent: Consent,
    },
}

/// A project key to create.
#[derive(Debug, Args)]
pub(super) struct NewKey {
    /// What people call it
    #[arg(long)]
    name: String,
    /// Which endpoints it can reach [default: secret]
    #[arg(long, value_parser = scopes())]
    scope: Option<String>,
    /// How much it may do [default: support]
    #[arg(long, value_parser = project_roles())]
    role: Option<String>,
    /// What people say of it
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    #[command(flatten)]
    powers: Powers,
}

/// What a key may do besides its role, and how often.
#[derive(Debug, Args)]
struct Powers {
    /// A permission to hold; may be given often
    #[arg(long, value_name = "RESOURCE:ACTION")]
    permission: Vec<String>,
    /// A limit of its own, such as requests=100/1m:20 or monthly=50000/month; may be given often
    #[arg(long, value_name = "NAME=LIMIT/PERIOD", value_parser = key_limits::of_word)]
    limit: Vec<Limit>,
}

impl Powers {
    /// Adds what was given of them.
    fn add_to(&self, given: Given) -> Given {
        let permissions = (!self.permission.is_empty()).then(|| self.permission.clone());
        let limits: Vec<_> = self.limit.iter().map(LimitBody::of).collect();
        let limits = (!limits.is_empty()).then(|| serde_json::to_value(limits).unwrap_or_default());
        given.with("permissions", permissions).with("limits", limits)
    }
}

#[derive(Debug, Args)]
struct KeyChanges {
    /// Number of the key
    id: u64,
    /// What people call it
    #[arg(long)]
    name: Option<String>,
    /// Which endpoints it can reach
    #[arg(long, value_parser = scopes())]
    scope: Option<String>,
    /// How much it may do
    #[arg(long, value_parser = project_roles())]
    role: Option<String>,
    /// What people say of it
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Take the description away
    #[arg(long, conflicts_with = "description")]
    no_description: bool,
    #[command(flatten)]
    powers: Powers,
}

impl NewKey {
    /// The body that asks for it.
    pub(super) fn given(self) -> Given {
        let given = Given::default().with("name", Some(self.name)).with("scope", self.scope);
        self.powers.add_to(given.with("role", self.role).with("description", self.description))
    }
}

/// The scopes a project key can have.
pub(super) fn scopes() -> PossibleValuesParser {
    Scope::ALL.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().into()
}

/// The roles a project key can have, low to high.
pub(super) fn project_roles() -> PossibleValuesParser {
    ProjectRole::ALL.iter().map(|role| role.as_str()).collect::<Vec<_>>().into()
}

/// Runs `keyrack keys …`.
pub(super) fn run(KeysArgs { common, project, command }: KeysArgs) -> Result<(), Box<dyn Error>> {
    let (kind, place) = match project {
        Some(id) => (KeyKind::Organization, format!("/api/admin/projects/{id}")),
        None => (KeyKind::Secret, "/api/client".to_owned()),
    };
    let keys = format!("{place}/keys");
    let session = common.session(kind)?;
    match command {
        KeysCommand::List(list) => session.list(&keys, &list.query(), &COLUMNS),
        KeysCommand::Create(new) => session.create(&keys, Some(&new.given().body()), "value"),
        KeysCommand::Usage(asked) => usage::show(&session, &asked.path(&place)),
        KeysCommand::Get { id } => session.get(&format!("{keys}/{id}")),
        KeysCommand::Update(KeyChanges { id, name, scope, role, description, no_description, powers }) => {
            let given = powers.add_to(Given::default().with("name", name).with("scope", scope).with("role", role));
            let changes = given.with_description(description, no_description).changes()?;
            session.change(&Method::PATCH, &format!("{keys}/{id}"), Some(&changes))
        }
        KeysCommand::Widen { id, to } => {
            let changes = Given::default().with("policy_version", Some(to)).changes()?;
            session.change(&Method::PATCH, &format!("{keys}/{id}"), Some(&changes))
        }
        KeysCommand::Revoke { id, consent } => session.revoke(&format!("{keys}/{id}"), consent),
    }
}
