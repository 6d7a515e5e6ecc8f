//! What must hold of everything stored, whatever happened: for the tests of the
//! store and for the simulation. Panics where it does not.

use std::collections::BTreeMap;

use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata};

use crate::id::{DeliveryId, EventId};
use crate::limits::ATTEMPTS_KEPT_MAX;
use crate::model::Head;
use crate::time::Timestamp;

use super::Store;
use super::count::Counts;
use super::inspect::inspect;
use super::tables;

/// **Index and records are one to one** (see [`inspect`](super::inspect)), and what
/// each lane is known to have pending is what it has.
pub(super) fn check(store: &Store) {
    let database = store.shared.shown().unwrap();
    let report = inspect(&database, Some(&store.shared.keyring())).unwrap();
    assert_eq!(report.faults, Vec::new(), "{} faults", report.faults_total);
    let transaction = database.begin_read().unwrap();
    let events = transaction.open_table(tables::EVENT).unwrap();
    for subscription in store.registry().subscriptions() {
        let (heads, _) = store.pending(subscription.number, None, usize::MAX / 2).unwrap();
        let weight = |head: &Head| 12 + events.get(&head.event.to_key()).unwrap().unwrap().value().len() as u64;
        let stats = store.stats(subscription.number);
        let counted = (heads.len() as u64, heads.iter().map(weight).sum());
        assert_eq!((stats.pending, stats.pending_bytes), counted, "lane {}", subscription.number);
    }
    assert_eq!(Counts::load(&database).unwrap(), *store.shared.counts(), "counts in memory and on disk");
}

/// Attempts are numbered without gaps, up to what their delivery says it had.
pub(super) fn check_numbers(store: &Store) {
    let mut kept: BTreeMap<DeliveryId, Vec<u32>> = BTreeMap::new();
    {
        let database = store.shared.shown().unwrap();
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
    let events = read(&store.shared.shown().unwrap()).open_table(tables::EVENT).unwrap();
    events.iter().unwrap().map(|row| EventId::from_key(*row.unwrap().0.value())).collect()
}

/// Every pending delivery, with its due time.
pub(super) fn pending(store: &Store) -> Vec<(DeliveryId, Timestamp)> {
    let pending = read(&store.shared.shown().unwrap()).open_table(tables::PENDING).unwrap();
    let place = |key: &[u8; 24]| {
        let (lane, (due, event)) = tables::pending_from_key(key);
        (event.delivery(lane), due)
    };
    pending.iter().unwrap().map(|row| place(row.unwrap().0.value())).collect()
}

/// Rows of everything that retention is to take away.
pub(super) fn retained_rows(store: &Store) -> u64 {
    let transaction = read(&store.shared.shown().unwrap());
    transaction.open_table(tables::EVENT).unwrap().len().unwrap()
        + transaction.open_table(tables::OUTCOME).unwrap().len().unwrap()
        + transaction.open_table(tables::ATTEMPT).unwrap().len().unwrap()
        + transaction.open_table(tables::IDEMPOTENCY).unwrap().len().unwrap()
        + transaction.open_table(tables::REVISIT).unwrap().len().unwrap()
}

fn read(database: &Database) -> ReadTransaction {
    database.begin_read().unwrap()
}
