//! The commands that work on the store of this host: serve, init, recover, config check, migrate, copy, audit verify and export.

use std::error::Error;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use clap::{Args, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use super::copy::{self, CopyArgs};
use super::migrate::{self, MigrateCommand};
use super::output::print;
use super::progress::Progress;
use crate::config::{self, Config, Flags};
use crate::installation::{self, FirstKeys, Recover};
use crate::key_limits;
use crate::random::OsRandom;
use crate::serve;
use crate::telemetry;

/// A command of the host, with the settings it was given behind its name.
#[derive(Debug)]
pub(super) enum HostCommand {
    Serve(Flags),
    Init(InitArgs),
    Recover(RecoverArgs),
    Config(ConfigCommand),
    Migrate(MigrateCommand),
    Copy(CopyArgs),
    VerifyAudit(Flags),
    ExportAudit(Flags),
}

#[derive(Debug, Args)]
pub(super) struct InitArgs {
    #[command(flatten)]
    flags: Flags,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct RecoverArgs {
    #[command(flatten)]
    flags: Flags,
    #[command(flatten)]
    what: RecoverWhat,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct RecoverWhat {
    /// An admin key for this project
    #[arg(long, value_name = "ID")]
    project: Option<i64>,
    /// An owner key for this organization
    #[arg(long, value_name = "ID")]
    organization: Option<i64>,
    /// An operator key
    #[arg(long)]
    operator: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Check the settings and name every problem at once
    Check {
        #[command(flatten)]
        flags: Flags,
    },
}

/// Runs a command of the host; `before` are the settings that stood in front of its name.
pub(super) async fn run(command: HostCommand, before: Flags) -> Result<(), Box<dyn Error>> {
    let settings = |flags: Flags| config::of_process(&flags.or(before));
    match command {
        HostCommand::Serve(flags) => serve(&settings(flags)?).await,
        HostCommand::Init(InitArgs { flags, json }) => init(&settings(flags)?, json).await,
        HostCommand::Recover(RecoverArgs { flags, what }) => recover(&settings(flags)?, &what).await,
        HostCommand::Config(ConfigCommand::Check { flags }) => {
            print(&format!("The settings are good:\n{}", describe(&settings(flags)?)))
        }
        HostCommand::Migrate(command) => migrate::run(command, settings).await,
        HostCommand::Copy(args) => copy::run(args).await,
        HostCommand::VerifyAudit(flags) => verify_audit(&settings(flags)?).await,
        HostCommand::ExportAudit(flags) => export_audit(&settings(flags)?).await,
    }
}

async fn serve(config: &Config) -> Result<(), Box<dyn Error>> {
    telemetry::start(config.log_level, config.log_format);
    let places = serve::bind(config)?;
    let (address, doors, metrics) = (places.address, places.doors_address(), places.metrics_address());
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut installation = serve::open(config).await?;
    if let Some(keys) = installation.first_keys.take() {
        print_first(&welcome(&keys, config, address))?;
    }
    installation.join(config).await?;
    if let Some(doors) = doors {
        print(&format!("Verifying at http://{doors}"))?;
    }
    if let Some(socket) = &config.verify.socket {
        print(&format!("Verifying at unix:{}", socket.display()))?;
    }
    if let Some(metrics) = metrics {
        print(&format!("Metrics at http://{metrics}/metrics"))?;
    }
    // The last line: whoever waits for it may read no further.
    print(&format!("Listening on http://{address}, reference at http://{}/docs", reachable(address)))?;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    Ok(serve::run(installation, places, config, stop).await?)
}

async fn init(config: &Config, json: bool) -> Result<(), Box<dyn Error>> {
    let (installation, first_keys) = serve::open_new(config).await?;
    installation.store.close().await;
    if json {
        print_first(&serde_json::to_string(&first_keys.expose())?)
    } else {
        print_first(&welcome(&first_keys, config, config.listen))
    }
}

async fn recover(config: &Config, what: &RecoverWhat) -> Result<(), Box<dyn Error>> {
    telemetry::start(config.log_level, config.log_format);
    let what = match (what.project, what.organization) {
        (Some(id), _) => Recover::Project(id),
        (None, Some(id)) => Recover::Organization(id),
        (None, None) => Recover::Operator,
    };
    let installation = serve::open_existing(config).await?;
    let key = installation::recover(&installation.store, what, &OsRandom).await?;
    installation.store.close().await;
    print(key.expose())
}

/// Prints keys that cannot be printed again.
fn print_first(text: &str) -> Result<(), Box<dyn Error>> {
    print(text).map_err(|error| {
        let advice = "the keys are lost, the installation is not: run `keyrack recover --operator`, `--organization 1` \
                      and `--project 1`";
        format!("cannot print the first keys ({error}). {advice}").into()
    })
}

async fn verify_audit(config: &Config) -> Result<(), Box<dyn Error>> {
    let store = serve::inspect(config).await?;
    let progress = Progress::of("Checking the audit log", store.audit_entries().await?);
    let report = store.verify_audit_with(|| progress.add(1)).await?;
    drop(progress);
    if report.faults.is_empty() {
        return print(&format!(
            "The audit log is whole: {} entries, {} keys agree with it.",
            report.entries, report.keys
        ));
    }
    print(&report.faults.join("\n"))?;
    Err(format!("the audit log and the store do not agree: {} fault(s), listed above", report.faults.len()).into())
}

async fn export_audit(config: &Config) -> Result<(), Box<dyn Error>> {
    let store = serve::inspect(config).await?;
    let progress = Progress::of("Writing the audit log", store.audit_entries().await?);
    let mut out = std::io::BufWriter::new(std::io::stdout());
    let mut written = Ok(());
    store
        .for_each_audit_entry(|entry| {
            progress.add(1);
            if written.is_ok() {
                written = writeln!(out, "{}", entry.to_json());
            }
        })
        .await?;
    written?;
    Ok(out.flush()?)
}

fn welcome(keys: &FirstKeys, config: &Config, address: SocketAddr) -> String {
    format!(
        "Keyrack is set up in {place}. These keys are shown this once; only digests of them are kept:\n\n  \
         operator key                   {operator}\n  \
         owner key of organization {organization_id}    {owner}\n  \
         admin key of project {project_id}         {admin}\n\n\
         Once it is serving, create your first key:\n\n  \
         curl -sS http://{reachable}/api/client/keys \\\n    \
         -H 'Authorization: Bearer {admin}' \\\n    \
         -H 'Content-Type: application/json' \\\n    \
         -d '{{\"name\": \"CI bot\"}}'\n\n\
         Keep a copy of {root_key} apart from your backups: the store cannot be used without it.\n",
        place = config.database(),
        operator = keys.operator.expose(),
        organization_id = keys.organization_id,
        owner = keys.organization.expose(),
        project_id = keys.project_id,
        admin = keys.project.expose(),
        reachable = reachable(address),
        root_key = config.root_key_file.display(),
    )
}

fn describe(config: &Config) -> String {
    let log_format = match config.log_format {
        telemetry::LogFormat::Text => "text",
        telemetry::LogFormat::Json => "json",
    };
    let settings = [
        ("listen", config.listen.to_string()),
        ("metrics_listen", or_off(config.metrics)),
        ("verify_listen", or_off(config.verify.listen)),
        ("verify_socket", config.verify.socket.as_deref().map_or_else(String::new, |path| path.display().to_string())),
        ("verify_threads", config.verify.threads.map_or_else(|| "cores".to_owned(), |threads| threads.to_string())),
        ("trusted_proxies", config.trusted_proxies.to_string()),
        ("key_limits", key_limits::setting_of(&config.key_limits)),
        ("limit_headers", config.verify.headers.as_str().to_owned()),
        ("database_url", config.database.as_ref().map_or_else(String::new, |server| server.shown())),
        ("stale_limit", format!("{}s", config.stale_limit.as_secs())),
        ("data_dir", config.data_dir.display().to_string()),
        ("root_key_file", config.root_key_file.display().to_string()),
        ("log_level", config.log_level.to_string().to_lowercase()),
        ("log_format", log_format.to_owned()),
        ("problem_types", config.problem_types.clone()),
        ("rate_limit_tier", config.limits.tier.as_str().to_owned()),
        ("rate_limits", config.limits.rates.to_string()),
        ("rate_limit_addresses", config.limits.addresses_per_second.to_string()),
    ];
    settings.map(|(name, value)| format!("  {name:<20}  {value}")).join("\n")
}

fn or_off(address: Option<SocketAddr>) -> String {
    address.map_or_else(|| "off".to_owned(), |address| address.to_string())
}

/// An address that can be dialled on this machine.
fn reachable(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() { (IpAddr::V4(Ipv4Addr::LOCALHOST), address.port()).into() } else { address }
}
