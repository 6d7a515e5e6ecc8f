//! What must hold of every attempt when it begins: due, of a delivery that is
//! pending, numbered on, within concurrency, rate and breaker. Written from the
//! contract, not from `sched`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::id::{DeliveryId, Lane};
use crate::model::{DeliveryState, Subscription};
use crate::time::Timestamp;

use crate::engine::simulated::InFlight;

use super::book::Book;
use super::network::Fate;
use super::order::is_fifo;

const TRIPS_AFTER: u32 = 5;
const PROBES_APART: Duration = Duration::from_secs(10);

/// An attempt that has begun.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    pub(super) began: InFlight,
    /// By a clock that only goes on.
    began_ms: u64,
    /// It went out on the wire.
    pub(super) was_sent: bool,
    pub(super) fate: Option<Fate>,
}

/// A lane as an onlooker sees it; forgotten with the process.
#[derive(Default)]
struct Seen {
    trips_in_a_row: u32,
    /// Whether the lane may have had more of them, because it is not known whether it
    /// was enabled anew: then it trips earlier.
    may_be_more: bool,
    last_failed: bool,
    /// When it was tripped or the last probe ended, by a clock that only goes on.
    quiet_since_ms: u64,
    /// When that attempt had begun.
    probed_ms: u64,
    /// Until when a `Retry-After` asked it to pause, by the wall clock.
    paused_until: Option<Timestamp>,
    /// When the last ones began, by the wall clock, since it was last set.
    begun: VecDeque<Timestamp>,
}

#[derive(Default)]
pub(super) struct Lanes {
    pub(super) flights: BTreeMap<DeliveryId, Flight>,
    seen: BTreeMap<Lane, Seen>,
    /// Lanes that the engine knows to be gone.
    pub(super) removed: BTreeSet<Lane>,
    /// To what the wall clock was set back.
    steps_back: Vec<Timestamp>,
    /// When the wall clock was last set.
    set_ms: u64,
    pub(super) attempts: u64,
}

impl Lanes {
    /// The process ended, and with it all that it had in mind.
    pub(super) fn crashed(&mut self) {
        self.flights.clear();
        self.seen.clear();
    }

    pub(super) fn clock_was_set(&mut self, is_back: bool, true_ms: u64, wall: Timestamp) {
        self.set_ms = true_ms;
        if is_back {
            self.steps_back.push(wall);
        }
        for seen in self.seen.values_mut() {
            seen.begun.clear();
            seen.paused_until = seen.paused_until.filter(|_| !is_back);
        }
    }

    /// The lane's settings or status are others than they were.
    pub(super) fn was_set(&mut self, lane: Lane, may_be_enabled_anew: bool) {
        let Some(seen) = self.seen.get_mut(&lane) else { return };
        seen.begun.clear();
        if may_be_enabled_anew {
            seen.may_be_more |= seen.trips_in_a_row > 0;
            seen.trips_in_a_row = 0;
            seen.last_failed = false;
            seen.paused_until = None;
        }
    }

    /// The attempt that an answer to `id` is for. Requests that name no event are told
    /// apart by their order alone: where it has ended, the answer is for another of its lane.
    pub(super) fn answered(&mut self, id: DeliveryId) -> Option<&mut Flight> {
        if self.flights.contains_key(&id) {
            return self.flights.get_mut(&id);
        }
        let mut of_lane = self.flights.iter_mut().filter(|(other, _)| other.lane() == id.lane());
        of_lane.find(|(_, it)| it.was_sent && it.fate.is_none()).map(|(_, it)| it)
    }

    /// The answer to `id` that was taken for one to another attempt of its lane, which
    /// is still under way.
    pub(super) fn taken_for_another(&mut self, id: DeliveryId, there: &BTreeSet<DeliveryId>) -> Option<Fate> {
        let mut of_lane = self.flights.iter_mut().filter(|(other, _)| other.lane() == id.lane());
        of_lane.find(|(other, it)| it.fate.is_some() && there.contains(other)).and_then(|(_, it)| it.fate.take())
    }

    /// Whether its last attempt failed.
    pub(super) fn has_failed(&self, lane: Lane) -> bool {
        self.seen.get(&lane).is_some_and(|seen| seen.last_failed)
    }

    /// The engine heard anew how every lane is to run: each may have been enabled since.
    pub(super) fn all_were_set(&mut self) {
        let lanes: Vec<Lane> = self.seen.keys().copied().collect();
        lanes.into_iter().for_each(|lane| self.was_set(lane, true));
    }

    /// An attempt begins. `is_told`: the engine knows of every commit that concerns its lane.
    pub(super) fn begins(
        &mut self,
        began: InFlight,
        book: &Book,
        subscription: Option<&Subscription>,
        is_told: bool,
        concurrency_total: usize,
        true_ms: u64,
    ) {
        self.attempts += 1;
        let id = began.event.delivery(began.lane);
        let flight = Flight { began, began_ms: true_ms, was_sent: false, fate: None };
        let before = self.flights.insert(id, flight);
        assert!(before.is_none(), "{id} has two attempts in flight");
        // What is in flight of a lane that is gone is not waited for.
        let in_flight = self.flights.keys().filter(|id| !self.removed.contains(&id.lane())).count();
        assert!(in_flight <= concurrency_total, "more than {concurrency_total} attempts in flight");
        let of_lane = self.flights.values().filter(|it| it.began.lane == began.lane).count();
        if is_told {
            let known = book.known(id).unwrap_or_else(|| panic!("{id} is attempted and not known"));
            assert_eq!(known.state, DeliveryState::Pending, "{id} is attempted after its end");
            assert_eq!(known.due, Some(began.due), "{id} is attempted where it does not stand");
            assert_eq!(known.attempts + 1, began.number, "{id}: attempts are numbered without gaps");
            assert!(!book.settling.contains_key(&id), "{id} is attempted before its outcome is committed");
            self.check_due(id, began, book, known.failures == Some(0));
        }
        let Some(subscription) = subscription.filter(|_| is_told) else { return };
        let settings = &subscription.settings;
        let is_fifo = is_fifo(subscription);
        if is_fifo {
            book.order.check(id, book);
        }
        let concurrency = if is_fifo { 1 } else { settings.delivery.concurrency.unwrap() as usize };
        assert!(of_lane <= concurrency, "lane {} has {of_lane} attempts in flight, of {concurrency}", began.lane);
        let failing = self.seen.iter().filter(|(lane, seen)| seen.last_failed && !self.removed.contains(lane));
        let failing = failing.map(|(lane, _)| *lane);
        let failing: Vec<Lane> = failing.collect();
        let in_flight_failing = self.flights.values().filter(|it| failing.contains(&it.began.lane)).count();
        let seen = self.seen.entry(began.lane).or_default();
        if seen.last_failed {
            assert!(in_flight_failing <= (concurrency_total / 2).max(1), "failing lanes hold more than half");
        }
        if seen.trips_in_a_row >= TRIPS_AFTER && !seen.may_be_more {
            assert_eq!(of_lane, 1, "lane {} is tripped: one probe at a time", began.lane);
            let pause = Duration::from_millis(true_ms - seen.quiet_since_ms);
            let is_by_the_clock = self.set_ms >= seen.probed_ms;
            // The wall clock may drift by a part of it.
            assert!(is_by_the_clock || pause * 101 / 100 >= PROBES_APART, "a probe after {pause:?}");
        }
        let is_paused = seen.paused_until.is_some_and(|until| began.began_at < until);
        assert!(!is_paused, "lane {} is to pause until {:?}", began.lane, seen.paused_until);
        let rate = settings.delivery.rate_per_second.unwrap_or(0.0);
        if rate > 0.0 {
            seen.begun.push_back(began.began_at);
            if seen.begun.len() > 6 {
                seen.begun.pop_front();
            }
            let burst = (rate / 10.0).max(1.0);
            let least = (seen.begun.len() as f64 - burst).max(0.0) / rate;
            let span = began.began_at.since(seen.begun[0]).as_secs_f64();
            assert!(
                span >= least - 0.01,
                "lane {}: {} attempts within {span} s at {rate}",
                began.lane,
                seen.begun.len()
            );
        }
    }

    /// Never before it is due, unless the clock was set back since. What never failed is
    /// due at once, though its id may lie ahead of the clock.
    fn check_due(&self, id: DeliveryId, began: InFlight, book: &Book, never_failed: bool) {
        let longest = book.rules.max_delay * 12 / 10;
        let is_due = never_failed || began.due <= began.began_at;
        let is_pulled_in = self.steps_back.iter().any(|wall| began.began_at >= *wall + longest);
        let is_due_by_then = !self.steps_back.is_empty() && began.due <= book.wall_max;
        assert!(is_due || is_pulled_in || is_due_by_then, "{id} is attempted at {}, due {}", began.began_at, began.due);
    }

    /// An attempt ended with that, at a time by both clocks. `pause_max`: the longest
    /// that a receiver can ask for.
    pub(super) fn ended(
        &mut self,
        flight: &Flight,
        fate: &Fate,
        is_success: bool,
        (true_ms, wall): (u64, Timestamp),
        pause_max: Duration,
    ) {
        let lane = flight.began.lane;
        let seen = self.seen.entry(lane).or_default();
        seen.last_failed = !is_success;
        let was_tripped = seen.trips_in_a_row >= TRIPS_AFTER;
        if is_success {
            seen.trips_in_a_row = 0;
            seen.may_be_more = false;
        } else if fate.trips() {
            seen.trips_in_a_row += 1;
        } else if !was_tripped {
            seen.trips_in_a_row = 0;
        }
        if let Fate::Answer { status: 429 | 503, retry_after: Some(asked) } = fate {
            let seconds = match asked.as_str() {
                "Fri, 31 Dec 9999 23:59:59 GMT" => u64::MAX,
                asked => asked.parse().unwrap_or(0),
            };
            let until = wall + Duration::from_secs(seconds).min(pause_max);
            seen.paused_until = seen.paused_until.max(Some(until));
        }
        // What was in flight when it was tripped is no probe.
        if !was_tripped || flight.began_ms > seen.quiet_since_ms {
            seen.may_be_more &= !was_tripped;
            seen.quiet_since_ms = true_ms;
            seen.probed_ms = flight.began_ms;
        }
    }
}
