//! What one receiver costs the others, and what its failures lead to.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::{Daemon, Receiver, Reply, START_MS};
use crate::{Witness, path_of, status_becomes};

/// When every attempt at deliveries to `subscription` began, in seconds from the
/// start, in order.
async fn attempts_of(daemon: &Daemon, subscription: &Value) -> Vec<u64> {
    let list = daemon.get(&format!("{}/deliveries", path_of(subscription))).await.expect(200);
    let mut started = Vec::new();
    for delivery in list["data"].as_array().expect("a list") {
        let path = format!("/v1/deliveries/{}", delivery["id"].as_str().expect("an id"));
        let shown = daemon.get(&path).await.expect(200);
        for attempt in shown["attempts_kept"].as_array().expect("attempts") {
            let at: posthaste::time::Timestamp =
                attempt["started_at"].as_str().expect("a time").parse().expect("it is");
            started.push((at.as_millis() - START_MS) / 1000);
        }
    }
    started.sort_unstable();
    started
}

#[tokio::test]
async fn five_failures_trip_a_lane_and_then_it_is_probed_singly_until_one_succeeds() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::answering(|_, number| Reply::status(if number < 9 { 503 } else { 200 })).await;
    // One at a time, so that no more than five are in flight when it trips.
    let fields = json!({"url": receiver.url, "events": ["door.*"], "delivery": {"concurrency": 1}});
    let subscription = daemon.subscribe(fields).await;
    let operations = Receiver::start().await;
    let told = daemon.subscribe(json!({"url": operations.url, "events": ["posthaste.subscription.*"]})).await;
    let mut witness = Witness::start(&daemon).await;
    for number in 0..20 {
        daemon.publish("door.opened", json!(number)).await;
    }
    let attempts = |count: u64| move |shown: &Value| shown["stats"]["attempts"] == count;
    let stats = path_of(&subscription);
    daemon.until(&stats, attempts(5)).await;
    let mut made = 5;
    for pause in [10, 20, 40, 80, 160] {
        daemon.pass(Duration::from_secs(pause) - Duration::from_millis(1));
        witness.passes(&daemon).await;
        // A pause is longer by up to a fifth, by chance.
        daemon.pass(Duration::from_secs(pause) / 5 + Duration::from_millis(1));
        made += 1;
        if made < 10 {
            daemon.until(&stats, attempts(made)).await;
        }
    }
    // The tenth attempt succeeded, and all that is due flows.
    daemon.until(&stats, |shown| shown["stats"]["pending"] == 0).await;
    let started = attempts_of(&daemon, &subscription).await;
    assert_eq!(started[..10], [0, 0, 0, 0, 0, 12, 36, 84, 180, 372]);
    assert!(started[10..].iter().all(|at| *at == 372), "{started:?}");
    assert_eq!(started.len(), 20 + 9);
    // One telling that it is failing.
    daemon.until(&path_of(&told), |shown| shown["stats"]["odometer"] == 1).await;
}

#[tokio::test]
async fn a_receiver_that_hangs_does_not_delay_another() {
    let daemon = Daemon::start().await;
    // Accepts by the system's own queue and never says a word.
    let hanging = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let url = format!("http://{}/hooks", hanging.local_addr().expect("bound"));
    let fields = json!({"url": url, "events": ["door.*"], "delivery": {"timeout": "60s"}});
    let stuck = daemon.subscribe(fields).await;
    let mut receiver = Receiver::start().await;
    daemon.subscribe(json!({"url": receiver.url, "events": ["door.*"]})).await;
    for number in 0..100 {
        daemon.publish("door.opened", json!(number)).await;
    }
    let mut arrived: Vec<u64> = Vec::new();
    for _ in 0..100 {
        arrived.push(receiver.next().await.json()["data"].as_u64().expect("a number"));
    }
    arrived.sort_unstable();
    assert!(arrived.into_iter().eq(0..100));
    let shown = daemon.get(&path_of(&stuck)).await.expect(200);
    assert_eq!((&shown["stats"]["pending"], &shown["stats"]["attempts"]), (&json!(100), &json!(0)));
}

#[tokio::test]
async fn gone_disables_at_once() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::answering(|_, _| Reply::status(410)).await;
    let subscription = daemon.subscribe(json!({"url": receiver.url})).await;
    let delivery = daemon.deliver(&subscription, "door.opened", json!(1)).await;
    assert_eq!(status_becomes(&daemon, &subscription, "disabled_due_to_errors").await, "gone");
    let shown = daemon.attempted(&delivery, 1).await;
    assert_eq!(shown["state"], "pending", "it is held");
    assert_eq!(daemon.publish("door.opened", json!(2)).await["deliveries"], 0);
}

#[tokio::test]
async fn the_failure_limit_disables_and_enabling_begins_anew() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::answering(|_, number| Reply::status(if number < 4 { 500 } else { 200 })).await;
    let fields = json!({"url": receiver.url, "events": ["door.*"], "failure_limit": 3});
    let subscription = daemon.subscribe(fields).await;
    let delivery = daemon.deliver(&subscription, "door.opened", json!(1)).await;
    for attempt in 1..3 {
        let shown = daemon.attempted(&delivery, attempt).await;
        daemon.until(&path_of(&subscription), |it| it["stats"]["consecutive_failures"] == attempt).await;
        daemon.pass_to(&shown["next_attempt_at"]);
    }
    assert_eq!(status_becomes(&daemon, &subscription, "disabled_due_to_errors").await, "failures");
    let held = daemon.attempted(&delivery, 3).await;
    let mut witness = Witness::start(&daemon).await;
    daemon.pass(Duration::from_secs(3600));
    witness.passes(&daemon).await;
    assert_eq!(receiver.total(), 3, "nothing is sent while it is disabled");
    assert_eq!(held["state"], "pending");

    let enabled = daemon.post(&format!("{}/enable", path_of(&subscription)), Value::Null).await.expect(200);
    assert_eq!((&enabled["status"], &enabled["stats"]["consecutive_failures"]), (&json!("enabled"), &json!(0)));
    // The fourth attempt fails, and that is one failure, not the fourth.
    let shown = daemon.attempted(&delivery, 4).await;
    daemon.pass_to(&shown["next_attempt_at"]);
    daemon.in_state(&delivery, "delivered").await;
    assert_eq!(daemon.get(&path_of(&subscription)).await.expect(200)["status"], "enabled");
}

#[tokio::test]
async fn many_failures_at_once_are_one_to_the_failure_limit() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::answering(|_, _| Reply::status(400)).await;
    let subscription = daemon.subscribe(json!({"url": receiver.url, "failure_limit": 2})).await;
    for number in 0..10 {
        daemon.publish("door.opened", json!(number)).await;
    }
    let shown = daemon.until(&path_of(&subscription), |it| it["stats"]["attempts"] == 10).await;
    assert_eq!((&shown["status"], &shown["stats"]["consecutive_failures"]), (&json!("enabled"), &json!(1)));
}

#[tokio::test]
async fn failures_are_remembered_over_a_restart_and_forgotten_when_enabled() {
    let mut daemon = Daemon::start().await;
    let receiver = Receiver::answering(|_, _| Reply::status(400)).await;
    let fields = json!({"url": receiver.url, "events": ["door.*"], "failure_limit": 2});
    let subscription = daemon.subscribe(fields).await;
    let delivery = daemon.deliver(&subscription, "door.opened", json!(1)).await;
    let shown = daemon.attempted(&delivery, 1).await;
    daemon.restart().await;
    daemon.pass_to(&shown["next_attempt_at"]);
    assert_eq!(status_becomes(&daemon, &subscription, "disabled_due_to_errors").await, "failures");
    daemon.attempted(&delivery, 2).await;
    daemon.stop().await;
    daemon.start_again().await;
    daemon.post(&format!("{}/enable", path_of(&subscription)), Value::Null).await.expect(200);
    daemon.restart().await;
    let shown = daemon.get(&delivery).await.expect(200);
    daemon.pass_to(&shown["next_attempt_at"]);
    daemon.attempted(&delivery, 3).await;
    let shown = daemon.until(&path_of(&subscription), |it| it["stats"]["attempts"] == 3).await;
    assert_eq!((&shown["status"], &shown["stats"]["consecutive_failures"]), (&json!("enabled"), &json!(1)));
}

#[tokio::test]
async fn one_failed_probe_ends_all_that_is_past_its_horizon() {
    let daemon = Daemon::start().await;
    let operations = Receiver::start().await;
    let told = daemon.subscribe(json!({"url": operations.url, "events": ["posthaste.delivery.failed"]})).await;
    let receiver = Receiver::answering(|_, _| Reply::status(503)).await;
    let fields = json!({"url": receiver.url, "events": ["door.*"], "delivery": {"concurrency": 1}});
    let subscription = daemon.subscribe(fields).await;
    let mut events = Vec::new();
    for number in 0..50 {
        events.push(daemon.publish("door.opened", json!(number)).await);
    }
    daemon.until(&path_of(&subscription), |shown| shown["stats"]["attempts"] == 5).await;
    daemon.pass(Duration::from_secs(72 * 3600));
    daemon.until(&path_of(&subscription), |shown| shown["stats"]["pending"] == 0).await;
    assert_eq!(receiver.total(), 6, "the five that tripped it, and one probe");
    let list = daemon.get(&format!("{}/deliveries?state=failed&limit=500", path_of(&subscription))).await.expect(200);
    let codes: Vec<&str> =
        list["data"].as_array().expect("a list").iter().filter_map(|it| it["code"].as_str()).collect();
    assert_eq!((codes.len(), codes.iter().filter(|code| **code == "expired").count()), (50, 49), "{codes:?}");
    daemon.until(&path_of(&told), |shown| shown["stats"]["odometer"] != 0).await;
    let mut counted = 0;
    daemon.pass(Duration::from_secs(60));
    let mut operations = operations;
    while counted < 50 {
        counted += operations.next().await.json()["data"]["count"].as_u64().expect("a count");
    }
    assert_eq!(counted, 50);
}

#[tokio::test]
async fn a_rate_spreads_attempts_over_time() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::start().await;
    let fields = json!({"url": receiver.url, "events": ["door.*"], "delivery": {"rate_per_second": 0.1}});
    let subscription = daemon.subscribe(fields).await;
    for number in 0..4 {
        daemon.publish("door.opened", json!(number)).await;
    }
    let mut witness = Witness::start(&daemon).await;
    for made in 1..=4 {
        daemon.until(&path_of(&subscription), |shown| shown["stats"]["attempts"] == made).await;
        daemon.pass(Duration::from_millis(9_999));
        witness.passes(&daemon).await;
        daemon.pass(Duration::from_millis(1));
    }
    assert_eq!(attempts_of(&daemon, &subscription).await, [0, 10, 20, 30]);
}

/// A dead endpoint's backlog uses its organization's share up: the lane gives way.
/// Once it had, publishing was refused all the same, until retention took the events.
#[tokio::test]
async fn over_its_share_an_organizations_tripped_lane_gives_way() {
    let daemon = Daemon::start().await;
    let put = json!({"max_bytes": "16 KiB"});
    daemon.call("PUT", "/v1/organizations/acme", put).await.expect(201);
    let dead = Receiver::answering(|_, _| Reply::status(503)).await;
    let alive = Receiver::start().await;
    let of_acme = |url: &str| json!({"organization": "acme", "url": url, "events": ["door.*"]});
    let tripped = daemon.subscribe(of_acme(&dead.url)).await;
    let neighbour = daemon.subscribe(of_acme(&alive.url)).await;
    let publish = async |data: Value| {
        let event = json!({"type": "door.opened", "organization": "acme", "data": data});
        daemon.post("/v1/events", event).await
    };
    for number in 0..5 {
        publish(json!(number)).await.expect(202);
    }
    daemon.until(&path_of(&tripped), |it| it["stats"]["attempts"] == 5).await;
    daemon.until(&path_of(&neighbour), |it| it["stats"]["pending"] == 0).await;
    publish(json!("x".repeat(16 * 1024))).await.expect(202);
    publish(json!(1)).await.refused(429, "quota_exceeded");
    assert_eq!(status_becomes(&daemon, &tripped, "disabled_due_to_errors").await, "backlog");
    let shown = daemon.get(&path_of(&tripped)).await.expect(200);
    assert_eq!(shown["stats"]["pending"], 6, "what it has is held");
    assert_eq!(daemon.get(&path_of(&neighbour)).await.expect(200)["status"], "enabled");
    daemon.until(&path_of(&neighbour), |it| it["stats"]["pending"] == 0).await;
    assert_eq!(publish(json!(2)).await.expect(202)["deliveries"], 1);
    daemon.until(&path_of(&neighbour), |it| it["stats"]["odometer"] == 7 && it["stats"]["pending"] == 0).await;
    assert_eq!(daemon.get("/v1/organizations/acme").await.expect(200)["pending_bytes"], 0);
    // Others have their own.
    daemon.publish("door.opened", json!(1)).await;
}
