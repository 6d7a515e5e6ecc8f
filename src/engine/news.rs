//! When to tell of failed deliveries: at most once a minute a lane, with a count.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::id::Lane;
use crate::time::Timestamp;

/// How far apart two tellings of a lane are.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// See the file's beginning.
#[derive(Default)]
pub(super) struct FailureNews {
    /// What is not told yet of each lane that was told of in the last minute.
    lanes: HashMap<Lane, u64>,
    /// When each of them is to be looked at.
    due: BTreeSet<(Timestamp, Lane)>,
}

impl FailureNews {
    /// Deliveries of a lane failed for good.
    pub(super) fn failed(&mut self, lane: Lane, count: u64) {
        let untold = self.lanes.entry(lane).or_insert_with(|| {
            self.due.insert((Timestamp::ZERO, lane));
            0
        });
        *untold += count;
    }

    /// What is to be told now. Lanes with nothing to tell are forgotten in time.
    pub(super) fn take_due(&mut self, now: Timestamp) -> Vec<(Lane, u64)> {
        // By a clock that was set back since they lie too far ahead.
        while let Some((at, lane)) = self.due.last().copied()
            && at > now + TELL_EVERY
        {
            self.due.pop_last();
            self.due.insert((now + TELL_EVERY, lane));
        }
        let mut told = Vec::new();
        while let Some((at, lane)) = self.due.first().copied()
            && at <= now
        {
            self.due.pop_first();
            match self.lanes.remove(&lane) {
                Some(count) if count > 0 => {
                    told.push((lane, count));
                    self.lanes.insert(lane, 0);
                    self.due.insert((now + TELL_EVERY, lane));
                }
                _ => {}
            }
        }
        told
    }

    /// When [`FailureNews::take_due`] should look next.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }

    /// So many are not told of yet.
    #[cfg(test)]
    pub(super) fn untold(&self) -> u64 {
        self.lanes.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_told_of_once_a_minute_with_a_count() {
        let start = Timestamp::from_millis(1_000_000_000);
        let mut news = FailureNews::default();
        news.failed(Lane(1), 1);
        assert_eq!(news.take_due(start), [(Lane(1), 1)]);
        news.failed(Lane(1), 1);
        news.failed(Lane(1), 5);
        assert_eq!(news.take_due(start + Duration::from_secs(59)), []);
        assert_eq!(news.next_due(), Some(start + TELL_EVERY));
        assert_eq!(news.take_due(start + TELL_EVERY), [(Lane(1), 6)]);
        assert_eq!(news.take_due(start + TELL_EVERY * 2), []);
        assert_eq!(news.next_due(), None);
        assert!(news.lanes.is_empty());
    }

    /// After a step back of the clock nothing was told for its length.
    #[test]
    fn a_clock_that_is_set_back_silences_nothing() {
        let start = Timestamp::from_millis(1_000_000_000);
        let mut news = FailureNews::default();
        news.failed(Lane(1), 1);
        news.take_due(start);
        news.failed(Lane(1), 2);
        let back = start - Duration::from_secs(86_400);
        assert_eq!(news.take_due(back), []);
        assert_eq!(news.next_due(), Some(back + TELL_EVERY));
        assert_eq!(news.take_due(back + TELL_EVERY), [(Lane(1), 2)]);
    }
}
