//! Whom keys are kept for: organizations, their projects, and which projects a `member` key was given.

mod member;
mod organization;
mod project;

pub use self::member::Member;
pub use self::organization::{Organization, Standing};
pub use self::project::{Project, ProjectFields};
