//! Counters, gauges and histograms, as text for Prometheus. Labels are few and
//! bounded: none names an organization, a subscription or a URL.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::histogram::{Histogram, Reading};
use crate::model::{Attempt, AttemptOutcome, Status};
use crate::store::query::Totals;
use crate::time::Timestamp;

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

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LaneLabels {
    /// What lanes are doing.
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CertificateLabels {
    /// How soon certificates expire.
    expiry: &'static str,
}

/// A histogram as Prometheus reads it, in units that have `parts` parts.
#[derive(Clone, Debug)]
struct Spread {
    histogram: Histogram,
    parts: f64,
}

impl EncodeMetric for Spread {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let Reading { buckets, sum } = self.histogram.read();
        let count = buckets.iter().map(|(_, count)| count).sum();
        // Counts are far below what a float tells exactly.
        let units = |parts: u64| parts as f64 / self.parts;
        let buckets: Vec<(f64, u64)> =
            buckets.into_iter().map(|(bound, count)| (bound.map_or(f64::INFINITY, units), count)).collect();
        encoder.encode_histogram::<[(&str, &str); 0]>(units(sum), count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

/// A gauge that may have no value, and then is not told.
#[derive(Clone, Debug, Default)]
struct Known(Arc<AtomicI64>);

impl Known {
    /// No gauge of ours falls below 0.
    const UNKNOWN: i64 = -1;

    fn set(&self, value: Option<u64>) {
        let value = value.map_or(Known::UNKNOWN, |value| i64::try_from(value).unwrap_or(i64::MAX));
        self.0.store(value, Ordering::Relaxed);
    }
}

impl EncodeMetric for Known {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        match self.0.load(Ordering::Relaxed) {
            Known::UNKNOWN => Ok(()),
            value => encoder.encode_gauge(&value),
        }
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

/// Everything that is counted.
pub struct Metrics {
    registry: Registry,
    attempts: Family<OutcomeLabels, Counter>,
    attempt_ms: Histogram,
    delay_ms: Histogram,
    in_flight: Gauge,
    lanes: Family<LaneLabels, Gauge>,
    lanes_tripped: Gauge,
    requests: Family<StatusLabels, Counter>,
    events_accepted: Counter,
    events_duplicate: Counter,
    deliveries_ended: Family<StateLabels, Counter>,
    events_retained: Gauge,
    deliveries_pending: Gauge,
    deliveries_held: Gauge,
    oldest_pending_at: Known,
    ready: Gauge,
    storage_full: Gauge,
    storage_live_bytes: Gauge,
    storage_file_bytes: Gauge,
    configuration_generation: Gauge,
    storage_free_bytes: Known,
    endpoint_certificates: Family<CertificateLabels, Gauge>,
    endpoint_certificate_expiry_at: Known,
}

/// Upper bounds of the attempt durations counted, in milliseconds.
const ATTEMPT_MS: &[u64] = &[5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 15_000];

/// Upper bounds of the delays counted, in milliseconds: from a delivery that goes through
/// at once to one at the end of its horizon.
const DELAY_MS: &[u64] = &[
    10,
    25,
    50,
    100,
    250,
    500,
    1_000,
    2_500,
    5_000,
    15_000,
    60_000,
    300_000,
    1_800_000,
    7_200_000,
    43_200_000,
    86_400_000,
    259_200_000,
];

/// How the daemon stands when it is asked; all else is counted as it happens.
#[derive(Clone, Debug)]
pub struct Standing {
    /// What time it is.
    pub now: Timestamp,
    /// Until when the certificates of endpoints are valid, one an endpoint.
    pub certificates: Vec<Timestamp>,
    /// The store's.
    pub totals: Totals,
    /// When what has waited for longest was accepted or reopened.
    pub oldest_pending_at: Option<Timestamp>,
    /// Bytes until publishing is refused, where that can be told.
    pub free_bytes: Option<u64>,
    /// Whether the store takes writes.
    pub is_ready: bool,
    /// Whether publishing is refused because there is no room.
    pub is_full: bool,
    /// How many subscriptions have each status.
    pub subscriptions: Vec<(Status, usize)>,
    /// Which configuration is in force.
    pub generation: u64,
}

impl Metrics {
    /// Nothing counted yet, but what `commit_items` counts.
    pub fn new(commit_items: Histogram) -> Metrics {
        let mut metrics = Metrics {
            registry: Registry::with_prefix("posthaste"),
            attempts: Family::default(),
            attempt_ms: Histogram::new(ATTEMPT_MS),
            delay_ms: Histogram::new(DELAY_MS),
            in_flight: Gauge::default(),
            lanes: Family::default(),
            lanes_tripped: Gauge::default(),
            requests: Family::default(),
            events_accepted: Counter::default(),
            events_duplicate: Counter::default(),
            deliveries_ended: Family::default(),
            events_retained: Gauge::default(),
            deliveries_pending: Gauge::default(),
            deliveries_held: Gauge::default(),
            oldest_pending_at: Known::default(),
            ready: Gauge::default(),
            storage_full: Gauge::default(),
            storage_live_bytes: Gauge::default(),
            storage_file_bytes: Gauge::default(),
            configuration_generation: Gauge::default(),
            storage_free_bytes: Known::default(),
            endpoint_certificates: Family::default(),
            endpoint_certificate_expiry_at: Known::default(),
        };
        let seconds = |histogram: &Histogram| Spread { histogram: histogram.clone(), parts: 1000.0 };
        let it = &mut metrics.registry;
        it.register("build", "The program", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        it.register("attempts", "Attempts made, by outcome", metrics.attempts.clone());
        it.register("attempt_duration_seconds", "How long attempts took", seconds(&metrics.attempt_ms));
        let delay = "From acceptance, or reopening, to a receiver's success";
        it.register("delivery_delay_seconds", delay, seconds(&metrics.delay_ms));
        it.register("attempts_in_flight", "Attempts in flight", metrics.in_flight.clone());
        it.register("lanes", "Subscriptions, by what their lanes do", metrics.lanes.clone());
        it.register("lanes_tripped", "Lanes whose endpoint keeps failing", metrics.lanes_tripped.clone());
        it.register("api_requests", "Requests answered by the API, by status", metrics.requests.clone());
        it.register("events_accepted", "Events accepted", metrics.events_accepted.clone());
        it.register("events_duplicate", "Events that had been accepted before", metrics.events_duplicate.clone());
        let items = "Events, outcomes, retries and cancellations that shared a commit";
        it.register("commit_items", items, Spread { histogram: commit_items, parts: 1.0 });
        it.register("deliveries_ended", "Deliveries that ended, by state", metrics.deliveries_ended.clone());
        it.register("events_retained", "Events in the store", metrics.events_retained.clone());
        it.register("deliveries_pending", "Deliveries to be attempted", metrics.deliveries_pending.clone());
        it.register("deliveries_held", "1: all deliveries are held since a restore", metrics.deliveries_held.clone());
        let oldest = "When the delivery that has waited for longest was accepted or reopened; absent: none waits";
        it.register("oldest_pending_timestamp_seconds", oldest, metrics.oldest_pending_at.clone());
        it.register("ready", "1: the store takes writes", metrics.ready.clone());
        let full = "1: publishing is refused because there is no room";
        it.register("storage_full", full, metrics.storage_full.clone());
        it.register("storage_live_bytes", "Bytes that hold something", metrics.storage_live_bytes.clone());
        it.register("storage_file_bytes", "Size of the store's file", metrics.storage_file_bytes.clone());
        let help = "Which configuration is in force: 1 is that of the start, each reload counts one more";
        it.register("configuration_generation", help, metrics.configuration_generation.clone());
        let free = "Bytes of quota or disk until publishing is refused";
        it.register("storage_free_bytes", free, metrics.storage_free_bytes.clone());
        let help = "Endpoints of enabled subscriptions whose certificate was seen, by how soon it expires";
        it.register("endpoint_certificates", help, metrics.endpoint_certificates.clone());
        let help = "When the first of their certificates expires; absent: none was seen";
        let soonest = metrics.endpoint_certificate_expiry_at.clone();
        it.register("endpoint_certificate_expiry_timestamp_seconds", help, soonest);
        metrics
    }

    /// An attempt ended.
    pub fn attempted(&self, attempt: &Attempt) {
        let outcome = match &attempt.outcome {
            AttemptOutcome::Success { .. } => "success",
            AttemptOutcome::Failure { code, .. } => code.as_str(),
        };
        self.attempts.get_or_create(&OutcomeLabels { outcome }).inc();
        self.attempt_ms.observe(u64::from(attempt.duration_ms));
    }

    /// A delivery succeeded, so long after it was accepted or reopened.
    pub fn delivered_after(&self, delay: Duration) {
        self.delay_ms.observe(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX));
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

    /// The OpenMetrics text of everything.
    pub fn open_metrics(&self, standing: &Standing) -> String {
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let totals = &standing.totals;
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
        self.configuration_generation.set(gauge(standing.generation));
        self.ready.set(i64::from(standing.is_ready));
        self.storage_full.set(i64::from(standing.is_full));
        self.oldest_pending_at.set(standing.oldest_pending_at.map(Timestamp::as_secs));
        self.storage_free_bytes.set(standing.free_bytes);
        self.count_lanes(standing);
        self.count_certificates(standing);
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }

    /// The same in Prometheus' own text format, for who does not know OpenMetrics
    /// (<https://prometheus.io/docs/instrumenting/exposition_formats/>).
    pub fn plain_text(&self, standing: &Standing) -> String {
        to_plain_text(&self.open_metrics(standing))
    }

    /// Every endpoint is counted once, by the nearest of the times that its certificate
    /// ends within.
    fn count_certificates(&self, standing: &Standing) {
        const DAY: Duration = Duration::from_secs(86_400);
        let Standing { now, certificates, .. } = standing;
        let soon = [("expired", *now), ("within_7d", *now + 7 * DAY), ("within_30d", *now + 30 * DAY)];
        let expiry = |at: Timestamp| soon.iter().find(|(_, until)| at <= *until).map_or("later", |(name, _)| name);
        for name in soon.iter().map(|(name, _)| *name).chain(["later"]) {
            let count = certificates.iter().filter(|at| expiry(**at) == name).count();
            let gauge = self.endpoint_certificates.get_or_create_owned(&CertificateLabels { expiry: name });
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        self.endpoint_certificate_expiry_at.set(certificates.iter().min().map(|at| at.as_secs()));
    }

    /// Every subscription is counted once: an enabled one is held with all others, or
    /// tripped, or flowing.
    fn count_lanes(&self, standing: &Standing) {
        let set = |state, count: i64| {
            self.lanes.get_or_create_owned(&LaneLabels { state }).set(count);
        };
        for (status, count) in &standing.subscriptions {
            let count = i64::try_from(*count).unwrap_or(i64::MAX);
            if *status != Status::Enabled {
                set(status.as_str(), count);
                continue;
            }
            let is_held = standing.totals.held_since.is_some();
            let tripped = if is_held { 0 } else { self.lanes_tripped.get().min(count) };
            set("held", if is_held { count } else { 0 });
            set("tripped", tripped);
            set("flowing", if is_held { 0 } else { count - tripped });
        }
    }
}

/// OpenMetrics names a family of counters without what each of its samples ends in, and knows
/// types that the older format does not.
fn to_plain_text(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len() + 512);
    let mut help = None;
    for line in open_metrics.lines() {
        if let Some(told) = line.strip_prefix("# HELP ") {
            // It needs the suffix that the type behind it says.
            help = told.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|told| told.split_once(' ')) {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                kind => ("", kind),
            };
            if let Some((_, meaning)) = help.take() {
                text.extend(["# HELP ", name, suffix, " ", meaning, "\n"]);
            }
            text.extend(["# TYPE ", name, suffix, " ", kind, "\n"]);
        } else if !line.starts_with('#') {
            text.extend([line, "\n"]);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_and_attempts_are_shown() {
        let metrics = Metrics::new(Histogram::new(&[1, 10]));
        metrics.answered(202);
        metrics.engine(3, 1);
        metrics.delivered_after(Duration::from_millis(20));
        let totals = Totals { accepted: 5, delivered: 4, pending: 1, ..Totals::default() };
        let day = |days: u64| Timestamp::from_millis(days * 86_400_000);
        let mut standing = Standing {
            now: day(100),
            certificates: vec![day(190), day(99), day(107), day(108)],
            totals,
            oldest_pending_at: Some(Timestamp::from_millis(7_999)),
            free_bytes: Some(9),
            is_ready: true,
            is_full: false,
            subscriptions: vec![(Status::Enabled, 3), (Status::Disabled, 2)],
            generation: 2,
        };
        let text = metrics.open_metrics(&standing);
        for line in [
            "posthaste_events_accepted_total 5",
            "posthaste_deliveries_ended_total{state=\"delivered\"} 4",
            "posthaste_deliveries_pending 1",
            "posthaste_deliveries_held 0",
            "posthaste_api_requests_total{status=\"202\"} 1",
            "posthaste_lanes_tripped 1",
            "posthaste_configuration_generation 2",
            "posthaste_lanes{state=\"flowing\"} 2",
            "posthaste_lanes{state=\"tripped\"} 1",
            "posthaste_lanes{state=\"held\"} 0",
            "posthaste_lanes{state=\"disabled\"} 2",
            "posthaste_delivery_delay_seconds_bucket{le=\"0.01\"} 0",
            "posthaste_delivery_delay_seconds_bucket{le=\"0.025\"} 1",
            "posthaste_delivery_delay_seconds_bucket{le=\"+Inf\"} 1",
            "posthaste_delivery_delay_seconds_sum 0.02",
            "posthaste_commit_items_count 0",
            "posthaste_oldest_pending_timestamp_seconds 7",
            "posthaste_storage_free_bytes 9",
            "posthaste_ready 1",
            "posthaste_storage_full 0",
            "posthaste_endpoint_certificate_expiry_timestamp_seconds 8553600",
            "posthaste_endpoint_certificates{expiry=\"expired\"} 1",
            "posthaste_endpoint_certificates{expiry=\"within_7d\"} 1",
            "posthaste_endpoint_certificates{expiry=\"within_30d\"} 1",
            "posthaste_endpoint_certificates{expiry=\"later\"} 1",
            "# EOF",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} in\n{text}");
        }
        // What there is not has no value, rather than a wrong one; held, nothing flows.
        (standing.oldest_pending_at, standing.free_bytes, standing.certificates) = (None, None, Vec::new());
        standing.totals.held_since = Some(Timestamp::ZERO);
        let text = metrics.open_metrics(&standing);
        for gone in [
            "posthaste_oldest_pending_timestamp_seconds 7",
            "posthaste_storage_free_bytes 9",
            "posthaste_endpoint_certificate_expiry_timestamp_seconds 8",
        ] {
            assert!(!text.contains(gone), "{text}");
        }
        for line in ["posthaste_lanes{state=\"flowing\"} 0", "posthaste_lanes{state=\"held\"} 3"] {
            assert!(text.lines().any(|shown| shown == line), "{line} in\n{text}");
        }
    }

    /// A scraper that knows only the older format stopped at the first line.
    #[test]
    fn the_older_format_has_no_word_of_the_newer() {
        let open_metrics = "# HELP a Made.\n# TYPE a counter\na_total{b=\"c # d\"} 1\n# HELP b The program.\n# TYPE b \
                            info\nb_info{v=\"1\"} 1\n# HELP c Now.\n# TYPE c gauge\n# EOF\n";
        let text = "# HELP a_total Made.\n# TYPE a_total counter\na_total{b=\"c # d\"} 1\n# HELP b_info The \
                    program.\n# TYPE b_info gauge\nb_info{v=\"1\"} 1\n# HELP c Now.\n# TYPE c gauge\n";
        assert_eq!(to_plain_text(open_metrics), text);
    }
}
