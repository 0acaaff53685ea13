//! Policies that were applied.

use keyrack::PolicyVersion;

use super::{
    Cells, Connection, DatabaseError, Decoded, Row, Statement, Table, bind_begun, history_columns, history_of,
    number_of,
};
use crate::kept::Kept as _;
use crate::policies::AppliedPolicy;
use crate::store::{Effect, PublicKeys};

impl Table for AppliedPolicy {
    type Place = PolicyVersion;

    const NAME: &'static str = "policies";
    const COLUMNS: &'static str = concat!("id, document, version, mac, ", history_columns!());
    const LIVE: &'static str = "TRUE";

    fn decode(mut cells: Cells<'_>) -> Option<Decoded<'_, Self>> {
        let version = PolicyVersion(number_of(&mut cells)?);
        let document = Self::document_of(cells.next()?)?;
        if number_of(&mut cells)? != 1 {
            return None;
        }
        let mac = cells.next()?;
        Some((Self { version, document, history: Some(history_of(&mut cells)?) }, mac))
    }

    fn effect(&self) -> Effect {
        Effect::Policy(self.version, self.document.clone())
    }

    /// One that takes the place of another may open less.
    fn narrows(_before: Option<&Self>, _after: &Self) -> bool {
        true
    }

    async fn find(on: &mut Connection, version: PolicyVersion) -> Result<Option<Row>, DatabaseError> {
        let statement = format!("SELECT {} FROM policies WHERE id = $1", Self::COLUMNS);
        Statement::new(statement).bind(i64::from(version.0)).fetch_optional(on).await
    }

    async fn insert(&self, on: &mut Connection, mac: &[u8]) -> Result<(), DatabaseError> {
        let Some(history) = self.history else { return Ok(()) };
        let statement = Statement::new(concat!(
            "INSERT INTO policies (id, document, version, mac, ",
            history_columns!(),
            ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
        ))
        .bind(self.id())
        .bind(self.document_column())
        .bind(i64::from(self.version()))
        .bind(mac);
        bind_begun(statement, &history).execute(on).await?;
        Ok(())
    }

    /// A policy never changes.
    async fn update(&self, _on: &mut Connection, _mac: &[u8]) -> Result<bool, DatabaseError> {
        Ok(false)
    }
}

/// The live keys of public scope by the version of their reach, lowest first, with the numbers of `most` keys each.
pub(in crate::store) async fn public_keys(on: &mut Connection, most: usize) -> Result<Vec<PublicKeys>, DatabaseError> {
    let counted = Statement::new(
        "SELECT reach, COUNT(*) AS keys FROM api_keys WHERE scope = 0 AND revoked_at IS NULL \
         GROUP BY reach ORDER BY reach",
    );
    let mut all = Vec::new();
    for row in counted.fetch_all(&mut *on).await? {
        let reach: i64 = row.try_get("reach")?;
        let listed = Statement::new(
            "SELECT id FROM api_keys WHERE scope = 0 AND revoked_at IS NULL AND reach = $1 ORDER BY id LIMIT $2",
        );
        let listed = listed.bind(reach).bind(most as i64).fetch_all(&mut *on).await?;
        let ids = listed.iter().map(|row| row.try_get("id")).collect::<Result<_, _>>()?;
        // What is no version was not written here, and stands for no key that passes.
        let Ok(version) = u32::try_from(reach).map(PolicyVersion) else { continue };
        all.push(PublicKeys { version, count: row.try_get("keys")?, ids });
    }
    Ok(all)
}
