//! How the service is: health, readiness, totals, metrics, who changed what.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Daemon, Receiver};
use crate::{call_as, daemon_with_keys, failing_receiver, key, path_of, publish_for_delivery, texts};

#[tokio::test]
async fn health_and_readiness_are_open() {
    let daemon = daemon_with_keys(&[key("any", &["read"], &["*"])]).await;
    assert_eq!(daemon.get("/healthz").await.expect(200), json!({"status": "ok"}));
    assert_eq!(daemon.get("/readyz").await.expect(200), json!({"status": "ready"}));
}

#[tokio::test]
async fn stats_count_what_there_is() {
    let daemon = Daemon::start().await;
    let empty = daemon.get("/v1/stats").await.expect(200);
    assert_eq!((&empty["events"], &empty["oldest_pending_at"]), (&json!(0), &Value::Null));
    let healthy = Receiver::start().await;
    let mut failing = failing_receiver().await;
    daemon.subscribe(json!({"url": healthy.url, "events": ["a"]})).await;
    daemon.subscribe(json!({"url": failing.url, "events": ["b"]})).await;
    daemon.subscribe(json!({"url": failing.url, "events": [], "status": "disabled"})).await;
    daemon.call("PUT", "/v1/sources/s", json!({})).await.expect(201);
    publish_for_delivery(&daemon, "a").await;
    daemon.pass(Duration::from_secs(1));
    let oldest = daemon.clock.now().to_string();
    publish_for_delivery(&daemon, "b").await;
    daemon.pass(Duration::from_secs(1));
    let cancelled = publish_for_delivery(&daemon, "b").await;
    failing.next().await;
    failing.next().await;
    daemon.until(&cancelled, |delivery| delivery["attempts"] == 1).await;
    daemon.post(&format!("{cancelled}/cancel"), Value::Null).await.expect(200);
    let mut stats = daemon.until("/v1/stats", |stats| stats["deliveries"]["delivered"] == 1).await;
    let storage = stats["storage"].take();
    assert!(storage["file_bytes"].as_u64().unwrap() >= storage["live_bytes"].as_u64().unwrap(), "{storage}");
    assert!(storage["live_bytes"].as_u64().unwrap() > 0);
    assert_eq!(
        stats,
        json!({"events": 3, "deliveries": {"pending": 1, "delivered": 1, "failed": 0, "cancelled": 1},
               "oldest_pending_at": oldest, "oldest_pending_is_exact": true, "deliveries_held_since": null,
               "organizations": 1, "sources": 1, "storage": null, "configuration": {"generation": 1}, "work": [],
               "subscriptions": {"enabled": 2, "disabled": 1, "disabled_due_to_errors": 0}})
    );
}

#[tokio::test]
async fn metrics_are_text_for_prometheus_old_and_new() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::start().await;
    daemon.subscribe(json!({"url": receiver.url})).await;
    let delivery = publish_for_delivery(&daemon, "a").await;
    daemon.until(&delivery, |delivery| delivery["state"] == "delivered").await;
    // Counted a moment after it is committed.
    daemon.until("/v1/stats", |stats| stats["deliveries"]["delivered"] == 1).await;
    daemon.get("/v1/nothing").await.refused(404, "not_found");
    let page = [("origin", "https://evil.example")];
    daemon.call_with("GET", "/healthz", Value::Null, &page).await.refused(403, "origin_refused");
    // As Prometheus asks.
    let accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    let answer = daemon.call_with("GET", "/metrics", Value::Null, &[("accept", accept)]).await;
    assert!(answer.header("content-type").starts_with("application/openmetrics-text; version=1.0.0"));
    let open_metrics = String::from_utf8(answer.body.to_vec()).unwrap();
    let answer = daemon.get("/metrics").await;
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    for line in [
        "posthaste_events_accepted_total 1",
        "posthaste_deliveries_ended_total{state=\"delivered\"} 1",
        "posthaste_deliveries_pending 0",
        "posthaste_events_retained 1",
        "posthaste_attempts_total{outcome=\"success\"} 1",
        "posthaste_api_requests_total{status=\"201\"} 1",
        "posthaste_api_requests_total{status=\"202\"} 1",
        "posthaste_api_requests_total{status=\"403\"} 1",
        "posthaste_api_requests_total{status=\"404\"} 1",
    ] {
        for text in [&open_metrics, &text] {
            assert!(text.lines().any(|shown| shown == line), "{line} in\n{text}");
        }
    }
    assert!(open_metrics.ends_with("# EOF\n"));
    assert!(open_metrics.contains("# TYPE posthaste_events_accepted counter\n"));
    assert!(text.contains("# TYPE posthaste_events_accepted_total counter\n"));
}

#[tokio::test]
async fn metrics_can_have_a_listener_of_their_own() {
    let variables = [("POSTHASTE_SERVICE_AUTH", "keys"), ("POSTHASTE_SERVICE_METRICS_LISTEN", "127.0.0.1:0")];
    let daemon = Daemon::with(&key("read", &["read"], &["*"]), &variables).await;
    daemon.get("/metrics").await.refused(401, "unauthenticated");
    call_as(&daemon, "read", "GET", "/metrics", Value::Null).await;
    let posthaste::config::Listen::Tcp(address) = daemon.app().metrics_addresses()[0] else { panic!("it is TCP") };
    let ask = async |path: &str| {
        let request = http::Request::builder().uri(path).body(bytes::Bytes::new()).unwrap();
        crate::support::daemon::send(address, request).await
    };
    assert_eq!(ask("/metrics").await.status, 200, "without a key");
    ask("/v1/stats").await.refused(404, "not_found");
    ask("/healthz").await.refused(404, "not_found");
}

#[tokio::test]
async fn the_audit_log_says_who_changed_what() {
    let roles = ["publish", "read", "manage", "secrets", "admin"];
    let daemon = daemon_with_keys(&[key("ops", &roles, &["*"]), key("dev", &roles, &["acme"])]).await;
    let receiver = Receiver::start().await;
    let ops = async |method: &str, path: &str, body: Value| call_as(&daemon, "ops", method, path, body).await;
    let dev = async |method: &str, path: &str, body: Value| call_as(&daemon, "dev", method, path, body).await;
    ops("PUT", "/v1/organizations/acme", json!({"name": "Acme"})).await.expect(201);
    ops("PUT", "/v1/event-types/a", json!({})).await.expect(201);
    dev("PUT", "/v1/sources/panel", json!({"organization": "acme"})).await.expect(201);
    let body = json!({"organization": "acme", "url": receiver.url, "events": ["a"], "name": "before"});
    let path = path_of(&dev("POST", "/v1/subscriptions", body).await.expect(201));
    let id = path.rsplit('/').next().unwrap();
    let token = json!({"name": "after", "authentication": {"type": "bearer", "token": "t"}});
    dev("PATCH", &path, token).await.expect(200);
    dev("PATCH", &path, json!({"nmae": "refused"})).await.expect(422);
    dev("POST", &format!("{path}/secret/rotate"), Value::Null).await.expect(200);
    let event = dev("POST", "/v1/events", json!({"type": "a", "organization": "acme", "data": 1})).await.expect(202);
    let event = format!("/v1/events/{}", event["id"].as_str().unwrap());
    receiver_was_asked(&receiver).await;
    let delivery = loop {
        let shown = dev("GET", &event, Value::Null).await.expect(200)["deliveries"][0].clone();
        if shown["state"] == "delivered" {
            break format!("/v1/deliveries/{}", shown["id"].as_str().unwrap());
        }
        tokio::task::yield_now().await;
    };
    dev("POST", &format!("{delivery}/retry"), Value::Null).await.expect(202);
    let replay = json!({"since": "2027-01-01T00:00:00Z", "states": ["failed"]});
    dev("POST", &format!("{path}/replay"), replay).await.expect(202);
    dev("POST", &format!("{path}/cancel"), Value::Null).await.expect(202);
    dev("POST", &format!("{path}/disable"), Value::Null).await.expect(200);
    dev("DELETE", &path, Value::Null).await.expect(204);
    dev("DELETE", "/v1/sources/panel", Value::Null).await.expect(204);
    ops("DELETE", "/v1/event-types/a", Value::Null).await.expect(204);
    ops("DELETE", "/v1/organizations/acme", Value::Null).await.expect(204);

    let audit = ops("GET", "/v1/audit", Value::Null).await.expect(200);
    let entries: Vec<Value> = audit["data"].as_array().unwrap().iter().rev().cloned().collect();
    let told: Vec<(String, String)> = texts(&entries, "/actor").into_iter().zip(texts(&entries, "/action")).collect();
    let told: Vec<(&str, &str)> = told.iter().map(|(actor, action)| (actor.as_str(), action.as_str())).collect();
    assert_eq!(
        told,
        [
            ("ops", "organization.put"),
            ("ops", "event_type.put"),
            ("dev", "source.put"),
            ("dev", "subscription.create"),
            ("dev", "subscription.update"),
            ("dev", "subscription.rotate_secret"),
            ("dev", "delivery.retry"),
            ("dev", "subscription.replay"),
            ("dev", "subscription.cancel"),
            ("dev", "subscription.status"),
            ("dev", "subscription.delete"),
            ("dev", "source.delete"),
            ("ops", "event_type.delete"),
            ("ops", "organization.delete"),
        ]
    );
    let update = &entries[4];
    assert_eq!((&update["object"], &update["organization"]), (&json!(id), &json!("acme")));
    assert_eq!(update["at"], daemon.clock.now().to_string());
    assert_eq!(update["changes"]["name"], json!(["before", "after"]));
    assert_eq!(entries[9]["changes"], json!({"status": ["enabled", "disabled"]}));
    let sequences: Vec<u64> = entries.iter().map(|entry| entry["sequence"].as_u64().unwrap()).collect();
    assert!(sequences.is_sorted_by(|one, next| one < next), "{sequences:?}");
}

/// Waits for the receiver's first request.
async fn receiver_was_asked(receiver: &Receiver) {
    while receiver.total() == 0 {
        tokio::task::yield_now().await;
    }
}
