//! Subscriptions: made, shown, changed, enabled, tested, ended.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::auth::Role;
use crate::http::{self, HeaderValue, Problem, Response, StatusCode, header};
use crate::id::Lane;
use crate::input::{Faults, Fields};
use crate::model::{Status, Subscription};
use crate::pattern::is_event_type;
use crate::secret::MASK;
use crate::store::command::{Change, ChangeError};

use super::call::{Call, page, take_page};
use super::manage::{self, Made, made_before};
use super::subscription_json::{parse, show};
use super::values::judged;
use super::{deliveries, merge_patch, no_content, no_store, trial};

/// `GET /v1/subscriptions`: oldest first.
pub(super) async fn list(call: Box<Call>) -> Result<Response, Problem> {
    let after = Lane(call.query.cursor()?.unwrap_or(0));
    let (rows, next) = {
        let registry = call.registry();
        let is_listed = |subscription: &&Arc<Subscription>| {
            let settings = &subscription.settings;
            let fits = |name: &str, value: &str| call.query.get(name).is_none_or(|wanted| wanted == value);
            fits("organization", &settings.organization)
                && fits("status", subscription.status.as_str())
                && fits("name", &settings.name)
                && fits("number", &subscription.number.to_string())
                && fits("url", &settings.url)
                && fits("external_id", settings.external_id.as_deref().unwrap_or_default())
                && call
                    .query
                    .get("event")
                    .is_none_or(|event| settings.events.iter().any(|pattern| pattern.matches(event)))
                && call.caller.reaches(&registry, &settings.organization)
        };
        let matching = registry.subscriptions_after(after).filter(is_listed).cloned();
        take_page(matching, call.query.limit(), |subscription| subscription.number.to_string())
    };
    let data = rows.iter().map(|subscription| shown(&call, subscription));
    Ok(page(data.collect(), next))
}

/// `GET /v1/subscriptions/{id}`
pub(super) async fn get(call: Box<Call>) -> Result<Response, Problem> {
    let subscription = call.subscription()?;
    Ok(answer(&call, StatusCode::OK, &subscription))
}

/// `POST /v1/subscriptions`
pub(super) async fn create(call: Box<Call>) -> Result<Response, Problem> {
    let idempotency = call.header_text("idempotency-key")?.map(|key| (key, Sha256::digest(&call.body).into()));
    let (draft, refusal) = parse(&call.object()?, None);
    // Before anything that depends on when it is asked: a repetition is answered as
    // the first was, though what was valid then would not be now.
    if let Some(made) = made_before(&call, &draft.settings.organization, idempotency.as_ref()).await? {
        return Ok(answer_creation(&call, &made, true));
    }
    let Made { subscription, replayed } = manage::create(&call, draft, refusal, idempotency).await?;
    Ok(answer_creation(&call, &subscription, replayed))
}

/// The answer that made `subscription`, or tells again of it.
fn answer_creation(call: &Call, subscription: &Subscription, replayed: bool) -> Response {
    let mut shown = shown(call, subscription);
    shown["secret"] = json!(subscription.secrets.last().map(|current| {
        // Asked again later, this is not the answer that made what was rotated in since.
        let is_its_own = current.created_at == subscription.created_at;
        if is_its_own || call.caller.may(Role::Secrets) { current.secret.expose() } else { MASK }
    }));
    let mut response = http::json(if replayed { StatusCode::OK } else { StatusCode::CREATED }, &shown);
    if let Ok(location) = HeaderValue::from_str(&format!("/v1/subscriptions/{}", subscription.id)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    tag(&mut response, subscription);
    no_store(response)
}

/// `PUT /v1/subscriptions/{id}`: the whole of it.
pub(super) async fn put(call: Box<Call>) -> Result<Response, Problem> {
    let body = call.object()?;
    update(&call, |_| body.clone()).await
}

/// `PATCH /v1/subscriptions/{id}`: merged into what a read shows.
pub(super) async fn patch(call: Box<Call>) -> Result<Response, Problem> {
    let patch = call.object()?;
    update(&call, |current| {
        let mut merged = match show(current, &Default::default(), None) {
            Value::Object(shown) => shown,
            _ => Map::new(),
        };
        merge_patch::apply(&mut merged, patch.clone());
        // Left out, it stays: to be refused, its taking away must still be seen.
        if patch.get("secret").is_some_and(Value::is_null) {
            merged.insert("secret".to_owned(), Value::Null);
        }
        merged
    })
    .await
}

/// Writes what `body` makes of the subscription as it stands. Without `If-Match`
/// it is made anew, should somebody else have been faster.
async fn update(call: &Call, body: impl Fn(&Subscription) -> Map<String, Value>) -> Result<Response, Problem> {
    let if_match = if_match(call)?;
    let current = || {
        let current = call.subscription()?;
        check_version(&if_match, &current)?;
        Ok(current)
    };
    let draft = |current: &Subscription| parse(&body(current), Some(current));
    let written = manage::update(call, current, draft, if_match.is_none()).await?;
    Ok(answer(call, StatusCode::OK, &written))
}

/// `DELETE /v1/subscriptions/{id}`
pub(super) async fn delete(call: Box<Call>) -> Result<Response, Problem> {
    let current = call.subscription()?;
    check_version(&if_match(&call)?, &current)?;
    call.change(Change::DeleteSubscription { id: current.id }).await?;
    Ok(no_content())
}

/// `POST /v1/subscriptions/{id}/enable`
pub(super) async fn enable(call: Box<Call>) -> Result<Response, Problem> {
    set_status(call, Status::Enabled).await
}

/// `POST /v1/subscriptions/{id}/disable`
pub(super) async fn disable(call: Box<Call>) -> Result<Response, Problem> {
    set_status(call, Status::Disabled).await
}

async fn set_status(call: Box<Call>, status: Status) -> Result<Response, Problem> {
    let written = manage::set_status(&call, || call.subscription(), status).await?;
    Ok(answer(&call, StatusCode::OK, &written))
}

/// `POST /v1/subscriptions/{id}/test`
pub(super) async fn test(call: Box<Call>) -> Result<Response, Problem> {
    let subscription = call.subscription()?;
    let event_type = read_test(&call.object()?)?;
    let attempt = trial::send(&call, &subscription, event_type.as_deref()).await?;
    Ok(http::json(StatusCode::OK, &deliveries::show_attempt(&attempt)))
}

/// The event type to be tested, where one is named.
fn read_test(body: &Map<String, Value>) -> Result<Option<String>, Problem> {
    let faults = Faults::new();
    let fields = Fields::new("", body, &faults);
    let event_type = fields.string("type").map(str::to_owned);
    if event_type.as_deref().is_some_and(|event_type| !is_event_type(event_type)) {
        fields.fault("type", "must be an event type such as \"door.opened\"");
    }
    fields.finish();
    judged(faults, event_type)
}

fn shown(call: &Call, subscription: &Subscription) -> Value {
    let state = &call.state;
    let expires_at = state.performer.certificate_expires_at(&subscription.settings);
    show(subscription, &state.store.stats(subscription.number), expires_at)
}

fn answer(call: &Call, status: StatusCode, subscription: &Subscription) -> Response {
    let mut response = http::json(status, &shown(call, subscription));
    tag(&mut response, subscription);
    response
}

fn tag(response: &mut Response, subscription: &Subscription) {
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{}\"", subscription.version)) {
        response.headers_mut().insert(header::ETAG, tag);
    }
}

/// The entity tags of `If-Match` (RFC 9110, section 13.1.1).
fn if_match(call: &Call) -> Result<Option<String>, Problem> {
    call.header_text("if-match")
}

/// Compares strongly: a weak tag never matches.
fn check_version(if_match: &Option<String>, current: &Subscription) -> Result<(), Problem> {
    let Some(tags) = if_match else { return Ok(()) };
    let own = format!("\"{}\"", current.version);
    if tags.split(',').map(str::trim).any(|tag| tag == "*" || tag == own) {
        return Ok(());
    }
    Err(Problem::from(ChangeError::Stale))
}
