//! What many calls have in common, as the OpenAPI document describes it.

use std::collections::BTreeMap;

use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoParams, IntoResponses};

/// The header that makes a change safe to repeat.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "describes a header in the OpenAPI document; `changing::Asked` reads it")]
pub(super) struct OnceHeader {
    /// 1 to 255 printable ASCII characters.
    #[param(rename = "Idempotency-Key", min_length = 1, max_length = 255, pattern = "^[ -~]+$", nullable = false)]
    idempotency_key: Option<String>,
}

/// The query of a list.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes a query in the OpenAPI document; `query::list` reads it")]
pub(super) struct ListParams {
    /// `nextCursor` or `prevCursor` of a reply with the same sort, direction and q.
    cursor: Option<String>,
    /// `next` (the default) or `prev`: which side of the cursor.
    #[param(pattern = "^(next|prev)$")]
    page: Option<String>,
    /// 1 to 100, 25 by default; -1 for all, up to 10,000.
    #[param(minimum = -1, maximum = 100)]
    limit: Option<i64>,
    /// `created_at` (the default), `updated_at`, `name`, `role` or `id`.
    #[param(pattern = "^(created_at|updated_at|name|role|id)$")]
    sort: Option<String>,
    /// `desc` (the default) or `asc`.
    #[param(pattern = "^(asc|desc)$")]
    direction: Option<String>,
    /// What name or description must contain, in any case.
    #[param(max_length = 100)]
    q: Option<String>,
}

/// The query of an audit log.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes a query in the OpenAPI document; `query::audit` reads it")]
pub(super) struct AuditParams {
    /// `nextCursor` or `prevCursor` of a reply with the same sort, direction and filters.
    cursor: Option<String>,
    /// `next` (the default) or `prev`: which side of the cursor.
    #[param(pattern = "^(next|prev)$")]
    page: Option<String>,
    /// 1 to 100, 25 by default; -1 for all, up to 10,000.
    #[param(minimum = -1, maximum = 100)]
    limit: Option<i64>,
    /// `created_at` (the default) or `id`: both are the order of the log.
    #[param(pattern = "^(created_at|id)$")]
    sort: Option<String>,
    /// `desc` (the default) or `asc`.
    #[param(pattern = "^(asc|desc)$")]
    direction: Option<String>,
    /// By whom: `secret_key`, `organization_key`, `operator_key` or `host`, or one of them, such as `secret_key:3`.
    #[param(pattern = "^(host|secret_key|organization_key|operator_key)(:[1-9][0-9]*)?$")]
    actor: Option<String>,
    /// What was done, such as `key.create`.
    #[param(pattern = "^[a-z._]+$", max_length = 64)]
    action: Option<String>,
    /// To what: `key`, `organization`, `project`, `member` or `policy`, or one of them, such as `key:4`.
    #[param(pattern = "^(key|organization|project|member|policy)(:[1-9][0-9]*)?$")]
    target: Option<String>,
    /// Not before this time.
    #[param(format = DateTime)]
    since: Option<String>,
    /// Before this time.
    #[param(format = DateTime)]
    until: Option<String>,
}

/// Which time a usage is asked for. It is widened to whole steps.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes a query in the OpenAPI document; `query::usage` reads it")]
pub(super) struct UsageParams {
    /// From this time; 24 hours before `to` if left out. At most 400 days before it.
    #[param(format = DateTime)]
    from: Option<String>,
    /// Up to this time; now if left out.
    #[param(format = DateTime)]
    to: Option<String>,
    /// `hour` (the default), `day` or `month`, of UTC.
    #[param(pattern = "^(hour|day|month)$")]
    step: Option<String>,
}

/// Replies that any call may give instead of what was asked for.
pub(super) struct Refused;

impl IntoResponses for Refused {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let problem = |description| {
            let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("ProblemDocument"))).build();
            let response = ResponseBuilder::new().description(description);
            RefOr::T(response.content(super::problem::MEDIA_TYPE, content).build())
        };
        BTreeMap::from([
            ("4XX".to_owned(), problem("Refused; `message` says what to do")),
            ("5XX".to_owned(), problem("Not done; 503 says when to try again")),
        ])
    }
}
