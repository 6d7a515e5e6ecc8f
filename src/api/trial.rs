//! Test events: sent now, once, and kept nowhere. For `…/test`, and for
//! verification, which needs the format's success before anything changes.

use std::sync::Arc;

use serde_json::json;

use crate::attempt::Performer;
use crate::dialect::{self, Dialect};
use crate::http::{Code, Problem};
use crate::id::{Lane, Minter, SubscriptionId};
use crate::model::{
    Attempt, AttemptOutcome, Event, FailureCode, FixedTarget, Name, Settings, SigningSecret, Status, Subscription,
};

use super::call::{Call, random};
use super::quota;

/// Lanes of subscriptions that do not exist (yet): the upper half of the numbers,
/// which no real lane reaches. So a trial shares no cached token with anybody.
const PROVISIONAL: u32 = 1 << 31;

/// A test event of that type (the format's own where none is named) with the
/// catalog's example as its data.
fn test_event(call: &Call, subscription: &Subscription, event_type: Option<&str>) -> Result<Event, Problem> {
    let (own_type, own_data) = dialect::find(subscription.settings.format).test_event(subscription);
    let event_type = event_type.filter(|named| *named != own_type);
    let example = event_type.and_then(|named| call.registry().event_type(named).map(|entry| entry.example.clone()));
    let now = call.now();
    Ok(Event {
        id: Minter::after(None).mint(now, u64::from_be_bytes(random()?)),
        event_type: Name::from(event_type.unwrap_or(own_type)),
        organization: subscription.settings.organization.clone(),
        source: None,
        subject: None,
        occurred_at: now,
        event_id: None,
        data: example.filter(|data| !data.is_null()).unwrap_or(own_data),
    })
}

/// Sends a test event of that type, as [`test_event`] makes it, and answers with the
/// attempt.
pub(super) async fn send(
    call: &Call,
    subscription: &Arc<Subscription>,
    event_type: Option<&str>,
) -> Result<Attempt, Problem> {
    let event = test_event(call, subscription, event_type)?;
    quota::take_trial(call)?;
    Ok(perform(call, subscription, &event).await)
}

async fn perform(call: &Call, subscription: &Arc<Subscription>, event: &Event) -> Attempt {
    let performer: &Performer = &call.state.performer;
    performer.perform(subscription, event, event.id.delivery(subscription.number), 1).await.attempt
}

/// Sends the format's own test event, and refuses where it is not answered with
/// success. Tells nothing of the answer's body.
pub(super) async fn fire(call: &Call, subscription: &Arc<Subscription>) -> Result<Event, Problem> {
    let event = test_event(call, subscription, None)?;
    quota::take_trial(call)?;
    refuse_failure(&perform(call, subscription, &event).await.outcome)?;
    Ok(event)
}

/// Whether a subscription of this format must pass verification.
pub(super) fn is_wanted(call: &Call, dialect: &dyn Dialect) -> bool {
    call.query.is_true("verify") || call.state.config.current().delivery.verify_urls || dialect.always_verifies()
}

/// Fires by `settings`, signed with `secrets`, as if they stood: as those of the
/// subscription `id`, or of one that is not there yet.
pub(super) async fn verify(
    call: &Call,
    id: SubscriptionId,
    settings: &Settings,
    secrets: Vec<SigningSecret>,
) -> Result<(), Problem> {
    let now = call.now();
    let candidate = Arc::new(Subscription {
        id,
        number: Lane(u32::from_be_bytes(random()?) | PROVISIONAL),
        settings: settings.clone(),
        secrets,
        status: Status::Enabled,
        status_reason: None,
        version: 0,
        created_at: now,
        updated_at: now,
        created_by: call.caller.name.clone(),
        declared: None,
        fixed_target: FixedTarget::default(),
    });
    let fired = fire(call, &candidate).await;
    call.state.performer.forget(candidate.number);
    fired.map(drop)
}

fn refuse_failure(outcome: &AttemptOutcome) -> Result<(), Problem> {
    let (code, status) = match outcome {
        AttemptOutcome::Success { .. } => return Ok(()),
        AttemptOutcome::Failure { code, status, .. } => (code, status),
    };
    let detail = match (code, status) {
        (FailureCode::Status, Some(status)) => format!("the test event was answered with status {status}"),
        _ => format!("the test event could not be delivered: {code}"),
    };
    let outcome = json!({"code": code.as_str(), "status": status});
    Err(Problem::new(Code::VerificationFailed).detail(detail).member("outcome", outcome))
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn a_failed_verification_tells_code_and_status_alone() {
        assert!(refuse_failure(&AttemptOutcome::Success { status: 200 }).is_ok());
        let failure = |code, status| AttemptOutcome::Failure { code, status, detail: "of the body".to_owned() };
        for (outcome, told) in [
            (failure(FailureCode::Status, Some(404)), json!({"code": "status", "status": 404})),
            (failure(FailureCode::Oauth2, Some(503)), json!({"code": "oauth2", "status": 503})),
            (failure(FailureCode::Dns, None), json!({"code": "dns", "status": null})),
        ] {
            let value = refuse_failure(&outcome).expect_err("a failure").to_value();
            assert_eq!((&value["status"], &value["outcome"]), (&json!(422), &told));
            assert!(!value.to_string().contains("of the body"));
        }
    }
}
