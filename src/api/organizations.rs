//! Organizations: a tree that decides what a key reaches.

use serde_json::{Map, Value, json};

use crate::http::{self, Code, Problem, Response, StatusCode};
use crate::input::{Faults, Fields};
use crate::limits::NAME_CHARS_MAX;
use crate::model::{Fault, Name, Organization};
use crate::store::command::{Change, Changed};

use super::call::{Call, not_found, page, take_page};
use super::no_content;
use super::values::{id_fault, id_field, judged, line};

/// `GET /v1/organizations`: by id.
pub(super) async fn list(call: Call) -> Result<Response, Problem> {
    let after: Option<String> = call.query.cursor()?;
    let registry = call.registry();
    let reached = registry
        .organizations()
        .filter(|organization| after.as_deref().is_none_or(|after| *organization.id > *after))
        .filter(|organization| call.caller.reaches(&registry, &organization.id));
    let (rows, next) = take_page(reached, call.query.limit(), |organization| organization.id.to_string());
    Ok(page(rows.into_iter().map(show).collect(), next))
}

/// `GET /v1/organizations/{id}`
pub(super) async fn get(call: Call) -> Result<Response, Problem> {
    answer(&call, StatusCode::OK)
}

/// `PUT /v1/organizations/{id}`: the whole of it; without a `parent` it is a root.
pub(super) async fn put(call: Call) -> Result<Response, Problem> {
    let (name, parent) = read(call.id(), &call.object()?)?;
    let changed = call
        .change_as_seen(|| {
            let stood = may_put(&call, parent.as_ref())?;
            let (id, name, parent) = (Name::from(call.id()), name.clone(), parent.clone());
            Ok(Change::PutOrganization { id, name, parent, stood })
        })
        .await?;
    answer(&call, if matches!(changed, Changed::Created) { StatusCode::CREATED } else { StatusCode::OK })
}

/// A name and a parent.
fn read(id: &str, body: &Map<String, Value>) -> Result<(String, Option<Name>), Problem> {
    let faults = Faults::new();
    faults.extend(id_fault("id", id));
    let fields = Fields::new("", body, &faults);
    fields.ignore(&["id", "created_at", "updated_at"]);
    let name = line(&fields, "name", 0, NAME_CHARS_MAX).unwrap_or_default();
    let parent = id_field(&fields, "parent").map(Name::from);
    fields.finish();
    judged(faults, (name, parent))
}

/// Whether the caller may have the organization of the path below `parent`: one
/// that is there must be reached, and where it goes too. Only keys for all
/// organizations make roots. Answers where it stands now, if it is there.
fn may_put(call: &Call, parent: Option<&Name>) -> Result<Option<Option<Name>>, Problem> {
    let registry = call.registry();
    let stands = registry.organization(call.id()).map(|current| current.parent.clone());
    if let Some(current) = &stands {
        if !call.caller.reaches(&registry, call.id()) {
            return Err(not_found("organization"));
        }
        if current.as_ref() == parent {
            return Ok(stands);
        }
    }
    match parent {
        None if call.caller.reaches_all() => Ok(stands),
        None => Err(Problem::new(Code::Forbidden).detail("making a root needs a key for all organizations")),
        Some(parent) if registry.organization(parent).is_some() && call.caller.reaches(&registry, parent) => Ok(stands),
        Some(_) => Err(Problem::faults(vec![Fault::new("parent", "names an organization that does not exist")])),
    }
}

/// `DELETE /v1/organizations/{id}`
pub(super) async fn delete(call: Call) -> Result<Response, Problem> {
    if !call.reaches(call.id()) {
        return Err(not_found("organization"));
    }
    call.change(Change::DeleteOrganization { id: Name::from(call.id()) }).await?;
    Ok(no_content())
}

/// Makes `organization` as a root where it does not exist, as keys for all may.
pub(super) async fn make_first_named(call: &Call, organization: &Name) -> Result<(), Problem> {
    if call.registry().organization(organization).is_some() || !call.caller.reaches_all() {
        return Ok(());
    }
    call.change(Change::MakeOrganization { id: organization.clone() }).await?;
    Ok(())
}

fn answer(call: &Call, status: StatusCode) -> Result<Response, Problem> {
    let registry = call.registry();
    match registry.organization(call.id()) {
        Some(organization) if call.caller.reaches(&registry, call.id()) => Ok(http::json(status, &show(organization))),
        _ => Err(not_found("organization")),
    }
}

fn show(organization: &Organization) -> Value {
    json!({
        "id": organization.id.as_ref(),
        "name": organization.name,
        "parent": organization.parent.as_deref(),
        "created_at": organization.created_at.to_string(),
        "updated_at": organization.updated_at.to_string(),
    })
}
