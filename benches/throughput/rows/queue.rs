//! What a long queue costs: the others, its own deliveries, a start, and an idle daemon.

use std::time::Duration;

use crate::daemon::Daemon;
use crate::figures::{Goal, Line, median};
use crate::load::Pace;
use crate::receiver::{Mode, Receiver};
use crate::{Plan, bare_loop, pause};

use super::speed::Rounds;

/// How long a daemon is left alone until its store is at rest: attempts at the dead
/// endpoint are written before they become rare.
const AT_REST_AFTER: Duration = Duration::from_secs(75);

pub(super) async fn waiting(plan: &Plan) -> Vec<Line> {
    let events = plan.scaled(5_000_000);
    let mut receiver = Receiver::start(Mode::Well).await;
    let (empty, mut daemon) = (Daemon::start().await, Daemon::start().await);
    for daemon in [&empty, &daemon] {
        daemon.subscribe(&receiver, "bench.event").await;
        daemon.subscribe_nobody("bench.dead").await;
    }
    let preload = daemon.preload("bench.dead", events).await;
    let resident_mib = daemon.resident_mib();
    // In turns: what else the machine does is to slow both.
    let (mut with_none, mut with_many) = (Rounds::default(), Rounds::default());
    for _ in 0..plan.rounds {
        for (rounds, daemon) in [(&mut with_none, &empty), (&mut with_many, &daemon)] {
            let load = daemon.load("bench.event", Pace::For(plan.seconds));
            rounds.add(plan, daemon, &mut receiver, &load, 1).await;
        }
    }
    let (mut stopped, mut killed, mut killed_at_rest) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        daemon = daemon.restart().await;
        stopped.push(daemon.ready_after.as_secs_f64());
        daemon.preload("bench.dead", 1).await;
        daemon = daemon.crash().await;
        killed.push(daemon.ready_after.as_secs_f64());
        tokio::time::sleep(AT_REST_AFTER).await;
        daemon = daemon.crash().await;
        killed_at_rest.push(daemon.ready_after.as_secs_f64());
    }
    let line = |name: &str, goal, value, unit| Line::new(format!("{events} waiting: {name}"), goal, value, unit);
    vec![
        line("resident memory", Goal::AtMost(256.0), resident_mib, "MiB")
            .note(format!("filled with {:.0} events/s", preload.per_second())),
        line(
            "others' deliveries a second",
            Goal::AtLeast(0.9),
            with_many.per_second() / with_none.per_second(),
            "of none waiting",
        )
        .note(format!("{}; with none: {}", with_many.note(), with_none.note())),
        line("ready after a stop", Goal::AtMost(1.0), median(&stopped), "s"),
        line("ready after kill -9 at work", Goal::AtMost(5.0), median(&killed), "s"),
        line("ready after kill -9 at rest", Goal::AtMost(5.0), median(&killed_at_rest), "s"),
    ]
}

/// A queue whose endpoint asked to be left alone for a day.
struct Held {
    daemon: Daemon,
    receiver: Receiver,
    subscription: String,
}

impl Held {
    async fn start() -> Held {
        let daemon = Daemon::start().await;
        let receiver = Receiver::start(Mode::Tomorrow).await;
        let subscription = daemon.subscribe(&receiver, "bench.event").await;
        Held { daemon, receiver, subscription }
    }

    /// Adds to the queue; how many events a second.
    async fn fill(&mut self, events: u64) -> f64 {
        let published = self.daemon.preload("bench.event", events).await;
        pause().await;
        published.per_second()
    }

    /// The endpoint is back; deliveries a second until that many have arrived.
    async fn drain(&mut self, events: u64) -> f64 {
        self.daemon.switch(&self.subscription, "disable").await;
        self.receiver.set_mode(Mode::Well).await;
        self.receiver.reset().await;
        self.daemon.switch(&self.subscription, "enable").await;
        let arrived = self.receiver.reaches(events).await;
        arrived.count as f64 * 1e9 / (arrived.last_ns - arrived.first_ns) as f64
    }

    /// What a delivery costs of that many that are drained, with the queue as long as it was
    /// before and after.
    async fn cost_us(&mut self, events: u64) -> f64 {
        let per_second = self.drain(events).await;
        let arrived = self.hold().await;
        self.fill(arrived).await;
        1e6 / per_second
    }

    /// It is not, again. How many arrived while it was.
    async fn hold(&mut self) -> u64 {
        self.daemon.switch(&self.subscription, "disable").await;
        pause().await;
        let arrived = self.receiver.count().await;
        self.receiver.set_mode(Mode::Tomorrow).await;
        self.daemon.switch(&self.subscription, "enable").await;
        arrived
    }
}

pub(super) async fn outage(plan: &Plan) -> Vec<Line> {
    let events = plan.scaled(1_000_000);
    let (mut shares, mut speeds) = (Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        let mut held = Held::start().await;
        held.fill(events).await;
        // Those few that were attempted meanwhile come when their retry is due.
        let drained = held.drain(events / 100 * 99);
        let (roof, per_second) = bare_loop::around(plan.seconds / 2.0, drained).await;
        speeds.push(per_second);
        shares.push(per_second / roof);
    }
    let name = format!("an outage over, {events} waiting");
    vec![
        Line::new(name, Goal::AtLeast(0.30), median(&shares), "of the bare loop")
            .note(format!("{:.0} deliveries/s", median(&speeds))),
    ]
}

pub(super) async fn idle(plan: &Plan) -> Vec<Line> {
    const WATCHED: Duration = Duration::from_secs(20);
    let events = plan.scaled(1_000_000);
    let mut held = Held::start().await;
    let per_second = held.fill(events).await;
    let (mut cpu, mut read) = (Vec::new(), Vec::new());
    // What follows the filling ends.
    tokio::time::sleep(Duration::from_secs(5)).await;
    for _ in 0..plan.rounds {
        let before = held.daemon.usage();
        tokio::time::sleep(WATCHED).await;
        let used = held.daemon.usage().since(before);
        cpu.push(used.cpu_seconds / WATCHED.as_secs_f64() * 100.0);
        read.push(used.read_bytes);
    }
    let line = |name: &str, goal, value, unit| Line::new(format!("{events} for tomorrow: {name}"), goal, value, unit);
    vec![
        line("a core's time", Goal::AtMost(0.2), median(&cpu), "%")
            .note(format!("filled with {per_second:.0} events/s")),
        // Less than a page of the store: timers and the like.
        line("read in 20 s", Goal::AtMost(4095.0), median(&read), "bytes"),
    ]
}

pub(super) async fn growth(plan: &Plan) -> Vec<Line> {
    const SMALLEST: u64 = 10_000;
    const MEASURED: u64 = 8_000;
    // Each drain takes a fifth of a second: of few of them the median says what else went on.
    const DRAINS_MIN: u32 = 7;
    let largest = plan.scaled(if plan.full { 10_000_000 } else { 1_000_000 });
    // Another daemon keeps the smallest queue: minutes lie between one size and the next, so
    // each drain is held against one of that right before it.
    let (mut small, mut held) = (Held::start().await, Held::start().await);
    small.fill(SMALLEST).await;
    let (mut waiting, mut size) = (0, SMALLEST * 10);
    let mut lines = Vec::new();
    while size <= largest {
        held.fill(size - waiting).await;
        waiting = size;
        let (mut ratios, mut costs_us, mut bases_us) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..plan.rounds.max(DRAINS_MIN) {
            let base_us = small.cost_us(MEASURED).await;
            let cost_us = held.cost_us(MEASURED).await;
            ratios.push(cost_us / base_us);
            costs_us.push(cost_us);
            bases_us.push(base_us);
        }
        let name = format!("a delivery of {size} waiting");
        let note = format!("{:.0} µs each, {:.0} with 10,000", median(&costs_us), median(&bases_us));
        lines.push(Line::new(name, Goal::AtMost(1.3), median(&ratios), "of 10,000 waiting").note(note));
        size *= 10;
    }
    lines
}
