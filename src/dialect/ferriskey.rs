//! FerrisKey. Facts: its page "Payload Format"; its current source for the headers
//! that sign.

use crate::json;
use crate::model::Format;
use crate::secret::Secret;
use crate::sign::hmac_sha256;

use super::{Dialect, Envelope, RenderError, Sending, Signing};

/// The format.
pub(super) struct Ferriskey;

/// The longest secret.
const SECRET_BYTES_MAX: usize = 255;

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
    fn signature_headers(&self, signing: &Signing<'_>) -> Vec<(String, String)> {
        let timestamp = signing.now.as_secs().to_string();
        let signature = signing.secrets.first().map(|secret| {
            // The secret's text is the key, although it looks like hexadecimal digits.
            hex::encode(hmac_sha256(secret.expose().as_bytes(), &[timestamp.as_bytes(), b".", signing.body]))
        });
        let mut headers = vec![
            ("x-ferriskey-timestamp".to_owned(), timestamp.clone()),
            ("x-ferriskey-delivery-id".to_owned(), signing.delivery.to_string()),
        ];
        headers.extend(signature.map(|signature| ("x-ferriskey-signature".to_owned(), signature)));
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

    fn catalog(&self) -> &'static str {
        include_str!("catalog/ferriskey.json")
    }
}
