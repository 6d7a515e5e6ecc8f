//! The wire formats: how an event becomes a request, and what counts as success.
//! One format a file; adding one touches only [`find`].
//!
//! **Names neither tokio nor a file, a socket or a clock**: `now` and randomness
//! are arguments, so a request is a value that tests compare.

pub mod pdk;
mod render;
mod standard;

pub use render::{RenderError, render};
pub(crate) use render::{body_context, has_dot_segment};

use crate::id::DeliveryId;
use crate::model::{Event, Format};
use crate::secret::Secret;
use crate::time::Timestamp;

/// One format.
pub trait Dialect: Sync {
    /// Which one.
    fn format(&self) -> Format;

    /// The format's own body for an event whose data is `data` (secrecy applied).
    fn envelope(&self, event: &Event, data: &[u8]) -> Vec<u8>;

    /// The `content-type` of [`Dialect::envelope`].
    fn envelope_type(&self) -> &'static str {
        "application/json"
    }

    /// The headers that sign `body`, one signature by each of `secrets` (oldest
    /// first, all valid now) in formats that allow several.
    fn signature_headers(&self, signing: &Signing<'_>) -> Vec<(String, String)>;

    /// Names of the headers that the format itself sets, in lower case.
    fn own_headers(&self) -> &'static [&'static str];

    /// A new secret from random bytes.
    fn generate_secret(&self, random: &[u8; 32]) -> Secret;

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
}

/// The dialect of a format; none: this version does not speak it.
pub fn find(format: Format) -> Option<&'static dyn Dialect> {
    match format {
        Format::Standard => Some(&standard::Standard),
        Format::Peridio | Format::Pdk | Format::Blynk | Format::Ferriskey | Format::Cloudevents => None,
    }
}

/// The formats that this version speaks, for messages.
pub fn available() -> String {
    let names: Vec<&str> = Format::ALL.iter().filter(|format| find(**format).is_some()).map(|f| f.as_str()).collect();
    names.join(", ")
}
