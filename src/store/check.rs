//! What must hold of everything stored, whatever happened: for the tests of the
//! store and for the simulation. Panics where it does not.

use std::collections::{BTreeMap, BTreeSet};

use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};

use crate::id::{DeliveryId, EventId, Lane};
use crate::limits::ATTEMPTS_KEPT_MAX;
use crate::model::{Head, Name};
use crate::time::Timestamp;

use super::Store;
use super::count::Counts;
use super::hot::standing;
use super::records::{OutcomeState, decode_event_summary, decode_pending};
use super::tables;

/// **Index and records are one to one**: every pending row is where its records
/// say it stands, every delivery of an event has an outcome or such a row, and the
/// counters agree.
pub(super) fn check(store: &Store) {
    let database = store.shared.database().unwrap();
    let transaction = database.begin_read().unwrap();
    let events = transaction.open_table(tables::EVENT).unwrap();
    let pending = transaction.open_table(tables::PENDING).unwrap();
    let outcome = transaction.open_table(tables::OUTCOME).unwrap();
    let attempt = transaction.open_table(tables::ATTEMPT).unwrap();
    let mut proven = BTreeSet::new();
    for row in events.iter().unwrap() {
        let (key, value) = row.unwrap();
        let event = EventId::from_key(*key.value());
        let matched = decode_event_summary(value.value()).unwrap().lanes;
        let mut lanes: BTreeSet<u32> = matched.iter().copied().collect();
        let (first, last) = tables::outcome_bounds(event);
        for row in outcome.range::<&[u8; 16]>(&first..=&last).unwrap() {
            lanes.insert(DeliveryId::from_key(*row.unwrap().0.value()).lane().0);
        }
        for lane in lanes {
            let id = event.delivery(Lane(lane));
            let standing = standing(id, &matched, &pending, &outcome, &attempt).unwrap().unwrap();
            let ended = standing.outcome.is_some_and(|it| matches!(it.state, OutcomeState::Ended(_)));
            match standing.head {
                Some(head) => assert!(!ended && proven.insert((Lane(lane), head.key()))),
                None => assert!(ended, "{id} is neither pending nor ended"),
            }
        }
    }
    for row in pending.iter().unwrap() {
        let (key, value) = row.unwrap();
        let (lane, place) = tables::pending_from_key(key.value());
        decode_pending(place, value.value()).unwrap();
        assert!(proven.remove(&(lane, place)), "a pending row that no record speaks of: {lane} {place:?}");
    }
    assert!(proven.is_empty());
    for subscription in store.registry().subscriptions() {
        let (heads, _) = store.pending(subscription.number, None, usize::MAX / 2).unwrap();
        let weight = |head: &Head| 12 + events.get(&head.event.to_key()).unwrap().unwrap().value().len() as u64;
        let stats = store.stats(subscription.number);
        let counted = (heads.len() as u64, heads.iter().map(weight).sum());
        assert_eq!((stats.pending, stats.pending_bytes), counted, "lane {}", subscription.number);
    }
}

/// Live bytes are those of the rows, each organization's too, and in memory as on disk.
pub(super) fn check_counts(store: &Store) {
    let database = store.shared.database().unwrap();
    let transaction = database.begin_read().unwrap();
    let mut organizations: BTreeMap<Name, u64> = BTreeMap::new();
    for row in transaction.open_table(tables::EVENT).unwrap().iter().unwrap() {
        let (_, value) = row.unwrap();
        let organization = Name::from(decode_event_summary(value.value()).unwrap().organization);
        *organizations.entry(organization).or_default() += 12 + value.value().len() as u64;
    }
    let mut live: u64 = organizations.values().sum();
    live += bytes_of(&transaction, tables::PENDING, 24);
    live += bytes_of(&transaction, tables::OUTCOME, 16);
    live += bytes_of(&transaction, tables::ATTEMPT, 20);
    for row in transaction.open_table(tables::IDEMPOTENCY).unwrap().iter().unwrap() {
        let (key, value) = row.unwrap();
        live += (key.value().len() + value.value().len()) as u64;
    }
    let counts = Counts::load(&database).unwrap();
    assert_eq!(counts, *store.shared.counts(), "counts in memory and on disk");
    assert_eq!(counts.live_bytes, live, "live bytes");
    for organization in store.registry().organizations() {
        let bytes = organizations.get(&organization.id).copied().unwrap_or(0);
        assert_eq!(counts.bytes_of(&organization.id), bytes, "bytes of {}", organization.id);
    }
}

fn bytes_of<const N: usize>(
    transaction: &ReadTransaction,
    table: TableDefinition<&'static [u8; N], &'static [u8]>,
    key_bytes: u64,
) -> u64 {
    let table = transaction.open_table(table).unwrap();
    table.iter().unwrap().map(|row| key_bytes + row.unwrap().1.value().len() as u64).sum()
}

/// Attempts are numbered without gaps, up to what their delivery says it had.
pub(super) fn check_numbers(store: &Store) {
    let mut kept: BTreeMap<DeliveryId, Vec<u32>> = BTreeMap::new();
    {
        let database = store.shared.database().unwrap();
        let attempts = database.begin_read().unwrap().open_table(tables::ATTEMPT).unwrap();
        for row in attempts.iter().unwrap() {
            let key = *row.unwrap().0.value();
            let mut id = [0; 16];
            id.copy_from_slice(&key[..16]);
            kept.entry(DeliveryId::from_key(id)).or_default().push(tables::attempt_number(&key));
        }
    }
    for (id, numbers) in kept {
        // What a purge has begun to remove has no event any more.
        let Some((delivery, _, _)) = store.delivery(id).unwrap() else { continue };
        let has_success = delivery.state == crate::model::DeliveryState::Delivered;
        let last = delivery.attempts - u32::from(has_success);
        let first = (delivery.attempts + 1).saturating_sub(ATTEMPTS_KEPT_MAX).max(1);
        let expected: Vec<u32> = (first..=last).collect();
        assert!(numbers == expected, "attempts of {id}: {numbers:?}, expected {expected:?}");
    }
}

/// Every event, oldest first.
pub(super) fn events(store: &Store) -> Vec<EventId> {
    let events = read(&store.shared.database().unwrap()).open_table(tables::EVENT).unwrap();
    events.iter().unwrap().map(|row| EventId::from_key(*row.unwrap().0.value())).collect()
}

/// Every pending delivery, with its due time.
pub(super) fn pending(store: &Store) -> Vec<(DeliveryId, Timestamp)> {
    let pending = read(&store.shared.database().unwrap()).open_table(tables::PENDING).unwrap();
    let place = |key: &[u8; 24]| {
        let (lane, (due, event)) = tables::pending_from_key(key);
        (event.delivery(lane), due)
    };
    pending.iter().unwrap().map(|row| place(row.unwrap().0.value())).collect()
}

/// Rows of everything that retention is to take away.
pub(super) fn retained_rows(store: &Store) -> u64 {
    let transaction = read(&store.shared.database().unwrap());
    transaction.open_table(tables::EVENT).unwrap().len().unwrap()
        + transaction.open_table(tables::OUTCOME).unwrap().len().unwrap()
        + transaction.open_table(tables::ATTEMPT).unwrap().len().unwrap()
        + transaction.open_table(tables::IDEMPOTENCY).unwrap().len().unwrap()
        + transaction.open_table(tables::REVISIT).unwrap().len().unwrap()
}

fn read(database: &Database) -> ReadTransaction {
    database.begin_read().unwrap()
}
