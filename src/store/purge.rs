//! Retention. An event goes with all its deliveries, never while one is pending.
//!
//! Three cursors walk the events in time order, each at its own age: those that
//! matched nothing, those all of whose deliveries succeeded, and the rest. What
//! the last one cannot take yet, because it was reopened, is noted for later in a
//! small table of its own, so that **no event is looked at again and again**.

use redb::{Database, ReadableDatabase, ReadableTable, WriteTransaction};

use crate::config::Retention;
use crate::id::{EventId, Lane};
use crate::limits::{BULK_ROWS_MAX, IDEMPOTENCY_WINDOW};
use crate::model::TerminalState;
use crate::time::Timestamp;

use super::StoreError;
use super::count::BytesChange;
use super::hot::{Hot, standing};
use super::records::{OutcomeState, decode_event_summary};
use super::tables::*;
use super::{schema, settings};

/// What one step did.
pub(super) struct Purged {
    /// Whether there is more to do at once.
    pub(super) goes_on: bool,
    pub(super) bytes: BytesChange,
}

/// What an event's deliveries have come to.
enum Fate {
    /// There are none.
    Unmatched,
    /// All succeeded, the last one opened then.
    Delivered(Timestamp),
    /// All ended, not all well.
    Ended(Timestamp),
    /// Some are pending.
    Pending,
}

/// A cursor's name and the kind of event it takes.
const WALKS: [&str; 3] = ["purge_unmatched", "purge_delivered", "purge_ended"];

/// Purges at most [`BULK_ROWS_MAX`] rows of each kind, if any are due.
pub(super) fn step(
    transaction: &WriteTransaction,
    retention: &Retention,
    now: Timestamp,
    keyed_at: Timestamp,
    next_audit: u64,
) -> Result<Purged, StoreError> {
    let mut goes_on = false;
    let bytes;
    {
        let mut hot = Hot::open(transaction)?;
        let mut revisit = transaction.open_table(REVISIT)?;
        let ages = [retention.unmatched, retention.delivered, retention.failed];
        for (walk, age) in ages.into_iter().enumerate() {
            let cursor = schema::cursor(transaction, WALKS[walk])?.unwrap_or_default();
            let until = EventId::first_at(now - age).to_key();
            let due = events_between(&hot, cursor, until)?;
            goes_on |= due.len() == BULK_ROWS_MAX;
            for event in &due {
                let fate = fate(&hot, *event)?;
                match (walk, fate) {
                    (0, Fate::Unmatched) => hot.purge_event(*event)?,
                    (1, Fate::Delivered(opened_at)) if opened_at + age <= now => hot.purge_event(*event)?,
                    (2, fate) => take_or_note(&mut hot, &mut revisit, *event, fate, retention, now)?,
                    _ => {}
                }
            }
            if let Some(last) = due.last() {
                schema::put_cursor(transaction, WALKS[walk], last.to_key())?;
            }
        }
        let due: Vec<[u8; 20]> = revisit
            .range::<&[u8; 20]>(..&revisit_key(now, EventId::first_at(Timestamp::ZERO)))?
            .take(BULK_ROWS_MAX)
            .map(|row| row.map(|(key, _)| *key.value()))
            .collect::<Result<_, _>>()?;
        goes_on |= due.len() == BULK_ROWS_MAX;
        for key in due {
            revisit.remove(&key)?;
            let (_, event) = revisit_from_key(&key);
            let fate = fate(&hot, event)?;
            take_or_note(&mut hot, &mut revisit, event, fate, retention, now)?;
        }
        let oldest_day = day_of(keyed_at - IDEMPOTENCY_WINDOW).to_be_bytes();
        let mut forgotten = 0;
        for row in hot.idempotency.extract_from_if::<&[u8], _>(..&oldest_day[..], |_, _| true)?.take(BULK_ROWS_MAX) {
            let (key, value) = row?;
            forgotten += 1;
            hot.bytes.live -= (key.value().len() + value.value().len()) as i64;
        }
        goes_on |= forgotten == BULK_ROWS_MAX;
        bytes = hot.bytes;
    }
    purge_creations(transaction, now)?;
    purge_ended(transaction, retention, now)?;
    goes_on |= purge_audit(transaction, retention, now, next_audit)?;
    Ok(Purged { goes_on, bytes })
}

/// A look without a write: most of the time nothing is due.
pub(super) fn is_anything_due(
    database: &Database,
    retention: &Retention,
    now: Timestamp,
    keyed_at: Timestamp,
) -> Result<bool, StoreError> {
    let transaction = database.begin_read()?;
    let events = transaction.open_table(EVENT)?;
    let meta = transaction.open_table(META)?;
    for (walk, age) in [retention.unmatched, retention.delivered, retention.failed].into_iter().enumerate() {
        let cursor: [u8; 12] = match meta.get(WALKS[walk])? {
            Some(row) => row.value().try_into().unwrap_or_default(),
            None => [0; 12],
        };
        let until = EventId::first_at(now - age).to_key();
        if cursor < until
            && events.range::<&[u8; 12]>(&cursor..&until)?.any(|row| row.is_ok_and(|(key, _)| *key.value() != cursor))
        {
            return Ok(true);
        }
    }
    let is_due = |at: Timestamp| at <= now;
    let revisit = transaction.open_table(REVISIT)?.first()?.is_some_and(|(key, _)| {
        let (at, _) = revisit_from_key(key.value());
        is_due(at)
    });
    let oldest_day = day_of(keyed_at - IDEMPOTENCY_WINDOW).to_be_bytes();
    let idempotency =
        transaction.open_table(IDEMPOTENCY)?.first()?.is_some_and(|(key, _)| key.value() < &oldest_day[..]);
    let audit = match transaction.open_table(AUDIT)?.first()? {
        Some((key, value)) => is_due(settings::read_audit(key.value(), value.value())?.at + retention.audit),
        None => false,
    };
    Ok(revisit || idempotency || audit)
}

fn events_between(hot: &Hot<'_>, after: [u8; 12], until: [u8; 12]) -> Result<Vec<EventId>, StoreError> {
    if after >= until {
        return Ok(Vec::new());
    }
    let mut events = Vec::new();
    for row in hot.event.range::<&[u8; 12]>(&after..&until)? {
        let (key, _) = row?;
        if *key.value() != after {
            events.push(EventId::from_key(*key.value()));
        }
        if events.len() == BULK_ROWS_MAX {
            break;
        }
    }
    Ok(events)
}

fn fate(hot: &Hot<'_>, event: EventId) -> Result<Fate, StoreError> {
    let Some(row) = hot.event.get(&event.to_key())? else { return Ok(Fate::Unmatched) };
    let mut lanes = decode_event_summary(row.value())?.lanes;
    let (first, last) = outcome_bounds(event);
    for row in hot.outcome.range::<&[u8; 16]>(&first..=&last)? {
        lanes.push(crate::id::DeliveryId::from_key(*row?.0.value()).lane().0);
    }
    if lanes.is_empty() {
        return Ok(Fate::Unmatched);
    }
    let mut all_delivered = true;
    let mut opened_at = event.accepted_at();
    for lane in &lanes {
        let id = event.delivery(Lane(*lane));
        let Some(standing) = standing(id, &lanes, &hot.pending, &hot.outcome, &hot.attempt)? else { continue };
        match standing.outcome {
            Some(outcome) => match outcome.state {
                OutcomeState::Reopened { .. } => return Ok(Fate::Pending),
                OutcomeState::Ended(state) => {
                    all_delivered &= state == TerminalState::Delivered;
                    opened_at = opened_at.max(outcome.opened_at);
                }
            },
            None => return Ok(Fate::Pending),
        }
    }
    Ok(if all_delivered { Fate::Delivered(opened_at) } else { Fate::Ended(opened_at) })
}

/// Purges an event that has reached the longest age, or notes when to look again.
fn take_or_note(
    hot: &mut Hot<'_>,
    revisit: &mut redb::Table<'_, &'static [u8; 20], ()>,
    event: EventId,
    fate: Fate,
    retention: &Retention,
    now: Timestamp,
) -> Result<(), StoreError> {
    let again_at = match fate {
        Fate::Unmatched => None,
        Fate::Delivered(opened_at) => Some(opened_at + retention.delivered),
        Fate::Ended(opened_at) => Some(opened_at + retention.failed),
        Fate::Pending => Some(now + retention.delivered),
    };
    match again_at.filter(|at| *at > now) {
        Some(at) => {
            revisit.insert(&revisit_key(at, event), ())?;
            Ok(())
        }
        None => hot.purge_event(event),
    }
}

fn purge_creations(transaction: &WriteTransaction, now: Timestamp) -> Result<(), StoreError> {
    let mut table = transaction.open_table(CREATION)?;
    let mut over = Vec::new();
    for row in table.iter()? {
        let (key, value) = row?;
        if settings::read_creation(value.value())?.created_at + IDEMPOTENCY_WINDOW <= now {
            over.push(key.value().to_owned());
        }
        if over.len() == BULK_ROWS_MAX {
            break;
        }
    }
    for key in over {
        table.remove(key.as_str())?;
    }
    Ok(())
}

/// What is left of ended subscriptions goes when no delivery of theirs can be left.
fn purge_ended(transaction: &WriteTransaction, retention: &Retention, now: Timestamp) -> Result<(), StoreError> {
    let longest = retention.failed.max(retention.delivered) + retention.delivered;
    let mut table = transaction.open_table(ENDED)?;
    let mut over = Vec::new();
    for row in table.iter()? {
        let (lane, value) = row?;
        let ended_at = Timestamp::from_millis(settings::read_ended(value.value())?.ended_at_ms);
        if ended_at + longest <= now {
            over.push(lane.value());
        }
        if over.len() == BULK_ROWS_MAX {
            break;
        }
    }
    for lane in over {
        table.remove(lane)?;
    }
    Ok(())
}

fn purge_audit(
    transaction: &WriteTransaction,
    retention: &Retention,
    now: Timestamp,
    next_audit: u64,
) -> Result<bool, StoreError> {
    let mut table = transaction.open_table(AUDIT)?;
    let mut over = Vec::new();
    for row in table.range(..next_audit)? {
        let (sequence, value) = row?;
        if settings::read_audit(sequence.value(), value.value())?.at + retention.audit > now {
            break;
        }
        over.push(sequence.value());
        if over.len() == BULK_ROWS_MAX {
            break;
        }
    }
    for sequence in &over {
        table.remove(sequence)?;
    }
    Ok(over.len() == BULK_ROWS_MAX)
}
