//! A question and a verdict as JSON (contract section 7).

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;

use keyrack::{Ask, AskedRequest, Holder, LimitState, OrganizationId, ProjectId, Verdict};
use serde::Deserialize;

use super::answer;

use crate::http::body::{self, AsObject};
use crate::http::fields::Fields;
use crate::http::problem::Problem;

/// Most that a request may take from the limits of its key.
const MOST_COST: u32 = 1_000_000;

/// Text that is borrowed from the body where it can be. Only in a type of its own: in an option it would be copied always.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// A question as it is sent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Question<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow, default)]
    method: Option<Text<'a>>,
    #[serde(borrow, default)]
    path: Option<Text<'a>>,
    #[serde(borrow, default)]
    policy: Option<Text<'a>>,
    #[serde(default)]
    project_id: Option<u64>,
    #[serde(default)]
    organization_id: Option<u64>,
    #[serde(borrow, default)]
    permission: Option<Text<'a>>,
    /// Must be one; no key has a rule for it yet.
    #[serde(default, rename = "client_address")]
    _client_address: Option<IpAddr>,
    #[serde(borrow, default)]
    origin: Option<Text<'a>>,
    #[serde(default = "one")]
    cost: u32,
    #[serde(default)]
    min_seq: u32,
}

const fn one() -> u32 {
    1
}

impl Question<'_> {
    /// What it asks of the library.
    pub(super) fn ask(&self) -> Option<Ask<'_>> {
        let request = match (&self.method, &self.path) {
            (Some(method), Some(path)) => Some(AskedRequest {
                method: method.0.as_bytes(),
                target: path.0.as_bytes(),
                policy: self.policy.as_ref().map(|name| name.0.as_bytes()),
            }),
            (None, None) if self.policy.is_none() => None,
            (Some(_) | None, Some(_) | None) => return None,
        };
        let is_good = self.cost <= MOST_COST && self.origin.as_ref().is_none_or(|origin| is_an_origin(&origin.0));
        is_good.then(|| Ask {
            key: self.key.as_bytes(),
            request,
            // A number beyond 32 bits is nobody's; neither is 0.
            project: self.project_id.map(|id| ProjectId(u32::try_from(id).unwrap_or(0))),
            organization: self.organization_id.map(|id| OrganizationId(u32::try_from(id).unwrap_or(0))),
            permission: self.permission.as_ref().map(|permission| &*permission.0),
            cost: self.cost,
            min_seq: self.min_seq.into(),
        })
    }
}

/// `scheme://host` or `scheme://host:port` as browsers send it, or `null`.
fn is_an_origin(origin: &str) -> bool {
    let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://")).unwrap_or_default();
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
    origin == "null" || (1..=255).contains(&host.len()) && host.bytes().all(fits)
}

/// Reads what is sent. That it is UTF-8 is found out once, and not for every text in it.
fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    serde_json::from_str(std::str::from_utf8(bytes).ok()?).ok()
}

/// Reads a question.
pub(super) fn question(bytes: &[u8]) -> Result<Question<'_>, Problem> {
    match read(bytes) {
        Some(AsObject(question)) if Question::ask(&question).is_some() => Ok(question),
        Some(AsObject(_)) | None => Err(faults(bytes)),
    }
}

/// What is wrong with a question, in full; it is only looked for when something is.
fn faults(bytes: &[u8]) -> Problem {
    let object = match body::parse(bytes) {
        Ok(object) => object,
        Err(problem) => return problem,
    };
    let mut fields = Fields::of(object);
    look_at(&mut fields, "");
    fields.finish().err().unwrap_or_else(ambiguous)
}

/// Fields that were sent twice are seen by one reader of JSON and not by another.
fn ambiguous() -> Problem {
    let message = "The body is JSON, and still not understood: a field may be there twice.";
    Problem::param(crate::http::problem::Code::ParameterInvalidFormat, "body", message)
}

fn look_at(fields: &mut Fields, prefix: &str) {
    let word = |value: &serde_json::Value| value.is_string();
    let id = |value: &serde_json::Value| value.is_u64();
    let small = |value: &serde_json::Value| value.as_u64().is_some_and(|number| u32::try_from(number).is_ok());
    let cost = |value: &serde_json::Value| value.as_u64().is_some_and(|cost| cost <= MOST_COST.into());
    let address = |value: &serde_json::Value| value.as_str().is_some_and(|text| text.parse::<IpAddr>().is_ok());
    let origin = |value: &serde_json::Value| value.as_str().is_some_and(is_an_origin);
    let name = |field: &str| format!("{prefix}{field}");
    fields.must_be(&name("key"), true, word, "must be a string");
    let method = fields.must_be(&name("method"), false, word, "must be a string");
    let path = fields.must_be(&name("path"), false, word, "must be a string");
    let policy = fields.must_be(&name("policy"), false, word, "must be a string");
    fields.must_be(&name("project_id"), false, id, "must be a whole number");
    fields.must_be(&name("organization_id"), false, id, "must be a whole number");
    fields.must_be(&name("permission"), false, word, "must be a string");
    fields.must_be(&name("client_address"), false, address, "must be an IP address");
    fields.must_be(&name("origin"), false, origin, "must be an origin, such as https://app.example.com");
    fields.must_be(&name("cost"), false, cost, "must be a whole number from 0 to 1000000");
    fields.must_be(&name("min_seq"), false, small, "must be a whole number");
    if method != path || policy && !method {
        let missing = if method { "path" } else { "method" };
        fields.missing(&name(missing), "is required where a request is asked about: send method and path");
    }
}

/// Reads a batch of questions.
pub(super) fn questions(bytes: &[u8]) -> Result<Vec<Question<'_>>, Problem> {
    match read(bytes) {
        Some(AsObject(Questions { requests }))
            if requests.len() <= MOST_AT_ONCE && requests.iter().all(|AsObject(question)| question.ask().is_some()) =>
        {
            Ok(requests.into_iter().map(|AsObject(question)| question).collect())
        }
        Some(AsObject(_)) | None => Err(faults_of_many(bytes)),
    }
}

/// Most questions of one batch (contract section 7).
const MOST_AT_ONCE: usize = 1_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Questions<'a> {
    #[serde(borrow)]
    requests: Vec<AsObject<Question<'a>>>,
}

fn faults_of_many(bytes: &[u8]) -> Problem {
    let object = match body::parse(bytes) {
        Ok(object) => object,
        Err(problem) => return problem,
    };
    let mut fields = Fields::of(object);
    for (at, item) in fields.list("requests", MOST_AT_ONCE, true).unwrap_or_default().into_iter().enumerate() {
        let prefix = format!("requests.{at}");
        if fields.open(&prefix, item) {
            look_at(&mut fields, &format!("{prefix}."));
        }
    }
    fields.finish().err().unwrap_or_else(ambiguous)
}

/// What is said of the index with a verdict.
#[derive(Clone, Copy)]
pub(super) struct Knowledge {
    /// How far in the log of changes it had come.
    pub(super) seq: i64,
    /// How old what it knows may be.
    pub(super) age: Duration,
}

/// Writes what is said of a verdict; `permissions` are those of the key, where they may be told.
///
/// By hand, because a batch is little else: every word of it is plain ASCII that needs no escape, permissions included.
pub(super) fn write_answer<'p>(
    out: &mut Vec<u8>,
    verdict: &Verdict,
    permissions: impl Iterator<Item = &'p str>,
    Knowledge { seq, age }: Knowledge,
    request_id: &str,
) {
    out.extend_from_slice(if verdict.outcome.is_ok() { b"{\"valid\":true" } else { b"{\"valid\":false" });
    push_word(out, ",\"code\":", Some(verdict.code().as_str()));
    if let Some(about) = verdict.about {
        let (project, organization, scope, role) = match about.holder {
            Holder::Project { project, organization, scope, role, .. } => {
                (Some(project.0), Some(organization.0), Some(scope.as_str()), Some(role.as_str()))
            }
            Holder::Organization { organization, role } => (None, Some(organization.0), None, Some(role.as_str())),
            Holder::Operator | Holder::Follower => (None, None, None, None),
        };
        push_number(out, ",\"key_id\":", Some(about.id.0.cast_unsigned()));
        push_number(out, ",\"project_id\":", project.map(u64::from));
        push_number(out, ",\"organization_id\":", organization.map(u64::from));
        push_word(out, ",\"scope\":", scope);
        push_word(out, ",\"role\":", role);
        out.extend_from_slice(b",\"permissions\":[");
        for (at, permission) in permissions.enumerate() {
            push_word(out, if at == 0 { "" } else { "," }, Some(permission));
        }
        out.push(b']');
    }
    if let Some(LimitState { limit, remaining, reset, .. }) = verdict.limit {
        push_number(out, ",\"ratelimit\":{\"limit\":", Some(limit));
        push_number(out, ",\"remaining\":", Some(remaining));
        push_number(out, ",\"reset\":", Some(reset));
        out.push(b'}');
    }
    push_number(out, ",\"seq\":", Some(seq.max(0).cast_unsigned()));
    push_number(out, ",\"age_ms\":", Some(u64::try_from(age.as_millis()).unwrap_or(u64::MAX)));
    push_word(out, ",\"request_id\":", Some(request_id));
    out.push(b'}');
}

fn push_word(out: &mut Vec<u8>, before: &str, word: Option<&str>) {
    out.extend_from_slice(before.as_bytes());
    let Some(word) = word else { return out.extend_from_slice(b"null") };
    out.push(b'"');
    out.extend_from_slice(word.as_bytes());
    out.push(b'"');
}

fn push_number(out: &mut Vec<u8>, before: &str, number: Option<u64>) {
    out.extend_from_slice(before.as_bytes());
    match number {
        Some(number) => answer::push_number(out, number),
        None => out.extend_from_slice(b"null"),
    }
}

#[cfg(test)]
mod tests {
    use keyrack::{About, KeyId, KeyKind, ProjectRole, Scope, VerifyError};

    use super::*;

    fn written(verdict: &Verdict, permissions: &[&str]) -> serde_json::Value {
        let mut out = Vec::new();
        let permissions = permissions.iter().copied();
        write_answer(&mut out, verdict, permissions, Knowledge { seq: 7, age: Duration::ZERO }, "req_1");
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn an_answer_is_json_with_every_field() {
        let holder = Holder::Project {
            project: ProjectId(5),
            organization: OrganizationId(6),
            kind: KeyKind::Secret,
            scope: Scope::Secret,
            role: ProjectRole::Editor,
        };
        let limit = LimitState { at: 0, limit: 10, remaining: 9, reset: 60, retry_after: Some(7), is_quota: false };
        let denied = Err(VerifyError::Denied { denial: keyrack::Denial::RateLimited, key: None });
        let verdict = Verdict { outcome: denied, about: Some(About { id: KeyId(4), holder }), limit: Some(limit) };
        let expected = serde_json::json!({
            "valid": false, "code": "RATE_LIMITED", "key_id": 4, "project_id": 5, "organization_id": 6,
            "scope": "secret", "role": "editor", "permissions": ["files:read", "files:write"],
            "ratelimit": {"limit": 10, "remaining": 9, "reset": 60}, "seq": 7, "age_ms": 0, "request_id": "req_1",
        });
        assert_eq!(written(&verdict, &["files:read", "files:write"]), expected);

        let about = Some(About { id: KeyId(4), holder: Holder::Operator });
        let operator = written(&Verdict { outcome: denied, about, limit: None }, &[]);
        assert!(operator["project_id"].is_null() && operator["role"].is_null() && operator.get("ratelimit").is_none());
        let unknown = written(&Verdict { outcome: denied, about: None, limit: None }, &[]);
        assert!(unknown.get("key_id").is_none());
    }
}
