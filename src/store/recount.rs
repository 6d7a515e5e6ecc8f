//! What lanes have pending, counted row by row after a crash. By many threads: the start
//! waits for it, and most of the rows may be of one lane that is dead.

use std::ops::{AddAssign, Bound};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::{Builder, scope};

use redb::ReadOnlyTable;

use crate::id::{EventId, Lane};
use crate::time::Timestamp;

use super::{StoreError, passed_over, records, tables};

type Pending = ReadOnlyTable<&'static [u8; 24], &'static [u8]>;
type Keys = (Bound<[u8; 24]>, Bound<[u8; 24]>);

/// How many rows a part has, where they are spread evenly in time.
const PART_ROWS: u64 = 50_000;

/// Threads beside the one that starts, however few cores there are: after a power cut each
/// waits for the disk most of the time.
const HELPERS_MAX: usize = 7;

/// After how many rows it is told how far that is.
const TOLD_EVERY: u64 = 10_000;

/// What a lane has pending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) deliveries: u64,
    /// What the rows of their events take.
    pub(super) bytes: u64,
}

impl AddAssign for Counted {
    fn add_assign(&mut self, other: Counted) {
        self.deliveries += other.deliveries;
        self.bytes += other.bytes;
    }
}

/// What each of these lanes has, in their order, given how many rows it had when its
/// counters were last written. `told` hears how many rows are counted.
pub(super) fn count(
    pending: &Pending,
    lanes: &[(Lane, u64)],
    told: impl Fn(u64) + Sync,
) -> Result<Vec<Counted>, StoreError> {
    count_in_parts(pending, lanes, PART_ROWS, told)
}

fn count_in_parts(
    pending: &Pending,
    lanes: &[(Lane, u64)],
    part_rows: u64,
    told: impl Fn(u64) + Sync,
) -> Result<Vec<Counted>, StoreError> {
    let mut parts = Vec::new();
    for (index, (lane, rows)) in lanes.iter().enumerate() {
        parts.extend(split(pending, *lane, rows / part_rows + 1)?.into_iter().map(|keys| (index, keys)));
    }
    let (next, counted) = (AtomicUsize::new(0), AtomicU64::new(0));
    let add = |rows: u64| {
        let before = counted.fetch_add(rows, Ordering::Relaxed);
        if before / TOLD_EVERY < (before + rows) / TOLD_EVERY {
            told(before + rows);
        }
    };
    let work = || -> Result<Vec<(usize, Counted)>, StoreError> {
        let mut found = Vec::new();
        while let Some((index, keys)) = parts.get(next.fetch_add(1, Ordering::Relaxed)) {
            found.push((*index, count_keys(pending, keys, add)?));
        }
        Ok(found)
    };
    // Few rows are counted before a thread is there.
    let worth = usize::try_from(lanes.iter().map(|(_, rows)| rows / part_rows).sum::<u64>()).unwrap_or(usize::MAX);
    let helpers = worth.min(HELPERS_MAX);
    let found = scope(|scope| {
        let thread = || Builder::new().name("count".to_owned());
        // Where a thread cannot be had, the others count its part.
        let helpers: Vec<_> = (0..helpers).filter_map(|_| thread().spawn_scoped(scope, work).ok()).collect();
        let mut found = work();
        for helper in helpers {
            let theirs = helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            found = found.and_then(|found| Ok([found, theirs?].concat()));
        }
        found
    })?;
    let mut sums = vec![Counted::default(); lanes.len()];
    for (index, counted) in found {
        sums[index] += counted;
    }
    Ok(sums)
}

/// A lane's keys in that many parts, each as long in time. Where rows crowd at one time
/// one core has more of them than the others, and counts longer.
fn split(pending: &Pending, lane: Lane, parts: u64) -> Result<Vec<Keys>, StoreError> {
    let (first, last) = tables::lane_bounds(lane);
    let mut keys = Vec::new();
    let mut from = first;
    if parts > 1 {
        let mut rows = pending.range::<&[u8; 24]>(&first..=&last)?;
        let place_ms = |key: &[u8; 24]| tables::pending_from_key(key).1.0.as_millis();
        let oldest_ms = rows.next().transpose()?.map_or(0, |(key, _)| place_ms(key.value()));
        let newest_ms = rows.next_back().transpose()?.map_or(oldest_ms, |(key, _)| place_ms(key.value()));
        for part in 1..parts {
            let start = Timestamp::from_millis(oldest_ms + (newest_ms - oldest_ms) / parts * part);
            let cut = tables::pending_key(lane, (start, EventId::from_key([0; 12])));
            keys.push((Bound::Included(from), Bound::Excluded(cut)));
            from = cut;
        }
    }
    keys.push((Bound::Included(from), Bound::Included(last)));
    Ok(keys)
}

fn count_keys(pending: &Pending, keys: &Keys, add: impl Fn(u64)) -> Result<Counted, StoreError> {
    let mut counted = Counted::default();
    for row in pending.range::<&[u8; 24]>((keys.0.as_ref(), keys.1.as_ref()))? {
        let (key, value) = row?;
        let (lane, (_, event)) = tables::pending_from_key(key.value());
        let bytes = passed_over(records::decode_weight(value.value()), event.delivery(lane))?;
        counted += Counted { deliveries: 1, bytes: u64::from(bytes.unwrap_or(0)) };
        if counted.deliveries % TOLD_EVERY == 0 {
            add(TOLD_EVERY);
        }
    }
    add(counted.deliveries % TOLD_EVERY);
    Ok(counted)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use redb::backends::InMemoryBackend;
    use redb::{Database, ReadableDatabase};

    use super::*;
    use crate::model::Head;

    /// Lanes with rows spread over time, at one time, at the ends of time, one row and
    /// none; neighbours that are not asked for; what was believed of them right or not.
    #[test]
    fn every_row_is_counted_once_in_however_many_parts() {
        let database = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
        let transaction = database.begin_write().unwrap();
        let mut expected = BTreeMap::<Lane, Counted>::new();
        {
            let mut table = transaction.open_table(tables::PENDING).unwrap();
            let mut put = |lane: u32, place: Timestamp, event: u32| {
                let event_id = EventId::from_key([[0; 4], [0; 4], event.to_be_bytes()].concat().try_into().unwrap());
                let head = Head { place, due: place, event: event_id, attempts: 0, failures: 0, opened_at: place };
                let weight_bytes = lane * 1000 + event;
                let row = records::encode_pending(&head, weight_bytes).unwrap();
                table.insert(&tables::pending_key(Lane(lane), head.key()), row.as_slice()).unwrap();
                *expected.entry(Lane(lane)).or_default() += Counted { deliveries: 1, bytes: weight_bytes.into() };
            };
            let at = |ms: u32| Timestamp::from_millis(ms.into());
            for nth in 0..6000 {
                put(1, at(1_000 + 7 * nth), nth);
                put(2, at(5_000), nth);
                put(4, Timestamp::from_millis(1 << (nth % 48)), nth);
            }
            put(4, Timestamp::ZERO, 1);
            put(4, Timestamp::MAX, 1);
            put(3, at(9), 1);
            put(6, at(9), 1);
        }
        transaction.commit().unwrap();
        let pending = database.begin_read().unwrap().open_table(tables::PENDING).unwrap();
        for (part_rows, believed) in [(PART_ROWS, 6000), (1000, 6000), (700, 100_000), (1, 40), (1, 0)] {
            let lanes = [5, 4, 3, 2, 1].map(|lane| (Lane(lane), believed));
            let told = Mutex::new(Vec::new());
            let found = count_in_parts(&pending, &lanes, part_rows, |rows| told.lock().unwrap().push(rows)).unwrap();
            let expected = lanes.map(|(lane, _)| expected.get(&lane).copied().unwrap_or_default());
            assert_eq!(found, expected, "{part_rows} {believed}");
            let told = told.into_inner().unwrap();
            assert!(matches!(told[..], [10_000..20_000]), "once, of 18,003 rows: {told:?}");
        }
        assert_eq!(count(&pending, &[], |_| ()).unwrap(), []);
    }
}
