//! What lanes have pending, counted row by row after a crash. By all cores: the start
//! waits for it, and most of the rows may be of one lane that is dead.

use std::num::NonZero;
use std::ops::{AddAssign, Bound};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::{Builder, available_parallelism, scope};

use redb::{AccessGuard, ReadOnlyTable, ReadableTableMetadata};

use crate::id::{EventId, Lane};
use crate::time::Timestamp;

use super::{StoreError, passed_over, records, tables};

type Pending = ReadOnlyTable<&'static [u8; 24], &'static [u8]>;
type Row<'a> = (AccessGuard<'a, &'static [u8; 24]>, AccessGuard<'a, &'static [u8]>);
type Keys = (Bound<[u8; 24]>, Bound<[u8; 24]>);

/// Up to how many rows one core counts alone.
const ALONE_ROWS_MAX: u64 = 100_000;

/// Of up to so many lanes each is counted in parts; more are shared out whole.
const LANES_IN_PARTS_MAX: usize = 64;

/// In how many parts: enough that no core is left with much when the others are done.
const PARTS: u64 = 16;

/// After how many rows of a part it is told how far all are.
const TOLD_EVERY: u64 = 10_000;

/// What a lane has pending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Backlog {
    pub(super) deliveries: u64,
    /// What the rows of their events take.
    pub(super) bytes: u64,
}

impl AddAssign for Backlog {
    fn add_assign(&mut self, other: Backlog) {
        self.deliveries += other.deliveries;
        self.bytes += other.bytes;
    }
}

/// What each of these lanes has, in their order. `told` hears how many rows are counted.
pub(super) fn count(pending: &Pending, lanes: &[Lane], told: impl Fn(u64) + Sync) -> Result<Vec<Backlog>, StoreError> {
    let helpers = match pending.len()? {
        ..=ALONE_ROWS_MAX => 0,
        _ => available_parallelism().map_or(1, NonZero::get) - 1,
    };
    count_with(pending, lanes, helpers, told)
}

/// The same on this thread and so many more.
fn count_with(
    pending: &Pending,
    lanes: &[Lane],
    helpers: usize,
    told: impl Fn(u64) + Sync,
) -> Result<Vec<Backlog>, StoreError> {
    let mut parts = Vec::new();
    for (index, lane) in lanes.iter().enumerate() {
        let number = if helpers == 0 || lanes.len() > LANES_IN_PARTS_MAX { 1 } else { PARTS };
        parts.extend(split(pending, *lane, number)?.into_iter().map(|keys| (index, keys)));
    }
    let (next, counted) = (AtomicUsize::new(0), AtomicU64::new(0));
    let work = || -> Result<Vec<(usize, Backlog)>, StoreError> {
        let mut found = Vec::new();
        while let Some((index, keys)) = parts.get(next.fetch_add(1, Ordering::Relaxed)) {
            found.push((*index, count_keys(pending, keys, &counted, &told)?));
        }
        Ok(found)
    };
    let found = scope(|scope| {
        // Where a thread cannot be had, the others count its part.
        let helpers: Vec<_> = (0..helpers).filter_map(|_| Builder::new().spawn_scoped(scope, work).ok()).collect();
        let mut found = work();
        for helper in helpers {
            let theirs = helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            found = found.and_then(|found| Ok([found, theirs?].concat()));
        }
        found
    })?;
    let mut backlogs = vec![Backlog::default(); lanes.len()];
    for (index, backlog) in found {
        backlogs[index] += backlog;
    }
    Ok(backlogs)
}

/// A lane's keys in up to that many parts, each as long in time.
fn split(pending: &Pending, lane: Lane, parts: u64) -> Result<Vec<Keys>, StoreError> {
    let (first, last) = tables::lane_bounds(lane);
    let mut rows = pending.range::<&[u8; 24]>(&first..=&last)?;
    let place_ms = |row: Option<Result<Row<'_>, _>>| {
        let row = row.transpose()?;
        Ok::<_, StoreError>(row.map(|(key, _)| tables::pending_from_key(key.value()).1.0.as_millis()))
    };
    let mut cuts = Vec::new();
    if parts > 1
        && let Some(oldest_ms) = place_ms(rows.next())?
        && let Some(newest_ms) = place_ms(rows.next_back())?
    {
        let part_ms = (newest_ms - oldest_ms) / parts;
        let start = |part| Timestamp::from_millis(oldest_ms + part * part_ms);
        cuts.extend((1..parts).map(|part| tables::pending_key(lane, (start(part), EventId::from_key([0; 12])))));
        cuts.dedup();
    }
    let mut keys = Vec::new();
    let mut from = first;
    for cut in cuts {
        keys.push((Bound::Included(from), Bound::Excluded(cut)));
        from = cut;
    }
    keys.push((Bound::Included(from), Bound::Included(last)));
    Ok(keys)
}

fn count_keys(pending: &Pending, keys: &Keys, counted: &AtomicU64, told: &impl Fn(u64)) -> Result<Backlog, StoreError> {
    let mut backlog = Backlog::default();
    for row in pending.range::<&[u8; 24]>((keys.0.as_ref(), keys.1.as_ref()))? {
        let (key, value) = row?;
        let (lane, (_, event)) = tables::pending_from_key(key.value());
        let bytes = passed_over(records::decode_weight(value.value()), event.delivery(lane))?;
        backlog += Backlog { deliveries: 1, bytes: u64::from(bytes.unwrap_or(0)) };
        if backlog.deliveries % TOLD_EVERY == 0 {
            told(counted.fetch_add(TOLD_EVERY, Ordering::Relaxed) + TOLD_EVERY);
        }
    }
    Ok(backlog)
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;
    use redb::{Database, ReadableDatabase};

    use super::*;
    use crate::model::Head;

    /// Rows of lanes: by time spread, at one time, alone, none; and of neighbours
    /// that are not asked for.
    #[test]
    fn every_row_is_counted_once_by_however_many() {
        let database = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
        let transaction = database.begin_write().unwrap();
        let mut counts = std::collections::BTreeMap::<Lane, Backlog>::new();
        {
            let mut table = transaction.open_table(tables::PENDING).unwrap();
            let mut put = |lane: u32, place_ms: u64, event: u128| {
                let place = Timestamp::from_millis(place_ms);
                let event = EventId::from_key(event.to_be_bytes()[4..].try_into().unwrap());
                let head = Head { place, due: place, event, attempts: 0, failures: 0, opened_at: place };
                let weight_bytes = lane * 1000 + event.to_key()[11] as u32;
                let row = records::encode_pending(&head, weight_bytes).unwrap();
                table.insert(&tables::pending_key(Lane(lane), head.key()), row.as_slice()).unwrap();
                *counts.entry(Lane(lane)).or_default() += Backlog { deliveries: 1, bytes: weight_bytes.into() };
            };
            for nth in 0..500 {
                put(1, 1_000 + 7 * nth, nth.into());
                put(2, 5_000, nth.into());
                put(4, 1 << (nth % 40), nth.into());
            }
            put(3, 9, 1);
            put(6, 9, 1);
            for lane in 10..200 {
                put(lane, 9, 1);
                put(lane, u64::from(lane), 2);
            }
        }
        transaction.commit().unwrap();
        let pending = database.begin_read().unwrap().open_table(tables::PENDING).unwrap();
        let few = [1, 2, 3, 4, 5].map(Lane);
        let many: Vec<Lane> = (0..250).map(Lane).collect();
        for lanes in [&few[..], &many[..], &[]] {
            let expected: Vec<Backlog> =
                lanes.iter().map(|lane| counts.get(lane).copied().unwrap_or_default()).collect();
            for helpers in [0, 1, 3] {
                assert_eq!(count_with(&pending, lanes, helpers, |_| ()).unwrap(), expected, "{helpers}");
            }
        }
    }
}
