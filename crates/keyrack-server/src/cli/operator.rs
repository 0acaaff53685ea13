//! `keyrack operator`: what belongs to the installation as a whole, with the profile's operator key.

use std::error::Error;

use clap::{Args, Subcommand};
use keyrack::KeyKind;
use ureq::http::Method;

use super::ask::Consent;
use super::keys::{self, NewKey};
use super::listing::ListArgs;
use super::output::{Column, cell};
use super::session::{Common, Given, Session};

const ORGANIZATIONS: &str = "/api/operator/organizations";
const KEYS: &str = "/api/operator/operator-keys";
const FOLLOWER_KEYS: &str = "/api/operator/follower-keys";
const ORGANIZATION_COLUMNS: [Column; 7] = [
    ("ID", "id"),
    ("USERNAME", "username"),
    ("DOMAIN", "domain"),
    ("STATE", "state"),
    ("PROJECTS", "projects"),
    ("LIVE KEYS", "live_keys"),
    ("CREATED", "created_at"),
];
const KEY_COLUMNS: [Column; 5] =
    [("ID", "id"), ("NAME", "name"), ("VALUE", "value"), ("CREATED", "created_at"), ("DESCRIPTION", "description")];

#[derive(Debug, Args)]
pub(super) struct OperatorArgs {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: OperatorCommand,
}

#[derive(Debug, Subcommand)]
enum OperatorCommand {
    /// The organizations of the installation
    Organizations {
        #[command(subcommand)]
        command: OrganizationsCommand,
    },
    /// The keys of a project that the service uses itself
    SystemKeys {
        #[command(subcommand)]
        command: SystemKeysCommand,
    },
    /// The operator keys themselves
    Keys {
        #[command(subcommand)]
        command: OperatorKeysCommand,
    },
    /// The keys of services that verify in their own process
    FollowerKeys {
        #[command(subcommand)]
        command: OperatorKeysCommand,
    },
}

#[derive(Debug, Subcommand)]
enum OrganizationsCommand {
    /// List the organizations
    List(ListArgs),
    /// Create an organization and print the value of its first owner key, alone
    Create {
        /// Its short name: a-z, 0-9 and -
        #[arg(long, value_name = "SLUG")]
        username: String,
        /// Its domain
        #[arg(long)]
        domain: Option<String>,
    },
    /// Show an organization
    Get {
        /// Number of the organization
        id: u64,
    },
    /// Stop every key of an organization, until it is resumed
    Suspend {
        /// Number of the organization
        id: u64,
        #[command(flatten)]
        consent: Consent,
    },
    /// Let the keys of a suspended organization live again
    Resume {
        /// Number of the organization
        id: u64,
    },
    /// Revoke every key of an organization and its projects, for ever, and put it away
    Archive {
        /// Number of the organization
        id: u64,
        #[command(flatten)]
        consent: Consent,
    },
}

#[derive(Clone, Copy, Debug, Args)]
struct OfProject {
    /// Number of the project
    #[arg(long, value_name = "ID")]
    project: u64,
}

#[derive(Debug, Subcommand)]
enum SystemKeysCommand {
    /// List the live system keys of a project
    List {
        #[command(flatten)]
        of: OfProject,
        #[command(flatten)]
        list: ListArgs,
    },
    /// Create a system key and print its value, alone
    Create {
        #[command(flatten)]
        of: OfProject,
        #[command(flatten)]
        new: NewKey,
    },
    /// Make the next key in place of one and print its value, alone; the one before is dead at once
    Rotate {
        /// Number of the key
        id: u64,
        #[command(flatten)]
        of: OfProject,
        #[command(flatten)]
        consent: Consent,
    },
    /// Revoke a system key: dead at once, and for ever
    Revoke {
        /// Number of the key
        id: u64,
        #[command(flatten)]
        of: OfProject,
        #[command(flatten)]
        consent: Consent,
    },
}

#[derive(Debug, Subcommand)]
enum OperatorKeysCommand {
    /// List those that live
    List(ListArgs),
    /// Create one and print its value, alone
    Create {
        /// What people call it
        #[arg(long)]
        name: String,
        /// What people say of it
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
    },
    /// Revoke one: dead at once, and for ever
    Revoke {
        /// Number of the key
        id: u64,
        #[command(flatten)]
        consent: Consent,
    },
}

/// Runs `keyrack operator …`.
pub(super) fn run(OperatorArgs { common, command }: OperatorArgs) -> Result<(), Box<dyn Error>> {
    let session = common.session(KeyKind::Operator)?;
    match command {
        OperatorCommand::Organizations { command } => organizations(&session, command),
        OperatorCommand::SystemKeys { command } => system_keys(&session, command),
        OperatorCommand::Keys { command } => own_keys(&session, KEYS, "operator", command),
        OperatorCommand::FollowerKeys { command } => own_keys(&session, FOLLOWER_KEYS, "follower", command),
    }
}

fn organizations(session: &Session, command: OrganizationsCommand) -> Result<(), Box<dyn Error>> {
    match command {
        OrganizationsCommand::List(list) => session.list(ORGANIZATIONS, &list.query(), &ORGANIZATION_COLUMNS),
        OrganizationsCommand::Create { username, domain } => {
            let given = Given::default().with("username", Some(username)).with("domain", domain);
            session.create(ORGANIZATIONS, Some(&given.body()), "owner_key.value")
        }
        OrganizationsCommand::Get { id } => session.get(&format!("{ORGANIZATIONS}/{id}")),
        OrganizationsCommand::Suspend { id, consent } => {
            let organization = format!("{ORGANIZATIONS}/{id}");
            session.kill(&Method::POST, &format!("{organization}/suspend"), consent, || {
                let shown = session.look(&organization)?;
                let [name, keys] =
                    ["username", "live_keys"].map(|field| shown.field(field).map_or_else(|| "?".to_owned(), cell));
                Ok(format!(
                    "Suspend organization {id} ({name})? Its {keys} live keys stop at once, until it is resumed."
                ))
            })
        }
        OrganizationsCommand::Resume { id } => {
            session.change(&Method::POST, &format!("{ORGANIZATIONS}/{id}/resume"), None)
        }
        OrganizationsCommand::Archive { id, consent } => session.archive(&format!("{ORGANIZATIONS}/{id}"), consent),
    }
}

fn system_keys(session: &Session, command: SystemKeysCommand) -> Result<(), Box<dyn Error>> {
    let path = |OfProject { project }| format!("/api/operator/projects/{project}/system-keys");
    match command {
        SystemKeysCommand::List { of, list } => session.list(&path(of), &list.query(), &keys::COLUMNS),
        SystemKeysCommand::Create { of, new } => session.create(&path(of), Some(&new.given().body()), "value"),
        SystemKeysCommand::Rotate { id, of, consent } => {
            let question = format!("Rotate system key {id} of project {}? Its value now is dead at once.", of.project);
            session.rotate(&format!("{}/{id}/rotate", path(of)), consent, &question)
        }
        SystemKeysCommand::Revoke { id, of, consent } => {
            session.kill(&Method::DELETE, &format!("{}/{id}", path(of)), consent, || {
                let project = of.project;
                Ok(format!("Revoke system key {id} of project {project}? It is dead at once, and for ever."))
            })
        }
    }
}

/// The keys at a path, which are called that.
fn own_keys(session: &Session, path: &str, what: &str, command: OperatorKeysCommand) -> Result<(), Box<dyn Error>> {
    match command {
        OperatorKeysCommand::List(list) => session.list(path, &list.query(), &KEY_COLUMNS),
        OperatorKeysCommand::Create { name, description } => {
            let given = Given::default().with("name", Some(name)).with("description", description);
            session.create(path, Some(&given.body()), "value")
        }
        OperatorKeysCommand::Revoke { id, consent } => {
            session.kill(&Method::DELETE, &format!("{path}/{id}"), consent, || {
                Ok(format!("Revoke {what} key {id}? It is dead at once, and for ever."))
            })
        }
    }
}
