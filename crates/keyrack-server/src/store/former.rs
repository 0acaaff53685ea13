//! Which node the process before this one was. It had this data directory to itself, as this one has now, so it answers nothing any more:
//! nobody need wait until its lease is over.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

const FILE: &str = "node";
/// Another after every start of the machine.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// Notes which node this process is, and says which one the last was, if that is certain: a directory that was copied, or comes from another
/// machine, says nothing about a process that may run elsewhere.
pub(super) fn replace(data_dir: &Path, id: &str) -> io::Result<Option<String>> {
    let path = data_dir.join(FILE);
    let former = std::fs::read_to_string(&path).unwrap_or_default();
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
    let mark = mark_of(&file)?;
    write!(file, "{id} {mark}")?;
    file.sync_all()?;
    Ok(former.split_once(' ').filter(|(_, of)| *of == mark).map(|(former, _)| former.to_owned()))
}

/// This file on this machine since it was started.
fn mark_of(file: &File) -> io::Result<String> {
    let meta = file.metadata()?;
    Ok(format!("{} {} {}", std::fs::read_to_string(BOOT)?.trim(), meta.dev(), meta.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_directory_itself_says_who_was_here() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(replace(dir.path(), "node_a").unwrap(), None);
        assert_eq!(replace(dir.path(), "node_b").unwrap(), Some("node_a".to_owned()));
        let copy = tempfile::tempdir().unwrap();
        std::fs::copy(dir.path().join(FILE), copy.path().join(FILE)).unwrap();
        assert_eq!(replace(copy.path(), "node_c").unwrap(), None, "node_b may still run");
        let before_boot = std::fs::read_to_string(dir.path().join(FILE)).unwrap().replacen('-', "0", 1);
        std::fs::write(dir.path().join(FILE), before_boot).unwrap();
        assert_eq!(replace(dir.path(), "node_d").unwrap(), None);
    }
}
