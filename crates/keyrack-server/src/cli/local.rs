//! The commands that need neither a server nor a store: what a key is, completions, manual pages.

use std::error::Error;
use std::fs::DirBuilder;
use std::path::PathBuf;

use clap::{Args, CommandFactory as _, Subcommand, ValueEnum};
use clap_complete::Shell;
use keyrack::{ApiKey, KeyKind, MaskedKey};
use serde_json::json;

use super::ask;
use super::exit::{Exit, Failure};
use super::output::{note, print};
use super::session::word_of;

#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// Say what a key is, without asking any server and without showing it; exit code 1 if it is none
    Inspect {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

/// The shells that completions can be written for.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum CompletedShell {
    /// ~/.local/share/bash-completion/completions/keyrack
    Bash,
    /// _keyrack in a directory of $fpath
    Zsh,
    /// ~/.config/fish/completions/keyrack.fish
    Fish,
}

#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// The directory to write the pages to; made if it is not there
    dir: PathBuf,
}

/// Runs `keyrack key inspect`.
pub(super) fn inspect(KeyCommand::Inspect { json }: &KeyCommand) -> Result<(), Box<dyn Error>> {
    let presented = ask::secret("Key (not shown): ")?;
    let key = ApiKey::parse(&presented).ok();
    let kind = KeyKind::ALL.into_iter().find(|kind| presented.starts_with(kind.prefix().as_bytes())).map(word_of);
    // A mask is shown of what is a key only: of anything else it might show too much.
    let mask = key.as_ref().map(|key| key.mask().to_string());
    let report = json!({"kind": kind, "shape": has_shape(&presented), "checksum": key.is_some(), "mask": mask});
    let words = |is_right: bool| if is_right { "right" } else { "wrong" };
    if *json {
        print(&report.to_string())?;
    } else {
        let (kind, mask) = (kind.unwrap_or("none that is known"), mask.as_deref().unwrap_or("-"));
        let (shape, checksum) = (words(has_shape(&presented)), words(key.is_some()));
        print(&format!("kind      {kind}\nshape     {shape}\nchecksum  {checksum}\nmask      {mask}"))?;
    }
    if key.is_some() { Ok(()) } else { Err(Failure::new(Exit::Local, "this is not a key").into()) }
}

/// Prefix, length and alphabet. The alphabet is asked of the mask, whose last four characters are of it.
fn has_shape(presented: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(presented) else { return false };
    let prefix = KeyKind::ALL.into_iter().map(KeyKind::prefix).find_map(|prefix| text.strip_prefix(prefix));
    let in_alphabet =
        |character: char| MaskedKey::parse(&format!("sk_****{}", character.to_string().repeat(4))).is_ok();
    text.len() == ApiKey::BYTES && prefix.is_some_and(|rest| rest.chars().all(in_alphabet))
}

/// Runs `keyrack completions`.
pub(super) fn completions(shell: CompletedShell) -> Result<(), Box<dyn Error>> {
    let shell = match shell {
        CompletedShell::Bash => Shell::Bash,
        CompletedShell::Zsh => Shell::Zsh,
        CompletedShell::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut super::Cli::command(), "keyrack", &mut script);
    print(String::from_utf8(script)?.trim_end())
}

/// Runs `keyrack man`: one page for each command.
pub(super) fn man(ManArgs { dir }: &ManArgs) -> Result<(), Box<dyn Error>> {
    let cannot = |error| format!("cannot write manual pages to {}: {error}", dir.display());
    DirBuilder::new().recursive(true).create(dir).map_err(cannot)?;
    clap_mangen::generate_to(super::Cli::command(), dir).map_err(cannot)?;
    note(&format!("The manual pages are in {}", dir.display()));
    Ok(())
}
