//! Everything that is measured, in the order in which it is.

mod footprint;
mod latency;
mod matching;
mod queue;
mod speed;

use std::pin::Pin;

use crate::Plan;
use crate::figures::Line;

/// When a row is run that is not asked for by name.
pub(crate) enum When {
    /// Always: a share, or a size, whatever else the machine does.
    Short,
    /// Unless it has to be quick.
    Default,
    /// When there is time.
    Full,
}

type Run = fn(&Plan) -> Pin<Box<dyn Future<Output = Vec<Line>> + '_>>;

/// What is measured together.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) when: When,
    pub(crate) run: Run,
}

const fn row(name: &'static str, about: &'static str, when: When, run: Run) -> Row {
    Row { name, about, when, run }
}

pub(crate) const ROWS: &[Row] = &[
    row("bare-loop", "the roof: a client and a server of hyper", When::Short, |plan| Box::pin(speed::bare(plan))),
    row("one-by-one", "published one by one, delivered to one endpoint", When::Short, |plan| {
        Box::pin(speed::one_by_one(plan))
    }),
    row("batches", "published 100 at a time, delivered to one endpoint", When::Short, |plan| {
        Box::pin(speed::batches(plan))
    }),
    row("fan-out", "each event to 1,000 subscriptions", When::Default, |plan| Box::pin(speed::fan_out(plan))),
    row("tls", "100 endpoints through TLS, against 100 without", When::Default, |plan| Box::pin(speed::tls(plan))),
    row("latency", "1,000 events a second, one by one", When::Default, |plan| Box::pin(latency::steady(plan))),
    row("healthy-lane", "one endpoint beside one that hangs and one that refuses", When::Default, |plan| {
        Box::pin(latency::healthy_lane(plan))
    }),
    row("matching", "10,000 matching subscriptions, alone and among 100,000", When::Full, |plan| {
        Box::pin(matching::matching(plan))
    }),
    row("waiting", "5 million deliveries that wait for a dead endpoint", When::Full, |plan| {
        Box::pin(queue::waiting(plan))
    }),
    row("outage", "1 million deliveries, when their endpoint is back", When::Default, |plan| {
        Box::pin(queue::outage(plan))
    }),
    row("idle", "1 million deliveries that wait for tomorrow", When::Default, |plan| Box::pin(queue::idle(plan))),
    row("growth", "the cost of a delivery as its queue grows", When::Default, |plan| Box::pin(queue::growth(plan))),
    row("resident", "what it takes to be there", When::Short, |plan| Box::pin(footprint::resident(plan))),
];
