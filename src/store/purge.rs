//! Retention. An event goes with all its deliveries, never while one is pending.
//!
//! Each kind of event has its age: what matched nothing, what was delivered, the
//! rest. Three cursors walk the events in time order, each at one of these ages, and
//! take what is due by then. What comes due before the next walk meets it (because
//! it was reopened, or had been pending) is noted in a small table by the time to
//! look again, so that **no event is looked at again and again, and none is
//! forgotten**. A step changes at most [`BULK_ROWS_MAX`] rows, in one commit; an
//! event with more than that goes in several.

use std::time::Duration;

use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, Table, WriteTransaction,
};

use crate::config::Retention;
use crate::id::{EventId, Lane};
use crate::limits::{BULK_ROWS_MAX, IDEMPOTENCY_WINDOW, PAGE_SCAN_MAX};
use crate::model::TerminalState;
use crate::time::Timestamp;

use super::count::BytesChange;
use super::hot::{Hot, lanes_of, standing};
use super::records::{OutcomeState, decode_event_summary};
use super::tables::*;
use super::{StoreError, passed_over, schema, settings};

/// What one step did.
pub(super) struct Purged {
    /// Whether there is more to do at once.
    pub(super) goes_on: bool,
    /// Events removed.
    pub(super) events: u64,
    pub(super) bytes: BytesChange,
    /// Lanes of ended subscriptions that nothing speaks of any more.
    pub(super) forgotten: Vec<Lane>,
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

/// The walks' cursors, by name.
const WALKS: [&str; 3] = ["purge_unmatched", "purge_delivered", "purge_failed"];
/// The event that is gone, but not all that belongs to it.
const UNDER_WAY: &str = "purge_under_way";

/// The event that a purge has begun to remove, if it is not done with it.
pub(super) fn under_way(transaction: &ReadTransaction) -> Result<Option<EventId>, StoreError> {
    let meta = transaction.open_table(META)?;
    let cursor = meta.get(UNDER_WAY)?.and_then(|row| row.value().try_into().ok());
    Ok(cursor.map(EventId::from_key))
}

/// The ages at which the walks meet events.
fn ages(retention: &Retention) -> [Duration; 3] {
    [retention.unmatched, retention.delivered, retention.failed]
}

/// How long an ended subscription's lane is remembered: by then its deliveries are gone.
fn ended_age(retention: &Retention) -> Duration {
    retention.failed.max(retention.delivered) + retention.delivered
}

/// How much time the walks still have to go through, all together, in milliseconds: from
/// the next event that each will meet to the last that had its age at `until`. How many
/// events that are nobody knows without going there.
pub(super) fn ahead_ms(database: &Database, retention: &Retention, until: Timestamp) -> Result<u64, StoreError> {
    let transaction = database.begin_read()?;
    let events = transaction.open_table(EVENT)?;
    let meta = transaction.open_table(META)?;
    let mut ahead_ms = 0;
    for (name, age) in WALKS.into_iter().zip(ages(retention)) {
        let (cursor, until) = (cursor_of(&meta, name)?, EventId::first_at(until - age).to_key());
        let Some(next) = next_event(&events, cursor, until)? else { continue };
        let last = events.range::<&[u8; 12]>(&next.to_key()..&until)?.next_back();
        let last = last.transpose()?.map_or(next, |(key, _)| EventId::from_key(*key.value()));
        ahead_ms += last.accepted_at().as_millis().saturating_sub(next.accepted_at().as_millis());
    }
    Ok(ahead_ms)
}

fn cursor_of(
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
    name: &'static str,
) -> Result<[u8; 12], StoreError> {
    Ok(meta.get(name)?.and_then(|row| row.value().try_into().ok()).unwrap_or_default())
}

/// A look without a write: most of the time nothing is due. `keyed_at`: the time
/// that idempotency keys are counted by.
pub(super) fn is_anything_due(
    database: &Database,
    retention: &Retention,
    now: Timestamp,
    keyed_at: Timestamp,
) -> Result<bool, StoreError> {
    let transaction = database.begin_read()?;
    let events = transaction.open_table(EVENT)?;
    let meta = transaction.open_table(META)?;
    for (name, age) in WALKS.into_iter().zip(ages(retention)) {
        if next_event(&events, cursor_of(&meta, name)?, EventId::first_at(now - age).to_key())?.is_some() {
            return Ok(true);
        }
    }
    let is_event_due = meta.get(UNDER_WAY)?.is_some()
        || transaction.open_table(REVISIT)?.first()?.is_some_and(|(key, _)| revisit_from_key(key.value()).0 <= now);
    let oldest_day = oldest_day(keyed_at);
    let is_key_due =
        transaction.open_table(IDEMPOTENCY)?.first()?.is_some_and(|(key, _)| key.value() < &oldest_day[..])
            || transaction.open_table(CREATION)?.first()?.is_some_and(|(key, _)| key.value() < &oldest_day[..]);
    let ended_until = ended_key(now - ended_age(retention), Lane(0));
    let is_ended_due = transaction.open_table(ENDED)?.first()?.is_some_and(|(key, _)| *key.value() < ended_until);
    let is_audit_due = match transaction.open_table(AUDIT)?.first()? {
        Some((key, value)) => is_audit_over(key.value(), value.value(), retention, now)?,
        None => false,
    };
    Ok(is_event_due || is_key_due || is_ended_due || is_audit_due)
}

/// Does one step. `next_audit`: entries from there on are not committed yet.
pub(super) fn step(
    transaction: &WriteTransaction,
    retention: &Retention,
    now: Timestamp,
    keyed_at: Timestamp,
    next_audit: u64,
) -> Result<Purged, StoreError> {
    let mut cursors = [[0; 12]; 3];
    for (cursor, name) in cursors.iter_mut().zip(WALKS) {
        *cursor = schema::cursor(transaction, name)?.unwrap_or_default();
    }
    let (hot, revisit) = (Hot::open(transaction)?, transaction.open_table(REVISIT)?);
    let events_before = hot.event.len()?;
    let (rows_left, looks_left, under_way) = (BULK_ROWS_MAX, PAGE_SCAN_MAX, None);
    let mut purge = Purge { hot, revisit, retention, now, cursors, rows_left, looks_left, under_way };
    if let Some(key) = schema::cursor(transaction, UNDER_WAY)? {
        purge.take(EventId::from_key(key))?;
    }
    for (walk, name) in WALKS.into_iter().enumerate() {
        purge.walk(walk)?;
        schema::put_cursor(transaction, name, purge.cursors[walk])?;
    }
    purge.look_again()?;
    purge.forget_keys(keyed_at)?;
    schema::set_cursor(transaction, UNDER_WAY, purge.under_way.map(EventId::to_key))?;
    let events = events_before - purge.hot.event.len()?;
    let Purge { hot: Hot { bytes, .. }, mut rows_left, looks_left, .. } = purge;
    forget_creations(transaction, keyed_at, &mut rows_left)?;
    let forgotten = forget_ended(transaction, retention, now, &mut rows_left)?;
    forget_audit(transaction, retention, now, next_audit, &mut rows_left)?;
    Ok(Purged { goes_on: rows_left == 0 || looks_left == 0, events, bytes, forgotten })
}

/// One step's work on events, and what it may still do.
struct Purge<'txn> {
    hot: Hot<'txn>,
    revisit: Table<'txn, &'static [u8; 20], ()>,
    retention: &'txn Retention,
    now: Timestamp,
    cursors: [[u8; 12]; 3],
    /// Rows that may still be changed.
    rows_left: usize,
    /// Rows that may still be looked at.
    looks_left: usize,
    under_way: Option<EventId>,
}

impl Purge<'_> {
    fn is_spent(&self) -> bool {
        self.rows_left == 0 || self.looks_left == 0
    }

    /// Lets a walk meet what has reached its age since.
    fn walk(&mut self, walk: usize) -> Result<(), StoreError> {
        let until = EventId::first_at(self.now - ages(self.retention)[walk]).to_key();
        while !self.is_spent()
            && let Some(event) = next_event(&self.hot.event, self.cursors[walk], until)?
        {
            self.cursors[walk] = event.to_key();
            self.consider(event)?;
        }
        Ok(())
    }

    /// Looks again at what was noted for now.
    fn look_again(&mut self) -> Result<(), StoreError> {
        while !self.is_spent() {
            let Some(key) = self.revisit.first()?.map(|(key, _)| *key.value()) else { return Ok(()) };
            let (at, event) = revisit_from_key(&key);
            if at > self.now {
                return Ok(());
            }
            self.revisit.remove(&key)?;
            self.rows_left -= 1;
            self.consider(event)?;
        }
        Ok(())
    }

    /// Takes an event that is due, leaves it to the next walk, or notes when to look again.
    fn consider(&mut self, event: EventId) -> Result<(), StoreError> {
        let Some(fate) = self.fate(event)? else { return Ok(()) };
        let due_at = match fate {
            Fate::Unmatched => event.accepted_at() + self.retention.unmatched,
            Fate::Delivered(opened_at) => opened_at + self.retention.delivered,
            Fate::Ended(opened_at) => opened_at + self.retention.failed,
            Fate::Pending => self.now + self.retention.delivered,
        };
        if due_at <= self.now {
            return self.take(event);
        }
        let key = event.to_key();
        let to_come = ages(self.retention).into_iter().zip(self.cursors).filter(|(_, cursor)| key > *cursor);
        let met_at = to_come.map(|(age, _)| event.accepted_at() + age).min();
        if met_at.is_none_or(|met_at| due_at < met_at) {
            self.revisit.insert(&revisit_key(due_at, event), ())?;
            self.rows_left = self.rows_left.saturating_sub(1);
        }
        Ok(())
    }

    /// Removes as much of an event as may be.
    fn take(&mut self, event: EventId) -> Result<(), StoreError> {
        self.rows_left -= self.hot.purge_event(event, self.rows_left)?;
        if self.rows_left == 0 {
            self.under_way = Some(event);
        }
        Ok(())
    }

    /// None: the event is gone.
    fn fate(&mut self, event: EventId) -> Result<Option<Fate>, StoreError> {
        let Some(row) = self.hot.event.get(&event.to_key())? else { return Ok(None) };
        let mut looks = 1;
        // What cannot be read is left alone.
        let fate = passed_over(fate(&self.hot, event, row.value(), &mut looks), event)?.unwrap_or(Fate::Pending);
        self.looks_left = self.looks_left.saturating_sub(looks);
        Ok(Some(fate))
    }

    fn forget_keys(&mut self, keyed_at: Timestamp) -> Result<(), StoreError> {
        let oldest_day = oldest_day(keyed_at);
        let over = self.hot.idempotency.extract_from_if::<&[u8], _>(..&oldest_day[..], |_, _| true)?;
        for row in over.take(self.rows_left) {
            let (key, value) = row?;
            self.rows_left -= 1;
            self.hot.bytes.live -= (key.value().len() + value.value().len()) as i64;
        }
        Ok(())
    }
}

/// The first event after a cursor that comes before `until`.
fn next_event(
    events: &impl ReadableTable<&'static [u8; 12], &'static [u8]>,
    cursor: [u8; 12],
    until: [u8; 12],
) -> Result<Option<EventId>, StoreError> {
    if cursor >= until {
        return Ok(None);
    }
    let range = (std::ops::Bound::Excluded(&cursor), std::ops::Bound::Excluded(&until));
    match events.range::<&[u8; 12]>(range)?.next() {
        Some(row) => Ok(Some(EventId::from_key(*row?.0.value()))),
        None => Ok(None),
    }
}

/// The fate of an event, given its row. `looks` grows by the deliveries looked at.
fn fate(hot: &Hot<'_>, event: EventId, row: &[u8], looks: &mut usize) -> Result<Fate, StoreError> {
    let matched = decode_event_summary(row)?.lanes;
    let lanes = lanes_of(event, &matched, &hot.outcome)?;
    if lanes.is_empty() {
        return Ok(Fate::Unmatched);
    }
    *looks += lanes.len();
    let mut all_delivered = true;
    let mut opened_at = event.accepted_at();
    for lane in &lanes {
        let id = event.delivery(Lane(*lane));
        let Some(standing) = standing(id, &matched, &hot.pending, &hot.outcome, &hot.attempt)? else { continue };
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

/// Keys of days before this one are over.
fn oldest_day(keyed_at: Timestamp) -> [u8; 4] {
    day_of(keyed_at - IDEMPOTENCY_WINDOW).to_be_bytes()
}

fn forget_creations(
    transaction: &WriteTransaction,
    keyed_at: Timestamp,
    rows_left: &mut usize,
) -> Result<(), StoreError> {
    let oldest_day = oldest_day(keyed_at);
    let mut creations = transaction.open_table(CREATION)?;
    let over = creations.extract_from_if::<&[u8], _>(..&oldest_day[..], |_, _| true)?;
    for row in over.take(*rows_left) {
        row?;
        *rows_left -= 1;
    }
    Ok(())
}

fn forget_ended(
    transaction: &WriteTransaction,
    retention: &Retention,
    now: Timestamp,
    rows_left: &mut usize,
) -> Result<Vec<Lane>, StoreError> {
    let until = ended_key(now - ended_age(retention), Lane(0));
    let mut ended = transaction.open_table(ENDED)?;
    let mut forgotten = Vec::new();
    for row in ended.extract_from_if::<&[u8; 12], _>(..&until, |_, _| true)?.take(*rows_left) {
        forgotten.push(ended_lane(row?.0.value()));
        *rows_left -= 1;
    }
    Ok(forgotten)
}

/// Whether an entry of the audit log has been kept for long enough. One that cannot
/// be read tells nobody anything.
fn is_audit_over(sequence: u64, row: &[u8], retention: &Retention, now: Timestamp) -> Result<bool, StoreError> {
    let entry = passed_over(settings::read_audit(sequence, row), format_args!("audit entry {sequence}"))?;
    Ok(entry.is_none_or(|entry| entry.at + retention.audit <= now))
}

fn forget_audit(
    transaction: &WriteTransaction,
    retention: &Retention,
    now: Timestamp,
    next_audit: u64,
    rows_left: &mut usize,
) -> Result<(), StoreError> {
    let mut table = transaction.open_table(AUDIT)?;
    let mut over = Vec::new();
    for row in table.range(..next_audit)?.take(*rows_left) {
        let (sequence, value) = row?;
        if !is_audit_over(sequence.value(), value.value(), retention, now)? {
            break;
        }
        over.push(sequence.value());
    }
    *rows_left -= over.len();
    for sequence in &over {
        table.remove(sequence)?;
    }
    Ok(())
}
