//! What files declare, in the API's own fields: [`read`], by the same rules as bodies
//! of requests, and the plan of putting it in force.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::config::declared::{DeclarationErrors, Declarations};
use crate::dialect;
use crate::http::{self, Problem, Response, StatusCode};
use crate::id::SubscriptionId;
use crate::input::{Faults, Fields};
use crate::model::validate::{self, Surroundings};
use crate::model::{DEFAULT_ORGANIZATION, EventType, Fault, ManagedBy, Name, Organization, Source};
use crate::store::command::{Declared, DeclaredSecret, DeclaredStep, DeclaredSubscription};
use crate::time::Timestamp;

use super::call::{Call, random};
use super::subscription_json::{READ_ONLY, WantedSecret, check_new_secret, parse};
use super::values::id_fault;
use super::{event_types, organizations, sources};

/// `POST /v1/declarations/plan`: what would change if files declared this. Changes nothing.
pub(super) async fn plan(call: Box<Call>) -> Result<Response, Problem> {
    let allow_http = call.state.config.current().delivery.allow_http;
    let declared = read(&call.object()?, call.now(), allow_http).map_err(Problem::faults)?;
    let steps = call.state.store.plan_declared(&declared).map_err(Problem::faults)?;
    let show = |step: &DeclaredStep| json!({"action": step.action, "object": step.object, "changes": step.changes});
    Ok(http::json(StatusCode::OK, &json!({"steps": steps.iter().map(show).collect::<Vec<Value>>()})))
}

/// Reads what the files of `folder` declare; see [`read`].
///
/// # Errors
/// With everything that is wrong with them, file by file and line by line.
pub fn read_folder(
    folder: &Path,
    now: Timestamp,
    allow_http: bool,
) -> Result<(Declarations, Declared), DeclarationErrors> {
    let declarations = Declarations::read(folder);
    let declared = declarations.judged(read(&declarations.tree, now, allow_http))?;
    Ok((declarations, declared))
}

/// Reads what is declared, kind by kind, key by key. `allow_http` is of the
/// configuration that it is to be put in force with.
///
/// # Errors
/// With everything that is wrong, whatever is there already.
pub fn read(tree: &Map<String, Value>, now: Timestamp, allow_http: bool) -> Result<Declared, Vec<Fault>> {
    let faults = Faults::new();
    let fields = Fields::new("", tree, &faults);
    let of_kind = |name| objects(&fields, name);
    let (at, managed_by) = (Timestamp::ZERO, ManagedBy::File);
    let organizations = of_kind("organizations").into_iter().map(|(id, fields)| {
        faults.extend(id_fault(&fields.path(""), id).map(trimmed));
        let organizations::Given { name, parent, bytes_max } = organizations::read_fields(&fields);
        fields.finish();
        let (id, bytes_max) = (Name::from(id), bytes_max.flatten());
        Organization { id, name, parent, bytes_max, managed_by, created_at: at, updated_at: at }
    });
    let organizations = organizations.collect();
    let sources = of_kind("sources").into_iter().map(|(id, fields)| {
        faults.extend(id_fault(&fields.path(""), id).map(trimmed));
        let (name, organization) = sources::read_fields(&fields);
        fields.finish();
        let organization = organization.unwrap_or_else(|| Name::from(DEFAULT_ORGANIZATION));
        Source { id: Name::from(id), name, organization, managed_by, created_at: at, updated_at: at }
    });
    let sources = sources.collect();
    let event_types = of_kind("event_types").into_iter().map(|(name, fields)| {
        faults.extend(event_types::name_fault(&fields.path(""), name).map(trimmed));
        let event_types::Given { description, category, example, fields: known } = event_types::read_fields(&fields);
        fields.finish();
        EventType {
            name: Name::from(name),
            description,
            category,
            example,
            fields: known,
            format: None,
            built_in: false,
            managed_by,
            created_at: at,
            updated_at: at,
        }
    });
    let event_types = event_types.collect();
    let mut subscriptions = Vec::new();
    for (key, body) in of_kind("subscriptions") {
        let path = body.path("");
        body.ignore_others();
        faults.extend(id_fault(&path, key).map(trimmed));
        let Some(Value::Object(body)) = tree.get("subscriptions").and_then(|kind| kind.get(key)) else { continue };
        match subscription(key, body, now, allow_http) {
            Ok(subscription) => subscriptions.push(subscription),
            Err(found) => faults.extend(
                found.into_iter().map(|fault| trimmed(Fault::new(format!("{path}{}", fault.field), fault.message))),
            ),
        }
    }
    fields.finish();
    if !faults.is_empty() {
        return Err(faults.into_vec());
    }
    Ok(Declared { allow_http, organizations, sources, event_types, subscriptions })
}

/// Of one kind, each by its key.
fn objects<'a>(fields: &Fields<'a>, name: &'static str) -> Vec<(&'a str, Fields<'a>)> {
    let mut objects = Vec::new();
    for (key, value) in fields.map(name).into_iter().flatten() {
        let path = format!("{}.{key}", fields.path(name));
        match value.as_object() {
            Some(map) => objects.push((key.as_str(), Fields::new(path, map, fields.faults()))),
            None => fields.faults().add(path, "must be an object"),
        }
    }
    objects
}

/// A fault of a whole object, whose field ends with a dot.
fn trimmed(fault: Fault) -> Fault {
    Fault { field: fault.field.trim_end_matches('.').to_owned(), ..fault }
}

fn subscription(
    key: &str,
    body: &Map<String, Value>,
    now: Timestamp,
    allow_http: bool,
) -> Result<DeclaredSubscription, Vec<Fault>> {
    let (draft, mut refusal) = parse(body, None);
    let dialect = dialect::find(draft.settings.format);
    let read_only = READ_ONLY.iter().filter(|name| body.contains_key(**name));
    refusal.add(read_only.map(|name| Fault::new(*name, "cannot be declared")).collect());
    refusal.add(check_new_secret(&draft.secret, dialect).into_iter().collect());
    let is_unsigned = matches!(draft.secret, WantedSecret::Unsigned);
    let surroundings = Surroundings { now, allow_http, known_fields: None };
    let mut found = validate::check(&draft.settings, is_unsigned, &surroundings);
    // It passes while the file stays as it is.
    found.retain(|fault| fault.field != "expires_at");
    refusal.add(found);
    refusal.into_faults()?;
    let no_chance = |_| vec![Fault::new("", "cannot be made: the system gives no randomness")];
    let secret = match draft.secret {
        WantedSecret::Unsaid => DeclaredSecret::Generated(dialect.generate_secret(&random().map_err(no_chance)?)),
        WantedSecret::Unsigned => DeclaredSecret::Unsigned,
        WantedSecret::Chosen(secret) => DeclaredSecret::Chosen(secret),
    };
    let id = SubscriptionId::new(now, random().map_err(no_chance)?);
    Ok(DeclaredSubscription { key: Name::from(key), id, settings: draft.settings, secret, status: draft.status })
}
