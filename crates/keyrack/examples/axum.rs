//! An API that verifies keys in its own process: `cargo run -p keyrack --features axum,serde --example axum`.
//!
//! Here the keys are made at the start. A real service fills the index from wherever it keeps the digests of its keys.
#![expect(clippy::print_stdout, reason = "it says how to try it")]

use std::error::Error;
use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use keyrack::layer::KeyrackLayer;
use keyrack::policy::{Document, Policies};
use keyrack::{
    ApiKey, Holder, Index, KeyChange, KeyDigest, KeyId, KeyKind, KeyRecord, Limit, LimitPlan, OrganizationId, Period,
    PolicyVersion, ProjectId, ProjectRole, Scope, VerifiedKey, Verifier,
};

/// Browsers may send events. Whoever looks at users needs a secret key.
const POLICY: &str = r#"
    [[policies]]
    name = "default"
    read = "support"
    write = "editor"

    [[policies.rules]]
    methods = ["POST"]
    path = "/events"
    role = "support"
    public = true
"#;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let Opened { api, publishable, secret } = open()?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    for (name, key) in [("the publishable key", &publishable), ("the secret key", &secret)] {
        println!("# {name}");
        for request in ["-X POST", ""] {
            let path = if request.is_empty() { "users/7" } else { "events" };
            println!("curl -i {request} -H 'Authorization: Bearer {}' http://{address}/{path}", key.expose());
        }
    }
    Ok(axum::serve(listener, api).await?)
}

/// The API behind the layer, and two keys for it.
pub(crate) struct Opened {
    pub(crate) api: Router,
    pub(crate) publishable: ApiKey,
    pub(crate) secret: ApiKey,
}

/// Makes the keys and the API.
pub(crate) fn open() -> Result<Opened, Box<dyn Error>> {
    let verifier = Arc::new(Verifier::new(Index::with_capacity(1_000)));
    let document: Document = toml::from_str(POLICY)?;
    let policies = Policies::compile(&document).map_err(|faults| format!("{faults:?}"))?;
    verifier.set_policies(verifier.policies().followed_by(PolicyVersion(1), policies));
    let publishable = issue(&verifier, 1, KeyKind::Publishable, Scope::Public, ProjectRole::Support)?;
    let secret = issue(&verifier, 2, KeyKind::Secret, Scope::Secret, ProjectRole::Editor)?;
    verifier.index().mark_loaded();

    let api = Router::new()
        .route("/events", post(|| async { "taken\n" }))
        .route("/users/{id}", get(|key: VerifiedKey| async move { format!("seen by key {}\n", key.id()) }))
        .layer(KeyrackLayer::new(verifier));
    Ok(Opened { api, publishable, secret })
}

/// Makes a key of project 1 that may be used a hundred times a minute, and holds its digest.
fn issue(
    verifier: &Verifier,
    id: i64,
    kind: KeyKind,
    scope: Scope,
    role: ProjectRole,
) -> Result<ApiKey, Box<dyn Error>> {
    let mut random = [0; ApiKey::RANDOM_BYTES];
    #[expect(clippy::disallowed_methods, reason = "a program of its own: there is no other place")]
    getrandom::fill(&mut random)?;
    let key = ApiKey::generate(kind, &random);
    let holder = Holder::Project { project: ProjectId(1), organization: OrganizationId(1), kind, scope, role };
    let record = KeyRecord {
        reach: PolicyVersion(1),
        limits: LimitPlan::new([Limit::new("requests", 100, Period::Seconds(60), None)?]),
        ..KeyRecord::new(KeyId(id), 1, holder)
    };
    verifier.index().apply(&KeyDigest::of(&key), &KeyChange::Put(record))?;
    Ok(key)
}
