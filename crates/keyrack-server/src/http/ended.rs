//! What a call that ends something answers with, besides the thing itself.

use serde::Serialize;
use utoipa::ToSchema;

/// Something that ended, and how far that has reached.
#[derive(Serialize, ToSchema)]
pub(super) struct Ended<T> {
    #[serde(flatten)]
    what: T,
    /// `all`: on every node.
    #[schema(example = "all")]
    effective: &'static str,
}

impl<T> Ended<T> {
    /// Ended everywhere.
    pub(super) const fn everywhere(what: T) -> Self {
        Self { what, effective: "all" }
    }
}

/// Something that was archived, and how many keys died with it.
#[derive(Serialize, ToSchema)]
pub(super) struct Archived<T> {
    #[serde(flatten)]
    what: T,
    /// How many live keys were revoked.
    #[schema(example = 12)]
    revoked_keys: i64,
}

impl<T> Archived<T> {
    /// Archived, with so many keys.
    pub(super) const fn with(what: T, revoked_keys: i64) -> Self {
        Self { what, revoked_keys }
    }
}
