//! Counters and gauges, as OpenMetrics text for Prometheus. Labels are few and
//! bounded: none names an organization, a subscription or a URL.

use std::sync::atomic::Ordering;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::model::{Attempt, AttemptOutcome};
use crate::store::query::Totals;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    /// `success`, or the failure's code.
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabels {
    /// The HTTP status.
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    /// How deliveries ended.
    state: &'static str,
}

/// Everything that is counted.
pub struct Metrics {
    registry: Registry,
    attempts: Family<OutcomeLabels, Counter>,
    attempt_seconds: Histogram,
    in_flight: Gauge,
    lanes_tripped: Gauge,
    requests: Family<StatusLabels, Counter>,
    events_accepted: Counter,
    events_duplicate: Counter,
    deliveries_ended: Family<StateLabels, Counter>,
    events_retained: Gauge,
    deliveries_pending: Gauge,
    deliveries_held: Gauge,
    storage_live_bytes: Gauge,
    storage_file_bytes: Gauge,
    configuration_generation: Gauge,
}

/// Upper bounds of the attempt durations counted, in seconds.
const ATTEMPT_SECONDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0];

impl Default for Metrics {
    fn default() -> Metrics {
        let mut metrics = Metrics {
            registry: Registry::with_prefix("posthaste"),
            attempts: Family::default(),
            attempt_seconds: Histogram::new(ATTEMPT_SECONDS),
            in_flight: Gauge::default(),
            lanes_tripped: Gauge::default(),
            requests: Family::default(),
            events_accepted: Counter::default(),
            events_duplicate: Counter::default(),
            deliveries_ended: Family::default(),
            events_retained: Gauge::default(),
            deliveries_pending: Gauge::default(),
            deliveries_held: Gauge::default(),
            storage_live_bytes: Gauge::default(),
            storage_file_bytes: Gauge::default(),
            configuration_generation: Gauge::default(),
        };
        let it = &mut metrics.registry;
        it.register("attempts", "Attempts made, by outcome", metrics.attempts.clone());
        it.register("attempt_duration_seconds", "How long attempts took", metrics.attempt_seconds.clone());
        it.register("attempts_in_flight", "Attempts in flight", metrics.in_flight.clone());
        it.register("lanes_tripped", "Lanes whose endpoint keeps failing", metrics.lanes_tripped.clone());
        it.register("api_requests", "Requests answered by the API, by status", metrics.requests.clone());
        it.register("events_accepted", "Events accepted", metrics.events_accepted.clone());
        it.register("events_duplicate", "Events that had been accepted before", metrics.events_duplicate.clone());
        it.register("deliveries_ended", "Deliveries that ended, by state", metrics.deliveries_ended.clone());
        it.register("events_retained", "Events in the store", metrics.events_retained.clone());
        it.register("deliveries_pending", "Deliveries to be attempted", metrics.deliveries_pending.clone());
        it.register("deliveries_held", "1: all deliveries are held since a restore", metrics.deliveries_held.clone());
        it.register("storage_live_bytes", "Bytes that hold something", metrics.storage_live_bytes.clone());
        it.register("storage_file_bytes", "Size of the store's file", metrics.storage_file_bytes.clone());
        let help = "Which configuration is in force: 1 is that of the start, each reload counts one more";
        it.register("configuration_generation", help, metrics.configuration_generation.clone());
        metrics
    }
}

impl Metrics {
    /// An attempt ended.
    pub fn attempted(&self, attempt: &Attempt) {
        let outcome = match &attempt.outcome {
            AttemptOutcome::Success { .. } => "success",
            AttemptOutcome::Failure { code, .. } => code.as_str(),
        };
        self.attempts.get_or_create(&OutcomeLabels { outcome }).inc();
        self.attempt_seconds.observe(f64::from(attempt.duration_ms) / 1000.0);
    }

    /// How the engine stands.
    pub fn engine(&self, in_flight: u32, tripped: usize) {
        self.in_flight.set(i64::from(in_flight));
        self.lanes_tripped.set(i64::try_from(tripped).unwrap_or(i64::MAX));
    }

    /// The API answered a request.
    pub fn answered(&self, status: u16) {
        self.requests.get_or_create(&StatusLabels { status }).inc();
    }

    /// The OpenMetrics text of everything, given the store's totals and which
    /// configuration is in force.
    pub fn encode(&self, totals: &Totals, generation: u64) -> String {
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.events_accepted.inner().store(totals.accepted, Ordering::Relaxed);
        self.events_duplicate.inner().store(totals.duplicates, Ordering::Relaxed);
        for (state, count) in
            [("delivered", totals.delivered), ("failed", totals.failed), ("cancelled", totals.cancelled)]
        {
            let counter = self.deliveries_ended.get_or_create_owned(&StateLabels { state });
            counter.inner().store(count, Ordering::Relaxed);
        }
        self.events_retained.set(gauge(totals.events));
        self.deliveries_pending.set(gauge(totals.pending));
        self.deliveries_held.set(i64::from(totals.held_since.is_some()));
        self.storage_live_bytes.set(gauge(totals.live_bytes));
        self.storage_file_bytes.set(gauge(totals.file_bytes));
        self.configuration_generation.set(gauge(generation));
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_and_attempts_are_shown() {
        let metrics = Metrics::default();
        metrics.answered(202);
        metrics.engine(3, 1);
        let text = metrics.encode(&Totals { accepted: 5, delivered: 4, pending: 1, ..Totals::default() }, 2);
        for line in [
            "posthaste_events_accepted_total 5",
            "posthaste_deliveries_ended_total{state=\"delivered\"} 4",
            "posthaste_deliveries_pending 1",
            "posthaste_deliveries_held 0",
            "posthaste_api_requests_total{status=\"202\"} 1",
            "posthaste_lanes_tripped 1",
            "posthaste_configuration_generation 2",
            "# EOF",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} in\n{text}");
        }
    }
}
