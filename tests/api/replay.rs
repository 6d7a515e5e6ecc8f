//! Replay: what failed, was delivered, or was missed is sent again.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Daemon, Receiver, Reply};
use crate::{path_of, texts};

/// Of the events `a`, `b` and `c`, published a second apart: `a` delivered, `b`
/// failed, `c` missed. Answers the subscription's path and the three times.
async fn scene(daemon: &Daemon, receiver: &Receiver) -> (String, Vec<String>) {
    let fields = json!({"url": receiver.url, "events": ["a", "b", "c"], "delivery": {"retry": {"on": "transient"}}});
    let path = path_of(&daemon.subscribe(fields).await);
    let mut times = Vec::new();
    for event_type in ["a", "b", "c"] {
        if event_type == "c" {
            daemon.post(&format!("{path}/disable"), Value::Null).await.expect(200);
        }
        times.push(daemon.clock.now().to_string());
        daemon.publish(event_type, json!(1)).await;
        daemon.pass(Duration::from_secs(1));
    }
    daemon.post(&format!("{path}/enable"), Value::Null).await.expect(200);
    settled(daemon, &path).await;
    (path, times)
}

async fn settled(daemon: &Daemon, path: &str) {
    daemon.until(&format!("{path}/deliveries?state=pending"), |page| page["data"] == json!([])).await;
}

/// Refuses the first `b` for good.
async fn receiver() -> Receiver {
    let refused = std::sync::atomic::AtomicBool::new(false);
    Receiver::answering(move |request, _| {
        let is_first_b = request.json()["type"] == "b" && !refused.swap(true, std::sync::atomic::Ordering::Relaxed);
        Reply::status(if is_first_b { 400 } else { 200 })
    })
    .await
}

#[tokio::test]
async fn a_replay_sends_what_its_states_name() {
    for (states, expected) in [
        (&["failed"][..], &["b"][..]),
        (&["delivered"], &["a"]),
        (&["missed"], &["c"]),
        (&["missed", "failed", "delivered"], &["a", "b", "c"]),
    ] {
        let daemon = Daemon::start().await;
        let mut receiver = receiver().await;
        let (path, times) = scene(&daemon, &receiver).await;
        for _ in 0..2 {
            receiver.next().await;
        }
        let body = json!({"since": times[0], "states": states});
        let replayed = daemon.post(&format!("{path}/replay"), body).await.expect(202);
        assert_eq!(replayed, json!({"deliveries": expected.len(), "more": false, "next_since": null}), "{states:?}");
        let mut received = Vec::new();
        for _ in expected {
            received.push(receiver.next().await.json()["type"].as_str().unwrap().to_owned());
        }
        assert_eq!(crate::sorted(received), expected, "{states:?}");
        settled(&daemon, &path).await;
        let delivered = daemon.get(&format!("{path}/deliveries?state=delivered")).await.expect(200);
        let types = texts(delivered["data"].as_array().unwrap(), "/event/type");
        assert!(expected.iter().all(|event_type| types.iter().any(|found| found == event_type)), "{types:?}");
    }
}

#[tokio::test]
async fn a_replay_keeps_to_its_window_and_types() {
    let daemon = Daemon::start().await;
    let receiver = receiver().await;
    let (path, times) = scene(&daemon, &receiver).await;
    let all = ["failed", "delivered", "missed"];
    for (body, count) in [
        (json!({"since": times[0], "until": times[1], "states": all}), 1),
        (json!({"since": times[1], "states": all, "events": ["a"]}), 0),
        (json!({"since": times[0], "states": all, "events": ["a", "b.*"]}), 1),
        (json!({"since": times[2], "states": ["delivered"]}), 0),
        (json!({"since": times[1], "states": all}), 2),
        (json!({"since": times[2], "states": ["missed"]}), 0),
    ] {
        let replayed = daemon.post(&format!("{path}/replay"), body.clone()).await.expect(202);
        assert_eq!(replayed, json!({"deliveries": count, "more": false, "next_since": null}), "{body}");
        settled(&daemon, &path).await;
    }
}

#[tokio::test]
async fn faulty_replays_are_refused() {
    let daemon = Daemon::start().await;
    let path = path_of(&daemon.subscribe(json!({"url": "https://a.example"})).await);
    let since = "2026-01-01T00:00:00Z";
    for (body, fields) in [
        (json!({}), &["since", "states"][..]),
        (json!({"since": since}), &["states"]),
        (json!({"since": since, "states": []}), &["states"]),
        (json!({"since": since, "states": "failed"}), &["states"]),
        (json!({"since": since, "states": ["failed", "pending"]}), &["states[1]"]),
        (json!({"since": "yesterday", "states": ["failed"]}), &["since"]),
        (json!({"since": since, "until": since, "states": ["failed"]}), &["until"]),
        (json!({"since": since, "states": ["failed"], "events": ["*.x"]}), &["events[0]"]),
        (json!({"since": since, "states": ["failed"], "limit": 1}), &["limit"]),
    ] {
        let answer = daemon.post(&format!("{path}/replay"), body.clone()).await;
        assert_eq!(answer.refused(422, "validation_failed"), fields, "{body}");
    }
    daemon.post(&format!("{path}/replay"), Value::Null).await.refused(400, "invalid_json");
    daemon.post(&format!("{path}/disable"), Value::Null).await.expect(200);
    let body = json!({"since": since, "states": ["failed"]});
    daemon.post(&format!("{path}/replay"), body).await.refused(409, "not_enabled");
}

#[tokio::test]
async fn one_call_replays_at_most_ten_thousand() {
    let daemon = Daemon::start().await;
    let path = path_of(&daemon.subscribe(json!({"url": "https://127.0.0.1:1/", "status": "disabled"})).await);
    for _ in 0..10 {
        daemon.post("/v1/events/batch", json!(vec![json!({"type": "a", "data": 1}); 1000])).await.expect(200);
    }
    daemon.publish("a", json!(1)).await;
    daemon.post(&format!("{path}/enable"), Value::Null).await.expect(200);
    let replay = async |since: &str| {
        let body = json!({"since": since, "states": ["missed"]});
        daemon.post(&format!("{path}/replay"), body).await.expect(202)
    };
    let next_since = daemon.clock.now().to_string();
    let first = replay("2027-01-01T00:00:00Z").await;
    assert_eq!(first, json!({"deliveries": 10_000, "more": true, "next_since": next_since}));
    assert_eq!(replay(&next_since).await, json!({"deliveries": 1, "more": false, "next_since": null}));
}
