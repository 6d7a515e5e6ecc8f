//! Standard Webhooks (<https://www.standardwebhooks.com>), the default format.

use crate::json;
use crate::model::{Event, Format};
use crate::secret::Secret;
use crate::sign::StandardKey;

use super::{Dialect, Signing};

/// The format.
pub(super) struct Standard;

impl Dialect for Standard {
    fn format(&self) -> Format {
        Format::Standard
    }

    fn envelope(&self, event: &Event, data: &[u8]) -> Vec<u8> {
        let mut envelope = Vec::with_capacity(data.len() + 128);
        envelope.extend_from_slice(b"{\"type\":");
        envelope.extend_from_slice(json::quote(&event.event_type).as_bytes());
        envelope.extend_from_slice(format!(",\"timestamp\":\"{}\",\"data\":", event.occurred_at).as_bytes());
        envelope.extend_from_slice(data);
        envelope.push(b'}');
        envelope
    }

    fn signature_headers(&self, signing: &Signing<'_>) -> Vec<(String, String)> {
        let id = signing.event.id.to_string();
        let seconds = signing.now.as_secs();
        // Newest first: a receiver that knows only the first one is up to date.
        let keys = signing.secrets.iter().rev().filter_map(|secret| StandardKey::read(secret).ok());
        let signatures: Vec<String> = keys.map(|key| key.sign(&id, seconds, signing.body)).collect();
        vec![
            ("webhook-id".to_owned(), id),
            ("webhook-timestamp".to_owned(), seconds.to_string()),
            ("webhook-signature".to_owned(), signatures.join(" ")),
        ]
    }

    fn own_headers(&self) -> &'static [&'static str] {
        &["webhook-id", "webhook-timestamp", "webhook-signature"]
    }

    fn generate_secret(&self, random: &[u8; 32]) -> Secret {
        StandardKey::spell(random)
    }

    fn check_secret(&self, secret: &Secret) -> Result<(), String> {
        StandardKey::read(secret).map(|_| ()).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Lane;
    use crate::time::Clock;

    #[test]
    fn the_envelope_holds_the_data_as_it_came() {
        let event = Event::sample("door.opened", r#"{"b": 1.0,"a":1e3}"#);
        let envelope = Standard.envelope(&event, event.data.as_bytes());
        let expected = r#"{"type":"door.opened","timestamp":"2026-03-17T14:30:00.000Z","data":{"b": 1.0,"a":1e3}}"#;
        assert_eq!(String::from_utf8(envelope).expect("text"), expected);
    }

    #[test]
    fn the_published_library_accepts_what_is_signed() {
        let event = Event::sample("door.opened", "null");
        let (old, new) = (Standard.generate_secret(&[1; 32]), Standard.generate_secret(&[2; 32]));
        let body = Standard.envelope(&event, event.data.as_bytes());
        // The library compares with the machine's clock.
        let now = Clock::system().now();
        let signing =
            Signing { event: &event, delivery: event.id.delivery(Lane(1)), now, body: &body, secrets: &[&old, &new] };
        let mut headers = http::HeaderMap::new();
        for (name, value) in Standard.signature_headers(&signing) {
            assert!(Standard.own_headers().contains(&name.as_str()));
            headers.insert(http::HeaderName::try_from(name).expect("a name"), value.parse().expect("a value"));
        }
        assert_eq!(headers["webhook-id"], event.id.to_string());
        let other = Standard.generate_secret(&[3; 32]);
        for (secret, body, accepted) in [
            (&old, &body[..], true),
            (&new, &body[..], true),
            (&other, &body[..], false),
            (&new, br#"{"type":"door.closed"}"#, false),
        ] {
            let library = standardwebhooks::Webhook::new(secret.expose()).expect("a secret");
            assert_eq!(library.verify(body, &headers).is_ok(), accepted);
        }
    }

    #[test]
    fn secrets_are_checked() {
        assert_eq!(Standard.check_secret(&Standard.generate_secret(&[0; 32])), Ok(()));
        let short = Secret::new("whsec_AAAA".to_owned());
        assert!(Standard.check_secret(&short).is_err_and(|message| message.starts_with("must be \"whsec_\"")));
    }
}
