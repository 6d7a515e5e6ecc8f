//! What a commit leads to once it has returned: notices, and counters in memory.

use crate::id::Lane;
use crate::model::{FailureCode, LaneStats, TerminalState};
use crate::store::Notice;
use crate::store::count::CountsChange;
use crate::time::Timestamp;

/// What a group's commit leads to, once it has returned.
#[derive(Default)]
pub(super) struct Effects {
    pub(super) notices: Vec<Notice>,
    pub(super) stats: Vec<(Lane, StatsChange)>,
    pub(super) count: CountsChange,
}

pub(super) enum StatsChange {
    Triggered(Timestamp),
    Attempted {
        failed: Option<(Timestamp, FailureCode)>,
        at: Timestamp,
        consecutive_failures: u32,
    },
    Pending(i64),
    /// It was enabled again: its failures are forgotten.
    Enabled,
}

impl Effects {
    pub(super) fn ended(&mut self, lane: Lane, state: TerminalState, count: u64) {
        self.count.ended[state as usize] += count;
        self.stats.push((lane, StatsChange::Pending(-(count as i64))));
    }

    pub(super) fn opened(&mut self, lane: Lane, count: usize) {
        self.stats.push((lane, StatsChange::Pending(count as i64)));
    }
}

impl StatsChange {
    pub(super) fn apply(self, stats: &mut LaneStats) {
        match self {
            StatsChange::Triggered(at) => {
                stats.odometer += 1;
                stats.pending += 1;
                stats.last_triggered_at = Some(at);
            }
            StatsChange::Attempted { failed, at, consecutive_failures } => {
                stats.attempts += 1;
                stats.consecutive_failures = consecutive_failures;
                match failed {
                    Some(failure) => stats.last_failure = Some(failure),
                    None => stats.last_success_at = Some(at),
                }
            }
            StatsChange::Enabled => stats.consecutive_failures = 0,
            StatsChange::Pending(change) => stats.pending = stats.pending.saturating_add_signed(change),
        }
    }
}
