//! How long an event takes, and that others cannot make it take longer.

use tokio::join;

use crate::daemon::Daemon;
use crate::figures::{Goal, Line, median};
use crate::load::{Load, Pace};
use crate::receiver::{Mode, Receiver};
use crate::{Plan, pause};

pub(super) async fn steady(plan: &Plan) -> Vec<Line> {
    const PER_SECOND: f64 = 1000.0;
    let daemon = Daemon::start().await;
    let mut receiver = Receiver::start(Mode::Well).await;
    daemon.subscribe(&receiver, "bench.event").await;
    // Connections are there, caches are warm.
    run(&daemon.load("bench.event", Pace::PerSecond(PER_SECOND, 1.0)), &mut receiver).await;
    let (mut p50, mut p99, mut answer_p50, mut answer_p99) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut written, mut cpu_us) = (Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        receiver.reset().await;
        let before = daemon.usage();
        let published = daemon.load("bench.event", Pace::PerSecond(PER_SECOND, plan.paced_seconds)).run().await;
        let arrived = receiver.reaches(published.events).await;
        pause().await;
        let used = daemon.usage().since(before);
        p50.push(arrived.p50_ms);
        p99.push(arrived.p99_ms);
        answer_p50.push(published.p50_ms);
        answer_p99.push(published.p99_ms);
        written.push(used.written_bytes / arrived.count as f64);
        cpu_us.push(used.cpu_seconds * 1e6 / arrived.count as f64);
    }
    let line =
        |name: &str, goal, values: &[f64]| Line::new(format!("1,000 events/s: {name}"), goal, median(values), "ms");
    let bytes = Line::new("1,000 events/s: written to disk for an event", Goal::Shown, median(&written), "bytes");
    vec![
        line("published to received, p50", Goal::AtMost(0.8), &p50),
        line("published to received, p99", Goal::AtMost(4.0), &p99),
        line("published to 202, p50", Goal::AtMost(0.6), &answer_p50)
            .note(format!("p99 {:.2} ms", median(&answer_p99))),
        bytes.note(format!("{:.0} µs of the daemon's CPU", median(&cpu_us))),
    ]
}

async fn run(load: &Load, receiver: &mut Receiver) -> f64 {
    receiver.reset().await;
    let published = load.run().await;
    receiver.reaches(published.events).await.p99_ms
}

pub(super) async fn healthy_lane(plan: &Plan) -> Vec<Line> {
    const PER_SECOND: f64 = 100.0;
    const PER_SECOND_OF_OTHERS: f64 = 150.0;
    let mut receiver = Receiver::start(Mode::Well).await;
    let hanging = Receiver::start(Mode::Hang).await;
    let (mut ratios, mut alone, mut beside) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        // Afresh, because lanes remember that their endpoints failed.
        let daemon = Daemon::start().await;
        daemon.subscribe(&receiver, "bench.healthy").await;
        daemon.subscribe(&hanging, "bench.hanging").await;
        daemon.subscribe_nobody("bench.refused").await;
        let healthy = daemon.load("bench.healthy", Pace::PerSecond(PER_SECOND, 2.0 * plan.paced_seconds));
        let other =
            |event_type| daemon.load(event_type, Pace::PerSecond(PER_SECOND_OF_OTHERS, 2.0 * plan.paced_seconds));
        let quiet_p99 = run(&healthy, &mut receiver).await;
        let (hanging, refused) = (other("bench.hanging"), other("bench.refused"));
        let (busy_p99, _, _) = join!(run(&healthy, &mut receiver), hanging.run(), refused.run());
        ratios.push(busy_p99 / quiet_p99);
        alone.push(quiet_p99);
        beside.push(busy_p99);
    }
    let note = format!("{:.2} ms, alone {:.2} ms", median(&beside), median(&alone));
    let name = "100 events/s beside a lane that hangs and one that refuses, p99";
    vec![Line::new(name, Goal::AtMost(1.5), median(&ratios), "of alone").note(note)]
}
