//! Too few open files, too little memory.

use serde_json::json;
use tokio::net::TcpStream;

use crate::crowd::Crowd;
use crate::daemon::{Daemon, Home, binary};

/// A daemon under what `limit`, a command of the shell, leaves it.
async fn limited(home: &Home, limit: &str, more: &str) -> Daemon {
    let config = home.quiet(&home.configure(more));
    let own = binary();
    let mut command = tokio::process::Command::new("sh");
    command.env_clear().kill_on_drop(true).stdin(std::process::Stdio::null());
    command.arg("-c").arg(format!("{limit} && exec \"$@\"")).arg("sh");
    command.arg(own.as_std().get_program()).arg("serve").arg("--config").arg(config);
    Daemon::launch(command).await
}

/// Makes so many subscriptions to endpoints of `crowd`.
async fn subscribe(daemon: &Daemon, crowd: &Crowd, count: usize) {
    for number in 0..count {
        let fields = json!({"url": crowd.url(number), "events": ["load.*"]});
        daemon.post("/v1/subscriptions", &fields).await.expect(201);
    }
}

async fn publish(daemon: &Daemon, count: usize) {
    for number in 0..count {
        daemon.post("/v1/events", &json!({"type": "load.event", "data": number})).await.expect(202);
    }
}

/// Callers that only held connections, and connections kept to receivers, took every
/// open file there was: accepting stopped, and attempts failed that were none of
/// their endpoints' fault.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn few_open_files_cost_no_attempt() {
    const ENDPOINTS: usize = 300;
    let home = Home::new();
    let crowd = Crowd::answering(|_| 200).await;
    let daemon = limited(&home, "ulimit -n 256", "").await;
    subscribe(&daemon, &crowd, ENDPOINTS).await;
    publish(&daemon, 2).await;
    let mut idle = tokio::task::JoinSet::new();
    for _ in 0..150 {
        let address = daemon.address;
        idle.spawn(async move {
            let _connection = TcpStream::connect(address).await;
            std::future::pending::<()>().await;
        });
    }
    crowd.reaches(2 * ENDPOINTS).await;
    idle.shutdown().await;
    publish(&daemon, 1).await;
    daemon.until("/v1/stats", |stats| stats["deliveries"]["delivered"] == 3 * ENDPOINTS).await;
    assert_eq!(crowd.total(), 3 * ENDPOINTS, "each once");
    let log = daemon.log();
    for fault in ["attempt failed", "cannot accept"] {
        assert!(!log.contains(fault), "{}", log.lines().find(|line| line.contains(fault)).unwrap());
    }
}
