//! Published signatures: the values that each vendor's receivers check.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use posthaste::dialect::{self, Options, Signature, Signing};
use posthaste::id::Minter;
use posthaste::json::Json;
use posthaste::model::{Event, Format};
use posthaste::secret::Secret;
use posthaste::sign::StandardKey;
use posthaste::time::Timestamp;
use serde_json::{Value, json};

use crate::support::{Daemon, Receiver};
use crate::{daemon, data, hmac_sha256};

/// The headers that `format` sends with `body` at `now`.
fn sign(format: Format, secrets: &[&str], now: Timestamp, body: &str, options: &Options) -> Vec<(String, String)> {
    let id = Minter::after(None).mint(now, 1);
    let event = Event {
        id,
        event_type: "any".into(),
        organization: "acme".into(),
        source: None,
        subject: None,
        occurred_at: now,
        event_id: None,
        data: Json::NULL,
    };
    let secrets: Vec<Secret> = secrets.iter().map(|text| Secret::new((*text).to_owned())).collect();
    let secrets: Vec<&Secret> = secrets.iter().collect();
    let delivery = id.delivery(posthaste::id::Lane(1));
    let signing = Signing { event: &event, delivery, now, body: body.as_bytes(), secrets: &secrets, options };
    let headers = dialect::find(format).signature_headers(&signing);
    headers.into_iter().map(|(name, value)| (name.into_owned(), value)).collect()
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_else(|| panic!("{name} in {value}"))
}

#[test]
fn every_published_signature_is_reproduced() {
    let vectors = data("vectors.json");
    let mut seen = 0;
    for vector in vectors.as_array().unwrap() {
        let (body, variant) = (text(vector, "body"), vector["variant"].as_str());
        let format = Format::from_name(text(vector, "dialect")).unwrap();
        let mut expected = vector["headers"].clone();
        let mut options = Options::default();
        let at = |name: &str| Timestamp::from_millis(vector[name].as_u64().unwrap() * 1000);
        let headers = match format {
            Format::Peridio => {
                if variant == Some("published-vector") {
                    options.peridio_signature = Signature::PublishedVector;
                    expected = json!({
                        "peridio-published-at": vector["published_at"],
                        "peridio-signature": vector["signature"],
                    });
                }
                let secrets: Vec<&str> = match vector["secrets_old_to_new"].as_array() {
                    Some(secrets) => secrets.iter().map(|secret| secret.as_str().unwrap()).collect(),
                    None => vec![text(vector, "secret")],
                };
                sign(format, &secrets, text(vector, "published_at").parse().unwrap(), body, &options)
            }
            Format::Pdk => sign(format, &[text(vector, "secret")], Timestamp::ZERO, body, &options),
            Format::Ferriskey => sign(format, &[text(vector, "secret")], at("timestamp"), body, &options),
            _ => {
                let key = StandardKey::read(&Secret::new(text(vector, "secret").to_owned())).unwrap();
                let seconds = vector["timestamp"].as_u64().unwrap();
                vec![
                    ("webhook-id".to_owned(), text(vector, "id").to_owned()),
                    ("webhook-timestamp".to_owned(), seconds.to_string()),
                    ("webhook-signature".to_owned(), key.sign(text(vector, "id"), seconds, body.as_bytes())),
                ]
            }
        };
        let sent: serde_json::Map<String, Value> = headers
            .into_iter()
            .filter(|(name, _)| name != "x-ferriskey-delivery-id")
            .map(|(n, v)| (n, v.into()))
            .collect();
        assert_eq!(Value::from(sent), expected, "{vector}");
        seen += 1;
    }
    assert_eq!(seen, 6);
}

/// A daemon whose clock stands at `now`, an organization, and a subscription with that secret.
async fn at(now: &str, text: &str, format: &str, organization: &str, secret: &str) -> (Daemon, Receiver, Value) {
    let daemon = daemon(text).await;
    daemon.clock.set(now.parse().unwrap());
    daemon.call("PUT", &format!("/v1/organizations/{organization}"), json!({})).await.expect(201);
    let mut receiver = Receiver::start().await;
    let events = if format == "pdk" { "door.*" } else { "*" };
    let fields = json!({
        "url": receiver.url,
        "format": format,
        "organization": organization,
        "secret": secret,
        "events": [events],
    });
    let made = daemon.subscribe(fields).await;
    if format == "peridio" {
        assert_eq!(receiver.next().await.json()["data"]["type"], "test_fire");
    }
    (daemon, receiver, made)
}

fn vector(dialect: &str, variant: Option<&str>) -> Value {
    let all = data("vectors.json");
    let is_it = |it: &&Value| it["dialect"] == dialect && it["variant"].as_str() == variant;
    all.as_array().unwrap().iter().find(is_it).unwrap().clone()
}

#[tokio::test]
async fn peridios_come_out_of_a_delivery() {
    let organization = "4e33149b-637d-4679-b64f-4905e7a0cf8c";
    for (variant, signature) in [
        (None, "documented"),
        (Some("published-vector"), "published-vector"),
        (Some("rolling"), "documented"),
        (None, "both"),
    ] {
        let vector = vector("peridio", variant);
        let secrets: Vec<String> = match vector["secrets_old_to_new"].as_array() {
            Some(secrets) => secrets.iter().map(|secret| secret.as_str().unwrap().to_owned()).collect(),
            None => vec![text(&vector, "secret").to_owned()],
        };
        let config = format!("[dialects.peridio]\nevent_names = \"underscores\"\nsignature = \"{signature}\"\n");
        let (daemon, mut receiver, made) =
            at(text(&vector, "published_at"), &config, "peridio", organization, &secrets[0]).await;
        if let Some(new) = secrets.get(1) {
            let path = format!("/v1/subscriptions/{}/secret/rotate", made["id"].as_str().unwrap());
            daemon.post(&path, json!({"secret": new, "overlap": "24h"})).await.expect(200);
        }
        let body: Value = serde_json::from_str(text(&vector, "body")).unwrap();
        let event = json!({
            "type": "device.release-changed",
            "organization": organization,
            "event_id": "a727838c-0195-4ccf-8258-cebf4608db8e",
            "occurred_at": body["inserted_at"],
            "data": body["data"]["data"],
        });
        daemon.post("/v1/events", event).await.expect(202);
        let received = receiver.next().await;
        assert_eq!(received.body, text(&vector, "body"));
        assert_eq!(received.header("peridio-published-at"), "2000-01-01T00:00:00Z");
        let expected = match (variant, signature) {
            (Some("published-vector"), _) => text(&vector, "signature").to_owned(),
            (_, "both") => {
                let published = crate::vectors::vector("peridio", Some("published-vector"));
                format!("{},{}", text(&vector["headers"], "peridio-signature"), text(&published, "signature"))
            }
            _ => text(&vector["headers"], "peridio-signature").to_owned(),
        };
        assert_eq!(received.header("peridio-signature"), expected);
    }
}

#[tokio::test]
async fn pdks_and_ferriskeys_come_out_of_a_delivery() {
    let pdk = vector("pdk", None);
    let (daemon, mut receiver, _) = at("2027-01-15T09:00:00Z", "", "pdk", "acme", text(&pdk, "secret")).await;
    let event = json!({
        "type": "door.request.allowed",
        "organization": "acme",
        "source": "1070000",
        "event_id": "679521e4-c455-423f-8155-d012c98f5dcc",
        "occurred_at": "2022-03-10T14:31:48.300Z",
        "data": {
            "body": {"doorId": 1, "personId": 1, "requestFactor": "CARD_OR_PIN"},
            "metadata": {"doorName": "Door Name"},
        },
    });
    daemon.post("/v1/events", event).await.expect(202);
    let received = receiver.next().await;
    assert_eq!(received.body, text(&pdk, "body"));
    assert_eq!(received.header("x-pdk-signature"), text(&pdk["headers"], "X-PDK-SIGNATURE"));

    let ferriskey = vector("ferriskey", None);
    let (daemon, mut receiver, _) =
        at("2026-03-17T14:30:00Z", "", "ferriskey", "acme", text(&ferriskey, "secret")).await;
    let body: Value = serde_json::from_str(text(&ferriskey, "body")).unwrap();
    let event = json!({
        "type": "user.created",
        "organization": "acme",
        "subject": body["resource_id"],
        "data": body["data"],
    });
    daemon.post("/v1/events", event).await.expect(202);
    let received = receiver.next().await;
    assert_eq!(received.body, text(&ferriskey, "body"));
    for name in ["x-ferriskey-timestamp", "x-ferriskey-signature"] {
        assert_eq!(received.header(name), text(&ferriskey["headers"], name));
    }
}

/// The reference data itself holds by the published method, computed here.
#[test]
fn the_standard_vector_holds_by_the_specification() {
    let vector = vector("standard", None);
    let key = STANDARD.decode(text(&vector, "secret").strip_prefix("whsec_").unwrap()).unwrap();
    let signed = format!("{}.{}.{}", text(&vector, "id"), vector["timestamp"], text(&vector, "body"));
    let expected = format!("v1,{}", STANDARD.encode(hmac_sha256(&key, signed.as_bytes())));
    assert_eq!(text(&vector["headers"], "webhook-signature"), expected);
}
