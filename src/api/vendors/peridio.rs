//! Peridio's API of webhooks. Resource names name the organization; where there is
//! none, it is the key's only one, or the configured one. What the vendor has no word
//! for (headers, filters, …) is the native API's, and stays as it is.

mod search;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::auth::Role;
use crate::dialect::NameSpelling;
use crate::dialect::peridio::{
    event_json, organization_prn, read_organization_prn, read_webhook_prn, spell, webhook_prn,
};
use crate::http::{self, Code, HeaderName, Method, Problem, RequestIdAlso, Response, StatusCode};
use crate::input::{Faults, Fields};
use crate::limits::{PERIDIO_PAGE_DEFAULT, PERIDIO_PAGE_MAX, ROTATION_OVERLAP_MAX};
use crate::model::{Fault, Format, Name, Settings, Status, Subscription};
use crate::pattern::Pattern;
use crate::store::command::Change;

use super::super::call::{Call, not_found, take_page};
use super::super::route::{Kind, Parameter, Route};
use super::super::subscription_json::{Draft, Refusal, WantedSecret};
use super::super::values::{judged, required};
use super::super::{manage, no_content, no_store, trial};
use super::{Vendor, found, is_https, listed, moves_credentials, organization_of_call, route};

use search::Search;

/// See [`Vendor`].
pub(super) const VENDOR: Vendor = Vendor {
    name: "peridio",
    is_enabled: |options| options.peridio.enabled,
    routes,
    schemes: &["token"],
    present,
    finish: |response| {
        response.extensions_mut().insert(RequestIdAlso(HeaderName::from_static("peridio-request-id")));
    },
};

const ALL: &str = "/peridio/webhooks";
const ONE: &str = "/peridio/webhooks/{prn}";
const ROLL_SECRET: &str = "/peridio/webhooks/{prn}/roll_secret";
const TEST_FIRE: &str = "/peridio/webhooks/{prn}/test_fire";

const PAGING: &[Parameter] = &[
    Parameter { name: "limit", kind: Kind::Text, description: "" },
    Parameter { name: "order", kind: Kind::Choice(|| "asc, desc".to_owned()), description: "" },
    Parameter { name: "page", kind: Kind::Text, description: "" },
    Parameter { name: "search", kind: Kind::Text, description: "" },
];

fn routes() -> Vec<Route> {
    vec![
        route(Method::GET, ALL, Role::Read, PAGING, |call| Box::pin(list(call))),
        route(Method::POST, ALL, Role::Manage, &[], |call| Box::pin(create(call))),
        route(Method::GET, ONE, Role::Read, &[], |call| Box::pin(get(call))),
        route(Method::PATCH, ONE, Role::Manage, &[], |call| Box::pin(patch(call))),
        route(Method::DELETE, ONE, Role::Manage, &[], |call| Box::pin(delete(call))),
        route(Method::POST, ROLL_SECRET, Role::Manage, &[], |call| Box::pin(roll_secret(call))),
        route(Method::POST, TEST_FIRE, Role::Manage, &[], |call| Box::pin(test_fire(call))),
    ]
}

async fn list(call: Box<Call>) -> Result<Response, Problem> {
    let wanted = Wanted::read(&call)?;
    let organization = organization(&call, wanted.search.organization())?;
    let mut webhooks = listed(&call, &organization, Format::Peridio);
    if wanted.descending {
        webhooks.reverse();
    }
    let is_behind = |webhook: &Arc<Subscription>| match wanted.page {
        None => true,
        Some(last) if wanted.descending => webhook.number.0 < last,
        Some(last) => webhook.number.0 > last,
    };
    let matching = webhooks.into_iter().filter(|it| is_behind(it) && wanted.search.finds(it));
    let (webhooks, next_page) = take_page(matching, wanted.limit, |last| last.number.to_string());
    let webhooks: Vec<Value> = webhooks.iter().map(|it| Value::Object(show(it))).collect();
    Ok(http::json(StatusCode::OK, &json!({"webhooks": webhooks, "next_page": next_page})))
}

async fn create(call: Box<Call>) -> Result<Response, Problem> {
    let body = call.object()?;
    let organization = organization(&call, named_organization(&body)?.as_deref())?;
    let webhooks_max = call.state.config.current().dialects.peridio_webhooks_max;
    let is_full = listed(&call, &organization, Format::Peridio).len() >= webhooks_max;
    let (draft, mut refusal) = read(&call, &body, Settings::new(organization, String::new(), Format::Peridio), None);
    if is_full {
        let message = format!("has {webhooks_max} webhooks, the most that it may have");
        refusal.add(vec![Fault::new("organization", message)]);
    }
    let made = manage::create(&call, draft, refusal, None).await?;
    Ok(answer_with_secret(StatusCode::CREATED, &made.subscription))
}

async fn get(call: Box<Call>) -> Result<Response, Problem> {
    let webhook = webhook(&call)?;
    Ok(answer(&webhook))
}

async fn patch(call: Box<Call>) -> Result<Response, Problem> {
    let body = call.object()?;
    let draft = |current: &Subscription| read(&call, &body, current.settings.clone(), Some(current));
    let written = manage::update(&call, || webhook(&call), draft, true).await?;
    Ok(answer(&written))
}

async fn delete(call: Box<Call>) -> Result<Response, Problem> {
    call.change(Change::DeleteSubscription { id: webhook(&call)?.id }).await?;
    Ok(no_content())
}

async fn roll_secret(call: Box<Call>) -> Result<Response, Problem> {
    let webhook = webhook(&call)?;
    let overlap = read_ttl(&call.object()?)?;
    let rolled = manage::rotate(&call, &webhook, None, overlap).await?;
    Ok(answer_with_secret(StatusCode::OK, &rolled))
}

async fn test_fire(call: Box<Call>) -> Result<Response, Problem> {
    let webhook = webhook(&call)?;
    if !webhook.is_enabled() {
        return Err(Problem::faults(vec![Fault::new("state", "must be enabled")]));
    }
    let event = trial::fire(&call, &webhook).await?;
    let spelling = call.state.config.current().dialects.peridio_event_names;
    let body = format!(r#"{{"event":{}}}"#, event_json(&event, event.data.as_str(), spelling));
    Ok(http::bytes(StatusCode::OK, "application/json", body))
}

/// What a list is asked for.
struct Wanted {
    limit: usize,
    descending: bool,
    /// The number of the last webhook of the page before.
    page: Option<u32>,
    search: Search,
}

impl Wanted {
    fn read(call: &Call) -> Result<Wanted, Problem> {
        let faults = Faults::new();
        let query = &call.query;
        let limit = query.get("limit").map_or(Some(PERIDIO_PAGE_DEFAULT), |text| {
            text.parse().ok().filter(|limit| (1..=PERIDIO_PAGE_MAX).contains(limit))
        });
        if limit.is_none() {
            faults.add("limit", format!("must be a whole number from 1 to {PERIDIO_PAGE_MAX}"));
        }
        let page = query.get("page").map(str::parse);
        if let Some(Err(_)) = page {
            faults.add("page", "must be the next_page of another page of this list");
        }
        let search = Search::parse(query.get("search").unwrap_or_default()).unwrap_or_else(|message| {
            faults.add("search", message);
            Search::default()
        });
        let wanted = Wanted {
            limit: limit.unwrap_or_default(),
            descending: query.get("order") == Some("desc"),
            page: page.and_then(Result::ok),
            search,
        };
        judged(faults, wanted)
    }
}

/// The organization that a call is about; `named`: by the call itself.
fn organization(call: &Call, named: Option<&str>) -> Result<Name, Problem> {
    organization_of_call(call, named, &call.state.config.current().dialects.peridio)
}

/// The organization that a body names.
fn named_organization(body: &Map<String, Value>) -> Result<Option<String>, Problem> {
    let faults = Faults::new();
    let fields = Fields::new("", body, &faults);
    let named = fields.string("organization_prn").and_then(|prn| {
        let organization = read_organization_prn(prn);
        if organization.is_none() {
            fields.fault("organization_prn", "must be prn:1: and the organization's id");
        }
        organization.map(str::to_owned)
    });
    fields.ignore_others();
    judged(faults, named)
}

/// The webhook of the path, where the caller reaches it.
fn webhook(call: &Call) -> Result<Arc<Subscription>, Problem> {
    let (organization, id) = read_webhook_prn(call.id()).ok_or_else(|| not_found("webhook"))?;
    let found = found(call, &Name::from(organization), Format::Peridio, id);
    found.filter(|_| call.reaches(organization)).ok_or_else(|| not_found("webhook"))
}

/// What the body makes of `base`: what it leaves out stays. A new webhook is enabled.
fn read(call: &Call, body: &Map<String, Value>, base: Settings, previous: Option<&Subscription>) -> (Draft, Refusal) {
    let faults = Faults::new();
    let fields = Fields::new("", body, &faults);
    let url = match previous {
        Some(_) => fields.string("url"),
        None => required(&fields, "url", fields.string("url")),
    };
    if let Some(url) = url {
        if !is_https(url) {
            fields.fault("url", "must begin with https://");
        } else if previous.is_some_and(|previous| moves_credentials(&previous.settings, url, false)) {
            fields.fault("url", "leads elsewhere, and credentials were set for where it led: change it by /v1");
        }
    }
    let description = fields.string("description").map(str::to_owned);
    let description = if fields.has("description") { description.unwrap_or_default() } else { base.description };
    let events = match fields.strings("enabled_events") {
        Some(names) => read_events(call, &fields, &names, &base.events),
        None => base.events,
    };
    let status = previous.and_then(|previous| read_state(&fields, previous));
    fields.ignore_others();
    let settings = Settings { url: url.map_or(base.url, str::to_owned), description, events, ..base };
    let draft = Draft { settings, secret: WantedSecret::Unsaid, status };
    (draft, Refusal::new(faults.into_vec(), Vec::new()))
}

/// The vendor's events in either spelling, those that somebody put into the catalog,
/// and whatever stands there already.
fn read_events(call: &Call, fields: &Fields<'_>, names: &[Option<&str>], current: &[Pattern]) -> Vec<Pattern> {
    let registry = call.registry();
    let mut events = Vec::with_capacity(names.len());
    for (index, name) in names.iter().enumerate() {
        let Some(name) = name else { continue };
        let known = registry.event_type(spell(name, NameSpelling::Hyphens));
        let is_known = known.is_some_and(|known| known.format.is_none_or(|format| format == Format::Peridio));
        let stands = current.iter().find(|pattern| pattern.to_string() == **name);
        match stands {
            Some(pattern) => events.push(pattern.clone()),
            None if is_known => events.push(Pattern::Exact(Name::from(*name))),
            None => fields.fault(&format!("enabled_events[{index}]"), format!("\"{name}\" is no event")),
        }
    }
    events
}

/// What the status becomes. Disabled is disabled, for whatever reason: writing it
/// back changes nothing.
fn read_state(fields: &Fields<'_>, previous: &Subscription) -> Option<Status> {
    let from_name = |name: &str| match name {
        "enabled" => Some(Status::Enabled),
        "disabled" => Some(Status::Disabled),
        _ => None,
    };
    let wanted = fields.one_of("state", "enabled, disabled", from_name)?;
    (wanted == Status::Enabled || previous.is_enabled()).then_some(wanted)
}

/// How long the old secret stays valid.
fn read_ttl(body: &Map<String, Value>) -> Result<Duration, Problem> {
    let faults = Faults::new();
    let fields = Fields::new("", body, &faults);
    let seconds = match fields.raw("webhook_ttl") {
        None | Some(Value::Null) => 0,
        Some(value) => {
            let seconds_max = ROTATION_OVERLAP_MAX.as_secs();
            let seconds = value.as_u64().filter(|seconds| *seconds <= seconds_max);
            if seconds.is_none() {
                let message = format!("must be a whole number of seconds from 0 to {seconds_max} (7 days)");
                fields.fault("webhook_ttl", message);
            }
            seconds.unwrap_or_default()
        }
    };
    fields.ignore_others();
    judged(faults, Duration::from_secs(seconds))
}

fn show(webhook: &Subscription) -> Map<String, Value> {
    let settings = &webhook.settings;
    let description = (!settings.description.is_empty()).then_some(&settings.description);
    let events: Vec<String> = settings.events.iter().map(Pattern::to_string).collect();
    let shown = [
        ("prn", json!(webhook_prn(&settings.organization, webhook.id))),
        ("organization_prn", json!(organization_prn(&settings.organization))),
        ("url", json!(settings.url)),
        ("description", json!(description)),
        ("enabled_events", json!(events)),
        ("state", json!(if webhook.is_enabled() { "enabled" } else { "disabled" })),
        ("inserted_at", json!(webhook.created_at.to_rfc3339_seconds())),
        ("updated_at", json!(webhook.updated_at.to_rfc3339_seconds())),
    ];
    shown.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn answer(webhook: &Subscription) -> Response {
    http::json(StatusCode::OK, &json!({"webhook": show(webhook)}))
}

fn answer_with_secret(status: StatusCode, webhook: &Subscription) -> Response {
    let mut shown = show(webhook);
    shown.insert("secret".to_owned(), json!(webhook.secrets.last().map(|current| current.secret.expose())));
    no_store(http::json(status, &json!({"webhook": shown})))
}

/// The vendor's name of a native field, without what is within it.
fn field(native: &str) -> &str {
    match native.split(['[', '.']).next().unwrap_or_default() {
        "events" => "enabled_events",
        "organization" => "organization_prn",
        other => other,
    }
}

fn present(problem: &Problem) -> Response {
    let code = problem.code();
    let status = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if status == StatusCode::FORBIDDEN {
        return problem.told_as(status, &json!({"status": "forbidden"}));
    }
    let faults = problem.field_errors();
    if code == Code::VerificationFailed {
        return problem.told_as(status, &json!({"errors": {"url": [problem.message()]}}));
    }
    if faults.is_empty() || faults.iter().any(|fault| fault.field.is_empty()) {
        return problem.told_as(status, &json!({"errors": {"detail": problem.message()}}));
    }
    let mut errors = Map::new();
    for fault in faults {
        if let Value::Array(messages) = errors.entry(field(&fault.field)).or_insert_with(|| json!([])) {
            messages.push(json!(fault.message));
        }
    }
    problem.told_as(status, &json!({"errors": errors}))
}
