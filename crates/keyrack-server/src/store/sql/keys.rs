//! Keys of every kind.

use keyrack::{KeyChange, KeyDigest, KeyId, KeyRecord, MaskedKey, PolicyVersion};

use super::{
    Cells, Connection, DatabaseError, Decoded, Row, Statement, Table, bind_begun, bind_changed, flag_of,
    history_columns, history_of, number_of, time_of,
};
use crate::kept::Kept as _;
use crate::listing::fold;
use crate::place::Place;
use crate::store::Effect;
use crate::stored_key::{HolderColumns, StoredKey};

impl Place {
    /// Which rows are of this place, with its number for `$1`.
    pub(super) fn condition(self) -> (&'static str, i64) {
        match self {
            Self::Project(id) => ("project_id = $1", id.0.into()),
            Self::System(id) => ("project_id = $1 AND is_system = 1", id.0.into()),
            Self::Organization(id) => ("organization_id = $1 AND project_id IS NULL", id.0.into()),
            Self::Beneath(id) => ("organization_id = $1", id.0.into()),
            Self::Installation => ("organization_id IS NULL AND kind = $1", 3),
            Self::Followers => ("organization_id IS NULL AND kind = $1", 4),
        }
    }
}

impl Table for StoredKey {
    type Place = (Place, i64);

    const NAME: &'static str = "api_keys";
    const COLUMNS: &'static str = concat!(
        "id, kind, organization_id, project_id, role, scope, permissions, limits, reach, is_system, name, \
         description, mask, digest, revoked_at, version, mac, ",
        history_columns!()
    );
    const LIVE: &'static str = "revoked_at IS NULL";

    fn decode(mut cells: Cells<'_>) -> Option<Decoded<'_, Self>> {
        let id = KeyId(cells.next()?);
        let columns = HolderColumns {
            kind: cells.next()?,
            organization: cells.next()?,
            project: cells.next()?,
            role: cells.next()?,
            scope: cells.next()?,
        };
        let permissions = Self::permissions_of(cells.next()?)?;
        let limits = Self::limits_of(cells.next()?)?;
        let reach = PolicyVersion(number_of(&mut cells)?);
        let is_system = flag_of(&mut cells)??;
        let (name, description) = (cells.next()?, cells.next()?);
        let mask = MaskedKey::parse(cells.next()?).ok()?;
        let digest = KeyDigest::from_bytes(cells.next::<&[u8]>()?.try_into().ok()?);
        let revoked_at = time_of(&mut cells)?;
        let version = number_of(&mut cells)?;
        let mac = cells.next()?;
        let history = history_of(&mut cells)?;
        let holder = columns.holder()?;
        let key = Self {
            id,
            version,
            holder,
            permissions,
            limits,
            reach,
            is_system,
            name,
            description,
            mask,
            digest,
            history,
            revoked_at,
        };
        Some((key, mac))
    }

    fn effect(&self) -> Effect {
        let change = match self.revoked_at {
            None => KeyChange::Put(self.record()),
            Some(_) => KeyChange::Revoke { id: self.id },
        };
        Effect::Key(self.digest, change)
    }

    /// Whatever is decided by: that some of it also gives more is no reason to look closer.
    fn narrows(before: Option<&Self>, after: &Self) -> bool {
        let same_version = |key: &Self| KeyRecord { version: 0, ..key.record() };
        before.is_some_and(|before| !after.is_live() || same_version(before) != same_version(after))
    }

    async fn find(on: &mut Connection, (place, id): (Place, i64)) -> Result<Option<Row>, DatabaseError> {
        let (condition, number) = place.condition();
        let (columns, live) = (Self::COLUMNS, Self::LIVE);
        let statement = format!("SELECT {columns} FROM api_keys WHERE {condition} AND id = $2 AND {live}");
        Statement::new(statement).bind(number).bind(id).fetch_optional(on).await
    }

    async fn insert(&self, on: &mut Connection, mac: &[u8]) -> Result<(), DatabaseError> {
        let columns = HolderColumns::of(self.holder);
        let statement = Statement::new(concat!(
            "INSERT INTO api_keys (id, kind, organization_id, project_id, role, scope, is_system, name, description, \
             mask, digest, revoked_at, version, mac, name_folded, description_folded, permissions, limits, reach, ",
            history_columns!(),
            ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, \
             $22, $23, $24, $25)"
        ))
        .bind(self.id.0)
        .bind(columns.kind)
        .bind(columns.organization)
        .bind(columns.project)
        .bind(columns.role)
        .bind(columns.scope)
        .bind(i64::from(self.is_system))
        .bind(&self.name)
        .bind(&self.description)
        .bind(self.mask.as_str())
        .bind(self.digest.as_bytes().as_slice())
        .bind(self.revoked_at.map(|at| at.0))
        .bind(i64::from(self.version))
        .bind(mac)
        .bind(fold(&self.name))
        .bind(self.description.as_deref().map(fold))
        .bind(self.permissions_column())
        .bind(self.limits_column())
        .bind(i64::from(self.reach.0));
        bind_begun(statement, &self.history).execute(on).await?;
        Ok(())
    }

    async fn update(&self, on: &mut Connection, mac: &[u8]) -> Result<bool, DatabaseError> {
        let columns = HolderColumns::of(self.holder);
        let statement = Statement::new(
            "UPDATE api_keys SET role = $1, scope = $2, name = $3, name_folded = $4, description = $5, \
             description_folded = $6, revoked_at = $7, version = $8, mac = $9, permissions = $10, limits = $11, \
             reach = $12, updated_at = $13, changed_by_kind = $14, changed_by_id = $15 \
             WHERE id = $16 AND version = $17 AND revoked_at IS NULL",
        )
        .bind(columns.role)
        .bind(columns.scope)
        .bind(&self.name)
        .bind(fold(&self.name))
        .bind(&self.description)
        .bind(self.description.as_deref().map(fold))
        .bind(self.revoked_at.map(|at| at.0))
        .bind(i64::from(self.version))
        .bind(mac)
        .bind(self.permissions_column())
        .bind(self.limits_column())
        .bind(i64::from(self.reach.0));
        let statement = bind_changed(statement, &self.history).bind(self.id.0).bind(i64::from(self.version) - 1);
        Ok(statement.execute(on).await? == 1)
    }
}

/// A key of a place, live or dead.
pub(in crate::store) async fn key_ever(
    on: &mut Connection,
    place: Place,
    id: KeyId,
) -> Result<Option<Row>, DatabaseError> {
    let (condition, number) = place.condition();
    let statement = format!("SELECT {} FROM api_keys WHERE {condition} AND id = $2", StoredKey::COLUMNS);
    Statement::new(statement).bind(number).bind(id.0).fetch_optional(on).await
}

/// The live keys of a place whose numbers are above `after`, so many at most, lowest first.
pub(in crate::store) async fn live_keys(
    on: &mut Connection,
    place: Place,
    after: i64,
    most: i64,
) -> Result<Vec<Row>, DatabaseError> {
    let (condition, id) = place.condition();
    let (columns, live) = (StoredKey::COLUMNS, StoredKey::LIVE);
    let statement =
        format!("SELECT {columns} FROM api_keys WHERE {condition} AND {live} AND id > $2 ORDER BY id LIMIT $3");
    Statement::new(statement).bind(id).bind(after).bind(most).fetch_all(on).await
}

/// How many live keys there are in a place.
pub(in crate::store) async fn count_live_keys(on: &mut Connection, place: Place) -> Result<i64, DatabaseError> {
    let (condition, id) = place.condition();
    let statement = format!("SELECT COUNT(*) AS keys FROM api_keys WHERE {condition} AND {}", StoredKey::LIVE);
    Statement::new(statement).bind(id).fetch_one(on).await?.try_get("keys")
}
