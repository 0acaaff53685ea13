//! What the commands that talk to a server share: the flags, the chosen key, and how lists, objects and new keys are shown.

use std::error::Error;

use clap::Args;
use keyrack::KeyKind;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use ureq::http::Method;

use super::ask::Consent;
use super::client::{Client, Reply};
use super::exit::{Exit, Failure};
use super::listing::Query;
use super::output::{Column, Fields, cell, clean, clean_json, details, note, print, table};
use super::profile::{Profile, Profiles};
use super::progress::Progress;
use crate::config;

/// Flags of every command that talks to a server.
#[derive(Clone, Debug, Args)]
pub(super) struct Common {
    /// The profile to use [env: KEYRACK_PROFILE] [default: default]
    #[arg(long, global = true, value_name = "NAME", help_heading = "Server and output")]
    profile: Option<String>,
    /// Print the server's JSON, for programs
    #[arg(long, global = true, help_heading = "Server and output")]
    json: bool,
}

impl Common {
    /// The profiles, with one of them chosen.
    pub(super) fn profiles(&self) -> Result<Profiles, Box<dyn Error>> {
        profiles(self.profile.as_deref())
    }

    /// Whether the result is for programs.
    pub(super) const fn json(&self) -> bool {
        self.json
    }

    /// A session with the chosen profile's key of a kind.
    pub(super) fn session(&self, kind: KeyKind) -> Result<Session, Box<dyn Error>> {
        let mut profiles = self.profiles()?;
        let profile = profiles.want()?;
        self.session_of(profile, kind, profiles.name())
    }

    /// A session with a profile's key of a kind.
    pub(super) fn session_of(&self, profile: Profile, kind: KeyKind, name: &str) -> Result<Session, Box<dyn Error>> {
        Ok(Session { client: client_of(profile, kind, name)?, json: self.json })
    }
}

/// The profiles, with the asked one chosen.
pub(super) fn profiles(asked: Option<&str>) -> Result<Profiles, Box<dyn Error>> {
    Ok(Profiles::load(asked, config::of_client()?)?)
}

fn client_of(mut profile: Profile, kind: KeyKind, name: &str) -> Result<Client, Failure> {
    let key = profile.take(kind).ok_or_else(|| {
        let (word, prefix) = (word_of(kind), kind.prefix());
        let message =
            format!("profile `{name}` has no {word} key ({prefix}…). Add one: keyrack login --profile {name}");
        Failure::new(Exit::NotAuthenticated, message)
    })?;
    Client::new(profile.url, key)
}

/// A kind of key in words.
pub(super) const fn word_of(kind: KeyKind) -> &'static str {
    match kind {
        KeyKind::Secret => "secret",
        KeyKind::Publishable => "publishable",
        KeyKind::Organization => "organization",
        KeyKind::Operator => "operator",
        KeyKind::Follower => "follower",
    }
}

/// The fields of a body: those that were given.
#[derive(Default)]
pub(super) struct Given(Map<String, Value>);

impl Given {
    /// Adds a field, if it was given.
    #[must_use]
    pub(super) fn with(mut self, name: &str, value: Option<impl Into<Value>>) -> Self {
        self.0.extend(value.map(|value| (name.to_owned(), value.into())));
        self
    }

    /// Adds a description, or the wish to have none.
    #[must_use]
    pub(super) fn with_description(self, description: Option<String>, none: bool) -> Self {
        let description = description.map(Value::String);
        self.with("description", if none { Some(Value::Null) } else { description })
    }

    /// Whether a field was given.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The body of a create.
    pub(super) fn body(self) -> Value {
        Value::Object(self.0)
    }

    /// The body of an update, which must change something.
    pub(super) fn changes(self) -> Result<Value, Failure> {
        if self.0.is_empty() {
            return Err(Failure::new(Exit::Usage, "nothing to change: name at least one field. --help lists them"));
        }
        Ok(Value::Object(self.0))
    }
}

/// A page of a list, its rows as the server wrote them.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    results: Vec<Box<RawValue>>,
    next_cursor: Option<String>,
}

/// One key against one server, and how results are shown.
pub(super) struct Session {
    client: Client,
    json: bool,
}

impl Session {
    /// Shows a list.
    pub(super) fn list(&self, path: &str, query: &Query<'_>, columns: &[Column]) -> Result<(), Box<dyn Error>> {
        let page = self.rows(path, query)?;
        if self.json {
            return print(&clean_json(&serde_json::to_string(&page)?));
        }
        if page.results.is_empty() {
            note("There are none.");
            return Ok(());
        }
        let rows = page.results.iter().map(|row| serde_json::from_str(row.get())).collect::<Result<Vec<_>, _>>()?;
        print(&table(columns, &rows))?;
        if page.next_cursor.is_some() {
            note("There are more: --all shows every one.");
        }
        Ok(())
    }

    fn rows(&self, path: &str, query: &Query<'_>) -> Result<Page, Failure> {
        let progress = Progress::count("Reading");
        let (mut results, mut cursor) = (Vec::new(), query.cursor());
        loop {
            let reply = self.client.exchange(&Method::GET, &query.page_of(path, cursor.as_deref()), None)?;
            if !reply.is_success() {
                return Err(self.client.refusal(&reply, &Method::GET));
            }
            let page: Page = reply.json()?;
            progress.add(page.results.len() as u64);
            results.extend(page.results);
            if !query.wants_all() || page.next_cursor.is_none() {
                return Ok(Page { results, next_cursor: page.next_cursor });
            }
            if page.next_cursor == cursor {
                return Err(Failure::new(Exit::Unavailable, "the server gives the same page again and again"));
            }
            cursor = page.next_cursor;
        }
    }

    /// Whether the result is for programs.
    pub(super) const fn json(&self) -> bool {
        self.json
    }

    /// Makes a call, and gives what comes back.
    pub(super) fn told(
        &self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Map<String, Value>, Failure> {
        self.client.call(method, path, body)?.json()
    }

    /// Shows one object.
    pub(super) fn get(&self, path: &str) -> Result<(), Box<dyn Error>> {
        self.change(&Method::GET, path, None)
    }

    /// Shows what is at a path in a form of its own.
    pub(super) fn show_as(&self, path: &str, form: impl FnOnce(&Value) -> String) -> Result<(), Box<dyn Error>> {
        let reply = self.client.call(&Method::GET, path, None)?;
        print(&if self.json { clean_json(&reply.text) } else { form(&reply.json()?) })
    }

    /// Makes a call that needs no consent and prints no secret, and shows what comes back.
    pub(super) fn change(&self, method: &Method, path: &str, body: Option<&Value>) -> Result<(), Box<dyn Error>> {
        self.show(&self.client.call(method, path, body)?)
    }

    fn show(&self, reply: &Reply) -> Result<(), Box<dyn Error>> {
        let fields: Fields = reply.json()?;
        print(&if self.json { clean_json(&reply.text) } else { details(&fields) })
    }

    /// Makes a call that makes a key. Its value, which stands in the field `value`, is printed alone, this one time; the
    /// rest is said beside it.
    pub(super) fn create(&self, path: &str, body: Option<&Value>, value: &str) -> Result<(), Box<dyn Error>> {
        let reply = self.client.call(&Method::POST, path, body)?;
        let fields: Fields = reply.json()?;
        let Some(Value::String(made)) = fields.field(value) else {
            return Err(Failure::new(Exit::Unavailable, "the key was made, but the answer does not hold it").into());
        };
        let printed = if self.json {
            print(&clean_json(&reply.text))
        } else {
            let made = clean(made);
            note(&details(&fields.without(value)));
            note("The value is shown this once:");
            print(&made)
        };
        printed.map_err(|error| {
            format!(
                "the key was made, but its value cannot be printed ({error}) and is lost: revoke it, and make another"
            )
            .into()
        })
    }

    /// Asks, then makes a call that kills keys.
    pub(super) fn kill(
        &self,
        method: &Method,
        path: &str,
        consent: Consent,
        question: impl FnOnce() -> Result<String, Box<dyn Error>>,
    ) -> Result<(), Box<dyn Error>> {
        consent.can_be_had()?;
        if !consent.is_given() {
            consent.ask(&question()?)?;
        }
        self.change(method, path, None)
    }

    /// [`Session::kill`] of a call that makes the next key, whose value is printed.
    pub(super) fn rotate(&self, path: &str, consent: Consent, question: &str) -> Result<(), Box<dyn Error>> {
        consent.ask(question)?;
        self.create(path, None, "value")
    }

    /// Revokes a key that can be looked at before.
    pub(super) fn revoke(&self, path: &str, consent: Consent) -> Result<(), Box<dyn Error>> {
        self.kill(&Method::DELETE, path, consent, || {
            let key = self.look(path)?;
            let [id, name, value] =
                ["id", "name", "value"].map(|field| key.field(field).map_or_else(String::new, cell));
            Ok(format!("Revoke key {id} \"{name}\" ({value})? It is dead at once, and for ever."))
        })
    }

    /// An object, to ask about.
    pub(super) fn look(&self, path: &str) -> Result<Fields, Failure> {
        self.client.call(&Method::GET, path, None)?.json()
    }

    /// Archives what keys are beneath: the server says what would die, somebody agrees, then it is done.
    pub(super) fn archive(&self, path: &str, consent: Consent) -> Result<(), Box<dyn Error>> {
        consent.can_be_had()?;
        if !consent.is_given() {
            let progress = Progress::spinner("Waiting for the server");
            let reply = self.client.exchange(&Method::DELETE, path, None)?;
            drop(progress);
            let Some(message) = reply.state_conflict() else {
                return Err(self.client.refusal(&reply, &Method::DELETE).into());
            };
            note(&clean(&message));
            consent.ask("Archive it, with everything beneath? That cannot be undone.")?;
        }
        self.change(&Method::DELETE, &format!("{path}?confirm=true"), None)
    }
}
