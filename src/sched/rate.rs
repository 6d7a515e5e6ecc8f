//! Attempts a second, by the generic cell rate algorithm (ITU-T I.371): one
//! number says when the next is on schedule, and a tenth of a second's worth may
//! come early.

use crate::time::Timestamp;

/// How far a lane's schedule has come, in milliseconds since the epoch.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rate {
    scheduled_ms: f64,
}

const BURST_SECONDS: f64 = 0.1;

impl Rate {
    /// When the next attempt may start at `per_second` (0: at once).
    pub(super) fn next_at(self, per_second: f64) -> Timestamp {
        if per_second <= 0.0 {
            return Timestamp::ZERO;
        }
        let interval_ms = 1000.0 / per_second;
        let burst = (per_second * BURST_SECONDS).max(1.0);
        Timestamp::from_millis((self.scheduled_ms - (burst - 1.0) * interval_ms).max(0.0).ceil() as u64)
    }

    /// An attempt starts.
    pub(super) fn take(&mut self, now: Timestamp, per_second: f64) {
        if per_second > 0.0 {
            self.scheduled_ms = self.scheduled_ms.max(now.as_millis() as f64) + 1000.0 / per_second;
        }
    }

    /// The clock was set back to `now`: the next is an interval away at most.
    pub(super) fn pull_in(&mut self, now: Timestamp, per_second: f64) {
        if per_second > 0.0 {
            self.scheduled_ms = self.scheduled_ms.min(now.as_millis() as f64 + 1000.0 / per_second);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn starts_within_ten_seconds(per_second: f64) -> usize {
        let mut rate = Rate::default();
        let begin = Timestamp::from_millis(1_000_000);
        (0..10_000u64)
            .filter(|millis| {
                let now = begin + Duration::from_millis(*millis);
                let may = rate.next_at(per_second) <= now;
                if may {
                    rate.take(now, per_second);
                }
                may
            })
            .count()
    }

    #[test]
    fn the_rate_is_kept_over_time() {
        assert_eq!(starts_within_ten_seconds(0.2), 2);
        assert_eq!(starts_within_ten_seconds(1.0), 10);
        let hundred = starts_within_ten_seconds(100.0);
        assert!((1_000..=1_010).contains(&hundred), "{hundred}");
        assert_eq!(starts_within_ten_seconds(0.0), 10_000);
    }
}
