//! Which rows of a list are asked for, and where a page begins and ends (contract section 6).

use keyrack::{KeyId, OrganizationId, ProjectId};
use serde::{Deserialize, Serialize};

use crate::actor::ActorKind;
use crate::canonical::Canonical;
use crate::clock::Timestamp;
use crate::kept::{Kind, Tenant};
use crate::place::Place;
use crate::root_key::MacKey;

/// Rows to a page where nothing is asked for.
pub const DEFAULT_LIMIT: i64 = 25;
/// Most rows to a page.
pub const MOST_ROWS: i64 = 100;
/// Most rows that `limit=-1` gives at once.
pub const MOST_ROWS_OF_ALL: usize = 10_000;
/// The `limit` that asks for all.
pub const ALL: i64 = -1;

/// Which list. Whose it is belongs to it, so that no query reaches further than its caller may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum List {
    /// The live keys of a place.
    Keys(Place),
    /// Every organization.
    Organizations,
    /// The projects of an organization.
    Projects(OrganizationId),
    /// The projects that a `member` key was given.
    ProjectsOf(KeyId),
    /// Who was given a project.
    Members(ProjectId),
    /// The audit log.
    Audit(AuditFilter),
}

/// Which entries of the audit log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Whose; everybody's if empty.
    pub tenant: Tenant,
    /// By whom: a kind of credential, or one of them.
    pub actor: Option<(ActorKind, Option<i64>)>,
    /// What was done.
    pub action: Option<String>,
    /// To what: a kind of thing, or one of them.
    pub target: Option<(Kind, Option<i64>)>,
    /// Not before.
    pub since: Option<Timestamp>,
    /// Before.
    pub until: Option<Timestamp>,
}

impl List {
    /// What sets this list apart from every other.
    fn canonical(&self) -> Canonical {
        match self {
            Self::Keys(place) => place.canonical(),
            Self::Organizations => Canonical::new("organizations"),
            Self::Projects(organization) => Canonical::new("projects").int(organization.0.into()),
            Self::ProjectsOf(key) => Canonical::new("projects of").int(key.0),
            Self::Members(project) => Canonical::new("members").int(project.0.into()),
            Self::Audit(filter) => Canonical::new("audit")
                .maybe_int(filter.tenant.organization)
                .maybe_int(filter.tenant.project)
                .maybe_text(filter.actor.map(|(kind, _)| kind.as_str()))
                .maybe_int(filter.actor.and_then(|(_, id)| id))
                .maybe_text(filter.action.as_deref())
                .maybe_text(filter.target.map(|(kind, _)| kind.as_str()))
                .maybe_int(filter.target.and_then(|(_, id)| id))
                .maybe_int(filter.since.map(|at| at.0))
                .maybe_int(filter.until.map(|at| at.0)),
        }
    }
}

/// What rows are sorted by; rows that are equal in it are sorted by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// When it was made.
    CreatedAt,
    /// When it was last changed.
    UpdatedAt,
    /// Its name, in any case.
    Name,
    /// Its role, by position.
    Role,
    /// Its number.
    Id,
}

impl Sort {
    /// Every column that can be sorted by, with its word on the wire.
    pub const ALL: [(&'static str, Self); 5] = [
        ("created_at", Self::CreatedAt),
        ("updated_at", Self::UpdatedAt),
        ("name", Self::Name),
        ("role", Self::Role),
        ("id", Self::Id),
    ];
}

impl Sort {
    /// What stands for it in a list of what stands for each, in the order of [`Sort::ALL`].
    pub const fn pick<T: Copy>(self, [created_at, updated_at, name, role, id]: [T; 5]) -> T {
        match self {
            Self::CreatedAt => created_at,
            Self::UpdatedAt => updated_at,
            Self::Name => name,
            Self::Role => role,
            Self::Id => id,
        }
    }
}

/// Which way rows are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Lowest first.
    Asc,
    /// Highest first.
    Desc,
}

impl Direction {
    /// Both directions, with their words on the wire.
    pub const ALL: [(&'static str, Self); 2] = [("asc", Self::Asc), ("desc", Self::Desc)];
}

/// Which side of the cursor is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// What comes after it.
    Next,
    /// What comes before it.
    Prev,
}

impl Page {
    /// Both sides, with their words on the wire.
    pub const ALL: [(&'static str, Self); 2] = [("next", Self::Next), ("prev", Self::Prev)];
}

/// The value a row is sorted by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SortValue {
    /// A time, a position or a number.
    Number(i64),
    /// Text in the form it is sorted in.
    Text(String),
}

/// The place of a row in a list. It stays a place when the row is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// What the row is sorted by.
    pub value: SortValue,
    /// The row's id.
    pub id: i64,
}

/// One page of a list, as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The column.
    pub sort: Sort,
    /// The direction.
    pub direction: Direction,
    /// What name or description must contain; empty for all.
    pub q: String,
    /// The row beside the page, if it is not the first.
    pub anchor: Option<Anchor>,
    /// On which side of the anchor the page lies.
    pub page: Page,
    /// How many rows to show at most.
    pub rows_to_show: usize,
}

impl Listing {
    /// Whether rows rise from the anchor outwards.
    pub fn is_ascending_from_anchor(&self) -> bool {
        (self.direction == Direction::Asc) == (self.page == Page::Next)
    }

    /// The place just beyond an anchor, as seen from the page: going back from there, the anchor's own row comes first.
    pub fn beyond(&self, anchor: &Anchor) -> Anchor {
        let step = if self.is_ascending_from_anchor() { 1 } else { -1 };
        Anchor { value: anchor.value.clone(), id: anchor.id.saturating_add(step) }
    }

    /// The same list, on the other side of an anchor, as far as it takes to see whether there is a row.
    #[must_use]
    pub fn other_side(&self, anchor: Anchor) -> Self {
        let page = match self.page {
            Page::Next => Page::Prev,
            Page::Prev => Page::Next,
        };
        Self { anchor: Some(anchor), page, rows_to_show: 1, ..self.clone() }
    }
}

/// The form in which text is searched and sorted, whatever its case.
///
/// Letter by letter: `str::to_lowercase` gives a sigma at the end of a word another form, and a part of a word would no
/// longer be found in it.
pub fn fold(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).map(|letter| if letter == 'ς' { 'σ' } else { letter }).collect()
}

/// Makes and reads cursors: an anchor, bound by a MAC to list, sort, direction and `q`.
pub struct Cursors(MacKey);

const CURSOR_MAC_BYTES: usize = 16;

impl Cursors {
    /// Cursors under a key of their own.
    pub const fn new(key: MacKey) -> Self {
        Self(key)
    }

    /// The cursor for a place in a list.
    pub fn write(&self, list: &List, listing: &Listing, anchor: &Anchor) -> String {
        let payload = serde_json::to_vec(anchor).expect("an anchor is plain data");
        let tag = self.0.tag(&bound(list, listing, &payload));
        let (mac, _) = tag.split_at(CURSOR_MAC_BYTES);
        data_encoding::BASE64URL_NOPAD.encode(&[mac, &payload].concat())
    }

    /// The place that a cursor of this very list names; `None` for anything else.
    pub fn read(&self, list: &List, listing: &Listing, cursor: &str) -> Option<Anchor> {
        let bytes = data_encoding::BASE64URL_NOPAD.decode(cursor.as_bytes()).ok()?;
        let (mac, payload) = bytes.split_at_checked(CURSOR_MAC_BYTES)?;
        let anchor = serde_json::from_slice(payload).ok()?;
        self.0.fits_truncated(&bound(list, listing, payload), mac).then_some(anchor)
    }
}

fn bound(list: &List, listing: &Listing, payload: &[u8]) -> Canonical {
    Canonical::new("cursor")
        .bytes(list.canonical().as_bytes())
        .int(listing.sort as i64)
        .int(listing.direction as i64)
        .text(&listing.q)
        .bytes(payload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root_key::RootKey;

    fn keys(project: u32) -> List {
        List::Keys(Place::Project(ProjectId(project)))
    }

    fn listing(sort: Sort, direction: Direction, q: &str) -> Listing {
        Listing { sort, direction, q: q.into(), anchor: None, page: Page::Next, rows_to_show: 25 }
    }

    #[test]
    fn a_cursor_opens_its_own_list_only() {
        let dir = tempfile::tempdir().unwrap();
        let root = RootKey::create(&dir.path().join("root.key"), &crate::random::OsRandom).unwrap();
        let cursors = Cursors::new(root.derive("test"));
        let own = listing(Sort::Name, Direction::Asc, "ci");
        let anchor = Anchor { value: SortValue::Text("ci bot".into()), id: 9 };
        let cursor = cursors.write(&keys(1), &own, &anchor);
        assert_eq!(cursors.read(&keys(1), &own, &cursor), Some(anchor));

        let system = List::Keys(Place::System(ProjectId(1)));
        for list in
            [keys(2), system, List::Projects(OrganizationId(1)), List::Members(ProjectId(1)), List::Organizations]
        {
            assert_eq!(cursors.read(&list, &own, &cursor), None, "{list:?}");
        }
        for other in [
            listing(Sort::Role, Direction::Asc, "ci"),
            listing(Sort::Name, Direction::Desc, "ci"),
            listing(Sort::Name, Direction::Asc, ""),
        ] {
            assert_eq!(cursors.read(&keys(1), &other, &cursor), None);
        }
        for broken in ["", "A", "nonsense", &cursor[1..], &cursor[..cursor.len() - 2], &format!("{cursor}AA")] {
            assert_eq!(cursors.read(&keys(1), &own, broken), None, "{broken}");
        }
    }

    #[test]
    fn a_cursor_of_the_audit_log_is_of_one_tenant_and_one_filter() {
        let dir = tempfile::tempdir().unwrap();
        let root = RootKey::create(&dir.path().join("root.key"), &crate::random::OsRandom).unwrap();
        let cursors = Cursors::new(root.derive("test"));
        let own = AuditFilter {
            tenant: Tenant { organization: Some(1), project: Some(2) },
            action: Some("key.create".into()),
            ..AuditFilter::default()
        };
        let anchor = Anchor { value: SortValue::Number(9), id: 9 };
        let listing = listing(Sort::Id, Direction::Asc, "");
        let cursor = cursors.write(&List::Audit(own.clone()), &listing, &anchor);
        assert_eq!(cursors.read(&List::Audit(own.clone()), &listing, &cursor), Some(anchor));
        for other in [
            AuditFilter { tenant: Tenant { organization: Some(1), project: Some(3) }, ..own.clone() },
            AuditFilter { tenant: Tenant::default(), ..own.clone() },
            AuditFilter { actor: Some((ActorKind::Host, None)), ..own.clone() },
            AuditFilter { target: Some((Kind::Key, Some(1))), ..own.clone() },
            AuditFilter { since: Some(Timestamp(1)), ..own.clone() },
            AuditFilter { until: Some(Timestamp(1)), ..own.clone() },
            AuditFilter { action: None, ..own },
        ] {
            assert_eq!(cursors.read(&List::Audit(other.clone()), &listing, &cursor), None, "{other:?}");
        }
    }
}
