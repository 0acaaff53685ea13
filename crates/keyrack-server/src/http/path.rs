//! What a route takes from the path.

use std::sync::Arc;

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use keyrack::{OrganizationId, ProjectId};

use super::problem::Problem;
use crate::app::App;

/// The numbers of a path, in order. Whatever is not a plain number becomes 0, which nothing has: it goes the way of an id
/// that does not exist, and cannot be told from one.
pub(super) struct Ids<const N: usize>(pub(super) [i64; N]);

impl<const N: usize> FromRequestParts<Arc<App>> for Ids<N> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let values = RawPathParams::from_request_parts(parts, app).await.map_err(|_not_utf_8| Problem::missing())?;
        let mut numbers = values.iter().map(|(_, value)| plain_number(value).unwrap_or(0));
        Ok(Self(std::array::from_fn(|_| numbers.next().unwrap_or(0))))
    }
}

/// The number of a project, or that of none.
pub(super) fn project_id(id: i64) -> ProjectId {
    ProjectId(u32::try_from(id).unwrap_or(0))
}

/// The number of an organization, or that of none.
pub(super) fn organization_id(id: i64) -> OrganizationId {
    OrganizationId(u32::try_from(id).unwrap_or(0))
}

/// The last value that the route takes from the path.
pub(super) struct Last(pub(super) String);

impl FromRequestParts<Arc<App>> for Last {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let values = RawPathParams::from_request_parts(parts, app).await.map_err(|_not_utf_8| Problem::missing())?;
        values.iter().last().map(|(_, value)| Self(value.to_owned())).ok_or_else(Problem::missing)
    }
}

/// A number in the one way it is written: no sign, no leading zero.
pub(super) fn plain_number(text: &str) -> Option<i64> {
    let number: i64 = text.parse().ok()?;
    (number.to_string() == text && number > 0).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_one_spelling() {
        assert_eq!(plain_number("42"), Some(42));
        for other in ["", "0", "-1", "+1", "01", "1.0", "1e3", " 1", "٣", "9223372036854775808"] {
            assert_eq!(plain_number(other), None, "{other}");
        }
    }
}
