//! How many deliveries a second, as a share of the bare loop.

use crate::daemon::Daemon;
use crate::figures::{Goal, Line, median};
use crate::load::{Load, Pace};
use crate::receiver::{Mode, Receiver};
use crate::{Plan, bare_loop};

/// What is published at once, where it is published at once.
const BATCH: u64 = 100;
/// Connections that publish batches.
const BATCH_CONNECTIONS: usize = 8;
/// Endpoints of many subscriptions.
const ENDPOINTS: usize = 100;

/// What was seen over all rounds.
#[derive(Default)]
pub(super) struct Rounds {
    shares: Vec<f64>,
    per_second: Vec<f64>,
    cpu_us: Vec<f64>,
}

impl Rounds {
    /// One more round: the load, each of whose events is to arrive `copies` times, and
    /// the roof around it.
    pub(super) async fn add(
        &mut self,
        plan: &Plan,
        daemon: &Daemon,
        receiver: &mut Receiver,
        load: &Load,
        copies: usize,
    ) {
        let (roof, (per_second, cpu_us)) = bare_loop::around(plan.seconds / 2.0, async {
            receiver.reset().await;
            let before = daemon.usage();
            let published = load.run().await;
            let arrived = receiver.reaches(published.events * copies as u64).await;
            let cpu_seconds = daemon.usage().since(before).cpu_seconds;
            let per_second = arrived.count as f64 * 1e9 / (arrived.last_ns - published.first_ns) as f64;
            (per_second, cpu_seconds * 1e6 / arrived.count as f64)
        })
        .await;
        self.shares.push(per_second / roof);
        self.per_second.push(per_second);
        self.cpu_us.push(cpu_us);
    }

    pub(super) fn per_second(&self) -> f64 {
        median(&self.per_second)
    }

    pub(super) fn line(&self, name: &str, goal: f64) -> Line {
        Line::new(name, Goal::AtLeast(goal), median(&self.shares), "of the bare loop").note(self.note())
    }

    pub(super) fn note(&self) -> String {
        let (per_second, cpu_us) = (self.per_second(), median(&self.cpu_us));
        format!("{per_second:.0} deliveries/s, {cpu_us:.0} µs of the daemon's CPU each")
    }
}

pub(super) async fn bare(plan: &Plan) -> Vec<Line> {
    let mut rounds = Vec::new();
    for _ in 0..plan.rounds {
        rounds.push(bare_loop::per_second(plan.seconds / 2.0).await);
    }
    vec![Line::new("the bare loop", Goal::Shown, median(&rounds), "requests/s")]
}

pub(super) async fn one_by_one(plan: &Plan) -> Vec<Line> {
    let daemon = Daemon::start().await;
    let mut receiver = Receiver::start(Mode::Well).await;
    daemon.subscribe(&receiver, "bench.event").await;
    let load = daemon.load("bench.event", Pace::For(plan.seconds));
    let mut rounds = Rounds::default();
    for _ in 0..plan.rounds {
        rounds.add(plan, &daemon, &mut receiver, &load, 1).await;
    }
    vec![rounds.line("published one by one, delivered", 0.25)]
}

pub(super) async fn batches(plan: &Plan) -> Vec<Line> {
    let daemon = Daemon::start().await;
    let mut receiver = Receiver::start(Mode::Well).await;
    daemon.subscribe(&receiver, "bench.event").await;
    let load = daemon.batches("bench.event", BATCH, BATCH_CONNECTIONS, Pace::For(plan.seconds));
    let mut rounds = Rounds::default();
    for _ in 0..plan.rounds {
        rounds.add(plan, &daemon, &mut receiver, &load, 1).await;
    }
    vec![rounds.line("published in batches of 100, delivered", 0.40)]
}

pub(super) async fn fan_out(plan: &Plan) -> Vec<Line> {
    const SUBSCRIPTIONS: usize = 1000;
    const EVENTS: u64 = 30;
    let daemon = Daemon::start().await;
    let mut receiver = Receiver::endpoints(ENDPOINTS, false).await;
    daemon.subscribe_many(&receiver, SUBSCRIPTIONS, "bench.event").await;
    let load = Load { connections: 1, ..daemon.load("bench.event", Pace::Count(EVENTS)) };
    let mut rounds = Rounds::default();
    for _ in 0..plan.rounds {
        rounds.add(plan, &daemon, &mut receiver, &load, SUBSCRIPTIONS).await;
    }
    vec![rounds.line("one event to 1,000 subscriptions, again and again", 0.45)]
}

pub(super) async fn tls(plan: &Plan) -> Vec<Line> {
    const EVENTS: u64 = 300;
    let daemon = Daemon::start().await;
    let mut plain = Receiver::endpoints(ENDPOINTS, false).await;
    let mut secured = Receiver::endpoints(ENDPOINTS, true).await;
    daemon.subscribe_many(&plain, ENDPOINTS, "bench.plain").await;
    daemon.subscribe_many(&secured, ENDPOINTS, "bench.secured").await;
    let load = |event_type| Load { connections: 1, ..daemon.load(event_type, Pace::Count(EVENTS)) };
    let (mut without, mut with) = (Rounds::default(), Rounds::default());
    let mut shares = Vec::new();
    for _ in 0..plan.rounds {
        without.add(plan, &daemon, &mut plain, &load("bench.plain"), ENDPOINTS).await;
        with.add(plan, &daemon, &mut secured, &load("bench.secured"), ENDPOINTS).await;
        shares.push(with.per_second.last().unwrap() / without.per_second.last().unwrap());
    }
    let note = format!("{}; plain: {}", with.note(), without.note());
    vec![Line::new("through TLS to 100 endpoints", Goal::AtLeast(0.6), median(&shares), "of plain").note(note)]
}
