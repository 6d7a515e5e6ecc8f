//! Subscriptions: made, read, written back, merged, switched on and off, ended.

use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};

use crate::support::{Daemon, Receiver};
use crate::{failing_receiver, path_of, publish_for_delivery, sorted};

const MASK: &str = "***";

async fn patch(daemon: &Daemon, path: &str, patch: Value) -> Value {
    daemon.call("PATCH", path, patch).await.expect(200)
}

/// A subscription with a value in every field that can be written.
fn full() -> Value {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap().pem();
    json!({
        "organization": "default",
        "name": "Doors",
        "description": "Two\nlines",
        "external_id": "ext-1",
        "metadata": {"team": "blue", "n": [1, {"x": null}]},
        "url": "https://hooks.example:8443/{event_type}?d={data.door}",
        "method": "PUT",
        "content_type": "form",
        "body": null,
        "form": {"door": "{data.door}", "who": "me"},
        "query": {"page": "1"},
        "headers": {"X-Tenant": "acme", "X-Api-Key": "s3cret-header"},
        "authentication": {"type": "basic", "user": "me", "password": "s3cret-password"},
        "format": "standard",
        "events": ["door.*", "lock"],
        "scope": ["panel"],
        "filter": [{"path": "/data/door", "op": "in", "value": [7, "8"]}],
        "secrecy_level": 2,
        "secret": "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        "status": "disabled",
        "failure_limit": 5,
        "notify": ["user-1"],
        "expires_at": "2027-06-01T00:00:00.000Z",
        "tls": {"verify": false, "ca_pem": certificate, "client_cert_pem": certificate,
                "client_key_pem": key.serialize_pem()},
        "delivery": {
            "timeout": "20s", "concurrency": 3, "rate_per_second": 0.5, "ordering": "fifo",
            "retry": {"on": "transient", "first": "30s", "factor": 1.5, "max_delay": "1h", "jitter": 0.1,
                      "give_up_after": "1d"},
        },
    })
}

#[tokio::test]
async fn a_subscription_of_two_fields_has_the_documented_defaults() {
    let daemon = Daemon::start().await;
    let answer = daemon.post("/v1/subscriptions", json!({"url": "https://a.example", "events": ["*"]})).await;
    assert_eq!(answer.header("cache-control"), "no-store");
    let (location, tag) = (answer.header("location").to_owned(), answer.header("etag").to_owned());
    let mut made = answer.expect(201);
    assert_eq!(location, path_of(&made));
    let secret = made["secret"].take();
    assert!(secret.as_str().unwrap().starts_with("whsec_"), "one was generated");
    let now = daemon.clock.now().to_string();
    let id = made["id"].clone();
    let expected = json!({
        "id": id, "number": 1, "organization": "default", "name": "", "description": "", "external_id": null,
        "metadata": {}, "url": "https://a.example", "method": "POST", "content_type": "json", "body": null,
        "form": null, "query": null, "headers": {}, "authentication": {"type": "none"}, "format": "standard",
        "events": ["*"], "scope": "own", "filter": [], "secrecy_level": 0, "secret": null, "status": "enabled",
        "status_reason": null, "failure_limit": null, "notify": [], "expires_at": null,
        "tls": {"verify": true, "ca_pem": null, "client_cert_pem": null, "client_key_pem": null},
        "delivery": {"timeout": null, "concurrency": null, "rate_per_second": null, "ordering": null,
                     "retry": {"on": null, "first": null, "factor": null, "max_delay": null, "jitter": null,
                               "give_up_after": null}},
        "stats": {"odometer": 0, "attempts": 0, "consecutive_failures": 0, "last_triggered_at": null,
                  "last_success_at": null, "last_failure": null, "pending": 0},
        "created_at": now, "updated_at": now, "created_by": "anonymous", "managed_by": "api", "declared_as": null,
        "certificate_expires_at": null,
    });
    assert_eq!(made, expected);
    let read = daemon.get(&location).await;
    assert_eq!(read.header("etag"), tag);
    let mut read = read.expect(200);
    assert_eq!(read["secret"].take(), MASK);
    assert_eq!(read, expected);
    let next = daemon.subscribe(json!({"url": "https://a.example"})).await;
    assert_eq!(next["number"], 2);
}

#[tokio::test]
async fn every_field_is_kept_and_writing_back_what_was_read_changes_nothing() {
    let daemon = Daemon::start().await;
    daemon.call("PUT", "/v1/sources/panel", json!({})).await.expect(201);
    let given = full();
    let made = daemon.post("/v1/subscriptions", given.clone()).await.expect(201);
    let path = path_of(&made);
    let answer = daemon.get(&path).await;
    let tag = answer.header("etag").to_owned();
    let read = answer.expect(200);
    let mut expected = given.clone();
    for pointer in ["/secret", "/headers/X-Api-Key", "/authentication/password", "/tls/client_key_pem"] {
        *expected.pointer_mut(pointer).unwrap() = json!(MASK);
    }
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&read[name], value, "{name}");
    }

    daemon.pass(Duration::from_secs(5));
    for (method, body) in [("PUT", read.clone()), ("PATCH", read.clone()), ("PATCH", json!({}))] {
        let answer = daemon.call_with(method, &path, body, &[("if-match", &tag)]).await;
        assert_eq!(answer.header("etag"), tag, "{method}");
        assert_eq!(answer.expect(200), read, "{method}");
    }
    let audit = daemon.get("/v1/audit").await.expect(200);
    let actions = crate::texts(audit["data"].as_array().unwrap(), "/action");
    assert!(!actions.contains(&"subscription.update".to_owned()), "{actions:?}");

    // A PUT of less puts the rest back to its defaults, but what only others may change.
    let least = daemon
        .call(
            "PUT",
            &path,
            json!({"url": "https://hooks.example:8443", "events": [],
                                                  "secrecy_level": 2}),
        )
        .await;
    assert_ne!(least.header("etag"), tag);
    let least = least.expect(200);
    assert_eq!((&least["name"], &least["method"], &least["headers"]), (&json!(""), &json!("POST"), &json!({})));
    assert_eq!((&least["secret"], &least["status"]), (&json!(MASK), &json!("disabled")));
    assert_eq!(
        (&least["updated_at"], &least["created_at"]),
        (&json!(daemon.clock.now().to_string()), &read["created_at"])
    );
}

#[tokio::test]
async fn a_patch_merges_as_rfc_7396_says() {
    let daemon = Daemon::start().await;
    let made = daemon
        .subscribe(json!({
            "url": "https://a.example", "name": "n", "external_id": "x", "metadata": {"a": 1, "b": {"c": 2, "d": 3}},
            "headers": {"x-one": "1", "x-two": "2"}, "failure_limit": 5,
            "delivery": {"timeout": "20s", "retry": {"first": "1s", "jitter": 0}},
            "authentication": {"type": "basic", "user": "u", "password": "p"},
        }))
        .await;
    let path = path_of(&made);
    for (change, pointer, value) in [
        (json!({"name": "m"}), "/name", json!("m")),
        (json!({"name": null}), "/name", json!("")),
        (json!({"external_id": null}), "/external_id", Value::Null),
        (json!({"failure_limit": null}), "/failure_limit", Value::Null),
        (json!({"metadata": {"a": null, "b": {"c": null, "e": 4}}}), "/metadata", json!({"b": {"d": 3, "e": 4}})),
        (json!({"metadata": null}), "/metadata", json!({})),
        (json!({"headers": {"x-one": null, "x-three": "3"}}), "/headers", json!({"x-two": "2", "x-three": "3"})),
        (json!({"delivery": {"retry": {"first": null}}}), "/delivery/retry/first", Value::Null),
        (json!({}), "/delivery/timeout", json!("20s")),
        (json!({}), "/delivery/retry/jitter", json!(0.0)),
        (json!({"events": ["a", "b"]}), "/events", json!(["a", "b"])),
        (
            json!({"authentication": {"user": "v"}}),
            "/authentication",
            json!({"type": "basic", "user": "v", "password": MASK}),
        ),
        (
            json!({"authentication": {"type": "bearer", "token": "t"}}),
            "/authentication",
            json!({"type": "bearer", "token": MASK}),
        ),
        (json!({"authentication": null}), "/authentication", json!({"type": "none"})),
    ] {
        let shown = patch(&daemon, &path, change.clone()).await;
        assert_eq!(shown.pointer(pointer), Some(&value), "{change}");
    }
    let request = http::Request::builder().method("PATCH").uri(&path);
    let request = request.header("content-type", "application/merge-patch+json").body(r#"{"name":"z"}"#.into());
    assert_eq!(daemon.send(request.unwrap()).await.expect(200)["name"], "z");

    for (change, fields) in [
        (json!({"url": null}), &["url"][..]),
        (json!({"events": null}), &["events"]),
        (json!({"nmae": "x"}), &["nmae"]),
        (json!({"organization": "other"}), &["organization"]),
        (json!({"authentication": {"type": "bearer"}}), &["authentication.token"]),
        (json!({"secret": "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}), &["secret"]),
        // A merge takes what is null away; the secret is not taken away unnoticed.
        (json!({"secret": null}), &["secret"]),
        (json!({"status": "disabled_due_to_errors"}), &["status"]),
        (json!([]), &[""]),
    ] {
        let answer = daemon.call("PATCH", &path, change.clone()).await;
        assert_eq!(answer.refused(422, "validation_failed"), fields, "{change}");
    }
}

#[tokio::test]
async fn a_change_made_from_an_older_version_is_refused() {
    let daemon = Daemon::start().await;
    let made = daemon.subscribe(json!({"url": "https://a.example"})).await;
    let path = path_of(&made);
    let old = daemon.get(&path).await.header("etag").to_owned();
    patch(&daemon, &path, json!({"name": "new"})).await;
    let body = json!({"url": "https://a.example", "events": [], "name": "newer"});
    for (method, body) in [("PUT", body.clone()), ("PATCH", json!({"name": "newer"})), ("DELETE", Value::Null)] {
        for tag in [old.as_str(), "\"other\"", "W/\"2\"", "2"] {
            daemon.call_with(method, &path, body.clone(), &[("if-match", tag)]).await.refused(412, "stale");
        }
    }
    assert_eq!(daemon.get(&path).await.expect(200)["name"], "new");
    let current = daemon.get(&path).await.header("etag").to_owned();
    daemon.call_with("PUT", &path, body, &[("if-match", &current)]).await.expect(200);
    let listed = format!("\"x\", {}", daemon.get(&path).await.header("etag"));
    daemon.call_with("PATCH", &path, json!({"name": "z"}), &[("if-match", &listed)]).await.expect(200);
    daemon.call_with("DELETE", &path, Value::Null, &[("if-match", "*")]).await.expect(204);
}

#[tokio::test]
async fn the_same_creation_again_makes_nothing_new() {
    let daemon = Daemon::start().await;
    let create = async |key: &str, body: Value| {
        daemon.call_with("POST", "/v1/subscriptions", body, &[("idempotency-key", key)]).await
    };
    let body = json!({"url": "https://a.example", "events": ["*"]});
    let first = create("k1", body.clone()).await.expect(201);
    let again = create("k1", body.clone()).await;
    assert_eq!(again.header("cache-control"), "no-store");
    assert_eq!(again.expect(200), first, "with its secret");
    create("k1", json!({"url": "https://b.example", "events": ["*"]})).await.refused(409, "idempotency_conflict");
    assert_ne!(create("k2", body.clone()).await.expect(201)["id"], first["id"]);
    assert_ne!(daemon.post("/v1/subscriptions", body.clone()).await.expect(201)["id"], first["id"]);
    assert_eq!(create("", body.clone()).await.refused(422, "validation_failed"), ["idempotency-key"]);
    assert_eq!(daemon.get("/v1/subscriptions").await.expect(200)["data"].as_array().unwrap().len(), 3);
    daemon.call("DELETE", &path_of(&first), Value::Null).await.expect(204);
    create("k1", body.clone()).await.refused(410, "gone");
    daemon.pass(Duration::from_secs(72 * 3600));
    assert_ne!(create("k1", body).await.expect(201)["id"], first["id"], "after 72 hours");
}

#[tokio::test]
async fn the_mask_keeps_a_secret_only_for_the_same_endpoint() {
    let daemon = Daemon::start().await;
    let made = daemon
        .subscribe(json!({
            "url": "https://a.example/one",
            "headers": {"x-api-key": "k", "x-plain": "p"},
            "authentication": {"type": "bearer", "token": "t"},
        }))
        .await;
    let path = path_of(&made);
    for url in ["https://a.example/two?x={id}", "https://A.example:443/two", "https://a.example"] {
        let shown = patch(&daemon, &path, json!({"url": url})).await;
        assert_eq!((&shown["authentication"]["token"], &shown["headers"]["x-api-key"]), (&json!(MASK), &json!(MASK)));
    }
    for url in ["https://b.example/one", "http://a.example/one", "https://a.example:8443/one"] {
        let answer = daemon.call("PATCH", &path, json!({"url": url})).await;
        let fields = sorted(answer.refused(422, "secret_required"));
        assert_eq!(fields, ["authentication.token", "headers.x-api-key"], "{url}");
    }
    assert_eq!(daemon.get(&path).await.expect(200)["url"], "https://a.example");
    let given_anew = json!({
        "url": "https://b.example", "headers": {"x-api-key": "k2"}, "authentication": {"type": "bearer", "token": "t2"},
    });
    patch(&daemon, &path, given_anew).await;
    // Where none is stored, the mask stands for nothing.
    let body = json!({"url": "https://a.example", "events": [], "headers": {"x-token": MASK}});
    let answer = daemon.post("/v1/subscriptions", body).await;
    assert_eq!(answer.refused(422, "secret_required"), ["headers.x-token"]);
    let answer =
        daemon.call("PATCH", &path, json!({"authentication": {"type": "basic", "user": "u", "password": MASK}}));
    assert_eq!(answer.await.refused(422, "secret_required"), ["authentication.password"]);
}

#[tokio::test]
async fn a_client_secret_is_kept_only_for_the_same_token_endpoint() {
    let daemon = Daemon::start().await;
    let oauth2 = |token_url: &str, secret: &str| {
        json!({"type": "oauth2", "token_url": token_url, "client_id": "c", "client_secret": secret,
               "scope": "a b", "audience": null})
    };
    let fields = json!({"url": "https://a.example", "authentication": oauth2("https://id.example/token", "s")});
    let made = daemon.subscribe(fields).await;
    assert_eq!(made["authentication"], oauth2("https://id.example/token", MASK));
    let path = path_of(&made);
    patch(&daemon, &path, json!({"authentication": {"token_url": "https://id.example/v2/token"}})).await;
    // The tokens it buys are sent to the URL: whoever moves that one must know it too.
    let answer = daemon.call("PATCH", &path, json!({"url": "https://b.example"})).await;
    assert_eq!(answer.refused(422, "secret_required"), ["authentication.client_secret"]);
    for token_url in ["https://evil.example/token", "https://id.example:444/token", "http://id.example/token"] {
        let answer = daemon.call("PATCH", &path, json!({"authentication": {"token_url": token_url}})).await;
        assert_eq!(answer.refused(422, "secret_required"), ["authentication.client_secret"], "{token_url}");
    }
    let answer = patch(&daemon, &path, json!({"authentication": oauth2("https://evil.example/token", "anew")})).await;
    assert_eq!(answer["authentication"]["token_url"], "https://evil.example/token");
}

#[tokio::test]
async fn a_kept_secret_is_the_one_that_is_sent() {
    let daemon = Daemon::start().await;
    let mut receiver = Receiver::start().await;
    let made = daemon
        .subscribe(json!({"url": receiver.url, "headers": {"x-api-key": "k3y"},
                          "authentication": {"type": "bearer", "token": "t0ken"}}))
        .await;
    let read = daemon.get(&path_of(&made)).await.expect(200);
    daemon.call("PUT", &path_of(&made), read).await.expect(200);
    patch(&daemon, &path_of(&made), json!({"url": format!("{}/elsewhere", receiver.url)})).await;
    daemon.publish("a", json!(1)).await;
    let received = receiver.next().await;
    assert!(received.path.ends_with("/elsewhere"));
    assert_eq!((received.header("authorization"), received.header("x-api-key")), ("Bearer t0ken", "k3y"));
}

#[tokio::test]
async fn disabling_and_enabling_say_why_and_by_whom() {
    let daemon = Daemon::start().await;
    let mut receiver = Receiver::start().await;
    let made = daemon.subscribe(json!({"url": receiver.url, "events": ["a"]})).await;
    let path = path_of(&made);
    let tag = daemon.get(&path).await.header("etag").to_owned();
    let disabled = daemon.post(&format!("{path}/disable"), Value::Null).await;
    assert_eq!(disabled.header("etag"), tag, "the ETag covers settings");
    let disabled = disabled.expect(200);
    let reason = json!({"code": "manual", "at": daemon.clock.now().to_string(), "detail": "by anonymous"});
    assert_eq!((&disabled["status"], &disabled["status_reason"]), (&json!("disabled"), &reason));
    assert_eq!(daemon.publish("a", json!(1)).await["deliveries"], 0);
    daemon.pass(Duration::from_secs(1));
    let again = daemon.post(&format!("{path}/disable"), Value::Null).await.expect(200);
    assert_eq!(again["status_reason"], reason, "it is so already");

    let enabled = daemon.post(&format!("{path}/enable"), Value::Null).await.expect(200);
    assert_eq!((&enabled["status"], &enabled["status_reason"]), (&json!("enabled"), &Value::Null));
    daemon.post(&format!("{path}/enable"), Value::Null).await.expect(200);
    assert_eq!(daemon.publish("a", json!(2)).await["deliveries"], 1);
    assert_eq!(receiver.next().await.json()["data"], 2);

    // The same by writing the status.
    let disabled = patch(&daemon, &path, json!({"status": "disabled"})).await;
    assert_eq!(disabled["status_reason"]["code"], "manual");
    assert_eq!(patch(&daemon, &path, json!({"status": "enabled"})).await["status_reason"], Value::Null);
    let born_disabled = daemon.subscribe(json!({"url": receiver.url, "status": "disabled"})).await;
    assert_eq!(born_disabled["status_reason"]["code"], "manual");
}

#[tokio::test]
async fn what_a_disabled_subscription_held_goes_on_when_it_is_enabled() {
    let daemon = Daemon::start().await;
    let mut receiver = failing_receiver().await;
    let made = daemon.subscribe(json!({"url": receiver.url})).await;
    let path = path_of(&made);
    let delivery = publish_for_delivery(&daemon, "a").await;
    receiver.next().await;
    daemon.until(&delivery, |delivery| delivery["attempts"] == 1).await;
    daemon.post(&format!("{path}/disable"), Value::Null).await.expect(200);
    let healthy = Receiver::start().await;
    patch(&daemon, &path, json!({"url": healthy.url})).await;
    daemon.pass(Duration::from_secs(3600));
    assert_eq!(daemon.get(&delivery).await.expect(200)["state"], "pending");
    assert_eq!((receiver.total(), healthy.total()), (1, 0), "it is held");
    daemon.post(&format!("{path}/enable"), Value::Null).await.expect(200);
    daemon.until(&delivery, |delivery| delivery["state"] == "delivered").await;
}

#[tokio::test]
async fn a_subscription_expires_by_the_clock() {
    let daemon = Daemon::start().await;
    let at = |seconds: u64| (daemon.clock.now() + Duration::from_secs(seconds)).to_string();
    let body = |expires_at: String| json!({"url": "https://a.example", "events": ["a"], "expires_at": expires_at});
    let answer = daemon.post("/v1/subscriptions", body(at(0))).await;
    assert_eq!(answer.refused(422, "validation_failed"), ["expires_at"]);
    let expiry = at(3600);
    let made = daemon.post("/v1/subscriptions", body(expiry.clone())).await.expect(201);
    let path = path_of(&made);
    let answer = daemon.call("PATCH", &path, json!({"expires_at": "2026-01-01T00:00:00Z"})).await;
    assert_eq!(answer.refused(422, "validation_failed"), ["expires_at"]);

    daemon.pass(Duration::from_secs(3600));
    let expired = daemon.until(&path, |subscription| subscription["status"] == "disabled").await;
    assert_eq!((&expired["status_reason"]["code"], &expired["expires_at"]), (&json!("expired"), &json!(expiry)));
    assert_eq!(daemon.publish("a", json!(1)).await["deliveries"], 0);
    // What was read can still be written back, and other fields changed.
    daemon.call("PUT", &path, expired).await.expect(200);
    patch(&daemon, &path, json!({"name": "over"})).await;

    for (method, suffix, body) in [("POST", "/enable", Value::Null), ("PATCH", "", json!({"status": "enabled"}))] {
        let answer = daemon.call(method, &format!("{path}{suffix}"), body).await;
        assert_eq!(answer.refused(422, "expired"), ["expires_at"], "{method} {suffix}");
    }
    let again = patch(&daemon, &path, json!({"status": "enabled", "expires_at": at(60)})).await;
    assert_eq!((&again["status"], &again["status_reason"]), (&json!("enabled"), &Value::Null));
    daemon.pass(Duration::from_secs(60));
    daemon.until(&path, |subscription| subscription["status"] == "disabled").await;
    patch(&daemon, &path, json!({"expires_at": null})).await;
    daemon.post(&format!("{path}/enable"), Value::Null).await.expect(200);
}

#[tokio::test]
async fn what_is_pending_is_cancelled_when_its_subscription_ends() {
    let daemon = Daemon::start().await;
    let mut receiver = failing_receiver().await;
    let made = daemon.subscribe(json!({"url": receiver.url})).await;
    let delivery = publish_for_delivery(&daemon, "a").await;
    receiver.next().await;
    daemon.until(&delivery, |delivery| delivery["attempts"] == 1).await;
    assert_eq!(daemon.call("DELETE", &path_of(&made), Value::Null).await.expect(204), Value::Null);
    let ended = daemon.until(&delivery, |delivery| delivery["state"] != "pending").await;
    assert_eq!((&ended["state"], &ended["subscription"]), (&json!("cancelled"), &made["id"]));
    daemon.pass(Duration::from_secs(3600));
    for (method, suffix, body) in [
        ("GET", "", Value::Null),
        ("PUT", "", json!({"url": "https://a.example", "events": []})),
        ("PATCH", "", json!({})),
        ("DELETE", "", Value::Null),
        ("POST", "/test", Value::Null),
        ("POST", "/enable", Value::Null),
        ("POST", "/disable", Value::Null),
        ("GET", "/secret", Value::Null),
        ("POST", "/secret/rotate", Value::Null),
        ("POST", "/replay", json!({"since": "2026-01-01T00:00:00Z", "states": ["failed"]})),
        ("POST", "/cancel", Value::Null),
        ("GET", "/deliveries", Value::Null),
    ] {
        let answer = daemon.call(method, &format!("{}{suffix}", path_of(&made)), body.clone()).await;
        answer.refused(404, "not_found");
        daemon.call(method, &format!("/v1/subscriptions/nonsense{suffix}"), body).await.refused(404, "not_found");
    }
    daemon.post(&format!("{delivery}/retry"), Value::Null).await.refused(409, "not_enabled");
    assert_eq!(receiver.total(), 1, "no attempt starts later");
    let next = daemon.subscribe(json!({"url": "https://a.example"})).await;
    assert_eq!(next["number"], 2, "a number is never used again");
}

#[tokio::test]
async fn stats_say_how_it_goes() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::answering(|_, number| crate::Reply::status(if number == 0 { 503 } else { 200 })).await;
    let made = daemon.subscribe(json!({"url": receiver.url})).await;
    let path = path_of(&made);
    let now = daemon.clock.now().to_string();
    daemon.publish("a", json!(1)).await;
    let failed = daemon.until(&path, |subscription| subscription["stats"]["attempts"] == 1).await;
    assert_eq!(
        failed["stats"],
        json!({"odometer": 1, "attempts": 1, "consecutive_failures": 1, "last_triggered_at": now,
               "last_success_at": null, "last_failure": {"at": now, "code": "status"}, "pending": 1})
    );
    daemon.pass(Duration::from_secs(60));
    let done = daemon.until(&path, |subscription| subscription["stats"]["pending"] == 0).await;
    assert_eq!(
        done["stats"],
        json!({"odometer": 1, "attempts": 2, "consecutive_failures": 0, "last_triggered_at": now,
               "last_success_at": daemon.clock.now().to_string(), "last_failure": {"at": now, "code": "status"},
               "pending": 0})
    );
}

#[tokio::test]
async fn changes_at_the_same_time_lose_nothing() {
    let daemon = Daemon::start().await;
    let path = path_of(&daemon.subscribe(json!({"url": "https://a.example"})).await);
    let merge = |name: &str| daemon.call("PATCH", &path, json!({"metadata": {name: true}}));
    let (one, two, three) = tokio::join!(merge("one"), merge("two"), merge("three"));
    for answer in [one, two, three] {
        answer.expect(200);
    }
    let read = daemon.get(&path).await;
    let tag = read.header("etag").to_owned();
    assert_eq!(
        sorted(read.expect(200)["metadata"].as_object().unwrap().keys().cloned().collect()),
        ["one", "three", "two"]
    );

    let tagged = [("if-match", tag.as_str())];
    let rename = |name: &str| daemon.call_with("PATCH", &path, json!({"name": name}), &tagged);
    let (one, two, three) = tokio::join!(rename("one"), rename("two"), rename("three"));
    assert_eq!(sorted(vec![one.status, two.status, three.status]), [200, 412, 412], "made from the same version");
}

/// The repetition of a creation was checked as a new one first: once its `expires_at`
/// had passed, or its receiver was gone, the caller never learnt what it had made.
#[tokio::test]
async fn a_repeated_creation_is_answered_whatever_happened_since() {
    let daemon = Daemon::start().await;
    let create = async |body: Value| {
        let headers = [("idempotency-key", "k")];
        daemon.call_with("POST", "/v1/subscriptions?verify=true", body, &headers).await
    };
    let receiver = Receiver::answering(|_, number| crate::Reply::status(if number == 0 { 200 } else { 404 })).await;
    let expires_at = (daemon.clock.now() + Duration::from_secs(3600)).to_string();
    let body = json!({"url": receiver.url, "events": ["*"], "expires_at": expires_at});
    let first = create(body.clone()).await.expect(201);
    let again = create(body.clone()).await.expect(200);
    assert_eq!((&again["id"], &again["secret"]), (&first["id"], &first["secret"]));
    daemon.pass(Duration::from_secs(2 * 3600));
    assert_eq!(create(body.clone()).await.expect(200)["id"], first["id"]);
    assert_eq!(receiver.total(), 1, "it is not verified again");
    let mut other = body;
    other["name"] = json!("another");
    create(other).await.refused(409, "idempotency_conflict");
}

/// Settings were committed first and the status after them: between the two a
/// subscription was enabled, or disabled, with settings that nobody had asked for.
#[tokio::test]
async fn settings_and_status_change_together() {
    let daemon = Daemon::start().await;
    let made = daemon.subscribe(json!({"url": "https://a.example"})).await;
    let path = path_of(&made);
    let entries = async || daemon.get("/v1/audit").await.expect(200)["data"].as_array().unwrap().clone();
    let before = entries().await.len();
    for (status, name) in [("disabled", "one"), ("enabled", "two")] {
        let shown = patch(&daemon, &path, json!({"status": status, "name": name})).await;
        assert_eq!((&shown["status"], &shown["name"]), (&json!(status), &json!(name)));
    }
    let after = entries().await;
    assert_eq!(after.len(), before + 2, "one change each: {after:?}");
    assert_eq!(after[1]["action"], "subscription.update");
    assert_eq!(after[1]["changes"], json!({"name": ["", "one"], "status": ["enabled", "disabled"]}));
    assert_eq!(after[0]["changes"], json!({"name": ["one", "two"], "status": ["disabled", "enabled"]}));
}

/// Masks went by the header's name alone, so that `X-Partner: Bearer …` was shown to
/// everybody who may read.
#[tokio::test]
async fn values_that_look_like_credentials_are_masked_too() {
    let daemon = Daemon::start().await;
    let mut receiver = Receiver::start().await;
    let given = json!({"x-partner": "Bearer abc", "x-legacy": "basic dTpw", "x-hook": "whsec_AAAA", "x-city": "Zürich",
                       "x-jwt": "a", "x-rating": MASK});
    let shown_as = json!({"x-partner": MASK, "x-legacy": MASK, "x-hook": MASK, "x-city": "Zürich", "x-jwt": MASK,
                          "x-rating": MASK});
    let made = daemon.subscribe(json!({"url": receiver.url, "headers": given})).await;
    assert_eq!(made["headers"], shown_as);
    let path = path_of(&made);
    let read = daemon.get(&path).await.expect(200);
    daemon.call("PUT", &path, read.clone()).await.expect(200);
    daemon.publish("a", json!(1)).await;
    let received = receiver.next().await;
    assert_eq!((received.header("x-partner"), received.header("x-rating")), ("Bearer abc", MASK));
    assert_eq!(received.headers["x-city"].as_bytes(), "Zürich".as_bytes());
    let answer = daemon.call("PATCH", &path, json!({"url": "https://b.example"})).await;
    let fields = ["headers.x-hook", "headers.x-jwt", "headers.x-legacy", "headers.x-partner"];
    assert_eq!(sorted(answer.refused(422, "secret_required")), fields);
}
