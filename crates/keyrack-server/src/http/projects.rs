//! Projects on the wire: what is sent, and what is asked for (contract section 3).

use axum::http::Uri;
use keyrack::ProjectRole;
use serde::Serialize;
use utoipa::ToSchema;

use super::body::Object;
use super::fields::Fields;
use super::problem::Problem;
use crate::actor::ActorBody;
use crate::projects::{MOST_NAME_CHARACTERS, MOST_TEXT_CHARACTERS, MOST_WORD_CHARACTERS};
use crate::tenancy::{Project, ProjectFields};

/// A project on the wire.
#[derive(Serialize, ToSchema)]
#[schema(as = Project)]
pub(super) struct ProjectBody<'a> {
    /// Number of the project.
    #[schema(example = 1)]
    id: u32,
    /// Number of its organization.
    #[schema(example = 1)]
    organization_id: u32,
    /// What people call it.
    #[schema(example = "Shop")]
    name: &'a str,
    /// Its language, as a BCP 47 tag.
    #[schema(example = "en")]
    locale: &'a str,
    /// Its time zone, by its IANA name.
    #[schema(example = "Europe/Berlin")]
    timezone: &'a str,
    /// When it was made.
    #[schema(example = "2026-04-28T09:30:00.000Z", format = DateTime)]
    created_at: String,
    /// When it was last changed.
    #[schema(example = "2026-04-28T09:30:00.000Z", format = DateTime)]
    updated_at: String,
    /// What people say of it.
    description: Option<&'a str>,
    /// Where it is on the web.
    website_url: Option<&'a str>,
    /// What is answered to who opts out of text messages.
    text_opt_out_message: Option<&'a str>,
    /// What is answered to who asks for help by text message.
    text_help_message: Option<&'a str>,
    /// Whether links in e-mail are wrapped.
    link_wrap_email: Option<bool>,
    /// Whether links in push messages are wrapped.
    link_wrap_push: Option<bool>,
    /// Whether opened e-mail is tracked.
    track_opens_email: Option<bool>,
    /// Where deep links are mirrored.
    deeplink_mirror_url: Option<&'a str>,
    /// The caller's role in the project.
    #[schema(example = "admin")]
    role: &'static str,
    /// Always false here.
    has_provider: bool,
    /// Who made it.
    created_by: ActorBody,
    /// Who changed it last.
    last_changed_by: ActorBody,
}

impl<'a> ProjectBody<'a> {
    /// As a caller of that role sees it.
    pub(super) fn of(project: &'a Project, role: ProjectRole) -> Self {
        let fields = &project.fields;
        Self {
            id: project.id.0,
            organization_id: project.organization.0,
            name: &fields.name,
            locale: &fields.locale,
            timezone: &fields.timezone,
            created_at: project.history.created_at.to_string(),
            updated_at: project.history.updated_at.to_string(),
            description: fields.description.as_deref(),
            website_url: fields.website_url.as_deref(),
            text_opt_out_message: fields.text_opt_out_message.as_deref(),
            text_help_message: fields.text_help_message.as_deref(),
            link_wrap_email: fields.link_wrap_email,
            link_wrap_push: fields.link_wrap_push,
            track_opens_email: fields.track_opens_email,
            deeplink_mirror_url: fields.deeplink_mirror_url.as_deref(),
            role: role.as_str(),
            has_provider: false,
            created_by: project.history.created_by.body(),
            last_changed_by: project.history.changed_by.body(),
        }
    }
}

/// A project to create, or what to change of one: then everything may be left out, and stays as it is.
macro_rules! project_schema {
    ($(#[$doc:meta])* $name:ident, $required:ty, $nullable:literal) => {
        $(#[$doc])*
        #[derive(ToSchema)]
        #[serde(deny_unknown_fields)]
        #[schema(example = json!({"name": "Shop", "locale": "en", "timezone": "Europe/Berlin"}))]
        #[expect(dead_code, reason = "describes the body in the OpenAPI document; `ProjectPatch` reads it")]
        pub(super) struct $name {
            /// 1 to 100 characters after trimming, no control characters.
            #[schema(min_length = 1, max_length = 100, nullable = $nullable, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$")]
            name: $required,
            /// A BCP 47 language tag.
            #[schema(min_length = 1, max_length = 255, nullable = $nullable)]
            locale: $required,
            /// The name of an IANA time zone.
            #[schema(min_length = 1, max_length = 255, nullable = $nullable)]
            timezone: $required,
            /// At most 2,048 characters, or null for none.
            #[schema(max_length = 2048)]
            description: Option<String>,
            /// An `http` or `https` address, or null for none.
            #[schema(max_length = 255)]
            website_url: Option<String>,
            /// At most 2,048 characters, or null for none.
            #[schema(max_length = 2048)]
            text_opt_out_message: Option<String>,
            /// At most 2,048 characters, or null for none.
            #[schema(max_length = 2048)]
            text_help_message: Option<String>,
            /// Or null, for whatever is usual.
            link_wrap_email: Option<bool>,
            /// Or null, for whatever is usual.
            link_wrap_push: Option<bool>,
            /// Or null, for whatever is usual.
            track_opens_email: Option<bool>,
            /// An `https` address, or null for none.
            #[schema(max_length = 255)]
            deeplink_mirror_url: Option<String>,
        }
    };
}

project_schema!(
    /// A project to create.
    CreateProject, String, false
);
project_schema!(
    /// What to change of a project. What is left out stays as it is.
    ChangeProject, Option<String>, false
);

/// What to change of a project; the outer `None` leaves a field as it is.
#[derive(Clone, Debug, Default)]
pub(super) struct ProjectPatch {
    name: Option<String>,
    locale: Option<String>,
    timezone: Option<String>,
    description: Option<Option<String>>,
    website_url: Option<Option<String>>,
    text_opt_out_message: Option<Option<String>>,
    text_help_message: Option<Option<String>>,
    link_wrap_email: Option<Option<bool>>,
    link_wrap_push: Option<Option<bool>>,
    track_opens_email: Option<Option<bool>>,
    deeplink_mirror_url: Option<Option<String>>,
}

impl ProjectPatch {
    fn take(fields: &mut Fields) -> Self {
        let address = |schemes: &'static [&'static str]| move |text: &str| is_address(text, schemes);
        let web = "must be an address that begins with http:// or https://";
        let secure = "must be an address that begins with https://";
        Self {
            name: fields.line("name", MOST_NAME_CHARACTERS),
            locale: fields.line_that(
                "locale",
                MOST_WORD_CHARACTERS,
                is_language_tag,
                "must be a BCP 47 language tag, such as en or de-AT",
            ),
            timezone: fields.line_that(
                "timezone",
                MOST_WORD_CHARACTERS,
                is_time_zone,
                "must be the name of an IANA time zone, such as Europe/Berlin",
            ),
            description: fields.text_or_null("description", MOST_TEXT_CHARACTERS),
            website_url: fields.line_or_null("website_url", MOST_WORD_CHARACTERS, address(&["http", "https"]), web),
            text_opt_out_message: fields.text_or_null("text_opt_out_message", MOST_TEXT_CHARACTERS),
            text_help_message: fields.text_or_null("text_help_message", MOST_TEXT_CHARACTERS),
            link_wrap_email: fields.flag_or_null("link_wrap_email"),
            link_wrap_push: fields.flag_or_null("link_wrap_push"),
            track_opens_email: fields.flag_or_null("track_opens_email"),
            deeplink_mirror_url: fields.line_or_null(
                "deeplink_mirror_url",
                MOST_WORD_CHARACTERS,
                address(&["https"]),
                secure,
            ),
        }
    }

    /// The same project with the changes in it.
    pub(super) fn applied_to(self, before: ProjectFields) -> ProjectFields {
        ProjectFields {
            name: self.name.unwrap_or(before.name),
            locale: self.locale.unwrap_or(before.locale),
            timezone: self.timezone.unwrap_or(before.timezone),
            description: self.description.unwrap_or(before.description),
            website_url: self.website_url.unwrap_or(before.website_url),
            text_opt_out_message: self.text_opt_out_message.unwrap_or(before.text_opt_out_message),
            text_help_message: self.text_help_message.unwrap_or(before.text_help_message),
            link_wrap_email: self.link_wrap_email.unwrap_or(before.link_wrap_email),
            link_wrap_push: self.link_wrap_push.unwrap_or(before.link_wrap_push),
            track_opens_email: self.track_opens_email.unwrap_or(before.track_opens_email),
            deeplink_mirror_url: self.deeplink_mirror_url.unwrap_or(before.deeplink_mirror_url),
        }
    }
}

/// What a create asks for.
///
/// # Errors
/// A problem with every fault of the body.
pub(super) fn parse_new(body: Object) -> Result<ProjectFields, Problem> {
    let mut fields = Fields::of(body);
    let patch = ProjectPatch::take(&mut fields);
    fields.require("name", patch.name.as_ref());
    fields.require("locale", patch.locale.as_ref());
    fields.require("timezone", patch.timezone.as_ref());
    fields.finish()?;
    Ok(patch.applied_to(ProjectFields::default()))
}

/// What a patch asks for.
///
/// # Errors
/// A problem with every fault of the body.
pub(super) fn parse_patch(body: Object) -> Result<ProjectPatch, Problem> {
    let mut fields = Fields::of(body);
    let patch = ProjectPatch::take(&mut fields);
    fields.finish()?;
    Ok(patch)
}

fn is_language_tag(text: &str) -> bool {
    oxilangtag::LanguageTag::parse(text).is_ok()
}

/// In the one spelling that the database of time zones has.
fn is_time_zone(text: &str) -> bool {
    jiff::tz::db().get(text).is_ok_and(|zone| zone.iana_name() == Some(text))
}

fn is_address(text: &str, schemes: &[&str]) -> bool {
    let Ok(address) = text.parse::<Uri>() else { return false };
    let has_host = address.host().is_some_and(|host| !host.is_empty());
    // No `user:password@`: an address is shown to everybody.
    let is_open = address.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    has_host && is_open && address.scheme_str().is_some_and(|scheme| schemes.contains(&scheme))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_language_a_time_zone_and_an_address() {
        for (text, expected) in [("en", true), ("de-AT", true), ("zh-Hant-TW", true), ("english!", false), ("", false)]
        {
            assert_eq!(is_language_tag(text), expected, "{text}");
        }
        let zones =
            [("UTC", true), ("Europe/Berlin", true), ("europe/berlin", false), ("Mars/Base", false), ("", false)];
        for (text, expected) in zones {
            assert_eq!(is_time_zone(text), expected, "{text}");
        }
        for (text, expected) in [
            ("https://example.com/a?b=c", true),
            ("http://example.com", false),
            ("https://", false),
            ("https://user:secret@example.com", false),
            ("javascript:alert(1)", false),
            ("/relative", false),
        ] {
            assert_eq!(is_address(text, &["https"]), expected, "{text}");
        }
        assert!(is_address("http://example.com", &["http", "https"]));
    }
}
