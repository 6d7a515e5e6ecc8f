//! Organizations: a tree that decides what a key reaches.

use serde_json::{Map, Value, json};

use crate::config::parse_size;
use crate::http::{self, Code, Problem, Response, StatusCode};
use crate::input::{Faults, Fields};
use crate::limits::NAME_CHARS_MAX;
use crate::model::{Fault, Name, Organization};
use crate::registry::Registry;
use crate::store::command::{Change, Changed};

use super::call::{Call, not_found, page, take_page};
use super::no_content;
use super::values::{id_fault, id_field, judged, line};

/// `GET /v1/organizations`: by id.
pub(super) async fn list(call: Box<Call>) -> Result<Response, Problem> {
    let after: Option<String> = call.query.cursor()?;
    let registry = call.registry();
    let reached = registry
        .organizations()
        .filter(|organization| after.as_deref().is_none_or(|after| *organization.id > *after))
        .filter(|organization| call.caller.reaches(&registry, &organization.id));
    let (rows, next) = take_page(reached, call.query.limit(), |organization| organization.id.to_string());
    Ok(page(rows.into_iter().map(|it| show(&call, &registry, it)).collect(), next))
}

/// `GET /v1/organizations/{id}`
pub(super) async fn get(call: Box<Call>) -> Result<Response, Problem> {
    answer(&call, StatusCode::OK)
}

/// `PUT /v1/organizations/{id}`: the whole of it; without a `parent` it is a root.
pub(super) async fn put(call: Box<Call>) -> Result<Response, Problem> {
    let Given { name, parent, bytes_max } = read(call.id(), &call.object()?)?;
    let changed = call
        .change_as_seen(|| {
            let stood = may_put(&call, parent.as_ref())?;
            let bytes_max = share(&call, bytes_max)?;
            let (id, may_inherit) = (Name::from(call.id()), call.caller.reaches_all());
            let (name, parent) = (name.clone(), parent.clone());
            Ok(Change::PutOrganization { id, name, parent, bytes_max, stood, may_inherit })
        })
        .await?;
    answer(&call, if matches!(changed, Changed::Created) { StatusCode::CREATED } else { StatusCode::OK })
}

/// What is said of an organization.
pub(super) struct Given {
    pub(super) name: String,
    pub(super) parent: Option<Name>,
    /// Said or not, and then whether there is a share.
    pub(super) bytes_max: Option<Option<u64>>,
}

fn read(id: &str, body: &Map<String, Value>) -> Result<Given, Problem> {
    let faults = Faults::new();
    faults.extend(id_fault("id", id));
    let fields = Fields::new("", body, &faults);
    fields.ignore(&["id", "pending_bytes", "live_bytes", "managed_by", "created_at", "updated_at"]);
    let given = read_fields(&fields);
    fields.finish();
    judged(faults, given)
}

/// What may be said of an organization, wherever it is said.
pub(super) fn read_fields(fields: &Fields<'_>) -> Given {
    let name = line(fields, "name", 0, NAME_CHARS_MAX).unwrap_or_default();
    let parent = id_field(fields, "parent").map(Name::from);
    let bytes_max = read_share(fields);
    Given { name, parent, bytes_max }
}

/// `max_bytes`: a size or a number of bytes; `null` and, as in the configuration, 0: none.
fn read_share(fields: &Fields<'_>) -> Option<Option<u64>> {
    let bytes = match fields.raw("max_bytes")? {
        Value::Null => Some(0),
        Value::Number(number) => number.as_u64(),
        Value::String(text) => parse_size(text),
        _ => None,
    };
    if bytes.is_none() {
        fields.fault("max_bytes", "must be a size such as \"64 MiB\", a number of bytes, or null");
    }
    bytes.map(|bytes| Some(bytes).filter(|bytes| *bytes > 0))
}

/// The share that the organization gets. Only keys for all organizations change it,
/// or those that have one could widen it; others leave it as it is.
fn share(call: &Call, given: Option<Option<u64>>) -> Result<Option<u64>, Problem> {
    let current = call.registry().organization(call.id()).and_then(|organization| organization.bytes_max);
    if call.caller.reaches_all() {
        return Ok(given.flatten());
    }
    match given {
        Some(wanted) if wanted != current => {
            Err(Problem::new(Code::Forbidden).detail("changing max_bytes needs a key for all organizations"))
        }
        _ => Ok(current),
    }
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
pub(super) async fn delete(call: Box<Call>) -> Result<Response, Problem> {
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
        Some(organization) if call.caller.reaches(&registry, call.id()) => {
            Ok(http::json(status, &show(call, &registry, organization)))
        }
        _ => Err(not_found("organization")),
    }
}

fn show(call: &Call, registry: &Registry, organization: &Organization) -> Value {
    json!({
        "id": organization.id.as_ref(),
        "name": organization.name,
        "parent": organization.parent.as_deref(),
        "max_bytes": organization.bytes_max,
        "pending_bytes": call.state.store.pending_bytes(registry, &organization.id),
        "live_bytes": call.state.store.organization_bytes(&organization.id),
        "managed_by": organization.managed_by.as_str(),
        "created_at": organization.created_at.to_string(),
        "updated_at": organization.updated_at.to_string(),
    })
}
