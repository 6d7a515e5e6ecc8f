//! PDK.io. Facts: its page "Webhooks". The shape of a body follows from the type:
//! organization events carry their data as it is, panel events wrap it, two are flat
//! and one is a panel event without a time of its own.
//!
//! Subscriptions in this format are for organization events or for panel events,
//! not for both.

use std::borrow::Cow;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::value::RawValue;
use sha1::Sha1;

use crate::input::Faults;
use crate::json::{self, Level};
use crate::model::{Event, Format, Header, Settings};
use crate::pattern::Pattern;
use crate::secrecy::{Rule, Target};
use crate::secret::Secret;

use super::{Dialect, Envelope, RenderError, Sending, Signing};

/// The format.
pub(super) struct Pdk;

/// The longest secret.
pub const SECRET_CHARS_MAX: usize = 255;

/// The types that are an organization's; every other one is a panel's.
const ORGANIZATION_TYPES: &[&str] = &[
    "ou.created",
    "ou.deleted",
    "ou.updated",
    "panel.created",
    "panel.deleted",
    "panel.updated",
    "permission.accepted",
    "permission.created",
    "permission.deleted",
    "permission.updated",
];

/// How an event's body is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// The data's members, then `topic`.
    Organization,
    /// `id`, `body`, `metadata` with the time, `panelId`, `topic`.
    Panel,
    /// The same in another order, without the time.
    Scan,
    /// The data's members, `timestamp`, `panelId`, `topic`.
    Connection,
}

impl Shape {
    /// The shape of a type; of one that the vendor does not have, by whether the
    /// event has a source.
    fn of(event_type: &str, has_source: bool) -> Shape {
        match event_type {
            "door.input.virtualread" => Shape::Scan,
            "panel.connected" | "panel.disconnected" => Shape::Connection,
            _ if ORGANIZATION_TYPES.contains(&event_type) => Shape::Organization,
            _ if has_source || super::catalog().iter().any(|entry| *entry.name == *event_type) => Shape::Panel,
            _ => Shape::Organization,
        }
    }

    /// The members that the shape adds to the data's own, so that these must not have them.
    fn own_members(self) -> &'static [&'static str] {
        match self {
            Shape::Organization => &["topic"],
            Shape::Connection => &["panelId", "topic"],
            Shape::Panel | Shape::Scan => &[],
        }
    }

    fn check(self, data: &str) -> Result<(), String> {
        let own = self.own_members();
        if own.is_empty() || data == "null" {
            return Ok(());
        }
        let Some(members) = members(data) else {
            return Err("must be an object or null under format pdk".to_owned());
        };
        match members.iter().find(|(key, _)| own.contains(&&**key)) {
            Some((key, _)) => Err(format!("must not have a member {key} under format pdk, which sets it")),
            None => Ok(()),
        }
    }
}

/// The members of an object, in their order; none: it is not one.
fn members(data: &str) -> Option<Vec<(Cow<'_, str>, &RawValue)>> {
    match json::level(serde_json::from_str(data).ok()?) {
        Level::Object(members) => Some(members),
        Level::Array(_) | Level::Scalar => None,
    }
}

/// What stands between the braces of an object, followed by a comma where something does.
fn inner(object: &str) -> String {
    let inner = object.trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or("").trim();
    if inner.is_empty() { String::new() } else { format!("{inner},") }
}

/// A panel event's `body` and `metadata`: the data's, where it has exactly these.
fn body_and_metadata(data: &str) -> (&str, &str) {
    let found = members(data).unwrap_or_default();
    match found.as_slice() {
        [(body, first)] if body == "body" => (first.get(), "{}"),
        [(body, first), (metadata, second)]
            if body == "body" && metadata == "metadata" && second.get().starts_with('{') =>
        {
            (first.get(), second.get())
        }
        [(metadata, first), (body, second)]
            if body == "body" && metadata == "metadata" && first.get().starts_with('{') =>
        {
            (second.get(), first.get())
        }
        _ => (data, "{}"),
    }
}

/// The metadata with the time before it, unless it has one of its own.
fn with_time(metadata: &str, event: &Event) -> String {
    if json::find(metadata, &["occurred"]).is_some() {
        return metadata.to_owned();
    }
    let rest = inner(metadata);
    let rest = rest.trim_end_matches(',');
    let comma = if rest.is_empty() { "" } else { "," };
    format!("{{\"occurred\":{}{comma}{rest}}}", event.occurred_at.as_millis())
}

impl Dialect for Pdk {
    fn format(&self) -> Format {
        Format::Pdk
    }

    fn envelope(&self, sending: &Sending<'_>) -> Result<Envelope, RenderError> {
        let Sending { event, data, .. } = *sending;
        let shape = Shape::of(&event.event_type, event.source.is_some());
        shape.check(data).map_err(|message| RenderError::Envelope(format!("data {message}")))?;
        let topic = json::quote(&event.event_type);
        let id = json::quote(&event.public_id());
        let panel = event.source.as_ref().map_or("null".to_owned(), |source| json::quote(source));
        let (body, metadata) = body_and_metadata(data);
        let text = match shape {
            Shape::Organization => format!(r#"{{{}"topic":{topic}}}"#, inner(data)),
            Shape::Panel => {
                let metadata = with_time(metadata, event);
                format!(r#"{{"id":{id},"body":{body},"metadata":{metadata},"panelId":{panel},"topic":{topic}}}"#)
            }
            Shape::Scan => {
                format!(r#"{{"body":{body},"id":{id},"panelId":{panel},"topic":{topic},"metadata":{metadata}}}"#)
            }
            Shape::Connection => {
                let timestamp = match json::find(data, &["timestamp"]) {
                    Some(_) => String::new(),
                    None => format!(r#""timestamp":"{}","#, event.occurred_at.to_rfc3339_seconds()),
                };
                format!(r#"{{{}{timestamp}"panelId":{panel},"topic":{topic}}}"#, inner(data))
            }
        };
        Ok(Envelope::json(text.into_bytes()))
    }

    /// One signature: during a rotation the old secret signs until the overlap ends.
    fn signature_headers(&self, signing: &Signing<'_>) -> Vec<Header> {
        let sign = |secret: &&Secret| {
            // A key of any length is one (RFC 2104), so this always is.
            let mut mac = Hmac::<Sha1>::new_from_slice(secret.expose().as_bytes()).ok()?;
            mac.update(signing.body);
            Some(("X-PDK-SIGNATURE".into(), hex::encode(mac.finalize().into_bytes())))
        };
        signing.secrets.first().and_then(sign).into_iter().collect()
    }

    fn own_headers(&self) -> &'static [&'static str] {
        &["x-pdk-signature"]
    }

    fn generate_secret(&self, random: &[u8; 32]) -> Option<Secret> {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        Some(Secret::new(random.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 64)])).collect()))
    }

    fn check_secret(&self, secret: &Secret) -> Result<(), String> {
        let is_right = (1..=SECRET_CHARS_MAX).contains(&secret.expose().chars().count());
        if is_right { Ok(()) } else { Err(format!("must have 1 to {SECRET_CHARS_MAX} characters")) }
    }

    fn allows_unsigned(&self) -> bool {
        true
    }

    /// The two kinds of events are not mixed.
    fn check(&self, settings: &Settings, faults: &Faults) {
        let mut all = Kinds::default();
        let mut spans = false;
        for (index, pattern) in settings.events.iter().enumerate() {
            let kinds = Kinds::of(pattern);
            if kinds.are_mixed() {
                spans = true;
                let message = "must not span both organization and panel types under format pdk";
                faults.add(format!("events[{index}]"), message);
            }
            all = all.and(kinds);
        }
        if all.are_mixed() && !spans {
            faults.add("events", "must be either organization or panel types under format pdk, not both");
        }
    }

    fn check_event(&self, event: &Event) -> Result<(), String> {
        Shape::of(&event.event_type, event.source.is_some()).check(event.data.as_str())
    }

    fn catalog(&self) -> &'static str {
        include_str!("catalog/pdk.json")
    }
}

/// Keys whose values are PINs or credentials, wherever they stand.
const CREDENTIAL_KEYS: &[&str] = &[
    "pin",
    "pins",
    "pinCode",
    "duressPin",
    "card",
    "cards",
    "cardNumber",
    "cardData",
    "rawCard",
    "rawCardData",
    "facilityCode",
    "credential",
    "credentials",
    "bluetoothCredential",
    "mobileCredential",
    "password",
];

/// Keys whose values are people's names, wherever they stand.
const NAME_KEYS: &[&str] = &["firstName", "middleName", "lastName", "personName"];

/// What is removed from events at secrecy level 1 and 2 before anything is
/// configured. The vendor names the levels, not the keys: these are the names that
/// such values have in its API.
pub fn secrecy_rules() -> Vec<Rule> {
    let key =
        |level: u8| move |key: &&str| Rule { level, events: Pattern::All, target: Target::Key((*key).to_owned()) };
    let mut rules: Vec<Rule> = CREDENTIAL_KEYS.iter().map(key(1)).chain(NAME_KEYS.iter().map(key(2))).collect();
    let events = Pattern::Exact("permission.accepted".into());
    rules.push(Rule { level: 2, events, target: Target::Pointer("/name".to_owned()) });
    rules
}

/// Which kinds of events a pattern, or a list of them, can match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds {
    /// An organization's.
    pub organization: bool,
    /// A panel's.
    pub panel: bool,
}

impl Kinds {
    /// What a pattern can match. Below `ou.` and `permission.` there is nothing of
    /// panels, below `panel.` there is something of both.
    pub fn of(pattern: &Pattern) -> Kinds {
        let of_both = Kinds { organization: true, panel: true };
        let organization = match pattern {
            Pattern::All => return of_both,
            Pattern::Below(prefix) if prefix.as_ref() == "panel." => return of_both,
            Pattern::Below(prefix) => prefix.starts_with("ou.") || prefix.starts_with("permission."),
            Pattern::Exact(name) => ORGANIZATION_TYPES.contains(&name.as_ref()),
        };
        Kinds { organization, panel: !organization }
    }

    /// What either can match.
    pub fn and(self, other: Kinds) -> Kinds {
        Kinds { organization: self.organization || other.organization, panel: self.panel || other.panel }
    }

    /// Whether both kinds are there, which the format does not allow.
    pub fn are_mixed(self) -> bool {
        self.organization && self.panel
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_apart() {
        for (pattern, organization, panel) in [
            ("*", true, true),
            ("panel.*", true, true),
            ("ou.*", true, false),
            ("permission.*", true, false),
            ("door.*", false, true),
            ("panel.created", true, false),
            ("panel.connected", false, true),
            ("permission.accepted", true, false),
            ("door.request.allowed", false, true),
        ] {
            let parsed = Pattern::parse(pattern).expect("a pattern");
            assert_eq!(Kinds::of(&parsed), Kinds { organization, panel }, "{pattern}");
        }
    }
}
