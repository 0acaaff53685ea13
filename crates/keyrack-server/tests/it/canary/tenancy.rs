//! A day in the life of the operator, and of a customer from its first key to its end.

use serde_json::{Value, json};

use super::journey::{Journey, body_of};
use super::wire::Ask;
use crate::server::Server;

const ORGANIZATIONS: &str = "/api/operator/organizations";
const OPERATOR_KEYS: &str = "/api/operator/operator-keys";
const ORGANIZATION_KEYS: &str = "/api/admin/organizations/api-keys";
const PROJECTS: &str = "/api/admin/projects";

fn call(line: &str, key: &str, body: &Value) -> Ask {
    let ask = Ask::new(line).bearer(key);
    if body.is_null() { ask } else { ask.json(body) }
}

fn once(ask: Ask, name: &str) -> Ask {
    ask.header(format!("Idempotency-Key: {name}"))
}

impl Journey {
    /// Makes a customer with keys of every kind and ends it again; gives values, dead ones and live ones.
    pub(super) fn operate(&mut self, server: &Server, operator: &str) -> Vec<String> {
        let username = format!("acme-{}", self.secrets.len());
        let body = json!({"username": username, "domain": "acme.example"});
        let new = once(call(&format!("POST {ORGANIZATIONS}"), operator, &body), &username);
        let (_, owner) = self.create(server, &new);
        let found = self.ask(server, &call(&format!("GET {ORGANIZATIONS}?q={username}"), operator, &Value::Null), &[]);
        let organization = body_of(&found)["results"][0]["id"].as_i64().unwrap();
        let second = json!({"name": "Night shift", "description": "On call"});
        let second = once(call(&format!("POST {OPERATOR_KEYS}"), operator, &second), &format!("operator {username}"));
        let (second, second_operator) = self.create(server, &second);

        let project = self.project(server, &owner);
        let (system, system_key) = self.system_key(server, operator, project);
        let member = json!({"name": "Support desk", "role": "member"});
        let (member, member_key) =
            self.create(server, &once(call(&format!("POST {ORGANIZATION_KEYS}"), &owner, &member), "m"));
        let (other, other_key) =
            self.create(server, &call(&format!("POST {ORGANIZATION_KEYS}"), &owner, &json!({"name": "X"})));
        let put = format!("PUT {PROJECTS}/{project}/members/{member}");
        self.ask(server, &call(&put, &owner, &json!({"role": "admin"})), &[]);
        let keys = format!("POST {PROJECTS}/{project}/keys");
        let by_member = call(&keys, &member_key, &json!({"name": "Made by a member", "role": "admin"}));
        let (_, made) = self.create(server, &once(by_member, "by a member"));
        self.look(server, [operator, &owner, &made], (organization, project, member));

        let values = [owner.clone(), second_operator, member_key, other_key, system_key, made];
        for key in values.iter().map(String::as_str).chain([operator]) {
            self.misplace(server, key, (operator, &owner), (project, member));
        }
        let path = format!("{ORGANIZATIONS}/{organization}");
        for (line, key) in [
            (format!("DELETE {PROJECTS}/{project}/members/{member}"), owner.as_str()),
            (format!("DELETE {ORGANIZATION_KEYS}/{other}"), &owner),
            (format!("DELETE {OPERATOR_KEYS}/{second}"), operator),
            (format!("DELETE /api/operator/projects/{project}/system-keys/{system}"), operator),
            (format!("POST {path}/suspend"), operator),
            (format!("GET {PROJECTS}"), &owner),
            (format!("POST {path}/resume"), operator),
            (format!("DELETE {PROJECTS}/{project}"), &owner),
            (format!("DELETE {PROJECTS}/{project}?confirm=true"), &owner),
            (format!("DELETE {path}?confirm=true"), operator),
            (format!("GET {PROJECTS}"), &owner),
            ("GET /api/operator/audit-events?limit=-1".to_owned(), operator),
        ] {
            self.ask(server, &call(&line, key, &Value::Null), &[]);
        }
        values.into()
    }

    fn project(&mut self, server: &Server, owner: &str) -> i64 {
        let body = json!({"name": "Shop", "locale": "en", "timezone": "UTC", "description": "Sells things"});
        let made = self.ask(server, &call(&format!("POST {PROJECTS}"), owner, &body), &[]);
        body_of(&made)["id"].as_i64().unwrap()
    }

    /// Makes a system key and rotates it twice, once so that it can be replayed; gives the last one.
    fn system_key(&mut self, server: &Server, operator: &str, project: i64) -> (i64, String) {
        let path = format!("/api/operator/projects/{project}/system-keys");
        let new = call(&format!("POST {path}"), operator, &json!({"name": "Relay", "role": "smtpproxy"}));
        let (first, _) = self.create(server, &once(new, &format!("system {project}")));
        let rotate = |id: i64| call(&format!("POST {path}/{id}/rotate"), operator, &Value::Null);
        let (next, dead) = self.create(server, &once(rotate(first), &format!("rotate {project}")));
        self.ask(server, &Ask::new("GET /api/client/me").bearer(&dead), &[]);
        self.create(server, &rotate(next))
    }

    /// Every list and every single thing.
    fn look(
        &mut self,
        server: &Server,
        [operator, owner, admin]: [&str; 3],
        (organization, project, member): (i64, i64, i64),
    ) {
        for (key, path) in [
            (operator, ORGANIZATIONS.to_owned()),
            (operator, format!("{ORGANIZATIONS}/{organization}")),
            (operator, OPERATOR_KEYS.to_owned()),
            (operator, format!("/api/operator/projects/{project}/system-keys")),
            (operator, "/api/operator/audit-events?limit=100".to_owned()),
            (owner, "/api/admin/organizations/me".to_owned()),
            (owner, ORGANIZATION_KEYS.to_owned()),
            (owner, format!("{ORGANIZATION_KEYS}/{member}")),
            (owner, PROJECTS.to_owned()),
            (owner, format!("{PROJECTS}/{project}")),
            (owner, format!("{PROJECTS}/{project}/keys?limit=-1")),
            (owner, format!("{PROJECTS}/{project}/members")),
            (owner, "/api/admin/audit-events?limit=-1".to_owned()),
            (admin, "/api/client/me".to_owned()),
            (admin, "/api/client/audit-events?limit=-1".to_owned()),
        ] {
            let seen = self.ask(server, &call(&format!("GET {path}"), key, &Value::Null), &[]);
            assert!(seen.starts_with(b"HTTP/1.1 200"), "{path}: {}", String::from_utf8_lossy(&seen));
        }
    }

    /// A key where it does not belong, in calls that do nothing because of it.
    fn misplace(&mut self, server: &Server, key: &str, (operator, owner): (&str, &str), (project, member): (i64, i64)) {
        let shop = json!({"name": "Shop", "locale": "en", "timezone": "UTC"});
        let with = |mut body: Value, field: &str| {
            body[field] = key.into();
            body
        };
        let mut asks = vec![
            call(&format!("POST {ORGANIZATIONS}"), operator, &json!({"username": key})),
            call(&format!("POST {ORGANIZATIONS}"), operator, &json!({"username": "x", "domain": key})),
            call(&format!("POST {OPERATOR_KEYS}"), operator, &json!({"name": format!("the {key}")})),
            call(&format!("POST {OPERATOR_KEYS}"), operator, &json!({"name": "x", "description": key})),
            call(&format!("POST {ORGANIZATIONS}/{key}/suspend"), operator, &Value::Null),
            call(&format!("POST {ORGANIZATIONS}/1/suspend"), operator, &json!({key: key})),
            call(&format!("POST {ORGANIZATION_KEYS}"), owner, &json!({"name": key})),
            call(&format!("PUT {PROJECTS}/{project}/members/{member}"), owner, &json!({"role": key})),
            call(&format!("PUT {PROJECTS}/{project}/members/{key}"), owner, &json!({"role": "admin"})),
            call(&format!("DELETE {PROJECTS}/{project}?confirm={key}"), owner, &Value::Null),
        ];
        for field in [
            "name",
            "locale",
            "timezone",
            "description",
            "website_url",
            "text_help_message",
            "deeplink_mirror_url",
            key,
        ] {
            asks.push(call(&format!("POST {PROJECTS}"), owner, &with(shop.clone(), field)));
            asks.push(call(&format!("PATCH {PROJECTS}/{project}"), owner, &with(json!({}), field)));
        }
        let url = json!({"website_url": format!("https://shop.example/?key={key}")});
        asks.push(call(&format!("PATCH {PROJECTS}/{project}"), owner, &url));
        for filter in ["actor", "action", "target", "since", "until", "cursor"] {
            asks.push(call(&format!("GET /api/admin/audit-events?{filter}={key}"), owner, &Value::Null));
        }
        for ask in asks {
            let reply = self.ask(server, &ask, &[]);
            assert!(reply.starts_with(b"HTTP/1.1 4"), "{ask:?}: {}", String::from_utf8_lossy(&reply));
        }
    }
}
