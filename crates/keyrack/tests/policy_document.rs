//! The policy document on the wire: one set of names, in TOML and in JSON.

use keyrack::ProjectRole;
use keyrack::policy::{Document, ExplainKey, Fault, Least, Method, NamedPolicy, Path, Policies, PolicyId, Rule};
use serde_json::{Value, json};

const TOML: &str = r#"
[[policies]]
name = "default"
read = "support"
write = "none"

[[policies.rules]]
methods = ["POST"]
path = "/events"
role = "smtpproxy"
public = true
permission = "events:write"

[[policies.rules]]
methods = ["*"]
path = "/users/**"
role = "admin"

[[policies]]
name = "closed"
read = "none"
write = "none"
"#;

fn document() -> Document {
    let events = Rule {
        methods: vec!["POST".to_owned()],
        path: "/events".to_owned(),
        role: ProjectRole::SmtpProxy,
        public: true,
        permission: Some("events:write".to_owned()),
    };
    let users = Rule {
        methods: vec!["*".to_owned()],
        path: "/users/**".to_owned(),
        role: ProjectRole::Admin,
        public: false,
        permission: None,
    };
    let named = |name: &str, read, rules| NamedPolicy { name: name.to_owned(), read, write: Least::None, rules };
    let policies = vec![
        named("default", Least::Role(ProjectRole::Support), vec![events, users]),
        named("closed", Least::None, Vec::new()),
    ];
    Document { policies }
}

fn json() -> Value {
    json!({"policies": [
        {"name": "default", "read": "support", "write": "none", "rules": [
            {"methods": ["POST"], "path": "/events", "role": "smtpproxy", "public": true, "permission": "events:write"},
            {"methods": ["*"], "path": "/users/**", "role": "admin", "public": false},
        ]},
        {"name": "closed", "read": "none", "write": "none", "rules": []},
    ]})
}

#[test]
fn toml_and_json_say_the_same() {
    assert_eq!(toml::from_str::<Document>(TOML).unwrap(), document());
    assert_eq!(serde_json::from_value::<Document>(json()).unwrap(), document());
    assert_eq!(serde_json::to_value(document()).unwrap(), json());
}

#[test]
fn what_is_not_known_is_refused_wherever_it_stands() {
    let refused = |pointer: &str, field: &str| {
        let mut changed = json();
        changed.pointer_mut(pointer).unwrap().as_object_mut().unwrap().insert(field.to_owned(), json!(1));
        serde_json::from_value::<Document>(changed).unwrap_err().to_string()
    };
    for place in ["", "/policies/0", "/policies/0/rules/1"] {
        assert!(refused(place, "publik").contains("unknown field `publik`"), "{place}");
    }
}

#[test]
fn roles_are_words_and_only_fallbacks_may_be_none() {
    let parsed = |pointer: &str, word: &str| {
        let mut changed = json();
        *changed.pointer_mut(pointer).unwrap() = json!(word);
        serde_json::from_value::<Document>(changed).map_err(|error| error.to_string())
    };
    for role in ProjectRole::ALL {
        assert_eq!(parsed("/policies/1/read", role.as_str()).unwrap().policies[1].read, Least::Role(*role));
    }
    assert!(parsed("/policies/1/write", "None").unwrap_err().ends_with("admin, or none"));
    assert!(parsed("/policies/0/rules/0/role", "none").is_err());
    assert!(parsed("/policies/0/rules/0/role", "Admin").is_err());
}

#[test]
fn faults_and_explanations_are_plain_data() {
    let fault = Fault { at: "policies[0].name".to_owned(), message: "use it".to_owned() };
    assert_eq!(serde_json::to_value(fault).unwrap(), json!({"at": "policies[0].name", "message": "use it"}));

    let policies = Policies::compile(&document()).unwrap();
    let key = ExplainKey { role: ProjectRole::Editor, scope: keyrack::Scope::Public, permissions: &["events:write"] };
    let (method, path) = (Method::scan(b"POST").unwrap(), Path::scan(b"/events").unwrap());
    let explained = policies.explain(PolicyId::DEFAULT, method, &path, &key);
    let expected = json!({
        "rules": [
            {"place": 0, "rule": "POST /events", "applies": true, "why_not": null},
            {"place": 1, "rule": "* /users/**", "applies": false, "why_not": "path"},
        ],
        "applies": "POST /events",
        "allowed": true,
        "reason": "allowed",
    });
    assert_eq!(serde_json::to_value(explained).unwrap(), expected);
}
