//! PDK's API of webhooks. Its organizations are ours, its panels are sources. A body
//! becomes the native one, whose rules then hold; [`NAMES`] are the names that differ.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::auth::Role;
use crate::dialect::pdk::Kinds;
use crate::http::{self, Method, Problem, Response, StatusCode};
use crate::id::Lane;
use crate::input::{Faults, Fields, kind};
use crate::model::{Authentication, Fault, Format, Name, Scope, Settings, Subscription};
use crate::pattern::Pattern;
use crate::secret::{MASK, Secret};
use crate::store::command::Change;

use super::super::call::{Call, not_found};
use super::super::quota::{Quota, within};
use super::super::route::Route;
use super::super::subscription_json::{Draft, Refusal, WantedSecret};
use super::super::{manage, no_content, no_store};

use super::{Vendor, found, is_https, listed, organization_of_path, parse_translated, route, shown, told};

/// See [`Vendor`].
pub(super) const VENDOR: Vendor =
    Vendor { name: "pdk", is_enabled: |options| options.pdk_enabled, routes, schemes: &[], present, finish: |_| {} };

const ALL: &str = "/pdk/api/ous/{organization}/hooks";
const ONE: &str = "/pdk/api/ous/{organization}/hooks/{id}";

/// The longest name.
const NAME_CHARS_MAX: usize = 70;

/// The vendor's limits of requests, for each key.
const REQUESTS: Quota = Quota { name: "pdk requests", requests_max: 35, window_secs: 1 };
const WRITES: Quota = Quota { name: "pdk writes", requests_max: 10, window_secs: 1 };

const READING: &[Quota] = &[REQUESTS];
const WRITING: &[Quota] = &[WRITES, REQUESTS];

/// The native names of fields, and the vendor's.
const NAMES: &[(&str, &str)] = &[
    ("status", "active"),
    ("tls.verify", "sslVerification"),
    ("secrecy_level", "secrecyLevel"),
    ("expires_at", "expiresAt"),
];

/// What a body that replaces a webhook must hold, beside what a new one must.
const REQUIRED_IN_PUT: &[&str] = &["active", "sslVerification", "secrecyLevel"];

fn routes() -> Vec<Route> {
    vec![
        route(Method::GET, ALL, Role::Read, &[], |call| Box::pin(within(READING, call, list))),
        route(Method::POST, ALL, Role::Manage, &[], |call| Box::pin(within(WRITING, call, create))),
        route(Method::GET, ONE, Role::Read, &[], |call| Box::pin(within(READING, call, get))),
        route(Method::PUT, ONE, Role::Manage, &[], |call| Box::pin(within(WRITING, call, put))),
        route(Method::DELETE, ONE, Role::Manage, &[], |call| Box::pin(within(WRITING, call, delete))),
    ]
}

async fn list(call: Box<Call>) -> Result<Response, Problem> {
    let organization = organization_of_path(&call)?;
    let hooks: Vec<Value> = listed(&call, &organization, Format::Pdk).iter().map(|it| hook(&call, it)).collect();
    Ok(answer(&call, &Value::from(hooks)))
}

async fn create(call: Box<Call>) -> Result<Response, Problem> {
    let organization = organization_of_path(&call)?;
    let body = call.object()?;
    let base = json!({"organization": *organization, "format": Format::Pdk.as_str()});
    let base = base.as_object().cloned().unwrap_or_default();
    let (draft, refusal) = read(&call, &body, base, None);
    let made = manage::create(&call, draft, refusal, None).await?;
    Ok(http::json(StatusCode::CREATED, &json!({"id": made.subscription.id.to_string()})))
}

async fn get(call: Box<Call>) -> Result<Response, Problem> {
    let organization = organization_of_path(&call)?;
    let subscription = hook_of_path(&call, &organization)?;
    Ok(answer(&call, &hook(&call, &subscription)))
}

/// Writes the whole of it.
async fn put(call: Box<Call>) -> Result<Response, Problem> {
    let organization = organization_of_path(&call)?;
    let body = call.object()?;
    let current = || hook_of_path(&call, &organization);
    let draft = |current: &Subscription| read(&call, &body, shown(current), Some(current));
    manage::update(&call, current, draft, true).await?;
    Ok(no_content())
}

async fn delete(call: Box<Call>) -> Result<Response, Problem> {
    let organization = organization_of_path(&call)?;
    let subscription = hook_of_path(&call, &organization)?;
    call.change(Change::DeleteSubscription { id: subscription.id }).await?;
    Ok(no_content())
}

/// The webhook of the path, by its id or its number.
fn hook_of_path(call: &Call, organization: &Name) -> Result<Arc<Subscription>, Problem> {
    let named = call.path.get(1).map_or("", String::as_str);
    let id = match named.parse().map(Lane) {
        Ok(number) => call.registry().lane(number).map(|numbered| numbered.id.to_string()),
        Err(_) => Some(named.to_owned()),
    };
    id.and_then(|id| found(call, organization, Format::Pdk, &id)).ok_or_else(|| not_found("webhook"))
}

/// What the body makes of `native`, which is what is there.
fn read(
    call: &Call,
    body: &Map<String, Value>,
    mut native: Map<String, Value>,
    previous: Option<&Subscription>,
) -> (Draft, Refusal) {
    let faults = Faults::new();
    let fields = Fields::new("", body, &faults);
    let more = if previous.is_some() { REQUIRED_IN_PUT } else { &[] };
    for name in ["name", "url", "scope", "authentication", "events"].iter().chain(more) {
        if fields.raw(name).is_none_or(Value::is_null) {
            fields.fault(name, "is required");
        }
    }
    if fields.string("name").is_some_and(|name| name.chars().count() > NAME_CHARS_MAX) {
        fields.fault("name", format!("must have at most {NAME_CHARS_MAX} characters"));
    }
    if fields.string("url").is_some_and(|url| !is_https(url)) {
        fields.fault("url", "must begin with https://");
    }
    for (name, theirs) in [
        ("name", "name"),
        ("url", "url"),
        ("events", "events"),
        ("secrecy_level", "secrecyLevel"),
        ("expires_at", "expiresAt"),
    ] {
        native.insert(name.to_owned(), body.get(theirs).cloned().unwrap_or_default());
    }
    native.insert("scope".to_owned(), read_scope(&fields));
    let stored = native.remove("authentication").unwrap_or_default();
    native.insert("authentication".to_owned(), read_authentication(&fields, stored));
    let mut tls = native.remove("tls").and_then(|tls| tls.as_object().cloned()).unwrap_or_default();
    tls.insert("verify".to_owned(), json!(fields.bool("sslVerification").unwrap_or(true)));
    native.insert("tls".to_owned(), Value::Object(tls));
    match fields.bool("active") {
        Some(true) => drop(native.insert("status".to_owned(), json!("enabled"))),
        // What its failures disabled stays what they made it.
        Some(false) if previous.is_none_or(Subscription::is_enabled) => {
            native.insert("status".to_owned(), json!("disabled"));
        }
        _ => {}
    }
    let secret = read_secret(&fields, previous);
    fields.ignore_others();
    let (draft, mut refusal) = parse_translated(&native, previous, faults, NAMES);
    let draft = Draft { secret, ..draft };
    refusal.add(check_events(call, &draft.settings, previous));
    (draft, refusal)
}

fn read_scope(fields: &Fields<'_>) -> Value {
    match fields.raw("scope") {
        Some(Value::String(text)) if text == "ou" => json!("own"),
        Some(Value::String(text)) if text == "ouRecursive" => json!("recursive"),
        Some(Value::Array(panels)) => json!(panels),
        None | Some(Value::Null) => Value::Null,
        Some(_) => {
            fields.fault("scope", "must be \"ou\", \"ouRecursive\" or a list of panel ids");
            Value::Null
        }
    }
}

/// In the native spelling. What only the native API can set is kept where it is
/// written as it is shown.
fn read_authentication(fields: &Fields<'_>, stored: Value) -> Value {
    let Some(inner) = fields.object("authentication") else { return Value::Null };
    let native = match inner.string("type") {
        Some("None") => json!({"type": "none"}),
        Some("Basic") => {
            let mut native = Map::new();
            native.insert("type".to_owned(), json!("basic"));
            for name in ["user", "password"] {
                native.extend(inner.raw(name).map(|value| (name.to_owned(), value.clone())));
            }
            Value::Object(native)
        }
        Some(other) if OTHERS.iter().any(|(ours, theirs)| *theirs == other && stored["type"] == *ours) => stored,
        Some(_) => {
            inner.fault("type", "must be None or Basic");
            Value::Null
        }
        None => {
            if inner.raw("type").is_none_or(Value::is_null) {
                inner.fault("type", "is required");
            }
            Value::Null
        }
    };
    inner.ignore_others();
    native
}

/// How authentication is shown that the vendor does not have.
const OTHERS: &[(&str, &str)] = &[("bearer", "Bearer"), ("oauth2", "OAuth2")];

/// A new webhook has the secret that it is given, or none. Written over another, an
/// absent one stays, and so does one that is written as it was read.
fn read_secret(fields: &Fields<'_>, previous: Option<&Subscription>) -> WantedSecret {
    let current = previous.and_then(|previous| previous.secrets.last());
    match fields.raw("secret") {
        None if previous.is_some() => WantedSecret::Unsaid,
        None | Some(Value::Null) => WantedSecret::Unsigned,
        Some(Value::String(text)) => {
            let given = Secret::new(text.clone());
            match current {
                Some(current) if given.is_mask() || given == current.secret => WantedSecret::Unsaid,
                None if given.is_mask() => {
                    fields.fault("secret", "must be given, because none is stored for \"***\" to stand for");
                    WantedSecret::Unsaid
                }
                _ => WantedSecret::Chosen(given),
            }
        }
        Some(other) => {
            fields.fault("secret", format!("must be a string, not {}", kind(other)));
            WantedSecret::Unsaid
        }
    }
}

/// Events must be the vendor's, or be in the catalog by somebody's hand; panels are
/// listed for panel events alone.
fn check_events(call: &Call, settings: &Settings, previous: Option<&Subscription>) -> Vec<Fault> {
    let mut faults = Vec::new();
    let registry = call.registry();
    for (index, pattern) in settings.events.iter().enumerate() {
        let Pattern::Exact(name) = pattern else { continue };
        let is_known =
            registry.event_type(name).is_some_and(|known| known.format.is_none_or(|format| format == Format::Pdk));
        let is_there = previous.is_some_and(|previous| previous.settings.events.contains(pattern));
        if !is_known && !is_there {
            faults.push(Fault::new(format!("events[{index}]"), format!("\"{name}\" is no event")));
        }
    }
    let is_of_organizations = settings.events.iter().any(|pattern| Kinds::of(pattern).organization);
    if matches!(settings.scope, Scope::Sources(_)) && is_of_organizations {
        faults.push(Fault::new("scope", "may list panels only for panel events"));
    }
    faults
}

/// The webhook as the vendor shows it. Secrets are for keys with that role.
fn hook(call: &Call, subscription: &Subscription) -> Value {
    let shows_secrets = call.caller.may(Role::Secrets);
    let secret = |secret: &Secret| if shows_secrets { secret.expose().to_owned() } else { MASK.to_owned() };
    let settings = &subscription.settings;
    json!({
        "id": subscription.id.to_string(),
        "name": settings.name,
        "url": settings.url,
        "scope": match &settings.scope {
            Scope::Own => json!("ou"),
            Scope::Recursive => json!("ouRecursive"),
            Scope::Sources(panels) => panels.iter().map(|panel| json!(**panel)).collect(),
        },
        "authentication": match &settings.authentication {
            Authentication::None => json!({"type": "None"}),
            Authentication::Basic { user, password } => {
                json!({"type": "Basic", "user": user, "password": secret(password)})
            }
            other => {
                let name = other.type_name();
                json!({"type": OTHERS.iter().find(|(ours, _)| *ours == name).map_or(name, |(_, theirs)| theirs)})
            }
        },
        "events": settings.events.iter().map(Pattern::to_string).collect::<Vec<_>>(),
        "active": subscription.is_enabled(),
        "sslVerification": settings.tls.verify,
        "secrecyLevel": settings.secrecy_level,
        "expiresAt": settings.expires_at.map(|at| at.to_string()),
        "userId": subscription.created_by,
        "odometer": call.state.store.stats(subscription.number).odometer,
        "secret": subscription.secrets.last().map(|current| secret(&current.secret)),
    })
}

/// What is shown to who may see secrets is kept by no cache.
fn answer(call: &Call, shown: &Value) -> Response {
    let response = http::json(StatusCode::OK, shown);
    if call.caller.may(Role::Secrets) { no_store(response) } else { response }
}

/// Faults of the input are 400, whatever they are natively.
fn present(problem: &Problem) -> Response {
    let status = match problem.code().status() {
        409 | 412 | 422 => StatusCode::BAD_REQUEST,
        other => StatusCode::from_u16(other).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
    };
    problem.told_as(status, &json!({"message": told(problem, NAMES)}))
}
