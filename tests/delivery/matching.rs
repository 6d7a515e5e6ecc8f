//! Which events a subscription gets, and what of them is kept from it.

use serde_json::{Value, json};

use crate::path_of;
use crate::support::{Daemon, Receiver};

/// How many subscriptions get the event.
async fn wanted_by(daemon: &Daemon, event: Value) -> u64 {
    daemon.post("/v1/events", event).await.expect(202)["deliveries"].as_u64().expect("a count")
}

async fn put(daemon: &Daemon, path: &str, body: Value) {
    daemon.call("PUT", path, body).await.expect(201);
}

#[tokio::test]
async fn patterns_match_types() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::start().await;
    for (patterns, matched, unmatched) in [
        (json!(["door.opened"]), &["door.opened"][..], &["door.opened.twice", "door", "Door.opened"][..]),
        (json!(["door.*"]), &["door.opened", "door.request.allowed"], &["door", "doors.opened", "window.opened"]),
        (json!(["*"]), &["door", "a.b.c"], &[]),
        (json!(["window.*", "door"]), &["door", "window.opened"], &["door.opened"]),
        (json!([]), &[], &["door", "door.opened"]),
        (json!(["posthaste.*"]), &[], &["door"]),
    ] {
        let subscription = daemon.subscribe(json!({"url": receiver.url, "events": patterns})).await;
        for (types, count) in [(matched, 1), (unmatched, 0)] {
            for event_type in types {
                let found = wanted_by(&daemon, json!({"type": event_type, "data": 1})).await;
                assert_eq!(found, count, "{event_type} by {patterns}");
            }
        }
        daemon.call("DELETE", &path_of(&subscription), Value::Null).await.expect(204);
    }
}

#[tokio::test]
async fn scopes_follow_the_tree_and_name_sources() {
    let daemon = Daemon::start().await;
    put(&daemon, "/v1/organizations/root", json!({})).await;
    put(&daemon, "/v1/organizations/child", json!({"parent": "root"})).await;
    put(&daemon, "/v1/organizations/grandchild", json!({"parent": "child"})).await;
    put(&daemon, "/v1/organizations/stranger", json!({})).await;
    put(&daemon, "/v1/sources/panel-1", json!({"organization": "root"})).await;
    put(&daemon, "/v1/sources/panel-2", json!({"organization": "root"})).await;
    let mut receivers = Vec::new();
    for scope in [json!("own"), json!("recursive"), json!(["panel-1"])] {
        let receiver = Receiver::start().await;
        daemon.subscribe(json!({"url": receiver.url, "organization": "root", "scope": scope})).await;
        receivers.push(receiver);
    }
    let [mut own, mut recursive, mut sources] =
        <[Receiver; 3]>::try_from(receivers).unwrap_or_else(|_| panic!("three"));
    for (organization, source, count) in [
        ("root", Value::Null, 2),
        ("child", Value::Null, 1),
        ("grandchild", Value::Null, 1),
        ("stranger", Value::Null, 0),
        ("root", json!("panel-1"), 3),
        ("root", json!("panel-2"), 2),
    ] {
        let data = json!([organization, source]);
        let event = json!({"type": "a.b", "organization": organization, "source": source, "data": data});
        assert_eq!(wanted_by(&daemon, event).await, count, "{organization} {source}");
    }
    // A source alone says whose the event is.
    assert_eq!(wanted_by(&daemon, json!({"type": "a.b", "source": "panel-1", "data": ["root", "panel-1"]})).await, 3);
    for (receiver, total) in [(&mut own, 4), (&mut recursive, 6), (&mut sources, 2)] {
        for _ in 0..total {
            receiver.next().await;
        }
    }
    assert_eq!((own.total(), recursive.total(), sources.total()), (4, 6, 2));

    // Moving an organization changes later events only.
    daemon.call("PUT", "/v1/organizations/grandchild", json!({"parent": "stranger"})).await.expect(200);
    assert_eq!(wanted_by(&daemon, json!({"type": "a.b", "organization": "grandchild", "data": 1})).await, 0);
}

#[tokio::test]
async fn filters_let_through_what_meets_every_condition() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::start().await;
    let data = json!({"door": {"id": 7, "name": "front door"}, "tags": ["vip", "late"], "level": 2.5, "off": null});
    for (filter, matches) in [
        (json!([{"path": "/data/door/id", "op": "eq", "value": 7}]), true),
        (json!([{"path": "/data/door/id", "op": "eq", "value": 7.0}]), true),
        (json!([{"path": "/data/door/id", "op": "eq", "value": "7"}]), false),
        (json!([{"path": "/data/door/id", "op": "ne", "value": 8}]), true),
        (
            json!([{"path": "/data/level", "op": "gt", "value": 2}, {"path": "/data/level", "op": "le", "value": 2.5}]),
            true,
        ),
        (
            json!([{"path": "/data/level", "op": "gt", "value": 2}, {"path": "/data/level", "op": "lt", "value": 2.5}]),
            false,
        ),
        (json!([{"path": "/data/level", "op": "ge", "value": 3}]), false),
        (json!([{"path": "/data/tags/1", "op": "in", "value": ["early", "late"]}]), true),
        (json!([{"path": "/data/tags", "op": "contains", "value": "vip"}]), true),
        (json!([{"path": "/data/tags", "op": "contains", "value": "v"}]), false),
        (json!([{"path": "/data/door/name", "op": "contains", "value": "ont d"}]), true),
        (json!([{"path": "/data/door/name", "op": "prefix", "value": "front"}]), true),
        (json!([{"path": "/data/door/name", "op": "prefix", "value": "door"}]), false),
        (json!([{"path": "/data/off", "op": "exists", "value": true}]), true),
        (json!([{"path": "/data/nowhere", "op": "exists", "value": false}]), true),
        (json!([{"path": "/type", "op": "eq", "value": "door.opened"}]), true),
        (json!([{"path": "/organization", "op": "eq", "value": "other"}]), false),
    ] {
        let subscription = daemon.subscribe(json!({"url": receiver.url, "filter": filter})).await;
        let count = wanted_by(&daemon, json!({"type": "door.opened", "data": data})).await;
        assert_eq!(count, u64::from(matches), "{filter}");
        daemon.call("DELETE", &path_of(&subscription), Value::Null).await.expect(204);
    }
}

#[tokio::test]
async fn secrecy_takes_away_what_the_configuration_says_and_keeps_the_rest_as_it_is() {
    let rules = "[[secrecy]]\nlevel = 1\nevents = \"door.*\"\nkey = \"badge\"\n\
                 [[secrecy]]\nlevel = 2\nevents = \"*\"\npointer = \"/visitor/name\"\n";
    let daemon = Daemon::with(rules, &[]).await;
    let data = r#"{"n": 1.0, "badge":"4711","deep":[{"badge":1,"BADGE":2}],"visitor":{"name":"Ann","at": 1e3}}"#;
    for (level, event_type, left) in [
        (0, "door.opened", data),
        (1, "door.opened", r#"{"n": 1.0, "deep":[{"BADGE":2}],"visitor":{"name":"Ann","at": 1e3}}"#),
        (2, "door.opened", r#"{"n": 1.0, "deep":[{"BADGE":2}],"visitor":{"at": 1e3}}"#),
        (2, "gate.opened", r#"{"n": 1.0, "badge":"4711","deep":[{"badge":1,"BADGE":2}],"visitor":{"at": 1e3}}"#),
    ] {
        let mut receiver = Receiver::start().await;
        // Templates and filters see what is left.
        let fields = json!({
            "url": format!("{}?badge={{badge}}", receiver.url),
            "secrecy_level": level,
            "filter": [{"path": "/data/visitor/at", "op": "exists", "value": true}],
        });
        let subscription = daemon.subscribe(fields).await;
        let body = format!(r#"{{"type":"{event_type}","occurred_at":"2026-03-17T14:30:00Z","data":{data}}}"#);
        let request = http::Request::post("/v1/events").header("content-type", "application/json");
        daemon.send(request.body(body.into()).expect("a request")).await.expect(202);
        let received = receiver.next().await;
        let envelope = format!(r#"{{"type":"{event_type}","timestamp":"2026-03-17T14:30:00.000Z","data":{left}}}"#);
        assert_eq!(received.body, envelope, "level {level}");
        let is_shown = received.path.ends_with("badge=4711");
        assert_eq!(is_shown, left.contains("4711"), "{}", received.path);
        daemon.call("DELETE", &path_of(&subscription), Value::Null).await.expect(204);
    }
    let receiver = Receiver::start().await;
    let filter = json!([{"path": "/data/badge", "op": "exists", "value": true}]);
    daemon.subscribe(json!({"url": receiver.url, "secrecy_level": 1, "filter": filter})).await;
    assert_eq!(wanted_by(&daemon, json!({"type": "door.opened", "data": {"badge": 1}})).await, 0);
    assert_eq!(wanted_by(&daemon, json!({"type": "gate.opened", "data": {"badge": 1}})).await, 1);
}
