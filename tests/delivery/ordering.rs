//! Subscriptions whose deliveries are sent one at a time, in commit order.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Daemon, Receiver, Reply};
use crate::{Witness, path_of};

const HOUR: Duration = Duration::from_secs(3600);

/// Takes what comes next, so many, and says what it was of.
async fn arrive(receiver: &mut Receiver, count: usize) -> Vec<Value> {
    let mut data = Vec::new();
    for _ in 0..count {
        data.push(receiver.next().await.json()["data"].clone());
    }
    data
}

async fn post(daemon: &Daemon, subscription: &Value, what: &str) {
    daemon.post(&format!("{}/{what}", path_of(subscription)), Value::Null).await.expect(200);
}

#[tokio::test]
async fn the_order_is_kept_over_retries_a_restart_and_a_pause() {
    let mut daemon = Daemon::start().await;
    let mut receiver = Receiver::answering(|_, number| Reply::status(if number < 2 { 500 } else { 200 })).await;
    let fields = json!({"url": receiver.url, "events": ["door.*"], "delivery": {"ordering": "fifo", "concurrency": 9}});
    let subscription = daemon.subscribe(fields).await;
    let first = daemon.deliver(&subscription, "door.opened", json!(1)).await;
    let second = daemon.deliver(&subscription, "door.opened", json!(2)).await;
    daemon.publish("door.opened", json!(3)).await;
    assert_eq!(arrive(&mut receiver, 1).await, [1]);
    let asleep = daemon.attempted(&first, 1).await;
    assert_eq!(daemon.get(&second).await.expect(200)["state"], "pending");

    daemon.restart().await;
    let mut witness = Witness::start(&daemon).await;
    witness.passes(&daemon).await;
    assert_eq!(receiver.total(), 1, "not due yet, and the next waits for it");
    assert_eq!(daemon.get(&first).await.expect(200), asleep);

    post(&daemon, &subscription, "disable").await;
    daemon.pass_to(&asleep["next_attempt_at"]);
    witness.passes(&daemon).await;
    assert_eq!(receiver.total(), 1, "it is held");
    post(&daemon, &subscription, "enable").await;
    assert_eq!(arrive(&mut receiver, 1).await, [1]);
    let asleep = daemon.attempted(&first, 2).await;
    assert_eq!(asleep["attempts_kept"][1]["number"], 2, "numbered on");
    witness.passes(&daemon).await;
    assert_eq!(receiver.total(), 2);

    daemon.pass_to(&asleep["next_attempt_at"]);
    assert_eq!(arrive(&mut receiver, 3).await, [1, 2, 3]);
}

#[tokio::test]
async fn what_is_replayed_or_retried_goes_behind_all_that_waits() {
    let daemon = Daemon::start().await;
    let mut receiver = Receiver::answering(|_, number| Reply::status(if number == 3 { 500 } else { 200 })).await;
    let fields = json!({"url": receiver.url, "events": ["door.*"], "delivery": {"ordering": "fifo"}});
    let subscription = daemon.subscribe(fields).await;
    let mut delivered = Vec::new();
    for number in 1..=3 {
        delivered.push(daemon.deliver(&subscription, "door.opened", json!(number)).await);
    }
    assert_eq!(arrive(&mut receiver, 3).await, [1, 2, 3]);
    for delivery in &delivered {
        daemon.in_state(delivery, "delivered").await;
    }

    let failing = daemon.deliver(&subscription, "door.opened", json!(4)).await;
    daemon.publish("door.opened", json!(5)).await;
    assert_eq!(arrive(&mut receiver, 1).await, [4]);
    daemon.attempted(&failing, 1).await;
    // By the clock, what is opened now was there first.
    daemon.clock.set(daemon.clock.now() - HOUR);
    daemon.post(&format!("{}/retry", delivered[2]), Value::Null).await.expect(202);
    let states = json!({"since": "2027-01-01T00:00:00Z", "states": ["delivered"]});
    let replayed = daemon.post(&format!("{}/replay", path_of(&subscription)), states).await.expect(202);
    assert_eq!(replayed["deliveries"], 2);
    daemon.publish("door.opened", json!(6)).await;
    daemon.pass(2 * HOUR);
    assert_eq!(arrive(&mut receiver, 6).await, [4, 5, 3, 1, 2, 6]);
}

#[tokio::test]
async fn the_next_goes_once_the_first_is_cancelled() {
    let daemon = Daemon::start().await;
    let mut receiver = Receiver::answering(|_, number| Reply::status(if number == 0 { 500 } else { 200 })).await;
    let fields = json!({"url": receiver.url, "events": ["door.*"], "delivery": {"ordering": "fifo"}});
    let subscription = daemon.subscribe(fields).await;
    let first = daemon.deliver(&subscription, "door.opened", json!(1)).await;
    daemon.publish("door.opened", json!(2)).await;
    assert_eq!(arrive(&mut receiver, 1).await, [1]);
    daemon.attempted(&first, 1).await;
    let mut witness = Witness::start(&daemon).await;
    witness.passes(&daemon).await;
    assert_eq!(receiver.total(), 1);
    daemon.post(&format!("{first}/cancel"), Value::Null).await.expect(200);
    assert_eq!(arrive(&mut receiver, 1).await, [2]);
}

#[tokio::test]
async fn the_configuration_says_how_who_does_not_say_is_served() {
    let text = "[delivery]\nordering = \"fifo\"\n";
    let daemon = Daemon::with(text, &[]).await;
    let refusing = |request: &crate::support::Received, _: usize| {
        Reply::status(if request.json()["data"] == 1 { 400 } else { 200 })
    };
    let (mut one, mut other) = (Receiver::answering(refusing).await, Receiver::answering(refusing).await);
    let ordered = daemon.subscribe(json!({"url": one.url, "events": ["door.*"]})).await;
    let fields = json!({"url": other.url, "events": ["door.*"], "delivery": {"ordering": "none"}});
    let unordered = daemon.subscribe(fields).await;
    let event = daemon.publish("door.opened", json!(1)).await;
    daemon.publish("door.opened", json!(2)).await;
    assert_eq!(arrive(&mut one, 1).await, [1]);
    let mut both = arrive(&mut other, 2).await;
    both.sort_by_key(Value::to_string);
    assert_eq!(both, [1, 2]);
    let asleep = daemon.attempted(&daemon.delivery(&ordered, &event).await, 1).await;
    daemon.attempted(&daemon.delivery(&unordered, &event).await, 1).await;
    let mut witness = Witness::start(&daemon).await;
    witness.passes(&daemon).await;
    assert_eq!(one.total(), 1);

    // Turned off, what waits flows, and what failed is tried when it is due.
    assert!(daemon.reload("").await);
    assert_eq!(arrive(&mut one, 1).await, [2]);
    witness.passes(&daemon).await;
    assert_eq!(one.total(), 2);
    daemon.pass_to(&asleep["next_attempt_at"]);
    assert_eq!(arrive(&mut one, 1).await, [1]);
}
