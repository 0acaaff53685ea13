//! Lists: order, search, cursors in both directions, and what comes and goes between pages.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::app::TestApp;

fn names(page: &Value) -> Vec<String> {
    page["results"].as_array().unwrap().iter().map(|key| key["name"].as_str().unwrap().to_owned()).collect()
}

async fn page(app: &TestApp, query: &str) -> Value {
    let reply = app.call(("GET", &format!("/api/client/keys?{query}")), None).await;
    assert_eq!(reply.status, 200, "{query}: {}", reply.text);
    reply.json()
}

/// Keys whose columns tie in many ways.
async fn filled() -> TestApp {
    let app = TestApp::new().await;
    let roles = ["support", "editor", "admin"];
    for number in 0..23 {
        if number % 4 == 0 {
            app.advance_seconds(1);
        }
        let name = format!("{} {}", ["beta", "Alpha", "gamma", "\u{c4}rger"][number % 4], number / 8);
        let description = (number % 3 == 0).then(|| format!("100%_off\\ Nr {number}"));
        app.create(json!({"name": name, "role": roles[number % 3], "description": description})).await;
    }
    app
}

#[tokio::test]
async fn every_order_pages_forward_and_back_over_the_same_rows() {
    let app = filled().await;
    for sort in ["created_at", "updated_at", "name", "role", "id"] {
        for direction in ["asc", "desc"] {
            let order = format!("sort={sort}&direction={direction}");
            let all = page(&app, &format!("{order}&limit=-1")).await;
            let ids = |page: &Value| -> Vec<i64> {
                page["results"].as_array().unwrap().iter().map(|key| key["id"].as_i64().unwrap()).collect()
            };
            assert_eq!(ids(&all).len(), 24);
            let mut pages = vec![page(&app, &format!("{order}&limit=5")).await];
            while let Some(cursor) = pages.last().unwrap()["nextCursor"].as_str() {
                let next = page(&app, &format!("{order}&limit=5&cursor={cursor}")).await;
                pages.push(next);
            }
            assert_eq!(pages.iter().flat_map(&ids).collect::<Vec<_>>(), ids(&all), "{order}");
            assert_eq!(pages[0]["prevCursor"], Value::Null);
            for at in (1..pages.len()).rev() {
                let cursor = pages[at]["prevCursor"].as_str().unwrap();
                let back = page(&app, &format!("{order}&limit=5&page=prev&cursor={cursor}")).await;
                assert_eq!(ids(&back), ids(&pages[at - 1]), "{order}, back to page {}", at - 1);
                assert_eq!(back["prevCursor"].is_null(), at == 1);
                assert!(back["nextCursor"].is_string());
            }
        }
    }
}

#[tokio::test]
async fn search_finds_a_substring_of_name_or_description_in_any_case() {
    let app = filled().await;
    for (q, expected) in [
        ("ALPHA", 6),
        ("%C3%84RGER", 5),
        ("nr%2012", 1),
        ("100%25_OFF%5C", 8),
        ("100__off", 0),
        ("%25%25", 0),
        ("", 24),
    ] {
        assert_eq!(names(&page(&app, &format!("limit=-1&q={q}")).await).len(), expected, "{q}");
    }
}

#[tokio::test]
async fn a_part_of_a_word_is_found_also_where_its_last_letter_has_another_form() {
    let app = TestApp::new().await;
    app.create(json!({"name": "ΟΔΟΣΑ"})).await;
    app.create(json!({"name": "οδός"})).await;
    for (q, expected) in [("ΟΔΟΣ", 1), ("οδος", 1), ("ς", 2), ("Σ", 2)] {
        let q: String = form_urlencoded::byte_serialize(q.as_bytes()).collect();
        assert_eq!(names(&page(&app, &format!("q={q}")).await).len(), expected, "{q}");
    }
}

#[tokio::test]
async fn no_row_is_missed_or_doubled_because_others_come_and_go() {
    let app = filled().await;
    let stay: BTreeSet<_> = names(&page(&app, "limit=-1&sort=id&direction=asc").await).into_iter().collect();
    let first = page(&app, "limit=7&sort=name&direction=asc").await;
    // The row that the cursor stands on goes, others come before and after it.
    let last_of_page = first["results"][6]["id"].as_i64().unwrap();
    assert_eq!(app.call(("DELETE", &format!("/api/client/keys/{last_of_page}")), None).await.status, 200);
    for name in ["aaaa", "zzzz"] {
        app.create(json!({"name": name})).await;
    }
    let mut seen: Vec<_> = first["results"].as_array().unwrap().iter().map(|key| key["id"].as_i64().unwrap()).collect();
    let mut cursor = first["nextCursor"].as_str().unwrap().to_owned();
    loop {
        let next = page(&app, &format!("limit=7&sort=name&direction=asc&cursor={cursor}")).await;
        seen.extend(next["results"].as_array().unwrap().iter().map(|key| key["id"].as_i64().unwrap()));
        let Some(further) = next["nextCursor"].as_str() else { break };
        cursor = further.to_owned();
    }
    let distinct: BTreeSet<_> = seen.iter().collect();
    assert_eq!(distinct.len(), seen.len());
    // 24 from the beginning and `zzzz`, which came in behind the cursor.
    assert_eq!(seen.len(), 25, "{stay:?}");
}

#[tokio::test]
async fn a_page_that_ran_empty_leads_back_to_the_row_it_came_from() {
    let app = TestApp::new().await;
    app.create(json!({"name": "stays"})).await;
    let (goes, _) = app.create(json!({"name": "goes"})).await;
    let first = page(&app, "limit=2&sort=id&direction=asc").await;
    app.call(("DELETE", &format!("/api/client/keys/{goes}")), None).await;
    let cursor = first["nextCursor"].as_str().unwrap();
    let empty = page(&app, &format!("limit=2&sort=id&direction=asc&cursor={cursor}")).await;
    assert_eq!((names(&empty), &empty["nextCursor"]), (vec![], &Value::Null));
    let cursor = empty["prevCursor"].as_str().unwrap();
    let back = page(&app, &format!("limit=2&sort=id&direction=asc&page=prev&cursor={cursor}")).await;
    assert_eq!(names(&back), names(&first));
}

#[tokio::test]
async fn a_cursor_of_another_list_is_refused() {
    let app = filled().await;
    let first = page(&app, "limit=5&sort=name&q=a").await;
    let cursor = first["nextCursor"].as_str().unwrap();
    for query in ["sort=name", "sort=role&q=a", "sort=name&q=a&direction=asc", "sort=name&q=A"] {
        let reply = app.call(("GET", &format!("/api/client/keys?limit=5&{query}&cursor={cursor}")), None).await;
        assert_eq!((reply.status, &reply.json()["param"]), (400, &json!("cursor")), "{query}");
    }
}
