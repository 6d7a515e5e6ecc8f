//! Signing secrets: rotated, shown to who may see them, and never anywhere else.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Answer, Daemon, Receiver};
use crate::{call_as, daemon_with_keys, key, path_of};

const CHOSEN: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// The secrets that an answer shows, with their ends.
fn shown(answer: Value) -> Vec<(String, Value)> {
    let secrets = answer["secrets"].as_array().unwrap();
    secrets.iter().map(|held| (held["secret"].as_str().unwrap().to_owned(), held["valid_until"].clone())).collect()
}

async fn rotate(daemon: &Daemon, path: &str, body: Value) -> Answer {
    daemon.post(&format!("{path}/secret/rotate"), body).await
}

#[tokio::test]
async fn a_rotation_keeps_the_old_secret_for_the_overlap() {
    let daemon = Daemon::start().await;
    let made = daemon.subscribe(json!({"url": "https://a.example"})).await;
    let path = path_of(&made);
    let first = made["secret"].as_str().unwrap().to_owned();
    let at = |span: u64| json!((daemon.clock.now() + Duration::from_secs(span)).to_string());
    let read = async || {
        let answer = daemon.get(&format!("{path}/secret")).await;
        assert_eq!(answer.header("cache-control"), "no-store");
        shown(answer.expect(200))
    };
    assert_eq!(read().await, vec![(first.clone(), Value::Null)]);

    let tag = daemon.get(&path).await.header("etag").to_owned();
    let answer = rotate(&daemon, &path, Value::Null).await;
    assert_eq!(answer.header("cache-control"), "no-store");
    let secrets = shown(answer.expect(200));
    assert_eq!(secrets[0], (first.clone(), at(24 * 3600)), "a day unless it says otherwise");
    let second = secrets[1].0.clone();
    assert!(second.starts_with("whsec_") && second != first && secrets[1].1.is_null());
    assert_eq!(read().await, secrets);
    assert_eq!(daemon.get(&path).await.header("etag"), tag, "the ETag covers settings");

    daemon.pass(Duration::from_secs(24 * 3600 - 1));
    assert_eq!(read().await.len(), 2);
    daemon.pass(Duration::from_secs(1));
    assert_eq!(read().await, [(second.clone(), Value::Null)], "the overlap has ended");

    let chosen = shown(rotate(&daemon, &path, json!({"overlap": "7d", "secret": CHOSEN})).await.expect(200));
    assert_eq!(chosen, [(second, at(7 * 86_400)), (CHOSEN.to_owned(), Value::Null)]);
    let alone = shown(rotate(&daemon, &path, json!({"overlap": "0s"})).await.expect(200));
    assert_eq!(alone.len(), 1, "0 revokes every older one");
    assert!(alone[0].0 != CHOSEN);
}

#[tokio::test]
async fn faulty_rotations_change_nothing() {
    let daemon = Daemon::start().await;
    let made = daemon.subscribe(json!({"url": "https://a.example"})).await;
    let path = path_of(&made);
    for (body, fields) in [
        (json!({"overlap": "169h"}), &["overlap"][..]),
        (json!({"overlap": 86400}), &["overlap"]),
        (json!({"overlap": "-1s"}), &["overlap"]),
        (json!({"secret": "short"}), &["secret"]),
        (json!({"secret": "***"}), &["secret"]),
        (json!({"secret": 1, "overlap": "x", "grace": 1}), &["overlap", "secret", "grace"]),
    ] {
        assert_eq!(rotate(&daemon, &path, body.clone()).await.refused(422, "validation_failed"), fields, "{body}");
    }
    let secrets = shown(daemon.get(&format!("{path}/secret")).await.expect(200));
    assert_eq!(secrets, [(made["secret"].as_str().unwrap().to_owned(), Value::Null)]);
}

#[tokio::test]
async fn a_sixth_secret_is_refused() {
    let daemon = Daemon::start().await;
    let mut receiver = Receiver::start().await;
    let made = daemon.subscribe(json!({"url": receiver.url})).await;
    let path = path_of(&made);
    for _ in 0..4 {
        rotate(&daemon, &path, json!({"overlap": "7d"})).await.expect(200);
    }
    rotate(&daemon, &path, json!({"overlap": "7d"})).await.refused(409, "too_many_secrets");
    daemon.publish("a", json!(1)).await;
    let received = receiver.next().await;
    assert_eq!(received.header("webhook-signature").split(' ').count(), 5, "one by each valid secret");
    rotate(&daemon, &path, json!({"overlap": "0s"})).await.expect(200);
    daemon.publish("a", json!(1)).await;
    assert_eq!(receiver.next().await.header("webhook-signature").split(' ').count(), 1);
}

#[tokio::test]
async fn only_the_role_secrets_sees_secrets_again() {
    let keys = [
        key("manage", &["manage", "read"], &["*"]),
        key("secrets", &["secrets"], &["*"]),
        key("both", &["manage", "secrets"], &["*"]),
    ];
    let daemon = daemon_with_keys(&keys).await;
    let body = json!({"url": "https://a.example", "events": []});
    let made = call_as(&daemon, "manage", "POST", "/v1/subscriptions", body.clone()).await.expect(201);
    let first = made["secret"].as_str().unwrap().to_owned();
    assert_ne!(first, "***", "who makes it is shown it once");
    let path = path_of(&made);
    let read = async |caller: &str| call_as(&daemon, caller, "GET", &format!("{path}/secret"), Value::Null).await;
    read("manage").await.refused(403, "forbidden");
    assert_eq!(shown(read("secrets").await.expect(200))[0].0, first);
    let rotate = async |caller: &str| {
        shown(call_as(&daemon, caller, "POST", &format!("{path}/secret/rotate"), json!({})).await.expect(200))
    };
    let rotated = rotate("manage").await;
    assert_eq!(rotated[0].0, "***", "older ones only to who may see them anyway");
    assert!(rotated[1].0.starts_with("whsec_"));
    assert!(rotate("both").await.iter().all(|(secret, _)| secret.starts_with("whsec_")));
    call_as(&daemon, "secrets", "POST", &format!("{path}/secret/rotate"), json!({})).await.refused(403, "forbidden");

    // Lowering the secrecy level shows more, so it needs the role too.
    let patch =
        async |caller: &str, level: u8| call_as(&daemon, caller, "PATCH", &path, json!({"secrecy_level": level})).await;
    patch("manage", 2).await.expect(200);
    patch("manage", 1).await.refused(403, "forbidden");
    patch("both", 1).await.expect(200);
}

#[tokio::test]
async fn no_other_answer_shows_a_secret() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::start().await;
    let key_pem = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key_pem).unwrap().pem();
    let key_pem = key_pem.serialize_pem();
    let key_line = key_pem.lines().nth(1).unwrap().to_owned();
    let body = json!({
        "url": receiver.url,
        "events": ["a"],
        "secret": CHOSEN,
        "headers": {"x-api-key": "hidden-header", "Cookie": "hidden-cookie"},
        "authentication": {"type": "basic", "user": "me", "password": "hidden-password"},
        "tls": {"client_cert_pem": certificate, "client_key_pem": key_pem},
    });
    let made = daemon.call_with("POST", "/v1/subscriptions", body, &[("idempotency-key", "k")]).await.expect(201);
    let path = path_of(&made);
    let mut told = made.clone();
    assert_eq!(told["secret"].take(), CHOSEN);
    let mut answers = vec![("POST /v1/subscriptions".to_owned(), told.to_string())];
    let mut hidden = vec!["hidden-".to_owned(), key_line, CHOSEN.to_owned()];
    let rotated = rotate(&daemon, &path, json!({})).await.expect(200);
    hidden.push(rotated["secrets"][1]["secret"].as_str().unwrap().to_owned());
    let published = daemon.publish("a", json!(1)).await;
    let event = format!("/v1/events/{}", published["id"].as_str().unwrap());
    let event = daemon.until(&event, |event| event["deliveries"][0]["state"] == "delivered").await;
    let delivery = format!("/v1/deliveries/{}", event["deliveries"][0]["id"].as_str().unwrap());
    let oauth2 = json!({"type": "oauth2", "token_url": "https://id.example/t", "client_id": "c",
                        "client_secret": "hidden-client"});
    for (method, path, body) in [
        ("GET", path.clone(), Value::Null),
        ("PUT", path.clone(), daemon.get(&path).await.expect(200)),
        ("PATCH", path.clone(), json!({"name": "x"})),
        ("PATCH", path.clone(), json!({"url": "https://elsewhere.example"})),
        ("PATCH", path.clone(), json!({"authentication": {"type": "bearer", "token": "hidden-token"}})),
        ("PATCH", path.clone(), json!({"authentication": {"type": "bearer", "token": "hidden token"}})),
        ("PATCH", path.clone(), json!({"authentication": oauth2})),
        ("PATCH", path.clone(), json!({"headers": {"x-api-key": "hidden-\n"}})),
        ("PATCH", path.clone(), json!({"secret": "hidden-secret"})),
        ("POST", format!("{path}/secret/rotate"), json!({"secret": "hidden-rotation"})),
        ("POST", format!("{path}/test"), Value::Null),
        ("POST", format!("{path}/disable"), Value::Null),
        ("POST", format!("{path}/enable"), Value::Null),
        ("GET", format!("{path}/deliveries"), Value::Null),
        ("GET", delivery, Value::Null),
        ("GET", "/v1/subscriptions".to_owned(), Value::Null),
        ("GET", "/v1/audit?limit=500".to_owned(), Value::Null),
        ("GET", "/v1/events".to_owned(), Value::Null),
        ("GET", "/v1/stats".to_owned(), Value::Null),
        ("GET", "/metrics".to_owned(), Value::Null),
    ] {
        let answer = daemon.call(method, &path, body.clone()).await;
        answers.push((format!("{method} {path} {body}"), String::from_utf8(answer.body.to_vec()).unwrap()));
    }
    for (question, answer) in answers {
        for hidden in &hidden {
            assert!(!answer.contains(hidden.as_str()), "{hidden} in the answer to {question}: {answer}");
        }
    }
}

#[tokio::test]
async fn asking_for_the_same_creation_again_shows_no_secret_that_was_rotated_in() {
    let daemon =
        daemon_with_keys(&[key("manage", &["manage"], &["*"]), key("both", &["manage", "secrets"], &["*"])]).await;
    let body = json!({"url": "https://a.example", "events": []});
    let create = async |caller: &str| {
        let bearer = format!("Bearer {}", crate::token(caller));
        let headers = [("authorization", bearer.as_str()), ("idempotency-key", "k")];
        daemon.call_with("POST", "/v1/subscriptions", body.clone(), &headers).await
    };
    let made = create("manage").await.expect(201);
    assert_eq!(create("manage").await.expect(200)["secret"], made["secret"]);
    daemon.pass(Duration::from_secs(1));
    let path = format!("{}/secret/rotate", path_of(&made));
    let rotated = shown(call_as(&daemon, "both", "POST", &path, json!({})).await.expect(200));
    assert_eq!(create("manage").await.expect(200)["secret"], "***");
    assert_eq!(create("both").await.expect(200)["secret"], rotated[1].0);
}
