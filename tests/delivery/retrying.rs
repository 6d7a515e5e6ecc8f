//! When an attempt that failed is made again, and when not.

use std::time::Duration;

use posthaste::time::Timestamp;
use serde_json::{Value, json};

use crate::Witness;
use crate::support::{Daemon, Receiver, Reply, START_MS};

fn seconds(value: u64) -> Duration {
    Duration::from_secs(value)
}

fn time(value: &Value) -> Timestamp {
    value.as_str().expect("a time").parse().expect("RFC 3339")
}

fn started(delivery: &Value) -> Vec<u64> {
    let attempts = delivery["attempts_kept"].as_array().expect("attempts").iter();
    attempts.map(|attempt| (time(&attempt["started_at"]).as_millis() - START_MS) / 1000).collect()
}

#[tokio::test]
async fn three_days_of_retries_keep_to_the_schedule() {
    let daemon = Daemon::start().await;
    // A 5xx would trip the lane and make probes of its attempts: see `lanes`.
    let receiver = Receiver::answering(|_, _| Reply::status(400)).await;
    let subscription = daemon.subscribe(json!({"url": receiver.url, "events": ["door.*"]})).await;
    let delivery = daemon.deliver(&subscription, "door.opened", json!(1)).await;
    let mut witness = Witness::start(&daemon).await;
    let start = Timestamp::from_millis(START_MS);
    let horizon = start + seconds(72 * 3600);
    let mut attempts = 1;
    let mut at = start;
    loop {
        let shown = daemon.attempted(&delivery, attempts).await;
        assert_eq!(shown["attempts_kept"].as_array().expect("attempts").len(), attempts as usize, "all are kept");
        let last = &shown["attempts_kept"][attempts as usize - 1];
        assert_eq!((&last["number"], time(&last["started_at"])), (&json!(attempts), at));
        if shown["state"] == "failed" {
            assert_eq!((at, &shown["code"]), (horizon, &json!("status")), "the last is made at the horizon");
            assert_eq!(shown["next_attempt_at"], Value::Null);
            break;
        }
        let next = time(&shown["next_attempt_at"]);
        let mean = (10.0 * 2f64.powi(attempts as i32 - 1)).min(4.0 * 3600.0);
        let delay = next.since(at).as_secs_f64();
        let is_within = delay >= mean * 0.8 - 0.001 && delay <= mean * 1.2 + 0.001;
        assert!(
            is_within || next == horizon && delay < mean * 1.2,
            "attempt {attempts}: {delay} s, not {mean} s ± 20 %"
        );
        // A moment earlier nothing is sent: the attempt's own time would tell.
        daemon.clock.set(Timestamp::from_millis(next.as_millis() - 1));
        witness.passes(&daemon).await;
        daemon.clock.set(next);
        at = next;
        attempts += 1;
    }
    assert!((24..=36).contains(&attempts), "{attempts} attempts");
    assert_eq!(receiver.total(), attempts as usize);
    daemon.pass(seconds(72 * 3600));
    witness.passes(&daemon).await;
    assert_eq!(receiver.total(), attempts as usize);
}

#[tokio::test]
async fn success_is_any_2xx_and_redirects_are_not_followed() {
    let daemon = Daemon::start().await;
    let elsewhere = Receiver::start().await;
    for (status, state) in [
        (200, "delivered"),
        (201, "delivered"),
        (202, "delivered"),
        (204, "delivered"),
        (299, "delivered"),
        (301, "pending"),
        (302, "pending"),
        (303, "pending"),
        (304, "pending"),
        (307, "pending"),
        (308, "pending"),
        (400, "pending"),
        (404, "pending"),
        (500, "pending"),
    ] {
        let location = elsewhere.url.clone();
        let receiver = Receiver::answering(move |_, _| Reply {
            status,
            headers: vec![("location", location.clone())],
            body: bytes::Bytes::new(),
        })
        .await;
        let fields = json!({"url": receiver.url, "events": [format!("of.status{status}")]});
        let subscription = daemon.subscribe(fields).await;
        let delivery = daemon.deliver(&subscription, &format!("of.status{status}"), json!(1)).await;
        let shown = daemon.attempted(&delivery, 1).await;
        let outcome = &shown["attempts_kept"][0]["outcome"];
        assert_eq!((&shown["state"], &outcome["status"]), (&json!(state), &json!(status)), "{shown}");
        assert_eq!(outcome["code"], if state == "delivered" { Value::Null } else { json!("status") });
        assert_eq!(receiver.total(), 1);
    }
    assert_eq!(elsewhere.total(), 0);
}

#[tokio::test]
async fn retry_after_pauses_the_lane_at_most_as_long_as_a_retry_may_take() {
    for (status, header, until) in [
        (429, "3600", 3600),
        (503, "600", 600),
        // START_MS is 2027-01-15T08:00:00Z.
        (503, "Fri, 15 Jan 2027 09:00:00 GMT", 3600),
        (503, "9999999", 4 * 3600),
        (503, "soon", 0),
        (500, "3600", 0),
        (400, "3600", 0),
    ] {
        let daemon = Daemon::start().await;
        let receiver = Receiver::answering(move |_, number| match number {
            0 => Reply { headers: vec![("retry-after", header.to_owned())], ..Reply::status(status) },
            _ => Reply::status(200),
        })
        .await;
        let subscription = daemon.subscribe(json!({"url": receiver.url, "events": ["a.*"]})).await;
        let mut witness = Witness::start(&daemon).await;
        let first = daemon.deliver(&subscription, "a.first", json!(1)).await;
        daemon.attempted(&first, 1).await;
        let second = daemon.deliver(&subscription, "a.second", json!(1)).await;
        if until > 0 {
            daemon.pass(seconds(until) - Duration::from_millis(1));
            witness.passes(&daemon).await;
            daemon.pass(Duration::from_millis(1));
        }
        let shown = daemon.in_state(&second, "delivered").await;
        assert_eq!(started(&shown), [until], "{status} with Retry-After {header}");
        if until > 0 {
            let shown = daemon.in_state(&first, "delivered").await;
            assert_eq!(started(&shown), [0, until]);
        }
    }
}

#[tokio::test]
async fn where_only_transient_failures_are_retried_others_fail_at_once() {
    let transient = "[delivery.retry]\non = \"transient\"\n";
    for (text, own, retried) in [
        (transient, Value::Null, [false, true, true, true, true, false]),
        (transient, json!("any"), [true; 6]),
        ("", json!("transient"), [false, true, true, true, true, false]),
        ("", Value::Null, [true; 6]),
    ] {
        let daemon = Daemon::with(text, &[]).await;
        for (status, is_retried) in [404, 408, 425, 429, 500, 422].into_iter().zip(retried) {
            let receiver = Receiver::answering(move |_, _| Reply::status(status)).await;
            let event_type = format!("of.status{status}");
            let mut fields = json!({"url": receiver.url, "events": [event_type]});
            if !own.is_null() {
                fields["delivery"] = json!({"retry": {"on": own}});
            }
            let subscription = daemon.subscribe(fields).await;
            let delivery = daemon.deliver(&subscription, &event_type, json!(1)).await;
            let shown = daemon.attempted(&delivery, 1).await;
            let state = if is_retried { "pending" } else { "failed" };
            assert_eq!(shown["state"], state, "{status}, {text:?} with {own}");
        }
    }
}

#[tokio::test]
async fn what_a_subscription_says_of_retries_overrides() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::answering(|_, _| Reply::status(400)).await;
    let retry = json!({"first": "1m", "factor": 3, "max_delay": "5m", "jitter": 0, "give_up_after": "10m"});
    let subscription = daemon.subscribe(json!({"url": receiver.url, "delivery": {"retry": retry}})).await;
    let delivery = daemon.deliver(&subscription, "door.opened", json!(1)).await;
    for attempt in 1..=4 {
        let shown = daemon.attempted(&delivery, attempt).await;
        daemon.pass_to(&shown["next_attempt_at"]);
    }
    let shown = daemon.in_state(&delivery, "failed").await;
    assert_eq!(started(&shown), [0, 60, 240, 540, 600]);
}

#[tokio::test]
async fn nothing_due_means_nothing_sent() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::start().await;
    daemon.subscribe(json!({"url": receiver.url, "events": ["door.*"]})).await;
    let accepted = daemon.publish("window.opened", json!(1)).await;
    assert_eq!(accepted["deliveries"], 0);
    let mut witness = Witness::start(&daemon).await;
    for _ in 0..10 {
        daemon.pass(seconds(24 * 3600));
        witness.passes(&daemon).await;
    }
    assert_eq!(receiver.total(), 0);
}

#[tokio::test]
async fn a_clock_that_is_set_back_or_ahead_neither_stalls_nor_loses_a_delivery() {
    for restarts in [false, true] {
        let mut daemon = Daemon::start().await;
        let receiver = Receiver::answering(|_, number| Reply::status(if number < 2 { 400 } else { 200 })).await;
        let subscription = daemon.subscribe(json!({"url": receiver.url, "events": ["door.*"]})).await;
        let delivery = daemon.deliver(&subscription, "door.opened", json!(1)).await;
        daemon.attempted(&delivery, 1).await;
        // A day back: it does not wait for longer than a retry may take, and a fifth.
        daemon.clock.set(Timestamp::from_millis(START_MS - 86_400_000));
        if restarts {
            daemon.restart().await;
        }
        let mut witness = Witness::start(&daemon).await;
        witness.passes(&daemon).await;
        assert_eq!(receiver.total(), 1);
        daemon.pass(seconds(4 * 3600 + 48 * 60));
        daemon.attempted(&delivery, 2).await;
        // Days ahead, but not so many that it is removed once it is delivered: what is past
        // its horizon gets its attempt all the same.
        daemon.pass(seconds(5 * 86_400));
        assert_eq!(daemon.in_state(&delivery, "delivered").await["attempts"], 3);
    }
}
