//! The real binary's wall clock is set while it runs, by `libfaketime` where the
//! machine has it. Monotonic time goes on, as it does where a clock is set; a laptop
//! that slept looks like a clock set ahead.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::daemon::{Daemon, Home, binary};
use crate::support::{Receiver, Reply};

fn faketime() -> Option<PathBuf> {
    let folders = ["/usr/lib/x86_64-linux-gnu/faketime", "/usr/lib/aarch64-linux-gnu/faketime", "/usr/lib64/faketime"];
    folders.iter().map(|folder| Path::new(folder).join("libfaketimeMT.so.1")).find(|library| library.exists())
}

/// `apt-get install faketime; cargo test --test campaign a_clock -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs libfaketime"]
async fn a_clock_that_is_set_under_the_binary_stalls_nothing() {
    let library = faketime().expect("libfaketime is installed");
    let home = Home::new();
    let config = home.quiet(&home.configure("[delivery.retry]\nfirst = \"1s\"\nmax_delay = \"1s\"\n"));
    let offset = home.path("offset");
    let set = |to: &str| std::fs::write(&offset, to).unwrap();
    set("+0");
    let mut command = binary();
    command.arg("serve").arg("--config").arg(config);
    command.env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", &offset);
    command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let daemon = Daemon::launch(command).await;
    // Each event is refused once, so that each has a due time on the old clock.
    let mut receiver = Receiver::plain(|_, number| Reply::status(if number % 2 == 0 { 409 } else { 200 })).await;
    daemon.post("/v1/subscriptions", &json!({"url": receiver.url, "events": ["*"]})).await.expect(201);
    let mut accepted_at = Vec::new();
    for to in ["-3600", "+86400", "-3600", "+0"] {
        let made = daemon.post("/v1/events", &json!({"type": "a.b", "data": to})).await.expect(202);
        receiver.next().await;
        set(to);
        // The second attempt comes, whatever the clock says now.
        assert_eq!(receiver.next().await.header("webhook-id"), made["id"].as_str().unwrap());
        let event = daemon.get(&format!("/v1/events/{}", made["id"].as_str().unwrap())).await.expect(200);
        accepted_at.push(event["accepted_at"].as_str().unwrap_or_default().to_owned());
    }
    daemon.until("/v1/stats", |stats| stats["deliveries"]["delivered"] == 4).await;
    eprintln!("a clock set an hour back, a day forth, back again: 4 of 4 delivered; accepted at {accepted_at:?}");
}
