//! The events that tell of Posthaste itself.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Daemon, Receiver, Reply};
use crate::{Witness, path_of, status_becomes};

async fn told(daemon: &Daemon, event_type: &str) -> usize {
    let list = daemon.get(&format!("/v1/events?type={event_type}")).await.expect(200);
    list["data"].as_array().expect("a list").len()
}

#[tokio::test]
async fn who_asks_is_told_that_a_subscription_fails_is_disabled_and_is_enabled() {
    let daemon = Daemon::start().await;
    let mut operations = Receiver::start().await;
    daemon.subscribe(json!({"url": operations.url, "events": ["posthaste.subscription.*"]})).await;
    let receiver = Receiver::answering(|_, number| Reply::status(if number < 5 { 503 } else { 410 })).await;
    let fields = json!({"url": receiver.url, "events": ["door.*"], "name": "front", "notify": ["ann", "bob"]});
    let subscription = daemon.subscribe(fields).await;
    let delivery = daemon.deliver(&subscription, "door.opened", json!(1)).await;
    for attempt in 1..=5 {
        let shown = daemon.attempted(&delivery, attempt).await;
        if attempt == 5 {
            assert_eq!(operations.next().await.json()["type"], "posthaste.subscription.failing");
        }
        daemon.pass_to(&shown["next_attempt_at"]);
    }
    let disabled = operations.next().await.json();
    assert_eq!(disabled["type"], "posthaste.subscription.disabled");
    let facts = &disabled["data"];
    assert_eq!((&facts["subscription"]["id"], &facts["subscription"]["name"]), (&subscription["id"], &json!("front")));
    assert_eq!(
        (&facts["subscription"]["status"], &facts["notify"]),
        (&json!("disabled_due_to_errors"), &json!(["ann", "bob"]))
    );
    daemon.post(&format!("{}/enable", path_of(&subscription)), Value::Null).await.expect(200);
    assert_eq!(operations.next().await.json()["type"], "posthaste.subscription.enabled");
}

#[tokio::test]
async fn failed_deliveries_are_told_once_a_minute_with_a_count() {
    let daemon = Daemon::start().await;
    let mut operations = Receiver::start().await;
    daemon.subscribe(json!({"url": operations.url, "events": ["posthaste.delivery.failed"]})).await;
    let receiver = Receiver::answering(|_, _| Reply::status(404)).await;
    let fields = json!({"url": receiver.url, "events": ["door.*"], "delivery": {"retry": {"on": "transient"}}});
    let subscription = daemon.subscribe(fields).await;
    let fail = async |count: u32| {
        for number in 0..count {
            let delivery = daemon.deliver(&subscription, "door.opened", json!(number)).await;
            daemon.in_state(&delivery, "failed").await;
        }
    };
    fail(1).await;
    let first = operations.next().await.json();
    assert_eq!((&first["data"]["count"], &first["data"]["subscription"]["id"]), (&json!(1), &subscription["id"]));
    fail(3).await;
    daemon.pass(Duration::from_secs(59));
    fail(2).await;
    assert_eq!(told(&daemon, "posthaste.delivery.failed").await, 1);
    daemon.pass(Duration::from_secs(1));
    assert_eq!(operations.next().await.json()["data"]["count"], 5);
    assert_eq!(told(&daemon, "posthaste.delivery.failed").await, 2);
}

#[tokio::test]
async fn a_failing_delivery_of_an_operational_event_never_makes_another() {
    let daemon = Daemon::start().await;
    let operations = Receiver::answering(|_, _| Reply::status(404)).await;
    let transient = json!({"retry": {"on": "transient"}});
    let fields = json!({"url": operations.url, "events": ["posthaste.delivery.failed"], "delivery": transient});
    let listener = daemon.subscribe(fields).await;
    let receiver = Receiver::answering(|_, _| Reply::status(404)).await;
    let fields = json!({"url": receiver.url, "events": ["door.*"], "delivery": transient});
    let subscription = daemon.subscribe(fields).await;
    for minute in 1..=3 {
        let delivery = daemon.deliver(&subscription, "door.opened", json!(minute)).await;
        daemon.in_state(&delivery, "failed").await;
        // Its own failure is recorded, and leads to nothing in the minutes after.
        let shown = daemon.until(&path_of(&listener), |it| it["stats"]["attempts"] == minute).await;
        assert_eq!(shown["stats"]["odometer"], minute);
        daemon.pass(Duration::from_secs(61));
    }
    assert_eq!(told(&daemon, "posthaste.delivery.failed").await, 3);
}

#[tokio::test]
async fn operational_events_are_for_those_alone_who_name_them() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::start().await;
    let everything = daemon.subscribe(json!({"url": receiver.url, "events": ["*"]})).await;
    let other = daemon.subscribe(json!({"url": receiver.url, "events": []})).await;
    daemon.post(&format!("{}/disable", path_of(&other)), Value::Null).await.expect(200);
    daemon.until("/v1/events?type=posthaste.subscription.disabled", |list| list["data"][0].is_object()).await;
    let shown = daemon.get(&path_of(&everything)).await.expect(200);
    assert_eq!(shown["stats"]["odometer"], 0);
}

/// Disables a subscription and enables it again, so that its events tell of it.
async fn turn_off_and_on(daemon: &Daemon, subscription: &Value) {
    for what in ["disable", "enable"] {
        daemon.post(&format!("{}/{what}", path_of(subscription)), Value::Null).await.expect(200);
    }
}

/// What the trip and the end of a lane tell is about its deliveries: where those are
/// of operational events themselves, nothing is told.
#[tokio::test]
async fn a_lane_that_fails_operational_events_is_tripped_and_disabled_without_another() {
    let daemon = Daemon::start().await;
    let operations = Receiver::answering(|_, number| Reply::status(if number < 5 { 503 } else { 410 })).await;
    let fields = json!({"url": operations.url, "events": ["posthaste.subscription.enabled"]});
    let listener = daemon.subscribe(fields).await;
    let other = daemon.subscribe(json!({"url": operations.url, "events": []})).await;
    turn_off_and_on(&daemon, &other).await;
    let disabled_before = told(&daemon, "posthaste.subscription.disabled").await;
    let list = daemon.get(&format!("{}/deliveries", path_of(&listener))).await.expect(200);
    let delivery = format!("/v1/deliveries/{}", list["data"][0]["id"].as_str().expect("an id"));
    for attempt in 1..=5 {
        let shown = daemon.attempted(&delivery, attempt).await;
        daemon.pass_to(&shown["next_attempt_at"]);
    }
    assert_eq!(status_becomes(&daemon, &listener, "disabled_due_to_errors").await, "gone");
    let mut witness = Witness::start(&daemon).await;
    witness.passes(&daemon).await;
    assert_eq!(told(&daemon, "posthaste.subscription.failing").await, 0);
    assert_eq!(told(&daemon, "posthaste.subscription.disabled").await, disabled_before);
}

/// Held deliveries of operational events that expire in bulk are not told of, those
/// beside them are.
#[tokio::test]
async fn operational_events_that_expire_in_bulk_are_not_told_of() {
    let daemon = Daemon::start().await;
    let mut operations = Receiver::start().await;
    daemon.subscribe(json!({"url": operations.url, "events": ["posthaste.delivery.failed"]})).await;
    let receiver = Receiver::answering(|_, _| Reply::status(404)).await;
    let fields = json!({"url": receiver.url, "events": ["posthaste.subscription.enabled", "door.opened"]});
    let mixed = daemon.subscribe(fields).await;
    let other = daemon.subscribe(json!({"url": receiver.url, "events": []})).await;
    turn_off_and_on(&daemon, &other).await;
    turn_off_and_on(&daemon, &other).await;
    daemon.publish("door.opened", json!(1)).await;
    daemon.until(&path_of(&mixed), |it| it["stats"]["attempts"] == 3).await;
    daemon.post(&format!("{}/disable", path_of(&mixed)), Value::Null).await.expect(200);
    daemon.pass(Duration::from_secs(72 * 3600));
    daemon.until(&path_of(&mixed), |it| it["stats"]["pending"] == 0).await;
    assert_eq!(operations.next().await.json()["data"]["count"], 1);
}

/// The event that told of its end was opened as a delivery of the subscription
/// itself, and held there until it expired.
#[tokio::test]
async fn a_subscription_is_not_told_that_it_was_disabled_itself() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::start().await;
    let own = daemon.subscribe(json!({"url": receiver.url, "events": ["posthaste.*"]})).await;
    let disabled = daemon.post(&format!("{}/disable", path_of(&own)), Value::Null).await.expect(200);
    assert_eq!(told(&daemon, "posthaste.subscription.disabled").await, 1);
    assert_eq!((&disabled["stats"]["pending"], &disabled["stats"]["odometer"]), (&json!(0), &json!(0)));
}
