//! CloudEvents 1.0 over HTTP
//! (<https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md>),
//! signed as Standard Webhooks are.

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::json;
use crate::model::{Event, Format, Header};
use crate::secret::Secret;

use super::{Dialect, Envelope, EventMode, RenderError, Sending, Signing, standard::Standard};

/// The format.
pub(super) struct Cloudevents;

/// What header values encode (section 3.1.3.2 of the binding): everything but
/// printable ASCII, and of that space, double quote and percent.
const HEADER: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// What a URI reference cannot hold as it is (RFC 3986, section 2).
const URI: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// The attributes, in the order of the specification. `source` is a URI reference:
/// the event's source, else its organization.
fn attributes(event: &Event) -> Vec<(&'static str, String)> {
    let source = event.source.as_deref().unwrap_or(&event.organization);
    let mut attributes = vec![
        ("specversion", "1.0".to_owned()),
        ("id", event.public_id()),
        ("source", utf8_percent_encode(source, URI).to_string()),
        ("type", event.event_type.to_string()),
        ("time", event.occurred_at.to_string()),
    ];
    // An empty subject would not be one (section "subject" of the specification).
    let subject = event.subject.as_ref().filter(|subject| !subject.is_empty());
    attributes.extend(subject.map(|subject| ("subject", subject.clone())));
    attributes
}

impl Dialect for Cloudevents {
    fn format(&self) -> Format {
        Format::Cloudevents
    }

    fn envelope(&self, sending: &Sending<'_>) -> Result<Envelope, RenderError> {
        let attributes = attributes(sending.event);
        if sending.options.cloudevents_mode == EventMode::Binary {
            let header = |(name, value): (&str, String)| {
                (format!("ce-{name}").into(), utf8_percent_encode(&value, HEADER).to_string())
            };
            let headers = attributes.into_iter().map(header).collect();
            let body = sending.data.as_bytes().to_vec();
            return Ok(Envelope { content_type: "application/json", headers, body });
        }
        let mut body = String::with_capacity(sending.data.len() + 256);
        for (name, value) in attributes {
            body.push(if body.is_empty() { '{' } else { ',' });
            body.push_str(&format!("\"{name}\":{}", json::quote(&value)));
        }
        body.push_str(&format!(r#","datacontenttype":"application/json","data":{}}}"#, sending.data));
        Ok(Envelope { content_type: "application/cloudevents+json", headers: Vec::new(), body: body.into_bytes() })
    }

    fn signature_headers(&self, signing: &Signing<'_>) -> Vec<Header> {
        Standard.signature_headers(signing)
    }

    fn own_headers(&self) -> &'static [&'static str] {
        &[
            "webhook-id",
            "webhook-timestamp",
            "webhook-signature",
            "ce-specversion",
            "ce-id",
            "ce-source",
            "ce-type",
            "ce-time",
            "ce-subject",
        ]
    }

    fn generate_secret(&self, random: &[u8; 32]) -> Option<Secret> {
        Standard.generate_secret(random)
    }

    fn check_secret(&self, secret: &Secret) -> Result<(), String> {
        Standard.check_secret(secret)
    }
}
