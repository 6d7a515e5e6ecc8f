//! Standard Webhooks (<https://www.standardwebhooks.com>), the default format.

use crate::json;
use crate::model::{Format, Header};
use crate::secret::Secret;
use crate::sign::StandardKey;

use super::{Dialect, Envelope, RenderError, Sending, Signing};

/// The format.
pub(super) struct Standard;

impl Dialect for Standard {
    fn format(&self) -> Format {
        Format::Standard
    }

    fn envelope(&self, sending: &Sending<'_>) -> Result<Envelope, RenderError> {
        let Sending { event, data, .. } = sending;
        let (event_type, occurred_at) = (json::quote(&event.event_type), event.occurred_at.to_string());
        let parts = ["{\"type\":", &event_type, ",\"timestamp\":\"", &occurred_at, "\",\"data\":", data, "}"];
        let body = parts.concat().into_bytes();
        Ok(Envelope::json(body))
    }

    fn signature_headers(&self, signing: &Signing<'_>) -> Vec<Header> {
        let id = signing.event.id.to_string();
        let seconds = signing.now.as_secs();
        // Newest first: a receiver that knows only the first one is up to date.
        let keys = signing.secrets.iter().rev().filter_map(|secret| StandardKey::read(secret).ok());
        let mut signatures = keys.map(|key| key.sign(&id, seconds, signing.body));
        let mut signature = signatures.next().unwrap_or_default();
        for another in signatures {
            signature.push(' ');
            signature.push_str(&another);
        }
        vec![
            ("webhook-id".into(), id),
            ("webhook-timestamp".into(), seconds.to_string()),
            ("webhook-signature".into(), signature),
        ]
    }

    fn own_headers(&self) -> &'static [&'static str] {
        &["webhook-id", "webhook-timestamp", "webhook-signature"]
    }

    fn generate_secret(&self, random: &[u8; 32]) -> Option<Secret> {
        Some(StandardKey::spell(random))
    }

    fn check_secret(&self, secret: &Secret) -> Result<(), String> {
        StandardKey::read(secret).map(|_| ()).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Options;
    use crate::id::Lane;
    use crate::model::{Event, Subscription};
    use crate::time::Clock;

    fn envelope(event: &Event) -> Vec<u8> {
        let (subscription, options) = (Subscription::sample(1), Options::default());
        let sending = Sending { subscription: &subscription, event, data: event.data.as_str(), options: &options };
        Standard.envelope(&sending).map(|envelope| envelope.body).unwrap_or_default()
    }

    fn generate(byte: u8) -> Secret {
        Standard.generate_secret(&[byte; 32]).expect("a secret")
    }

    #[test]
    fn the_envelope_holds_the_data_as_it_came() {
        let event = Event::sample("door.opened", r#"{"b": 1.0,"a":1e3}"#);
        let expected = r#"{"type":"door.opened","timestamp":"2026-03-17T14:30:00.000Z","data":{"b": 1.0,"a":1e3}}"#;
        assert_eq!(String::from_utf8(envelope(&event)).expect("text"), expected);
    }

    #[test]
    fn the_published_library_accepts_what_is_signed() {
        let event = Event::sample("door.opened", "null");
        let (old, new) = (generate(1), generate(2));
        let body = envelope(&event);
        // The library compares with the machine's clock.
        let now = Clock::system().now();
        let (delivery, options) = (event.id.delivery(Lane(1)), Options::default());
        let secrets = [&old, &new];
        let signing = Signing { event: &event, delivery, now, body: &body, secrets: &secrets, options: &options };
        let mut headers = http::HeaderMap::new();
        for (name, value) in Standard.signature_headers(&signing) {
            assert!(Standard.own_headers().contains(&&*name));
            headers.insert(http::HeaderName::try_from(&*name).expect("a name"), value.parse().expect("a value"));
        }
        assert_eq!(headers["webhook-id"], event.id.to_string());
        let other = generate(3);
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
        assert_eq!(Standard.check_secret(&generate(0)), Ok(()));
        let short = Secret::new("whsec_AAAA".to_owned());
        assert!(Standard.check_secret(&short).is_err_and(|message| message.starts_with("must be \"whsec_\"")));
    }
}
