//! Which node the process before this one was. It had this data directory to itself, as this one has now, so it answers nothing any more:
//! nobody need wait until its lease is over.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

const FILE: &str = "node";
/// Another after every start of the machine.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// Which node the last process was, if that is certain: a directory that was copied, or comes from another machine, says nothing about a
/// process that may run elsewhere.
pub(super) fn last(data_dir: &Path) -> io::Result<Option<String>> {
    let mut file = match File::open(data_dir.join(FILE)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let (mut text, mark) = (String::new(), mark_of(&file)?);
    file.read_to_string(&mut text)?;
    Ok(text.split_once(' ').filter(|(_, of)| *of == mark).map(|(id, _)| id.to_owned()))
}

/// Notes which node this process is.
pub(super) fn note(data_dir: &Path, id: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(data_dir.join(FILE))?;
    write!(file, "{id} {}", mark_of(&file)?)?;
    file.sync_all()
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
        assert_eq!(last(dir.path()).unwrap(), None);
        note(dir.path(), "node_a").unwrap();
        assert_eq!(last(dir.path()).unwrap(), Some("node_a".to_owned()));
        note(dir.path(), "node_b").unwrap();
        assert_eq!(last(dir.path()).unwrap(), Some("node_b".to_owned()));
        let copy = tempfile::tempdir().unwrap();
        std::fs::copy(dir.path().join(FILE), copy.path().join(FILE)).unwrap();
        assert_eq!(last(copy.path()).unwrap(), None, "node_b may still run");
        let before_boot = std::fs::read_to_string(dir.path().join(FILE)).unwrap().replacen('-', "0", 1);
        std::fs::write(dir.path().join(FILE), before_boot).unwrap();
        assert_eq!(last(dir.path()).unwrap(), None);
    }
}
