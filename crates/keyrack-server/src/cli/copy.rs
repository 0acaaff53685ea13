//! `keyrack copy`: moving a store from SQLite to PostgreSQL, or back.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::output::print;
use super::progress::Progress;
use crate::clock::SystemClock;
use crate::data_dir;
use crate::root_key::RootKey;
use crate::store::{self, Database, LEASE, Server, Store};

#[derive(Debug, Args)]
pub(super) struct CopyArgs {
    /// Where the store is: its data directory, a postgres:// URL, or env:NAME for a URL that holds a password
    #[arg(long, value_name = "PLACE")]
    from: String,
    /// Where it is to be; nothing may have been set up there
    #[arg(long, value_name = "PLACE")]
    to: String,
    /// The root key of the store, to check the copy with
    #[arg(long, value_name = "FILE")]
    root_key_file: PathBuf,
}

/// Runs `keyrack copy`.
pub(super) async fn run(args: CopyArgs) -> Result<(), Box<dyn Error>> {
    let (from, to) = (place(&args.from)?, place(&args.to)?);
    let root_key = RootKey::load(&args.root_key_file)?;
    // Nobody may change what is copied, or it would be lost.
    let _locks = (lock(&from)?, lock(&to)?);
    if from.schema().await?.found.is_none() {
        return Err(format!("there is no store in {from}").into());
    }
    if store::is_in_use(&from).await? {
        return Err(
            format!("nodes are running on {from}. Stop them first: what they change meanwhile would be lost").into()
        );
    }
    if to.schema().await?.found.is_some() {
        return Err(format!("there is a store in {to} already, and nothing was changed").into());
    }
    let open = |database: &Database| {
        let database = database.clone();
        async { Store::inspect(database, &std::env::temp_dir(), &root_key, Arc::new(SystemClock)).await }
    };
    // Whether it is the right root key, before anything is copied.
    open(&from).await?.close().await;
    let progress = Progress::of("Copying", store::rows_to_copy(&from).await?);
    store::copy(&from, &to, |rows| progress.add(rows)).await?;
    drop(progress);

    let check = async |database: &Database| -> Result<_, Box<dyn Error>> {
        let store = open(database).await?;
        let progress = Progress::of("Checking", store.audit_entries().await?);
        Ok(store.verify_audit_with(|| progress.add(1)).await?)
    };
    let (original, copied) = (check(&from).await?, check(&to).await?);
    // The log says nothing of kept replies and of usage: those are only compared.
    let is_same = original == copied && store::contents(&from).await? == store::contents(&to).await?;
    if !is_same || !copied.faults.is_empty() {
        let faults = copied.faults.join("\n");
        return Err(format!(
            "the copy is not to be used: it does not agree with its audit log, or with the original\n{faults}"
        )
        .into());
    }
    print(&format!(
        "Copied from {from} to {to}: {} audit entries and {} keys, and all of them agree.\n\
         Start the nodes there with the same root key, and keep {from} as it is until they are well.",
        copied.entries, copied.keys
    ))
}

/// A directory, a URL, or the name of a variable that holds one.
fn place(named: &str) -> Result<Database, Box<dyn Error>> {
    let url = match named.strip_prefix("env:") {
        Some(name) => crate::config::url_of(name).ok_or_else(|| format!("there is no variable {name}"))?,
        None if named.starts_with("postgres://") || named.starts_with("postgresql://") => named.to_owned(),
        None => return Ok(Database::in_directory(Path::new(named), LEASE)),
    };
    let server = Server::parse(&url).map_err(|error| format!("the URL of the database cannot be used: {error}"))?;
    Ok(Database::Server { server: Arc::new(server), stale_limit: LEASE })
}

fn lock(place: &Database) -> Result<Option<data_dir::Lock>, Box<dyn Error>> {
    match place {
        Database::File { file, .. } => Ok(file.parent().map(data_dir::take).transpose()?),
        Database::Server { .. } => Ok(None),
    }
}
