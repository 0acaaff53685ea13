//! `keyrack org` and `keyrack org-keys`: the organization of the profile's organization key, and that organization's keys.

use std::error::Error;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use keyrack::{KeyKind, OrganizationRole};
use ureq::http::Method;

use super::ask::Consent;
use super::listing::ListArgs;
use super::output::Column;
use super::session::{Common, Given};

const KEYS: &str = "/api/admin/organizations/api-keys";
const COLUMNS: [Column; 6] = [
    ("ID", "id"),
    ("NAME", "name"),
    ("ROLE", "role"),
    ("VALUE", "value"),
    ("CREATED", "created_at"),
    ("DESCRIPTION", "description"),
];

#[derive(Debug, Args)]
pub(super) struct OrgKeysArgs {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: OrgKeysCommand,
}

#[derive(Debug, Subcommand)]
enum OrgKeysCommand {
    /// List the live keys
    List(ListArgs),
    /// Create a key and print its value, alone
    Create {
        /// What people call it
        #[arg(long)]
        name: String,
        /// How much it may do [default: admin]
        #[arg(long, value_parser = roles())]
        role: Option<String>,
        /// What people say of it
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
    },
    /// Show a key
    Get {
        /// Number of the key
        id: u64,
    },
    /// Change a key; its value stays
    Update {
        /// Number of the key
        id: u64,
        /// What people call it
        #[arg(long)]
        name: Option<String>,
        /// How much it may do
        #[arg(long, value_parser = roles())]
        role: Option<String>,
        /// What people say of it
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
        /// Take the description away
        #[arg(long, conflicts_with = "description")]
        no_description: bool,
    },
    /// Revoke a key: dead at once, and for ever
    Revoke {
        /// Number of the key
        id: u64,
        #[command(flatten)]
        consent: Consent,
    },
}

fn roles() -> PossibleValuesParser {
    OrganizationRole::ALL.iter().map(|role| role.as_str()).collect::<Vec<_>>().into()
}

/// Runs `keyrack org`.
pub(super) fn show(common: &Common) -> Result<(), Box<dyn Error>> {
    common.session(KeyKind::Organization)?.get("/api/admin/organizations/me")
}

/// Runs `keyrack org-keys …`.
pub(super) fn run(OrgKeysArgs { common, command }: OrgKeysArgs) -> Result<(), Box<dyn Error>> {
    let session = common.session(KeyKind::Organization)?;
    match command {
        OrgKeysCommand::List(list) => session.list(KEYS, &list.query(), &COLUMNS),
        OrgKeysCommand::Create { name, role, description } => {
            let given = Given::default().with("name", Some(name)).with("role", role).with("description", description);
            session.create(KEYS, Some(&given.body()), "value")
        }
        OrgKeysCommand::Get { id } => session.get(&format!("{KEYS}/{id}")),
        OrgKeysCommand::Update { id, name, role, description, no_description } => {
            let given = Given::default().with("name", name).with("role", role);
            let changes = given.with_description(description, no_description).changes()?;
            session.change(&Method::PATCH, &format!("{KEYS}/{id}"), Some(&changes))
        }
        OrgKeysCommand::Revoke { id, consent } => session.revoke(&format!("{KEYS}/{id}"), consent),
    }
}
