//! When a lane is tripped, and when a tripped lane is probed.

use std::time::Duration;

use crate::limits::{PROBE_DELAY_FIRST, PROBE_DELAY_MAX, TRIP_AFTER_FAILURES};
use crate::time::Timestamp;

/// Five failures of the endpoint in a row trip a lane. Then it is probed, one
/// attempt at a time, 10 s and up to 5 min apart, until one succeeds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Breaker {
    /// Attempts flow.
    Closed {
        /// Failures of the endpoint in a row.
        failures: u32,
    },
    /// Attempts are probes.
    Tripped {
        /// When the next may start.
        probe_at: Timestamp,
        /// The pause that led there.
        delay: Duration,
    },
}

impl Default for Breaker {
    fn default() -> Breaker {
        Breaker::Closed { failures: 0 }
    }
}

impl Breaker {
    pub(super) fn is_tripped(self) -> bool {
        matches!(self, Breaker::Tripped { .. })
    }

    /// When the next probe may start; none: attempts flow.
    pub(super) fn probe_at(self) -> Option<Timestamp> {
        match self {
            Breaker::Closed { .. } => None,
            Breaker::Tripped { probe_at, .. } => Some(probe_at),
        }
    }

    /// An attempt succeeded.
    pub(super) fn succeeded(&mut self) {
        *self = Breaker::default();
    }

    /// An attempt failed at `now`; `trips`: by the endpoint's fault.
    pub(super) fn failed(&mut self, now: Timestamp, trips: bool) {
        *self = match *self {
            Breaker::Closed { .. } if !trips => Breaker::default(),
            Breaker::Closed { failures } if failures + 1 < TRIP_AFTER_FAILURES => {
                Breaker::Closed { failures: failures + 1 }
            }
            Breaker::Closed { .. } => Breaker::Tripped { probe_at: now + PROBE_DELAY_FIRST, delay: PROBE_DELAY_FIRST },
            // Attempts that were in flight when the lane tripped are no probes:
            // they end before the probe's time and do not double its pause.
            Breaker::Tripped { probe_at, .. } if now < probe_at => *self,
            Breaker::Tripped { delay, .. } => {
                let delay = (delay * 2).min(PROBE_DELAY_MAX);
                Breaker::Tripped { probe_at: now + delay, delay }
            }
        };
    }

    /// An attempt ended at `now` that says nothing of the endpoint: the next probe is
    /// no nearer for it.
    pub(super) fn learned_nothing(&mut self, now: Timestamp) {
        if let Breaker::Tripped { probe_at, delay } = self {
            *probe_at = (*probe_at).max(now + *delay);
        }
    }

    /// The clock was set back to `now`.
    pub(super) fn pull_in(&mut self, now: Timestamp) {
        if let Breaker::Tripped { probe_at, delay } = self {
            *probe_at = (*probe_at).min(now + *delay);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_in_a_row_trip_and_probes_come_ten_seconds_doubling_to_five_minutes_apart() {
        let mut breaker = Breaker::default();
        let mut now = Timestamp::from_millis(1_000_000);
        for trips in [true, true, true, true, false, true, true, true, true] {
            breaker.failed(now, trips);
            assert!(!breaker.is_tripped(), "another kind of failure starts the count over");
        }
        breaker.failed(now, true);
        let mut pauses = Vec::new();
        for _ in 0..7 {
            let probe_at = breaker.probe_at().expect("tripped");
            pauses.push(probe_at.since(now).as_secs());
            now = probe_at;
            breaker.failed(now, false);
        }
        assert_eq!(pauses, [10, 20, 40, 80, 160, 300, 300]);
        breaker.succeeded();
        assert!(!breaker.is_tripped());
    }

    #[test]
    fn what_was_in_flight_when_it_tripped_does_not_lengthen_the_pause() {
        let mut breaker = Breaker::default();
        let now = Timestamp::from_millis(1_000_000);
        for _ in 0..15 {
            breaker.failed(now, true);
        }
        assert_eq!(breaker.probe_at(), Some(now + Duration::from_secs(10)));
    }
}
