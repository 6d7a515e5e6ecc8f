//! Sources: whose they are, and what keeps them.

use serde_json::{Value, json};

use crate::support::Daemon;
use crate::texts;

#[tokio::test]
async fn a_source_is_made_replaced_read_and_ended() {
    let daemon = Daemon::start().await;
    let path = "/v1/sources/panel:00_11.22";
    daemon.get(path).await.refused(404, "not_found");
    let made = daemon.call("PUT", path, json!({"name": "Front door"})).await.expect(201);
    assert_eq!(made["id"], "panel:00_11.22");
    assert_eq!((&made["name"], &made["organization"]), (&json!("Front door"), &json!("default")));
    assert_eq!(daemon.get(path).await.expect(200), made);
    daemon.get("/v1/organizations/default").await.expect(200);

    daemon.call("PUT", "/v1/organizations/acme", json!({})).await.expect(201);
    let moved = daemon.call("PUT", path, json!({"organization": "acme"})).await.expect(200);
    assert_eq!((&moved["name"], &moved["organization"]), (&json!(""), &json!("acme")));
    let kept = daemon.call("PUT", path, json!({"name": "Back door"})).await.expect(200);
    assert_eq!(kept["organization"], "acme", "it stays where none is named");
    daemon.call("PUT", path, kept).await.expect(200);

    daemon.call("PUT", "/v1/sources/other", json!({})).await.expect(201);
    for (query, ids) in
        [("", &["other", "panel:00_11.22"][..]), ("?organization=acme", &["panel:00_11.22"]), ("?organization=x", &[])]
    {
        let listed = daemon.get(&format!("/v1/sources{query}")).await.expect(200);
        assert_eq!(texts(listed["data"].as_array().unwrap(), "/id"), ids, "{query}");
    }

    daemon.call("DELETE", path, Value::Null).await.expect(204);
    daemon.call("DELETE", path, Value::Null).await.refused(404, "not_found");
}

#[tokio::test]
async fn faulty_sources_are_refused_with_their_fields() {
    let daemon = Daemon::start().await;
    let long = "x".repeat(256);
    for (id, body, fields) in [
        ("a", json!({"colour": "red"}), &["colour"][..]),
        ("a", json!({"name": []}), &["name"]),
        ("a", json!({"name": long}), &["name"]),
        ("a", json!({"organization": 1}), &["organization"]),
        ("a", json!({"organization": "nowhere"}), &["organization"]),
        ("a", json!("text"), &[""]),
        ("..", json!({}), &["id"]),
        (&long, json!({"name": 1, "organization": "a/b", "x": 1}), &["id", "name", "organization", "x"]),
    ] {
        let answer = daemon.call("PUT", &format!("/v1/sources/{id}"), body.clone()).await;
        assert_eq!(answer.refused(422, "validation_failed"), fields, "{id} {body}");
    }
}

#[tokio::test]
async fn a_source_that_a_scope_names_is_neither_ended_nor_moved() {
    let daemon = Daemon::start().await;
    daemon.call("PUT", "/v1/organizations/other", json!({})).await.expect(201);
    daemon.call("PUT", "/v1/sources/panel", json!({})).await.expect(201);
    let made = daemon.subscribe(json!({"url": "https://a.example", "scope": ["panel"]})).await;
    daemon.call("DELETE", "/v1/sources/panel", Value::Null).await.refused(409, "in_use");
    daemon.call("PUT", "/v1/sources/panel", json!({"organization": "other"})).await.refused(409, "in_use");
    daemon.call("PUT", "/v1/sources/panel", json!({"name": "renamed"})).await.expect(200);
    daemon.call("DELETE", &crate::path_of(&made), Value::Null).await.expect(204);
    daemon.call("DELETE", "/v1/sources/panel", Value::Null).await.expect(204);
}
