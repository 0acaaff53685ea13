//! Which rows of a list are asked for, and where a page begins and ends (contract section 6).

use keyrack::ProjectId;
use serde::{Deserialize, Serialize};

use crate::canonical::Canonical;
use crate::root_key::MacKey;

/// Rows to a page where nothing is asked for.
pub const DEFAULT_LIMIT: i64 = 25;
/// Most rows to a page.
pub const MOST_ROWS: i64 = 100;
/// Most rows that `limit=-1` gives at once.
pub const MOST_ROWS_OF_ALL: usize = 10_000;
/// The `limit` that asks for all.
pub const ALL: i64 = -1;

/// What rows are sorted by; rows that are equal in it are sorted by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// When the key was made.
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

/// Makes and reads cursors: an anchor, bound by a MAC to project, sort, direction and `q`.
pub struct Cursors(MacKey);

const CURSOR_MAC_BYTES: usize = 16;

impl Cursors {
    /// Cursors under a key of their own.
    pub const fn new(key: MacKey) -> Self {
        Self(key)
    }

    /// The cursor for a place in a list.
    pub fn write(&self, project: ProjectId, listing: &Listing, anchor: &Anchor) -> String {
        let payload = serde_json::to_vec(anchor).expect("an anchor is plain data");
        let tag = self.0.tag(&bound(project, listing, &payload));
        let (mac, _) = tag.split_at(CURSOR_MAC_BYTES);
        data_encoding::BASE64URL_NOPAD.encode(&[mac, &payload].concat())
    }

    /// The place that a cursor of this very list names; `None` for anything else.
    pub fn read(&self, project: ProjectId, listing: &Listing, cursor: &str) -> Option<Anchor> {
        let bytes = data_encoding::BASE64URL_NOPAD.decode(cursor.as_bytes()).ok()?;
        let (mac, payload) = bytes.split_at_checked(CURSOR_MAC_BYTES)?;
        let anchor = serde_json::from_slice(payload).ok()?;
        self.0.fits_truncated(&bound(project, listing, payload), mac).then_some(anchor)
    }
}

fn bound(project: ProjectId, listing: &Listing, payload: &[u8]) -> Canonical {
    Canonical::new("cursor")
        .int(project.0.into())
        .int(listing.sort as i64)
        .int(listing.direction as i64)
        .text(&listing.q)
        .bytes(payload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root_key::RootKey;

    fn list(sort: Sort, direction: Direction, q: &str) -> Listing {
        Listing { sort, direction, q: q.into(), anchor: None, page: Page::Next, rows_to_show: 25 }
    }

    #[test]
    fn a_cursor_opens_its_own_list_only() {
        let dir = tempfile::tempdir().unwrap();
        let root = RootKey::create(&dir.path().join("root.key"), &crate::random::OsRandom).unwrap();
        let cursors = Cursors::new(root.derive("test"));
        let own = list(Sort::Name, Direction::Asc, "ci");
        let anchor = Anchor { value: SortValue::Text("ci bot".into()), id: 9 };
        let cursor = cursors.write(ProjectId(1), &own, &anchor);
        assert_eq!(cursors.read(ProjectId(1), &own, &cursor), Some(anchor));

        assert_eq!(cursors.read(ProjectId(2), &own, &cursor), None);
        for other in [
            list(Sort::Role, Direction::Asc, "ci"),
            list(Sort::Name, Direction::Desc, "ci"),
            list(Sort::Name, Direction::Asc, ""),
        ] {
            assert_eq!(cursors.read(ProjectId(1), &other, &cursor), None);
        }
        for broken in ["", "A", "nonsense", &cursor[1..], &cursor[..cursor.len() - 2], &format!("{cursor}AA")] {
            assert_eq!(cursors.read(ProjectId(1), &own, broken), None, "{broken}");
        }
    }
}
