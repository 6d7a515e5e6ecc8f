//! FerrisKey. Facts: its page "Payload Format"; its current source for the headers
//! that sign.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::json::{self, Json};
use crate::model::{Format, Header, Subscription};
use crate::pattern::Pattern;
use crate::secret::Secret;
use crate::sign::hmac_sha256;
use crate::time::Timestamp;

use super::{ChangeKind, Dialect, Envelope, RenderError, Sending, Signing};

/// The format.
pub(super) struct Ferriskey;

/// The longest secret.
const SECRET_BYTES_MAX: usize = 255;

/// A webhook as the vendor's API and its own events show it: `subscribers` have ids
/// made of the webhook's and their own name, which are the same each time. Without
/// headers where none are given.
pub fn webhook(
    subscription: &Subscription,
    triggered_at: Option<Timestamp>,
    headers: Option<Map<String, Value>>,
) -> Value {
    let settings = &subscription.settings;
    let id = subscription.id.to_string();
    let subscriber = |pattern: &Pattern| {
        let name = pattern.to_string();
        let digest = Sha256::digest(format!("{id}/{name}"));
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        json!({"id": uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string(), "name": name, "webhook_id": id})
    };
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let mut shown = Map::new();
    shown.insert("id".to_owned(), json!(id));
    shown.insert("endpoint".to_owned(), json!(settings.url));
    shown.extend(headers.map(|headers| ("headers".to_owned(), Value::Object(headers))));
    shown.insert("name".to_owned(), json!(text(&settings.name)));
    shown.insert("description".to_owned(), json!(text(&settings.description)));
    shown.insert("subscribers".to_owned(), settings.events.iter().map(subscriber).collect());
    shown.insert("triggered_at".to_owned(), json!(triggered_at.map(|at| at.to_string())));
    shown.insert("updated_at".to_owned(), json!(subscription.updated_at.to_string()));
    shown.insert("created_at".to_owned(), json!(subscription.created_at.to_string()));
    Value::Object(shown)
}

impl Dialect for Ferriskey {
    fn format(&self) -> Format {
        Format::Ferriskey
    }

    fn envelope(&self, sending: &Sending<'_>) -> Result<Envelope, RenderError> {
        let event = sending.event;
        let body = format!(
            r#"{{"event":{},"timestamp":"{}","resource_id":{},"data":{}}}"#,
            json::quote(&event.event_type),
            event.occurred_at,
            json::quote(event.subject.as_deref().unwrap_or(&event.organization)),
            sending.data,
        );
        Ok(Envelope::json(body.into_bytes()))
    }

    /// One signature: during a rotation the old secret signs until the overlap ends.
    fn signature_headers(&self, signing: &Signing<'_>) -> Vec<Header> {
        let timestamp = signing.now.as_secs().to_string();
        let signature = signing.secrets.first().map(|secret| {
            // The secret's text is the key, although it looks like hexadecimal digits.
            hex::encode(hmac_sha256(secret.expose().as_bytes(), &[timestamp.as_bytes(), b".", signing.body]))
        });
        let mut headers = vec![
            ("x-ferriskey-timestamp".into(), timestamp.clone()),
            ("x-ferriskey-delivery-id".into(), signing.delivery.to_string()),
        ];
        headers.extend(signature.map(|signature| ("x-ferriskey-signature".into(), signature)));
        headers
    }

    fn own_headers(&self) -> &'static [&'static str] {
        &["x-ferriskey-timestamp", "x-ferriskey-delivery-id", "x-ferriskey-signature"]
    }

    fn generate_secret(&self, random: &[u8; 32]) -> Option<Secret> {
        Some(Secret::new(hex::encode(random)))
    }

    fn check_secret(&self, secret: &Secret) -> Result<(), String> {
        let text = secret.expose();
        let is_right = (1..=SECRET_BYTES_MAX).contains(&text.len()) && !text.contains(char::is_control);
        if is_right { Ok(()) } else { Err(format!("must have 1 to {SECRET_BYTES_MAX} bytes, no control characters")) }
    }

    fn change_event(&self, kind: ChangeKind, subscription: &Subscription) -> Option<(&'static str, Json)> {
        let event_type = match kind {
            ChangeKind::Created => "webhook.created",
            ChangeKind::Updated => "webhook.updated",
            ChangeKind::Deleted => "webhook.deleted",
        };
        Some((event_type, Json::from(&webhook(subscription, None, None))))
    }

    fn catalog(&self) -> &'static str {
        include_str!("catalog/ferriskey.json")
    }
}
