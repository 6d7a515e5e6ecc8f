//! The headers that prove who sent a request.

use std::time::Duration;

use posthaste::time::Clock;
use serde_json::json;
use standardwebhooks::Webhook;

use crate::path_of;
use crate::support::{Daemon, Received, Receiver, Reply, START_MS};

/// Whether the published library takes what came for signed with `secret`. It
/// checks the time stamp against the machine's clock.
fn verifies(received: &Received, secret: &str) -> bool {
    Webhook::new(secret)
        .expect("a secret of the specification's form")
        .verify(&received.body, &received.headers)
        .is_ok()
}

fn use_the_machines_time(daemon: &Daemon) {
    daemon.clock.set(Clock::system().now());
}

#[tokio::test]
async fn the_published_library_verifies_what_arrives_and_refuses_what_was_changed() {
    let daemon = Daemon::start().await;
    let mut receiver = Receiver::start().await;
    let subscription = daemon.subscribe(json!({"url": receiver.url})).await;
    let secret = subscription["secret"].as_str().expect("shown on create");
    use_the_machines_time(&daemon);
    let accepted = daemon.publish("door.opened", json!({"door": 7})).await;
    let mut received = receiver.next().await;
    assert!(verifies(&received, secret));
    assert_eq!(received.header("webhook-id"), accepted["id"].as_str().expect("an id"));
    let mut tampered = received.body.to_vec();
    tampered[10] ^= 1;
    received.body = tampered.into();
    assert!(!verifies(&received, secret));
}

#[tokio::test]
async fn the_id_stays_over_retries_and_the_time_stamp_is_the_attempts() {
    let daemon = Daemon::start().await;
    let mut receiver = Receiver::answering(|_, number| Reply::status(if number < 2 { 503 } else { 200 })).await;
    let subscription = daemon.subscribe(json!({"url": receiver.url})).await;
    let delivery = daemon.deliver(&subscription, "door.opened", json!(1)).await;
    let (mut ids, mut stamps, mut bodies) = (Vec::new(), Vec::new(), Vec::new());
    for attempt in 1..=3 {
        let received = receiver.next().await;
        ids.push(received.header("webhook-id").to_owned());
        stamps.push(received.header("webhook-timestamp").parse::<u64>().expect("seconds"));
        bodies.push(received.body);
        daemon.attempted(&delivery, attempt).await;
        daemon.pass(Duration::from_secs(60));
    }
    let start = START_MS / 1000;
    assert_eq!(stamps, [start, start + 60, start + 120]);
    assert!(ids.iter().all(|id| *id == ids[0]) && bodies.iter().all(|body| *body == bodies[0]));
}

#[tokio::test]
async fn while_a_rotation_lasts_each_valid_secret_signs() {
    let daemon = Daemon::start().await;
    use_the_machines_time(&daemon);
    let mut receiver = Receiver::start().await;
    let subscription = daemon.subscribe(json!({"url": receiver.url})).await;
    let first = subscription["secret"].as_str().expect("a secret").to_owned();
    let rotate = format!("{}/secret/rotate", path_of(&subscription));
    let rotated = daemon.post(&rotate, json!({"overlap": "60s"})).await.expect(200);
    let second = rotated["secrets"].as_array().expect("secrets").last().expect("one")["secret"].clone();
    let second = second.as_str().expect("shown").to_owned();
    assert_ne!(first, second);

    daemon.publish("door.opened", json!(1)).await;
    let received = receiver.next().await;
    assert!(verifies(&received, &first) && verifies(&received, &second));
    assert_eq!(received.header("webhook-signature").split(' ').count(), 2);

    // The library takes time stamps of up to five minutes ahead.
    daemon.pass(Duration::from_secs(60));
    daemon.publish("door.opened", json!(2)).await;
    let received = receiver.next().await;
    assert!(!verifies(&received, &first) && verifies(&received, &second));
    assert_eq!(received.header("webhook-signature").split(' ').count(), 1);

    // An overlap of nothing revokes at once.
    daemon.post(&rotate, json!({"overlap": "0s"})).await.expect(200);
    daemon.publish("door.opened", json!(3)).await;
    let received = receiver.next().await;
    assert!(!verifies(&received, &second));
}
