//! What becomes of deliveries when a subscription is disabled, expires or is
//! deleted, when they are sent again, and when the daemon is reloaded or restarted.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::{Daemon, Receiver, Reply, within};
use crate::{Witness, path_of, status_becomes};

const HOUR: Duration = Duration::from_secs(3600);

async fn post(daemon: &Daemon, subscription: &Value, what: &str) -> Value {
    daemon.post(&format!("{}/{what}", path_of(subscription)), Value::Null).await.expect(200)
}

#[tokio::test]
async fn what_is_pending_is_held_while_disabled_and_goes_on_when_enabled() {
    let daemon = Daemon::start().await;
    let mut receiver = Receiver::answering(|_, number| Reply::status(if number == 0 { 500 } else { 200 })).await;
    let subscription = daemon.subscribe(json!({"url": receiver.url, "events": ["door.*"]})).await;
    let delivery = daemon.deliver(&subscription, "door.opened", json!(1)).await;
    let id = receiver.next().await.header("webhook-id").to_owned();
    daemon.attempted(&delivery, 1).await;
    assert_eq!(post(&daemon, &subscription, "disable").await["status_reason"]["code"], "manual");
    assert_eq!(daemon.publish("door.closed", json!(2)).await["deliveries"], 0, "it takes no new ones");
    let mut witness = Witness::start(&daemon).await;
    daemon.pass(HOUR);
    witness.passes(&daemon).await;
    assert_eq!(receiver.total(), 1);
    post(&daemon, &subscription, "enable").await;
    assert_eq!(receiver.next().await.header("webhook-id"), id);
    daemon.in_state(&delivery, "delivered").await;
    assert_eq!(receiver.total(), 2, "what it missed is not sent");

    // It can be had by replay.
    let since = json!({"since": "2027-01-15T00:00:00Z", "states": ["missed"]});
    let replayed = daemon.post(&format!("{}/replay", path_of(&subscription)), since).await.expect(202);
    assert_eq!(replayed, json!({"deliveries": 1, "more": false, "next_since": null}));
    assert_eq!(receiver.next().await.json()["type"], "door.closed");
}

#[tokio::test]
async fn what_is_held_fails_as_expired_at_its_horizon() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::answering(|_, _| Reply::status(500)).await;
    let subscription = daemon.subscribe(json!({"url": receiver.url, "events": ["door.*"]})).await;
    let delivery = daemon.deliver(&subscription, "door.opened", json!(1)).await;
    daemon.attempted(&delivery, 1).await;
    post(&daemon, &subscription, "disable").await;
    let mut witness = Witness::start(&daemon).await;
    daemon.pass(72 * HOUR - Duration::from_millis(1));
    witness.passes(&daemon).await;
    assert_eq!(daemon.get(&delivery).await.expect(200)["state"], "pending");
    daemon.pass(Duration::from_millis(1));
    assert_eq!(daemon.in_state(&delivery, "failed").await["code"], "expired");
    assert_eq!(receiver.total(), 1);
}

#[tokio::test]
async fn a_subscription_expires_at_its_time_and_needs_a_new_one_to_be_enabled() {
    let daemon = Daemon::start().await;
    let mut receiver = Receiver::start().await;
    let fields = json!({"url": receiver.url, "events": ["door.*"], "expires_at": "2027-01-15T09:00:00Z"});
    let subscription = daemon.subscribe(fields).await;
    daemon.pass(HOUR - Duration::from_millis(1));
    assert_eq!(daemon.publish("door.opened", json!(1)).await["deliveries"], 1);
    receiver.next().await;
    daemon.pass(Duration::from_millis(1));
    assert_eq!(status_becomes(&daemon, &subscription, "disabled").await, "expired");
    assert_eq!(daemon.publish("door.opened", json!(2)).await["deliveries"], 0);
    let enable = format!("{}/enable", path_of(&subscription));
    let refused = daemon.post(&enable, Value::Null).await;
    assert!((400..500).contains(&refused.status), "{refused:?}");
    let later = json!({"expires_at": "2027-01-16T09:00:00Z"});
    daemon.call("PATCH", &path_of(&subscription), later).await.expect(200);
    daemon.post(&enable, Value::Null).await.expect(200);
    daemon.publish("door.opened", json!(3)).await;
    assert_eq!(receiver.next().await.json()["data"], 3);
}

#[tokio::test]
async fn after_a_subscription_is_deleted_nothing_is_sent() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::answering(|_, _| Reply::status(500)).await;
    let subscription = daemon.subscribe(json!({"url": receiver.url, "events": ["door.*"]})).await;
    let mut deliveries = Vec::new();
    for number in 0..3 {
        deliveries.push(daemon.deliver(&subscription, "door.opened", json!(number)).await);
    }
    for delivery in &deliveries {
        daemon.attempted(delivery, 1).await;
    }
    daemon.call("DELETE", &path_of(&subscription), Value::Null).await.expect(204);
    let mut witness = Witness::start(&daemon).await;
    daemon.pass(80 * HOUR);
    witness.passes(&daemon).await;
    for delivery in &deliveries {
        assert_eq!(daemon.in_state(delivery, "cancelled").await["attempts"], 1);
    }
    assert_eq!(receiver.total(), 3);
}

#[tokio::test]
async fn what_is_replayed_or_retried_keeps_its_webhook_id() {
    let daemon = Daemon::start().await;
    let mut receiver = Receiver::answering(|_, number| Reply::status(if number == 0 { 404 } else { 200 })).await;
    let fields = json!({"url": receiver.url, "delivery": {"retry": {"on": "transient"}}});
    let subscription = daemon.subscribe(fields).await;
    let delivery = daemon.deliver(&subscription, "door.opened", json!(1)).await;
    let id = receiver.next().await.header("webhook-id").to_owned();
    daemon.in_state(&delivery, "failed").await;
    daemon.pass(100 * HOUR);
    daemon.post(&format!("{delivery}/retry"), Value::Null).await.expect(202);
    assert_eq!(receiver.next().await.header("webhook-id"), id);
    let shown = daemon.in_state(&delivery, "delivered").await;
    let numbers: Vec<&Value> =
        shown["attempts_kept"].as_array().expect("a list").iter().map(|it| &it["number"]).collect();
    assert_eq!(numbers, [1, 2]);

    let since = json!({"since": "2027-01-15T00:00:00Z", "states": ["delivered"]});
    let replayed = daemon.post(&format!("{}/replay", path_of(&subscription)), since).await.expect(202);
    assert_eq!(replayed["deliveries"], 1);
    assert_eq!(receiver.next().await.header("webhook-id"), id);
    assert_eq!(daemon.attempted(&delivery, 3).await["state"], "delivered");

    // Of a disabled subscription neither can be had.
    post(&daemon, &subscription, "disable").await;
    assert_eq!(daemon.post(&format!("{delivery}/retry"), Value::Null).await.status, 409);
    let again = json!({"since": "2027-01-15T00:00:00Z", "states": ["delivered"]});
    assert_eq!(daemon.post(&format!("{}/replay", path_of(&subscription)), again).await.status, 409);
}

#[tokio::test]
async fn a_reload_changes_retries_and_networks() {
    let text = |first: &str, networks: &str| {
        format!("[delivery]\nallow_networks = [{networks}]\n[delivery.retry]\nfirst = \"{first}\"\njitter = 0\n")
    };
    let loopback = "\"127.0.0.0/8\"";
    let daemon = Daemon::with(&text("10s", loopback), &[("POSTHASTE_DELIVERY_ALLOW_NETWORKS", "")]).await;
    let receiver = Receiver::answering(|_, _| Reply::status(400)).await;
    let subscription = daemon.subscribe(json!({"url": receiver.url})).await;
    let first = daemon.deliver(&subscription, "door.opened", json!(1)).await;
    assert_eq!(daemon.attempted(&first, 1).await["next_attempt_at"], "2027-01-15T08:00:10.000Z");

    assert!(daemon.reload(&text("1m", loopback)).await);
    // The loop that takes this event in does not rest before the lanes are set anew.
    let witness = daemon.deliver(&subscription, "door.opened", json!(2)).await;
    daemon.attempted(&witness, 1).await;
    let second = daemon.deliver(&subscription, "door.opened", json!(3)).await;
    assert_eq!(daemon.attempted(&second, 1).await["next_attempt_at"], "2027-01-15T08:01:00.000Z");

    assert!(daemon.reload(&text("1m", "")).await);
    let third = daemon.deliver(&subscription, "door.opened", json!(4)).await;
    let shown = daemon.attempted(&third, 1).await;
    assert_eq!(shown["attempts_kept"][0]["outcome"]["code"], "dns");
    assert_eq!(receiver.total(), 3);
}

/// A reload that set lanes up anew would let a dead endpoint be tried at once and a slow one
/// be flooded.
#[tokio::test]
async fn a_reload_leaves_breakers_rates_and_idempotency_alone() {
    let daemon = Daemon::start().await;
    let recovering = Receiver::answering(|_, number| Reply::status(if number < 5 { 503 } else { 200 })).await;
    let fields = json!({"url": recovering.url, "events": ["door.*"], "delivery": {"concurrency": 1}});
    let tripped = path_of(&daemon.subscribe(fields).await);
    let slow = Receiver::start().await;
    let fields = json!({"url": slow.url, "events": ["tick"], "delivery": {"rate_per_second": 0.1}});
    let rated = path_of(&daemon.subscribe(fields).await);
    for number in 0..10 {
        daemon.publish("door.opened", json!(number)).await;
        daemon.publish("tick", json!(number)).await;
    }
    let once = json!({"type": "other", "event_id": "once", "data": 1});
    daemon.post("/v1/events", once.clone()).await.expect(202);
    let attempts = |count: u64| move |shown: &Value| shown["stats"]["attempts"] == count;
    daemon.until(&tripped, attempts(5)).await;
    daemon.until(&rated, attempts(1)).await;

    let mut witness = Witness::start(&daemon).await;
    for text in ["[delivery]\nconcurrency_total = 100\n", "[delivery]\nconcurrency_total = 200\n"] {
        assert!(daemon.reload(text).await);
        witness.passes(&daemon).await;
        witness.passes(&daemon).await;
        assert_eq!((recovering.total(), slow.total()), (5, 1));
    }
    let repeated = daemon.post("/v1/events", once).await;
    assert_eq!(repeated.expect(200)["duplicate"], true);

    // A pause is longer by up to a fifth, by chance.
    daemon.pass(Duration::from_secs(12));
    daemon
        .until(&tripped, |shown| shown["stats"]["odometer"] != 0 && shown["stats"]["consecutive_failures"] == 0)
        .await;
    daemon.until(&rated, attempts(2)).await;
}

#[tokio::test]
async fn a_restart_keeps_due_times_and_delivers_what_was_pending() {
    let mut daemon = Daemon::start().await;
    let mut receiver = Receiver::answering(|_, number| Reply::status(if number < 2 { 500 } else { 200 })).await;
    let fields = json!({"url": receiver.url, "events": ["door.*"]});
    let subscription = daemon.subscribe(fields).await;
    let secret = subscription["secret"].clone();
    let delivery = daemon.deliver(&subscription, "door.opened", json!(1)).await;
    let first = receiver.next().await;
    let before = daemon.attempted(&delivery, 1).await;
    daemon.restart().await;
    assert_eq!(daemon.get(&delivery).await.expect(200), before);
    let mut witness = Witness::start(&daemon).await;
    witness.passes(&daemon).await;
    assert_eq!(receiver.total(), 1, "not due yet");
    daemon.pass_to(&before["next_attempt_at"]);
    let second = receiver.next().await;
    let shown = daemon.attempted(&delivery, 2).await;
    assert_eq!(shown["attempts_kept"][1]["started_at"], before["next_attempt_at"]);
    assert_eq!((second.header("webhook-id"), &second.body), (first.header("webhook-id"), &first.body));

    // What became due while it did not run is due at once.
    daemon.stop().await;
    daemon.pass(HOUR);
    daemon.start_again().await;
    assert_eq!(receiver.next().await.body, first.body);
    let shown = daemon.in_state(&delivery, "delivered").await;
    assert_eq!(shown["attempts"], 3);
    let secrets = daemon.get(&format!("{}/secret", path_of(&subscription))).await.expect(200);
    assert_eq!(secrets["secrets"][0]["secret"], secret);
}

#[tokio::test]
async fn the_outcome_of_a_delivery_that_is_no_longer_pending_is_dropped() {
    let daemon = Daemon::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let url = format!("http://{}/hooks", listener.local_addr().expect("bound"));
    let fields = json!({"url": url, "events": ["door.*"], "delivery": {"timeout": "60s"}});
    let subscription = daemon.subscribe(fields).await;
    let delivery = daemon.deliver(&subscription, "door.opened", json!(1)).await;
    let (mut stream, _) = within("the attempt", listener.accept()).await.expect("accepted");
    let cancelled = daemon.post(&format!("{delivery}/cancel"), Value::Null).await.expect(200);
    assert_eq!(cancelled["state"], "cancelled");
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.expect("written");
    // By the time that another's outcome is recorded, this one's has been dropped.
    let mut witness = Witness::start(&daemon).await;
    witness.passes(&daemon).await;
    daemon.until("/v1/stats", |stats| stats["deliveries"]["delivered"] == 1).await;
    let shown = daemon.get(&delivery).await.expect(200);
    assert_eq!((&shown["state"], &shown["attempts"]), (&json!("cancelled"), &json!(0)));
}

/// Cancelled and retried while its attempt was in flight, a delivery waited for a
/// restart.
#[tokio::test]
async fn what_is_retried_while_its_old_attempt_is_in_flight_is_sent_after_it() {
    let daemon = Daemon::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let url = format!("http://{}/hooks", listener.local_addr().expect("bound"));
    let fields = json!({"url": url, "events": ["door.*"], "delivery": {"timeout": "60s"}});
    let subscription = daemon.subscribe(fields).await;
    let delivery = daemon.deliver(&subscription, "door.opened", json!(1)).await;
    let (first, _) = within("the attempt", listener.accept()).await.expect("accepted");
    daemon.post(&format!("{delivery}/cancel"), Value::Null).await.expect(200);
    daemon.pass(Duration::from_secs(1));
    daemon.post(&format!("{delivery}/retry"), Value::Null).await.expect(202);
    drop(first);
    let (mut second, _) = within("the next attempt", listener.accept()).await.expect("accepted");
    within("its request", second.read_u8()).await.expect("a byte");
    second.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.expect("written");
    assert_eq!(daemon.in_state(&delivery, "delivered").await["attempts"], 1);
}
