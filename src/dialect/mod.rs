//! The wire formats: how an event becomes a request, what counts as success, and
//! which event types a vendor has. One format a file; adding one touches only
//! [`find`] and [`crate::model::Format`].
//!
//! - `render.rs`: one attempt's request, the same way for every format.
//! - `catalog.rs`: the event types that come with the formats.
//! - `options.rs`: what is configured of the formats.
//!
//! **Names neither tokio nor a file, a socket or a clock**: `now` and randomness
//! are arguments, so a request is a value that tests compare. How webhooks are
//! managed the vendor's way is for the API to say.

mod blynk;
mod catalog;
mod cloudevents;
pub mod ferriskey;
mod options;
pub mod pdk;
pub mod peridio;
mod render;
mod standard;

pub use catalog::catalog;
pub use options::{ApiOptions, EventMode, NameSpelling, Options, Signature};
pub use render::{RenderError, render};
pub(crate) use render::{body_context, has_dot_segment};

use serde_json::json;

use crate::id::DeliveryId;
use crate::input::Faults;
use crate::json::Json;
use crate::limits::{
    BODY_TEMPLATE_BYTES_MAX, RENDERED_BODY_BYTES_MAX, RENDERED_URL_BYTES_MAX, RESPONSE_READ_BYTES_MAX, URL_CHARS_MAX,
};
use crate::model::{Event, Format, Header, Name, Settings, Subscription};
use crate::secret::Secret;
use crate::template::{Placeholder, Value};
use crate::time::Timestamp;

/// The type of test events, where the format has none of its own.
pub const TEST_TYPE: &str = "posthaste.test";

/// One format. What most have in common is the default.
pub trait Dialect: Sync {
    /// Which one.
    fn format(&self) -> Format;

    /// The format's own body for an event, where the subscription has no template.
    fn envelope(&self, sending: &Sending<'_>) -> Result<Envelope, RenderError>;

    /// The headers that sign `body`, one signature by each of `secrets` (oldest
    /// first, all valid now) in formats that allow several.
    fn signature_headers(&self, signing: &Signing<'_>) -> Vec<Header>;

    /// Names of the headers that the format itself sets, in lower case.
    fn own_headers(&self) -> &'static [&'static str];

    /// A new secret from random bytes; none: the format signs nothing.
    fn generate_secret(&self, random: &[u8; 32]) -> Option<Secret>;

    /// What is wrong with a secret that somebody chose, as the rest of a sentence.
    fn check_secret(&self, secret: &Secret) -> Result<(), String>;

    /// Whether a subscription may have no secret.
    fn allows_unsigned(&self) -> bool {
        false
    }

    /// Whether the status means that the receiver took the event.
    fn is_success(&self, status: u16) -> bool {
        (200..300).contains(&status)
    }

    /// Whether URLs are verified by a test event whatever the configuration says.
    fn always_verifies(&self) -> bool {
        false
    }

    /// The type and data of the event that tests and verifies a subscription.
    fn test_event(&self, _subscription: &Subscription) -> (&'static str, Json) {
        (TEST_TYPE, Json::from(&json!({"message": "This is a test event from Posthaste."})))
    }

    /// The event, of the subscription as its subject, that tells of a change of it.
    fn change_event(&self, _kind: ChangeKind, _subscription: &Subscription) -> Option<(&'static str, Json)> {
        None
    }

    /// Attempts a second to one subscription, where neither it nor the vendor's
    /// documents leave that to the configuration.
    fn rate_per_second(&self) -> Option<f64> {
        None
    }

    /// How large things may be in this format.
    fn limits(&self) -> Limits {
        Limits::DEFAULT
    }

    /// What the format asks of settings beyond what all do.
    fn check(&self, _settings: &Settings, _faults: &Faults) {}

    /// What keeps an event from being sent in this format, as a message about `data`.
    fn check_event(&self, _event: &Event) -> Result<(), String> {
        Ok(())
    }

    /// The other name that the vendor has for an event type.
    fn other_name(&self, _event_type: &str) -> Option<Name> {
        None
    }

    /// What a placeholder stands for, where it is one of the format's own.
    fn placeholder<'v>(
        &self,
        _event: &'v Event,
        _data: &'v str,
        _placeholder: &Placeholder<'_>,
    ) -> Option<Option<Value<'v>>> {
        None
    }

    /// Whether a placeholder is one of the format's own.
    fn is_own_placeholder(&self, _name: &str) -> bool {
        false
    }

    /// The format's own placeholders, as documentation lists them.
    fn placeholders(&self) -> &'static [&'static str] {
        &[]
    }

    /// The vendor's event types: a JSON list of `name`, `category`, `description`
    /// and `example` (of `data`; `null` where the vendor shows none).
    fn catalog(&self) -> &'static str {
        "[]"
    }
}

/// What happened to a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It was made.
    Created,
    /// Its settings changed.
    Updated,
    /// It ended.
    Deleted,
}

/// What is being sent.
#[derive(Clone, Copy)]
pub struct Sending<'a> {
    /// To whom.
    pub subscription: &'a Subscription,
    /// What.
    pub event: &'a Event,
    /// Its data, secrecy applied.
    pub data: &'a str,
    /// As configured.
    pub options: &'a Options,
}

/// A format's own body, with what tells the receiver how to read it.
pub struct Envelope {
    /// The `content-type`.
    pub content_type: &'static str,
    /// Further headers.
    pub headers: Vec<Header>,
    /// The body.
    pub body: Vec<u8>,
}

impl Envelope {
    /// JSON that needs no further headers.
    fn json(body: Vec<u8>) -> Envelope {
        Envelope { content_type: "application/json", headers: Vec::new(), body }
    }
}

/// What there is to sign.
pub struct Signing<'a> {
    /// The event sent.
    pub event: &'a Event,
    /// Its delivery.
    pub delivery: DeliveryId,
    /// When this attempt is sent.
    pub now: Timestamp,
    /// The body, as sent.
    pub body: &'a [u8],
    /// The secrets valid now, oldest first.
    pub secrets: &'a [&'a Secret],
    /// As configured.
    pub options: &'a Options,
}

/// How large things may be in a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A URL as written, with its placeholders.
    pub url_chars_max: usize,
    /// A body template.
    pub body_template_bytes_max: usize,
    /// A URL with its values in place.
    pub rendered_url_bytes_max: usize,
    /// A body with its values in place.
    pub rendered_body_bytes_max: usize,
    /// What is read of a receiver's answer.
    pub response_read_bytes_max: usize,
}

impl Limits {
    /// Where the vendor says nothing.
    pub const DEFAULT: Limits = Limits {
        url_chars_max: URL_CHARS_MAX,
        body_template_bytes_max: BODY_TEMPLATE_BYTES_MAX,
        rendered_url_bytes_max: RENDERED_URL_BYTES_MAX,
        rendered_body_bytes_max: RENDERED_BODY_BYTES_MAX,
        response_read_bytes_max: RESPONSE_READ_BYTES_MAX,
    };
}

/// The dialect of a format.
pub fn find(format: Format) -> &'static dyn Dialect {
    match format {
        Format::Standard => &standard::Standard,
        Format::Peridio => &peridio::Peridio,
        Format::Pdk => &pdk::Pdk,
        Format::Blynk => &blynk::Blynk,
        Format::Ferriskey => &ferriskey::Ferriskey,
        Format::Cloudevents => &cloudevents::Cloudevents,
    }
}

/// Every dialect.
pub fn all() -> impl Iterator<Item = &'static dyn Dialect> {
    Format::ALL.iter().map(|format| find(*format))
}
