//! From an event published to a request received: the daemon in this process, real
//! sockets, real TLS, a clock that the tests set.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/mod.rs"]
mod support;

use serde_json::json;
use standardwebhooks::Webhook;
use support::{Daemon, Receiver};

#[tokio::test]
async fn the_published_library_verifies_what_arrives_and_refuses_what_was_changed() {
    let daemon = Daemon::start().await;
    let mut receiver = Receiver::start().await;
    let subscription = daemon.subscribe(json!({"url": receiver.url})).await;
    let secret = subscription["secret"].as_str().expect("shown on create");
    // The library checks the time stamp against the machine's clock.
    daemon.clock.set(posthaste::time::Clock::system().now());
    let accepted = daemon.publish("door.opened", json!({"door": 7})).await;
    let received = receiver.next().await;
    let webhook = Webhook::new(secret).expect("a secret of the specification's form");
    assert!(webhook.verify(&received.body, &received.headers).is_ok());
    assert_eq!(received.header("webhook-id"), accepted["id"].as_str().expect("an id"));
    let mut tampered = received.body.to_vec();
    tampered[10] ^= 1;
    assert!(webhook.verify(&tampered, &received.headers).is_err());
}
