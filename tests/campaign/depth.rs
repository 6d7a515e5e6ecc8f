//! A lane with very many waiting is disabled, enabled and deleted: nobody else waits.

use std::time::Instant;

use serde_json::{Value, json};

use crate::daemon::{Daemon, Home};
use crate::support::{Receiver, Reply};

const BATCH: usize = 1000;

async fn publish(daemon: &Daemon, event_type: &str, count: usize) {
    for first in (0..count).step_by(BATCH) {
        let events: Vec<Value> =
            (first..count.min(first + BATCH)).map(|number| json!({"type": event_type, "data": number})).collect();
        daemon.post("/v1/events/batch", &json!(events)).await.expect(200);
    }
}

async fn deep(waiting: usize) {
    let home = Home::new();
    let config = home.quiet(&home.configure(""));
    let daemon = Daemon::start(&config).await;
    let mut witness = Receiver::plain(|_, _| Reply::status(200)).await;
    daemon.post("/v1/subscriptions", &json!({"url": witness.url, "events": ["other.*"]})).await.expect(201);
    // Next to never sent to.
    let fields = json!({"url": "http://127.0.0.1:9/", "events": ["load.*"], "delivery": {"rate_per_second": 0.001}});
    let made = daemon.post("/v1/subscriptions", &fields).await.expect(201);
    let path = format!("/v1/subscriptions/{}", made["id"].as_str().unwrap());
    publish(&daemon, "load.event", waiting).await;
    let pending = |stats: &Value| stats["deliveries"]["pending"].as_u64().unwrap();
    assert!(pending(&daemon.get("/v1/stats").await.expect(200)) >= waiting as u64 - 16);
    let mut told = Vec::new();
    for (method, what, status) in [("POST", "/disable", 200), ("POST", "/enable", 200), ("DELETE", "", 204)] {
        let began = Instant::now();
        daemon.call(method, &format!("{path}{what}"), None, &Value::Null).await.expect(status);
        let answered = began.elapsed();
        // Whoever else has something to be sent gets it meanwhile.
        let began = Instant::now();
        publish(&daemon, "other.event", 1).await;
        witness.next().await;
        told.push(format!("{method} {what} answered in {answered:.1?}, another delivered in {:.1?}", began.elapsed()));
    }
    let began = Instant::now();
    let (mut last, mut moved) = (u64::MAX, Instant::now());
    while last > 0 {
        let now = pending(&daemon.get("/v1/stats").await.expect(200));
        if now < last {
            (last, moved) = (now, Instant::now());
        }
        assert!(moved.elapsed() < crate::support::PATIENCE, "{last} are still pending");
        tokio::task::yield_now().await;
    }
    eprintln!("{waiting} waiting: {}; gone after {:.1?}", told.join("; "), began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deep_lane_is_disabled_enabled_and_deleted() {
    deep(5_000).await;
}

/// `cargo test --release --test campaign a_million -- --ignored --nocapture`;
/// `POSTHASTE_CAMPAIGN_WAITING=n` lets other than a million wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "publishes a million events"]
#[allow(clippy::disallowed_methods, reason = "how many wait is said from outside")]
async fn a_lane_with_a_million_waiting_is_disabled_enabled_and_deleted() {
    let waiting = std::env::var("POSTHASTE_CAMPAIGN_WAITING").map_or(1_000_000, |text| text.parse().unwrap());
    deep(waiting).await;
}
