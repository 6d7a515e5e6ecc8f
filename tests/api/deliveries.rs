//! Deliveries: shown with their attempts, sent again, cancelled.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Daemon, Receiver, Reply};
use crate::{failing_receiver, path_of, publish_for_delivery};

#[tokio::test]
async fn a_delivery_shows_every_attempt() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::answering(|_, number| match number {
        0 => Reply { body: "not now".into(), ..Reply::status(503) },
        _ => Reply { body: "ok".into(), ..Reply::status(201) },
    })
    .await;
    let fields = json!({"url": format!("{}/{{data.missing}}", receiver.url), "delivery": {"retry": {"jitter": 0}}});
    let made = daemon.subscribe(fields).await;
    let opened_at = daemon.clock.now();
    let path = publish_for_delivery(&daemon, "door.opened").await;
    let waiting = daemon.until(&path, |delivery| delivery["attempts"] == 1).await;
    assert_eq!((&waiting["state"], &waiting["ended_at"]), (&json!("pending"), &Value::Null));
    let due = opened_at + Duration::from_secs(10);
    assert_eq!(waiting["next_attempt_at"], due.to_string());
    daemon.clock.set(due);
    let mut done = daemon.until(&path, |delivery| delivery["state"] == "delivered").await;
    for attempt in done["attempts_kept"].as_array_mut().unwrap() {
        assert!(attempt["duration_ms"].take().is_u64());
    }
    let id = path.rsplit('/').next().unwrap();
    let event = done["event"]["id"].clone();
    assert_eq!(
        done,
        json!({
            "id": id, "event": {"id": event, "type": "door.opened"}, "subscription": made["id"],
            "organization": "default", "state": "delivered", "code": null, "attempts": 2, "next_attempt_at": null,
            "opened_at": opened_at.to_string(), "ended_at": due.to_string(),
            "attempts_kept": [
                {"number": 1, "started_at": opened_at.to_string(), "duration_ms": null, "missing": ["data.missing"],
                 "outcome": {"success": false, "status": 503, "code": "status",
                             "detail": "the receiver answered 503"},
                 "response_body": "not now"},
                {"number": 2, "started_at": due.to_string(), "duration_ms": null, "missing": ["data.missing"],
                 "outcome": {"success": true, "status": 201, "code": null, "detail": null}, "response_body": "ok"},
            ],
        })
    );
    let listed = daemon.get("/v1/deliveries").await.expect(200);
    let row = &listed["data"][0];
    assert!(row.get("attempts_kept").is_none());
    for (name, value) in row.as_object().unwrap() {
        assert_eq!(value, &done[name], "{name}");
    }
}

#[tokio::test]
async fn a_delivery_that_is_not_there_is_not_found() {
    let daemon = Daemon::start().await;
    for id in ["0", "nonsense", "01890a5d-ac96-774b-bcce-b302099a8057"] {
        daemon.get(&format!("/v1/deliveries/{id}")).await.refused(404, "not_found");
        daemon.post(&format!("/v1/deliveries/{id}/retry"), Value::Null).await.refused(404, "not_found");
        daemon.post(&format!("/v1/deliveries/{id}/cancel"), Value::Null).await.refused(404, "not_found");
    }
}

#[tokio::test]
async fn a_retry_sends_what_has_ended_again() {
    let daemon = Daemon::start().await;
    let mut receiver = Receiver::start().await;
    let made = daemon.subscribe(json!({"url": receiver.url})).await;
    let path = publish_for_delivery(&daemon, "a").await;
    let first = receiver.next().await;
    daemon.until(&path, |delivery| delivery["state"] == "delivered").await;
    daemon.pass(Duration::from_secs(3600));
    let reopened = daemon.post(&format!("{path}/retry"), Value::Null).await.expect(202);
    assert_eq!(reopened["opened_at"], daemon.clock.now().to_string(), "a new horizon from now");
    let second = receiver.next().await;
    assert_eq!(second.header("webhook-id"), first.header("webhook-id"));
    let done = daemon.until(&path, |delivery| delivery["state"] == "delivered").await;
    assert_eq!(done["attempts"], 2, "numbering goes on");

    daemon.post(&format!("{}/disable", path_of(&made)), Value::Null).await.expect(200);
    daemon.post(&format!("{path}/retry"), Value::Null).await.refused(409, "not_enabled");
}

#[tokio::test]
async fn what_is_pending_is_not_retried_and_what_has_ended_not_cancelled() {
    let daemon = Daemon::start().await;
    let mut receiver = failing_receiver().await;
    daemon.subscribe(json!({"url": receiver.url})).await;
    let path = publish_for_delivery(&daemon, "a").await;
    receiver.next().await;
    daemon.until(&path, |delivery| delivery["attempts"] == 1).await;
    daemon.post(&format!("{path}/retry"), Value::Null).await.refused(409, "wrong_state");
    let cancelled = daemon.post(&format!("{path}/cancel"), Value::Null).await.expect(200);
    assert_eq!((&cancelled["state"], &cancelled["next_attempt_at"]), (&json!("cancelled"), &Value::Null));
    assert_eq!(cancelled["ended_at"], daemon.clock.now().to_string());
    daemon.post(&format!("{path}/cancel"), Value::Null).await.refused(409, "wrong_state");
    daemon.pass(Duration::from_secs(3600));
    // A cancelled one has ended: it can be sent again.
    let reopened = daemon.post(&format!("{path}/retry"), Value::Null).await.expect(202);
    assert_eq!(reopened["id"], cancelled["id"]);
    receiver.next().await;
    assert_eq!(receiver.total(), 2, "none was made while it was cancelled");
}

#[tokio::test]
async fn a_delivery_that_is_refused_for_good_fails_and_can_be_retried() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::answering(|_, number| Reply::status(if number == 0 { 400 } else { 200 })).await;
    daemon.subscribe(json!({"url": receiver.url, "delivery": {"retry": {"on": "transient"}}})).await;
    let path = publish_for_delivery(&daemon, "a").await;
    let failed = daemon.until(&path, |delivery| delivery["state"] == "failed").await;
    assert_eq!((&failed["code"], &failed["attempts"]), (&json!("status"), &json!(1)));
    daemon.post(&format!("{path}/retry"), Value::Null).await.expect(202);
    let done = daemon.until(&path, |delivery| delivery["state"] == "delivered").await;
    assert_eq!((&done["code"], &done["attempts"]), (&Value::Null, &json!(2)));
}

#[tokio::test]
async fn a_subscriptions_pending_deliveries_are_cancelled_by_window_and_type() {
    let daemon = Daemon::start().await;
    let receiver = failing_receiver().await;
    let made = daemon.subscribe(json!({"url": receiver.url})).await;
    let other = daemon.subscribe(json!({"url": receiver.url, "events": ["other"]})).await;
    let path = format!("{}/cancel", path_of(&made));
    let pending = async |subscription: &Value| {
        let list = format!("{}/deliveries?state=pending", path_of(subscription));
        let mut types = crate::texts(daemon.get(&list).await.expect(200)["data"].as_array().unwrap(), "/event/type");
        types.sort();
        types
    };
    let mut times = Vec::new();
    for event_type in ["door.opened", "door.closed", "lock.opened", "other"] {
        times.push(daemon.clock.now().to_string());
        daemon.publish(event_type, json!(1)).await;
        daemon.pass(Duration::from_secs(1));
    }
    for (body, fields) in [
        (json!({"sinse": times[0]}), &["sinse"][..]),
        (json!({"since": 1, "until": "x", "events": "door.*"}), &["since", "until", "events"]),
        (json!({"since": times[1], "until": times[0]}), &["until"]),
        (json!({"events": ["a..b"]}), &["events[0]"]),
    ] {
        assert_eq!(daemon.post(&path, body.clone()).await.refused(422, "validation_failed"), fields, "{body}");
    }
    let cancel = async |body: Value| daemon.post(&path, body).await.expect(202);
    assert_eq!(
        cancel(json!({"since": times[1], "until": times[2], "events": ["lock.*"]})).await,
        json!({"cancelled": 0})
    );
    assert_eq!(cancel(json!({"since": times[1], "until": times[2]})).await, json!({"cancelled": 1}));
    assert_eq!(pending(&made).await, ["door.opened", "lock.opened", "other"]);
    assert_eq!(cancel(json!({"events": ["lock.*", "door.closed"]})).await, json!({"cancelled": 1}));
    assert_eq!(pending(&made).await, ["door.opened", "other"]);
    assert_eq!(cancel(Value::Null).await, json!({"cancelled": 2}), "no body: all");
    assert_eq!(pending(&made).await, Vec::<String>::new());
    assert_eq!(pending(&other).await, ["other"], "of another subscription");
}
