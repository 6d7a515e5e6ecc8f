//! A core part ends from within: the process must end too, and say why, because a
//! service manager starts anew what has ended, and not what lingers half alive.

use serde_json::json;

use crate::daemon::{Daemon, Home};
use crate::load::Load;
use crate::support::{Receiver, Reply};

/// The part ends under load. Answers the exit code and what was written.
async fn ended_by(fault: &str) -> (Option<i32>, String) {
    ended_in(&Home::new(), fault).await
}

async fn ended_in(home: &Home, fault: &str) -> (Option<i32>, String) {
    let config = home.quiet(&home.configure(""));
    let receiver = Receiver::plain(|_, _| Reply::status(200)).await;
    // Two listeners, so that one of them is still there when the other ends.
    let variables = [("POSTHASTE_TEST_FAULT", fault), ("POSTHASTE_SERVICE_LISTEN", "127.0.0.1:0,127.0.0.1:0")];
    let mut daemon = Daemon::start_with(&config, &variables).await;
    daemon.post("/v1/subscriptions", &json!({"url": receiver.url, "events": ["*"]})).await.expect(201);
    let address = daemon.address;
    let load = tokio::spawn(async move { Load::of(u64::MAX).publish(address).await });
    let status = daemon.ended().await;
    load.abort();
    let log = daemon.whole_log().await;
    (status.code(), log)
}

macro_rules! ends_the_process {
    ($($name:ident: $fault:literal, $why:literal;)+) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let (code, log) = ended_by($fault).await;
            assert_eq!(code, Some(1), "{log}");
            assert!(log.lines().any(|line| line == $why), "{log}");
        })+
    };
}

// One of several listeners that ended was not noticed.
ends_the_process! {
    a_store_that_panics_ends_the_process: "store:panic:50", "the store's writer is gone";
    a_store_that_returns_ends_the_process: "store:return:50", "the store's writer is gone";
    an_engine_that_panics_ends_the_process: "engine:panic:50", "the engine ended unexpectedly";
    an_engine_that_returns_ends_the_process: "engine:return:50", "the engine ended unexpectedly";
    a_listener_that_panics_ends_the_process: "listener:panic:4", "the listener ended unexpectedly";
    a_listener_that_returns_ends_the_process: "listener:return:4", "the listener ended unexpectedly";
}

/// It may have met damage, which nobody looks for in a store that was at rest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_panics_is_checked_at_the_next_start() {
    let home = Home::new();
    ended_in(&home, "store:panic:50").await;
    let asked_for = home.path("store").join("posthaste.check");
    assert!(asked_for.exists());
    let daemon = Daemon::start(&home.configure("")).await;
    assert!(!asked_for.exists());
    daemon.kill().await;
}

#[tokio::test]
async fn a_fault_that_nobody_knows_is_refused() {
    let home = Home::new();
    let config = home.configure("");
    let mut command = crate::daemon::binary();
    command.arg("serve").arg("--config").arg(config).env("POSTHASTE_TEST_FAULT", "moon:panic:1");
    let output = command.output().await.unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}
