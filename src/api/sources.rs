//! Sources: the panels, cloud nodes and devices that events come from.

use serde_json::{Map, Value, json};

use crate::http::{self, Problem, Response, StatusCode};
use crate::input::{Faults, Fields};
use crate::limits::NAME_CHARS_MAX;
use crate::model::{DEFAULT_ORGANIZATION, Fault, Name, Source};
use crate::store::command::{Change, Changed};

use super::call::{Call, not_found, page, take_page};
use super::values::{id_fault, id_field, judged, line};
use super::{no_content, organizations};

/// `GET /v1/sources`: by id.
pub(super) async fn list(call: Box<Call>) -> Result<Response, Problem> {
    let after: Option<String> = call.query.cursor()?;
    let wanted = call.query.get("organization");
    let registry = call.registry();
    let reached = registry
        .sources()
        .filter(|source| after.as_deref().is_none_or(|after| *source.id > *after))
        .filter(|source| wanted.is_none_or(|wanted| *source.organization == *wanted))
        .filter(|source| call.caller.reaches(&registry, &source.organization));
    let (rows, next) = take_page(reached, call.query.limit(), |source| source.id.to_string());
    Ok(page(rows.into_iter().map(show).collect(), next))
}

/// `GET /v1/sources/{id}`
pub(super) async fn get(call: Box<Call>) -> Result<Response, Problem> {
    answer(&call, StatusCode::OK)
}

/// `PUT /v1/sources/{id}`: the whole of it; its organization stays where none is named.
pub(super) async fn put(call: Box<Call>) -> Result<Response, Problem> {
    let (name, organization) = read(call.id(), &call.object()?)?;
    let (_, wanted) = owners(&call, organization.as_ref())?;
    if *wanted == *DEFAULT_ORGANIZATION {
        organizations::make_first_named(&call, &wanted).await?;
    }
    let changed = call
        .change_as_seen(|| {
            let (owner, organization) = owners(&call, organization.as_ref())?;
            Ok(Change::PutSource { id: Name::from(call.id()), name: name.clone(), organization, owner })
        })
        .await?;
    answer(&call, if matches!(changed, Changed::Created) { StatusCode::CREATED } else { StatusCode::OK })
}

/// A name and an organization.
fn read(id: &str, body: &Map<String, Value>) -> Result<(String, Option<Name>), Problem> {
    let faults = Faults::new();
    faults.extend(id_fault("id", id));
    let fields = Fields::new("", body, &faults);
    fields.ignore(&["id", "managed_by", "created_at", "updated_at"]);
    let given = read_fields(&fields);
    fields.finish();
    judged(faults, given)
}

/// What may be said of a source, wherever it is said: a name and an organization.
pub(super) fn read_fields(fields: &Fields<'_>) -> (String, Option<Name>) {
    let name = line(fields, "name", 0, NAME_CHARS_MAX).unwrap_or_default();
    (name, id_field(fields, "organization").map(Name::from))
}

/// Whose the source of the path is, if it is there, and whose it is to be. One that is
/// there must be reached; the organization must be too, else it is as if it did not exist.
fn owners(call: &Call, wanted: Option<&Name>) -> Result<(Option<Name>, Name), Problem> {
    let registry = call.registry();
    let current = registry.source(call.id()).map(|source| source.organization.clone());
    if current.as_ref().is_some_and(|current| !call.caller.reaches(&registry, current)) {
        return Err(not_found("source"));
    }
    let owner = wanted.or(current.as_ref()).cloned().unwrap_or_else(|| Name::from(DEFAULT_ORGANIZATION));
    if call.caller.reaches(&registry, &owner) {
        return Ok((current, owner));
    }
    Err(Problem::faults(vec![Fault::new("organization", "names an organization that does not exist")]))
}

/// `DELETE /v1/sources/{id}`
pub(super) async fn delete(call: Box<Call>) -> Result<Response, Problem> {
    reached(&call)?;
    call.change(Change::DeleteSource { id: Name::from(call.id()) }).await?;
    Ok(no_content())
}

/// The source of the path as shown, where the caller reaches it.
fn reached(call: &Call) -> Result<Value, Problem> {
    let registry = call.registry();
    match registry.source(call.id()) {
        Some(source) if call.caller.reaches(&registry, &source.organization) => Ok(show(source)),
        _ => Err(not_found("source")),
    }
}

fn answer(call: &Call, status: StatusCode) -> Result<Response, Problem> {
    Ok(http::json(status, &reached(call)?))
}

fn show(source: &Source) -> Value {
    json!({
        "id": source.id.as_ref(),
        "name": source.name,
        "organization": source.organization.as_ref(),
        "managed_by": source.managed_by.as_str(),
        "created_at": source.created_at.to_string(),
        "updated_at": source.updated_at.to_string(),
    })
}
