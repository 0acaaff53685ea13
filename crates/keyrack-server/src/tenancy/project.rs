//! What an organization has keys for.

use keyrack::{OrganizationId, ProjectId};
use serde::Serialize;

use crate::canonical::Canonical;
use crate::clock::Timestamp;
use crate::kept::{History, Kept, Kind, Tenant};

/// What its organization says of a project (contract section 3). Nothing here decides anything about keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ProjectFields {
    /// What people call it.
    pub name: String,
    /// Its language, as a BCP 47 tag.
    pub locale: String,
    /// Its time zone, by its IANA name.
    pub timezone: String,
    /// What people say of it.
    pub description: Option<String>,
    /// Where it is on the web.
    pub website_url: Option<String>,
    /// What is answered to who opts out of text messages.
    pub text_opt_out_message: Option<String>,
    /// What is answered to who asks for help by text message.
    pub text_help_message: Option<String>,
    /// Whether links in e-mail are wrapped.
    pub link_wrap_email: Option<bool>,
    /// Whether links in push messages are wrapped.
    pub link_wrap_push: Option<bool>,
    /// Whether opened e-mail is tracked.
    pub track_opens_email: Option<bool>,
    /// Where deep links are mirrored.
    pub deeplink_mirror_url: Option<String>,
}

/// A project as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// Its number.
    pub id: ProjectId,
    /// The organization it belongs to.
    pub organization: OrganizationId,
    /// How often it was written, from 1.
    pub version: u32,
    /// What its organization says of it.
    pub fields: ProjectFields,
    /// Who made and changed it.
    pub history: History,
    /// When everything beneath it was revoked, if it was.
    pub archived_at: Option<Timestamp>,
}

impl Kept for Project {
    const KIND: Kind = Kind::Project;

    fn id(&self) -> i64 {
        self.id.0.into()
    }

    fn version(&self) -> u32 {
        self.version
    }

    fn tenant(&self) -> Tenant {
        Tenant { organization: Some(self.organization.0.into()), project: Some(self.id.0.into()) }
    }

    fn is_live(&self) -> bool {
        self.archived_at.is_none()
    }

    fn canonical(&self) -> Canonical {
        let fields = &self.fields;
        let flag = |flag: Option<bool>| flag.map(i64::from);
        let canonical = Canonical::new("project row")
            .int(self.id())
            .int(self.organization.0.into())
            .text(&fields.name)
            .text(&fields.locale)
            .text(&fields.timezone)
            .maybe_text(fields.description.as_deref())
            .maybe_text(fields.website_url.as_deref())
            .maybe_text(fields.text_opt_out_message.as_deref())
            .maybe_text(fields.text_help_message.as_deref())
            .maybe_int(flag(fields.link_wrap_email))
            .maybe_int(flag(fields.link_wrap_push))
            .maybe_int(flag(fields.track_opens_email))
            .maybe_text(fields.deeplink_mirror_url.as_deref())
            .maybe_int(self.archived_at.map(|at| at.0))
            .int(self.version.into());
        self.history.added_to(canonical)
    }

    fn describe(&self) -> String {
        let archived_at = self.archived_at.map(|at| at.to_string());
        serde_json::to_string(&Described { fields: &self.fields, archived_at }).expect("a project is plain data")
    }
}

#[derive(Serialize)]
struct Described<'a> {
    #[serde(flatten)]
    fields: &'a ProjectFields,
    #[serde(skip_serializing_if = "Option::is_none")]
    archived_at: Option<String>,
}
