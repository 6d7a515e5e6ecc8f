//! What a commit leads to: counters in memory once it is synced, notices once it has returned.

use std::collections::HashMap;

use crate::id::Lane;
use crate::model::{FailureCode, LaneStats, Name, TerminalState};
use crate::store::Notice;
use crate::store::count::CountsChange;
use crate::time::Timestamp;

/// What a group's commit leads to.
#[derive(Default)]
pub(super) struct Effects {
    pub(super) notices: Vec<Notice>,
    pub(super) stats: Vec<(Lane, StatsChange)>,
    pub(super) count: CountsChange,
    /// Of organizations that have a share and were published to, directly or below:
    /// the bytes that wait for them, with what the transaction adds.
    pub(super) shares: HashMap<Name, u64>,
}

pub(super) enum StatsChange {
    Triggered {
        at: Timestamp,
        weight_bytes: u32,
    },
    Attempted {
        failed: Option<(Timestamp, FailureCode)>,
        at: Timestamp,
        consecutive_failures: u32,
    },
    Pending {
        count: i64,
        bytes: i64,
    },
    /// It was enabled again: its failures are forgotten.
    Enabled,
}

impl Effects {
    /// So many deliveries ended, of events that weigh `bytes`.
    pub(super) fn ended(&mut self, lane: Lane, state: TerminalState, count: u64, bytes: u64) {
        self.count.ended[state as usize] += count;
        self.stats.push((lane, StatsChange::Pending { count: -(count as i64), bytes: -(bytes as i64) }));
    }

    /// So many deliveries were opened again, of events that weigh `bytes`.
    pub(super) fn opened(&mut self, lane: Lane, count: u64, bytes: u64) {
        self.stats.push((lane, StatsChange::Pending { count: count as i64, bytes: bytes as i64 }));
    }
}

impl StatsChange {
    pub(super) fn apply(&self, stats: &mut LaneStats) {
        match *self {
            StatsChange::Triggered { at, weight_bytes } => {
                stats.odometer += 1;
                stats.pending += 1;
                stats.pending_bytes += u64::from(weight_bytes);
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
            StatsChange::Pending { count, bytes } => {
                stats.pending = stats.pending.saturating_add_signed(count);
                stats.pending_bytes = stats.pending_bytes.saturating_add_signed(bytes);
            }
        }
    }
}
