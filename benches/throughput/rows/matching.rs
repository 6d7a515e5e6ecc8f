//! One event for many subscriptions, among many more.

use crate::daemon::Daemon;
use crate::figures::{Goal, Line, median};
use crate::load::{Load, Pace};
use crate::receiver::Receiver;
use crate::{Plan, pause};

const ENDPOINTS: usize = 100;
/// Published one after the other in each of the two stores.
const EVENTS: u32 = 11;

pub(super) async fn matching(plan: &Plan) -> Vec<Line> {
    let (matching, others) = (plan.scaled(10_000) as usize, plan.scaled(90_000) as usize);
    let daemon = Daemon::start().await;
    let mut receiver = Receiver::endpoints(ENDPOINTS, false).await;
    daemon.subscribe_many(&receiver, matching, "bench.event").await;
    let alone = accepted_ms(&daemon, &mut receiver, matching).await;
    daemon.subscribe_many(&receiver, others, "bench.other").await;
    let among = accepted_ms(&daemon, &mut receiver, matching).await;
    let all = matching + others;
    vec![
        Line::new(format!("one event for {matching} of {all} subscriptions: 202"), Goal::AtMost(30.0), among, "ms"),
        Line::new(format!("the same in a store of {matching}"), Goal::Shown, alone, "ms"),
        Line::new(format!("what the other {others} cost"), Goal::AtMost(1.3), among / alone, "times"),
    ]
}

/// How long it takes until an event is answered, when nothing else is under way.
async fn accepted_ms(daemon: &Daemon, receiver: &mut Receiver, matching: usize) -> f64 {
    let load = Load { connections: 1, ..daemon.load("bench.event", Pace::Count(1)) };
    let mut took = Vec::new();
    for _ in 0..EVENTS {
        receiver.reset().await;
        took.push(load.run().await.p50_ms);
        receiver.reaches(matching as u64).await;
        pause().await;
    }
    median(&took)
}
