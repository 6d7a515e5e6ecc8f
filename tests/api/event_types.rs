//! The catalog of event types.

use serde_json::{Value, json};

use crate::support::Daemon;
use crate::texts;

#[tokio::test]
async fn an_entry_is_made_replaced_read_and_ended() {
    let daemon = Daemon::start().await;
    let path = "/v1/event-types/door.opened";
    daemon.get(path).await.refused(404, "not_found");
    let body = json!({
        "description": "A door was opened.\nBy anybody.",
        "category": "doors",
        "example": {"z": 1, "a": [null]},
        "fields": ["z", "a"],
    });
    let made = daemon.call("PUT", path, body.clone()).await.expect(201);
    for (name, value) in body.as_object().unwrap() {
        assert_eq!(&made[name], value, "{name}");
    }
    assert_eq!((&made["name"], &made["built_in"]), (&json!("door.opened"), &json!(false)));
    assert_eq!(daemon.get(path).await.expect(200), made);
    daemon.call("PUT", path, made).await.expect(200);
    let bare = daemon.call("PUT", path, json!({})).await.expect(200);
    assert_eq!((&bare["description"], &bare["example"], &bare["fields"]), (&json!(""), &Value::Null, &Value::Null));

    daemon.call("PUT", "/v1/event-types/a-b_c.D1", json!({})).await.expect(201);
    let listed = daemon.get("/v1/event-types?format=none").await.expect(200);
    assert_eq!(texts(listed["data"].as_array().unwrap(), "/name"), ["a-b_c.D1", "door.opened"]);
    daemon.call("DELETE", path, Value::Null).await.expect(204);
    daemon.call("DELETE", path, Value::Null).await.refused(404, "not_found");
}

#[tokio::test]
async fn faulty_entries_are_refused_with_their_fields() {
    let daemon = Daemon::start().await;
    for (name, body, fields) in [
        ("door..opened", json!({}), &["name"][..]),
        ("door.*", json!({}), &["name"]),
        ("posthaste.mine", json!({}), &["name"]),
        ("a", json!({"example": 1, "exmple": 2}), &["exmple"]),
        ("a", json!({"description": "x".repeat(1025)}), &["description"]),
        ("a", json!({"category": "x".repeat(256)}), &["category"]),
        ("a", json!({"fields": "z"}), &["fields"]),
        ("a", json!({"fields": ["z", 1]}), &["fields[1]"]),
        (
            "a",
            json!({"fields": ["a.b", "", "a..b", "a{b}", "a.b", "x".repeat(256)]}),
            &["fields[1]", "fields[2]", "fields[3]", "fields[4]", "fields[5]"],
        ),
        ("a", json!({"fields": (0..257).map(|n| n.to_string()).collect::<Vec<_>>()}), &["fields"]),
        ("a", json!({"description": 1, "category": [], "fields": {}}), &["description", "category", "fields"]),
    ] {
        let answer = daemon.call("PUT", &format!("/v1/event-types/{name}"), body.clone()).await;
        assert_eq!(answer.refused(422, "validation_failed"), fields, "{name} {body}");
    }
}

#[tokio::test]
async fn placeholders_are_checked_where_the_catalog_knows_the_fields() {
    let daemon = Daemon::start().await;
    daemon.call("PUT", "/v1/event-types/door.opened", json!({"fields": ["door", "user.name"]})).await.expect(201);
    let with = |events: &str, body: &str| json!({"url": "https://a.example", "events": [events], "body": body});
    for (events, body, fields) in [
        ("door.opened", r#"{"d": {door}, "u": "{user.name}"}"#, &[][..]),
        ("door.opened", r#"{"d": {window}}"#, &["body"]),
        ("unlisted", r#"{"d": {window}}"#, &[]),
    ] {
        let answer = daemon.post("/v1/subscriptions", with(events, body)).await;
        if fields.is_empty() {
            answer.expect(201);
        } else {
            assert_eq!(answer.refused(422, "validation_failed"), fields, "{events} {body}");
        }
    }
}
