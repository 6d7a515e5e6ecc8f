//! Events that were accepted, as long as they are retained.

use crate::auth::Role;
use crate::http::{self, Problem, Response, StatusCode};
use crate::id::EventId;
use crate::model::Event;
use crate::secrecy::{self, CREDENTIALS_LEVEL};
use crate::store::query::EventQuery;
use crate::time::Timestamp;

use super::call::{Call, not_found, page};
use super::{deliveries, event_json};

/// `GET /v1/events`: newest first.
pub(super) async fn list(call: Box<Call>) -> Result<Response, Problem> {
    let query = EventQuery {
        organizations: call.listed_organizations(),
        event_type: call.query.pattern("type"),
        since: call.query.time("since").unwrap_or(Timestamp::ZERO),
        until: call.query.time("until").unwrap_or(Timestamp::MAX),
        before: call.query.cursor()?,
        limit: call.query.limit(),
    };
    let found = call.read(move |store| store.events(&query)).await?;
    let shown: Vec<Event> = found.rows.into_iter().map(|event| visible(&call, event)).collect();
    let rows = shown.iter().map(|event| event_json::show(event, None)).collect();
    Ok(page(rows, found.next.map(|next| next.to_string())))
}

/// The event as the caller may see it: without PINs and credentials, unless it may
/// see secrets. Otherwise whoever may not have them sent to a receiver would read
/// them here.
fn visible(call: &Call, event: Event) -> Event {
    if call.caller.may(Role::Secrets) {
        return event;
    }
    let rules = &call.state.config.current().secrecy;
    let data = secrecy::redact(&event.data, &event.event_type, CREDENTIALS_LEVEL, rules);
    Event { data, ..event }
}

/// `GET /v1/events/{id}`: with the deliveries to subscriptions the caller reaches.
pub(super) async fn get(call: Box<Call>) -> Result<Response, Problem> {
    let id: EventId = call.id().parse().map_err(|_| not_found("event"))?;
    let detail = call.read(move |store| store.event(id)).await?.ok_or_else(|| not_found("event"))?;
    let event = &visible(&call, detail.event);
    let registry = call.registry();
    if !call.caller.reaches(&registry, &event.organization) {
        return Err(not_found("event"));
    }
    let shown = detail
        .deliveries
        .iter()
        .filter(|delivery| deliveries::is_reached(&call.caller, &registry, delivery.id, &event.organization))
        .map(|delivery| deliveries::show(&registry, delivery, &event.event_type, &event.organization))
        .collect();
    Ok(http::json(StatusCode::OK, &event_json::show(event, Some(shown))))
}
