//! A disk that is full: publishing is refused, everything else goes on, and it ends
//! by itself.

use std::collections::HashSet;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::daemon::{Daemon, Home, binary, text};
use crate::support::{Receiver, Reply, within};
use crate::tmpfs::Tmpfs;

const MEBIBYTE: usize = 1024 * 1024;

/// A daemon whose store is on `tmpfs`.
async fn daemon_on(home: &Home, tmpfs: &Tmpfs, more: &str) -> Daemon {
    let config = home.quiet(&home.configure(more));
    let store = tmpfs.path.join("store");
    Daemon::start_with(&config, &[("POSTHASTE_STORAGE_PATH", store.to_str().unwrap())]).await
}

async fn publish(daemon: &Daemon, data: &str) -> crate::support::Answer {
    daemon.post("/v1/events", &json!({"type": "load.event", "data": data})).await
}

/// Publishes until that is refused for want of room. Adds the ids of what was accepted.
async fn publish_until_full(daemon: &Daemon, ids: &mut HashSet<String>) {
    let data = "x".repeat(20_000);
    loop {
        let answer = publish(daemon, &data).await;
        if answer.status == 202 {
            ids.insert(answer.json()["id"].as_str().unwrap().to_owned());
            continue;
        }
        assert!(answer.headers.contains_key("retry-after"), "{answer:?}");
        if answer.status == 507 {
            assert_eq!(answer.json()["code"], "storage_full");
            return;
        }
        // The one commit that met the end of the disk.
        answer.expect(503);
    }
}

/// A subscription that is next to never sent to, until [`release`] opens it.
async fn held(daemon: &Daemon, receiver: &Receiver) -> String {
    let fields = json!({"url": receiver.url, "events": ["load.*"], "delivery": {"rate_per_second": 0.001}});
    let made = daemon.post("/v1/subscriptions", &fields).await.expect(201);
    format!("/v1/subscriptions/{}", made["id"].as_str().unwrap())
}

async fn release(daemon: &Daemon, subscription: &str) {
    within("a change though the disk is full", async {
        let fields = json!({"delivery": {"rate_per_second": 1_000_000}});
        // The commit that meets the full disk may be this one.
        while daemon.call("PATCH", subscription, None, &fields).await.status != 200 {}
    })
    .await;
}

/// Waits for the end of all deliveries, also while the store is opened anew.
async fn drained(daemon: &Daemon) -> Value {
    within("the end of all deliveries", async {
        loop {
            let answer = daemon.get("/v1/stats").await;
            if answer.status == 200 && answer.json()["deliveries"]["pending"] == 0 {
                return answer.json();
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

async fn arrive(ids: &HashSet<String>, receiver: &mut Receiver) {
    let mut missing = ids.clone();
    while !missing.is_empty() {
        missing.remove(receiver.next().await.header("webhook-id"));
    }
}

/// A full disk was never left again: the store could not be drained, because deleting
/// needs space too, and was opened anew every second for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_and_drains_and_recovers() {
    let Some(tmpfs) = Tmpfs::mount(32).await else { return };
    let home = Home::new();
    let mut receiver = Receiver::plain(|_, _| Reply::status(200)).await;
    tmpfs.fill("others", 20 * MEBIBYTE);
    let daemon = daemon_on(&home, &tmpfs, "").await;
    let subscription = held(&daemon, &receiver).await;
    let mut ids = HashSet::new();
    publish_until_full(&daemon, &mut ids).await;
    assert!(ids.len() > 50, "{}", ids.len());
    // Somebody else takes the very last, and the power goes.
    tmpfs.fill("more", usize::MAX);
    daemon.kill().await;
    let mut daemon = daemon_on(&home, &tmpfs, "").await;
    publish(&daemon, "1").await.refused(507, "storage_full");
    release(&daemon, &subscription).await;
    drained(&daemon).await;
    arrive(&ids, &mut receiver).await;
    publish(&daemon, "1").await.refused(507, "storage_full");
    daemon.get("/readyz").await.refused(503, "unavailable");

    tmpfs.give_back("others");
    within("room", async { while daemon.get("/readyz").await.status != 200 {} }).await;
    publish(&daemon, "1").await.expect(202);
    drained(&daemon).await;
    assert_eq!(daemon.stop().await.code(), Some(0));
    eprintln!("a full disk: {} events accepted, lost: 0", ids.len());
}

/// A quota is full before the disk is: what was accepted is delivered nevertheless, and
/// a larger one holds from the reload on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_quota_refuses_and_drains_and_is_raised_without_a_restart() {
    let home = Home::new();
    let mut receiver = Receiver::plain(|_, _| Reply::status(200)).await;
    let quota = |bytes: &str| {
        let config = home.quiet(&home.configure(""));
        let text = std::fs::read_to_string(&config).unwrap();
        let quota = format!("[storage]\nmax_bytes = \"{bytes}\"\n");
        std::fs::write(&config, text.replace("[storage]\n", &quota)).unwrap();
        config
    };
    let daemon = Daemon::start(&quota("2 MiB")).await;
    let subscription = held(&daemon, &receiver).await;
    let mut ids = HashSet::new();
    publish_until_full(&daemon, &mut ids).await;
    assert!(ids.len() > 50, "{}", ids.len());
    daemon.kill().await;
    let mut daemon = Daemon::start(&quota("2 MiB")).await;
    publish(&daemon, "1").await.refused(507, "storage_full");
    release(&daemon, &subscription).await;
    drained(&daemon).await;
    arrive(&ids, &mut receiver).await;
    publish(&daemon, "1").await.refused(507, "storage_full");
    quota("64 MiB");
    daemon.signal(Signal::HUP);
    within("room", async { while daemon.get("/readyz").await.status != 200 {} }).await;
    publish(&daemon, "1").await.expect(202);
    assert_eq!(daemon.stop().await.code(), Some(0));
}

/// Without a byte left no store can be made, which is said.
#[tokio::test]
async fn a_store_that_there_is_no_room_for_is_refused() {
    let Some(tmpfs) = Tmpfs::mount(16).await else { return };
    let home = Home::new();
    let config = home.configure("");
    std::fs::create_dir(tmpfs.path.join("store")).unwrap();
    tmpfs.fill("others", usize::MAX);
    let mut command = binary();
    command.arg("serve").arg("--config").arg(config).env("POSTHASTE_STORAGE_PATH", tmpfs.path.join("store"));
    let output = within("its end", command.output()).await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("No space left"), "{output:?}");
    tmpfs.give_back("others");
    let daemon = daemon_on(&home, &tmpfs, "").await;
    publish(&daemon, "1").await.expect(202);
}

/// What retention took stayed in the database's file, and the disk full with it.
///
/// `cargo test --release --test campaign retention_makes_room -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "waits for retention: three minutes"]
async fn retention_makes_room_on_a_full_disk() {
    let Some(tmpfs) = Tmpfs::mount(16).await else { return };
    let home = Home::new();
    let mut receiver = Receiver::plain(|_, _| Reply::status(200)).await;
    let short = "[delivery.retry]\ngive_up_after = \"1m\"\n\
                 [retention]\ndelivered = \"1m\"\nfailed = \"1m\"\nunmatched = \"1m\"\n";
    let daemon = daemon_on(&home, &tmpfs, short).await;
    let fields = json!({"url": receiver.url, "events": ["load.*"]});
    daemon.post("/v1/subscriptions", &fields).await.expect(201);
    for round in 1..=2 {
        let mut ids = HashSet::new();
        publish_until_full(&daemon, &mut ids).await;
        arrive(&ids, &mut receiver).await;
        let began = std::time::Instant::now();
        while daemon.get("/readyz").await.status != 200 {
            assert!(began.elapsed().as_secs() < 240, "{}", daemon.log());
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
        eprintln!("round {round}: {} events on 16 MiB; room again after {} s", ids.len(), began.elapsed().as_secs());
    }
}
