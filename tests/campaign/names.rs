//! A resolver that never answers: only the names that it is asked for wait.

use serde_json::json;
use tokio::net::UdpSocket;

use crate::daemon::{Daemon, Home, binary};
use crate::support::{Receiver, Reply};

const DEAD: usize = 40;
const EVENTS: usize = 20;

/// A daemon whose resolver is at 127.77.77.77; none where the machine does not allow it.
async fn asking_nobody(home: &Home) -> Option<(Daemon, UdpSocket)> {
    let Ok(silent) = UdpSocket::bind("127.77.77.77:53").await else {
        eprintln!("not tested: only root may be a resolver");
        return None;
    };
    let resolver = home.path("resolv.conf");
    std::fs::write(&resolver, "nameserver 127.77.77.77\noptions timeout:30 attempts:3\n").unwrap();
    let script = "mount --bind \"$1\" /etc/resolv.conf && shift && exec \"$@\"";
    let mut allowed = tokio::process::Command::new("unshare");
    allowed.args(["-rm", "sh", "-c", script, "sh"]).arg(&resolver).arg("true");
    if !allowed.status().await.is_ok_and(|status| status.success()) {
        eprintln!("not tested: this machine lets nobody mount a file");
        return None;
    }
    let config = home.quiet(&home.configure(""));
    let own = binary();
    let mut command = tokio::process::Command::new("unshare");
    command.env_clear().kill_on_drop(true).stdin(std::process::Stdio::null());
    command.args(["-rm", "sh", "-c", script, "sh"]).arg(&resolver);
    command.arg(own.as_std().get_program()).arg("serve").arg("--config").arg(config);
    Some((Daemon::launch(command).await, silent))
}

/// Every attempt asked for itself. So a few dead names with their sixteen attempts each
/// held every lookup there may be, and attempts to names that are known failed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_do_not_resolve_delay_no_others() {
    let home = Home::new();
    let Some((mut daemon, _silent)) = asking_nobody(&home).await else { return };
    for number in 0..DEAD {
        let url = format!("http://dead-{number}.example.com/");
        daemon.post("/v1/subscriptions", &json!({"url": url, "events": ["load.*"]})).await.expect(201);
    }
    let mut receiver = Receiver::plain(|_, _| Reply::status(200)).await;
    let made = daemon.post("/v1/subscriptions", &json!({"url": receiver.url, "events": ["*"]})).await.expect(201);
    let events: Vec<_> = (0..EVENTS).map(|number| json!({"type": "load.event", "data": number})).collect();
    daemon.post("/v1/events/batch", &json!(events)).await.expect(200);
    // They hold lookups by now.
    daemon.post("/v1/events", &json!({"type": "other.event", "data": 1})).await.expect(202);
    for _ in 0..=EVENTS {
        receiver.next().await;
    }
    let path = format!("/v1/subscriptions/{}", made["id"].as_str().unwrap());
    daemon.until(&path, |shown| shown["stats"]["pending"] == 0).await;
    let shown = daemon.get(&path).await.expect(200);
    assert_eq!(shown["stats"]["attempts"], EVENTS + 1, "none failed: {shown}");
    // A lookup cannot be cut off, and does not hold the stop up.
    assert_eq!(daemon.stop().await.code(), Some(0));
}
