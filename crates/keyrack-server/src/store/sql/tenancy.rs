//! Organizations, projects, members.

use keyrack::{KeyId, OrganizationId, ProjectId, ProjectRole};

use super::{
    Cells, Connection, DatabaseError, Decoded, Row, Statement, Table, bind_begun, bind_changed, flag_of,
    history_columns, history_of, number_of, time_of,
};
use crate::kept::Kept as _;
use crate::listing::fold;
use crate::store::{Beneath, Effect};
use crate::tenancy::{Member, Organization, Project, ProjectFields, Standing};

impl Table for Organization {
    type Place = OrganizationId;

    const NAME: &'static str = "organizations";
    const COLUMNS: &'static str =
        concat!("id, username, domain, standing, archived_at, version, mac, ", history_columns!());
    const LIVE: &'static str = "archived_at IS NULL";

    fn decode(mut cells: Cells<'_>) -> Option<Decoded<'_, Self>> {
        let id = OrganizationId(number_of(&mut cells)?);
        let (username, domain) = (cells.next()?, cells.next()?);
        let standing = *Standing::ALL.get(usize::try_from(cells.next::<i64>()?).ok()?)?;
        let archived_at = time_of(&mut cells)?;
        let version = number_of(&mut cells)?;
        let mac = cells.next()?;
        let history = history_of(&mut cells)?;
        Some((Self { id, version, username, domain, standing, history, archived_at }, mac))
    }

    fn effect(&self) -> Effect {
        // Beneath an archived one every key is dead; should a row have been unusable then, it does not pass either.
        let (reference, version, is_live) = (self.reference(), self.version, self.is_live());
        let is_suspended = self.standing == Standing::Suspended || !is_live;
        Effect::Other { reference, version, is_live, is_suspended }
    }

    fn narrows(before: Option<&Self>, after: &Self) -> bool {
        before.is_some() && (!after.is_live() || after.standing == Standing::Suspended)
    }

    async fn find(on: &mut Connection, id: OrganizationId) -> Result<Option<Row>, DatabaseError> {
        let statement = format!("SELECT {} FROM organizations WHERE id = $1 AND {}", Self::COLUMNS, Self::LIVE);
        Statement::new(statement).bind(i64::from(id.0)).fetch_optional(on).await
    }

    async fn insert(&self, on: &mut Connection, mac: &[u8]) -> Result<(), DatabaseError> {
        let statement = Statement::new(concat!(
            "INSERT INTO organizations (id, username, domain, standing, archived_at, version, mac, ",
            history_columns!(),
            ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"
        ))
        .bind(i64::from(self.id.0))
        .bind(&self.username)
        .bind(&self.domain)
        .bind(self.standing as i64)
        .bind(self.archived_at.map(|at| at.0))
        .bind(i64::from(self.version))
        .bind(mac);
        bind_begun(statement, &self.history).execute(on).await?;
        Ok(())
    }

    async fn update(&self, on: &mut Connection, mac: &[u8]) -> Result<bool, DatabaseError> {
        let statement = Statement::new(
            "UPDATE organizations SET domain = $1, standing = $2, archived_at = $3, version = $4, mac = $5, \
             updated_at = $6, changed_by_kind = $7, changed_by_id = $8 \
             WHERE id = $9 AND version = $10 AND archived_at IS NULL",
        )
        .bind(&self.domain)
        .bind(self.standing as i64)
        .bind(self.archived_at.map(|at| at.0))
        .bind(i64::from(self.version))
        .bind(mac);
        let statement = bind_changed(statement, &self.history);
        let statement = statement.bind(i64::from(self.id.0)).bind(i64::from(self.version) - 1);
        Ok(statement.execute(on).await? == 1)
    }
}

/// Whether an organization has or had a short name.
pub(in crate::store) async fn username_is_taken(on: &mut Connection, username: &str) -> Result<bool, DatabaseError> {
    let found = Statement::new("SELECT id FROM organizations WHERE username = $1").bind(username);
    Ok(found.fetch_optional(on).await?.is_some())
}

/// The columns that [`beneath`] reads, of the organization whose number stands where `$id` does.
macro_rules! beneath_columns {
    ($id:literal) => {
        concat!(
            "(SELECT COUNT(*) FROM projects WHERE projects.organization_id = ",
            $id,
            " AND projects.archived_at IS NULL) AS projects, \
             (SELECT COUNT(*) FROM api_keys WHERE api_keys.organization_id = ",
            $id,
            " AND api_keys.revoked_at IS NULL) AS live_keys"
        )
    };
}
pub(super) use beneath_columns;

/// What there is beneath an organization.
pub(in crate::store) async fn counts_beneath(
    on: &mut Connection,
    organization: OrganizationId,
) -> Result<Beneath, DatabaseError> {
    let row = Statement::new(concat!("SELECT ", beneath_columns!("$1")));
    beneath(&row.bind(i64::from(organization.0)).fetch_one(on).await?)
}

/// Reads the columns of [`beneath_columns`].
pub(in crate::store) fn beneath(row: &Row) -> Result<Beneath, DatabaseError> {
    Ok(Beneath { projects: row.try_get("projects")?, live_keys: row.try_get("live_keys")? })
}

/// Every live project of an organization.
pub(in crate::store) async fn live_projects(
    on: &mut Connection,
    organization: OrganizationId,
) -> Result<Vec<Row>, DatabaseError> {
    let (columns, live) = (Project::COLUMNS, Project::LIVE);
    let statement = format!("SELECT {columns} FROM projects WHERE organization_id = $1 AND {live} ORDER BY id");
    Statement::new(statement).bind(i64::from(organization.0)).fetch_all(on).await
}

impl Table for Project {
    /// The project, and the organization it must belong to if there is one.
    type Place = (ProjectId, Option<OrganizationId>);

    const NAME: &'static str = "projects";
    const COLUMNS: &'static str = concat!(
        "id, organization_id, name, locale, timezone, description, website_url, text_opt_out_message, \
         text_help_message, link_wrap_email, link_wrap_push, track_opens_email, deeplink_mirror_url, archived_at, \
         version, mac, ",
        history_columns!()
    );
    const LIVE: &'static str = "archived_at IS NULL";

    fn decode(mut cells: Cells<'_>) -> Option<Decoded<'_, Self>> {
        let id = ProjectId(number_of(&mut cells)?);
        let organization = OrganizationId(number_of(&mut cells)?);
        let fields = ProjectFields {
            name: cells.next()?,
            locale: cells.next()?,
            timezone: cells.next()?,
            description: cells.next()?,
            website_url: cells.next()?,
            text_opt_out_message: cells.next()?,
            text_help_message: cells.next()?,
            link_wrap_email: flag_of(&mut cells)?,
            link_wrap_push: flag_of(&mut cells)?,
            track_opens_email: flag_of(&mut cells)?,
            deeplink_mirror_url: cells.next()?,
        };
        let archived_at = time_of(&mut cells)?;
        let version = number_of(&mut cells)?;
        let mac = cells.next()?;
        let history = history_of(&mut cells)?;
        Some((Self { id, organization, version, fields, history, archived_at }, mac))
    }

    async fn find(on: &mut Connection, (id, organization): Self::Place) -> Result<Option<Row>, DatabaseError> {
        let within = if organization.is_some() { "AND organization_id = $2" } else { "" };
        let (columns, live) = (Self::COLUMNS, Self::LIVE);
        let statement = format!("SELECT {columns} FROM projects WHERE id = $1 {within} AND {live}");
        let mut query = Statement::new(statement).bind(i64::from(id.0));
        if let Some(organization) = organization {
            query = query.bind(i64::from(organization.0));
        }
        query.fetch_optional(on).await
    }

    async fn insert(&self, on: &mut Connection, mac: &[u8]) -> Result<(), DatabaseError> {
        let fields = &self.fields;
        let statement = Statement::new(concat!(
            "INSERT INTO projects (id, organization_id, name, name_folded, locale, timezone, description, \
             description_folded, website_url, text_opt_out_message, text_help_message, link_wrap_email, \
             link_wrap_push, track_opens_email, deeplink_mirror_url, archived_at, version, mac, ",
            history_columns!(),
            ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, \
             $22, $23, $24)"
        ))
        .bind(i64::from(self.id.0))
        .bind(i64::from(self.organization.0))
        .bind(&fields.name)
        .bind(fold(&fields.name))
        .bind(&fields.locale)
        .bind(&fields.timezone)
        .bind(&fields.description)
        .bind(fields.description.as_deref().map(fold))
        .bind(&fields.website_url)
        .bind(&fields.text_opt_out_message)
        .bind(&fields.text_help_message)
        .bind(fields.link_wrap_email.map(i64::from))
        .bind(fields.link_wrap_push.map(i64::from))
        .bind(fields.track_opens_email.map(i64::from))
        .bind(&fields.deeplink_mirror_url)
        .bind(self.archived_at.map(|at| at.0))
        .bind(i64::from(self.version))
        .bind(mac);
        bind_begun(statement, &self.history).execute(on).await?;
        Ok(())
    }

    async fn update(&self, on: &mut Connection, mac: &[u8]) -> Result<bool, DatabaseError> {
        let fields = &self.fields;
        let statement = Statement::new(
            "UPDATE projects SET name = $1, name_folded = $2, locale = $3, timezone = $4, description = $5, \
             description_folded = $6, website_url = $7, text_opt_out_message = $8, text_help_message = $9, \
             link_wrap_email = $10, link_wrap_push = $11, track_opens_email = $12, deeplink_mirror_url = $13, \
             archived_at = $14, version = $15, mac = $16, updated_at = $17, changed_by_kind = $18, \
             changed_by_id = $19 WHERE id = $20 AND version = $21 AND archived_at IS NULL",
        )
        .bind(&fields.name)
        .bind(fold(&fields.name))
        .bind(&fields.locale)
        .bind(&fields.timezone)
        .bind(&fields.description)
        .bind(fields.description.as_deref().map(fold))
        .bind(&fields.website_url)
        .bind(&fields.text_opt_out_message)
        .bind(&fields.text_help_message)
        .bind(fields.link_wrap_email.map(i64::from))
        .bind(fields.link_wrap_push.map(i64::from))
        .bind(fields.track_opens_email.map(i64::from))
        .bind(&fields.deeplink_mirror_url)
        .bind(self.archived_at.map(|at| at.0))
        .bind(i64::from(self.version))
        .bind(mac);
        let statement = bind_changed(statement, &self.history);
        let statement = statement.bind(i64::from(self.id.0)).bind(i64::from(self.version) - 1);
        Ok(statement.execute(on).await? == 1)
    }
}

impl Table for Member {
    /// The project and the organization's key.
    type Place = (ProjectId, KeyId);

    const NAME: &'static str = "members";
    const COLUMNS: &'static str =
        concat!("id, organization_id, project_id, key_id, role, taken_at, version, mac, ", history_columns!());
    const LIVE: &'static str = "taken_at IS NULL";

    fn decode(mut cells: Cells<'_>) -> Option<Decoded<'_, Self>> {
        let id = cells.next()?;
        let organization = OrganizationId(number_of(&mut cells)?);
        let project = ProjectId(number_of(&mut cells)?);
        let key = KeyId(cells.next()?);
        let role = ProjectRole::from_position(u8::try_from(cells.next::<i64>()?).ok()?)?;
        let taken_at = time_of(&mut cells)?;
        let version = number_of(&mut cells)?;
        let mac = cells.next()?;
        let history = history_of(&mut cells)?;
        Some((Self { id, version, organization, project, key, role, history, taken_at }, mac))
    }

    fn narrows(before: Option<&Self>, after: &Self) -> bool {
        before.is_some_and(|before| !after.is_live() || after.role < before.role)
    }

    async fn find(on: &mut Connection, (project, key): (ProjectId, KeyId)) -> Result<Option<Row>, DatabaseError> {
        let (columns, live) = (Self::COLUMNS, Self::LIVE);
        let statement = format!("SELECT {columns} FROM members WHERE project_id = $1 AND key_id = $2 AND {live}");
        Statement::new(statement).bind(i64::from(project.0)).bind(key.0).fetch_optional(on).await
    }

    async fn insert(&self, on: &mut Connection, mac: &[u8]) -> Result<(), DatabaseError> {
        let statement = Statement::new(concat!(
            "INSERT INTO members (id, organization_id, project_id, key_id, role, taken_at, version, mac, ",
            history_columns!(),
            ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"
        ))
        .bind(self.id)
        .bind(i64::from(self.organization.0))
        .bind(i64::from(self.project.0))
        .bind(self.key.0)
        .bind(i64::from(self.role.position()))
        .bind(self.taken_at.map(|at| at.0))
        .bind(i64::from(self.version))
        .bind(mac);
        bind_begun(statement, &self.history).execute(on).await?;
        Ok(())
    }

    async fn update(&self, on: &mut Connection, mac: &[u8]) -> Result<bool, DatabaseError> {
        let statement = Statement::new(
            "UPDATE members SET role = $1, taken_at = $2, version = $3, mac = $4, updated_at = $5, \
             changed_by_kind = $6, changed_by_id = $7 WHERE id = $8 AND version = $9 AND taken_at IS NULL",
        )
        .bind(i64::from(self.role.position()))
        .bind(self.taken_at.map(|at| at.0))
        .bind(i64::from(self.version))
        .bind(mac);
        let statement = bind_changed(statement, &self.history).bind(self.id).bind(i64::from(self.version) - 1);
        Ok(statement.execute(on).await? == 1)
    }
}

/// What a key was given.
pub(in crate::store) async fn members_of(on: &mut Connection, key: KeyId) -> Result<Vec<Row>, DatabaseError> {
    let statement = format!("SELECT {} FROM members WHERE key_id = $1 AND {}", Member::COLUMNS, Member::LIVE);
    Statement::new(statement).bind(key.0).fetch_all(on).await
}
