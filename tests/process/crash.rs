//! SIGKILL under load: what was answered 2xx arrives.

use std::collections::{HashMap, HashSet};

use serde_json::json;

use crate::daemon::{Daemon, Home};
use crate::load::{Load, PUBLISHERS};
use crate::support::{Receiver, Reply};

const EVENTS: u64 = 2_500;
const CONCURRENCY: usize = 16;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_2xx_arrives_though_the_daemon_is_killed() {
    let home = Home::new();
    let config = home.quiet(&home.configure(""));
    let mut receiver = Receiver::plain(|_, _| Reply::status(200)).await;
    let daemon = Daemon::start(&config).await;
    let fields = json!({"url": receiver.url, "events": ["load.*"], "delivery": {"concurrency": CONCURRENCY}});
    daemon.post("/v1/subscriptions", &fields).await.expect(201);

    let load = Load::of(u64::MAX);
    let address = daemon.address;
    let killer = async {
        load.reaches(EVENTS).await;
        daemon.kill().await;
    };
    let (mut ids, ()) = tokio::join!(load.publish(address), killer);
    assert!(ids.len() as u64 >= EVENTS, "killed in the middle: {}", ids.len());

    let daemon = Daemon::start(&config).await;
    ids.extend(Load::of(EVENTS).publish(daemon.address).await);
    let mut missing: HashSet<&str> = ids.iter().map(String::as_str).collect();
    assert_eq!(missing.len(), ids.len(), "every event has an id of its own");
    let mut times: HashMap<String, usize> = HashMap::new();
    while !missing.is_empty() {
        let id = receiver.next().await.header("webhook-id").to_owned();
        missing.remove(id.as_str());
        *times.entry(id).or_default() += 1;
    }
    // What was committed and could not be answered any more arrives too.
    daemon.until("/v1/stats", |stats| stats["deliveries"]["pending"] == 0).await;
    while receiver.total() > times.values().sum() {
        *times.entry(receiver.next().await.header("webhook-id").to_owned()).or_default() += 1;
    }
    let unanswered = times.len() - ids.len();
    assert!(unanswered as u64 <= PUBLISHERS, "{unanswered} more than were answered");
    let twice = times.values().filter(|count| **count > 1).count();
    assert!(times.values().all(|count| *count <= 2), "once, and once more for what was in flight");
    // In flight is also what was answered and whose outcome waited for its commit.
    assert!(twice <= CONCURRENCY + posthaste::limits::LANE_UNSETTLED_MAX, "{twice} came twice");
}
