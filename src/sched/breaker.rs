//! When a lane is tripped, and when a tripped lane is probed.

use std::time::Duration;

use crate::limits::{PROBE_DELAY_FIRST, PROBE_DELAY_MAX, TRIP_AFTER_FAILURES};
use crate::time::Timestamp;

/// Five failures of the endpoint in a row trip a lane. Then it is probed, one
/// attempt at a time, 10 s and up to 5 min apart, until one succeeds. Each pause is
/// longer by up to a fifth, by chance: lanes that tripped together, because the link
/// was down, are not probed together for ever.
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

/// By how much of itself a pause may be longer.
const SPREAD: f64 = 0.2;

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

    /// An attempt failed at `now`; `trips`: by the endpoint's fault; `chance`: from 0 to 1.
    pub(super) fn failed(&mut self, now: Timestamp, trips: bool, chance: f64) {
        let tripped =
            |delay: Duration| Breaker::Tripped { probe_at: now + delay.mul_f64(1.0 + SPREAD * chance), delay };
        *self = match *self {
            Breaker::Closed { .. } if !trips => Breaker::default(),
            Breaker::Closed { failures } if failures + 1 < TRIP_AFTER_FAILURES => {
                Breaker::Closed { failures: failures + 1 }
            }
            Breaker::Closed { .. } => tripped(PROBE_DELAY_FIRST),
            // Attempts that were in flight when the lane tripped are no probes:
            // they end before the probe's time and do not double its pause.
            Breaker::Tripped { probe_at, .. } if now < probe_at => *self,
            Breaker::Tripped { delay, .. } => tripped((delay * 2).min(PROBE_DELAY_MAX)),
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
            breaker.failed(now, trips, 0.0);
            assert!(!breaker.is_tripped(), "another kind of failure starts the count over");
        }
        breaker.failed(now, true, 0.0);
        let mut pauses = Vec::new();
        for _ in 0..7 {
            let probe_at = breaker.probe_at().expect("tripped");
            pauses.push(probe_at.since(now).as_secs());
            now = probe_at;
            breaker.failed(now, false, 0.0);
        }
        assert_eq!(pauses, [10, 20, 40, 80, 160, 300, 300]);
        breaker.succeeded();
        assert!(!breaker.is_tripped());
    }

    /// Lanes that tripped together, because the link was down, were probed together
    /// for as long as it lasted, and all began at once when it was back.
    #[test]
    fn pauses_are_spread_by_chance() {
        let now = Timestamp::from_millis(1_000_000);
        let pause = |chance: f64| {
            let mut breaker = Breaker::default();
            (0..TRIP_AFTER_FAILURES).for_each(|_| breaker.failed(now, true, chance));
            let first = breaker.probe_at().expect("tripped");
            breaker.failed(first, true, chance);
            (first.since(now).as_millis(), breaker.probe_at().expect("tripped").since(first).as_millis())
        };
        assert_eq!([pause(0.0), pause(0.5), pause(1.0)], [(10_000, 20_000), (11_000, 22_000), (12_000, 24_000)]);
    }

    #[test]
    fn what_was_in_flight_when_it_tripped_does_not_lengthen_the_pause() {
        let mut breaker = Breaker::default();
        let now = Timestamp::from_millis(1_000_000);
        for _ in 0..15 {
            breaker.failed(now, true, 0.0);
        }
        assert_eq!(breaker.probe_at(), Some(now + Duration::from_secs(10)));
    }
}
