//! One client of the torture, and the model it keeps of its keys.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{KEYS, Random};
use crate::server::{Reply, Server};

const ROLES: [&str; 5] = ["support", "smtpproxy", "editor", "publisher", "admin"];
/// How many keys and replies of each client are tried in every round, beside those the round has touched.
const SAMPLE: u64 = 5;

/// What must never happen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Loss {
    /// An acknowledged key is not there, or does not do what it should.
    Key,
    /// A revoked key is back.
    Revocation,
    /// An acknowledged patch is not there.
    Patch,
    /// A key that is not whole, or that nobody made.
    HalfMade,
    /// A reply that is not what it was, or that says no.
    Reply,
    /// The audit log tells another story.
    Audit,
}

#[derive(Default)]
pub(super) struct Tally {
    pub(super) by_signal: u64,
    pub(super) at_places: u64,
    pub(super) creates: u64,
    pub(super) patches: u64,
    pub(super) revokes: u64,
    replays: u64,
    pub(super) unknown: u64,
    unknown_but_done: u64,
    pub(super) losses: Vec<(Loss, String)>,
}

impl Tally {
    pub(super) fn lose(&mut self, what: Loss, text: String) {
        self.losses.push((what, text));
    }

    pub(super) fn take(&mut self, other: Self) {
        self.creates += other.creates;
        self.patches += other.patches;
        self.revokes += other.revokes;
        self.replays += other.replays;
        self.unknown += other.unknown;
        self.unknown_but_done += other.unknown_but_done;
        self.losses.extend(other.losses);
    }

    pub(super) fn summary(&self) -> String {
        let lost = |kind| self.losses.iter().filter(|(what, _)| *what == kind).count();
        format!(
            "killed {} by signal, {} at named places; acknowledged {} creates, {} patches, {} revokes, {} replays; \
             {} outcomes unknown, of which {} had happened; lost: {} keys, {} revocations, {} patches, {} half made, \
             {} replies, {} audit mismatches",
            self.by_signal,
            self.at_places,
            self.creates,
            self.patches,
            self.revokes,
            self.replays,
            self.unknown,
            self.unknown_but_done,
            lost(Loss::Key),
            lost(Loss::Revocation),
            lost(Loss::Patch),
            lost(Loss::HalfMade),
            lost(Loss::Reply),
            lost(Loss::Audit),
        )
    }
}

/// One change as the audit log must have it.
#[derive(Clone, Debug)]
pub(super) struct Change {
    action: &'static str,
    after: Value,
    /// `None` if the reply was lost.
    request_id: Option<String>,
}

impl Change {
    pub(super) fn is(&self, entry: &Value) -> bool {
        entry["action"] == self.action
            && fields(&entry["after"]) == self.after
            && entry["after"]["revoked_at"].is_string() == (self.action == "key.revoke")
            && self.request_id.as_ref().is_none_or(|id| entry["request_id"] == *id)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) id: i64,
    /// `None` if the reply that held it was lost for good.
    value: Option<String>,
    prefix: &'static str,
    /// What may be changed, as it is now.
    fields: Value,
    is_dead: bool,
    is_touched: bool,
    pub(super) history: Vec<Change>,
}

impl Key {
    pub(super) fn new(id: i64, value: Option<String>, fields: Value, request_id: Option<String>) -> Self {
        let prefix = if fields["scope"] == "public" { "pk_" } else { "sk_" };
        let made = Change { action: "key.create", after: fields.clone(), request_id };
        Self { id, value, prefix, fields, is_dead: false, is_touched: true, history: vec![made] }
    }

    pub(super) fn change(&mut self, action: &'static str, after: Value, request_id: Option<String>) {
        self.is_dead = action == "key.revoke";
        self.is_touched = true;
        self.fields = after.clone();
        self.history.push(Change { action, after, request_id });
    }

    /// Whether a listed key is this one, with every field as it must be.
    pub(super) fn is(&self, listed: &Value) -> bool {
        let shown = listed["value"].as_str().unwrap_or_default();
        let mask_fits = match &self.value {
            Some(value) => *shown == format!("{}****{}", self.prefix, &value[31..]),
            None => shown.len() == 11 && shown.starts_with(&format!("{}****", self.prefix)),
        };
        let is_time = |time: &Value| time.as_str().is_some_and(|time| time.len() == 24 && time.ends_with('Z'));
        mask_fits
            && is_time(&listed["created_at"])
            && is_time(&listed["updated_at"])
            && listed["project_id"] == 1
            && listed["is_system_key"] == false
            && fields(listed) == self.fields
    }

    /// The status with which this key may list keys.
    pub(super) fn status_as_credential(&self) -> u16 {
        if self.is_dead || self.prefix == "pk_" {
            401
        } else if self.fields["scope"] == "public" || self.fields["role"] != "admin" {
            403
        } else {
            200
        }
    }
}

/// What a client decides of a key, out of a body, a listed key or an audit entry.
pub(super) fn fields(of: &Value) -> Value {
    json!({"name": of["name"], "scope": of["scope"], "role": of["role"], "description": of["description"]})
}

/// A request whose reply has not come.
#[derive(Clone, Debug)]
pub(super) enum Asked {
    Create { body: Value, once: Option<String> },
    Patch { at: usize, after: Value, once: Option<String> },
    Revoke { at: usize },
}

/// One client, with its own keys and nobody else's.
pub(super) struct Client {
    number: u64,
    pub(super) admin: String,
    random: Random,
    /// Makes names and idempotency keys unique.
    tokens: u64,
    pub(super) keys: Vec<Key>,
    /// Idempotency key, body and reply of creates.
    answered: Vec<(String, Value, String)>,
    asked: Option<Asked>,
    pub(super) tally: Tally,
}

impl Client {
    pub(super) fn new(number: u64, admin: String, seed: u64) -> Self {
        let (keys, answered, tally) = (Vec::new(), Vec::new(), Tally::default());
        Self { number, admin, random: Random::new(seed), tokens: 0, keys, answered, asked: None, tally }
    }

    /// Asks for one thing after another until no reply comes.
    pub(super) fn work(&mut self, server: &Server) {
        loop {
            let live: Vec<_> = (0..self.keys.len()).filter(|at| !self.keys[*at].is_dead).collect();
            let asked = match (self.random.below(10), live.is_empty()) {
                (0..5, _) | (_, true) => self.a_create(),
                (5..8, false) => {
                    let at = *self.random.pick(&live);
                    self.a_patch(at)
                }
                (_, false) => Asked::Revoke { at: *self.random.pick(&live) },
            };
            self.asked = Some(asked.clone());
            let Ok(reply) = self.send(server, &asked) else { break };
            self.asked = None;
            self.heard(&asked, &reply, reply.headers.get("x-request-id").map(|id| id.to_str().unwrap().to_owned()));
            // What was just revoked must not pass even once.
            if let Asked::Revoke { at } = asked
                && self.try_key(server, at).is_err()
            {
                break;
            }
        }
    }

    fn a_create(&mut self) -> Asked {
        let description = if self.random.below(2) == 0 { json!("made by a test") } else { Value::Null };
        // Half of them can be tried as credentials of the calls under test.
        let role = if self.random.below(2) == 0 { "admin" } else { self.random.pick(&ROLES) };
        let scope = if self.random.below(4) == 0 { "public" } else { "secret" };
        let body = json!({"name": self.token("key"), "scope": scope, "role": role, "description": description});
        Asked::Create { body, once: self.maybe_once() }
    }

    fn a_patch(&mut self, at: usize) -> Asked {
        let mut after = self.keys[at].fields.clone();
        after["description"] = self.token("patch").into();
        after["role"] = (*self.random.pick(&ROLES)).into();
        if self.keys[at].prefix == "sk_" {
            after["scope"] = (*self.random.pick(&["public", "secret", "secret"])).into();
        }
        Asked::Patch { at, after, once: self.maybe_once() }
    }

    fn token(&mut self, what: &str) -> String {
        self.tokens += 1;
        format!("{what} {} of client {}", self.tokens, self.number)
    }

    fn maybe_once(&mut self) -> Option<String> {
        (self.random.below(2) == 0).then(|| self.token("once"))
    }

    fn send(&self, server: &Server, asked: &Asked) -> Result<Reply, ureq::Error> {
        let path = |at: &usize| format!("{KEYS}/{}", self.keys[*at].id);
        let (method, path, body, once) = match asked {
            Asked::Create { body, once } => ("POST", KEYS.to_owned(), Some(body), once),
            Asked::Patch { at, after, once } => ("PATCH", path(at), Some(after), once),
            Asked::Revoke { at } => ("DELETE", path(at), None, &None),
        };
        let headers: Vec<_> = once.iter().map(|once| ("Idempotency-Key", once.as_str())).collect();
        server.send(method, &path, &self.admin, body, &headers)
    }

    /// A reply has come: what it says is promised.
    fn heard(&mut self, asked: &Asked, reply: &Reply, request_id: Option<String>) {
        if reply.status != 200 {
            return self.tally.lose(Loss::Reply, format!("{asked:?} was answered {}: {}", reply.status, reply.text));
        }
        match asked {
            Asked::Create { body, once } => {
                self.tally.creates += 1;
                let (id, value) = (reply.json()["id"].as_i64(), reply.json()["value"].as_str().map(str::to_owned));
                self.keys.push(Key::new(id.unwrap(), value, body.clone(), request_id));
                self.answered.extend(once.iter().map(|once| (once.clone(), body.clone(), reply.text.clone())));
            }
            Asked::Patch { at, after, .. } => {
                self.tally.patches += 1;
                self.keys[*at].change("key.update", after.clone(), request_id);
            }
            Asked::Revoke { at } => {
                self.tally.revokes += 1;
                let last = self.keys[*at].fields.clone();
                self.keys[*at].change("key.revoke", last, request_id);
            }
        }
    }

    /// Whether a listed key is one that this client asked for and does not know of yet.
    pub(super) fn asked_for(&self, listed: &Value) -> bool {
        matches!(&self.asked, Some(Asked::Create { body, .. }) if body["name"] == listed["name"])
    }

    /// The keys that show that a request was carried out: none, or the one it was about.
    fn done(&self, asked: &Asked, listed: &BTreeMap<i64, Value>) -> Vec<i64> {
        match asked {
            Asked::Create { body, .. } => {
                listed.iter().filter(|(_, key)| key["name"] == body["name"]).map(|(id, _)| *id).collect()
            }
            Asked::Patch { at, after, .. } => {
                let id = self.keys[*at].id;
                listed.get(&id).filter(|key| fields(key) == *after).map(|_| id).into_iter().collect()
            }
            Asked::Revoke { at } => Some(self.keys[*at].id).filter(|id| !listed.contains_key(id)).into_iter().collect(),
        }
    }

    /// Finds out what became of the request that was under way.
    pub(super) fn settle(&mut self, server: &Server, listed: &BTreeMap<i64, Value>) {
        let Some(asked) = self.asked.take() else { return };
        self.tally.unknown += 1;
        let done = self.done(&asked, listed);
        self.tally.unknown_but_done += u64::from(!done.is_empty());
        match &asked {
            // With an Idempotency-Key it is asked again, and must come true exactly once.
            Asked::Create { once: Some(_), .. } | Asked::Patch { once: Some(_), .. } => {
                let reply = self.send(server, &asked).unwrap();
                let id = reply.headers.get("x-request-id").map(|id| id.to_str().unwrap().to_owned());
                let was_replayed = reply.headers.contains_key("idempotent-replayed");
                if was_replayed == done.is_empty() || done.iter().any(|id| reply.json()["id"] != *id) {
                    self.tally.lose(Loss::Reply, format!("{asked:?} is {done:?}, but asking again gave {reply:?}"));
                }
                self.heard(&asked, &reply, id.filter(|_| !was_replayed));
            }
            Asked::Create { body, once: None } => {
                if done.len() > 1 {
                    self.tally.lose(Loss::HalfMade, format!("{asked:?} made the keys {done:?}"));
                }
                self.keys.extend(done.iter().map(|id| Key::new(*id, None, body.clone(), None)));
            }
            Asked::Patch { at, after, once: None } if !done.is_empty() => {
                self.keys[*at].change("key.update", after.clone(), None);
            }
            Asked::Revoke { at } if !done.is_empty() => {
                let last = self.keys[*at].fields.clone();
                self.keys[*at].change("key.revoke", last, None);
            }
            Asked::Patch { .. } | Asked::Revoke { .. } => {}
        }
    }

    /// Compares everything with the model: the list all of it, single keys and replies by sample unless `thorough`.
    pub(super) fn check(&mut self, server: &Server, listed: &BTreeMap<i64, Value>, thorough: bool) {
        for key in &self.keys {
            let loss = match (listed.get(&key.id), key.is_dead) {
                (None, true) => continue,
                (Some(found), false) if key.is(found) => continue,
                (None, false) => Loss::Key,
                (Some(_), true) => Loss::Revocation,
                (Some(found), false) if fields(found) == key.fields => Loss::HalfMade,
                (Some(_), false) => Loss::Patch,
            };
            self.tally.lose(loss, format!("{key:?} is listed as {:?}", listed.get(&key.id)));
        }
        for at in 0..self.keys.len() {
            let few = self.random.below(self.keys.len() as u64) < SAMPLE;
            if thorough || few || std::mem::take(&mut self.keys[at].is_touched) {
                self.try_key(server, at).unwrap();
                self.read_key(server, at);
            }
        }
        for at in 0..self.answered.len() {
            if thorough || self.random.below(self.answered.len() as u64) < SAMPLE {
                self.replay(server, at);
            }
        }
    }

    /// Presents a key as the credential.
    fn try_key(&mut self, server: &Server, at: usize) -> Result<(), ureq::Error> {
        let key = &self.keys[at];
        let Some(value) = &key.value else { return Ok(()) };
        let status = server.send("GET", &format!("{KEYS}?limit=1"), value, None, &[])?.status;
        if status != key.status_as_credential() {
            let loss = if key.is_dead { Loss::Revocation } else { Loss::Key };
            self.tally.lose(loss, format!("{key:?} was answered {status} as a credential"));
        }
        Ok(())
    }

    fn read_key(&mut self, server: &Server, at: usize) {
        let key = &self.keys[at];
        let reply = server.send("GET", &format!("{KEYS}/{}", key.id), &self.admin, None, &[]).unwrap();
        let fits = if key.is_dead { reply.status == 404 } else { reply.status == 200 && key.is(&reply.json()) };
        if !fits {
            let loss = if key.is_dead { Loss::Revocation } else { Loss::Key };
            self.tally.lose(loss, format!("{key:?} was read as {reply:?}"));
        }
    }

    /// Asks an answered create again: the same bytes, and no second key (the next list would show it).
    fn replay(&mut self, server: &Server, at: usize) {
        let (once, body, text) = self.answered[at].clone();
        self.tally.replays += 1;
        let reply = self.send(server, &Asked::Create { body, once: Some(once) }).unwrap();
        if reply.status != 200 || reply.text != text || !reply.headers.contains_key("idempotent-replayed") {
            self.tally.lose(Loss::Reply, format!("{text} was replayed as {reply:?}"));
        }
    }
}
