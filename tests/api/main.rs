//! Every route of the native API and every refusal it documents, over HTTP, against
//! the real store.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/mod.rs"]
mod support;

mod attacks;
mod auth;
mod backup;
mod declared;
mod deliveries;
mod event_types;
mod events;
mod http_rules;
mod lists;
mod matrix;
mod monitoring;
mod openapi;
mod organizations;
mod publishing;
mod replay;
mod secrets;
mod service;
mod sources;
mod subscription_faults;
mod subscriptions;
mod trials;
mod wire;

use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use support::{Answer, Daemon, Receiver, Reply};

/// The configuration of a key whose token is `ph_` and its name.
fn key(name: &str, roles: &[&str], organizations: &[&str]) -> String {
    let digest: String = Sha256::digest(token(name)).iter().map(|byte| format!("{byte:02x}")).collect();
    format!(
        "[[api_keys]]\nname = \"{name}\"\nsha256 = \"{digest}\"\nroles = {roles:?}\norganizations = {organizations:?}\n"
    )
}

fn token(name: &str) -> String {
    format!("ph_{name}")
}

/// A daemon that asks for keys, with these.
async fn daemon_with_keys(keys: &[String]) -> Daemon {
    Daemon::with(&keys.concat(), &[("POSTHASTE_SERVICE_AUTH", "keys")]).await
}

/// A request with the key of that name.
async fn call_as(daemon: &Daemon, key: &str, method: &str, path: &str, body: Value) -> Answer {
    daemon.call_with(method, path, body, &[("authorization", &format!("Bearer {}", token(key)))]).await
}

/// A request with exactly these bytes.
async fn send_bytes(daemon: &Daemon, method: &str, path: &str, content_type: &str, body: impl Into<Bytes>) -> Answer {
    let request = http::Request::builder().method(method).uri(path).header("content-type", content_type);
    daemon.send(request.body(body.into()).unwrap()).await
}

/// Every row of a list, by pages of that many, each cursor followed to the end.
async fn walk(daemon: &Daemon, path: &str, limit: usize) -> Vec<Value> {
    let separator = if path.contains('?') { '&' } else { '?' };
    let mut rows = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = daemon.get(&format!("{path}{separator}limit={limit}{cursor}")).await.expect(200);
        let data = page["data"].as_array().unwrap();
        assert!(data.len() <= limit, "{path}");
        rows.extend(data.iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return rows,
        }
    }
}

/// This member of each row, which must be a string.
fn texts(rows: &[Value], pointer: &str) -> Vec<String> {
    rows.iter().map(|row| row.pointer(pointer).and_then(Value::as_str).expect(pointer).to_owned()).collect()
}

fn sorted<T: Ord>(mut items: Vec<T>) -> Vec<T> {
    items.sort();
    items
}

/// A receiver that answers 500 to everything, so that deliveries stay pending.
async fn failing_receiver() -> Receiver {
    Receiver::answering(|_, _| Reply::status(500)).await
}

/// The path of a subscription that an answer shows.
fn path_of(subscription: &Value) -> String {
    format!("/v1/subscriptions/{}", subscription["id"].as_str().unwrap())
}

/// Publishes one event for a lone subscription and answers its delivery's path.
async fn publish_for_delivery(daemon: &Daemon, event_type: &str) -> String {
    let published = daemon.publish(event_type, json!({})).await;
    let event = daemon.get(&format!("/v1/events/{}", published["id"].as_str().unwrap())).await.expect(200);
    assert_eq!(event["deliveries"].as_array().unwrap().len(), 1, "{event}");
    format!("/v1/deliveries/{}", event["deliveries"][0]["id"].as_str().unwrap())
}
