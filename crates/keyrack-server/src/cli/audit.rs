//! `keyrack audit`: the list of a running server; the check and the export of the store on this host.

use std::error::Error;

use clap::{Args, Subcommand, ValueEnum};
use keyrack::KeyKind;

use super::listing::{Paging, Query};
use super::output::Column;
use super::session::Common;
use crate::config::Flags;

const COLUMNS: [Column; 6] = [
    ("ID", "id"),
    ("AT", "at"),
    ("ACTOR", "actor"),
    ("ACTION", "action"),
    ("TARGET", "target"),
    ("REQUEST", "request_id"),
];

#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// List what happened, as a running server tells it
    List(AuditList),
    /// Check the hash chain and every key against it; names what does not fit
    Verify {
        #[command(flatten)]
        flags: Flags,
    },
    /// Write every entry as a line of JSON
    Export {
        #[command(flatten)]
        flags: Flags,
    },
}

/// Whose log is listed, and with which of the profile's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Surface {
    /// The project's, with its secret key
    Project,
    /// The organization's, with its key
    Organization,
    /// The installation's, with an operator key
    Operator,
}

#[derive(Debug, Args)]
pub(super) struct AuditList {
    #[command(flatten)]
    common: Common,
    /// Whose log [default: the first of these that the profile has a key for]
    #[arg(long = "as", value_name = "SURFACE")]
    surface: Option<Surface>,
    /// Only what these did: KIND or KIND:ID, such as host or secret_key:3
    #[arg(long, value_name = "WHO")]
    actor: Option<String>,
    /// Only this, such as key.create
    #[arg(long)]
    action: Option<String>,
    /// Only what was done to these: KIND or KIND:ID, such as key:7
    #[arg(long, value_name = "WHAT")]
    target: Option<String>,
    /// Only what happened at this time or later, such as 2026-04-28T09:30:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only what happened before this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Oldest or newest first [default: desc]
    #[arg(long, value_parser = ["asc", "desc"])]
    direction: Option<String>,
    #[command(flatten)]
    paging: Paging,
}

impl Surface {
    const fn kind(self) -> KeyKind {
        match self {
            Self::Project => KeyKind::Secret,
            Self::Organization => KeyKind::Organization,
            Self::Operator => KeyKind::Operator,
        }
    }

    const fn path(self) -> &'static str {
        match self {
            Self::Project => "/api/client/audit-events",
            Self::Organization => "/api/admin/audit-events",
            Self::Operator => "/api/operator/audit-events",
        }
    }
}

/// Runs `keyrack audit list`.
pub(super) fn list(list: &AuditList) -> Result<(), Box<dyn Error>> {
    let mut profiles = list.common.profiles()?;
    let profile = profiles.want()?;
    let has_key = |surface: &&Surface| profile.has(surface.kind());
    let first = Surface::value_variants().iter().find(has_key).copied().unwrap_or(Surface::Project);
    let surface = list.surface.unwrap_or(first);
    let session = list.common.session_of(profile, surface.kind(), profiles.name())?;
    let query = Query::of(&list.paging)
        .with("actor", list.actor.as_deref())
        .with("action", list.action.as_deref())
        .with("target", list.target.as_deref())
        .with("since", list.since.as_deref())
        .with("until", list.until.as_deref())
        .with("direction", list.direction.as_deref());
    session.list(surface.path(), &query, &COLUMNS)
}
