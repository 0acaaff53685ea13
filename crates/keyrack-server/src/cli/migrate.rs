//! `keyrack migrate`: which schema a store has, and bringing it up to date before the server is started.

use std::error::Error;

use clap::Subcommand;

use super::output::print;
use crate::config::Flags;
use crate::serve;
use crate::store::Schema;

#[derive(Debug, Subcommand)]
pub(super) enum MigrateCommand {
    /// Say which schema the store has, and which this program knows
    Status {
        #[command(flatten)]
        flags: Flags,
    },
    /// Bring the schema up to date, as the next start would; the nodes that run go on meanwhile
    Up {
        #[command(flatten)]
        flags: Flags,
    },
}

/// Runs `keyrack migrate`; `settings` reads the settings of the flags.
pub(super) async fn run(
    command: MigrateCommand,
    settings: impl FnOnce(Flags) -> Result<crate::config::Config, crate::config::ConfigError>,
) -> Result<(), Box<dyn Error>> {
    match command {
        MigrateCommand::Status { flags } => {
            let config = settings(flags)?;
            let Schema { found, known } = serve::schema(&config).await?;
            let place = config.database();
            print(&match found {
                None => format!("There is no store in {place} yet. The first start makes it with schema {known}."),
                Some(found) if found < known => {
                    format!("The store in {place} has schema {found}. Bring it to {known} with: keyrack migrate up")
                }
                Some(found) => format!("The store in {place} has schema {found}, the newest that this program knows."),
            })
        }
        MigrateCommand::Up { flags } => {
            let config = settings(flags)?;
            let Schema { found, known } = serve::migrate(&config).await?;
            let place = config.database();
            print(&match found {
                Some(found) if found == known => format!("The store in {place} had schema {known} already."),
                Some(_) | None => format!("The store in {place} has schema {known} now."),
            })
        }
    }
}
