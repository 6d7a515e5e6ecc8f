//! The catalog of event types: what events mean, what they look like. It serves
//! all organizations, so only keys for all change it.

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::dialect;
use crate::http::{self, Problem, Response, StatusCode};
use crate::input::{Faults, Fields};
use crate::json::Json;
use crate::limits::{DESCRIPTION_CHARS_MAX, EVENT_TYPE_FIELDS_MAX, NAME_CHARS_MAX};
use crate::model::{EventType, Fault, Format, Name, OPERATIONAL_PREFIX};
use crate::pattern::is_event_type;
use crate::store::command::{Change, Changed};

use super::call::{Call, not_found, page, take_page};
use super::event_json::raw;
use super::no_content;
use super::values::{judged, line};

/// An entry as shown; the example in its own spelling.
#[derive(Serialize)]
struct Shown<'a> {
    name: &'a str,
    description: &'a str,
    category: &'a str,
    example: &'a RawValue,
    fields: Option<&'a [String]>,
    /// The format's own placeholders, beside the fields.
    placeholders: &'static [&'static str],
    format: Option<&'static str>,
    built_in: bool,
    managed_by: &'static str,
    created_at: Option<String>,
    updated_at: Option<String>,
}

/// `GET /v1/event-types`: by name.
pub(super) async fn list(call: Box<Call>) -> Result<Response, Problem> {
    let after: Option<String> = call.query.cursor()?;
    let registry = call.registry();
    let wanted = call.query.get("format");
    let is_listed = |entry: &&EventType| {
        after.as_deref().is_none_or(|after| *entry.name > *after)
            && wanted.is_none_or(|wanted| entry.format.map_or("none", Format::as_str) == wanted)
    };
    let entries = registry.event_types().filter(is_listed);
    let (rows, next) = take_page(entries, call.query.limit(), |entry| entry.name.to_string());
    Ok(page(rows.into_iter().map(show).collect(), next))
}

/// `GET /v1/event-types/{name}`
pub(super) async fn get(call: Box<Call>) -> Result<Response, Problem> {
    answer(&call, StatusCode::OK)
}

/// `PUT /v1/event-types/{name}`: the whole of it.
pub(super) async fn put(call: Box<Call>) -> Result<Response, Problem> {
    let changed = call.change(read(call.id(), &call.object()?)?).await?;
    answer(&call, if matches!(changed, Changed::Created) { StatusCode::CREATED } else { StatusCode::OK })
}

/// The entry `name` as the body has it.
fn read(name: &str, body: &Map<String, Value>) -> Result<Change, Problem> {
    let faults = Faults::new();
    faults.extend(name_fault("name", name));
    let fields = Fields::new("", body, &faults);
    fields.ignore(&["name", "placeholders", "format", "built_in", "managed_by", "created_at", "updated_at"]);
    let Given { description, category, example, fields: known } = read_fields(&fields);
    fields.finish();
    let name = Name::from(name);
    judged(faults, Change::PutEventType { name, description, category, example, fields: known })
}

/// What is wrong with the name of an entry.
pub(super) fn name_fault(field: &str, name: &str) -> Option<Fault> {
    let message = "must be an event type such as \"door.opened\", not one of Posthaste's own";
    (!is_event_type(name) || name.starts_with(OPERATIONAL_PREFIX)).then(|| Fault::new(field, message))
}

/// What is said of an entry of the catalog.
pub(super) struct Given {
    pub(super) description: String,
    pub(super) category: String,
    pub(super) example: Json,
    pub(super) fields: Option<Vec<String>>,
}

/// What may be said of an entry, wherever it is said.
pub(super) fn read_fields(fields: &Fields<'_>) -> Given {
    Given {
        description: text(fields, "description", DESCRIPTION_CHARS_MAX),
        category: line(fields, "category", 0, NAME_CHARS_MAX).unwrap_or_default(),
        example: fields.raw("example").map_or(Json::NULL, Json::from),
        fields: known_fields(fields),
    }
}

/// Names of the data's members, as placeholders have them: dotted paths, each once.
fn known_fields(fields: &Fields<'_>) -> Option<Vec<String>> {
    let names = fields.strings("fields")?;
    if names.len() > EVENT_TYPE_FIELDS_MAX {
        fields.fault("fields", format!("may have at most {EVENT_TYPE_FIELDS_MAX} names"));
    }
    for (index, name) in names.iter().enumerate() {
        let Some(name) = name else { continue };
        let path = format!("fields[{index}]");
        let is_step = |step: &str| !step.is_empty() && !step.contains(|c: char| c.is_control() || "{}[]".contains(c));
        if name.chars().count() > NAME_CHARS_MAX || !name.split('.').all(is_step) {
            let message =
                format!("must be a dotted path such as \"user.name\", of at most {NAME_CHARS_MAX} characters");
            fields.fault(&path, message);
        } else if names[..index].contains(&Some(name)) {
            fields.fault(&path, format!("must not repeat \"{name}\""));
        }
    }
    Some(names.into_iter().flatten().map(str::to_owned).collect())
}

/// A text of several lines.
fn text(fields: &Fields<'_>, name: &'static str, chars_max: usize) -> String {
    let text = fields.string(name).unwrap_or_default();
    if text.chars().count() > chars_max {
        fields.fault(name, format!("may have at most {chars_max} characters"));
    }
    text.to_owned()
}

/// `DELETE /v1/event-types/{name}`
pub(super) async fn delete(call: Box<Call>) -> Result<Response, Problem> {
    call.change(Change::DeleteEventType { name: Name::from(call.id()) }).await?;
    Ok(no_content())
}

fn answer(call: &Call, status: StatusCode) -> Result<Response, Problem> {
    match call.registry().event_type(call.id()) {
        Some(entry) => Ok(http::json(status, &show(entry))),
        None => Err(not_found("event type")),
    }
}

fn show(entry: &EventType) -> Shown<'_> {
    Shown {
        name: &entry.name,
        description: &entry.description,
        category: &entry.category,
        example: raw(&entry.example),
        fields: entry.fields.as_deref(),
        placeholders: entry.format.map(|format| dialect::find(format).placeholders()).unwrap_or_default(),
        format: entry.format.map(Format::as_str),
        built_in: entry.built_in,
        managed_by: entry.managed_by.as_str(),
        created_at: (!entry.built_in).then(|| entry.created_at.to_string()),
        updated_at: (!entry.built_in).then(|| entry.updated_at.to_string()),
    }
}
