//! Blynk's API of webhooks. Its ids of webhooks are our numbers. A body becomes the
//! native one, whose rules then hold. `triggers.rs` says what its triggers are.

mod triggers;

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::auth::Role;
use crate::http::{self, Method, Problem, Response, StatusCode};
use crate::id::Lane;
use crate::input::{Faults, Fields};
use crate::model::{ContentType, Fault, Format, Name, Settings, Status, Subscription};
use crate::store::command::Change;

use super::super::call::{Call, not_found};
use super::super::manage;
use super::super::quota::{Quota, within};
use super::super::route::{Kind, Parameter, Route};
use super::super::subscription_json::{Draft, Refusal};

use super::{Vendor, is_https, listed, organization_of_call, parse_translated, route, shown, told};

/// See [`Vendor`].
pub(super) const VENDOR: Vendor = Vendor {
    name: "blynk",
    is_enabled: |options| options.blynk.enabled,
    routes,
    schemes: &[],
    present,
    finish: |_| {},
};

const ALL: &str = "/blynk/api/v1/organization/webhooks";
const ONE: &str = "/blynk/api/v1/organization/webhook";
const NEW: &str = "/blynk/api/v1/organization/webhook/create";

/// **Names that the vendor does not publish**: these are ours.
mod chosen {
    pub(super) const WEBHOOK_ID: &str = "webhookId";
    pub(super) const FORM: &str = "formBody";
    pub(super) const QUERY: &str = "queryParams";
    pub(super) const HEADERS: &str = "headers";
    pub(super) const BASIC: &str = "basicAuth";
    pub(super) const USER: &str = "username";
    pub(super) const PASSWORD: &str = "password";
    pub(super) const OAUTH2: &str = "oauth2";
    pub(super) const CLIENT_ID: &str = "clientId";
    pub(super) const CLIENT_SECRET: &str = "clientSecret";
    pub(super) const TOKEN_URL: &str = "tokenUrl";
    pub(super) const RECEIVERS: &str = "failureReceivers";
    pub(super) const FAILURE_LIMIT: &str = "failureLimit";
    pub(super) const DEVICE: &str = "deviceId";
    pub(super) const TEMPLATE: &str = "templateId";
    pub(super) const STREAM: &str = "dataStreamId";
    pub(super) const CODE: &str = "eventCode";
    pub(super) const CONDITION: &str = "condition";
    pub(super) const OPERATOR: &str = "op";
    pub(super) const VALUE: &str = "value";
}

/// The vendor answers 429 and does not say when: this limit of a key's requests is ours.
const QUOTA: &[Quota] = &[Quota { name: "blynk requests", requests_max: 10, window_secs: 1 }];

/// Consecutive failures that disable a webhook that does not say.
const FAILURE_LIMIT_DEFAULT: u32 = 10;

const OF_ORGANIZATION: &[Parameter] = &[Parameter { name: "orgId", kind: Kind::Text, description: "" }];
const OF_WEBHOOK: &[Parameter] = &[Parameter { name: chosen::WEBHOOK_ID, kind: Kind::Text, description: "" }];

/// The native names of fields, and the vendor's.
const NAMES: &[(&str, &str)] = &[
    ("events", "trigger"),
    ("filter", "dataTrigger"),
    ("content_type", "contentType"),
    ("form", chosen::FORM),
    ("query", chosen::QUERY),
    ("authentication.user", "basicAuth.username"),
    ("authentication.password", "basicAuth.password"),
    ("authentication.client_id", "oauth2.clientId"),
    ("authentication.client_secret", "oauth2.clientSecret"),
    ("authentication.token_url", "oauth2.tokenUrl"),
    ("authentication", "authType"),
    ("notify", chosen::RECEIVERS),
    ("failure_limit", chosen::FAILURE_LIMIT),
    ("organization", "orgId"),
];

const CONTENT_TYPES: &[(ContentType, &str)] =
    &[(ContentType::Text, "PLAIN_TEXT"), (ContentType::Json, "JSON"), (ContentType::Form, "URL_ENCODED_FORM")];

const STATUSES: &[(Status, &str)] = &[
    (Status::Enabled, "ENABLED"),
    (Status::Disabled, "DISABLED"),
    (Status::DisabledDueToErrors, "DISABLED_DUE_TO_ERRORS"),
];

/// An `authType`, and where its parts stand: the native name of each, and the vendor's.
struct AuthType {
    name: &'static str,
    native: &'static str,
    /// The member that holds the parts.
    member: Option<&'static str>,
    parts: &'static [(&'static str, &'static str)],
}

const AUTH_TYPES: &[AuthType] = &[
    AuthType { name: "NONE", native: "none", member: None, parts: &[] },
    AuthType {
        name: "BASIC",
        native: "basic",
        member: Some(chosen::BASIC),
        parts: &[("user", chosen::USER), ("password", chosen::PASSWORD)],
    },
    AuthType {
        name: "OAUTH2",
        native: "oauth2",
        member: Some(chosen::OAUTH2),
        parts: &[
            ("client_id", chosen::CLIENT_ID),
            ("client_secret", chosen::CLIENT_SECRET),
            ("token_url", chosen::TOKEN_URL),
        ],
    },
];

fn routes() -> Vec<Route> {
    vec![
        route(Method::GET, ALL, Role::Read, OF_ORGANIZATION, |call| Box::pin(within(QUOTA, call, list))),
        route(Method::POST, NEW, Role::Manage, OF_ORGANIZATION, |call| Box::pin(within(QUOTA, call, create))),
        route(Method::GET, ONE, Role::Read, OF_WEBHOOK, |call| Box::pin(within(QUOTA, call, get))),
        route(Method::PUT, ONE, Role::Manage, OF_WEBHOOK, |call| Box::pin(within(QUOTA, call, put))),
        route(Method::DELETE, ONE, Role::Manage, OF_WEBHOOK, |call| Box::pin(within(QUOTA, call, delete))),
    ]
}

async fn list(call: Box<Call>) -> Result<Response, Problem> {
    let organization = organization(&call)?;
    let webhooks: Vec<Value> = listed(&call, &organization, Format::Blynk).iter().map(|it| show(&call, it)).collect();
    Ok(http::json(StatusCode::OK, &webhooks))
}

/// Answers 200, as the vendor does.
async fn create(call: Box<Call>) -> Result<Response, Problem> {
    let organization = organization(&call)?;
    let body = call.object()?;
    let base = json!({
        "organization": *organization,
        "format": Format::Blynk.as_str(),
        "failure_limit": FAILURE_LIMIT_DEFAULT,
    });
    let (draft, refusal) = read(&body, base.as_object().cloned().unwrap_or_default(), None);
    let made = manage::create(&call, draft, refusal, None).await?;
    Ok(http::json(StatusCode::OK, &show(&call, &made.subscription)))
}

async fn get(call: Box<Call>) -> Result<Response, Problem> {
    let webhook = webhook(&call)?;
    Ok(http::json(StatusCode::OK, &show(&call, &webhook)))
}

/// Writes what the body holds; the rest stays.
async fn put(call: Box<Call>) -> Result<Response, Problem> {
    let body = call.object()?;
    let draft = |current: &Subscription| read(&body, shown(current), Some(current));
    let written = manage::update(&call, || webhook(&call), draft, true).await?;
    Ok(http::json(StatusCode::OK, &show(&call, &written)))
}

async fn delete(call: Box<Call>) -> Result<Response, Problem> {
    let webhook = webhook(&call)?;
    call.change(Change::DeleteSubscription { id: webhook.id }).await?;
    Ok(http::empty(StatusCode::OK))
}

/// See [`organization_of_call`].
fn organization(call: &Call) -> Result<Name, Problem> {
    organization_of_call(call, call.query.get("orgId"), &call.state.config.current().dialects.blynk)
}

/// The webhook that the request names, whatever organization the caller reaches it in.
fn webhook(call: &Call) -> Result<Arc<Subscription>, Problem> {
    let fault = |message| Problem::faults(vec![Fault::new(chosen::WEBHOOK_ID, message)]);
    let named = call.query.get(chosen::WEBHOOK_ID).ok_or_else(|| fault("is required"))?;
    let number: u32 = named.parse().map_err(|_| fault("must be a whole number"))?;
    let registry = call.registry();
    let found = registry.lane(Lane(number)).filter(|found| {
        found.settings.format == Format::Blynk && call.caller.reaches(&registry, &found.settings.organization)
    });
    found.cloned().ok_or_else(|| not_found("webhook"))
}

/// What the body makes of `native`, which is what is there.
fn read(
    body: &Map<String, Value>,
    mut native: Map<String, Value>,
    previous: Option<&Subscription>,
) -> (Draft, Refusal) {
    let faults = Faults::new();
    let fields = Fields::new("", body, &faults);
    let given = |name: &str| body.get(name).filter(|value| !value.is_null());
    if fields.string("url").is_some_and(|url| !is_https(url)) {
        fields.fault("url", "must begin with https://");
    }
    for (ours, theirs) in
        [("name", "name"), ("url", "url"), ("method", "method"), ("failure_limit", chosen::FAILURE_LIMIT)]
    {
        native.extend(given(theirs).map(|value| (ours.to_owned(), value.clone())));
    }
    // Null takes these away.
    for (ours, theirs) in
        [("body", "body"), ("form", chosen::FORM), ("query", chosen::QUERY), ("headers", chosen::HEADERS)]
    {
        native.extend(body.get(theirs).map(|value| (ours.to_owned(), value.clone())));
    }
    native.extend(body.get(chosen::RECEIVERS).map(|users| ("notify".to_owned(), in_text(users))));
    let content_type = fields.one_of("contentType", &names(CONTENT_TYPES), |name| named(CONTENT_TYPES, name));
    native.extend(content_type.map(|it| ("content_type".to_owned(), json!(it.as_str()))));
    let status = fields.one_of("status", &names(STATUSES), |name| named(STATUSES, name));
    let status = status.filter(|status| *status != Status::DisabledDueToErrors);
    native.extend(status.map(|it| ("status".to_owned(), json!(it.as_str()))));
    let stored = native.remove("authentication").unwrap_or_else(|| json!({"type": "none"}));
    native.insert("authentication".to_owned(), read_authentication(&fields, stored));
    native.extend(triggers::read(&fields, previous.map(|previous| &previous.settings)).unwrap_or_default());
    fields.ignore_others();
    parse_translated(&native, previous, faults, NAMES)
}

/// In the native spelling: `stored` with the parts that the body gives.
fn read_authentication(fields: &Fields<'_>, stored: Value) -> Value {
    let all = AUTH_TYPES.iter().map(|it| it.name).collect::<Vec<_>>().join(", ");
    let of_stored = AUTH_TYPES.iter().find(|it| stored["type"] == it.native);
    let wanted = fields.one_of("authType", &all, |name| AUTH_TYPES.iter().find(|it| it.name == name));
    for other in AUTH_TYPES.iter().filter_map(|it| it.member) {
        let is_of_stored = of_stored.is_some_and(|it| it.member == Some(other));
        if fields.map(other).is_some() && !is_of_stored && fields.raw("authType").is_none_or(Value::is_null) {
            fields.fault("authType", format!("is required beside {other}"));
        }
    }
    let Some(auth_type) = wanted.or(of_stored) else { return stored };
    let stays = stored["type"] == auth_type.native;
    let mut native = if stays { stored } else { json!({"type": auth_type.native}) };
    let Some(inner) = auth_type.member.and_then(|member| fields.object(member)) else { return native };
    for (ours, theirs) in auth_type.parts {
        if let Some(value) = inner.raw(theirs).filter(|value| !value.is_null()) {
            native[*ours] = value.clone();
        }
    }
    if inner.string(chosen::TOKEN_URL).is_some_and(|url| !is_https(url)) {
        inner.fault(chosen::TOKEN_URL, "must begin with https://");
    }
    inner.ignore_others();
    native
}

/// Ids of users, which are numbers there and texts here.
fn in_text(users: &Value) -> Value {
    let text = |user: &Value| if user.is_u64() { json!(user.to_string()) } else { user.clone() };
    users.as_array().map_or_else(|| users.clone(), |users| users.iter().map(text).collect())
}

/// The other way.
fn in_numbers(users: &[String]) -> Value {
    let number = |user: &String| user.parse::<u64>().ok().filter(|number| number.to_string() == *user);
    users.iter().map(|user| number(user).map_or_else(|| json!(user), Value::from)).collect()
}

/// Every name of a table, for messages.
fn names<T>(table: &[(T, &str)]) -> String {
    table.iter().map(|(_, name)| *name).collect::<Vec<_>>().join(", ")
}

fn named<T: Copy>(table: &[(T, &str)], name: &str) -> Option<T> {
    table.iter().find(|(_, known)| *known == name).map(|(value, _)| *value)
}

fn name_of<T: PartialEq>(table: &[(T, &'static str)], value: T) -> Option<&'static str> {
    table.iter().find(|(known, _)| *known == value).map(|(_, name)| *name)
}

/// The webhook as the vendor shows it, secrets masked. What only the native API can
/// set, such as a bearer token or several types of events, shows as null.
fn show(call: &Call, subscription: &Subscription) -> Value {
    let native = shown(subscription);
    let settings: &Settings = &subscription.settings;
    let stats = call.state.store.stats(subscription.number);
    let of_type = AUTH_TYPES.iter().find(|it| settings.authentication.type_name() == it.native);
    let parts = |name: &str| {
        let auth_type = of_type.filter(|it| it.member == Some(name))?;
        let part = |(ours, theirs): &(&str, &str)| ((*theirs).to_owned(), native["authentication"][*ours].clone());
        Some(auth_type.parts.iter().map(part).collect::<Map<String, Value>>())
    };
    let (trigger, data_trigger) = triggers::show(settings).unzip();
    json!({
        "id": subscription.number.0,
        "name": settings.name,
        "trigger": trigger,
        "dataTrigger": data_trigger.flatten(),
        "url": settings.url,
        "method": settings.method.as_str(),
        "contentType": name_of(CONTENT_TYPES, settings.content_type),
        "authType": of_type.map(|it| it.name),
        "body": settings.body,
        chosen::FORM: native["form"],
        chosen::BASIC: parts(chosen::BASIC),
        chosen::HEADERS: native["headers"],
        chosen::QUERY: native["query"],
        chosen::OAUTH2: parts(chosen::OAUTH2),
        chosen::RECEIVERS: in_numbers(&settings.notify),
        "status": name_of(STATUSES, subscription.status),
        "attempts": stats.attempts,
        "createdAt": subscription.created_at.as_millis(),
        "updatedAt": subscription.updated_at.as_millis(),
        "lastTriggeredAt": stats.last_triggered_at.map(|at| at.as_millis()),
        chosen::FAILURE_LIMIT: settings.failure_limit,
    })
}

/// The vendor has five statuses of errors; who has no key is refused with 403.
fn present(problem: &Problem) -> Response {
    let status = match problem.code().status() {
        401 | 403 => StatusCode::FORBIDDEN,
        404 => StatusCode::NOT_FOUND,
        429 => StatusCode::TOO_MANY_REQUESTS,
        400..500 => StatusCode::BAD_REQUEST,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    problem.told_as(status, &json!({"error": {"message": told(problem, NAMES)}}))
}
