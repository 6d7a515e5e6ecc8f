//! Who may manage subscriptions, but not see secrets, tries to get at them all the
//! same; and who may not look into a network tries to.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Daemon, Receiver, Reply};
use crate::{call_as, daemon_with_keys, key, path_of};

/// A type of a vendor whose own format leaves PINs out.
const DOOR: &str = "door.request.allowed";

async fn daemon() -> Daemon {
    let keys = [
        key("manager", &["manage", "read", "publish"], &["*"]),
        key("trusted", &["manage", "read", "publish", "secrets"], &["*"]),
    ];
    daemon_with_keys(&keys).await
}

fn with_pin(event_type: &str) -> Value {
    json!({"type": event_type, "data": {"pin": "4711", "door": {"id": 7, "password": "hunter2"}, "who": "x"}})
}

#[tokio::test]
async fn a_key_without_the_role_secrets_reads_no_pin_in_an_event() {
    let daemon = daemon().await;
    let made = call_as(&daemon, "manager", "POST", "/v1/events", with_pin(DOOR)).await.expect(202);
    let one = format!("/v1/events/{}", made["id"].as_str().unwrap());
    for path in [one.as_str(), "/v1/events"] {
        let seen = async |caller: &str| {
            let answer = call_as(&daemon, caller, "GET", path, Value::Null).await;
            String::from_utf8(answer.body.to_vec()).unwrap()
        };
        let (manager, trusted) = (seen("manager").await, seen("trusted").await);
        assert!(manager.contains(r#""door":{"id":7}"#), "{manager}");
        assert!(!manager.contains("4711") && !manager.contains("hunter2"), "{manager}");
        assert!(trusted.contains(r#"{"pin":"4711","door":{"id":7,"password":"hunter2"},"who":"x"}"#), "{trusted}");
    }
}

/// Another format's default level is 0: a subscription in it would have been sent what
/// the vendor's own format leaves out.
#[tokio::test]
async fn pins_are_not_had_by_another_format_or_a_lower_level() {
    let daemon = daemon().await;
    let create = async |caller: &str, body: Value| call_as(&daemon, caller, "POST", "/v1/subscriptions", body).await;
    let body = |format: &str, events: &str, level: Value| json!({"url": "https://a.example", "format": format, "events": [events], "secrecy_level": level});
    for (format, events) in [("standard", "*"), ("standard", "door.*"), ("cloudevents", DOOR), ("pdk", DOOR)] {
        create("manager", body(format, events, json!(0))).await.refused(403, "forbidden");
        create("manager", body(format, events, json!(1))).await.expect(201);
        create("trusted", body(format, events, json!(0))).await.expect(201);
    }
    create("manager", json!({"url": "https://a.example", "events": ["*"]})).await.refused(403, "forbidden");
    create("manager", json!({"url": "https://a.example", "events": ["shop.*"]})).await.expect(201);

    let harmless = create("manager", body("standard", "shop.*", json!(0))).await.expect(201);
    let vendors = create("manager", body("pdk", DOOR, json!(1))).await.expect(201);
    // Without a secret of a format it can become one of another.
    let mut unsigned = body("pdk", DOOR, json!(1));
    unsigned["secret"] = Value::Null;
    let unsigned = create("manager", unsigned).await.expect(201);
    for (made, method, change) in [
        (&harmless, "PATCH", json!({"events": ["shop.*", "door.*"]})),
        (&harmless, "PUT", json!({"url": "https://a.example", "events": ["*"]})),
        (&vendors, "PATCH", json!({"secrecy_level": 0})),
        (&unsigned, "PATCH", json!({"format": "blynk", "secrecy_level": null})),
        (&unsigned, "PUT", json!({"url": "https://a.example", "format": "blynk", "events": [DOOR]})),
    ] {
        let answer = call_as(&daemon, "manager", method, &path_of(made), change.clone()).await;
        assert_eq!(answer.status, 403, "{method} {change}: {answer:?}");
    }
    // What somebody trusted let be sent stays as it is, and can be changed otherwise.
    let trusted = create("trusted", body("standard", "*", json!(0))).await.expect(201);
    call_as(&daemon, "manager", "PATCH", &path_of(&trusted), json!({"name": "n"})).await.expect(200);
}

#[tokio::test]
async fn filters_and_templates_see_no_pin() {
    let daemon = daemon().await;
    let mut receiver = Receiver::start().await;
    let base = json!({"url": receiver.url, "events": ["site.*"], "secrecy_level": 1});
    let with = |members: Value| {
        let mut body = base.clone();
        for (name, value) in members.as_object().unwrap() {
            body[name] = value.clone();
        }
        body
    };
    let create = async |body: Value| call_as(&daemon, "manager", "POST", "/v1/subscriptions", body).await;
    for op in [
        json!({"path": "/data/pin", "op": "exists", "value": true}),
        json!({"path": "/data/pin", "op": "prefix", "value": "4"}),
        json!({"path": "/data/pin", "op": "ge", "value": "4711"}),
        json!({"path": "/data/door/password", "op": "contains", "value": "unter"}),
    ] {
        create(with(json!({"filter": [op]}))).await.expect(201);
    }
    let query = json!({"p": "{data.pin}"});
    let text = json!({"body": "{data} {data.pin} {data.door.password} {pin}", "content_type": "text", "query": query});
    create(with(text)).await.expect(201);
    let published = call_as(&daemon, "manager", "POST", "/v1/events", with_pin("site.alarm")).await.expect(202);
    assert_eq!(published["deliveries"], 1, "no filter matched by what it must not see");
    let received = receiver.next().await;
    let seen = format!("{} {}", received.path, String::from_utf8_lossy(&received.body));
    assert!(seen.contains("p=") && !seen.contains("4711") && !seen.contains("hunter2"), "{seen}");
}

/// Whoever guesses where another tenant gets its tokens, and by which id, gets none of them.
#[tokio::test]
async fn one_tenant_never_gets_anothers_token() {
    let daemon = Daemon::start().await;
    let tokens = Receiver::plain(|received, _| {
        // "us:SecretOfOne", "us:SecretOfTwo"
        let token = match received.header("authorization") {
            "Basic dXM6U2VjcmV0T2ZPbmU=" => "token-of-one",
            "Basic dXM6U2VjcmV0T2ZUd28=" => "token-of-two",
            _ => return Reply::status(401),
        };
        let body = json!({"access_token": token, "token_type": "bearer", "expires_in": 3600}).to_string();
        Reply { body: body.into(), ..Reply::status(200) }
    })
    .await;
    let mut receiver = Receiver::start().await;
    let mut subscriptions = Vec::new();
    for (organization, secret) in [("one", "SecretOfOne"), ("two", "SecretOfTwo"), ("thief", "a guess")] {
        daemon.call("PUT", &format!("/v1/organizations/{organization}"), json!({})).await.expect(201);
        let authentication =
            json!({"type": "oauth2", "token_url": tokens.url, "client_id": "us", "client_secret": secret});
        let fields = json!({"organization": organization, "url": receiver.url, "authentication": authentication});
        subscriptions.push(daemon.subscribe(fields).await);
    }
    for round in 0..2 {
        for (made, token) in subscriptions.iter().zip(["token-of-one", "token-of-two"]) {
            daemon.post(&format!("{}/test", path_of(made)), Value::Null).await.expect(200);
            assert_eq!(receiver.next().await.header("authorization"), format!("Bearer {token}"), "{round}");
        }
        let stolen = daemon.post(&format!("{}/test", path_of(&subscriptions[2])), Value::Null).await.expect(200);
        assert_eq!(stolen["outcome"]["code"], "oauth2", "{stolen}");
    }
    assert_eq!(receiver.total(), 4, "nothing went out without a token");
}

/// Each dials wherever the caller says: sixty a minute are for trying, more for looking
/// around, or for hitting somebody.
#[tokio::test]
async fn test_events_and_verifications_are_limited_together() {
    let keys = [key("one", &["admin"], &["*"]), key("two", &["admin"], &["*"])];
    let daemon = daemon_with_keys(&keys).await;
    let receiver = Receiver::start().await;
    let body = json!({"url": receiver.url, "events": []});
    let made = call_as(&daemon, "one", "POST", "/v1/subscriptions", body.clone()).await.expect(201);
    let test = format!("{}/test", path_of(&made));
    let verify = "/v1/subscriptions?verify=true";
    let limit = posthaste::limits::TRIALS_MAX as usize;
    for _ in 0..limit - 1 {
        call_as(&daemon, "one", "POST", &test, Value::Null).await.expect(200);
    }
    call_as(&daemon, "one", "POST", verify, body.clone()).await.expect(201);
    for (path, body) in [(test.as_str(), Value::Null), (verify, body.clone())] {
        let answer = call_as(&daemon, "one", "POST", path, body).await;
        assert!(!answer.header("retry-after").is_empty());
        answer.refused(429, "too_many_requests");
    }
    assert_eq!(receiver.total(), limit, "what is refused is not sent");
    let stored = call_as(&daemon, "one", "GET", "/v1/subscriptions", Value::Null).await.expect(200);
    assert_eq!(stored["data"].as_array().unwrap().len(), 2, "nor made");
    call_as(&daemon, "two", "POST", &test, Value::Null).await.expect(200);
    daemon.pass(Duration::from_secs(60));
    call_as(&daemon, "one", "POST", &test, Value::Null).await.expect(200);
}
