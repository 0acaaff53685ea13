//! Short ways to use the three management surfaces, for tests of what they do.

use keyrack::{Denial, Requirement, VerifyError};
use serde_json::{Value, json};

use crate::app::{Reply, TestApp};

/// A method and a path.
pub(crate) type Route<'r> = (&'r str, &'r str);

/// What a key is good for at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Alive,
    Suspended,
    Dead,
}

impl TestApp {
    /// An owner of the first organization.
    pub(crate) fn owner(&self) -> &str {
        self.first_keys.organization.expose()
    }

    /// The operator.
    pub(crate) fn operator(&self) -> &str {
        self.first_keys.operator.expose()
    }

    /// Sends a request with a key.
    pub(crate) async fn ask(&self, key: &str, route: Route<'_>, body: Option<Value>) -> Reply {
        self.call_with(key, route, body, &[]).await
    }

    /// What is answered to a request that succeeds.
    pub(crate) async fn does(&self, key: &str, route: Route<'_>, body: Option<Value>) -> Value {
        let reply = self.ask(key, route, body).await;
        assert_eq!(reply.status, 200, "{route:?}: {}", reply.text);
        reply.json()
    }

    /// Status and code of the answer to a request that does not, and its message.
    pub(crate) async fn refusal(&self, key: &str, route: Route<'_>, body: Option<Value>) -> (u16, String, String) {
        let reply = self.ask(key, route, body).await;
        assert_eq!(reply.headers["content-type"], "application/problem+json", "{route:?}: {}", reply.text);
        let json = reply.json();
        let text = |field: &str| json[field].as_str().unwrap().to_owned();
        (reply.status, text("code"), text("message"))
    }

    /// Status and code alone.
    pub(crate) async fn code(&self, key: &str, route: Route<'_>, body: Option<Value>) -> (u16, String) {
        let (status, code, _) = self.refusal(key, route, body).await;
        (status, code)
    }

    /// Makes a project and gives its number.
    pub(crate) async fn project(&self, owner: &str, name: &str) -> i64 {
        let body = json!({"name": name, "locale": "en", "timezone": "UTC"});
        self.does(owner, ("POST", "/api/admin/projects"), Some(body)).await["id"].as_i64().unwrap()
    }

    /// Makes a key and gives its id and its value.
    pub(crate) async fn made(&self, key: &str, path: &str, body: Value) -> (i64, String) {
        let made = self.does(key, ("POST", path), Some(body)).await;
        (made["id"].as_i64().unwrap(), made["value"].as_str().unwrap().to_owned())
    }

    /// Makes a key of the first organization that was given the first project, and gives its id and its value.
    pub(crate) async fn member_as(&self, role: &str) -> (i64, String) {
        let (id, value) = self.organization_key("member").await;
        let path = format!("/api/admin/projects/1/members/{id}");
        self.does(self.owner(), ("PUT", &path), Some(json!({"role": role}))).await;
        (id, value)
    }

    /// How many entries the audit log has; its chain must hold.
    pub(crate) async fn entries(&self) -> i64 {
        let report = self.app.store.verify_audit().await.unwrap();
        assert_eq!(report.faults, Vec::<String>::new());
        report.entries
    }

    /// What a key is good for: asked at its own door, and of the verifier why if it does not pass.
    pub(crate) async fn fate(&self, value: &str) -> Fate {
        let path = match value.split_once('_').unwrap().0 {
            "ok" => "/api/admin/organizations/me",
            "op" => "/api/operator/operator-keys",
            _ => "/api/client/me",
        };
        let status = self.ask(value, ("GET", path), None).await.status;
        // A kind of key that passes there and nowhere else: every other one is told why not.
        let elsewhere = if value.starts_with("op_") {
            Requirement::Project { least: keyrack::ProjectRole::Support }
        } else {
            Requirement::Operator
        };
        let fate = match self.app.verifier.verify(value.as_bytes(), elsewhere) {
            Err(VerifyError::Denied { denial: Denial::WrongSurface, .. }) => Fate::Alive,
            Err(VerifyError::Denied { denial: Denial::Suspended, .. }) => Fate::Suspended,
            Err(VerifyError::Denied { denial: Denial::Revoked | Denial::Unknown, .. }) => Fate::Dead,
            other => panic!("{other:?}"),
        };
        // No route of these surfaces is open to publishable keys.
        let passes = fate == Fate::Alive && !value.starts_with("pk_");
        assert_eq!(status, if passes { 200 } else { 401 }, "{fate:?}");
        fate
    }
}

/// The numbers of a page, in its order.
pub(crate) fn ids(page: &Value) -> Vec<i64> {
    page["results"].as_array().unwrap().iter().map(|item| item["id"].as_i64().unwrap()).collect()
}

/// The faults of a refused body: where and what.
pub(crate) fn faults(reply: &Reply) -> Vec<(String, String)> {
    let text = |fault: &Value, field: &str| fault[field].as_str().unwrap().to_owned();
    let json = reply.json();
    json["errors"].as_array().unwrap().iter().map(|fault| (text(fault, "param"), text(fault, "code"))).collect()
}
