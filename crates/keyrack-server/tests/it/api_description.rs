//! The document, the reference and the index agree with the routes, and need no network.

use axum::body::Body;
use axum::http::Request;
use expect_test::expect_file;
use keyrack_server::http;
use serde_json::Value;

use crate::app::TestApp;

async fn text(app: &TestApp, path: &str) -> String {
    let reply = app.send(Request::get(path).body(Body::empty()).unwrap()).await;
    assert_eq!(reply.status, 200, "{path}");
    reply.text
}

fn operations(document: &Value) -> Vec<(&str, &str, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths
        .flat_map(|(path, methods)| {
            methods.as_object().unwrap().iter().map(move |(method, call)| (method.as_str(), path.as_str(), call))
        })
        .collect()
}

#[tokio::test]
async fn the_document_is_the_committed_one() {
    let app = TestApp::new().await;
    let served: Value = serde_json::from_str(&text(&app, "/api/openapi.json").await).unwrap();
    assert_eq!(served, serde_json::to_value(http::openapi()).unwrap());
    assert!(served["openapi"].as_str().unwrap().starts_with("3.1"));
    let pretty = http::openapi().to_pretty_json().unwrap() + "\n";
    expect_file!["../../../../docs/openapi.json"].assert_eq(&pretty);
}

#[tokio::test]
async fn the_reference_shows_every_call_with_curl_and_loads_nothing() {
    let app = TestApp::new().await;
    let document = serde_json::to_value(http::openapi()).unwrap();
    let (page, markdown, index) =
        (text(&app, "/docs").await, text(&app, "/docs.md").await, text(&app, "/llms.txt").await);
    for (method, path, call) in operations(&document) {
        let (method, id) = (method.to_uppercase(), call["operationId"].as_str().unwrap());
        let section = page.split(&format!("<section id=\"{id}\">")).nth(1).unwrap_or_else(|| panic!("{id}"));
        let section = section.split("</section>").next().unwrap();
        assert!(section.contains("curl -sS"), "{id}");
        let surfaces = [("client", "$PROJECT_KEY"), ("admin", "$ORGANIZATION_KEY"), ("operator", "$OPERATOR_KEY")];
        for (surface, variable) in surfaces {
            assert_eq!(section.contains(variable), path.starts_with(&format!("/api/{surface}/")), "{id}");
        }
        assert!(markdown.contains(&format!("`{method} {path}`")) && index.contains(&format!("`{method} {path}`")));
    }
    for outside in ["http://", "https://", "src=", "<script", "<link", "@import", "url("] {
        let inside = page.replace("export URL=http://127.0.0.1:8080", "");
        assert!(!inside.contains(outside), "{outside}");
    }
}

#[tokio::test]
async fn the_index_leads_to_pages_that_are_there() {
    let app = TestApp::new().await;
    let index = text(&app, "/llms.txt").await;
    let links: Vec<_> = index.split("](").skip(1).map(|rest| rest.split(')').next().unwrap().to_owned()).collect();
    assert!(links.len() >= 4, "{index}");
    for link in links {
        assert!(!text(&app, &link).await.is_empty());
    }
    let missing = app.send(Request::get("/docs/nothing.md").body(Body::empty()).unwrap()).await;
    assert_eq!(missing.status, 404);
}
