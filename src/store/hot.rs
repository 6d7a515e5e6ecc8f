//! The tables that events and deliveries go through, open in one transaction,
//! with the count of bytes that hold something.
//!
//! **Record and index move together**: whatever touches a delivery goes through
//! one of these functions, inside the transaction of everything that belongs to it.

use redb::{ReadableTable, Table, WriteTransaction};

use crate::id::{DeliveryId, EventId, Lane};
use crate::limits::{ATTEMPTS_KEPT_MAX, RESPONSE_KEPT_EARLIER_BYTES_MAX, YOUNG_ROWS_MAX};
use crate::model::{Attempt, AttemptOutcome, Event, FailureCode, Head, Key, Settlement, TerminalState};
use crate::time::Timestamp;

use super::ahead::Young;
use super::count::BytesChange;
use super::records::*;
use super::tables::*;
use super::wal::{Logged, Record};
use super::{Settle, StoreError, passed_over};

/// See the file's beginning.
pub(super) struct Hot<'txn> {
    pub(super) event: Table<'txn, &'static [u8; 12], &'static [u8]>,
    pub(super) pending: Table<'txn, &'static [u8; 24], &'static [u8]>,
    pub(super) outcome: Table<'txn, &'static [u8; 16], &'static [u8]>,
    pub(super) attempt: Table<'txn, &'static [u8; 20], &'static [u8]>,
    pub(super) idempotency: Table<'txn, &'static [u8], &'static [u8]>,
    /// By how much the live bytes change.
    pub(super) bytes: BytesChange,
    /// What is changed, where that is to be logged and is not too much for it. Retention
    /// does without: see [`Hot::purge_event`].
    pub(super) record: Option<Record>,
    /// Pending rows that are not in their table, where what is changed is noted.
    pub(super) young: Option<Young>,
}

/// What an event's row takes, as the lanes that it waits in count it.
fn weight(value: &[u8]) -> u32 {
    u32::try_from(12 + value.len()).unwrap_or(u32::MAX)
}

fn size(key: usize, value: &[u8]) -> i64 {
    i64::try_from(key + value.len()).unwrap_or(i64::MAX)
}

impl<'txn> Hot<'txn> {
    pub(super) fn open(transaction: &'txn WriteTransaction) -> Result<Hot<'txn>, StoreError> {
        Ok(Hot {
            event: transaction.open_table(EVENT)?,
            pending: transaction.open_table(PENDING)?,
            outcome: transaction.open_table(OUTCOME)?,
            attempt: transaction.open_table(ATTEMPT)?,
            idempotency: transaction.open_table(IDEMPOTENCY)?,
            bytes: BytesChange::default(),
            record: None,
            young: None,
        })
    }

    /// The same, and notes what is changed. The `young` rows are pending beside those of the
    /// table.
    pub(super) fn open_noting(transaction: &'txn WriteTransaction, young: Young) -> Result<Hot<'txn>, StoreError> {
        Ok(Hot { record: Some(Record::new()), young: Some(young), ..Hot::open(transaction)? })
    }

    /// Notes a change: **every one that is made here to a table**.
    fn note(&mut self, table: Logged, key: &[u8], value: Option<&[u8]>) {
        if let Some(record) = &mut self.record {
            record.set(table, key, value);
            if record.is_too_large() {
                self.record = None;
            }
        }
    }

    /// Answers what the event weighs.
    pub(super) fn put_event(&mut self, event: &Event, lanes: &[u32]) -> Result<u32, StoreError> {
        let value = encode_event(event, lanes)?;
        self.bytes.event(&event.organization, size(12, &value));
        self.event.insert(&event.id.to_key(), value.as_slice())?;
        self.note(Logged::Event, &event.id.to_key(), Some(&value));
        Ok(weight(&value))
    }

    pub(super) fn put_idempotency(&mut self, key: &[u8], event: EventId, content: [u8; 16]) -> Result<(), StoreError> {
        let value = encode_idempotency(event, content)?;
        self.bytes.live += size(key.len(), &value);
        self.idempotency.insert(key, value.as_slice())?;
        self.note(Logged::Idempotency, key, Some(&value));
        Ok(())
    }

    pub(super) fn put_pending(&mut self, lane: Lane, head: &Head, weight_bytes: u32) -> Result<(), StoreError> {
        let value = encode_pending(head, weight_bytes)?;
        self.bytes.live += size(24, &value);
        let key = pending_key(lane, head.key());
        self.note(Logged::Pending, &key, Some(&value));
        match &mut self.young {
            // None of these is in the table: it is new, or was just taken away.
            Some(young) if young.len() < YOUNG_ROWS_MAX => drop(young.insert(key, value)),
            _ => {
                if let Some(old) = self.pending.insert(&key, value.as_slice())? {
                    self.bytes.live -= size(24, old.value());
                }
            }
        }
        Ok(())
    }

    /// Takes a pending row away. Answers what its event weighs; none: it was not there.
    fn remove_pending(&mut self, lane: Lane, key: Key) -> Result<Option<u32>, StoreError> {
        let row = pending_key(lane, key);
        let read = |value: &[u8]| {
            // What cannot be read was counted as nothing.
            let weight_bytes = passed_over(decode_weight(value), key.1.delivery(lane))?.unwrap_or(0);
            Ok::<_, StoreError>((size(24, value), weight_bytes))
        };
        let (bytes, weight_bytes) = match self.young.as_mut().and_then(|young| young.remove(&row)) {
            Some(value) => read(&value)?,
            None => match self.pending.remove(&row)? {
                Some(old) => read(old.value())?,
                None => return Ok(None),
            },
        };
        self.bytes.live -= bytes;
        self.note(Logged::Pending, &row, None);
        Ok(Some(weight_bytes))
    }

    pub(super) fn put_outcome(&mut self, id: DeliveryId, outcome: &Outcome) -> Result<(), StoreError> {
        let value = encode_outcome(outcome)?;
        self.bytes.live += size(16, &value);
        if let Some(old) = self.outcome.insert(&id.to_key(), value.as_slice())? {
            self.bytes.live -= size(16, old.value());
        }
        self.note(Logged::Outcome, &id.to_key(), Some(&value));
        Ok(())
    }

    /// Answers whether there was none of that number.
    fn put_attempt(&mut self, id: DeliveryId, attempt: &Attempt, next: Option<Timestamp>) -> Result<bool, StoreError> {
        let value = encode_attempt(attempt, next)?;
        self.bytes.live += size(20, &value);
        let key = attempt_key(id, attempt.number);
        let old_bytes = self.attempt.insert(&key, value.as_slice())?.map(|old| size(20, old.value()));
        self.bytes.live -= old_bytes.unwrap_or(0);
        self.note(Logged::Attempt, &key, Some(&value));
        Ok(old_bytes.is_none())
    }

    fn remove_attempt(&mut self, id: DeliveryId, number: u32) -> Result<(), StoreError> {
        let key = attempt_key(id, number);
        if let Some(old) = self.attempt.remove(&key)? {
            self.bytes.live -= size(20, old.value());
        }
        self.note(Logged::Attempt, &key, None);
        Ok(())
    }

    /// Of the attempt before `number` less is kept, of those long before nothing.
    fn shorten_earlier(&mut self, id: DeliveryId, number: u32) -> Result<(), StoreError> {
        let Some(before) = number.checked_sub(1).filter(|before| *before > 0) else { return Ok(()) };
        let row = match self.attempt.get(&attempt_key(id, before))? {
            // What cannot be read is left as it is.
            Some(row) => passed_over(decode_attempt(row.value()), format_args!("attempt {before} of {id}"))?,
            None => None,
        };
        if let Some((mut earlier, next)) = row
            && earlier.response_body.len() > RESPONSE_KEPT_EARLIER_BYTES_MAX
        {
            earlier.response_body.truncate(RESPONSE_KEPT_EARLIER_BYTES_MAX);
            self.put_attempt(id, &earlier, next)?;
        }
        match number.checked_sub(ATTEMPTS_KEPT_MAX) {
            Some(oldest) if oldest > 0 => self.remove_attempt(id, oldest),
            _ => Ok(()),
        }
    }

    /// Writes what follows from an attempt. None: the delivery was not pending any
    /// more, and the outcome is dropped.
    pub(super) fn settle(&mut self, settle: &Settle, now: Timestamp) -> Result<Option<Settled>, StoreError> {
        let Settle { lane, head, settlement, attempt, .. } = settle;
        let id = head.event.delivery(*lane);
        let Some(weight_bytes) = self.remove_pending(*lane, head.key())? else { return Ok(None) };
        self.shorten_earlier(id, attempt.number)?;
        let ended = |state, code, success| Outcome {
            state: OutcomeState::Ended(state),
            at: now,
            opened_at: head.opened_at,
            attempts: attempt.number,
            code,
            success,
        };
        let moved = match *settlement {
            Settlement::Delivered => {
                self.put_outcome(id, &ended(TerminalState::Delivered, None, Some(attempt.clone())))?;
                return Ok(Some(Settled { next: None, weight_bytes, is_new: true }));
            }
            Settlement::Failed => {
                let code = match &attempt.outcome {
                    AttemptOutcome::Failure { code, .. } => Some(*code),
                    AttemptOutcome::Success { .. } => None,
                };
                let is_new = self.put_attempt(id, attempt, None)?;
                self.put_outcome(id, &ended(TerminalState::Failed, code, None))?;
                return Ok(Some(Settled { next: None, weight_bytes, is_new }));
            }
            Settlement::Retry(due) => {
                Head { place: due, due, attempts: attempt.number, failures: head.failures + 1, ..*head }
            }
            Settlement::Stay(due) => Head { due, attempts: attempt.number, failures: head.failures + 1, ..*head },
            Settlement::Interrupted => Head { attempts: attempt.number, ..*head },
        };
        let is_new = self.put_attempt(id, attempt, Some(moved.place))?;
        self.put_pending(*lane, &moved, weight_bytes)?;
        Ok(Some(Settled { next: Some(moved), weight_bytes, is_new }))
    }

    /// Ends a pending delivery without an attempt. Answers what its event weighs;
    /// none: it was not pending.
    pub(super) fn end(
        &mut self,
        lane: Lane,
        head: &Head,
        state: TerminalState,
        code: Option<FailureCode>,
        now: Timestamp,
    ) -> Result<Option<u32>, StoreError> {
        let Some(weight_bytes) = self.remove_pending(lane, head.key())? else { return Ok(None) };
        let outcome = Outcome {
            state: OutcomeState::Ended(state),
            at: now,
            opened_at: head.opened_at,
            attempts: head.attempts,
            code,
            success: None,
        };
        self.put_outcome(head.event.delivery(lane), &outcome)?;
        Ok(Some(weight_bytes))
    }

    /// Makes a delivery pending again (or for the first time, where it has no
    /// outcome): due now, at `place`, with a new horizon, its attempts numbered on.
    /// Answers also what its event weighs.
    pub(super) fn reopen(
        &mut self,
        id: DeliveryId,
        ended: Option<&Outcome>,
        now: Timestamp,
        place: Timestamp,
    ) -> Result<(Head, u32), StoreError> {
        // The attempt that succeeded is kept among the others.
        if let Some(success) = ended.and_then(|outcome| outcome.success.as_ref()) {
            self.put_attempt(id, success, None)?;
        }
        let attempts = ended.map_or(0, |outcome| outcome.attempts);
        let head = Head { place, due: now, event: id.event(), attempts, failures: 0, opened_at: now };
        let reopened = Outcome {
            state: OutcomeState::Reopened { place },
            at: now,
            opened_at: now,
            attempts,
            code: None,
            success: None,
        };
        self.put_outcome(id, &reopened)?;
        let weight_bytes = self.event.get(&id.event().to_key())?.map_or(0, |row| weight(row.value()));
        self.put_pending(id.lane(), &head, weight_bytes)?;
        Ok((head, weight_bytes))
    }

    /// Removes an event and then what belongs to it, at most `rows_max` rows. Answers
    /// how many: fewer, and all is gone. Not noted: it belongs into a commit of the
    /// database's own.
    pub(super) fn purge_event(&mut self, event: EventId, rows_max: usize) -> Result<usize, StoreError> {
        let mut rows = 0;
        if rows_max > 0
            && let Some(old) = self.event.remove(&event.to_key())?
        {
            rows += 1;
            let bytes = -size(12, old.value());
            match passed_over(decode_event_summary(old.value()), event)? {
                Some(summary) => self.bytes.event(summary.organization, bytes),
                None => self.bytes.live += bytes,
            }
        }
        let (first, last) = outcome_bounds(event);
        let outcomes = self.outcome.extract_from_if::<&[u8; 16], _>(&first..=&last, |_, _| true)?;
        for row in outcomes.take(rows_max - rows) {
            rows += 1;
            self.bytes.live -= size(16, row?.1.value());
        }
        let first = attempt_key(event.delivery(Lane(0)), 0);
        let last = attempt_key(event.delivery(Lane(u32::MAX)), u32::MAX);
        let attempts = self.attempt.extract_from_if::<&[u8; 20], _>(&first..=&last, |_, _| true)?;
        for row in attempts.take(rows_max - rows) {
            rows += 1;
            self.bytes.live -= size(20, row?.1.value());
        }
        Ok(rows)
    }
}

/// What followed from an attempt.
pub(super) struct Settled {
    /// Where the delivery stands now, if it is pending.
    pub(super) next: Option<Head>,
    /// What its event weighs.
    pub(super) weight_bytes: u32,
    /// False: it was written before, by a commit that failed after that.
    pub(super) is_new: bool,
}

/// Where a delivery stands, put together from the rows that speak of it.
pub(super) struct Standing {
    pub(super) outcome: Option<Outcome>,
    /// Its pending row, if it is pending.
    pub(super) head: Option<Head>,
}

/// Every lane that an event has a delivery on, in order: those it matched, and those it
/// was replayed to.
pub(super) fn lanes_of(
    event: EventId,
    matched: &[u32],
    outcome: &impl ReadableTable<&'static [u8; 16], &'static [u8]>,
) -> Result<Vec<u32>, StoreError> {
    let mut lanes = matched.to_vec();
    let (first, last) = outcome_bounds(event);
    for row in outcome.range::<&[u8; 16]>(&first..=&last)? {
        lanes.push(DeliveryId::from_key(*row?.0.value()).lane().0);
    }
    lanes.sort_unstable();
    lanes.dedup();
    Ok(lanes)
}

/// Reads where the delivery `id` stands, given the lanes that its event matched. None: its
/// event has no such delivery.
///
/// **The records prove the index**: where a pending row stands follows from the
/// last attempt or the reopening, so it needs no index by delivery.
pub(super) fn standing(
    id: DeliveryId,
    lanes: &[u32],
    pending: &impl ReadableTable<&'static [u8; 24], &'static [u8]>,
    outcome: &impl ReadableTable<&'static [u8; 16], &'static [u8]>,
    attempt: &impl ReadableTable<&'static [u8; 20], &'static [u8]>,
) -> Result<Option<Standing>, StoreError> {
    let outcome = match outcome.get(&id.to_key())? {
        Some(row) => Some(decode_outcome(row.value())?),
        None => None,
    };
    let reopened = match &outcome {
        Some(Outcome { state: OutcomeState::Ended(_), .. }) => return Ok(Some(Standing { outcome, head: None })),
        Some(Outcome { state: OutcomeState::Reopened { place }, attempts, .. }) => Some((*place, *attempts)),
        None if lanes.contains(&id.lane().0) => None,
        None => return Ok(None),
    };
    let last_attempt = match attempt.range::<&[u8; 20]>(&attempt_key(id, 0)..=&attempt_key(id, u32::MAX))?.next_back() {
        Some(row) => {
            let (key, value) = row?;
            let (_, next) = decode_attempt(value.value())?;
            next.map(|place| (place, attempt_number(key.value())))
        }
        None => None,
    };
    let place = match (reopened, last_attempt) {
        (Some((place, attempts)), Some((next, number))) => {
            if number > attempts {
                next
            } else {
                place
            }
        }
        (Some((place, _)), None) | (None, Some((place, _))) => place,
        (None, None) => id.event().accepted_at(),
    };
    let key = (place, id.event());
    let head = match pending.get(&pending_key(id.lane(), key))? {
        Some(row) => Some(decode_pending(key, row.value())?),
        None => None,
    };
    Ok(Some(Standing { outcome, head }))
}
