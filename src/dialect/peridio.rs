//! Peridio. Facts: its guides "Webhooks Overview" and "Events and Payloads", its API
//! description for names and the signature.
//!
//! - Four names have two spellings: hyphens in the guide, underscores in the API.
//!   Both match; what is sent is configured ([`NameSpelling`]).
//! - The value that its reference shows for the signature reproduces only with key
//!   and message exchanged, so which one is sent is configured ([`Signature`]).

use serde_json::json;

use crate::id::SubscriptionId;
use crate::json::{self, Json};
use crate::model::{Event, Format, Header, Name, Subscription};
use crate::secret::Secret;
use crate::sign::hmac_sha256;

use super::{Dialect, Envelope, Limits, NameSpelling, RenderError, Sending, Signature, Signing};

/// The format.
pub(super) struct Peridio;

/// The type of its test events.
const TEST_FIRE: &str = "webhook.test_fire";

/// What every resource name begins with; an organization's has its id behind it.
const ORGANIZATION_PRN: &str = "prn:1:";

/// What is spelled with a hyphen, and what with underscores.
const SPELLINGS: &[(&str, &str)] = &[
    ("device.authentication-failed", "device.authentication_failed"),
    ("device.checked-for-release", "device.checked_for_release"),
    ("device.claimed-release", "device.claimed_release"),
    ("device.release-changed", "device.release_changed"),
];

/// The name of an event type in that spelling.
pub fn spell(event_type: &str, spelling: NameSpelling) -> &str {
    match SPELLINGS.iter().find(|(hyphens, underscores)| event_type == *hyphens || event_type == *underscores) {
        Some((hyphens, _)) if spelling == NameSpelling::Hyphens => hyphens,
        Some((_, underscores)) => underscores,
        None => event_type,
    }
}

/// A resource name: `prn:1:<organization>:<kind>:<id>`.
pub fn prn(organization: &str, kind: &str, id: &str) -> String {
    format!("{ORGANIZATION_PRN}{organization}:{kind}:{id}")
}

/// A webhook's resource name.
pub fn webhook_prn(organization: &str, id: SubscriptionId) -> String {
    prn(organization, "webhook", &id.to_string())
}

/// The organization and the id that a webhook's resource name holds.
pub fn read_webhook_prn(prn: &str) -> Option<(&str, &str)> {
    prn.strip_prefix(ORGANIZATION_PRN)?.rsplit_once(":webhook:")
}

/// An organization's resource name.
pub fn organization_prn(organization: &str) -> String {
    format!("{ORGANIZATION_PRN}{organization}")
}

/// The organization that an organization's resource name holds.
pub fn read_organization_prn(prn: &str) -> Option<&str> {
    prn.strip_prefix(ORGANIZATION_PRN).filter(|organization| !organization.is_empty())
}

/// An event as Peridio has it; `data` in its own spelling.
pub fn event_json(event: &Event, data: &str, spelling: NameSpelling) -> String {
    let spelled = spell(&event.event_type, spelling);
    let (category, specific) = spelled.split_once('.').unwrap_or((spelled, ""));
    format!(
        r#"{{"version":1,"prn":{},"type":{},"inserted_at":"{}","data":{{"type":{},"data":{data}}}}}"#,
        json::quote(&prn(&event.organization, "event", &event.public_id())),
        json::quote(category),
        event.occurred_at.to_rfc3339_seconds(),
        json::quote(specific),
    )
}

impl Dialect for Peridio {
    fn format(&self) -> Format {
        Format::Peridio
    }

    fn envelope(&self, sending: &Sending<'_>) -> Result<Envelope, RenderError> {
        let spelling = sending.options.peridio_event_names;
        Ok(Envelope::json(event_json(sending.event, sending.data, spelling).into_bytes()))
    }

    fn signature_headers(&self, signing: &Signing<'_>) -> Vec<Header> {
        let published_at = signing.now.to_rfc3339_seconds();
        let kind = signing.options.peridio_signature;
        let mut signatures = Vec::new();
        for secret in signing.secrets {
            if kind != Signature::PublishedVector
                && let Ok(key) = hex::decode(secret.expose())
            {
                signatures.push(hmac_sha256(&key, &[published_at.as_bytes(), signing.body]));
            }
            if kind != Signature::Documented {
                let key = [published_at.as_bytes(), signing.body].concat();
                signatures.push(hmac_sha256(&key, &[secret.expose().as_bytes()]));
            }
        }
        let signatures: Vec<String> = signatures.iter().map(hex::encode_upper).collect();
        vec![("peridio-published-at".into(), published_at), ("peridio-signature".into(), signatures.join(","))]
    }

    fn own_headers(&self) -> &'static [&'static str] {
        &["peridio-published-at", "peridio-signature"]
    }

    fn generate_secret(&self, random: &[u8; 32]) -> Option<Secret> {
        Some(Secret::new(hex::encode_upper(&random[..16])))
    }

    fn check_secret(&self, secret: &Secret) -> Result<(), String> {
        let text = secret.expose();
        let is_right = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F'));
        if is_right { Ok(()) } else { Err("must be 32 hexadecimal digits, letters in upper case".to_owned()) }
    }

    fn is_success(&self, status: u16) -> bool {
        status == 200
    }

    fn limits(&self) -> Limits {
        Limits { url_chars_max: 1028, ..Limits::DEFAULT }
    }

    fn always_verifies(&self) -> bool {
        true
    }

    /// The guide shows empty data; its clients need the webhook's name there.
    fn test_event(&self, subscription: &Subscription) -> (&'static str, Json) {
        let prn = webhook_prn(&subscription.settings.organization, subscription.id);
        (TEST_FIRE, Json::from(&json!({"webhook_prn": prn})))
    }

    fn other_name(&self, event_type: &str) -> Option<Name> {
        let other = [NameSpelling::Hyphens, NameSpelling::Underscores].map(|spelling| spell(event_type, spelling));
        other.into_iter().find(|name| *name != event_type).map(Name::from)
    }

    fn catalog(&self) -> &'static str {
        include_str!("catalog/peridio.json")
    }
}
