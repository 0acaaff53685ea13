//! `keyrack login`, `logout` and `whoami`: which keys there are here, and whether a server knows them.

use std::error::Error;

use clap::Args;
use keyrack::{ApiKey, KeyKind};
use serde_json::{Value, json};
use ureq::http::Method;

use super::ask;
use super::client::Client;
use super::exit::{Exit, Failure};
use super::output::{Fields, cell, clean_json, note, print, table};
use super::profile::{Profile, Profiles};
use super::progress::Progress;
use super::session::{Common, profiles, word_of};
use super::url::ServerUrl;
use crate::random::OsRandom;

#[derive(Debug, Args)]
pub(super) struct LoginArgs {
    /// Where the server is; asked for if there is a terminal [default: the profile's, else http://127.0.0.1:8080]
    #[arg(long)]
    url: Option<String>,
    /// The profile to keep the key in [env: KEYRACK_PROFILE] [default: default]
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct LogoutArgs {
    /// The profile to forget [env: KEYRACK_PROFILE] [default: default]
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
}

/// Runs `keyrack login`: nothing is kept that the server does not accept.
pub(super) fn login(args: &LoginArgs) -> Result<(), Box<dyn Error>> {
    let mut profiles = profiles(args.profile.as_deref())?;
    let before = profiles.take();
    let url = url_for(args.url.as_deref(), before.as_ref())?;
    if !url.is_https() && !url.is_loopback() {
        note(&format!("Warning: {url} is not encrypted. Whoever is on the way reads the key: use https."));
    }
    let key = key_from_input()?;
    let (kind, mask) = (key.kind(), key.mask());
    if kind == KeyKind::Follower {
        let message =
            format!("{mask} is for a service that follows the server with `keyrack::remote`; no command uses it");
        return Err(Failure::new(Exit::Usage, message).into());
    }
    let client = Client::new(url.clone(), key)?;
    let (status, _said) = probe(&client, kind)?;
    if status == 401 {
        let message = format!("the server at {url} does not accept {mask}: revoked, mistyped, or of another server?");
        return Err(Failure::new(Exit::NotAuthenticated, message).into());
    }
    let mut profile = before.filter(|before| before.url == url).unwrap_or_else(|| Profile::new(url.clone()));
    profile.put(client.into_key());
    profiles.put(profile);
    let file = profiles.save(&OsRandom)?;
    let (name, word) = (profiles.name(), word_of(kind));
    note(&format!("Profile `{name}` now has the {word} key {mask} for {url}, in {}", file.display()));
    Ok(())
}

fn url_for(asked: Option<&str>, before: Option<&Profile>) -> Result<ServerUrl, Failure> {
    let known = before.map_or(ServerUrl::DEFAULT, |before| before.url.as_str());
    let text = match asked {
        Some(asked) => asked.to_owned(),
        None if ask::is_terminal() => {
            let answer = ask::line(&format!("Server [{known}]: "))?.trim().to_owned();
            refuse_shown_key(&answer)?;
            if answer.is_empty() { known.to_owned() } else { answer }
        }
        None => known.to_owned(),
    };
    let url = ServerUrl::parse(&text).map_err(|what| Failure::new(Exit::Usage, what))?;
    if let Some(before) = before.filter(|before| before.url != url) {
        note(&format!("This profile was for {}: its keys there are forgotten once this login succeeds.", before.url));
    }
    Ok(url)
}

/// A key that was typed where it is shown.
fn refuse_shown_key(answer: &str) -> Result<(), Failure> {
    if ApiKey::parse(answer.as_bytes()).is_err() {
        return Ok(());
    }
    let message = "that was a key, and it is on the screen now: the server's URL is asked for first. Nothing was kept";
    Err(Failure::new(Exit::Usage, message))
}

fn key_from_input() -> Result<ApiKey, Failure> {
    let presented = ask::secret("Key (not shown): ")?;
    let key = ApiKey::parse(&presented).map_err(|_why_is_never_said| {
        let message =
            "this is not a whole key. `keyrack key inspect` says more; a key is sk_, ok_ or op_ and 32 characters";
        Failure::new(Exit::Local, message)
    })?;
    if key.kind() == KeyKind::Publishable {
        let message = "a publishable key (pk_) works on no management call: log in with sk_, ok_ or op_";
        return Err(Failure::new(Exit::Local, message));
    }
    Ok(key)
}

/// Runs `keyrack logout`.
pub(super) fn logout(args: &LogoutArgs) -> Result<(), Box<dyn Error>> {
    let mut profiles = profiles(args.profile.as_deref())?;
    profiles.want()?;
    profiles.save(&OsRandom)?;
    let name = profiles.name();
    note(&format!("Profile `{name}` is forgotten here. Its keys are alive until they are revoked."));
    Ok(())
}

/// Asks the server about a key: the status, and what it said. A key that may not ask is known all the same.
fn probe(client: &Client, kind: KeyKind) -> Result<(u16, Fields), Failure> {
    let path = match kind {
        KeyKind::Secret | KeyKind::Publishable | KeyKind::Follower => "/api/client/me",
        KeyKind::Organization => "/api/admin/organizations/me",
        KeyKind::Operator => "/api/operator/organizations?limit=1",
    };
    let progress = Progress::spinner("Asking the server");
    let reply = client.exchange(&Method::GET, path, None)?;
    drop(progress);
    match reply.status {
        200 => Ok((200, reply.json()?)),
        status @ (401 | 403) => Ok((status, Fields::default())),
        _ => Err(client.refusal(&reply, &Method::GET)),
    }
}

/// Runs `keyrack whoami`: each key of the profile, and what the server says of it.
pub(super) fn whoami(common: &Common) -> Result<(), Box<dyn Error>> {
    let mut profiles: Profiles = common.profiles()?;
    let mut profile = profiles.want()?;
    let url = profile.url.clone();
    let (mut rows, mut refused) = (Vec::new(), 0);
    for kind in [KeyKind::Secret, KeyKind::Organization, KeyKind::Operator] {
        let Some(key) = profile.take(kind) else { continue };
        let mask = key.mask().to_string();
        let (status, said) = probe(&Client::new(url.clone(), key)?, kind)?;
        refused += u32::from(status == 401);
        let state = if status == 401 { "refused" } else { "accepted" };
        let of = owner(kind, &said);
        rows.push(json!({"kind": word_of(kind), "key": mask, "state": state, "of": of, "role": said.field("role")}));
    }
    if common.json() {
        let text = json!({"profile": profiles.name(), "url": url.as_str(), "keys": rows}).to_string();
        print(&clean_json(&text))?;
    } else {
        note(&format!("Profile `{}` at {url}", profiles.name()));
        print(&table(&[("KIND", "kind"), ("KEY", "key"), ("STATE", "state"), ("OF", "of"), ("ROLE", "role")], &rows))?;
    }
    if refused == 0 {
        return Ok(());
    }
    Err(Failure::new(Exit::NotAuthenticated, format!("the server does not accept {refused} of these keys")).into())
}

/// What a key belongs to, as far as the server told.
fn owner(kind: KeyKind, said: &Fields) -> Value {
    let named = |what: &str, id: &str, name: &str| match (said.field(id), said.field(name)) {
        (Some(id), Some(name)) => format!("{what} {} ({})", cell(id), cell(name)).into(),
        _ => Value::Null,
    };
    match kind {
        KeyKind::Secret | KeyKind::Publishable => named("project", "id", "name"),
        KeyKind::Organization => named("organization", "organization.id", "organization.username"),
        KeyKind::Operator | KeyKind::Follower => "the installation".into(),
    }
}
