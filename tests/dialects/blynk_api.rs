//! Blynk's management API, and a webhook's life through it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Daemon, Receiver, Reply};
use crate::{call_as, daemon, daemon_with_keys, key};

const ON: &str = "[dialects.blynk]\nenabled = true\n";
const ALL: &str = "/blynk/api/v1/organization/webhooks";
const NEW: &str = "/blynk/api/v1/organization/webhook/create";

/// Where the webhook of an answer is.
fn path(webhook: &Value) -> String {
    format!("/blynk/api/v1/organization/webhook?webhookId={}", webhook["id"])
}

/// The subscription of the webhook, in the native API.
async fn native(daemon: &Daemon, webhook: &Value) -> String {
    let all = daemon.get("/v1/subscriptions?limit=500").await.expect(200);
    let found = all["data"].as_array().unwrap().iter().find(|it| it["number"] == webhook["id"]).unwrap().clone();
    format!("/v1/subscriptions/{}", found["id"].as_str().unwrap())
}

/// What the vendor's own example holds.
fn example() -> Value {
    json!({
        "name": "Device Status Notification",
        "trigger": "DEVICE_ADDED",
        "url": "https://example.com/webhook/{device_id}",
        "method": "POST",
        "contentType": "JSON",
        "authType": "NONE",
        "body": "{\"device_id\": \"{device_id}\"}",
    })
}

/// The same with these members instead.
fn with(mut body: Value, members: Value) -> Value {
    for (name, value) in members.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

/// Makes the example's webhook with these members. A second passes, so that none of
/// many is one too many.
async fn create(daemon: &Daemon, members: Value) -> Value {
    daemon.pass(Duration::from_secs(1));
    daemon.post(NEW, with(example(), members)).await.expect(200)
}

#[tokio::test]
async fn a_webhook_lives_as_the_vendor_documents_it() {
    let daemon = daemon(ON).await;
    let made =
        daemon.post(NEW, with(example(), json!({"failureReceivers": [7, "ops"], "whatever": 1}))).await.expect(200);
    let expected = json!({
        "id": 1,
        "name": "Device Status Notification",
        "trigger": "DEVICE_ADDED",
        "dataTrigger": null,
        "url": "https://example.com/webhook/{device_id}",
        "method": "POST",
        "contentType": "JSON",
        "authType": "NONE",
        "body": "{\"device_id\": \"{device_id}\"}",
        "formBody": null,
        "basicAuth": null,
        "headers": {},
        "queryParams": null,
        "oauth2": null,
        "failureReceivers": [7, "ops"],
        "status": "ENABLED",
        "attempts": 0,
        "createdAt": 1_800_000_000_000u64,
        "updatedAt": 1_800_000_000_000u64,
        "lastTriggeredAt": null,
        "failureLimit": 10,
    });
    assert_eq!(made, expected);
    assert_eq!(daemon.get(&path(&made)).await.expect(200), expected);
    assert_eq!(daemon.get(ALL).await.expect(200), json!([expected]));
    assert_eq!(daemon.get(&format!("{ALL}?orgId=default")).await.expect(200), json!([expected]));

    // The same object in the native API.
    let shown = daemon.get(&native(&daemon, &made).await).await.expect(200);
    assert_eq!((&shown["format"], &shown["events"]), (&json!("blynk"), &json!(["blynk.device.added"])));
    assert_eq!((&shown["failure_limit"], &shown["notify"]), (&json!(10), &json!(["7", "ops"])));

    // What was read can be written back, and an update keeps what it does not name.
    assert_eq!(daemon.call("PUT", &path(&made), expected.clone()).await.expect(200), expected);
    daemon.pass(Duration::from_secs(5));
    let body = json!({"name": "Updated Webhook Name", "status": "DISABLED", "failureLimit": 3, "method": null});
    let put = daemon.call("PUT", &path(&made), body).await.expect(200);
    let changed = json!({
        "name": "Updated Webhook Name",
        "status": "DISABLED",
        "failureLimit": 3,
        "updatedAt": 1_800_000_005_000u64,
    });
    assert_eq!(put, with(expected, changed));
    assert_eq!(daemon.get(&path(&made)).await.expect(200), put);

    let body = json!({
        "trigger": "DEVICE_DATASTREAM_UPDATE",
        "dataTrigger": {"deviceId": 42, "dataStreamId": 3, "condition": {"op": "gt", "value": 30}},
        "url": "https://other.example",
        "method": "PUT",
        "contentType": "URL_ENCODED_FORM",
        "body": null,
        "formBody": {"v": "{device_pinValue}"},
        "headers": {"X-Tenant": "acme", "X-Token": "t"},
        "queryParams": {"d": "{device_id}"},
        "failureReceivers": null,
        "authType": "BASIC",
        "basicAuth": {"username": "u", "password": "p"},
        "status": "ENABLED",
    });
    let put = daemon.call("PUT", &path(&made), body.clone()).await.expect(200);
    let masked = json!({
        "headers": {"X-Tenant": "acme", "X-Token": "***"},
        "failureReceivers": [],
        "basicAuth": {"username": "u", "password": "***"},
    });
    for (name, value) in with(body, masked).as_object().unwrap() {
        assert_eq!(put[name], *value, "{name}");
    }
    assert_eq!(daemon.call("PUT", &path(&made), put.clone()).await.expect(200), put, "and back again");

    // A trigger without data drops what the one before had.
    let plain = daemon.call("PUT", &path(&made), json!({"trigger": "NEW_USER"})).await.expect(200);
    assert_eq!((&plain["trigger"], &plain["dataTrigger"]), (&json!("NEW_USER"), &Value::Null));

    let answer = daemon.call("DELETE", &path(&made), Value::Null).await;
    assert!(answer.body.is_empty());
    answer.expect(200);
    daemon.pass(Duration::from_secs(1));
    daemon.get(&path(&made)).await.expect(404);
    assert_eq!(daemon.get(ALL).await.expect(200), json!([]));
}

#[tokio::test]
async fn what_is_wrong_is_told_by_the_vendors_names() {
    let daemon = daemon(ON).await;
    let made = create(&daemon, json!({})).await;
    let data = |trigger: &str, data: Value| json!({"trigger": trigger, "dataTrigger": data});
    for (members, told) in [
        (json!({"trigger": "NONSENSE"}), "trigger must be one of NEW_USER"),
        (json!({"trigger": 1}), "trigger must be a string"),
        (data("DEVICE_LOG_EVENT", Value::Null), "dataTrigger is required for the trigger DEVICE_LOG_EVENT"),
        (data("DEVICE_LOG_EVENT", json!([])), "dataTrigger must be an object"),
        (data("DEVICE_LOG_EVENT", json!({})), "dataTrigger.deviceId is required"),
        (data("DEVICE_LOG_EVENT", json!({"deviceId": true})), "dataTrigger.deviceId must be a number or a string"),
        (data("PRODUCT_LOG_EVENT", json!({"deviceId": 1, "templateId": 2})), "dataTrigger.deviceId is not for"),
        (data("GLOBAL_PRODUCT_LOG_EVENT", json!({"eventCode": "x"})), "dataTrigger.templateId is required"),
        (data("DEVICE_LOG_EVENT", json!({"deviceId": 1, "dataStreamId": 2})), "dataTrigger.dataStreamId is not for"),
        (
            data("DEVICE_LOG_EVENT", json!({"deviceId": 1, "condition": {"op": "eq", "value": 1}})),
            "dataTrigger.condition is not for",
        ),
        (
            data("DEVICE_DATASTREAM_UPDATE", json!({"deviceId": 1, "condition": {"op": "over", "value": 1}})),
            "dataTrigger.condition.op must be one of",
        ),
        (
            data("DEVICE_DATASTREAM_UPDATE", json!({"deviceId": 1, "condition": {"op": "gt"}})),
            "dataTrigger.condition.value is required",
        ),
        (
            data("DEVICE_DATASTREAM_UPDATE", json!({"deviceId": 1, "condition": {"op": "gt", "value": true}})),
            "dataTrigger.condition.value must be a number or a string",
        ),
        (json!({"dataTrigger": {"deviceId": 1}}), "dataTrigger is not for the trigger DEVICE_ADDED"),
        (json!({"url": "http://a.example"}), "url must begin with https://"),
        (json!({"url": format!("https://a.example/{}", "x".repeat(512))}), "url must have at most 512 characters"),
        (json!({"url": "https://{device_id}.example"}), "url must have placeholders only in its path and query"),
        (json!({"method": "BREW"}), "method must be one of"),
        (json!({"contentType": "XML"}), "contentType must be one of PLAIN_TEXT, JSON, URL_ENCODED_FORM"),
        (json!({"contentType": "URL_ENCODED_FORM", "body": null}), "contentType must not be form"),
        (json!({"formBody": {"a": "b"}}), "formBody must not be set beside body"),
        (json!({"formBody": {"a": 1}}), "formBody.a must be a string"),
        (json!({"body": format!("\"{}\"", "x".repeat(1024))}), "body must have at most 1024 bytes"),
        (json!({"body": "{nope}"}), "body must not use {nope}"),
        (json!({"headers": {"Host": "x"}}), "headers.Host must not be set"),
        (json!({"authType": "TOKEN"}), "authType must be one of NONE, BASIC, OAUTH2"),
        (
            json!({"authType": null, "basicAuth": {"username": "u", "password": "p"}}),
            "authType is required beside basicAuth",
        ),
        (json!({"authType": "BASIC", "basicAuth": {"username": "u"}}), "basicAuth.password is required"),
        (
            json!({"authType": "OAUTH2", "oauth2": {"clientId": "c", "clientSecret": "s", "tokenUrl": "http://a.example"}}),
            "oauth2.tokenUrl must begin with https://",
        ),
        (
            json!({"authType": "OAUTH2", "oauth2": {"clientId": "c", "clientSecret": "***", "tokenUrl": "https://a.example"}}),
            "oauth2.clientSecret must be given",
        ),
        (json!({"failureReceivers": "me"}), "failureReceivers must be a list"),
        (json!({"failureReceivers": [true]}), "failureReceivers[0] must be a string"),
        (json!({"failureLimit": 0}), "failureLimit must be"),
        (json!({"status": "PAUSED"}), "status must be one of ENABLED, DISABLED"),
    ] {
        for (method, path) in [("POST", NEW), ("PUT", path(&made).as_str())] {
            daemon.pass(Duration::from_secs(1));
            let body = if method == "POST" { with(example(), members.clone()) } else { members.clone() };
            let refused = daemon.call(method, path, body).await.expect(400);
            let message = refused["error"]["message"].as_str().unwrap();
            assert!(message.starts_with(told) && !message.contains(';'), "{method} {members}: {message}");
        }
    }
    daemon.pass(Duration::from_secs(1));
    let refused = daemon.post(NEW, json!({})).await.expect(400);
    assert_eq!(refused["error"]["message"], "trigger is required; url is required");
    for query in ["", "?webhookId=one", "?webhookId=-1"] {
        let refused = daemon.get(&format!("/blynk/api/v1/organization/webhook{query}")).await.expect(400);
        assert!(refused["error"]["message"].as_str().unwrap().starts_with("webhookId "));
    }
    assert_eq!(daemon.get(ALL).await.expect(200), json!([made]), "nothing was made or changed");
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let daemon = daemon(ON).await;
    let made = create(&daemon, json!({})).await;
    let other = daemon.subscribe(json!({"url": "https://a.example"})).await;
    for missing in [json!({"id": 99}), json!({"id": other["number"]})] {
        for (method, body) in [("GET", Value::Null), ("PUT", json!({})), ("DELETE", Value::Null)] {
            daemon.pass(Duration::from_secs(1));
            let refused = daemon.call(method, &path(&missing), body).await.expect(404);
            assert_eq!(refused["error"]["message"], "there is no such webhook");
        }
    }
    daemon.get(&format!("{ALL}?orgId=nowhere")).await.expect(404);
    daemon.post(&format!("{NEW}?orgId=nowhere"), example()).await.expect(404);
    daemon.get("/blynk/api/v1/nonsense").await.expect(404);
    daemon.call("PATCH", &path(&made), json!({})).await.expect(400);
    assert!(daemon.reload("").await, "switched off");
    let refused = daemon.get(ALL).await.expect(404);
    assert_eq!(refused["error"]["message"], "the API of blynk is not switched on: [dialects.blynk] enabled");
}

#[tokio::test]
async fn a_key_has_its_organization_and_does_what_its_roles_say() {
    let keys = [
        key("admin", &["admin"], &["*"]),
        key("reader", &["read"], &["acme"]),
        key("manager", &["read", "manage"], &["acme"]),
        key("of-two", &["admin"], &["acme", "other"]),
        key("foreign", &["admin"], &["other"]),
    ];
    let daemon = daemon_with_keys(&format!("{ON}organization = \"other\"\n"), &keys).await;
    for organization in ["acme", "other"] {
        let path = format!("/v1/organizations/{organization}");
        call_as(&daemon, "admin", "PUT", &path, json!({})).await.expect(201);
    }
    // The vendor's list of errors has no 401.
    assert!(daemon.post(NEW, example()).await.expect(403)["error"]["message"].is_string());
    call_as(&daemon, "nobody", "GET", ALL, Value::Null).await.expect(403);
    call_as(&daemon, "reader", "POST", NEW, example()).await.expect(403);

    let made = call_as(&daemon, "manager", "POST", NEW, example()).await.expect(200);
    for (key, query, found) in [
        ("reader", "", true),
        ("reader", "?orgId=acme", true),
        ("foreign", "", false),
        ("of-two", "?orgId=acme", true),
        ("of-two", "", false),
        ("admin", "", false),
        ("admin", "?orgId=acme", true),
    ] {
        let all = call_as(&daemon, key, "GET", &format!("{ALL}{query}"), Value::Null).await.expect(200);
        assert_eq!(all, if found { json!([made]) } else { json!([]) }, "{key} {query}");
    }
    call_as(&daemon, "foreign", "GET", &format!("{ALL}?orgId=acme"), Value::Null).await.expect(404);
    call_as(&daemon, "foreign", "GET", &path(&made), Value::Null).await.expect(404);
    call_as(&daemon, "foreign", "DELETE", &path(&made), Value::Null).await.expect(404);
    call_as(&daemon, "reader", "DELETE", &path(&made), Value::Null).await.expect(403);
    call_as(&daemon, "of-two", "GET", &path(&made), Value::Null).await.expect(200);
    call_as(&daemon, "manager", "DELETE", &path(&made), Value::Null).await.expect(200);
}

#[tokio::test]
async fn a_key_may_ask_ten_times_a_second() {
    let daemon = daemon(ON).await;
    for _ in 0..10 {
        daemon.get(ALL).await.expect(200);
    }
    let refused = daemon.get(ALL).await;
    assert_eq!(refused.header("retry-after"), "1");
    assert!(refused.expect(429)["error"]["message"].is_string());
    daemon.pass(Duration::from_secs(1));
    daemon.get(ALL).await.expect(200);
}

/// What is sent of `event` to a webhook with that trigger; none: it is no match.
async fn triggered(daemon: &Daemon, event: &Value) -> u64 {
    daemon.post("/v1/events", event.clone()).await.expect(202)["deliveries"].as_u64().unwrap()
}

#[tokio::test]
async fn every_trigger_matches_its_events_alone() {
    let daemon = daemon(ON).await;
    for (organization, parent) in [("acme", Value::Null), ("acme-eu", json!("acme"))] {
        let path = format!("/v1/organizations/{organization}");
        daemon.call("PUT", &path, json!({"parent": parent})).await.expect(201);
    }
    let event = |event_type: &str, data: Value| json!({"type": event_type, "organization": "acme", "data": data});
    let below = |event: &Value| with(event.clone(), json!({"organization": "acme-eu"}));
    for (trigger, event_type) in [
        ("NEW_USER", "blynk.user.created"),
        ("DELETED_USER", "blynk.user.deleted"),
        ("UPDATED_USER", "blynk.user.updated"),
        ("DEVICE_ADDED", "blynk.device.added"),
        ("DEVICE_DELETED", "blynk.device.deleted"),
        ("FIRST_DEVICE_CONNECTION_IN_ORG", "blynk.device.first_connected"),
        ("ORGANIZATION_ADDED", "blynk.organization.added"),
    ] {
        daemon.pass(Duration::from_secs(1));
        let body = with(example(), json!({"trigger": trigger, "body": null}));
        let made = daemon.post(&format!("{NEW}?orgId=acme"), body).await.expect(200);
        assert_eq!((&made["trigger"], &made["dataTrigger"]), (&json!(trigger), &Value::Null));
        let matching = event(event_type, json!({"device": {"id": 1}}));
        assert_eq!(triggered(&daemon, &matching).await, 1, "{trigger}");
        assert_eq!(triggered(&daemon, &below(&matching)).await, 0, "{trigger}");
        assert_eq!(triggered(&daemon, &event("blynk.log_event", json!({"device": {"id": 1}}))).await, 0, "{trigger}");
        daemon.call("DELETE", &path(&made), Value::Null).await.expect(200);
    }

    let datastream = |device: u64, template: Value, stream: u64, value: Value| {
        let data = json!({
            "device": {"id": device, "templateId": template},
            "datastream": {"id": stream, "pin": "V1", "value": value},
        });
        event("blynk.datastream.updated", data)
    };
    let log_event = |device: u64, template: Value, code: &str| {
        event("blynk.log_event", json!({"device": {"id": device, "templateId": template}, "event": {"code": code}}))
    };
    let template = || json!("TMPL5");
    // Which trigger with which data, what it takes, what it leaves, and whether it
    // takes what is below.
    for (trigger, data, takes, leaves, is_global) in [
        (
            "DEVICE_DATASTREAM_UPDATE",
            json!({"deviceId": 42}),
            vec![datastream(42, template(), 3, json!("21.5"))],
            vec![datastream(43, template(), 3, json!(1)), log_event(42, template(), "x")],
            false,
        ),
        (
            "DEVICE_DATASTREAM_UPDATE",
            json!({"deviceId": 42, "dataStreamId": 3, "condition": {"op": "gt", "value": 30}}),
            vec![datastream(42, template(), 3, json!(30.5))],
            vec![datastream(42, template(), 3, json!(30)), datastream(42, template(), 4, json!(31))],
            false,
        ),
        (
            "PRODUCT_DATASTREAM_UPDATE",
            json!({"templateId": "TMPL5", "condition": {"op": "eq", "value": "on"}}),
            vec![datastream(1, template(), 3, json!("on")), datastream(2, template(), 4, json!("on"))],
            vec![datastream(1, json!("TMPL6"), 3, json!("on")), datastream(1, template(), 3, json!("off"))],
            false,
        ),
        (
            "GLOBAL_PRODUCT_DATASTREAM_UPDATE",
            json!({"templateId": 5}),
            vec![datastream(1, json!(5), 3, json!(1))],
            vec![datastream(1, json!(6), 3, json!(1))],
            true,
        ),
        (
            "DEVICE_LOG_EVENT",
            json!({"deviceId": 42, "eventCode": "overheat"}),
            vec![log_event(42, template(), "overheat")],
            vec![log_event(42, template(), "cold"), log_event(43, template(), "overheat")],
            false,
        ),
        (
            "PRODUCT_LOG_EVENT",
            json!({"templateId": "TMPL5"}),
            vec![log_event(1, template(), "a"), log_event(2, template(), "b")],
            vec![log_event(1, json!("TMPL6"), "a"), datastream(1, template(), 3, json!(1))],
            false,
        ),
        (
            "GLOBAL_PRODUCT_LOG_EVENT",
            json!({"templateId": "TMPL5", "eventCode": "a"}),
            vec![log_event(1, template(), "a")],
            vec![log_event(1, template(), "b")],
            true,
        ),
    ] {
        daemon.pass(Duration::from_secs(1));
        let body = with(example(), json!({"trigger": trigger, "dataTrigger": data, "body": null}));
        let made = daemon.post(&format!("{NEW}?orgId=acme"), body).await.expect(200);
        assert_eq!((&made["trigger"], &made["dataTrigger"]), (&json!(trigger), &data));
        for event in takes {
            assert_eq!(triggered(&daemon, &event).await, 1, "{trigger} {data} takes {event}");
            assert_eq!(triggered(&daemon, &below(&event)).await, u64::from(is_global), "{trigger} below");
        }
        for event in leaves {
            assert_eq!(triggered(&daemon, &event).await, 0, "{trigger} {data} leaves {event}");
        }
        daemon.call("DELETE", &path(&made), Value::Null).await.expect(200);
    }
}

#[tokio::test]
async fn secrets_are_masked_and_go_nowhere_else() {
    let daemon = daemon(ON).await;
    let mut receiver = Receiver::start().await;
    let made = create(
        &daemon,
        json!({
            "url": format!("{}/{{device_id}}", receiver.url),
            "body": null,
            "headers": {"X-Api-Key": "k"},
            "authType": "BASIC",
            "basicAuth": {"username": "u", "password": "p"},
        }),
    )
    .await;
    assert_eq!((&made["basicAuth"]["password"], &made["headers"]["X-Api-Key"]), (&json!("***"), &json!("***")));
    daemon.call("PUT", &path(&made), made.clone()).await.expect(200);
    daemon.call("PUT", &path(&made), json!({"basicAuth": {"username": "v"}})).await.expect(200);
    daemon.publish("blynk.device.added", json!({"device": {"id": 42}})).await;
    let received = receiver.next().await;
    assert_eq!((received.header("authorization"), received.header("x-api-key")), ("Basic djpw", "k"));
    assert_eq!((received.path.as_str(), received.body.len()), ("/hooks/42", 0), "no body, no envelope");
    // Whether they are written back or left out.
    for body in [with(made.clone(), json!({"url": "https://thief.example"})), json!({"url": "https://thief.example"})] {
        let refused = daemon.call("PUT", &path(&made), body).await.expect(400);
        let message = refused["error"]["message"].as_str().unwrap();
        assert!(message.contains("headers.X-Api-Key must be given anew"), "{message}");
        assert!(message.contains("basicAuth.password must be given anew"), "{message}");
    }
    daemon.pass(Duration::from_secs(1));
    let oauth2 = json!({"clientId": "c", "clientSecret": "s", "tokenUrl": "https://a.example/token"});
    let put = daemon.call("PUT", &path(&made), json!({"authType": "OAUTH2", "oauth2": oauth2})).await.expect(200);
    let shown = json!({"clientId": "c", "clientSecret": "***", "tokenUrl": "https://a.example/token"});
    assert_eq!((&put["oauth2"], &put["basicAuth"]), (&shown, &Value::Null));
    let moved = json!({"oauth2": {"tokenUrl": "https://thief.example"}});
    let refused = daemon.call("PUT", &path(&made), moved).await.expect(400);
    assert!(refused["error"]["message"].as_str().unwrap().starts_with("oauth2.clientSecret must be given anew"));
}

#[tokio::test]
async fn what_only_the_native_api_says_is_shown_as_null_and_kept() {
    let daemon = daemon(ON).await;
    let fields = json!({
        "url": "https://a.example",
        "format": "blynk",
        "events": ["blynk.*"],
        "scope": "recursive",
        "filter": [{"path": "/data/device/name", "op": "prefix", "value": "B"}],
        "authentication": {"type": "bearer", "token": "t"},
    });
    let made = daemon.subscribe(fields).await;
    let path = path(&json!({"id": made["number"]}));
    let read = daemon.get(&path).await.expect(200);
    assert_eq!((&read["trigger"], &read["authType"]), (&Value::Null, &Value::Null));
    daemon.call("PUT", &path, with(read, json!({"name": "n"}))).await.expect(200);
    let shown = daemon.get(&format!("/v1/subscriptions/{}", made["id"].as_str().unwrap())).await.expect(200);
    for name in ["events", "scope", "filter", "authentication"] {
        assert_eq!(shown[name], made[name], "{name}");
    }
    assert_eq!(shown["name"], "n");
    let refused = daemon.call("PUT", &path, json!({"dataTrigger": {"deviceId": 1}})).await.expect(400);
    assert_eq!(refused["error"]["message"], "trigger is required");
}

#[tokio::test]
async fn it_receives_fails_is_disabled_and_comes_back() {
    let daemon = daemon(ON).await;
    let mut receiver = Receiver::answering(|_, nth| Reply::status(if (1..3).contains(&nth) { 500 } else { 200 })).await;
    let made = create(&daemon, json!({"url": receiver.url, "failureLimit": 2, "failureReceivers": [7]})).await;
    let mut watcher = Receiver::start().await;
    daemon.subscribe(json!({"url": watcher.url, "events": ["posthaste.subscription.disabled"]})).await;
    let native = native(&daemon, &made).await;
    let publish = async || daemon.publish("blynk.device.added", json!({"device": {"id": 42}})).await;
    publish().await;
    assert_eq!(receiver.next().await.json(), json!({"device_id": "42"}));
    daemon.until(&native, |it| it["stats"]["attempts"] == 1).await;
    let read = daemon.get(&path(&made)).await.expect(200);
    let triggered_at = json!(daemon.clock.now().as_millis());
    assert_eq!((&read["attempts"], &read["lastTriggeredAt"]), (&json!(1), &triggered_at));

    // Ten a minute: the next one waits.
    let delivery = daemon.delivery(&daemon.get(&native).await.expect(200), &publish().await).await;
    daemon.pass(Duration::from_secs(60));
    receiver.next().await;
    daemon.attempted(&delivery, 1).await;
    daemon.pass(Duration::from_secs(60));
    receiver.next().await;
    daemon.until(&native, |it| it["status"] == "disabled_due_to_errors").await;
    let read = daemon.get(&path(&made)).await.expect(200);
    assert_eq!(read["status"], "DISABLED_DUE_TO_ERRORS");
    assert_eq!(watcher.next().await.json()["data"]["notify"], json!(["7"]), "who is to be told");
    assert_eq!(publish().await["deliveries"], 0);

    // The status is the system's: written back, it changes nothing.
    let put = daemon.call("PUT", &path(&made), with(read, json!({"name": "n"}))).await.expect(200);
    assert_eq!((&put["status"], &put["name"]), (&json!("DISABLED_DUE_TO_ERRORS"), &json!("n")));
    let ignored = json!({"status": "DISABLED_DUE_TO_ERRORS"});
    let other = create(&daemon, ignored.clone()).await;
    assert_eq!(other["status"], "ENABLED");
    assert_eq!(daemon.call("PUT", &path(&other), ignored).await.expect(200)["status"], "ENABLED");

    let put = daemon.call("PUT", &path(&made), json!({"status": "ENABLED"})).await.expect(200);
    assert_eq!(put["status"], "ENABLED");
    daemon.pass(Duration::from_secs(600));
    receiver.next().await;
    daemon.in_state(&delivery, "delivered").await;
    daemon.until(&native, |it| it["stats"]["attempts"] == 4).await;
}
