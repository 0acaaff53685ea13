//! `keyrack projects`: the projects of an organization, and what its member keys may do in them.

use std::error::Error;

use clap::{Args, Subcommand};
use keyrack::KeyKind;
use serde_json::{Value, json};
use ureq::http::Method;

use super::ask::Consent;
use super::exit::{Exit, Failure};
use super::keys::project_roles;
use super::listing::ListArgs;
use super::output::Column;
use super::session::{Common, Given};

const PROJECTS: &str = "/api/admin/projects";
const COLUMNS: [Column; 7] = [
    ("ID", "id"),
    ("NAME", "name"),
    ("LOCALE", "locale"),
    ("TIMEZONE", "timezone"),
    ("ROLE", "role"),
    ("CREATED", "created_at"),
    ("DESCRIPTION", "description"),
];
const MEMBER_COLUMNS: [Column; 5] =
    [("KEY", "key_id"), ("NAME", "name"), ("VALUE", "value"), ("ROLE", "role"), ("UPDATED", "updated_at")];
/// What a project can be without.
const NULLABLE: [&str; 8] = [
    "description",
    "website_url",
    "text_opt_out_message",
    "text_help_message",
    "link_wrap_email",
    "link_wrap_push",
    "track_opens_email",
    "deeplink_mirror_url",
];

#[derive(Debug, Args)]
pub(super) struct ProjectsArgs {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: ProjectsCommand,
}

#[derive(Debug, Subcommand)]
enum ProjectsCommand {
    /// List the projects that the key reaches
    List(ListArgs),
    /// Create a project
    Create(Box<NewProject>),
    /// Show a project
    Get {
        /// Number of the project
        id: u64,
    },
    /// Change a project
    Update(Box<ProjectChanges>),
    /// Revoke every key of a project, for ever, and put it away
    Archive {
        /// Number of the project
        id: u64,
        #[command(flatten)]
        consent: Consent,
    },
    /// Give and take the project roles of the organization's member keys
    Members {
        #[command(subcommand)]
        command: MembersCommand,
    },
}

#[derive(Debug, Args)]
struct NewProject {
    /// What people call it
    #[arg(long)]
    name: String,
    /// Its language, such as en-GB
    #[arg(long)]
    locale: String,
    /// Its time zone, such as Europe/London
    #[arg(long)]
    timezone: String,
    #[command(flatten)]
    options: ProjectOptions,
}

#[derive(Debug, Args)]
struct ProjectChanges {
    /// Number of the project
    id: u64,
    /// What people call it
    #[arg(long)]
    name: Option<String>,
    /// Its language, such as en-GB
    #[arg(long)]
    locale: Option<String>,
    /// Its time zone, such as Europe/London
    #[arg(long)]
    timezone: Option<String>,
    #[command(flatten)]
    options: ProjectOptions,
    /// A field to take the value from; can be given several times
    #[arg(long, value_name = "FIELD", value_parser = NULLABLE)]
    unset: Vec<String>,
}

/// What a project can be without, in the order of [`NULLABLE`].
#[derive(Debug, Args)]
struct ProjectOptions {
    /// What people say of it
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Its website
    #[arg(long, value_name = "URL")]
    website_url: Option<String>,
    /// What is answered to who opts out by text message
    #[arg(long, value_name = "TEXT")]
    text_opt_out_message: Option<String>,
    /// What is answered to who asks for help by text message
    #[arg(long, value_name = "TEXT")]
    text_help_message: Option<String>,
    /// Whether links in e-mail are wrapped
    #[arg(long, value_name = "true|false")]
    link_wrap_email: Option<bool>,
    /// Whether links in push messages are wrapped
    #[arg(long, value_name = "true|false")]
    link_wrap_push: Option<bool>,
    /// Whether it is seen that an e-mail was opened
    #[arg(long, value_name = "true|false")]
    track_opens_email: Option<bool>,
    /// Where deep links are mirrored; https
    #[arg(long, value_name = "URL")]
    deeplink_mirror_url: Option<String>,
}

#[derive(Debug, Subcommand)]
enum MembersCommand {
    /// List the member keys with a role in a project
    List {
        /// Number of the project
        project: u64,
        #[command(flatten)]
        list: ListArgs,
    },
    /// Give a member key a role in a project
    Set {
        /// Number of the project
        project: u64,
        /// Number of the organization's key
        key: u64,
        /// How much it may do there
        #[arg(long, value_parser = project_roles())]
        role: String,
    },
    /// Take the role from a member key
    Remove {
        /// Number of the project
        project: u64,
        /// Number of the organization's key
        key: u64,
    },
}

impl ProjectOptions {
    fn add_to(self, given: Given) -> Given {
        given
            .with("description", self.description)
            .with("website_url", self.website_url)
            .with("text_opt_out_message", self.text_opt_out_message)
            .with("text_help_message", self.text_help_message)
            .with("link_wrap_email", self.link_wrap_email)
            .with("link_wrap_push", self.link_wrap_push)
            .with("track_opens_email", self.track_opens_email)
            .with("deeplink_mirror_url", self.deeplink_mirror_url)
    }
}

impl NewProject {
    fn body(self) -> Value {
        let given = Given::default()
            .with("name", Some(self.name))
            .with("locale", Some(self.locale))
            .with("timezone", Some(self.timezone));
        self.options.add_to(given).body()
    }
}

impl ProjectChanges {
    fn body(self) -> Result<Value, Failure> {
        let given =
            Given::default().with("name", self.name).with("locale", self.locale).with("timezone", self.timezone);
        let mut given = self.options.add_to(given);
        for field in &self.unset {
            if given.has(field) {
                let flag = field.replace('_', "-");
                return Err(Failure::new(Exit::Usage, format!("`--unset {field}` cannot be used with `--{flag}`")));
            }
            given = given.with(field, Some(Value::Null));
        }
        given.changes()
    }
}

/// Runs `keyrack projects …`.
pub(super) fn run(ProjectsArgs { common, command }: ProjectsArgs) -> Result<(), Box<dyn Error>> {
    let session = common.session(KeyKind::Organization)?;
    match command {
        ProjectsCommand::List(list) => session.list(PROJECTS, &list.query(), &COLUMNS),
        ProjectsCommand::Create(new) => session.change(&Method::POST, PROJECTS, Some(&new.body())),
        ProjectsCommand::Get { id } => session.get(&format!("{PROJECTS}/{id}")),
        ProjectsCommand::Update(changes) => {
            let path = format!("{PROJECTS}/{}", changes.id);
            session.change(&Method::PATCH, &path, Some(&changes.body()?))
        }
        ProjectsCommand::Archive { id, consent } => session.archive(&format!("{PROJECTS}/{id}"), consent),
        ProjectsCommand::Members { command: MembersCommand::List { project, list } } => {
            session.list(&format!("{PROJECTS}/{project}/members"), &list.query(), &MEMBER_COLUMNS)
        }
        ProjectsCommand::Members { command: MembersCommand::Set { project, key, role } } => {
            session.change(&Method::PUT, &format!("{PROJECTS}/{project}/members/{key}"), Some(&json!({"role": role})))
        }
        ProjectsCommand::Members { command: MembersCommand::Remove { project, key } } => {
            session.change(&Method::DELETE, &format!("{PROJECTS}/{project}/members/{key}"), None)
        }
    }
}
