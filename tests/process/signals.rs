//! Stopping and reloading.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::daemon::{Daemon, Home, run};
use crate::load::{Load, PUBLISHERS};
use crate::support::{Receiver, Reply, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_under_load_ends_what_is_in_flight_and_records_it() {
    let home = Home::new();
    let path = home.quiet(&home.configure(""));
    let mut receiver = Receiver::plain(|_, _| Reply::status(200)).await;
    let mut daemon = Daemon::start(&path).await;
    daemon.post("/v1/subscriptions", &json!({"url": receiver.url, "events": ["*"]})).await.expect(201);
    let load = Load::of(u64::MAX);
    let address = daemon.address;
    let stopper = async {
        load.reaches(500).await;
        daemon.stop().await
    };
    let (ids, status) = tokio::join!(load.publish(address), stopper);
    assert_eq!(status.code(), Some(0), "{}", daemon.log());
    let daemon = Daemon::start(&path).await;
    daemon.until("/v1/stats", |stats| stats["deliveries"]["pending"] == 0).await;
    // Each once: what was in flight when the signal came was recorded.
    let mut arrived = HashSet::new();
    for _ in 0..receiver.total() {
        assert!(arrived.insert(receiver.next().await.header("webhook-id").to_owned()), "nothing comes twice");
    }
    assert!(ids.iter().all(|id| arrived.contains(id)));
    assert!(arrived.len() - ids.len() <= PUBLISHERS as usize, "{} of {}", ids.len(), arrived.len());
}

#[tokio::test]
async fn a_second_signal_stops_at_once() {
    let home = Home::new();
    let path = home.write_config("auth = \"none\"\ndrain = \"10m\"", "");
    let hanging = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let url = format!("http://{}/", hanging.local_addr().expect("bound"));
    let mut daemon = Daemon::start(&path).await;
    daemon.post("/v1/subscriptions", &json!({"url": url, "events": ["*"]})).await.expect(201);
    daemon.post("/v1/events", &json!({"type": "a.b", "data": 1})).await.expect(202);
    let (_connection, _) = within("the attempt", hanging.accept()).await.expect("accepted");
    daemon.signal(Signal::TERM);
    daemon.logs("stopping", |entry| entry["fields"]["message"] == "stopping").await;
    assert_eq!(daemon.stop().await.code(), Some(0));
    let daemon = Daemon::start(&path).await;
    let list = daemon.get("/v1/deliveries").await.expect(200);
    assert_eq!((&list["data"][0]["state"], &list["data"][0]["attempts"]), (&json!("pending"), &json!(0)));
}

#[tokio::test]
async fn what_does_not_end_in_time_is_recorded_as_interrupted() {
    let home = Home::new();
    let path = home.write_config("auth = \"none\"\ndrain = \"0s\"", "");
    // The system accepts for it, and nobody answers.
    let hanging = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let url = format!("http://{}/", hanging.local_addr().expect("bound"));
    let mut daemon = Daemon::start(&path).await;
    daemon.post("/v1/subscriptions", &json!({"url": url, "events": ["*"]})).await.expect(201);
    daemon.post("/v1/events", &json!({"type": "a.b", "data": 1})).await.expect(202);
    let (_connection, _) = within("the attempt", hanging.accept()).await.expect("accepted");
    assert_eq!(daemon.stop().await.code(), Some(0), "{}", daemon.log());
    drop(hanging);
    let daemon = Daemon::start(&path).await;
    let list = daemon.get("/v1/deliveries").await.expect(200);
    let shown =
        daemon.get(&format!("/v1/deliveries/{}", list["data"][0]["id"].as_str().expect("one"))).await.expect(200);
    assert_eq!(shown["attempts_kept"][0]["outcome"]["code"], "interrupted");
    assert_eq!(shown["state"], "pending");
}

#[tokio::test]
async fn sigint_stops_in_order_too() {
    let home = Home::new();
    let mut daemon = Daemon::start(&home.configure("")).await;
    daemon.signal(Signal::INT);
    assert_eq!(daemon.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_reload_takes_what_is_right_and_changes_nothing_by_what_is_wrong() {
    let home = Home::new();
    let new_key = async |name: &'static str| -> Value {
        let made = run(&["key", "new", "--json", "--name", name]).await;
        serde_json::from_slice(&made.stdout).expect("JSON")
    };
    let (old, new) = (new_key("old").await, new_key("new").await);
    let [old_token, new_token] = [&old, &new].map(|key| key["token"].as_str().expect("a token"));
    let blocks = format!("{}\n{}", old["toml"].as_str().expect("a block"), new["toml"].as_str().expect("a block"));
    let path = home.write_config("auth = \"keys\"", old["toml"].as_str().expect("a block"));
    let mut daemon = Daemon::start(&path).await;
    let status =
        async |daemon: &Daemon, token: &str| daemon.call("GET", "/v1/stats", Some(token), &Value::Null).await.status;
    assert_eq!((status(&daemon, old_token).await, status(&daemon, new_token).await), (200, 401));

    home.write_config("auth = \"keys\"\nnonsense = 1", &blocks);
    daemon.signal(Signal::HUP);
    let entry = daemon.logs("not reloaded", |entry| entry["level"] == "ERROR").await;
    assert!(entry["fields"]["error"].as_str().expect("text").contains("service.nonsense"), "{entry}");
    assert_eq!((status(&daemon, old_token).await, status(&daemon, new_token).await), (200, 401));

    home.write_config("auth = \"keys\"", &blocks);
    daemon.signal(Signal::HUP);
    daemon.logs("reloaded", |entry| entry["fields"]["message"] == "configuration reloaded").await;
    assert_eq!((status(&daemon, old_token).await, status(&daemon, new_token).await), (200, 200));
    assert_eq!(daemon.stop().await.code(), Some(0));
}

#[tokio::test]
async fn a_delivery_waits_for_nothing_but_its_time_after_a_restart() {
    let home = Home::new();
    let path = home.configure("[delivery.retry]\nfirst = \"100ms\"\njitter = 0\n");
    let is_up = Arc::new(AtomicBool::new(false));
    let up = is_up.clone();
    let receiver = Receiver::plain(move |_, _| Reply::status(if up.load(Ordering::Relaxed) { 200 } else { 400 })).await;
    let mut daemon = Daemon::start(&path).await;
    daemon.post("/v1/subscriptions", &json!({"url": receiver.url, "events": ["*"]})).await.expect(201);
    daemon.post("/v1/events", &json!({"type": "a.b", "data": 1})).await.expect(202);
    daemon.until("/v1/deliveries", |list| list["data"][0]["attempts"] != 0).await;
    daemon.stop().await;
    is_up.store(true, Ordering::Relaxed);
    let daemon = Daemon::start(&path).await;
    let list = daemon.until("/v1/deliveries", |list| list["data"][0]["state"] == "delivered").await;
    assert_eq!(list["data"][0]["attempts"], receiver.total());
}
