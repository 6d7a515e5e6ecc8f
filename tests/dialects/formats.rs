//! What is particular to each format: names, shapes, secrets, levels of secrecy,
//! what counts as success.

use serde_json::{Value, json};

use crate::support::{Daemon, Receiver, Reply};
use crate::{daemon, verify_ferriskey, verify_pdk};

/// A subscription in that format with these further fields, and its receiver, which
/// has had the verification where there is one.
async fn subscribe(daemon: &Daemon, format: &str, mut fields: Value) -> (Receiver, Value) {
    let mut receiver = Receiver::start().await;
    fields["url"] = json!(format!("{}{}", receiver.url, fields["url"].as_str().unwrap_or("")));
    fields["format"] = json!(format);
    let made = daemon.subscribe(fields).await;
    if format == "peridio" {
        receiver.next().await;
    }
    (receiver, made)
}

#[tokio::test]
async fn peridios_names_match_in_either_spelling() {
    let daemon = daemon("").await;
    let (mut hyphens, _) = subscribe(&daemon, "peridio", json!({"events": ["device.claimed-release"]})).await;
    let (mut underscores, _) = subscribe(&daemon, "peridio", json!({"events": ["device.claimed_release"]})).await;
    let standard = daemon.subscribe(json!({"url": "https://a.example", "events": ["device.claimed_release"]})).await;
    for (event_type, deliveries) in [("device.claimed-release", 2), ("device.claimed_release", 3)] {
        let published = daemon.publish(event_type, json!({})).await;
        assert_eq!(published["deliveries"], deliveries, "the other spelling is Peridio's alone");
        for receiver in [&mut hyphens, &mut underscores] {
            let body = receiver.next().await.json();
            assert_eq!((&body["type"], &body["data"]["type"]), (&json!("device"), &json!("claimed-release")));
        }
    }
    assert_eq!(standard["format"], "standard");
}

#[tokio::test]
async fn peridio_takes_nothing_but_200_and_tests_before_it_begins() {
    let daemon = daemon("").await;
    let refusing = Receiver::answering(|_, _| Reply::status(204)).await;
    let fields = json!({"url": refusing.url, "format": "peridio", "events": ["*"]});
    let problem = daemon.post("/v1/subscriptions", fields).await;
    problem.refused(422, "verification_failed");
    assert_eq!(daemon.get("/v1/subscriptions").await.expect(200)["data"], json!([]), "nothing is stored");

    let mut receiver = Receiver::answering(|_, nth| Reply::status(if nth == 1 { 202 } else { 200 })).await;
    let made = daemon.subscribe(json!({"url": receiver.url, "format": "peridio"})).await;
    let test = receiver.next().await.json();
    assert_eq!((&test["type"], &test["data"]["type"]), (&json!("webhook"), &json!("test_fire")));
    let prn = test["data"]["data"]["webhook_prn"].as_str().unwrap();
    assert!(prn.starts_with("prn:1:default:webhook:"), "{prn}");
    let delivery = daemon.deliver(&made, "device.connected", json!({})).await;
    receiver.next().await;
    let failed = daemon.attempted(&delivery, 1).await;
    assert_eq!(failed["state"], "pending", "202 is no success");
}

#[tokio::test]
async fn a_test_fire_that_was_published_keeps_its_data() {
    let daemon = daemon("").await;
    let (mut receiver, _) = subscribe(&daemon, "peridio", json!({"events": ["webhook.test_fire"]})).await;
    daemon.publish("webhook.test_fire", json!({"mine": 1})).await;
    assert_eq!(receiver.next().await.json()["data"]["data"], json!({"mine": 1}));
}

#[tokio::test]
async fn pdks_bodies_follow_the_type_and_the_data() {
    let daemon = daemon("").await;
    let (mut panel, made) = subscribe(&daemon, "pdk", json!({"events": ["door.*", "panel.connected", "x.y"]})).await;
    for (event, expected) in [
        (
            json!({"type": "door.opened", "event_id": "a", "data": {"body": 1, "metadata": {}}}),
            json!({"id": "a", "body": 1, "metadata": {"occurred": 1_800_000_000_000u64}, "panelId": null, "topic": "door.opened"}),
        ),
        (
            json!({"type": "door.input.rex.on", "event_id": "b", "source": "p", "data": {"doorId": 1}}),
            json!({"id": "b", "body": {"doorId": 1}, "metadata": {"occurred": 1_800_000_000_000u64}, "panelId": "p", "topic": "door.input.rex.on"}),
        ),
        (
            json!({"type": "door.input.rex.on", "event_id": "c", "data": {"body": 1, "metadata": {"a": 1}, "x": 2}}),
            json!({
                "id": "c",
                "body": {"body": 1, "metadata": {"a": 1}, "x": 2},
                "metadata": {"occurred": 1_800_000_000_000u64},
                "panelId": null,
                "topic": "door.input.rex.on",
            }),
        ),
        (
            json!({"type": "door.input.virtualread", "event_id": "d", "source": "p", "data": {"metadata": {"m": 1}, "body": [2]}}),
            json!({"body": [2], "id": "d", "panelId": "p", "topic": "door.input.virtualread", "metadata": {"m": 1}}),
        ),
        (
            json!({"type": "panel.connected", "source": "p", "data": {"ip": "::1"}, "occurred_at": "2026-01-02T03:04:05.678Z"}),
            json!({"ip": "::1", "timestamp": "2026-01-02T03:04:05Z", "panelId": "p", "topic": "panel.connected"}),
        ),
        (
            json!({"type": "panel.connected", "data": null, "occurred_at": "2026-01-02T03:04:05.678Z"}),
            json!({"timestamp": "2026-01-02T03:04:05Z", "panelId": null, "topic": "panel.connected"}),
        ),
        (
            json!({"type": "x.y", "source": "p", "event_id": "e", "data": null}),
            json!({"id": "e", "body": null, "metadata": {"occurred": 1_800_000_000_000u64}, "panelId": "p", "topic": "x.y"}),
        ),
        (json!({"type": "x.y", "data": {"a": 1}}), json!({"a": 1, "topic": "x.y"})),
    ] {
        let mut event = event;
        // The door that nobody knows has a source, so that it is a panel's.
        if event["event_id"] == "a" {
            event["type"] = json!("door.input.dps.opened");
        }
        let mut expected = expected;
        if expected["id"] == "a" {
            expected["topic"] = json!("door.input.dps.opened");
        }
        daemon.post("/v1/events", event).await.expect(202);
        let received = panel.next().await;
        assert_eq!(String::from_utf8_lossy(&received.body), expected.to_string());
        assert!(verify_pdk(&received, made["secret"].as_str().unwrap()));
    }
    for (event_type, data, fault) in [
        ("panel.connected", json!({"panelId": 1}), "panelId"),
        ("panel.connected", json!({"topic": 1}), "topic"),
        ("panel.connected", json!([1]), "object"),
        ("x.y", json!({"topic": 1}), "topic"),
    ] {
        let answer = daemon.post("/v1/events", json!({"type": event_type, "data": data})).await;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(text.contains(fault), "{text}");
        assert_eq!(answer.refused(422, "validation_failed"), ["data"]);
    }
    assert_eq!(panel.total(), 8);
}

#[tokio::test]
async fn pdk_signs_only_where_there_is_a_secret_and_with_the_old_one_meanwhile() {
    let daemon = daemon("").await;
    let (mut unsigned, _) = subscribe(&daemon, "pdk", json!({"events": ["door.*"], "secret": null})).await;
    daemon.publish("door.input.rex.on", json!({"body": 1})).await;
    assert_eq!(unsigned.next().await.header("x-pdk-signature"), "");

    for (format, events, verify) in
        [("pdk", "door.*", verify_pdk as fn(&_, &str) -> bool), ("ferriskey", "door.*", verify_ferriskey)]
    {
        let (mut receiver, made) = subscribe(&daemon, format, json!({"events": [events]})).await;
        let old = made["secret"].as_str().unwrap();
        let path = format!("/v1/subscriptions/{}/secret/rotate", made["id"].as_str().unwrap());
        let rotated = daemon.post(&path, json!({"overlap": "1h"})).await.expect(200);
        let new = rotated["secrets"].as_array().unwrap().last().unwrap()["secret"].as_str().unwrap().to_owned();
        daemon.publish("door.input.rex.on", json!({"body": 1})).await;
        assert!(verify(&receiver.next().await, old), "{format}: receivers that know only the old one go on");
        daemon.pass(std::time::Duration::from_secs(3600));
        daemon.publish("door.input.rex.on", json!({"body": 1})).await;
        assert!(verify(&receiver.next().await, &new), "{format}");
    }
}

#[tokio::test]
async fn pdks_levels_of_secrecy_remove_credentials_then_names() {
    let daemon = daemon("[[secrecy]]\nlevel = 1\nevents = \"*\"\nkey = \"badge\"\n").await;
    let data = json!({"body": {"pin": "1", "badge": "2", "firstName": "Ann", "doorId": 3}});
    for (level, left) in [
        (Some(0), json!({"pin": "1", "badge": "2", "firstName": "Ann", "doorId": 3})),
        (None, json!({"firstName": "Ann", "doorId": 3})),
        (Some(2), json!({"doorId": 3})),
    ] {
        let mut fields = json!({"events": ["door.*"]});
        if let Some(level) = level {
            fields["secrecy_level"] = json!(level);
        }
        let (mut receiver, _) = subscribe(&daemon, "pdk", fields).await;
        daemon.publish("door.input.rex.on", data.clone()).await;
        assert_eq!(receiver.next().await.json()["body"], left, "{level:?}");
    }
    let (mut receiver, _) = subscribe(&daemon, "pdk", json!({"events": ["permission.*"], "secrecy_level": 2})).await;
    let data = json!({"name": "Ann", "role": "r", "user": {"lastName": "B", "name": "kept"}});
    daemon.publish("permission.accepted", data).await;
    let body = receiver.next().await.json();
    assert_eq!(body, json!({"role": "r", "user": {"name": "kept"}, "topic": "permission.accepted"}));
}

#[tokio::test]
async fn ferriskeys_data_may_be_null_and_its_delivery_id_stays() {
    let daemon = daemon("").await;
    let mut receiver = Receiver::answering(|_, nth| Reply::status(if nth == 0 { 500 } else { 200 })).await;
    let fields = json!({"url": receiver.url, "format": "ferriskey", "headers": {"Authorization": "Bearer x"}});
    let made = daemon.subscribe(fields).await;
    let delivery = daemon.deliver(&made, "client.deleted", Value::Null).await;
    let first = receiver.next().await;
    assert_eq!((&first.json()["data"], &first.json()["resource_id"]), (&Value::Null, &json!("default")));
    assert_eq!(first.header("authorization"), "Bearer x");
    daemon.attempted(&delivery, 1).await;
    daemon.pass(std::time::Duration::from_secs(60));
    let second = receiver.next().await;
    assert_eq!(first.header("x-ferriskey-delivery-id"), second.header("x-ferriskey-delivery-id"));
    assert_ne!(first.header("x-ferriskey-timestamp"), second.header("x-ferriskey-timestamp"));
    let own =
        json!({"url": receiver.url, "format": "ferriskey", "events": ["*"], "headers": {"X-FerrisKey-Signature": "1"}});
    assert_eq!(
        daemon.post("/v1/subscriptions", own).await.refused(422, "validation_failed"),
        ["headers.X-FerrisKey-Signature"]
    );
}

#[tokio::test]
async fn blynks_requests_are_what_templates_say() {
    let daemon = daemon("").await;
    let (mut empty, made) = subscribe(&daemon, "blynk", json!({"events": ["blynk.device.added"]})).await;
    assert_eq!(made["secret"], Value::Null, "nothing is signed");
    daemon.publish("blynk.device.added", json!({"device": {"id": 42}})).await;
    let received = empty.next().await;
    assert_eq!((received.body.len(), received.header("content-type")), (0, ""));

    let placeholders = daemon.get("/v1/event-types/blynk.device.added").await.expect(200)["placeholders"].clone();
    let placeholders: Vec<&str> = placeholders.as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
    let lists = |name: &&str| !matches!(*name, "device_pinValue");
    let body: Vec<String> = placeholders.iter().copied().filter(lists).map(|name| format!("{{{name}}}")).collect();
    assert_eq!(body.len(), 34);
    let data = json!({
        "device": {
            "id": 42, "name": "Boiler \"3\"", "authToken": "t", "templateId": 5, "productName": "B", "orgName": "Acme",
            "dataStreams": {"X": "21.5"}, "dateCreated": 17, "clientType": "NEW", "country": "US", "state": "NY",
            "zipCode": "1", "metadata": {"X": "room"}, "tags": ["a", "b"],
        },
        "datastream": {"id": 3, "pin": "V1", "value": ["7", "8"]},
        "user": {
            "id": 1, "email": "e", "name": "n", "orgName": "o", "dateCreated": 2, "roleName": "r", "title": "t",
            "nickname": "k", "phoneNumber": "p", "country": "c", "state": "s", "zipCode": "z", "assignedTags": ["x"],
            "ownDevicesCount": 3, "devicesCountByProductName": {"B": 2},
        },
    });
    let text = format!("{} {{device_pinValue}} {{device_pinValue[1]}} {{type}}", body.join("|"));
    assert!(text.len() < 1024);
    let fields = json!({"events": ["blynk.datastream.updated"], "body": text, "content_type": "text", "delivery": {"rate_per_second": 0}});
    let (mut receiver, _) = subscribe(&daemon, "blynk", fields).await;
    let event = json!({"type": "blynk.datastream.updated", "data": data, "occurred_at": "2026-01-02T03:04:05.678Z"});
    daemon.post("/v1/events", event).await.expect(202);
    let user = data["user"].to_string();
    assert_eq!(
        String::from_utf8_lossy(&receiver.next().await.body),
        format!(
            "42|Boiler \"3\"|t|5|B|Acme|21.5|3|17|V1|NEW|US|NY|1|room|a,b|1767323045|2026-01-02T03:04:05.678Z|1|{user}|e|n|o|2|r|t\
             |k|p|c|s|z|x|3|{{\"B\":2}} 7,8 8 blynk.datastream.updated"
        )
    );
}

#[tokio::test]
async fn blynk_is_limited_as_its_documents_say() {
    let daemon = daemon("").await;
    let mut receiver = Receiver::start().await;
    let subscription = |fields: Value| {
        let mut all = json!({"url": receiver.url, "format": "blynk", "events": ["blynk.device.added"]});
        all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        all
    };
    let long = |bytes: usize| "x".repeat(bytes);
    for (fields, fault) in [
        (json!({"url": format!("https://a.example/{}", long(495))}), "url"),
        (json!({"body": long(1025), "content_type": "text"}), "body"),
        (json!({"secret": "s"}), "secret"),
        (json!({"body": "{device_nonsense}", "content_type": "text"}), "body"),
    ] {
        let refused = daemon.post("/v1/subscriptions", subscription(fields)).await;
        assert_eq!(refused.refused(422, "validation_failed"), [fault]);
    }
    // Ten a minute; more wait, none is dropped.
    let made = daemon.subscribe(subscription(json!({"body": "{device_name}", "content_type": "text"}))).await;
    for name in ["a", "b"] {
        daemon.publish("blynk.device.added", json!({"device": {"name": name}})).await;
    }
    assert_eq!(receiver.next().await.body, "a");
    daemon.pass(std::time::Duration::from_secs(6));
    assert_eq!(receiver.next().await.body, "b");
    daemon.pass(std::time::Duration::from_secs(6));
    let large = daemon.deliver(&made, "blynk.device.added", json!({"device": {"name": long(5 * 1024 + 1)}})).await;
    let failed = daemon.in_state(&large, "failed").await;
    assert_eq!((&failed["code"], receiver.total()), (&json!("too_large"), 2), "never sent");
}

#[tokio::test]
async fn cloudevents_are_structured_or_binary() {
    for (mode, content_type) in [("structured", "application/cloudevents+json"), ("binary", "application/json")] {
        let daemon = daemon(&format!("[dialects.cloudevents]\nmode = \"{mode}\"\n")).await;
        let (mut receiver, made) = subscribe(&daemon, "cloudevents", json!({})).await;
        let event = json!({
            "type": "door.opened",
            "source": "panel:7_a",
            "subject": "50 % \"é\"",
            "event_id": "e-1",
            "occurred_at": "2026-01-02T03:04:05Z",
            "data": {"n": 1},
        });
        daemon.post("/v1/events", event).await.expect(202);
        let received = receiver.next().await;
        assert_eq!(received.header("content-type"), content_type);
        if mode == "structured" {
            let expected = json!({
                "specversion": "1.0",
                "id": "e-1",
                "source": "panel:7_a",
                "type": "door.opened",
                "time": "2026-01-02T03:04:05.000Z",
                "subject": "50 % \"é\"",
                "datacontenttype": "application/json",
                "data": {"n": 1},
            });
            assert_eq!(String::from_utf8_lossy(&received.body), expected.to_string());
        } else {
            assert_eq!(received.body, r#"{"n":1}"#);
            for (name, value) in [
                ("ce-specversion", "1.0"),
                ("ce-id", "e-1"),
                ("ce-source", "panel:7_a"),
                ("ce-type", "door.opened"),
                ("ce-time", "2026-01-02T03:04:05.000Z"),
                ("ce-subject", "50%20%25%20%22%C3%A9%22"),
            ] {
                assert_eq!(received.header(name), value, "{name}");
            }
        }
        let webhook = standardwebhooks::Webhook::new(made["secret"].as_str().unwrap()).unwrap();
        let headers: Vec<&str> = ["webhook-id", "webhook-signature"].map(|name| received.header(name)).to_vec();
        let timestamp: i64 = received.header("webhook-timestamp").parse().unwrap();
        let signed = webhook.sign(headers[0], timestamp, &received.body).unwrap();
        assert_eq!(headers[1], signed);
    }
}

#[tokio::test]
async fn the_catalog_lists_every_vendors_events() {
    let daemon = daemon("").await;
    let mut cursor = String::new();
    let mut formats = std::collections::BTreeMap::new();
    loop {
        let page = daemon.get(&format!("/v1/event-types?limit=50{cursor}")).await.expect(200);
        for entry in page["data"].as_array().unwrap() {
            *formats.entry(entry["format"].as_str().unwrap().to_owned()).or_insert(0) += 1;
            assert_eq!(entry["built_in"], true);
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let expected = [("blynk", 9), ("ferriskey", 35), ("pdk", 70), ("peridio", 9)];
    assert_eq!(formats.iter().map(|(name, count)| (name.as_str(), *count)).collect::<Vec<_>>(), expected);
    let path = "/v1/event-types/door.request.allowed";
    assert_eq!(daemon.get(path).await.expect(200)["category"], "panel");
    daemon.call("PUT", path, json!({"description": "mine"})).await.refused(409, "built_in");
    daemon.call("DELETE", path, Value::Null).await.refused(409, "built_in");
}
