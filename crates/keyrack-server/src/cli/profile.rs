//! Profiles: for each, one server and at most one key of each kind that works there. They are kept in a file that nobody
//! else can read; the keys stand in it as they are, because every call has to present one.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use keyrack::{ApiKey, KeyKind};

use super::exit::{Exit, Failure};
use super::url::ServerUrl;
use crate::config::ClientSettings;
use crate::random::{self, Random};

const DIRECTORY: &str = "keyrack";
const FILE: &str = "profiles.toml";
const HEAD: &str = "# Written by `keyrack login`. It holds keys: nobody else may read it.\n";
/// The profile where none is named.
const DEFAULT_NAME: &str = "default";
const LONGEST_NAME: usize = 64;
const MODE_OF_OTHERS: u32 = 0o077;
const OTHERS_CAN_WRITE: u32 = 0o022;
/// The kinds a profile can hold, with their names in the file. A publishable key works on no management call.
const KINDS: [(KeyKind, &str); 3] =
    [(KeyKind::Secret, "secret_key"), (KeyKind::Organization, "organization_key"), (KeyKind::Operator, "operator_key")];

/// One server, and the keys for it.
pub(super) struct Profile {
    pub(super) url: ServerUrl,
    keys: Vec<ApiKey>,
}

impl Profile {
    /// A server that there are no keys for yet.
    pub(super) const fn new(url: ServerUrl) -> Self {
        Self { url, keys: Vec::new() }
    }

    /// Adds a key, in place of one of its kind.
    pub(super) fn put(&mut self, key: ApiKey) {
        self.keys.retain(|other| other.kind() != key.kind());
        self.keys.push(key);
    }

    /// Whether there is a key of a kind.
    pub(super) fn has(&self, kind: KeyKind) -> bool {
        self.keys.iter().any(|key| key.kind() == kind)
    }

    /// Takes the key of a kind out.
    pub(super) fn take(&mut self, kind: KeyKind) -> Option<ApiKey> {
        let at = self.keys.iter().position(|key| key.kind() == kind)?;
        Some(self.keys.swap_remove(at))
    }
}

/// Every profile there is, the one that was chosen, and the file they are kept in.
pub(super) struct Profiles {
    file: PathBuf,
    name: String,
    all: BTreeMap<String, Profile>,
}

impl Profiles {
    /// Reads the file, if there is one, and chooses a profile: the one asked for, else the environment's, else `default`.
    pub(super) fn load(asked: Option<&str>, settings: ClientSettings) -> Result<Self, Failure> {
        let name = asked.map(str::to_owned).or(settings.profile).unwrap_or_else(|| DEFAULT_NAME.to_owned());
        if !is_name(&name) {
            let message = format!("the name of a profile has 1 to {LONGEST_NAME} letters, digits, `-` and `_`");
            return Err(Failure::new(Exit::Usage, message));
        }
        let home = settings.config_home;
        let home =
            home.ok_or_else(|| Failure::new(Exit::Local, "no place for profiles: set HOME or XDG_CONFIG_HOME"))?;
        let file = home.join(DIRECTORY).join(FILE);
        let all = match read(&file)? {
            Some(text) => {
                parse(&text).map_err(|what| Failure::new(Exit::Local, format!("{}: {what}", file.display())))?
            }
            None => BTreeMap::new(),
        };
        Ok(Self { file, name, all })
    }

    /// The name of the chosen profile.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Takes the chosen profile out.
    pub(super) fn take(&mut self) -> Option<Profile> {
        self.all.remove(&self.name)
    }

    /// Takes the chosen profile out, or says how to make it.
    pub(super) fn want(&mut self) -> Result<Profile, Failure> {
        let name = &self.name;
        let hint = if name == DEFAULT_NAME { String::new() } else { format!(" --profile {name}") };
        let message = format!("there is no profile `{name}`. Make it with: keyrack login{hint}");
        self.take().ok_or_else(|| Failure::new(Exit::NotAuthenticated, message))
    }

    /// Puts a profile in the place of the chosen one.
    pub(super) fn put(&mut self, profile: Profile) {
        self.all.insert(self.name.clone(), profile);
    }

    /// Writes the file anew, whole or not at all; without profiles there is none.
    pub(super) fn save(&self, random: &dyn Random) -> Result<PathBuf, Failure> {
        let dir = self.file.parent().unwrap_or(Path::new("."));
        let written = if self.all.is_empty() { remove(&self.file) } else { self.write(dir, random) };
        written
            .and_then(|()| File::open(dir)?.sync_all())
            .map_err(|error| Failure::new(Exit::Local, format!("cannot write {}: {error}", self.file.display())))?;
        Ok(self.file.clone())
    }

    fn write(&self, dir: &Path, random: &dyn Random) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let new = dir.join(format!(".{FILE}.{}", HEXLOWER.encode(&random::bytes::<8>(random))));
        let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).and_then(|mut file| {
            file.write_all(self.to_toml().as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, &self.file)
        });
        if written.is_err() {
            fs::remove_file(&new).ok();
        }
        written
    }

    /// Nothing in it needs quoting: names, URLs and keys are checked on their way in.
    fn to_toml(&self) -> String {
        let mut text = HEAD.to_owned();
        for (name, profile) in &self.all {
            text += &format!("\n[{name}]\nurl = \"{}\"\n", profile.url);
            for (kind, field) in KINDS {
                if let Some(key) = profile.keys.iter().find(|key| key.kind() == kind) {
                    text += &format!("{field} = \"{}\"\n", key.expose());
                }
            }
        }
        text
    }
}

fn is_name(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(is_letter)
}

fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Reads the file if it is there, and if only its owner can read it and change it.
fn read(path: &Path) -> Result<Option<String>, Failure> {
    let failed = |error: &io::Error| Failure::new(Exit::Local, format!("cannot read {}: {error}", path.display()));
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(&error)),
    };
    let dir = path.parent().unwrap_or(Path::new("."));
    let file_mode = file.metadata().map_err(|error| failed(&error))?.mode();
    let dir_mode = fs::metadata(dir).map_err(|error| failed(&error))?.mode();
    let exposed = |what: &Path, mode: u32, how: &str, right: &str| {
        let (what, mode) = (what.display(), mode & 0o777);
        let message =
            format!("{what} holds keys, and others can {how} it (mode {mode:04o}). Run: chmod {right} {what}");
        Err(Failure::new(Exit::Local, message))
    };
    if file_mode & MODE_OF_OTHERS != 0 {
        return exposed(path, file_mode, "read or change", "600");
    }
    if dir_mode & OTHERS_CAN_WRITE != 0 {
        return exposed(dir, dir_mode, "change", "700");
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(|error| failed(&error))?;
    Ok(Some(text))
}

/// Reads the profiles. What is wrong is said without what stands there: it might be a key.
fn parse(text: &str) -> Result<BTreeMap<String, Profile>, String> {
    let table = text.parse::<toml::Table>().map_err(|error| {
        let line =
            error.span().and_then(|span| text.get(..span.start)).map_or(1, |before| before.lines().count().max(1));
        format!("line {line} is not TOML; mend it, or delete the file and log in again")
    })?;
    table.into_iter().map(|(name, value)| Ok((name.clone(), profile_of(&name, value)?))).collect()
}

fn profile_of(name: &str, value: toml::Value) -> Result<Profile, String> {
    // What is no name might be anything, so it is not shown.
    let toml::Value::Table(mut table) = value else { return Err("a profile must be a table".to_owned()) };
    if !is_name(name) {
        return Err("a profile has a name that `keyrack login` would not give".to_owned());
    }
    let mut text_of = |field: &str| match table.remove(field) {
        None => Ok(None),
        Some(toml::Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("`{field}` in profile `{name}` must be a string in quotes")),
    };
    let url = text_of("url")?.ok_or_else(|| format!("profile `{name}` has no `url`"))?;
    let mut profile =
        Profile::new(ServerUrl::parse(&url).map_err(|what| format!("`url` in profile `{name}`: {what}"))?);
    for (kind, field) in KINDS {
        let Some(text) = text_of(field)? else { continue };
        let key = ApiKey::parse(text.as_bytes()).ok().filter(|key| key.kind() == kind);
        profile.put(key.ok_or_else(|| format!("`{field}` in profile `{name}` is not such a key"))?);
    }
    if table.is_empty() { Ok(profile) } else { Err(format!("profile `{name}` holds something that is not known here")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(kind: KeyKind, byte: u8) -> ApiKey {
        ApiKey::generate(kind, &[byte; ApiKey::RANDOM_BYTES])
    }

    fn at(home: &Path, name: &str) -> Result<Profiles, Failure> {
        let settings = ClientSettings { profile: Some("of-environment".into()), config_home: Some(home.to_owned()) };
        Profiles::load(Some(name), settings)
    }

    fn url() -> ServerUrl {
        ServerUrl::parse(ServerUrl::DEFAULT).unwrap()
    }

    #[test]
    fn profiles_come_back_as_they_were_saved_and_no_file_is_left_without_any() {
        let home = tempfile::tempdir().unwrap();
        for (name, byte) in [("default", 1), ("work", 2)] {
            let mut profiles = at(home.path(), name).unwrap();
            let mut profile = Profile::new(url());
            for (kind, _) in KINDS {
                profile.put(key(kind, 9));
                profile.put(key(kind, byte));
            }
            profiles.put(profile);
            let file = profiles.save(&random::OsRandom).unwrap();
            let mode = |path: &Path| path.metadata().unwrap().mode() & 0o777;
            assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
        }
        for (name, byte) in [("default", 1), ("work", 2)] {
            let mut profiles = at(home.path(), name).unwrap();
            let mut profile = profiles.want().unwrap();
            assert_eq!(profile.url, url());
            for (kind, _) in KINDS {
                assert_eq!(profile.take(kind).unwrap().expose(), key(kind, byte).expose());
                assert!(!profile.has(kind));
            }
            profiles.save(&random::OsRandom).unwrap();
        }
        assert_eq!(fs::read_dir(home.path().join("keyrack")).unwrap().count(), 0);
        assert!(at(home.path(), "work").unwrap().want().is_err());
    }

    #[test]
    fn what_is_wrong_with_the_file_is_said_without_its_keys() {
        let good = key(KeyKind::Secret, 3);
        let secret = good.expose();
        for text in [
            format!("[default]\nurl = \"http://a\"\nsecret_key = \"{secret}"),
            format!("[default]\nurl = \"http://a\"\noperator_key = \"{secret}\""),
            format!("[default]\nurl = \"http://a\"\nsecret_key = \"{secret} \""),
            format!("[default]\nurl = \"http://a\"\nsecret_key = [\"{secret}\"]"),
            format!("[default]\nurl = \"http://a\"\n\"{secret}\" = 1"),
            format!("[default]\nurl = \"http://a/?{secret}\""),
            format!("[\"{secret}!\"]\nurl = \"http://a\""),
            format!("{secret} = 1"),
            "[default]".to_owned(),
        ] {
            let said = parse(&text).err().unwrap();
            assert!(!said.contains(&secret[3..9]), "{said}");
        }
    }

    #[test]
    fn a_name_that_would_need_quoting_is_refused() {
        let home = tempfile::tempdir().unwrap();
        for name in ["", "a b", "a\"", "a]", "ä", &"a".repeat(65)] {
            assert!(at(home.path(), name).is_err(), "{name}");
        }
    }
}
