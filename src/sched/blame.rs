//! Which failures count against an endpoint. **The link down is not the
//! endpoint's fault**: of failures to resolve, reach or connect only those count
//! that began after another host had answered, since the lane's failure before; and
//! one blip that fails many attempts at once is one failure.

use crate::time::Timestamp;

/// The failures in a row that `failure_limit` counts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Blame {
    consecutive_failures: u32,
    /// When the last counted failure ended.
    counted_until: Option<Timestamp>,
    /// When the last failure ended, counted or not; none: the last attempt succeeded.
    failed_at: Option<Timestamp>,
}

impl Blame {
    pub(super) fn new(consecutive_failures: u32) -> Blame {
        Blame { consecutive_failures, counted_until: None, failed_at: None }
    }

    pub(super) fn consecutive_failures(self) -> u32 {
        self.consecutive_failures
    }

    /// Since when another host must have answered for the link to be known as up;
    /// none: nothing has cast doubt on it, and nobody vouches for it.
    pub(super) fn in_doubt_since(self) -> Option<Timestamp> {
        self.failed_at
    }

    pub(super) fn succeeded(&mut self) {
        self.consecutive_failures = 0;
        self.failed_at = None;
    }

    /// An attempt failed. `unreachable`: nothing of the host was heard; `link_was_up`:
    /// that it was not our link's fault was known when the attempt began. Answers
    /// whether the failure counts.
    pub(super) fn failed(
        &mut self,
        began_at: Timestamp,
        ended_at: Timestamp,
        unreachable: bool,
        link_was_up: bool,
    ) -> bool {
        self.failed_at = Some(ended_at);
        let after_the_last = self.counted_until.is_none_or(|until| began_at > until);
        let counts = after_the_last && (!unreachable || link_was_up);
        if counts {
            self.consecutive_failures = self.consecutive_failures.saturating_add(1);
            self.counted_until = Some(ended_at);
        }
        counts
    }

    /// The clock was set back to `now`.
    pub(super) fn pull_in(&mut self, now: Timestamp) {
        self.counted_until = self.counted_until.map(|until| until.min(now));
        self.failed_at = self.failed_at.map(|at| at.min(now));
    }
}

/// The two hosts that answered last: enough to say whether one other than a
/// given host has.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard {
    last: Option<(String, Timestamp)>,
    last_of_others: Option<(String, Timestamp)>,
}

impl Heard {
    /// `host` answered, whatever it said.
    pub(super) fn answered(&mut self, host: &str, now: Timestamp) {
        match &mut self.last {
            Some((last, at)) if last == host => *at = now,
            _ => self.last_of_others = self.last.replace((host.to_owned(), now)),
        }
    }

    /// Whether a host other than `host` has answered after `since`.
    pub(super) fn another_since(&self, host: &str, since: Timestamp) -> bool {
        [&self.last, &self.last_of_others].into_iter().flatten().any(|(other, at)| other != host && *at > since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    #[test]
    fn one_blip_is_one_failure() {
        let mut blame = Blame::default();
        for _ in 0..16 {
            blame.failed(at(10), at(12), false, true);
        }
        assert_eq!(blame.consecutive_failures(), 1);
        blame.failed(at(13), at(14), false, true);
        assert_eq!(blame.consecutive_failures(), 2);
        blame.succeeded();
        assert_eq!(blame.consecutive_failures(), 0);
    }

    #[test]
    fn an_unreachable_host_is_at_fault_once_another_answered_since_it_failed() {
        let mut blame = Blame::default();
        let mut heard = Heard::default();
        let fail = |blame: &mut Blame, heard: &Heard, second| {
            let link_was_up = blame.in_doubt_since().is_some_and(|since| heard.another_since("dead", since));
            blame.failed(at(second), at(second), true, link_was_up)
        };
        heard.answered("other", at(5));
        for second in 10..200 {
            assert!(!fail(&mut blame, &heard, second), "nobody was heard since the link may have dropped");
        }
        heard.answered("other", at(200));
        assert!(fail(&mut blame, &heard, 201));
        assert!(!fail(&mut blame, &heard, 202), "nobody was heard since");
        assert_eq!(blame.consecutive_failures(), 1);
        blame.succeeded();
        heard.answered("other", at(203));
        assert!(!fail(&mut blame, &heard, 204), "the link may have dropped since");
    }

    #[test]
    fn a_host_is_no_witness_for_itself() {
        let mut heard = Heard::default();
        heard.answered("a", at(1));
        heard.answered("a", at(2));
        assert!(!heard.another_since("a", at(0)));
        heard.answered("b", at(3));
        heard.answered("b", at(4));
        assert!(heard.another_since("b", at(1)));
        assert!(!heard.another_since("b", at(2)));
        assert!(heard.another_since("a", at(3)));
    }
}
