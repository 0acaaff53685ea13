//! The commands: which there are, and which part runs them. Results go to the standard output; everything else to the
//! standard error stream.

use std::error::Error;
use std::ffi::OsString;

use clap::{Parser, Subcommand};
use keyrack::ApiKey;

use crate::config::Flags;

mod ask;
mod audit;
mod client;
mod copy;
mod exit;
mod host;
mod keys;
mod listing;
mod local;
mod login;
mod migrate;
mod operator;
mod organization;
mod output;
mod policy;
mod profile;
mod progress;
mod projects;
mod session;
mod url;
mod usage;

pub use exit::Exit;

use audit::AuditCommand;
use exit::Failure;
use host::HostCommand;

/// Issues the keys of an API, lists, changes and revokes them
#[derive(Debug, Parser)]
#[command(name = "keyrack", version, arg_required_else_help = true, after_help = exit::help(), mut_args(|arg| arg.hide(true)))]
pub struct Cli {
    /// Settings in front of a command of the host; they are shown behind it.
    #[command(flatten)]
    before: Flags,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the API; sets an installation up if the data directory is empty
    Serve {
        #[command(flatten)]
        flags: Flags,
    },
    /// Set an installation up without serving it, and print its first keys
    Init(host::InitArgs),
    /// Mint a new key of the highest role there is, when all others are lost; the server must be stopped
    Recover(host::RecoverArgs),
    /// Look after the settings
    Config {
        #[command(subcommand)]
        command: host::ConfigCommand,
    },
    /// Look after the schema of the store
    Migrate {
        #[command(subcommand)]
        command: migrate::MigrateCommand,
    },
    /// Copy a whole store to another place, and check the copy: from SQLite to PostgreSQL, or back
    Copy(copy::CopyArgs),
    /// Read the audit log: of a running server, or of the store on this host
    Audit {
        #[command(subcommand)]
        command: AuditCommand,
    },
    /// Keep a key for a server, after asking the server about it
    Login(login::LoginArgs),
    /// Forget a profile and its keys
    Logout(login::LogoutArgs),
    /// Show the profile's keys and what the server says of them
    Whoami {
        #[command(flatten)]
        common: session::Common,
    },
    /// List, create, change and revoke the keys of a project
    Keys(keys::KeysArgs),
    /// List, create, change and archive the projects of an organization
    Projects(projects::ProjectsArgs),
    /// Show the organization of the profile's organization key
    Org {
        #[command(flatten)]
        common: session::Common,
    },
    /// List, create, change and revoke the keys of an organization
    OrgKeys(organization::OrgKeysArgs),
    /// Look after the installation: its organizations, system keys and operator keys
    Operator(operator::OperatorArgs),
    /// Say which key may call which endpoint of your API
    Policy(policy::PolicyArgs),
    /// Look at a key itself
    Key {
        #[command(subcommand)]
        command: local::KeyCommand,
    },
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: local::CompletedShell,
    },
    /// Write a manual page for each command
    Man(local::ManArgs),
}

/// Refuses a command line that holds a key, before anything could repeat it.
///
/// # Errors
/// What to do now: it is in the history of the shell, and for a moment in the list of processes.
pub fn refuse_keys(arguments: impl IntoIterator<Item = OsString>) -> Result<(), Box<dyn Error>> {
    let holds_key =
        |argument: OsString| argument.as_encoded_bytes().windows(ApiKey::BYTES).any(|part| ApiKey::parse(part).is_ok());
    if !arguments.into_iter().any(holds_key) {
        return Ok(());
    }
    let message = "there is a key on the command line, and nothing was done. It is in the history of your shell now, and \
                   was in the list of processes: revoke it. Keys are read from the terminal or the standard input only";
    Err(Failure::new(Exit::Usage, message).into())
}

/// Runs a command.
///
/// # Errors
/// Whatever ended it; the message says what to do, [`Exit::of`] the exit code.
pub async fn run(Cli { before, command }: Cli) -> Result<(), Box<dyn Error>> {
    let of_host = match command {
        Command::Serve { flags } => HostCommand::Serve(flags),
        Command::Init(args) => HostCommand::Init(args),
        Command::Recover(args) => HostCommand::Recover(args),
        Command::Config { command } => HostCommand::Config(command),
        Command::Migrate { command } => HostCommand::Migrate(command),
        Command::Copy(args) => HostCommand::Copy(args),
        Command::Audit { command: AuditCommand::Verify { flags } } => HostCommand::VerifyAudit(flags),
        Command::Audit { command: AuditCommand::Export { flags } } => HostCommand::ExportAudit(flags),
        Command::Audit { command: AuditCommand::List(list) } => return off_host(&before, || audit::list(&list)),
        Command::Login(args) => return off_host(&before, || login::login(&args)),
        Command::Logout(args) => return off_host(&before, || login::logout(&args)),
        Command::Whoami { common } => return off_host(&before, || login::whoami(&common)),
        Command::Keys(args) => return off_host(&before, || keys::run(args)),
        Command::Projects(args) => return off_host(&before, || projects::run(args)),
        Command::Org { common } => return off_host(&before, || organization::show(&common)),
        Command::OrgKeys(args) => return off_host(&before, || organization::run(args)),
        Command::Operator(args) => return off_host(&before, || operator::run(args)),
        Command::Policy(args) => return off_host(&before, || policy::run(args)),
        Command::Key { command } => return off_host(&before, || local::inspect(&command)),
        Command::Completions { shell } => return off_host(&before, || local::completions(shell)),
        Command::Man(args) => return off_host(&before, || local::man(&args)),
    };
    host::run(of_host, before).await
}

/// Runs a command that knows no settings of the host, unless it was given some.
fn off_host(before: &Flags, run: impl FnOnce() -> Result<(), Box<dyn Error>>) -> Result<(), Box<dyn Error>> {
    if *before == Flags::default() {
        return run();
    }
    let message = "settings of the host, such as --data-dir, mean nothing to this command: where the server is, is said \
                   with `keyrack login`";
    Err(Failure::new(Exit::Usage, message).into())
}
