//! FerrisKey's API of webhooks. A realm is an organization. The vendor's webhooks
//! have neither status nor secret: those are the native API's.

use serde_json::{Map, Value, json};

use crate::auth::Role;
use crate::dialect::ferriskey::webhook;
use crate::http::{self, Code, Method, Problem, Response, StatusCode};
use crate::input::{Faults, Fields};
use crate::limits::NAME_CHARS_MAX;
use crate::model::{Fault, Format, Name, Settings, Subscription};
use crate::pattern::Pattern;
use crate::secret::{MASK, Secret, is_credential};
use crate::store::command::Change;

use super::super::call::{Call, not_found};
use super::super::manage;
use super::super::route::Route;
use super::super::subscription_json::{Draft, Keeper, Refusal, WantedSecret};
use super::{Vendor, found, is_https, listed, moves_credentials, organization_of_path, route};

/// See [`Vendor`].
pub(super) const VENDOR: Vendor = Vendor {
    name: "ferriskey",
    is_enabled: |options| options.ferriskey_enabled,
    routes,
    schemes: &[],
    present,
    finish: |_| {},
};

const ALL: &str = "/ferriskey/realms/{realm}/webhooks";
const ONE: &str = "/ferriskey/realms/{realm}/webhooks/{id}";

fn routes() -> Vec<Route> {
    vec![
        route(Method::GET, ALL, Role::Read, &[], |call| Box::pin(list(call))),
        route(Method::POST, ALL, Role::Manage, &[], |call| Box::pin(create(call))),
        route(Method::GET, ONE, Role::Read, &[], |call| Box::pin(get(call))),
        route(Method::PUT, ONE, Role::Manage, &[], |call| Box::pin(put(call))),
        route(Method::DELETE, ONE, Role::Manage, &[], |call| Box::pin(delete(call))),
    ]
}

async fn list(call: Box<Call>) -> Result<Response, Problem> {
    let realm = organization_of_path(&call)?;
    let shown: Vec<Value> = listed(&call, &realm, Format::Ferriskey).iter().map(|it| show(&call, it)).collect();
    Ok(http::json(StatusCode::OK, &json!({"data": shown})))
}

/// Answers 200, as the vendor does.
async fn create(call: Box<Call>) -> Result<Response, Problem> {
    let realm = organization_of_path(&call)?;
    let (draft, mut refusal) =
        read(&call, &call.object()?, Settings::new(realm, String::new(), Format::Ferriskey), None);
    if draft.settings.events.is_empty() {
        refusal.add(vec![Fault::new("subscribers", "must have at least one trigger")]);
    }
    let made = manage::create(&call, draft, refusal, None).await?;
    Ok(http::json(StatusCode::OK, &json!({"data": show(&call, &made.subscription)})))
}

/// Answers `null` where there is none, as the vendor does.
async fn get(call: Box<Call>) -> Result<Response, Problem> {
    let realm = organization_of_path(&call)?;
    let found = found(&call, &realm, Format::Ferriskey, &call.path[1]);
    Ok(http::json(StatusCode::OK, &found.map(|it| show(&call, &it))))
}

/// Writes the whole of it; `subscribers` may be empty.
async fn put(call: Box<Call>) -> Result<Response, Problem> {
    let realm = organization_of_path(&call)?;
    let body = call.object()?;
    let current = || found(&call, &realm, Format::Ferriskey, &call.path[1]).ok_or_else(|| not_found("webhook"));
    let draft = |current: &Subscription| read(&call, &body, current.settings.clone(), Some(current));
    let written = manage::update(&call, current, draft, true).await?;
    Ok(http::json(StatusCode::OK, &json!({"data": show(&call, &written)})))
}

async fn delete(call: Box<Call>) -> Result<Response, Problem> {
    let realm: Name = organization_of_path(&call)?;
    let found = found(&call, &realm, Format::Ferriskey, &call.path[1]).ok_or_else(|| not_found("webhook"))?;
    call.change(Change::DeleteSubscription { id: found.id }).await?;
    Ok(http::json(StatusCode::OK, &json!({"message": "", "realm_name": *realm})))
}

/// What the body makes of `base`: what it leaves out is empty.
fn read(call: &Call, body: &Map<String, Value>, base: Settings, previous: Option<&Subscription>) -> (Draft, Refusal) {
    let faults = Faults::new();
    let fields = Fields::new("", body, &faults);
    // Faults have the native names, so that those that follow from them are not told too.
    let text = |name, native: &str| {
        let text = fields.string(name).unwrap_or_default();
        if text.chars().count() > NAME_CHARS_MAX {
            faults.add(native, format!("must have at most {NAME_CHARS_MAX} characters"));
        }
        text.to_owned()
    };
    let url = text("endpoint", "url");
    if url.is_empty() {
        faults.add("url", "must not be empty");
    } else if !is_https(&url) {
        faults.add("url", "must begin with https://");
    } else if previous.is_some_and(|previous| moves_credentials(&previous.settings, &url, true)) {
        faults.add("url", "leads elsewhere, and credentials were set for where it led: change it by /v1");
    }
    let previous = previous.map(|previous| &previous.settings);
    let mut keeper = Keeper::new(previous, &url);
    let headers = fields.string_map("headers").unwrap_or_default().into_iter().map(|(name, value)| {
        let stored = previous.and_then(|previous| previous.headers.iter().find(|(known, _)| *known == name));
        let stored = stored.map(|(_, value)| Secret::new(value.clone()));
        let value = keeper.keep_for_url(format!("headers.{name}"), &value, stored.as_ref());
        (name, value.expose().to_owned())
    });
    let headers = headers.collect();
    let (name, description) = (text("name", "name"), text("description", "description"));
    let events = read_subscribers(call, &fields);
    fields.ignore_others();
    let refused = keeper.into_refused();
    let settings = Settings { name, description, url: url.clone(), headers, events, ..base };
    let draft = Draft { settings, secret: WantedSecret::Unsaid, status: None };
    (draft, Refusal::new(faults.into_vec(), refused))
}

/// The triggers: the vendor's, and those that somebody put into the catalog.
fn read_subscribers(call: &Call, fields: &Fields<'_>) -> Vec<Pattern> {
    let Some(names) = fields.strings("subscribers") else {
        if !fields.has("subscribers") {
            fields.fault("subscribers", "must be a list of triggers");
        }
        return Vec::new();
    };
    let registry = call.registry();
    let mut events = Vec::with_capacity(names.len());
    for (index, name) in names.into_iter().enumerate() {
        let Some(name) = name else { continue };
        let known = registry.event_type(name).filter(|known| known.format.is_none_or(|it| it == Format::Ferriskey));
        match known {
            Some(known) => events.push(Pattern::Exact(known.name.clone())),
            None => fields.fault(&format!("subscribers[{index}]"), format!("\"{name}\" is no trigger")),
        }
    }
    events
}

fn show(call: &Call, subscription: &Subscription) -> Value {
    let hides_all = call.state.config.current().dialects.ferriskey_hides_headers;
    let may_see = call.caller.may(Role::Secrets);
    let shown = |(name, value): &(String, String)| {
        let is_hidden = hides_all || !may_see && is_credential(name, value);
        (name.clone(), json!(if is_hidden { MASK } else { value }))
    };
    let headers = subscription.settings.headers.iter().map(shown).collect();
    webhook(subscription, call.state.store.stats(subscription.number).last_triggered_at, Some(headers))
}

/// The vendor's name of a native field.
fn field(native: &str) -> String {
    for (ours, theirs) in [("url", "endpoint"), ("events", "subscribers")] {
        if let Some(rest) = native.strip_prefix(ours)
            && (rest.is_empty() || rest.starts_with(['[', '.']))
        {
            return format!("{theirs}{rest}");
        }
    }
    native.to_owned()
}

fn present(problem: &Problem) -> Response {
    let (status, code) = match problem.code() {
        Code::VerificationFailed => {
            let errors = json!({"errors": [{"message": problem.message(), "field": "endpoint"}]});
            return problem.told_as(StatusCode::UNPROCESSABLE_ENTITY, &errors);
        }
        _ if !problem.field_errors().is_empty() => {
            let told = |fault: &Fault| json!({"message": fault.message, "field": field(&fault.field)});
            let errors: Vec<Value> = problem.field_errors().iter().map(told).collect();
            return problem.told_as(StatusCode::UNPROCESSABLE_ENTITY, &json!({"errors": errors}));
        }
        code => (code.status(), code.name()),
    };
    let code = match status {
        400 => "E_BAD_REQUEST".to_owned(),
        401 => "E_UNAUTHORIZED".to_owned(),
        403 => "E_FORBIDDEN".to_owned(),
        404 => "E_NOT_FOUND".to_owned(),
        409 => "E_CONFLICT".to_owned(),
        500 => "E_INTERNAL_SERVER_ERROR".to_owned(),
        _ => format!("E_{}", code.to_ascii_uppercase()),
    };
    let body = json!({"code": code, "status": status, "message": problem.message()});
    problem.told_as(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), &body)
}
