//! Reading a policy document that somebody wrote: everything that stands against it is found at once, and named by its
//! place.

use keyrack::policy::{Document, Least, MOST_METHOD_BYTES, MOST_METHODS, NamedPolicy, Policies, Rule};
use keyrack::{ProjectRole, UnknownWord};
use serde_json::{Map, Value};

use crate::secrets::{NO_KEY, holds_a_key_in_lower_case};

/// What kind of thing is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// What must be there is not.
    Missing,
    /// A field of this name is not known there.
    Unknown(String),
    /// It is there, and cannot be used.
    Invalid,
}

/// Something that stands against a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where, from 0: `policies[0].rules[2].path`; of an unknown field, what it stands in. Nothing for the document itself.
    pub at: String,
    /// What kind of thing.
    pub wrong: Wrong,
    /// What to do about it.
    pub message: String,
}

impl Fault {
    /// The place of what is wrong, an unknown field included.
    pub fn place(&self) -> String {
        match &self.wrong {
            Wrong::Unknown(name) => inside(&self.at, name),
            Wrong::Missing | Wrong::Invalid => self.at.clone(),
        }
    }
}

/// Reads a document, and makes it ready to be asked.
///
/// # Errors
/// Every fault: first those of its shape, then those of what it says.
pub fn read(value: &Value) -> Result<(Document, Policies), Vec<Fault>> {
    let mut reader = Reader(Vec::new());
    let document = reader.document(value);
    let mut faults = reader.0;
    match Policies::compile(&document) {
        Ok(policies) if faults.is_empty() => return Ok((document, policies)),
        Ok(_) => {}
        Err(more) => {
            // Where something else stands in for what cannot be read, only that it cannot be read is said.
            let stands_in = |known: &Fault| !matches!(known.wrong, Wrong::Unknown(_)) && !known.at.is_empty();
            let is_new = |at: &str| !faults.iter().any(|known| stands_in(known) && is_within(at, &known.at));
            let more: Vec<_> = more.into_iter().filter(|fault| is_new(&fault.at)).collect();
            faults.extend(more.into_iter().map(|fault| Fault {
                at: fault.at,
                wrong: Wrong::Invalid,
                message: fault.message,
            }));
        }
    }
    Err(faults)
}

fn is_within(at: &str, place: &str) -> bool {
    at.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

fn inside(at: &str, field: &str) -> String {
    if at.is_empty() { field.to_owned() } else { format!("{at}.{field}") }
}

/// Reads what can be read; something harmless stands in for the rest.
struct Reader(Vec<Fault>);

impl Reader {
    fn document(&mut self, value: &Value) -> Document {
        let mut policies = Vec::new();
        if let Some(fields) = self.object("", value, &["policies"])
            && let Some(named) = self.list("policies", fields.get("policies"), true)
        {
            policies.extend(named.iter().enumerate().map(|(number, value)| self.policy(number, value)));
        }
        Document { policies }
    }

    fn policy(&mut self, number: usize, value: &Value) -> NamedPolicy {
        let at = format!("policies[{number}]");
        let empty = Map::new();
        let fields = self.object(&at, value, &["name", "read", "write", "rules"]);
        let is_object = fields.is_some();
        let fields = fields.unwrap_or(&empty);
        let name = is_object.then(|| self.text(&at, "name", fields.get("name"))).flatten();
        let least = |reader: &mut Self, field| {
            let word = is_object.then(|| reader.text(&at, field, fields.get(field))).flatten();
            word.and_then(|word| reader.parsed(&at, field, least_of(word))).unwrap_or(Least::None)
        };
        let (read, write) = (least(self, "read"), least(self, "write"));
        let rules = self.list(&format!("{at}.rules"), fields.get("rules"), false).unwrap_or_default();
        let rules = rules.iter().enumerate().map(|(place, value)| self.rule(&at, (number, place), value)).collect();
        NamedPolicy { name: name.map_or_else(|| format!("-{number}"), str::to_owned), read, write, rules }
    }

    fn rule(&mut self, policy: &str, (number, place): (usize, usize), value: &Value) -> Rule {
        let at = format!("{policy}.rules[{place}]");
        // On a path of its own, so that it is not taken for the twin of another.
        let path = format!("/-/{number}/{place}/-");
        let mut rule =
            Rule { methods: vec!["*".to_owned()], path, role: ProjectRole::Admin, public: false, permission: None };
        let Some(fields) = self.object(&at, value, &["methods", "path", "role", "public", "permission"]) else {
            return rule;
        };
        let methods = self.methods(&at, fields.get("methods"));
        let path = self.text(&at, "path", fields.get("path")).filter(|path| self.holds_no_key(&at, "path", path));
        if let Some(role) = self.text(&at, "role", fields.get("role")) {
            rule.role = self.parsed(&at, "role", role.parse()).unwrap_or(rule.role);
        }
        match fields.get("public") {
            None => {}
            Some(Value::Bool(public)) => rule.public = *public,
            Some(_) => self.invalid(inside(&at, "public"), "must be true or false"),
        }
        if let Some(permission) = fields.get("permission").filter(|permission| !permission.is_null()) {
            let permission = self.text(&at, "permission", Some(permission));
            rule.permission = permission.filter(|it| self.holds_no_key(&at, "permission", it)).map(str::to_owned);
        }
        if let (Some(methods), Some(path)) = (methods, path) {
            (rule.methods, rule.path) = (methods, path.to_owned());
        }
        rule
    }

    /// Methods that can be repeated in a message, if they are.
    fn methods(&mut self, rule: &str, value: Option<&Value>) -> Option<Vec<String>> {
        let at = format!("{rule}.methods");
        let values = self.list(&at, value, true)?;
        if values.len() > MOST_METHODS {
            self.invalid(at, &format!("name at most {MOST_METHODS} methods, or \"*\" for all of them"));
            return None;
        }
        let before = self.0.len();
        let mut methods = Vec::with_capacity(values.len());
        for (number, value) in values.iter().enumerate() {
            match value {
                Value::String(method) if method.len() <= MOST_METHOD_BYTES => methods.push(method.clone()),
                Value::Null
                | Value::Bool(_)
                | Value::Number(_)
                | Value::String(_)
                | Value::Array(_)
                | Value::Object(_) => {
                    let message =
                        format!("use 1 to {MOST_METHOD_BYTES} of A-Z and '-', or \"*\" alone for all methods");
                    self.invalid(format!("{at}[{number}]"), &message);
                }
            }
        }
        (self.0.len() == before).then_some(methods)
    }

    fn object<'v>(&mut self, at: &str, value: &'v Value, known: &[&str]) -> Option<&'v Map<String, Value>> {
        let Value::Object(fields) = value else {
            self.invalid(at.to_owned(), "must be an object");
            return None;
        };
        for name in fields.keys().filter(|name| !known.contains(&name.as_str())) {
            let (at, wrong) = (at.to_owned(), Wrong::Unknown(name.clone()));
            self.0.push(Fault { at, wrong, message: format!("is not known here. These are: {}", known.join(", ")) });
        }
        Some(fields)
    }

    fn list<'v>(&mut self, at: &str, value: Option<&'v Value>, is_required: bool) -> Option<&'v [Value]> {
        match value {
            Some(Value::Array(values)) => Some(values),
            None if !is_required => None,
            None => {
                self.missing(at.to_owned());
                None
            }
            Some(_) => {
                self.invalid(at.to_owned(), "must be a list");
                None
            }
        }
    }

    fn text<'v>(&mut self, at: &str, field: &str, value: Option<&'v Value>) -> Option<&'v str> {
        match value {
            Some(Value::String(text)) => Some(text),
            Some(_) => {
                self.invalid(inside(at, field), "must be a string");
                None
            }
            None => {
                self.missing(inside(at, field));
                None
            }
        }
    }

    /// Neither as it is, nor in the lower case that some fields are in.
    fn holds_no_key(&mut self, at: &str, field: &str, text: &str) -> bool {
        let holds_one = holds_a_key_in_lower_case(text);
        if holds_one {
            self.invalid(inside(at, field), NO_KEY);
        }
        !holds_one
    }

    fn parsed<T>(&mut self, at: &str, field: &str, parsed: Result<T, impl ToString>) -> Option<T> {
        parsed.map_err(|wrong| self.invalid(inside(at, field), &wrong.to_string())).ok()
    }

    fn missing(&mut self, at: String) {
        self.0.push(Fault { at, wrong: Wrong::Missing, message: "is required".to_owned() });
    }

    fn invalid(&mut self, at: String, message: &str) {
        self.0.push(Fault { at, wrong: Wrong::Invalid, message: message.to_owned() });
    }
}

fn least_of(word: &str) -> Result<Least, String> {
    if word == "none" {
        return Ok(Least::None);
    }
    word.parse().map(Least::Role).map_err(|unknown: UnknownWord| format!("{unknown}, or none"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn places(document: &Value) -> Vec<String> {
        read(document).map_or_else(|faults| faults.iter().map(Fault::place).collect(), |_| Vec::new())
    }

    #[test]
    fn what_is_read_is_what_serde_reads() {
        let text = r#"{"policies":[{"name":"default","read":"support","write":"none","rules":[{"methods":["GET","POST"],
            "path":"/events/*","role":"editor","public":true,"permission":"events:write"},{"methods":["*"],"path":"/**",
            "role":"admin","permission":null}]},{"name":"b","read":"none","write":"admin"}]}"#;
        let (document, _) = read(&serde_json::from_str(text).unwrap()).unwrap();
        assert_eq!(document, serde_json::from_str::<Document>(text).unwrap());
    }

    #[test]
    fn every_fault_of_shape_and_of_meaning_is_named_at_once_and_once() {
        let rule = |path: Value| json!({"methods": ["GET"], "path": path, "role": "support"});
        let found = places(&json!({"policy": 1, "policies": [
            {"name": 1, "read": "nobody", "rules": [
                rule(json!("/a")), rule(json!("a")), rule(json!(3)), rule(json!("/a")), 7,
                {"methods": ["GET", 5, "x".repeat(21)], "path": "/b", "public": "yes", "permission": "write", "rool": 1},
            ]},
            [], {"name": "b", "read": "none", "write": "none", "rules": {}},
        ]}));
        let expected = [
            "policy",
            "policies[0].name",
            "policies[0].read",
            "policies[0].write",
            "policies[0].rules[2].path",
            "policies[0].rules[4]",
            "policies[0].rules[5].rool",
            "policies[0].rules[5].methods[1]",
            "policies[0].rules[5].methods[2]",
            "policies[0].rules[5].role",
            "policies[0].rules[5].public",
            "policies[1]",
            "policies[2].rules",
            "policies",
            "policies[0].rules[1].path",
            "policies[0].rules[3]",
            "policies[0].rules[5].permission",
        ];
        assert_eq!(found, expected);
        for (document, expected) in
            [(json!([]), [""]), (json!({}), ["policies"]), (json!({"policies": 1}), ["policies"])]
        {
            assert_eq!(places(&document)[..1], expected);
        }
    }

    #[test]
    fn a_key_is_not_repeated() {
        let key = keyrack::ApiKey::generate(keyrack::KeyKind::Secret, &[1; keyrack::ApiKey::RANDOM_BYTES]);
        let path = format!("/{}", key.expose());
        let permission = format!("{}:read", key.expose().to_lowercase());
        let rule = json!({"methods": ["GET", key.expose()], "path": path, "role": "support", "permission": permission});
        let document =
            json!({"policies": [{"name": "default", "read": "none", "write": "none", "rules": [rule, rule]}]});
        let faults = read(&document).unwrap_err();
        assert_eq!(faults.len(), 6);
        let said = format!("{faults:?}");
        assert!(!said.contains(key.expose()) && !said.contains(&key.expose().to_lowercase()), "{said}");
    }
}
