//! Organizations, sources and event types: made, replaced and ended, by the API or by
//! files. Who may is asked by those who plan.

use serde_json::{Map, Value, json};

use crate::model::{DEFAULT_ORGANIZATION, EventType, ManagedBy, Name, Organization, Source};
use crate::registry::{Registry, TreeError};
use crate::store::command::{ChangeError, Changed};
use crate::time::Timestamp;

use super::{Plan, Row, is_in_a_scope};

fn tree_error(error: TreeError) -> ChangeError {
    match error {
        TreeError::UnknownParent => ChangeError::UnknownOrganization("parent"),
        TreeError::Cycle => ChangeError::Cycle,
        TreeError::TooDeep => ChangeError::TooDeep,
    }
}

/// `{field: [before, after]}` of the fields that differ.
fn differences(before: &Value, after: &Value) -> Value {
    let mut changes = Map::new();
    let empty = Map::new();
    let (before, after) = (before.as_object().unwrap_or(&empty), after.as_object().unwrap_or(&empty));
    for key in before.keys().chain(after.keys().filter(|key| !before.contains_key(*key))) {
        let pair = (before.get(key).unwrap_or(&Value::Null), after.get(key).unwrap_or(&Value::Null));
        if pair.0 != pair.1 {
            changes.insert(key.clone(), json!([pair.0, pair.1]));
        }
    }
    Value::Object(changes)
}

/// A plan for the API: what files own it leaves as it is.
pub(super) fn by_api(managed_by: ManagedBy, plan: Plan) -> Result<Plan, ChangeError> {
    match managed_by {
        ManagedBy::File if plan.is_needed() => Err(ChangeError::ManagedByFile),
        ManagedBy::File | ManagedBy::Api => Ok(plan),
    }
}

/// Shows who owns it, where that is not the API.
fn with_owner(mut shown: Value, managed_by: ManagedBy) -> Value {
    if managed_by == ManagedBy::File {
        shown["managed_by"] = json!(managed_by.as_str());
    }
    shown
}

/// Makes or replaces an organization. When it was made and changed is for here to say.
pub(in crate::store) fn put_organization(
    registry: &Registry,
    mut organization: Organization,
    now: Timestamp,
) -> Result<Plan, ChangeError> {
    if let Some(parent) = &organization.parent {
        registry.check_parent(&organization.id, parent).map_err(tree_error)?;
    }
    let show = |it: &Organization| {
        let shown = json!({"name": it.name, "parent": it.parent.as_deref(), "max_bytes": it.bytes_max});
        with_owner(shown, it.managed_by)
    };
    let existing = registry.organization(&organization.id);
    let changes = differences(&existing.map_or(Value::Null, show), &show(&organization));
    organization.created_at = existing.map_or(now, |existing| existing.created_at);
    organization.updated_at = now;
    let (changed, owner) = (created_or_updated(existing.is_some()), Some(organization.id.clone()));
    let object = organization.id.to_string();
    Ok(Plan::new(Row::Organization(organization), changed, "organization.put", object, owner, changes))
}

pub(in crate::store) fn delete_organization(registry: &Registry, id: Name) -> Result<Plan, ChangeError> {
    if &*id == DEFAULT_ORGANIZATION {
        return Err(ChangeError::DefaultOrganization);
    }
    if let Some(what) = registry.belongings(&id) {
        return Err(ChangeError::InUse(what));
    }
    let (object, owner) = (id.to_string(), Some(id.clone()));
    Ok(Plan::new(Row::NoOrganization(id), Changed::Deleted, "organization.delete", object, owner, json!({})))
}

/// Makes or replaces a source, as [`put_organization`] does. Whether scopes allow it
/// is for the caller to ask.
pub(in crate::store) fn put_source(
    registry: &Registry,
    mut source: Source,
    now: Timestamp,
) -> Result<Plan, ChangeError> {
    if registry.organization(&source.organization).is_none() {
        return Err(ChangeError::UnknownOrganization("organization"));
    }
    let show =
        |it: &Source| with_owner(json!({"name": it.name, "organization": it.organization.as_ref()}), it.managed_by);
    let existing = registry.source(&source.id);
    let changes = differences(&existing.map_or(Value::Null, show), &show(&source));
    source.created_at = existing.map_or(now, |existing| existing.created_at);
    source.updated_at = now;
    let changed = created_or_updated(existing.is_some());
    let (object, owner) = (source.id.to_string(), Some(source.organization.clone()));
    Ok(Plan::new(Row::Source(source), changed, "source.put", object, owner, changes))
}

pub(in crate::store) fn delete_source(registry: &Registry, source: &Source) -> Result<Plan, ChangeError> {
    if is_in_a_scope(registry, &source.id) {
        return Err(ChangeError::InUse("scopes of subscriptions"));
    }
    let (object, owner) = (source.id.to_string(), Some(source.organization.clone()));
    let row = Row::NoSource(source.id.clone());
    Ok(Plan::new(row, Changed::Deleted, "source.delete", object, owner, json!({})))
}

/// Makes or replaces an entry of the catalog, as [`put_organization`] does.
pub(in crate::store) fn put_event_type(
    registry: &Registry,
    mut event_type: EventType,
    now: Timestamp,
) -> Result<Plan, ChangeError> {
    let existing = registry.event_type(&event_type.name);
    if existing.is_some_and(|existing| existing.built_in) {
        return Err(ChangeError::BuiltIn);
    }
    let show = |it: &EventType| {
        let example = String::from_utf8_lossy(it.example.as_bytes());
        let shown =
            json!({"description": it.description, "category": it.category, "example": example, "fields": it.fields});
        with_owner(shown, it.managed_by)
    };
    let changes = differences(&existing.map_or(Value::Null, show), &show(&event_type));
    event_type.created_at = existing.map_or(now, |existing| existing.created_at);
    event_type.updated_at = now;
    let (changed, object) = (created_or_updated(existing.is_some()), event_type.name.to_string());
    Ok(Plan::new(Row::EventType(event_type), changed, "event_type.put", object, None, changes))
}

pub(in crate::store) fn delete_event_type(name: Name) -> Plan {
    let object = name.to_string();
    Plan::new(Row::NoEventType(name), Changed::Deleted, "event_type.delete", object, None, json!({}))
}

fn created_or_updated(was_there: bool) -> Changed {
    if was_there { Changed::Updated } else { Changed::Created }
}
