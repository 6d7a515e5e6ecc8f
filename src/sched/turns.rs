//! Whose turn it is. Lanes that can run stand in one of two rows, those whose last
//! attempt failed and those whose last did not, and **the rows take turns**: neither
//! starves the other, however much it has to do.

use std::collections::BTreeMap;

use crate::id::Lane;

/// See the file's beginning.
#[derive(Default)]
pub(super) struct Turns {
    failing: BTreeMap<u64, Lane>,
    healthy: BTreeMap<u64, Lane>,
    next_number: u64,
    /// Whose turn it is where both rows have somebody.
    failing_is_next: bool,
}

/// Where a lane stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// In which row.
    pub(super) failing: bool,
    number: u64,
}

impl Turns {
    fn row(&mut self, failing: bool) -> &mut BTreeMap<u64, Lane> {
        if failing { &mut self.failing } else { &mut self.healthy }
    }

    /// A lane goes to the end of a row.
    pub(super) fn join(&mut self, lane: Lane, failing: bool) -> Place {
        let number = self.next_number;
        self.next_number += 1;
        self.row(failing).insert(number, lane);
        Place { failing, number }
    }

    /// A lane leaves its row without its turn.
    pub(super) fn leave(&mut self, place: Place) {
        self.row(place.failing).remove(&place.number);
    }

    /// The lane whose turn it is; `may_fail`: whether it may be one of those that fail.
    pub(super) fn take(&mut self, may_fail: bool) -> Option<Lane> {
        let failing = may_fail && !self.failing.is_empty() && (self.failing_is_next || self.healthy.is_empty());
        let (_, lane) = self.row(failing).pop_first()?;
        self.failing_is_next = !failing;
        Some(lane)
    }
}
