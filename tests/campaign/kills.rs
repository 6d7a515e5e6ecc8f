//! `kill -9` at random moments under load, again and again on the same store: what
//! was answered 2xx arrives, what was in flight at most twice, attempts without gaps.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use tokio::io::AsyncReadExt;

use crate::daemon::{Daemon, Home, binary};
use crate::load::{Load, PUBLISHERS};
use crate::support::{Receiver, Reply, within};

const CONCURRENCY: usize = 16;

/// What the receiver saw of one event.
#[derive(Default)]
struct Seen {
    refused: usize,
    taken: usize,
}

/// Kills it while it opens the store: its first words come before that.
async fn kill_at_the_start(config: &Path) {
    let mut command = binary();
    command.arg("serve").arg("--config").arg(config).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let first = child.stderr.as_mut().unwrap().read_u8();
    within("the first words", first).await.unwrap();
    child.kill().await.unwrap();
}

async fn survives(cycles: usize, seed: u64) {
    let home = Home::new();
    let config = home.quiet(&home.configure("[delivery.retry]\nfirst = \"100ms\"\nmax_delay = \"1s\"\n"));
    let seen: Arc<Mutex<HashMap<String, Seen>>> = Arc::default();
    let theirs = seen.clone();
    let receiver = Receiver::plain(move |received, number| {
        let mut seen = theirs.lock().unwrap();
        let of_event = seen.entry(received.header("webhook-id").to_owned()).or_default();
        // One in eight is refused at first, by a status that trips no lane.
        if number.is_multiple_of(8) && of_event.taken == 0 {
            of_event.refused += 1;
            return Reply::status(409);
        }
        of_event.taken += 1;
        Reply::status(200)
    })
    .await;
    let mut chance = StdRng::seed_from_u64(seed);
    let mut ids = Vec::new();
    for cycle in 0..cycles {
        let daemon = Daemon::start(&config).await;
        if cycle == 0 {
            let fields = json!({"url": receiver.url, "events": ["load.*"], "delivery": {"concurrency": CONCURRENCY}});
            daemon.post("/v1/subscriptions", &fields).await.expect(201);
        }
        let (load, address) = (Load::of(u64::MAX), daemon.address);
        let killer = async {
            load.reaches(chance.random_range(0..300)).await;
            daemon.kill().await;
        };
        ids.extend(tokio::join!(load.publish(address), killer).0);
        if chance.random_ratio(1, 4) {
            kill_at_the_start(&config).await;
        }
    }

    let daemon = Daemon::start(&config).await;
    daemon.until("/v1/stats", |stats| stats["deliveries"]["pending"] == 0).await;
    let stats = daemon.get("/v1/stats").await.expect(200);
    assert_eq!(stats["deliveries"]["failed"], 0);
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    let lost = ids.iter().filter(|id| seen.get(*id).is_none_or(|seen| seen.taken == 0)).count();
    let twice: usize = seen.values().map(|seen| seen.taken.saturating_sub(1)).sum();
    let unanswered = seen.len() - ids.len();
    eprintln!(
        "{cycles} kills (seed {seed}): {} events answered, lost: {lost}; {unanswered} unanswered that arrived; \
         {twice} came twice",
        ids.len()
    );
    assert_eq!(lost, 0);
    assert!(unanswered <= cycles * PUBLISHERS as usize);
    // In flight is also what was answered and whose outcome waited for its commit. Of
    // what was answered before, nothing: were it sent again after every kill, each event
    // would come several times.
    assert!(twice <= (cycles * (CONCURRENCY + 2 * posthaste::limits::OUTCOMES_WAITING_MAX)).min(ids.len()));
    for (id, seen) in seen.iter().filter(|(_, seen)| seen.refused > 0) {
        let event = daemon.get(&format!("/v1/events/{id}")).await.expect(200);
        let path = format!("/v1/deliveries/{}", event["deliveries"][0]["id"].as_str().unwrap());
        let delivery = daemon.get(&path).await.expect(200);
        let kept = delivery["attempts_kept"].as_array().unwrap();
        let numbers: Vec<u64> = kept.iter().map(|attempt| attempt["number"].as_u64().unwrap()).collect();
        let all: Vec<u64> = (1..=delivery["attempts"].as_u64().unwrap()).collect();
        assert_eq!(numbers, all, "{delivery}");
        // A kill may take the outcome of an attempt along, and never makes one up.
        assert!(numbers.len() <= seen.refused + seen.taken, "{delivery}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_few_kills_lose_nothing() {
    survives(6, 1).await;
}

/// `cargo test --release --test campaign a_hundred_kills -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute"]
async fn a_hundred_kills_lose_nothing() {
    survives(100, RandomState::new().build_hasher().finish()).await;
}
