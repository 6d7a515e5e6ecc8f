//! Subscriptions: made, shown, changed, enabled, tested, ended.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::auth::Role;
use crate::dialect;
use crate::http::{self, Code, HeaderValue, Problem, Response, StatusCode, header};
use crate::id::Lane;
use crate::input::{Faults, Fields};
use crate::limits::UPDATE_TRIES_MAX;
use crate::model::validate::{self, Surroundings};
use crate::model::{
    DEFAULT_ORGANIZATION, Fault, ManagedBy, Name, Scope, Settings, SigningSecret, Status, StatusReason, Subscription,
};
use crate::pattern::is_event_type;
use crate::secret::{MASK, Secret};
use crate::store::command::{Change, ChangeError, Changed};

use super::call::{Call, not_found, overtaken, page, random, take_page};
use super::subscription_json::{Draft, WantedSecret, check_new_secret, parse, role_needed, show};
use super::values::judged;
use super::{deliveries, merge_patch, no_content, no_store, organizations, trial};

/// `GET /v1/subscriptions`: oldest first.
pub(super) async fn list(call: Call) -> Result<Response, Problem> {
    let after = Lane(call.query.cursor()?.unwrap_or(0));
    let (rows, next) = {
        let registry = call.registry();
        let is_listed = |subscription: &&Arc<Subscription>| {
            let settings = &subscription.settings;
            let fits = |name: &str, value: &str| call.query.get(name).is_none_or(|wanted| wanted == value);
            fits("organization", &settings.organization)
                && fits("status", subscription.status.as_str())
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
    let data = rows.iter().map(|subscription| show(subscription, &call.state.store.stats(subscription.number)));
    Ok(page(data.collect(), next))
}

/// `GET /v1/subscriptions/{id}`
pub(super) async fn get(call: Call) -> Result<Response, Problem> {
    let subscription = call.subscription()?;
    Ok(answer(&call, StatusCode::OK, &subscription))
}

/// `POST /v1/subscriptions`
pub(super) async fn create(call: Call) -> Result<Response, Problem> {
    let idempotency = call.header_text("idempotency-key")?.map(|key| (key, Sha256::digest(&call.body).into()));
    let (draft, mut refusal) = parse(&call.object()?, None);
    let settings = draft.settings;
    // Before anything that depends on when it is asked: a repetition is answered as
    // the first was, though what was valid then would not be now.
    if let Some(made) = made_before(&call, &settings.organization, idempotency.as_ref()).await? {
        return Ok(answer_creation(&call, &made, true));
    }
    let dialect = dialect::find(settings.format);
    refusal.add(check_new_secret(&draft.secret, dialect).into_iter().collect());
    let is_unsigned = matches!(draft.secret, WantedSecret::Unsigned);
    refusal.add(check_settings(&call, &settings, is_unsigned));
    refusal.add(check_organization(&call, &settings));
    refusal.add(check_scope(&call, &settings));
    refusal.into_result()?;
    if let Some(role) = role_needed(&settings, None) {
        call.require(role)?;
    }
    let secret = match draft.secret {
        WantedSecret::Unsaid => dialect.generate_secret(&random()?),
        WantedSecret::Unsigned => None,
        WantedSecret::Chosen(secret) => Some(secret),
    };
    let status = draft.status.unwrap_or(Status::Enabled);
    if status == Status::Enabled && trial::is_wanted(&call, dialect) {
        trial::verify(&call, &settings, signing(&call, secret.as_ref())).await?;
    }
    organizations::make_first_named(&call, &settings.organization).await?;
    let change = Change::CreateSubscription { settings: Box::new(settings), secret, status, idempotency };
    let Changed::Subscription { subscription, replayed } = call.change(change).await? else {
        return Err(Problem::new(Code::Internal));
    };
    Ok(answer_creation(&call, &subscription, replayed))
}

/// What the same request made before. A caller that does not reach the organization
/// is not told of it.
async fn made_before(
    call: &Call,
    organization: &Name,
    idempotency: Option<&(String, [u8; 32])>,
) -> Result<Option<Arc<Subscription>>, Problem> {
    let Some((key, content)) = idempotency.filter(|_| call.reaches(organization)) else { return Ok(None) };
    let (organization, key) = (organization.clone(), key.clone());
    let Some((id, first)) = call.read(move |store| store.created_by(&organization, &key)).await? else {
        return Ok(None);
    };
    if first != *content {
        return Err(Problem::from(ChangeError::IdempotencyConflict));
    }
    let made = call.registry().subscription(id).cloned();
    made.map(Some).ok_or_else(|| Problem::from(ChangeError::Ended))
}

/// The answer that made `subscription`, or tells again of it.
fn answer_creation(call: &Call, subscription: &Subscription, replayed: bool) -> Response {
    let mut shown = show(subscription, &call.state.store.stats(subscription.number));
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
pub(super) async fn put(call: Call) -> Result<Response, Problem> {
    let body = call.object()?;
    update(&call, |_| body.clone()).await
}

/// `PATCH /v1/subscriptions/{id}`: merged into what a read shows.
pub(super) async fn patch(call: Call) -> Result<Response, Problem> {
    let patch = call.object()?;
    update(&call, |current| {
        let mut merged = match show(current, &Default::default()) {
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
    for _ in 0..UPDATE_TRIES_MAX {
        let current = call.subscription()?;
        check_version(&if_match, &current)?;
        let draft = draft_update(call, &body(&current), &current)?;
        let becomes = draft.status.unwrap_or(current.status);
        if draft.settings != current.settings && current.managed_by == ManagedBy::File {
            return Err(Problem::from(ChangeError::ManagedByFile));
        }
        verify_update(call, &draft.settings, &current, becomes).await?;
        let change = if draft.settings != current.settings {
            let status = (becomes != current.status).then(|| (becomes, by(call)));
            let (id, version) = (current.id, current.version);
            Change::UpdateSubscription { id, settings: Box::new(draft.settings), version, status }
        } else if becomes != current.status {
            status_change(call, &current, becomes)
        } else {
            return Ok(answer(call, StatusCode::OK, &current));
        };
        match call.state.store.change(&call.caller.name, change).await {
            Err(ChangeError::Stale) if if_match.is_none() => continue,
            changed => changed?,
        };
        return Ok(answer(call, StatusCode::OK, call.subscription()?.as_ref()));
    }
    Err(overtaken())
}

/// Reads and checks the new settings of `current`, and whether the caller may.
fn draft_update(call: &Call, body: &Map<String, Value>, current: &Subscription) -> Result<Draft, Problem> {
    let (draft, mut refusal) = parse(body, Some(current));
    let expiry = draft.settings.expires_at;
    let mut faults = check_settings(call, &draft.settings, current.secrets.is_empty());
    // What it was set to was in the future then; that it has passed is no fault of this change.
    faults.retain(|fault| fault.field != "expires_at" || expiry != current.settings.expires_at);
    refusal.add(faults);
    refusal.add(check_scope(call, &draft.settings));
    refusal.into_result()?;
    let is_enabling = draft.status == Some(Status::Enabled) && !current.is_enabled();
    if is_enabling && expiry.is_some_and(|at| at <= call.now()) {
        return Err(Problem::from(ChangeError::Expired));
    }
    if let Some(role) = role_needed(&draft.settings, Some(&current.settings)) {
        call.require(role)?;
    }
    Ok(draft)
}

/// Verifies where an update enables, or changes the URL of what is enabled.
async fn verify_update(
    call: &Call,
    settings: &Settings,
    current: &Subscription,
    becomes: Status,
) -> Result<(), Problem> {
    let is_new_target = !current.is_enabled() || settings.url != current.settings.url;
    let is_wanted = trial::is_wanted(call, dialect::find(settings.format));
    if becomes == Status::Enabled && is_new_target && is_wanted {
        trial::verify(call, settings, current.secrets.clone()).await?;
    }
    Ok(())
}

/// `DELETE /v1/subscriptions/{id}`
pub(super) async fn delete(call: Call) -> Result<Response, Problem> {
    let current = call.subscription()?;
    check_version(&if_match(&call)?, &current)?;
    call.change(Change::DeleteSubscription { id: current.id }).await?;
    Ok(no_content())
}

/// `POST /v1/subscriptions/{id}/enable`
pub(super) async fn enable(call: Call) -> Result<Response, Problem> {
    for _ in 0..UPDATE_TRIES_MAX {
        let current = call.subscription()?;
        if current.is_enabled() {
            return Ok(answer(&call, StatusCode::OK, &current));
        }
        if current.settings.expires_at.is_some_and(|at| at <= call.now()) {
            return Err(Problem::from(ChangeError::Expired));
        }
        verify_update(&call, &current.settings, &current, Status::Enabled).await?;
        let change = status_change(&call, &current, Status::Enabled);
        match call.state.store.change(&call.caller.name, change).await {
            Err(ChangeError::Stale) => continue,
            changed => changed?,
        };
        return Ok(answer(&call, StatusCode::OK, call.subscription()?.as_ref()));
    }
    Err(overtaken())
}

/// `POST /v1/subscriptions/{id}/disable`
pub(super) async fn disable(call: Call) -> Result<Response, Problem> {
    let current = call.subscription()?;
    if current.status != Status::Disabled {
        call.change(status_change(&call, &current, Status::Disabled)).await?;
    }
    Ok(answer(&call, StatusCode::OK, call.subscription()?.as_ref()))
}

/// What is enabled is what was looked at; disabled is whatever is there.
fn status_change(call: &Call, subscription: &Subscription, status: Status) -> Change {
    let version = (status == Status::Enabled).then_some(subscription.version);
    Change::SetStatus { id: subscription.id, status, reason: StatusReason::Manual, detail: by(call), version }
}

/// Who changed a status, for people.
fn by(call: &Call) -> String {
    format!("by {}", call.caller.name)
}

/// `POST /v1/subscriptions/{id}/test`
pub(super) async fn test(call: Call) -> Result<Response, Problem> {
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

fn check_settings(call: &Call, settings: &Settings, unsigned: bool) -> Vec<Fault> {
    let surroundings = Surroundings {
        now: call.now(),
        allow_http: call.state.config.current().delivery.allow_http,
        known_fields: call.registry().known_fields(&settings.events),
    };
    validate::check(settings, unsigned, &surroundings)
}

/// A new subscription's organization must be there and reached: callers that do
/// not reach it are told the same as if it were not there. `default` is made
/// when it is first needed.
fn check_organization(call: &Call, settings: &Settings) -> Vec<Fault> {
    let registry = call.registry();
    let organization = &settings.organization;
    let is_there = registry.organization(organization).is_some();
    let will_be = **organization == *DEFAULT_ORGANIZATION && call.caller.reaches_all();
    if is_there && call.caller.reaches(&registry, organization) || will_be {
        return Vec::new();
    }
    vec![Fault::new("organization", "names an organization that does not exist")]
}

/// Every source of the scope must be of the subscription's own organization. The
/// store asks again when it is committed.
fn check_scope(call: &Call, settings: &Settings) -> Vec<Fault> {
    let Scope::Sources(sources) = &settings.scope else { return Vec::new() };
    let registry = call.registry();
    let is_own = |id: &Name| registry.source(id).is_some_and(|source| source.organization == settings.organization);
    let foreign = sources.iter().enumerate().filter(|(_, id)| !is_own(id));
    let message = "names a source that is not of the subscription's organization";
    foreign.map(|(index, _)| Fault::new(format!("scope[{index}]"), message)).collect()
}

fn signing(call: &Call, secret: Option<&Secret>) -> Vec<SigningSecret> {
    let created_at = call.now();
    secret.cloned().map(|secret| SigningSecret { secret, created_at, valid_until: None }).into_iter().collect()
}

fn answer(call: &Call, status: StatusCode, subscription: &Subscription) -> Response {
    let shown = show(subscription, &call.state.store.stats(subscription.number));
    let mut response = http::json(status, &shown);
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
