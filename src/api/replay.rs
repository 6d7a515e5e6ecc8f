//! Many deliveries of one subscription at once: sent again, or cancelled.

use serde_json::{Map, Value, json};

use crate::http::{self, Problem, Response, StatusCode};
use crate::id::Lane;
use crate::input::{Faults, Fields};
use crate::limits::PATTERNS_MAX;
use crate::pattern::Pattern;
use crate::store::command::{Replay, Window};
use crate::time::Timestamp;

use super::call::Call;
use super::values::{judged, required};

/// `POST /v1/subscriptions/{id}/replay`
pub(super) async fn replay(call: Box<Call>) -> Result<Response, Problem> {
    let lane = call.subscription()?.number;
    let replay = read_replay(&call.object()?, lane)?;
    let done = call.state.store.replay(&call.caller.name, replay).await?;
    let next_since = done.next_since.map(|at| at.to_string());
    let answer = json!({"deliveries": done.deliveries, "more": next_since.is_some(), "next_since": next_since});
    Ok(http::json(StatusCode::ACCEPTED, &answer))
}

/// `POST /v1/subscriptions/{id}/cancel`
pub(super) async fn cancel(call: Box<Call>) -> Result<Response, Problem> {
    let lane = call.subscription()?.number;
    let window = read_cancel(&call.object()?)?;
    let cancelled = call.state.store.cancel_matching(&call.caller.name, lane, window).await?;
    Ok(http::json(StatusCode::ACCEPTED, &json!({"cancelled": cancelled})))
}

fn read_replay(body: &Map<String, Value>, lane: Lane) -> Result<Replay, Problem> {
    const STATES: &[&str] = &["failed", "delivered", "missed"];
    let faults = Faults::new();
    let fields = Fields::new("", body, &faults);
    required::<()>(&fields, "since", None);
    let window = read_window(&fields);
    let states = required(&fields, "states", fields.strings("states"));
    if states.as_ref().is_some_and(Vec::is_empty) {
        fields.fault("states", "must name at least one of failed, delivered, missed");
    }
    let states = states.unwrap_or_default();
    for (index, state) in states.iter().enumerate() {
        if state.is_some_and(|state| !STATES.contains(&state)) {
            fields.fault(&format!("states[{index}]"), "must be one of failed, delivered, missed");
        }
    }
    fields.finish();
    let has = |state| states.contains(&Some(state));
    let replay = Replay { lane, window, failed: has("failed"), delivered: has("delivered"), missed: has("missed") };
    judged(faults, replay)
}

fn read_cancel(body: &Map<String, Value>) -> Result<Window, Problem> {
    let faults = Faults::new();
    let fields = Fields::new("", body, &faults);
    let window = read_window(&fields);
    fields.finish();
    judged(faults, window)
}

/// `since`, `until` and `events`; what is missing does not limit.
fn read_window(fields: &Fields<'_>) -> Window {
    let since = fields.timestamp("since").unwrap_or(Timestamp::ZERO);
    let until = fields.timestamp("until").unwrap_or(Timestamp::MAX);
    if until <= since {
        fields.fault("until", "must be later than since");
    }
    let texts = fields.strings("events").unwrap_or_default();
    if texts.len() > PATTERNS_MAX {
        fields.fault("events", format!("may have at most {PATTERNS_MAX} patterns"));
    }
    let mut events = Vec::with_capacity(texts.len());
    for (index, text) in texts.into_iter().enumerate() {
        match text.map(Pattern::parse) {
            Some(Ok(pattern)) => events.push(pattern),
            Some(Err(error)) => fields.fault(&format!("events[{index}]"), error.to_string()),
            None => {}
        }
    }
    Window { since, until, events }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().expect("an object").clone()
    }

    #[test]
    fn a_replay_says_since_when_and_what() {
        let body = json!({"since": "1970-01-01T00:00:05Z", "states": ["missed", "failed"], "events": ["door.*"]});
        let replay = read_replay(&object(body), Lane(3)).expect("valid");
        let window = Window {
            since: Timestamp::from_millis(5_000),
            until: Timestamp::MAX,
            events: vec![Pattern::parse("door.*").expect("a pattern")],
        };
        assert_eq!(replay, Replay { lane: Lane(3), window, failed: true, delivered: false, missed: true });
        for (body, fields) in [
            (json!({}), &["since", "states"][..]),
            (json!({"since": "1970-01-01T00:00:05Z", "states": []}), &["states"]),
            (json!({"since": "x", "states": ["pending"], "event": ["a"]}), &["since", "states[0]", "event"]),
            (
                json!({"since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z", "states": ["failed"],
                       "events": ["a..b"]}),
                &["until", "events[0]"],
            ),
        ] {
            let value = read_replay(&object(body.clone()), Lane(3)).expect_err("faults").to_value();
            let errors = value["errors"].as_array().expect("a list");
            let told: Vec<&str> = errors.iter().filter_map(|error| error["field"].as_str()).collect();
            assert_eq!(told, fields, "{body}");
        }
    }

    #[test]
    fn a_cancellation_without_limits_is_of_everything() {
        let all = Window { since: Timestamp::ZERO, until: Timestamp::MAX, events: Vec::new() };
        assert_eq!(read_cancel(&Map::new()).expect("valid"), all);
        assert!(read_cancel(&object(json!({"states": ["failed"]}))).is_err());
    }
}
