//! The stored forms of what moves: events, pending deliveries, outcomes, attempts.
//!
//! Each record is one version byte and compact fields (postcard). **A field is
//! never added to a version that was released**: a new version is a new struct,
//! and the old one stays readable.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::id::EventId;
use crate::json::Json;
use crate::model::{Attempt, AttemptOutcome, Event, FailureCode, Head, Key, Name, TerminalState};
use crate::time::Timestamp;

use super::StoreError;

const VERSION: u8 = 1;

/// What most records take beside texts of unknown length.
const RECORD_BYTES_EXPECTED: usize = 64;

/// What a pending row takes: thousands of them wait in memory.
const PENDING_BYTES_EXPECTED: usize = 16;

/// `bytes_expected`: so much is made room for at once.
fn encode(record: &impl Serialize, bytes_expected: usize) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::with_capacity(bytes_expected);
    bytes.push(VERSION);
    postcard::to_extend(record, bytes).map_err(|_| StoreError::Record("cannot be written"))
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<(T, &'a [u8]), StoreError> {
    match bytes.split_first() {
        Some((&VERSION, rest)) => postcard::take_from_bytes(rest).map_err(|_| StoreError::Record("cannot be read")),
        Some(_) => Err(StoreError::Record("has a version that this program does not know")),
        None => Err(StoreError::Record("is empty")),
    }
}

#[derive(Serialize, Deserialize)]
struct EventV1<'a> {
    event_type: &'a str,
    organization: &'a str,
    source: Option<&'a str>,
    subject: Option<&'a str>,
    occurred_at_ms: u64,
    event_id: Option<&'a str>,
    lanes: Vec<u32>,
}

/// An event with the lanes it was matched with. Its data follows the fields, so
/// that it is sliced and not copied.
pub(super) fn encode_event(event: &Event, lanes: &[u32]) -> Result<Vec<u8>, StoreError> {
    let record = EventV1 {
        event_type: &event.event_type,
        organization: &event.organization,
        source: event.source.as_deref(),
        subject: event.subject.as_deref(),
        occurred_at_ms: event.occurred_at.as_millis(),
        event_id: event.event_id.as_deref(),
        lanes: lanes.to_vec(),
    };
    // A number of a lane rarely takes more than three bytes.
    let mut bytes = encode(&record, RECORD_BYTES_EXPECTED + 3 * lanes.len() + event.data.as_bytes().len())?;
    bytes.extend_from_slice(event.data.as_bytes());
    Ok(bytes)
}

/// The inverse of [`encode_event`].
pub(super) fn decode_event(id: EventId, bytes: &[u8]) -> Result<(Event, Vec<u32>), StoreError> {
    let (record, data): (EventV1<'_>, &[u8]) = decode(bytes)?;
    let event = Event {
        id,
        event_type: Name::from(record.event_type),
        organization: Name::from(record.organization),
        source: record.source.map(Name::from),
        subject: record.subject.map(str::to_owned),
        occurred_at: Timestamp::from_millis(record.occurred_at_ms),
        event_id: record.event_id.map(str::to_owned),
        data: Json::from_checked(Bytes::copy_from_slice(data)),
    };
    Ok((event, record.lanes))
}

/// What lists show of an event, without its data.
pub(super) struct EventSummary<'a> {
    pub(super) event_type: &'a str,
    pub(super) organization: &'a str,
    pub(super) lanes: Vec<u32>,
}

/// Reads an event's fields without its data.
pub(super) fn decode_event_summary(bytes: &[u8]) -> Result<EventSummary<'_>, StoreError> {
    let (record, _): (EventV1<'_>, _) = decode(bytes)?;
    Ok(EventSummary { event_type: record.event_type, organization: record.organization, lanes: record.lanes })
}

#[derive(Serialize, Deserialize)]
struct PendingV1 {
    attempts: u32,
    failures: u32,
    /// How long after its event's id says it was opened: 0 unless reopened, and
    /// negative where the clock had been set back.
    opened_after_ms: i64,
    weight_bytes: u32,
}

/// What a pending row says beside its key. `weight_bytes`: what its event's row takes.
/// How long after its place it is due follows the fields where that is not at its place.
pub(super) fn encode_pending(head: &Head, weight_bytes: u32) -> Result<Vec<u8>, StoreError> {
    // Both are within the years that a timestamp can be.
    let opened_after_ms = head.opened_at.as_millis() as i64 - head.event.accepted_at().as_millis() as i64;
    let record = PendingV1 { attempts: head.attempts, failures: head.failures, opened_after_ms, weight_bytes };
    let mut bytes = encode(&record, PENDING_BYTES_EXPECTED)?;
    if head.due != head.place {
        let due_after_ms = head.due.as_millis() as i64 - head.place.as_millis() as i64;
        bytes = postcard::to_extend(&due_after_ms, bytes).map_err(|_| StoreError::Record("cannot be written"))?;
    }
    Ok(bytes)
}

/// The inverse of [`encode_pending`], given the key's parts.
pub(super) fn decode_pending((place, event): Key, bytes: &[u8]) -> Result<Head, StoreError> {
    let (record, rest): (PendingV1, _) = decode(bytes)?;
    let after = |at: Timestamp, span_ms| Timestamp::from_millis(at.as_millis().saturating_add_signed(span_ms));
    let due = match rest {
        [] => place,
        rest => after(place, postcard::from_bytes(rest).map_err(|_| StoreError::Record("cannot be read"))?),
    };
    let opened_at = after(event.accepted_at(), record.opened_after_ms);
    Ok(Head { place, due, event, attempts: record.attempts, failures: record.failures, opened_at })
}

/// What the event of a pending row weighs.
pub(super) fn decode_weight(bytes: &[u8]) -> Result<u32, StoreError> {
    let (record, _): (PendingV1, _) = decode(bytes)?;
    Ok(record.weight_bytes)
}

/// A stable number for a failure code: its place in [`FailureCode::ALL`], to
/// which codes are only ever appended.
fn code_number(code: FailureCode) -> u8 {
    FailureCode::ALL.iter().position(|known| *known == code).and_then(|at| u8::try_from(at).ok()).unwrap_or(u8::MAX)
}

fn code_from_number(number: u8) -> Result<FailureCode, StoreError> {
    FailureCode::ALL.get(usize::from(number)).copied().ok_or(StoreError::Record("has an unknown failure code"))
}

#[derive(Serialize, Deserialize)]
enum OutcomeStateV1 {
    Delivered,
    Failed,
    Cancelled,
    Reopened { place_ms: u64 },
}

#[derive(Serialize, Deserialize)]
struct OutcomeV1 {
    state: OutcomeStateV1,
    at_ms: u64,
    opened_at_ms: u64,
    attempts: u32,
    code: Option<u8>,
    success: Option<AttemptV1>,
}

/// How a delivery ended, or that it was opened again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) state: OutcomeState,
    /// When it ended or was opened again.
    pub(super) at: Timestamp,
    /// When it was accepted or last reopened.
    pub(super) opened_at: Timestamp,
    /// Attempts made by then.
    pub(super) attempts: u32,
    /// Why it failed.
    pub(super) code: Option<FailureCode>,
    /// The attempt that succeeded.
    pub(super) success: Option<Attempt>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OutcomeState {
    Ended(TerminalState),
    /// Pending again: where its row stood when it was reopened.
    Reopened {
        place: Timestamp,
    },
}

pub(super) fn encode_outcome(outcome: &Outcome) -> Result<Vec<u8>, StoreError> {
    let record = OutcomeV1 {
        state: match outcome.state {
            OutcomeState::Ended(TerminalState::Delivered) => OutcomeStateV1::Delivered,
            OutcomeState::Ended(TerminalState::Failed) => OutcomeStateV1::Failed,
            OutcomeState::Ended(TerminalState::Cancelled) => OutcomeStateV1::Cancelled,
            OutcomeState::Reopened { place } => OutcomeStateV1::Reopened { place_ms: place.as_millis() },
        },
        at_ms: outcome.at.as_millis(),
        opened_at_ms: outcome.opened_at.as_millis(),
        attempts: outcome.attempts,
        code: outcome.code.map(code_number),
        success: outcome.success.as_ref().map(|attempt| AttemptV1::new(attempt, None)),
    };
    let body_bytes = outcome.success.as_ref().map_or(0, |attempt| attempt.response_body.len());
    encode(&record, RECORD_BYTES_EXPECTED + body_bytes)
}

pub(super) fn decode_outcome(bytes: &[u8]) -> Result<Outcome, StoreError> {
    let (record, _): (OutcomeV1, _) = decode(bytes)?;
    Ok(Outcome {
        state: match record.state {
            OutcomeStateV1::Delivered => OutcomeState::Ended(TerminalState::Delivered),
            OutcomeStateV1::Failed => OutcomeState::Ended(TerminalState::Failed),
            OutcomeStateV1::Cancelled => OutcomeState::Ended(TerminalState::Cancelled),
            OutcomeStateV1::Reopened { place_ms } => OutcomeState::Reopened { place: Timestamp::from_millis(place_ms) },
        },
        at: Timestamp::from_millis(record.at_ms),
        opened_at: Timestamp::from_millis(record.opened_at_ms),
        attempts: record.attempts,
        code: record.code.map(code_from_number).transpose()?,
        success: record.success.map(AttemptV1::into_attempt).transpose()?,
    })
}

#[derive(Serialize, Deserialize)]
struct AttemptV1 {
    number: u32,
    started_at_ms: u64,
    duration_ms: u32,
    /// None: it succeeded.
    code: Option<u8>,
    status: Option<u16>,
    detail: String,
    missing: Vec<String>,
    response_body: Vec<u8>,
    /// Where its delivery's row stood after it; none: nowhere, or it was the last.
    next_place_ms: Option<u64>,
}

impl AttemptV1 {
    fn new(attempt: &Attempt, next_place: Option<Timestamp>) -> AttemptV1 {
        let (code, status, detail) = match &attempt.outcome {
            AttemptOutcome::Success { status } => (None, Some(*status), String::new()),
            AttemptOutcome::Failure { code, status, detail } => (Some(code_number(*code)), *status, detail.clone()),
        };
        AttemptV1 {
            number: attempt.number,
            started_at_ms: attempt.started_at.as_millis(),
            duration_ms: attempt.duration_ms,
            code,
            status,
            detail,
            missing: attempt.missing.clone(),
            response_body: attempt.response_body.to_vec(),
            next_place_ms: next_place.map(Timestamp::as_millis),
        }
    }

    fn into_attempt(self) -> Result<Attempt, StoreError> {
        let outcome = match self.code {
            None => AttemptOutcome::Success { status: self.status.unwrap_or_default() },
            Some(code) => {
                AttemptOutcome::Failure { code: code_from_number(code)?, status: self.status, detail: self.detail }
            }
        };
        Ok(Attempt {
            number: self.number,
            started_at: Timestamp::from_millis(self.started_at_ms),
            duration_ms: self.duration_ms,
            outcome,
            missing: self.missing,
            response_body: Bytes::from(self.response_body),
        })
    }
}

/// An attempt, and where its delivery's pending row stood after it.
pub(super) fn encode_attempt(attempt: &Attempt, next_place: Option<Timestamp>) -> Result<Vec<u8>, StoreError> {
    encode(&AttemptV1::new(attempt, next_place), RECORD_BYTES_EXPECTED + attempt.response_body.len())
}

/// The inverse of [`encode_attempt`].
pub(super) fn decode_attempt(bytes: &[u8]) -> Result<(Attempt, Option<Timestamp>), StoreError> {
    let (record, _): (AttemptV1, _) = decode(bytes)?;
    let next_place = record.next_place_ms.map(Timestamp::from_millis);
    Ok((record.into_attempt()?, next_place))
}

#[derive(Serialize, Deserialize)]
struct IdempotencyV1 {
    event: [u8; 12],
    content: [u8; 16],
}

/// Which event has an idempotency key, and a digest of what it was.
pub(super) fn encode_idempotency(event: EventId, content: [u8; 16]) -> Result<Vec<u8>, StoreError> {
    encode(&IdempotencyV1 { event: event.to_key(), content }, RECORD_BYTES_EXPECTED)
}

/// The inverse of [`encode_idempotency`].
pub(super) fn decode_idempotency(bytes: &[u8]) -> Result<(EventId, [u8; 16]), StoreError> {
    let (record, _): (IdempotencyV1, _) = decode(bytes)?;
    Ok((EventId::from_key(record.event), record.content))
}

#[derive(Serialize, Deserialize)]
struct StatsV1 {
    odometer: u64,
    attempts: u64,
    consecutive_failures: u32,
    last_triggered_at_ms: Option<u64>,
    last_success_at_ms: Option<u64>,
    last_failure: Option<(u64, u8)>,
    pending: u64,
    pending_bytes: u64,
}

/// What a lane went through.
pub(super) fn encode_stats(stats: &crate::model::LaneStats) -> Result<Vec<u8>, StoreError> {
    let record = StatsV1 {
        odometer: stats.odometer,
        attempts: stats.attempts,
        consecutive_failures: stats.consecutive_failures,
        last_triggered_at_ms: stats.last_triggered_at.map(Timestamp::as_millis),
        last_success_at_ms: stats.last_success_at.map(Timestamp::as_millis),
        last_failure: stats.last_failure.map(|(at, code)| (at.as_millis(), code_number(code))),
        pending: stats.pending,
        pending_bytes: stats.pending_bytes,
    };
    encode(&record, RECORD_BYTES_EXPECTED)
}

/// The inverse of [`encode_stats`].
pub(super) fn decode_stats(bytes: &[u8]) -> Result<crate::model::LaneStats, StoreError> {
    let (record, _): (StatsV1, _) = decode(bytes)?;
    let last_failure = match record.last_failure {
        Some((at_ms, code)) => Some((Timestamp::from_millis(at_ms), code_from_number(code)?)),
        None => None,
    };
    Ok(crate::model::LaneStats {
        odometer: record.odometer,
        attempts: record.attempts,
        consecutive_failures: record.consecutive_failures,
        last_triggered_at: record.last_triggered_at_ms.map(Timestamp::from_millis),
        last_success_at: record.last_success_at_ms.map(Timestamp::from_millis),
        last_failure,
        pending: record.pending,
        pending_bytes: record.pending_bytes,
    })
}
