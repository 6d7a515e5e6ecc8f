//! Reading events, deliveries and the audit log. Each call has its own snapshot;
//! none is held open, because that would keep pages from being reused.

use redb::{Database, ReadableDatabase, ReadableTableMetadata};

use crate::id::{DeliveryId, EventId, Lane};
use crate::limits::{BACKLOG_BYTES_MAX, PAGE_DATA_BYTES_MAX, PAGE_SCAN_MAX};
use crate::model::{Attempt, Delivery, DeliveryState, Event, Head, Key, Name, TerminalState};
use crate::pattern::Pattern;
use crate::seal::Keyring;
use crate::time::Timestamp;

use super::hot::{Standing, lanes_of, standing};
use super::query::*;
use super::records::{OutcomeState, decode_attempt, decode_event, decode_event_summary, decode_pending};
use super::tables::*;
use super::{StoreError, passed_over, schema, settings};

/// The tables that deliveries are read from.
struct Tables {
    event: redb::ReadOnlyTable<&'static [u8; 12], &'static [u8]>,
    pending: redb::ReadOnlyTable<&'static [u8; 24], &'static [u8]>,
    outcome: redb::ReadOnlyTable<&'static [u8; 16], &'static [u8]>,
    attempt: redb::ReadOnlyTable<&'static [u8; 20], &'static [u8]>,
}

impl Tables {
    fn open(database: &Database) -> Result<Tables, StoreError> {
        let transaction = database.begin_read()?;
        Ok(Tables {
            event: transaction.open_table(EVENT)?,
            pending: transaction.open_table(PENDING)?,
            outcome: transaction.open_table(OUTCOME)?,
            attempt: transaction.open_table(ATTEMPT)?,
        })
    }

    fn delivery(&self, id: DeliveryId, lanes: &[u32]) -> Result<Option<Delivery>, StoreError> {
        let standing = standing(id, lanes, &self.pending, &self.outcome, &self.attempt)?;
        Ok(standing.map(|standing| show(id, &standing)))
    }
}

fn show(id: DeliveryId, standing: &Standing) -> Delivery {
    let ended = standing.outcome.as_ref().and_then(|outcome| match outcome.state {
        OutcomeState::Ended(state) => Some((outcome, state)),
        OutcomeState::Reopened { .. } => None,
    });
    match ended {
        Some((outcome, state)) => Delivery {
            id,
            state: match state {
                TerminalState::Delivered => DeliveryState::Delivered,
                TerminalState::Failed => DeliveryState::Failed,
                TerminalState::Cancelled => DeliveryState::Cancelled,
            },
            code: outcome.code,
            attempts: outcome.attempts,
            next_attempt_at: None,
            opened_at: outcome.opened_at,
            ended_at: Some(outcome.at),
        },
        None => Delivery {
            id,
            state: DeliveryState::Pending,
            code: None,
            attempts: standing.head.map_or(0, |head| head.attempts),
            next_attempt_at: standing.head.map(|head| head.due),
            opened_at: standing.head.map_or(id.event().accepted_at(), |head| head.opened_at),
            ended_at: None,
        },
    }
}

/// An event alone.
pub(super) fn plain_event(database: &Database, id: EventId) -> Result<Option<Event>, StoreError> {
    let events = database.begin_read()?.open_table(EVENT)?;
    match events.get(&id.to_key())? {
        Some(row) => Ok(Some(decode_event(id, row.value())?.0)),
        None => Ok(None),
    }
}

/// An event with its deliveries.
pub(super) fn event(database: &Database, id: EventId) -> Result<Option<EventDetail>, StoreError> {
    let tables = Tables::open(database)?;
    let Some(row) = tables.event.get(&id.to_key())? else { return Ok(None) };
    let (event, matched) = decode_event(id, row.value())?;
    let mut deliveries = Vec::new();
    for lane in lanes_of(id, &matched, &tables.outcome)? {
        let delivery = id.delivery(Lane(lane));
        deliveries.extend(passed_over(tables.delivery(delivery, &matched), delivery)?.flatten());
    }
    Ok(Some(EventDetail { event, deliveries }))
}

/// A delivery, its event and the attempts kept, oldest first.
pub(super) fn delivery(
    database: &Database,
    id: DeliveryId,
) -> Result<Option<(Delivery, Event, Vec<Attempt>)>, StoreError> {
    let tables = Tables::open(database)?;
    let Some(row) = tables.event.get(&id.event().to_key())? else { return Ok(None) };
    let (event, matched) = decode_event(id.event(), row.value())?;
    let standing = standing(id, &matched, &tables.pending, &tables.outcome, &tables.attempt)?;
    let Some(standing) = standing else { return Ok(None) };
    let mut attempts = Vec::new();
    for row in tables.attempt.range::<&[u8; 20]>(&attempt_key(id, 0)..=&attempt_key(id, u32::MAX))? {
        attempts.push(decode_attempt(row?.1.value())?.0);
    }
    let delivery = show(id, &standing);
    attempts.extend(standing.outcome.and_then(|outcome| outcome.success));
    Ok(Some((delivery, event, attempts)))
}

fn is_of(organizations: Option<&[Name]>, organization: &str) -> bool {
    organizations.is_none_or(|wanted| wanted.iter().any(|name| name.as_ref() == organization))
}

fn is_type(pattern: Option<&Pattern>, event_type: &str) -> bool {
    pattern.is_none_or(|pattern| pattern.matches(event_type))
}

/// The range of [`EVENT`] keys from `since` to before `until` and `before`.
fn event_range(since: Timestamp, until: Timestamp, before: Option<EventId>) -> Option<([u8; 12], [u8; 12])> {
    let from = EventId::first_at(since).to_key();
    let until = EventId::first_at(until).to_key();
    let until = before.map_or(until, |before| until.min(before.to_key()));
    (from < until).then_some((from, until))
}

/// Events, newest first.
pub(super) fn events(database: &Database, query: &EventQuery) -> Result<Page<Event, EventId>, StoreError> {
    let events = database.begin_read()?.open_table(EVENT)?;
    let mut page = Page { rows: Vec::new(), next: None };
    let Some((from, until)) = event_range(query.since, query.until, query.before) else { return Ok(page) };
    let mut last = None;
    let mut data_bytes = 0;
    for (seen, row) in events.range::<&[u8; 12]>(&from..&until)?.rev().enumerate() {
        if page.rows.len() == query.limit || seen == PAGE_SCAN_MAX || data_bytes >= PAGE_DATA_BYTES_MAX {
            page.next = last;
            break;
        }
        let (key, value) = row?;
        let id = EventId::from_key(*key.value());
        last = Some(id);
        let Some(summary) = passed_over(decode_event_summary(value.value()), id)? else { continue };
        if is_of(query.organizations.as_deref(), summary.organization)
            && is_type(query.event_type.as_ref(), summary.event_type)
        {
            let (event, _) = decode_event(id, value.value())?;
            data_bytes += event.data.as_bytes().len();
            page.rows.push(event);
        }
    }
    Ok(page)
}

/// What an `Idempotency-Key` made, while a repetition is known.
pub(super) fn creation(
    database: &Database,
    organization: &str,
    key: &str,
    keyring: &Keyring,
    now: Timestamp,
) -> Result<Option<settings::Creation>, StoreError> {
    let transaction = database.begin_read()?;
    let newest = schema::newest_id(&transaction)?.map(EventId::accepted_at);
    let keyed_at = newest.map_or(now, |newest| newest.max(now));
    let creations = transaction.open_table(CREATION)?;
    for day in idempotency_days(keyed_at) {
        let place = idempotency_key(day, organization, KeyKind::Given, key);
        let Some(row) = creations.get(place.as_slice())? else { continue };
        let first = passed_over(settings::read_creation(&place, row.value(), keyring), "an idempotency key")?;
        // The key may have been used anew since an earlier use was forgotten.
        if let Some(first) = first.filter(|first| first.is_known(keyed_at)) {
            return Ok(Some(first));
        }
    }
    Ok(None)
}

/// Deliveries, newest event first, within an event the highest lane first.
/// `owner` says whose a lane is.
pub(super) fn deliveries(
    database: &Database,
    query: &DeliveryQuery,
    owner: impl Fn(Lane) -> Option<Name>,
) -> Result<Page<ListedDelivery, DeliveryId>, StoreError> {
    let tables = Tables::open(database)?;
    let mut page = Page { rows: Vec::new(), next: None };
    // The event of the cursor itself may have more deliveries to show.
    let before = query.before.map(|before| EventId::from_key(successor(before.event().to_key())));
    let Some((from, until)) = event_range(query.since, query.until, before) else { return Ok(page) };
    let mut last = query.before;
    let mut seen = 0;
    for row in tables.event.range::<&[u8; 12]>(&from..&until)?.rev() {
        let (key, value) = row?;
        let event = EventId::from_key(*key.value());
        seen += 1;
        if let Some(summary) = passed_over(decode_event_summary(value.value()), event)?
            && is_type(query.event_type.as_ref(), summary.event_type)
        {
            let lanes = match query.lane {
                Some(lane) => vec![lane.0],
                None => lanes_of(event, &summary.lanes, &tables.outcome)?,
            };
            for lane in lanes.into_iter().rev() {
                let id = event.delivery(Lane(lane));
                if query.before.is_some_and(|before| id >= before) {
                    continue;
                }
                if page.rows.len() == query.limit {
                    page.next = last;
                    return Ok(page);
                }
                seen += 1;
                last = Some(id);
                let organization = Name::from(summary.organization);
                let owner = owner(Lane(lane)).unwrap_or_else(|| organization.clone());
                if !is_of(query.organizations.as_deref(), &owner) {
                    continue;
                }
                let delivery = passed_over(tables.delivery(id, &summary.lanes), id)?.flatten();
                let Some(delivery) = delivery else { continue };
                if query.state.is_none_or(|state| delivery.state == state) {
                    let event_type = Name::from(summary.event_type);
                    page.rows.push(ListedDelivery { delivery, event_type, organization });
                }
            }
        }
        // Behind every delivery of the event, of which there may be none: lanes count
        // from 1, and 0 would make no delivery's id.
        last = Some(event.delivery(Lane(1)));
        if seen >= PAGE_SCAN_MAX {
            page.next = last;
            return Ok(page);
        }
    }
    Ok(page)
}

/// The next key in order, of the same length.
fn successor(mut key: [u8; 12]) -> [u8; 12] {
    for byte in key.iter_mut().rev() {
        let (next, overflowed) = byte.overflowing_add(1);
        *byte = next;
        if !overflowed {
            break;
        }
    }
    key
}

/// The audit log, newest first.
pub(super) fn audit(
    database: &Database,
    before: Option<u64>,
    limit: usize,
) -> Result<Page<AuditEntry, u64>, StoreError> {
    let entries = database.begin_read()?.open_table(AUDIT)?;
    let mut page = Page { rows: Vec::new(), next: None };
    for row in entries.range(..before.unwrap_or(u64::MAX))?.rev() {
        let (sequence, value) = row?;
        if page.rows.len() == limit {
            page.next = page.rows.last().map(|entry: &AuditEntry| entry.sequence);
            break;
        }
        let (sequence, read) = (sequence.value(), settings::read_audit(sequence.value(), value.value()));
        page.rows.extend(passed_over(read, format_args!("audit entry {sequence}"))?);
    }
    Ok(page)
}

/// See [`pending`]; with the events of the first that are due by `due_until`.
pub(super) fn backlog(
    database: &Database,
    lane: Lane,
    after: Option<Key>,
    limit: usize,
    due_until: Timestamp,
) -> Result<Backlog, StoreError> {
    let (heads, exhausted) = pending(database, lane, after, limit)?;
    let rows = database.begin_read()?.open_table(EVENT)?;
    let mut events = Vec::new();
    let mut data_bytes = 0;
    for head in heads.iter().take_while(|head| head.due <= due_until) {
        // What is missing or cannot be read is told by the attempt that asks for it.
        let Some(row) = rows.get(&head.event.to_key())? else { continue };
        data_bytes += row.value().len();
        if data_bytes > BACKLOG_BYTES_MAX {
            break;
        }
        events.extend(decode_event(head.event, row.value()).ok().map(|(event, _)| event));
    }
    Ok(Backlog { heads, exhausted, events })
}

/// A lane's pending rows after `after`, in their order, at most `limit`, and whether
/// these are all.
pub(super) fn pending(
    database: &Database,
    lane: Lane,
    after: Option<Key>,
    limit: usize,
) -> Result<(Vec<Head>, bool), StoreError> {
    let table = database.begin_read()?.open_table(PENDING)?;
    let (first, last) = lane_bounds(lane);
    let from = match after {
        Some(key) => std::ops::Bound::Excluded(pending_key(lane, key)),
        None => std::ops::Bound::Included(first),
    };
    let mut heads = Vec::new();
    for row in table.range::<&[u8; 24]>((from.as_ref(), std::ops::Bound::Included(&last)))? {
        if heads.len() == limit {
            return Ok((heads, false));
        }
        let (key, value) = row?;
        let (_, place) = pending_from_key(key.value());
        heads.extend(passed_over(decode_pending(place, value.value()), place.1.delivery(lane))?);
    }
    Ok((heads, true))
}

/// Rows of the tables that totals speak of.
pub(super) fn row_counts(database: &Database) -> Result<(u64, u64), StoreError> {
    let transaction = database.begin_read()?;
    Ok((transaction.open_table(EVENT)?.len()?, transaction.open_table(PENDING)?.len()?))
}

/// Looks at up to [`PAGE_SCAN_MAX`] pending rows, where there are more at the first
/// of each of the `lanes` that have any: those are the oldest of their lane, but for
/// what was tried before and is due later.
pub(super) fn oldest_pending(database: &Database, lanes: usize) -> Result<OldestPending, StoreError> {
    let pending = database.begin_read()?.open_table(PENDING)?;
    let is_exact = pending.len()? <= PAGE_SCAN_MAX as u64;
    let of_each = if is_exact { PAGE_SCAN_MAX } else { (PAGE_SCAN_MAX / lanes.max(1)).max(1) };
    let (mut at, mut seen, mut from) = (None, 0, lane_bounds(Lane(0)).0);
    while seen < PAGE_SCAN_MAX
        && let Some(first) = pending.range::<&[u8; 24]>(&from..)?.next()
    {
        let (lane, _) = pending_from_key(first?.0.value());
        for row in pending.range::<&[u8; 24]>(&from..=&lane_bounds(lane).1)?.take(of_each) {
            let (key, value) = row?;
            seen += 1;
            let (_, place) = pending_from_key(key.value());
            let head = passed_over(decode_pending(place, value.value()), place.1.delivery(lane))?;
            at = at.into_iter().chain(head.map(|head| head.opened_at)).min();
        }
        let Some(next) = lane.0.checked_add(1) else { break };
        from = lane_bounds(Lane(next)).0;
    }
    Ok(OldestPending { at, is_exact })
}
