//! Deliveries: listed, shown with their attempts, sent again, cancelled.

use serde_json::{Value, json};

use crate::auth::Caller;
use crate::http::{self, Problem, Response, StatusCode};
use crate::id::{DeliveryId, Lane};
use crate::model::{Attempt, AttemptOutcome, Delivery, DeliveryState, Event};
use crate::registry::Registry;
use crate::store::query::DeliveryQuery;
use crate::time::Timestamp;

use super::call::{Call, not_found, page};

/// `GET /v1/deliveries`: newest first.
pub(super) async fn list(call: Box<Call>) -> Result<Response, Problem> {
    listed(call, None).await
}

/// `GET /v1/subscriptions/{id}/deliveries`: newest first.
pub(super) async fn of_subscription(call: Box<Call>) -> Result<Response, Problem> {
    let lane = call.subscription()?.number;
    listed(call, Some(lane)).await
}

async fn listed(call: Box<Call>, lane: Option<Lane>) -> Result<Response, Problem> {
    let query = DeliveryQuery {
        // Whoever reaches a subscription sees all its deliveries, whosever the events.
        organizations: if lane.is_some() { None } else { call.listed_organizations() },
        lane,
        state: call.query.get("state").and_then(DeliveryState::from_name),
        event_type: call.query.pattern("type"),
        since: call.query.time("since").unwrap_or(Timestamp::ZERO),
        until: call.query.time("until").unwrap_or(Timestamp::MAX),
        before: call.query.cursor()?,
        limit: call.query.limit(),
    };
    let found = call.read(move |store| store.deliveries(&query)).await?;
    let registry = call.registry();
    let rows = found
        .rows
        .iter()
        .filter(|row| is_reached(&call.caller, &registry, row.delivery.id, &row.organization))
        .map(|row| show(&registry, &row.delivery, &row.event_type, &row.organization))
        .collect();
    Ok(page(rows, found.next.map(|next| next.to_string())))
}

/// `GET /v1/deliveries/{id}`: with every attempt kept.
pub(super) async fn get(call: Box<Call>) -> Result<Response, Problem> {
    let (delivery, event, attempts) = reached(&call).await?;
    let mut shown = show(&call.registry(), &delivery, &event.event_type, &event.organization);
    shown["attempts_kept"] = attempts.iter().map(show_attempt).collect();
    Ok(http::json(StatusCode::OK, &shown))
}

/// `POST /v1/deliveries/{id}/retry`
pub(super) async fn retry(call: Box<Call>) -> Result<Response, Problem> {
    let (delivery, ..) = reached(&call).await?;
    call.state.store.reopen(&call.caller.name, delivery.id).await?;
    answer(&call, StatusCode::ACCEPTED).await
}

/// `POST /v1/deliveries/{id}/cancel`
pub(super) async fn cancel(call: Box<Call>) -> Result<Response, Problem> {
    let (delivery, ..) = reached(&call).await?;
    call.state.store.cancel(&call.caller.name, delivery.id).await?;
    answer(&call, StatusCode::OK).await
}

async fn answer(call: &Call, status: StatusCode) -> Result<Response, Problem> {
    let (delivery, event, _) = reached(call).await?;
    let shown = show(&call.registry(), &delivery, &event.event_type, &event.organization);
    Ok(http::json(status, &shown))
}

/// The delivery of the path, where the caller reaches it.
async fn reached(call: &Call) -> Result<(Delivery, Event, Vec<Attempt>), Problem> {
    let id: DeliveryId = call.id().parse().map_err(|_| not_found("delivery"))?;
    let found = call.read(move |store| store.delivery(id)).await?.ok_or_else(|| not_found("delivery"))?;
    if is_reached(&call.caller, &call.registry(), id, &found.1.organization) {
        Ok(found)
    } else {
        Err(not_found("delivery"))
    }
}

/// Whether a delivery may be shown: it is its subscription's owner's, whose event
/// may come from further down the tree. Of a subscription that nobody remembers, the
/// event's owner's.
pub(super) fn is_reached(caller: &Caller, registry: &Registry, id: DeliveryId, event_organization: &str) -> bool {
    match registry.lane_owner(id.lane()) {
        Some((_, organization)) => caller.reaches(registry, organization),
        None => caller.reaches(registry, event_organization),
    }
}

/// A delivery as lists show it. `organization` is its event's.
pub(super) fn show(registry: &Registry, delivery: &Delivery, event_type: &str, organization: &str) -> Value {
    json!({
        "id": delivery.id.to_string(),
        "event": {"id": delivery.id.event().to_string(), "type": event_type},
        "subscription": registry.lane_owner(delivery.id.lane()).map(|(id, _)| id.to_string()),
        "organization": organization,
        "state": delivery.state.as_str(),
        "code": delivery.code.map(|code| code.as_str()),
        "attempts": delivery.attempts,
        "next_attempt_at": delivery.next_attempt_at.map(|at| at.to_string()),
        "opened_at": delivery.opened_at.to_string(),
        "ended_at": delivery.ended_at.map(|at| at.to_string()),
    })
}

/// An attempt as shown; what of the answer's body is not text is replaced.
pub(super) fn show_attempt(attempt: &Attempt) -> Value {
    let outcome = match &attempt.outcome {
        AttemptOutcome::Success { status } => json!({"success": true, "status": status, "code": null, "detail": null}),
        AttemptOutcome::Failure { code, status, detail } => {
            json!({"success": false, "status": status, "code": code.as_str(), "detail": detail})
        }
    };
    json!({
        "number": attempt.number,
        "started_at": attempt.started_at.to_string(),
        "duration_ms": attempt.duration_ms,
        "outcome": outcome,
        "missing": attempt.missing,
        "response_body": String::from_utf8_lossy(&attempt.response_body),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::FailureCode;

    #[test]
    fn attempts_show_how_they_went() {
        let mut attempt = Attempt {
            number: 2,
            started_at: Timestamp::from_millis(1_000),
            duration_ms: 30,
            outcome: AttemptOutcome::Success { status: 204 },
            missing: vec!["user.name".to_owned()],
            response_body: bytes::Bytes::from_static(b"ok \xff"),
        };
        assert_eq!(
            show_attempt(&attempt),
            json!({
                "number": 2,
                "started_at": "1970-01-01T00:00:01.000Z",
                "duration_ms": 30,
                "outcome": {"success": true, "status": 204, "code": null, "detail": null},
                "missing": ["user.name"],
                "response_body": "ok \u{fffd}",
            })
        );
        attempt.outcome =
            AttemptOutcome::Failure { code: FailureCode::Dns, status: None, detail: "no such host".to_owned() };
        assert_eq!(
            show_attempt(&attempt)["outcome"],
            json!({"success": false, "status": null, "code": "dns", "detail": "no such host"})
        );
    }
}
