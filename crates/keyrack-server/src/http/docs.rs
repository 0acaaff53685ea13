//! The documentation that the binary carries: it needs no network, and the reference cannot disagree with the routes.
#![expect(clippy::indexing_slicing, reason = "indexing a JSON value gives null where there is nothing")]

use std::sync::LazyLock;

use askama::Template;
use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::Response;
use serde_json::Value;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, SecurityRequirement};

use super::path::Last;
use super::problem::Problem;

/// The pages of the documentation besides the reference: name, what it is about, text.
const DOCUMENTS: [(&str, &str, &str); 2] = [
    ("errors", "Every error code and what to do about it", include_str!("../../../../docs/errors.md")),
    ("operations", "Settings, files, backup, recovery, limits", include_str!("../../../../docs/operations.md")),
];

/// The OpenAPI document before any route is in it.
pub(super) fn empty_document() -> OpenApi {
    let licence = LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build();
    let info = InfoBuilder::new()
        .title("Keyrack")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some("Issues, lists, changes and revokes the keys of an API, for any number of organizations."))
        .license(Some(licence))
        .build();
    let mut components = ComponentsBuilder::new();
    for Surface { scheme, about, .. } in SURFACES {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("Keyrack key");
        let bearer = bearer.description(Some(about)).build();
        components = components.security_scheme(scheme, SecurityScheme::Http(bearer));
    }
    OpenApiBuilder::new().info(info).components(Some(components.build())).build()
}

/// Calls that take one kind of key.
struct Surface {
    prefix: &'static str,
    scheme: &'static str,
    about: &'static str,
    /// What the examples call the key.
    variable: &'static str,
}

const SURFACES: [Surface; 3] = [
    Surface {
        prefix: "/api/client/",
        scheme: "projectKey",
        about: "A project's secret key (`sk_…`), of role `admin` for all but `/api/client/me`.",
        variable: "PROJECT_KEY",
    },
    Surface {
        prefix: "/api/admin/",
        scheme: "organizationKey",
        about: "An organization's key (`ok_…`); which role it takes, the refusal (403) says.",
        variable: "ORGANIZATION_KEY",
    },
    Surface {
        prefix: "/api/operator/",
        scheme: "operatorKey",
        about: "An operator's key (`op_…`).",
        variable: "OPERATOR_KEY",
    },
];

fn surface_of(path: &str) -> Option<&'static Surface> {
    SURFACES.iter().find(|surface| path.starts_with(surface.prefix))
}

/// Says of every call which kind of key it takes.
pub(super) fn name_credentials(document: &mut OpenApi) {
    for (path, item) in &mut document.paths.paths {
        let requirement =
            surface_of(path).map(|surface| SecurityRequirement::new(surface.scheme, Vec::<String>::new()));
        let operations = [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            operation.security = Some(requirement.clone().into_iter().collect());
        }
    }
}

/// This description of every route
#[utoipa::path(
    get, path = "/api/openapi.json", operation_id = "openapi", tag = "Documentation",
    responses((status = 200, description = "An OpenAPI 3.1 document", content_type = "application/json"))
)]
pub(super) async fn openapi_json() -> Response {
    static DOCUMENT: LazyLock<String> =
        LazyLock::new(|| super::openapi().to_json().expect("the document is plain data"));
    text("application/json", &DOCUMENT)
}

/// The reference, for people
#[utoipa::path(
    get, path = "/docs", operation_id = "docs", tag = "Documentation",
    responses((status = 200, description = "A page that needs no network and runs no script", content_type = "text/html"))
)]
pub(super) async fn page() -> Response {
    static PAGE: LazyLock<String> = LazyLock::new(|| {
        let page = HtmlReference { sections: &reference(), documents: &DOCUMENTS };
        page.render().expect("writing to a string does not fail")
    });
    let mut response = text("text/html; charset=utf-8", &PAGE);
    let policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; \
                  frame-ancestors 'none'";
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    response
}

/// The reference, for programs that read
#[utoipa::path(
    get, path = "/docs.md", operation_id = "docsMarkdown", tag = "Documentation",
    responses((status = 200, description = "The same as `/docs`, in Markdown", content_type = "text/markdown"))
)]
pub(super) async fn markdown() -> Response {
    static PAGE: LazyLock<String> = LazyLock::new(|| {
        MarkdownReference { sections: &reference() }.render().expect("writing to a string does not fail")
    });
    text("text/markdown; charset=utf-8", &PAGE)
}

/// A page of the documentation
///
/// `errors` or `operations`, in Markdown, with or without `.md` behind it.
#[utoipa::path(
    get, path = "/docs/{page}", operation_id = "docsPage", tag = "Documentation",
    params(("page" = String, Path, description = "Name of the page", example = "errors.md")),
    responses(
        (status = 200, description = "The page", content_type = "text/markdown"),
        (status = 404, description = "No such page", body = super::problem::ProblemDocument<'static>, content_type = "application/problem+json"),
    )
)]
pub(super) async fn document(Last(page): Last) -> Result<Response, Problem> {
    let name = page.strip_suffix(".md").unwrap_or(&page);
    let found = DOCUMENTS.iter().find(|(known, ..)| *known == name);
    found.map(|(.., page)| text("text/markdown; charset=utf-8", page)).ok_or_else(Problem::missing)
}

/// What there is to read
#[utoipa::path(
    get, path = "/llms.txt", operation_id = "llms", tag = "Documentation",
    responses((status = 200, description = "An index of the documentation", content_type = "text/plain"))
)]
pub(super) async fn llms_txt() -> Response {
    static INDEX: LazyLock<String> = LazyLock::new(|| {
        let index = LlmsTxt { sections: &reference(), documents: &DOCUMENTS };
        index.render().expect("writing to a string does not fail")
    });
    text("text/plain; charset=utf-8", &INDEX)
}

fn text(media_type: &'static str, body: &'static str) -> Response {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

#[derive(Template)]
#[template(path = "reference.html")]
struct HtmlReference<'a> {
    sections: &'a [Section],
    documents: &'a [(&'a str, &'a str, &'a str)],
}

#[derive(Template)]
#[template(path = "reference.md", escape = "none")]
struct MarkdownReference<'a> {
    sections: &'a [Section],
}

#[derive(Template)]
#[template(path = "llms.txt", escape = "none")]
struct LlmsTxt<'a> {
    sections: &'a [Section],
    documents: &'a [(&'a str, &'a str, &'a str)],
}

/// The calls that share a tag.
struct Section {
    tag: String,
    calls: Vec<Call>,
}

struct Call {
    id: String,
    method: String,
    path: String,
    summary: String,
    description: String,
    inputs: Vec<Input>,
    replies: Vec<(String, String)>,
    curl: String,
}

struct Input {
    name: String,
    place: String,
    required: bool,
    description: String,
}

/// Reads the OpenAPI document as a reader would.
fn reference() -> Vec<Section> {
    let document = serde_json::to_value(super::openapi()).expect("the document is plain data");
    let mut sections: Vec<Section> = Vec::new();
    for (path, operations) in document["paths"].as_object().into_iter().flatten() {
        for (method, operation) in operations.as_object().into_iter().flatten() {
            let call = call(&document, path, method, operation);
            let tag = word(&operation["tags"][0]);
            match sections.iter_mut().find(|section| section.tag == tag) {
                Some(section) => section.calls.push(call),
                None => sections.push(Section { tag, calls: vec![call] }),
            }
        }
    }
    // In the order in which somebody new needs them; what is not named comes last.
    let first = ["Project keys", "Projects", "Keys of any project", "Organization keys", "Members", "Organization"];
    let place = |section: &Section| first.iter().position(|tag| *tag == section.tag).unwrap_or(first.len());
    sections.sort_by_key(place);
    let order = ["POST", "GET", "PUT", "PATCH", "DELETE"];
    for section in &mut sections {
        section.calls.sort_by_key(|call| order.iter().position(|method| *method == call.method));
    }
    sections
}

fn call(document: &Value, path: &str, method: &str, operation: &Value) -> Call {
    let mut inputs: Vec<Input> = operation["parameters"].as_array().into_iter().flatten().map(parameter).collect();
    let body = &operation["requestBody"]["content"]["application/json"]["schema"];
    let body = body["$ref"].as_str().and_then(|at| document.pointer(at.trim_start_matches('#')));
    inputs.extend(body.into_iter().flat_map(fields));
    let replies = operation["responses"].as_object().into_iter().flatten();
    Call {
        id: word(&operation["operationId"]),
        method: method.to_uppercase(),
        path: path.to_owned(),
        summary: word(&operation["summary"]),
        description: word(&operation["description"]),
        replies: replies.map(|(status, reply)| (status.clone(), word(&reply["description"]))).collect(),
        curl: curl(path, method, operation, body),
        inputs,
    }
}

fn parameter(parameter: &Value) -> Input {
    Input {
        name: word(&parameter["name"]),
        place: word(&parameter["in"]),
        required: parameter["required"] == true,
        description: word(&parameter["description"]),
    }
}

fn fields(schema: &Value) -> Vec<Input> {
    let required = schema["required"].as_array();
    let fields = schema["properties"].as_object().into_iter().flatten();
    let input = |(name, field): (&String, &Value)| Input {
        name: name.clone(),
        place: "body".to_owned(),
        required: required.is_some_and(|required| required.iter().any(|known| known == name)),
        description: word(&field["description"]),
    };
    fields.map(input).collect()
}

fn curl(path: &str, method: &str, operation: &Value, body: Option<&Value>) -> String {
    let mut path = path.to_owned();
    for parameter in operation["parameters"].as_array().into_iter().flatten().filter(|known| known["in"] == "path") {
        let example = &parameter["example"];
        let example = example.as_str().map_or_else(|| example.to_string(), str::to_owned);
        path = path.replace(&format!("{{{}}}", word(&parameter["name"])), &example);
    }
    let mut command = match method {
        "get" => format!("curl -sS \"$URL{path}\""),
        other => format!("curl -sS -X {} \"$URL{path}\"", other.to_uppercase()),
    };
    if let Some(surface) = surface_of(&path) {
        command += &format!(" \\\n  -H \"Authorization: Bearer ${}\"", surface.variable);
    }
    if let Some(body) = body {
        command += &format!(" \\\n  -H 'Content-Type: application/json' \\\n  -d '{}'", body["example"]);
    }
    command
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
