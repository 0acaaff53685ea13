//! Which part of a list is asked for, in which order, and how that is written as a query.

use clap::Args;

/// Rows to a page when every page is wanted: the most there are.
const MOST_ROWS: u8 = 100;

/// Which part of a list is wanted.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Paging {
    /// Most rows to a page, 1 to 100 [default: 25]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=100))]
    limit: Option<u8>,
    /// Follow every page
    #[arg(long, conflicts_with_all = ["limit", "cursor"])]
    all: bool,
    /// Begin where the page before ended: at its `nextCursor`
    // It may begin with `-`.
    #[arg(long, allow_hyphen_values = true)]
    cursor: Option<String>,
}

/// What a list of keys or projects takes.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    paging: Paging,
    /// What it is sorted by [default: created_at]
    #[arg(long, value_name = "FIELD", value_parser = ["created_at", "updated_at", "name", "role", "id"])]
    sort: Option<String>,
    /// Lowest or highest first [default: desc]
    #[arg(long, value_parser = ["asc", "desc"])]
    direction: Option<String>,
    /// Only what has this in its name or description, in any letter case
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
}

impl ListArgs {
    /// The query that asks for it.
    pub(super) fn query(&self) -> Query<'_> {
        Query::of(&self.paging)
            .with("sort", self.sort.as_deref())
            .with("direction", self.direction.as_deref())
            .with("q", self.search.as_deref())
    }
}

/// A list's query: which part, and by what it is narrowed.
#[derive(Clone, Debug)]
pub(super) struct Query<'a> {
    paging: &'a Paging,
    given: Vec<(&'static str, &'a str)>,
}

impl<'a> Query<'a> {
    /// Which part, narrowed by nothing.
    pub(super) const fn of(paging: &'a Paging) -> Self {
        Self { paging, given: Vec::new() }
    }

    /// Narrows it, if there is something to narrow it by.
    #[must_use]
    pub(super) fn with(mut self, name: &'static str, value: Option<&'a str>) -> Self {
        self.given.extend(value.map(|value| (name, value)));
        self
    }

    /// Whether every page is wanted.
    pub(super) const fn wants_all(&self) -> bool {
        self.paging.all
    }

    /// Where the first page begins, if not at the top.
    pub(super) fn cursor(&self) -> Option<String> {
        self.paging.cursor.clone()
    }

    /// The path of the page that begins at a cursor.
    pub(super) fn page_of(&self, path: &str, cursor: Option<&str>) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(&self.given);
        if let Some(limit) = self.paging.all.then_some(MOST_ROWS).or(self.paging.limit) {
            query.append_pair("limit", &limit.to_string());
        }
        if let Some(cursor) = cursor {
            query.append_pair("cursor", cursor);
        }
        let query = query.finish();
        if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_stands_in_the_query_and_nothing_else() {
        let mut list = ListArgs::default();
        assert_eq!(list.query().page_of("/keys", None), "/keys");
        list.search = Some("a&b=ü c".into());
        list.sort = Some("name".into());
        list.paging.limit = Some(7);
        assert_eq!(
            list.query().page_of("/keys", Some("x+/=")),
            "/keys?sort=name&q=a%26b%3D%C3%BC+c&limit=7&cursor=x%2B%2F%3D"
        );
        list.paging = Paging { all: true, ..Paging::default() };
        assert_eq!(list.query().page_of("/keys", None), "/keys?sort=name&q=a%26b%3D%C3%BC+c&limit=100");
    }

    #[test]
    fn a_cursor_may_begin_with_a_hyphen() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            paging: Paging,
        }
        let line = <Line as clap::Parser>::try_parse_from(["list", "--cursor", "-zQ"]).unwrap();
        assert_eq!(line.paging.cursor.as_deref(), Some("-zQ"));
    }
}
