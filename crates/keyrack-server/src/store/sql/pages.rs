//! Pages of lists.

use super::audit::entry_columns;
use super::tenancy::beneath_columns;
use super::usage::last_use_columns;
use super::{Connection, DatabaseError, Row, Statement, Table};
use crate::listing::{Anchor, AuditFilter, List, Listing, Sort, SortValue, fold};
use crate::stored_key::StoredKey;
use crate::tenancy::{Member, Organization, Project};

/// What differs between lists: where the rows come from, and what they are sorted and searched by.
struct Source {
    columns: String,
    from: &'static str,
    id: &'static str,
    sorted_by: &'static str,
    searched: &'static [&'static str],
}

fn source(list: &List, sort: Sort) -> Source {
    let qualified = |table: &str, columns: &str| -> String {
        columns.split(", ").map(|column| format!("{table}.{column}")).collect::<Vec<_>>().join(", ")
    };
    match list {
        List::Keys(_) => Source {
            columns: format!("{}, {}", StoredKey::COLUMNS, last_use_columns!()),
            from: "api_keys LEFT JOIN key_last_use ON key_last_use.key_id = api_keys.id",
            id: "id",
            sorted_by: sort.pick(["created_at", "updated_at", "name_folded", "role", "id"]),
            searched: &["name_folded", "description_folded"],
        },
        // Nobody has a role in an organization here, so by role means by number.
        List::Organizations => Source {
            columns: format!("{}, {}", Organization::COLUMNS, beneath_columns!("organizations.id")),
            from: "organizations",
            id: "id",
            sorted_by: sort.pick(["created_at", "updated_at", "username", "id", "id"]),
            searched: &["username", "domain"],
        },
        // The same for projects: the caller has one role in all of them.
        List::Projects(_) => Source {
            columns: Project::COLUMNS.to_owned(),
            from: "projects",
            id: "id",
            sorted_by: sort.pick(["created_at", "updated_at", "name_folded", "id", "id"]),
            searched: &["name_folded", "description_folded"],
        },
        List::ProjectsOf(_) => Source {
            columns: qualified("projects", Project::COLUMNS),
            from: "projects JOIN members ON members.project_id = projects.id",
            id: "projects.id",
            sorted_by: sort.pick([
                "projects.created_at",
                "projects.updated_at",
                "projects.name_folded",
                "members.role",
                "projects.id",
            ]),
            searched: &["projects.name_folded", "projects.description_folded"],
        },
        List::Members(_) => Source {
            columns: format!(
                "{}, api_keys.name AS key_name, api_keys.mask AS key_mask",
                qualified("members", Member::COLUMNS)
            ),
            from: "members JOIN api_keys ON api_keys.id = members.key_id",
            id: "members.id",
            sorted_by: sort.pick([
                "members.created_at",
                "members.updated_at",
                "api_keys.name_folded",
                "members.role",
                "members.id",
            ]),
            searched: &["api_keys.name_folded", "api_keys.description_folded"],
        },
        List::Audit(_) => Source {
            columns: concat!(entry_columns!(), ", seq AS id").to_owned(),
            from: "audit_events",
            id: "seq",
            // The log is in the order of its changes, whatever the clock did meanwhile.
            sorted_by: "seq",
            searched: &[],
        },
    }
}

/// Hands `each` the rows of a listing and one more until it has enough, nearest to the anchor first: in the listing's own order when paging forward,
/// reversed when paging back.
pub(in crate::store) async fn page(
    on: &mut Connection,
    list: &List,
    listing: &Listing,
    mut each: impl FnMut(&Row) -> Result<bool, DatabaseError> + Send,
) -> Result<(), DatabaseError> {
    let Source { columns, from, id, sorted_by, searched } = source(list, listing.sort);
    let mut query = Statement::new("SELECT ");
    query.push(columns).push(", ").push(sorted_by).push(" AS sorted_by FROM ").push(from).push(" WHERE ");
    push_list(&mut query, list);
    if !listing.q.is_empty() && !searched.is_empty() {
        let pattern = pattern(&listing.q);
        query.push(" AND (");
        for (at, column) in searched.iter().enumerate() {
            query.push(if at == 0 { "" } else { " OR " }).push(column).push(" LIKE ").push_bind(pattern.clone());
            query.push(" ESCAPE '\\'");
        }
        query.push(")");
    }
    let (direction, beyond) = if listing.is_ascending_from_anchor() { (" ASC", " > (") } else { (" DESC", " < (") };
    if let Some(anchor) = &listing.anchor {
        query.push(" AND (").push(sorted_by).push(", ").push(id).push(")").push(beyond);
        match &anchor.value {
            SortValue::Number(value) => query.push_bind(*value),
            SortValue::Text(value) => query.push_bind(value.clone()),
        };
        query.push(", ").push_bind(anchor.id).push(")");
    }
    query.push(" ORDER BY ").push(sorted_by).push(direction).push(", ").push(id).push(direction);
    query.push(" LIMIT ").push_bind(listing.rows_to_show as i64 + 1);
    query.for_each(on, |row| each(&row)).await
}

fn push_list(query: &mut Statement<'_>, list: &List) {
    match list {
        List::Keys(place) => {
            let (condition, number) = place.condition();
            // Every condition has its number in one place.
            let (before, after) = condition.split_once("$1").unwrap_or((condition, ""));
            query.push(before).push_bind(number).push(after).push(" AND revoked_at IS NULL");
        }
        List::Organizations => {
            query.push("archived_at IS NULL");
        }
        List::Projects(organization) => {
            query.push("organization_id = ").push_bind(i64::from(organization.0)).push(" AND archived_at IS NULL");
        }
        List::ProjectsOf(key) => {
            query.push("members.key_id = ").push_bind(key.0);
            query.push(" AND members.taken_at IS NULL AND projects.archived_at IS NULL");
        }
        List::Members(project) => {
            query.push("members.project_id = ").push_bind(i64::from(project.0));
            query.push(" AND members.taken_at IS NULL AND api_keys.revoked_at IS NULL");
        }
        List::Audit(filter) => push_audit(query, filter),
    }
}

fn push_audit(query: &mut Statement<'_>, filter: &AuditFilter) {
    query.push("1 = 1");
    let mut narrow = |column: &str, value: Option<i64>| {
        if let Some(value) = value {
            query.push(" AND ").push(column).push_bind(value);
        }
    };
    narrow("organization_id = ", filter.tenant.organization);
    narrow("project_id = ", filter.tenant.project);
    narrow("actor_id = ", filter.actor.and_then(|(_, id)| id));
    narrow("target_id = ", filter.target.and_then(|(_, id)| id));
    narrow("at >= ", filter.since.map(|at| at.0));
    narrow("at < ", filter.until.map(|at| at.0));
    if let Some((kind, _)) = filter.actor {
        query.push(" AND actor_kind = ").push_bind(kind.as_str());
    }
    if let Some((kind, _)) = filter.target {
        query.push(" AND target_kind = ").push_bind(kind.as_str());
    }
    if let Some(action) = &filter.action {
        query.push(" AND action = ").push_bind(action.clone());
    }
}

/// Name and mask of the key of a row of a list of members.
pub(in crate::store) fn key_of_member(row: &Row) -> Result<(String, String), DatabaseError> {
    Ok((row.try_get("key_name")?, row.try_get("key_mask")?))
}

/// The place of a row of [`page`] in its list.
pub(in crate::store) fn anchor_of(row: &Row, list: &List, listing: &Listing) -> Result<Anchor, DatabaseError> {
    let is_text = listing.sort == Sort::Name && !matches!(list, List::Audit(_));
    let value =
        if is_text { SortValue::Text(row.try_get("sorted_by")?) } else { SortValue::Number(row.try_get("sorted_by")?) };
    Ok(Anchor { value, id: row.try_get("id")? })
}

fn pattern(q: &str) -> String {
    let escaped = fold(q).replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    format!("%{escaped}%")
}
