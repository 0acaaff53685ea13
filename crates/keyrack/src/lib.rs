//! What an API key is, and whether it may pass.
//!
//! This is the library half of Keyrack. It knows no HTTP server, no SQL, no environment and no clock: a service hands it
//! the keys it has and the bytes a caller presented, and gets back a [`VerifiedKey`], a [`Denial`], or [`Unavailable`].
//! There is no fourth thing, and "cannot tell" can never be mistaken for either of the others.
//!
//! ```
//! use keyrack::{
//!     ApiKey, Holder, Index, KeyChange, KeyDigest, KeyId, KeyKind, KeyRecord, OrganizationId, ProjectId, ProjectRole,
//!     Requirement, Scope, Verifier, VerifyError,
//! };
//!
//! // Issue a key. The bytes must come from the operating system's generator.
//! # let random = [7_u8; ApiKey::RANDOM_BYTES];
//! let key = ApiKey::generate(KeyKind::Secret, &random);
//! let digest = KeyDigest::of(&key);
//!
//! // Hold it, by digest only.
//! let index = Index::with_capacity(1_000);
//! let holder = Holder::Project {
//!     project: ProjectId(1),
//!     organization: OrganizationId(1),
//!     kind: KeyKind::Secret,
//!     scope: Scope::Secret,
//!     role: ProjectRole::Editor,
//! };
//! let record = KeyRecord::new(KeyId(4), 1, holder);
//! index.apply(&digest, &KeyChange::Put(record))?;
//! index.mark_loaded();
//!
//! // Verify what a caller presents.
//! let verifier = Verifier::new(index);
//! let needs_editor = Requirement::Project { least: ProjectRole::Editor };
//! let verified = verifier.verify(key.expose().as_bytes(), needs_editor)?;
//! assert_eq!(verified.id(), KeyId(4));
//!
//! // Revoke it: dead from the moment `apply` returns, for ever.
//! verifier.index().apply(&digest, &KeyChange::Revoke { id: KeyId(4) })?;
//! assert!(matches!(verifier.verify(key.expose().as_bytes(), needs_editor), Err(VerifyError::Denied { .. })));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bearer;
mod decision;
mod digest;
#[cfg(feature = "serde")]
pub mod feed;
mod in_force;
mod index;
mod key;
#[cfg(feature = "tower")]
pub mod layer;
mod limit;
mod policies;
pub mod policy;
mod record;
#[cfg(feature = "remote")]
pub mod remote;
#[cfg(any(feature = "remote", feature = "tower"))]
mod system_clock;
mod verifier;

pub use bearer::{NoBearer, bearer, is_method_override};
pub use decision::{Code, Denial, Requirement, VerifiedKey, decide};
pub use digest::KeyDigest;
pub use index::{ApplyError, Index, KeyChange, Lease, Living, Lookup, QuotaCount, Uses};
pub use key::{ApiKey, KeyKind, MaskedKey, NotAKey};
pub use limit::{BadLimit, Limit, LimitPlan, LimitState, MOST_LIMITS, MOST_OWN_LIMITS, Now, Period, Window};
pub use policies::PolicySet;
pub use record::{
    Holder, KeyId, KeyRecord, OrganizationId, OrganizationRole, Permissions, PolicyVersion, ProjectId, ProjectRole,
    Scope, UnknownWord,
};
#[cfg(any(feature = "remote", feature = "tower"))]
pub use system_clock::system_clock;
pub use verifier::{About, Ask, AskedRequest, Details, Unavailable, Verdict, Verifier, VerifyError};
