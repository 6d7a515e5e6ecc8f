//! What it takes to be there: memory and the size of the binary.

use std::time::Duration;

use crate::Plan;
use crate::daemon::{BINARY, Daemon};
use crate::figures::{Goal, Line, median};

/// When a start is over.
const SETTLED_AFTER: Duration = Duration::from_secs(1);

pub(super) async fn resident(plan: &Plan) -> Vec<Line> {
    let (mut resident, mut ready) = (Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        let daemon = Daemon::start().await;
        ready.push(daemon.ready_after.as_secs_f64() * 1e3);
        tokio::time::sleep(SETTLED_AFTER).await;
        resident.push(daemon.resident_mib());
    }
    let binary_mib = std::fs::metadata(BINARY).unwrap().len() as f64 / 1024.0 / 1024.0;
    vec![
        Line::new("resident after a start", Goal::AtMost(16.0), median(&resident), "MiB")
            .note(format!("ready after {:.0} ms", median(&ready))),
        Line::new("the binary, stripped", Goal::AtMost(12.0), binary_mib, "MiB"),
    ]
}
