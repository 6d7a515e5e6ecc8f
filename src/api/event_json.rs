//! Events in the API's JSON: what a publisher gives us, read with its `data` left
//! as its bytes, and what reads show, `data` byte for byte.

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::input::{Faults, Fields};
use crate::json::{Json, Level};
use crate::limits::NAME_CHARS_MAX;
use crate::model::{Event, Fault, OPERATIONAL_PREFIX};
use crate::pattern::is_event_type;
use crate::time::Timestamp;

use super::values::{id_field, line, required};

/// Fields that are shown and not read.
const READ_ONLY: &[&str] = &["id", "accepted_at", "deliveries"];

/// What a publisher says of an event; whose it is, is not decided yet.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) event_type: String,
    pub(super) organization: Option<String>,
    pub(super) source: Option<String>,
    pub(super) subject: Option<String>,
    pub(super) occurred_at: Option<Timestamp>,
    pub(super) event_id: Option<String>,
    pub(super) data: Json,
}

/// Reads one event, opened. Its `data` is copied out: a slice would keep the whole body
/// that it came in alive, which may be much larger.
pub(super) fn parse(event: Level<'_>) -> Result<Given, Vec<Fault>> {
    let Level::Object(members) = event else {
        return Err(vec![Fault::new("", "must be an object")]);
    };
    let faults = Faults::new();
    let mut data = None;
    let mut decoded = Map::with_capacity(members.len());
    for (name, value) in members {
        if decoded.contains_key(&*name) || (name == "data" && data.is_some()) {
            faults.add(name, "is given twice");
        } else if name == "data" {
            data = Some(Json::from_checked(Bytes::copy_from_slice(value.get().as_bytes())));
        } else {
            match serde_json::from_str::<Value>(value.get()) {
                Ok(value) => drop(decoded.insert(name.into_owned(), value)),
                Err(_) => faults.add(name, "cannot be decoded: it holds half a surrogate pair or too large a number"),
            }
        }
    }
    let fields = Fields::new("", &decoded, &faults);
    let event_type = required(&fields, "type", fields.string("type"));
    if let Some(event_type) = event_type {
        check_type(&fields, event_type);
    }
    let organization = id_field(&fields, "organization");
    let source = id_field(&fields, "source");
    let subject = line(&fields, "subject", 1, NAME_CHARS_MAX);
    let occurred_at = fields.timestamp("occurred_at");
    let event_id = line(&fields, "event_id", 1, NAME_CHARS_MAX);
    fields.ignore(&["data"]);
    fields.ignore(READ_ONLY);
    fields.finish();
    if data.is_none() {
        faults.add("data", "is required; null will do");
    }
    match (event_type, data) {
        (Some(event_type), Some(data)) if faults.is_empty() => {
            let event_type = event_type.to_owned();
            Ok(Given { event_type, organization, source, subject, occurred_at, event_id, data })
        }
        _ => Err(faults.into_vec()),
    }
}

fn check_type(fields: &Fields<'_>, event_type: &str) {
    if !is_event_type(event_type) {
        fields.fault("type", "must be an event type such as \"door.opened\"");
    } else if event_type.starts_with(OPERATIONAL_PREFIX) {
        fields.fault("type", "may not begin with \"posthaste.\": such events are Posthaste's own");
    }
}

/// An event as shown.
#[derive(Serialize)]
pub(super) struct Shown<'a> {
    id: String,
    #[serde(rename = "type")]
    event_type: &'a str,
    organization: &'a str,
    source: Option<&'a str>,
    subject: Option<&'a str>,
    occurred_at: String,
    accepted_at: String,
    event_id: Option<&'a str>,
    data: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    deliveries: Option<Vec<Value>>,
}

/// The event as shown, with its deliveries where there is room for them.
pub(super) fn show(event: &Event, deliveries: Option<Vec<Value>>) -> Shown<'_> {
    Shown {
        id: event.id.to_string(),
        event_type: &event.event_type,
        organization: &event.organization,
        source: event.source.as_deref(),
        subject: event.subject.as_deref(),
        occurred_at: event.occurred_at.to_string(),
        accepted_at: event.id.accepted_at().to_string(),
        event_id: event.event_id.as_deref(),
        data: raw(&event.data),
        deliveries,
    }
}

/// The value as it is spelled.
pub(super) fn raw(json: &Json) -> &RawValue {
    serde_json::from_slice(json.as_bytes()).unwrap_or(RawValue::NULL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Minter;
    use crate::json;
    use crate::model::Name;

    fn read(text: &str) -> Result<Given, Vec<Fault>> {
        parse(json::open(text.as_bytes()).expect("JSON"))
    }

    #[test]
    fn data_keeps_its_bytes_from_publishing_to_showing() {
        let data = r#"{"b": 1.0,  "a":1e3,"a":2, "n":123456789012345678901234567890}"#;
        let given = read(&format!(r#"{{"type":"door.opened","occurred_at":"2026-03-17T14:30:00Z","data": {data} }}"#))
            .expect("valid");
        assert_eq!(given.data.as_bytes(), data.as_bytes());
        let event = Event {
            id: Minter::after(None).mint(Timestamp::from_millis(1_000), 1),
            event_type: Name::from(given.event_type),
            organization: Name::from("acme"),
            source: None,
            subject: None,
            occurred_at: given.occurred_at.expect("a time"),
            event_id: None,
            data: given.data,
        };
        let shown = serde_json::to_string(&show(&event, None)).expect("JSON");
        assert!(shown.ends_with(&format!(r#""event_id":null,"data":{data}}}"#)), "{shown}");
        assert!(shown.contains(r#""accepted_at":"1970-01-01T00:00:01.000Z""#), "{shown}");
    }

    #[test]
    fn every_field_is_read() {
        let given = read(
            r#"{"type":"a.b","organization":"acme","source":"panel:1","subject":"käse","event_id":"x/1","data":null}"#,
        )
        .expect("valid");
        assert_eq!(given.organization.as_deref(), Some("acme"));
        assert_eq!(given.source.as_deref(), Some("panel:1"));
        assert_eq!(given.subject.as_deref(), Some("käse"));
        assert_eq!(given.event_id.as_deref(), Some("x/1"));
        assert!(given.data.is_null());
    }

    #[test]
    fn all_faults_are_told_at_once() {
        for (text, fields) in [
            ("[]", &[""][..]),
            ("{}", &["type", "data"]),
            (r#"{"type":"a..b","data":1}"#, &["type"]),
            (r#"{"type":"","data":1}"#, &["type"]),
            (r#"{"type":"posthaste.test","data":1}"#, &["type"]),
            (r#"{"type":"a","type":"a","data":1,"data":2}"#, &["type", "data"]),
            (r#"{"type":"a","data":1,"dat":2,"id":3,"deliveries":[]}"#, &["dat"]),
            (
                r#"{"type":1,"organization":"a b","source":"..","subject":"","occurred_at":"now","event_id":"\n"}"#,
                &["type", "organization", "source", "subject", "occurred_at", "event_id", "data"],
            ),
        ] {
            let faults = read(text).expect_err(text);
            assert_eq!(faults.iter().map(|fault| fault.field.as_str()).collect::<Vec<_>>(), fields, "{text}");
        }
    }
}
