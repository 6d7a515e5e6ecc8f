//! Every example event of the vendors: published in native form, received in exactly
//! the vendor's JSON, and verified as the vendor says receivers do.

use serde_json::{Map, Value, json};

use crate::support::{Daemon, Receiver};
use crate::{daemon, data, verify_ferriskey, verify_pdk, verify_peridio};

/// An event's fields, as a publisher of that vendor's would give them.
type Native = fn(&str, &Map<String, Value>) -> Value;

fn without(map: &Map<String, Value>, names: &[&str]) -> Value {
    map.iter()
        .filter(|(key, _)| !names.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

fn millis(value: &Value) -> String {
    posthaste::time::Timestamp::from_millis(value.as_u64().unwrap()).to_string()
}

fn pdk(name: &str, example: &Map<String, Value>) -> Value {
    let mut event = json!({"type": name});
    if example.get("panelId").is_some() {
        event["source"] = example["panelId"].clone();
    }
    if let (Some(body), Some(Value::Object(metadata))) = (example.get("body"), example.get("metadata")) {
        event["event_id"] = example["id"].clone();
        event["data"] = json!({"body": body});
        if let Some(occurred) = metadata.get("occurred") {
            event["occurred_at"] = json!(millis(occurred));
            let rest = without(metadata, &["occurred"]);
            if rest != json!({}) {
                event["data"]["metadata"] = rest;
            }
        }
    } else {
        event["data"] = without(example, &["topic", "panelId"]);
    }
    event
}

fn peridio(name: &str, example: &Map<String, Value>) -> Value {
    let id = example["prn"].as_str().unwrap().rsplit(':').next().unwrap();
    json!({
        "type": name,
        "event_id": id,
        "occurred_at": example["inserted_at"],
        "data": example["data"]["data"],
    })
}

fn ferriskey(name: &str, example: &Map<String, Value>) -> Value {
    json!({
        "type": name,
        "subject": example["resource_id"],
        "occurred_at": example["timestamp"],
        "data": example["data"],
    })
}

/// Publishes all of a vendor's examples of one `category` and checks what arrives.
async fn check(
    format: &str,
    native: Native,
    is_wanted: fn(&Value) -> bool,
    organization: &str,
    verify: fn(&crate::support::Received, &str) -> bool,
) -> usize {
    let daemon: Daemon = daemon("").await;
    daemon.call("PUT", &format!("/v1/organizations/{organization}"), json!({})).await.expect(201);
    let mut receiver = Receiver::start().await;
    let all = data("events.json");
    let wanted: Vec<&Value> = all[format].as_array().unwrap().iter().filter(|entry| is_wanted(entry)).collect();
    let mut types: Vec<&str> = wanted.iter().map(|entry| entry["name"].as_str().unwrap()).collect();
    types.dedup();
    let fields = json!({"url": receiver.url, "format": format, "events": types, "organization": organization});
    let made = daemon.subscribe(fields).await;
    let secret = made["secret"].as_str().unwrap();
    if format == "peridio" {
        receiver.next().await;
    }
    for entry in &wanted {
        let example = entry["example"].as_object().unwrap();
        let mut event = native(entry["name"].as_str().unwrap(), example);
        event["organization"] = json!(organization);
        // Two of the examples share the id of their event.
        let key = uuid_of(entry);
        let headers = [("idempotency-key", key.as_str())];
        daemon.call_with("POST", "/v1/events", event, &headers).await.expect(202);
        let received = receiver.next().await;
        assert_eq!(String::from_utf8_lossy(&received.body), entry["example"].to_string());
        assert!(verify(&received, secret), "{entry}");
    }
    wanted.len()
}

fn uuid_of(entry: &Value) -> String {
    hex::encode(crate::hmac_sha256(b"key", entry.to_string().as_bytes()))
}

#[tokio::test]
async fn all_of_peridios_arrive_as_they_are_documented() {
    let count = check("peridio", peridio, |_| true, "4e33149b-637d-4679-b64f-4905e7a0cf8c", verify_peridio).await;
    assert_eq!(count, 8);
}

#[tokio::test]
async fn all_of_pdks_arrive_as_they_are_documented() {
    let organization = check("pdk", pdk, |entry| entry["category"] == "organization", "acme", verify_pdk).await;
    let panel = check("pdk", pdk, |entry| entry["category"] == "panel", "acme", verify_pdk).await;
    assert_eq!((organization, panel), (10, 60));
}

#[tokio::test]
async fn all_of_ferriskeys_arrive_as_they_are_documented() {
    assert_eq!(check("ferriskey", ferriskey, |_| true, "acme", verify_ferriskey).await, 4);
}
