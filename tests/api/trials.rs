//! Test events: sent on demand, and before something is enabled at a URL.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::path_of;
use crate::support::{Daemon, Receiver, Reply};

/// A receiver whose answer can be changed.
async fn receiver(status: u16) -> (Receiver, Arc<AtomicU16>) {
    let answer = Arc::new(AtomicU16::new(status));
    let shared = answer.clone();
    let reply =
        move |_: &_, _| Reply { body: "told in confidence".into(), ..Reply::status(shared.load(Ordering::Relaxed)) };
    (Receiver::answering(reply).await, answer)
}

#[tokio::test]
async fn a_test_event_is_sent_once_and_kept_nowhere() {
    let daemon = Daemon::start().await;
    let (mut receiver, status) = receiver(200).await;
    let made = daemon.subscribe(json!({"url": receiver.url, "events": ["door.*"]})).await;
    let test = format!("{}/test", path_of(&made));
    let mut attempt = daemon.post(&test, Value::Null).await.expect(200);
    assert!(attempt["duration_ms"].take().is_u64());
    assert_eq!(
        attempt,
        json!({"number": 1, "started_at": daemon.clock.now().to_string(), "duration_ms": null, "missing": [],
               "outcome": {"success": true, "status": 200, "code": null, "detail": null},
               "response_body": "told in confidence"})
    );
    let received = receiver.next().await;
    assert_eq!(received.json()["type"], "posthaste.test");
    assert!(received.header("webhook-signature").starts_with("v1,"));

    let example = json!({"door": 7});
    daemon.call("PUT", "/v1/event-types/door.opened", json!({"example": example})).await.expect(201);
    for (event_type, data) in [("door.opened", &example), ("unlisted", &received.json()["data"])] {
        daemon.post(&test, json!({"type": event_type})).await.expect(200);
        let received = receiver.next().await.json();
        assert_eq!((&received["type"], &received["data"]), (&json!(event_type), data));
    }

    status.store(500, Ordering::Relaxed);
    let failed = daemon.post(&test, json!({})).await.expect(200);
    assert_eq!(
        failed["outcome"],
        json!({"success": false, "status": 500, "code": "status", "detail": "the receiver answered 500"})
    );
    receiver.next().await;
    daemon.post(&format!("{}/disable", path_of(&made)), Value::Null).await.expect(200);
    daemon.post(&test, Value::Null).await.expect(200);
    receiver.next().await;
    daemon.pass(std::time::Duration::from_secs(3600));
    assert_eq!(receiver.total(), 5, "no retries");
    assert_eq!(daemon.get("/v1/events?type=door.*").await.expect(200)["data"], json!([]));
    assert_eq!(daemon.get("/v1/deliveries").await.expect(200)["data"], json!([]));
    let shown = daemon.get(&path_of(&made)).await.expect(200);
    assert_eq!((&shown["stats"]["attempts"], &shown["stats"]["odometer"]), (&json!(0), &json!(0)));
}

#[tokio::test]
async fn a_test_tells_what_kept_it_from_being_answered() {
    let daemon = Daemon::start().await;
    let plain = Receiver::plain(|_, _| Reply::status(200)).await;
    let gone = Receiver::start().await.url.clone();
    for (url, code) in [
        (gone, "connect"),
        (plain.url.replace("http:", "https:"), "tls"),
        ("https://10.0.0.1/".to_owned(), "address_blocked"),
        ("https://[fe80::1]/".to_owned(), "address_blocked"),
        ("https://169.254.169.254/".to_owned(), "address_blocked"),
        (format!("http://{}/", daemon.address), "address_blocked"),
    ] {
        let made = daemon.subscribe(json!({"url": url})).await;
        let attempt = daemon.post(&format!("{}/test", path_of(&made)), Value::Null).await.expect(200);
        assert_eq!((&attempt["outcome"]["code"], &attempt["outcome"]["status"]), (&json!(code), &Value::Null), "{url}");
    }
    let made = daemon.subscribe(json!({"url": "https://a.example"})).await;
    for (body, fields) in [
        (json!({"type": "a..b"}), &["type"][..]),
        (json!({"type": 1}), &["type"]),
        (json!({"typ": "a"}), &["typ"]),
        (json!([]), &[""]),
    ] {
        let answer = daemon.post(&format!("{}/test", path_of(&made)), body.clone()).await;
        assert_eq!(answer.refused(422, "validation_failed"), fields, "{body}");
    }
}

#[tokio::test]
async fn a_url_that_does_not_pass_verification_changes_nothing() {
    let daemon = Daemon::start().await;
    let (mut bad, status) = receiver(404).await;
    let mut good = Receiver::start().await;
    let refused = async |method: &str, path: &str, body: Value| {
        let answer = daemon.call(method, path, body).await;
        let shown = answer.json();
        assert_eq!(shown["outcome"], json!({"code": "status", "status": 404}));
        assert!(!shown.to_string().contains("confidence"), "nothing of the body: {shown}");
        answer.refused(422, "verification_failed");
    };
    let body = |url: &str| json!({"url": url, "events": ["*"]});
    refused("POST", "/v1/subscriptions?verify=true", body(&bad.url)).await;
    assert_eq!(bad.next().await.json()["type"], "posthaste.test");
    assert_eq!(daemon.get("/v1/subscriptions").await.expect(200)["data"], json!([]));

    let made = daemon.post("/v1/subscriptions?verify=true", body(&good.url)).await.expect(201);
    assert_eq!(good.next().await.json()["type"], "posthaste.test");
    let path = path_of(&made);
    let verified = format!("{path}?verify=true");
    let read = daemon.get(&path).await;
    let tag = read.header("etag").to_owned();
    let read = read.expect(200);
    refused("PATCH", &verified, json!({"url": bad.url, "name": "new"})).await;
    refused("PUT", &verified, body(&bad.url)).await;
    let after = daemon.get(&path).await;
    assert_eq!(after.header("etag"), tag);
    assert_eq!(after.expect(200), read);
    daemon.call("PATCH", &verified, json!({"name": "new"})).await.expect(200);
    assert_eq!(good.total(), 1, "neither enabled nor moved: nothing to verify");
    daemon.call("PATCH", &verified, json!({"url": format!("{}/moved", good.url)})).await.expect(200);
    assert!(good.next().await.path.ends_with("/moved"));

    daemon.post(&format!("{path}/disable"), Value::Null).await.expect(200);
    daemon.call("PATCH", &verified, json!({"url": bad.url})).await.expect(200);
    refused("POST", &format!("{path}/enable?verify=true"), Value::Null).await;
    refused("PATCH", &verified, json!({"status": "enabled"})).await;
    assert_eq!(daemon.get(&path).await.expect(200)["status"], "disabled");
    status.store(204, Ordering::Relaxed);
    daemon.post(&format!("{path}/enable?verify=true"), Value::Null).await.expect(200);
    assert_eq!(bad.total(), 6);
    let unverified =
        daemon.post("/v1/subscriptions?verify=true", json!({"url": "https://10.0.0.1", "events": []})).await;
    assert_eq!(unverified.json()["outcome"], json!({"code": "address_blocked", "status": null}));
    unverified.refused(422, "verification_failed");
    let disabled = json!({"url": "https://10.0.0.1", "events": [], "status": "disabled"});
    daemon.post("/v1/subscriptions?verify=true", disabled.clone()).await.expect(201);
    let answer = daemon.post("/v1/subscriptions?verify=yes", disabled).await;
    assert_eq!(answer.refused(422, "validation_failed"), ["verify"]);
}

#[tokio::test]
async fn verification_can_be_asked_for_by_configuration() {
    let daemon = Daemon::with("", &[("POSTHASTE_DELIVERY_VERIFY_URLS", "true")]).await;
    let (bad, _) = receiver(500).await;
    let good = Receiver::start().await;
    let answer = daemon.post("/v1/subscriptions", json!({"url": bad.url, "events": []})).await;
    answer.refused(422, "verification_failed");
    daemon.subscribe(json!({"url": good.url})).await;
    assert_eq!((bad.total(), good.total()), (1, 1));
}

/// Between verification and enabling somebody else could move the subscription:
/// enabled was what stood there then, a URL that nobody had verified.
#[tokio::test]
async fn what_is_enabled_is_what_was_verified() {
    let daemon = Daemon::start().await;
    let (bad, _) = receiver(404).await;
    for (method, suffix, body) in
        [("POST", "/enable?verify=true", Value::Null), ("PATCH", "?verify=true", json!({"status": "enabled"}))]
    {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let made = daemon.subscribe(json!({"url": url, "status": "disabled"})).await;
        let path = path_of(&made);
        let meanwhile = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert_ne!(stream.read(&mut [0; 4096]).await.unwrap(), 0);
            daemon.call("PATCH", &path, json!({"url": bad.url})).await.expect(200);
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            stream
        };
        let enable = format!("{path}{suffix}");
        let (answer, _stream) = tokio::join!(daemon.call(method, &enable, body), meanwhile);
        answer.refused(422, "verification_failed");
        assert_eq!(daemon.get(&path).await.expect(200)["status"], "disabled");
    }
}

/// The tree of sources was asked only by the commit: a scope that could never stand
/// was verified first, and told as one fault without its place.
#[tokio::test]
async fn a_foreign_scope_is_told_before_anything_is_sent() {
    let daemon = Daemon::start().await;
    let good = Receiver::start().await;
    daemon.call("PUT", "/v1/sources/own", json!({})).await.expect(201);
    let body = json!({"url": good.url, "events": [], "scope": ["nowhere", "own", "elsewhere"]});
    let answer = daemon.post("/v1/subscriptions?verify=true", body).await;
    assert_eq!(answer.refused(422, "validation_failed"), ["scope[0]", "scope[2]"]);
    let made = daemon.subscribe(json!({"url": good.url, "scope": ["own"], "status": "disabled"})).await;
    let body = json!({"status": "enabled", "scope": ["own", "elsewhere"]});
    let answer = daemon.call("PATCH", &format!("{}?verify=true", path_of(&made)), body).await;
    assert_eq!(answer.refused(422, "validation_failed"), ["scope[1]"]);
    assert_eq!(good.total(), 0);
}
