//! A policy as it is kept.

use std::sync::Arc;

use keyrack::PolicyVersion;
use keyrack::policy::Document;
use serde::Serialize;

use crate::canonical::Canonical;
use crate::kept::{History, Kept, Kind, Tenant};

/// A document that was applied. It never changes: the next one has a version of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppliedPolicy {
    /// Its number, from 1; 0 is the built-in policy, which is not kept.
    pub version: PolicyVersion,
    /// What was applied.
    pub document: Arc<Document>,
    /// Who applied it and when; nothing of the built-in policy.
    pub history: Option<History>,
}

impl AppliedPolicy {
    /// The built-in policy.
    pub fn builtin() -> Self {
        Self { version: PolicyVersion(0), document: Arc::new(Document::builtin()), history: None }
    }

    /// The document in the one form that is kept.
    pub fn document_column(&self) -> String {
        serde_json::to_string(&*self.document).expect("a document is plain data")
    }

    /// The document of a column, if it is one.
    pub fn document_of(column: &str) -> Option<Arc<Document>> {
        let document: Document = serde_json::from_str(column).ok()?;
        (serde_json::to_string(&document).ok()? == column).then(|| Arc::new(document))
    }
}

impl Kept for AppliedPolicy {
    const KIND: Kind = Kind::Policy;

    fn id(&self) -> i64 {
        self.version.0.into()
    }

    fn version(&self) -> u32 {
        1
    }

    fn tenant(&self) -> Tenant {
        Tenant::default()
    }

    /// Keys may be frozen at any version, so each is in use for ever.
    fn is_live(&self) -> bool {
        true
    }

    fn canonical(&self) -> Canonical {
        let canonical = Canonical::new("policy row").int(self.id()).text(&self.document_column()).int(1);
        self.history.iter().fold(canonical, |canonical, history| history.added_to(canonical))
    }

    fn describe(&self) -> String {
        let described = Described { version: self.version.0, document: &self.document };
        serde_json::to_string(&described).expect("a document is plain data")
    }
}

#[derive(Serialize)]
struct Described<'a> {
    version: u32,
    #[serde(flatten)]
    document: &'a Document,
}
